--- Writing a register and seeing what became of it.
---
--- A change names a whole register, or fields, or bits of it. A whole register is one store. Fields and
--- bits are one load and one store. Bits beside them get the values that the map needs (neutral ones for
--- write-1-to-clear fields, as in Register:update); where the register can't be read, or reading it does
--- something, there is no such change: writing the whole register is the way.
---
--- The value before and the one after are read only where that disturbs nothing, and at an offset that no map describes
--- only when that is asked for: it may be a FIFO. Only for bits there the value is read first, because of the other
--- bits. The triggers of the write (a map's write_effect, of any register or field at these bytes) are named, also by a
--- dry run. A dry run shows the value that the register would hold. That is not the written value: a 1 clears a
--- write-1-to-clear bit.

local bit = require "bit"
local bits_of = require "luio.registers.bits"
local near = require "luio.registers.near"
local place = require "luio.tool.explore.place"
local selectors = require "luio.registers.selectors"
local show = require "luio.registers.show"
local triggers = require "luio.registers.triggers"
local verbs = require "luio.registers.verbs"
local mask_of, wide = bits_of.mask, bits_of.wide

local M = {}

---@class luio.Change
---@field found luio.Found
---@field reg luio.Register
---@field whole boolean        a store of the whole register, not of parts
---@field mask ffi.cdata*      bits that are written on purpose
---@field bits ffi.cdata*
---@field why_unread string?   why the register is not read before the write
---@field why_not_back string? why it is not read after it
---@field old integer|ffi.cdata*|nil
---@field written integer|ffi.cdata*|nil
---@field readback integer|ffi.cdata*|nil
---@field expected integer|ffi.cdata*|nil  of a dry run: the expected readback, as far as the map says
---@field triggers luio.Trigger[]          its effects
---@field dry_run boolean                   it was not written

-- The value of a text for a field; or for plain bits, without one.
local function value_of(label, text, field, bits)
  local number = place.number(text)
  if not number and field and field.values and field.values[text] then return wide(field.values[text]) end
  if not number and field and field.values then
    return nil, ("%s has no value %s: %s"):format(label, text, near.among(text, field.values)), "ENOENT"
  elseif not number then
    return nil, ("%s: %q is not a number: 123, 0x7b or 0b1111011"):format(label, text), "USAGE"
  end
  number = wide(number)
  if bits < 64 and bit.rshift(number, bits) ~= 0ULL then
    return nil, ("%s: %s does not fit in %d bit%s"):format(label, text, bits, bits > 1 and "s" or ""), "EINVAL"
  end
  return number
end

--- The value that a text means at a place: a number, or a name of the field's.
---@param found luio.Found
---@param text string
---@return ffi.cdata*?  uint64_t
---@return string? message
---@return string? code
function M.value(found, text)
  local bits = found.high and found.high - found.low + 1 or found.reg.def.width
  return value_of(found.label, text, found.field, bits)
end

local function add_field(change, field, text)
  local label = change.reg.path .. "." .. field.name
  if not field.writable then return nil, ("%s can't be written: its access is %s"):format(label, field.access), "EACCES" end
  local value, message, code = value_of(label, text, field, field.bits)
  if not value then return nil, message, code end
  change.mask = bit.bor(change.mask, mask_of(field.high, field.low))
  change.bits = bit.bor(change.bits, bit.lshift(value, field.low))
  return true
end

--- Plans a change, checking everything that can be checked without touching the device.
---@param target luio.Target
---@param assignment luio.Assignment
---@param read boolean?  read around the write also where no map describes the place
---@return luio.Change?
---@return string? message
---@return string? code
function M.plan(target, assignment, read)
  local list, message, code = target:find(assignment.place)
  if not list then return nil, message, code end
  if list[2] then return nil, ("%s names several registers: one is written at a time"):format(assignment.place.text), "USAGE" end
  local found = list[1]
  local reg, def = found.reg, found.reg.def
  if not def.writable then return nil, ("%s can't be written: it is read-only"):format(reg.path), "EACCES" end
  -- Whether it is visible is asked when it is written: an earlier write may go to its selector.
  local change = setmetatable({
    found = found, reg = reg, whole = not found.high, mask = 0ULL, bits = 0ULL, why_unread = show.disturbed(reg),
  }, M)
  change.why_not_back = (read or reg.guard) and change.why_unread or not read and not reg.guard and target:unasked(reg) or nil
  if change.whole then change.why_unread = change.why_not_back end
  local ok
  if found.field then
    ok, message, code = add_field(change, found.field, assignment.value)
  elseif found.high then
    change.bits, message, code = value_of(found.label, assignment.value, nil, found.high - found.low + 1)
    ok = change.bits
    if ok then change.mask, change.bits = mask_of(found.high, found.low), bit.lshift(change.bits, found.low) end
  else
    change.bits, message, code = value_of(found.label, assignment.value, nil, def.width)
    ok, change.mask = change.bits, mask_of(def.width - 1, 0)
  end
  if not ok then return nil, message, code end
  for _, more in ipairs(assignment.fields) do
    local field = def.field[more.name]
    if not found.field then
      return nil, ("%s: further fields need a field first: %s.FIELD=VALUE"):format(assignment.text, reg.path), "USAGE"
    end
    if not field then return nil, ("%s has no field %s%s"):format(reg.path, more.name, near.hint(more.name, def.field)), "ENOENT" end
    ok, message, code = add_field(change, field, more.value)
    if not ok then return nil, message, code end
  end
  if not change.whole and change.why_unread and def.readable then
    return nil, ("%s can't be changed in part: reading it would disturb it (%s); write all of it: %s=VALUE"):format(
      reg.path, change.why_unread:gsub("^not read: ", ""), reg.path), "EACCES"
  end
  return change
end

-- A number of the register's width, as its verbs take it.
local function narrow(value, width)
  return width < 64 and tonumber(value) or value
end

--- The value that the store has.
---@param self luio.Change
---@param old integer|ffi.cdata*|nil  the register's; nil: the reset value
---@return integer|ffi.cdata*
function M.stored(self, old)
  return self.whole and narrow(self.bits, self.reg.def.width) or verbs.merged(self.reg, old, self.mask, self.bits)
end

--- Writes, unless it is a dry run: at most one load, one store, one load.
---@param self luio.Change
---@param dry_run boolean?
---@param known integer|ffi.cdata*|nil  the current value, for a dry run after another of the same register
---@return luio.Change?
---@return string? message  it is not visible
---@return string? code     "EACCES"
function M.apply(self, dry_run, known)
  local reg = self.reg
  local hidden = selectors.hidden(reg)
  if hidden and not dry_run then return nil, ("%s was not written: %s"):format(reg.path, hidden), "EACCES" end
  self.why_unread = hidden or self.why_unread
  if known then self.old = known
  elseif not self.why_unread then self.old = show.look(reg) end
  self.written = M.stored(self, self.old)
  self.triggers, self.dry_run = triggers.of(reg, self.written), dry_run or false
  if dry_run then
    self.expected = self.old and show.predict(reg.def, self.old, self.written)
    return self
  end
  reg:write(self.written)
  if not self.why_not_back then self.readback = show.look(reg) end
  return self
end

--- The fields that have changed, or would change: before, after. Those that were named and can't be read come last,
--- without a before.
---@param self luio.Change
---@return { name: string, before: string?, after: string }[]
function M.fields(self)
  local after = self.readback or self.expected
  if not self.old or not after then return {} end
  local list = show.changes(self.reg.def, self.old, after)
  for _, f in ipairs(list) do f.before, f.after = show.value(f.before), show.value(f.after) end
  for _, f in ipairs(self.reg.def.fields) do
    if f.access == "wo" and not self.whole and bit.band(self.mask, mask_of(f.high, f.low)) ~= 0ULL then
      local x = bits_of.take(self.written, f.high, f.low)
      table.insert(list, { name = f.name, after = show.value(f.names and f.names[x] or x) })
    end
  end
  return list
end

--- The lines of a change after the first: fields, and triggers.
---@param self luio.Change
---@param mark? fun(text: string): string  colours the new value
---@return string[]
function M.lines(self, mark)
  local lines, planned = {}, self.dry_run
  for _, f in ipairs(M.fields(self)) do
    local after = mark and mark(f.after) or f.after
    if f.before then
      table.insert(lines, ("  %s%s %s -> %s"):format(planned and "would change " or "", f.name, f.before, after))
    else
      table.insert(lines, ("  %s%s := %s (write-only)"):format(planned and "would write " or "", f.name, after))
    end
  end
  for _, trigger in ipairs(self.triggers) do
    table.insert(lines, ("  %s %s: %s"):format(planned and "would trigger" or "triggered", trigger.name, trigger.text))
  end
  return lines
end

M.__index = M

return M
