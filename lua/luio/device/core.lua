--- A device: the C device, its parts, and the order of closing, going away and coming back.
---
--- Modules above (luio.hotplug) handle the consequences when a device goes away or is closed; they are called by `hooks`. A
--- running driver is `dev.live` (luio.reload.live), which sets that field.

local ffi = require "ffi"
local config = require "luio.config"
local discovery = require "luio.host.discovery"
local dma = require "luio.dma"
local runtime = require "luio.ffi"
local errors = require "luio.errors"
local irq = require "luio.irq"
local loading = require "luio.loop.loading"
local region = require "luio.region"
local task = require "luio.loop.task"
local vectors = require "luio.device.vectors"
local watchdog = require "luio.loop.watchdog"
local C, err = runtime.C, runtime.err

local M = {}

--- An open device.
---@class luio.Device
---@field address string   "0000:00:04.0", "uio0", "sim:edu", "mem:0xfea00000+0x1000"
---@field info luio.Info   from discovery
---@field regions table<integer, luio.Region>
---@field irqs luio.Irqs
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
---@field repairs table<string, integer>  repairs of config space, by kind (luio.hotplug.config_watch)
---@field warnings string[] the last few warnings
---@field on_warning fun(message: string)?  called for each
---@field qemu luio.QemuMachine?  of a qemu: device
---@field opened_as { address: string, qemu: string[]?, vectors: any }?  how luio.open was told to open it, of a qemu: device
---@field package qemu_place string?  in that machine: "00:04.0"
---@field package removed string  how a device of its kind goes, in messages
---@field package on_interrupt fun()?  called with each event
---@field package failure (fun(): string?)?  why no interrupt comes any more, if known
---@field package on_bus_master fun(on: boolean)?  called when it was switched
---@field package before_stop (fun(): true?, string?, string?)?  called when it is about to be closed, while its driver still works;
---                                its error is the result of `close`
---@field views table<luio.Device, true>  weak
---@field package live luio.Live?     the driver that runs
---@field stale string?       of a view: why it must not be used any more
---@field package selectors luio.Selectors?  the values written to registers that select others (luio.registers.selectors)
---@field package driven_elsewhere boolean?  another process, or the kernel, may access its registers, too
---@field package effects luio.Effects?  side effects in its register maps (luio.registers.effects)
---@field package saved string?  durable state as it was saved last
---@field package life integer?  of a PCI device, while it is watched (luio.host.sysfs)
---@field package sleeps luio.Sleeps?  of the machine, when config space was looked at last (luio.hotplug.config_watch)
---@field package alone boolean?   no other process can write its registers
---@field package shared boolean?  another process drives it
---@field package bridges luio.Bridge[]?  above it, as they were
---@field package withheld boolean?  bus master is off because others were given its registers
---@field needs_root boolean?  they were, and this process may not take them back
---@field package forgot boolean?  gone, but only in that it has lost its registers
---@field package config_right number?  when config space was last found right
---@field package config_fault string?  the part that could not be repaired
---@field package interrupts { kind: string, count: integer }  of the device that was opened
---@field package vectors_wanted luio.VectorsWanted?  by whom it was opened
---@field package handle ffi.cdata*
local Device = { removed = "removed or unbound" }
Device.__index = Device

M.Device = Device

local MAX_WARNINGS = 32

--- Of the whole process.
M.settings = require "luio.device.settings"

--- Set by luio.device.
M.hooks = {
  ---@type fun(dev: luio.Device)
  closing = function() end,
  ---@type fun(dev: luio.Device)  from wherever it was noticed
  vanished = function() end,
}

--- Every open device, so that a program can close what a script left open.
M.open_devices = {}

-- ---- Opening -------------------------------------------------------------------------------------

--- A device's interrupts, by vector, from 0 on.
---@class luio.Irqs: { [integer]: luio.Irq }
---@field count integer              how many there are
---@field kind "intx"|"msi"|"msix"

--- Options of `luio.open`.
---@class luio.OpenOptions
---@field messages boolean?     of a qemu: device: its machine has MSI and MSI-X for its other devices, which this one does not use
---@field vectors luio.VectorsWanted?  the interrupts it is to have (luio.device.vectors); nil: INTx, or what its driver asks for
---@field read_only boolean?  map read-only, refuse every write; never disturbs another's device
---@field qemu string[]?        of a qemu: device: more arguments for its QEMU
---@field driver string?        of a qemu: device: the driver that it is for, by name or file: its qemu.lua comes first
---@field package quiet boolean?  the caller prints the warnings
---@field shared boolean?     beside the process that drives it: writable, but no lock, no interrupts; of a
---                           PCI device the BARs only

--- Gives a device its regions and interrupts, which are made on first use.
---@param self luio.Device
---@param source_of fun(vector: integer): luio.IrqSource?  nil: an interrupt has a source of its own
function M.add_parts(self, source_of)
  self.regions = setmetatable({}, { __index = function(_, index)
    local r, message = self:region(index)
    return r or error(message, 2)
  end })
  self.irqs = setmetatable({}, { __index = function(irqs, vector)
    if vector == "count" or vector == "kind" then return self:root_device().interrupts[vector] end
    if type(vector) ~= "number" then error("vectors are numbered from 0, not " .. tostring(vector), 2) end
    local i = irq.new(self, vector, source_of and source_of(vector))
    rawset(irqs, vector, i)
    return i
  end })
end

--- Raises for a device that must not be used, in the caller of the caller.
---@param self luio.Device
---@param what string  is asked of it
function M.check_usable(self, what)
  if self.closed then error(("%s of %s: the device is closed"):format(what, self.address), 3) end
  if self.stale then error(("%s of %s: %s"):format(what, self.address, self.stale), 3) end
  loading.refuse(("%s of %s"):format(what, self.address), 3)
end

--- Wraps a luio_device.
---@param handle ffi.cdata*
---@param options luio.OpenOptions
---@return luio.Device
function M.wrap(handle, options)
  local info = discovery.info(C.luio_device_info(handle))
  local self = setmetatable({
    address = info.address, info = info, read_only = options.read_only or false, shared = options.shared or nil,
    state = {}, warnings = {}, repairs = {}, users = {},
  }, Device)
  -- The net under close(): a device that is dropped is still switched off before its memory goes.
  self.handle = ffi.gc(handle, function(h) C.luio_device_close(h, nil) end)
  self.views = setmetatable({}, { __mode = "k" })
  self.interrupts = { kind = "intx", count = info.has_interrupts and 1 or 0 }
  M.add_parts(self)
  self.dma = dma.new(self)
  self.config = config.new(self)
  M.open_devices[self] = true
  return self
end

--- A copy of the data from discovery, for a driver that may change it.
---@param info luio.Info
---@return luio.Info
function M.own_info(info)
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

-- ---- Parts ---------------------------------------------------------------------------------------

--- The device that was opened: of a view its device, else itself.
---@return luio.Device
function Device:root_device() return self end

-- Of a map that does not end with a page UIO gives only the whole ones (runtime/backend_uio.c).
local function warn_of_rest(self, r)
  local map = not self.info.has_bars and r.base and self.info.maps[r.index]
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
  M.check_usable(self, "region " .. tostring(index))
  local known = rawget(self.regions, index)
  if known then return known end
  if type(index) ~= "number" or index < 0 or index % 1 ~= 0 then
    error("regions are numbered from 0, not " .. tostring(index), 2)
  end
  local out = ffi.new "luio_region *[1]"
  if C.luio_device_region(self.handle, index, out, err) < 0 then return runtime.failure() end
  local r = region.wrap(out[0], self.address, index, self)
  if self.gone then region.gone(r, self.gone_why) end
  rawset(self.regions, index, r)
  warn_of_rest(self, r)
  return r
end

-- Masks or unmasks one vector, or those that are started.
local function each_vector(self, vector, change)
  local list = { vector or 0 }
  if not vector and self.irqs.kind ~= "intx" then
    list = {}
    for n, one in pairs(self:root_device().irqs) do
      if one:started() then table.insert(list, n) end
    end
  end
  for _, n in ipairs(list) do
    if change(self.handle, n, err) < 0 then return runtime.failure() end
  end
  return true
end

--- Lets the next interrupt through by hand. The interrupt thread does so by itself.
---@param vector? integer  nil: all that are started
---@return boolean? ok
---@return string? message
---@return string? code
function Device:unmask(vector)
  M.check_usable(self, "unmasking")
  if self.gone then return self:gone_failure "unmask the interrupt" end
  return each_vector(self, vector, C.luio_unmask)
end

--- Keeps interrupts away until `unmask`: INTX_DISABLE on PCI, elsewhere irqcontrol of the UIO driver. For drivers whose
--- top half says `unmask = false`; one that unmasks would undo it. Messages (MSI, MSI-X) wait meanwhile.
---@param vector? integer  nil: all that are started
---@return boolean? ok
---@return string? message
---@return string? code  "ENOSYS": the UIO driver has no irqcontrol
function Device:mask(vector)
  M.check_usable(self, "masking")
  if self.gone then return self:gone_failure "mask the interrupt" end
  return each_vector(self, vector, C.luio_mask)
end

--- The interrupts that it has, and could have.
---@return luio.Vectors?
---@return string? message
---@return string? code
function Device:vectors()
  M.check_usable(self, "vectors")
  if self.gone then return self:gone_failure "the vectors" end
  return vectors.of(self)
end

--- Copies the driver's durable state (its `durable` names fields of dev.state) to where it outlives a
--- crash of this process. Without a guardian (luio run) it is only looked at.
---@return boolean? ok
---@return string? message  e.g. that a field is no plain data
---@return string? code  "EINVAL" "E2BIG"
function Device:checkpoint()
  if self.closed then error(("checkpoint of %s: the device is closed"):format(self.address), 2) end
  local live = self:root_device().live
  if not live then return true end
  return live:checkpoint()
end

--- Replaces the running driver's code by that of its files (luio.reload.live).
---@return luio.ReloadReport? report
---@return string? message  which step was refused, and why; the version before goes on
---@return string? code
function Device:reload()
  local live = self:root_device().live
  if not live then error(("reload %s: no driver runs on it"):format(self.address), 2) end
  local report = live:reload()
  if not report.ok then return nil, live.line(report), report.code end
  return report
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
  table.insert(self.warnings, message)
  if #self.warnings > MAX_WARNINGS then table.remove(self.warnings, 1) end
  local listener = self.on_warning or M.settings.on_warning
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
  if self.closed then return true end
  self.closing = true -- no version is started on it any more
  M.hooks.closing(self)
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
  if C.luio_device_close(self.handle, err) < 0 then return runtime.failure() end
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

-- ---- Going away and coming back ------------------------------------------------------------------

-- The device's own handle and its views.
local function handles(self)
  local list, i = { self }, 0
  for view in pairs(self.views) do table.insert(list, view) end
  return function()
    i = i + 1
    return list[i]
  end
end

--- The error of a call on a device that is gone.
---@param what string  "wait for interrupt 0"
---@return nil
---@return string message
---@return string code
function Device:gone_failure(what)
  if self.gone_code then return nil, ("device stopped: %s of %s: %s"):format(what, self.address, self.gone_why), self.gone_code end
  return nil, ("device gone: %s of %s: the device is gone, %s; dev:wait_return(seconds) waits for it"):format(what, self.address,
    self.gone_why or self.removed), "ENODEV"
end

--- Declares the device gone: its regions become placeholders and stale, waits that belong to it end
--- with "ENODEV", the driver's `gone` is called, from the loop. The first module that detects the
--- removal calls this.
---@param why string
---@param code string?  "ESTALE": it does not come back, either
---@param forgot boolean?  the device is present, and still ours, but has lost its registers: its files stay open
function Device:vanish(why, code, forgot)
  if self.closed or self.gone then return end
  self.forgot, self.alone, self.withheld, self.bridges = forgot, forgot and self.alone, nil, nil
  local selectors = package.loaded["luio.registers.selectors"] -- where it is not loaded, it has nothing of the device
  if selectors then selectors.forget(self) end
  if not forgot then C.luio_device_gone(self.handle) end
  for handle in handles(self) do
    handle.gone, handle.gone_why, handle.gone_code = true, why, code
    for _, r in pairs(handle.regions or {}) do region.gone(r, why) end
  end
  M.tell_users(self, nil)
  M.hooks.vanished(self)
end

--- Takes a device that was gone again: same object, same regions, same DMA buffers. Its driver is not
--- started by this. luio.hotplug does both when the device is watched.
---@return boolean? ok
---@return string? message
---@return string? code  "ENODEV": it is not there yet, or has no UIO driver; "ESTALE": it was stopped for good
function Device:retake()
  if self.closed then error(("take %s again: the device is closed"):format(self.address), 2) end
  if not self.gone then return true end
  if self.gone_code then return self:gone_failure "take" end
  for _, i in pairs(self.irqs) do
    local ok, message, code = i:close()
    if not ok then return nil, message, code end
  end
  if not self.forgot and C.luio_device_return(self.handle, err) < 0 then return require("luio.host.holders").failure(self.info) end
  self.forgot = nil
  local info = discovery.info(C.luio_device_info(self.handle))
  for handle in handles(self) do
    handle.info = handle == self and info or M.own_info(info)
    handle.address, handle.gone, handle.gone_why = info.address, nil, nil
    for _, r in pairs(handle.regions or {}) do region.back(r, info.address) end
  end
  return vectors.again(self)
end

function Device:__tostring()
  local info = self.info
  local id = info.vendor and (" %04x:%04x"):format(info.vendor, info.device) or ""
  return ("device %s%s%s%s"):format(self.address, id, info.uio and info.uio ~= self.address and " (" .. info.uio .. ")" or "",
    self.closed and ", closed" or self.gone and ", gone" or "")
end

return M
