--- Register maps as files: finding one by name, loading it.

local errors = require "luio.errors"
local paths = require "luio.paths"
local registers = require "luio.registers"
local watchdog = require "luio.watchdog"

local M = {}

--- Loads a map: a file that returns one (or a driver that has one), or a driver's folder or name.
---@param name string
---@return luio.Map?
---@return string? message
---@return string? code
function M.load(name)
  local path = name
  local message, code
  if not name:match "%.lua$" then
    path, message, code = paths.find(name, "registers")
    if not path then return nil, message, code end
    path = paths.shown(path)
  end
  local f = io.open(path)
  if not f then return nil, ("there is no register map %q"):format(path), "ENOENT" end
  f:close()
  local chunk
  chunk, message = loadfile(path)
  if not chunk then return nil, message, "EINVAL" end
  local ok, map = watchdog.call(path, nil, paths.run, path, chunk)
  if not ok then return nil, errors.text(map), "EINVAL" end
  if type(map) == "table" and getmetatable(map) ~= registers.Map then map = map.registers end
  if type(map) ~= "table" or getmetatable(map) ~= registers.Map then
    return nil, path .. ": that file returns no register map: return luio.registers { ... }", "EINVAL"
  end
  return map
end

return M
