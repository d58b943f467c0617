--- Makes the registers of one block fit a map's rules, where SVD is less strict or contradicts
--- itself. Every decision is a note; none loses a register.
---
---   width      8, 16, 32 or 64 bits and aligned to it: another size is rounded up; a register that
---              is not aligned, or is longer than 64 bits, is cut into words
---   fields     inside the register, not overlapping: a field that sticks out is cut, one outside is
---              left out; overlapping ones move to a second view of the register (NAME_ALT), an alias
---              which also has every field that they don't overlap, so that writing through it is safe
---   places     a register in another's place is its alias (places.lua)
---   names      letters, digits and _; each once

local bit = require "bit"
local fields = require "luio.registers.import.fields"
local names = require "luio.registers.import.names"
local numbers = require "luio.registers.import.numbers"
local places = require "luio.registers.import.places"
local fail = require("luio.registers.import.fail").fail

local M = {}

local MAX_ELEMENTS = 2 ^ 20 -- registers, elements of arrays each: a map with more can't be bound
local MAX_OFFSET = 2 ^ 48
local WIDTHS = { 8, 16, 32, 64 }

--- A definition with other properties.
local function copy(item, changes)
  local new = {}
  for key, value in pairs(item) do new[key] = value end
  for key, value in pairs(changes) do new[key] = value end
  return new
end

M.copy = copy

-- Items are copied with the list of remarks they share; code that adds to it makes one of its own
-- first.
local function remark(item, text)
  if item.remarks_of ~= item then
    item.remarks, item.remarks_of = copy(item.remarks or {}, {}), item
  end
  table.insert(item.remarks, text)
end

-- ---- Width ---------------------------------------------------------------------------------------

-- Fields of word `i`, each of `unit` bits; those over its edge are cut.
local function fields_of_word(self, item, i, unit)
  local list = {}
  for _, field in ipairs(item.singles) do
    local low, high = field.low - i * unit, field.high - i * unit
    if high >= 0 and low < unit then
      local part = copy(field, { low = math.max(low, 0), high = math.min(high, unit - 1) })
      if part.low ~= low or part.high ~= high then
        part.values, part.reset = nil, nil
        remark(part, ("bits %d:%d of %s"):format(part.high - low, part.low - low, field.name))
        if low >= 0 then
          self.notes:add("size", item.path .. "." .. field.name, "a field over the edge of a word is cut in two; its values are left out")
        end
      end
      table.insert(list, part)
    end
  end
  return list
end

local function singles(item)
  local list = {}
  for _, field in ipairs(item.fields) do
    if field.count then
      for _, element in ipairs(fields.of_row(field)) do table.insert(list, element) end
    else
      table.insert(list, field)
    end
  end
  return list
end

-- A register in words of `unit` bits.
local function split(self, item, unit, out)
  local n = math.ceil(item.size / unit)
  self.notes:add("size", item.path, "%d bits at 0x%x: imported as words of %d bits", item.size, item.offset, unit)
  item.singles = singles(item)
  for _, field in ipairs(item.singles) do n = math.max(n, math.floor(field.high / unit) + 1) end
  if n > names.MAX_COUNT then fail("E2BIG", item.line, "%s has %d words", item.path, n) end
  if not item.singles[1] and not item.count then
    local words = copy(item, { width = unit, count = n, stride = unit / 8 })
    words.reset = nil
    if item.reset == 0 then words.reset = 0
    elseif item.reset then self.notes:add("reset", item.path, "a reset value over several words is left out") end
    remark(words, ("%d bits"):format(item.size))
    table.insert(out, words)
    return
  end
  for i = 0, n - 1 do
    self.budget:take(4 + 2 * #item.singles, item.line)
    local word = copy(item, {
      name = ("%s_%d"):format(item.name, i), width = unit, offset = item.offset + i * unit / 8,
      fields = fields_of_word(self, item, i, unit),
    })
    word.reset = nil
    if item.reset and i * unit < 64 then word.reset = numbers.slice(item.reset, i * unit + unit - 1, i * unit) end
    remark(word, ("bits %d:%d of %s"):format(i * unit + unit - 1, i * unit, item.name))
    table.insert(out, word)
  end
end

local function fit(self, item, out)
  local aligned, width = 8, nil
  for _, w in ipairs(WIDTHS) do
    if item.offset % (w / 8) == 0 and (item.stride or 0) % (w / 8) == 0 then aligned = w end
    if not width and w >= item.size then width = w end
  end
  if not width then return split(self, item, math.min(aligned, 32), out) end
  if width ~= item.size then self.notes:add("size", item.path, "a size of %d bits: imported as %d", item.size, width) end
  if width > aligned then
    local inside = item.fields[1] ~= nil
    for _, field in ipairs(item.fields) do
      inside = inside and field.high + ((field.count or 1) - 1) * (field.stride or 0) < aligned
    end
    if not inside then return split(self, item, aligned, out) end
    self.notes:add("size", item.path, "%d bits, not aligned: imported as the %d that have fields", item.size, aligned)
    width = aligned
    if item.reset then item.reset = numbers.slice(item.reset, width - 1, 0) end
  end
  item.width = width
  table.insert(out, item)
end

-- ---- Fields --------------------------------------------------------------------------------------

local function mask_of(field)
  local mask = bit.lshift(numbers.ones(field.high - field.low + 1), field.low)
  for i = 1, (field.count or 1) - 1 do mask = bit.bor(mask, bit.lshift(mask, i * field.stride)) end
  return mask
end

-- Inside the register; rows that can't stay rows become fields.
local function inside(self, item)
  local list = {}
  local function add(field)
    local path = item.path .. "." .. field.name
    if field.low >= item.width then
      self.notes:add("contradiction", path, "a field outside of its register is left out")
      remark(item, ("%s is stated in bits %d:%d"):format(field.name, field.high, field.low))
    elseif field.high >= item.width then
      self.notes:add("contradiction", path, "a field that sticks out of its register is cut; its values are left out")
      local cut = copy(field, { high = item.width - 1 })
      cut.values, cut.reset = nil, nil
      remark(cut, ("stated as bits %d:%d"):format(field.high, field.low))
      table.insert(list, cut)
    else
      table.insert(list, field)
    end
  end
  for _, field in ipairs(item.fields) do
    local last = field.high + ((field.count or 1) - 1) * (field.stride or 0)
    if field.count and last >= item.width then
      for _, element in ipairs(fields.of_row(field)) do add(element) end
    else
      add(field)
    end
  end
  return list
end

local function name_fields(self, item, list)
  local used, named, states = {}, {}, {}
  for _, field in ipairs(list) do
    local clean = names.clean(field.name)
    local same = states[clean]
    if not field.count and same and same.high == field.high and same.low == field.low then
      self.notes:add("contradiction", item.path .. "." .. field.name, "a field stated twice: the first counts")
    else
      local free = true
      for _, element in ipairs(field.elements or {}) do free = free and not used[names.clean(element)] end
      local parts = field.count and free and { field } or field.count and fields.of_row(field) or { field }
      for _, part in ipairs(parts) do
        local name
        if part.count then
          for _, element in ipairs(part.elements) do used[names.clean(element)] = true end
          name = names.clean(names.of_element(part.name, "luioindex")):gsub("luioindex", "%%d")
        else
          name = names.unique(used, names.clean(part.name))
          states[name] = part
        end
        if name ~= part.name and not part.count then
          self.notes:add("name", item.path .. "." .. part.name, "called %s", name)
        end
        table.insert(named, copy(part, { name = name }))
      end
    end
  end
  return named
end

-- Views of the register in which no two fields overlap; the first has all that come first.
local function views(self, item)
  local layers = {}
  for _, field in ipairs(item.fields) do
    local mask, home = mask_of(field), nil
    for _, layer in ipairs(layers) do
      if bit.band(layer.mask, mask) == 0ULL then
        home = layer
        break
      end
    end
    if not home then
      home = { mask = 0ULL }
      table.insert(layers, home)
    end
    self.budget:take(#layers, item.line)
    home.mask = bit.bor(home.mask, mask)
    table.insert(home, field)
  end
  return layers
end

local function add_views(self, item, out)
  local layers = views(self, item)
  table.insert(out, item)
  if not layers[2] then return end
  for n = 2, #layers do
    local layer = layers[n]
    for _, field in ipairs(layer) do
      self.notes:add("overlap", item.path .. "." .. field.name, "overlaps other fields: it is in a view of its own, an alias")
    end
    local view = copy(item, { name = ("%s_ALT%s"):format(item.name, n > 2 and n - 1 or ""), fields = {}, view_of = item })
    for _, field in ipairs(layer) do table.insert(view.fields, field) end
    for other = 1, n - 1 do
      for _, field in ipairs(layers[other]) do
        self.budget:take(1, item.line)
        if bit.band(mask_of(field), layer.mask) == 0ULL then
          layer.mask = bit.bor(layer.mask, mask_of(field))
          table.insert(view.fields, field)
        end
      end
    end
    view.remarks, view.remarks_of = { "another view of " .. item.name }, view
    table.insert(out, view)
  end
  item.fields = { unpack(layers[1]) }
end

-- ---- Names, and the whole block ------------------------------------------------------------------

local function name_all(self, items)
  local used = {}
  for _, item in ipairs(items) do
    local wanted = names.clean(item.name)
    if used[wanted] and item.group then wanted = names.clean(item.name .. "_" .. item.group) end
    local name = names.unique(used, wanted)
    if name ~= item.name and not item.view_of then self.notes:add("name", item.path, "called %s", name) end
    item.stated, item.name = item.name, name
  end
  return used
end

--- The definitions of a block, from what its registers and clusters say.
---@param self table    the import
---@param items table[] registers and blocks, with offset, size, fields, count, stride
---@return table[] children  with `size` in bytes and `elements`
function M.place(self, items)
  local fitted, list = {}, {}
  for _, item in ipairs(items) do
    if item.children then table.insert(fitted, item) else fit(self, item, fitted) end
  end
  for _, item in ipairs(fitted) do
    if item.offset > MAX_OFFSET then
      self.notes:add("contradiction", item.path, "an offset beyond 2^48 is left out")
    elseif item.children then
      table.insert(list, item)
    else
      item.fields = name_fields(self, item, inside(self, item))
      self.widest = math.max(self.widest, item.width)
      add_views(self, item, list)
    end
  end
  local used = name_all(self, list)
  list = places.arrange(self, list, function(name) return names.unique(used, name) end)
  list.size, list.elements = 0, 0
  for _, item in ipairs(list) do
    list.size = math.max(list.size, item.offset + places.bytes(item))
    list.elements = list.elements + (item.count or 1) * (item.children and item.children.elements or 1)
    if list.elements > MAX_ELEMENTS then
      fail("E2BIG", item.line, "%s: more than %d registers, elements of arrays each", item.path, MAX_ELEMENTS)
    end
  end
  return list
end

return M
