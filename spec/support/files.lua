--- Files and folders for one spec, below build/spec/tmp; and whole files anywhere.

local uv = require "luv"

local M = {}

local n = 0

--- The contents of a file.
---@param path string
---@return string
function M.read(path)
  local f = assert(io.open(path, "rb"))
  local text = f:read "*a"
  f:close()
  return text
end

--- Writes a whole file; the folder is there.
---@param path string
---@param text string
function M.save(path, text)
  local f = assert(io.open(path, "wb"))
  f:write(text)
  assert(f:close()) -- the kernel's files refuse here
end

--- Makes a folder, and those above it. No process is started: specs make thousands.
---@param dir string
function M.make_folder(dir)
  local ok, message, code = uv.fs_mkdir(dir, 493) -- 0755
  if ok or code == "EEXIST" then return end
  local above = code == "ENOENT" and dir:match "^(.+)/[^/]*$"
  if not above then error(message) end
  M.make_folder(above)
  assert(uv.fs_mkdir(dir, 493))
end

--- Writes a whole file, and makes the folders above it.
---@param path string
---@param text string
function M.put(path, text)
  M.make_folder(path:match "^(.*)/")
  M.save(path, text)
end

--- Writes a file of its own and returns its path.
---@param name string  e.g. "model.lua"
---@param text string
---@return string path
---@return string dir
function M.write(name, text)
  local dir
  repeat -- busted loads this module anew for each spec file: an earlier one may have left its folders
    n = n + 1
    dir = ("build/spec/tmp/%d-%d"):format(uv.os_getpid(), n)
  until not uv.fs_stat(dir)
  local path = dir .. "/" .. name
  M.put(path, text)
  return path, dir
end

--- A folder of its own with a driver in it.
---@param text string  init.lua
---@return string dir
function M.driver(text)
  return (select(2, M.write("init.lua", text)))
end

--- Removes all of them.
function M.clean()
  os.execute(("rm -rf build/spec/tmp/%d-*"):format(uv.os_getpid()))
end

--- Runs a shell command and returns its output (both streams) and its exit status.
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
