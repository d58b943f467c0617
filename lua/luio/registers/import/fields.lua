--- Fields of a register: the positions of their bits, the names of their values.
---
--- The bits (range.lua) repeat with dim. Names for values keep their spelling, since a map takes any string for them.

local access = require "luio.registers.import.access"
local names = require "luio.registers.import.names"
local numbers = require "luio.registers.import.numbers"
local range = require "luio.registers.import.range"

local M = {}

---@class luio.SvdField
---@field name string
---@field high integer
---@field low integer
---@field count integer?    a row of fields; `name` has a "%d"
---@field stride integer?   bits
---@field access string
---@field read_effect string?
---@field write_effect string?
---@field sets boolean?  every write to its register sets it
---@field reset integer|ffi.cdata*?
---@field values luio.SvdValue[]?
---@field text string?
---@field remarks string[]

---@class luio.SvdValue
---@field name string
---@field value integer|ffi.cdata*
---@field text string?

-- ---- Values --------------------------------------------------------------------------------------

local function add_value(self, list, used, remarks, kid, width, path)
  local name = kid.name and kid.name:gsub("%s+", " ")
  local default = name and (kid.isDefault == "true" or kid.isDefault == "1")
  if default then
    table.insert(remarks, ("%s otherwise"):format(name))
    self.notes:add("enumeration", path, "isDefault is a remark: a map has no name for all other values")
  end
  if not kid.value then
    if not default then self.notes:add("missing", path, "an enumerated value without a value is left out") end
    return
  end
  local value, count = numbers.parse_pattern(kid.value)
  if not value then
    self.notes:add("contradiction", path, "enumerated value \"%s\" is no number: left out", kid.value)
    return
  elseif not numbers.fits(value, width) then
    self.notes:add("contradiction", path, "an enumerated value that does not fit in its field is left out")
    return
  end
  name = name or ("VALUE_%s"):format(numbers.hex(value):gsub("ULL", ""))
  if used[name] ~= nil then
    if numbers.wide(used[name]) == numbers.wide(value) then return end
    self.notes:add("name", path, "two values of one name: the later has its number behind it")
    name = ("%s_%s"):format(name, numbers.hex(value):gsub("ULL", ""))
    if used[name] ~= nil then return end
  end
  if count > 1 then
    self.notes:add("enumeration", path, "don't-care bits: the name is the lowest value's, the rest a remark")
    table.insert(remarks, ("%s is %s"):format(name, kid.value))
  end
  used[name] = value
  self.budget:take(1, kid.line)
  table.insert(list, { name = name, value = value, text = kid.description })
end

-- Values are for what a read returns. Names that are for writing only would be shown for reads.
local function values(self, node, kind, width, remarks, path)
  local reading, writing = {}, {}
  local read_names, write_names = {}, {}
  for _, kid in ipairs(node.kids or {}) do
    if kid.tag == "enumeratedValues" then
      local group = self.resolver:resolve(kid)
      local usage = (group.usage or "read-write"):lower()
      local list, used = reading, read_names
      if usage == "write" then list, used = writing, write_names end
      for _, value in ipairs(group.kids or {}) do
        if value.tag == "enumeratedValue" then add_value(self, list, used, remarks, value, width, path) end
      end
    end
  end
  if kind == "wo" or not reading[1] then
    reading, writing = writing[1] and writing or reading, writing[1] and reading or writing
  end
  for _, value in ipairs(writing) do
    if not (read_names[value.name] and write_names[value.name]
      and numbers.wide(read_names[value.name]) == numbers.wide(write_names[value.name])) then
      self.notes:add("enumeration", path, "names for reading and for writing: a map has one set, the other is a remark")
      table.insert(remarks, ("%s %s = %s"):format(kind == "wo" and "read:" or "write:", value.name, numbers.literal(value.value)))
    end
  end
  return reading[1] and reading or nil
end

-- ---- Fields --------------------------------------------------------------------------------------

local function one(self, node, register, path)
  local high, low = range.of(node, function(kind, ...) self.notes:add(kind, path, ...) end)
  if not high then
    self.notes:add("missing", path, "a field without bits is left out")
    return nil
  end
  local width = high - low + 1
  local how = access.of(node, node.access or register.access, register.node, self.notes, path)
  local field = {
    name = node.name, high = high, low = low, access = how.kind, read_effect = how.read_effect, write_effect = how.write_effect,
    sets = how.sets, text = node.description, remarks = how.remarks, line = node.line,
  }
  if node.resetValue then
    local reset = numbers.parse(node.resetValue)
    if reset and numbers.fits(reset, width) then field.reset = reset
    else self.notes:add("contradiction", path, "a reset value that does not fit is left out") end
  end
  field.values = values(self, node, how.kind, math.min(width, 64), field.remarks, path)
  return field
end

--- The bits of a register's reset value that are in a field, where all of them are known.
---@param field luio.SvdField
---@param register table  with `partial_reset` and `reset_mask`
function M.reset(field, register)
  if field.reset or field.high > 63 then return end
  local known = numbers.slice(register.reset_mask, field.high, field.low)
  if numbers.wide(known) == numbers.ones(field.high - field.low + 1) then
    field.reset = numbers.slice(register.partial_reset, field.high, field.low)
  end
end

local function copy(field, name, shift, index)
  local element = {}
  for key, value in pairs(field) do element[key] = value end
  element.name, element.high, element.low = name, field.high + shift, field.low + shift
  element.count, element.stride, element.elements = nil, nil, nil
  if index and field.text then element.text = names.of_text(field.text, index) end
  return element
end

--- The fields of a row, each by itself.
---@param field luio.SvdField
---@return luio.SvdField[]
function M.of_row(field)
  local list = {}
  for i, name in ipairs(field.elements) do list[i] = copy(field, name, (i - 1) * field.stride, field.indices[i]) end
  return list
end

--- All fields of a register, named, in the file's order. Rows stay rows where a map can have them.
---@param self table       the import: notes, budget, resolver
---@param register table   node, access, size, singles: no rows
---@param path string
---@return luio.SvdField[]
function M.of(self, register, path)
  local list = {}
  for _, kid in ipairs(register.node.kids or {}) do
    local node = kid.tag == "field" and self.resolver:resolve(kid)
    local at = node and path .. "." .. (node.name or "?")
    local field = node and one(self, node, register, at)
    if field and not node.name then
      field.name = ("BITS_%d_%d"):format(field.high, field.low)
      self.notes:add("missing", at, "a field without a name is called by its bits")
    end
    local dim = field and names.dim(self, node, at)
    if field and not dim then
      self.budget:take(2, node.line)
      field.name = field.name:gsub("%[?%%s%]?", "")
      table.insert(list, field)
    elseif dim then
      local width = field.high - field.low + 1
      if not dim.increment then self.notes:add("missing", at, "dim without dimIncrement: the field's width is used") end
      field.count, field.stride, field.elements, field.indices = dim.count, dim.increment or width, {}, {}
      self.budget:take(2 * dim.count, node.line)
      for i = 1, dim.count do
        field.indices[i] = dim.list and dim.list[i] or tostring(i - 1)
        field.elements[i] = names.of_element(field.name, field.indices[i])
      end
      local last = field.high + (dim.count - 1) * field.stride
      if last > range.MAX_BIT then
        self.notes:add("contradiction", at, "a row of fields that ends at bit %d is left out", last)
      elseif dim.count > 64 or dim.count == 0 or dim.list or field.stride < width or field.stride > 64
        or last >= register.size or register.singles then
        for _, element in ipairs(M.of_row(field)) do table.insert(list, element) end
      else
        table.insert(list, field)
      end
    end
  end
  return list
end

return M
