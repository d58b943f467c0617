--- Checks a driver's table: keys, types, names, top halves. Touches no hardware.
---
--- Reading the table may run the driver's code (metatables). So it is read under the same conditions as its files are loaded:
--- with every device out of reach, and with a deadline (luio.reload.staging).

local device = require "luio.device"
local errors = require "luio.errors"
local match_rules = require "luio.driver.match_rules"
local near = require "luio.registers.near"
local paths = require "luio.driver.paths"
local registers = require "luio.registers"
local setup = require "luio.driver.setup"
local staging = require "luio.reload.staging"
local top_half = require "luio.top_half"
local vectors = require "luio.device.vectors"

local M = {}

local KNOWN = {
  name = "string", match = "table", irq = "table", dma = "table", registers = "table",
  start = "function", stop = "function", check = "function", migrate = "function", gone = "function",
  vectors = "value", quiesce = "function", durable = "table", reset = "boolean", state_version = "number",
}

local DMA = { bits = "number" }

-- Keys of one of the driver's tables that are not what they should be.
local function check_keys(path, name, t, known)
  for key, value in pairs(t) do
    if not known[key] then
      return nil, ("%s: %s: unknown key %s%s"):format(path, name, errors.text(key), near.hint(errors.text(key), known)), "EINVAL"
    elseif type(value) ~= known[key] then
      return nil, ("%s: %s.%s is a %s, not a %s"):format(path, name, key, type(value), known[key]), "EINVAL"
    end
  end
  return true
end

local function same_letters(a, b)
  local function sorted(word)
    local letters = {}
    for c in word:gmatch "." do table.insert(letters, c) end
    table.sort(letters)
    return table.concat(letters)
  end
  return a ~= b and sorted(a) == sorted(b)
end

local function check_parts(driver, path, file)
  local misstated = driver.match and match_rules.misstated(driver.match)
  if misstated then return nil, ("%s: %s.match%s"):format(path, driver.name, misstated), "EINVAL" end
  local ok, message, code = check_keys(path, driver.name .. ".dma", driver.dma or {}, DMA)
  if not ok then return nil, message, code end
  local bits = driver.dma and driver.dma.bits
  if bits and not (bits >= 12 and bits <= 64 and bits % 1 == 0) then
    return nil, ("%s: %s.dma.bits is 12 to 64, not %s"):format(path, driver.name, tostring(bits)), "EINVAL"
  end
  if driver.vectors ~= nil and not vectors.option.fits(driver.vectors) then
    return nil, ("%s: %s.vectors is %s, not %s"):format(path, driver.name, vectors.option.words, errors.text(driver.vectors)), "EINVAL"
  end
  for i, field in pairs(driver.durable or {}) do
    if type(i) ~= "number" or type(field) ~= "string" then
      return nil, ("%s: %s.durable is a list of names of dev.state's fields"):format(path, driver.name), "EINVAL"
    end
  end
  for _, stated in pairs(setup.top_halves(driver)) do
    local fault = type(stated) == "table" and top_half.name_fault(stated)
    if fault then return nil, ("%s: %s.irq: %s"):format(path, driver.name, fault), "EINVAL" end
  end
  -- A driver has functions and data of its own; one that is nearly a word of ours is a slip. Of functions
  -- only letters that changed places are: `step`, `done`, `check1` are honest names.
  for key, value in pairs(driver) do
    local meant = type(key) == "string" and not KNOWN[key] and near.within(key, KNOWN, 1)
    if meant and (type(value) ~= "function" or same_letters(key, meant)) then
      return nil, ("%s: %s.%s: did you mean %s?"):format(path, driver.name, key, meant), "EINVAL"
    end
  end
  local folder = match_rules.folder(file)
  if folder and folder ~= driver.name then return nil, match_rules.misnamed(path, driver.name, folder), "EINVAL" end
  return driver
end

-- Whether every field of a table can be had without running anything, also those that it has from others (`__index`).
local function is_plain(t)
  local seen = {}
  repeat
    seen[t] = true
    local meta = debug.getmetatable(t)
    t = meta and rawget(meta, "__index")
  until type(t) ~= "table" or seen[t]
  return t == nil
end

local function check_table(driver, path, file)
  if type(driver.name) ~= "string" then return nil, path .. ": the driver has no name", "EINVAL" end
  for key, kind in pairs(KNOWN) do
    if driver[key] ~= nil and kind ~= "value" and type(driver[key]) ~= kind then
      return nil, ("%s: %s.%s is a %s, not a %s"):format(path, driver.name, key, type(driver[key]), kind), "EINVAL"
    end
  end
  if driver.registers and getmetatable(driver.registers) ~= registers.Map then
    return nil, ("%s: %s.registers is no register map: make one with luio.registers { ... }"):format(path, driver.name), "EINVAL"
  end
  return check_parts(driver, path, file)
end

-- Calls a function that reads a driver's tables. They may have metatables, whose functions run when they are read.
local function guarded(path, fn, ...)
  local ok, results = staging.run(path, device.open_devices, function(...) return { fn(...) } end, ...)
  if not ok then return nil, ("%s: the driver's table: %s"):format(path, errors.text(results)), "EINVAL" end
  return results[1], results[2], results[3]
end

--- Checks a driver's table.
---@param driver any   the result of its file
---@param file string  its path
---@return table? driver
---@return string? message  the fault, with the file
---@return string? code     "EINVAL"
function M.driver(driver, file)
  local path = paths.shown(file)
  if type(driver) ~= "table" then
    return nil, ("%s: a driver file returns a table, this one a %s"):format(path, type(driver)), "EINVAL"
  end
  -- luio looks at it at all times, outside of the watchdog.
  if not is_plain(driver) then
    local message = "%s: the driver's table has an __index that is no table: its fields are to be there, not to be made"
    return nil, message:format(path), "EINVAL"
  end
  return guarded(path, check_table, driver, path, file)
end

--- Whether the top halves that a driver states name what its map has. Touches no register.
---@param driver table
---@param view luio.Device
---@param path string  for messages
---@return boolean? ok
---@return string? message
---@return string? code
function M.top_halves(driver, view, path)
  return guarded(path, function()
    for vector in pairs(setup.top_halves(driver)) do
      local found, message, code = setup.top_half(driver, view, vector)
      if not found then return nil, message, code end
    end
    return true
  end)
end

return M
