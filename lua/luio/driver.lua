--- Drivers: finding the file, checking the table it returns, starting it on a device.
---
--- A driver is a Lua file that returns a table: data and functions. Loading it touches no
--- hardware. What it may say:
---
---     name = "edu"                                the folder's name
---     match = { pci = "1234:11e8" }               which devices it drives; or a list of such
---     registers = require "drivers.edu.registers" its map (luio.registers); bound as dev.regs
---     irq = { capture = "STATUS", ack = "CLEAR" } top half of vector 0: registers to read (event.STATUS),
---                                                 registers to write what was read back to; a name or a
---                                                 list, entries also as in luio.irq. By vector number:
---                                                 { [0] = {...}, [1] = {...} }
---     dma = { bits = 28 }                         it does DMA, with addresses of so many bits
---     start(dev)                                  true, or nil, message, code
---     stop(dev)                                   makes the device quiet
---
--- and whatever functions its users call, with the device first.
---
--- Where folders are looked for: luio.paths.

local irq = require "luio.irq"
local near = require "luio.registers.near"
local paths = require "luio.paths"
local device = require "luio.device"
local registers = require "luio.registers"
local bind = require("luio.registers.bind").bind

jit.off(true, true) -- compiled pairs() can crash in Debian 12's LuaJIT (ARCHITECTURE.md)

local M = {}

local KNOWN = {
  name = "string", match = "table", irq = "table", dma = "table", registers = "table",
  start = "function", stop = "function", check = "function",
}

local MATCH = { pci = "string", of = "string", uio = "string" }
local DMA = { bits = "number" }

-- Keys of one of the driver's tables that are not what they should be.
local function check_keys(path, name, t, known)
  for key, value in pairs(t) do
    if not known[key] then
      return nil, ("%s: %s: unknown key %s%s"):format(path, name, tostring(key), near.hint(tostring(key), known)), "EINVAL"
    elseif type(value) ~= known[key] then
      return nil, ("%s: %s.%s is a %s, not a %s"):format(path, name, key, type(value), known[key]), "EINVAL"
    end
  end
  return true
end

local function check_parts(driver, path)
  local matches = driver.match and (driver.match[1] and driver.match or { driver.match }) or {}
  for _, match in ipairs(matches) do
    local ok, message, code = check_keys(path, driver.name .. ".match", match, MATCH)
    if not ok then return nil, message, code end
  end
  local ok, message, code = check_keys(path, driver.name .. ".dma", driver.dma or {}, DMA)
  if not ok then return nil, message, code end
  local bits = driver.dma and driver.dma.bits
  if bits and not (bits >= 12 and bits <= 64 and bits % 1 == 0) then
    return nil, ("%s: %s.dma.bits is 12 to 64, not %s"):format(path, driver.name, tostring(bits)), "EINVAL"
  end
  -- A driver has functions and data of its own; one that is nearly a word of ours is a slip.
  for key in pairs(driver) do
    local meant = type(key) == "string" and not KNOWN[key] and near.within(key, KNOWN, 1)
    if meant then return nil, ("%s: %s.%s: did you mean %s?"):format(path, driver.name, key, meant), "EINVAL" end
  end
  local folder = path:match "drivers/([^/]+)/init%.lua$"
  if folder and folder ~= driver.name then
    return nil, ("%s: the driver calls itself %q, its folder %q: one name for one thing"):format(path, driver.name, folder), "EINVAL"
  end
  return driver
end

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
  if driver.registers and getmetatable(driver.registers) ~= registers.Map then
    return nil, ("%s: %s.registers is no register map: make one with luio.registers { ... }"):format(path, driver.name), "EINVAL"
  end
  return check_parts(driver, path)
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
  local ok, driver = pcall(paths.run, path, chunk)
  if not ok then return nil, ("%s threw when it was loaded: %s"):format(path, tostring(driver)), "EINVAL" end
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
  local bound, others = {}, {}
  for _, info in ipairs(list) do
    if matches(driver.match or {}, info) then table.insert(info.uio and bound or others, info) end
  end
  for _, info in ipairs(others) do table.insert(bound, info) end
  return bound
end

-- One top half, or several by vector number.
local function top_halves(driver)
  if not driver.irq then return {} end
  if driver.irq[0] == nil and driver.irq[1] == nil then return { [0] = driver.irq } end
  return driver.irq
end

local function as_list(spec)
  if type(spec) == "string" then return { spec } end
  if spec ~= nil and type(spec) ~= "table" then
    error(("a register's name, or a list, not %s"):format(tostring(spec)), 0)
  end
  return spec or {}
end

-- A register's name, where a top half may name one: its path, offset, width, region.
local function named(dev, name)
  if not dev.regs then error(("names %s, but the driver has no registers"):format(name), 0) end
  local reg, message = dev.regs:find(name)
  if not reg then error(message, 0) end
  if not reg.def or reg.def.kind ~= "register" then error(("%s is no register"):format(name), 0) end
  if reg.def.endian == "big" and reg.def.width > 8 then
    error(("%s is big-endian; a top half is not"):format(name), 0)
  end
  return { width = reg.def.width, region = reg.def.region }, reg.offset, reg.def
end

-- Names of registers become what luio.irq takes: offsets, widths, regions.
local function resolve(dev, setup)
  local out = {}
  for key, value in pairs(setup) do out[key] = value end
  out.capture, out.ack = {}, {}
  for i, entry in ipairs(as_list(setup.capture)) do
    if type(entry) == "string" then
      local step, offset, def = named(dev, entry)
      if not def.readable then error(("%s can't be captured: it is write-only"):format(entry), 0) end
      step[1], step[2] = entry, offset
      entry = step
    end
    out.capture[i] = entry
  end
  for i, entry in ipairs(as_list(setup.ack)) do
    local name = type(entry) == "string" and entry or type(entry) == "table" and type(entry[1]) == "string" and entry[1]
    if name then
      local step, offset, def = named(dev, name)
      if not def.writable then error(("%s can't acknowledge: it is read-only"):format(name), 0) end
      local first = out.capture[1]
      local value = type(entry) == "table" and entry[2] or first and first[1]
      if value == nil then error(("ack %s: with what? Capture a register, or say { %q, value }"):format(name, name), 0) end
      step[1], step[2], step.mask = offset, value, type(entry) == "table" and entry.mask or nil
      entry = step
    end
    out.ack[i] = entry
  end
  return out
end

-- What is wrong with a top half, before anything is started; else nil, and it resolved.
local function top_half_fault(dev, stated)
  local ok, setup = pcall(resolve, dev, stated)
  if not ok then return setup end
  return irq.fault(setup), setup
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
    if driver.registers then
      local regs, m, c = bind(driver.registers, dev)
      if not regs then return nil, m, c end
      dev.regs = regs
    end
    for vector, stated in pairs(top_halves(driver)) do
      local fault, setup = top_half_fault(dev, stated)
      if fault then return nil, "irq: " .. fault, "EINVAL" end
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
