--- Checks of one device: anything that could stop a driver from working with it.
---
--- /dev/uioX is not opened, because closing it would clear the bus master bit under the device's
--- driver. access(2) is used instead.

local sysfs = require "luio.host.sysfs"
local inspect = require "luio.host.inspect"
local match = require "luio.driver.match"
local in_use = require "luio.host.in_use"
local holders = require "luio.host.holders"
local rights = require "luio.host.doctor.rights"
local system = require "luio.host.doctor.system"
local vectors = require "luio.device.vectors"

local M = {}

---@class luio.DoctorContext
---@field info luio.Info
---@field config luio.ConfigHeader?
---@field config_problem string?
---@field driver table?  luio's, that matches
---@field driver_name string?
---@field no_driver string?     why there is none; of one that is for it and does not load: why not
---@field lockdown string?

-- ---- Identity ------------------------------------------------------------------------------------

--- Whether the kernel's description of the device is whole, and the device answers.
---@param say fun(check: string, status: string, text: string, remedy: string?)
---@param at luio.DoctorContext
function M.description(say, at)
  if at.info.problem then
    say("description", "problem", "its description has a fault: " .. at.info.problem, "dmesg | grep -i " .. at.info.address)
  end
  if at.config and not at.config.answers then
    local physical = at.config.physical
    say("description", "problem", "its config space reads as all ones: " .. (physical
      and ("was its physical function %s reset, or its driver taken?"):format(physical) or "it is switched off, or fell off the bus"),
      sysfs.remedy(at.info.sysfs, physical
        and ("echo 0 > %s/physfn/sriov_numvfs, then the number that there is to be"):format(at.info.sysfs)
        or ("echo 1 > %s/remove; echo 1 > /sys/bus/pci/rescan"):format(at.info.sysfs)))
  elseif at.config_problem then
    say("description", "problem", "its config space can't be read: " .. at.config_problem, "luio list")
  end
end

--- Writes to config space and to attributes fail for everybody, root too.
---@param say fun(check: string, status: string, text: string, remedy: string?)
---@param at luio.DoctorContext
function M.read_only(say, at)
  local why = at.info.sysfs and sysfs.read_only(at.info.sysfs)
  if not why then return end
  say("sysfs", "problem", "nobody can write to /sys here" .. (at.info.can_bind
    and ": no bind and unbind, no bus master, no interrupts from uio_pci_generic, no regions without a UIO map" or ""), why)
end

-- The `match` of a driver for it.
local function match_of(info)
  if info.vendor then return ('{ pci = "%04x:%04x" }'):format(info.vendor, info.device) end
  if info.compatible[1] then return ("{ of = %q }"):format(info.compatible[1]) end
  return info.uio_name and ("{ uio = %q }"):format(info.uio_name)
end

--- The luio driver that matches, or what a driver's `match` would have to say.
---@param say fun(check: string, status: string, text: string, remedy: string?)
---@param at luio.DoctorContext
function M.luio_driver(say, at)
  if at.driver then
    local others = match.others(at.info, at.driver_name)
    say("luio driver", "ok", ("%s matches%s"):format(at.driver_name, others and "; " .. others or ""))
    if at.no_driver then say("luio driver", "note", at.no_driver) end
    return
  elseif at.driver_name then
    return say("luio driver", "problem", at.no_driver)
  end
  local says = match_of(at.info)
  say("luio driver", "note", (at.no_driver or "no driver") .. "; luio get, set, dump and explore work without one",
    says and ("`luio new NAME %s` begins one, or put match = %s into drivers/NAME/init.lua"):format(at.info.address, says))
end

-- ---- Kernel driver -------------------------------------------------------------------------------

--- The kernel driver that has the device: a UIO driver, another, or none.
---@param say fun(check: string, status: string, text: string, remedy: string?)
---@param at luio.DoctorContext
function M.binding(say, at)
  local info = at.info
  if info.uio then
    return say("kernel driver", "ok", ("%s has it, as %s%s"):format(info.driver or info.uio_name or "a UIO driver", info.uio,
      inspect.one_of(info) and ", " .. inspect.one_of(info) or ""))
  elseif not info.driver then
    return say("kernel driver", "problem", "no kernel driver has it: its registers can be reached, its interrupts can't",
      "luio bind " .. info.address)
  end
  say("kernel driver", "problem", ("the kernel driver %s has it"):format(info.driver), "luio bind " .. info.address)
  for _, use in ipairs(in_use.of(info)) do
    say("in use", "problem", ("%s: luio bind refuses to take it away"):format(use.text), use.remedy)
  end
end

-- Whether its driver has its registers to itself (runtime/guard_bars.c).
local function kept_from(at, code)
  return code == "EACCES" and at.config ~= nil and at.config.bus_master
end

local SHARE = "end its driver; or let the group have them all the same: LUIO_SHARED_BARS, see 60-luio.rules"

--- Whether this user may open the device's node.
---@param say fun(check: string, status: string, text: string, remedy: string?)
---@param at luio.DoctorContext
function M.node(say, at)
  local uio = at.info.uio
  if not uio then return end
  local node = "/dev/" .. uio
  local ok, code = sysfs.access(node, "rw")
  local group = at.info.has_bars and rights.group "luio" ~= "none"
  local on = at.config and at.config.bus_master
  if kept_from(at, code) then
    return say("node", "problem", ("%s can't be opened: %s: bus master is on, and so long its registers are its driver's alone"):format(
      node, code), SHARE)
  elseif ok and group and on and not at.info.shared_bars and sysfs.shared(node) then
    return say("node", "problem", ("bus master is on, and others may open %s: they could have it write to any memory"):format(node),
      "run its driver as root: sudo luio run --user NAME ...")
  elseif ok and group and not on and not sysfs.shared(node) then
    return say("node", "note", ("%s is not the group's: a driver was killed together with its guardian, or udev has not seen it"):format(
      node), "udevadm trigger --action=add --subsystem-match=uio")
  end
  if ok then return say("node", "ok", ("%s may be opened"):format(node)) end
  say("node", "problem", ("/dev/%s can't be opened: %s"):format(uio, code),
    rights.node(code))
end

--- The processes that have the device open.
---@param say fun(check: string, status: string, text: string, remedy: string?)
---@param at luio.DoctorContext
function M.holders(say, at)
  local list, partial = holders.of(at.info)
  for _, holder in ipairs(list) do
    say("holder", holder.drives and "problem" or "note", holders.describe(holder), holder.drives and "kill " .. holder.pid or nil)
  end
  if not list[1] then
    say("holder", partial and "note" or "ok", partial and "nobody that this user can see has it; root sees all" or "nobody has it",
      partial and "sudo luio doctor " .. at.info.address or nil)
  end
end

-- ---- Registers -----------------------------------------------------------------------------------

--- How each region is reached, and whether this user may map it.
---@param say fun(check: string, status: string, text: string, remedy: string?)
---@param at luio.DoctorContext
function M.regions(say, at)
  local info = at.info
  local any, bars = false, info.has_bars
  for i = 0, 9 do
    local way = inspect.way(info, i)
    local bar = info.bars[i]
    if way and bars and way:match "^resource" then
      any = true
      local path = ("%s/%s"):format(info.sysfs, way)
      local ok, code = sysfs.access(path, "rw")
      local what = bar.kind == "port" and "I/O ports" or "memory"
      if at.lockdown and at.lockdown ~= "none" then
        say("regions", "problem", ("region %d (%s) has no UIO map, and lockdown forbids %s"):format(i, what, way),
          "switch secure boot off, or boot without lockdown=")
      elseif not ok then
        say("regions", "problem", ("region %d (%s) is reached by %s, which can't be opened: %s"):format(i, what, way, code),
          kept_from(at, code) and SHARE or code == "ENOENT" and "use another kernel: this one offers no such file"
            or info.uio and rights.write("luio", path) or sysfs.remedy(path, "sudo luio ..."))
      else
        say("regions", "ok", ("region %d (%s) is reached by %s"):format(i, what, way))
      end
    elseif way and inspect.regions(info)[i].port then
      any = true
      if at.lockdown and at.lockdown ~= "none" then
        say("regions", "problem", ("region %d is I/O ports, which lockdown forbids"):format(i),
          "switch secure boot off, or boot without lockdown=")
      else
        say("regions", "ok", ("region %d is reached by %s, with port instructions: that takes root's CAP_SYS_RAWIO"):format(i, way))
      end
    elseif way then
      any = true
      local map = not bars and info.maps[i]
      local reach, length = 0, 0
      if map then reach, length = inspect.reach(map) end
      if reach < length then
        say("regions", "problem", ("region %d has 0x%x bytes at 0x%x, and UIO maps whole pages: 0x%x bytes of it are reached by %s"):format(
          i, length, map.addr, reach, way), ("luio get mem:0x%x+0x%x 0x0"):format(map.addr - map.addr % 8, length + map.addr % 8))
      else
        say("regions", "ok", ("region %d is reached by %s"):format(i, way))
      end
    end
  end
  if not any then
    say("regions", "problem", next(info.ports) and "it has ports only, of a kind that only its UIO driver reaches" or "it has no regions",
      bars and "dmesg | grep -i " .. info.address .. " (was a BAR given no address?)" or nil)
  end
  local config = at.config
  if not config or not config.answers then return end
  for i = 0, 5 do
    local why, remedy = inspect.silent(info, i, config)
    if why and not config.sleeps then -- which M.power tells
      return say("regions", "problem", ("it %s: what is read there is no register's value"):format(why), remedy)
    end
  end
end

-- ---- Interrupt -----------------------------------------------------------------------------------

--- Whether the device has an interrupt, and its UIO driver passes it on.
---@param say fun(check: string, status: string, text: string, remedy: string?)
---@param at luio.DoctorContext
function M.interrupt(say, at)
  local info, config = at.info, at.config
  if not config or not config.answers then return end
  local wants = at.driver and at.driver.irq
  if not config.pin then
    return say("interrupt", wants and "problem" or "note", (config.physical and "a virtual function" or "it")
      .. " has no INTx pin: UIO gives it no interrupts"
      .. (wants and ", but its luio driver waits for them" or ""), "poll its registers; MSI needs another kernel driver")
  elseif not info.irq then
    return say("interrupt", wants and "problem" or "note", ("its pin %s was given no interrupt line"):format(config.pin),
      "dmesg | grep -i " .. info.address)
  end
  if at.lockdown and at.lockdown ~= "none" and info.driver == "uio_pci_generic" then
    return say("interrupt", "problem", "lockdown forbids writing config space, so interrupts can't be unmasked",
      "switch secure boot off, or boot without lockdown=")
  end
  if config.messages and info.driver == "uio_pci_generic" then
    say("interrupt", "problem", ("%s is on, so it drives no line, and uio_pci_generic sees no interrupt; a driver at work sets that right")
      :format(config.messages), sysfs.remedy(info.sysfs, ("setpci -s %s CAP_%s+2.w=0:%s"):format(info.address,
      config.messages, config.messages == "MSI" and "1" or "8000")))
  end
  say("interrupt", "ok", ("%s, line %d%s"):format(config.pin, info.irq,
    config.intx_disable and "; masked now: luio unmasks at the first wait" or ""))
  if info.uio then
    local ok, code = sysfs.access(info.sysfs .. "/config", "rw")
    if not ok and info.driver == "uio_pci_generic" then
      say("interrupt", wants == nil and at.driver and "note" or "problem",
        ("%s/config can't be written (%s): interrupts can't be unmasked"):format(info.sysfs, code),
        rights.write("luio-config", info.sysfs .. "/config"))
    end
  end
end

--- Whether the device has as many vectors as its driver needs.
---@param say fun(check: string, status: string, text: string, remedy: string?)
---@param at luio.DoctorContext
function M.vectors(say, at)
  local info, config, needs = at.info, at.config, at.driver and at.driver.needs
  local kinds = info.kinds or config and { intx = config.pin and 1 or 0, msi = config.msi or 0, msix = config.msix or 0 }
  if not kinds or needs == nil then return end
  local has = vectors.describe(kinds)
  local wants = type(needs) == "number" and ("%d vectors"):format(needs) or needs
  local can = info.is_private and inspect.maker(info) == "QEMU"
  if not vectors.gives(kinds, needs) then
    say("vectors", "problem", ("its luio driver wants %s, and it has %s"):format(wants, has))
  elseif not can and vectors.wants_messages(needs) then
    say("vectors", "problem", ("its luio driver wants %s (it has %s), and this way there is INTx alone"):format(wants, has),
      "a driver with one `irq` works by INTx, too")
  else
    say("vectors", "ok", ("its luio driver wants %s, and it has %s"):format(wants, has))
  end
end

-- ---- DMA -----------------------------------------------------------------------------------------

-- Where the CPU's caches are between it and memory.
local function caches(say, at)
  local info, brings = at.info, false
  for i = 0, 4 do brings = brings or info.maps[i] and info.maps[i].at_open end
  if brings then return say("memory", "ok", "its UIO driver brings memory for DMA") end
  if not info.incoherent then return end
  say("memory", at.driver and at.driver.dma and "problem" or "note",
    "its DMA does not look into the CPU's caches (no dma-coherent in the device tree): luio refuses it ordinary memory",
    "give it a UIO driver that brings memory (uio_dmem_genirq)")
end

--- Whether the device can have DMA memory, with addresses that are right.
---@param say fun(check: string, status: string, text: string, remedy: string?)
---@param at luio.DoctorContext
function M.dma(say, at)
  local info, config = at.info, at.config
  caches(say, at)
  if not info.has_config then return end
  local wants = at.driver and at.driver.dma
  local group = inspect.iommu(info)
  if group and group.type ~= "identity" then
    local n = #group.devices - 1
    local others = n == 1 and ", and the other device of the group" or n > 1 and (", and the %d others of the group"):format(n) or ""
    say("iommu", wants and "problem" or at.driver and "note" or "problem",
      ("the IOMMU translates for it (group %d, %s): physical addresses would fault, so luio refuses DMA"):format(group.group,
        group.type or "its type can't be read"),
      ("boot with iommu=pt; or with it unbound%s: %s"):format(others, sysfs.remedy(info.sysfs .. "/iommu_group/type", nil, "identity")))
  elseif group then
    say("iommu", "ok", ("IOMMU group %d passes addresses through"):format(group.group))
  else
    say("iommu", "ok", "no IOMMU translates for it")
  end
  if not config or not config.answers then return end
  local driven = false
  for _, holder in ipairs((holders.of(info))) do driven = driven or holder.drives end
  if config.bus_master and not driven and (info.uio or not info.driver) then
    say("bus master", "note", "bus master is on, though nobody drives it: it may still write to memory",
      sysfs.remedy(info.sysfs, ("setpci -s %s COMMAND=0:4"):format(info.address)))
  else
    say("bus master", "ok", ("bus master is %s%s"):format(config.bus_master and "on" or "off",
      config.bus_master and "" or wants and "; luio switches it on when the driver starts" or ""))
  end
end

-- ---- Rights that this user lacks ----------------------------------------------------------------

--- The steps that only root, or the group luio-config, could do here; without a luio driver, those that one may want.
---@param say fun(check: string, status: string, text: string, remedy: string?)
---@param at luio.DoctorContext
function M.rights(say, at)
  local info, driver = at.info, at.driver
  if at.lockdown and at.lockdown ~= "none" or info.sysfs and sysfs.read_only(info.sysfs) then return end -- nor could root
  local missing = {}
  local writable = not info.has_config or sysfs.access(info.sysfs .. "/config", "rw")
  local irqs, dma = not driver or driver.irq, not driver or driver.dma
  if not writable and irqs and info.driver == "uio_pci_generic" then table.insert(missing, "unmasking its interrupt") end
  if not writable and dma then table.insert(missing, "switching bus master on") end
  if not system.capable(system.CAP_SYS_ADMIN) and dma then table.insert(missing, "physical addresses for DMA") end
  if not missing[1] then
    return say("rights", "ok", ("%s may do all that %s"):format(rights.who(), driver and "its luio driver wants" or "a driver may want"))
  end
  say("rights", "note", ("%s takes root: %s; luio run gives root up once the driver has started"):format(
    driver and "its luio driver" or "a driver may want what", table.concat(missing, ", ")), rights.as_root(at.driver_name, info.address))
end

-- ---- Power ---------------------------------------------------------------------------------------

--- Whether the device is awake.
---@param say fun(check: string, status: string, text: string, remedy: string?)
---@param at luio.DoctorContext
function M.power(say, at)
  local info = at.info
  local state = inspect.attribute(info, "power_state")
  if not info.has_config then return end
  local config = at.config
  if config and config.answers and config.sleeps then -- which may be more than the kernel knows
    say("power", "problem", ("it sleeps (D%d): registers read as all ones; a driver at work wakes it"):format(config.sleeps),
      sysfs.remedy(info.sysfs, ("setpci -s %s CAP_PM+4.w=0:3"):format(info.address)))
  elseif state and state:match "^D[123]" then
    say("power", "problem", ("it sleeps (%s): registers read as all ones"):format(state),
      sysfs.remedy(info.sysfs .. "/power/control", nil, "on"))
  elseif state == "D0" then
    say("power", "ok", "it is awake (D0)")
  end
  if info.uio and inspect.attribute(info, "enable") == "0" then
    say("power", "problem", "it has a UIO driver, but is disabled",
      ("luio unbind %s; luio bind %s"):format(info.address, info.address))
  end
end

-- ---- A device of QEMU's ---------------------------------------------------------------------------

--- Why a device of QEMU's can't be had: the text, and the remedy if the message ends with one.
---@param message string
---@return string text
---@return string? remedy
function M.refusal(message)
  local text, remedy = message:match "^(.*): (apt install [%w%-]+)$"
  if not text then text, remedy = message:match "^(.*); `(luio list %-%-qemu)` has its devices$" end
  return text or message, remedy
end

--- What it is connected to.
---@param say fun(check: string, status: string, text: string, remedy: string?)
---@param at luio.DoctorContext
function M.back_ends(say, at)
  local qemu = at.info.qemu
  if qemu.added[1] then
    say("back ends", "note", "QEMU refuses it alone; it gets the usual ones: " .. table.concat(qemu.added, " "),
      "name them in qemu.lua of the driver's folder, or by --qemu")
  elseif qemu.wired_by then
    say("back ends", "ok", "those of " .. qemu.wired_by)
  end
end

return M
