--- memif's rings from the client's side: the memory is ours, so the places of buffers are known and never read from memory
--- that the server may write to. The server's words that are read, its indices and the lengths of received frames, are
--- checked. The other side, and the order between the processors: luio.net.memif.ring.

local bit = require "bit"
local ffi = require "ffi"
local luio = require "luio"
local posix = require "luio.posix"
local protocol = require "luio.net.memif.protocol"
local C = require("luio.ffi").C

local band = bit.band
local fence_flag, fence_doorbell, fence_full = luio.fence_flag, luio.fence_doorbell, luio.fence_full
local read16, write16 = C.luio_read16, C.luio_write16
local memcpy = posix.memcpy
local FLAGS, HEAD, TAIL, DESCRIPTORS = protocol.FLAGS_AT, protocol.HEAD_AT, protocol.TAIL_AT, protocol.DESCRIPTORS_AT

local M = {}

M.BURST = 64
M.FAULTS = { "its ring's tail is further than the head", "it says it put more into a buffer than there is room for" }
local TAIL_AHEAD, TOO_LONG = 1, 2

local scratch = ffi.new(ffi.typeof("$[?]", protocol.descriptor_t), M.BURST)
local shared_t = ffi.typeof("$ *", protocol.descriptor_t)

--- `out` and `in_`: the rings; `out_buffers`, `in_buffers`: where in `base` the buffers of each begin.
M.queue_t = ffi.typeof [[struct {
  uint8_t *base, *to, *from;
  int32_t to_buffers, from_buffers, buffer, mask;
  int32_t head, last;
  int32_t fault, wake;
  double rx_packets, rx_bytes, rx_dropped, tx_packets, tx_bytes;
}]]

--- Bytes of a region for so many descriptors each way, with buffers of that size.
---@param count integer
---@param buffer integer
---@return integer
function M.bytes(count, buffer)
  return 2 * (DESCRIPTORS + count * protocol.DESCRIPTOR) + 2 * count * buffer
end

local function empty_buffer(q, slot)
  local shared = ffi.cast(shared_t, q.from + (DESCRIPTORS + slot * 16))
  shared.flags, shared.region, shared.length, shared.offset, shared.metadata = 0, 0, q.buffer, q.from_buffers + slot * q.buffer, 0
end

--- Lays two rings and their buffers out in a region. The receive ring is empty until `offer`.
---@param base ffi.cdata*  uint8_t *
---@param count integer    a power of two, at most 16384
---@param buffer integer   bytes
---@return ffi.cdata* queue  queue_t
function M.new(base, count, buffer)
  local q = M.queue_t()
  local ring = DESCRIPTORS + count * protocol.DESCRIPTOR
  q.base, q.to, q.from, q.mask, q.buffer = base, base, base + ring, count - 1, buffer
  q.to_buffers, q.from_buffers = 2 * ring, 2 * ring + count * buffer
  for _, one in ipairs { q.to, q.from } do
    C.luio_write32(one, protocol.COOKIE)
    write16(one + FLAGS, protocol.MASK_INT)
  end
  write16(q.to + FLAGS, 0) -- the server's to set: whether it is to be woken
  for slot = 0, count - 1 do empty_buffer(q, slot) end
  return q
end

--- Lets the server have the empty buffers.
---@param q ffi.cdata*
function M.offer(q)
  fence_doorbell()
  write16(q.from + HEAD, q.mask + 1)
end

--- Descriptors that are free for sending; q.fault.
---@param q ffi.cdata*
---@return integer
function M.room(q)
  local used = band(q.head - read16(q.to + TAIL), 0xffff)
  if used > q.mask + 1 then
    q.fault = TAIL_AHEAD
    return 0
  end
  return q.mask + 1 - used
end

-- A frame that is longer than a buffer; how many descriptors it took, 0: there is no room.
local function put_long(q, packet, head, room)
  local pieces = math.ceil(packet.length / q.buffer)
  if pieces > room then return 0 end
  for i = 0, pieces - 1 do
    local slot = band(head + i, q.mask)
    local n = math.min(q.buffer, packet.length - i * q.buffer)
    local offset = q.to_buffers + slot * q.buffer
    ffi.copy(q.base + offset, packet.base + packet.offset + i * q.buffer, n)
    local shared = ffi.cast(shared_t, q.to + (DESCRIPTORS + slot * 16))
    shared.region, shared.length, shared.offset, shared.flags = 0, n, offset, i < pieces - 1 and 1 or 0
  end
  return pieces
end
jit.off(put_long)

--- Copies frames into the ring, as many as there is room for, and frees their packets. q.wake: the server wants to be woken.
---@param q ffi.cdata*
---@param batch luio.Batch
---@param n integer
---@return integer given
function M.give(q, batch, n)
  local room = M.room(q)
  if room == 0 or n == 0 then return 0 end
  fence_flag()
  local mask, buffer = q.mask, q.buffer
  local used, given, bytes = 0, 0, 0
  for k = 0, n - 1 do
    if used >= room then break end
    local packet = batch.at[k]
    local length, slot = packet.length, band(q.head + used, mask)
    if length <= buffer then
      local offset = q.to_buffers + slot * buffer
      ffi.copy(q.base + offset, packet.base + packet.offset, length)
      local shared = ffi.cast(shared_t, q.to + (DESCRIPTORS + slot * 16))
      shared.flags, shared.region, shared.length, shared.offset = 0, 0, length, offset
      used = used + 1
    else
      local more = put_long(q, packet, q.head + used, room - used)
      if more == 0 then break end
      used = used + more
    end
    given, bytes = given + 1, bytes + length
    packet:free()
  end
  if used == 0 then return 0 end
  q.head = band(q.head + used, 0xffff)
  fence_doorbell()
  write16(q.to + HEAD, q.head)
  fence_full()
  if band(read16(q.to + FLAGS), 1) == 0 then q.wake = 1 end -- protocol.MASK_INT
  q.tx_packets, q.tx_bytes = q.tx_packets + given, q.tx_bytes + bytes
  return given
end

--- Whether something has come.
---@param q ffi.cdata*
---@return boolean
function M.ready(q)
  return read16(q.from + TAIL) ~= q.last
end

--- Takes frames, each into a packet, and gives the buffers back.
---@param q ffi.cdata*
---@param pool luio.Pool
---@param batch luio.Batch
---@param n integer  at most BURST
---@return integer taken
function M.take(q, pool, batch, n)
  local mask, last, buffer = q.mask, q.last, q.buffer
  local there = band(read16(q.from + TAIL) - last, 0xffff)
  if there == 0 then return 0 end
  if there > mask + 1 then
    q.fault = TAIL_AHEAD
    return 0
  end
  fence_flag()
  if there > M.BURST then there = M.BURST end
  local first = band(last, mask)
  local run = math.min(there, mask + 1 - first)
  memcpy(scratch, q.from + (DESCRIPTORS + first * 16), run * 16)
  if run < there then memcpy(scratch + run, q.from + DESCRIPTORS, (there - run) * 16) end
  local have = pool:fill(batch, 0, math.min(n, there))
  local taken, done, at = 0, 0, 0
  for i = 0, there - 1 do
    if taken >= have then break end
    local packet = batch.at[taken]
    local length = scratch[i].length
    if length < 0 or length > buffer then
      q.fault = TOO_LONG
      break
    end
    local fits = at + length <= packet.size - packet.offset
    if fits then ffi.copy(packet.base + packet.offset + at, q.base + (q.from_buffers + band(last + i, mask) * buffer), length) end
    at = fits and at + length or 2 ^ 30
    if band(scratch[i].flags, 1) == 0 then
      done = i + 1
      if at < 2 ^ 30 then
        packet.length = at
        taken, q.rx_bytes = taken + 1, q.rx_bytes + at
      else
        q.rx_dropped = q.rx_dropped + 1
      end
      at = 0
    end
  end
  for i = taken, have - 1 do batch.at[i]:free() end
  for i = 0, done - 1 do
    local slot = band(last + i, mask)
    local shared = ffi.cast(shared_t, q.from + (DESCRIPTORS + slot * 16))
    shared.flags, shared.region, shared.length, shared.offset = 0, 0, buffer, q.from_buffers + slot * buffer
  end
  q.last = band(last + done, 0xffff)
  q.rx_packets = q.rx_packets + taken
  fence_flag() -- earlier reads and writes are complete
  fence_doorbell()
  write16(q.from + HEAD, band(q.last + mask + 1, 0xffff))
  return taken
end

--- Whether the server is to wake us when it has put something into the ring.
---@param q ffi.cdata*
---@param on boolean
function M.listen(q, on)
  write16(q.from + FLAGS, on and 0 or protocol.MASK_INT)
end

return M
