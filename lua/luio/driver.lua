--- Drivers: finding the file, checking the table it returns, starting it on a device.
---
--- A driver is a Lua file that returns a table: data and functions. Loading it touches no
--- hardware. What it may say:
---
---     name = "edu"                                the folder's name
---     match = { pci = "1234:11e8" }               which devices it drives; or a list of such
---     irq = { capture = ..., ack = ... }          top half of vector 0 (luio.irq), or by vector:
---                                                 { [0] = {...}, [1] = {...} }
---     dma = { bits = 28 }                         it does DMA, with addresses of so many bits
---     start(dev)                                  true, or nil, message, code
---     stop(dev)                                   makes the device quiet
---
--- and whatever functions its users call, with the device first.
---
--- Where folders are looked for: luio.paths.

local paths = require "luio.paths"
local device = require "luio.device"

local M = {}

local KNOWN = {
  name = "string", match = "table", irq = "table", dma = "table", registers = "table",
  start = "function", stop = "function", check = "function",
}

local function check(driver, path)
  if type(driver) ~= "table" then
    return nil, ("%s: a driver file returns a table, this one a %s"):format(path, type(driver)), "EINVAL"
  end
  if type(driver.name) ~= "string" then return nil, path .. ": the driver has no name", "EINVAL" end
  for key, kind in pairs(KNOWN) do
    if driver[key] ~= nil and type(driver[key]) ~= kind then
      return nil, ("%s: %s.%s is a %s, not a %s"):format(path, driver.name, key, type(driver[key]), kind), "EINVAL"
    end
  end
  return driver
end

--- Loads a driver without touching hardware.
---@param name string  "edu", "drivers/edu", "path/to/driver.lua"
---@return table? driver
---@return string? message  a syntax error, what it threw, or what its table lacks; with file and line
---@return string? code
function M.load(name)
  local path, message, code = paths.find(name, "init")
  if not path then return nil, message, code end
  local chunk
  chunk, message = loadfile(path)
  if not chunk then return nil, message, "EINVAL" end
  local ok, driver = xpcall(chunk, function(e) return tostring(e) end)
  if not ok then return nil, ("%s threw when it was loaded: %s"):format(path, driver), "EINVAL" end
  return check(driver, path)
end

-- Whether `match`, or one of a list of them, fits the device.
local function matches(match, info)
  if match[1] then
    for _, m in ipairs(match) do
      if matches(m, info) then return true end
    end
    return false
  end
  if match.pci then
    return info.vendor ~= nil and ("%04x:%04x"):format(info.vendor, info.device) == match.pci:lower()
  end
  if match.of then
    for _, name in ipairs(info.compatible) do
      if name == match.of then return true end
    end
  end
  return match.uio ~= nil and match.uio == info.uio_name
end

--- The devices a driver is for: those that a UIO driver has come first.
---@param driver table
---@return luio.Info[]? infos
---@return string? message
---@return string? code
function M.matching(driver)
  local list, message, code = device.list()
  if not list then return nil, message, code end
  local found = {}
  for _, info in ipairs(list) do
    if matches(driver.match or {}, info) then
      table.insert(found, info.uio and math.min(#found, 0) + 1 or #found + 1, info)
    end
  end
  return found
end

-- One top half, or several by vector number. A list of captures has no key 0.
local function top_halves(driver)
  if not driver.irq then return {} end
  if driver.irq.capture or driver.irq.ack or next(driver.irq) == nil then return { [0] = driver.irq } end
  return driver.irq
end

--- Starts a driver on an open device: top halves, DMA mask, bus master, then its own start. When
--- that fails the device is closed again.
---@param driver table
---@param dev luio.Device
---@return luio.Device? dev
---@return string? message
---@return string? code
function M.start(driver, dev)
  local function fail(message, code)
    dev:close()
    return nil, message, code
  end
  if driver.match and dev.info.bus ~= "sim" and not matches(driver.match, dev.info) then
    return fail(("driver %s is not for %s"):format(driver.name, tostring(dev)), "ENODEV")
  end
  local ok, result, message, code = pcall(function()
    for vector, setup in pairs(top_halves(driver)) do
      local started, m, c = dev.irqs[vector]:setup(setup):start()
      if not started then return nil, m, c end
    end
    if driver.dma then
      dev.dma.mask = driver.dma.bits and 2 ^ driver.dma.bits - 1
      local on, m, c = dev:bus_master(true)
      if not on and c ~= "ENOTSUP" then return nil, m, c end -- platform devices have no such switch
    end
    dev.driver = driver
    if not driver.start then return true end
    return driver.start(dev)
  end)
  if not ok then return fail(("driver %s threw in start: %s"):format(driver.name, tostring(result)), "EFAULT") end
  if not result then
    return fail(("driver %s did not start on %s: %s"):format(driver.name, dev.address, message or "start returned nothing"), code or "EIO")
  end
  return dev
end

return M
