--- Candidates: completions of a word that names something of a register map.
---
---     candidates.place(map, "CTRL.MODE=F")         { "CTRL.MODE=FAST" }
---     candidates.place(map, "CHANNEL[2].C")        { "CHANNEL[2].COUNT", "CHANNEL[2].CTRL" }
---
--- The part of the word that is finished is followed through the map's definitions, never through
--- accessors; names that begin as the rest does are collected. Only that one level of the map is
--- walked, so that its size below does not matter.

local place = require "luio.tool.explore.place"

local M = {}

--- Elements of an array that are offered.
M.MAX_ELEMENTS = 16
local MAX_SORTED = 5000 -- more are not shown: they only serve to find their common prefix

-- ---- Lists ---------------------------------------------------------------------------------------

--- A list of what begins with a prefix, each once.
---@param prefix string
---@return string[] list
---@return fun(name: string, suffix: string?) add  the suffix is what goes on behind the name
function M.collector(prefix)
  local list, known = {}, {}
  local n = #prefix
  return list, function(name, suffix)
    if name:sub(1, n) == prefix and not known[name] then
      known[name] = true
      list[#list + 1] = suffix and name .. suffix or name
    end
  end
end
local collector = M.collector

--- Sorts a list, unless it is too long to be read.
---@param list string[]
---@return string[] list  the same
function M.sorted(list)
  if #list <= MAX_SORTED then table.sort(list) end
  return list
end
local sorted = M.sorted

-- ---- Definitions ---------------------------------------------------------------------------------

-- The text that a definition's name needs behind it before it can be read.
local function suffix_of(def)
  return def.count and "[" or def.kind == "block" and "." or nil
end

-- The definitions in a block whose names begin with `prefix`.
local function children(block, prefix)
  local list, n = {}, #prefix
  local all = block.children
  for i = 1, #all do
    if all[i].name:sub(1, n) == prefix then list[#list + 1] = all[i] end
  end
  return list
end

--- Adds the names in a block or map that begin with a prefix, with the text that they need behind
--- them.
---@param block luio.BlockDef|luio.Map
---@param prefix string
---@param add fun(name: string, suffix: string?)
function M.children(block, prefix, add)
  for _, def in ipairs(children(block, prefix)) do add(def.name, suffix_of(def)) end
end

--- The definition of a finished path: CHANNEL[2].CTRL; "" is the map itself. An index may be "[*]".
---@param map luio.Map
---@param path string
---@return luio.Map|luio.BlockDef|luio.RegisterDef|nil
function M.follow(map, path)
  local def = map
  local rest = path
  while rest ~= "" do
    if def.kind ~= "block" then return nil end
    local name, index, after = rest:match "^([%a_][%w_]*)(%b[])(.*)$"
    if not name then name, after = rest:match "^([%a_][%w_]*)(.*)$" end
    def = name and def.child[name]
    if not def or (index ~= nil) ~= (def.count ~= nil) then return nil end
    if index then
      local i = tonumber(index:match "^%[(%d+)%]$")
      if index ~= "[*]" and not (i and i < def.count) then return nil end
    end
    if after ~= "" and after:sub(1, 1) ~= "." then return nil end
    rest = after:sub(2)
  end
  return def
end
local follow = M.follow

-- ---- Places --------------------------------------------------------------------------------------
-- `wanted` is the property that a register or field must have: "writable", "readable", or nil; with
-- one, a value is to follow, behind "=".

local function add_fields(reg, before, wanted, add)
  for _, field in ipairs(reg.fields) do
    if not wanted or field[wanted] then add(before .. field.name, wanted and "=") end
  end
end

-- The elements of an array whose index begins with `digits`.
local function elements(def, before, digits)
  local list = {}
  local i = 0
  while i < def.count and #list < M.MAX_ELEMENTS do
    if tostring(i):sub(1, #digits) == digits then
      list[#list + 1] = ("%s%s[%d]%s"):format(before, def.name, i, def.kind == "block" and "." or "")
    end
    i = i + 1
  end
  return list
end

-- A whole element, ARRAY[3]: itself, and what follows.
local function element(def, text, wanted, fields)
  local list, add = collector(text)
  add(text, def.kind == "block" and "." or nil)
  if def.kind == "register" and fields then add_fields(def, text .. ".", wanted, add) end
  return sorted(list)
end

-- The definitions in a block, by name. Of one that is left more is offered: the elements of an array,
-- and a register's fields, so that the shell does not end the word behind its name.
local function names(block, before, word, wanted, fields)
  local found = {}
  for _, child in ipairs(children(block, word)) do
    if child.kind == "block" or not wanted or child[wanted] then found[#found + 1] = child end
  end
  local only = #found == 1 and found[1]
  if only and only.count then return elements(only, before, "") end
  local list, add = collector(before .. word)
  for _, child in ipairs(found) do
    add(before .. child.name, suffix_of(child) or wanted and not child.fields[1] and "=" or nil)
  end
  if only and only.kind == "register" and fields then add_fields(only, before .. only.name .. ".", wanted, add) end
  return sorted(list)
end

-- NAME, NAME.FIELD, ARRAY[3].NAME: before any "=".
local function register_paths(map, text, wanted, fields)
  local before, word = text:match "^(.*%.)([^.]*)$"
  if not before then before, word = "", text end
  local def = follow(map, before:sub(1, -2))
  if not def then return {} end
  if def.kind == "register" then
    local list, add = collector(text)
    if fields then add_fields(def, before, wanted, add) end
    return sorted(list)
  end
  local name, digits = word:match "^([%a_][%w_]*)%[(%d*)$"
  if name then
    local array = def.child[name]
    return array and array.count and elements(array, before, digits) or {}
  end
  local one = word:match "^[%a_][%w_]*%[%d+%]$" and follow(map, text)
  if one then return element(one, text, wanted, fields) end
  return names(def, before, word, wanted, fields)
end

-- REGISTER.FIELD=VALUE,FIELD=VALUE: the text behind the first "=". Only an assignment takes more
-- than one field.
local function assignments(map, text, wanted)
  local list, add = collector(text)
  local path = text:match "^([^=]*)="
  local outer, name = path:match "^(.*)%.([%a_][%w_]*)$"
  local reg = outer and follow(map, outer)
  if not reg or reg.kind ~= "register" then return list end
  local before = text:match "^(.*[=,])[^=,]*$"
  if before:sub(-1) == "=" then
    local field = reg.field[before:match "([%a_][%w_]*)=$"]
    for value in pairs(field and field[wanted] and field.values or {}) do add(before .. value) end
  elseif wanted == "writable" then
    local given = { [name] = true }
    for other in before:gmatch ",([%a_][%w_]*)=" do given[other] = true end
    for _, field in ipairs(reg.fields) do
      if field.writable and not given[field.name] then add(before .. field.name, "=") end
    end
  end
  return sorted(list)
end

-- Of a place without a map only the width is known.
local function widths(text)
  local list, add = collector(text)
  local before = text:match "^(.*):u?%d*$"
  local parsed = before and place.parse(before)
  if parsed and not parsed.width and not parsed.high then
    for _, width in ipairs { "u8", "u16", "u32", "u64" } do add(before .. ":" .. width) end
  end
  return list
end

---@class luio.PlaceCompletion
---@field assign boolean?     the place is to be written: only what can be, with "=" behind it
---@field compare boolean?    it is to be compared with a value: only what can be read, with "=" behind it
---@field registers boolean?  no fields

--- Candidates for a place on the command line (luio.tool.explore.place has the grammar).
---@param map luio.Map?
---@param text string  what there is of it
---@param options? luio.PlaceCompletion
---@return string[] candidates  whole words; one that ends in "." "[" or "=" goes on
function M.place(map, text, options)
  if text:match "^%d" then return widths(text) end
  if not map then return {} end
  options = options or {}
  local wanted = options.assign and "writable" or options.compare and "readable" or nil
  if text:find("=", 1, true) then return assignments(map, text, wanted or "writable") end
  return register_paths(map, text, wanted, not options.registers)
end

return M
