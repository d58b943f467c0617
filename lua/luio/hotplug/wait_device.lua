--- Waits for a device that is not present yet: `luio run --wait`.
---
--- The wait is for a device that can be opened: it is present, a UIO driver has it, and its node has its permissions.
--- The kernel reports the first two by events. After each event everything is checked anew, and every two seconds
--- without one, so that a missed event does no harm. udev sets the permissions some time after the event, so a device
--- that can't be opened is tried again for a while before that counts as a failure; a device that another process
--- drives is not.

local device = require "luio.device"
local inspect = require "luio.host.inspect"
local match = require "luio.driver.match"
local now = require("luio.ffi").now
local wait_slot = require "luio.loop.wait_slot"

local M = {}

--- Seconds that a device which is there may take until it can be opened.
M.SETTLE = 5

local LOOK = 2 -- seconds between looks, without an event
local FIRST, SLOWEST = 0.02, 0.25 -- seconds before it is tried again

---@class luio.WaitDeviceOptions
---@field seconds number?        the deadline; nil: until `stopped` says so
---@field bind boolean?          a PCI device that no UIO driver has is given to uio_pci_generic (luio.host.binding)
---@field bare boolean?          a device that no driver has is opened, too, unless luio had given it to a UIO driver
---@field stopped fun(): boolean whether to give up
---@field arm fun(wake: fun()): fun()  has wake called when `stopped` changes; returns what ends that
---@field tell fun(text: string) is called with the text of what is missing, once and at each change

--- True if a device can be waited for: simulated devices and addresses without a kernel device never arrive later.
---@param address string?  nil: whichever a driver matches
---@return boolean
function M.can_wait(address)
  return not address or address:match "^uio%d+$" ~= nil or address:match "^%x+:%x+:%x+%.%x$" ~= nil
end

-- The device, bound or not, and the others that fit; or what is missing.
local function find(driver, address)
  if address then
    local info, message, code = inspect.find(address)
    if code == "ENODEV" then message = "there is no such device" end
    return info, message, code
  end
  local info, note, code = match.choose(driver)
  if not info then return nil, note or "no device here is for it", code or "ENODEV" end
  return info, note
end

-- One try: the device, opened; or nil, what is missing, code, and whether a UIO driver has it.
local function try(driver, address, options)
  local info, note, code = find(driver, address)
  if not info then return nil, note, code, false end
  local message
  if not info.uio and options.bind then
    local binding
    binding, message, code = require("luio.host.binding").bind(info.address)
    if not binding then return nil, message, code ~= "ENODEV" and code or "EBUSY", false end
    info, note, code = find(driver, address)
    if not info then return nil, note, code, false end
  end
  local bare = options.bare and not info.uio and not info.driver and not require("luio.host.binding").remembers(info)
  if not info.uio and not bare then
    message = info.driver and ("the kernel driver %s has it"):format(info.driver) or "no UIO driver has it"
    return nil, ("%s: `luio bind %s`"):format(message, info.address), "ENODEV", false
  end
  local dev
  dev, message, code = device.open(address or inspect.opens(info))
  if not dev then return nil, note and ("%s; %s"):format(message, note) or message, code, true end
  if note then dev:warn(note) end
  return dev
end

-- Waits until an event, the deadline, or a stop.
local function pause(seconds, monitor, options)
  wait_slot.await(seconds, function(wake)
    local disarm = options.arm(function() wake(true) end)
    if monitor then monitor.watch:listen(wake) end
    return function()
      if monitor then monitor.watch:listen(nil) end
      disarm()
    end
  end)
end

-- Takes what the kernel told: that there was something is all we want to know.
local function drain(monitor)
  while monitor do
    local event, _, code = monitor:wait(0)
    if not event then return code == "ETIMEDOUT" or code == "ENOBUFS" end
  end
end

local function wait(driver, address, options, monitor)
  local what = address or ("a device for driver %s"):format(driver.name)
  local deadline = options.seconds and now() + options.seconds
  local since, delay, told
  while not options.stopped() do
    if monitor and not drain(monitor) then monitor = nil end -- it would stay readable
    local dev, message, code, bound = try(driver, address, options)
    if dev then return dev end
    since = bound and (since or now()) or nil
    if bound and (code == "EBUSY" or now() >= since + M.SETTLE) or not bound and code ~= "ENODEV" then
      return nil, message, code
    end
    local left = deadline and deadline - now() or LOOK
    if left <= 0 then
      return nil, ("%s did not %s within %g s: %s"):format(what, bound and "become usable" or "come", options.seconds, message), "ETIMEDOUT"
    end
    if not bound and message ~= told then
      options.tell(("waiting for %s: %s"):format(what, message))
      told = message
    end
    delay = bound and math.min(2 * (delay or FIRST / 2), SLOWEST) or nil
    pause(math.min(delay or LOOK, left), monitor, options)
  end
  return nil, "told to stop while waiting for " .. what, "ECANCELED"
end

--- Waits until a device can be opened, and opens it.
---@param driver table      as luio.load returns it
---@param address string?   "uio0", "0000:00:04.0"; nil: the first device that the driver matches
---@param options luio.WaitDeviceOptions
---@return luio.Device?
---@return string? message
---@return string? code  "ETIMEDOUT": it did not come; "ECANCELED"; else why it can't be opened
function M.open(driver, address, options)
  local monitor = require("luio.hotplug.monitor").open() -- before the first look: nothing comes unseen between the two
  local dev, message, code = wait(driver, address, options, monitor)
  if monitor then monitor:close() end
  return dev, message, code
end

return M
