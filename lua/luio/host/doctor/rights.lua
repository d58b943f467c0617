--- The rights of an ordinary user, and the way to more: a group of `make install-system` (runtime/system/60-luio.rules), or
--- root that is given up once the driver has started.
---
---     luio          /dev/uioX and BARs: map, and wait where the kernel driver unmasks by itself or on a write to /dev/uioX;
---                   of a PCI device only while its bus master is off
---     luio-config   config space: unmask with uio_pci_generic, switch bus master
---     root          physical addresses, for DMA (CAP_SYS_ADMIN); no group gives them

local uv = require "luv"
local sysfs = require "luio.host.sysfs"

local M = {}

--- Where the groups are written down.
M.group_file = "/etc/group"

--- The user's name, in the form that commands take.
---@return string
function M.user()
  local ok, entry = pcall(uv.os_get_passwd)
  return ok and entry and entry.username or tostring(uv.getuid())
end

--- "root", "user anna".
---@return string
function M.who()
  return uv.getuid() == 0 and "root" or "user " .. M.user()
end

--- How this process stands to a group.
---@param name string
---@return "none"|"outside"|"listed"|"member"  none: there is no such group; listed: a member, but not since this login
function M.group(name)
  local id, members
  for line in ((sysfs.read(M.group_file, 1048576)) or ""):gmatch "[^\n]+" do
    local found, gid, list = line:match "^([^:]*):[^:]*:(%d+):(.*)$"
    if found == name then id, members = gid, list end
  end
  if not id then return "none" end
  local status = sysfs.read(sysfs.proc .. "/self/status") or ""
  local ours = (" %s %s "):format(status:match "\nGid:%s*%d+%s+(%d+)" or "", status:match "\nGroups:([^\n]*)" or "")
  if (ours:gsub("%s+", " ")):find((" %s "):format(id), 1, true) then return "member" end
  return ("," .. members .. ","):find("," .. M.user() .. ",", 1, true) and "listed" or "outside"
end

--- The remedy that gives a group's rights to this user: a command, or a sentence.
---@param name "luio"|"luio-config"
---@return string
function M.join(name)
  local state = M.group(name)
  if state == "none" then
    return ("make install-system, in luio's source, makes the groups luio and luio-config and what udev has to do; "
      .. "then usermod -aG %s %s, and log in anew; or sudo luio ..."):format(name, M.user())
  end
  if state == "outside" then return ("usermod -aG %s %s; then log in anew"):format(name, M.user()) end
  if state == "listed" then return ("log in anew: %s is in the group %s, but was not when this session began"):format(M.user(), name) end
  return "udevadm control --reload; udevadm trigger --subsystem-match=uio --action=add"
end

--- The remedy that gives the right to write a file of sysfs, where a group has it.
---@param name "luio"|"luio-config"
---@param path string
---@return string
function M.write(name, path)
  return sysfs.read_only(path) or M.join(name)
end

--- The remedy that lets this user open /dev/uioX, when access to it has failed with that code.
---@param code string
---@return string
function M.node(code)
  return code == "ENOENT" and "udevadm trigger --subsystem-match=uio" or M.join "luio"
end

--- The command that starts as root and goes on as the user.
---@param driver string?   its name
---@param address string?
---@return string
function M.as_root(driver, address)
  return ("sudo luio run --user %s %s %s"):format(M.user(), driver or "DRIVER", address or "DEVICE")
end

return M
