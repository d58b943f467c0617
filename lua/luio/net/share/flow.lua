--- Which client a flow belongs to, where all have one address: as cards spread flows over queues (RSS). Addresses and
--- ports are hashed to one of 128 buckets, and a table says whose the bucket is. Both directions of a flow have one hash. When
--- a client comes or goes, no more buckets change hands than must.

local bit = require "bit"
local ffi = require "ffi"

local band, bxor, rshift, bor, lshift = bit.band, bit.bxor, bit.rshift, bit.bor, bit.lshift

local M = {}

M.BUCKETS = 128

local int32_p, uint16_p = ffi.typeof "const int32_t *", ffi.typeof "const uint16_t *"

-- TCP, UDP, UDP-Lite, SCTP, DCCP: two ports at the beginning.
local function has_ports(protocol)
  return protocol == 6 or protocol == 17 or protocol == 136 or protocol == 132 or protocol == 33
end

--- The bucket of a frame.
---@param p ffi.cdata*       uint8_t *
---@param length integer  at least 14
---@return integer bucket  -1: it is no IP
function M.bucket(p, length)
  local at = 14
  local kind = bor(lshift(p[12], 8), p[13])
  if kind == 0x8100 and length >= 18 then
    kind, at = bor(lshift(p[16], 8), p[17]), 18
  end
  local h
  if kind == 0x0800 and length >= at + 20 then
    local words = ffi.cast(int32_p, p + at)
    h = bxor(words[3], words[4])
    -- A fragment has no ports but the first, which must go where the others do.
    local header = band(p[at], 15) * 4
    if bor(band(p[at + 6], 0x3f), p[at + 7]) == 0 and has_ports(p[at + 9]) and length >= at + header + 4 then
      local ports = ffi.cast(uint16_p, p + at + header)
      h = bxor(h, ports[0], ports[1])
    end
  elseif kind == 0x86dd and length >= at + 40 then
    local words = ffi.cast(int32_p, p + at)
    h = bxor(words[2], words[3], words[4], words[5], words[6], words[7], words[8], words[9])
    if has_ports(p[at + 6]) and length >= at + 44 then
      local ports = ffi.cast(uint16_p, p + at + 40)
      h = bxor(h, ports[0], ports[1])
    end
  else
    return -1
  end
  h = bxor(h, rshift(h, 16))
  return band(bxor(h, rshift(h, 7)), M.BUCKETS - 1)
end

--- A table without owners.
---@return ffi.cdata*  uint8_t[128]
function M.new() return ffi.new("uint8_t[?]", M.BUCKETS) end

--- Spreads the buckets over owners, evenly. An owner keeps its buckets as far as that stays even.
---@param t ffi.cdata*
---@param owners integer[]  1 to 255; empty: no bucket has an owner
function M.spread(t, owners)
  local quota, has, n = {}, {}, #owners
  for i, owner in ipairs(owners) do
    has[owner], quota[owner] = 0, math.floor(M.BUCKETS / n) + (i <= M.BUCKETS % n and 1 or 0)
  end
  for i = 0, M.BUCKETS - 1 do
    local owner = t[i]
    if has[owner] and has[owner] < quota[owner] then has[owner] = has[owner] + 1 else t[i] = 0 end
  end
  local next_one = 1
  for i = 0, M.BUCKETS - 1 do
    if t[i] == 0 and n > 0 then
      while has[owners[next_one]] >= quota[owners[next_one]] do next_one = next_one + 1 end
      t[i] = owners[next_one]
      has[owners[next_one]] = has[owners[next_one]] + 1
    end
  end
end

return M
