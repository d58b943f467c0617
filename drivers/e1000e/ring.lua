--- Descriptor rings of the 82574L and the 82540EM: legacy descriptors, which both know ("82574 GbE Controller
--- Family Datasheet", 7.1.4 receive, 7.2.10 transmit; "8254x Family ... Software Developer's Manual", 3.2.3,
--- 3.3.3).
---
--- A ring is an array of 16-byte descriptors in DMA memory. Software writes them up to the tail, the device
--- works from the head to the tail, and says in a descriptor's status (DD) that it is done with it. Head
--- equal to tail is an empty ring, so one descriptor is always left out.
---
--- Bursts never wait. The rings' memory is plain memory: a burst begins with fence_flag, without which a
--- loop around it might look at the same old status for ever (LuaJIT keeps no order, ARCHITECTURE.md), and ends
--- with fence_doorbell before the tail is written.
---
--- Packets (luio.pool) are lent to the device while they are in a ring.
---
--- A ring outlives the version of the driver that made it: what changes of it is in `state`, which the handles
--- of several versions share. `again` makes one more, of today's code and with today's register for the tail;
--- the one before goes on with the same state, should its version come back.

local bit = require "bit"
local ffi = require "ffi"
local luio = require "luio"

local M = {}

local DD, EOP = 0x01, 0x02 -- status, both kinds
local ERRORS = 0x97 -- CE, SE, SEQ, CXE, RXE: 7.1.4.2, what makes a frame no frame
local COMMAND_EOP, COMMAND_IFCS, COMMAND_RS = 0x01, 0x02, 0x08 -- 7.2.10.1.3

local rx_t = ffi.typeof [[struct {
  uint64_t address;
  uint16_t length, checksum;
  uint8_t status, errors;
  uint16_t special;
} *]]

local tx_t = ffi.typeof [[struct {
  uint64_t address;
  uint16_t length;
  uint8_t cso, cmd, status, css;
  uint16_t special;
} *]]

local fence_flag, fence_doorbell = luio.fence_flag, luio.fence_doorbell

-- Memory for a ring, its base at a multiple of 128 bytes as RDBAL and TDBAL want it.
local function memory(dev, count)
  if type(count) ~= "number" or count % 8 ~= 0 or count < 8 or count > 4096 or bit.band(count, count - 1) ~= 0 then
    error(("a ring has 8 to 4096 descriptors, a power of two, not %s"):format(tostring(count)), 3)
  end
  return dev.dma:alloc(count * 16, { align = 128 })
end

-- A version's handle of a ring.
local function handle(class, state, tail)
  return setmetatable({ state = state, tail = tail }, class)
end

-- ---- Receiving -----------------------------------------------------------------------------------

---@class e1000e.RxState
---@field buffer luio.Buffer  the descriptors: RDBAL, RDBAH, RDLEN
---@field received integer    packets handed out
---@field errors integer      frames that the device marked as damaged, or in pieces; dropped
---@field starved integer     bursts that ended because the pool was empty; what the device then drops it counts

---@class e1000e.RxRing
---@field state e1000e.RxState
---@field tail luio.Register
local Rx = {}
Rx.__index = Rx

local function fill(state, i, packet)
  local d = state.descriptors[i]
  d.address, d.status = packet:address(), 0
  packet:lend()
  state.packets[i] = packet
end

--- A ring that is full of empty packets. The tail is written by `start`, when the receiver is on.
---@param dev luio.Device
---@param pool luio.Pool
---@param count integer
---@param tail luio.Register  RDT
---@return e1000e.RxRing?
---@return string? message
---@return string? code  "ENOBUFS": the pool has too few packets
function M.rx(dev, pool, count, tail)
  local buffer, message, code = memory(dev, count)
  if not buffer then return nil, message, code end
  local self = handle(Rx, {
    buffer = buffer, descriptors = buffer:pointer(rx_t), count = count, pool = pool, next = 0, packets = {},
    received = 0, errors = 0, starved = 0, broken = false,
  }, tail)
  for i = 0, count - 1 do
    local packet = pool:alloc()
    if not packet then
      self:close()
      return nil, ("a receive ring of %d needs as many packets; the pool had %d"):format(count, i), "ENOBUFS"
    end
    fill(self.state, i, packet)
  end
  return self
end

--- Gives the device all descriptors but one.
function Rx:start()
  fence_doorbell()
  self.tail:write((self.state.next + self.state.count - 1) % self.state.count)
end

--- Takes what has been received. Each packet is yours then, and an empty one takes its place in the ring;
--- when the pool has none, the packet stays where it is.
---@param packets luio.Packet[]  filled from 1
---@param most integer
---@return integer n  how many
function Rx:burst(packets, most)
  local state = self.state
  local descriptors, pool, mask, i, n = state.descriptors, state.pool, state.count - 1, state.next, 0
  fence_flag()
  if bit.band(descriptors[i].status, DD) == 0 then return 0 end
  local ready = 1
  while ready < most and bit.band(descriptors[bit.band(i + ready, mask)].status, DD) ~= 0 do ready = ready + 1 end
  fence_flag() -- the rest of a descriptor after its status
  local taken = 0
  while taken < ready do
    local empty = pool:alloc()
    if not empty then
      state.starved = state.starved + 1
      break
    end
    local d, packet = descriptors[i], state.packets[i]
    local whole = bit.band(d.status, EOP) ~= 0 and bit.band(d.errors, ERRORS) == 0 and not state.broken
    state.broken = bit.band(d.status, EOP) == 0 -- the rest of a frame in pieces comes next
    packet:take_back()
    packet.length = d.length
    fill(state, i, empty)
    if whole then
      n = n + 1
      packets[n] = packet
    else
      state.errors = state.errors + 1
      packet:free()
    end
    i, taken = bit.band(i + 1, mask), taken + 1
  end
  if taken > 0 then
    state.next, state.received = i, state.received + n
    fence_doorbell()
    self.tail:write(bit.band(i - 1, mask))
  end
  return n
end

--- Gives its packets and its memory back. The receiver is off.
function Rx:close()
  local state = self.state
  for i = 0, state.count - 1 do
    local packet = state.packets[i]
    if packet then
      packet:take_back()
      packet:free()
    end
  end
  state.packets = {}
  state.buffer:free()
end

-- ---- Transmitting --------------------------------------------------------------------------------

---@class e1000e.TxState
---@field buffer luio.Buffer  the descriptors: TDBAL, TDBAH, TDLEN
---@field sent integer        packets that the device was given

---@class e1000e.TxRing
---@field state e1000e.TxState
---@field tail luio.Register
local Tx = {}
Tx.__index = Tx

--- An empty ring.
---@param dev luio.Device
---@param count integer
---@param tail luio.Register  TDT
---@return e1000e.TxRing?
---@return string? message
---@return string? code
function M.tx(dev, count, tail)
  local buffer, message, code = memory(dev, count)
  if not buffer then return nil, message, code end
  return handle(Tx, {
    buffer = buffer, descriptors = buffer:pointer(tx_t), count = count, next = 0, clean = 0, packets = {}, sent = 0,
    ends = ffi.new("uint16_t[?]", count), first = 0, last = 0, -- of bursts whose end the device has yet to report
  }, tail)
end

--- Frees the packets that were sent. A burst does so by itself.
---@return integer room  descriptors that are free
function Tx:reclaim()
  local state = self.state
  local descriptors, packets, mask, clean = state.descriptors, state.packets, state.count - 1, state.clean
  fence_flag()
  while state.first ~= state.last do
    local stop = state.ends[bit.band(state.first, mask)]
    if bit.band(descriptors[stop].status, DD) == 0 then break end
    state.first = state.first + 1
    stop = bit.band(stop + 1, mask)
    while clean ~= stop do
      local packet = packets[clean]
      packet:take_back()
      packet:free()
      clean = bit.band(clean + 1, mask)
    end
  end
  state.clean = clean
  return mask - bit.band(state.next - clean, mask)
end

--- Gives packets to the device, in order, as many as there is room for. Those are freed when they were
--- sent; the others stay yours.
---@param packets luio.Packet[]  from 1
---@param n integer
---@return integer n  how many went
function Tx:burst(packets, n)
  local room = self:reclaim()
  if n > room then n = room end
  if n == 0 then return 0 end
  local state = self.state
  local descriptors, mask, i = state.descriptors, state.count - 1, state.next
  for k = 1, n do
    local packet, d = packets[k], descriptors[i]
    d.address, d.length = packet:address(), packet.length
    d.cso, d.css, d.special, d.status = 0, 0, 0, 0
    d.cmd = k < n and COMMAND_EOP + COMMAND_IFCS or COMMAND_EOP + COMMAND_IFCS + COMMAND_RS -- one report for all of them
    packet:lend()
    state.packets[i] = packet
    i = bit.band(i + 1, mask)
  end
  state.ends[bit.band(state.last, mask)] = bit.band(i - 1, mask)
  state.last, state.next, state.sent = state.last + 1, i, state.sent + n
  fence_doorbell()
  self.tail:write(i)
  return n
end

--- Packets that the device has not reported.
---@return integer
function Tx:pending()
  local state = self.state
  return bit.band(state.next - state.clean, state.count - 1)
end

--- Gives its packets and its memory back. The transmitter is off.
function Tx:close()
  local state = self.state
  local clean = state.clean
  while clean ~= state.next do
    local packet = state.packets[clean]
    packet:take_back()
    packet:free()
    clean = bit.band(clean + 1, state.count - 1)
  end
  state.clean, state.packets = clean, {}
  state.buffer:free()
end

--- A handle of this version's.
---@param tail luio.Register
---@return e1000e.RxRing
function M.rx_again(before, tail)
  return handle(Rx, before.state, tail)
end

---@param tail luio.Register
---@return e1000e.TxRing
function M.tx_again(before, tail)
  return handle(Tx, before.state, tail)
end

return M
