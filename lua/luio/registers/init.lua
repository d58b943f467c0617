--- Register maps: tables that read like the datasheet's, checked when they are loaded.
---
---     return luio.registers {
---       --           offset width access   fields: bit | { high, low }
---       ID         = { 0x00, 32, "ro",  MAGIC = { 7, 0 }, MINOR = { 23, 16 }, MAJOR = { 31, 24 } },
---       STATUS     = { 0x20, 32, "rw",  COMPUTING = { 0, access = "ro" }, RAISE_IRQ = 7 },
---       IRQ_ACK    = { 0x64, 32, "wo" },
---       CHANNEL    = { 0x100, count = 4, stride = 0x20, block = { CTRL = { 0x0, 32 }, LENGTH = { 0x4, 32 } } },
---       TABLE      = { 0x200, 16, "rw", count = 64 },
---     }
---
--- UPPERCASE names are the datasheet's: registers, blocks, fields. Lowercase keys are options:
---
---   of the map       name, description, region (0), endian ("little"), max_width (64: the widest
---                    access the bus takes), overlay (a file beside the map's: luio.registers.overlay);
---                    `registers = {}` holds names in lowercase
---   of a register    reset, description, section (of the datasheet), count and stride (an array,
---                    indexed from 0), region, endian, read_effect (what reading does, e.g. "pops
---                    the FIFO"), write_effect (what every write does besides storing, e.g. "sends the
---                    command"), alias (name of the register at the same offset), halves ("low" or
---                    "high": which half of 64 bits goes first where the bus takes 32),
---                    when (of what selector it is visible), `fields = {}` for names in lowercase
---   of a block       count, stride, region, endian, description, section, when; `block = {}`
---   of a field       access, reset, values (names for values), description, section, read_effect,
---                    write_effect (what writing anything but 0 here does, e.g. "resets the device");
---                    a name with "%d" and count, stride (bits) is a row of fields
---
--- Access, of a register and of a field (which has its register's unless it says otherwise):
---
---   ro rw wo         read-only, read-write, write-only
---   w1c w1s w1t      writing 1 clears, sets, toggles, and 0 leaves; can be read
---   w0c w0s w0t      writing 0 clears, sets, toggles, and 1 leaves; can be read
---   sc               self-clearing: 1 starts something, and the hardware makes it 0 again (R/W SC in datasheets;
---                    SystemRDL's singlepulse, or hwclr of a trigger); can be read
---   rc rs            read-only, and reading clears or sets: a side effect
---   wonce            can be written once; can be read
---   preserve zero one   reserved: keep what was read, write 0, write 1
---
--- A write_effect is for what storing does not explain: a command that is sent, a doorbell, a counter that starts
--- anew. A bit that holds what is written and works by it, as an enable, has none. `read_effect = false` and
--- `write_effect = false` say that somebody has looked it up, and answer what `luio lint` asks. What has one is never
--- written by undo() and regs:restore(), under any name that its bytes have, and `luio set` says it.
---
--- Registers behind a selector (a paged window, a bank, the divisor latch of a 16550) say when they are there:
---
---       DLL        = { 0x0, 8, "rw", when = { ["LCR.DLAB"] = 1 } },            -- a field; or a whole register
---       EEPROM     = { 0x80, when = { MEM_PAGE = { 0xc, 0xd } }, block = { ... } },  -- any of these
---
--- The selector is a path from the block in which `when` stands, or from one around it up to the map: in an array of blocks
--- each element has its own; in another array it has an index ("BANK[2].SEL"). A value is a number or one of the field's names.
--- Several conditions must all be met, and those of the blocks around a register, too. Looking at a selector is harmless,
--- or it is none: it can be read and reading has no effect. It may be behind another selector, which is then asked first.
--- Registers that are never visible at the same time may share bytes without alias, and one's effects are not
--- the other's; by a raw offset, of which nobody knows what is there, all count. What is hidden is left out by who looks; to access
--- it is an error that names the selector. What that costs: luio.registers.selectors. A register without `when`
--- costs nothing. An interrupt's top half runs in C and asks no selector.
---
--- A map holds definitions only. Bound to a device (luio.registers.bind) they become registers that
--- can be read and written.

local effects = require "luio.registers.effects"
local lines = require "luio.registers.lines"
local near = require "luio.registers.near"
local overlays = require "luio.registers.overlay"
local paths = require "luio.paths"
local whens = require "luio.registers.when"

local M = {}

---@class luio.FieldDef
---@field name string
---@field high integer
---@field low integer
---@field bits integer
---@field access string
---@field readable boolean
---@field writable boolean
---@field read_effect string?  what reading does
---@field write_effect string?  what writing it does, unless its neutral value is written
---@field answered { read: boolean, write: boolean }  that there is no effect is known, not only not said
---@field reset integer|ffi.cdata*?
---@field values table<string, integer>?   name -> value
---@field names table<integer, string>?    value -> name
---@field description string?
---@field section string?

---@class luio.RegisterDef
---@field kind "register"
---@field name string
---@field offset integer   bytes, from the start of what it is in
---@field width integer    bits
---@field access string
---@field readable boolean
---@field writable boolean
---@field read_effect string?  why reading is no mere looking; of the register or any of its fields
---@field write_effect string?  what every write does; its fields have their own
---@field answered { read: boolean, write: boolean }  as of a field
---@field reset integer|ffi.cdata*?
---@field count integer?   an array of so many
---@field stride integer?
---@field fields luio.FieldDef[]   from the highest bit down
---@field field table<string, luio.FieldDef>
---@field region integer
---@field endian "little"|"big"
---@field halves "low"|"high"|nil
---@field alias string?
---@field when table<string, any>?  as it is stated
---@field conditions luio.WhenDef[]?  of the blocks around it and its own; nil: always visible
---@field selects boolean?  it has bytes of a selector
---@field description string?
---@field section string?

---@class luio.BlockDef
---@field kind "block"
---@field name string
---@field offset integer
---@field count integer?
---@field stride integer?
---@field children luio.Def[]      by offset
---@field total integer             registers in one element of it
---@field child table<string, luio.Def>
---@field when table<string, any>?  as it is stated
---@field conditions luio.WhenDef[]?  of the blocks around it and its own; nil: always visible

---@alias luio.Def luio.RegisterDef|luio.BlockDef

---@class luio.Map: luio.BlockDef
---@field max_width integer
---@field source string?  file it was stated in
---@field whole luio.Map?   the one that this is a part of (luio.registers.absolute)
---@field reach string?     how much of it

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
local MAX_REGISTERS = 2 ^ 20 -- that are gone through one by one: arrays of arrays multiply
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

-- How other descriptions of registers (CMSIS-SVD, SystemRDL, IP-XACT, datasheets) call what is said here.
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

-- What an access that is none may have been meant as.
local function access_hint(access)
  local ours = foreign_access[plain_word(access)]
  return ours and (" (did you mean %s?)"):format(ours) or near.hint(tostring(access), known_access)
end

-- ---- Faults --------------------------------------------------------------------------------------

---@class luio.MapCheck
local Check = {}
Check.__index = Check

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
function Check:option(path, options, key, value)
  if type(key) ~= "string" or not key:match "^[%l]" then return false end
  local kind = options[key]
  if not kind then
    local said = foreign_keys[plain_word(key)]
    self:fault(path, "unknown key %s%s", key, said and options.read_effect and (" (%s)"):format(said) or near.hint(key, options))
  elseif kind ~= "value" and type(value) ~= kind and not (value == false and key:find "_effect$") then
    local example = key == "write_effect" and ', that says what writing does: "sends the command"'
      or key == "when" and ": when = { SELECTOR = value }" or ""
    self:fault(path, "%s is a %s, not a %s%s", key, kind, type(value), example)
  end
  return true
end

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

-- What somebody has looked up, and found that there is none.
local function answered(spec)
  if type(spec) ~= "table" or spec.read_effect ~= false and spec.write_effect ~= false then return OPEN end
  return { read = spec.read_effect == false, write = spec.write_effect == false }
end

local function fits(value, bits)
  if type(value) == "cdata" then return bits == 64 or value / 2ULL ^ bits == 0ULL end
  return is_whole(value, 0, 2 ^ 53) and value < 2 ^ bits
end

function Check:values(path, values, bits)
  local names = {}
  for name, value in pairs(values) do
    if type(name) ~= "string" then
      self:fault(path, "values are NAME = number, not %s = %s", tostring(name), tostring(value))
    elseif not fits(value, bits) then
      self:fault(path, "value %s = %s does not fit in %d bits", name, tostring(value), bits)
    elseif type(value) == "number" and (not names[value] or name < names[value]) then
      -- Two names for one value: the first in the alphabet is shown. What is shown is part of a line.
      names[value] = (name:gsub("[\r\n]+", " "))
    end
  end
  return values, names
end

-- Bits of a field: NAME = bit, { bit }, { high, low }.
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
      self:fault(path, "%s: what is in a block goes into block = { ... }", tostring(key))
    end
  end
  self:children(path .. ".", block, type(spec.block) == "table" and spec.block or {}, depth + 1)
  block.count, block.stride = self:array(path, spec, math.max(block.size, 1))
  return block
end

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

function Check:aliased(prefix, block, def)
  local other = block.child[def.alias]
  if not other or other.kind ~= "register" then
    return self:fault(prefix .. def.name, "is an alias of %s, which is not there%s", def.alias, near.hint(def.alias, block.child))
  end
  if other.offset ~= def.offset or other.region ~= def.region then
    return self:fault(prefix .. def.name, "is an alias of %s, which is at 0x%x", def.alias, other.offset)
  end
end

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

-- The registers that have a selector's bytes, whose access tells what is visible; and whether to look at one is harmless, by
-- what others say of these bytes.
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
    for _, range in pairs(def.selects and {} or ranges) do
      if def.region == range.region and offset < range.last and range.first < offset + def.width / 8 then def.selects = true end
    end
  end)
end

-- ---- The map -------------------------------------------------------------------------------------

---@class luio.Map
local Map = {}

-- Definitions are found by name: map.STATUS. The map's own words are lowercase.
function Map:__index(name)
  return Map[name] or rawget(self, "child") and self.child[name]
end

local OPTIONS = { map = map_options, register = register_options, block = block_options, field = field_options }

-- Makes a map's definitions; the faults that it has.
local function define(spec, source)
  local check = setmetatable({ faults = {}, max_width = spec.max_width or 64 }, Check)
  local map = {
    kind = "block", name = spec.name or "map", offset = 0, description = spec.description, source = source,
    max_width = check.max_width,
  }
  if check.max_width ~= 8 and check.max_width ~= 16 and check.max_width ~= 32 and check.max_width ~= 64 then
    check:fault("max_width", "is 8, 16, 32 or 64, not %s", tostring(spec.max_width))
    check.max_width = 64
  end
  local own = {}
  for name, def in pairs(spec) do
    if not check:option("the map", map_options, name, def) then own[name] = def end
  end
  for name, def in pairs(type(spec.registers) == "table" and spec.registers or {}) do
    if own[name] then check:fault(tostring(name), "stated twice") end
    own[name] = def
  end
  map.region, map.endian = check:inherited("the map", spec, { region = 0, endian = "little" })
  check:children("", map, own, 1)
  local guarded, circular = whens.resolve(map, function(...) check:fault(...) end)
  if not check.faults[1] then
    setmetatable(map, Map)
    if guarded and not map:too_large() then check:selectors(map) end
  end
  if not circular then check:overlaps(map, "", map) end
  return map, check
end

-- The part of an overlay that a fault of the corrected map came from: its path there.
local function in_overlay(touched, fault)
  local at = fault.name:gsub("%b[]", "")
  while at do
    if touched[at] then return touched[at] .. fault.name:gsub("%b[]", ""):sub(#at + 1) end
    at = at:match "^(.*)%.[^%.]*$"
  end
  for word in fault.text:gmatch "[%a_][%w_]*" do -- of one that got a new neighbour
    if touched[word] then return touched[word] end
  end
end

-- Where each fault stands: those that the map has without its overlay are the map's own.
local function place_faults(faults, source, overlay, spec)
  local in_map, own = lines.of_file(source), {}
  for _, fault in ipairs(overlay and select(2, define(spec, source)).faults or {}) do own[fault.text] = true end
  local in_file = overlay and lines.of_file(overlay.path)
  for _, fault in ipairs(faults) do
    fault.file, fault.line = source or "map", not fault.of_overlay and in_map(fault.name) or nil
    if overlay and not own[fault.text] then
      local at = fault.of_overlay or in_overlay(overlay.touched, fault)
      fault.file, fault.line = overlay.path, at and in_file(at)
    end
  end
  table.sort(faults, function(a, b)
    local line_a, line_b = a.line or 0, b.line or 0
    if a.file ~= b.file then return a.file < b.file end
    return line_a < line_b or (line_a == line_b and a.text < b.text)
  end)
end

-- The map as its overlay corrects it; nil: it has none, or that can't be used. Faults go into the list.
local function with_overlay(spec, source, faults)
  local function of_map(format, ...) table.insert(faults, { name = "overlay", text = "overlay: " .. format:format(...) }) end
  if type(spec.overlay) ~= "string" then return nil end
  if not source then
    return of_map("%s stands beside the map, whose file is not known here: write return (luio.registers { ... })", spec.overlay)
  end
  local patches, message = overlays.load(source, spec.overlay)
  if message then of_map("%s", message) end
  if not patches then return nil end
  local overlay = { path = overlays.path(source, spec.overlay), touched = {} }
  local function fault(path, format, ...)
    table.insert(faults, { name = path, of_overlay = path, text = ("%s: %s"):format(path, format:format(...)) })
  end
  return overlays.apply(spec, patches, { fault = fault, options = OPTIONS, touched = overlay.touched }), overlay
end

--- Checks a map and makes it into definitions. Raises one message with every fault, each with its file and
--- line where the source is at hand.
---@param spec table
---@param source? string  the file, when it is not the caller's
---@return luio.Map
function M.new(spec, source)
  if type(spec) ~= "table" then error("luio.registers wants a table, not " .. type(spec), 3) end
  if not source then
    local info = debug.getinfo(3, "S") -- a C function: the map's file called in tail position
    source = paths.current() or info and info.source:match "^@(.*)$"
  end
  local faults = {}
  local changed, overlay = with_overlay(spec, source, faults)
  local map, check = define(changed or spec, source)
  for _, fault in ipairs(check.faults) do table.insert(faults, fault) end
  if faults[1] then
    place_faults(faults, source, overlay, spec)
    local n = #faults + (check.more or 0)
    local text = { ("register map: %d fault%s"):format(n, n > 1 and "s" or "") }
    for _, fault in ipairs(faults) do
      table.insert(text, ("  %s:%s %s"):format(fault.file, fault.line and fault.line .. ":" or "", fault.text))
    end
    if check.more then table.insert(text, ("  and %d more"):format(check.more)) end
    error(table.concat(text, "\n"), 3)
  end
  return map
end

--- Why the map is too large to go through register by register; nil: it is not.
---@return string?
function Map:too_large()
  if self.total > MAX_REGISTERS then
    return ("the map has %.0f registers, counting elements of arrays: more than %d"):format(self.total, MAX_REGISTERS)
  end
end

--- Calls fn for every register: elements of arrays each, in order of region and offset. Raises for a
--- map that is too large for that.
---@param fn fun(path: string, def: luio.RegisterDef, offset: integer)
function Map:each(fn)
  local too_large = self:too_large()
  if too_large then error(too_large, 2) end
  local function walk(block, prefix, base)
    for _, def in ipairs(block.children) do
      for i = 0, (def.count or 1) - 1 do
        local path = prefix .. def.name .. (def.count and ("[%d]"):format(i) or "")
        local offset = base + def.offset + i * (def.stride or 0)
        if def.kind == "block" then walk(def, path .. ".", offset) else fn(path, def, offset) end
      end
    end
  end
  walk(self, "", 0)
end

M.Map = Map

return M
