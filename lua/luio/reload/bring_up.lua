--- Brings up a version of a driver on a device: makes its view, runs its `start`, and connects scripts and the prompt to it.
---
--- A driver may remove or replace parts of its view. luio restores the fields that it relies on before it goes on, and refuses a
--- `start` that has changed them.

local bind = require "luio.registers.bind"
local device = require "luio.device"
local dma = require "luio.dma"
local driver_proxy = require "luio.reload.driver_proxy"
local driver_setup = require "luio.driver.setup"
local effects = require "luio.registers.effects"
local errors = require "luio.errors"
local guardian = require "luio.reload.guardian"
local selectors = require "luio.registers.selectors"
local task = require "luio.loop.task"
local watchdog = require "luio.loop.watchdog"

local M = {}

-- The fields of a version's view that luio relies on; "same": no other code replaces them, either.
local PARTS = {
  address = "kind", info = "kind", regs = "kind", driver = "kind", regions = "same", irqs = "same", dma = "same", config = "same",
  root = "same", live = "same", version = "same", warnings = "same", repairs = "same",
}

--- Makes a version's view; its map is bound, no register is touched.
---@param self luio.Live
---@param v luio.Version
---@return luio.Device? view
---@return string? message
---@return string? code
function M.make_view(self, v)
  local view = device.view(self.dev)
  view.driver, view.live, view.version = v.driver, self, v
  if v.driver.registers then
    local regs, message, code = bind.bind(v.driver.registers, view)
    if not regs then return nil, message, code end
    view.regs = regs
  end
  v.view, v.name, v.parts = view, v.driver.name, {}
  for key in pairs(PARTS) do v.parts[key] = rawget(view, key) end
  return view
end

--- Gives a view back what its driver has taken from it or put in its place, so that luio can go on with it.
---@param v luio.Version
---@return string[] changed  names of the parts, sorted
function M.restore_parts(v)
  local changed = {}
  for key, part in pairs(v.parts) do
    local has = rawget(v.view, key)
    if type(has) ~= type(part) or has ~= part and PARTS[key] == "same" then
      rawset(v.view, key, part)
      table.insert(changed, "dev." .. key)
    end
  end
  if type(v.driver.name) ~= "string" then
    rawset(v.driver, "name", v.name)
    table.insert(changed, "the driver's name")
  end
  table.sort(changed)
  return changed
end

local SOURCE = debug.getinfo(1, "S").source

-- Adds to an error that luio raised the place in the driver that it came from.
local function with_place(e)
  if type(e) ~= "string" then e = errors.text(e) end
  for level = 2, 40 do
    local frame = debug.getinfo(level, "Sl")
    if not frame or frame.source == SOURCE then break end -- own_start, which called the driver
    if frame.currentline > 0 and not errors.is_ours(frame.source) then
      local place = ("%s:%d"):format(frame.short_src, frame.currentline)
      return e:find(place .. ":", 1, true) and e or ("%s (at %s)"):format(e, place)
    end
  end
  return e
end

-- Runs a driver's `start`. On a device that is open already it runs as a task of its version: so the interrupts
-- that it takes count as in its hands, and it can be ended.
local function own_start(v, reason, seconds)
  local driver, view = v.driver, v.view
  if not driver.start then return true end
  local ok, results
  local function start()
    ok, results = xpcall(function() return { driver.start(view, reason) } end, with_place)
  end
  if reason == "fresh" or reason == "crash" then
    start()
    if not ok then error(results, 0) end
    return results[1], results[2], results[3]
  end
  local starter = task.spawn_in(v.group, start)
  starter.refused = true -- until `start` has succeeded: the interrupts that it took are given back
  local ended, message = starter:join(seconds)
  if not ended and results == nil then return nil, message:gsub("^timed out after", "it did not end within"), "ETIMEDOUT" end
  if not ok then error(results, 0) end
  starter.refused = not results[1]
  return results[1], results[2], results[3]
end

--- Brings a version up on its view: top halves, DMA, durable state, then its own `start`.
---@param self luio.Live
---@param v luio.Version
---@param reason "fresh"|"crash"|"reload"|"returned"
---@param seconds number  for `start`, where the device is open already
---@return boolean? ok
---@return string? message
---@return string? code
function M.run(self, v, reason, seconds)
  local view, driver = v.view, v.driver
  v.phase = "start"
  if reason ~= "reload" then selectors.forget(self.dev) end -- it may have been reset since
  local ok, result, message, code = watchdog.call(watchdog.name(driver, "start"), v.group, function()
    local done, m, c = true, nil, nil
    if reason == "fresh" or reason == "crash" then done, m, c = guardian.prepare(driver, view, device.settings.driver_user) end
    if done then done, m, c = driver_setup.prepare(driver, view, reason) end
    if not done then return nil, m, c end
    dma.offer(view.dma, reason == "reload" or reason == "returned")
    return own_start(v, reason, seconds)
  end)
  v.phase = nil
  local changed = M.restore_parts(v)
  dma.offer(view.dma, false)
  if v.exited then ok, result = false, v.exited end
  if not ok then return nil, ("driver %s threw in start: %s"):format(driver.name, errors.text(result)), "EFAULT" end
  if not result then
    message = message == nil and "start returned nothing" or errors.text(message)
  elseif changed[1] then
    result, message, code = nil, ("start has changed %s, which luio goes by"):format(table.concat(changed, ", ")), "EINVAL"
  elseif type(view.state) ~= "table" then
    result, message, code = nil, ("dev.state is a %s after it; it is to be a table"):format(type(view.state)), "EINVAL"
  elseif self.dev.closed or self.dev.closing then
    result, message, code = nil, "start has closed the device", "EINVAL"
  end
  if not result then
    return nil, ("driver %s did not start on %s: %s"):format(driver.name, self.dev.address, message), code or "EIO"
  end
  return true
end

--- Makes a version the one that scripts and the prompt meet.
---@param self luio.Live
---@param v luio.Version
function M.install(self, v)
  self.version = v
  driver_proxy.name_functions(self)
  self.dev.state, self.dev.dma.mask = v.view.state, v.view.dma.mask
  local map = v.driver.registers
  if map and (not self.dev.regs or self.dev.regs.map ~= map) then
    local before = self.dev.regs
    if before then effects.replaced(before) end
    self.dev.regs = bind.bind(map, self.dev) -- it fitted the view
    if before then bind.share_listeners(self.dev.regs, before) end
  end
  if map then bind.share_listeners(v.view.regs, self.dev.regs) end
  effects.state(self.dev, "driver", map)
  device.tell_users(self.dev, v.view)
end

return M
