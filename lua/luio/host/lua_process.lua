--- Runs Lua in a process of its own, which is killed at a deadline.
---
---     local result, message = lua_process.run(5, function() return { irq = driver.irq ~= nil } end)
---
--- `luio doctor` has to load drivers, and a file that loops must not block doctor. A hook could not end every loop (compiled
--- code has none, a C function neither, and pcall catches what it throws); killing the process does. The child is a fork, so
--- it has the loaded modules. Its output is discarded, and it opens no device.

local ffi = require "ffi"
local posix = require "luio.posix"
local uv = require "luv"

local M = {}

local PDEATHSIG, SIGKILL = 1, 9
local EINTR = posix.EINTR

local function child(fd, fn)
  posix.prctl(PDEATHSIG, SIGKILL, 0, 0, 0)
  local null = uv.fs_open("/dev/null", "r+", 0)
  for i = 0, 2 do posix.dup2(null, i) end
  local ok, result = pcall(fn)
  local fine, text = pcall(require("dkjson").encode, ok and { result = result } or { message = tostring(result) })
  uv.fs_write(fd, fine and text or "{}", -1)
  posix._exit(0)
end

-- All that comes until the other end is closed; nil when the deadline is first.
local function read_all(fd, deadline)
  local parts = {}
  local poll = posix.pollfd(fd, posix.POLLIN)
  while true do
    local left = math.ceil((deadline - uv.hrtime()) / 1e6)
    if left <= 0 then return nil end
    local n = posix.poll(poll, 1, left)
    if n < 0 and ffi.errno() ~= EINTR then return nil end
    if n > 0 then
      local part = uv.fs_read(fd, 65536, -1)
      if not part or part == "" then return table.concat(parts) end
      table.insert(parts, part)
    end
  end
end

--- Runs a function in a process of its own. It has no arguments, and its changes are lost.
---@param seconds number  the deadline
---@param fn fun(): table  plain data
---@return table? result
---@return string? message  its error, or that it did not end
---@return string? code     "ETIMEDOUT", "EINVAL", "EAGAIN"
function M.run(seconds, fn)
  local ends, message, code = uv.pipe()
  if not ends then return nil, "a pipe for a child: " .. message, code end
  io.stdout:flush()
  local pid = posix.fork()
  if pid == 0 then
    pcall(child, ends.write, fn)
    posix._exit(1) -- whatever happened: this process is not to go on as its parent
  end
  uv.fs_close(ends.write)
  if pid < 0 then
    uv.fs_close(ends.read)
    return nil, "fork: no more processes", "EAGAIN"
  end
  local text = read_all(ends.read, uv.hrtime() + seconds * 1e9)
  uv.fs_close(ends.read)
  if not text then uv.kill(pid, "sigkill") end
  while posix.waitpid(pid, nil, 0) < 0 and ffi.errno() == EINTR do end
  if not text then return nil, ("it did not come to an end within %g s"):format(seconds), "ETIMEDOUT" end
  local answer = require("dkjson").decode(text)
  if not answer or not answer.result then return nil, answer and answer.message or "its process died", "EINVAL" end
  return answer.result
end

return M
