--- The DMA memory of a session: which buffers there are, what was written into them, and which register was told of which.
---
--- An address is the device's licence to read and write there, and the next time the same number is somebody else's memory.
--- So a script of the session (luio.explore.script) may hold no such number: where a value lies in a buffer it becomes an expression
--- of that buffer's `iova`. What can't be put so (a part of an address, an address in memory that was freed, memory that
--- was written by a pointer, past us) has no script, and `fault` says why.

local bits = require "luio.registers.bits"
local ffi = require "ffi"

local M = {}

local MOST = 2 ^ 20 -- bytes that were written to memory and are kept
local REMEMBERED = 1000 -- buffers; of those that were freed the oldest are forgotten
local SHIFTS = { 4, 8, 12, 16, 32 } -- how devices cut off the low bits of an address, and its upper half

---@class luio.SessionBuffer
---@field name string        of the variable: "b1"
---@field iova integer
---@field size integer
---@field options { align: integer?, mask: integer?, name: string? }
---@field freed boolean?
---@field opaque string?     why what is in it is not known
---@field used boolean?      the device, or other memory, was told of it
---@field written boolean?   the journal has what was written to it
---@field parts table<string, { value: integer, shift: integer }>  by who was given what may be a part of its address

---@class luio.SessionMemory
---@field buffers luio.SessionBuffer[]
---@field package by_handle table<string, luio.SessionBuffer>
---@field package made integer  so far
---@field package kept integer  bytes
local Memory = {}
Memory.__index = Memory

--- An empty record.
---@return luio.SessionMemory
function M.new() return setmetatable({ buffers = {}, by_handle = {}, made = 0, kept = 0 }, Memory) end

--- A buffer was allocated.
function Memory:alloc(buffer, options, mask)
  self.made = self.made + 1
  local entry = {
    name = "b" .. self.made, iova = buffer.iova, size = buffer.size, parts = {},
    options = { align = options.align, name = options.name, mask = mask ~= 0 and mask or nil },
  }
  table.insert(self.buffers, entry)
  self.by_handle[tostring(buffer.handle)] = entry
  if #self.buffers > REMEMBERED and self.buffers[1].freed then table.remove(self.buffers, 1) end
end

--- What is known of a buffer; nil: it was there before the session looked.
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

--- What a value is an address of, as a register or memory was given it; nil: of none. Notes what looks like a part of one.
---@param value integer|ffi.cdata*
---@param width integer  bits
---@param path string    who was given it, for messages
---@return luio.SessionAddress?
function Memory:address(value, width, path)
  if not self.buffers[1] then return nil end
  value = number(width == 64 and bits.wide(value, 64) or value)
  if not value or value <= 0 then return nil end
  local b, offset = find(self, value)
  if b then
    b.used = true
    return { buffer = b, offset = offset, freed = b.freed }
  end
  for _, one in ipairs(self.buffers) do
    local low = one.iova % 2 ^ 32
    if width == 32 and one.iova >= 2 ^ 32 and value >= low and value < low + one.size then
      one.used = true
      return { buffer = one, offset = value - low, low = true, freed = one.freed }
    end
    for _, shift in ipairs(one.freed and {} or SHIFTS) do
      local part = math.floor(one.iova / 2 ^ shift)
      if part > 0 and value == part then one.parts[path] = { value = value, shift = shift } end
    end
  end
end

--- Splits what was written into a buffer at the addresses in it.
---@param bytes string
---@return (string|{ width: integer, address: luio.SessionAddress })[]
function Memory:pieces(bytes)
  local list, from, at = {}, 1, 1
  local data = ffi.cast("const uint8_t *", bytes)
  while at + 3 <= #bytes do
    local address, width
    for _, w in ipairs { 64, 32 } do
      if not address and (at - 1) % (w / 8) == 0 and at + w / 8 - 1 <= #bytes then
        local v = 0ULL
        for i = w / 8 - 1, 0, -1 do v = v * 256 + data[at - 1 + i] end
        local n = number(v)
        local b, offset = find(self, n or -1)
        if b and n > 0 then
          b.used = true
          address, width = { buffer = b, offset = offset, freed = b.freed }, w
        end
      end
    end
    if address then
      if at > from then table.insert(list, bytes:sub(from, at - 1)) end
      table.insert(list, { width = width, address = address })
      at = at + width / 8
      from = at
    else
      at = at + 4
    end
  end
  if from <= #bytes then table.insert(list, bytes:sub(from)) end
  return list
end

--- Keeps what was done to memory, or notes that it can't be kept.
---@param buffer luio.Buffer
---@param what "write"|"fill"|"pointer"|"free"
---@param ... any  as the pool tells it (luio.dma)
---@return luio.JournalEntry? entry  for the journal
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
  local high = math.floor((b.iova + entry.address.offset) / 2 ^ 32)
  for _, distance in ipairs { 1, -1, 2, -2, 3, -3 } do
    local one = entries[at + distance]
    if one and one.kind == "write" and not one.address and one.value == high and one.reg.def.region == entry.reg.def.region
      and math.abs(one.reg.offset - entry.reg.offset) == 4 then return one end
  end
end

--- Why what was done has no script; nil: it has. Finds the halves of addresses that belong together.
---@param entries luio.JournalEntry[]
---@return string?
function Memory:fault(entries)
  for i, entry in ipairs(entries) do
    if entry.address and entry.address.low then
      local high = other_half(entries, i)
      if not high then
        return ("%s was given the lower half of 0x%x, an address in a buffer; what was given the upper is not known"):format(entry.path,
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
      elseif b.opaque then
        return ("the device was told of a buffer of %d bytes (0x%x), and what it finds there is not known here: %s"):format(
          b.size, b.iova, b.opaque)
      end
    end
  end
  for _, b in ipairs(self.buffers) do
    local path, part = next(b.parts)
    if path and not b.used then
      return ("%s := 0x%x may be a part of the address of a buffer, 0x%x shifted by %d bits, or may not"):format(
        path, part.value, b.iova, part.shift)
    end
  end
end

--- The places in memory that something was told of.
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
