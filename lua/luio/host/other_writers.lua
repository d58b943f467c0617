--- Other processes that could write a PCI device's registers. Searched before bus master is switched on, after the files have
--- become private to the driver's user (runtime/guard_bars.c), so that no other process can open them any more.
---
--- A file is identified by device number (/dev/uioX) or by inode and size (resourceN), not by its path, which a mount namespace can
--- change. Each thread is checked, because it may have descriptors of its own. Processes of root and of the files' owner are left
--- out. Not found: descriptors that are only in a socket's queue or in an io_uring, and processes that /proc does not show (another
--- PID namespace above ours).

local uv = require "luv"
local holders = require "luio.host.holders"
local inspect = require "luio.host.inspect"
local sysfs = require "luio.host.sysfs"

local M = {}

---@class luio.OtherWriter
---@field pid integer
---@field uid integer
---@field command string

-- The files to find, as a list of tests on a stat, and their owner.
local function wanted(info)
  local list, owner = {}, 0
  local names = inspect.siblings(info)
  for _, name in ipairs(names[1] and names or { info.uio }) do
    local node = uv.fs_stat("/dev/" .. name)
    if node then
      owner = node.uid
      list[#list + 1] = function(stat) return stat.type == "char" and stat.rdev == node.rdev end
    end
  end
  for i = 0, 5 do
    for _, form in ipairs { "%s/resource%d", "%s/resource%d_wc" } do
      local bar = info.bars[i] and uv.fs_stat(form:format(info.sysfs, i))
      if bar then
        list[#list + 1] = function(stat)
          return stat.type == "file" and stat.ino == bar.ino and stat.size == bar.size and stat.blocks == bar.blocks
        end
      end
    end
  end
  return list, owner
end

local function is_one(tests, path)
  local stat = uv.fs_stat(path)
  if not stat then return false end
  for _, test in ipairs(tests) do
    if test(stat) then return true end
  end
  return false
end

-- O_WRONLY and O_RDWR are 1 and 2 of the last octal digit.
local function is_writable(fdinfo)
  local digit = tonumber(fdinfo:match "flags:%s*%d*(%d)" or "0")
  return digit % 4 ~= 0
end

-- Whether a mapping is written to, or can be made writable: "mw" (Documentation/filesystems/proc.rst).
local function may_write(task, range, permissions)
  if permissions:find("w", 1, true) then return true end
  local smaps, here = io.open(task .. "/smaps"), false
  local answer = true -- an unreadable entry proves nothing
  for line in smaps and smaps:lines() or function() end do
    here = line:find(range, 1, true) == 1 or here and not line:find "^%x+%-%x+ "
    local flags = here and line:match "^VmFlags:(.*)"
    if flags then
      answer = (flags .. " "):find(" mw ", 1, true) ~= nil
      break
    end
  end
  if smaps then smaps:close() end
  return answer
end

local function has(process, tests)
  for _, tid in ipairs((sysfs.entries(process .. "/task"))) do
    local task = process .. "/task/" .. tid
    for _, fd in ipairs((sysfs.entries(task .. "/fd"))) do
      if is_one(tests, task .. "/fd/" .. fd) and is_writable(sysfs.read(task .. "/fdinfo/" .. fd) or "") then return true end
    end
    -- Only shared mappings can be of a device. map_files leads to the mapped file, with any path.
    local maps = io.open(task .. "/maps")
    for line in maps and function() return (maps:read "*l") end or function() end do
      local from, to, permissions = line:match "^(%x+)%-(%x+) (..?.?s) "
      if from and is_one(tests, ("%s/map_files/%s-%s"):format(process, from, to))
        and may_write(task, ("%s-%s"):format(from, to), permissions) then
        maps:close()
        return true
      end
    end
    if maps then maps:close() end
  end
  return false
end

--- A process of another user that could write the device's registers; nil: there is none.
---@param info luio.Info
---@return luio.OtherWriter?
function M.of(info)
  local own, tests, owner = uv.os_getpid(), wanted(info)
  for _, name in ipairs((sysfs.entries(sysfs.proc))) do
    local pid = tonumber(name:match "^%d+$")
    local process = ("%s/%s"):format(sysfs.proc, name)
    local uid = pid and pid ~= own and tonumber((sysfs.read(process .. "/status") or ""):match "\nUid:%s*%d+%s+(%d+)")
    if uid and uid ~= 0 and uid ~= owner and has(process, tests) then
      return { pid = pid, uid = uid, command = holders.command(process, pid) }
    end
  end
end

return M
