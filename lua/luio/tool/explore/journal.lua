--- A journal of register accesses, for undo and for the session as a script
--- (luio.tool.explore.script).
---
--- The journal listens to the accesses that go through a target's maps. Of a write it wants the value before: from the load
--- just before it, where there is one (an update's), else by a load of its own, if that disturbs nothing (at an offset that no
--- map describes it may). Of loads that only looked it has those of one register that was asked for (get(), a register that was
--- shown), not those of dump, watch and the like. It also has the steps with DMA memory (luio.tool.explore.memory), bus master,
--- and interrupts.

local bit = require "bit"
local errors = require "luio.errors"
local bits = require "luio.registers.bits"
local memory = require "luio.tool.explore.memory"
local place = require "luio.tool.explore.place"
local show = require "luio.registers.show"
local triggers = require "luio.registers.triggers"
local verbs = require "luio.registers.verbs"

local M = {}

local MAX_ENTRIES = 10000 -- a loop at the prompt must not fill the memory: the oldest go first

---@class luio.Journal
---@field entries luio.JournalEntry[]
---@field dropped integer  entries that are no more
---@field target luio.Target
---@field say fun(text: string)?  what the user should know of an access
---@field noted table<string, boolean>  what was said: of registers, what an update of any field sets off; of bus master
local Journal = {}
Journal.__index = Journal

---@class luio.JournalEntry
---@field kind "read"|"write"|"irq"|"exchange"|"unmask"|"master"|"memory"|"fill"
---@field path string?
---@field reg luio.Register?
---@field setup luio.IrqSetup?  of an interrupt
---@field field string?         of a read: the field that was asked for
---@field looked boolean?       of a read: it was for inspection only
---@field address luio.SessionAddress?  of a write: the place in DMA memory that it is the address of
---@field buffer luio.SessionBuffer?    of an operation on memory
---@field pieces table[]?
---@field offset integer?
---@field length integer?
---@field on boolean?           of bus master
---@field value integer|ffi.cdata*|nil
---@field old integer|ffi.cdata*|nil   of a write: the value before
---@field why string?                  of a write: why that is not known
---@field times integer                the same read, or an interrupt, so often in a row
---@field undone boolean?   it is a write that was undone, or the undoing of one
---@field refused boolean?  undoing it was tried, and refused

local function add(self, entry)
  local last = self.entries[#self.entries]
  local again = last and (entry.kind == "irq" or entry.kind == "read") and entry.kind == last.kind and last.path == entry.path
    and last.value == entry.value and last.field == entry.field
  if again then
    last.times, last.looked = last.times + 1, last.looked and entry.looked
    return
  end
  entry.times = 1
  table.insert(self.entries, entry)
  if #self.entries > MAX_ENTRIES then
    local dropped = table.remove(self.entries, 1)
    if dropped.buffer then dropped.buffer.opaque = "its first contents are not kept" end
    self.dropped = self.dropped + 1
  end
end

--- Starts a journal of a target. One that is given is gone on with, after a device was reopened.
---@param target luio.Target
---@param before? luio.Journal
---@return luio.Journal
function M.new(target, before)
  local self = before or setmetatable({ entries = {}, dropped = 0, noted = {}, memory = memory.new() }, Journal)
  self.target = target
  self.memory:lose() -- that of a device that was open before
  self:listen()
  return self
end

-- Without bus master a device reaches no buffer, and mostly does not tell. A driver's `dma` switches it on. Said once.
local function note_master(self)
  local dev = self.target.dev
  local command = dev.config and not self.noted.master and dev.config:command()
  if not self.say or not command or command.bus_master then return end
  self.noted.master = true
  self.say "note: bus master is off, so the device reaches no memory: dev:bus_master(true)"
end

-- Something was done to DMA memory.
local function memory_took(self, what, buffer, ...)
  if what == "alloc" then
    note_master(self)
    return self.memory:alloc(buffer, ...)
  end
  local entry = self.memory:took(buffer, what, ...)
  if entry then add(self, entry) end
end

--- Listens to the target's maps; again, when it got another.
function Journal:listen()
  self.target:journal_by(function(access) self:took(access) end, function(reg) self:before(reg) end)
  local dev = self.target.dev
  dev.dma.pool.told = function(...) memory_took(self, ...) end
  dev.on_bus_master = function(on) add(self, { kind = "master", on = on }) end
end

--- A write is about to happen.
---@param reg luio.Register
function Journal:before(reg)
  local known = self.last
  self.last = nil
  local why = self.target:left_out(reg)
  local unasked = why or self.target:undescribed(reg)
  if not why and known and known.reg == reg then
    self.pending = { old = known.value, update = true }
  elseif unasked then
    self.pending = { why = unasked }
  else
    local ok, value = pcall(show.look, reg)
    self.last = nil
    self.pending = { old = ok and value or nil, why = not ok and errors.text(value) or nil }
  end
end

-- An update of a field writes the other fields, too. Their triggers are named once. A driver knows its device.
local function note_update(self, reg, old)
  if not self.say or not reg.def.fields[1] or self.noted[reg.path] or self.target.dev.live then return end
  local sets_off = triggers.sentence(reg, verbs.merged(reg, old, 0ULL, 0ULL))
  if not sets_off then return end
  self.noted[reg.path] = true
  self.say(("note: %s, whichever field an update names"):format(sets_off))
end

--- An access has happened.
---@param access luio.Access
function Journal:took(access)
  local reg = access.reg
  if access.direction == "read" then
    self.last = { reg = reg, value = access.value }
    if not access.looking or access.shown then
      add(self, { kind = "read", path = reg.path, reg = reg, value = access.value, looked = access.shown or nil })
    end
    return
  end
  local pending = self.pending or {}
  self.pending, self.last = nil, nil
  if pending.update then note_update(self, reg, pending.old) end
  add(self, {
    kind = "write", path = reg.path, reg = reg, value = access.value, old = pending.old, why = pending.why,
    address = self.memory:address(access.value, reg.def.width, reg.path),
  })
end

--- Notes that a place was looked at by its name.
---@param found luio.Found
---@param value integer|ffi.cdata*  of the register
---@param part integer|ffi.cdata*|nil  of the field that was named
function Journal:looked(found, value, part)
  local field = found.field and found.field.name
  add(self, { kind = "read", path = found.reg.path, reg = found.reg, value = field and part or value, field = field, looked = true })
end

--- Notes that the next interrupt was let through by hand.
function Journal:unmasked() add(self, { kind = "unmask" }) end

--- Notes that interrupts are taken otherwise from now on.
---@param setup luio.IrqSetup
function Journal:exchanged(setup) add(self, { kind = "exchange", setup = setup }) end

--- Notes an interrupt that came while interrupts were shown.
---@param setup luio.IrqSetup  the top half that took it
function Journal:interrupt(setup)
  add(self, { kind = "irq", setup = setup })
end

-- ---- Undo ----------------------------------------------------------------------------------------

-- The register of an entry, on the device that is open now.
local function register_of(self, entry)
  if self.target:owns(entry.reg) then return entry.reg end
  local list, message = self.target:find(assert(place.parse(entry.path)))
  return list and list[1].reg, message
end

-- Undoes one write; returns its steps, or why it can't.
local function undo_one(self, entry)
  local width = entry.reg.def.width
  local function refuse(why) return nil, ("%s := %s can't be undone: %s"):format(entry.path, show.hex(entry.value, width), why) end
  if entry.why then return refuse(entry.why) end
  local reg, message = register_of(self, entry)
  if not reg then return refuse(message) end
  local reason, hidden = show.left_out(reg)
  if hidden then return refuse(reason) end
  local mask, why = show.restorable(reg.def)
  if why then return refuse(why) end
  local changed = bit.bxor(bits.wide(entry.old, width), bits.wide(entry.value, width))
  if bit.band(changed, mask) == 0ULL and changed ~= 0ULL then
    return refuse "the written value has an effect, or does not stay"
  end
  local unread = reason or self.target:undescribed(reg)
  local whole = bit.bnot(mask) == 0ULL
  if unread and not whole then return refuse(unread) end
  local now = not unread and show.look(reg) or nil
  local value = whole and entry.old or verbs.merged(reg, now, mask, bit.band(bits.wide(entry.old, width), mask))
  local sets_off = triggers.sentence(reg, value)
  if sets_off then return refuse(sets_off) end
  reg:write(value)
  local rest = bit.band(changed, bit.bnot(mask)) ~= 0ULL and "; its other bits do something when written, and stay" or ""
  local was = now and show.hex(now, width) or ("(%s)"):format(unread)
  return ("%s %s := %s%s"):format(entry.path, was, show.hex(value, width), rest)
end

-- A write and its undoing, the last entry, are both forgotten if no operation lies between them; otherwise
-- reads between them would have other results without them.
local function mark_undone(self, at)
  local entries = self.entries
  entries[#entries].undone, entries[at].undone = true, true
  if at == #entries - 1 then
    entries[at + 1], entries[at] = nil, nil
  end
end

--- Undoes the last writes, from the latest back. A write that can't be undone is named, and passed
--- over.
---@param n integer
---@return { done: string[], refused: string[] }
function Journal:undo(n)
  local result = { done = {}, refused = {} }
  local at = #self.entries
  while at > 0 and n > 0 do
    local entry = self.entries[at]
    if entry.kind == "write" and not entry.undone and not entry.refused then
      local text, why = undo_one(self, entry)
      if text then mark_undone(self, at) else entry.refused = true end
      table.insert(text and result.done or result.refused, text or why)
      n = n - 1
    end
    at = at - 1
  end
  return result
end

return M
