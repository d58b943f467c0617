--- sysfs without luio: reads the kernel's files of devices, and writes them as an operator does. Paths are
--- below /sys.

local uv = require "luv"
local files = require "spec.support.files"

local M = {}

--- A file's text, without the space at its end.
---@param path string
---@return string
function M.read(path)
  return (files.read("/sys/" .. path):gsub("%s+$", ""))
end

---@param path string
---@param text string
function M.write(path, text)
  files.save("/sys/" .. path, text)
end

---@param path string
---@return boolean
function M.exists(path)
  return uv.fs_stat("/sys/" .. path) ~= nil
end

-- ---- PCI devices ---------------------------------------------------------------------------------

local function device(address, file)
  return ("bus/pci/devices/%s/%s"):format(address, file)
end

--- The kernel's driver that has it.
---@param address string
---@return string?
function M.driver(address)
  local link = uv.fs_readlink("/sys/" .. device(address, "driver"))
  return link and link:match "[^/]+$"
end

--- The only driver that it may have; "(null)" when that is open.
---@param address string
---@return string
function M.override(address)
  return M.read(device(address, "driver_override"))
end

--- Gives it to uio_pci_generic, as a udev rule would.
---@param address string  of a device without a driver
function M.bind(address)
  M.write(device(address, "driver_override"), "uio_pci_generic")
  M.write("bus/pci/drivers_probe", address)
  M.write(device(address, "driver_override"), "\n")
end

--- Takes it from its driver.
---@param address string
function M.unbind(address)
  M.write(device(address, "driver/unbind"), address)
end

M.MEMORY, M.BUS_MASTER, M.INTX_DISABLE = 0x002, 0x004, 0x400 -- of the command register

--- PCI's command register: opening and closing the device by luio could change it.
---@param address string
---@return integer
function M.command(address)
  local f = assert(io.open("/sys/" .. device(address, "config"), "rb"))
  f:setvbuf "no"
  f:seek("set", 4)
  local low, high = f:read(2):byte(1, 2)
  f:close()
  return low + high * 256
end

--- Whether bits of it are set.
---@param address string
---@param bits integer
---@return boolean
function M.has(address, bits)
  return bit.band(M.command(address), bits) == bits
end

---@param address string
---@param clear integer  bits
---@param set integer    bits
function M.change_command(address, clear, set)
  local value = bit.bor(bit.band(M.command(address), bit.bnot(clear)), set)
  local f = assert(io.open("/sys/" .. device(address, "config"), "r+b"))
  f:setvbuf "no"
  f:seek("set", 4)
  assert(f:write(string.char(value % 256, math.floor(value / 256))))
  f:close()
end

return M
