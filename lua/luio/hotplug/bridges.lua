--- The bridges between a PCI device and its root bus: detects a bridge that was switched off under a running driver, repairs it
--- if this process may, and warns. They are checked with the device's own config space (luio.hotplug.config_watch).
---
--- A bridge passes on only what its command register allows (PCI-to-PCI Bridge Architecture Specification 1.2, 3.2.5.3). Without
--- bus master it blocks transfers and message interrupts from the devices below it; without memory or I/O space, accesses to them.
--- The device's own registers do not show that. A process that writes the bridge's config space can switch these off. So can an
--- unbind of its kernel driver (pcieport), if the kernel then counts the bridge as unused.
---
--- The wanted values are memory and I/O space as at the start, and bus master while the device has it on, as the kernel sets them
--- in each bridge above a device that it enables. Nothing else in a bridge is written, because luio does not own it. The repair
--- needs root; in a driver that gave root up the warning names the remedy.

local bit = require "bit"
local uv = require "luv"

local M = {}

local COMMAND, MASTER = 4, 4 -- the register; in it, bus master
local SPACES = { { 1, "I/O space was off: its ports could not be reached" },
  { 2, "memory space was off: what was read of it meanwhile is wrong, what was written lost" },
  { MASTER, "bus master was off: transfers meanwhile did not reach memory" } }

---@class luio.Bridge
---@field address string
---@field wanted integer   bits of its command register

-- Its command register, and the open file; nil: it is gone, or does not answer.
local function open(address)
  local path = ("/sys/bus/pci/devices/%s/config"):format(address)
  local fd, _, refused = uv.fs_open(path, "r+", 0)
  local writable = fd ~= nil
  fd = fd or uv.fs_open(path, "r", 0)
  local bytes = fd and uv.fs_read(fd, 2, COMMAND)
  if bytes and #bytes == 2 and bytes ~= "\255\255" then return bytes:byte(1) + 256 * bytes:byte(2), fd, writable, refused end
  if fd then uv.fs_close(fd) end
end

--- The bridges above a device, as they are now, the nearest last.
---@param info luio.Info
---@return luio.Bridge[]
function M.above(info)
  local list = {}
  for address in (info.has_config and info.sysfs or ""):gmatch "/(%x+:%x%x:%x%x%.%x)" do
    local command, fd = open(address)
    if command then
      uv.fs_close(fd)
      if address ~= info.address then table.insert(list, { address = address, wanted = bit.band(command, 3) }) end
    end
  end
  return list
end

local function describe(missing)
  local texts = {}
  for _, space in ipairs(SPACES) do
    if bit.band(missing, space[1]) ~= 0 then table.insert(texts, space[2]) end
  end
  return table.concat(texts, "; ")
end

-- The missing bits of a bridge, after the repair and before it; the reason why they stay missing.
local function set_right(bridge, wanted)
  local command, fd, writable, refused = open(bridge.address)
  if not command then return 0, 0 end
  local missing = bit.band(wanted, bit.bnot(command))
  local left, why = missing, refused
  if missing ~= 0 and writable then
    local value = bit.bor(command, missing)
    local ok, _, failure = uv.fs_write(fd, string.char(bit.band(value, 0xff), bit.rshift(value, 8)), COMMAND)
    local bytes = uv.fs_read(fd, 2, COMMAND)
    left = bit.band(missing, bit.bnot(bytes and #bytes == 2 and bytes:byte(1) or 0))
    why = not ok and failure or "it does not stay on"
  end
  uv.fs_close(fd)
  return left, missing, why
end

--- Looks, and sets right. Each that is not so, or was not: told by the caller.
---@param list luio.Bridge[]  of M.above
---@param dev luio.Device
---@return string[] repaired  texts
---@return string? fault      of one that stays so
function M.check(list, dev)
  local command = #list > 0 and dev.config:command()
  local repaired, fault = {}, nil
  for _, bridge in ipairs(command and list or {}) do
    local wanted = bridge.wanted + (command.bus_master and MASTER or 0)
    local left, missing, why = set_right(bridge, wanted)
    if left ~= 0 then
      fault = ("bridge %s, above %s, was switched off by another process: %s. That stays so: config space of the bridge can't be written: "
        .. "%s; as root: setpci -s %s COMMAND=%x:%x"):format(bridge.address, dev.address, describe(left), why, bridge.address, left, left)
    elseif missing ~= 0 then
      table.insert(repaired, ("bridge %s, above %s, was switched off by another process: %s"):format(bridge.address, dev.address,
        describe(missing)))
    end
  end
  return repaired, fault
end

return M
