--- Bytes that wait, between a serial port's users and its driver: a ring of a fixed size, so that nothing grows.
---
--- `head` counts bytes put in, `tail` bytes taken out, both modulo 2^30; the number that wait is their difference. Drivers put
--- and take single bytes in loops of their own, with the fields:
---
---     ring.bytes[band(ring.head, ring.mask)] = byte
---     ring.head = band(ring.head + 1, serial.COUNT)

local bit = require "bit"
local ffi = require "ffi"
local band = bit.band

local M = {}

local COUNT = 0x3fffffff
--- The mask for head and tail: the capacity less one.
M.COUNT = COUNT

--- A ring buffer of bytes.
---@class luio.serial.Ring
---@field head integer
---@field tail integer
---@field size integer  bytes, a power of two
---@field mask integer  size - 1
---@field bytes ffi.cdata*  uint8_t[size]
local Ring = {}

local ring_t = ffi.metatype("struct { int32_t head, tail, size, mask; uint8_t bytes[?]; }", { __index = Ring })

--- Makes one.
---@param size integer  bytes, a power of two up to 2^24
---@return luio.serial.Ring
function M.new(size)
  local ring = ring_t(size)
  ring.size, ring.mask = size, size - 1
  return ring
end

--- Bytes that wait.
---@return integer
function Ring:used() return band(self.head - self.tail, COUNT) end

--- Bytes that there is room for.
---@return integer
function Ring:room() return self.size - band(self.head - self.tail, COUNT) end

--- Puts in as much of a text as there is room for.
---@param text string
---@param from integer  its first byte to put in, from 0
---@return integer n  bytes
function Ring:put(text, from)
  local n = math.min(#text - from, self:room())
  local at = band(self.head, self.mask)
  local first = math.min(n, self.size - at)
  local source = ffi.cast("const uint8_t *", text) + from
  ffi.copy(self.bytes + at, source, first)
  ffi.copy(self.bytes, source + first, n - first)
  self.head = band(self.head + n, COUNT)
  return n
end

--- Takes out the oldest bytes.
---@param most integer
---@return string  shorter when there are fewer
function Ring:take(most)
  local n = math.min(most, self:used())
  local at = band(self.tail, self.mask)
  local first = math.min(n, self.size - at)
  local text = ffi.string(self.bytes + at, first)
  if first < n then text = text .. ffi.string(self.bytes, n - first) end
  self.tail = band(self.tail + n, COUNT)
  return text
end

--- Forgets what waits.
function Ring:clear() self.tail = self.head end

return M
