--- Looking at registers without disturbing them: printing, snapshots, comparing, restoring.
---
--- Each register is read once. One whose read has a side effect (a FIFO that pops, bits that clear), by its own
--- definition or by what any map says of its bytes (luio.registers.effects), is never read here, and one that
--- can't be read is not tried; registers that were left out are named, with the reason.

local bit = require "bit"
local bits = require "luio.registers.bits"
local effects = require "luio.registers.effects"
local selectors = require "luio.registers.selectors"
local triggers = require "luio.registers.triggers"
local values = require "luio.registers.values"
local verbs = require "luio.registers.verbs"

local M = {}

M.hex, M.value, M.fields, M.number = values.hex, values.value, values.fields, values.number

-- The effect of reading an offset for which no map has a register; the map that was made for it does not
-- state any.
local function raw_effect(reg, known, bytes)
  local found = known:find("read", reg.def.region, reg.offset, bytes)
  if found then return ("%s: %s"):format(found.path, found.effect) end
  local path = known:write_only(reg.def.region, reg.offset, bytes)
  return path and path .. ": write-only"
end

--- Why a register is not looked at where it is visible; nil: it may be.
---@param reg luio.Register
---@return string?
function M.disturbed(reg)
  local def = reg.def
  if not def.readable then return "write-only" end
  local effect, bytes = def.read_effect, def.width / 8
  if not effect then
    local known, device = effects.of(reg.root.device), reg.root.device:root_device()
    -- Another process that drives the device may switch the selector between our read of it and the next
    -- load.
    local behind = not rawget(device, "driven_elsewhere") and reg.guard and reg.guard.conditions or nil
    if reg.raw then effect = raw_effect(reg, known, bytes) else effect = known:why("read", def.region, reg.offset, bytes, behind) end
    if effect and reg.guard and not behind and not known:why("read", def.region, reg.offset, bytes, reg.guard.conditions) then
      effect = ("%s; %s says it is not there now, but another drives the device and may switch meanwhile"):format(effect,
        reg.guard.conditions[#reg.guard.conditions].label)
    end
  end
  return effect and "not read: " .. effect:gsub("%s+", " ") -- a reason is part of a line
end

--- Why a register is not looked at now; nil: it may be. Reads the selectors that it is behind.
---@param reg luio.Register
---@return string? reason
---@return boolean? hidden  it can't be read whatever one is ready to disturb
function M.left_out(reg)
  local hidden = selectors.hidden(reg)
  if hidden then return hidden, true end
  return M.disturbed(reg)
end

local left_out, hex, number_of = M.left_out, values.hex, values.number

M.look = selectors.look

local look = M.look
local wide = bits.wide

---@class luio.Seen        a register that was looked at
---@field reg luio.Register
---@field reason string?  why it was not read
---@field hidden boolean? it is not visible
---@field value integer|ffi.cdata*|nil

-- Looks at one register, once: its selectors, and if it may be read, itself.
local function see(reg, alone)
  local reason, hidden = left_out(reg)
  return { reg = reg, reason = reason, hidden = hidden, value = not reason and look(reg, alone) or nil }
end

-- That as a line. The widths line up several.
local function line(seen, path_width, offset_width)
  local reg, value = seen.reg, seen.value
  local head = ("%-" .. path_width .. "s %" .. offset_width .. "s"):format(reg.path, ("0x%x"):format(reg.offset))
  if seen.reason then return ("%s   (%s)"):format(head, seen.reason) end
  return (("%s = %s  %s"):format(head, hex(value, reg.def.width), M.fields(reg, value)):gsub("%s+$", ""))
end

-- Several as lines, in columns.
local function lines_of(list)
  local path_width, offset_width, lines = 1, 1, {}
  for _, seen in ipairs(list) do
    path_width, offset_width = math.max(path_width, #seen.reg.path), math.max(offset_width, #("0x%x"):format(seen.reg.offset))
  end
  -- LuaJIT's format takes widths of two digits.
  path_width, offset_width = math.min(path_width, 99), math.min(offset_width, 99)
  for i, seen in ipairs(list) do lines[i] = line(seen, path_width, offset_width) end
  return lines
end

--- One register in one line: name, offset, value, fields.
---@param reg luio.Register
---@return string
function M.register(reg)
  return line(see(reg, true), 1, 1)
end

local SHOWN = 8 -- names of hidden registers

--- Registers that are not visible, as lines: one for each reason.
---@param list { reason: string, path: string }[]
---@return string[]
function M.hidden(list)
  local lines, by_reason = {}, {}
  for _, one in ipairs(list) do
    local names = by_reason[one.reason]
    if not names then
      names = { reason = one.reason, n = 0 }
      by_reason[one.reason] = names
      table.insert(lines, names)
    end
    names.n = names.n + 1
    if names.n <= SHOWN then table.insert(names, one.path) end
  end
  for i, names in ipairs(lines) do
    local more = names.n > SHOWN and (" and %d more"):format(names.n - SHOWN) or ""
    lines[i] = ("(%s: %s%s)"):format(names.reason, table.concat(names, ", "), more)
  end
  return lines
end

--- Every register of a map, or of a block in it, a line each; those that are not visible in a line for each reason.
---@param root luio.Registers
---@param prefix string  path of the block; "": all
---@return string
function M.block(root, prefix)
  local shown, hidden = {}, {}
  for reg in root:each() do
    if prefix == "" or reg.path:sub(1, #prefix + 1) == prefix .. "." then
      local seen = see(reg)
      if seen.hidden then table.insert(hidden, { reason = seen.reason, path = reg.path }) else table.insert(shown, seen) end
    end
  end
  local lines = lines_of(shown)
  for _, text in ipairs(M.hidden(hidden)) do table.insert(lines, text) end
  return table.concat(lines, "\n")
end

local MAX_ELEMENTS = 16 -- registers of an array that are shown

--- An array: where its elements are, and the first registers of them, looked at.
---@param array table  a bound array
---@param offset integer
---@return string
function M.array(array, offset)
  local def, path = array.def, array.path
  local shown = {}
  local function add(thing)
    if #shown == MAX_ELEMENTS then return end
    if rawget(thing, "count") then
      for i = 0, thing.count - 1 do
        if #shown == MAX_ELEMENTS then return end
        add(thing[i])
      end
    elseif thing.def.kind == "block" then
      for _, child in ipairs(thing.def.children) do add(thing[child.name]) end
    else
      shown[#shown + 1] = see(thing)
    end
  end
  add(array)
  local lines = { ("%s: %d elements of 0x%x bytes at 0x%x"):format(path, def.count, def.stride, offset) }
  for _, text in ipairs(lines_of(shown)) do table.insert(lines, text) end
  local more = def.count * (def.total or 1) - #shown
  if more > 0 then lines[#lines + 1] = ("... %.0f more register%s: dump \"%s\" shows all"):format(more, more == 1 and "" or "s", path) end
  return table.concat(lines, "\n")
end

-- ---- Snapshots -----------------------------------------------------------------------------------

--- The values of a device's registers at one time.
---@class luio.Snapshot
---@field device string
---@field registers { path: string, value: string?, skipped: string? }[]  values in hexadecimal: plain
---                                                                       data, exact for 64 bits

--- The present values of all registers that may be read. Plain data: it can be stored as JSON.
---@param root luio.Registers
---@return luio.Snapshot
function M.snapshot(root)
  local snapshot = { device = root.device.address, registers = {} }
  for reg in root:each() do
    local reason = left_out(reg)
    table.insert(snapshot.registers, {
      path = reg.path, value = not reason and hex(look(reg), reg.def.width) or nil, skipped = reason,
    })
  end
  return snapshot
end

--- The fields in which two values of a register differ, from the highest down: by name where the value has
--- one.
---@param def luio.RegisterDef
---@param before integer|ffi.cdata*
---@param after integer|ffi.cdata*
---@return { name: string, before: integer|string|ffi.cdata*, after: integer|string|ffi.cdata* }[]
function M.changes(def, before, after)
  local list = {}
  for _, f in ipairs(def.fields) do
    local a, b = bits.take(before, f.high, f.low), bits.take(after, f.high, f.low)
    if a ~= b then
      table.insert(list, { name = f.name, before = f.names and f.names[a] or a, after = f.names and f.names[b] or b })
    end
  end
  return list
end

-- The value of a bit after a write, by access. Other kinds stay as they are, or are unknown.
local after_write = {
  rw = function(_, written) return written end, wonce = function(_, written) return written end,
  w1c = function(old, written) return bit.band(old, bit.bnot(written)) end, w1s = bit.bor, w1t = bit.bxor, w0c = bit.band,
  w0s = function(old, written) return bit.bor(old, bit.bnot(written)) end,
  w0t = function(old, written) return bit.bxor(old, bit.bnot(written)) end,
}

--- The value of a register after a write, as far as the map says: bits that 1 clears are cleared, not set. Bits that only
--- the hardware knows (self-clearing, write-only, reserved) stay as they were.
---@param def luio.RegisterDef
---@param old integer|ffi.cdata*
---@param written integer|ffi.cdata*
---@return integer|ffi.cdata*  as the register's verbs give it
function M.predict(def, old, written)
  local was, value, rest = wide(old, def.width), wide(written, def.width), bits.mask(def.width - 1, 0)
  local result = was
  local function put(mask, access)
    rest = bit.band(rest, bit.bnot(mask))
    local becomes = after_write[access]
    if becomes then result = bit.bor(bit.band(result, bit.bnot(mask)), bit.band(becomes(was, value), mask)) end
  end
  for _, f in ipairs(def.fields) do put(bits.mask(f.high, f.low), f.access) end
  put(rest, def.access)
  return def.width < 64 and tonumber(result) or result
end

--- A register that differs between two snapshots.
---@class luio.Difference
---@field path string
---@field before string
---@field after string
---@field fields table<string, { [1]: any, [2]: any }>  name -> before, after

--- The differences from an earlier snapshot: now, or in another snapshot.
---@param root luio.Registers
---@param before luio.Snapshot
---@param after? luio.Snapshot
---@return luio.Difference[]
function M.diff(root, before, after)
  after = after or root:snapshot()
  local was, changes = {}, {}
  for _, entry in ipairs(before.registers) do was[entry.path] = entry.value end
  for _, entry in ipairs(after.registers) do
    local old = was[entry.path]
    if old and entry.value and old ~= entry.value then
      local def, fields = assert(root:find(entry.path)).def, {}
      for _, change in ipairs(M.changes(def, number_of(old, def.width), number_of(entry.value, def.width))) do
        fields[change.name] = { change.before, change.after }
      end
      table.insert(changes, { path = entry.path, before = old, after = entry.value, fields = fields })
    end
  end
  return changes
end

-- ---- Restoring -----------------------------------------------------------------------------------

--- The bits of a register that can be put back: bits that hold the written value and have no other effect.
---@param def luio.RegisterDef
---@return ffi.cdata* mask  uint64_t
---@return string? why      the bits that can't be put back, and that the change is permanent
function M.restorable(def)
  local mask, why = 0ULL, nil
  for _, f in ipairs(def.fields) do
    if f.access == "rw" and not f.write_effect then
      mask = bit.bor(mask, bits.mask(f.high, f.low))
    elseif f.access == "wonce" then
      why = ("%s can be written only once"):format(f.name)
    end
  end
  if not def.fields[1] and def.access == "rw" then mask = 0xffffffffffffffffULL end
  if def.access == "wonce" then why = "it can be written only once" end
  return mask, why
end

local restorable = M.restorable

--- The result of writing a snapshot back.
---@class luio.Restore
---@field writes { register: luio.Register, before: any, value: any }[]  what apply would write, in order
---@field written? { register: luio.Register, before: any, value: any }[]  what it has written
---@field refused { path: string, reason: string, hidden: luio.Register? }[]  what it won't, and why
local Restore = {}
Restore.__index = Restore

-- A plan does not look like a finished restore.
function Restore:__tostring()
  local lines = {}
  for _, w in ipairs(self.written or self.writes) do
    local width = w.register.def.width
    table.insert(lines, ("%s %s 0x%x  %s := %s"):format(self.written and "wrote" or "would write", w.register.path, w.register.offset,
      hex(w.before, width), hex(w.value, width)))
  end
  for _, r in ipairs(self.refused) do table.insert(lines, ("%s  (not restored: %s)"):format(r.path, r.reason)) end
  return #lines > 0 and table.concat(lines, "\n") or "nothing differs"
end

--- Writes the planned values, in order of offset; selectors last, because registers behind them are restored as they are
--- visible now. Once.
---@return integer n  registers written
function Restore:apply()
  self.written = self.written or {}
  local n = 0
  while self.writes[1] do
    local w = table.remove(self.writes, 1)
    w.register:write(w.value)
    table.insert(self.written, w)
    n = n + 1
  end
  return n
end

--- Plans how to put a snapshot's values back: print it, then plan:apply(). Reads what it may, writes
--- nothing. Irreversible writes (write-once), registers that can't be read back and those whose write sets
--- something off (write_effect, of any name of these bytes) are refused; bits that do something when written
--- (w1c, sc and the like) get their neutral value.
---@param root luio.Registers
---@param snapshot luio.Snapshot
---@return luio.Restore plan
function M.restore(root, snapshot)
  local plan, last = setmetatable({ writes = {}, refused = {} }, Restore), {}
  local function refuse(path, reason, hidden) table.insert(plan.refused, { path = path, reason = reason, hidden = hidden }) end
  for _, entry in ipairs(snapshot.registers) do
    local reg, message = root:find(entry.path)
    local why_not, hidden
    if reg and entry.value and reg.def.writable then why_not, hidden = left_out(reg) end
    if not reg then
      refuse(entry.path, message)
    elseif why_not then
      refuse(entry.path, why_not, hidden and reg)
    elseif entry.value and reg.def.writable then
      local def = reg.def
      local mask, why = restorable(def)
      local now, wanted = look(reg), number_of(entry.value, def.width)
      local differs = bit.band(bit.bxor(wide(now), wide(wanted)), mask) ~= 0ULL
      if why and wide(now) ~= wide(wanted) then
        refuse(entry.path, why)
      elseif not differs and wide(now) ~= wide(wanted) then
        refuse(entry.path, "what differs can't be written back")
      elseif differs then
        local value = verbs.merged(reg, now, mask, bit.band(wide(wanted), mask))
        local sets_off = triggers.sentence(reg, value)
        if sets_off then refuse(entry.path, ("%s; %s:write(%s) does it all the same"):format(sets_off, reg.path, hex(value, def.width)))
        else table.insert(def.selects and last or plan.writes, { register = reg, before = now, value = value }) end
      end
    elseif reg.def.writable and entry.skipped then
      refuse(entry.path, entry.skipped:find "^not visible" and "in the snapshot " .. entry.skipped or entry.skipped)
    end
  end
  for _, w in ipairs(last) do table.insert(plan.writes, w) end
  for _, r in ipairs(last[1] and plan.refused or {}) do
    if r.hidden then r.reason = r.reason .. "; a second restore may find it visible, for this one writes a selector" end
  end
  return plan
end

return M
