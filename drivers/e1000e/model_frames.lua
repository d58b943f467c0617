--- A model's work on a frame's bytes: checksums, the CRC, a look at IPv4.
---
--- Sums are of little-endian 32-bit words, folded at the end: a ones' complement sum is the same in either byte order,
--- swapped (RFC 1071). A model runs without the compiler, so a turn of a loop counts.

local bit = require "bit"
local ffi = require "ffi"

local band, bor, bxor, rshift, lshift = bit.band, bit.bor, bit.bxor, bit.rshift, bit.lshift

local M = {}

local u32 = ffi.typeof "const uint32_t *"

--- The ones' complement sum of bytes, 16 bits, as big-endian words.
---@param bytes ffi.cdata*  const uint8_t *
---@param from integer
---@param to integer  behind the last
---@param sum? integer  added
---@return integer
function M.sum(bytes, from, to, sum)
  local total, n = 0, to - from
  local words = ffi.cast(u32, bytes + from)
  local whole = (n - n % 4) / 4
  for i = 0, whole - 1 do total = total + words[i] end
  for i = from + whole * 4, to - 1 do total = total + bytes[i] * 2 ^ ((i - from) % 4 * 8) end
  while total > 0xffff do total = total % 65536 + (total - total % 65536) / 65536 end
  total = band(total, 0xff) * 256 + rshift(total, 8) + (sum or 0)
  while total > 0xffff do total = total % 65536 + (total - total % 65536) / 65536 end
  return total
end

--- Puts the checksum of bytes `from` up to `to` at byte `at`, which counts in it.
---@param bytes ffi.cdata*  uint8_t *
function M.insert(bytes, at, from, to)
  local sum = 65535 - M.sum(bytes, from, to)
  if sum == 0 then sum = 0xffff end -- in UDP 0 is: there is none
  bytes[at], bytes[at + 1] = rshift(sum, 8), band(sum, 0xff)
end

local crc_table

--- The CRC of a frame, in the order in which it is sent (IEEE 802.3, 3.2.9).
---@param frame string
---@return string  4 bytes
function M.crc(frame)
  if not crc_table then
    crc_table = {}
    for i = 0, 255 do
      local c = i
      for _ = 1, 8 do c = band(c, 1) == 1 and bxor(rshift(c, 1), 0xedb88320) or rshift(c, 1) end
      crc_table[i] = c
    end
  end
  local c = 0xffffffff
  for i = 1, #frame do c = bxor(rshift(c, 8), crc_table[band(bxor(c, frame:byte(i)), 0xff)]) end
  c = bit.bnot(c)
  return string.char(band(c, 0xff), band(rshift(c, 8), 0xff), band(rshift(c, 16), 0xff), rshift(c, 24))
end

local IPCS, TCPCS, UDPCS = 0x40, 0x20, 0x10 -- status of a receive descriptor (82574, 7.1.4.1)
local IPE, TCPE = 0x40, 0x20 -- errors (7.1.4.2)

--- A receiver's findings about the checksums of an IPv4 packet: status and errors of its descriptor, 0 and 0 if there
--- is no checksum.
---@param bytes ffi.cdata*  const uint8_t *, the frame
---@param size integer
---@param ip boolean   looks at the header's
---@param l4 boolean   looks at TCP's and UDP's
---@return integer status
---@return integer errors
function M.check(bytes, size, ip, l4)
  if size < 34 or bytes[12] ~= 0x08 or bytes[13] ~= 0x00 or rshift(bytes[14], 4) ~= 4 then return 0, 0 end
  local header = band(bytes[14], 15) * 4
  local total = bytes[16] * 256 + bytes[17]
  if header < 20 or total < header or 14 + total > size then return 0, 0 end
  local status, errors = 0, 0
  if ip then
    status = IPCS
    if M.sum(bytes, 14, 14 + header) ~= 0xffff then errors = IPE end
  end
  local protocol = bytes[23]
  local fragment = band(bytes[20] * 256 + bytes[21], 0x3fff) ~= 0 -- MF, or an offset
  local length = total - header
  if not l4 or fragment or not (protocol == 6 and length >= 20 or protocol == 17 and length >= 8) then return status, errors end
  local at = 14 + header
  if protocol == 17 and bytes[at + 6] == 0 and bytes[at + 7] == 0 then return status, errors end -- it has none
  status = bor(status, TCPCS, protocol == 17 and UDPCS or 0)
  if M.sum(bytes, at, 14 + total, M.sum(bytes, 26, 34, protocol + length)) ~= 0xffff then errors = bor(errors, TCPE) end
  return status, errors
end

--- The bit that an address has in MTA: its table's word, and the bit in it (82574, 10.2.5.21).
---@param frame string
---@param offset integer  RCTL.MO
---@return integer word
---@return integer mask
function M.hash(frame, offset)
  local low, high = frame:byte(5, 6)
  local hash = band(rshift(high * 256 + low, ({ [0] = 4, 3, 2, 0 })[offset]), 0xfff)
  return rshift(hash, 5), lshift(1, band(hash, 31))
end

return M
