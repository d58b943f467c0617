--- Which driver is for which device.
---
--- A driver says it in `match`: { pci = "1234:11e8" }, { of = "device-tree name" }, { uio = "what its
--- UIO driver calls it" }, or a list of such.

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

local known -- name -> driver, or why it does not load

local function all()
  if known then return known end
  known = {}
  for _, name in ipairs(paths.names "init") do
    local driver, message = require("luio.driver").load(name)
    table.insert(known, { name = name, driver = driver, problem = message })
  end
  return known
end

-- Why there is none: one that does not load may be the one.
local function none()
  local skipped = {}
  for _, entry in ipairs(M.broken()) do table.insert(skipped, ("drivers/%s does not load: %s"):format(entry.name, entry.problem)) end
  return table.concat({ "no driver in drivers/ matches", unpack(skipped) }, "; ")
end

--- The driver for a device, of those in the drivers/ folders; the first by name when there are
--- several. Loads drivers, which touches no hardware. One that does not load is passed over, and named when none matches.
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
  for _, entry in ipairs(all()) do
    if entry.driver and M.fits(entry.driver.match or {}, info) then return entry.name, entry.driver end
  end
  return nil, nil, none()
end

--- Drivers in the folders that do not load: name and reason.
---@return { name: string, problem: string }[]
function M.broken()
  local list = {}
  for _, entry in ipairs(all()) do
    if entry.problem then table.insert(list, entry) end
  end
  return list
end

return M
