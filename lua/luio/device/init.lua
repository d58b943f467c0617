--- Devices: identity, regions, interrupts, DMA memory and config space behind one handle.
---
--- The parts of a device have the hardware's numbers, from 0, and are made on first use:
--- `dev.regions[0]`, `dev.irqs[0]`. C owns the descriptors and mappings; after `close` every part
--- of the device that Lua still holds is stale, and using it an error.
---
--- luio.device.core is the device itself, luio.device.view a version's handle of it. This module opens a device and adds
--- the methods of other modules: bus master, hot-plug, the watch over config space.

local ffi = require "ffi"
local bus_master = require "luio.device.bus_master"
local config_watch = require "luio.hotplug.config_watch"
local core = require "luio.device.core"
local runtime = require "luio.ffi"
local hotplug = require "luio.hotplug"
local loading = require "luio.loop.loading"
local view = require "luio.device.view"
local C, err = runtime.C, runtime.err
local Device = core.Device

local M = {
  open_devices = core.open_devices, settings = core.settings, tell_users = core.tell_users, view = view.new, set_stale = view.set_stale,
}

function core.hooks.closing(dev)
  hotplug.forget(dev)
  config_watch.flush()
end

core.hooks.vanished = hotplug.vanished

--- Wraps a luio_device. For open below and luio.sim.
---@param handle ffi.cdata*
---@param options luio.OpenOptions
---@return luio.Device
function M.wrap(handle, options)
  local dev = core.wrap(handle, options)
  dev.repairs = config_watch.counters()
  return dev
end

--- Opens a real device by address.
---@param address string
---@param options? luio.OpenOptions
---@return luio.Device?
---@return string? message
---@return string? code  "ENODEV" "EBUSY" "EACCES" "EPERM" "EINVAL"
function M.open(address, options)
  options = options or {}
  loading.refuse("open " .. address, 3)
  if address:find("\0", 1, true) then -- C would see only the text before it
    return nil, "a device address has no NUL byte in it", "EINVAL"
  end
  local inspect = require "luio.host.inspect" -- here: simulated devices need nothing of it
  local out = ffi.new "luio_device *[1]"
  local flags = (options.read_only and C.LUIO_READ_ONLY or 0) + (options.shared and C.LUIO_SHARED or 0)
  if C.luio_device_open(address, flags, out, err) < 0 then
    local _, message, code = runtime.failure()
    if code == "EBUSY" then message = require("luio.host.holders").name_locker(message, (inspect.find(address))) end
    return nil, message, code
  end
  local dev = M.wrap(out[0], options)
  if options.quiet then return dev end
  local unanswered, several = inspect.unanswered(dev.info), address ~= dev.info.uio and inspect.one_of(dev.info)
  if unanswered then dev:warn(unanswered) end
  if several then dev:warn(("%s is %s, and the first that its address means"):format(dev.info.uio, several)) end
  return dev
end

Device.bus_master = bus_master.switch
Device.watch_presence = hotplug.watch
Device.wait_return = hotplug.wait_return
Device.check_config = config_watch.check

return M
