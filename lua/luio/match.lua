--- Which driver is for which device.
---
--- A driver says it in `match`: { pci = "1234:11e8" }, { of = "device-tree name" }, { uio = "what its
--- UIO driver calls it" }, or a list of such.
---
--- Commands that only look take it from the driver's text, where it is stated as literals (luio.literal): no driver runs so
--- that `luio list` can name it (M.stated). A driver whose text does not say it is unknown to them, which they tell. Commands
--- that need the driver load it (M.driver_of): first those whose text says that they match, then those that do not say.

local door = require "luio.ffi"
local device = require "luio.device"
local literal = require "luio.literal"
local look = require "luio.look"
local paths = require "luio.paths"

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

local MOST_NAMED = 4

-- "uio5 (0000:00:04.0)"
local function named(info)
  local address = look.opens(info)
  local other = address == info.uio and info.bus == "pci" and info.address or address ~= info.uio and info.uio
  return other and ("%s (%s)"):format(address, other) or address
end

--- The device that a driver gets when none is named: the first that its match fits. One that no UIO driver has counts only where
--- none has one.
---@param driver table
---@return luio.Info? info      nil without a message: none is for it
---@return string? note_or_why  that others fit, too; without `info` what failed
---@return string? code
function M.choose(driver)
  local list, message, code = M.devices(driver)
  if not list then return nil, message, code end
  local first, others = list[1], {}
  for i = 2, #list do
    if (list[i].uio ~= nil) == (first.uio ~= nil) then table.insert(others, named(list[i])) end
  end
  if not others[1] then return first end
  local n = #others
  for i = n, MOST_NAMED + 1, -1 do others[i] = nil end
  if n > MOST_NAMED then table.insert(others, ("%d more"):format(n - MOST_NAMED)) end
  return first, ("%d devices fit driver %s, and %s is taken, the first; name another to have that: %s"):format(n + 1, driver.name,
    named(first), table.concat(others, ", "))
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

-- What the text of a driver says that it matches: a list of tables, empty when it says nothing. Nil and why when only running
-- it tells.
local function stated(path)
  local f = path and io.open(path)
  local text = f and f:read "*a"
  if f then f:close() end
  if not text then return nil, "it can't be read" end
  local list, why = literal.assigned(text, "match")
  if not list then return nil, why end
  if list[2] then return nil, "match is stated more than once" end
  if list[1] and not well_formed(list[1]) then return nil, "match is not what luio.driver says" end
  return list
end

---@class luio.KnownDriver
---@field name string
---@field match table?     what its text says
---@field unclear string?  why its text does not say it; nil without match: it says nothing of match at all
---@field loaded boolean?
---@field driver table?
---@field problem string?

local known ---@type luio.KnownDriver[]

local function all()
  if known then return known end
  known = {}
  for _, name in ipairs(paths.names "init") do
    local list, why = stated((paths.find(name, "init")))
    table.insert(known, { name = name, match = list and list[1], unclear = why })
  end
  return known
end

--- The drivers in the drivers/ folders. Runs none of them.
---@return luio.KnownDriver[]
function M.all() return all() end

local function load(entry)
  if not entry.loaded then
    entry.loaded = true
    entry.driver, entry.problem = require("luio.driver").load(entry.name)
  end
  return entry.driver
end

-- A folder may have several models: model.lua, model_OTHER.lua.
local function of_model(address)
  local model = address:match "^sim:(.+)$"
  return model and (model:gsub("/?model[%w_]*%.lua$", ""))
end

local NONE = "no driver in drivers/ matches"

--- The driver for a device, by what the drivers' texts say: the first by name. Runs none.
---@param info luio.Info
---@return string? name
---@return string? message  why there is none
function M.stated(info)
  local model = of_model(info.address)
  if model then
    local path, message = paths.find(model, "init")
    return path and model:match "[^/]+$", message
  end
  local unclear = {}
  for _, entry in ipairs(all()) do
    if entry.match and M.fits(entry.match, info) then return entry.name end
    if entry.unclear then table.insert(unclear, "drivers/" .. entry.name) end
  end
  local room, why = door.descriptors "look for a driver"
  if not room then
    known = nil -- what could not be read may be the one
    return nil, why
  end
  if not unclear[1] then return nil, NONE end
  return nil, ("%s; only running it would tell what %s matches"):format(NONE, table.concat(unclear, ", "))
end

--- That other drivers' texts say that they match, too.
---@param info luio.Info
---@param name string  of the driver that was taken
---@return string?
function M.others(info, name)
  local list = {}
  for _, entry in ipairs(not of_model(info.address) and all() or {}) do
    if entry.name ~= name and entry.match and M.fits(entry.match, info) then table.insert(list, "drivers/" .. entry.name) end
  end
  return list[1] and ("%s %s it, too"):format(table.concat(list, ", "), list[2] and "fit" or "fits") or nil
end

--- The driver for a device, of those in the drivers/ folders; the first by name when there are
--- several, and before all others those whose text says that they match. Loads those that may match, which touches no
--- hardware. One that does not load is passed over, and named when none matches.
---@param info luio.Info
---@return string? name
---@return table? driver
---@return string? message  why there is none
function M.driver_of(info)
  local model = of_model(info.address)
  if model then
    local driver, message = require("luio.driver").load(model)
    return driver and driver.name, driver, message
  end
  -- One that does not load may be the one.
  local skipped = { NONE }
  local function try(entry)
    local driver = load(entry)
    if not driver then
      table.insert(skipped, ("drivers/%s does not load: %s"):format(entry.name, entry.problem))
    elseif M.fits(driver.match or {}, info) then
      return entry.name, driver
    end
  end
  for _, says in ipairs { true, false } do
    for _, entry in ipairs(all()) do
      if says == (entry.match ~= nil) and (not entry.match or M.fits(entry.match, info)) then
        local name, driver = try(entry)
        if name then return name, driver end
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

return M
