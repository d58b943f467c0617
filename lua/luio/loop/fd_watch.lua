--- A descriptor with repeated waits. It stays in libuv's epoll set between waits, so that a wait costs no system call of its
--- own.

local handles = require "luio.loop.handles"
local uv = require "luv"
local wait_slot = require "luio.loop.wait_slot"

local M = {}

local start_poll = uv.poll_start -- luv's own: luio.reload.callbacks has a look at what others start

--- Functions of those that do more than wait. luio.irq.source has them.
---@class luio.FdWatchHooks
---@field started fun()?   the descriptor is in libuv's set now
---@field stopping fun()?  it is about to leave it
---@field ready fun(failure: string?)?  it is readable, and a task waits for that: in place of waking that task

---@class luio.FdWatch : luio.WaitSlot
---@field package poll userdata  uv_poll_t
---@field package what "r"|"w"
---@field package hooks luio.FdWatchHooks
---@field package started boolean?
---@field package listener fun()?
local FdWatch = {}
FdWatch.__index = FdWatch

local NO_HOOKS = {}

--- Watches a descriptor; the owner closes the watch before the descriptor.
---@param fd integer
---@param what? "r"|"w"  the state to wait for: readable, or writable (then `readable` waits for that)
---@param hooks? luio.FdWatchHooks
---@return luio.FdWatch?
---@return string? message
---@return string? code
function M.watch(fd, what, hooks)
  local poll, message, code = uv.new_poll(fd)
  if not poll then return nil, message, code end
  hooks = hooks or NO_HOOKS
  local self = setmetatable({ poll = poll, what = what or "r", hooks = hooks }, FdWatch)
  function self.fired(failure)
    if failure then -- POLLERR, after which libuv watches no more
      self:stop()
      if self.listener or hooks.ready then self:start() end
    end
    if self.listener then
      self.listener()
    elseif not wait_slot.waiter(self) then -- level-triggered: it would fire for ever
      self:stop()
    elseif hooks.ready then
      hooks.ready(failure)
    elseif failure then
      wait_slot.wake(self, nil, "poll: " .. failure, failure)
    else
      wait_slot.wake(self, true)
    end
  end
  return self
end

--- Watches from now on, if it does not yet. A wait does so by itself.
---@return true? ok
---@return string? message
---@return string? code
function FdWatch:start()
  if self.started then return true end
  local ok, message, code = start_poll(self.poll, self.what, self.fired)
  if not ok then return nil, message, code end
  self.poll:unref() -- the timer of a wait keeps the loop turning, not this
  self.started = true
  if self.hooks.started then self.hooks.started() end
  return true
end

--- Watches no more, until the next wait.
function FdWatch:stop()
  if not self.started then return end
  if self.hooks.stopping then self.hooks.stopping() end
  self.poll:stop()
  self.started = nil
end

--- Calls a function whenever the descriptor is readable, in place of waits.
---@param listener fun()?  must not raise; nil: no more
---@return true? ok
---@return string? message
---@return string? code
function FdWatch:listen(listener)
  self.listener = listener
  if listener then return self:start() end
  self:stop()
  return true
end

--- Waits until the descriptor is readable. One task at a time.
---@param seconds number
---@return true? readable
---@return string? message
---@return string? code  "ETIMEDOUT"; "ECANCELED": closed meanwhile; "EBADF": it has an error, which a read names
function FdWatch:readable(seconds)
  local ok, message, code = self:start()
  if not ok then return nil, message, code end
  return wait_slot.wait(self, seconds)
end

--- Stops watching at once; the descriptor may be closed then. A task that waits is woken.
function FdWatch:close()
  if self.poll:is_closing() then return end
  self.listener = nil
  self:stop()
  handles.dispose(self.poll)
  wait_slot.wake(self, nil, "closed during the wait", "ECANCELED")
end

return M
