--- LuaCATS definitions of a map, so that an editor completes registers, fields and value names.
---
--- The result is a file for the language server, not for Lua: `luio types drivers/edu > edu.types.lua`,
--- then `---@type edu.Registers` on a variable, or `---@param dev { regs: edu.Registers }`.

local quote = require("luio.registers.import.text").quote
local term = require "luio.text.term"
local when = require "luio.registers.when"

local M = {}

local function quoted_list(names)
  table.sort(names)
  for i, name in ipairs(names) do names[i] = quote(name) end
  return table.concat(names, "|")
end

-- "integer", and the names a field's values have.
local function value_type(f)
  local names = {}
  for name in pairs(f.values or {}) do table.insert(names, name) end
  local base = f.bits > 53 and "integer|ffi.cdata*" or f.bits == 1 and "0|1|boolean" or "integer"
  return #names > 0 and base .. "|" .. quoted_list(names) or base
end

local function one_line(text)
  return text and (" " .. text:gsub("%s+", " ")) or ""
end

local COLUMNS = 80

-- A description as comment lines, which belong to the class or the field below them.
local function comment(out, text, first)
  for _, line in ipairs(term.wrap((text:gsub("%s+", " ")), COLUMNS, first and "---   " or "--- ", "--- " .. (first or ""))) do
    table.insert(out, (line:gsub("^(%-%-%- *)([@|])", "%1\\%2"))) -- which begin tags
  end
end

-- The effect of writing, of the register and of its fields, for the line of a verb that writes.
local function effect_of(def)
  local parts = { def.write_effect }
  for _, f in ipairs(def.fields) do
    if f.write_effect then table.insert(parts, f.name .. " " .. f.write_effect) end
  end
  return one_line(parts[1] and table.concat(parts, "; "))
end

local function register_class(name, def, out)
  local fields, writable, readable = {}, {}, {}
  for _, f in ipairs(def.fields) do
    table.insert(fields, f.name)
    if f.readable then table.insert(readable, f.name) end
    if f.writable then table.insert(writable, ("%s?: %s"):format(f.name, value_type(f))) end
  end
  if #writable > 0 then
    table.insert(out, ("---@alias %s.Fields { %s }"):format(name, table.concat(writable, ", ")))
  end
  for _, f in ipairs(def.fields) do
    if f.description then comment(out, f.description, f.name .. ": ") end
  end
  table.insert(out, ("---@class %s: luio.Register"):format(name))
  local value = def.width == 64 and "ffi.cdata*" or "integer"
  if def.readable then table.insert(out, ("---@field read fun(self): %s"):format(value)) end
  if def.writable then
    local taken = def.width == 64 and "integer|ffi.cdata*" or "integer"
    if #writable > 0 then taken = ("%s|%s.Fields"):format(taken, name) end
    table.insert(out, ("---@field write fun(self, value: %s)%s"):format(taken, effect_of(def)))
    if #writable > 0 then
      table.insert(out, ("---@field encode fun(self, fields: %s.Fields): %s"):format(name, value))
      if def.readable and not def.read_effect then
        table.insert(out, ("---@field update fun(self, fields: %s.Fields)%s"):format(name, effect_of(def)))
      end
    end
  end
  if #readable > 0 then
    local list = quoted_list(readable)
    table.insert(out, ("---@field get fun(self, field: %s): integer, string?"):format(list))
    table.insert(out, ("---@field wait fun(self, fields: table<%s, any>, seconds: number, options?: table): %s?, string?, string?"):format(
      list, value))
  end
  table.insert(out, "")
end

--- The definitions' text.
---@param map luio.Map
---@param name? string  prefix of the classes; the map's name
---@return string
function M.write(map, name)
  name = (name or map.name or "map"):gsub("[^%w_]", "_")
  local out = { "---@meta", ("-- Register types of %s, made by `luio types`. For the language server only."):format(name), "" }
  local done = {}
  local function class_of(def, class)
    if done[def] then return done[def] end
    done[def] = class
    if def.kind == "register" then
      register_class(class, def, out)
    else
      local members = {}
      for _, child in ipairs(def.children) do
        local child_class = class_of(child, class .. "." .. child.name)
        local text, visible = child.description or child.read_effect or child.write_effect, child.when and when.stated(child)
        if visible then text = ("%sonly while %s"):format(text and text .. "; " or "", visible) end
        local field = ("---@field %s %s"):format(child.name, child.count and ("table<integer, %s>"):format(child_class) or child_class)
        local whole = field .. one_line(text)
        if text and term.columns(whole) > COLUMNS then comment(members, text) else field = whole end
        table.insert(members, field)
      end
      table.insert(out, ("---@class %s"):format(class))
      for _, member in ipairs(members) do table.insert(out, member) end
      table.insert(out, "")
    end
    return class
  end
  class_of(map, name .. ".Registers")
  table.insert(out, "return nil")
  return table.concat(out, "\n") .. "\n"
end

return M
