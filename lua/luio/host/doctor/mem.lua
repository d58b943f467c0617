--- Checks of a range of physical addresses, mem:0xADDR+0xLEN: anything that could stop /dev/mem from reaching it.
---
--- /dev/mem is not opened, because that needs rights, and under lockdown the kernel would log the attempt.

local uv = require "luv"
local inspect = require "luio.host.inspect"
local sysfs = require "luio.host.sysfs"
local system = require "luio.host.doctor.system"

local M = {}

local CAP_SYS_RAWIO = 17 -- include/uapi/linux/capability.h

--- The range's contents and its owner, as runtime/devmem.c judges them.
---@param say fun(check: string, status: string, text: string, remedy: string?)
---@param at luio.DoctorContext
function M.range(say, at)
  local info = at.info
  if info.problem then
    local device = info.problem:match "`luio bind ([%x:.]+)`" or info.problem:match "open ([%x:.]+) instead"
    return say("range", "problem", info.problem, device and "luio info " .. device or "grep . /proc/iomem")
  end
  local name = info.maps[0].name
  say("range", "ok", name ~= "" and ("it is in %s, which no kernel driver has claimed"):format(name)
    or "the kernel knows of nothing there")
end

--- Whether /dev/mem is there, and this user may open it.
---@param say fun(check: string, status: string, text: string, remedy: string?)
function M.node(say)
  if not sysfs.exists "/dev/mem" then
    return say("node", "problem", "there is no /dev/mem: a container, or a kernel without CONFIG_DEVMEM",
      "mknod -m 640 /dev/mem c 1 1")
  end
  local ok, code = sysfs.access("/dev/mem", "rw")
  if not ok then return say("node", "problem", ("/dev/mem can't be opened: %s"):format(code), "sudo luio ...") end
  if not system.capable(CAP_SYS_RAWIO) then
    return say("node", "problem", "/dev/mem wants CAP_SYS_RAWIO, which this process has not", "sudo luio ...")
  end
  say("node", "ok", "/dev/mem may be opened")
end

--- Whether kernel lockdown forbids /dev/mem.
---@param say fun(check: string, status: string, text: string, remedy: string?)
function M.lockdown(say)
  local mode = inspect.lockdown()
  if not mode or mode == "none" then return say("lockdown", "ok", "no lockdown forbids /dev/mem") end
  say("lockdown", "problem", ("the kernel is locked down (%s): nobody opens /dev/mem"):format(mode),
    "use a UIO driver; or switch secure boot off in the firmware, or boot without lockdown=")
end

--- The kernel's own checks when it maps.
---@param say fun(check: string, status: string, text: string, remedy: string?)
function M.strict(say)
  local config = sysfs.read("/boot/config-" .. uv.os_uname().release)
  if not config then
    return say("strict", "note", "whether this kernel has CONFIG_STRICT_DEVMEM and CONFIG_IO_STRICT_DEVMEM can't be seen "
      .. "(no /boot/config): it may refuse a page that a driver has claimed part of")
  end
  local function has(option) return ("\n" .. config):find("\nCONFIG_" .. option .. "=y", 1, true) ~= nil end
  local relaxed = (" " .. (sysfs.read(sysfs.proc .. "/cmdline") or "") .. " "):find(" iomem=relaxed ", 1, true)
  if has "IO_STRICT_DEVMEM" and not relaxed then
    say("strict", "ok", "CONFIG_IO_STRICT_DEVMEM: the kernel refuses a page that a driver has claimed part of, and takes the "
      .. "range away when one claims it; iomem=relaxed on its command line would change that")
  else
    say("strict", "note", ("%s: that a driver has claimed the range only luio looks at"):format(
      relaxed and "booted with iomem=relaxed" or has "STRICT_DEVMEM" and "CONFIG_STRICT_DEVMEM without CONFIG_IO_STRICT_DEVMEM"
      or "no CONFIG_STRICT_DEVMEM"))
  end
end

--- The limits of /dev/mem: no interrupts and no DMA memory.
---@param say fun(check: string, status: string, text: string, remedy: string?)
function M.limits(say)
  say("limits", "note", "by /dev/mem there are no interrupts and no DMA memory: for prototyping; a UIO driver has both")
end

return M
