--- Bus errors of a PCI device with a running driver: AER (Advanced Error Reporting), and a reset whose loss of configuration
--- was not restored. luio.hotplug checks once a second.
---
--- The kernel counts errors by kind, in the device's files aer_dev_correctable, aer_dev_nonfatal and aer_dev_fatal; a count that
--- has grown becomes a warning. UIO drivers have no callbacks for the kernel's recovery ("can't recover" in its log). After a
--- correctable or a non-fatal error it leaves the device as it is. After a fatal one it resets the link, which clears the
--- device's configuration: its BARs are 0, so it answers at no address. A kernel driver would restore the configuration
--- (pci_restore_state), so luio does: it writes the header from the driver's start, in the kernel's order, with bus master off.
--- Then the device counts as gone and returned, because its registers are in their reset state.
---
--- A reset through the device's file `reset` is not detected here, because the kernel restores the configuration
--- itself. The driver must check the device's registers (drivers/e1000e does).

local bit = require "bit"
local sysfs = require "luio.host.sysfs"

local M = {}

local COMMAND, BASES, HEADER = 0x04, { 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24 }, 64 -- PCI Local Bus Specification 3.0, 6.1
local DECODES, BUS_MASTER = 0x3, 0x4 -- of the command register
local CAPABILITIES, EXPRESS = 0x34, 0x10
local DEVICE_CONTROL, DEVICE_CONTROL_2 = 0x08, 0x28 -- of the PCI Express capability
local KINDS = { "correctable", "nonfatal", "fatal" }
local WORDS = {
  correctable = "errors that the bus corrected", nonfatal = "errors that the bus could not correct, whose transfers are lost",
  fatal = "fatal errors of its link",
}

---@class luio.BusState
---@field header table<integer, integer>?  32-bit words of config space, by offset; nil: it can't be read
---@field express { at: integer, control: integer, control_2: integer }?
---@field errors table<string, table<string, integer>>?  by kind; nil: the device has no AER

local function counter(dev, kind)
  return ("/sys/bus/pci/devices/%s/aer_dev_%s"):format(dev.address, kind)
end

-- { BadTLP = 1, ... }
local function counts(dev, kind)
  local list = {}
  for name, n in (sysfs.read(counter(dev, kind)) or ""):gmatch "(%S+) (%d+)" do
    if not name:match "^TOTAL" then list[name] = tonumber(n) end
  end
  return list
end

local function read_header(dev)
  local header = {}
  for offset = 0, HEADER - 4, 4 do
    header[offset] = dev.config:read32(offset)
    if not header[offset] then return nil end
  end
  return header
end

-- Where the PCI Express capability is, and the settings in it that a reset forgets.
local function read_express(dev)
  local at = dev.config:read8(CAPABILITIES)
  for _ = 1, 48 do
    if not at or at < HEADER then return nil end
    if dev.config:read8(at) == EXPRESS then
      local two = bit.band(dev.config:read16(at + 2) or 0, 0xf) >= 2
      return {
        at = at, control = dev.config:read16(at + DEVICE_CONTROL),
        control_2 = two and dev.config:read16(at + DEVICE_CONTROL_2) or nil,
      }
    end
    at = dev.config:read8(at + 1)
  end
end

--- The device's present state, to compare with later: settings, and error counts.
---@param dev luio.Device
---@return luio.BusState?  nil: not on PCI
function M.state(dev)
  if not dev.info.has_config or not dev.info.sysfs then return nil end
  local state = { header = read_header(dev), express = read_express(dev) }
  if not sysfs.exists(counter(dev, KINDS[1])) then return state end
  state.errors = {}
  for _, kind in ipairs(KINDS) do state.errors[kind] = counts(dev, kind) end
  return state
end

--- The errors that the bus has counted since the last look: a sentence for each kind.
---@param dev luio.Device
---@param state luio.BusState
---@return string[]
function M.errors(dev, state)
  local said = {}
  for _, kind in ipairs(state.errors and KINDS or {}) do
    local now, more = counts(dev, kind), {}
    for name, n in pairs(now) do
      if n > (state.errors[kind][name] or 0) then table.insert(more, ("%s %d"):format(name, n - (state.errors[kind][name] or 0))) end
    end
    state.errors[kind] = now
    table.sort(more)
    if more[1] then
      table.insert(said, ("%s had %s: %s. dmesg has the details (AER)"):format(dev.address, WORDS[kind], table.concat(more, ", ")))
    end
  end
  return said
end

local function moved(dev, header)
  for _, offset in ipairs(BASES) do
    if dev.config:read32(offset) ~= header[offset] then return true end
  end
  return false
end

--- Whether the device has lost its addresses. Somebody who asks for their size (all ones, for a moment) is not taken for that.
---@param dev luio.Device
---@param state luio.BusState
---@return boolean
function M.lost(dev, state)
  local header = state.header
  if not header then return false end
  local command = dev.config:read16(COMMAND)
  return command ~= nil and bit.band(command, DECODES) ~= bit.band(header[COMMAND], DECODES) and moved(dev, header)
end

--- Puts the configuration back, with bus master off.
---@param dev luio.Device
---@param state luio.BusState
---@return boolean? ok
---@return string? message
---@return string? code
function M.restore(dev, state)
  local express, config = state.express, dev.config
  if express then
    config:write16(express.at + DEVICE_CONTROL, express.control)
    if express.control_2 then config:write16(express.at + DEVICE_CONTROL_2, express.control_2) end
  end
  for offset = HEADER - 4, 0, -4 do -- addresses before the command register lets them count
    local value = state.header[offset]
    -- The upper half of that word is the status register, whose ones clear.
    if offset == COMMAND then value = bit.band(value, bit.bnot(BUS_MASTER), 0xffff) end
    local ok, message, code = config:write32(offset, value % 2 ^ 32)
    if not ok then return nil, message, code end
  end
  if moved(dev, state.header) then return nil, "its addresses can't be written: does it answer at all?", "EIO" end
  return true
end

return M
