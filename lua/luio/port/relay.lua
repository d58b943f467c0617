--- A relay carries between two ends, both ways (luio.net.bridge, luio.serial.bridge): a few tasks that work until one of them
--- fails, or until `stop`.
---
--- The carrier is a table of its kind's. A task of it looks at `stopped`, leaves the reason in `why` when an end fails for good,
--- and calls `stop`.

local task = require "luio.loop.task"

local M = {}

local LOOK = 1 -- seconds of a wait for one task

---@class luio.Relay
---@field stopped boolean?
---@field why { [1]: string, [2]: string }?  message and code
---@field package tasks luio.Task[]?

--- Runs functions as tasks, each with the carrier first, until all have ended. In a task.
---@param self luio.Relay
---@param parts { [1]: function, [integer]: any }[]  a function and what it is given besides the carrier
---@return true? ok  it was stopped
---@return string? message
---@return string? code
function M.run(self, parts)
  self.stopped, self.why = nil, nil
  self.tasks = {}
  for i, part in ipairs(parts) do self.tasks[i] = task.spawn(part[1], self, unpack(part, 2)) end
  for _, one in ipairs(self.tasks) do
    repeat
      local ok, message, code = one:join(LOOK)
      if not ok and code == "EFAULT" then
        M.stop(self)
        return nil, message, code
      end
    until ok or code == "ECANCELED"
  end
  self.tasks = nil
  if self.why then return nil, self.why[1], self.why[2] end
  return true
end

--- Ends `run`, at once. Idempotent.
---@param self luio.Relay
function M.stop(self)
  self.stopped = true
  for _, one in ipairs(self.tasks or {}) do
    if one ~= task.current() then one:cancel() end
  end
end

return M
