--- A place to wait at, again and again: what task.await does, without making anything anew for each wait. For waits that are
--- as frequent as interrupts.
---
---     local waiter = waiter.new()
---     local ok, message, code = waiter:wait(1)         -- in a task, or outside of one
---     waiter.wake_up(true)                              -- somebody else: wait returns true
---
--- Its timer is not set for each wait either. One that is set already, for an earlier wait's deadline, is left to run, and
--- when it is up it is set for what is left: a place where somebody waits a second at a time costs one timer a second. While
--- nobody waits it does not keep the loop turning.

local now = require("luio.ffi").now
local loading = require "luio.loop.loading"
local task = require "luio.loop.task"
local uv = require "luv"

local M = {}

local start_timer = uv.timer_start -- luv's own: luio.reload.callbacks has a look at what others start

---@class luio.Waiter
---@field wake_up fun(a: any, b: any, c: any)  ends the wait, which returns that; nothing if nobody waits here
---@field on_leave fun()?            called when a wait ends, however it does
---@field package task luio.Task?    who waits
---@field package outer fun(...)?    wakes who waits outside of a task
---@field package deadline number
---@field package armed number?      when the timer is up
---@field package timer userdata?
---@field package following table?  the last look before the deadline counts (task.after_a_look)
local Waiter = {}
Waiter.__index = Waiter

local function arm(self, seconds)
  local timer = self.timer
  if not timer then
    timer = task.take_timer()
    self.timer = timer
  end
  uv.update_time() -- the loop's clock stands still while Lua is busy
  local ms = math.ceil(seconds * 1000)
  self.armed = now() + ms / 1000
  timer:ref()
  start_timer(timer, ms, 0, self.up)
end

local function timed_out(self)
  return nil, ("timed out after %g s"):format(self.seconds), "ETIMEDOUT"
end

local function no_more_looks(self)
  if self.following then self.following:put_away() end
  self.following = nil
end

--- Makes one.
---@return luio.Waiter
function M.new()
  local self = setmetatable({}, Waiter)
  function self.wake_up(a, b, c)
    local who = self.task
    if self.outer then return self.outer(a, b, c) end
    if not who or who.wake ~= self.wake_up then return end -- nobody, or it was cancelled
    self.task, self.a, self.b, self.c = nil, a, b, c
    task.go_on(who)
  end
  local function give_up()
    no_more_looks(self)
    if self.task then self.wake_up(timed_out(self)) end
  end
  function self.up()
    self.armed = nil
    if not self.task then return end
    local left = self.deadline - now()
    if left > 0 then arm(self, left) else self.following = self.following or task.after_a_look(give_up) end
  end
  return self
end

--- Waits until woken, at most `seconds`.
---@param seconds number
---@return any ...  what wake_up was given (three at most), or nil, message, "ETIMEDOUT"
function Waiter:wait(seconds)
  local who = task.current()
  if not who or seconds == 0 then -- the loop is to be turned, or is to turn once: not frequent
    return task.await(seconds, function(wake)
      self.outer = wake
      return function()
        self.outer = nil
        if self.on_leave then self.on_leave() end
      end
    end)
  end
  loading.refuse("a wait", 3)
  self.seconds, self.deadline = seconds, now() + seconds
  if self.armed and self.armed <= self.deadline + 0.001 then self.timer:ref() else arm(self, seconds) end
  self.task, self.a, self.b, self.c = who, nil, nil, nil
  local cancelled = task.pause(who, self.wake_up)
  if self.task == who then self.task = nil end
  if self.timer then self.timer:unref() end
  no_more_looks(self)
  if self.on_leave then self.on_leave() end
  if cancelled then task.raise_cancelled() end
  return self.a, self.b, self.c
end

--- Lets its timer go. It can be used again.
function Waiter:close()
  if not self.timer then return end
  self.timer:ref()
  task.put_away(self.timer)
  self.timer, self.armed = nil, nil
end

return M
