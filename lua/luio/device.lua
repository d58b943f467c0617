--- Devices: identity, regions, interrupts, DMA memory and config space behind one handle.
---
--- Everything a device has is numbered as the hardware does, from 0, and made on first use:
--- `dev.regions[0]`, `dev.irqs[0]`. C owns the descriptors and mappings; after `close` every part
--- of the device that Lua still holds is stale, and using it an error.

local bit = require "bit"
local ffi = require "ffi"
local errors = require "luio.errors"
local door = require "luio.ffi"
local bits = require "luio.registers.bits"
local region = require "luio.region"
local irq = require "luio.irq"
local dma = require "luio.dma"
local config = require "luio.config"
local config_watch = require "luio.hotplug.config_watch"
local hotplug = require "luio.hotplug"
local reload_report = require "luio.reload.report"
local loading = require "luio.loop.loading"
local sysfs = require "luio.host.sysfs"
local task = require "luio.loop.task"
local watchdog = require "luio.loop.watchdog"
local C, err = door.C, door.err

local M = {}

---@class luio.Device
---@field address string   "0000:00:04.0", "uio0", "sim:edu", "mem:0xfea00000+0x1000"
---@field info luio.Info   what discovery found
---@field regions table<integer, luio.Region>
---@field irqs table<integer, luio.Irq>
---@field dma luio.Dma
---@field config luio.Config
---@field regs luio.Registers?  the driver's register map, bound
---@field read_only boolean
---@field state table      the driver's own
---@field closed boolean?
---@field gone boolean?    it was removed or unbound, and has not come back yet
---@field gone_code string? "ESTALE": it was stopped for good, for its DMA memory has moved (luio.hotplug)
---@field over boolean?    stopped for good, and its driver has been told
---@field return_code string?  why it could not be taken again, last time: "EACCES"
---@field repairs table<string, integer>  how often what of config space was set right (luio.hotplug.config_watch)
---@field warnings string[] the last few things that work, but not as they should
---@field on_warning fun(message: string)?  called for each
---@field package on_bus_master fun(on: boolean)?  called when it was switched
---@field package before_stop (fun(): true?, string?, string?)?  called when it is about to be closed, while its driver still works;
---                                what it gives up is what `close` says
---@field root luio.Device?   of a view: the device that was opened
---@field views table<luio.Device, true>  weak
---@field live luio.Live?     the driver that runs
---@field stale string?       of a view: why it must not be used any more
---@field package selectors luio.Selectors?  what was written to what shows other registers (luio.registers.selectors)
---@field package driven_elsewhere boolean?  another process, or the kernel, may be at its registers, too
---@field package effects luio.Effects?  what its register maps say of side effects (luio.registers.effects)
---@field package saved string?  durable state as it was saved last
---@field package life integer?  of a PCI device, while it is watched (luio.host.sysfs)
---@field package sleeps luio.Sleeps?  of the machine, when config space was looked at last (luio.hotplug.config_watch)
---@field package alone boolean?   nobody else can write its registers
---@field package beside boolean?  another process drives it
---@field package bridges luio.Bridge[]?  above it, as they were
---@field package withheld boolean?  bus master is off because others were given its registers
---@field needs_root boolean?  they were, and this process may not take them back
---@field package forgot boolean?  gone, but only in that it has lost its registers
---@field package config_right number?  when config space was last seen to be as it should
---@field package config_fault string?  what of it could not be set right
---@field package handle ffi.cdata*
local Device = {}
Device.__index = Device

local MAX_WARNINGS = 32

--- Called for the warnings of devices that have no on_warning of their own; nil: they are kept only.
---@type fun(message: string, dev: luio.Device)?
M.on_warning = nil

--- Whose the registers' files are while bus master is on: of the user that root will be given up for; nil: root.
---@type string?
M.driver_user = nil

--- Every open device, so that a program can close what a script left open.
M.open_devices = {}

-- ---- Discovery -----------------------------------------------------------------------------------

local text = ffi.string

---@class luio.InfoMap
---@field name string
---@field addr integer|ffi.cdata*  bus address, as the kernel gives it; a uint64_t from 2^53 on
---@field size integer     bytes, rounded up to pages
---@field offset integer   where in its first page it begins
---@field length integer?  how many bytes there are from there on, where that is not `size`
---@field at_open boolean? memory that the UIO driver allocates when it is opened; until then addr is 0

---@class luio.Info
---@field address string       how to open it
---@field uio string?          "uio0"; nil: no UIO driver is bound
---@field uio_name string?
---@field uio_version string?
---@field event integer        interrupts counted so far
---@field bus string           for people: "pci", "platform", "sim", "mem"; code asks for what it needs:
---@field has_sysfs boolean    the kernel knows the device: a directory in sysfs, ids or names to match, hot-plug events
---@field has_config boolean   config space and a bus master switch
---@field has_bars boolean     region N is BAR N
---@field has_interrupts boolean  the way to it brings interrupts; whether the device has one is told on use
---@field has_dma boolean      the same of DMA memory
---@field can_leave boolean    it can go away while it is open, and come back
---@field can_bind boolean     `luio bind` and `unbind` can exchange its kernel driver
---@field node string?         the device node that leads to it: "/dev/uio0", "/dev/mem"
---@field driver string?       kernel driver of the parent; or that claims the range
---@field sysfs string?
---@field compatible string[]  device-tree names
---@field vendor integer?      PCI numbers
---@field device integer?
---@field subvendor integer?
---@field subdevice integer?
---@field class integer?
---@field revision integer?
---@field vendor_name string?  from the hardware database
---@field device_name string?
---@field irq integer?
---@field numa_node integer?
---@field shared_bars boolean? udev's rules say LUIO_SHARED_BARS=1: others may have its registers while bus master is on
---@field incoherent boolean?  its DMA does not look into the CPU's caches: ordinary memory won't do
---@field maps table<integer, luio.InfoMap>
---@field ports table<integer, { name: string, start: integer, size: integer, porttype: string }>
---@field bars table<integer, { kind: "memory"|"port", addr: integer, size: integer, prefetchable: boolean, is64: boolean, map: integer? }>
---@field problem string?      what was wrong with its description; why the range can't be had

local function some(s)
  return s ~= "" and s or nil
end

local CAPABILITIES = {
  has_sysfs = C.LUIO_HAS_SYSFS, has_config = C.LUIO_HAS_CONFIG, has_bars = C.LUIO_HAS_BARS,
  has_interrupts = C.LUIO_HAS_INTERRUPTS, has_dma = C.LUIO_HAS_DMA, can_leave = C.LUIO_CAN_LEAVE, can_bind = C.LUIO_CAN_BIND,
}

--- A luio_info as a table.
---@param raw ffi.cdata*
---@return luio.Info
function M.info(raw)
  local numbered = raw.vendor ~= 0 or text(raw.bus) == "pci"
  local info = {
    address = text(raw.address), uio = some(text(raw.uio)), uio_name = some(text(raw.uio_name)),
    uio_version = some(text(raw.uio_version)), event = tonumber(raw.event), bus = text(raw.bus),
    driver = some(text(raw.driver)), sysfs = some(text(raw.sysfs)), compatible = {},
    vendor_name = some(text(raw.vendor_name)), device_name = some(text(raw.device_name)),
    irq = raw.irq ~= 0 and raw.irq or nil, numa_node = raw.numa_node >= 0 and raw.numa_node or nil,
    incoherent = raw.incoherent ~= 0 or nil, shared_bars = raw.shared_bars ~= 0 or nil,
    maps = {}, ports = {}, bars = {}, problem = some(text(raw.problem)), node = some(text(raw.node)),
  }
  for name, flag in pairs(CAPABILITIES) do info[name] = bit.band(raw.capabilities, flag) ~= 0 end
  if numbered then
    info.vendor, info.device, info.revision = raw.vendor, raw.device, raw.revision
    info.subvendor, info.subdevice, info.class = raw.subvendor, raw.subdevice, raw.class_code
  end
  for name in text(raw.compatible):gmatch "%S+" do table.insert(info.compatible, name) end
  for i = 0, C.LUIO_MAX_MAPS - 1 do
    local m, p = raw.maps[i], raw.ports[i]
    if m.present ~= 0 then
      info.maps[i] = {
        name = text(m.name), addr = bits.number(m.addr), size = tonumber(m.size), offset = tonumber(m.offset),
        length = m.length ~= m.size and tonumber(m.length) or nil, at_open = m.at_open ~= 0 or nil,
      }
    end
    if p.present ~= 0 then
      info.ports[i] = { name = text(p.name), start = tonumber(p.start), size = tonumber(p.size), porttype = text(p.porttype) }
    end
  end
  for i = 0, C.LUIO_MAX_BARS - 1 do
    local b = raw.bars[i]
    if b.kind ~= C.LUIO_BAR_NONE then
      info.bars[i] = {
        kind = b.kind == C.LUIO_BAR_IO and "port" or "memory", addr = bits.number(b.addr), size = tonumber(b.size),
        prefetchable = b.prefetchable ~= 0, is64 = b.is64 ~= 0, map = b.map >= 0 and b.map or nil,
      }
    end
  end
  return info
end

--- Every UIO device, and every PCI device that could become one. Opens nothing.
---@return luio.Info[]? devices  by address
---@return string? message
---@return string? code
function M.list()
  local out = ffi.new "luio_list *[1]"
  if C.luio_list_open(out, err) < 0 then return door.failure() end
  local list = out[0]
  local infos = {}
  for i = 0, tonumber(C.luio_list_count(list)) - 1 do
    infos[i + 1] = M.info(C.luio_list_get(list, i))
  end
  C.luio_list_close(list)
  return infos
end

-- ---- Opening -------------------------------------------------------------------------------------

---@class luio.OpenOptions
---@field read_only boolean?  map read-only, refuse every write; never disturbs another's device
---@field package quiet boolean?  what is to be known of it now is said by the caller
---@field shared boolean?     beside the process that drives it: writable, but no lock, no interrupts; of a
---                           PCI device the BARs only

-- Regions and interrupts, made on first use.
local function add_parts(self)
  self.regions = setmetatable({}, { __index = function(_, index)
    local r, message = self:region(index)
    return r or error(message, 2)
  end })
  self.irqs = setmetatable({}, { __index = function(irqs, vector)
    if type(vector) ~= "number" then error("vectors are numbered from 0, not " .. tostring(vector), 2) end
    local i = irq.new(self, vector, self.root and self.root.irqs[vector].source)
    rawset(irqs, vector, i)
    return i
  end })
end

-- Raises for a device that must not be used.
local function usable(self, what)
  if self.closed then error(("%s of %s: the device is closed"):format(what, self.address), 3) end
  if self.stale then error(("%s of %s: %s"):format(what, self.address, self.stale), 3) end
  loading.refuse(("%s of %s"):format(what, self.address), 3)
end

--- Wraps a luio_device. Used by open below and by luio.sim.
---@param handle ffi.cdata*
---@param options luio.OpenOptions
---@return luio.Device
function M.wrap(handle, options)
  local info = M.info(C.luio_device_info(handle))
  local self = setmetatable({
    address = info.address, info = info, read_only = options.read_only or false, beside = options.shared or nil,
    state = {}, warnings = {}, repairs = config_watch.counters(), users = {},
  }, Device)
  -- The net under close(): a device that is dropped is still switched off before its memory goes.
  self.handle = ffi.gc(handle, function(h) C.luio_device_close(h, nil) end)
  self.views = setmetatable({}, { __mode = "k" })
  add_parts(self)
  self.dma = dma.new(self)
  self.config = config.new(self)
  M.open_devices[self] = true
  return self
end

-- What discovery found, for somebody who may change it for himself only.
local function own_info(info)
  local own = {}
  for key, value in pairs(info) do
    if type(value) == "table" then
      local made = {}
      for k, v in pairs(value) do made[k] = v end
      value = made
    end
    own[key] = value
  end
  return own
end

--- Another handle of the same device, for one version of its driver: with regions, interrupts, registers
--- and state of its own, so that they can be made stale; the memory, the rings and the warnings are the
--- device's.
---@param dev luio.Device
---@return luio.Device
function M.view(dev)
  local root = dev.root or dev
  local self = setmetatable({
    address = root.address, info = own_info(root.info), read_only = root.read_only, state = {}, warnings = root.warnings,
    handle = root.handle, gone = root.gone, gone_why = root.gone_why, gone_code = root.gone_code, root = root, sim = root.sim,
    repairs = root.repairs,
  }, Device)
  add_parts(self)
  self.dma, self.config = dma.view(root.dma, self), config.new(self)
  root.views[self] = true
  return self
end

--- Makes a view useless, or usable again (nil).
---@param view luio.Device
---@param why string?
function M.set_stale(view, why)
  view.stale = why
  for _, r in pairs(view.regions or {}) do -- its driver may have taken it away
    if why then region.suspend(r, why) else region.resume(r) end
  end
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
  if address:find("\0", 1, true) then -- C would see only what is before it
    return nil, "a device address has no NUL byte in it", "EINVAL"
  end
  local out = ffi.new "luio_device *[1]"
  local flags = (options.read_only and C.LUIO_READ_ONLY or 0) + (options.shared and C.LUIO_SHARED or 0)
  if C.luio_device_open(address, flags, out, err) < 0 then return door.failure() end
  local dev = M.wrap(out[0], options)
  if options.quiet then return dev end
  local inspect = require "luio.host.inspect"
  local unanswered, several = inspect.unanswered(dev.info), address ~= dev.info.uio and inspect.one_of(dev.info)
  if unanswered then dev:warn(unanswered) end
  if several then dev:warn(("%s is %s, and the first that its address means"):format(dev.info.uio, several)) end
  return dev
end

-- ---- Parts ---------------------------------------------------------------------------------------

-- Of a map that does not end with a page UIO gives only the whole ones (runtime/region.c).
local function tell_rest(self, r)
  local map = self.info.bus ~= "pci" and r.kind == "memory" and self.info.maps[r.index]
  local length = map and (map.length or map.size)
  if not map or r.size >= length then return end
  self:warn(("map%d of %s: UIO maps whole pages, of its 0x%x bytes the first 0x%x; as root mem:0x%x+0x%x reaches the rest, by /dev/mem")
    :format(r.index, self.address, length, r.size, r.addr + r.size, length - r.size))
end

--- A region, or why not. `dev.regions[index]` is the same, raising.
---@param index integer
---@return luio.Region?
---@return string? message
---@return string? code  "ENOENT": no such region; others: it is there, and can't be opened or mapped
function Device:region(index)
  usable(self, "region " .. tostring(index))
  local known = rawget(self.regions, index)
  if known then return known end
  if type(index) ~= "number" or index < 0 or index % 1 ~= 0 then
    error("regions are numbered from 0, not " .. tostring(index), 2)
  end
  local out = ffi.new "luio_region *[1]"
  if C.luio_device_region(self.handle, index, out, err) < 0 then return door.failure() end
  local r = region.wrap(out[0], self.address, index, self)
  if self.gone then region.gone(r, self.gone_why) end
  rawset(self.regions, index, r)
  tell_rest(self, r)
  return r
end

-- Whether nobody but root can have the device write to memory that is not its driver's, by registers that he
-- has open. Once, while the files stay ours: who has not by then gets none.
local function ours_alone(self)
  local root, info = self.root or self, self.info
  local rc = C.luio_device_bars(self.handle, M.driver_user, err)
  if rc < 0 then
    root.needs_root = root.alone and door.errno_name(err.code) == "EPERM"
    return door.failure()
  end
  if rc == 2 then root.alone = nil end
  if root.alone then return true end
  if rc == 0 and info.bus == "pci" and info.uio and not info.shared_bars and sysfs.shared("/dev/" .. info.uio) then
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

--- Lets the device read and write memory, or forbids it. Off is read back, so that writes on their
--- way have arrived. From the first time on the files of a PCI device's registers are the driver's user's alone,
--- until it is closed, if root switches (runtime/guard_bars.c).
---@param on boolean
---@return boolean? ok
---@return string? message
---@return string? code  "ENOTSUP": not a PCI device; "EBUSY": somebody else could write its registers
function Device:bus_master(on)
  usable(self, "bus master")
  if self.gone then return self:gone_failure "switch bus master" end
  if on then
    local ok, message, code = ours_alone(self)
    if not ok then return nil, message, code end
  end
  if C.luio_bus_master(self.handle, on and 1 or 0, err) < 0 then return door.failure() end
  if on then
    local ok, message, code = ours_alone(self) -- udev may have given them away meanwhile
    if not ok then
      C.luio_bus_master(self.handle, 0, err)
      return nil, message, code
    end
  end
  local root = self.root or self
  root.withheld = nil
  if root.on_bus_master then root.on_bus_master(on) end
  return true
end

--- Lets the next interrupt through by hand. The interrupt thread does so by itself.
---@return boolean? ok
---@return string? message
---@return string? code
function Device:unmask()
  usable(self, "unmasking")
  if self.gone then return self:gone_failure "unmask the interrupt" end
  if C.luio_unmask(self.handle, err) < 0 then return door.failure() end
  return true
end

--- Keeps interrupts away until `unmask`: INTX_DISABLE on PCI, elsewhere irqcontrol of the UIO driver. For drivers whose
--- top half says `unmask = false`; one that unmasks would undo it.
---@return boolean? ok
---@return string? message
---@return string? code  "ENOSYS": the UIO driver has no irqcontrol
function Device:mask()
  usable(self, "masking")
  if self.gone then return self:gone_failure "mask the interrupt" end
  if C.luio_mask(self.handle, err) < 0 then return door.failure() end
  return true
end

--- Copies the driver's durable state (its `durable` names fields of dev.state) to where it outlives a
--- crash of this process. Without a guardian (luio run) it is only looked at.
---@return boolean? ok
---@return string? message  e.g. that a field is no plain data
---@return string? code  "EINVAL" "E2BIG"
function Device:checkpoint()
  if self.closed then error(("checkpoint of %s: the device is closed"):format(self.address), 2) end
  return require("luio.reload.guardian").save(self.root or self)
end

--- Tells who uses what a driver makes of the device (luio.net) whose version is in place now.
---@param dev luio.Device
---@param view luio.Device?  nil: the device is gone
function M.tell_users(dev, view)
  for _, use in ipairs(dev.users) do use(view) end
end

--- Reports something that works, but not as it should.
---@param message string
function Device:warn(message)
  if self.root then return self.root:warn(message) end
  table.insert(self.warnings, message)
  if #self.warnings > MAX_WARNINGS then table.remove(self.warnings, 1) end
  local listener = self.on_warning or M.on_warning
  if not listener then return end
  local ok, why = pcall(listener, message, self) -- it may be called from the loop
  if not ok then task.on_failure({ name = "on_warning" }, errors.text(why)) end
end

--- Stops the driver, the interrupt threads and the device's DMA, then lets everything go. What Lua
--- still holds of it is stale. Idempotent.
---@return boolean? ok
---@return string? message
---@return string? code  "ETIMEDOUT": a thread did not stop; nothing was freed, try again. Where `closed` is true all the same,
---                      something that was given to it was lost (luio.serial)
function Device:close()
  if self.stale then error(("close %s: %s"):format(self.address, self.stale), 2) end
  local root = self.root
  if root and root.live and root.live.reloading and self.version and self.version.phase == "start" then
    error(("close %s in start, which is called on a device that is in use: return nil and a message if it can't go on"):format(
      self.address), 2)
  end
  if root then return root:close() end
  if self.closed then return true end
  self.closing = true -- no version is started on it any more
  hotplug.forget(self)
  config_watch.flush()
  local given, why, why_code = true, nil, nil
  if self.before_stop and not self.stopped then
    given, why, why_code = self.before_stop()
    if self.closed then return true end -- by another task meanwhile
  end
  if self.driver and self.driver.stop and not self.stopped and not self.gone then
    local driver = self.driver
    self.stopped = true
    local ok, message = watchdog.call(watchdog.name(driver, "stop"), nil, driver.stop, self)
    if not ok then self:warn(("stop of driver %s failed: %s"):format(driver.name, errors.text(message))) end
  end
  if self.live then self.live:finish() end
  M.tell_users(self, nil)
  for _, i in pairs(self.irqs) do
    local ok, message, code = i:close()
    if not ok then return nil, message, code end
  end
  if self.before_close then
    local ok, message, code = self.before_close()
    if not ok then return nil, message, code end
  end
  if C.luio_device_close(self.handle, err) < 0 then return door.failure() end
  ffi.gc(self.handle, nil)
  self.closed, self.handle = true, nil
  for _, r in pairs(self.regions) do region.close(r) end
  for view in pairs(self.views) do
    view.closed, view.handle = true, nil
    for _, r in pairs(view.regions or {}) do region.close(r) end
  end
  dma.close(self.dma)
  M.open_devices[self] = nil
  if self.live then watchdog.runs(self, false) end
  if self.after_close then self.after_close() end
  if not given then return nil, why, why_code end
  return true
end

--- Exchanges the code of the driver that runs for what its files hold now (luio.reload.live).
---@return luio.ReloadReport? report
---@return string? message  which step was refused, and why; the version before goes on
---@return string? code
function Device:reload()
  local live = (self.root or self).live
  if not live then error(("reload %s: no driver runs on it"):format(self.address), 2) end
  local report = live:reload()
  if not report.ok then return nil, reload_report.line(report), report.code end
  return report
end

-- ---- Going away and coming back (luio.hotplug) --------------------------------------------------

Device.watch_presence = hotplug.watch
Device.wait_return = hotplug.wait_return
Device.check_config = config_watch.check

-- The device's own handle and its views.
local function handles(self)
  local list, i = { self }, 0
  for view in pairs(self.views) do table.insert(list, view) end
  return function()
    i = i + 1
    return list[i]
  end
end

--- What is asked of a device that is gone fails with this.
---@param what string  "wait for interrupt 0"
---@return nil
---@return string message
---@return string code
function Device:gone_failure(what)
  if self.gone_code then return nil, ("device stopped: %s of %s: %s"):format(what, self.address, self.gone_why), self.gone_code end
  return nil, ("device gone: %s of %s: the device is gone, %s; dev:wait_return(seconds) waits for it"):format(what, self.address,
    self.gone_why or "removed or unbound"), "ENODEV"
end

--- Declares the device gone: its regions become placeholders and stale, waits that belong to it end
--- with "ENODEV", the driver's `gone` is called, from the loop. Whoever learns of it first calls this.
---@param why string
---@param code string?  "ESTALE": it does not come back, either
---@param forgot boolean?  the device is there, and ours, but has lost its registers: its files stay open
function Device:vanish(why, code, forgot)
  if self.root then return self.root:vanish(why, code, forgot) end
  if self.closed or self.gone then return end
  self.forgot, self.alone, self.withheld, self.bridges = forgot, forgot and self.alone, nil, nil
  if self.selectors then require("luio.registers.selectors").forget(self) end
  if not forgot then C.luio_device_gone(self.handle) end
  for handle in handles(self) do
    handle.gone, handle.gone_why, handle.gone_code = true, why, code
    for _, r in pairs(handle.regions or {}) do region.gone(r, why) end
  end
  M.tell_users(self, nil)
  hotplug.vanished(self)
end

--- Takes a device that was gone again: same object, same regions, same DMA buffers. Its driver is not
--- started by this. luio.hotplug does both when the device is watched.
---@return boolean? ok
---@return string? message
---@return string? code  "ENODEV": it is not there yet, or has no UIO driver; "ESTALE": it was stopped for good
function Device:retake()
  if self.root then return self.root:retake() end
  if self.closed then error(("take %s again: the device is closed"):format(self.address), 2) end
  if not self.gone then return true end
  if self.gone_code then return self:gone_failure "take" end
  for _, i in pairs(self.irqs) do
    local ok, message, code = i:close()
    if not ok then return nil, message, code end
  end
  if not self.forgot and C.luio_device_return(self.handle, err) < 0 then return door.failure() end
  self.forgot = nil
  local info = M.info(C.luio_device_info(self.handle))
  for handle in handles(self) do
    handle.info = handle == self and info or own_info(info)
    handle.address, handle.gone, handle.gone_why = info.address, nil, nil
    for _, r in pairs(handle.regions or {}) do region.back(r, info.address) end
  end
  return true
end

function Device:__tostring()
  local info = self.info
  local id = info.vendor and (" %04x:%04x"):format(info.vendor, info.device) or ""
  return ("device %s%s%s%s"):format(self.address, id, info.uio and info.uio ~= self.address and " (" .. info.uio .. ")" or "",
    self.closed and ", closed" or self.gone and ", gone" or "")
end

return M
