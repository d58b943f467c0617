--- Descriptor rings, as the 82574L's and the 82540EM's models work through them: transmit (82574, 7.2), receive (7.1).
---
--- A frame is a string without its CRC. A driver's mistake that hardware would ignore, or answer with nonsense, is
--- an error here: the model fails, and so does the driver's next access.
---
--- Frames that no descriptor waits for stay in the packet buffer (PBA.RXA) until one does; those that find it full are
--- missed. Sending takes no time of its own: frames go when the model comes to it, which is after the write of the tail.

local bit = require "bit"
local ffi = require "ffi"
local frames = require "drivers.e1000e.model_frames"

local band, bor, rshift = bit.band, bit.bor, bit.rshift

local M = {}

local PBA = 0x1000
local RCTL, RDBAL, RDBAH, RDLEN, RDH, RDT, RXCSUM = 0x100, 0x2800, 0x2804, 0x2808, 0x2810, 0x2818, 0x5000
local TCTL, TDBAL, TDBAH, TDLEN, TDH, TDT = 0x400, 0x3800, 0x3804, 0x3808, 0x3810, 0x3818
local MTA, RAL, RAH = 0x5200, 0x5400, 0x5404
local EN, PSP = 0x2, 0x8 -- RCTL and TCTL; TCTL
local SBP, UPE, MPE, LPE, BAM, SECRC = 0x4, 0x8, 0x10, 0x20, 0x8000, 0x4000000 -- RCTL
local TXDW, TXQE, RXDMT0, RXO, RXT0 = 0x01, 0x02, 0x10, 0x40, 0x80 -- ICR

-- Statistics (10.2.7)
local CRCERRS, MPC, RUC, ROC, RNBC = 0x4000, 0x4010, 0x40a4, 0x40ac, 0x40a0
local GPRC, BPRC, MPRC, GPTC, GORC, GOTC = 0x4074, 0x4078, 0x407c, 0x4080, 0x4088, 0x4090
local TOR, TOT, TPR, TPT, MPTC, BPTC = 0x40c0, 0x40c8, 0x40d0, 0x40d4, 0x40f0, 0x40f4
local PRC64, PTC64 = 0x405c, 0x40d8

local tx_t = ffi.typeof [[const union {
  struct { uint64_t address; uint16_t length; uint8_t cso, cmd, status, css; uint16_t special; };
  struct { uint8_t ipcss, ipcso; uint16_t ipcse; uint8_t tucss, tucso; uint16_t tucse; uint32_t lower; uint8_t sta, popts; };
} *]]
local rx_t = ffi.typeof "const struct { uint64_t address; uint16_t length, checksum; uint8_t status, errors; uint16_t special; } *"
local written_t = ffi.typeof "struct { uint16_t length, checksum; uint8_t status, errors; uint16_t special; }"
local bytes_t = ffi.typeof "const uint8_t *"

local EOP, IFCS, IC, RS, DEXT, VLE, TSE = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40, 0x04 -- commands (7.2.10.1.3, 7.2.11, 7.2.12)
local IXSM, TXSM = 0x01, 0x02 -- POPTS
local MAX_FRAME = 16288 -- 7.2.3

local function fault(...) error(string.format(...), 0) end

-- ---- Both ----------------------------------------------------------------------------------------

--- Counts up to what 32 bits hold.
function M.count(dev, counter, n)
  dev.counters[counter] = math.min((dev.counters[counter] or 0) + (n or 1), 0xffffffff)
end
local count = M.count

-- Bytes, in a counter of two registers.
local function count_bytes(dev, counter, n)
  dev.counters[counter] = (dev.counters[counter] or 0) + n
end

-- 64, 65 to 127, 128 to 255, 256 to 511, 512 to 1023, and more: one counter each, behind the first.
local function count_size(dev, first, size)
  local class = size <= 64 and 0 or size < 128 and 1 or size < 256 and 2 or size < 512 and 3 or size < 1024 and 4 or 5
  count(dev, first + class * 4)
end

--- A ring is looked at when its side is switched on. 10.2.5.5 wants its base at a multiple of 16; here it is 128, as the
--- driver has it and its length must be.
function M.check(dev, name, low, high, length, head, tail)
  local r = dev.r
  local n, base = r[length] / 16, r[high] * 2 ^ 32 + r[low]
  if n == 0 then fault("the %s is switched on without a ring", name) end
  if base % 128 ~= 0 then fault("the %s's ring is at 0x%x, which is no multiple of 128", name, base) end
  if r[head] >= n or r[tail] >= n then
    fault("the %s's ring has %d descriptors, its head is %d and its tail %d", name, n, r[head], r[tail])
  end
end

local function base_of(dev, low, high) return dev.r[high] * 2 ^ 32 + dev.r[low] end

-- ---- Receiving (7.1) -----------------------------------------------------------------------------

-- 10.2.5.1, 7.1.1: whether a frame is for us; and by a hash alone.
local function accepted(dev, frame)
  local r = dev.r
  local rctl = r[RCTL]
  local multicast = band(frame:byte(1), 1) == 1
  if frame:sub(1, 6) == "\xff\xff\xff\xff\xff\xff" then
    if band(rctl, BAM) ~= 0 then return true end
  end
  if band(rctl, multicast and MPE or UPE) ~= 0 then return true end
  local a, b, c, d, e, f = frame:byte(1, 6)
  local low, high = a + b * 2 ^ 8 + c * 2 ^ 16 + d * 2 ^ 24, e + f * 2 ^ 8
  for i = 0, 15 do
    if r[RAH + i * 8] >= 2 ^ 31 and r[RAL + i * 8] == low and band(r[RAH + i * 8], 0xffff) == high then return true end
  end
  if multicast then
    local word, mask = frames.hash(frame, band(rshift(rctl, 12), 3))
    if band(r[MTA + word * 4], mask) ~= 0 then return true, true end
  end
  return false
end

local SIZES = { [0] = 2048, 1024, 512, 256 }

local function buffer_size(dev)
  local rctl = dev.r[RCTL]
  return SIZES[band(rshift(rctl, 16), 3)] * (band(rctl, 0x2000000) ~= 0 and 16 or 1)
end

local written = written_t()

-- Puts a frame into the descriptors at the head, which are there. False: bus master is off.
local function write(dev, entry)
  local r = dev.r
  local data, size, n = entry.data, buffer_size(dev), r[RDLEN] / 16
  local base, from = base_of(dev, RDBAL, RDBAH), 0
  local bytes = ffi.cast(bytes_t, data)
  local ip, l4 = band(r[RXCSUM], 0x100) ~= 0, band(r[RXCSUM], 0x200) ~= 0
  local found, errors = 0, 0
  if ip or l4 then found, errors = frames.check(bytes, #data, ip, l4) end
  repeat
    local i, at = r[RDH], base + r[RDH] * 16
    local raw = dev:dma_read(at, 16)
    if not raw then return false end
    local d = ffi.cast(rx_t, raw)
    if band(d.status, 1) == 1 then fault("receive descriptor %d is given with DD set: the driver would take it for received", i) end
    local piece = math.min(size, #data - from)
    if not dev:dma_write(tonumber(d.address), data:sub(from + 1, from + piece)) then return false end
    from = from + piece
    local last = from == #data
    written.length, written.checksum = piece, last and frames.sum(bytes, math.min(band(r[RXCSUM], 0xff), #data), #data) or 0
    written.status = last and bor(0x03, entry.hashed and 0x80 or 0, found == 0 and 0x04 or found) or 0x01 -- DD, EOP, PIF, IXSM
    written.errors = last and bor(errors, entry.damaged and 0x01 or 0) or 0
    dev:dma_write(at + 8, ffi.string(written, 8))
    r[RDH] = (i + 1) % n
  until last
  return true
end

local function free_descriptors(dev)
  local r = dev.r
  return (r[RDT] - r[RDH]) % (r[RDLEN] / 16)
end

--- Moves frames from the packet buffer to memory, as far as there are descriptors.
function M.receive(dev)
  local r, fifo = dev.r, dev.fifo
  if band(r[RCTL], EN) == 0 or not dev:may_master() then return end
  while fifo.first <= fifo.last do
    local entry = fifo[fifo.first]
    local before = free_descriptors(dev)
    if before < math.ceil(#entry.data / buffer_size(dev)) then
      if not entry.waited then count(dev, RNBC) end
      entry.waited = true
      return
    end
    if not write(dev, entry) then return end
    fifo[fifo.first] = nil
    fifo.first, fifo.bytes = fifo.first + 1, fifo.bytes - #entry.data
    -- RXDMT0: at RDMTS's part of the ring, on the way down
    local threshold = r[RDLEN] / 16 / 2 ^ (band(rshift(r[RCTL], 8), 3) + 1)
    dev:cause(before > threshold and free_descriptors(dev) <= threshold and RXT0 + RXDMT0 or RXT0)
  end
end

--- A frame comes in.
---@param dev table
---@param frame string
---@param damaged boolean?  its CRC is wrong
function M.arrive(dev, frame, damaged)
  local r = dev.r
  local rctl, size = r[RCTL], #frame + 4
  if band(rctl, EN) == 0 then return end
  count(dev, TPR)
  count_bytes(dev, TOR, size)
  local ours, hashed = accepted(dev, frame)
  if not ours then return end
  local largest = band(rctl, LPE) ~= 0 and 16384 or 1522
  local wrong = damaged and CRCERRS or size < 64 and RUC or size > largest and ROC
  if wrong then
    count(dev, wrong)
    if band(rctl, SBP) == 0 then return end
  end
  local fifo = dev.fifo
  local data = band(rctl, SECRC) ~= 0 and frame or frame .. frames.crc(frame)
  if fifo.bytes + #data > band(r[PBA], 0xffff) * 1024 then
    count(dev, MPC)
    dev:cause(RXO)
    return
  end
  if not wrong then
    count(dev, GPRC)
    count_bytes(dev, GORC, size)
    count_size(dev, PRC64, size)
    if frame:sub(1, 6) == "\xff\xff\xff\xff\xff\xff" then
      count(dev, BPRC)
    elseif band(frame:byte(1), 1) == 1 then
      count(dev, MPRC)
    end
  end
  fifo.last = fifo.last + 1
  fifo[fifo.last], fifo.bytes = { data = data, damaged = damaged, hashed = hashed }, fifo.bytes + #data
  M.receive(dev)
end

-- ---- Transmitting (7.2) --------------------------------------------------------------------------

local scratch = ffi.new("uint8_t[?]", MAX_FRAME)

-- Inserts the checksums that were asked for: by the first descriptor's options and the context (7.2.11), or by IC.
local function with_checksums(tx, frame)
  local n = #frame
  ffi.copy(scratch, frame, n)
  local function insert(what, at, from, last)
    local to = last == 0 and n or last + 1
    if from > n or at + 2 > n or to > n then
      fault("%s of a frame of %d bytes: from byte %d to %d, at byte %d", what, n, from, to - 1, at)
    end
    frames.insert(scratch, at, from, to)
  end
  local c = tx.context
  if band(tx.popts, IXSM + TXSM) ~= 0 and not c then fault "a checksum is asked for, and no context says where" end
  if band(tx.popts, TXSM) ~= 0 then insert("TXSM", c.tucso, c.tucss, c.tucse) end
  if band(tx.popts, IXSM) ~= 0 then insert("IXSM", c.ipcso, c.ipcss, c.ipcse) end
  if tx.cso then insert("IC", tx.cso, tx.css, 0) end
  return ffi.string(scratch, n)
end

local function leave(dev, frame)
  if band(dev.r[TCTL], PSP) ~= 0 and #frame < 60 then frame = frame .. ("\0"):rep(60 - #frame) end
  local size = #frame + 4
  count(dev, TPT)
  count(dev, GPTC)
  count_bytes(dev, TOT, size)
  count_bytes(dev, GOTC, size)
  count_size(dev, PTC64, size)
  if frame:sub(1, 6) == "\xff\xff\xff\xff\xff\xff" then
    count(dev, BPTC)
  elseif band(frame:byte(1), 1) == 1 then
    count(dev, MPTC)
  end
  dev:carry(frame)
end

-- A descriptor with data.
local function data_descriptor(dev, d, i)
  local tx, extended = dev.tx, band(d.cmd, DEXT) ~= 0
  local length = extended and d.lower % 0x100000 or d.length
  if length == 0 then fault("transmit descriptor %d has length 0", i) end
  if band(d.cmd, VLE) ~= 0 then fault("transmit descriptor %d: VLAN tags are not in this model", i) end
  if extended and band(d.cmd, TSE) ~= 0 then fault("transmit descriptor %d: segmentation is not in this model", i) end
  local piece = dev:dma_read(tonumber(d.address), length)
  if not piece then return false end
  if tx.frame == nil then -- of the first descriptor
    tx.popts = extended and d.popts or 0
    tx.cso, tx.css = nil, nil
    if not extended and band(d.cmd, IC) ~= 0 then tx.cso, tx.css = d.cso, d.css end
  end
  tx.frame = tx.frame and tx.frame .. piece or piece
  if #tx.frame > MAX_FRAME then fault("transmit descriptor %d: a frame of %d bytes; %d is the most", i, #tx.frame, MAX_FRAME) end
  if band(d.cmd, EOP) == 0 then return true end
  if band(d.cmd, IFCS) == 0 then fault("transmit descriptor %d: a frame without a CRC (IFCS)", i) end
  local frame = tx.frame
  tx.frame = nil
  if #frame < 14 then fault("transmit descriptor %d: a frame of %d bytes, less than a header", i, #frame) end
  if tx.popts ~= 0 or tx.cso then frame = with_checksums(tx, frame) end
  leave(dev, frame)
  return true
end

--- Sends what there is.
function M.transmit(dev)
  local r, tx = dev.r, dev.tx
  if band(r[TCTL], EN) == 0 or r[TDH] == r[TDT] or not dev:carrier() or not dev:may_master() then return end
  local n, base = r[TDLEN] / 16, base_of(dev, TDBAL, TDBAH)
  while r[TDH] ~= r[TDT] do
    local first = r[TDH]
    local most = math.min((r[TDT] > first and r[TDT] or n) - first, 64) -- fetched in one go
    local raw = dev:dma_read(base + first * 16, most * 16)
    if not raw then return end
    local descriptors = ffi.cast(tx_t, raw)
    for i = first, first + most - 1 do
      local d = descriptors[i - first]
      if band(d.cmd, RS) ~= 0 and band(d.status, 1) == 1 then
        fault("transmit descriptor %d is given with DD set: the driver would take it for sent", i)
      end
      local kind = band(rshift(d.lower, 20), 15) -- DTYP
      if band(d.cmd, DEXT) ~= 0 and kind == 0 then
        if band(d.cmd, TSE) ~= 0 then fault("transmit descriptor %d: segmentation is not in this model", i) end
        if tx.frame then fault("transmit descriptor %d is a context in the middle of a frame", i) end
        tx.context = { ipcss = d.ipcss, ipcso = d.ipcso, ipcse = d.ipcse, tucss = d.tucss, tucso = d.tucso, tucse = d.tucse }
      elseif band(d.cmd, DEXT) ~= 0 and kind ~= 1 then
        fault("transmit descriptor %d is of type %d: 0 is a context, 1 data", i, kind)
      elseif not data_descriptor(dev, d, i) then
        return
      end
      r[TDH] = (i + 1) % n
      if band(d.cmd, RS) ~= 0 then
        if not dev:dma_write(base + i * 16 + 12, "\1") then return end -- DD
        dev:cause(TXDW)
      end
    end
  end
  dev:cause(TXQE)
end

return M
