--- Checks the definitions of a map, and makes the objects that are kept: fields, registers, arrays, blocks; shared bytes,
--- and registers that may be selectors. A fault is noted and the rest looked at, so that a map says all its faults at once.
---
--- The format is luio.registers', which this is a part of.

local effects = require "luio.registers.effects"
local near = require "luio.registers.near"
local whens = require "luio.registers.when"

local M = {}

local readable = {
  ro = true, rw = true, w1c = true, w1s = true, w1t = true, w0c = true, w0s = true, w0t = true, rc = true, rs = true, wonce = true,
  preserve = true, zero = true, one = true, sc = true,
}
local writable = {
  rw = true, wo = true, w1c = true, w1s = true, w1t = true, w0c = true, w0s = true, w0t = true, wonce = true, sc = true,
}
local effect = { rc = "reading clears it", rs = "reading sets it" }
local known_access = {}
for _, set in ipairs { readable, writable } do
  for name in pairs(set) do known_access[name] = true end
end

local reserved = { preserve = true, zero = true, one = true } -- says nothing of the register

local MAX_COUNT = 65536 -- elements of one array: a map is not a memory
local MAX_DEPTH = 8

local map_options = {
  name = "string", description = "string", region = "number", endian = "string", max_width = "number",
  registers = "table", overlay = "string",
}
local register_options = {
  reset = "value", description = "string", section = "string", count = "number", stride = "number", region = "number",
  endian = "string", read_effect = "string", write_effect = "string", alias = "string", halves = "string", fields = "table",
  when = "table",
}
local block_options = {
  count = "number", stride = "number", region = "number", endian = "string", description = "string",
  section = "string", block = "table", when = "table",
}
local field_options = {
  access = "string", reset = "value", values = "table", description = "string", section = "string",
  read_effect = "string", write_effect = "string", count = "number", stride = "number",
}

-- Names that other descriptions of registers (CMSIS-SVD, SystemRDL, IP-XACT, datasheets) have for these
-- keys.
local SELF_CLEARING = 'a map says access = "sc"'
local ON_WRITE = 'a map says access = "w1c", "w1s", "w1t", "w0c", "w0s", "w0t", "sc", or write_effect = "what it does"'
local BEHIND = 'a map says when = { SELECTOR = value }'
local ON_READ = 'a map says access = "rc", "rs", or read_effect = "what it does"'
local foreign_keys = {
  singlepulse = SELF_CLEARING, hwclr = SELF_CLEARING, selfclearing = SELF_CLEARING,
  onwrite = ON_WRITE, modifiedwritevalues = ON_WRITE, trigger = 'a map says write_effect = "what it does"',
  onread = ON_READ, readaction = ON_READ, sw = "a map says access",
  page = BEHIND, bank = BEHIND, window = BEHIND, selector = BEHIND, visible = BEHIND, condition = BEHIND,
}
local foreign_access = {
  woclr = "w1c", rw1c = "w1c", onetoclear = "w1c", woset = "w1s", rw1s = "w1s", onetoset = "w1s", wot = "w1t", onetotoggle = "w1t",
  wzc = "w0c", zerotoclear = "w0c", wzs = "w0s", zerotoset = "w0s", wzt = "w0t", zerototoggle = "w0t",
  rclr = "rc", rset = "rs", rwsc = "sc", w1sc = "sc", selfclearing = "sc", singlepulse = "sc",
  readonly = "ro", readwrite = "rw", writeonly = "wo",
}

local function plain_word(text)
  return tostring(text):lower():gsub("[^%w]", "")
end

-- The access that a wrong name may have been meant as.
local function access_hint(access)
  local ours = foreign_access[plain_word(access)]
  return ours and (" (did you mean %s?)"):format(ours) or near.hint(tostring(access), known_access)
end

-- ---- Faults --------------------------------------------------------------------------------------

---@class luio.MapCheck
local Check = {}
Check.__index = Check

---@private
function Check:fault(name, format, ...)
  if #self.faults >= 50 then
    self.more = (self.more or 0) + 1
    return
  end
  table.insert(self.faults, { name = name, text = ("%s: %s"):format(name, format:format(...)) })
end

local function is_whole(v, min, max)
  return type(v) == "number" and v % 1 == 0 and v >= min and v <= max
end

-- Checks the lowercase keys of a table; false for a key that is a name.
---@private
function Check:option(path, options, key, value)
  if type(key) ~= "string" or not key:match "^[%l]" then return false end
  local kind = options[key]
  if not kind then
    local said = foreign_keys[plain_word(key)]
    local here = said == BEHIND and options.when or said ~= BEHIND and options.read_effect
    self:fault(path, "unknown key %s%s", key, said and here and (" (%s)"):format(said) or near.hint(key, options))
  elseif kind ~= "value" and type(value) ~= kind and not (value == false and key:find "_effect$") then
    local example = key == "write_effect" and ', that says what writing does: "sends the command"'
      or key == "when" and ": when = { SELECTOR = value }" or ""
    self:fault(path, "%s is a %s, not a %s%s", key, kind, type(value), example)
  end
  return true
end

---@private
function Check:array(path, spec, least)
  if spec.count == nil then
    if spec.stride ~= nil then self:fault(path, "stride without count") end
    return nil, nil
  end
  if not is_whole(spec.count, 1, MAX_COUNT) then
    self:fault(path, "count is 1 to %d, not %s", MAX_COUNT, tostring(spec.count))
    return nil, nil
  end
  local stride = spec.stride or least
  if not is_whole(stride, 1, 2 ^ 40) then
    self:fault(path, "stride is a number of bytes, not %s", tostring(stride))
    return nil, nil
  end
  if stride < least then self:fault(path, "stride %d is less than the %d bytes of an element", stride, least) end
  return spec.count, stride
end

-- ---- Fields --------------------------------------------------------------------------------------

local OPEN = { read = false, write = false }

-- `false`: somebody has looked it up, and there is no effect.
local function answered(spec)
  if type(spec) ~= "table" or spec.read_effect ~= false and spec.write_effect ~= false then return OPEN end
  return { read = spec.read_effect == false, write = spec.write_effect == false }
end

local function fits(value, bits)
  if type(value) == "cdata" then return bits == 64 or value / 2ULL ^ bits == 0ULL end
  return is_whole(value, 0, 2 ^ 53) and value < 2 ^ bits
end

---@private
function Check:values(path, values, bits)
  local names = {}
  for name, value in pairs(values) do
    if type(name) ~= "string" then
      self:fault(path, "values are NAME = number, not %s = %s", tostring(name), tostring(value))
    elseif not fits(value, bits) then
      self:fault(path, "value %s = %s does not fit in %d bits", name, tostring(value), bits)
    elseif type(value) == "number" and (not names[value] or name < names[value]) then
      -- Two names for one value: the first in the alphabet is shown. The name is shown as part of a
      -- line.
      names[value] = (name:gsub("[\r\n]+", " "))
    end
  end
  return values, names
end

-- Bits of a field: NAME = bit, { bit }, { high, low }.
---@private
function Check:span(path, spec, width)
  local high, low = spec, spec
  if type(spec) == "table" then high, low = spec[1], spec[2] == nil and spec[1] or spec[2] end
  if not is_whole(high, 0, 63) or not is_whole(low, 0, 63) then
    self:fault(path, "a field is a bit, or { high, low }, from 0 to %d", width - 1)
  elseif low > high then
    self:fault(path, "bits %d:%d: the high one comes first", high, low)
  elseif high >= width then
    self:fault(path, "bits %d:%d are outside the register's %d", high, low, width)
  else
    return high, low
  end
end

---@private
function Check:field(reg, path, name, spec)
  local high, low = self:span(path, spec, reg.width)
  if not high then return nil end
  local field = { name = name, high = high, low = low, bits = high - low + 1, access = reg.access, answered = answered(spec) }
  if type(spec) == "table" then
    for key, value in pairs(spec) do
      if type(key) == "number" then
        if key > 2 then self:fault(path, "a field has a high and a low bit, and nothing in place %d", key) end
      elseif not self:option(path, field_options, key, value) then
        self:fault(path, "unknown key %s%s", tostring(key), near.hint(tostring(key), field_options))
      end
    end
    field.access = spec.access or reg.access
    field.read_effect, field.description, field.section = spec.read_effect or nil, spec.description, spec.section
    field.write_effect = spec.write_effect or nil
    if spec.reset ~= nil then
      if fits(spec.reset, field.bits) then field.reset = spec.reset
      else self:fault(path, "reset %s does not fit in %d bits", tostring(spec.reset), field.bits) end
    end
    if type(spec.values) == "table" then field.values, field.names = self:values(path, spec.values, field.bits) end
  end
  if not known_access[field.access] then
    self:fault(path, "unknown access %s%s", tostring(field.access), access_hint(field.access))
    return nil
  end
  field.readable, field.writable = readable[field.access] or false, writable[field.access] or false
  field.read_effect = field.read_effect or effect[field.access]
  if field.write_effect and not field.writable then
    self:fault(path, "write_effect of what can't be written: its access is %s", field.access)
  end
  return field
end

---@private
function Check:add_fields(reg, path, specs)
  for name, spec in pairs(specs) do
    local at = path .. "." .. tostring(name)
    if type(name) == "string" and name:find("%d", 1, true) then
      local high, low = self:span(at, spec, reg.width)
      local count, stride = type(spec) == "table" and spec.count, type(spec) == "table" and spec.stride
      stride = stride or high and high - low + 1
      if not is_whole(count, 1, 64) or not is_whole(stride, 1, 64) then
        self:fault(at, "a row of fields has a count of 1 to 64, and a stride in bits")
      elseif high then
        for i = 0, count - 1 do
          local element = {}
          for key, value in pairs(spec) do element[key] = value end
          element[1], element[2], element.count, element.stride = high + i * stride, low + i * stride, nil, nil
          local one = name:gsub("%%d", tostring(i))
          reg.fields[#reg.fields + 1] = self:field(reg, path .. "." .. one, one, element)
        end
      end
    elseif type(name) ~= "string" then
      self:fault(at, "a field has a name")
    else
      reg.fields[#reg.fields + 1] = self:field(reg, at, name, spec)
    end
  end
end

---@private
function Check:finish_fields(reg, path)
  table.sort(reg.fields, function(a, b) return a.low > b.low or (a.low == b.low and a.name < b.name) end)
  for i, field in ipairs(reg.fields) do
    if reg.field[field.name] then self:fault(path .. "." .. field.name, "stated twice") end
    reg.field[field.name] = field
    local above = reg.fields[i - 1]
    if above and above.low <= field.high then
      self:fault(path .. "." .. field.name, "bits %d:%d overlap %s's %d:%d", field.high, field.low, above.name, above.high,
        above.low)
    end
    reg.readable = reg.readable or field.readable and not reserved[field.access]
    reg.writable = reg.writable or field.writable
    if field.read_effect and not reg.read_effect then
      reg.read_effect = ("%s: %s"):format(field.name, field.read_effect)
    end
  end
end

-- ---- Registers and blocks ------------------------------------------------------------------------

---@private
function Check:inherited(path, spec, outer)
  local region, endian = spec.region or outer.region, spec.endian or outer.endian
  if not is_whole(region, 0, 255) then
    self:fault(path, "region %s is not a region's number", tostring(region))
    region = 0
  end
  if endian ~= "little" and endian ~= "big" then
    self:fault(path, 'endian is "little" or "big", not %s', tostring(endian))
    endian = "little"
  end
  return region, endian
end

---@private
function Check:register(path, name, spec, outer)
  local offset, width, access = spec[1], spec[2], spec[3] or "rw"
  if not is_whole(offset, 0, 2 ^ 48) then
    self:fault(path, "the offset (first) is a whole number, not %s", tostring(offset))
    offset = 0
  end
  if width ~= 8 and width ~= 16 and width ~= 32 and width ~= 64 then
    self:fault(path, "the width (second) is 8, 16, 32 or 64, not %s", tostring(width))
    width = 32
  end
  if not known_access[access] then
    self:fault(path, "unknown access %s%s", tostring(access), access_hint(access))
    access = "rw"
  end
  if offset % (width / 8) ~= 0 then self:fault(path, "offset 0x%x is not aligned to %d bytes", offset, width / 8) end
  local region, endian = self:inherited(path, spec, outer)
  local reg = {
    kind = "register", name = name, offset = offset, width = width, access = access, region = region, endian = endian,
    readable = readable[access] or false, writable = writable[access] or false, fields = {}, field = {},
    read_effect = spec.read_effect or effect[access], write_effect = spec.write_effect or nil, answered = answered(spec),
    description = spec.description,
    section = spec.section, alias = spec.alias, halves = spec.halves, when = type(spec.when) == "table" and spec.when or nil,
  }
  reg.count, reg.stride = self:array(path, spec, width / 8)
  if spec.reset ~= nil then
    if fits(spec.reset, width) then reg.reset = spec.reset
    else self:fault(path, "reset %s does not fit in %d bits", tostring(spec.reset), width) end
  end
  if spec.halves ~= nil and (spec.halves ~= "low" and spec.halves ~= "high" or width ~= 64) then
    self:fault(path, 'halves is "low" or "high", for a register of 64 bits')
  end
  if width > self.max_width and not (width == 64 and self.max_width == 32 and reg.halves) then
    self:fault(path, "%d bits on a bus that takes %d: state halves = \"low\" or \"high\"", width, self.max_width)
  end
  local own = {}
  for key, value in pairs(spec) do
    if type(key) == "number" then
      if key > 3 then self:fault(path, "nothing goes in place %d: offset, width, access", key) end
    elseif not self:option(path, register_options, key, value) then
      own[key] = value
    end
  end
  self:add_fields(reg, path, own)
  if type(spec.fields) == "table" then self:add_fields(reg, path, spec.fields) end
  self:finish_fields(reg, path)
  if reg.write_effect and not reg.writable then
    self:fault(path, "write_effect of what can't be written: its access is %s", access)
  end
  return reg
end

-- Bytes from a definition's start to its end.
local function extent(def)
  local one = def.size or def.width / 8
  return def.count and (def.count - 1) * def.stride + one or one
end

---@private
function Check:block(path, name, spec, outer, depth)
  local offset = spec[1] or 0
  if not is_whole(offset, 0, 2 ^ 48) then
    self:fault(path, "the offset (first) is a whole number, not %s", tostring(offset))
    offset = 0
  end
  local region, endian = self:inherited(path, spec, outer)
  local block = {
    kind = "block", name = name, offset = offset, region = region, endian = endian, description = spec.description,
    section = spec.section, when = type(spec.when) == "table" and spec.when or nil,
  }
  for key, value in pairs(spec) do
    if key ~= 1 and not self:option(path, block_options, key, value) then
      self:fault(path, "%s: the registers of a block go into block = { ... }", tostring(key))
    end
  end
  self:children(path .. ".", block, type(spec.block) == "table" and spec.block or {}, depth + 1)
  block.count, block.stride = self:array(path, spec, math.max(block.size, 1))
  return block
end

---@private
function Check:one(path, name, spec, outer, depth)
  if type(spec) ~= "table" then
    self:fault(path, "a register is { offset, width, access, FIELD = ... }, not a %s", type(spec))
  elseif spec.block ~= nil then
    if depth >= MAX_DEPTH then return self:fault(path, "blocks nest at most %d deep", MAX_DEPTH) end
    return self:block(path, name, spec, outer, depth)
  else
    return self:register(path, name, spec, outer)
  end
end

-- Registers that share bytes must say so, unless no selector ever shows both. Blocks and arrays may interleave with others
-- on purpose.
---@private
function Check:overlaps(map, prefix, block)
  local before = {} -- those that reach beyond where we are
  for _, def in ipairs(block.children) do
    if def.kind == "register" and not def.count and not def.alias then
      local still, conditions, shared = { def }, whens.of(map, def, prefix .. def.name), nil
      for _, other in ipairs(before) do
        if other.region == def.region and other.offset + other.width / 8 > def.offset then
          if not shared and not whens.exclusive(conditions, whens.of(map, other, prefix .. other.name)) then shared = other end
          table.insert(still, other)
        end
      end
      if shared then
        self:fault(prefix .. def.name, "0x%x is %s's place too: state alias = \"%s\" if that is meant", def.offset, shared.name,
          shared.name)
      end
      before = still
    elseif def.kind == "register" and def.alias then
      self:aliased(prefix, block, def)
    elseif def.kind == "block" then
      self:overlaps(map, prefix .. def.name .. (def.count and "[0]." or "."), def)
    end
  end
end

---@private
function Check:aliased(prefix, block, def)
  local other = block.child[def.alias]
  if not other or other.kind ~= "register" then
    return self:fault(prefix .. def.name, "is an alias of %s, which is not there%s", def.alias, near.hint(def.alias, block.child))
  end
  if other.offset ~= def.offset or other.region ~= def.region then
    return self:fault(prefix .. def.name, "is an alias of %s, which is at 0x%x", def.alias, other.offset)
  end
end

---@private
function Check:children(prefix, block, specs, depth)
  block.children, block.child, block.size, block.total = {}, {}, 0, 0
  for name, spec in pairs(specs) do
    local path = prefix .. tostring(name)
    if type(name) ~= "string" then
      self:fault(path, "a register has a name: NAME = { offset, width, access }")
    elseif not name:match "^[%a_][%w_]*$" then
      self:fault(path, "a name is letters, digits and _")
    else
      local def = self:one(path, name, spec, block, depth)
      if def then
        block.child[name] = def
        table.insert(block.children, def)
        block.size = math.max(block.size, def.offset + extent(def))
        block.total = block.total + (def.count or 1) * (def.total or 1)
      end
    end
  end
  table.sort(block.children, function(a, b)
    if a.region ~= b.region then return a.region < b.region end
    if a.offset ~= b.offset then return a.offset < b.offset end
    return a.name < b.name
  end)
end

-- The registers that have a selector's bytes: an access of one shows which window is visible. Also whether reading one is
-- harmless, by the read effects that other registers state of these bytes.
---@private
function Check:selectors(map)
  local ranges, known = {}, effects.of_map(map)
  map:each(function(path, def)
    for _, c in ipairs(whens.of(map, def, path) or {}) do
      local why = not ranges[c.key] and known:why("read", c.def.region, c.offset, c.def.width / 8, c.behind)
      if why then self:fault(path, "when: %s can't be looked at: %s", c.label, why) end
      ranges[c.key] = { region = c.def.region, first = c.offset, last = c.offset + c.def.width / 8 }
    end
  end)
  map:each(function(_, def, offset)
    if def.selects then return end -- another element does
    for _, range in pairs(ranges) do
      if def.region == range.region and offset < range.last and range.first < offset + def.width / 8 then def.selects = true end
    end
  end)
end

--- The keys of a map, a register, a block and a field, each with its type.
M.OPTIONS = { map = map_options, register = register_options, block = block_options, field = field_options }

--- A check of one map.
---@param max_width integer  bits of the widest access
---@return luio.MapCheck
function M.new(max_width)
  return setmetatable({ faults = {}, max_width = max_width }, Check)
end

return M
