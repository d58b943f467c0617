--- The disks, networks and consoles that the system would lose with a PCI device.
---
--- Checked before a device is taken from its kernel driver: a mounted disk, a network interface in
--- use, the console. sysfs has the parts of a device below the device's own folder (a SCSI host, its
--- disk, its partitions). So the search goes up, from each disk and network interface to the device;
--- and down, from a disk to the layers built upon it (LVM, RAID, encryption).

local uv = require "luv"
local sysfs = require "luio.host.sysfs"
local inspect = require "luio.host.inspect"
local holders = require "luio.host.holders"
local term = require "luio.text.term"

local M = {}

local MAX_DEPTH = 8 -- of layers upon a disk or an interface
local NAME, MAX_PATH = 100, 4096 -- bytes of a name that are shown; of a path that Linux knows

---@class luio.Use
---@field text string    "its disk sda1 is mounted on /home"
---@field remedy string  the command that ends it

-- ---- Disks ---------------------------------------------------------------------------------------

-- The folders a block device belongs to. A disk with several paths (NVMe over two ports) lies below
-- none of them, but in a subsystem that links to its controllers.
local function owners(path)
  local list = { path }
  local subsystem = path:match "^(.*/virtual/nvme%-subsystem/[^/]+)/"
  for _, name in ipairs(subsystem and sysfs.entries(subsystem) or {}) do
    if name:match "^nvme%d+$" then table.insert(list, sysfs.real(subsystem .. "/" .. name)) end
  end
  return list
end

-- Disks and partitions of a device: names as in /sys/class/block, in order.
local function disks_of(info)
  local names = {}
  for _, name in ipairs((sysfs.entries "/sys/class/block")) do
    local path = sysfs.real("/sys/class/block/" .. name)
    for _, owner in ipairs(path and owners(path) or {}) do
      if sysfs.is_below(owner, info.sysfs) then
        table.insert(names, name)
        break
      end
    end
  end
  return names
end

local function decode(text) -- "\040" is a space in /proc/self/mountinfo
  return (text:gsub("\\(%d%d%d)", function(digits) return string.char(tonumber(digits, 8) % 256) end))
end

-- Where each block device is mounted, by number ("8:1") and by path ("/dev/sda1": of btrfs only
-- that tells). The first mount point is enough, but the root file system is said first.
local function mounts()
  local at = {}
  for _, line in ipairs(sysfs.proc_lines "self/mountinfo") do
    -- "36 35 98:0 /subtree /mount/point options optional... - type source options"
    local number, point, rest = line:match "^%d+ %d+ (%d+:%d+) %S+ (%S+)(.*)$"
    local kind, source = (rest or ""):match " %- (%S+) (%S+)"
    if source then
      point, source = decode(point), decode(source)
      if kind == "overlay" then at.overlay = point end
      for _, key in ipairs { number, source, kind .. " " .. source } do
        if not at[key] or point == "/" then at[key] = point end
      end
    end
  end
  return at
end

local function swaps()
  local names = {}
  for _, line in ipairs(sysfs.proc_lines "swaps") do
    local path = line:match "^(/%S+)"
    path = path and sysfs.real(decode(path)) or path
    local name = path and path:match "[^/]+$" -- "/" has none
    if name then names[name] = true end
  end
  return names
end

local function node(name)
  return "/dev/" .. name:gsub("!", "/")
end

-- Names as they are shown; and in a command that is to be pasted, whatever the name.
local function shown(name) return term.clean(name, NAME) end
local function quoted(name) return term.quoted(term.clean(name, MAX_PATH)) end

-- True if a disk is claimed: mounting, swapping and joining a RAID or a file system of several disks
-- open it exclusively, so the kernel refuses a second exclusive open. This also finds uses that are
-- in no list. Nothing is read or written.
local function claimed(name)
  local flags = uv.constants.O_RDONLY + uv.constants.O_EXCL + uv.constants.O_NONBLOCK
  local fd, _, code = uv.fs_open(node(name), flags, 0)
  if fd then uv.fs_close(fd) end
  return code == "EBUSY"
end

-- "its disk sda2 is part of dm-0 (home), which is mounted on /home"
local function use(chain, what, remedy)
  local text = "its disk " .. chain[1]
  for i = 2, #chain do text = ("%s%s part of %s"):format(text, i == 2 and " is" or ",", chain[i]) end
  return { text = text .. (chain[2] and ", which " or " ") .. what, remedy = remedy }
end

local function take_apart(name)
  local mapped = sysfs.read(("/sys/class/block/%s/dm/name"):format(name))
  return mapped and "dmsetup remove " .. quoted(mapped) or name:match "^md%d+$" and "mdadm --stop " .. node(name)
    or ("stop %s first"):format(shown(name))
end

-- The uses of a block device, or of layers upon it. `seen`: the devices visited for this disk already. It bounds the walk
-- in a loop (the kernel makes none), and visits a layer that joins several disks once.
local function stands_on(name, at, swap, chain, uses, seen)
  if seen[name] then return end
  seen[name] = true
  local path = "/sys/class/block/" .. name
  local number, mapped = sysfs.read(path .. "/dev"), sysfs.read(path .. "/dm/name")
  local own = { unpack(chain) }
  table.insert(own, mapped and ("%s (%s)"):format(shown(name), shown(mapped)) or shown(name))
  local point = number and at[number] or at[node(name)] or mapped and at["/dev/mapper/" .. mapped]
  if point == "/" then
    table.insert(uses, use(own, "holds the root file system", "boot from another disk"))
  elseif point then
    table.insert(uses, use(own, "is mounted on " .. shown(point), "umount " .. quoted(point)))
  elseif swap[name] then
    table.insert(uses, use(own, "is swap", "swapoff " .. shown(node(name))))
  else
    local uppers = #own < MAX_DEPTH and sysfs.entries(path .. "/holders") or {}
    for _, upper in ipairs(uppers) do
      local before, known = #uses, seen[upper]
      stands_on(upper, at, swap, own, uses, seen)
      if #uses == before and not known then
        table.insert(uses, use(own, "is part of " .. shown(upper), take_apart(upper)))
      end
    end
  end
end

local function disks(info, probe)
  local uses, at, swap, names, used = {}, mounts(), swaps(), disks_of(info), {}
  for _, name in ipairs(names) do
    local before = #uses
    stands_on(name, at, swap, {}, uses, {})
    used[name] = #uses > before
  end
  -- Partitions before their disk, which counts as claimed when one of them is: said once.
  for i = probe and #names or 0, 1, -1 do
    local name = names[i]
    local path, said = sysfs.real("/sys/class/block/" .. name) or "", false
    for other in pairs(used) do
      said = said or used[other] and sysfs.is_below(sysfs.real("/sys/class/block/" .. other), path)
    end
    if not said and claimed(name) then
      used[name] = true
      local path_shown = shown(node(name))
      table.insert(uses, use({ shown(name) }, ("is in use (%s can't be opened exclusively: EBUSY)"):format(path_shown),
        "fuser -v " .. path_shown))
    end
  end
  return uses
end

-- Folders that a virtual machine's host shares are mounted by tag.
local function shared_folders(info)
  local uses, at = {}, mounts()
  for _, child in ipairs((sysfs.entries(info.sysfs))) do
    local tag = child:match "^virtio%d+$" and sysfs.read(("%s/%s/mount_tag"):format(info.sysfs, child), MAX_PATH)
    tag = tag and tag:gsub("%z", "")
    local point = tag and (at["9p " .. tag] or at["virtiofs " .. tag])
    if point then
      table.insert(uses, {
        text = ("its shared folder %s is mounted on %s"):format(shown(tag), shown(point)), remedy = "umount " .. quoted(point),
      })
    elseif tag and at.overlay then -- a mount below an overlay is not visible
      table.insert(uses, {
        text = ("its shared folder %s may be below the overlay on %s"):format(shown(tag), shown(at.overlay)),
        remedy = "grep overlay /proc/self/mountinfo",
      })
    end
  end
  return uses
end

-- ---- Network -------------------------------------------------------------------------------------

local IFF_UP, RTF_REJECT = 0x1, 0x200 -- include/uapi/linux/if.h, route.h

-- Interfaces with a default route.
local function default_routes()
  local by_name = {}
  for _, line in ipairs(sysfs.proc_lines "net/route") do
    local name, destination, mask = line:match "^(%S+)%s+(%x+)%s+%x+%s+%x+%s+%d+%s+%d+%s+%d+%s+(%x+)"
    if name and tonumber(destination, 16) == 0 and tonumber(mask, 16) == 0 then by_name[name] = true end
  end
  for _, line in ipairs(sysfs.proc_lines "net/ipv6_route") do
    local destination, length, flags, name = line:match "^(%x+) (%x+) %x+ %x+ %x+ %x+ %x+ %x+ (%x+)%s+(%S+)"
    if name and destination:match "^0+$" and length == "00" and bit.band(tonumber(flags, 16), RTF_REJECT) == 0 then
      by_name[name] = true
    end
  end
  return by_name
end

-- An interface, and those built upon it: bridges, bonds, VLANs. Each once.
local function stack(name, list, depth)
  if list[name] then return list end
  list[name] = true
  table.insert(list, name)
  for _, entry in ipairs(depth < MAX_DEPTH and sysfs.entries("/sys/class/net/" .. name) or {}) do
    local upper = entry:match "^upper_(.+)$"
    if upper then stack(upper, list, depth + 1) end
  end
  return list
end

local function network(info)
  local uses, routes = {}, default_routes()
  for _, name in ipairs((sysfs.entries "/sys/class/net")) do
    if sysfs.is_below(sysfs.real("/sys/class/net/" .. name), info.sysfs) then
      local route
      for _, one in ipairs(stack(name, {}, 0)) do route = route or routes[one] and one end
      local flags = tonumber(sysfs.read(("/sys/class/net/%s/flags"):format(name)) or "0") or 0
      if route then
        local via = route ~= name and ", as part of " .. shown(route) or ""
        table.insert(uses, {
          text = ("its network interface %s has the default route%s"):format(shown(name), via),
          remedy = "work from a console, or give the route to another interface",
        })
      elseif flags % 2 == IFF_UP then
        table.insert(uses, {
          text = ("its network interface %s is up"):format(shown(name)), remedy = ("ip link set %s down"):format(shown(name)),
        })
      end
    end
  end
  return uses
end

-- ---- Console, bridges ----------------------------------------------------------------------------

local function console(info)
  local uses = {}
  if inspect.attribute(info, "boot_vga") == "1" then
    table.insert(uses, { text = "it is the display that the machine booted with", remedy = "work over the network or a serial line" })
  end
  for name in (sysfs.read "/sys/class/tty/console/active" or ""):gmatch "%S+" do
    if sysfs.is_below(sysfs.real("/sys/class/tty/" .. name), info.sysfs) then
      table.insert(uses, {
        text = ("its serial line %s is the kernel's console"):format(shown(name)), remedy = "boot with another console=",
      })
    end
  end
  return uses
end

local function bridge(info, config)
  -- Class 0x06: bridges; the host's own (00) has nothing behind it, but is the memory controller.
  if config and config.bridge or info.class and math.floor(info.class / 0x10000) == 0x06 then
    return { { text = "it is a bridge, and other devices depend on it", remedy = "bind the device behind it instead" } }
  end
  return {}
end

-- ---- Its drivers --------------------------------------------------------------------------------

--- The processes that drive it by UIO or VFIO.
---@param info luio.Info
---@return luio.Use[]
function M.drivers(info)
  local uses = {}
  for _, holder in ipairs((holders.of(info, true))) do
    if holder.drives then
      table.insert(uses, { text = holders.describe(holder), remedy = "kill " .. holder.pid })
    end
  end
  return uses
end

-- ---- Virtual functions ---------------------------------------------------------------------------

local MOST_NAMED = 8 -- of as many as 65535

-- "0000:01:00.1 (vfio-pci, process 812 (qemu-system-x86) drives it: /dev/vfio/7)"
local function virtual_function(address)
  local info = inspect.find(address)
  local words = { info and info.driver or "no driver" }
  for _, one in ipairs(info and M.drivers(info) or {}) do table.insert(words, one.text) end
  return ("%s (%s)"):format(shown(address), table.concat(words, ", "))
end

-- Virtual functions depend on the driver of their physical function (SR-IOV), which serves their requests.
local function virtual_functions(info)
  local list, names = inspect.virtual(info), {}
  if not list[1] then return {} end
  for i = 1, math.min(#list, MOST_NAMED) do names[i] = virtual_function(list[i]) end
  if #list > MOST_NAMED then table.insert(names, ("and %d more"):format(#list - MOST_NAMED)) end
  return { {
    text = ("its %s it: %s"):format(#list == 1 and "virtual function needs" or #list .. " virtual functions need",
      table.concat(names, ", ")),
    remedy = ("echo 0 > %s/sriov_numvfs, when nobody uses them"):format(info.sysfs),
  } }
end

-- ---- All -----------------------------------------------------------------------------------------

--- The reasons not to take it from its UIO driver: processes that drive it, and its virtual functions.
---@param info luio.Info
---@return luio.Use[]
function M.hold(info)
  local uses = M.drivers(info)
  for _, one in ipairs(virtual_functions(info)) do table.insert(uses, one) end
  return uses
end

--- The uses that the system would lose; empty when none is known.
---@param info luio.Info
---@param probe? boolean  also tries to open its disks exclusively, for a moment; right before taking
---                       the device, not when only looking: another's mount could fail meanwhile
---@return luio.Use[]
function M.of(info, probe)
  local uses = {}
  for _, list in ipairs {
    bridge(info, inspect.config(info)), disks(info, probe), shared_folders(info), network(info), console(info), virtual_functions(info),
    M.drivers(info),
  } do
    for _, one in ipairs(list) do table.insert(uses, one) end
  end
  return uses
end

return M
