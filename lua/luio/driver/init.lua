--- Drivers: finding the file, loading it, starting it on a device. luio.driver.check checks its table.
---
--- A driver is a Lua file that returns a table: data and functions. Loading it touches no
--- hardware. Its fields:
---
---     name = "edu"                                the folder's name
---     match = { pci = "1234:11e8" }               which devices it drives; or a list of such
---     registers = require "drivers.edu.registers" its map (luio.registers); bound as dev.regs
---     irq = { capture = "STATUS", ack = "CLEAR" } top half of vector 0: registers to read (event.STATUS), registers to
---                                                 write; a name or a list. Which value an ack writes, and how
---                                                 devices want it: luio.top_half. By vector number:
---                                                 { [0] = {...}, [1] = {...} }
---     vectors = 5                                 interrupts that it needs: so many, or "intx", "msi", "msix"
---                                                 (luio.device.vectors). nil: one for each top half, else any
---     dma = { bits = 28 }                         it does DMA, with addresses of 28 bits
---     start(dev, reason)                          true, or nil, message, code. reason: "fresh"; "reload";
---                                                 "returned": the device was gone; "crash": a process that
---                                                 drove it has died (luio run)
---     stop(dev)                                   makes the device quiet
---     gone(dev)                                   the device went away: its registers are errors now
---     check()                                     before a reload: true, or nil, message. No device
---     migrate(state, version)                     on a reload: changes the state of another version to this
---                                                 one's; `version` is the other's state_version
---     state_version = 2                           of the shape of dev.state
---     quiesce(dev)                                after a crash, with bus master off: makes the device end all
---                                                 earlier commands; true, or nil, message, code
---     durable = { "packets" }                     fields of dev.state that outlive a crash (luio.reload.guardian)
---     reset = false                               after a crash the guardian must not reset the device, which
---                                                 would lose its firmware or a trained link
---
--- and the functions for its users, with the device as the first argument.
---
--- A number is a double, exact up to 2^53; a register of 64 bits gives a uint64_t from there on, and arithmetic with one makes
--- a uint64_t of everything. A *negative* number becomes 2^63 there on amd64 (LuaJIT of Debian 12; right on arm64), and
--- bit.bnot of a number is negative: `bit.band(base, bit.bnot(0xfULL))` clears four bits, with 0xf it clears all. `luio lint`
--- finds the cases that the text shows.
---
--- luio.driver.paths has the search path.

local addresses = require "luio.host.address"
local check = require "luio.driver.check"
local match_rules = require "luio.driver.match_rules"
local paths = require "luio.driver.paths"
local setup = require "luio.driver.setup"
local version = require "luio.reload.version"

local M = {}

M.top_half = setup.top_half

--- Loads a driver without touching hardware.
---@param name string  "edu", "drivers/edu", "path/to/driver.lua"
---@param kept? luio.KeptCode  the texts to use for its files; `name` is its file then
---@return table? driver
---@return string? message  a syntax error, an error that it threw, or a fault in its table; with file and line
---@return string? code
function M.load(name, kept)
  local path, message, code = name, nil, nil
  if not kept then path, message, code = paths.find(name, "init") end
  if not path then return nil, message, code end
  local loaded
  loaded, message, code = version.stage(path, kept)
  if not loaded then return nil, message, code end
  local driver
  driver, message, code = check.driver(loaded.driver, path)
  return driver, message, code
end

--- Starts a driver on an open device: top halves, DMA mask, bus master, then its own start. When that fails
--- the device is closed again. A real device is watched from then on (luio.hotplug): when it goes away and
--- comes back, its driver is started again. `match` is not checked for a range of physical addresses,
--- because it has no name; the caller chooses both.
---@param driver table
---@param dev luio.Device
---@return luio.Device? dev
---@return string? message
---@return string? code
function M.start(driver, dev)
  local has_identity = dev.info.has_sysfs or addresses.made(dev.address) == "qemu" -- a model has its driver's
  if driver.match and has_identity and not match_rules.fits(driver.match, dev.info) then
    local message = ("driver %s is not for %s"):format(driver.name, tostring(dev))
    dev:close()
    return nil, message, "ENODEV"
  end
  local started, message, code = require("luio.reload.live").start(driver, dev)
  if started then return started end
  -- A driver that finds zeros where its device should be does not know why.
  local unanswered = require("luio.host.inspect").unanswered(dev.info)
  return nil, unanswered and ("%s; %s"):format(message, unanswered) or message, code
end

return M
