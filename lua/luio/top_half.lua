--- Top halves: converts a driver's `irq` table to the steps of luio.irq, and describes them in words.
---
--- A top half reads registers (`capture`), writes registers (`ack`), and lets the next interrupt through. An entry is the name
--- of a register, or a table as in luio.irq. There are two kinds of devices:
---
---     -- The value that was read is written to a register that clears it (edu, PL031, an SD host with two of them).
---     irq = { capture = "IRQ_STATUS", ack = "IRQ_ACK" }
---     irq = { capture = { "NORINTSTS", "ERRINTSTS" }, ack = { "NORINTSTS", "ERRINTSTS" } }
---
---     -- An enable bit is cleared and set again, because nothing else clears the interrupt (ES1370: SERIAL has three enable bits,
---     -- bits 10 to 8). Two acks in a row: the captured value without these bits, then the captured value.
---     irq = {
---       capture = { "STATUS", "SERIAL" },
---       ack = { { "SERIAL", "SERIAL", mask = 0xfffff8ff }, { "SERIAL", "SERIAL" } },
---     }
---
--- The second writes back a register that Lua may also change. If an interrupt comes between Lua's load and store, one of the
--- two writes is lost. So Lua must not write such a register while the device may interrupt.
---
--- An ack writes:
---
---     "REG"                              the capture of the same name; where there is none, the only capture (edu)
---     { "REG", "CAPTURE" }               the value captured by that name
---     { "REG", "CAPTURE", mask = 0xff }  its bits in the mask, zeros elsewhere
---     { "REG", 0x1 }                     a constant
---
--- With several captures, none of the register's name, the value to write is ambiguous, so the table is refused.

---@class luio.StatedIrq  a driver's `irq` table; capacity and so on as in luio.IrqSetup
---@field capture string|(string|table)[]?
---@field ack string|(string|table)[]?
---@field unmask boolean?

local bit = require "bit"
local ffi = require "ffi"
local near = require "luio.registers.near"
local C = require("luio.ffi").C

local M = {}

local SETUP = {
  capture = "table", ack = "table", unmask = "boolean", paced = "boolean", capacity = "number", priority = "number", cpu = "number",
}
local CAPTURE = { width = "number", region = "number", name = "string" }
local ACK = { width = "number", region = "number", name = "string", mask = "value" }
local OURS = { time = true, count = true, overflow = true } -- in every event

-- ---- Values --------------------------------------------------------------------------------------

--- A value or a mask as uint64_t, if it fits the width. Negative numbers are accepted, as in a register write, because
--- bit operations return them for the highest bit.
---@param value any
---@param width integer  bits
---@return ffi.cdata*?  nil: it is none
function M.unsigned(value, width)
  if ffi.istype("uint64_t", value) or ffi.istype("int64_t", value) then
    local u = ffi.cast("uint64_t", value)
    return (width == 64 or bit.rshift(u, width) == 0ULL) and u or nil
  elseif type(value) ~= "number" or value % 1 ~= 0 then
    return nil
  elseif width == 64 then
    return value >= 0 and value <= 2 ^ 53 and ffi.cast("uint64_t", value) or nil
  end
  return value >= -2 ^ (width - 1) and value < 2 ^ width and ffi.cast("uint64_t", value % 2 ^ width) or nil
end

-- The same for a mask. Of one with 64 bits those count that the register has.
local function mask_of(step)
  local width = step.width or 32
  if type(step.mask) ~= "cdata" or width == 64 then return M.unsigned(step.mask, width) end
  local all = M.unsigned(step.mask, 64)
  return all and bit.band(all, bit.lshift(1ULL, width) - 1)
end

--- The bits of the captured value that an ack writes.
---@param step table
---@return ffi.cdata*  uint64_t
function M.mask(step)
  return step.mask ~= nil and mask_of(step) or 0xffffffffffffffffULL
end

-- ---- Checking ------------------------------------------------------------------------------------

local function check_keys(where, t, known, positions)
  for key, value in pairs(t) do
    local in_place = type(key) == "number" and key >= 1 and key <= positions
    if not in_place and not known[key] then
      return ("%s: unknown key %s%s"):format(where, tostring(key), near.hint(tostring(key), known))
    elseif not in_place and known[key] ~= "value" and type(value) ~= known[key] then
      return ("%s: %s is a %s, not a %s"):format(where, key, type(value), known[key])
    end
  end
end

local WIDTHS = { [8] = true, [16] = true, [32] = true, [64] = true }

local function check_place(where, offset, step, known)
  if type(offset) ~= "number" then
    return ("%s: the offset is %s, not a number%s"):format(where, tostring(offset), offset == nil and " (a misspelt register?)" or "")
  elseif offset < 0 or offset % 1 ~= 0 then
    return ("%s: the offset is %s, not a whole number of bytes"):format(where, tostring(offset))
  end
  local fault = check_keys(where, step, known, 2)
  if fault then return fault end
  if step.width and not WIDTHS[step.width] then return ("%s: the width is 8, 16, 32 or 64, not %s"):format(where, tostring(step.width)) end
end

local function check_capture(spec, i, names)
  local where = ("capture[%d]"):format(i)
  if type(spec) ~= "table" or type(spec[1]) ~= "string" then return where .. ': a capture is { "name", offset }' end
  where = ("%s %q"):format(where, spec[1])
  if OURS[spec[1]] then return where .. ": that name every event has already" end
  if names[spec[1]] then return where .. ": captured twice" end
  names[spec[1]] = true
  if spec.mask ~= nil then return where .. ": a capture takes no mask: all of the register is read; an ack may write a part of it" end
  return check_place(where, spec[2], spec, CAPTURE)
end

local function check_ack(spec, i, names)
  local where = ("ack[%d]"):format(i)
  if type(spec) ~= "table" then return where .. ": an ack is { offset, value or name of a capture }" end
  local fault = check_place(where, spec[1], spec, ACK)
  if fault then return fault end
  local value, width = spec[2], spec.width or 32
  if type(value) == "string" then
    if not names[value] then return ('%s names "%s", which is no capture%s'):format(where, value, near.hint(value, names)) end
    if spec.mask ~= nil and not mask_of(spec) then
      return ("%s: the mask %s is not one of %d bits"):format(where, tostring(spec.mask), width)
    end
  elseif type(value) ~= "number" and type(value) ~= "cdata" then
    return ("%s: with what? A value, or the name of a capture, not %s"):format(where, tostring(value))
  elseif not M.unsigned(value, width) then
    return ("%s: %s is not a value of %d bits"):format(where, tostring(value), width)
  elseif spec.mask ~= nil then
    return where .. ": a mask is for what was captured, not for a constant"
  end
end

--- The fault in the shape of a top half; nil: none.
---@param setup luio.IrqSetup
---@return string?
function M.fault(setup)
  local fault = check_keys("setup", setup, SETUP, 0)
  if fault then return fault end
  local captures, acks = setup.capture or {}, setup.ack or {}
  if #captures > C.LUIO_IRQ_CAPTURES then return ("at most %d captures"):format(C.LUIO_IRQ_CAPTURES) end
  if #captures + #acks > C.LUIO_IRQ_OPS - 1 then return ("at most %d steps"):format(C.LUIO_IRQ_OPS - 1) end
  local names = {}
  for i, spec in ipairs(captures) do
    fault = check_capture(spec, i, names)
    if fault then return fault end
  end
  for i, spec in ipairs(acks) do
    fault = check_ack(spec, i, names)
    if fault then return fault end
  end
end

-- ---- Names of registers --------------------------------------------------------------------------

-- The list of a key, which may be one name.
local function as_list(spec)
  if type(spec) == "string" then return { spec } end
  if spec ~= nil and type(spec) ~= "table" then
    error(("a register's name, or a list, not %s"):format(tostring(spec)), 0)
  end
  return spec or {}
end

-- The name by which an ack names its register, if it does.
local function ack_name(entry)
  return type(entry) == "string" and entry or type(entry) == "table" and type(entry[1]) == "string" and entry[1] or nil
end

-- Which capture an ack means that names a register and nothing to write.
local function source_of(name, captures)
  local names, count = {}, 0
  for _, entry in ipairs(captures) do
    local captured = type(entry) == "table" and entry[1] or entry
    if captured == name then return name end
    count = count + 1
    names[count] = type(captured) == "string" and captured or nil
  end
  if count == 1 and names[1] then return names[1] end
  if count == 0 then error(("ack %s: with what? Capture a register, or say { %q, value }"):format(name, name), 0) end
  local ways = {}
  for i = 1, count do
    if names[i] then table.insert(ways, ("{ %q, %q }"):format(name, names[i])) end
  end
  error(("ack %s: with what? Several registers are captured, and none of that name: say %s, which writes what was captured, "
    .. "or { %q, 0x1 }, a constant"):format(name, table.concat(ways, " or "), name), 0)
end

--- Checks for an ack that may mean several captures. Uses names only, so it needs no device.
---@param stated luio.StatedIrq
---@return string?  what is wrong
function M.name_fault(stated)
  local ok, fault = pcall(function()
    local captures = as_list(stated.capture)
    for _, entry in ipairs(as_list(stated.ack)) do
      local name = ack_name(entry)
      if name and captures[2] and not (type(entry) == "table" and entry[2] ~= nil) then source_of(name, captures) end
    end
  end)
  return not ok and fault or nil
end

-- A register's name, where a top half may name one: a step there; its offset; its definition.
local function named(dev, name)
  if not dev.regs then error(("names %s, but the driver has no registers"):format(name), 0) end
  local reg, message = dev.regs:find(name)
  if not reg then error(message or ("%s is no register"):format(name), 0) end
  if not reg.def or reg.def.kind ~= "register" then error(("%s is no register"):format(name), 0) end
  if reg.def.endian == "big" and reg.def.width > 8 then
    error(("%s is big-endian; a top half is not"):format(name), 0)
  end
  return { width = reg.def.width, region = reg.def.region, name = name }, reg.offset, reg.def
end

--- Converts register names to the offsets, widths and regions of luio.irq. Raises a string on an error.
---@param dev luio.Device  whose `regs` has them
---@param stated luio.StatedIrq
---@return luio.IrqSetup
function M.resolve(dev, stated)
  local out = {}
  for key, value in pairs(stated) do out[key] = value end
  out.capture, out.ack = {}, {}
  for i, entry in ipairs(as_list(stated.capture)) do
    if type(entry) == "string" then
      local step, offset, def = named(dev, entry)
      if not def.readable then error(("%s can't be captured: it is write-only"):format(entry), 0) end
      step[1], step[2] = entry, offset
      entry = step
    end
    out.capture[i] = entry
  end
  for i, entry in ipairs(as_list(stated.ack)) do
    local name = ack_name(entry)
    if name then
      local step, offset, def = named(dev, name)
      if not def.writable then error(("%s can't acknowledge: it is read-only"):format(name), 0) end
      local given = type(entry) == "table" and entry or {}
      for key, value in pairs(given) do
        if type(key) ~= "number" or key > 2 then step[key] = value end
      end
      step[1], step[2] = offset, given[2]
      if step[2] == nil then step[2] = source_of(name, out.capture) end
      entry = step
    end
    out.ack[i] = entry
  end
  return out
end

--- The top half that a driver states for its lowest vector, in words, as `describe` does. Needs no device.
---@param irq table  its `irq`
---@return string?  nil: there is a fault in it
function M.summary(irq)
  local ok, text = pcall(function()
    local lowest = math.huge
    for vector in pairs(irq) do
      if type(vector) == "number" then lowest = math.min(lowest, vector) end
    end
    local stated = irq[lowest] or irq
    local out = { capture = {}, ack = {}, unmask = stated.unmask }
    for i, entry in ipairs(as_list(stated.capture)) do out.capture[i] = { type(entry) == "table" and entry[1] or entry } end
    for i, entry in ipairs(as_list(stated.ack)) do
      local given = type(entry) == "table" and entry or {}
      local name = ack_name(entry)
      local value = given[2]
      if value == nil and name then value = source_of(name, out.capture) end
      out.ack[i] = { given[1], value, mask = given.mask, name = name, width = given.width }
    end
    return M.describe(out)
  end)
  return ok and text or nil
end

-- ---- In words ------------------------------------------------------------------------------------

--- The name of a step's place: a register's name, or its offset.
---@param step table
---@param offset integer
---@return string
function M.place(step, offset)
  if step.name then return step.name end
  return (step.region or 0) == 0 and ("0x%x"):format(offset) or ("%d:0x%x"):format(step.region, offset)
end

--- The acknowledgements, in words: "writes SERIAL := SERIAL & 0xfffff8ff".
---@param setup luio.IrqSetup
---@param place? fun(step: table, offset: integer): string  M.place
---@return string[]
function M.acks(setup, place)
  local values, parts = require "luio.registers.values", {} -- loaded only where something is said
  for i, step in ipairs(setup.ack or {}) do
    local width = step.width or 32
    local value = step[2]
    if type(value) ~= "string" then
      value = values.hex(width < 64 and tonumber(M.unsigned(value, width)) or M.unsigned(value, width), width)
    elseif step.mask ~= nil then
      local mask = M.mask(step)
      value = ("%s & %s"):format(value, values.hex(width < 64 and tonumber(mask) or mask, width))
    end
    parts[i] = ("writes %s := %s"):format((place or M.place)(step, step[1]), value)
  end
  return parts
end

-- A number as Lua reads it back, in full.
local function literal(value, width)
  local wide = M.unsigned(value, width)
  if wide < 2ULL ^ 53 then return ("0x%x"):format(tonumber(wide)) end
  return "0x" .. bit.tohex(wide) .. "ULL"
end

local function step_source(step)
  local width, items = step.width or 32, {}
  for i = 1, 2 do
    local item = step[i]
    items[i] = type(item) == "string" and ("%q"):format(item) or literal(item, i == 1 and 64 or width)
  end
  if width ~= 32 then table.insert(items, ("width = %d"):format(width)) end
  if (step.region or 0) ~= 0 then table.insert(items, ("region = %d"):format(step.region)) end
  if step.mask ~= nil then table.insert(items, "mask = " .. literal(M.mask(step), 64)) end
  return ("{ %s }"):format(table.concat(items, ", "))
end

--- A top half as Lua, by offsets, as Irq:setup takes it. Settings of its thread are left out.
---@param setup luio.IrqSetup  checked
---@return string
function M.source(setup)
  local parts = {}
  for _, key in ipairs { "capture", "ack" } do
    local steps = {}
    for i, step in ipairs(setup[key] or {}) do steps[i] = step_source(step) end
    if steps[1] then table.insert(parts, ("%s = { %s }"):format(key, table.concat(steps, ", "))) end
  end
  if setup.unmask == false then table.insert(parts, "unmask = false") end
  return parts[1] and ("{ %s }"):format(table.concat(parts, ", ")) or "{}"
end

--- All steps, in words.
---@param setup luio.IrqSetup  checked
---@param place? fun(step: table, offset: integer): string  M.place
---@return string
function M.describe(setup, place)
  local parts = {}
  for _, step in ipairs(setup.capture or {}) do table.insert(parts, "reads " .. step[1]) end
  for _, text in ipairs(M.acks(setup, place)) do table.insert(parts, text) end
  if setup.unmask ~= false then table.insert(parts, "unmasks") end
  return table.concat(parts, ", ")
end

return M
