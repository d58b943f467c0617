--- PCI configuration space: `dev.config:read16(0)` is the vendor. Little-endian, one access each.

local ffi = require "ffi"
local runtime = require "luio.ffi"
local C, err = runtime.C, runtime.err

local M = {}

local COMMAND = 4 -- PCI Local Bus Specification 3.0, 6.2.2

local function has_bus_master(command) return math.floor((tonumber(command) or 0) / 0x4) % 2 == 1 end

--- A PCI device's config space.
---@class luio.Config
---@field package device luio.Device
local Config = {}
Config.__index = Config

local function live(self)
  local device = self.device
  if device.stale then error(("config space of %s: %s"):format(device.address, device.stale), 3) end
  if device.closed then error(("config space of %s: the device is closed"):format(device.address), 3) end
  return device.handle
end

--- Reads 8, 16 or 32 bits. read8, read16 and read32 are short for it.
---@param offset integer
---@param width integer
---@return integer? value
---@return string? message
---@return string? code  "ENOTSUP": not a PCI device
function Config:read(offset, width)
  local handle, out = live(self), ffi.new "uint32_t[1]"
  if self.device.gone then return self.device:gone_failure "access config space" end
  if C.luio_config_read(handle, offset, width, out, err) < 0 then return runtime.failure() end
  return out[0]
end

--- Writes 8, 16 or 32 bits.
---@param offset integer
---@param width integer
---@param value integer
---@return boolean? ok
---@return string? message
---@return string? code  "EBUSY": it would switch bus master on while another process could write the device's registers
function Config:write(offset, width, value)
  local handle = live(self)
  if self.device.gone then return self.device:gone_failure "access config space" end
  -- Every way to switch bus master on has the same condition: no other process may have the registers open.
  local now = offset == COMMAND and has_bus_master(value) and self:command()
  if now and not now.bus_master then
    local ok, message, code = self.device:bus_master(true)
    if not ok then return nil, message, code end
  end
  if C.luio_config_write(handle, offset, width, value, err) < 0 then return require("luio.host.holders").failure(self.device.info, true) end
  return true
end

for _, width in ipairs { 8, 16, 32 } do
  Config["read" .. width] = function(self, offset) return self:read(offset, width) end
  Config["write" .. width] = function(self, offset, value) return self:write(offset, width, value) end
end

--- Whether the device may read and write memory (command register bit 2), and whether its INTx is
--- masked (bit 10).
---@return { bus_master: boolean, intx_disable: boolean }?
---@return string? message
---@return string? code
function Config:command()
  local command, message, code = self:read(4, 16)
  if not command then return nil, message, code end
  return {
    bus_master = has_bus_master(command),
    intx_disable = math.floor(command / 0x400) % 2 == 1,
  }
end

--- Used by luio.device.
---@param device luio.Device
---@return luio.Config
function M.new(device)
  return setmetatable({ device = device }, Config)
end

return M
