--- ARM's UART PL011 (ARM DDI 0183), which most ARM boards have. Programs use it through luio.serial.
---
--- Each character comes with what was wrong with it, so a full FIFO is read in one go. No top half: the line is taken back only when Lua
--- empties or fills a FIFO, so the interrupt stays masked until then (luio.serial's `listen`).
---
--- The transmit interrupt comes when the FIFO falls below a level, so it comes only after the FIFO was filled. In the loop, where no more
--- may be under way than the receiver has room for, the character that comes back is what lets the next one go.

local bit = require "bit"
local ffi = require "ffi"
local serial = require "luio.serial"

local band, bor, rshift = bit.band, bit.bor, bit.rshift

local pl011 = { name = "pl011", match = { of = "arm,pl011" }, registers = require "drivers.pl011.registers", irq = { unmask = false } }

local PART, DESIGNER = 0x011, 0x41 -- in UARTPeriphID; 0x41 is ARM
local CLOCK = 24000000 -- Hz: UARTCLK of ARM's boards
local DEEP = 3 -- revision from which a FIFO has 32 characters, not 16
local WRONG = 0.03 -- of the speed: more than half a bit in a character is read wrongly

-- UARTFR (3.3.3), UARTDR (3.3.1), UARTIMSC and its like (3.3.10): where each character counts, registers are numbers.
local CTS, DSR, DCD, BUSY, RXFE, TXFF, RXFF, TXFE, RI = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x100
local FE, PE, BE, WRONG_CHARACTER = 0x100, 0x200, 0x400, 0x700
local RIM, CTSM, DCDM, DSRM, RX, TX, RT, OE = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x400
local MODEM, ALL = 0x0f, 0x7ff
local FLAGS = 0x1ff -- a device that is not there reads as more

local PARITY = {
  none = {}, odd = { PEN = 1 }, even = { PEN = 1, EPS = "EVEN" }, mark = { PEN = 1, SPS = 1 }, space = { PEN = 1, EPS = "EVEN", SPS = 1 },
}

-- ---- Setting it ----------------------------------------------------------------------------------

local function identify(regs)
  local low, middle, high = regs.UARTPeriphID0:read(), regs.UARTPeriphID1:read(), regs.UARTPeriphID2:read()
  local id1, id2 = regs.UARTPeriphID1:decode(middle), regs.UARTPeriphID2:decode(high)
  local part, designer = band(low, 0xff) + id1.PARTNUMBER1 * 0x100, id1.DESIGNER0 + id2.DESIGNER1 * 0x10
  if part ~= PART or designer ~= DESIGNER then
    return nil, ("UARTPeriphID says part 0x%03x of designer 0x%02x, not 0x%03x of 0x%02x"):format(part, designer, PART, DESIGNER), "ENODEV"
  end
  return id2.REVISION >= DEEP and 32 or 16
end

-- 3.3.6: the clock is divided by 16, and by a number with a fraction of 64ths.
local function divisor_of(clock, baud)
  local least, most = 64, 65535 * 64
  local divisor = math.max(least, math.min(most, math.floor(clock * 4 / baud + 0.5)))
  local got = clock * 4 / divisor
  if math.abs(got - baud) / baud <= WRONG then return divisor end
  return nil, ("%d baud can't be had from %d Hz: %.0f is its limit"):format(baud, clock, got), "EINVAL"
end

-- 3.3.8: while it is off; UARTLCR_H last.
local function set_line(regs, divisor, line)
  regs.UARTIBRD:write(rshift(divisor, 6))
  regs.UARTFBRD:write(band(divisor, 63))
  local lcr = { WLEN = line.bits - 5, STP2 = line.stop == 1 and 0 or 1, FEN = 1 } -- it has no 1.5: the other end sees one at least
  for field, value in pairs(PARITY[line.parity]) do lcr[field] = value end
  regs.UARTLCR_H:write(lcr)
end

-- ---- The port ------------------------------------------------------------------------------------

-- The offer to luio.serial (luio.serial.Offer). `state` is kept over reloads.
local function offer(dev, state)
  local regs, fifo, counts, options = dev.regs, state.fifo, state.counts, serial.options(dev)
  local DR, FR, RIS, ICR, IMSC = regs.UARTDR, regs.UARTFR, regs.UARTRIS, regs.UARTICR, regs.UARTIMSC
  local clock, loopback, COUNT, armed = options.clock or CLOCK, options.loopback, serial.COUNT, nil
  local words = ffi.new("uint32_t[?]", fifo)

  local silent
  local function flags()
    local value = FR:read()
    if value <= FLAGS then
      silent = nil
      return value
    end
    if not silent then dev:warn(dev.address .. " does not answer, its registers read as ones: is its clock off, or is it gone?") end
    silent = true
    return bor(RXFE, TXFF)
  end

  -- Whether a character is one; a break is none.
  local function counted(word)
    if band(word, BE) ~= 0 then
      counts.breaks = counts.breaks + 1
      return false
    end
    if band(word, PE) ~= 0 then counts.parity = counts.parity + 1 end
    if band(word, FE) ~= 0 then counts.framing = counts.framing + 1 end
    return true
  end

  local function receive(into, most)
    local bytes, mask, head, left = into.bytes, into.mask, into.head, most
    local before = head
    while left > 0 do
      local fr = flags()
      if band(fr, RXFE) ~= 0 then break end
      local full = band(fr, RXFF) ~= 0
      local n = full and math.min(fifo, left) or 1
      DR:read_many(words, n)
      for i = 0, n - 1 do
        local word = words[i]
        if band(word, WRONG_CHARACTER) == 0 or counted(word) then
          bytes[band(head, mask)] = band(word, 0xff)
          head = head + 1
        end
      end
      left = left - n
      -- 3.3.2: said as soon as a character found no room. Only this code makes room, so the FIFO was full when it was looked at.
      if full and band(RIS:read(), OE) ~= 0 then
        counts.overruns = counts.overruns + 1
        ICR:write(OE)
      end
    end
    into.head = band(head, COUNT)
    state.under_way = math.max(0, state.under_way - (head - before))
    return head - before
  end

  -- How many characters may go out now.
  local function room()
    local fr = flags()
    if loopback then return fr <= FLAGS and fifo - state.under_way or 0 end
    return band(fr, TXFE) ~= 0 and fifo or band(fr, TXFF) ~= 0 and 0 or 1
  end

  -- One FIFO at most, so that others have their turn where the FIFO never fills (QEMU's).
  local function send(from)
    local bytes, mask, tail, sent = from.bytes, from.mask, from.tail, 0
    while sent < fifo do
      local n = math.min(room(), fifo - sent, from:used() - sent)
      if n <= 0 then break end
      for i = 0, n - 1 do words[i] = bytes[band(tail + i, mask)] end
      DR:write_many(words, n)
      tail, sent = tail + n, sent + n
      if loopback then state.under_way = state.under_way + n end
    end
    from.tail = band(tail, COUNT)
    return sent
  end

  local function arm(receives, sends, again)
    local causes = bor(MODEM, receives and bor(RX, RT) or 0, sends and not loopback and TX or 0)
    if causes == armed and not again then return end
    armed = causes
    IMSC:write(causes)
  end

  local function idle() return band(flags(), bor(TXFE, BUSY)) == TXFE end

  -- 3.3.8. In the loop Out1 is DCD, and Out2 RI.
  local function set_lines(dtr, rts, out2)
    state.lines = { dtr, rts, out2 }
    local auto = state.auto and not loopback and 1 or 0
    regs.UARTCR:write {
      UARTEN = 1, TXE = 1, RXE = 1, DTR = dtr and 1 or 0, RTS = rts and 1 or 0, Out1 = out2 and 1 or 0, Out2 = 0, LBE = loopback and 1 or 0,
      RTSEn = auto, CTSEn = auto,
    }
  end

  local function configure(line)
    local divisor, message, code = divisor_of(clock, line.baud)
    if not divisor then return nil, message, code end
    -- Characters in the FIFO go out with the old settings. If CTS holds them, they are lost.
    serial.wait_idle(dev, fifo, idle)
    state.auto, state.under_way = line.flow == "rts/cts", 0
    regs.UARTCR:update { UARTEN = 0 }
    set_line(regs, divisor, line)
    set_lines(unpack(state.lines))
    return true
  end

  return {
    kind = "PL011", fifo = fifo, auto_flow = not loopback, counts = counts,
    receive = receive, send = send, arm = arm, idle = idle, set_lines = set_lines, configure = configure,
    lines = function()
      local raw, fr = band(RIS:read(), MODEM), flags()
      if raw ~= 0 then ICR:write(raw) end
      local function order(value, cts, dsr, ri, dcd)
        return (band(value, cts) ~= 0 and 1 or 0) + (band(value, dsr) ~= 0 and 2 or 0) + (band(value, ri) ~= 0 and 4 or 0)
          + (band(value, dcd) ~= 0 and 8 or 0)
      end
      return order(fr, CTS, DSR, RI, DCD), order(raw, CTSM, DSRM, RIM, DCDM)
    end,
    set_break = function(on) regs.UARTLCR_H:update { BRK = on and 1 or 0 } end,
  }
end

-- ---- The driver's life ---------------------------------------------------------------------------

-- Whether a character comes back in the loop: QEMU's UART before 8.2 has none.
local function loops(regs)
  regs.UARTCR:write { UARTEN = 1, TXE = 1, RXE = 1, LBE = 1 }
  regs.UARTDR:write(0x55)
  local ok = regs.UARTFR:wait({ RXFE = 0 }, 0.5)
  if not ok then return nil, "loopback: no character comes back: this UART has none", "ENOTSUP" end
  regs.UARTDR:read()
  return true
end

-- From nothing to a line that works.
local function bring_up(dev, line)
  local regs, options = dev.regs, serial.options(dev)
  local fifo, message, code = identify(regs)
  if not fifo then return nil, message, code end
  local divisor
  divisor, message, code = divisor_of(options.clock or CLOCK, line.baud)
  if not divisor then return nil, message, code end
  regs.UARTIMSC:write(0)
  regs.UARTCR:write(0)
  regs.UARTLCR_H:write(0) -- empties the FIFOs
  set_line(regs, divisor, line)
  regs.UARTIFLS:write { RXIFLSEL = "HALF", TXIFLSEL = "HALF" }
  if options.loopback then
    local ok
    ok, message, code = loops(regs)
    if not ok then
      regs.UARTCR:write(0)
      return nil, message, code
    end
  end
  regs.UARTICR:write(ALL)
  regs.UARTCR:write { UARTEN = 1, TXE = 1, RXE = 1, LBE = options.loopback and 1 or 0 }
  return fifo
end

function pl011.start(dev, reason)
  local state = dev.state
  if reason ~= "reload" or not state.fifo then
    local line = serial.settings(dev)
    local fifo, message, code = bring_up(dev, line)
    if not fifo then return nil, message, code end
    state.fifo, state.under_way, state.lines = fifo, 0, { false, false, false }
    state.auto = line.flow == "rts/cts"
    state.counts = state.counts or { overruns = 0, framing = 0, parity = 0, breaks = 0 }
  end
  return serial.serve(dev, offer(dev, state))
end

function pl011.stop(dev)
  local regs = dev.regs
  regs.UARTIMSC:write(0)
  regs.UARTLCR_H:update { BRK = 0 }
  regs.UARTCR:write(0) -- the other end sees us leave
end

return pl011
