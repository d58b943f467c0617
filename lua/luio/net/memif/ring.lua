--- memif's rings from the server's side: all memory is the client's, and it may write any of it at any time.
---
--- So nothing is believed. An index is read once, and must be no further than the ring is long; it is only used modulo the
--- ring's size. Descriptors are copied out of the ring by one opaque call a burst, and the copy is checked and used, because
--- compiled code may read a word twice that the source reads once. The place of the data in a region is checked for each
--- descriptor. The data are copied before they are used. A client that breaks a rule is not corrected: `fault` is set, and
--- the connection ends.
---
--- Own indices are kept in private memory; the ring's are written, never read.
---
--- Order between the processors. Accesses before the store of an index are seen before it: fence_doorbell (stores) after frames
--- were put into buffers, fence_flag (loads) after they were taken out. Reads after the load of an index are not older: fence_flag.
--- An index is stored and then the flag "wake me" loaded, while the other side stores the flag and then loads the index: fence_full
--- on both sides, else both may see the old.
---
--- Loops are as in drivers/e1000e/ring.lua: pointers live in a C struct, indices are cut by band().

local bit = require "bit"
local ffi = require "ffi"
local luio = require "luio"
local posix = require "luio.posix"
local protocol = require "luio.net.memif.protocol"
local C = require("luio.ffi").C

local band = bit.band
local fence_flag, fence_doorbell, fence_full = luio.fence_flag, luio.fence_doorbell, luio.fence_full
local read16, read32, write16 = C.luio_read16, C.luio_read32, C.luio_write16
local memcpy = posix.memcpy
local FLAGS, HEAD, TAIL, DESCRIPTORS = protocol.FLAGS_AT, protocol.HEAD_AT, protocol.TAIL_AT, protocol.DESCRIPTORS_AT

local M = {}

--- Descriptors that one burst looks at, and so the frames of one.
M.BURST = 64

--- Regions that a client may have.
M.REGIONS = 8

--- A client's faults, by number, for `fault`.
M.FAULTS = {
  "its ring's head is further ahead than the ring is long",
  "a descriptor lies outside of its region",
  "a descriptor names a region that there is not",
  "a frame is in more than 64 pieces, or has no end",
  "it offers a buffer of no bytes",
}
local HEAD_AHEAD, OUTSIDE, NO_REGION, ENDLESS, EMPTY = 1, 2, 3, 4, 5

local scratch = ffi.new(ffi.typeof("$[?]", protocol.descriptor_t), M.BURST)
local shared_t = ffi.typeof("$ *", protocol.descriptor_t)

--- A client's queue pair. Counters are doubles, because they are for Lua.
M.queue_t = ffi.typeof(([[struct {
  uint8_t *from, *to;
  uint8_t *base[%d];
  int32_t size[%d], regions;
  int32_t from_mask, to_mask, last, tail;
  int32_t fault, wake;
  int32_t most;
  double rx_packets, rx_bytes, rx_short, rx_long, tx_packets, tx_bytes;
}]]):format(M.REGIONS, M.REGIONS))

-- Copies n descriptors, from number `at` on, out of a ring.
local function copy_out(ring, mask, at, n)
  local first = band(at, mask)
  local run = math.min(n, mask + 1 - first)
  memcpy(scratch, ring + (DESCRIPTORS + first * 16), run * 16)
  if run < n then memcpy(scratch + run, ring + DESCRIPTORS, (n - run) * 16) end
end

--- Whether there is something to take.
---@param q ffi.cdata*  queue_t
---@return boolean
function M.ready(q)
  return read16(q.from + HEAD) ~= q.last
end

--- Takes frames that the client sent, each into a packet of its own; they are yours. Too short and too long ones (`q.most`) are
--- left out, and counted. With q.fault set afterwards the client has broken a rule; earlier frames are good.
---@param q ffi.cdata*  queue_t
---@param pool luio.Pool
---@param batch luio.Batch  filled from 0
---@param n integer  at most so many, and at most BURST
---@return integer taken
function M.take(q, pool, batch, n)
  local mask, last = q.from_mask, q.last
  local there = band(read16(q.from + HEAD) - last, 0xffff)
  if there == 0 then return 0 end
  if there > mask + 1 then
    q.fault = HEAD_AHEAD
    return 0
  end
  fence_flag()
  if there > M.BURST then there = M.BURST end
  copy_out(q.from, mask, last, there)
  local have = pool:fill(batch, 0, math.min(n, there))
  local taken, done, at = 0, 0, 0 -- frames; descriptors of whole frames; bytes of the frame so far
  for i = 0, there - 1 do
    if taken >= have then break end
    local packet = batch.at[taken]
    local length, offset, region = scratch[i].length, scratch[i].offset, scratch[i].region
    if region >= q.regions then
      q.fault = NO_REGION
      break
    end
    if length < 0 or offset < 0 or offset > q.size[region] - length then
      q.fault = OUTSIDE
      break
    end
    if at + length <= q.most then
      ffi.copy(packet.base + packet.offset + at, q.base[region] + offset, length)
    end
    at = math.min(at + length, q.most + 1)
    if band(scratch[i].flags, 1) == 0 then -- protocol.NEXT
      done = i + 1
      if at > q.most then
        q.rx_long = q.rx_long + 1
      elseif at < 14 then
        q.rx_short = q.rx_short + 1
      else
        packet.length = at
        q.rx_bytes = q.rx_bytes + at
        taken = taken + 1
      end
      at = 0
    end
  end
  for i = taken, have - 1 do batch.at[i]:free() end
  q.rx_packets = q.rx_packets + taken
  -- A head is moved when a frame is whole; and whole it must be in one burst.
  if done == 0 and have > 0 and q.fault == 0 then q.fault = ENDLESS end
  q.last = band(last + done, 0xffff)
  fence_flag()
  write16(q.from + TAIL, q.last)
  return taken
end

-- Puts a frame into as many buffers as it takes, from scratch[used] on; the number used, 0: there are not enough, or a fault.
local function put(q, packet, used, there)
  local left, from, i = packet.length, packet.base + packet.offset, used
  while left > 0 do
    if i >= there then return 0 end
    local length, offset, region = scratch[i].length, scratch[i].offset, scratch[i].region
    if region >= q.regions then
      q.fault = NO_REGION
      return 0
    elseif length < 0 or offset < 0 or offset > q.size[region] - length then
      q.fault = OUTSIDE
      return 0
    elseif length == 0 then
      q.fault = EMPTY
      return 0
    end
    local n = math.min(left, length)
    ffi.copy(q.base[region] + offset, from, n)
    from, left = from + n, left - n
    scratch[i].length, scratch[i].flags = n, left > 0 and 1 or 0
    i = i + 1
  end
  return i - used
end
jit.off(put) -- for jumbo frames in small buffers: rare, and its pointers would be boxed in a trace

--- Gives frames to the client: copies them into its empty buffers, as many as there are, but no more than BURST buffers. The
--- packets stay yours. Sets q.wake when the client wants to be woken for it.
---@param q ffi.cdata*  queue_t
---@param batch luio.Batch
---@param first integer  the first one's number
---@param n integer      how many
---@return integer given
function M.give(q, batch, first, n)
  local mask, tail = q.to_mask, q.tail
  local there = band(read16(q.to + HEAD) - tail, 0xffff)
  if there == 0 then return 0 end
  if there > mask + 1 then
    q.fault = HEAD_AHEAD
    return 0
  end
  fence_flag()
  if there > M.BURST then there = M.BURST end
  copy_out(q.to, mask, tail, there)
  local used, given, bytes = 0, 0, 0
  for k = first, first + n - 1 do
    if used >= there then break end
    local packet = batch.at[k]
    local length, offset, region = scratch[used].length, scratch[used].offset, scratch[used].region
    if region < q.regions and offset >= 0 and length >= packet.length and offset <= q.size[region] - length then
      length = packet.length
      ffi.copy(q.base[region] + offset, packet.base + packet.offset, length)
      scratch[used].length, scratch[used].flags = length, 0
      used = used + 1
    else
      local more = put(q, packet, used, there)
      if more == 0 then break end
      used = used + more
    end
    given, bytes = given + 1, bytes + packet.length
  end
  if used == 0 then return 0 end
  -- The client knows where its buffers are, so only lengths and flags are written.
  for i = 0, used - 1 do
    local shared = ffi.cast(shared_t, q.to + (DESCRIPTORS + band(tail + i, mask) * 16))
    shared.length, shared.flags = scratch[i].length, scratch[i].flags
  end
  q.tail = band(tail + used, 0xffff)
  fence_doorbell()
  write16(q.to + TAIL, q.tail)
  fence_full()
  if band(read16(q.to + FLAGS), 1) == 0 then q.wake = 1 end -- protocol.MASK_INT
  q.tx_packets, q.tx_bytes = q.tx_packets + given, q.tx_bytes + bytes
  return given
end

--- Whether the client is to wake us when it sends. After switching it on, and fence_full, look whether it has.
---@param q ffi.cdata*
---@param on boolean
function M.listen(q, on)
  write16(q.from + FLAGS, on and 0 or protocol.MASK_INT)
end

--- Begins to use two rings.
---@param q ffi.cdata*
---@return boolean  false: there is no ring
function M.begin(q)
  if read32(q.from) ~= protocol.COOKIE or read32(q.to) ~= protocol.COOKIE then return false end
  q.last, q.tail = 0, 0
  write16(q.from + TAIL, 0)
  write16(q.to + TAIL, 0)
  M.listen(q, true)
  return true
end

return M
