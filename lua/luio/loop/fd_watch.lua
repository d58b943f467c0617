--- A descriptor that is waited for again and again. It stays in libuv's epoll set between waits,
--- so that a wait costs no system call of its own.
---
--- With an interrupt's descriptor the interrupt's source is watched, too (luio_irq_share), by the
--- same uv_poll_t: libuv finds that by the descriptor which the epoll event names, and the event of
--- the source names this one. So an interrupt that finds the loop asleep takes one wake-up. The
--- source must leave libuv's set whenever the uv_poll_t does: nobody would answer for it.

local task = require "luio.loop.task"
local uv = require "luv"
local start_poll = uv.poll_start -- luv's own: luio.reload.callbacks has a look at what others start
local waiter = require "luio.loop.wait_slot"
local C = require("luio.ffi").C

local M = {}

---@class luio.Watch
---@field package poll userdata  uv_poll_t
---@field package what "r"|"w"
---@field package irq ffi.cdata*?  luio_irq, when it is an interrupt's descriptor
---@field package event ffi.cdata*?  luio_irq_event: where an interrupt is taken to
---@field taken boolean?  `event` is one that nobody has looked at yet
---@field package wake fun(...)? of who waits now
---@field package started boolean?
---@field package place luio.Waiter?
local Watch = {}
Watch.__index = Watch

--- Watches a descriptor; the owner closes the watch before the descriptor.
---@param fd integer
---@param irq? ffi.cdata*  luio_irq whose descriptor it is
---@param event? ffi.cdata*  luio_irq_event, where an interrupt is taken to: `taken` says so
---@param what? "r"|"w"  what it is waited for to be: readable; writable, and `readable` waits for that
---@return luio.Watch?
---@return string? message
---@return string? code
function M.watch(fd, irq, event, what)
  local poll, message, code = uv.new_poll(fd)
  if not poll then return nil, message, code end
  local self = setmetatable({ poll = poll, irq = irq, event = event, what = what or "r" }, Watch)
  function self.fired(failure)
    local wake = self.wake
    if not wake then -- readable and nobody there: level-triggered, it would fire for ever
      self:stop()
    elseif failure and not irq then
      self:stop()
      wake(nil, "poll: " .. failure, failure)
    elseif failure then -- the source's, more likely than our descriptor's: the thread will say
      self:stop()
      self:start()
    elseif irq then
      local n = self.taken and 0 or C.luio_irq_take(irq, event)
      self.taken = self.taken or n > 0
      wake(true)
      if n > 1 and self.started then C.luio_irq_publish(irq) end -- else it may be closed
    else
      wake(true)
    end
  end
  return self
end

--- Watches for a wait, if it does not yet.
---@package
function Watch:start()
  if self.started then return true end
  local ok, message, code = start_poll(self.poll, self.what, self.fired)
  if not ok then return nil, message, code end
  self.poll:unref() -- the timer of a wait keeps the loop turning, not this
  self.started = true
  if self.irq then C.luio_irq_share(self.irq, uv.backend_fd()) end -- where it can't be, the thread does all
  return true
end

--- Watches no more, until the next wait.
function Watch:stop()
  if not self.started then return end
  if self.irq then C.luio_irq_unshare(self.irq) end
  self.poll:stop()
  self.started = nil
end

--- Waits until the descriptor is readable. One waiter at a time.
---@param seconds number
---@return true? readable
---@return string? message
---@return string? code  "ETIMEDOUT"; "ECANCELED": closed meanwhile
function Watch:readable(seconds)
  local ok, message, code = self:start()
  if not ok then return nil, message, code end
  local place = self.place
  if not place then
    place = waiter.new()
    function place.on_leave()
      if self.wake == place.wake_up then self.wake = nil end
    end
    self.place = place
  end
  self.wake = place.wake_up
  return place:wait(seconds)
end

--- Takes the place of who waits, so that another can: what would have woken it, to be called later.
---@return fun(...)?
function Watch:displace()
  local wake = self.wake
  self.wake, self.place = nil, nil -- the place stays with who waits there
  return wake
end

--- Stops watching at once; the descriptor may be closed then. Who waits is woken.
function Watch:close()
  if self.poll:is_closing() then return end
  self:stop()
  task.dispose(self.poll)
  if self.wake then self.wake(nil, "closed during the wait", "ECANCELED") end
  if self.place then self.place:close() end
end

return M
