--- Copies a driver's state for a new version (step 3 of a reload, luio.reload.live).
---
--- The new version gets a copy, so that the state of the old one, which goes on when the reload fails, is unchanged. Data is
--- copied; a handle of the old version's view (region, register, interrupt, DMA buffer) becomes the new view's. A driver's own
--- objects, which are tables with a metatable of its own, are copied like data and keep their metatable. luio's objects and C's
--- are shared. The new version's `migrate` may then change the copy, or return another table.

local dma = require "luio.dma"
local environment = require "luio.reload.environment"
local errors = require "luio.errors"
local task = require "luio.loop.task"
local watchdog = require "luio.loop.watchdog"

local M = {}

-- A function that makes deep copies. Other objects than handles of the view are shared.
local function copier(old, new)
  local known = {}
  local function copy(value)
    if type(value) ~= "table" then return value end
    if known[value] then return known[value] end
    if value == old then return new end
    if rawget(value, "root") == old.regs and old.regs and rawget(value, "path") then
      return new.regs and new.regs:find(value.path) or value
    end
    for index, region in pairs(old.regions) do
      if region == value then return new.regions[index] end
    end
    for vector, one in pairs(old.irqs) do
      if one == value then return new.irqs[vector] end
    end
    local meta = debug.getmetatable(value)
    if meta and environment.is_luios(meta) then return dma.adopt(new.dma, value) or value end
    local made = {}
    known[value] = made
    for key, inner in next, value do made[copy(key)] = copy(inner) end
    return meta and setmetatable(made, meta) or made
  end
  return copy
end

--- C's objects that a state has: a libuv handle among them goes on when the version that made it ends.
---@param state any
---@return table<userdata, true>
function M.objects(state)
  local found, known, waiting = {}, {}, {}
  local function visit(value)
    if type(value) == "userdata" then found[value] = true end
    if type(value) ~= "table" or known[value] then return end
    local meta = debug.getmetatable(value)
    if meta and environment.is_luios(meta) then return end -- a driver's own objects may have some
    known[value] = true
    table.insert(waiting, value)
  end
  visit(state)
  while waiting[1] do
    for key, inner in next, table.remove(waiting) do
      visit(key)
      visit(inner)
    end
  end
  return found
end

-- Runs in a task, because `migrate` may wait. The deadline is there because the old version is held meanwhile.
local function call_migrate(old, v, state, seconds)
  local fine, result, why
  v.phase = "migrate"
  local worker = task.spawn_in(nil, function()
    fine, result, why = watchdog.call(watchdog.name(v.driver, "migrate"), nil, v.driver.migrate, state, old.driver.state_version)
  end)
  local ended = worker:join(seconds)
  if not ended then worker:cancel() end
  v.phase = nil
  if v.exited then return false, v.exited end
  if not ended then return false, ("it did not end within %g s"):format(seconds) end
  return fine, result, why
end

--- Gives the new version its state. The old one's is not touched.
---@param old luio.Version
---@param v luio.Version
---@param seconds number   that its `migrate` may take
---@return boolean? ok
---@return string? message
---@return string? code
function M.run(old, v, seconds)
  local ok, state = pcall(copier(old.view, v.view), old.view.state)
  if not ok then return nil, "the state can't be copied: " .. errors.text(state), "EINVAL" end
  if v.driver.migrate then
    local fine, result, why = call_migrate(old, v, state, seconds)
    if not fine then return nil, ("migrate of driver %s threw: %s"):format(v.driver.name, errors.text(result)), "EFAULT" end
    if result == nil and why ~= nil then
      return nil, ("migrate of driver %s: %s"):format(v.driver.name, errors.text(why)), "EINVAL"
    end
    if type(result) == "table" then state = result end
  end
  v.view.state = state
  return true
end

return M
