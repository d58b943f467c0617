--- From the tree of an SVD file to the blocks of a map: derivation, inheritance and repetition are
--- followed here, block by block. fields.lua makes the fields, layout.lua meets a map's stricter rules.
---
--- Arrays stay arrays. A budget counts every definition that is made, so that a small file that
--- repeats its repetitions ends in an error and not in all of the memory.

local bit = require "bit"
local access = require "luio.registers.import.access"
local derive = require "luio.registers.import.derive"
local fields = require "luio.registers.import.fields"
local layout = require "luio.registers.import.layout"
local names = require "luio.registers.import.names"
local numbers = require "luio.registers.import.numbers"
local fail = require("luio.registers.import.fail").fail

local M = {}

M.MAX_DEFINITIONS = 10 ^ 6 -- after everything is expanded; a register counts 4, a field 2, a value 1
local MAX_STRIDE = 2 ^ 40 -- of an array in a map
local MAX_CLUSTERS = 5 -- deep: with a peripheral around and PARTS inside that is what a map nests

local Budget = {}
Budget.__index = Budget

function Budget:take(n, line)
  self.left = self.left - n
  if self.left < 0 then
    fail("E2BIG", line, "too many registers, fields and values when everything is expanded")
  end
end

---@class luio.SvdImport
---@field notes luio.SvdNotes
---@field resolver luio.SvdResolver
---@field widest integer      bits of the widest register that was met
---@field asked table<luio.SvdNode, true>  peripherals that are imported, as they are in the file
local Import = {}
Import.__index = Import

local function inherit(outer, node)
  local props = {}
  for _, key in ipairs(derive.inherited) do props[key] = node[key] or outer[key] end
  return props
end

---@private
function Import:protection(node, remarks, path)
  local text = node.protection
  if not text then return end
  local meaning = ({ s = "secure", n = "non-secure", p = "privileged" })[text:lower()] or text
  table.insert(remarks, "access: " .. meaning)
  self.notes:add("unsupported", path, "protection is a remark: a map has none")
end

-- ---- Repeating -----------------------------------------------------------------------------------

-- One item, an array, or one item per element: of all, or only of those that item.only names. `least` is the bytes of an element.
---@private
function Import:repeat_item(item, node, path, least, taken, out)
  local dim = names.dim(self, node, path)
  item.raw = item.name
  if not dim then
    item.name = item.name:gsub("%[?%%s%]?", "")
    if item.name == "" then item.name = item.raw end
    table.insert(out, item)
    return
  end
  if not dim.increment then self.notes:add("missing", path, "dim without dimIncrement: the element's size is used") end
  local stride, short = dim.increment or least, names.of_array(item.name)
  if dim.count == 0 then
    self.notes:add("contradiction", path, "dim is 0: left out")
  elseif not dim.list and not item.only and stride >= math.max(least, 1) and stride <= MAX_STRIDE
    and (taken[names.clean(short)] or 0) <= 1 then
    item.count, item.stride, item.name = dim.count, stride, short
    item.alternate = item.alternate and names.of_array(item.alternate)
    if not item.raw:find("%%s%]?$") then table.insert(item.remarks, 1, item.raw) end
    table.insert(out, item)
  else
    if stride < least then
      self.notes:add("overlap", path, "elements of %d bytes every %d bytes: imported one by one", least, stride)
    end
    self.budget:take(dim.count * (4 + #(item.fields or {})), node.line)
    local texts = (item.text or "") .. (item.alternate or "")
    if texts:find("%s", 1, true) then self.budget:take(dim.count * #texts / 16, node.line) end
    for i = 0, dim.count - 1 do
      local one = {}
      for key, value in pairs(item) do one[key] = value end
      local index = dim.list and dim.list[i + 1] or tostring(i)
      one.name = names.of_element(item.raw, index)
      one.text = item.text and names.of_text(item.text, index)
      one.alternate = item.alternate and names.of_text(item.alternate, index)
      one.offset = item.offset + i * stride
      if not item.only or item.only[one.name] then table.insert(out, one) end
    end
  end
end

-- How often each name is there, once an array has lost its "%s": CH and CH%s can't both be CH.
local function taken_names(node)
  local taken = {}
  for _, kid in ipairs(node.kids or {}) do
    if kid.name then
      local name = names.clean(kid.name:find("%s", 1, true) and names.of_array(kid.name) or kid.name)
      taken[name] = (taken[name] or 0) + 1
    end
  end
  return taken
end

-- ---- Registers -----------------------------------------------------------------------------------

---@private
function Import:reset(register, props, own, path)
  local size = math.min(register.size, 64)
  local value = props.resetValue and numbers.parse(props.resetValue)
  local mask = numbers.ones(size)
  if not value then
    if props.resetValue then self.notes:add("contradiction", path, "reset value \"%s\" is no number of 64 bits", props.resetValue) end
    return
  end
  if not numbers.fits(value, size) then
    if own.resetValue then self.notes:add("contradiction", path, "a reset value larger than the register is cut") end
    value = numbers.slice(value, size - 1, 0)
  end
  local stated = props.resetMask and numbers.parse(props.resetMask)
  if props.resetMask and not stated then self.notes:add("contradiction", path, "resetMask \"%s\" is no number", props.resetMask) end
  if stated == 0xffffffff and not own.resetMask then stated = nil end -- the device's "all": of 64 bits, too
  local known = stated and numbers.wide(numbers.slice(stated, size - 1, 0)) or mask
  if known == mask then
    register.reset = value
  elseif known ~= 0ULL then
    register.partial_reset, register.reset_mask = value, known
  end
end

-- Where not all bits are known at reset: of the register when those of all fields are, else by field.
---@private
function Import:partial_reset(register, path)
  local mask = register.reset_mask
  if not mask then return end
  local all = register.fields[1] ~= nil
  for _, field in ipairs(register.fields) do
    if field.high > 63 or numbers.wide(numbers.slice(mask, field.high, field.low)) ~= numbers.ones(field.high - field.low + 1) then
      all = false
    end
  end
  if all then
    register.reset = numbers.plain(bit.band(numbers.wide(register.partial_reset), mask))
    self.notes:add("reset", path, "resetMask: bits outside of the fields are unknown at reset; they are stated as 0")
    return
  end
  for _, field in ipairs(register.fields) do fields.reset(field, register) end
  table.insert(register.remarks, ("reset %s, of the bits %s"):format(numbers.hex(register.partial_reset), numbers.hex(numbers.plain(mask))))
  self.notes:add("reset", path, "resetMask: only the fields that are known at reset state it, the rest is a remark")
end

-- Where a register or cluster is, and its name; nil, and a note, when the place is unknown.
---@private
function Import:place(node, kind, letters, path)
  local offset = numbers.count(node.addressOffset, 2 ^ 48)
  if not offset then
    self.notes:add("missing", path, "a %s without an offset (addressOffset \"%s\") is left out", kind, node.addressOffset or "")
    return
  end
  local name = node.name
  if not name then
    name = ("%s_%X"):format(letters, offset)
    self.notes:add("missing", path, "a %s without a name is called %s", kind, name)
  end
  return offset, name
end

---@private
function Import:register(kid, outer, path, taken, out)
  local node = self.resolver:resolve(kid)
  path = path .. (node.name or "?")
  self.budget:take(4, node.line)
  local offset, name = self:place(node, "register", "REG", path)
  if not offset then return end
  local props = inherit(outer, node)
  local size = numbers.count(props.size, 2 ^ 20)
  if not size or size == 0 then
    if props.size then self.notes:add("contradiction", path, "size \"%s\": taken as 32", props.size) end
    size = 32
  end
  local how = access.of(node, props.access, nil, self.notes, path)
  local register = {
    kind = "register", name = name, path = path, line = node.line, node = node, offset = offset, size = size,
    access = how.kind, read_effect = how.read_effect, write_effect = how.write_effect, remarks = how.remarks,
    text = node.description, alternate = node.alternateRegister, group = node.alternateGroup,
  }
  self:reset(register, props, node, path)
  self:protection(node, register.remarks, path)
  if node.dataType then self.notes:add("unsupported", path, "dataType is left out: it is C's") end
  if node.displayName and node.displayName ~= name and not node.dim then
    table.insert(register.remarks, "displayed as " .. node.displayName)
  end
  register.fields = fields.of(self, {
    node = node, access = props.access, size = size, singles = register.partial_reset,
  }, path)
  local set = {} -- whatever is written, and to which field: that is an effect of writing the register
  for _, field in ipairs(register.fields) do
    if field.sets then table.insert(set, field.name) end
  end
  if set[1] then register.write_effect = "sets " .. table.concat(set, ", ") end
  self:partial_reset(register, path)
  self:array_names(node, path)
  self:repeat_item(register, node, path, math.ceil(size / 8), taken, out)
end

---@private
function Import:array_names(node, path)
  for _, kid in ipairs(node.kids or {}) do
    if kid.tag == "dimArrayIndex" then self.notes:add("unsupported", path, "names for array indices (dimArrayIndex) are left out") end
  end
end

-- ---- Clusters and peripherals ----------------------------------------------------------------------

---@private
function Import:cluster(kid, outer, path, depth, taken, out)
  local node = self.resolver:resolve(kid)
  path = path .. (node.name or "?")
  if depth > MAX_CLUSTERS then fail("E2BIG", node.line, "%s: clusters nest more than %d deep", path, MAX_CLUSTERS) end
  self.budget:take(4, node.line)
  local offset, name = self:place(node, "cluster", "CLUSTER", path)
  if not offset then return end
  local block = {
    kind = "block", name = name, path = path, line = node.line, offset = offset, text = node.description, remarks = {},
    children = self:children(node, inherit(outer, node), path .. ".", depth + 1),
  }
  if node.alternateCluster then table.insert(block.remarks, "in the place of " .. node.alternateCluster) end
  self:protection(node, block.remarks, path)
  self:array_names(node, path)
  self:repeat_item(block, node, path, block.children.size, taken, out)
end

---@private
function Import:children(node, props, path, depth)
  local items, taken = {}, taken_names(node)
  for _, kid in ipairs(node.kids or {}) do
    if kid.tag == "register" then self:register(kid, props, path, taken, items)
    elseif kid.tag == "cluster" then self:cluster(kid, props, path, depth, taken, items) end
  end
  return layout.place(self, items)
end

-- A peripheral that derives and changes nothing has the very children of its base.
---@private
function Import:peripheral_children(node, path)
  local own, same = node.origin or node, node.base ~= nil
  for _, key in ipairs(derive.inherited) do same = same and own[key] == nil end
  for _, kid in ipairs(own.kids or {}) do same = same and kid.tag ~= "register" and kid.tag ~= "cluster" end
  if same then return self:peripheral_children(node.base, node.base.name and node.base.name .. "." or path) end
  local done = self.blocks[node]
  if not done then
    done = self:children(node, inherit(self.device, node), path, 1)
    self.blocks[node] = done
  end
  return done
end

--- The peripherals, as blocks that stand at their base addresses.
---@param wanted? fun(name: string): boolean
---@return table[] blocks
function Import:peripherals(wanted)
  local items, taken = {}, taken_names(self.device)
  for _, kid in ipairs(self.device.kids or {}) do
    if kid.tag == "peripheral" then self:peripheral(kid, wanted, taken, items) end
  end
  return items
end

---@private
function Import:peripheral(kid, wanted, taken, out)
  local name = kid.name or ("PERIPHERAL_%d"):format(kid.line)
  local found = not wanted or wanted(name) or wanted(names.of_array(name))
  local only = {} -- elements that were named, where the whole array was not
  for _, element in ipairs(not found and kid.name and kid.dim and names.elements(kid) or {}) do only[element] = wanted(element) or nil end
  if not found and not next(only) then return end
  self.asked[kid] = true
  local node = self.resolver:resolve(kid)
  local base = numbers.count(node.baseAddress, 2 ^ 48)
  if not kid.name then self.notes:add("missing", "line " .. kid.line, "a peripheral without a name is called %s", name) end
  if not base then
    self.notes:add("missing", name, "a peripheral without a base address (\"%s\") stands at 0", node.baseAddress or "")
    base = 0
  end
  local block = {
    kind = "block", name = name, path = name, line = node.line, offset = base, text = node.description, remarks = {},
    node = node, children = self:peripheral_children(node, name .. "."), only = not found and only or nil,
  }
  self:remarks(block, node)
  local least = block.children.size
  if least == 0 then
    self.notes:add("missing", name, "a peripheral without registers")
  end
  self:repeat_item(block, node, name, least, taken, out)
end

---@private
function Import:remarks(block, node)
  local list = block.remarks
  if node.alternatePeripheral then table.insert(list, "in the place of " .. node.alternatePeripheral) end
  if node.disableCondition then table.insert(list, "not there when " .. node.disableCondition) end
  if node.prependToName or node.appendToName then
    self.notes:add("name", block.path, "prependToName and appendToName are left out: names are a peripheral's own")
  end
  if node.headerStructName or node.groupName then
    self.notes:add("unsupported", block.path, "groupName and headerStructName are left out: they are for C's headers")
  end
  self:protection(node, list, block.path)
  for _, kid in ipairs(node.kids or {}) do
    if kid.tag == "interrupt" then
      table.insert(list, ("interrupt %s = %s"):format(kid.name or "?", kid.value or "?"))
      self.notes:add("unsupported", block.path, "interrupts are remarks: a map has registers only")
    elseif kid.tag == "addressBlock" and kid.usage and kid.usage:lower() ~= "registers" then
      table.insert(list, ("%s at +%s, %s bytes"):format(kid.usage, kid.offset or "?", kid.size or "?"))
    end
  end
end

--- Makes the state of one import.
---@param device luio.SvdNode
---@param notes luio.SvdNotes
---@return luio.SvdImport
function M.new(device, notes)
  return setmetatable({
    device = device, notes = notes, resolver = derive.new(device, notes, names.elements), blocks = {}, indices = {},
    widest = 8, asked = {},
    budget = setmetatable({ left = M.MAX_DEFINITIONS }, Budget),
  }, Import)
end

return M
