--- The triggers of a write, by its bytes and its value.
---
--- A map says it in three ways: `write_effect` of a register (every write of any value has it), `write_effect` of a
--- field (a write of anything but 0 there does it), and access: "sc" starts, "w1c" clears, "w1t" toggles. The bus knows
--- addresses, not names; so the statements about any register at these bytes (luio.registers.effects) count: of an alias, a
--- narrower or a wider one, one in another block or map, and also where an offset is written that no map has.
---
--- A write through the register's own name is judged without the bits that only clear, set or toggle themselves: these are
--- seen in what changes. Through another name the effect is unexpected, and they count.

local bit = require "bit"
local bits = require "luio.registers.bits"
local effects = require "luio.registers.effects"
local band, bnot, bor, rshift = bit.band, bit.bnot, bit.bor, bit.rshift

local M = {}

-- The effect of a bit of each access when it is not written as its neutral value.
local BY_ACCESS = {
  sc = "starts something, and the hardware clears it",
  w1c = "clears it where 1 is written", w1s = "sets it where 1 is written", w1t = "toggles it where 1 is written",
  w0c = "clears it where 0 is written", w0s = "sets it where 0 is written", w0t = "toggles it where 0 is written",
}
local NEUTRAL_IS_ONE = { w0c = true, w0s = true, w0t = true }

---@class luio.Trigger
---@field name string   what does it: a register's path, or a field's
---@field text string   what a write there does

-- The write_effect of a definition.
---@class luio.TriggerDef
---@field field string?
---@field text string
---@field mask ffi.cdata*?    uint64_t: the bits that count; nil: every write does
---@field ones boolean        they are neutral as ones
---@field of_itself boolean   no more than what its access says: seen in the value

local stated = setmetatable({}, { __mode = "k" })

local function of_definition(def)
  if stated[def] then return stated[def] end
  local list, covered = {}, 0ULL
  local function add(field, mask, access, text)
    local of_itself = false
    if not text then text, of_itself = BY_ACCESS[access], access ~= "sc" end
    if not text or text == BY_ACCESS.sc and def.write_effect then return end -- the register's says more
    table.insert(list, {
      field = field, mask = mask, ones = NEUTRAL_IS_ONE[access] or false, of_itself = of_itself,
      text = text:gsub("^writing ", ""):gsub("%s+", " "),
    })
  end
  if def.write_effect then add(nil, nil, def.access, def.write_effect) end
  for _, f in ipairs(def.fields) do
    local mask = bits.mask(f.high, f.low)
    covered = bor(covered, mask)
    add(f.name, mask, f.access, f.write_effect)
  end
  local bare = band(bits.mask(def.width - 1, 0), bnot(covered))
  if bare ~= 0ULL and not def.write_effect then add(nil, bare, def.access) end
  stated[def] = list
  return list
end

-- Where the byte at an address is in a register's value: the bits below it.
local function below(def, offset, byte)
  local bits_before = (byte - offset) * 8
  return def.endian == "big" and def.width - 8 - bits_before or bits_before
end

-- Whether a value written to this register meets a condition on another register (or this one): byte by byte, because they
-- may begin elsewhere and have another width and order of bytes.
local function sets_off(trigger, other, reg, value)
  if not trigger.mask then return true end
  local last = math.min(other.offset + other.def.width / 8, reg.offset + reg.def.width / 8) - 1
  for byte = math.max(other.offset, reg.offset), last do
    local mask = band(rshift(trigger.mask, below(other.def, other.offset, byte)), 0xffULL)
    local written = rshift(value, below(reg.def, reg.offset, byte))
    if band(trigger.ones and bnot(written) or written, mask) ~= 0ULL then return true end
  end
  return false
end

--- The triggers of writing a value to a register, beside the change of the value. Touches nothing.
---@param reg luio.Register
---@param value integer|ffi.cdata*
---@return luio.Trigger[]  empty: nothing that a map says
function M.of(reg, value)
  local wide, list, said = bits.wide(value, reg.def.width), {}, {}
  local known, behind = effects.of(reg.root.device), reg.guard and reg.guard.conditions
  for _, other in ipairs(known:written(reg.def.region, reg.offset, reg.def.width / 8, behind)) do
    local own = other.offset == reg.offset and (other.def == reg.def or other.path == reg.path)
    for _, trigger in ipairs(of_definition(other.def)) do
      local name = trigger.field and other.path .. "." .. trigger.field or other.path
      if not (own and trigger.of_itself) and not said[name] and sets_off(trigger, other, reg, wide) then
        said[name] = true
        table.insert(list, { name = name, text = trigger.text })
      end
    end
  end
  return list
end

--- The same as part of a sentence; nil: nothing.
---@param reg luio.Register
---@param value integer|ffi.cdata*
---@return string?
function M.sentence(reg, value)
  local parts = {}
  for i, trigger in ipairs(M.of(reg, value)) do parts[i] = ("writing %s %s"):format(trigger.name, trigger.text) end
  return parts[1] and table.concat(parts, "; ")
end

return M
