--- The DMA memory of a session: the buffers, the data that were written into them, and the registers that got their
--- addresses.
---
--- An address lets the device read and write there, and in the next session the same number is another program's memory. So a
--- script of the session (luio.tool.explore.script) may hold no such number: where a value lies in a buffer it becomes an
--- expression of that buffer's `iova`. Other uses (a part of an address, an address in memory that was freed, memory that was
--- written by a pointer) have no script, and `fault` has the reason.

local bits = require "luio.registers.bits"
local ffi = require "ffi"

local M = {}

local MOST = 2 ^ 20 -- bytes that were written to memory and are kept
local FAR = 2 ^ 32 -- an address from here on has halves
local REMEMBERED = 1000 -- buffers; of those that were freed the oldest are forgotten
local UPPER = 32 -- bits, of which the upper half of an address is shifted
local SHIFTS = { 4, 8, 12, 16, UPPER } -- how devices cut off the low bits of an address, and its upper half

---@class luio.SessionBuffer
---@field name string        of the variable: "b1"
---@field iova integer
---@field size integer
---@field options { align: integer?, mask: integer?, name: string? }
---@field freed boolean?
---@field opaque string?     why its contents are not known
---@field used boolean?      its address was written to the device or to other memory
---@field written boolean?   the journal has its contents
---@field parts table<string, { value: integer, shift: integer }>  by register: values that may be a part of its address

-- The range that a value is compared with before the buffers are searched. It only grows.
---@class luio.SessionReach
---@field first integer
---@field last integer  the end of a buffer is an address, too

---@class luio.SessionMemory
---@field buffers luio.SessionBuffer[]
---@field package by_handle table<string, luio.SessionBuffer>
---@field package made integer  so far
---@field package kept integer  bytes
---@field package places luio.SessionReach  of all addresses
---@field package halves luio.SessionReach  of the lower 32 bits of those from 4 GiB on
local Memory = {}
Memory.__index = Memory

--- An empty record.
---@return luio.SessionMemory
function M.new()
  local function nowhere() return { first = math.huge, last = -1 } end
  return setmetatable({ buffers = {}, by_handle = {}, made = 0, kept = 0, places = nowhere(), halves = nowhere() }, Memory)
end

local function widen(reach, first, size)
  reach.first, reach.last = math.min(reach.first, first), math.max(reach.last, first + size)
end

-- The oldest that was freed is forgotten.
local function forget_one(buffers)
  for i, b in ipairs(buffers) do
    if b.freed then return table.remove(buffers, i) end
  end
end

--- A buffer was allocated.
---@private
function Memory:alloc(buffer, options, mask)
  self.made = self.made + 1
  local entry = {
    name = "b" .. self.made, iova = buffer.iova, size = buffer.size, parts = {},
    options = { align = options.align, name = options.name, mask = mask ~= 0 and mask or nil },
  }
  table.insert(self.buffers, entry)
  self.by_handle[tostring(buffer.handle)] = entry
  widen(self.places, entry.iova, entry.size)
  if entry.iova + entry.size > FAR then
    local low = entry.iova % FAR
    local across = low + entry.size > FAR -- a multiple of 4 GiB
    widen(self.halves, across and 0 or low, across and FAR or entry.size)
  end
  if #self.buffers > REMEMBERED then forget_one(self.buffers) end
end

--- The record of a buffer; nil: the buffer was there before the session looked.
---@param buffer luio.Buffer
---@return luio.SessionBuffer?
function Memory:of(buffer) return self.by_handle[tostring(buffer.handle)] end

--- All memory has gone, with the device.
function Memory:lose()
  for _, entry in ipairs(self.buffers) do entry.freed = true end
  self.by_handle = {}
end

-- The buffer that has an address; the latest first, for addresses are used again.
local function find(self, address)
  if address < self.places.first or address > self.places.last then return nil end
  local behind
  for i = #self.buffers, 1, -1 do
    local b = self.buffers[i]
    if address >= b.iova and address < b.iova + b.size then return b, address - b.iova end
    if address == b.iova + b.size then behind = behind or b end -- an end, not a place
  end
  if behind then return behind, behind.size end
end

local function number(value)
  if type(value) ~= "cdata" then return value end
  return value < 2 ^ 53 + 0ULL and tonumber(value) or nil
end

---@class luio.SessionAddress
---@field buffer luio.SessionBuffer
---@field offset integer
---@field low boolean?    the lower 32 bits of it
---@field high boolean?   the upper
---@field freed boolean?  the buffer had been freed by then

-- The buffer that a value is an address of; nil: none.
local function place_of(self, value)
  local b, offset = find(self, value)
  if not b or value <= 0 then return nil end
  b.used = true
  return { buffer = b, offset = offset, freed = b.freed }
end

-- The buffer whose address has these 32 bits as its lower half; nil: none.
local function half_of(self, value)
  if value < self.halves.first or value > self.halves.last or value <= 0 then return nil end
  for _, b in ipairs(self.buffers) do
    local offset = (value - b.iova) % FAR
    if offset < b.size and b.iova + offset >= FAR then
      b.used = true
      return { buffer = b, offset = offset, low = true, freed = b.freed }
    end
  end
end

--- The buffer that a register's value is an address of; nil: none. Notes what looks like a part of one.
---@param value integer|ffi.cdata*
---@param width integer  bits
---@param path string    who was given it, for messages
---@return luio.SessionAddress?
function Memory:address(value, width, path)
  if not self.buffers[1] then return nil end
  value = number(width == 64 and bits.wide(value, 64) or value)
  if not value or value <= 0 then return nil end
  local address = place_of(self, value) or width == 32 and half_of(self, value)
  if address then return address end
  for _, one in ipairs(self.buffers) do
    for _, shift in ipairs(one.freed and {} or SHIFTS) do
      local part = math.floor(one.iova / 2 ^ shift)
      -- A value that may be an upper half is no fault of a buffer that is used: it takes no other
      -- part's place.
      local worse = shift == UPPER and one.parts[path]
      if part > 0 and value == part and not worse then one.parts[path] = { value = value, shift = shift } end
    end
  end
end

local function word(data, at)
  return data[at] + data[at + 1] * 2 ^ 8 + data[at + 2] * 2 ^ 16 + data[at + 3] * 2 ^ 24
end

--- Splits data that were written into a buffer at the addresses in them: at each multiple of 4 bytes, 64 bits before 32,
--- wherever descriptors have them.
---@param bytes string
---@return (string|{ width: integer, address: luio.SessionAddress })[]
function Memory:pieces(bytes)
  local list, from, at, size = {}, 0, 0, #bytes
  local data = ffi.cast("const uint8_t *", bytes)
  while at + 4 <= size do
    local low, width = word(data, at), 64
    local address = at + 8 <= size and place_of(self, low + word(data, at + 4) * FAR) or nil
    if not address then address, width = place_of(self, low) or half_of(self, low), 32 end
    if address then
      if at > from then table.insert(list, bytes:sub(from + 1, at)) end
      table.insert(list, { width = width, address = address })
      from = at + width / 8
    end
    at = at + (address and width / 8 or 4)
  end
  if from < size then table.insert(list, bytes:sub(from + 1)) end
  return list
end

--- Keeps a step with memory, or notes that it can't be kept.
---@param buffer luio.Buffer
---@param what "write"|"fill"|"pointer"|"free"
---@param ... any  as the pool tells it (luio.dma)
---@return luio.JournalEntry? entry  for the journal
---@private
function Memory:took(buffer, what, ...)
  local b = self:of(buffer)
  if not b then return nil end
  if what == "free" then
    b.freed = true
    self.by_handle[tostring(buffer.handle)] = nil
    if not b.used and not b.written and not next(b.parts) then
      for i, one in ipairs(self.buffers) do
        if one == b then return nil, table.remove(self.buffers, i) end
      end
    end
  elseif what == "pointer" then
    b.opaque = b.opaque or "it was written by a pointer, or may have been"
  elseif what == "fill" then
    local value, offset, length = ...
    b.written = true
    return { kind = "fill", buffer = b, value = value, offset = offset, length = length }
  else
    local offset, bytes = ...
    self.kept, b.written = self.kept + #bytes, true
    if self.kept > MOST then
      b.opaque = b.opaque or ("more than %d bytes were written to memory"):format(MOST)
      return nil
    end
    return { kind = "memory", buffer = b, offset = offset, pieces = self:pieces(bytes) }
  end
end

-- The write of the upper half of an address whose lower half one register was given: to the register beside it, at about the
-- same time.
local function other_half(entries, at)
  local entry = entries[at]
  local b = entry.address.buffer
  local high = math.floor((b.iova + entry.address.offset) / FAR)
  for _, distance in ipairs { 1, -1, 2, -2, 3, -3 } do
    local one = entries[at + distance]
    local near = one and one.kind == "write" and one.value == high and one.reg.def.region == entry.reg.def.region
      and math.abs(one.reg.offset - entry.reg.offset) == 4
    local before = near and one.address -- found by an earlier session(), or by the same address told twice
    if near and (not before or before.high and before.buffer == b and before.offset == entry.address.offset) then return one end
  end
end

--- Why the session has no script; nil: it has. Finds the halves of addresses that belong together.
---@param entries luio.JournalEntry[]
---@return string?
function Memory:fault(entries)
  for i, entry in ipairs(entries) do
    if entry.address and entry.address.low then
      local high = other_half(entries, i)
      if not high then
        return ("%s was given the lower half of 0x%x, an address in a buffer; the place of the upper half is not known"):format(entry.path,
          entry.address.buffer.iova + entry.address.offset)
      end
      high.address = { buffer = entry.address.buffer, offset = entry.address.offset, high = true }
    end
  end
  for _, entry in ipairs(entries) do
    for _, place in ipairs(M.places(entry)) do
      local b = place.buffer
      if place.freed then
        return ("%s was given 0x%x, an address in a buffer that had been freed"):format(entry.path or "memory", b.iova + place.offset)
      elseif place.low and entry.kind == "memory" then
        return ("memory was given 0x%x, which may be the lower half of 0x%x, an address in a buffer; the place of the "
          .. "upper half is not known")
          :format((b.iova + place.offset) % FAR, b.iova + place.offset)
      elseif b.opaque then
        return ("the device was told of a buffer of %d bytes (0x%x), and its content is not known here: %s"):format(
          b.size, b.iova, b.opaque)
      end
    end
  end
  for _, b in ipairs(self.buffers) do
    for path, part in pairs(b.parts) do
      if not b.used or part.shift ~= UPPER then
        return ("%s := 0x%x may be a part of the address of a buffer, 0x%x shifted by %d bits, or may not"):format(
          path, part.value, b.iova, part.shift)
      end
    end
  end
end

--- The places in memory whose addresses were written somewhere.
---@param entry luio.JournalEntry
---@return luio.SessionAddress[]
function M.places(entry)
  local list = { entry.address }
  for _, piece in ipairs(entry.pieces or {}) do
    if type(piece) == "table" then table.insert(list, piece.address) end
  end
  return list
end

--- An address as an expression of the script.
---@param address luio.SessionAddress
---@return string
function M.expression(address)
  local text = address.buffer.name .. ".iova" .. (address.offset > 0 and (" + 0x%x"):format(address.offset) or "")
  if address.low then return ("(%s) %% 2 ^ 32"):format(text) end
  if address.high then return ("math.floor((%s) / 2 ^ 32)"):format(text) end
  return text
end

return M
