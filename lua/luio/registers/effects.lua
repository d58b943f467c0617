--- The side effects of reading or writing a byte of a device, by all of its register maps.
---
--- The bus knows addresses, not names: a read of byte 3 pops the FIFO, whether it is made as FIFO, as the wider
--- register that FIFO is a part of, as an element of an array, in another block, by another map, or by an offset. So
--- a register's side effect is kept as a range of bytes. Code that only looks asks about the bytes that it is about
--- to read:
---
---     effects.of(dev):find("read", 0, 0x10, 4)      -> { path = "FIFO", effect = "pops the FIFO", ... }, or nil
---     effects.of(dev):described(0, 0x10, 4)         -> every byte of it is some register's that can be read
---
--- These maps count: every map that is bound to the device (luio.bind; of a driver's versions the one at work), and
--- maps that were stated without binding (`state`): the matching driver's, where the user named another map. That one
--- counts even if it does not fit, because nothing else is known of these bytes. Where two regions are windows to the
--- same addresses, the effects of one hold for the other. A range of physical addresses has the effects of the device
--- that has its registers there.
---
--- The ranges are worked out at the first question, and again when a map came or went: a driver that only works
--- never pays for it, and registers keep the class that was made for them. An array without gaps is one range. For
--- each question there is a list of ranges that don't overlap, so an answer is found by halving.
---
--- Registers that are behind a selector (luio.registers.when) are in lists of their own. Their effects count for every
--- register except those behind other values of the same selector: no selector is read here, and in doubt a byte has the
--- effect.

local when = require "luio.registers.when"

local M = {}

---@alias luio.AccessKind "read"|"write"

---@class luio.Effect
---@field path string    the register of which it is stated
---@field effect string  "pops the FIFO"
---@field def luio.RegisterDef
---@field offset integer  of that register, in the region that was asked for

-- A register, or an array of them without gaps.
---@class luio.Span
---@field region integer
---@field first integer  byte
---@field last integer   the byte behind it
---@field path string
---@field def luio.RegisterDef
---@field stride integer?
---@field behind luio.Condition[]?  of which selectors it is visible; nil: always

-- ---- The bytes of a map --------------------------------------------------------------------------

local spans_of = setmetatable({}, { __mode = "k" })

local function spans(map)
  local list = spans_of[map]
  if list then return list end
  list = {}
  local function add(def, path, first, count)
    local bytes = def.width / 8
    table.insert(list, {
      region = def.region, first = first, last = first + bytes * count, path = path, def = def, stride = count > 1 and bytes or nil,
      behind = when.of(map, def, path),
    })
  end
  local function walk(block, prefix, base)
    for _, def in ipairs(block.children) do
      local path, first = prefix .. def.name, base + def.offset
      if def.kind == "register" and def.count and def.count > 1 and def.stride == def.width / 8 then
        add(def, path, first, def.count)
      else
        for i = 0, (def.count or 1) - 1 do
          local one, at = def.count and ("%s[%d]"):format(path, i) or path, first + i * (def.stride or 0)
          if def.kind == "block" then walk(def, one .. ".", at) else add(def, one, at, 1) end
        end
      end
    end
  end
  if not map:too_large() then walk(map, "", 0) end
  spans_of[map] = list
  return list
end

-- ---- Lists of ranges -----------------------------------------------------------------------------

-- The bytes covered by ranges that may overlap, as ranges that don't: each byte by the first that has it.
---@param list { first: integer, last: integer, span: luio.Span }[]  sorted
local function union(list)
  local out, reached = {}, -1
  for _, range in ipairs(list) do
    if range.last > reached then
      table.insert(out, { first = math.max(range.first, reached), last = range.last, of = range })
      reached = range.last
    end
  end
  return out
end

-- Place in such a list of the first range that ends behind a byte.
local function place_of(list, byte)
  local low, high = 1, #list + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if list[middle].last <= byte then low = middle + 1 else high = middle end
  end
  return low
end

-- The first range that has one of the bytes.
local function meeting(list, first, last)
  local range = list[place_of(list, first)]
  return range and range.first < last and range or nil
end

-- The first byte that no range has; nil: each has one.
local function gap(list, first, last)
  local at = place_of(list, first)
  while list[at] and list[at].first <= first do
    first = list[at].last
    if first >= last then return nil end
    at = at + 1
  end
  return first
end

-- The kind of each list.
local WANTED = {
  read = function(def, behind) return not behind and def.read_effect end,
  write = function(def, behind) return not behind and def.write_effect end,
  sometimes_read = function(def, behind) return behind and def.read_effect end,
  sometimes_write = function(def, behind) return behind and def.write_effect end,
  always_readable = function(def, behind) return not behind and def.readable end,
  readable = function(def) return def.readable end,
  stated = function() return true end,
  writable = function(def) return def.writable end,
}

-- ---- The table of a device -----------------------------------------------------------------------

---@class luio.StatedMap
---@field map luio.Map
---@field windows table<integer, integer>?  region -> its physical address; nil: the device's own regions

---@class luio.Effects
---@field package device luio.Device?
---@field package roots table<luio.Registers, true>  maps that are bound
---@field package named table<any, luio.StatedMap>   maps that are stated
---@field package bases table<integer, { space: any, base: integer }>
---@field package missing table<integer, true>  regions that could not be had when a list was made
---@field package lists table<string, table<any, table[]>>?  name of a list -> space -> ranges
local Effects = {}
Effects.__index = Effects

local function new(device)
  return setmetatable({ device = device, roots = setmetatable({}, { __mode = "k" }), named = {}, bases = {}, missing = {} }, Effects)
end

-- Where a region is: the region that it is a window to, and its first byte there. It keeps its first value,
-- also when the device comes back at other addresses: statements and questions about a region must name it
-- alike.
local function place(self, index)
  local known = self.bases[index]
  if known then return known.space, known.base end
  local device, region = self.device, nil
  if device then
    local ok
    region = rawget(device, "regions") and rawget(device.regions, index)
    if not region then ok, region = pcall(device.region, device, index) end
    if not region or ok == false then
      self.missing[index] = true
      return nil
    end
  end
  if self.missing[index] then -- the device is back: effects stated for this region count now
    self.missing[index], self.lists = nil, nil
  end
  known = { space = index, base = 0 }
  -- From 2^53 on an address is no number, and such regions are compared with no other.
  if region and type(region.addr) == "number" and region.addr > 0 then
    known.space, known.base = region.kind, region.addr
  end
  self.bases[index] = known
  return known.space, known.base
end

-- Every map that counts, once.
local function maps(self)
  local list, seen = {}, {}
  local function add(stated)
    if stated.windows or not seen[stated.map] then table.insert(list, stated) end
    seen[stated.map] = seen[stated.map] or not stated.windows
  end
  for root in pairs(self.roots) do
    if not root.device.stale then add { map = root.map } end
  end
  for _, stated in pairs(self.named) do add(stated) end
  return list
end

local function by_place(a, b)
  if a.first ~= b.first then return a.first < b.first end
  if a.last ~= b.last then return a.last < b.last end
  return a.span.path < b.span.path
end

-- `whole`: each range as it is, with how far it and those before it reach.
local function list_of(self, name, space, whole)
  self.lists = self.lists or {}
  local spaces = self.lists[name]
  if not spaces then
    spaces = {}
    for _, stated in ipairs(maps(self)) do
      for _, span in ipairs(spans(stated.map)) do
        local at, base = "memory", stated.windows and stated.windows[span.region]
        if not stated.windows then at, base = place(self, span.region) end
        if base and WANTED[name](span.def, span.behind) then
          spaces[at] = spaces[at] or {}
          -- Selectors of another device's map are none of this one's.
          local behind = not stated.windows and span.behind or nil
          table.insert(spaces[at], { first = base + span.first, last = base + span.last, span = span, behind = behind })
        end
      end
    end
    for at, list in pairs(spaces) do
      table.sort(list, by_place)
      if whole then
        local reached = 0
        for _, range in ipairs(list) do
          reached = math.max(reached, range.last)
          range.reached = reached
        end
      else
        spaces[at] = union(list)
      end
    end
    self.lists[name] = spaces
  end
  return spaces[space] or {}
end

-- The register of a range that has a byte: its path, and its first byte.
local function element(range, byte)
  local span, at = range.span, range.first
  if not span.stride then return span.path, at end
  local i = math.floor((byte - at) / span.stride)
  return ("%s[%d]"):format(span.path, i), at + i * span.stride
end

-- The ranges of a list that are kept whole that have one of these bytes.
local function overlapping(list, first, last)
  local low, high = 1, #list + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if list[middle].reached <= first then low = middle + 1 else high = middle end
  end
  return function()
    while list[low] and list[low].first < last do
      local range = list[low]
      low = low + 1
      if range.last > first then return range end
    end
  end
end

--- The first side effect that an access of these bytes has.
---@param kind luio.AccessKind
---@param region integer
---@param offset integer  bytes, in the region
---@param bytes integer
---@param behind? luio.Condition[]  they are accessed while these are met
---@return luio.Effect?  nil: none that a map knows of
function Effects:find(kind, region, offset, bytes, behind)
  local space, base = place(self, region)
  if space == nil then return nil end
  local first = base + offset
  local range = meeting(list_of(self, kind, space), first, first + bytes)
  local from, found = range and range.first, range and range.of
  if not found then
    for one in overlapping(list_of(self, "sometimes_" .. kind, space, true), first, first + bytes) do
      if not when.exclusive(one.behind, behind) then
        from, found = one.first, one
        break
      end
    end
  end
  if not found then return nil end
  local path, at = element(found, math.max(first, from))
  local def = found.span.def
  return { path = path, effect = kind == "read" and def.read_effect or def.write_effect, def = def, offset = at - base }
end

local VERB = { read = "reading", write = "writing" }

--- The same as words: the side effect of an access of these bytes, and the register that has it.
---@param kind luio.AccessKind
---@param region integer
---@param offset integer
---@param bytes integer
---@param behind? luio.Condition[]  they are accessed while these are met
---@return string?
function Effects:why(kind, region, offset, bytes, behind)
  local found = self:find(kind, region, offset, bytes, behind)
  if not found then return nil end
  local verb = VERB[kind]
  local same = found.offset == offset and found.def.width == bytes * 8
  return (same and "as %s, %s %s" or "%s is there, too: %s %s"):format(found.path, verb, (found.effect:gsub("^" .. verb .. " ", "")))
end

--- Every register that can be written and has one of these bytes, by all its names: elements of arrays each.
---@param region integer
---@param offset integer
---@param bytes integer
---@param behind? luio.Condition[]  they are written while these are met
---@return { path: string, def: luio.RegisterDef, offset: integer }[]  offset: in the region that was asked for
function Effects:written(region, offset, bytes, behind)
  local space, base = place(self, region)
  if space == nil then return {} end
  local first, found = base + offset, {}
  local last = first + bytes
  for range in overlapping(list_of(self, "writable", space, true), first, last) do
    local byte, stop = math.max(first, range.first), math.min(last, range.last)
    if when.exclusive(range.behind, behind) then byte = stop end
    while byte < stop do
      local path, at = element(range, byte)
      table.insert(found, { path = path, def = range.span.def, offset = at - base })
      byte = at + range.span.def.width / 8
    end
  end
  return found
end

--- Whether each of these bytes is some register's that can be read and is always visible.
---@param region integer
---@param offset integer
---@param bytes integer
---@return boolean
function Effects:described(region, offset, bytes)
  local space, base = place(self, region)
  return space ~= nil and gap(list_of(self, "always_readable", space), base + offset, base + offset + bytes) == nil
end

--- The register that has one of these bytes, where only writing is stated of that byte.
---@param region integer
---@param offset integer
---@param bytes integer
---@return string? path
function Effects:write_only(region, offset, bytes)
  local space, base = place(self, region)
  if space == nil then return nil end
  local readable, first, last = list_of(self, "readable", space), base + offset, base + offset + bytes
  local stated = list_of(self, "stated", space)
  for byte = first, last - 1 do
    local range = gap(readable, byte, byte + 1) and meeting(stated, byte, byte + 1)
    if range then return (element(range.of, byte)) end
  end
end

-- ---- Whose they are ------------------------------------------------------------------------------

--- The table of a device; views of it have the same.
---@param device luio.Device
---@return luio.Effects
function M.of(device)
  device = device:root_device()
  local self = rawget(device, "effects")
  if not self then
    self = new(device)
    rawset(device, "effects", self)
  end
  return self
end

--- The table of a map without a device.
---@param map luio.Map
---@return luio.Effects
function M.of_map(map)
  local self = new()
  self.named[1] = { map = map }
  return self
end

--- The statements changed otherwise than by the functions below: a version of a driver came or went.
function Effects:changed()
  self.lists = nil
end

--- A map was bound: it counts as long as somebody has what it was bound to, and that device is not stale.
---@param root luio.Registers
function M.bound(root)
  local self = M.of(root.device)
  self.roots[root] = true
  self:changed()
end

--- A bound map was replaced: it no longer counts.
---@param root luio.Registers
function M.replaced(root)
  local self = M.of(root.device)
  self.roots[root] = nil
  self:changed()
end

--- States a map of a device without binding it, in place of the one that was stated by that name before.
---@param device luio.Device
---@param name any
---@param map luio.Map?
---@param windows? table<integer, integer>  region -> physical address: it is another device's map, whose regions are there
function M.state(device, name, map, windows)
  local self = M.of(device)
  self.named[name] = map and { map = map, windows = windows }
  self:changed()
end

return M
