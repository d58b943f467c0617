--- Files and folders for one spec, below build/spec/tmp.

local uv = require "luv"

local M = {}

local n = 0

--- Writes a file of its own and returns its path.
---@param name string  e.g. "model.lua"
---@param text string
---@return string path
---@return string dir
function M.write(name, text)
  n = n + 1
  local dir = ("build/spec/tmp/%d-%d"):format(uv.os_getpid(), n)
  assert(os.execute(("mkdir -p '%s'"):format(dir)) == 0)
  local path = dir .. "/" .. name
  local f = assert(io.open(path, "w"))
  f:write(text)
  f:close()
  return path, dir
end

--- Removes all of them.
function M.clean()
  os.execute(("rm -rf build/spec/tmp/%d-*"):format(uv.os_getpid()))
end

--- Runs a shell command: what it printed (both streams) and its exit status.
---@param command string
---@return string output
---@return integer status
function M.shell(command)
  local f = assert(io.popen(("unset LUIO_LIBRARY; { %s; } 2>&1; echo \"status $?\""):format(command)))
  local out = f:read "*a"
  f:close()
  local text, status = out:match "^(.*)status (%d+)\n$"
  return text, tonumber(status)
end

return M
