--- Waiting until something is so, by a deadline.
---
---     wait.till(20, "edu removed", function() return not sysfs.exists(...) end)   -- an error, should it not become so
---     local event = wait.poll(2, function() return irq:poll() end)               -- nil then
---
--- The longer it lasts, the longer are the pauses between the questions: 2 to 20 ms, for they cost an emulated processor time.
--- libuv's loop turns meanwhile, in a task or outside one; with `still` it stands. The seconds of `till` are what a slow machine
--- needs. Its deadline is only against hangs: ten times that, for a machine may be busy, too.

local luio = require "luio"
local uv = require "luv"

local M = {}

--- How many times longer than a slow machine needs something may take until it counts as one that hangs.
M.HANG = 10

local function poll(seconds, fn, pause)
  local began = luio.now()
  repeat
    local result = fn()
    if result then return result end
    pause(math.min(math.max(0.002, (luio.now() - began) / 10), 0.02))
  until luio.now() > began + seconds
  return fn() or nil
end

--- Asks until the answer is true: that answer, or nil when time is over.
---@generic T
---@param seconds number
---@param fn fun(): T
---@return T?
function M.poll(seconds, fn)
  return poll(seconds, fn, luio.sleep)
end

--- The same, while the loop stands still.
---@generic T
---@param seconds number
---@param fn fun(): T
---@return T?
function M.still(seconds, fn)
  return poll(seconds, fn, function() uv.sleep(10) end)
end

--- The same as `poll`; it is an error when it does not become so.
---@generic T
---@param seconds number
---@param what string  for the error
---@param fn fun(): T
---@return T
function M.till(seconds, what, fn)
  return M.poll(seconds * M.HANG, fn) or error(("not within %g s: %s"):format(seconds * M.HANG, what), 2)
end

return M
