--- Register maps as files: finding one by name, loading it.

local runtime = require "luio.ffi"
local errors = require "luio.errors"
local match = require "luio.driver.match"
local paths = require "luio.driver.paths"
local registers = require "luio.registers"
local watchdog = require "luio.loop.watchdog"

local M = {}

-- A driver may have its map within its own file.
local function of_driver(name)
  local driver, message, code = require("luio.driver").load(name)
  if not driver then return nil, match.load_failure(name, message), code end
  if not driver.registers then return nil, ("driver %s states no registers"):format(driver.name), "ENOENT" end
  return driver.registers
end

--- The fault of the driver that a map is named by; nil: none, or the map is named by its file.
---@param name string  as of M.load
---@return string?
function M.driver_fault(name)
  if name:match "%.lua$" or not paths.find(name, "init") then return nil end
  local driver, message = require("luio.driver").load(name)
  return not driver and match.load_failure(name, message) or nil
end

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
    if not path and code == "ENOENT" and paths.find(name, "init") then return of_driver(name) end
    if not path then return nil, message, code end
    path = paths.shown(path)
  end
  local f, why, number = io.open(path)
  code = not f and runtime.errno_name(number)
  if code == "ENOENT" then return nil, ("there is no register map %q"):format(path), code end
  if not f then return nil, "open register map " .. why, code end
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
