--- Reads the data of one device in sysfs that luio.list() does not have, without touching the
--- device.
---
--- Neither /dev/uioX nor a BAR is opened. Config space is read, which has no side effects. Ordinary
--- users see its first 64 bytes only; later fields are left out then. (PCI Local Bus 3.0, 6.1)

local ffi = require "ffi"
local runtime = require "luio.ffi"
local addresses = require "luio.host.address"
local discovery = require "luio.host.discovery"
local sysfs = require "luio.host.sysfs"
local term = require "luio.text.term"

local M = {}

-- PCI Local Bus 3.0, figure 6-1.
local COMMAND, HEADER_TYPE, INTERRUPT_PIN = 0x04, 0x0e, 0x3d
-- Its table 6-1: bits of the command register.
local STATUS, CAPABILITY_LIST = 0x06, 0x34
local INTERRUPT = 0x08 -- of the status register
local CAPABILITIES = 0x10 -- of the status register: it has a list of them, of at most so many:
local MOST_CAPABILITIES = 48
local PM, MSI, MSIX = 0x01, 0x05, 0x11
-- Single Root I/O Virtualization and Sharing 1.1, 3.3: an extended capability (PCI Express), and bits of its control word.
local EXTENDED, CONFIG_SIZE, SRIOV, SRIOV_CONTROL = 0x100, 4096, 0x10, 0x08
local VF_ENABLE, VF_MEMORY_SPACE = 0x1, 0x8
local IO_SPACE, MEMORY_SPACE, BUS_MASTER, INTX_DISABLE = 0x1, 0x2, 0x4, 0x400

--- Finds a device by address, as luio.open does, but does not open it.
---@param address string
---@return luio.Info? info
---@return string? message
---@return string? code  "ENODEV", "EINVAL"
function M.find(address)
  if addresses.made(address) and addresses.find_made then return addresses.find_made(address) end
  if address:find("\0", 1, true) then return nil, "a device address has no NUL byte in it", "EINVAL" end
  local raw = ffi.new "luio_info"
  if runtime.C.luio_find(address, raw, runtime.err) < 0 then
    local _, message, code = runtime.failure()
    if code == "EINVAL" and message:match '^"' then message = message .. sysfs.address_hint(address) end
    return nil, message, code
  end
  return discovery.info(raw)
end

--- The UIO devices of a device, by number: a PCI device may have one for each vector.
---@param info luio.Info
---@return string[] names  more than one, or none: then its address says all
function M.siblings(info)
  local numbers, names = info.uio and info.sysfs and sysfs.numbered(info.sysfs .. "/uio", "^uio(%d+)$") or {}, {}
  for i, n in ipairs(numbers[2] and numbers or {}) do names[i] = "uio" .. n end
  return names
end

--- The address that opens this device and no other.
---@param info luio.Info
---@return string
function M.opens(info)
  return M.siblings(info)[1] and info.uio or info.address
end

--- That a device is one of several UIO devices of a PCI device.
---@param info luio.Info
---@return string?
function M.one_of(info)
  local names = M.siblings(info)
  return names[1] and ("one of %d UIO devices of %s: %s"):format(#names, info.address, table.concat(names, " ")) or nil
end

---@class luio.ConfigHeader
---@field answers boolean       false: every bit reads as one, so no device answers
---@field physical string?      of a virtual function: the address of its physical function
---@field command integer
---@field memory boolean?       it decodes its memory BARs; nil: of a virtual function, what only root can read
---@field ports boolean         it decodes its I/O BARs
---@field bus_master boolean
---@field intx_disable boolean  INTx is masked
---@field interrupts boolean    it holds its INTx line, masked or not
---@field pin string?           "INTA" to "INTD"; nil: it has no INTx pin, as no virtual function has
---@field bridge boolean
---@field sleeps integer?       its power state, 1 to 3; nil: D0 or unknown
---@field messages "MSI"|"MSIX"?  it sends these in place of INTx
---@field msi integer?       vectors that it has by MSI; nil: none, or this user can't see it
---@field msix integer?      by MSI-X

-- The control words of its capabilities, by id: two bytes at an offset from where each begins. 0: it is not there, or not seen.
local function control(bytes, id, offset)
  local at = bit.band(bytes:byte(STATUS + 1), CAPABILITIES) ~= 0 and bytes:byte(CAPABILITY_LIST + 1) or 0
  for _ = 1, MOST_CAPABILITIES do
    at = at - at % 4
    if at < 64 or at + offset + 2 > #bytes then return 0 end
    if bytes:byte(at + 1) == id then return bytes:byte(at + offset + 1) + 256 * bytes:byte(at + offset + 2) end
    at = bytes:byte(at + 2)
  end
  return 0
end

local function has_capability(bytes, id) return control(bytes, id, 0) % 256 == id end

--- The physical function of a virtual one (SR-IOV).
---@param info luio.Info
---@return string? address
function M.physical(info)
  local physical = info.has_config and info.sysfs and sysfs.link(info.sysfs .. "/physfn")
  return physical and term.clean(physical) or nil
end

--- The virtual functions of a physical one, in order.
---@param info luio.Info
---@return string[] addresses
function M.virtual(info)
  local numbers, list = info.has_config and info.sysfs and sysfs.numbered(info.sysfs, "^virtfn(%d+)$") or {}, {}
  for i, n in ipairs(numbers) do list[i] = term.clean(sysfs.link(("%s/virtfn%d"):format(info.sysfs, n)) or "virtfn" .. n) end
  return list
end

-- Whether the virtual functions of a physical one decode their memory: one switch for all of them. Nil: the extended part of
-- config space is hidden from this user.
local function virtual_memory(folder)
  local bytes = sysfs.bytes(folder .. "/config", CONFIG_SIZE) or ""
  local at = EXTENDED
  for _ = 1, (CONFIG_SIZE - EXTENDED) / 8 do
    if at < EXTENDED or at + SRIOV_CONTROL + 2 > #bytes then return nil end
    local low, middle, high = bytes:byte(at + 1), bytes:byte(at + 3), bytes:byte(at + 4)
    if low + 256 * bytes:byte(at + 2) == SRIOV then
      return bit.band(bytes:byte(at + SRIOV_CONTROL + 1), VF_ENABLE + VF_MEMORY_SPACE) == VF_ENABLE + VF_MEMORY_SPACE
    end
    at = math.floor(middle / 16) + 16 * high
    at = at - at % 4
  end
end

--- The header of a PCI device's config space. A virtual function's ids and memory enable are in its physical function (SR-IOV
--- 1.1, 3.4.1) and are taken from there.
---@param info luio.Info
---@return luio.ConfigHeader?
---@return string? message
---@return string? code  "ENOTSUP": not a PCI device
function M.config(info)
  if not info.has_config or not info.sysfs then return nil, info.address .. " is not a PCI device", "ENOTSUP" end
  local bytes, message, code = sysfs.bytes(info.sysfs .. "/config", 256)
  if not bytes then return nil, message, code end
  if #bytes < 64 then return nil, ("%s/config has %d bytes, not 64"):format(info.sysfs, #bytes), "EIO" end
  local command = bytes:byte(COMMAND + 1) + 256 * bytes:byte(COMMAND + 2)
  local function has(mask) return bit.band(command, mask) ~= 0 end
  local pin = bytes:byte(INTERRUPT_PIN + 1)
  local sleeps = control(bytes, PM, 4) % 4
  local physical, memory = M.physical(info), has(MEMORY_SPACE)
  local msi, msix = control(bytes, MSI, 2), control(bytes, MSIX, 2)
  if physical then pin, memory = 0, virtual_memory(info.sysfs .. "/physfn") end
  return {
    physical = physical,
    sleeps = sleeps > 0 and sleeps or nil,
    messages = msi % 2 == 1 and "MSI" or msix >= 0x8000 and "MSIX" or nil,
    msi = has_capability(bytes, MSI) and 2 ^ (math.floor(msi / 2) % 8) or nil,
    msix = has_capability(bytes, MSIX) and msix % 2048 + 1 or nil,
    answers = bytes:sub(1, 8) ~= ("\255"):rep(8), command = command, memory = memory, ports = has(IO_SPACE),
    bus_master = has(BUS_MASTER), intx_disable = has(INTX_DISABLE),
    interrupts = bit.band(bytes:byte(STATUS + 1), INTERRUPT) ~= 0, bridge = bytes:byte(HEADER_TYPE + 1) % 128 ~= 0,
    pin = pin >= 1 and pin <= 4 and "INT" .. ("ABCD"):sub(pin, pin) or nil,
  }
end

--- The reason why a mapped region of a PCI device does not answer: reads give ones or zeros, and writes are lost. Nil: no
--- reason is known.
---@param info luio.Info
---@param index integer
---@param config luio.ConfigHeader?  nil: not on PCI, or it can't be read
---@return string? why    "sleeps (D3)": the device's name or "it" comes before it
---@return string? remedy  a command
function M.silent(info, index, config)
  local bar = info.bars[index]
  if not config or not bar then return nil end
  if not config.answers then return "does not answer: its config space reads as all ones", "luio doctor " .. info.address end
  local function remedy(command) return sysfs.remedy(info.sysfs, command) end
  if config.sleeps then return ("sleeps (D%d)"):format(config.sleeps), remedy(("setpci -s %s CAP_PM+4.w=0:3"):format(info.address)) end
  local port = bar.kind == "port"
  if port and config.ports or not port and config.memory ~= false then return nil end
  if config.physical then
    return ("does not decode its memory (%s says so for all its virtual functions)"):format(config.physical),
      remedy(("echo 0 > %s/physfn/sriov_numvfs, then the number that there is to be"):format(info.sysfs))
  end
  local switch = ("setpci -s %s COMMAND=%s"):format(info.address, port and "1:1" or "2:2")
  -- The kernel refuses this while a driver has the device, and only counts where it was enabled already.
  if not info.driver and M.attribute(info, "enable") == "0" then switch = ("echo 1 > %s/enable"):format(info.sysfs) end
  return ("does not decode its %s (command register 0x%04x)"):format(port and "I/O ports" or "memory", config.command), remedy(switch)
end

--- The same for several regions at this time, as a sentence with the remedy.
---@param info luio.Info
---@param regions? table<integer, any>  their numbers as keys; else all
---@return string?
function M.unanswered(info, regions)
  local config = M.config(info)
  for i in pairs(config and (regions or info.bars) or {}) do
    local why, remedy = M.silent(info, i, config)
    if why then
      return ("%s %s: what is read there is no register's value, and writes are lost; %s"):format(info.address, why, remedy)
    end
  end
end

--- The state of a UIO device's interrupt as the kernel shows it, without opening the device: the UIO core asks for
--- the line under the device's name.
---@param info luio.Info  of a device that a UIO driver has
---@return integer[]? lines  those of that name; more than one UIO device may have it. Nil: this kernel does not show them
function M.uio_lines(info)
  local lines, seen = {}, false
  for _, line in ipairs(sysfs.numbered("/sys/kernel/irq", "^(%d+)$")) do
    local actions = sysfs.read(("/sys/kernel/irq/%d/actions"):format(line), 4096)
    seen = seen or actions ~= nil
    for name in (actions or ""):gmatch "[^,]+" do
      if name == info.uio_name then table.insert(lines, line) end
    end
  end
  return seen and lines or nil
end

---@class luio.IommuGroup
---@field group integer
---@field type string?       "identity": addresses pass through; others translate; nil: can't be read
---@field devices string[]   that share the group

--- The IOMMU group of a device; nil: none, so no translation.
---@param info luio.Info
---@return luio.IommuGroup?
function M.iommu(info)
  if not info.sysfs or info.sysfs == "" then return nil end
  local link = info.sysfs .. "/iommu_group"
  local group = sysfs.whole(sysfs.link(link))
  if not group then return nil end
  return { group = group, type = sysfs.word(link .. "/type"), devices = sysfs.names(link .. "/devices") }
end

--- An attribute of the device's folder: a word or two.
---@param info luio.Info
---@param name string  "power_state"
---@return string?
function M.attribute(info, name)
  return info.sysfs and sysfs.word(info.sysfs .. "/" .. name) or nil
end

-- Off PCI the ports follow the last map (runtime/backend_uio.c).
local function first_port(info)
  for i = 15, 0, -1 do
    if info.maps[i] then return i + 1 end
  end
  return 0
end

--- A device's regions, as luio numbers them: BARs, or UIO maps and then ports.
---@param info luio.Info
---@return table<integer, table>  entries of info.bars, info.maps, info.ports; those of ports with kind and addr, too
function M.regions(info)
  if info.has_bars then return info.bars end
  local list, first = {}, first_port(info)
  for i = 0, 15 do
    local port = info.ports[i]
    list[i] = list[i] or info.maps[i]
    if port then
      list[first + i] = {
        kind = "port", name = port.name, addr = port.start, start = port.start, size = port.size, porttype = port.porttype, port = i,
      }
    end
  end
  return list
end

local PAGE, KERNELS = 4096, 2 ^ 52 -- beyond that are addresses of the kernel's own memory, which UIO rounds to pages

--- How much of a UIO map UIO maps: whole pages, where it is physical memory (runtime/backend_uio.c).
---@param map table  entry of info.maps
---@return integer bytes
---@return integer length  the length of the map
function M.reach(map)
  local length = map.length or map.size
  if map.at_open or type(map.addr) ~= "number" or map.addr >= KERNELS then return length, length end -- from 2^53 on it is a text
  if map.addr % PAGE ~= 0 then return 0, length end
  return math.max(0, math.min(length, map.size - map.size % PAGE - map.offset)), length
end

--- What stands behind a device that is made when it is opened.
---@param info luio.Info
---@return string
function M.maker(info)
  return addresses.made(info.address) == "qemu" and "QEMU" or "its model"
end

--- How luio would reach a region.
---@param info luio.Info
---@param index integer
---@return string?
function M.way(info, index)
  local bar = info.bars[index]
  if info.is_private then return M.maker(info) end
  if info.is_range then return index == 0 and info.node or nil end
  if not info.has_bars then
    local region = info.uio and M.regions(info)[index]
    if not region then return nil end
    if not region.port then return ("%s map%d"):format(info.uio, index) end
    return region.porttype == "port_x86" and ("%s port%d"):format(info.uio, region.port) or nil
  end
  if not bar then return nil end
  return bar.map and info.uio and ("%s map%d"):format(info.uio, bar.map) or "resource" .. index
end

--- The kernel's lockdown mode: "none", "integrity", "confidentiality"; nil: it has no lockdown, or
--- does not show it (then `code` says why).
---@return string? mode
---@return string? code  "ENOENT"
function M.lockdown()
  local text, _, code = sysfs.read "/sys/kernel/security/lockdown"
  return text and text:match "%[(%a+)%]", code
end

return M
