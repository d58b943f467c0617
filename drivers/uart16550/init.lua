--- UARTs that are compatible with the 16450 and 16550: QEMU's "pci-serial", and devices that a UIO driver of one's own
--- calls "uart16550" (I/O ports or memory, eight registers of a byte each).
---
--- Sections are those of the PC16550D datasheet (SNLS378C); comments name the additions of the TL16C550C. Programs use it
--- through luio.serial. No top half: the line is taken back only when Lua empties or fills the FIFO, so the interrupt stays
--- masked until then (luio.serial's `listen`).

local bit = require "bit"
local luio = require "luio"
local serial = require "luio.serial"

local band, bor, rshift = bit.band, bit.bor, bit.rshift

local uart16550 = {
  name = "uart16550",
  match = { { pci = "1b36:0002" }, { uio = "uart16550" } },
  registers = require "drivers.uart16550.registers",
  irq = { unmask = false },
}

local CLOCK = 1843200 -- Hz: sixteen times 115200
local TRIGGER, LEVEL = "BYTES_8", 8 -- FCR.RCVR_TRIGGER: as much room again for what comes while Lua is on its way
local WRONG = 0.03 -- of the speed: more than half a bit in a character is read wrongly
local DEEPEST = 256 -- characters in a FIFO

-- LSR (8.6.3), IER (8.6.6), IIR (8.6.5): where each character counts, registers are numbers.
local DR, OE, PE, FE, BI, THRE, TEMT, FIFO_ERROR = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80
local ERBFI, ETBEI, ELSI, EDSSI = 0x01, 0x02, 0x04, 0x08
local RECEIVED_DATA = 0x04
local ONES = 0xff -- the value of a read that no chip answers; IER has bits that are always 0 (8.6.6)

local PARITY = {
  none = { PEN = 0, EPS = "ODD", STICK_PARITY = 0 }, odd = { PEN = 1, EPS = "ODD", STICK_PARITY = 0 },
  even = { PEN = 1, EPS = "EVEN", STICK_PARITY = 0 }, mark = { PEN = 1, EPS = "ODD", STICK_PARITY = 1 },
  space = { PEN = 1, EPS = "EVEN", STICK_PARITY = 1 },
}

-- ---- The probe -----------------------------------------------------------------------------------

-- Sends a character in the loop and waits until it is through; the LSR bits seen meanwhile.
local function loop_character(regs, value)
  local seen, deadline = 0, luio.now() + 0.5
  regs.THR:write(value)
  repeat
    local over = luio.now() > deadline -- before the last look: another process may have had the processor since
    seen = bor(seen, regs.LSR:read())
    if band(seen, TEMT) ~= 0 then return seen end
  until over
  return nil, "the transmitter does not empty in loopback", "EIO"
end

-- Characters that the receive FIFO holds: as many as go in before one is lost. The transmitter's has as many.
local function fifo_depth(regs)
  regs.LCR:write { DLAB = "DIVISOR" }
  regs.DLL:write(1)
  regs.DLM:write(0)
  regs.LCR:write { WLS = "BITS_8" }
  local n = 0
  repeat
    local seen, message, code = loop_character(regs, 0x55)
    if not seen then return nil, message, code end
    n = n + 1
  until band(seen, OE) ~= 0 or n > DEEPEST
  local depth = 0
  while band(regs.LSR:read(), DR) ~= 0 and depth <= DEEPEST do
    regs.RBR:read()
    depth = depth + 1
  end
  return depth
end

-- Whether there is a UART, and which. Interrupts are off, in and out of the loop nothing is heard or said.
local function identify(regs)
  regs.LCR:write { WLS = "BITS_8" } -- first: the previous user may have left the divisor in IER's place
  regs.IER:write(0)
  regs.FCR:write(0)
  local loop = { LOOP = 1, RTS = 1, OUT2 = 1 }
  regs.MCR:write(loop)
  local msr, ier = regs.MSR:read(), regs.IER:read()
  -- 8.6.7: RTS comes back as CTS, OUT2 as DCD.
  if band(msr, 0xf0) ~= 0x90 or ier ~= 0 then
    return nil, ("no UART answers: MSR is 0x%02x in loopback, not 0x9., IER 0x%02x, not 0"):format(msr, ier), "ENODEV"
  end
  loop.AFE = 1
  regs.MCR:write(loop)
  local chip = { auto_flow = regs.MCR:get "AFE" == 1, fifo = 1 }
  regs.MCR:write { LOOP = 1 }
  regs.FCR:write { FIFO_ENABLE = 1, RCVR_FIFO_RESET = 1, XMIT_FIFO_RESET = 1 }
  local fifos = regs.IIR:get "FIFOS"
  if fifos == 3 then
    local message, code
    chip.fifo, message, code = fifo_depth(regs)
    if not chip.fifo then return nil, message, code end
    chip.kind = chip.auto_flow and "16550C" or chip.fifo == 16 and "16550A" or "16550A-like"
  else
    regs.FCR:write(0) -- the first 16550's can't be used (map: IIR.FIFOS)
    chip.kind = fifos == 0 and "16450" or "16550"
  end
  return chip
end

-- ---- Setting it (8.5, 8.6.2) ---------------------------------------------------------------------

-- The divisor for a speed, where there is one that is near enough.
local function divisor_of(clock, baud)
  local divisor = math.max(1, math.min(65535, math.floor(clock / 16 / baud + 0.5)))
  local got = clock / 16 / divisor
  if math.abs(got - baud) / baud <= WRONG then return divisor end
  local other = got > baud and divisor + 1 or divisor - 1
  return nil, ("%d baud can't be had from %d Hz: %.0f%s"):format(baud, clock, got,
    other >= 1 and other <= 65535 and (" or %.0f"):format(clock / 16 / other) or " is its limit"), "EINVAL"
end

-- With the divisor latch open there is no way to RBR, THR and IER: no other code may run meanwhile, and none does,
-- because there is no top half.
local function set_line(regs, divisor, line)
  local lcr = { WLS = line.bits - 5, STB = line.stop == 1 and "STOP_1" or "STOP_2", DLAB = "DIVISOR" }
  for field, value in pairs(PARITY[line.parity]) do lcr[field] = value end
  regs.LCR:write(lcr)
  regs.DLL:write(band(divisor, 0xff))
  regs.DLM:write(rshift(divisor, 8))
  lcr.DLAB = "DATA"
  regs.LCR:write(lcr)
end

-- From nothing to a line that works.
local function bring_up(regs, clock, line)
  local chip, message, code = identify(regs)
  if not chip then return nil, message, code end
  local divisor
  divisor, message, code = divisor_of(clock, line.baud)
  if not divisor then return nil, message, code end
  set_line(regs, divisor, line)
  if chip.fifo > 1 then
    regs.FCR:write { FIFO_ENABLE = 1, RCVR_FIFO_RESET = 1, XMIT_FIFO_RESET = 1, RCVR_TRIGGER = TRIGGER }
  end
  for _, name in ipairs { "LSR", "RBR", "IIR", "MSR" } do regs[name]:read() end -- discards data and causes from before the start
  return chip
end

-- ---- The port ------------------------------------------------------------------------------------

-- The offer to luio.serial (luio.serial.Offer). `state` is kept over reloads.
local function offer(dev, state)
  local regs, chip, counts = dev.regs, state.chip, state.counts
  local RBR, THR, LSR, IIR, IER, MSR = regs.RBR, regs.THR, regs.LSR, regs.IIR, regs.IER, regs.MSR
  local options = serial.options(dev)
  local clock, loopback = options.clock or CLOCK, options.loopback and 1 or 0
  local fifo, COUNT, armed = chip.fifo, serial.COUNT, nil

  -- Whether the chip is there at all. Said once; a register of an absent device must not count as characters.
  local silent
  local function answers()
    if IER:read() ~= ONES then
      silent = nil
      return true
    end
    if not silent then
      dev:warn(("%s does not answer, its registers read as all ones: it is gone, asleep (D3), or its memory or ports are switched "
        .. "off in the command register"):format(dev.address))
    end
    silent = true
    return false
  end

  -- LSR, whose reading clears what it says of the next character: kept until that is taken.
  local function status()
    local lsr = LSR:read()
    if lsr == ONES and not answers() then return 0 end
    if band(lsr, OE) ~= 0 then counts.overruns = counts.overruns + 1 end
    lsr = bor(lsr, state.seen)
    state.seen = band(lsr, bor(PE, FE, BI))
    return lsr
  end

  -- A character that something is wrong with; nil: it is none, but a break.
  local function marked(lsr, byte)
    state.seen = 0
    if band(lsr, BI) ~= 0 then
      counts.breaks = counts.breaks + 1
      -- QEMU says so as soon as the break has come, not when it is its turn.
      return byte ~= 0 and byte or nil
    end
    if band(lsr, PE) ~= 0 then counts.parity = counts.parity + 1 end
    if band(lsr, FE) ~= 0 then counts.framing = counts.framing + 1 end
    return byte
  end

  local function receive(into, most)
    local bytes, mask, head, before = into.bytes, into.mask, into.head, into.head
    local left, by_level = most, fifo > 1
    while left > 0 do
      local lsr, n = status(), 1
      if band(lsr, DR) == 0 then break end
      if band(lsr, bor(PE, FE, BI)) ~= 0 then
        local byte = marked(lsr, RBR:read())
        if byte then
          bytes[band(head, mask)] = byte
          head = head + 1
        end
      else
        -- 8.6.5: at the trigger level so many are there; and if LSR says so after that, none of them is marked: no need to ask
        -- for each. An earlier value does not count: some of the characters may have come since.
        if by_level and band(lsr, FIFO_ERROR) == 0 and left >= LEVEL then
          by_level = band(IIR:read(), 0xf) == RECEIVED_DATA
          if by_level and band(status(), FIFO_ERROR) == 0 then n = LEVEL end
        end
        if n == 1 then
          bytes[band(head, mask)] = RBR:read()
        else
          local at = band(head, mask)
          local first = math.min(n, mask + 1 - at)
          RBR:read_many(bytes + at, first)
          if first < n then RBR:read_many(bytes, n - first) end
        end
        head = head + n
      end
      left = left - n
    end
    into.head = band(head, COUNT)
    return head - before
  end

  -- 8.6.3: with THRE the whole FIFO is free. In the loop only as much is given as the receiver has room for, whenever that is
  -- emptied: its FIFO may hold earlier characters, and one more is in the shift register.
  local burst = loopback == 0 and fifo or math.max(1, math.floor(fifo / 4))
  local free = burst == 1 and loopback == 1 and TEMT or THRE
  local function send(from)
    if band(status(), free) == 0 then return 0 end
    local n, bytes, mask, tail = math.min(burst, from:used()), from.bytes, from.mask, from.tail
    local at = band(tail, mask)
    local first = math.min(n, mask + 1 - at)
    THR:write_many(bytes + at, first)
    if first < n then THR:write_many(bytes, n - first) end
    from.tail = band(tail + n, COUNT)
    return n
  end

  local function arm(receives, sends, again)
    local ier = bor(EDSSI, receives and bor(ERBFI, ELSI) or 0, sends and ETBEI or 0)
    if ier == armed and not again then return end
    armed = ier
    IER:write(ier)
  end

  local function idle() return band(status(), TEMT) ~= 0 end

  local function set_lines(dtr, rts, out2)
    regs.MCR:write {
      DTR = dtr and 1 or 0, RTS = rts and 1 or 0, OUT2 = out2 and 1 or 0, LOOP = loopback, AFE = state.auto and loopback == 0 and 1 or 0,
    }
  end

  local function configure(line)
    local divisor, message, code = divisor_of(clock, line.baud)
    if not divisor then return nil, message, code end
    -- Bytes in the FIFO go out with the old settings. If CTS holds them, or the loop is broken, they go out with the new
    -- ones.
    serial.wait_idle(dev, fifo, idle)
    set_line(regs, divisor, line)
    state.auto = chip.auto_flow and line.flow == "rts/cts"
    return true
  end

  return {
    kind = chip.kind, fifo = fifo, auto_flow = chip.auto_flow and loopback == 0, counts = counts,
    receive = receive, send = send, arm = arm, idle = idle, set_lines = set_lines, configure = configure,
    lines = function()
      local msr = MSR:read() -- 8.6.8
      if msr == ONES and not answers() then return 0, 0 end
      return rshift(msr, 4), band(msr, 0xf)
    end,
    set_break = function(on) regs.LCR:update { SET_BREAK = on and 1 or 0 } end,
  }
end

-- ---- The driver's life ---------------------------------------------------------------------------

function uart16550.start(dev, reason)
  local state = dev.state
  if reason ~= "reload" or not state.chip then
    local line = serial.settings(dev)
    local chip, message, code = bring_up(dev.regs, serial.options(dev).clock or CLOCK, line)
    if not chip then return nil, message, code end
    state.chip, state.seen = chip, 0
    state.auto = chip.auto_flow and line.flow == "rts/cts"
    state.counts = state.counts or { overruns = 0, framing = 0, parity = 0, breaks = 0 }
  end
  return serial.serve(dev, offer(dev, state))
end

function uart16550.stop(dev)
  local regs = dev.regs
  regs.IER:write(0)
  regs.LCR:update { SET_BREAK = 0 }
  regs.MCR:write(0) -- who is at the other end sees us leave
end

return uart16550
