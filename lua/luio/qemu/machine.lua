--- A QEMU machine: its devices, which share its memory, and its monitor.
---
--- `dev.qemu` is the machine of a device. Each of its devices can be opened by the id that its `-device` gave it, beside those that are
--- open. Their DMA memory is the machine's: a buffer of one has the same address for all. The machine ends when the last of its open
--- devices is closed.

local ffi = require "ffi"
local runtime = require "luio.ffi"
local device = require "luio.device"
local errors = require "luio.errors"
local fd_watch = require "luio.loop.fd_watch"
local hotplug = require "luio.hotplug"
local options_check = require "luio.options"
local qmp = require "luio.qemu.qmp"
local vectors = require "luio.device.vectors"
local virt = require "luio.qemu.virt"
local C, err = runtime.C, runtime.err

local M = {}

--- A machine, by the devices of it that are open: `dev.qemu`.
---@class luio.QemuMachine
---@field pid integer           of QEMU
---@field name string           of its program
---@field arguments string[]?  of QEMU, without its program and those that every machine has
---@field wired_by string?    the qemu.lua that has its back ends
---@field added string[]?      back ends that it got because QEMU refused it without
---@field package usual_wiring luio.QemuWiring?
---@field package ended fun()?  called when it has ended
---@field package handle ffi.cdata*
---@field package guard userdata  closes it when nobody has the machine any more
---@field package qmp luio.Qmp
---@field package changes luio.FdWatch?  of its slots, and of its test socket
---@field package open_devices table<luio.Device, true>
---@field package tree luio.TreeDevice[]?  what its device tree has (luio.qemu.virt)
---@field package address_of (fun(id: string): string)?  of one that somebody else started: the address of a device
local Machine = {}
Machine.__index = Machine

local function closed(self, what, level)
  if not self.handle then error(what .. ": the machine has ended with the last of its devices", level + 1) end
end

--- Has QEMU do a command of its monitor, and waits for its answer: command("set_link", { name = "n", up = false }), or as QMP writes
--- it, command{ execute = "set_link", arguments = {...} }. Several tasks may do so at once.
---@param name string|{ execute: string, arguments: table? }
---@param arguments? table  of strings, numbers, booleans and tables; an empty list needs the metatable ARRAY of luio.text.json
---@return any result
---@return string? message
---@return string? code  "EINVAL": QEMU refuses it, in its words; "EIO": it has ended; "ETIMEDOUT"; "EAGAIN": it reads nothing; "EPROTO"
function Machine:command(name, arguments)
  closed(self, "command", 2)
  return self.qmp:command(name, arguments)
end

--- Waits for an event of QEMU's. One that came before, and that nobody has waited for, counts; the last 256 are kept.
---@param name string  "DEVICE_DELETED"
---@param seconds number
---@param data? table  fields that the event's data must have: { device = "nic" }
---@return luio.QmpEvent? event
---@return string? message
---@return string? code  "ETIMEDOUT"; "ECANCELED": the machine was closed meanwhile; "EIO": QEMU has ended; "EPROTO"
function Machine:wait(name, seconds, data)
  closed(self, "wait", 2)
  return self.qmp:wait(name, seconds, data)
end

-- ---- Its devices ---------------------------------------------------------------------------------

--- A device of a machine, on PCI or of the device tree.
---@class luio.QemuDevice
---@field id string?       of its -device; nil: QEMU's own, or it has none. In the tree: the node's name, "pl031@9010000"
---@field name string?     QEMU's: "e1000e"; of a device with an id
---@field address string   "00:04.0": bus, slot, function; in the tree "0x9010000"
---@field vendor integer?  nil: it is not on PCI
---@field device integer?
---@field compatible string[]?  what the tree says of it
---@field class string?    QEMU's word for it: "Ethernet controller"
---@field bridge boolean   it is a bridge to another bus
---@field open boolean     in this process

local function walk(buses, visit)
  for _, bus in ipairs(buses) do
    for _, at in ipairs(bus.devices) do
      visit(at)
      local below = at.pci_bridge and at.pci_bridge.devices
      if below then walk({ { devices = below } }, visit) end
    end
  end
end

-- What the monitor told, in a form that is ours; raises where it told something else.
local function read_devices(self, buses, named)
  local names, open, list = {}, {}, {}
  for _, one in ipairs(named) do names[one.name] = one.type:match "^child<(.+)>$" end
  for dev in pairs(self.open_devices) do open[dev.qemu_place] = true end
  walk(buses, function(at)
    local id, place = at.qdev_id ~= "" and at.qdev_id or nil, ("%02x:%02x.%d"):format(at.bus, at.slot, at["function"])
    table.insert(list, {
      id = id and id:sub(1), name = id and names[id], address = place, vendor = at.id.vendor + 0, device = at.id.device + 0,
      class = at.class_info and at.class_info.desc and at.class_info.desc:sub(1), bridge = at.pci_bridge ~= nil,
      open = open[place] or false,
    })
  end)
  return list
end

-- Its PCI devices, by Qmp's command or command_now.
local function devices(self, command)
  local buses, message, code = command(self.qmp, "query-pci")
  if not buses then return nil, message, code end
  local named
  named, message, code = command(self.qmp, "qom-list", { path = "/machine/peripheral" })
  if not named then return nil, message, code end
  local ok, list = pcall(read_devices, self, buses, named)
  if ok then return list end
  return nil, "QEMU's monitor told of the machine's devices (query-pci, qom-list), and that makes no sense: is that QEMU?", "EPROTO"
end

--- The devices that the machine has now: those of its device tree, and those on PCI, behind bridges, too.
---@return luio.QemuDevice[]?
---@return string? message
---@return string? code
function Machine:devices()
  closed(self, "devices", 2)
  local list, message, code = devices(self, self.qmp.command)
  if not list or not self.tree then return list, message, code end
  local open, all = {}, {}
  for dev in pairs(self.open_devices) do open[dev.qemu_place] = true end
  for i, one in ipairs(self.tree) do
    all[i] = { id = one.name, name = one.name:match "^[^@]*", address = ("0x%x"):format(one.registers[1].addr), compatible = one.compatible,
      open = open[one.name] or false }
  end
  for _, one in ipairs(list) do table.insert(all, one) end
  return all
end

-- The one that `id` names. why: the device tree has none.
local function find(list, id, why)
  local known = {}
  for _, one in ipairs(list) do
    if one.id == id or one.address == id then return one end
    if one.id then table.insert(known, one.id) end
  end
  table.sort(known)
  if why and not known[1] then return nil, why end
  return nil, ("%sthe machine has no PCI device \"%s\"; it has %s"):format(why and why .. "; " or "", id,
    known[1] and table.concat(known, ", ") or "none with an id (-device NAME,id=ID)")
end

local OPTIONS = { read_only = "boolean", quiet = "boolean", vectors = vectors.option }

-- Opens a PCI device as `address`.
local function open_function(self, id, address, flags, why)
  local list, message, code = devices(self, self.qmp.command_now)
  if not list then return nil, message, code end
  local found
  found, message = find(list, id, why)
  if not found then return nil, message, "ENODEV" end
  local bus, slot, fn = found.address:match "(%x+):(%x+)%.(%d)"
  local out = ffi.new "luio_device *[1]"
  address = address or self.address_of and self.address_of(id)
    or ("qemu:%s%s,id=%s"):format(self.tree and "virt/" or "", found.name or found.class or "device", id)
  if C.luio_device_open_qemu(self.handle, tonumber(bus, 16), tonumber(slot, 16), tonumber(fn), address, flags, out, err) < 0 then
    return runtime.failure()
  end
  return out[0], found.address
end

-- Opens a device as `address`: one of the device tree, if the machine has one, before one on PCI.
local function open(self, id, address, options)
  local flags = options.read_only and C.LUIO_READ_ONLY or 0
  local handle, place, code, node, why
  if self.tree then
    node, why, code = virt.find(self.tree, id)
    if not node and code ~= "ENODEV" then return nil, why, code end
  end
  if node then
    handle, place, code = virt.open(self.handle, node, address or "qemu:virt/" .. node.name, flags)
  else
    handle, place, code = open_function(self, id, address, flags, why)
  end
  if not handle then return nil, place, code end
  if C.luio_qemu_check(self.handle, err) < 0 then -- some of what an opening reads may be missing
    local message, why_code = select(2, runtime.failure())
    C.luio_device_close(handle, nil)
    return nil, ("open %s: %s"):format(address or id, message), why_code
  end
  local dev = device.wrap(handle, options)
  dev.qemu, dev.qemu_place = self, place
  dev.removed = "unplugged from its QEMU machine"
  self.open_devices[dev] = true
  function dev.after_close()
    self.open_devices[dev] = nil
    if not next(self.open_devices) then M.close(self) end
  end
  return dev
end

--- Opens another device of the machine, beside those that are open.
---@param id string  that its -device gave it; or its place, "00:04.0"
---@param options? luio.OpenOptions  without `qemu`
---@return luio.Device?
---@return string? message
---@return string? code  "ENODEV": it has no such PCI device; "EBUSY": it is open already
function Machine:open(id, options)
  if type(id) ~= "string" then error("open wants a device's id, not a " .. type(id), 2) end
  closed(self, "open " .. id, 2)
  options = options_check.check("open", options, OPTIONS)
  local dev, message, code = open(self, id, nil, options)
  if dev and options.vectors then
    local ok
    ok, message, code = vectors.choose(dev, options.vectors)
    if ok then return dev end
    dev:close()
    dev = nil
  end
  if not dev then return nil, ("open %s of %s: %s"):format(id, self.name, message), code end
  return dev
end

-- ---- Its life ------------------------------------------------------------------------------------

-- The loop calls this, so nothing may raise: an error with one device becomes its warning.
local function each_device(self, fn)
  local all = {}
  for dev in pairs(self.open_devices) do table.insert(all, dev) end
  for _, dev in ipairs(all) do
    local ok, message = pcall(fn, dev)
    if not ok and not dev.closed then dev:warn(errors.text(message)) end
  end
end

-- Something has changed: a slot (runtime/qemu_hotplug.c), or QEMU answers no access any more.
local function look(self)
  local changes = C.luio_qemu_changes(self.handle)
  local function has(flag) return bit.band(changes, flag) ~= 0 end
  if has(C.LUIO_QEMU_ENDED) and C.luio_qemu_check(self.handle, err) < 0 then
    local why = ffi.string(err.message)
    return each_device(self, function(dev) dev:vanish(why, "ENODEV") end)
  end
  each_device(self, function(dev) hotplug.check_presence(dev, has(C.LUIO_QEMU_PLUGGED)) end)
end

--- Lets a machine go; it ends, unless a device has it still. For luio.qemu.
---@param self luio.QemuMachine
function M.close(self)
  local handle = self.handle
  self.handle = nil
  if self.changes then self.changes:close() end
  if self.qmp then self.qmp:close() end
  if handle then C.luio_qemu_close(handle) end
  if self.ended then self.ended() end
  self.ended = nil
end

-- Hears QEMU's end, and what changes.
local function listen(self)
  function self.qmp.on_event(event) -- `look` does the rest
    if event.event == "RESET" and self.handle then C.luio_qemu_was_reset(self.handle) end
  end
  function self.qmp.on_end()
    each_device(self, function(one) one:vanish("its QEMU has ended", "ENODEV") end)
  end
  local message, code
  self.changes, message, code = fd_watch.watch(C.luio_qemu_change_fd(self.handle))
  if not self.changes then return nil, message, code end
  self.changes:listen(function() look(self) end)
  return true
end

-- The finalizer is a proxy's, not the handle's: when the Lua state ends, those of cdata come first, and close descriptors that libuv
-- still has. Those of userdata come from the newest to the oldest, so this one after that of the watch.
local function new(handle, name)
  local guard = newproxy(true)
  local self = { handle = handle, guard = guard, pid = C.luio_qemu_pid(handle), open_devices = {}, name = name }
  getmetatable(guard).__gc = function()
    if self.handle then C.luio_qemu_close(self.handle) end
  end
  return setmetatable(self, Machine)
end

local function give_up(self, ...)
  M.close(self)
  return nil, ...
end

--- Starts a machine, and opens a device of it as `address`. For luio.qemu.
---@param arguments string[]  QEMU's program and its arguments
---@param config ffi.cdata*    a luio_qemu_config, without them
---@param describe (fun(machine: ffi.cdata*, qmp: luio.Qmp): luio.TreeDevice[]?, string?, string?)?  reads the board's device tree
---@param id string
---@param address string
---@param options luio.OpenOptions
---@return luio.Device?
---@return string? message
---@return string? code
function M.start(arguments, config, describe, id, address, options)
  local argv = ffi.new("const char *[?]", #arguments + 1)
  for i, text in ipairs(arguments) do argv[i - 1] = text end
  config.argv = argv
  local out = ffi.new "luio_qemu *[1]"
  if C.luio_qemu_open(config, out, err) < 0 then
    local _, why, why_code = runtime.failure()
    if why:find "ivshmem%-doorbell.* is not a valid device" then
      why = why .. ": it brings MSI and MSI-X here, and this QEMU is built without: leave `vectors` out, for INTx"
    end
    return nil, why, why_code
  end
  local self = new(out[0], arguments[1])
  local dev, message, code
  local kept = C.luio_qemu_is_kept(self.handle) ~= 0
  self.qmp, message, code = (kept and qmp.resume or qmp.greet)(C.luio_qemu_qmp_fd(self.handle), self.pid)
  if self.qmp and describe then self.tree, message, code = describe(self.handle, self.qmp) end
  local heard
  if self.qmp and (self.tree or not describe) then heard, message, code = listen(self) end
  if heard then
    dev, message, code = open(self, id, address, options)
  end
  if not dev then return give_up(self, message, code) end
  local lost = C.luio_qemu_lost(self.handle)
  if lost ~= nil then
    dev:warn(("%s has a new machine: the one of the worker that died is lost, with the device's state and its DMA memory: %s"):format(
      address, ffi.string(lost)))
  end
  return dev
end

--- Opens a device of a machine that somebody else started. For luio.qemu.attach.
---@param handle ffi.cdata*  a luio_qemu, this function's from now on
---@param monitor luio.Qmp
---@param name string        for messages
---@param pick fun(list: luio.QemuDevice[]): string?, string?, string?  which of its devices
---@param address_of fun(id: string): string
---@param options luio.OpenOptions
---@return luio.Device?
---@return string? message
---@return string? code
function M.join(handle, monitor, name, pick, address_of, options)
  local self = new(handle, name)
  self.qmp, self.address_of = monitor, address_of
  local list, message, code = listen(self)
  if list then list, message, code = devices(self, monitor.command_now) end
  if not list then return give_up(self, message, code) end
  local id
  id, message, code = pick(list)
  if not id then return give_up(self, message, code) end
  local dev
  dev, message, code = open(self, id, address_of(id), options)
  if not dev then return give_up(self, ("open %s: %s"):format(id, message), code) end
  return dev
end

return M
