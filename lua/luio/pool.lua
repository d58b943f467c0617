--- Pools of packets: DMA memory of one size, taken and given back in constant time and without garbage.
---
---     local pool = assert(luio.pool(dev, { count = 2048, size = 2048 }))
---     local packet = pool:alloc()                  -- nil alone: all are in use
---     packet:write(frame)
---     ring[i].address = packet:address()
---     packet:free()
---
--- A packet is a slot of `size` bytes in hugepages, at a multiple of 64, in one page. Its data begin `headroom` bytes
--- into the slot, so that a header can be put before them without a copy. Each packet has a record, a C struct. Lua has
--- a pointer to it, and many of them in a batch (luio.batch). The free list is an array of such pointers, used as a
--- stack, so that the packet that was freed last, still in the cache, is allocated first. Every operation on a packet
--- is loads and stores that LuaJIT compiles, without tables, floating-point numbers or garbage. So a value that lives
--- longer than one turn of a loop is a cdata object made once (an array, a record), not a loaded pointer, because
--- LuaJIT boxes such a pointer at each transition between traces.
---
--- Each packet stores its owner, which is checked at each step:
---
---     free     the pool's: any use is an error
---     yours    from alloc, or from a ring that received it, until it is freed or given to a ring
---     device   a ring's: the device may read or write it; the ring gives it back
---
--- With `debug` free memory is filled with a pattern, which is checked when the memory is handed out
--- again. That finds writes to a free packet, by a stale pointer or by a stray transfer.
---
--- A pool belongs to one thread. It ends with its device. Using its packets is then an error, not a
--- crash, because records are never returned to the system; a later pool reuses them.
---
--- Rings (drivers/*/ring.lua) know the records' layout, because a call for each field would cost too much: they move
--- `owner` between YOURS and DEVICE, take from the stack and put back on it, as alloc and free do here.

local checks = require "luio.options"
local dma = require "luio.dma"
local ffi = require "ffi"

local M = {}

local FREE, YOURS, DEVICE, CLOSED, NOBODY = 0, 1, 2, 3, 4
local WHOSE = { [FREE] = "it is free", [DEVICE] = "it is the device's", [CLOSED] = "its pool is closed" }
local LINE = 64 -- bytes
local PAGE = 2 * 2 ^ 20
local PATTERN = 0xa5
local QUARANTINE = 8 -- closed pools of one count whose records wait before they are used again

--- Values of a packet's owner, for rings.
M.FREE, M.YOURS, M.DEVICE = FREE, YOURS, DEVICE

--- `offload` of a packet that is yours and asks for nothing: owner YOURS, the rest 0.
local PLAIN = 0x0001000000000000ULL
M.PLAIN = PLAIN

--- Bits of a packet's `flags`: the device's verdict on a received TCP or UDP checksum. Neither bit: it did not look.
M.CHECKSUM_GOOD, M.CHECKSUM_BAD = 1, 2

--- A packet of a pool: a C record in front of its bytes.
---@class luio.Packet
---@field length integer  bytes of data; yours to set after writing by the pointer, at most packet:room()
---@field flags integer   of a received one: pool.CHECKSUM_GOOD, pool.CHECKSUM_BAD
---@field checksum_start integer   to be sent: the device sums from this byte of the data to their end ...
---@field checksum_offset integer  ... and puts it so many bytes behind that; 0 and 0: it does not
---@field package base ffi.cdata*
---@field package iova ffi.cdata*  of base
---@field package size integer
---@field package offset integer where the data begin
---@field package number integer
---@field package owner integer
---@field package pool ffi.cdata*
---@field package home integer  number of its pool, for M.of
local Packet = {}

-- span and offload are what alloc sets with one store each; so is an offload that asks for nothing looked at.
-- Small numbers are int32_t, not uint32_t: LuaJIT keeps those out of floating point.
-- busted remembers ffi.metatype by its first argument, and loads modules anew for each file of specs: a name of its own
-- gives each module its own packets.
local suffix = tostring(M):match "0x(%x+)"
local declarations = [[
typedef struct luio_packet_pool_$ luio_packet_pool_$;
typedef struct luio_packet_$ {
  uint8_t *base;
  uint64_t iova;
  union { struct { int32_t length, offset; }; uint64_t span; };
  union { struct { uint16_t flags, checksum_start, checksum_offset, owner; }; uint64_t offload; };
  luio_packet_pool_$ *pool;
  int32_t size, number, home;
  int32_t reserved[3];
} luio_packet_$;
struct luio_packet_pool_$ {
  luio_packet_$ **stack;
  int32_t free, count;
  uint64_t span;
  int32_t empty, debug;
};
typedef struct { int32_t capacity; luio_packet_$ *at[?]; } luio_batch_$;]]

local function own(text) return (text:gsub("%$", suffix)) end
local function named(ctype) return ffi.typeof(own(ctype)) end

ffi.cdef(own(declarations))

--- `luio_packet *[?]`, for rings.
M.pointers = named "luio_packet_$ *[?]"
local packet_t = named "luio_packet_$"

--- Whether it is a packet.
---@param value any
---@return boolean
function M.is(value)
  return ffi.istype(packet_t, value)
end

local open = {} ---@type table<integer, luio.Pool|false>  by number; false: it was closed

-- Why a packet can't be used so.
local function fault(packet, verb)
  if not M.is(packet) then return ("%s: a packet was expected, not %s"):format(verb, tostring(packet)) end
  if packet.owner == NOBODY then return verb .. " packet: there is none in that place of the batch" end
  local pool = open[packet.home]
  return ("%s packet %d%s: %s"):format(verb, packet.number, pool and " of " .. pool.device.address or "",
    WHOSE[packet.owner] or "it is yours")
end

--- For rings: why a packet can't be used so, by whose it is.
M.fault = fault

local function misuse(packet, verb)
  error(fault(packet, verb), 3)
end

local function out_of_room(packet, verb, n, room)
  error(("%s %s bytes of packet %d: there is room for %d"):format(verb, tostring(n), packet.number, room), 3)
end

--- Where the data begin. Plain memory, unchecked, like luio.Buffer:pointer.
---@return ffi.cdata*  uint8_t *
function Packet:pointer()
  if self.owner ~= YOURS then misuse(self, "point into") end
  return self.base + self.offset
end

--- The address of the data as the device sees it.
---@return number  a whole number below 2^53
function Packet:address()
  return tonumber(self.iova) + self.offset
end

--- Bytes that fit from where the data begin.
---@return integer
function Packet:room()
  return self.size - self.offset
end

--- Bytes before the data.
---@return integer
function Packet:headroom()
  return self.offset
end

--- Makes a string the data.
---@param bytes string
function Packet:write(bytes)
  if self.owner ~= YOURS then misuse(self, "write") end
  if #bytes > self.size - self.offset then out_of_room(self, "write", #bytes, self.size - self.offset) end
  ffi.copy(self.base + self.offset, bytes, #bytes)
  self.length = #bytes
end

--- The data, or a part of them, as a string.
---@param offset? integer 0
---@param length? integer to the end
---@return string
function Packet:read(offset, length)
  if self.owner ~= YOURS then misuse(self, "read") end
  offset = offset or 0
  length = length or self.length - offset
  if not (offset >= 0 and length >= 0 and offset + length <= self.length) then
    error(("read %s bytes at %s of packet %d, which has %d"):format(tostring(length), tostring(offset), self.number, self.length), 2)
  end
  return ffi.string(self.base + self.offset + offset, length)
end

--- Makes room for a header before the data.
---@param n integer  bytes, at most packet:headroom()
---@return ffi.cdata*  where it begins
function Packet:prepend(n)
  if self.owner ~= YOURS then misuse(self, "prepend to") end
  if not (n >= 0 and n <= self.offset) then out_of_room(self, "prepend", n, self.offset) end
  self.offset, self.length = self.offset - n, self.length + n
  return self.base + self.offset
end

--- Takes bytes off the front, such as a header that was looked at.
---@param n integer
---@return ffi.cdata*  where the data begin now
function Packet:strip(n)
  if self.owner ~= YOURS then misuse(self, "strip") end
  if not (n >= 0 and n <= self.length) then out_of_room(self, "strip", n, self.length) end
  self.offset, self.length = self.offset + n, self.length - n
  return self.base + self.offset
end

local function wipe(packet)
  ffi.fill(packet.base, packet.size, PATTERN)
end

--- Gives it back to its pool.
function Packet:free()
  if self.owner ~= YOURS then misuse(self, "free") end
  local pool = self.pool
  if pool.debug ~= 0 then wipe(self) end
  self.owner = FREE
  pool.stack[pool.free] = self
  pool.free = pool.free + 1
end

--- For rings: it is the device's from here on.
function Packet:lend()
  if self.owner ~= YOURS then misuse(self, "lend") end
  self.owner = DEVICE
end

--- For rings: the device is done with it.
function Packet:take_back()
  if self.owner ~= DEVICE then misuse(self, "take back") end
  self.owner = YOURS
end

setmetatable(Packet, { -- used only for missing fields
  __index = function(_, key)
    error(("a packet has no %s%s"):format(tostring(key), require("luio.registers.near").hint(tostring(key), Packet)), 2)
  end,
})

ffi.metatype(named "luio_packet_$", {
  __index = Packet,
  __tostring = function(packet)
    return ("packet %d: %d bytes, %s"):format(packet.number, packet.length, WHOSE[packet.owner] or "yours")
  end,
})

-- ---- Batches -------------------------------------------------------------------------------------

--- Room for packets on their way, numbered from 0. It does not own them: it is a list.
---@class luio.Batch
---@field capacity integer
---@field [integer] luio.Packet
local Batch = {}

local function outside(batch, i)
  error(("packet %s of a batch: there are 0 to %d"):format(tostring(i), batch.capacity - 1), 3)
end

--- Moves the packets after the first `n` of `have` to the front, after a burst took the first.
---@param n integer
---@param have integer
---@return integer left  have - n
function Batch:shift(n, have)
  if not (n >= 0 and n <= have and have <= self.capacity) then outside(self, have - 1) end
  if n > 0 then
    for i = 0, have - n - 1 do self.at[i] = self.at[i + n] end
  end
  return have - n
end

--- Frees the first `have` packets.
---@param have integer
function Batch:free(have)
  if not (have >= 0 and have <= self.capacity) then outside(self, have - 1) end
  for i = 0, have - 1 do self.at[i]:free() end
end

-- Places of a batch that were never filled point to this packet, which is an error to use, and not to NULL.
local nobody = { packet = ffi.new(named "luio_packet_$[1]"), pool = ffi.new(named "luio_packet_pool_$[1]") }
nobody.packet[0].owner, nobody.packet[0].pool = NOBODY, nobody.pool[0]

local batch_t = ffi.metatype(named "luio_batch_$", {
  __index = function(batch, i)
    if type(i) ~= "number" then return Batch[i] end
    if not (i >= 0 and i < batch.capacity) then outside(batch, i) end
    return batch.at[i]
  end,
  __newindex = function(batch, i, packet)
    if not (type(i) == "number" and i >= 0 and i < batch.capacity) then outside(batch, i) end
    if packet == nil then packet = nobody.packet[0] end
    batch.at[i] = packet
  end,
  __len = function(batch) return batch.capacity end,
})

--- Whether it is a batch.
---@param value any
---@return boolean
function M.is_batch(value)
  return ffi.istype(batch_t, value)
end

--- Makes a batch.
---@param capacity integer  1 to 65536
---@return luio.Batch
function M.batch(capacity)
  if not (type(capacity) == "number" and capacity % 1 == 0 and capacity >= 1 and capacity <= 65536) then
    error("a batch has room for 1 to 65536 packets, not " .. tostring(capacity), 2)
  end
  local batch = batch_t(capacity, capacity)
  for i = 0, capacity - 1 do batch.at[i] = nobody.packet[0] end
  return batch
end

-- ---- Pools ---------------------------------------------------------------------------------------

--- Packets in memory that devices may access.
---@class luio.Pool
---@field count integer
---@field size integer      bytes of a packet, headroom included
---@field headroom integer
---@field device luio.Device
---@field record ffi.cdata*  for rings: free, span, debug
---@field stack ffi.cdata*   for rings: the free ones, the next at record.free - 1
---@field package records table
---@field package number integer
local Pool = {}
Pool.__index = Pool

--- Options of `luio.pool`.
---@class luio.PoolOptions
---@field count integer      packets, at most 2^20
---@field size? integer      bytes of data that fit; 2048
---@field headroom? integer  bytes before them; 64
---@field debug? boolean     find writes to free packets

local OPTIONS = {
  count = checks.needed(checks.whole(1, 2 ^ 20)), size = checks.whole(1, PAGE, nil, "1 to 2 MiB"),
  headroom = checks.whole(0, PAGE, nil, "0 to 2 MiB"), debug = "boolean",
}

-- Memory for so many slots of that stride: buffers of at most a hugepage, because a slot is in one page. The device's own,
-- not a version's: a pool outlives a reload.
local function memory(dev, count, stride)
  local buffers, left, root = {}, count, dev:root_device()
  local fits = math.floor(PAGE / stride)
  while left > 0 do
    local n = math.min(left, fits)
    local buffer, message, code = root.dma:alloc(n * stride, { align = LINE, mask = dev.dma.mask })
    if not buffer then
      for _, one in ipairs(buffers) do one:free() end
      return nil, message, code
    end
    table.insert(buffers, buffer)
    left = left - n
  end
  return buffers, fits
end

-- Records that have been made, by count: of all pools there ever were, so that a pointer to one always leads to one.
local spare, kept = {}, {} -- luacheck: ignore 241 (kept from the collector, that is all)

local function records_for(count)
  local waiting = spare[count]
  if waiting and #waiting > QUARANTINE then return table.remove(waiting, 1) end
  local made = {
    packets = ffi.new(named "luio_packet_$[?]", count), stack = ffi.new(M.pointers, count), pool = ffi.new(named "luio_packet_pool_$[1]"),
  }
  kept[made] = true
  return made
end

--- Makes a pool.
---@param dev luio.Device
---@param options luio.PoolOptions
---@return luio.Pool?
---@return string? message
---@return string? code  as of luio.Dma:alloc
function M.new(dev, options)
  if dev.stale then error(("a pool for %s: %s"):format(dev.address, dev.stale), 2) end
  checks.check("luio.pool", options, OPTIONS)
  local size, headroom = options.size or 2048, options.headroom or LINE
  local stride = math.ceil((size + headroom) / LINE) * LINE
  if stride > PAGE then error(("packets of %d bytes don't fit in a page of 2 MiB"):format(stride), 2) end
  local number = #open + 1
  for i = 1, #open do
    if not open[i] then number = math.min(number, i) end
  end
  local buffers, fits, code = memory(dev, options.count, stride)
  if not buffers then return nil, fits, code end
  local records = records_for(options.count)
  local record, packets, stack = records.pool[0], records.packets, records.stack
  local self = setmetatable({
    count = options.count, size = size + headroom, stride = stride, headroom = headroom, device = dev:root_device(),
    buffers = buffers, records = records, record = record, stack = stack, number = number,
  }, Pool)
  record.stack, record.count, record.free, record.empty = stack, options.count, options.count, 0
  record.debug = options.debug and 1 or 0
  record.span = headroom * 2 ^ 32 -- length 0
  for i = 0, options.count - 1 do
    local buffer, slot = buffers[math.floor(i / fits) + 1], i % fits
    local packet = packets[i]
    packet.base, packet.iova = buffer:pointer("uint8_t *", slot * stride), buffer.iova + slot * stride
    packet.size, packet.number, packet.pool, packet.home = self.size, i, record, number
    packet.span, packet.offload = record.span, 0
    stack[options.count - 1 - i] = packet
    if options.debug then wipe(packet) end
  end
  open[number] = self
  dma.on_close(self.device.dma, self, Pool.close)
  return self
end

--- For rings: the pool of a packet.
---@param packet luio.Packet?
---@return luio.Pool|false  false: there is no packet, or its pool is closed
function M.of(packet)
  if packet == nil then return false end
  return open[packet.home]
end

-- In debug mode: true if it was not written while it was free.
local function inspect(self, packet)
  local word = ffi.cast("const uint8_t *", packet.base)
  for i = 0, packet.size - 1 do
    if word[i] ~= PATTERN then
      error(("packet %d of %s was written to while it was free, at byte %d"):format(packet.number, self.device.address, i), 3)
    end
  end
end

--- Takes a packet: empty, its data to begin after the headroom. In constant time.
---@return luio.Packet?  nil alone: all are in use (counted: pool:empty())
function Pool:alloc()
  local record = self.record
  local n = record.free - 1
  if n < 0 then
    record.empty = record.empty + 1
    return nil
  end
  local packet = self.stack[n]
  if record.debug ~= 0 then inspect(self, packet) end
  record.free = n
  packet.span, packet.offload = record.span, PLAIN
  return packet
end

--- Fills a batch with packets, from number `have` up to `want`.
---@param batch luio.Batch
---@param have integer
---@param want integer  at most batch.capacity
---@return integer have  how many there are now: `want`, or fewer when the pool has no more
function Pool:fill(batch, have, want)
  if not (have >= 0 and want <= batch.capacity) then outside(batch, want - 1) end
  local record = self.record
  local n = want - have
  if n <= 0 then return have end
  local free = record.free
  if free < n then
    record.empty = record.empty + 1
    n = free
  end
  local stack = self.stack
  for i = 1, n do
    local packet = stack[free - i]
    if record.debug ~= 0 then inspect(self, packet) end
    packet.span, packet.offload = record.span, PLAIN
    batch.at[have + i - 1] = packet
  end
  record.free = free - n
  return have + n
end

--- For rings, in debug mode: looks at the next `n` free packets, as alloc would.
---@param n integer  at most record.free
function Pool:inspect(n)
  for i = 1, n do inspect(self, self.stack[self.record.free - i]) end
end

--- Packets that are not free.
---@return integer
function Pool:used()
  return self.record.count - self.record.free
end

--- How often an allocation failed because the pool was empty.
---@return integer
function Pool:empty()
  return self.record.empty
end

--- Gives the memory back; packets of it are errors from then on. The device must not use them any more.
--- Idempotent; called when the device is closed.
function Pool:close()
  if open[self.number] ~= self then return end
  open[self.number] = false
  for i = 0, self.count - 1 do self.records.packets[i].owner = CLOSED end
  self.record.free, self.record.count = 0, 0
  spare[self.count] = spare[self.count] or {}
  table.insert(spare[self.count], self.records)
  self.count = 0
  for _, buffer in ipairs(self.buffers) do buffer:free() end
  dma.on_close(self.device.dma, self, nil)
end

function Pool:__tostring()
  return ("pool of %d packets of %d bytes, %d free"):format(self.count, self.size, self.record.free)
end

return M
