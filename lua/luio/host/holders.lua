--- The processes that have a device open now.
---
--- The kernel keeps no such list, but /proc has the data: the links in /proc/PID/fd name open files,
--- /proc/PID/maps the mappings (a mapping outlives its descriptor), /proc/PID/fdinfo and /proc/locks
--- the holder of luio's lock. Nothing of the device is opened, because closing any descriptor of
--- /dev/uioX would clear its owner's bus master bit.
---
--- The holders of a range of physical addresses have it mapped from /dev/mem, or have luio's lock on a part of
--- it; both give the bytes. A descriptor of /dev/mem alone does not show a range. If a process has locks, these
--- count, not its mapped pages.
---
--- Only root sees descriptors and mappings of other users' processes. All users see locks.

local runtime = require "luio.ffi"
local uv = require "luv"
local inspect = require "luio.host.inspect"
local sysfs = require "luio.host.sysfs"
local term = require "luio.text.term"

local M = {}

---@class luio.Holder
---@field pid integer
---@field command string   its command line, shortened
---@field files string[]   "/dev/uio0", "config", "resource0", "/dev/vfio/7", "/dev/mem"; those mapped, too
---@field lock boolean     it has luio's lock
---@field drives boolean   it can take interrupts or write registers: it has the node, the lock, or a
---                        writable mapping. Others only look

-- Path -> how it is called in the answer. The links in /proc show the kernel's own paths.
local function files_of(info, whole)
  local files, siblings = {}, info.has_bars and inspect.siblings(info) or {}
  if info.is_range then return { [info.node] = info.node } end
  if info.uio then files["/dev/" .. info.uio] = "/dev/" .. info.uio end
  if not info.sysfs or info.sysfs == "" then return files end
  local group = sysfs.link(info.sysfs .. "/iommu_group")
  if group then files["/dev/vfio/" .. group] = "/dev/vfio/" .. group end
  for _, name in ipairs(whole and siblings or {}) do files["/dev/" .. name] = "/dev/" .. name end
  if info.has_bars then
    -- Of several UIO devices each has its own lock; the lock on config marks the holder of the shared parts.
    if whole or not siblings[1] then files[info.sysfs .. "/config"] = "config" end
    for i = 0, 5 do
      files[("%s/resource%d"):format(info.sysfs, i)] = "resource" .. i
      files[("%s/resource%d_wc"):format(info.sysfs, i)] = "resource" .. i
    end
  end
  return files
end

--- A process's command line, fit to be shown.
---@param dir string   its folder in /proc
---@param pid integer
---@return string
function M.command(dir, pid)
  local text = sysfs.read(dir .. "/cmdline", 512)
  if text and text ~= "" then return term.clean(text:gsub("%z+$", ""):gsub("%z", " "), 60) end
  return term.clean(sysfs.read(dir .. "/comm", 64) or "process " .. pid)
end

-- "1: FLOCK ADVISORY WRITE 812 00:06:123 0 EOF" -> pid and "major:minor:inode", in any base of its own.
local function lock_of(line)
  local pid, major, minor, inode = line:match "FLOCK%s+%S+%s+%S+%s+(%d+)%s+(%x+):(%x+):(%d+)"
  if pid then return sysfs.whole(pid), ("%d:%d:%s"):format(tonumber(major, 16), tonumber(minor, 16), inode) end
end

-- The same key for a file. glibc's makedev: 12 and 20 bits in pieces.
local function key_of(path)
  local stat = uv.fs_stat(sysfs.root .. path)
  if not stat then return nil end
  local dev = stat.dev
  local major = math.floor(dev / 2 ^ 8) % 2 ^ 12 + math.floor(dev / 2 ^ 44) * 2 ^ 12
  local minor = dev % 2 ^ 8 + math.floor(dev / 2 ^ 20) % 2 ^ 24 * 2 ^ 8
  return ("%d:%d:%d"):format(major, minor, stat.ino)
end

-- Whether the bytes first to last are some of the range; without a range there is nothing to ask.
local function within(range, first, last)
  return range == nil or first <= range.addr + range.size - 1 and last >= range.addr
end

-- "lock:\t1: OFDLCK ADVISORY  WRITE -1 00:05:4 4271898624 4272947199": on those bytes of /dev/mem. Whether there is
-- one in the range; and whether there is any.
local function locks_range(fdinfo, range)
  local any = false
  for first, last in fdinfo:gmatch "OFDLCK%s+%S+%s+%S+%s+%S+%s+%S+%s+(%d+)%s+(%d+)" do
    any = true
    if within(range, tonumber(first), tonumber(last)) then return true, true end
  end
  return false, any
end

-- Calls fn(pid, key of the file) for each lock of a whole file (flock).
local function each_lock(fn)
  for _, line in ipairs(sysfs.proc_lines "locks") do
    local pid, key = lock_of(line)
    if pid and pid > 0 then fn(pid, key) end
  end
end

-- The files of one process that lead to the device, or nil. `denied`: its descriptors are hidden from us.
local function held_by(dir, files, range)
  local found, lock, drives, exact = {}, false, false, false
  local descriptors, code = sysfs.entries(dir .. "/fd")
  local denied = code == "EACCES" or code == "EPERM"
  for _, fd in ipairs(descriptors) do
    local name = files[uv.fs_readlink(dir .. "/fd/" .. fd) or ""]
    if name and range then
      local here, any = locks_range(sysfs.read(dir .. "/fdinfo/" .. fd) or "", range)
      exact = exact or any
      if here then found[name], lock, drives = true, true, true end
    elseif name then
      found[name] = true
      if name:match "^/dev/" then drives = true end
      if (sysfs.read(dir .. "/fdinfo/" .. fd) or ""):find("FLOCK", 1, true) then lock, drives = true, true end
    end
  end
  local maps = io.open(dir .. "/maps")
  if maps and not denied and not exact then
    -- A process without rights on another opens the file, but the first read fails.
    for line in function() return (maps:read "*l") end do
      local from, to, writable, offset, path = line:match "^(%x+)%-(%x+) .(.)%S* (%x+) %S+ %d+%s+(/.*)$"
      local name = path and files[path]
      local first = name and tonumber(offset, 16)
      if name and within(range, first, first + tonumber(to, 16) - tonumber(from, 16) - 1) then
        found[name] = true
        if writable == "w" then drives = true end
      end
    end
  end
  if maps then maps:close() end
  if not next(found) then return nil, denied end
  local list = {}
  for name in pairs(found) do table.insert(list, name) end
  table.sort(list)
  return { files = list, lock = lock, drives = drives }, denied
end

--- The process that guards this one and keeps its devices; set by luio.reload.guardian. Nil: none.
---@type integer?
M.guardian_pid = nil

--- The processes that have a device; this one is left out, and its guardian, which keeps what a worker before us had.
---@param info luio.Info
---@param whole boolean?  of a PCI device with several UIO devices: the holders of any of them, not only of this one
---@return luio.Holder[] holders  by process id
---@return boolean partial  true: not every process could be looked at (run as root)
function M.of(info, whole)
  local files = files_of(info, whole)
  if not next(files) then return {}, false end
  local own, guardian_pid, by_pid, partial = uv.os_getpid(), M.guardian_pid, {}, false
  local processes = sysfs.entries(sysfs.proc)
  local seen_any = false
  for _, name in ipairs(processes) do
    local pid = sysfs.whole(name)
    if pid then seen_any = true end
    if pid and pid ~= own and pid ~= guardian_pid then
      local dir = ("%s/%d"):format(sysfs.proc, pid)
      local holder, denied = held_by(dir, files, info.is_range and info.maps[0] or nil)
      partial = partial or denied
      if holder then
        holder.pid, holder.command = pid, M.command(dir, pid)
        by_pid[pid] = holder
      end
    end
  end
  -- The lock of a process whose descriptors are hidden from us.
  local keys = {}
  for path, name in pairs(not info.is_range and files or {}) do
    local key = (name:match "^/dev/" or name == "config") and key_of(path)
    if key then keys[key] = name end
  end
  each_lock(function(pid, key)
    local dir = ("%s/%d"):format(sysfs.proc, pid)
    if pid ~= own and pid ~= guardian_pid and keys[key] and not by_pid[pid] and sysfs.exists(dir) then
      by_pid[pid] = { pid = pid, command = M.command(dir, pid), files = { keys[key] }, lock = true, drives = true }
    end
  end)
  local holders = {}
  for _, holder in pairs(by_pid) do table.insert(holders, holder) end
  table.sort(holders, function(a, b) return a.pid < b.pid end)
  -- hidepid= hides even that there are others; process 1 is there in every namespace.
  if not seen_any or not sysfs.exists(sysfs.proc .. "/1") then partial = true end
  return holders, partial
end

-- ---- Luio's lock alone ----------------------------------------------------------------------------

-- The process whose descriptor has a lock in a range of physical addresses.
local function locks_some_of(info)
  for _, name in ipairs(sysfs.entries(sysfs.proc)) do
    local dir = ("%s/%s"):format(sysfs.proc, name)
    for _, fd in ipairs(sysfs.whole(name) and sysfs.entries(dir .. "/fd") or {}) do
      if uv.fs_readlink(dir .. "/fd/" .. fd) == info.node and locks_range(sysfs.read(dir .. "/fdinfo/" .. fd) or "", info.maps[0]) then
        return sysfs.whole(name)
      end
    end
  end
end

--- The process that has luio's lock on a device, this one included.
---@param info luio.Info
---@param whole boolean?  of a PCI device with several UIO devices: on what these share
---@return integer? pid  nil: none that can be seen
function M.locker(info, whole)
  if info.is_range then return locks_some_of(info) end
  local by_config = info.has_bars and (whole or not inspect.siblings(info)[1])
  local wanted, found = key_of(by_config and info.sysfs .. "/config" or "/dev/" .. info.uio), nil
  each_lock(function(pid, key)
    if key == wanted then found = pid end
  end)
  return found
end

--- Names the process in a message of C's about luio's lock on the device.
---@param message string
---@param info luio.Info?
---@param whole boolean?  the lock is the one on what several UIO devices share
---@return string
function M.name_locker(message, info, whole)
  local pid = info and message:find("another process or this one", 1, true) and M.locker(info, whole)
  if not pid then return message end
  if pid ~= uv.os_getpid() and pid ~= M.guardian_pid then return (message:gsub("another process or this one", "process " .. pid)) end
  message = message:gsub("another process or this one drives it(.-); .*", ("this process (%d) drives it already%%1"):format(pid))
  return (message:gsub("another process or this one", "this process"))
end

--- The failure of the last call into C, with the process named that has luio's lock on the device, if that is why.
---@param info luio.Info
---@param whole boolean?  as for `name_locker`
---@return nil
---@return string message
---@return string code
function M.failure(info, whole)
  local _, message, code = runtime.failure()
  if code == "EBUSY" then message = M.name_locker(message, info, whole) end
  return nil, message, code
end

--- A holder in a few words: "process 812 (luio run edu) drives it: /dev/uio0, config, luio's lock".
---@param holder luio.Holder
---@return string
function M.describe(holder)
  return ("process %d (%s) %s it: %s%s"):format(holder.pid, holder.command, holder.drives and "drives" or "looks at",
    table.concat(holder.files, ", "), holder.lock and ", luio's lock" or "")
end

return M
