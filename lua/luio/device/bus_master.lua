--- Bus master, and the ownership of a device's register files while it is on.
---
--- Registers and bus master together give access to all memory. So before bus master is switched on, the files of a PCI
--- device's registers become private to its driver's user (runtime/guard_bars.c), and no other process may still have them
--- open.

local core = require "luio.device.core"
local runtime = require "luio.ffi"
local sysfs = require "luio.host.sysfs"
local C, err = runtime.C, runtime.err

local M = {}

-- Checks that only root and the driver's user have the registers open; another user could make the device
-- write to any memory. Done once while the files stay private, because no other process can open them later.
local function ours_alone(self)
  local root, info = self:root_device(), self.info
  local rc = C.luio_device_bars(self.handle, core.settings.driver_user, err)
  if rc < 0 then
    root.needs_root = root.alone and runtime.errno_name(err.code) == "EPERM"
    return runtime.failure()
  end
  if rc == 2 then root.alone = nil end
  if root.alone then return true end
  if rc == 0 and info.has_config and info.uio and not info.shared_bars and sysfs.shared("/dev/" .. info.uio) then
    self:warn(("others may open /dev/%s while bus master of %s is on, and so could have it write to any memory: only a driver that "
      .. "root has started can keep them from it (luio run --user)"):format(info.uio, self.address))
  end
  local holder = rc > 0 and require("luio.host.other_writers").of(self.info)
  if holder then
    return nil, ("switch bus master of %s on: EBUSY: process %d (%s) of user %d can write its registers, and so could have it "
      .. "write to any memory: kill %d; or let others do that, by LUIO_SHARED_BARS in udev's rules (60-luio.rules)"):format(
      self.address, holder.pid, holder.command, holder.uid, holder.pid), "EBUSY"
  end
  root.alone = true
  return true
end

--- Lets the device read and write memory, or forbids it. Switching off ends with a read-back, so that writes on
--- their way have arrived. If root switches, the files of a PCI device's registers are private to the driver's
--- user from the first time until the device is closed (runtime/guard_bars.c).
---@param self luio.Device
---@param on boolean
---@return boolean? ok
---@return string? message
---@return string? code  "ENOTSUP": not a PCI device; "EBUSY": another process could write its registers
function M.switch(self, on)
  core.check_usable(self, "bus master")
  if self.gone then return self:gone_failure "switch bus master" end
  if on then
    local ok, message, code = ours_alone(self)
    if not ok then return nil, message, code end
  end
  if C.luio_bus_master(self.handle, on and 1 or 0, err) < 0 then return require("luio.host.holders").failure(self.info, true) end
  if on then
    local ok, message, code = ours_alone(self) -- udev may have given them away meanwhile
    if not ok then
      C.luio_bus_master(self.handle, 0, err)
      return nil, message, code
    end
  end
  local root = self:root_device()
  root.withheld = nil
  if root.on_bus_master then root.on_bus_master(on) end
  return true
end

return M
