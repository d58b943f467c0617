--- Finds the driver for a device.
---
--- A driver lists its devices in `match`: { pci = "1234:11e8" }, { of = "device-tree name" }, { uio =
--- "the UIO driver's name for it" }, or a list of such.
---
--- Read-only commands take `match` from the driver's text, if it consists of literals (luio.text.literal), so that `luio list`
--- runs no driver to name it (M.stated). They report drivers with another `match` as unknown. Commands that need the driver load
--- it (M.driver_of): first the drivers whose text matches, then those without literals.
---
--- A driver that does not load is not "no driver": every command prints the same error (M.load_failure); read-only commands only
--- errors that its files show without being run (M.fault).

local runtime = require "luio.ffi"
local discovery = require "luio.host.discovery"
local literal = require "luio.text.literal"
local inspect = require "luio.host.inspect"
local near = require "luio.registers.near"
local paths = require "luio.driver.paths"
local rules = require "luio.driver.match_rules"
local uv = require "luv"

local M = {}

M.fits = rules.fits

--- The devices a driver is for: those that a UIO driver has come first.
---@param driver table
---@return luio.Info[]? infos
---@return string? message
---@return string? code
function M.devices(driver)
  local list, message, code = discovery.list()
  if not list then return nil, message, code end
  local bound, others = {}, {}
  for _, info in ipairs(list) do
    if rules.fits(driver.match or {}, info) then table.insert(info.uio and bound or others, info) end
  end
  for _, info in ipairs(others) do table.insert(bound, info) end
  return bound
end

local MOST_NAMED = 4

-- "uio5 (0000:00:04.0)"
local function named(info)
  local address = inspect.opens(info)
  local other = address == info.uio and info.address or info.uio
  return other and other ~= address and ("%s (%s)"):format(address, other) or address
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

-- ---- Faults of a driver -------------------------------------------------------------------------

local function text_of(path)
  local stat = path and uv.fs_stat(path) -- opening a FIFO would wait for its other end
  local f = stat and stat.type == "file" and io.open(path)
  local text = f and f:read "*a"
  if f then f:close() end
  return text
end

-- A table that is nearly called `match`, and holds what a match does.
local function nearly_match(text)
  for word in text:gmatch "%f[%w_]([%a_][%w_]*)%f[^%w_]%s*=%s*{" do
    local near_one = word ~= "match" and near.within(word, { match = true }, 1)
    local list = near_one and literal.assigned(text, word)
    local value = list and list[1]
    if type(value) == "table" and next(value) ~= nil and not rules.misstated(value) then return word end
  end
end

-- A driver's name, where it stands in front of its match.
local function name_in(text)
  return text:gsub("%-%-[^\n]*", ""):match "[{%s,;]name%s*=%s*[\"']([^\"'\n]+)[\"']%s*[,;]%s*match%s*="
end

-- The errors of a driver that its files show without being run: a syntax error, a name that is not the folder's, a misspelt match.
-- Others (a fault in its map) show only when it is loaded.
local function fault_in_text(name)
  local path = paths.find(name, "init")
  local text = text_of(path)
  if not text then return nil end
  local map = text:find("[\"']drivers%.[%w_%-]+%.registers[\"']") and path:gsub("init%.lua$", "registers.lua")
  for _, file in ipairs { path, map or nil } do
    local code = file == path and text or text_of(file)
    local ok, message = true, nil
    if code then ok, message = load(code:gsub("^#[^\n]*", ""), "@" .. paths.shown(file), "t") end
    if not ok then return message end
  end
  local shown, called, list = paths.shown(path), name_in(text), literal.assigned(text, "match")
  local folder = rules.folder(path)
  if called and folder and called ~= folder then return rules.misnamed(shown, called, folder) end
  local one = list and not list[2] and list[1]
  local misstated = one and rules.misstated(one)
  if misstated then return ("%s: %s.match%s"):format(shown, folder or name, misstated) end
  local slip = list and not list[1] and nearly_match(text)
  return slip and ("%s: %s.%s: did you mean match?"):format(shown, folder or name, slip) or nil
end

-- A driver's `match` from its text: a list of tables, empty without a `match`. Nil and the reason if it is not made of
-- literals.
local function stated(path)
  local text = text_of(path)
  if not text then return nil, "it can't be read" end
  local list, why = literal.assigned(text, "match")
  if not list then return nil, why end
  if list[2] then return nil, "match is stated more than once" end
  if list[1] and rules.misstated(list[1]) then return nil, "match is not what luio.driver says" end
  return list
end

---@class luio.KnownDriver
---@field name string
---@field match table?     from its text
---@field unclear string?  why its text does not say it; nil without match: it says nothing of match at all
---@field driver table?     once it was loaded
---@field fault string|false|nil  of M.fault_of, once it was asked for

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

-- One that did not load may have been mended since.
local function load_entry(entry)
  if entry.driver then return entry.driver end
  local problem
  entry.driver, problem = require("luio.driver").load(entry.name)
  return entry.driver, problem
end

--- The message of every command for a driver that does not load.
---@param name string  or its folder
---@param why string
---@return string  one line
function M.load_failure(name, why)
  return ("driver %s does not load: %s"):format(name:match "[^/]+$" or name, (why:gsub("%s*\n%s*", "; ")))
end

--- The fault of a driver, as far as it can be known without running it; nil: none.
---@param name string
---@return string?
function M.fault(name)
  local why = fault_in_text(name)
  return why and M.load_failure(name, why)
end

--- The same of one of M.all, looked at once.
---@param entry luio.KnownDriver
---@return string?
function M.fault_of(entry)
  if entry.fault == nil then entry.fault = M.fault(entry.name) or false end
  return entry.fault or nil
end

-- A folder may have several models: model.lua, model_OTHER.lua.
local function of_model(address)
  local model = address:match "^sim:(.+)$"
  return model and (model:gsub("/?model[%w_]*%.lua$", ""))
end

local NONE = "no driver in drivers/ matches"

-- Whether one that is missing may only not have been read.
local function short_of_descriptors()
  local room, message = runtime.descriptors "look for a driver"
  if room then return nil end
  known = nil -- an unreadable driver may be the one
  return message
end

--- The driver for a device, by what the drivers' texts say: the first by name of those that may load, else the first. Runs none.
---@param info luio.Info
---@return string? name
---@return string? message  why there is none; with a name: why it does not load
function M.stated(info)
  local model = of_model(info.address)
  if model then
    local path, message = paths.find(model, "init")
    if not path then return nil, message end
    return model:match "[^/]+$", M.fault(model)
  end
  local unclear, broken, fault = {}, nil, nil
  for _, entry in ipairs(all()) do
    if entry.match and rules.fits(entry.match, info) then
      local why = M.fault_of(entry)
      if not why then return entry.name end
      if not broken then broken, fault = entry.name, why end
    end
    if entry.unclear then table.insert(unclear, "drivers/" .. entry.name) end
  end
  if broken then return broken, fault end
  local short = short_of_descriptors()
  if short then return nil, short end
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
    if entry.name ~= name and entry.match and rules.fits(entry.match, info) then table.insert(list, "drivers/" .. entry.name) end
  end
  return list[1] and ("%s %s it, too"):format(table.concat(list, ", "), list[2] and "fit" or "fits") or nil
end

--- The driver for a device, from the drivers/ folders; the first by name if there are several, drivers whose text
--- matches before the others. Loads those that may match, which touches no hardware. One that does not load is passed
--- over, and named.
---@param info luio.Info
---@param address string?  the given address, if it has more than info.address: a model by its path
---@return string? name     also of a matching driver that does not load
---@return table? driver
---@return string? message  the reason if there is none; otherwise the drivers passed over, with the reason
function M.driver_of(info, address)
  local model = of_model(address or info.address)
  if model then
    local there, missing = paths.find(model, "init")
    if not there then return nil, nil, missing end
    local driver, message = require("luio.driver").load(model)
    return driver and driver.name or model:match "[^/]+$", driver, not driver and M.load_failure(model, message) or nil
  end
  -- One that does not load may be the one.
  local skipped, broken = {}, nil
  for _, says in ipairs { true, false } do
    for _, entry in ipairs(all()) do
      if says == (entry.match ~= nil) and (not entry.match or rules.fits(entry.match, info)) then
        local driver, problem = load_entry(entry)
        if driver and rules.fits(driver.match or {}, info) then
          return entry.name, driver, broken and ("%s; drivers/%s is taken"):format(table.concat(skipped, "; "), entry.name)
        elseif not driver then
          table.insert(skipped, M.load_failure(entry.name, problem))
          if says then broken = broken or entry.name end
        end
      end
    end
  end
  local short = short_of_descriptors()
  if short then return nil, nil, short end
  if not broken then table.insert(skipped, 1, NONE) end
  return broken, nil, table.concat(skipped, "; ")
end

return M
