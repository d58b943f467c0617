--- Pools of packets: DMA memory of one size, taken and given back in constant time and without garbage.
---
---     local pool = assert(luio.pool(dev, { count = 2048, size = 2048 }))
---     local packet = pool:alloc()                  -- nil alone: all are in use
---     packet:write(frame)
---     ring[i].address = packet:address()
---     packet:free()
---
--- A packet is a slot of `size` bytes in hugepages, at a multiple of 64, in one page. Its data begin
--- `headroom` bytes into the slot, so that a header can be put before them without a copy. Packets are C
--- structs, made once with the pool; the list of free ones is an array of their numbers, used as a stack,
--- so the packet that was freed last, still in the cache, comes first.
---
--- Whose a packet is at each step is written in it, and looked at:
---
---     free     the pool's: any use is an error
---     yours    from alloc, or from a ring that received it, until it is freed or given to a ring
---     device   a ring's: the device may read or write it; the ring gives it back
---
--- With `debug` free memory is filled with a pattern, and looked at when it is handed out again: who wrote
--- to a packet that was free, by a pointer of before or by a stray transfer, is found out then.
---
--- One thread, as all of Lua. A pool ends with its device: then its packets are errors, not crashes.

local dma = require "luio.dma"
local ffi = require "ffi"

local M = {}

local FREE, YOURS, DEVICE, CLOSED = 0, 1, 2, 3
local WHOSE = { [FREE] = "it is free", [DEVICE] = "it is the device's", [CLOSED] = "its pool is closed" }
local LINE = 64 -- bytes
local PAGE = 2 * 2 ^ 20
local PATTERN = 0xa5

---@class luio.Packet
---@field length integer  bytes of data; yours to set after writing by the pointer, at most packet:room()
---@field package base ffi.cdata*
---@field package iova number    of base: a whole number below 2^53
---@field package size integer
---@field package offset integer where the data begin
---@field package number integer
---@field package pool integer
---@field package state integer
local Packet = {}

local pools = {} ---@type table<integer, luio.Pool>

local function misuse(packet, verb)
  local pool = pools[packet.pool]
  error(("%s packet %d%s: %s"):format(verb, packet.number, pool and " of " .. pool.device.address or "",
    WHOSE[packet.state] or "it is no packet any more"), 3)
end

local function out_of_room(packet, verb, n, room)
  error(("%s %s bytes of packet %d: there is room for %d"):format(verb, tostring(n), packet.number, room), 3)
end

--- Where the data begin. Plain memory, unchecked, like luio.Buffer:pointer.
---@return ffi.cdata*  uint8_t *
function Packet:pointer()
  if self.state ~= YOURS then misuse(self, "point into") end
  return self.base + self.offset
end

--- The address of the data as the device sees it.
---@return number
function Packet:address()
  return self.iova + self.offset
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
  if self.state ~= YOURS then misuse(self, "write") end
  if #bytes > self.size - self.offset then out_of_room(self, "write", #bytes, self.size - self.offset) end
  ffi.copy(self.base + self.offset, bytes, #bytes)
  self.length = #bytes
end

--- The data, or a part of them, as a string.
---@param offset? integer 0
---@param length? integer to the end
---@return string
function Packet:read(offset, length)
  if self.state ~= YOURS then misuse(self, "read") end
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
  if self.state ~= YOURS then misuse(self, "prepend to") end
  if not (n >= 0 and n <= self.offset) then out_of_room(self, "prepend", n, self.offset) end
  self.offset, self.length = self.offset - n, self.length + n
  return self.base + self.offset
end

--- Takes bytes off the front, such as a header that was looked at.
---@param n integer
---@return ffi.cdata*  where the data begin now
function Packet:strip(n)
  if self.state ~= YOURS then misuse(self, "strip") end
  if not (n >= 0 and n <= self.length) then out_of_room(self, "strip", n, self.length) end
  self.offset, self.length = self.offset + n, self.length - n
  return self.base + self.offset
end

--- Gives it back to its pool.
function Packet:free()
  if self.state ~= YOURS then misuse(self, "free") end
  pools[self.pool]:put(self)
end

--- For rings: it is the device's from here on.
function Packet:lend()
  if self.state ~= YOURS then misuse(self, "lend") end
  self.state = DEVICE
end

--- For rings: the device is done with it.
function Packet:take_back()
  if self.state ~= DEVICE then misuse(self, "take back") end
  self.state = YOURS
end

-- busted remembers ffi.metatype by its first argument, and loads modules anew for each file of specs: without a text of
-- its own this module's packets would have the methods of the one before.
local packet_t = ffi.metatype(([[struct {
  uint8_t *base;
  double iova;
  uint32_t size, offset, length, number;
  uint16_t pool;
  uint8_t state;
} /* %s */]]):format(tostring(pools)), {
  __index = Packet,
  __tostring = function(packet)
    return ("packet %d: %d bytes, %s"):format(packet.number, packet.length, WHOSE[packet.state] or "yours")
  end,
})

---@class luio.Pool
---@field count integer
---@field size integer      bytes of a packet, headroom included
---@field empty integer     times that alloc found none
---@field package device luio.Device
---@field package packets luio.Packet[]  by number, from 0
---@field package stack ffi.cdata*       numbers of the free ones
---@field package free integer
---@field package debug boolean
local Pool = {}
Pool.__index = Pool

---@class luio.PoolOptions
---@field count integer      packets, at most 2^20
---@field size? integer      bytes of data that fit; 2048
---@field headroom? integer  bytes before them; 64
---@field debug? boolean     find writes to free packets

local function whole(value, low, high)
  return type(value) == "number" and value % 1 == 0 and value >= low and value <= high
end

-- Memory for so many slots of that stride: buffers of at most a hugepage, because a slot is in one page. The device's own,
-- not a version's: a pool outlives a reload.
local function memory(dev, count, stride)
  local buffers, left, root = {}, count, dev.root or dev
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

local function wipe(packet)
  ffi.fill(packet.base, packet.size, PATTERN)
end

--- Makes a pool.
---@param dev luio.Device
---@param options luio.PoolOptions
---@return luio.Pool?
---@return string? message
---@return string? code  as of luio.Dma:alloc
function M.new(dev, options)
  if dev.stale then error(("a pool for %s: %s"):format(dev.address, dev.stale), 2) end
  local size, headroom = options.size or 2048, options.headroom or LINE
  if not whole(options.count, 1, 2 ^ 20) then error("a pool's count is 1 to 1048576, not " .. tostring(options.count), 2) end
  if not whole(size, 1, PAGE) then error("a pool's size is 1 to 2 MiB, not " .. tostring(size), 2) end
  if not whole(headroom, 0, PAGE) then error("a pool's headroom is 0 to 2 MiB, not " .. tostring(headroom), 2) end
  local stride = math.ceil((size + headroom) / LINE) * LINE
  if stride > PAGE then error(("packets of %d bytes don't fit in a page of 2 MiB"):format(stride), 2) end
  local number = #pools + 1
  for i = 1, #pools do
    if not pools[i] then number = math.min(number, i) end
  end
  if number > 65535 then error("there are 65535 pools", 2) end
  local buffers, fits, code = memory(dev, options.count, stride)
  if not buffers then return nil, fits, code end
  local self = setmetatable({
    count = options.count, size = size + headroom, stride = stride, headroom = headroom, empty = 0, device = dev.root or dev,
    buffers = buffers, packets = {}, stack = ffi.new("uint32_t[?]", options.count), free = options.count, debug = options.debug or false,
    number = number,
  }, Pool)
  for i = 0, options.count - 1 do
    local buffer, slot = buffers[math.floor(i / fits) + 1], i % fits
    local packet = packet_t() -- one by one: each lives as long as somebody has it, and no longer
    packet.base, packet.iova = buffer:pointer("uint8_t *", slot * stride), buffer.iova + slot * stride
    packet.size, packet.number, packet.pool, packet.state = self.size, i, number, FREE
    self.packets[i] = packet
    self.stack[options.count - 1 - i] = i
    if self.debug then wipe(packet) end
  end
  pools[number] = self
  dma.on_close(self.device.dma, self, Pool.close)
  return self
end

local function spoilt(packet)
  local word = ffi.cast("const uint8_t *", packet.base)
  for i = 0, packet.size - 1 do
    if word[i] ~= PATTERN then return i end
  end
end

--- Takes a packet: empty, its data to begin after the headroom. In constant time.
---@return luio.Packet?  nil alone: all are in use (counted in pool.empty)
function Pool:alloc()
  local n = self.free
  if n == 0 then
    self.empty = self.empty + 1
    return nil
  end
  n = n - 1
  self.free = n
  local packet = self.packets[self.stack[n]]
  if self.debug then
    local at = spoilt(packet)
    if at then
      self.free = n + 1
      error(("packet %d of %s was written to while it was free, at byte %d"):format(packet.number, self.device.address, at), 2)
    end
  end
  packet.state, packet.offset, packet.length = YOURS, self.headroom, 0
  return packet
end

--- For Packet:free.
---@param packet luio.Packet  yours
function Pool:put(packet)
  packet.state = FREE
  if self.debug then wipe(packet) end
  self.stack[self.free] = packet.number
  self.free = self.free + 1
end

--- Packets that are not free.
---@return integer
function Pool:used()
  return self.count - self.free
end

--- Gives the memory back; packets of it are errors from then on. The device must not use them any more.
--- Idempotent; called when the device is closed.
function Pool:close()
  if pools[self.number] ~= self then return end
  pools[self.number] = false
  for i = 0, self.count - 1 do
    local packet = self.packets[i]
    packet.state, packet.base = CLOSED, nil
  end
  self.free, self.count, self.packets = 0, 0, {}
  for _, buffer in ipairs(self.buffers) do buffer:free() end
  dma.on_close(self.device.dma, self, nil)
end

function Pool:__tostring()
  return ("pool of %d packets of %d bytes, %d free"):format(self.count, self.size, self.free)
end

return M
