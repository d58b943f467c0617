--- Registers behind a selector: a map's `when`, resolved while the map is checked.
---
---     LCR = { 3, 8, "rw", DLAB = { 7, values = { DATA = 0, DIVISOR = 1 } } },
---     DLL = { 0, 8, "rw", alias = "RBR", when = { ["LCR.DLAB"] = "DIVISOR" } },
---     EEPROM = { 0x100, when = { MEM_PAGE = { 0xc, 0xd } }, block = { ... } },
---
--- A key names the selector as a path, looked for in the block in which `when` stands, then in each block around it up to
--- the map; so in an array of blocks each element has the selector that is in it. `M.of` gives the conditions of one
--- register with all its indices known: those of the blocks it is in, its own, and before each the conditions of the
--- selector itself. Checked from the first, no selector is ever read while it is hidden. luio.registers.selectors reads
--- them from a device.

local bit = require "bit"
local bits = require "luio.registers.bits"
local near = require "luio.registers.near"

local M = {}

---@class luio.WhenDef   one condition as a map states it
---@field depth integer  of the block that the path begins in; 0: the map
---@field path string    of the selector's register, from there
---@field field luio.FieldDef?
---@field values (integer|ffi.cdata*)[]  any of them
---@field wanted string  as text

---@class luio.Condition   the same for one register
---@field path string      of the selector's register
---@field label string     "LCR.DLAB"
---@field key string       of its bytes
---@field def luio.RegisterDef
---@field field luio.FieldDef?
---@field offset integer
---@field high integer
---@field low integer
---@field values (integer|ffi.cdata*)[]
---@field wanted string
---@field behind luio.Condition[]?  of the selector itself
---@field holds boolean    these bits hold the written value
---@field missing boolean  the selector is not in this map

--- Names the bytes of a register.
---@param def luio.RegisterDef
---@param offset integer
---@return string
function M.key(def, offset)
  return ("%d:%x:%d:%s"):format(def.region, offset, def.width, def.endian)
end

-- ---- Stated --------------------------------------------------------------------------------------

-- The meaning of a path from a block on: a register and maybe a field of it; or its fault.
local function descend(block, path)
  local def, at, rest = block, "", path
  while rest ~= "" do
    local name, index, after = rest:match "^%.?([%a_][%w_]*)(%[?%d*%]?)(.*)$"
    if not name then return nil, "is no path: REGISTER, REGISTER.FIELD, BLOCK[0].REGISTER" end
    if def.kind == "register" then
      local field = def.field[name]
      if not field or index ~= "" or after ~= "" then
        return nil, ("%s has no field %s%s"):format(at, name .. index .. after, near.hint(name, def.field))
      end
      return def, at, field
    end
    local child = def.child[name]
    if not child then return nil, ("%s has no register %s%s"):format(at, name, near.hint(name, def.child)) end
    def, at, rest = child, at .. (at ~= "" and "." or "") .. name .. index, after
    local i = tonumber(index:match "^%[(%d+)%]$")
    if def.count and not i then
      return nil, ("%s is an array: %s[0]; in one of its elements the selector of the same one goes without %s"):format(at, at, at)
    elseif index ~= "" and not (def.count and i < def.count) then
      return nil, ("%s has no element %s"):format(name, index)
    end
  end
  if def.kind ~= "register" then return nil, ("%s is a block: name a register in it"):format(at) end
  return def, at
end

local function resolve(stack, key)
  local first = key:match "^[%a_][%w_]*"
  for depth = #stack, 0, -1 do
    if first and stack[depth].child[first] then
      local def, path, field = descend(stack[depth], key)
      return def, path, field, depth
    end
  end
  local names = {}
  for depth = 0, #stack do
    for name in pairs(stack[depth].child) do names[name] = true end
  end
  return nil, ("there is no register %s%s"):format(first or key, near.hint(first or key, names))
end

local function text_of(field, value)
  local name = field and field.names and type(value) == "number" and field.names[value]
  if name then return name end
  if type(value) == "cdata" then return "0x" .. bit.tohex(value, 16) end
  return value > 9 and ("0x%x"):format(value) or tostring(value)
end

-- A value that is wanted, as a number.
local function value_of(def, field, label, value)
  local width = field and field.bits or def.width
  if type(value) == "string" then
    local number = field and field.values and field.values[value]
    if number then return number end
    if not (field and field.values) then return nil, ("%s has no names for values; %s is not a number"):format(label, value) end
    return nil, ("%s has no value %s%s"):format(label, value, near.hint(value, field.values))
  end
  if type(value) == "boolean" and width == 1 then return value and 1 or 0 end
  if type(value) == "cdata" and (width == 64 or value / 2ULL ^ width == 0ULL) then return bits.number(value + 0ULL) end
  if type(value) == "number" and value >= 0 and value % 1 == 0 and value < 2 ^ math.min(width, 53) then return value end
  return nil, ("%s is not %s: it has %d bit%s"):format(label, tostring(value), width, width > 1 and "s" or "")
end

-- Why a selector can't be looked at, by its own definition.
local function unfit(def, field, label)
  if not def.readable or field and not field.readable then
    return ("%s can't be read (it is write-only): its selection is unknown"):format(label)
  elseif def.read_effect then
    return ("%s can't be looked at: reading it has an effect (%s)"):format(label, def.read_effect)
  end
end

-- One condition of a `when`.
local function condition(stack, key, value)
  local def, path, field, depth = resolve(stack, key)
  if not def then return nil, path end
  local label = field and ("%s.%s"):format(path, field.name) or path
  local why = unfit(def, field, label)
  if why then return nil, why end
  local values, words = {}, {}
  local wanted = type(value) == "table" and value or { value }
  if #wanted == 0 then return nil, ("%s = { } is never so: a value, or a list of them"):format(key) end
  for i, one in ipairs(wanted) do
    values[i], why = value_of(def, field, label, one)
    if not values[i] then return nil, why end
    words[i] = text_of(field, values[i])
  end
  return { depth = depth, path = path, field = field, def = def, values = values, wanted = table.concat(words, " or ") }
end

-- Whether a selector is, over other selectors, behind itself.
local function circular(def, stack)
  if stack[def] then return true end
  stack[def] = true
  for _, c in ipairs(def.conditions or {}) do
    if circular(c.def, stack) then return true end
  end
  stack[def] = nil
  return false
end

--- Resolves every `when` of a map. Registers that are behind a selector get `conditions` (those of the blocks around
--- them first).
---@param map luio.Map
---@param fault fun(path: string, format: string, ...)
---@return boolean any
---@return boolean circular  a register is behind itself: `M.of` must not be asked
function M.resolve(map, fault)
  local guarded = {}
  local function walk(block, prefix, stack, inherited)
    for _, def in ipairs(block.children) do
      local path, list = prefix .. def.name, inherited
      if def.when then
        list = { unpack(inherited) }
        local keys = {}
        for key in pairs(def.when) do table.insert(keys, key) end
        table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
        if not keys[1] then fault(path, 'when = { } says nothing: when = { SELECTOR = value }') end
        for _, key in ipairs(keys) do
          local c, why
          if type(key) == "string" then c, why = condition(stack, key, def.when[key])
          else why = "a selector has a name: when = { SELECTOR = value }" end
          if c then table.insert(list, c) else fault(path, "when: %s", why) end
        end
      end
      if list[1] then def.conditions = list end
      if def.kind == "block" then
        stack[#stack + 1] = def
        walk(def, path .. (def.count and "[0]" or "") .. ".", stack, list)
        stack[#stack] = nil
      elseif list[1] then
        table.insert(guarded, { def = def, path = path .. (def.count and "[0]" or ""), name = path })
      end
    end
  end
  walk(map, "", { [0] = map }, {})
  local round = false
  for _, one in ipairs(guarded) do
    if circular(one.def, {}) then
      fault(one.name, "when: it is behind itself")
      round = true
    end
  end
  for _, one in ipairs(round and {} or guarded) do
    local list = M.of(map, one.def, one.path)
    for i, a in ipairs(list) do
      for j = 1, i - 1 do
        if M.exclusive({ a }, { list[j] }) then
          fault(one.name, "when: it is never visible: %s would have to be %s and %s", a.label, list[j].wanted, a.wanted)
        end
      end
    end
  end
  return guarded[1] ~= nil, round
end

-- ---- Of one register -----------------------------------------------------------------------------

local known = setmetatable({}, { __mode = "k" }) -- map -> path -> conditions

-- The paths of the blocks that a register is in, by depth; its offset, its definition and its path in this map.
-- No offset, where a map that is a part of another (luio.registers.absolute) does not have it; and where that has some
-- elements of an array alone, they have other names there.
local function blocks_of(map, path)
  local prefixes, def, base, prefix, depth = { [0] = "" }, map, 0, "", 0
  for name, index in path:gmatch "([%a_][%w_]*)%[?(%d*)%]?%.?" do
    local element = index ~= "" and ("%s[%s]"):format(name, index) or name
    local child = def.child[name]
    if not child then
      child = def.elements and def.elements[element]
      if not child then return prefixes end
      element = child.name
    end
    def, base = child, base + child.offset + (tonumber(index) or 0) * (child.stride or 0)
    if def.kind == "register" then return prefixes, base, def, prefix .. element end
    depth, prefix = depth + 1, prefix .. element .. "."
    prefixes[depth] = prefix
  end
end

-- Bits of a register that hold the written value.
local function holds(def, field)
  if field then return field.access == "rw" end
  for _, f in ipairs(def.fields) do
    if f.access ~= "rw" then return false end
  end
  return def.access == "rw"
end

--- The conditions under which a register is visible, in the order in which they are to be asked; nil: always.
---@param map luio.Map
---@param def luio.RegisterDef
---@param path string  with all indices
---@return luio.Condition[]?
function M.of(map, def, path)
  if not def.conditions then return nil end
  known[map] = known[map] or {}
  local list = known[map][path]
  if list then return list end
  list = {}
  local seen, prefixes = {}, blocks_of(map, path)
  local function add(c)
    local name = ("%s:%d:%s"):format(c.label, c.low, c.wanted)
    if not seen[name] then
      seen[name] = true
      table.insert(list, c)
    end
  end
  for _, c in ipairs(def.conditions) do
    local at = prefixes[c.depth] .. c.path
    local _, offset, selector, here = blocks_of(map, at)
    at = here or at
    local behind = selector and M.of(map, selector, at)
    for _, before in ipairs(behind or {}) do add(before) end
    add {
      path = at, label = c.field and ("%s.%s"):format(at, c.field.name) or at, key = selector and M.key(selector, offset) or at,
      def = selector or c.def, missing = selector == nil,
      field = c.field, offset = offset, high = c.field and c.field.high or c.def.width - 1, low = c.field and c.field.low or 0,
      values = c.values, wanted = c.wanted, behind = behind, holds = holds(c.def, c.field),
    }
  end
  known[map][path] = list
  return list
end

--- Whether a condition is met by a value of the selector's register.
---@param c luio.Condition
---@param value integer|ffi.cdata*
---@return boolean met
---@return integer|ffi.cdata* is  the selector's part of it
function M.met(c, value)
  local is = bits.take(value, c.high, c.low)
  for _, wanted in ipairs(c.values) do
    if is == wanted then return true, is end
  end
  return false, is
end

--- "DATA": a selector as text.
---@param c luio.Condition
---@param is integer|ffi.cdata*
---@return string
function M.text(c, is)
  return text_of(c.field, is)
end

--- "LCR.DLAB is DIVISOR": when a definition is visible, whatever its indices; nil: always.
---@param def luio.Def
---@return string?
function M.stated(def)
  if not def.conditions then return nil end
  local parts = {}
  for i, c in ipairs(def.conditions) do
    parts[i] = ("%s is %s"):format(c.field and ("%s.%s"):format(c.path, c.field.name) or c.path, c.wanted)
  end
  return table.concat(parts, " and ")
end

-- Whether no value of a selector meets both conditions: by the bits that they share.
local function exclude_each_other(a, b)
  local high, low = math.min(a.high, b.high), math.max(a.low, b.low)
  if a.key ~= b.key or high < low then return false end
  for _, x in ipairs(a.values) do
    for _, y in ipairs(b.values) do
      if bits.take(x, high - a.low, low - a.low) == bits.take(y, high - b.low, low - b.low) then return false end
    end
  end
  return true
end

--- Whether two registers are never visible at the same time.
---@param a luio.Condition[]?
---@param b luio.Condition[]?
---@return boolean
function M.exclusive(a, b)
  for _, one in ipairs(a or {}) do
    for _, other in ipairs(b or {}) do
      if exclude_each_other(one, other) then return true end
    end
  end
  return false
end

return M
