--- Which driver is for which device.
---
--- A driver says it in `match`: { pci = "1234:11e8" }, { of = "device-tree name" }, { uio = "what its
--- UIO driver calls it" }, or a list of such.

local door = require "luio.ffi"
local paths = require "luio.paths"
local device = require "luio.device"

local M = {}

--- Whether `match`, or one of a list of them, fits the device.
---@param match table
---@param info luio.Info
---@return boolean
function M.fits(match, info)
  if match[1] then
    for _, m in ipairs(match) do
      if M.fits(m, info) then return true end
    end
    return false
  end
  if match.pci then
    return info.vendor ~= nil and ("%04x:%04x"):format(info.vendor, info.device) == match.pci:lower()
  end
  if match.of then
    for _, name in ipairs(info.compatible) do
      if name == match.of then return true end
    end
  end
  return match.uio ~= nil and match.uio == info.uio_name
end

--- The devices a driver is for: those that a UIO driver has come first.
---@param driver table
---@return luio.Info[]? infos
---@return string? message
---@return string? code
function M.devices(driver)
  local list, message, code = device.list()
  if not list then return nil, message, code end
  local bound, others = {}, {}
  for _, info in ipairs(list) do
    if M.fits(driver.match or {}, info) then table.insert(info.uio and bound or others, info) end
  end
  for _, info in ipairs(others) do table.insert(bound, info) end
  return bound
end

local function well_formed(match)
  for _, value in pairs(match[1] and match or { match }) do
    if type(value) ~= "table" then return false end
    for _, name in pairs(value) do
      if type(name) ~= "string" then return false end
    end
  end
  return true
end

-- What the text of a driver says in `match = { ... }`, wherever that stands, comments included; nil when there is none, or
-- one is no table of literals. So most drivers need not be loaded to know that they do not match; of those that may, what
-- they return decides.
local function literals(path)
  local f = io.open(path)
  local text = f and f:read "*a" or ""
  if f then f:close() end
  local list = {}
  for at in text:gmatch "%f[%w_]match[\"'%]%s]*=%s*()[^=]" do
    local chunk = loadstring("return " .. (text:match("^%b{}", at) or "nil"))
    if not chunk then return nil end
    local ok, said = pcall(setfenv(chunk, {}))
    if not ok or type(said) ~= "table" or not well_formed(said) then return nil end
    table.insert(list, said)
  end
  return list[1] and list
end

local known -- { name, may: what its text says it matches; loaded; driver, or problem }[]

local function all()
  if known then return known end
  known = {}
  for _, name in ipairs(paths.names "init") do
    local path = paths.find(name, "init")
    table.insert(known, { name = name, may = path and literals(path) })
  end
  return known
end

local function load(entry)
  if not entry.loaded then
    entry.loaded = true
    entry.driver, entry.problem = require("luio.driver").load(entry.name)
  end
  return entry.driver
end

--- The driver for a device, of those in the drivers/ folders; the first by name when there are
--- several. Loads those that may match, which touches no hardware. One that does not load is passed over, and named when none
--- matches.
---@param info luio.Info
---@return string? name
---@return table? driver
---@return string? message  why there is none
function M.driver_of(info)
  local model = info.address:match "^sim:(.+)$"
  if model then
    -- A folder may have several models: model.lua, model_OTHER.lua.
    local driver, message = require("luio.driver").load((model:gsub("/?model[%w_]*%.lua$", "")))
    return driver and driver.name, driver, message
  end
  -- One that does not load may be the one.
  local skipped = { "no driver in drivers/ matches" }
  for _, entry in ipairs(all()) do
    if not entry.may or M.fits(entry.may, info) then
      local driver = load(entry)
      if not driver then
        table.insert(skipped, ("drivers/%s does not load: %s"):format(entry.name, entry.problem))
      elseif M.fits(driver.match or {}, info) then
        return entry.name, driver
      end
    end
  end
  local room, message = door.descriptors "look for a driver"
  if not room then
    known = nil -- what could not be read may be the one
    return nil, nil, message
  end
  return nil, nil, table.concat(skipped, "; ")
end

--- Drivers in the folders that do not load: name and reason. Loads all.
---@return { name: string, problem: string }[]
function M.broken()
  local list = {}
  for _, entry in ipairs(all()) do
    if not load(entry) then table.insert(list, entry) end
  end
  return list
end

return M
