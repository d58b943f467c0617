--- The meaning of an expression at the prompt, found without evaluating it.
---
--- Its steps (luio.tool.explore.syntax) are followed through things. Registers are looked up in the
--- definitions of the map, never through accessors. Lua tables and luio's own objects are looked up by
--- rawget and along `__index` tables, never by calling an `__index` function. The one function that is
--- called is the session environment's own, and only for the names that the session put there. So nothing
--- runs, and no device is touched.
---
--- A thing is { kind = "map" | "block" | "array" | "register", def = } or { kind = one of PARTS,
--- value = the object, or nil: it is made on demand } or { kind = "lua", value = }.

local bind = require "luio.registers.bind"
local candidates = require "luio.tool.explore.candidates"
local irq = require "luio.irq"
local region = require "luio.region"
local registers = require "luio.registers"
local syntax = require "luio.tool.explore.syntax"

local M = {}

local MAX_CHAIN = 20 -- of __index tables: one may lead back to itself

---@class luio.Thing
---@field kind string
---@field def table?
---@field value any

-- Names behind a "." on them; a device's only while it is there.
local PARTS = {
  device = { "address", "config", "dma", "driver", "info", "irqs", "read_only", "regions", "regs", "sim", "state", "warnings" },
  region = { "addr", "index", "kind", "name", "size", "writable" },
  irq = { "vector" },
  dma = { "mask" },
  config = {},
  register = { "def", "offset", "path", "region" },
  regions = {},
  irqs = {},
}

-- Where the methods are of what may not be made yet.
local CLASSES = { map = bind.Registers, region = region.Region, irq = irq.Irq }

-- ---- Values --------------------------------------------------------------------------------------

local function is_map(t)
  local map = rawget(t, "map")
  return type(map) == "table" and getmetatable(map) == registers.Map and rawget(t, "made") ~= nil and map
end

local function class_of(value)
  local mt = debug.getmetatable(value)
  local index = type(mt) == "table" and rawget(mt, "__index")
  return type(index) == "table" and index or nil
end

local function of_def(def)
  return def and { kind = def.count and "array" or def.kind, def = def } or nil
end

-- A Lua value as a thing.
local function thing_of(value)
  if value == nil then return nil end
  if type(value) ~= "table" then return { kind = "lua", value = value } end
  local map = is_map(value)
  if map then return { kind = "map", def = map } end
  local def = rawget(value, "def")
  if type(def) == "table" and type(rawget(value, "path")) == "string" then
    if rawget(value, "count") then return { kind = "array", def = def } end
    if rawget(def, "kind") == "block" then return { kind = "block", def = def } end
    if rawget(value, "prepared") then return { kind = "register", def = def } end
  end
  if class_of(value) and rawget(class_of(value), "bus_master") then return { kind = "device", value = value } end
  return { kind = "lua", value = value }
end

-- A member of a Lua table, along __index tables.
local function member(value, key)
  for _ = 1, MAX_CHAIN do
    if type(value) == "table" then
      local found = rawget(value, key)
      if found ~= nil then return found end
    end
    value = class_of(value)
    if not value then return nil end
  end
end

-- ---- The session's environment -------------------------------------------------------------------

--- Entries that the session itself put into the environment: env.regs, env.dev, env.help, however it
--- keeps them.
---@param env table
---@param name string
---@return any
function M.own(env, name)
  local value = member(env, name)
  if value ~= nil then return value end
  local ok, found = pcall(function() return env[name] end)
  return ok and found or nil
end

--- The map that names without a prefix are of.
---@param env table
---@return luio.Map?
function M.map(env)
  local regs = M.own(env, "regs")
  return type(regs) == "table" and is_map(regs) or nil
end

--- Lua's globals, when the environment reaches them by a function, which is not called.
---@param env table
---@return table?
function M.globals(env)
  local mt = debug.getmetatable(env)
  return mt and type(rawget(mt, "__index")) == "function" and _G or nil
end

-- ---- Steps ---------------------------------------------------------------------------------------

local function base(env, name)
  local value = member(env, name)
  if value ~= nil then return thing_of(value) end
  local map = M.map(env)
  if map and map.child[name] then return of_def(map.child[name]) end
  if name == "regs" or name == "dev" or name == "driver" then return thing_of(M.own(env, name)) end
  return thing_of(member(M.globals(env), name))
end

local function whole_number(key)
  return type(key) == "number" and key >= 0 and key % 1 == 0
end

local element_kind = { regions = "region", irqs = "irq" }

local function stepped(thing, kind, key, argument)
  if kind == ":" then
    if thing.kind == "map" and key == "find" and type(argument) == "string" then return of_def(candidates.follow(thing.def, argument)) end
    if thing.kind == "device" and key == "region" then return { kind = "region" } end
    return nil
  end
  if (thing.kind == "map" or thing.kind == "block") and type(key) == "string" then
    return of_def(thing.def.child[key])
  elseif thing.kind == "array" then
    -- An index that is a variable is as good as any.
    if kind == "[" and (key == nil or whole_number(key) and key < thing.def.count) then
      return { kind = thing.def.kind, def = thing.def }
    end
  elseif element_kind[thing.kind] then
    local value = whole_number(key) and thing.value and rawget(thing.value, key) or nil
    return kind == "[" and (key == nil or whole_number(key)) and { kind = element_kind[thing.kind], value = value } or nil
  elseif thing.kind == "device" then
    local value = rawget(thing.value, key)
    if value == nil then return nil end
    if PARTS[key] then return { kind = key, value = value } end
    return thing_of(value)
  elseif key ~= nil and type(thing.value) ~= "nil" then
    return thing_of(member(thing.value, key))
  end
end

--- The meaning of an expression.
---@param env table
---@param steps table[]?  of luio.tool.explore.syntax
---@return luio.Thing?  nil: nothing that is known
function M.of(env, steps)
  local thing = steps and base(env, steps[1][2])
  for n = 2, steps and #steps or 0 do
    if not thing then return nil end
    thing = stepped(thing, steps[n][1], steps[n][2], steps[n][3])
  end
  return thing
end

-- ---- Names in a value ----------------------------------------------------------------------------

--- Calls a function for every name in a Lua value and along its __index tables.
---@param value any
---@param fn fun(name: string, value: any)
function M.each_name(value, fn)
  for _ = 1, MAX_CHAIN do
    if type(value) == "table" then
      for key, v in next, value do
        if type(key) == "string" and key:match "^[%a_][%w_]*$" and not key:match "^__" and not syntax.is_keyword[key] then fn(key, v) end
      end
    end
    value = class_of(value)
    if not value then return end
  end
end

-- The verbs of a register; a verb that would only refuse is left out.
local function add_verbs(def, add)
  local allowed = {
    decode = true, encode = true, get = def.readable, read = def.readable, wait = def.readable, write = def.writable,
    update = def.readable and def.writable and not def.read_effect,
  }
  for verb, is in pairs(allowed) do
    if is then add(verb, "(") end
  end
end

local function add_methods(thing, add)
  if thing.kind == "register" then return add_verbs(thing.def, add) end
  M.each_name(CLASSES[thing.kind] or thing.value, function(name, value)
    if type(value) == "function" then add(name, "(") end
  end)
end

local function add_parts(thing, prefix, add)
  if thing.kind == "map" or thing.kind == "block" then
    candidates.children(thing.def, prefix, add)
    if thing.kind == "map" then
      add "device"
      add "map"
    end
  elseif PARTS[thing.kind] then
    for _, name in ipairs(PARTS[thing.kind]) do
      if thing.kind ~= "device" or rawget(thing.value, name) ~= nil then add(name) end
    end
  elseif thing.kind == "lua" then
    M.each_name(thing.value, function(name, value) add(name, type(value) == "function" and "(" or nil) end)
  end
end

--- Names behind a separator on an object that begin with a prefix.
---@param thing luio.Thing
---@param separator "."|":"
---@param prefix string
---@return string[] candidates
function M.members(thing, separator, prefix)
  local list, add = candidates.collector(prefix)
  if separator == ":" then add_methods(thing, add) else add_parts(thing, prefix, add) end
  return candidates.sorted(list)
end

return M
