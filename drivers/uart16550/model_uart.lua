--- A 16550-compatible UART, after the PC16550D datasheet (SNLS378C), and the far end of its cable. Each model file states the
--- features of its chip (model.lua, model_tl16c550c.lua, model_16450.lua).
---
--- Region 0 is the chip. Characters take their time: (start + data + parity + stop bits) / baud, in real time, so a driver that
--- is too slow loses some, as it would on the card.
---
--- Region 1 is the far end, for specs and for playing. Until a spec writes CONTROL, it sends everything back, and
--- obeys RTS.
---
---     0x00  PUSH      wo 64  bytes to send: their number (1 to 7) in the lowest byte, then the bytes
---     0x08  PUSH_ONE  wo 32  a character, or with bits: 0x100 parity error, 0x200 framing error, 0x400 break
---     0x10  POP       ro 64  received bytes, in PUSH's format
---     0x18  QUEUED    ro 32  bytes it has yet to send
---     0x1c  RECEIVED  ro 32  bytes that have not been popped
---     0x20  CONTROL   rw 32  1 echo, 2 obeys RTS, 4 obeys XOFF and XON, 8 sends nothing
---     0x24  LINES     rw 32  lines that it drives: 1 CTS, 2 DSR, 4 RI, 8 DCD
---     0x28  SEEN      ro 32  lines that it sees: 1 DTR, 2 RTS, 4 OUT1, 8 OUT2, 16 a break
---     0x2c  BREAKS    ro 32  breaks that began
---     0x30  FORMAT    ro 32  LCR's low six bits when the last character came
---     0x34  BAUD      ro 32  the speed at that time
---     0x38  LOST      ro 32  bytes that found its memory full (64 KiB)
---     0x3c  CLOCK     rw 32  the chip's, in Hz; 1843200

local bit = require "bit"
local band, bor, bnot, lshift, rshift = bit.band, bit.bor, bit.bnot, bit.lshift, bit.rshift

-- Stated again, not taken from the driver's map: a shared mistake would not be seen.
local ERBFI, ETBEI, ELSI, EDSSI = 0x01, 0x02, 0x04, 0x08 -- IER
local DR, OE, PE, FE, BI, THRE, TEMT, FIFO_ERROR = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80 -- LSR
local DTR, RTS, LOOP, AFE = 0x01, 0x02, 0x10, 0x20 -- MCR
local SET_BREAK, DLAB = 0x40, 0x80 -- LCR
local TRIGGER = { [0] = 1, 4, 8, 14 }

local ECHO, OBEYS_RTS, OBEYS_XON, SILENT = 1, 2, 4, 8 -- CONTROL
local XON, XOFF = 0x11, 0x13
local MEMORY = 65536

-- ---- Queues --------------------------------------------------------------------------------------

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

local function clear(q)
  while q.n > 0 do pop(q) end
end

-- ---- Registers of the chip (8.6) -----------------------------------------------------------------

local function fifo_mode(dev) return band(dev.fcr, 1) ~= 0 end

-- PE, FE, BI are of the next character; the others of the chip.
local function line_status(dev)
  local value = dev.overrun and OE or 0
  local rx = dev.rx
  if rx.n > 0 then
    value = bor(value, DR, band(rshift(rx[rx.first], 8), bor(PE, FE, BI)))
    for i = rx.first, rx.first + rx.n - 1 do
      if fifo_mode(dev) and rx[i] > 0xff then value = bor(value, FIFO_ERROR) end
    end
  end
  if dev.tx.n == 0 then value = bor(value, THRE) end
  if dev.tx.n == 0 and not dev.shifting then value = bor(value, TEMT) end
  return value
end

local function trigger(dev) return fifo_mode(dev) and TRIGGER[rshift(dev.fcr, 6)] or 1 end

-- 8.6.5: the most urgent one.
local function cause(dev)
  local lsr = line_status(dev)
  if band(dev.ier, ELSI) ~= 0 and band(lsr, bor(OE, PE, FE, BI)) ~= 0 then return 0x6 end
  if band(dev.ier, ERBFI) ~= 0 and dev.rx.n >= trigger(dev) then return 0x4 end
  if band(dev.ier, ERBFI) ~= 0 and dev.timeout and fifo_mode(dev) then return 0xc end
  if band(dev.ier, ETBEI) ~= 0 and dev.thr_empty then return 0x2 end
  if band(dev.ier, EDSSI) ~= 0 and band(dev.delta, 0xf) ~= 0 then return 0x0 end
  return 0x1
end

local function update_interrupt(dev)
  local pending = cause(dev) ~= 0x1
  if pending == dev.asserted then return end
  dev.asserted = pending
  if pending then dev:raise() else dev:lower() end
end

-- ---- The line ------------------------------------------------------------------------------------

local function speed(dev) return dev.clock / 16 / (dev.divisor == 0 and 65536 or dev.divisor) end

local function character_time(dev)
  local bits = 1 + 5 + band(dev.lcr, 3) + (band(dev.lcr, 8) ~= 0 and 1 or 0) + (band(dev.lcr, 4) ~= 0 and 2 or 1)
  return bits / speed(dev)
end

-- MSR's upper half: the pins, or in a loop what MCR drives (8.6.7): DTR to DSR, RTS to CTS, OUT1 to RI, OUT2 to DCD.
local function modem_inputs(dev)
  if band(dev.mcr, LOOP) == 0 then return dev.lines end
  local m = dev.mcr
  return bor(band(rshift(m, 1), 1), lshift(band(m, 1), 1), band(m, 4), band(m, 8))
end

-- 8.6.8: DCTS, DDSR, DDCD at each change; TERI at the end of RI.
local function update_modem_lines(dev)
  local now, before = modem_inputs(dev), dev.inputs
  local changed = bit.bxor(now, before)
  if band(now, 4) ~= 0 then changed = band(changed, bnot(4)) end
  dev.delta, dev.inputs = bor(dev.delta, changed), now
end

local function deepness(dev, chip) return fifo_mode(dev) and chip.fifo or 1 end

-- A character has come in whole. 8.6.3: an overrun leaves the FIFO as it is; without FIFO the new one replaces the old.
local function received(dev, chip, value)
  if dev.rx.n >= deepness(dev, chip) then
    dev.overrun = true
    if fifo_mode(dev) then return end
    clear(dev.rx)
  end
  push(dev.rx, value)
  dev.touched, dev.timeout = dev.time, false
end

-- The TL16C550C's automatic RTS: off from the trigger level until the FIFO is empty.
local function rts(dev)
  local m = dev.mcr
  if band(m, RTS) == 0 or band(m, LOOP) ~= 0 then return false end
  if band(m, AFE) == 0 then return true end
  if dev.rx.n >= trigger(dev) then dev.withheld = true elseif dev.rx.n == 0 then dev.withheld = false end
  return not dev.withheld
end

local function cts(dev) return band(dev.mcr, AFE) == 0 or band(dev.lines, 1) ~= 0 end

-- ---- The far end ---------------------------------------------------------------------------------

local function to_far(dev, value)
  local far = dev.far
  far.format, far.baud = band(dev.lcr, 0x3f), math.floor(speed(dev) + 0.5)
  if band(far.control, OBEYS_XON) ~= 0 and (value == XON or value == XOFF) then
    far.held = value == XOFF
    return
  end
  local into = band(far.control, ECHO) ~= 0 and far.out or far.got
  if into.n >= MEMORY then far.lost = far.lost + 1 else push(into, value) end
end

local function far_sends(dev)
  local far = dev.far
  if far.out.n == 0 or far.held or band(far.control, SILENT) ~= 0 or band(dev.mcr, LOOP) ~= 0 then return false end
  return band(far.control, OBEYS_RTS) == 0 or rts(dev)
end

-- ---- Time ----------------------------------------------------------------------------------------

-- Starts the transfers that can start, at dev.time.
local function start(dev)
  if not dev.shifting and dev.tx.n > 0 and cts(dev) then
    dev.shifting, dev.shifted_at = pop(dev.tx), dev.time + character_time(dev)
    if dev.tx.n == 0 then dev.thr_empty = true end
  end
  if not dev.arriving and far_sends(dev) then
    dev.arriving, dev.arrives_at = pop(dev.far.out), dev.time + character_time(dev)
  end
end

local function next_due(dev)
  local due = math.huge
  if dev.shifting then due = dev.shifted_at end
  if dev.arriving and dev.arrives_at < due then due = dev.arrives_at end
  if fifo_mode(dev) and dev.rx.n > 0 and not dev.timeout then due = math.min(due, dev.touched + 4 * character_time(dev)) end
  return due
end

-- Plays the events up to now, in order.
local function advance(dev, chip)
  local now = dev.now()
  start(dev)
  local due = next_due(dev)
  while due <= now do
    dev.time = due
    if dev.shifting and dev.shifted_at <= due then
      local value = dev.shifting
      dev.shifting = nil
      if band(dev.mcr, LOOP) ~= 0 then received(dev, chip, value) else to_far(dev, value) end
    elseif dev.arriving and dev.arrives_at <= due then
      local value = dev.arriving
      dev.arriving = nil
      if band(dev.mcr, LOOP) == 0 then received(dev, chip, value) end
    else
      dev.timeout = true
    end
    start(dev)
    due = next_due(dev)
  end
  dev.time = now
end

-- One timer at a time is enough: whenever it is up, and at every access, all that is due is done.
local function arm(dev, chip)
  local due = next_due(dev)
  if due == math.huge or dev.armed and dev.armed <= due then return end
  dev.armed = due
  dev:after(math.max(0, due - dev.now()), function()
    if dev.armed == due then dev.armed = nil end
    advance(dev, chip)
    update_interrupt(dev)
    arm(dev, chip)
  end)
end

-- ---- Accesses ------------------------------------------------------------------------------------

local read, write, far_read, far_write = {}, {}, {}, {}

read[0] = function(dev)
  if band(dev.lcr, DLAB) ~= 0 then return band(dev.divisor, 0xff) end
  dev.touched, dev.timeout = dev.time, false
  return dev.rx.n > 0 and band(pop(dev.rx), 0xff) or 0
end

read[1] = function(dev)
  if band(dev.lcr, DLAB) ~= 0 then return rshift(dev.divisor, 8) end
  return dev.ier
end

read[2] = function(dev)
  local id = cause(dev)
  if id == 0x2 then dev.thr_empty = false end
  return bor(id, fifo_mode(dev) and 0xc0 or 0)
end

read[3] = function(dev) return dev.lcr end
read[4] = function(dev) return dev.mcr end

read[5] = function(dev)
  local value, rx = line_status(dev), dev.rx
  dev.overrun = false
  if rx.n > 0 then rx[rx.first] = band(rx[rx.first], 0xff) end
  return value
end

read[6] = function(dev)
  local value = bor(dev.delta, lshift(dev.inputs, 4))
  dev.delta = 0
  return value
end

read[7] = function(dev) return dev.scr end

write[0] = function(dev, value, chip)
  if band(dev.lcr, DLAB) ~= 0 then
    dev.divisor = bor(band(dev.divisor, 0xff00), value)
    return
  end
  if dev.tx.n >= deepness(dev, chip) then pop(dev.tx) end -- the oldest character is lost
  push(dev.tx, value)
  dev.thr_empty = false
end

write[1] = function(dev, value)
  if band(dev.lcr, DLAB) ~= 0 then
    dev.divisor = bor(band(dev.divisor, 0xff), lshift(value, 8))
    return
  end
  -- Switching it on with the register empty interrupts at once.
  if band(value, ETBEI) ~= 0 and band(dev.ier, ETBEI) == 0 and dev.tx.n == 0 then dev.thr_empty = true end
  dev.ier = band(value, 0xf)
end

write[2] = function(dev, value, chip)
  if chip.fifo == 0 then return end
  if band(bit.bxor(value, dev.fcr), 1) ~= 0 then value = bor(value, 6) end -- a change empties both
  if band(value, 2) ~= 0 then
    clear(dev.rx)
    dev.timeout = false
  end
  if band(value, 4) ~= 0 then
    clear(dev.tx)
    dev.thr_empty = true
  end
  dev.fcr = band(value, 1) ~= 0 and band(value, 0xc9) or 0
end

write[3] = function(dev, value, chip)
  if band(value, SET_BREAK) ~= 0 and band(dev.lcr, SET_BREAK) == 0 then
    if band(dev.mcr, LOOP) ~= 0 then received(dev, chip, lshift(BI, 8)) else dev.far.breaks = dev.far.breaks + 1 end
  end
  dev.lcr = value
end

write[4] = function(dev, value, chip)
  dev.mcr = band(value, chip.afe and 0x3f or 0x1f)
  update_modem_lines(dev)
end

write[5] = function() end
write[6] = function() end
write[7] = function(dev, value) dev.scr = value end

local function unpack_bytes(value) -- a uint64_t
  local n, list = tonumber(value % 256), {}
  for i = 1, math.min(n, 7) do
    value = value / 256
    list[i] = tonumber(value % 256)
  end
  return list
end

far_write[0x00] = function(dev, value)
  for _, byte in ipairs(unpack_bytes(value)) do
    if dev.far.out.n >= MEMORY then dev.far.lost = dev.far.lost + 1 else push(dev.far.out, byte) end
  end
end
-- 0x100, 0x200, 0x400 where the chip has PE, FE, BI, eight bits higher. A break is a character 0.
far_write[0x08] = function(dev, value)
  local flags = (band(value, 0x100) ~= 0 and PE or 0) + (band(value, 0x200) ~= 0 and FE or 0) + (band(value, 0x400) ~= 0 and BI or 0)
  push(dev.far.out, bor(lshift(flags, 8), band(value, 0x400) ~= 0 and 0 or band(value, 0xff)))
end
far_write[0x20] = function(dev, value) dev.far.control, dev.far.held = value, false end
far_write[0x24] = function(dev, value)
  dev.lines = band(value, 0xf)
  update_modem_lines(dev)
end
far_write[0x3c] = function(dev, value) dev.clock = value end

far_read[0x10] = function(dev)
  local got, value = dev.far.got, 0ULL
  local n = math.min(got.n, 7)
  for i = 1, n do value = value + pop(got) * 256ULL ^ i end
  return value + n
end
far_read[0x18] = function(dev) return dev.far.out.n + (dev.arriving and 1 or 0) end
far_read[0x1c] = function(dev) return dev.far.got.n end
far_read[0x20] = function(dev) return dev.far.control end
far_read[0x24] = function(dev) return dev.lines end
far_read[0x28] = function(dev)
  if band(dev.mcr, LOOP) ~= 0 then return 0 end -- 8.6.7: the pins are inactive
  return bor(band(dev.mcr, bor(DTR, 0xc)), rts(dev) and RTS or 0, band(dev.lcr, SET_BREAK) ~= 0 and 0x10 or 0)
end
far_read[0x2c] = function(dev) return dev.far.breaks end
far_read[0x30] = function(dev) return dev.far.format end
far_read[0x34] = function(dev) return dev.far.baud end
far_read[0x38] = function(dev) return dev.far.lost end
far_read[0x3c] = function(dev) return dev.clock end

--- A model of a chip.
---@param chip { fifo: integer, afe: boolean }  characters in each FIFO, 0: it has none; automatic RTS and CTS
---@return table
return function(chip)
  local model = {
    pci = { vendor = 0x1b36, device = 0x0002, class = 0x070002, revision = 0x01 },
    vectors = 1,
    regions = { [0] = { size = 8 }, { size = 0x40 } },
  }

  function model.reset(dev)
    dev.ier, dev.fcr, dev.lcr, dev.mcr, dev.scr, dev.divisor = 0, 0, 0, 0, 0, 12
    dev.rx, dev.tx, dev.time, dev.touched, dev.clock = queue(), queue(), dev.now(), 0, 1843200
    dev.lines, dev.inputs, dev.delta = 0xb, 0xb, 0 -- a peer that is there: CTS, DSR, DCD
    dev.overrun, dev.timeout, dev.thr_empty, dev.asserted, dev.withheld = false, false, false, false, false
    dev.far = { out = queue(), got = queue(), control = ECHO + OBEYS_RTS, breaks = 0, format = 0, baud = 0, lost = 0 }
  end

  function model.read(dev, offset, width, region)
    local access = (region == 0 and read or far_read)[offset]
    if not access or region == 0 and width ~= 8 then return width == 64 and 0xffffffffffffffffULL or 2 ^ width - 1 end
    advance(dev, chip)
    local value = access(dev)
    advance(dev, chip)
    update_interrupt(dev)
    arm(dev, chip)
    return value
  end

  function model.write(dev, offset, width, value, region)
    local access = (region == 0 and write or far_write)[offset]
    if not access or region == 0 and width ~= 8 then return end
    advance(dev, chip)
    access(dev, value, chip)
    advance(dev, chip)
    update_interrupt(dev)
    arm(dev, chip)
  end

  return model
end
