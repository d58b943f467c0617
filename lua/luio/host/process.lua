--- Running a program, and writing to sysfs, with a deadline.
---
--- A write to sysfs runs kernel code: `unbind` returns when the driver has released the device, and
--- a driver that waits for its users may never do that. Such a write can't be interrupted, not even
--- by SIGKILL, and would block this process. So a child does it, and is left behind if it hangs.

local uv = require "luv"
local wait_slot = require "luio.loop.wait_slot"
local sysfs = require "luio.host.sysfs"

local M = {}

-- Programs are to speak English: their messages are read here.
local function environment()
  local env = { "LC_ALL=C" }
  for name, value in pairs(uv.os_environ()) do
    if name ~= "LC_ALL" then table.insert(env, name .. "=" .. value) end
  end
  return env
end

--- Runs a program until its end.
---@param argv string[]    the program, as a path or to be found in PATH, and its arguments
---@param seconds number   the deadline
---@param input? string    its standard input
---@param from? "stdout"|"stderr"  the output that is read; nil: standard error
---@return integer? status nil: it did not start, or did not end in time
---@return string output   its output, or the reason
---@return string? code    "ENOENT", "ETIMEDOUT"
function M.run(argv, seconds, input, from)
  -- All input is in the pipe before the program starts: writing to one that has ended is SIGPIPE.
  local stdin = assert(uv.pipe())
  uv.fs_write(stdin.write, input or "", -1)
  uv.fs_close(stdin.write)
  local pipe = assert(uv.new_pipe(false))
  local output, status, wake = {}, nil, nil
  local pending = 0 -- events that are still to come before the end
  local function step()
    pending = pending - 1
    if pending == 0 and wake then wake(true) end
  end
  local function wait(limit)
    return pending == 0 or wait_slot.await(limit, function(w) wake = w end)
  end
  local process, pid, code = uv.spawn(argv[1], {
    args = { unpack(argv, 2) }, stdio = { stdin.read, from == "stdout" and pipe or nil, from ~= "stdout" and pipe or nil },
    env = environment(),
  }, function(exit_status, signal)
    status = signal > 0 and 128 + signal or exit_status
    step()
  end)
  uv.fs_close(stdin.read)
  -- luv 1.44 crashes when a state ends with a handle half closed: the callbacks are waited for.
  local function close()
    pending = process and 2 or 1
    pipe:close(step)
    if process then process:close(step) end
    wait(1)
  end
  if not process then
    close()
    return nil, ("run %s: %s"):format(argv[1], tostring(pid)), code
  end
  pending = 2 -- it ended, and everything it said was read
  pipe:read_start(function(_, data)
    if data then table.insert(output, data) else step() end
  end)
  local ok = wait(seconds)
  if not ok then process:kill "sigkill" end
  close()
  if not ok then return nil, ("%s did not end in %g s; process %d may go on"):format(argv[1], seconds, pid), "ETIMEDOUT" end
  return status, table.concat(output)
end

-- The C library's names for the errors of writes to sysfs (strerror in the C locale).
local CODES = {
  ["No such device"] = "ENODEV", ["Device or resource busy"] = "EBUSY", ["Permission denied"] = "EACCES",
  ["Operation not permitted"] = "EPERM", ["Invalid argument"] = "EINVAL", ["File exists"] = "EEXIST",
  ["No such file or directory"] = "ENOENT", ["Input/output error"] = "EIO", ["Read-only file system"] = "EROFS",
  ["No such device or address"] = "ENXIO", ["Cannot allocate memory"] = "ENOMEM", ["Connection timed out"] = "ETIMEDOUT",
  ["Operation not supported"] = "ENOTSUP", ["Resource temporarily unavailable"] = "EAGAIN",
}

--- Writes a line to a file of sysfs.
---@param path string
---@param value string  "" clears
---@param seconds number
---@return boolean? ok
---@return string? message
---@return string? code  the kernel's; "ETIMEDOUT": it hangs
function M.write(path, value, seconds)
  -- tee would try to create it, and be refused for another reason than the true one.
  if not sysfs.exists(path) then return nil, ("write %s: ENOENT: there is no such file"):format(path), "ENOENT" end
  local status, output, code = M.run({ "tee", path }, seconds, value .. "\n")
  if not status then
    return nil, ("write %q to %s: %s"):format(value, path, code == "ETIMEDOUT" and
      ("no end after %g s: the kernel waits for something that uses the device"):format(seconds) or output), code
  end
  if status == 0 then return true end
  local reason = output:match ": ([^:\n]+)\n*$" or "status " .. status
  code = CODES[reason] or "EIO"
  local read_only = sysfs.read_only(path) -- a missing right to the file is reported first
  if read_only then return nil, ("write %q to %s: EROFS: %s"):format(value, path, read_only), "EROFS" end
  return nil, ("write %q to %s: %s"):format(value, path, CODES[reason] and code or reason), code
end

-- Where administrators' programs are, when PATH is an ordinary user's.
local PLACES = "/sbin:/usr/sbin"

--- Where a program is.
---@param name string
---@return string?
function M.find(name)
  for dir in ((os.getenv "PATH" or "") .. ":" .. PLACES):gmatch "[^:]+" do
    if sysfs.access(dir .. "/" .. name, "x") then return dir .. "/" .. name end
  end
end

--- modprobe: in PATH, or where the kernel itself would look.
---@return string?
function M.modprobe()
  local own = sysfs.read(sysfs.proc .. "/sys/kernel/modprobe")
  return M.find "modprobe" or own and own ~= "" and sysfs.access(own, "x") and own or nil
end

return M
