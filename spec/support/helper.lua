--- Loaded by busted before the specs: after every file it looks for leaks.
---
--- A descriptor, a device mapping or a thread that was not there before the file is an error of
--- that file. Things that are closed late on purpose (a joined thread's entry in /proc) get a second.

require "luio.compiler" -- before any spec; spec/run has it before busted itself
local busted = require "busted"
local uv = require "luv"
require "luio" -- loaded now, so that what it opens for good is there before the first file
-- And this, because luio.driver.match, which stays with luio, keeps the drivers that it found: loaded anew for each file the pool's
-- packets would be of another type than those of a driver that an earlier file has used.
require "luio.net"

-- A sanitizer is for this process. Programs that a spec starts run without it.
uv.os_unsetenv "LD_PRELOAD"

uv.new_thread(function() end):join() -- TSan starts a thread of its own with the first
local idle = assert(uv.new_timer()) -- opens the loop's own descriptors now, not in the first spec
idle:start(1, 0, function() end)
uv.fs_stat("/", function() end) -- and its threads
local watched = assert(uv.new_fs_event()) -- and its inotify instance
watched:start("/", {}, function() end)
watched:close()
uv.close(assert(uv.new_pipe())) -- and the one it keeps for want of descriptors
uv.run()

local function lines(path)
  local list = {}
  local f = io.open(path)
  for line in f and f:lines() or function() end do table.insert(list, line) end
  if f then f:close() end
  return list
end

local function entries(dir)
  local scan = uv.fs_scandir(dir)
  return function() return scan and uv.fs_scandir_next(scan) end
end

-- name -> count of everything that could leak
local function held()
  local found = {}
  local function add(what) found[what] = (found[what] or 0) + 1 end
  for fd in entries "/proc/self/fd" do
    local target = uv.fs_readlink("/proc/self/fd/" .. fd)
    -- The descriptor that scans the folder is in it, too.
    if target and not target:match "/proc/%d+/fd$" then add("descriptor of " .. target:gsub("%d%d%d+", "*")) end
  end
  for _ in entries "/proc/self/task" do add "thread" end
  for _, line in ipairs(lines "/proc/self/maps") do
    local path = line:match "%s(/memfd:luio.*)$" or line:match "%s(/dev/uio%d+)$" or line:match "%s(/sys/.*/resource%d.*)$"
    if path then add("mapping of " .. path) end
  end
  return found
end

local function surplus(before, after)
  local list = {}
  for what, n in pairs(after) do
    local more = n - (before[what] or 0)
    if more > 0 then table.insert(list, ("%d × %s"):format(more, what)) end
  end
  table.sort(list)
  return list
end

local before

busted.subscribe({ "file", "start" }, function()
  before = held()
  return nil, true
end)

busted.subscribe({ "file", "end" }, function(file)
  local left
  for _ = 1, 20 do
    collectgarbage()
    collectgarbage()
    uv.run "nowait" -- lets handles that were closed go
    left = surplus(before, held())
    if not left[1] then return nil, true end
    uv.sleep(50)
  end
  busted.publish({ "error", "file" }, file, nil, "left behind: " .. table.concat(left, ", "), {})
  return nil, true
end)
