--- A model of ARM's UART PL011 (ARM DDI 0183, revision r1p4: FIFOs of 16), and of a far end that sends everything back, and obeys RTS.
---
--- Region 1 is the far end, for specs: it sends what is written at 0, a character with UARTDR's bits of what is wrong with it.
---
--- Characters take their time: (start + data + parity + stop bits) / baud, in real time, so a driver that is too slow loses some.

local bit = require "bit"
local band, bnot, bor, bxor, rshift = bit.band, bit.bnot, bit.bor, bit.bxor, bit.rshift

-- Stated again, not taken from the driver's map: a shared mistake would not be seen.
local DR, RSR, FR, IBRD, FBRD, LCR_H, CR, IFLS = 0x00, 0x04, 0x18, 0x24, 0x28, 0x2c, 0x30, 0x34
local IMSC, RIS, MIS, ICR = 0x38, 0x3c, 0x40, 0x44
local ID, IDS = 0xfe0, { [0] = 0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1 } -- PeriphID 0 to 3, PCellID 0 to 3
local BUSY, RXFE, TXFF, RXFF, TXFE = 0x08, 0x10, 0x20, 0x40, 0x80 -- FR
local CTS, DSR, DCD, RI = 0x01, 0x02, 0x04, 0x100
local BRK, PEN, STP2, FEN = 0x01, 0x02, 0x08, 0x10 -- LCR_H
local UARTEN, LBE, TXE, RXE, DTR, RTS, OUT1, OUT2, RTSEN, CTSEN = 0x01, 0x80, 0x100, 0x200, 0x400, 0x800, 0x1000, 0x2000, 0x4000, 0x8000
local RX, TX, RT, BE, OE = 0x10, 0x20, 0x40, 0x200, 0x400 -- RIS
local BREAK = 0x400 -- DR
local LEVEL = { [0] = 2, 4, 8, 12, 14 } -- of 16
local CLOCK, PEER = 24000000, bor(CTS, DSR, DCD)

local model = { vectors = 1, regions = { [0] = { size = 0x1000 }, [1] = { size = 4 } } }

local function queue() return { first = 0, n = 0 } end

local function push(q, value)
  q[q.first + q.n] = value
  q.n = q.n + 1
end

local function pop(q)
  local value = q[q.first]
  q[q.first] = nil
  q.first, q.n = q.first + 1, q.n - 1
  return value
end

function model.reset(dev)
  dev.regs = { [0x20] = 0, [IBRD] = 1, [FBRD] = 0, [LCR_H] = 0, [CR] = 0x300, [IFLS] = 0x12, [IMSC] = 0, [0x48] = 0 }
  dev.rx, dev.tx, dev.far, dev.ris, dev.rsr = queue(), queue(), queue(), 0, 0
  dev.time, dev.touched, dev.inputs, dev.asserted = dev.now(), 0, PEER, false
end

-- ---- State ---------------------------------------------------------------------------------------

local function on(dev, bits) return band(dev.regs[CR], bits) == bits end
local function depth(dev) return band(dev.regs[LCR_H], FEN) ~= 0 and 16 or 1 end
local function rx_level(dev) return depth(dev) == 1 and 1 or LEVEL[band(rshift(dev.regs[IFLS], 3), 7)] or 14 end
local function tx_level(dev) return depth(dev) == 1 and 0 or LEVEL[band(dev.regs[IFLS], 7)] or 14 end

local function bit_time(dev)
  return (dev.regs[IBRD] + dev.regs[FBRD] / 64) * 16 / CLOCK
end

local function character_time(dev)
  local lcr = dev.regs[LCR_H]
  return (7 + band(rshift(lcr, 5), 3) + (band(lcr, PEN) ~= 0 and 1 or 0) + (band(lcr, STP2) ~= 0 and 1 or 0)) * bit_time(dev)
end

local function flags(dev)
  return bor(dev.inputs, dev.rx.n == 0 and RXFE or 0, dev.rx.n >= depth(dev) and RXFF or 0, dev.tx.n == 0 and TXFE or 0,
    dev.tx.n >= depth(dev) and TXFF or 0, (dev.shifting or dev.tx.n > 0) and BUSY or 0)
end

local function modem(dev)
  if not on(dev, LBE) then return PEER end
  return bor(on(dev, RTS) and CTS or 0, on(dev, DTR) and DSR or 0, on(dev, OUT1) and DCD or 0, on(dev, OUT2) and RI or 0)
end

local function update(dev)
  local now = modem(dev)
  local changed = bxor(now, dev.inputs)
  dev.inputs = now
  if band(changed, RI) ~= 0 then dev.ris = bor(dev.ris, 1) end
  if band(changed, CTS) ~= 0 then dev.ris = bor(dev.ris, 2) end
  if band(changed, DCD) ~= 0 then dev.ris = bor(dev.ris, 4) end
  if band(changed, DSR) ~= 0 then dev.ris = bor(dev.ris, 8) end
  dev.ris = bor(band(dev.ris, bnot(RX)), dev.rx.n >= rx_level(dev) and RX or 0)
  if dev.rx.n == 0 then dev.ris = band(dev.ris, bnot(RT)) end
  if dev.tx.n > tx_level(dev) then dev.ris = band(dev.ris, bnot(TX)) end
  local pending = band(dev.ris, dev.regs[IMSC]) ~= 0
  if pending == dev.asserted then return end
  dev.asserted = pending
  if pending then dev:raise() else dev:lower() end
end

local function received(dev, value)
  if not on(dev, UARTEN + RXE) then return end
  if dev.rx.n >= depth(dev) then
    dev.rsr, dev.ris = bor(dev.rsr, 8), bor(dev.ris, OE)
    return
  end
  if band(value, BREAK) ~= 0 then dev.ris = bor(dev.ris, BE) end
  push(dev.rx, value)
  dev.touched = dev.time
end

-- ---- Time ----------------------------------------------------------------------------------------

local function start(dev)
  local may = on(dev, UARTEN + TXE) and (not on(dev, CTSEN) or band(dev.inputs, CTS) ~= 0)
  if not dev.shifting and dev.tx.n > 0 and may then
    dev.shifting, dev.shifted_at = pop(dev.tx), dev.time + character_time(dev)
    if dev.tx.n == tx_level(dev) then dev.ris = bor(dev.ris, TX) end -- as it falls to the level
  end
  local wanted = on(dev, RTSEN) and dev.rx.n < rx_level(dev) or not on(dev, RTSEN) and on(dev, RTS)
  if not dev.arriving and dev.far.n > 0 and wanted and not on(dev, LBE) then
    dev.arriving, dev.arrives_at = pop(dev.far), dev.time + character_time(dev)
  end
end

local function next_due(dev)
  local due = dev.shifting and dev.shifted_at or math.huge
  if dev.arriving then due = math.min(due, dev.arrives_at) end
  if dev.rx.n > 0 and band(dev.ris, RT) == 0 then due = math.min(due, dev.touched + 32 * bit_time(dev)) end
  return due
end

-- Plays what is due by now, in order.
local function advance(dev)
  local now = dev.now()
  start(dev)
  local due = next_due(dev)
  while due <= now do
    dev.time = due
    if dev.shifting and dev.shifted_at <= due then
      local value = dev.shifting
      dev.shifting = nil
      if on(dev, LBE) then received(dev, value) else push(dev.far, value) end
    elseif dev.arriving and dev.arrives_at <= due then
      local value = dev.arriving
      dev.arriving = nil
      received(dev, value)
    else
      dev.ris = bor(dev.ris, RT)
    end
    start(dev)
    due = next_due(dev)
  end
  dev.time = now
end

local function settle(dev)
  advance(dev)
  update(dev)
  local due = next_due(dev)
  if due == math.huge or dev.armed and dev.armed <= due then return end
  dev.armed = due
  dev:after(math.max(0, due - dev.now()), function()
    if dev.armed == due then dev.armed = nil end
    settle(dev)
  end)
end

-- ---- Accesses ------------------------------------------------------------------------------------

local function read(dev, offset)
  if offset == DR then
    if dev.rx.n == 0 then return 0 end
    dev.touched, dev.ris = dev.time, band(dev.ris, bnot(RT))
    return pop(dev.rx)
  end
  if offset == RSR then return dev.rsr end
  if offset == FR then return flags(dev) end
  if offset == RIS then return dev.ris end
  if offset == MIS then return band(dev.ris, dev.regs[IMSC]) end
  return dev.regs[offset] or IDS[(offset - ID) / 4] or 0
end

local function write(dev, offset, value)
  if offset == DR then
    if dev.tx.n < depth(dev) then push(dev.tx, band(value, 0xff)) end
  elseif offset == RSR then
    dev.rsr = 0
  elseif offset == ICR then
    dev.ris = band(dev.ris, bnot(value))
  elseif offset == LCR_H then
    if band(value, BRK) ~= 0 and band(dev.regs[LCR_H], BRK) == 0 and on(dev, LBE) then received(dev, BREAK) end
    if band(value, FEN) == 0 then dev.rx, dev.tx = queue(), queue() end
    dev.regs[LCR_H] = band(value, 0xff)
  elseif dev.regs[offset] then
    dev.regs[offset] = band(value, 0xffff)
  end
end

function model.read(dev, offset, width, region)
  if width ~= 32 or region == 1 then return 0 end
  advance(dev)
  local value = read(dev, offset)
  settle(dev)
  return value
end

function model.write(dev, offset, width, value, region)
  if width ~= 32 then return end
  advance(dev)
  if region == 1 then push(dev.far, band(value, 0x7ff)) else write(dev, offset, value) end
  settle(dev)
end

return model
