--- Descriptor rings of the 82574L and the 82540EM: legacy descriptors, which both know ("82574 GbE Controller
--- Family Datasheet", 7.1.4 receive, 7.2.10 transmit; "8254x Family ... Software Developer's Manual", 3.2.3,
--- 3.3.3), and context and data descriptors (7.2.11, 7.2.12) for packets whose checksum the device is to compute.
---
--- A ring is an array of 16-byte descriptors in DMA memory. Software writes them up to the tail, the device
--- works from the head to the tail, and says in a descriptor's status (DD) that it is done with it. Head
--- equal to tail is an empty ring, so one descriptor is always left out.
---
--- Bursts never wait. The rings' memory is plain memory: a burst begins with fence_flag, without which a loop around it
--- might look at the same old status for ever (LuaJIT keeps no order, runtime/README.md), and ends with fence_doorbell
--- before the tail is written. A write of the tail costs more than anything else in a burst, so it is written once a
--- burst for the transmitter, with one request to report (RS); for the receiver it is written when a sixteenth of the
--- ring can be given back.
---
--- Packets (luio.pool) are lent to the device while they are in a ring. Loops over packets are `for` loops whose
--- indices are cut by band(): LuaJIT then computes them as whole numbers.
---
--- The values that a device writes into a descriptor are not believed. A frame has at least its header and fits into the packet
--- that it was given, and it is in one descriptor. Packets are found by a list of our own, not by a descriptor's address, which is
--- written anew each time. Other frames are dropped and counted, at most a ring's length of them in one burst, so that a device
--- that never stops does not hold up the loop.
---
--- A ring outlives the version of the driver that made it: its *parts* are a table of plain data and DMA memory in
--- dev.state. A version makes its own handle of those, with its code and its register for the tail; the handle of the
--- version before goes on with the same parts, should that come back.

local bit = require "bit"
local ffi = require "ffi"
local luio = require "luio"
local pool = require "luio.pool"

local band, bor, bxor = bit.band, bit.bor, bit.bxor
local SUM_GOOD, SUM_BAD = pool.CHECKSUM_GOOD, pool.CHECKSUM_BAD
local fence_flag, fence_doorbell = luio.fence_flag, luio.fence_doorbell
local FREE, YOURS, DEVICE, PLAIN = pool.FREE, pool.YOURS, pool.DEVICE, pool.PLAIN

local M = {}

local DD, EOP = 0x01, 0x02 -- status, both kinds
-- 7.1.4.2: CE, SE, SEQ, CXE, RXE make a frame no frame. Status is the low byte here, errors the next.
local ERRORS = 0x9700
local LOOK, GOOD = DD + EOP + ERRORS, DD + EOP
local LEAST = 14 -- bytes of a frame: a shorter one has no header
local SUMMED, SUM_ERROR = 0x30, 0x2000 -- UDPCS or TCPCS; TCPE
local IGNORE = 0x04 -- IXSM: the two say nothing
local CMD_EOP, CMD_IFCS, CMD_RS, CMD_DEXT = 0x01, 0x02, 0x08, 0x20 -- 7.2.10.1.3, 7.2.11
local PLAIN_COMMAND = 0x03000000ULL -- EOP and IFCS, where the second word has them
local DTYP_DATA = 0x00100000ULL
local POPTS_TXSM = 0x0200ULL -- 7.2.12: insert the checksum

local rx_t = ffi.typeof [[struct {
  uint64_t address;
  union { struct { uint16_t length, checksum; int32_t status; }; uint64_t word; };
} *]]

local tx_t = ffi.typeof [[struct {
  uint64_t address;
  union { struct { uint16_t length; uint8_t cso, cmd, status, css; uint16_t special; }; uint64_t word; };
} *]]

-- The changing part. Counters are doubles, because they are for Lua.
local rx_counts_t = ffi.typeof "struct { int32_t next, owed, broken, seen; double received, errors, starved, misfits; }"
local tx_counts_t = ffi.typeof "struct { int32_t next, clean, first, last; uint32_t context; double sent, dropped; }"

-- Memory for a ring, its base at a multiple of 128 bytes as RDBAL and TDBAL want it.
local function memory(dev, count)
  if type(count) ~= "number" or count % 8 ~= 0 or count < 8 or count > 4096 or band(count, count - 1) ~= 0 then
    error(("a ring has 8 to 4096 descriptors, a power of two, not %s"):format(tostring(count)), 3)
  end
  return dev.dma:alloc(count * 16, { align = 128 })
end

-- ---- Receiving -----------------------------------------------------------------------------------

--- The parts of a ring, in dev.state.
---@class e1000e.Parts
---@field buffer luio.Buffer       the descriptors
---@field descriptors ffi.cdata*
---@field packets ffi.cdata*       by descriptor
---@field count integer
---@field counts ffi.cdata*        next, and the counters
---@field pool luio.Pool?          of a receive ring

---@class e1000e.RxRing
---@field parts e1000e.Parts
---@field tail luio.Register
local Rx = {}
Rx.__index = Rx

local function rx_handle(parts, tail)
  return setmetatable({
    parts = parts, tail = tail, d = parts.descriptors, packets = parts.packets, mask = parts.count - 1, c = parts.counts,
    pool = parts.pool, record = parts.pool.record, stack = parts.pool.stack, headroom = parts.pool.headroom,
    room = parts.pool.size - parts.pool.headroom, -- what the device may write of a packet
    -- The number of packets that may be kept back; the device has the rest.
    most_owed = math.max(1, parts.count / 16),
  }, Rx)
end

-- Puts a packet into a descriptor, for the device.
local function fill(self, i, packet)
  self.d[i].address, self.d[i].word = packet.iova + packet.offset, 0
  packet:lend()
  self.packets[i] = packet
end

--- A ring that is full of empty packets. The tail is written by `start`, when the receiver is on.
---@param dev luio.Device
---@param from luio.Pool
---@param count integer
---@param tail luio.Register  RDT
---@return e1000e.RxRing?
---@return string? message
---@return string? code  "ENOBUFS": the pool has too few packets
function M.rx(dev, from, count, tail)
  local buffer, message, code = memory(dev, count)
  if not buffer then return nil, message, code end
  local self = rx_handle({
    buffer = buffer, descriptors = buffer:pointer(rx_t), count = count, pool = from, packets = ffi.new(pool.pointers, count),
    counts = rx_counts_t(),
  }, tail)
  for i = 0, count - 1 do
    local packet = from:alloc()
    if not packet then
      self:close()
      return nil, ("a receive ring of %d needs as many packets; the pool had %d"):format(count, i), "ENOBUFS"
    end
    fill(self, i, packet)
  end
  return self
end

--- Gives the device all descriptors but one.
function Rx:start()
  fence_doorbell()
  self.tail:write(band(self.c.next - 1, self.mask))
  self.c.owed = 0
end

-- Tells the device of descriptors that are its again, when there are enough.
local function give_back(self, i, n)
  local c = self.c
  c.next, c.owed = i, c.owed + n
  if c.owed >= self.most_owed then
    fence_doorbell()
    self.tail:write(band(i - 1, self.mask))
    c.owed = 0
  end
end

-- The descriptor has its packet again, with nothing in it. The address is written, too: the device may have written over it.
local function refill(self, i)
  local packet = self.packets[i]
  packet.span = self.record.span
  self.d[i].address, self.d[i].word = packet.iova + packet.offset, 0
end

-- Drops the frame in descriptor i, which is damaged or incomplete: the same packet waits there for another.
local function drop(self, i, status)
  local c = self.c
  c.broken = band(status, EOP) == 0 and 1 or 0 -- the rest of a frame in pieces comes next
  c.errors = c.errors + 1
  refill(self, i)
  i = band(i + 1, self.mask)
  give_back(self, i, 1)
  return i
end

-- Drops descriptors without a whole frame, from descriptor i on: the first that has one, or -1. No more than the ring has, or a
-- device that fills it as fast as it is emptied would keep us here. A function of its own, so that a burst which finds nothing
-- meets no loop: LuaJIT gives a function up for good that it often finds in a loop which is left at once.
local function skip(self, i, status)
  for _ = 0, self.mask do
    i = drop(self, i, status)
    self.c.seen = self.d[i].status -- as in burst
    status = self.c.seen
    if band(status, DD) == 0 then return -1 end
    if band(status, LOOK) == GOOD and self.c.broken == 0 then return i end
  end
  return -1
end

--- Whether there is something to receive.
---@return boolean
function Rx:ready()
  fence_flag()
  return band(self.d[self.c.next].status, DD) ~= 0
end

--- Takes received frames. Each packet is yours then, and an empty one takes its place in the ring; when
--- the pool has none, the packet stays where it is.
---@param batch luio.Batch  filled from 0
---@param most integer      at most batch.capacity
---@return integer n  how many
function Rx:burst(batch, most)
  local c, d, mask = self.c, self.d, self.mask
  local i = c.next
  if most > mask then most = mask end
  if most < 1 then return 0 end
  fence_flag()
  -- Looked at once, or a frame that comes between two looks is taken for a damaged one. A local is not enough: compiled,
  -- each use of it may be a load of its own, if nothing was stored since.
  c.seen = d[i].status
  local status = c.seen
  if band(status, DD) == 0 then return 0 end
  if band(status, LOOK) ~= GOOD or c.broken ~= 0 then
    i = skip(self, i, status)
    if i < 0 then return 0 end
  end
  local n = most
  for k = 1, most - 1 do
    if band(d[band(i + k, mask)].status, LOOK) ~= GOOD then
      n = k
      break
    end
  end
  fence_flag() -- the rest of a descriptor after its status
  local record = self.record
  local free = record.free
  if free < n then
    c.starved = c.starved + 1
    n = free
    if n == 0 then return 0 end
  end
  if record.debug ~= 0 then self.pool:inspect(n) end
  local packets, stack, headroom, room = self.packets, self.stack, self.headroom, self.room
  for k = 0, n - 1 do
    local j = band(i + k, mask)
    local packet, empty = packets[j], stack[free - 1 - k]
    status = d[j].status
    packet.length = d[j].length
    if packet.length < LEAST or packet.length > room then -- looked at where it was stored: see `seen`
      n = k
      break
    end
    packet.offload = PLAIN -- yours
    if band(status, SUMMED) ~= 0 and band(status, IGNORE) == 0 then
      packet.flags = band(status, SUM_ERROR) == 0 and SUM_GOOD or SUM_BAD
    end
    batch.at[k] = packet
    d[j].address, d[j].word = empty.iova + headroom, 0
    empty.span, empty.owner = record.span, DEVICE
    packets[j] = empty
  end
  if n == 0 then -- what fits into no packet is dropped when it is the first
    c.misfits = c.misfits + 1
    drop(self, i, EOP)
    return 0
  end
  record.free = free - n
  c.received = c.received + n
  give_back(self, band(i + n, mask), n)
  return n
end

--- Begins anew with the packets it has: the device was reset, and has forgotten its received frames.
---@return integer lost  received frames that no burst had taken
function Rx:restart()
  local c, lost = self.c, 0
  for i = 0, self.mask do
    if band(self.d[i].status, DD) ~= 0 then lost = lost + 1 end
    refill(self, i)
  end
  c.next, c.owed, c.broken = 0, 0, 0
  c.errors = c.errors + lost
  return lost
end

--- Gives its packets and its memory back. The receiver is off.
function Rx:close()
  for i = 0, self.mask do
    local packet = self.packets[i]
    if packet ~= nil then
      packet:take_back()
      packet:free()
      self.packets[i] = nil
    end
  end
  self.parts.buffer:free()
end

-- ---- Transmitting --------------------------------------------------------------------------------

---@class e1000e.TxRing
---@field parts e1000e.Parts
---@field tail luio.Register
local Tx = {}
Tx.__index = Tx

local function tx_handle(parts, tail)
  return setmetatable({
    parts = parts, tail = tail, d = parts.descriptors, packets = parts.packets, mask = parts.count - 1, c = parts.counts,
    ends = parts.ends,
  }, Tx)
end

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
  return tx_handle({
    buffer = buffer, descriptors = buffer:pointer(tx_t), count = count, packets = ffi.new(pool.pointers, count), counts = tx_counts_t(),
    ends = ffi.new("uint16_t[?]", count), -- of bursts whose end the device has yet to report: c.first up to c.last
  }, tail)
end

-- Frees the packets of n descriptors.
local function free_packets(self, from, n)
  local packets, mask, k = self.packets, self.mask, 0
  while k < n do
    local home = pool.of(packets[band(from + k, mask)]) -- no local for the packet: it would be boxed for the loop below
    if home and home.record.debug == 0 then -- as many as come from one pool, in one go
      local record, stack, number = home.record, home.stack, home.number
      local free, run = record.free - k, n
      for m = k, n - 1 do
        local one = packets[band(from + m, mask)]
        if one == nil or bxor(one.home, number) ~= 0 or one.owner ~= DEVICE then -- bxor: compared as whole numbers
          run = m
          break
        end
        one.owner = FREE
        stack[free + m] = one
      end
      record.free = free + run
      k = run
    end
    if k < n then -- a context descriptor, a pool that is closed or to be watched
      local one = packets[band(from + k, mask)]
      if one ~= nil and one.owner == DEVICE then
        one.owner = YOURS
        one:free()
      end
      k = k + 1
    end
  end
end

--- Frees the packets that were sent. A burst does so by itself.
---@return integer room  descriptors that are free
function Tx:reclaim()
  local c, mask = self.c, self.mask
  fence_flag()
  while c.first ~= c.last do
    local stop = self.ends[c.first]
    if band(self.d[stop].status, DD) == 0 then break end
    c.first = band(c.first + 1, mask)
    free_packets(self, c.clean, band(stop + 1 - c.clean, mask))
    c.clean = band(stop + 1, mask)
  end
  return mask - band(c.next - c.clean, mask)
end

-- Why packet n of a batch, which is not yours, is not to be sent.
local function fault(batch, n)
  for k = 0, n - 1 do
    if batch.at[k] == batch.at[n] then return ("send packet %d: it is in the burst twice"):format(batch.at[n].number) end
  end
  return pool.fault(batch.at[n], "send")
end

-- Packet n of a batch is not to be sent: nothing of the burst is the device's, not even a context that was written for it.
local function refuse(self, batch, n, why)
  for k = 0, n - 1 do batch.at[k].owner = YOURS end
  self.c.context = 0
  error(why, 4) -- who called burst
end

-- Writes descriptors for the packets of a batch from number `k` on, of which some ask for a checksum; j is the next
-- descriptor. The context says where to sum from and where to put it; the device keeps it until the next one.
local function with_checksums(self, batch, k, n, j)
  local c, d, packets, mask = self.c, self.d, self.packets, self.mask
  while k < n do
    local packet = batch.at[k]
    if packet.owner ~= YOURS then refuse(self, batch, k, fault(batch, k)) end
    local start = packet.checksum_start
    if start ~= 0 and start + packet.checksum_offset + 2 > packet.length then
      refuse(self, batch, k, ("packet %d: its checksum is at byte %d, and it has %d bytes"):format(packet.number,
        start + packet.checksum_offset, packet.length))
    end
    local context = start * 65536 + packet.checksum_offset
    local needs_context = start ~= 0 and context ~= c.context
    local need = needs_context and 2 or 1
    if mask - band(j - c.clean, mask) < need then
      self:reclaim()
      if mask - band(j - c.clean, mask) < need then break end
    end
    if needs_context then
      local at = start + packet.checksum_offset
      if start > 255 or at > 255 then
        refuse(self, batch, k, ("packet %d: its checksum is at byte %d, from byte %d on: the device's fields have 8 bits"):format(
          packet.number, at, start))
      end
      -- TUCSS, TUCSO, TUCSE 0: to the end of the packet. IPCSS and IPCSO are not used, and lie before that.
      d[j].address = bit.lshift(start + 0ULL, 32) + bit.lshift(at + 0ULL, 40)
      d[j].word = bit.lshift(CMD_DEXT + 0ULL, 24)
      packets[j] = nil
      c.context = context
      j = band(j + 1, mask)
    end
    d[j].address = packet.iova + packet.offset
    if start ~= 0 then
      d[j].word = packet.length + bit.lshift(CMD_EOP + CMD_IFCS + CMD_DEXT + 0ULL, 24) + DTYP_DATA + bit.lshift(POPTS_TXSM, 32)
    else
      d[j].word = PLAIN_COMMAND + packet.length
    end
    packet.owner = DEVICE
    packets[j] = packet
    j = band(j + 1, mask)
    k = k + 1
  end
  return k, j
end

--- Gives packets to the device, in order, as many as there is room for. Those are freed when they were
--- sent; the others stay yours.
---@param batch luio.Batch  from 0
---@param n integer         at most batch.capacity
---@return integer n  how many went
function Tx:burst(batch, n)
  local c, d, mask = self.c, self.d, self.mask
  local room = mask - band(c.next - c.clean, mask)
  if room < n then
    room = self:reclaim()
    if room < n then n = room end
  end
  if n < 1 then return 0 end
  local packets, i, run = self.packets, c.next, n
  for k = 0, n - 1 do
    local packet = batch.at[k]
    if packet.offload ~= PLAIN then
      run = k
      break
    end
    local j = band(i + k, mask)
    d[j].address = packet.iova + packet.offset
    d[j].word = PLAIN_COMMAND + packet.length
    packet.owner = DEVICE
    packets[j] = packet
  end
  local after = band(i + run, mask)
  if run < n then
    n, after = with_checksums(self, batch, run, n, after)
    if n == 0 then return 0 end
  end
  local last = band(after - 1, mask)
  d[last].cmd = bor(d[last].cmd, CMD_RS) -- one report for all of them
  self.ends[c.last] = last
  c.last, c.next, c.sent = band(c.last + 1, mask), after, c.sent + n
  fence_doorbell()
  self.tail:write(after)
  return n
end

--- Gives the device the packets that were queued meanwhile: a burst may come between a reset and the end of
--- setting up.
function Tx:start()
  fence_doorbell()
  self.tail:write(self.c.next)
end

--- Descriptors that the device has not reported.
---@return integer
function Tx:pending()
  return band(self.c.next - self.c.clean, self.mask)
end

--- Begins anew: the device was reset. Packets under way are freed; it is unknown whether they were
--- sent.
---@return integer dropped  packets
function Tx:restart()
  local c, dropped = self.c, 0
  self:reclaim()
  for k = 0, self:pending() - 1 do
    if self.packets[band(c.clean + k, self.mask)] ~= nil then dropped = dropped + 1 end
  end
  free_packets(self, c.clean, self:pending())
  c.next, c.clean, c.first, c.last, c.context = 0, 0, 0, 0, 0
  c.dropped = c.dropped + dropped
  return dropped
end

--- Gives its packets and its memory back. The transmitter is off.
function Tx:close()
  self:restart()
  self.parts.buffer:free()
end

--- This version's handles of parts that another made.
---@param parts e1000e.Parts
---@param tail luio.Register
---@return e1000e.RxRing
function M.rx_again(parts, tail) return rx_handle(parts, tail) end

---@param parts e1000e.Parts
---@param tail luio.Register
---@return e1000e.TxRing
function M.tx_again(parts, tail) return tx_handle(parts, tail) end

return M
