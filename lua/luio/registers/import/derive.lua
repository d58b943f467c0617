--- derivedFrom: the properties that a peripheral, cluster, register, field or enumeration takes
--- from another.
---
--- A node without derivedFrom is itself; one with it becomes a copy of its base with its own values
--- over it, made when it is first asked for, so that references may point forwards. A path of dotted
--- names is tried in the scope the reference stands in, then in each scope around it, out to the
--- device. Chains are followed in a loop and not by recursion: a file may chain thousands.
---
--- All properties are taken but names and references to other places of the base (alternate...).
--- dim is taken only by a name with a "%s", which means nothing without; an element with a dim of its
--- own keeps the base's distance, and its indices where there are as many. A moved field keeps its
--- width. Inheritable properties (size, access, reset values, protection) are also
--- taken from the base's own surroundings, if the new place's do not state them.

local numbers = require "luio.registers.import.numbers"
local range = require "luio.registers.import.range"
local fail = require("luio.registers.import.fail").fail

local M = {}

local MAX_NESTED = 60 -- references met while following a reference
local MAX_STEPS = 2 * 10 ^ 6 -- nodes looked at for all of them
local MAX_EXPANDED = 2 * 10 ^ 5 -- names in all indexes of expanded arrays

local own_only = {
  tag = true, line = true, parent = true, from = true, kids = true, name = true, displayName = true, base = true,
  alternateRegister = true, alternateGroup = true, alternateCluster = true, alternatePeripheral = true,
  headerEnumName = true, headerStructName = true,
}
local dims = { dim = true, dimIncrement = true, dimIndex = true }
local range_keys = { lsb = true, msb = true, bitOffset = true, bitWidth = true, bitRange = true }
M.inherited = { "size", "access", "resetValue", "resetMask", "protection" }

---@class luio.SvdResolver
---@field notes luio.SvdNotes
---@field names fun(node: luio.SvdNode): string[]  the names of an array's elements
local Resolver = {}
Resolver.__index = Resolver

local function label(node)
  local parts = {}
  while node and node.parent do
    table.insert(parts, 1, node.name or node.tag)
    node = node.parent
  end
  return table.concat(parts, ".")
end

--- "UART0.CTRL.EN", for messages and notes.
---@param node luio.SvdNode
---@return string
M.label = label

-- ---- Finding a base ------------------------------------------------------------------------------

-- name -> kids of that name; an array is found with and without its "%s".
---@private
function Resolver:index(scope)
  local index = self.indexes[scope]
  if index then return index end
  index = { plain = {} }
  self:step(scope, #(scope.kids or {}))
  local function add(name, kid)
    local list = index.plain[name]
    if not list then index.plain[name] = { kid } elseif list[#list] ~= kid then list[#list + 1] = kid end
  end
  for _, kid in ipairs(scope.kids or {}) do
    if kid.name then
      add(kid.name, kid)
      if kid.name:find("%s", 1, true) then
        add((kid.name:gsub("%[%%s%]", ""):gsub("%%s", "")), kid)
        index.arrays = index.arrays or {}
        table.insert(index.arrays, kid)
      end
    end
  end
  self.indexes[scope] = index
  return index
end

---@private
function Resolver:named(scope, name)
  local index = self:index(scope)
  if index.plain[name] or not index.arrays then return index.plain[name] or {} end
  if not index.elements then
    index.elements = {}
    for _, kid in ipairs(index.arrays) do
      if self.expanded < MAX_EXPANDED then
        for _, element in ipairs(self.names(kid)) do
          self.expanded = self.expanded + 1
          index.elements[element] = kid
        end
      end
    end
  end
  return { index.elements[name] }
end

-- A node of `tag` by the names from part i on, inside scope.
---@private
function Resolver:down(scope, parts, i, tag)
  local last = i == #parts
  for _, kid in ipairs(self:named(scope, parts[i])) do
    self:step(kid)
    local found = nil
    if not last then found = self:down(self:resolve(kid), parts, i + 1, tag)
    elseif kid.tag == tag then found = kid end
    if found then return found end
  end
  if tag == "enumeratedValues" and last then return self:enumeration(scope, parts[i]) end
end

-- Names that are stated a thousand times could make one reference walk the whole file.
---@private
function Resolver:step(node, n)
  self.steps = self.steps + (n or 1)
  if self.steps > MAX_STEPS then fail("E2BIG", node.line, "too many derivedFrom to follow") end
end

-- An enumeration is often named without its field, or by the field that has it and no name of its own.
---@private
function Resolver:enumeration(scope, name)
  for _, field in ipairs(scope.tag == "register" and scope.kids or { scope }) do
    for _, kid in ipairs(field.tag == "field" and field.kids or {}) do
      self:step(kid)
      if kid.tag == "enumeratedValues" and (kid.name == name or (field.name == name and not kid.from)) then return kid end
    end
  end
end

-- The last resort for an enumeration: the only one of that name in the file.
---@private
function Resolver:only_enumeration(name)
  if not self.enumerations then
    self.enumerations = {}
    local function walk(node)
      if node.tag == "enumeratedValues" and node.name then
        self.enumerations[node.name] = self.enumerations[node.name] == nil and node or false
      end
      for _, kid in ipairs(node.kids or {}) do walk(kid) end
    end
    walk(self.device)
  end
  return self.enumerations[name]
end

-- An element that is being put together has its own children already; these are enough.
---@private
function Resolver:whole(node)
  return self.busy[node] and node or self:resolve(node)
end

---@private
function Resolver:find(node)
  local parts, itself = {}, nil
  for part in (node.from .. "."):gmatch "([^.]*)%." do table.insert(parts, (part:gsub("^%s+", ""):gsub("%s+$", ""))) end
  if #parts > 20 then return nil end
  local scope = node.parent
  while scope do
    local whole = self:whole(scope)
    local found = self:down(whole, parts, 1, node.tag)
    -- A register that replaces the base's of the same name and derives from that.
    while found == node and whole.base do
      whole = whole.base
      found = self:down(whole, parts, 1, node.tag)
    end
    if found and found ~= node then return found end
    itself = itself or found
    scope = scope.parent
  end
  return node.tag == "enumeratedValues" and self:only_enumeration(parts[#parts]) or itself
end

-- ---- Putting it together -------------------------------------------------------------------------

local named = { register = true, cluster = true, field = true, enumeratedValue = true }

local function child_key(kid)
  if named[kid.tag] then
    return kid.tag .. " " .. (kid.name or "") .. " " .. (kid.alternateGroup or "")
  end
end

-- Which of the base's children a child of `own` stands for.
local function merge_kids(base, own)
  if not own.kids then
    if base.tag ~= "peripheral" then return base.kids end
  end
  local replaced, placed, kids = {}, {}, {}
  for _, kid in ipairs(own.kids or {}) do
    local key = child_key(kid)
    if key then replaced[key] = kid else replaced[kid.tag] = kid end
  end
  for _, kid in ipairs(base.kids or {}) do
    local key = child_key(kid)
    local mine = replaced[key or kid.tag]
    if not mine then
      if kid.tag ~= "interrupt" then table.insert(kids, kid) end -- a copy has interrupts of its own
    elseif key and not placed[mine] then
      placed[mine] = true
      table.insert(kids, mine)
    end
  end
  for _, kid in ipairs(own.kids or {}) do
    if not placed[kid] then table.insert(kids, kid) end
  end
  return kids
end

---@private
function Resolver:surroundings(merged, base)
  local around = {}
  local at = merged.parent
  while at do
    around[at] = true
    at = at.parent
  end
  local scope = base.parent
  while scope and not around[scope] do
    local whole = self:whole(scope)
    for _, key in ipairs(M.inherited) do
      if merged[key] == nil then merged[key] = whole[key] end
    end
    scope = scope.parent
  end
end

-- A field that says where it begins and not where it ends is as wide as its base; one that says only how wide it is or where
-- it ends begins where its base does.
local function rest_of_range(merged, own, base)
  local high, low = range.of(base)
  if own.bitRange or not low then return end
  if not (own.lsb or own.bitOffset) then merged.bitOffset = tostring(low) end
  if not (own.msb or own.bitWidth) then merged.bitWidth = tostring(high - low + 1) end
end

local function takes_dim(key, own, base)
  if not own.dim then return own.name ~= nil and own.name:find("%s", 1, true) ~= nil end
  return key == "dimIncrement" or key == "dimIndex" and base.dim ~= nil and numbers.parse(own.dim) == numbers.parse(base.dim)
end

---@private
function Resolver:merge(own, origin, base)
  local merged = { tag = own.tag, line = own.line, parent = own.parent, name = own.name, base = base, origin = own }
  local ranged = own.lsb or own.msb or own.bitOffset or own.bitWidth or own.bitRange
  for key, value in pairs(base) do
    if not own_only[key] and key ~= "origin" and not (ranged and range_keys[key]) and (not dims[key] or takes_dim(key, own, base)) then
      merged[key] = value
    end
  end
  if ranged then rest_of_range(merged, own, base) end
  for key, value in pairs(own) do
    if key ~= "kids" and key ~= "from" then merged[key] = value end
  end
  merged.kids = merge_kids(base, own)
  if merged.kids ~= base.kids then self:step(own, #merged.kids) end
  if own.tag == "register" or own.tag == "cluster" then self:surroundings(merged, origin) end
  return merged
end

---@private
function Resolver:cycle(node)
  local names = {}
  for i = self.busy[node], #self.trail do table.insert(names, label(self.trail[i])) end
  table.insert(names, label(node))
  if #names > 12 then names = { names[1], names[2], names[3], "...", names[#names - 1], names[#names] } end
  fail("EINVAL", node.line, "derivedFrom goes in a circle: %s", table.concat(names, " -> "))
end

--- The node with everything it derives; itself when it derives nothing.
---@param node luio.SvdNode
---@return luio.SvdNode
function Resolver:resolve(node)
  if not node.from then return node end
  if self.resolved[node] then return self.resolved[node] end
  self.nested = self.nested + 1
  if self.nested > MAX_NESTED then fail("E2BIG", node.line, "derivedFrom of %s: too many references to follow", label(node)) end
  local trail, start, bases, at = self.trail, #self.trail, {}, node
  while at and at.from and not self.resolved[at] do
    if self.busy[at] then self:cycle(at) end
    table.insert(trail, at)
    self.busy[at] = #trail
    bases[at] = self:find(at)
    if not bases[at] then
      self.notes:add("missing", label(at), "derivedFrom=\"%s\" is not there: imported without", at.from)
    end
    at = bases[at]
  end
  for i = #trail, start + 1, -1 do
    local link = trail[i]
    local base = bases[link]
    self.resolved[link] = base and self:merge(link, base, self.resolved[base] or base) or link
    self.busy[link], trail[i] = nil, nil
  end
  self.nested = self.nested - 1
  return self.resolved[node]
end

--- Makes the resolver of one file.
---@param device luio.SvdNode
---@param notes luio.SvdNotes
---@param names fun(node: luio.SvdNode): string[]
---@return luio.SvdResolver
function M.new(device, notes, names)
  return setmetatable({
    device = device, notes = notes, names = names, indexes = {}, resolved = {}, busy = {}, trail = {}, nested = 0,
    expanded = 0, steps = 0,
  }, Resolver)
end

return M
