--- The devices of this machine, as discovery (runtime/discovery.c) found them. Opens nothing.

local bit = require "bit"
local ffi = require "ffi"
local bits = require "luio.registers.bits"
local runtime = require "luio.ffi"
local C, err = runtime.C, runtime.err
local text = ffi.string

local M = {}

--- A memory or port range of a device, as the kernel describes it.
---@class luio.InfoMap
---@field name string
---@field addr integer|ffi.cdata*  bus address, as the kernel gives it; a uint64_t from 2^53 on
---@field size integer     bytes, rounded up to pages
---@field offset integer   where in its first page it begins
---@field length integer?  how many bytes there are from there on, where that is not `size`
---@field at_open boolean? memory that the UIO driver allocates when it is opened; until then addr is 0

--- The description of a device that is present, open or not.
---@class luio.Info
---@field address string       how to open it
---@field uio string?          "uio0"; nil: no UIO driver is bound
---@field uio_name string?
---@field uio_version string?
---@field event integer        interrupts counted so far
---@field bus string           for display: "pci", "platform", "sim", "mem"; code tests the abilities below
---@field has_sysfs boolean    the kernel knows the device: a directory in sysfs, ids or names to match, hot-plug events
---@field has_config boolean   config space and a bus master switch
---@field has_bars boolean     region N is BAR N
---@field has_interrupts boolean  the way to it brings interrupts; whether the device has one is told on use
---@field has_dma boolean      the same of DMA memory
---@field can_leave boolean    it can go away while it is open, and come back
---@field can_bind boolean     `luio bind` and `unbind` can exchange its kernel driver
---@field is_private boolean   only this process has it, and no kernel driver can: a model
---@field is_range boolean     a range of physical addresses: any kernel driver may claim and release it, without an event
---@field node string?         the device node that leads to it: "/dev/uio0", "/dev/mem"
---@field driver string?       the kernel driver of the parent, or the one that claims the range
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
---@field shared_bars boolean? udev's rules say LUIO_SHARED_BARS=1: other processes may have its registers while bus master is on
---@field incoherent boolean?  its DMA is not cache-coherent, so ordinary memory can't be used
---@field maps table<integer, luio.InfoMap>
---@field ports table<integer, { name: string, start: integer, size: integer, porttype: string }>
---@field bars table<integer, { kind: "memory"|"port", addr: integer, size: integer, prefetchable: boolean, is64: boolean, map: integer? }>
---@field problem string?      faults in its description; the reason why the range is refused

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
  info.is_private, info.is_range = not info.can_leave, info.can_leave and not info.has_sysfs
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
  if C.luio_list_open(out, err) < 0 then return runtime.failure() end
  local list = out[0]
  local infos = {}
  for i = 0, tonumber(C.luio_list_count(list)) - 1 do
    infos[i + 1] = M.info(C.luio_list_get(list, i))
  end
  C.luio_list_close(list)
  return infos
end

return M
