--- A map of a whole chip, on a device that is a part of it.
---
--- A vendor's description states addresses. Imported as a whole it is a map with a block for each peripheral, at the peripheral's
--- address, and a region is one peripheral, or a few. Offsets differ from addresses in this: a map of which some registers lie
--- outside of their region as offsets is not one of offsets, and if some lie in the device's regions as addresses, it is one of
--- addresses. Then the part of it that is in reach becomes a map of its own, whose offsets are those in the regions. Names do not
--- change. An array of which only some elements are in reach becomes these: UART1, of UART[2].

local inspect = require "luio.host.inspect"
local output = require "luio.tool.output"

local M = {}

local function regions_of(device) return device.info and inspect.regions(device.info) or {} end

-- Where the device is, by address. Regions that can't be opened are left out.
local function spans(device)
  local list = {}
  for index, entry in pairs(regions_of(device)) do
    local region = type(entry.addr) == "number" and entry.kind ~= "port" and device:region(index)
    if region then
      table.insert(list, { index = index, first = region.addr, last = region.addr + region.size - 1 })
    end
  end
  table.sort(list, function(a, b) return a.index < b.index end)
  return list
end

-- The region that has all of these bytes.
local function span_of(list, first, bytes)
  for _, span in ipairs(list) do
    if first >= span.first and first + bytes - 1 <= span.last then return span end
  end
end

local function copy(def)
  local one = {}
  for key, value in pairs(def) do one[key] = value end
  return one
end

local function size_of(def) return def.kind == "block" and def.size or def.width / 8 end

-- As in any map: by region, and by offset.
local function sort(block)
  table.sort(block.children, function(a, b)
    if a.region ~= b.region then return a.region < b.region end
    if a.offset ~= b.offset then return a.offset < b.offset end
    return a.name < b.name
  end)
end

local cut

-- The part of a definition at an address that lies in one of the regions; no array any more. `from`
-- as in cut.
local function one(def, spans_of, address, from)
  local new = copy(def)
  new.count, new.stride = nil, nil
  if def.kind ~= "block" then
    local span = span_of(spans_of, address, size_of(def))
    if not span then return nil end
    new.region, new.offset = span.index, address - (from or span.first)
    return new
  end
  -- All registers of a block are in one region, or it is no block of this device.
  local first
  for _, span in ipairs(spans_of) do
    if address <= span.last and address + def.size - 1 >= span.first then first = first or span end
  end
  if not first then return nil end
  new.region, new.offset = first.index, address - (from or first.first)
  new.children, new.child, new.total = {}, {}, 0
  for _, child in ipairs(def.children) do cut(new, child, { first }, address, address) end
  sort(new)
  return new.total > 0 and new or nil
end

local function put(block, def)
  while block.child[def.name] do def.name = def.name .. "_" end
  block.child[def.name] = def
  table.insert(block.children, def)
  block.total = block.total + (def.count or 1) * (def.total or 1)
end

-- Puts the part of a definition that is in reach into a block. `base`: the address that the definition's offset counts from;
-- `from`: the address from which offsets in the block count; nil at the top, where that is a region's beginning.
function cut(block, def, list, base, from)
  local address = base + def.offset
  if not def.count then
    local new = one(def, list, address, from)
    if new then put(block, new) end
    return
  end
  local last = address + (def.count - 1) * def.stride
  local whole = span_of(list, address, last - address + size_of(def))
  if whole then
    local new = one(def, { whole }, address, from)
    new.count, new.stride = def.count, def.stride
    return put(block, new)
  end
  for i = 0, def.count - 1 do
    local new = one(def, list, address + i * def.stride, from)
    if new then
      new.name = def.name .. i
      put(block, new)
      block.elements = block.elements or {}
      block.elements[("%s[%d]"):format(def.name, i)] = new -- as conditions name it (luio.registers.when)
    end
  end
end

--- The part of a map that is in a device's regions by address.
---@param map luio.Map
---@param device luio.Device
---@return luio.Map? part  nil: nothing is
function M.part(map, device)
  local part, list = copy(map), spans(device)
  part.children, part.child, part.total = {}, {}, 0
  for _, def in ipairs(map.children) do cut(part, def, list, 0) end
  if part.total == 0 then return nil end
  sort(part)
  part.whole = map
  part.reach = ("the map states addresses: %d of its %s are in reach"):format(part.total, output.count(map.total, "register"))
  return setmetatable(part, getmetatable(map))
end

local NAMED = 6
local CHIP = 2 ^ 24 -- bytes from the first register to the last, which one peripheral's are not

--- The message about a whole chip's map that has nothing in the device's regions.
---@param map luio.Map
---@param device luio.Device
---@param some boolean  some of its registers would fit as offsets
---@return string? message  nil: it is no map of a whole chip
function M.nowhere(map, device, some)
  local first, last, names
  map:each(function(_, def, offset)
    first = math.min(first or offset, offset)
    last = math.max(last or 0, offset + def.width / 8 - 1)
  end)
  names = {}
  for _, def in ipairs(map.children) do
    if def.kind == "block" then table.insert(names, def.name) end
  end
  if not names[1] or #names < #map.children or some and last - first < CHIP then return nil end
  local places = {}
  for index, entry in pairs(regions_of(device)) do
    if type(entry.addr) == "number" and entry.kind ~= "port" then
      table.insert(places, ("region %d is 0x%x+0x%x"):format(index, entry.addr, entry.length or entry.size))
    end
  end
  table.sort(places)
  local more = #names - NAMED
  return ("register map %s does not fit %s: it is of a whole chip, 0x%x to 0x%x, and %s. A map of one peripheral begins at 0: "
    .. "luio import svd FILE --peripheral NAME (%s%s)"):format(map.source or "", device.address, first, last,
    places[1] and table.concat(places, ", ") or "there is no region", table.concat(names, ", ", 1, math.min(#names, NAMED)),
    more > 0 and (", and %d more"):format(more) or "")
end

return M
