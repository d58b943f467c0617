--- Drivers: finding the file, checking the table it returns, starting it on a device.
---
--- A driver is a Lua file that returns a table: data and functions. Loading it touches no
--- hardware. What it may say:
---
---     name = "edu"                                the folder's name
---     match = { pci = "1234:11e8" }               which devices it drives; or a list of such
---     registers = require "drivers.edu.registers" its map (luio.registers); bound as dev.regs
---     irq = { capture = "STATUS", ack = "CLEAR" } top half of vector 0: registers to read (event.STATUS), registers to
---                                                 write; a name or a list. Which value an ack writes, and how
---                                                 devices want it: luio.top_half. By vector number:
---                                                 { [0] = {...}, [1] = {...} }
---     dma = { bits = 28 }                         it does DMA, with addresses of so many bits
---     start(dev, reason)                          true, or nil, message, code. reason: "fresh"; "reload";
---                                                 "returned": the device was gone; "crash": a process that
---                                                 drove it has died (luio run)
---     stop(dev)                                   makes the device quiet
---     gone(dev)                                   the device went away: its registers are errors now
---     check()                                     before a reload: true, or nil, message. No device
---     migrate(state, version)                     on a reload: changes the state of another version to this
---                                                 one's; `version` is the other's state_version
---     state_version = 2                           of the shape of dev.state
---     quiesce(dev)                                after a crash, bus master being off: sees to it that the device
---                                                 has ended all that it was told before; true, or nil, message, code
---     durable = { "packets" }                     fields of dev.state that outlive a crash (luio.reload.guardian)
---     reset = false                               after a crash the guardian must not reset the device, which
---                                                 would lose what it needs (firmware, a link that was trained)
---
--- and whatever functions its users call, with the device first.
---
--- A number is a double, exact up to 2^53; a register of 64 bits gives a uint64_t from there on, and arithmetic with one makes
--- a uint64_t of everything. A *negative* number becomes 2^63 there on amd64 (LuaJIT of Debian 12; right on arm64), and what
--- bit.bnot gives of a number is negative: `bit.band(base, bit.bnot(0xfULL))` clears four bits, with 0xf it clears all.
--- `luio lint` finds what can be seen of that.
---
--- Where folders are looked for: luio.driver.paths.

local errors = require "luio.errors"
local irq = require "luio.irq"
local near = require "luio.registers.near"
local device = require "luio.device"
local paths = require "luio.driver.paths"
local match = require "luio.driver.match"
local registers = require "luio.registers"
local staging = require "luio.reload.staging"
local top_half = require "luio.top_half"
local version = require "luio.reload.version"

local M = {}

local KNOWN = {
  name = "string", match = "table", irq = "table", dma = "table", registers = "table",
  start = "function", stop = "function", check = "function", migrate = "function", gone = "function",
  quiesce = "function", durable = "table", reset = "boolean", state_version = "number",
}

local DMA = { bits = "number" }

-- Keys of one of the driver's tables that are not what they should be.
local function check_keys(path, name, t, known)
  for key, value in pairs(t) do
    if not known[key] then
      return nil, ("%s: %s: unknown key %s%s"):format(path, name, errors.text(key), near.hint(errors.text(key), known)), "EINVAL"
    elseif type(value) ~= known[key] then
      return nil, ("%s: %s.%s is a %s, not a %s"):format(path, name, key, type(value), known[key]), "EINVAL"
    end
  end
  return true
end

local function same_letters(a, b)
  local function sorted(word)
    local letters = {}
    for c in word:gmatch "." do table.insert(letters, c) end
    table.sort(letters)
    return table.concat(letters)
  end
  return a ~= b and sorted(a) == sorted(b)
end

-- One top half, or several by vector number.
local function top_halves(driver)
  if not driver.irq then return {} end
  if driver.irq[0] == nil and driver.irq[1] == nil then return { [0] = driver.irq } end
  return driver.irq
end

local function check_parts(driver, path, file)
  local misstated = driver.match and match.misstated(driver.match)
  if misstated then return nil, ("%s: %s.match%s"):format(path, driver.name, misstated), "EINVAL" end
  local ok, message, code = check_keys(path, driver.name .. ".dma", driver.dma or {}, DMA)
  if not ok then return nil, message, code end
  local bits = driver.dma and driver.dma.bits
  if bits and not (bits >= 12 and bits <= 64 and bits % 1 == 0) then
    return nil, ("%s: %s.dma.bits is 12 to 64, not %s"):format(path, driver.name, tostring(bits)), "EINVAL"
  end
  for i, field in pairs(driver.durable or {}) do
    if type(i) ~= "number" or type(field) ~= "string" then
      return nil, ("%s: %s.durable is a list of names of dev.state's fields"):format(path, driver.name), "EINVAL"
    end
  end
  for _, stated in pairs(top_halves(driver)) do
    local fault = type(stated) == "table" and top_half.name_fault(stated)
    if fault then return nil, ("%s: %s.irq: %s"):format(path, driver.name, fault), "EINVAL" end
  end
  -- A driver has functions and data of its own; one that is nearly a word of ours is a slip. Of functions
  -- only letters that changed places are: `step`, `done`, `check1` are honest names.
  for key, value in pairs(driver) do
    local meant = type(key) == "string" and not KNOWN[key] and near.within(key, KNOWN, 1)
    if meant and (type(value) ~= "function" or same_letters(key, meant)) then
      return nil, ("%s: %s.%s: did you mean %s?"):format(path, driver.name, key, meant), "EINVAL"
    end
  end
  local folder = match.folder(file)
  if folder and folder ~= driver.name then return nil, match.misnamed(path, driver.name, folder), "EINVAL" end
  return driver
end

-- Whether every field of a table can be had without running anything, also those that it has from others (`__index`).
local function is_plain(t)
  local seen = {}
  repeat
    seen[t] = true
    local meta = debug.getmetatable(t)
    t = meta and rawget(meta, "__index")
  until type(t) ~= "table" or seen[t]
  return t == nil
end

local function check_table(driver, path, file)
  if type(driver.name) ~= "string" then return nil, path .. ": the driver has no name", "EINVAL" end
  for key, kind in pairs(KNOWN) do
    if driver[key] ~= nil and type(driver[key]) ~= kind then
      return nil, ("%s: %s.%s is a %s, not a %s"):format(path, driver.name, key, type(driver[key]), kind), "EINVAL"
    end
  end
  if driver.registers and getmetatable(driver.registers) ~= registers.Map then
    return nil, ("%s: %s.registers is no register map: make one with luio.registers { ... }"):format(path, driver.name), "EINVAL"
  end
  return check_parts(driver, path, file)
end

-- Looks at what a driver states. Its tables may have metatables, and so functions that run when they are looked at.
local function look_at(path, fn, ...)
  local ok, results = staging.run(path, device.open_devices, function(...) return { fn(...) } end, ...)
  if not ok then return nil, ("%s: the driver's table: %s"):format(path, errors.text(results)), "EINVAL" end
  return results[1], results[2], results[3]
end

local function check(driver, file)
  local path = paths.shown(file)
  if type(driver) ~= "table" then
    return nil, ("%s: a driver file returns a table, this one a %s"):format(path, type(driver)), "EINVAL"
  end
  -- luio looks at it at all times, outside of the watchdog.
  if not is_plain(driver) then
    local message = "%s: the driver's table has an __index that is no table: its fields are to be there, not to be made"
    return nil, message:format(path), "EINVAL"
  end
  return look_at(path, check_table, driver, path, file)
end

--- Loads a driver without touching hardware.
---@param name string  "edu", "drivers/edu", "path/to/driver.lua"
---@param kept? luio.KeptCode  what to take its files for; `name` is its file then
---@return table? driver
---@return string? message  a syntax error, what it threw, or what its table lacks; with file and line
---@return string? code
function M.load(name, kept)
  local path, message, code = name, nil, nil
  if not kept then path, message, code = paths.find(name, "init") end
  if not path then return nil, message, code end
  local loaded
  loaded, message, code = version.stage(path, kept)
  if not loaded then return nil, message, code end
  local driver
  driver, message, code = check(loaded.driver, path)
  return driver, message, code
end

-- What is wrong with a top half, before anything is started; else nil, and it resolved.
local function top_half_fault(dev, stated)
  local ok, setup = pcall(top_half.resolve, dev, stated)
  if not ok then return setup end
  return top_half.fault(setup), setup
end

--- The top half that a driver states for a vector, as Irq:setup takes it. dev.regs is bound, where it
--- names registers. Touches no register.
---@param driver table
---@param dev luio.Device
---@param vector integer
---@return luio.IrqSetup? setup  nil alone: it states none
---@return string? message
---@return string? code
function M.top_half(driver, dev, vector)
  local stated = top_halves(driver)[vector]
  if not stated then return nil end
  local fault, setup = top_half_fault(dev, stated)
  if fault then return nil, ("irq of driver %s: %s"):format(driver.name, fault), "EINVAL" end
  return setup
end

--- Whether the top halves that a driver states name what its map has. Touches no register.
---@param driver table
---@param view luio.Device
---@param path string  for messages
---@return boolean? ok
---@return string? message
---@return string? code
function M.check_top_halves(driver, view, path)
  return look_at(path, function()
    for vector in pairs(top_halves(driver)) do
      local setup, message, code = M.top_half(driver, view, vector)
      if not setup then return nil, message, code end
    end
    return true
  end)
end

--- Everything that a version needs of its device before its own start: the map, the top halves, DMA. On a
--- reload the threads run on, with their top halves exchanged, and DMA is on already.
---@param driver table
---@param view luio.Device
---@param reason "fresh"|"reload"|"crash"|"returned"
---@return boolean? ok
---@return string? message
---@return string? code
function M.prepare(driver, view, reason)
  for vector, stated in pairs(top_halves(driver)) do
    local fault, setup = top_half_fault(view, stated)
    if fault then return nil, "irq: " .. fault, "EINVAL" end
    local irq_of = view.irqs[vector]
    local started, m, c
    if irq_of:started() and reason == "reload" then
      started, m, c = true, nil, nil
      if not irq.has(irq_of, setup) then started, m, c = irq.exchange(irq_of, setup) end
    else
      started, m, c = irq_of:setup(setup):start()
    end
    if not started then return nil, m, c end
  end
  -- A version before may have had more; what this one does not state, it may set up itself.
  for vector, one in pairs(view.root.irqs) do
    if reason == "reload" and not top_halves(driver)[vector] and one:started() then
      local closed, m, c = one:close()
      if not closed then return nil, m, c end
    end
  end
  if driver.dma then
    -- Numbers are exact up to 2^53, and no machine has more memory.
    view.dma.mask = driver.dma.bits and driver.dma.bits <= 53 and 2 ^ driver.dma.bits - 1 or nil
    local on, m, c = view:bus_master(true)
    if not on and c ~= "ENOTSUP" then return nil, m, c end -- platform devices have no such switch
  end
  return true
end

--- Checks a driver's table, as load does.
M.check = check

--- Starts a driver on an open device: top halves, DMA mask, bus master, then its own start. When
--- that fails the device is closed again. A real device is watched from then on (luio.hotplug): when
--- it goes away and comes back, its driver is started again. A range of physical addresses has no name that
--- `match` could fit: whoever names both knows.
---@param driver table
---@param dev luio.Device
---@return luio.Device? dev
---@return string? message
---@return string? code
function M.start(driver, dev)
  local bus = dev.info.bus
  if driver.match and bus ~= "sim" and bus ~= "mem" and not match.fits(driver.match, dev.info) then
    dev:close()
    return nil, ("driver %s is not for %s"):format(driver.name, tostring(dev)), "ENODEV"
  end
  local started, message, code = require("luio.reload.live").start(driver, dev)
  if started then return started end
  -- A driver that finds zeros where its device should be does not know why.
  local unanswered = require("luio.host.inspect").unanswered(dev.info)
  return nil, unanswered and ("%s; %s"):format(message, unanswered) or message, code
end

return M
