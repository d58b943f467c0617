--- Checks of the machine: anything that could stop a driver in kernel, rights, memory, IOMMU.
---
--- Each check is a function that adds findings. It only reads files, and uses access(2) for those
--- that it must not open.

local ffi = require "ffi"
local uv = require "luv"
local lua_process = require "luio.host.lua_process"
local runtime = require "luio.ffi"
local output = require "luio.tool.output"
local paths = require "luio.driver.paths"
local term = require "luio.text.term"
local top_half = require "luio.top_half"
local sysfs = require "luio.host.sysfs"
local inspect = require "luio.host.inspect"
local match = require "luio.driver.match"
local rights = require "luio.host.doctor.rights"
local C, err = runtime.C, runtime.err

local M = {}

-- ---- Kernel modules ------------------------------------------------------------------------------

-- "loaded", "built in", "available" or nil, of a module and the kernel of this machine.
local function module_state(name)
  if sysfs.exists("/sys/module/" .. name) then
    return sysfs.exists(("/sys/module/%s/initstate"):format(name)) and "loaded" or "built in"
  end
  local dir = "/lib/modules/" .. uv.os_uname().release
  -- modprobe takes - and _ for the same; file names have either.
  local file = "/" .. name:gsub("_", "[-_]") .. "%.ko"
  for _, list in ipairs { { "modules.builtin", "built in" }, { "modules.dep", "available" } } do
    if (sysfs.read(dir .. "/" .. list[1]) or ""):find(file) then return list[2] end
  end
end

--- The modules that `luio bind` needs.
---@param say fun(check: string, status: string, text: string, remedy: string?)
function M.modules(say)
  for _, name in ipairs { "uio", "uio_pci_generic" } do
    local state = module_state(name)
    if state == "loaded" or state == "built in" then
      say("module", "ok", ("%s is %s"):format(name, state))
    elseif state then
      say("module", "note", ("%s is not loaded; luio bind does that"):format(name), "modprobe " .. name)
    elseif name == "uio_pci_generic" and not sysfs.exists "/sys/bus/pci/devices" then
      say("module", "note", "uio_pci_generic is not in this kernel, and there is no PCI bus")
    else
      say("module", "problem", ("%s is neither in this kernel (%s) nor among its modules"):format(name, uv.os_uname().release),
        ("use a kernel with CONFIG_%s=m, or build the module against its headers"):format(name:upper()))
    end
  end
end

--- The module for devices of the device tree.
---@param say fun(check: string, status: string, text: string, remedy: string?)
function M.device_tree(say)
  local state = module_state "uio_pdrv_genirq"
  if state == "available" then
    say("module", "note", "uio_pdrv_genirq (UIO for device-tree devices) is not loaded", "modprobe uio_pdrv_genirq of_id=generic-uio")
  elseif state then
    say("module", "ok", "uio_pdrv_genirq is " .. state)
  else
    say("module", "note", "uio_pdrv_genirq, for devices of the device tree, is not in this kernel (Debian's have none); PCI needs none",
      "if you have such devices, build drivers/uio/uio_pdrv_genirq.c of the kernel's source as a module")
  end
end

-- ---- Rights --------------------------------------------------------------------------------------

local CAP_IPC_LOCK, CAP_SYS_RAWIO, CAP_SYS_ADMIN, CAP_SYS_NICE = 14, 17, 21, 23 -- include/uapi/linux/capability.h

M.CAP_SYS_ADMIN = CAP_SYS_ADMIN

--- Whether this process has a capability in force.
---@param number integer  include/uapi/linux/capability.h
---@return boolean
function M.capable(number)
  local mask = (sysfs.read(sysfs.proc .. "/self/status") or ""):match "CapEff:%s*(%x+)"
  if not mask then return uv.getuid() == 0 end
  -- 64 bits are too many for a number: the hexadecimal digit that holds the bit.
  local digit = tonumber(mask:sub(-1 - math.floor(number / 4), -1 - math.floor(number / 4)), 16) or 0
  return math.floor(digit / 2 ^ (number % 4)) % 2 == 1
end

local capable = M.capable

-- A limit of this process: bytes or a priority; math.huge for none.
local function limit(name)
  for _, line in ipairs(sysfs.proc_lines "self/limits") do
    if line:sub(1, #name) == name then
      local soft = line:sub(#name + 1):match "^%s+(%S+)"
      return soft == "unlimited" and math.huge or sysfs.whole(soft)
    end
  end
end

local whoami = rights.who

--- For a device whose driver does no DMA, missing needs of DMA are no problem.
---@param say fun(check: string, status: string, text: string, remedy: string?)
---@param at? luio.DoctorContext
function M.permission(say, at)
  local who = whoami()
  local without_dma = at and at.driver and not at.driver.dma
  if capable(CAP_SYS_ADMIN) then
    say("permission", "ok", who .. " has CAP_SYS_ADMIN: DMA memory can be had")
  else
    say("permission", without_dma and "note" or "problem",
      who .. " has no CAP_SYS_ADMIN: the kernel hides physical addresses, so there is no DMA memory",
      rights.as_root(at and at.driver_name, at and at.info.address))
  end
  if uv.getuid() ~= 0 and not at then
    local may = rights.group "luio-config" == "member"
    if may then say("permission", "ok", who .. " is in the group luio-config: config space of devices that a UIO driver has may be written")
    else
      say("permission", "problem", "config space is root's: no bus master, and no interrupts from uio_pci_generic",
        rights.write("luio-config", "/sys"))
    end
  end
  if not capable(CAP_SYS_RAWIO) and not at then
    say("permission", "note", who .. " has no CAP_SYS_RAWIO: no /dev/mem; UIO and PCI need it not")
  end
end

--- Whether this user may open the nodes of UIO devices.
---@param say fun(check: string, status: string, text: string, remedy: string?)
function M.nodes(say)
  local found, denied, reason = 0, {}, nil
  for _, name in ipairs((sysfs.entries "/sys/class/uio")) do
    found = found + 1
    local ok, code = sysfs.access("/dev/" .. name, "rw")
    if not ok then
      table.insert(denied, ("/dev/%s (%s)"):format(term.clean(name), code))
      if reason ~= "EACCES" then reason = code end -- which asks for more
    end
  end
  if found == 0 then
    say("nodes", "note", "no device has a UIO driver now", "luio bind ADDRESS (luio list shows them)")
  elseif denied[1] then
    say("nodes", "problem", ("%s can't open %s"):format(whoami(), table.concat(denied, ", ")),
      rights.node(reason))
  else
    say("nodes", "ok", ("%s may open %s"):format(whoami(), found == 1 and "the UIO device" or "all " .. found .. " UIO devices"))
  end
end

--- Whether the kernel is locked down.
---@param say fun(check: string, status: string, text: string, remedy: string?)
function M.lockdown(say)
  local mode, code = inspect.lockdown()
  if mode == "none" then
    say("lockdown", "ok", "the kernel is not locked down")
  elseif mode then
    say("lockdown", "problem", ("the kernel is locked down (%s): config space can't be written, so no bus master and no interrupts from "
      .. "uio_pci_generic; BARs without a UIO map, and /dev/mem, are out of reach"):format(mode),
      "switch secure boot off in the firmware (mokutil --disable-validation), or boot without lockdown=")
  else
    local mounted = sysfs.exists "/sys/kernel/security" and sysfs.entries("/sys/kernel/security")[1]
    if code == "ENOENT" and not mounted then
      say("lockdown", "note", "whether the kernel is locked down can't be seen: securityfs is not mounted",
        "mount -t securityfs securityfs /sys/kernel/security")
    else
      say("lockdown", "ok", "this kernel has no lockdown")
    end
  end
end

--- Checks that the files of the other checks can be read.
---@param say fun(check: string, status: string, text: string, remedy: string?)
function M.descriptors(say)
  local ok, message = runtime.descriptors("doctor", 16)
  if not ok then say("descriptors", "problem", message .. "; the rest may be wrong", "ulimit -n 1024") end
end

--- Whether /sys, by which devices are bound, enabled and switched, can be written by anybody.
---@param say fun(check: string, status: string, text: string, remedy: string?)
function M.read_only(say)
  local why = sysfs.read_only "/sys"
  if not why then return end
  say("sysfs", "problem", "nobody can write to /sys here: no bind and unbind, no bus master, no interrupts from uio_pci_generic", why)
end

-- ---- Memory --------------------------------------------------------------------------------------

--- Whether hugepages are free for DMA memory.
---@param say fun(check: string, status: string, text: string, remedy: string?)
function M.hugepages(say)
  local free_any, lines = false, {}
  for _, pages in ipairs(sysfs.hugepages()) do
    free_any = free_any or pages.free > 0
    table.insert(lines, ("%d of %d pages of %s free"):format(pages.free, pages.total, output.size(pages.size)))
  end
  if not lines[1] then
    return say("hugepages", "note", "this kernel has no hugepages: DMA buffers of at most 4096 bytes",
      "use a kernel with CONFIG_HUGETLBFS=y")
  end
  local text = table.concat(lines, ", ")
  if free_any then return say("hugepages", "ok", text) end
  say("hugepages", "note", text .. ": DMA buffers of at most 4096 bytes", sysfs.remedy("/proc/sys/vm/nr_hugepages", nil, "32"))
end

--- Whether DMA memory can be pinned.
---@param say fun(check: string, status: string, text: string, remedy: string?)
function M.pins(say)
  if C.luio_dma_can_pin(err) == 0 then
    return say("pins", "ok", "DMA memory can be pinned (io_uring): the kernel does not move it")
  end
  local message, remedy = ffi.string(err.message):match "^(.-: .-): (.*)$"
  say("pins", "note", ("DMA memory can't be pinned (%s): it is checked every second, and the device stopped if it moved"):format(message),
    remedy)
end

--- How much memory this process may lock.
---@param say fun(check: string, status: string, text: string, remedy: string?)
function M.memlock(say)
  local bytes = limit "Max locked memory"
  if capable(CAP_IPC_LOCK) then
    say("memlock", "ok", "locked memory has no limit (CAP_IPC_LOCK)")
  elseif not bytes or bytes < 65536 then
    say("memlock", "note", ("%s may lock %s bytes of memory: too little for DMA buffers without hugepages"):format(
      whoami(), bytes and ("%d"):format(bytes) or "few"),
      "ulimit -l unlimited (memlock in /etc/security/limits.conf)")
  else
    say("memlock", "ok", bytes == math.huge and "locked memory has no limit" or ("%d KiB of memory may be locked"):format(bytes / 1024))
  end
end

--- Whether interrupt threads may have real-time priority.
---@param say fun(check: string, status: string, text: string, remedy: string?)
function M.realtime(say)
  local priority = limit "Max realtime priority"
  if capable(CAP_SYS_NICE) then
    say("realtime", "ok", "interrupt threads may have real-time priority (CAP_SYS_NICE)")
  elseif priority and priority > 0 then
    say("realtime", "ok", ("interrupt threads may have real-time priority up to %d"):format(priority))
  else
    say("realtime", "note", "interrupt threads can't have real-time priority (priority = N of an interrupt)",
      "ulimit -r 50 (rtprio in /etc/security/limits.conf)")
  end
end

-- ---- IOMMU ---------------------------------------------------------------------------------------

--- Whether an IOMMU translates the addresses of DMA.
---@param say fun(check: string, status: string, text: string, remedy: string?)
function M.iommu(say)
  local units = sysfs.names "/sys/class/iommu"
  local groups, identity, example = 0, 0, nil
  for _, group in ipairs((sysfs.entries "/sys/kernel/iommu_groups")) do
    groups = groups + 1
    local kind = sysfs.word(("/sys/kernel/iommu_groups/%s/type"):format(group))
    if kind == "identity" then identity = identity + 1 else example = example or kind end
  end
  if not units[1] and groups == 0 then
    return say("iommu", "ok", "no IOMMU is in use: devices see physical addresses")
  end
  local options = {}
  for word in (sysfs.read(sysfs.proc .. "/cmdline", 4096) or ""):gmatch "%S*iommu%S*" do table.insert(options, term.clean(word)) end
  local booted = options[1] and (" (booted with %s)"):format(table.concat(options, " ")) or ""
  local name = units[1] and ("IOMMU %s"):format(table.concat(units, ", ")) or "an IOMMU"
  if identity == groups then
    return say("iommu", "ok", ("%s: all %d groups pass addresses through%s"):format(name, groups, booted))
  end
  say("iommu", "problem", ("%s: %d of %d groups translate (%s)%s: no DMA by physical addresses for the devices in them"):format(
    name, groups - identity, groups, example or "type can't be read", booted),
    "boot with iommu=pt, or for one unbound device: echo identity > /sys/bus/pci/devices/ADDRESS/iommu_group/type")
end

-- ---- Drivers -------------------------------------------------------------------------------------

local LOADING = 5 -- seconds

--- Loads a driver: returns its needs, or the reason why it does not load. In a process of its own (luio.host.lua_process), because
--- a driver that loops must not block doctor.
---@param find fun(): string?, table?, string?  name, driver, message: as match.driver_of
---@return string? name
---@return { name: string, irq: boolean?, dma: boolean?, top_half: string?, needs: luio.VectorsWanted? }? driver
---@return string? message
function M.try(find)
  local result, message = lua_process.run(LOADING, function()
    local name, driver, why = find()
    return { name = name, message = why, driver = driver and { name = driver.name, irq = driver.irq ~= nil or nil,
      dma = driver.dma ~= nil or nil, top_half = driver.irq and top_half.summary(driver.irq),
      needs = require("luio.driver.setup").needs(driver) } }
  end)
  if not result then return nil, nil, message end
  return result.name, result.driver, result.message
end

--- Luio's drivers that do not load, with the reason.
---@param say fun(check: string, status: string, text: string, remedy: string?)
function M.drivers(say)
  for _, entry in ipairs(match.all()) do
    local name, _, message = M.try(function()
      local driver, why = require("luio.driver").load(entry.name)
      return driver and driver.name, driver, why
    end)
    if not name then
      say("driver", "problem", match.load_failure(entry.name, message or ""), "luio lint " .. term.quoted(entry.name))
    elseif entry.unclear then
      say("driver", "note", ("only running driver %s tells what it matches (%s): list, info and completion leave it out"):format(
        entry.name, entry.unclear), "state match as a table of strings")
    end
  end
end

--- The current folder's drivers/: whether it is used, and if not, why.
---@param say fun(check: string, status: string, text: string, remedy: string?)
function M.folder(say)
  local here = paths.implicit_folder()
  if here then say("drivers", "ok", ("%s/drivers is used, too: nobody else may write to it"):format(here)) end
  for _, root in ipairs(paths.refused()) do
    say("drivers", "note", ("%s/drivers is not used, because %s: whoever can write there would have his Lua run by %s"):format(
      root.dir, root.reason, whoami()), root.remedy or ("LUIO_DRIVERS=%s luio ..., if that is meant"):format(term.quoted(root.dir)))
  end
end

return M
