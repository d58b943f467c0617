--- Hot-plug: devices that go away and come back.
---
--- A device is *gone* when it was removed, or its UIO driver was unbound. The first of these detects
--- it: its interrupt (the source fails), an access (SIGBUS, runtime/sigbus.c), a kernel event, or the
--- check of every second. An event only triggers a check of the device's own descriptors, so that a
--- late event does no harm. Then, at once:
---
---   its regions become placeholders, and an access to them is an error that says why;
---
--- and as soon as the loop turns:
---
---   waits that belong to it (irq:wait, reg:wait) return nil, "device gone: ...", "ENODEV";
---   the driver's `gone(dev)` is called, and has 3 s.
---
--- A range of physical addresses is gone when a kernel driver claims it, and back when the driver releases it.
---
--- luio.Device stays the same object. When a watched device is present again, at the same address, with its UIO driver, it
--- is reopened: regions are mapped at their new places, DMA buffers are unchanged. Its driver's `start(dev, "returned")`
--- is called, after top halves and bus master were set up as at the first start. The signs come from the kernel (a device
--- added or bound); after one the device has a while to become usable, for udev rules and slow drivers. The kernel binds
--- uio_pci_generic again by itself if driver_override names it, which lasts until the device is removed. After a removal
--- luio binds the device if luio had bound it before (luio.host.binding); otherwise a udev rule or the user must. luio
--- waits for that without a limit.
---
--- Each check also looks for bus errors (luio.hotplug.bus_errors) and for changes of config space
--- (luio.hotplug.config_watch).
---
--- DMA memory: pages that could not be pinned may be moved by the kernel, and the device goes on with the old addresses
--- (runtime/dma_pin.c). So every second the address of each page is looked up, while bus master is on. If one has changed,
--- bus master is switched off first; then the driver's `stop(dev)` is called, and the device is gone for good: every use
--- of it fails with "ESTALE". It does not come back, because the addresses in it now belong to other memory.
---
--- None of this keeps a program's loop running, except while a device is being released or reopened.
--- A device is watched if luio.start started its driver; otherwise after dev:watch_presence().

local bus_errors = require "luio.hotplug.bus_errors"
local errors = require "luio.errors"
local watchdog = require "luio.loop.watchdog"
local uv = require "luv"
local config_watch = require "luio.hotplug.config_watch"
local runtime = require "luio.ffi"
local sysfs = require "luio.host.sysfs"
local task = require "luio.loop.task"
local wait_slot = require "luio.loop.wait_slot"
local C, err, now = runtime.C, runtime.err, runtime.now
local text = require("ffi").string

local M = {}

--- Seconds between two looks at each device.
M.INTERVAL = 1
--- Seconds from a sign of its return until a device must be usable.
M.RETURN = 5
--- Seconds that a driver's `gone` may take; and its `stop`, where memory has moved.
M.GONE = 3

local FIRST_PAUSE = 0.02 -- after a sign, before the first try: bind events come in pairs
local SLOWEST = 0.25 -- pause between tries, at last

local watched = {} ---@type table<luio.Device, table>
local monitor ---@type luio.Monitor?
local timer

-- ---- Coming back ---------------------------------------------------------------------------------

local function tell(dev, ...)
  local waiters = dev.return_waiters or {}
  dev.return_waiters = nil
  for _, wake in ipairs(waiters) do wake(...) end
end

-- A device that was pulled out has no UIO driver when it is there again. Whether it was given to that again, or why not.
local function rebind(dev)
  if not dev.info.can_bind or not dev.info.uio then return nil end
  local bound, message, code = require("luio.host.binding").again(dev.address, dev.info.driver, dev.life)
  return bound ~= nil, message, code
end

local function try(dev)
  local deadline, pause, rebound = now() + M.RETURN, FIRST_PAUSE, nil
  while true do
    wait_slot.sleep(pause)
    if dev.closed then return nil end
    local ok, message, code = dev:retake()
    if ok then
      dev.life = sysfs.life(dev.address)
      return true
    end
    if code == "ENODEV" and not rebound then
      local why, why_code
      rebound, why, why_code = rebind(dev)
      if rebound then deadline, pause = now() + M.RETURN, FIRST_PAUSE end
      if why then message, code = ("%s; %s"):format(message, why), why_code end
    end
    if now() >= deadline then return nil, message, code end
    pause = math.min(2 * pause, SLOWEST)
  end
end

local function come_back(dev, away)
  local ok, message, code = try(dev)
  if dev.closed then return end
  if watched[dev] then watched[dev].failure = not ok and message or nil end
  dev.return_code = code
  if not ok then
    dev:warn(("%s did not come back within %g s: %s"):format(dev.address, M.RETURN, message))
  elseif dev.live then
    local driver = dev.driver
    ok, message = dev.live:restart "returned"
    if ok then
      dev:warn(("%s is there again after %.3g s; driver %s was started again"):format(dev.address, now() - away, driver.name))
    elseif not dev.gone and not dev.closed then
      dev:warn(message .. "; it counts as gone until it is bound again")
      dev:vanish "its driver did not start again"
    end
  else
    dev:warn(("%s is there again after %.3g s"):format(dev.address, now() - away))
  end
  local w = watched[dev]
  if not w then return end
  w.returning = nil
  if not dev.gone then w.bus = bus_errors.state(dev) end
  if not dev.gone then tell(dev, true) end
  if w.sign then M.check_presence(dev, true) end
end

-- ---- Going away ----------------------------------------------------------------------------------

local function call(dev, name)
  local driver = dev.driver
  if not (driver and driver[name]) then return end
  local ok, message
  local t = task.spawn_in(nil, function() ok, message = watchdog.call(watchdog.name(driver, name), nil, driver[name], dev) end)
  local ended, why = t:join(M.GONE)
  if not ended then dev:warn(("%s of driver %s: %s"):format(name, driver.name, why))
  elseif not ok then dev:warn(("%s of driver %s failed: %s"):format(name, driver.name, errors.text(message))) end
end

local function finish_vanishing(dev)
  wait_slot.sleep(0) -- the code that found it gone may be in the middle of an operation
  if dev.closed then return end
  for _, irq in pairs(dev.gone and dev.irqs or {}) do -- retaken by hand already: closed, and new ones at work
    local ok, message = irq:close() -- wakes the waiters
    if not ok then dev:warn(message) end
  end
  local format = dev.gone_code and "%s is stopped: %s" or "%s is gone: %s"
  dev:warn(format:format(dev.address, dev.gone_why or "it is back already"))
  call(dev, "gone")
  dev.over = dev.gone_code ~= nil
  local w = watched[dev]
  if not w then return end
  w.vanishing = nil
  if w.sign then M.check_presence(dev, true) end
end

--- Called by Device:vanish, from wherever it was noticed.
---@param dev luio.Device
function M.vanished(dev)
  local w = watched[dev]
  if w then w.vanishing, w.away = true, now() end
  task.spawn_in(nil, finish_vanishing, dev)
end

--- Looks whether a device is there: notices that it is gone, and, given a sign of its return, takes it
--- again.
---@param dev luio.Device
---@param sign boolean?  something was added or bound that may be it; default: yes
function M.check_presence(dev, sign)
  local w = watched[dev]
  if dev.closed then return end
  if not dev.gone then
    if C.luio_device_present(dev.handle) == 0 then
      dev:vanish(dev.info.is_range and "a kernel driver has claimed it" or dev.removed)
    end
    if not dev.gone then return end
  end
  if not w or sign == false or dev.gone_code then return end
  w.sign = true
  if w.vanishing or w.returning then return end -- they look when they are done
  w.sign, w.returning = nil, true
  task.spawn_in(nil, come_back, dev, w.away)
end

--- Waits until a device that is gone works again: taken, and its driver started. Watches it, if need be.
---@param dev luio.Device
---@param seconds number
---@return boolean? ok
---@return string? message
---@return string? code  "ETIMEDOUT"; "ECANCELED": it was closed meanwhile
function M.wait_return(dev, seconds)
  dev = dev:root_device()
  if dev.closed then error(("wait for %s: the device is closed"):format(dev.address), 2) end
  if dev.gone_code then return dev:gone_failure "wait" end
  M.watch(dev)
  local w = watched[dev]
  if not dev.gone and not w.returning then return true end
  local ok, message, code = wait_slot.await(seconds, function(wake)
    dev.return_waiters = dev.return_waiters or {}
    table.insert(dev.return_waiters, wake)
    return function()
      -- A list that `tell` is going through is not in dev.return_waiters any more.
      for i, waiter in ipairs(dev.return_waiters or {}) do
        if waiter == wake then return table.remove(dev.return_waiters, i) end
      end
    end
  end)
  if code == "ETIMEDOUT" then
    message = ("%s has not come back within %g s"):format(dev.address, seconds)
    if w.failure then
      message = ("%s: %s"):format(message, w.failure)
    elseif not dev.info.is_private then
      local guess = dev.info.is_range and "who has it?" or "is its UIO driver bound?"
      message = ("%s; %s `luio info %s`"):format(message, guess, dev.address)
    end
  end
  return ok, message, code
end

-- ---- DMA memory ----------------------------------------------------------------------------------

-- Bus master is off already. Off PCI only the driver can stop its device, so it is asked to while its registers work.
local function stop_for_good(dev, message)
  if not dev.stopped then
    dev.stopped = true -- closing does not stop it again
    call(dev, "stop")
  end
  if not dev.closed then dev:vanish(message, "ESTALE") end
end

-- Whether the kernel has left the DMA memory of a device at work where it is.
local function check_memory(dev)
  local w = watched[dev]
  if not w or w.moved then return false end
  if C.luio_dma_check(dev.handle, err) == 0 then return true end
  w.moved = true
  task.spawn_in(nil, stop_for_good, dev, text(err.message))
  return false
end

-- ---- Watching ------------------------------------------------------------------------------------

local COMES = { add = true, bind = true, change = true }
local FREES = { remove = true, unbind = true }

local function concerns(dev, address, subsystem, action)
  if dev.info.is_range then return true end -- any driver may have claimed it, or let it go
  return address == dev.address or address == dev.info.uio or (dev.gone and subsystem == "uio" and action == "add")
end

local function each_watched(fn, ...)
  local list = {} -- a copy: fn may change the set
  for dev in pairs(watched) do table.insert(list, dev) end
  for _, dev in ipairs(list) do
    -- libuv's callbacks must not raise; an error with one device becomes its warning.
    local ok, message = pcall(fn, dev, ...)
    if not ok and not dev.closed then pcall(dev.warn, dev, errors.text(message)) end
  end
end

local function drop_monitor()
  if monitor then monitor:close() end
  monitor = nil
end

local function on_event()
  while monitor do
    local raw = monitor.raw
    local n = C.luio_monitor_next(monitor.handle, raw, err)
    if n == 0 then return end
    if n < 0 and runtime.errno_name(err.code) ~= "ENOBUFS" then
      local message = text(err.message)
      drop_monitor() -- it would stay readable
      each_watched(function(dev) dev:warn(message .. "; should it go away, its return will not be noticed: dev:retake()") end)
    elseif n < 0 then -- events were lost: look at everything
      each_watched(M.check_presence)
    else
      local address, subsystem, action = text(raw.address), text(raw.subsystem), text(raw.action)
      each_watched(function(dev)
        local signs = dev.info.is_range and FREES or COMES
        if concerns(dev, address, subsystem, action) then M.check_presence(dev, signs[action] or false) end
      end)
    end
  end
end

--- Looks whether the device was reset behind our back (luio.hotplug.bus_errors). One that was gets its configuration
--- back, and counts as gone
--- and returned: its driver starts again.
---@param dev luio.Device
---@return boolean
function M.find_reset(dev)
  local state = watched[dev] and watched[dev].bus
  if not state or dev.gone or dev.closed or not bus_errors.lost(dev, state) then return false end
  local ok, message = bus_errors.restore(dev, state)
  local why = "it was reset, and lost its configuration: a fatal error of its link? (dmesg: AER)"
  if not ok then why = ("%s; that can't be put back: %s"):format(why, message) end
  dev:vanish(why)
  if ok then M.check_presence(dev, true) end
  return true
end

local function tell_bus_errors(dev)
  local state = watched[dev] and watched[dev].bus
  if not state or dev.gone or dev.closed then return end
  for _, message in ipairs(bus_errors.errors(dev, state)) do dev:warn(message) end
end

local function tick()
  each_watched(function(dev)
    M.check_presence(dev, false)
    tell_bus_errors(dev)
    -- Which looks for a reset, too.
    if not dev.gone and not dev.closed and check_memory(dev) then config_watch.tick(dev) end
  end)
end

local function listen(dev)
  if monitor or not dev.info.can_leave then return end
  local opened, message = require("luio.hotplug.monitor").open()
  if not opened then
    dev:warn(("%s; should %s go away, its return will not be noticed: dev:retake()"):format(message, dev.address))
    return
  end
  monitor = opened
  monitor.watch:listen(on_event)
end

--- Watches a device, as described above, until it is closed.
---@param dev luio.Device
---@param on boolean?  false: no more
function M.watch(dev, on)
  dev = dev:root_device()
  if on == false then return M.forget(dev) end
  if dev.closed then error(("watch %s: the device is closed"):format(dev.address), 2) end
  if watched[dev] then return end
  watched[dev] = { away = now() }
  watched[dev].bus = bus_errors.state(dev)
  config_watch.begin(dev)
  dev.life = sysfs.life(dev.address)
  listen(dev)
  timer = timer or assert(uv.new_timer())
  if not timer:is_active() then
    timer:start(M.INTERVAL * 1000, M.INTERVAL * 1000, tick)
    timer:unref()
  end
end

--- Watches it no more. Called when it is closed.
---@param dev luio.Device
function M.forget(dev)
  if not watched[dev] then return end
  watched[dev] = nil
  tell(dev, nil, "the device was closed during the wait", "ECANCELED")
  if next(watched) then return end
  timer:stop()
  drop_monitor()
end

config_watch.hooks.find_reset, config_watch.hooks.check_presence = M.find_reset, M.check_presence

return M
