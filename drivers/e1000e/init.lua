--- Intel 82574L (QEMU's "e1000e") and 82540EM (QEMU's "e1000"): Gigabit Ethernet, one queue each way.
---
--- Sections are those of the "82574 GbE Controller Family Datasheet"; 4.6 is the order of things at the start. Comments
--- name the differences of the older 82540EM ("8254x Family of Gigabit Ethernet Controllers Software Developer's Manual").
---
--- Programs use it through luio.net. Interrupts for packets are off until a task waits (IMS), and off again with the
--- first (the top half writes IMC): so they come once per wait, however fast the packets, and need no throttling.

local bit = require "bit"
local luio = require "luio"
local net = require "luio.net"
local ring = require "drivers.e1000e.ring"
local stats = require "drivers.e1000e.stats"

-- ICR, IMS, IMC (10.2.4)
local TXDW, LSC, RXDMT0, RXO, RXT0 = 0x01, 0x04, 0x10, 0x40, 0x80
local RECEIVED, SENT = RXT0 + RXO + RXDMT0, TXDW

local e1000e = {
  name = "e1000e",
  match = { { pci = "8086:10d3" }, { pci = "8086:100e" } },
  registers = require "drivers.e1000e.registers",
  -- Reading ICR acknowledges, and drops the line (10.2.4.1).
  irq = { capture = "ICR", ack = { { "IMC", RECEIVED + SENT } } },
  dma = { bits = 64 },
}

local CARD = { [0x10d3] = "82574L", [0x100e] = "82540EM" }
local RING, JUMBO_RING = 512, 256 -- descriptors
local SPARE, JUMBO_SPARE = 1024, 256 -- packets that are in no ring
local MAX_MTU = 9216

-- RCTL.BSIZE and BSEX (10.2.5.1): a frame is in one buffer.
local BUFFERS = {
  { size = 2048, BSIZE = "SIZE_2048", BSEX = 0 },
  { size = 4096, BSIZE = "SIZE_4096_WITH_BSEX", BSEX = 1 },
  { size = 8192, BSIZE = "SIZE_8192_WITH_BSEX", BSEX = 1 },
  { size = 16384, BSIZE = "SIZE_16384_WITH_BSEX", BSEX = 1 },
}

local function buffer_for(mtu)
  for _, buffer in ipairs(BUFFERS) do
    if buffer.size >= mtu + 18 then return buffer end
  end
end

-- ---- Bringing it up (4.6) ------------------------------------------------------------------------

-- 4.6.3: interrupts off, reset, and off again, because the reset lets them through.
local function reset(regs)
  regs.IMC:write(0xffffffff)
  regs.RCTL:write { EN = 0 }
  regs.TCTL:update { EN = 0 }
  regs.CTRL:update { RST = 1 }
  luio.sleep(0.001) -- 1 us, and the configuration space is not to be touched meanwhile
  local done, message, code = regs.CTRL:wait({ RST = 0 }, 1)
  if not done then return nil, "reset: " .. message, code end
  regs.IMC:write(0xffffffff)
  regs.ICR:read()
  return true
end

-- A word of the NVM (10.2.2.4); the 82540EM has the fields elsewhere.
local function nvm_word(regs, card, address)
  local eerd = card == "82574L" and regs.EERD or regs.EERD_82540EM
  eerd:write { START = 1, ADDR = address }
  local done, message, code = eerd:wait({ DONE = 1 }, 0.1)
  if not done then return nil, "NVM: " .. message, code end
  return eerd:get "DATA"
end

-- The address is loaded from the NVM into RAL[0] and RAH[0] at the reset (10.2.5.22); where it was not, it is read.
local function own_address(regs, card)
  local low, high = regs.RAL[0]:read(), regs.RAH[0]:read()
  if bit.band(high, 0x80000000) == 0 then
    local words = {}
    for i = 0, 2 do
      local word, message, code = nvm_word(regs, card, i)
      if not word then return nil, message, code end
      words[i] = word
    end
    low, high = words[1] * 65536 + words[0], words[2]
    regs.RAL[0]:write(low)
    regs.RAH[0]:write { RAH = high, AV = 1 }
  end
  local bytes = {}
  for i = 0, 5 do bytes[i + 1] = string.char(bit.band(bit.rshift(i < 4 and low or high, i % 4 * 8), 0xff)) end
  return net.mac_text(table.concat(bytes))
end

-- PHY register 0 (10.2.2.7): bit 14 is its loopback. No reset of the device touches it, so it is taken out, too.
local function phy_loopback(regs, on)
  regs.MDIC:write { REGADD = 0, PHYADD = 1, OP = "READ" }
  local ok, message, code = regs.MDIC:wait({ R = 1 }, 0.1)
  if not ok then return nil, "PHY: " .. message, code end
  local before = regs.MDIC:get "DATA"
  local control = on and bit.bor(before, 0x4000) or bit.band(before, 0xbfff)
  if control == before then return true end
  regs.MDIC:write { REGADD = 0, PHYADD = 1, OP = "WRITE", DATA = control }
  ok, message, code = regs.MDIC:wait({ R = 1 }, 0.1)
  if not ok then return nil, "PHY: " .. message, code end
  return true
end

-- Where a ring is: base, length, and an empty head and tail.
local function place(parts, low, high, length, head, tail)
  low:write(parts.buffer.iova % 2 ^ 32)
  high:write(math.floor(parts.buffer.iova / 2 ^ 32))
  length:write(parts.count * 16)
  head:write(0)
  tail:write(0)
end

-- RCTL without the filters.
local function receive_control(port)
  local buffer = buffer_for(port.mtu)
  return {
    EN = 1, BAM = 1, SECRC = 1, BSIZE = buffer.BSIZE, BSEX = buffer.BSEX, LPE = port.mtu > 1500 and 1 or 0,
    LBM = port.loopback and port.card == "82574L" and "MAC" or "NONE",
    UPE = port.promiscuous and 1 or 0, MPE = (port.promiscuous or port.multicast == "all") and 1 or 0,
  }
end

-- Multicast addresses are looked up by 12 bits of them: 47 to 36, RCTL.MO 0 (10.2.5.21).
local function multicast_table(regs, port)
  local words = {}
  for i = 0, 127 do words[i] = 0 end
  for _, address in ipairs(type(port.multicast) == "table" and port.multicast or {}) do
    local low, high = address:byte(5, 6)
    local hash = bit.rshift(high * 256 + low, 4)
    local word = bit.rshift(hash, 5)
    words[word] = bit.bor(words[word], bit.lshift(1, bit.band(hash, 31)))
  end
  for i = 0, 127 do regs.MTA[i]:write(words[i] % 2 ^ 32) end
end

-- Registers that a reset sets to 0. QEMU's reset leaves them as the former driver had them: the kernel's e1000e has
-- extended descriptors, RSS, and its own ways with interrupts.
local function plain(regs, card)
  for _, name in ipairs { "RDTR", "RADV", "TIDV", "TADV" } do regs[name]:write(0) end
  if card ~= "82574L" then return end
  for _, name in ipairs { "RFCTL", "MRQC", "EIAC", "IAM" } do regs[name]:write(0) end
  regs.CTRL_EXT:update { IAME = 0, EIAME = 0 }
end

-- 4.6.5. The tail is written last, after EN: 10.2.5.9.
local function receiver(regs, port, rx)
  multicast_table(regs, port)
  place(port.rx, regs.RDBAL[0], regs.RDBAH[0], regs.RDLEN[0], regs.RDH[0], regs.RDT[0])
  regs.RXCSUM:write { TUOFLD = port.rx_checksum and 1 or 0, IPOFLD = port.rx_checksum and 1 or 0 }
  regs.RCTL:write(receive_control(port))
  rx:start()
end

-- 4.6.6; the values of TIPG and TCTL are the ones it asks for, full duplex.
local function transmitter(regs, port, tx)
  place(port.tx, regs.TDBAL[0], regs.TDBAH[0], regs.TDLEN[0], regs.TDH[0], regs.TDT[0])
  regs.TXDCTL[0]:update { COUNT_DESC = port.card == "82574L" and 1 or 0, GRAN = "DESCRIPTORS" }
  regs.TIPG:write { IPGT = 8, IPGR1 = 8, IPGR2 = 6 }
  regs.TCTL:write { EN = 1, PSP = 1, CT = 0x0f, COLD = 0x3f }
  tx:start()
end

-- From a reset to frames on the wire, with the rings there are.
local function bring_up(regs, port, rx, tx)
  local ok, message, code = reset(regs)
  if not ok then return nil, message, code end
  port.mac, message, code = own_address(regs, port.card)
  if not port.mac then return nil, message, code end
  -- 4.6.7: the PHY finds speed and duplex. More registers that a reset sets to 0, and QEMU's does not: no tag is taken out of a
  -- frame, and no PAUSE frame sent or heeded.
  regs.CTRL:update { SLU = 1, ASDE = 0, ILOS = 0, FRCSPD = 0, FRCDPLX = 0, VME = 0, RFCE = 0, TFCE = 0 }
  ok, message, code = phy_loopback(regs, port.loopback and port.card ~= "82574L")
  if not ok then return nil, message, code end
  plain(regs, port.card)
  regs.ITR:write(port.interval)
  receiver(regs, port, rx)
  transmitter(regs, port, tx)
  regs.IMS:write(LSC)
  return true
end

-- ---- Parts of a port -----------------------------------------------------------------------------

-- Rings, pool and settings, as the port was asked for.
local function new_port(dev, options)
  local mtu = options.mtu or 1500
  if not (mtu % 1 == 0 and mtu >= 68 and mtu <= MAX_MTU) then
    return nil, ("%s: mtu is 68 to %d, not %s"):format(dev.address, MAX_MTU, mtu), "EINVAL"
  end
  local jumbo = mtu > 1500
  local limit = options.interrupts or 0
  local port = {
    card = CARD[dev.info.device], mtu = mtu, loopback = options.loopback, rx_checksum = options.rx_checksum,
    promiscuous = false, multicast = {},
    interval = limit > 0 and math.min(65535, math.ceil(1e9 / 256 / limit)) or 0, -- ITR counts 256 ns (10.2.4.2)
    totals = stats.new(dev.regs),
  }
  local n_rx, n_tx = options.rx or (jumbo and JUMBO_RING or RING), options.tx or (jumbo and JUMBO_RING or RING)
  local message, code
  port.pool, message, code = luio.pool(dev, {
    count = options.packets or n_rx + n_tx + (jumbo and JUMBO_SPARE or SPARE), size = buffer_for(mtu).size, debug = options.debug,
  })
  if not port.pool then return nil, message, code end
  local rx, tx
  rx, message, code = ring.rx(dev, port.pool, n_rx, dev.regs.RDT[0])
  if not rx then return nil, message, code end
  tx, message, code = ring.tx(dev, n_tx, dev.regs.TDT[0])
  if not tx then return nil, message, code end
  port.rx, port.tx = rx.parts, tx.parts
  return port, rx, tx
end

local function let_go(port, regs)
  ring.rx_again(port.rx, regs.RDT[0]):close()
  ring.tx_again(port.tx, regs.TDT[0]):close()
  port.pool:close()
end

local SPEED = { [0] = 10, [1] = 100, [2] = 1000, [3] = 1000 }
local LU, TXOFF = 0x2, 0x10 -- STATUS (10.2.2.2)
local HUNG = 5 -- ticks without a report of sent frames while frames are queued

-- Whether the transmitter has stopped: it has a link, the other end does not hold it (PAUSE), and it reports nothing.
local function hangs(regs, tx, was)
  tx:reclaim()
  local at = tx:pending() > 0 and tx.c.clean or nil
  if not at or at ~= was.at or bit.band(regs.STATUS:read(), LU + TXOFF) ~= LU then was.ticks = 0 else was.ticks = was.ticks + 1 end
  was.at = at
  return was.ticks >= HUNG
end

-- The offer to luio.net (luio.net.Offer).
local function offer(dev, port, rx, tx)
  local regs, was = dev.regs, { ticks = 0, misfits = 0 }
  -- RCTL is left alone when it is right already: QEMU's 82540EM receives nothing for a second after it was written, and a
  -- reload, which sets the filters again, is to lose no packet.
  local function filters()
    local control = regs.RCTL:encode(receive_control(port))
    if regs.RCTL:read() ~= control then regs.RCTL:write(control) end
    multicast_table(regs, port)
  end
  return {
    mac = port.mac, mtu = port.mtu, pool = port.pool,
    features = { tx_checksum = true, rx_checksum = true, loopback = true, interrupts = true, max_mtu = MAX_MTU },
    rx = { [0] = { ring = rx, burst = rx.burst, ready = rx.ready } },
    tx = { [0] = { ring = tx, burst = tx.burst, reclaim = tx.reclaim, pending = tx.pending } },
    link = function()
      local status = regs.STATUS:read()
      if bit.band(status, LU) == 0 or status == stats.SILENT then return { up = false } end
      return { up = true, speed = SPEED[bit.band(bit.rshift(status, 6), 3)], full_duplex = bit.band(status, 1) == 1 }
    end,
    stats = function()
      stats.fold(regs, port.totals)
      local all = stats.copy(port.totals)
      all.rx_dropped, all.rx_starved, all.tx_dropped = port.rx.counts.errors, port.rx.counts.starved, port.tx.counts.dropped
      return all
    end,
    promiscuous = function(on)
      port.promiscuous = on
      filters()
    end,
    multicast = function(list)
      port.multicast = list
      filters()
    end,
    -- Old causes are cleared, or each would interrupt at once; the caller looks at the rings afterwards.
    arm = function(receive, send)
      local causes = (receive and RECEIVED or 0) + (send and SENT or 0)
      regs.ICR:write(causes)
      regs.IMS:write(causes)
    end,
    interrupted = function(event) return bit.band(event.ICR, LSC) ~= 0 end,
    tick = function()
      if not stats.fold(regs, port.totals) then -- a set-up now would wait in vain
        local said = was.silent
        was.silent = true
        return not said and ("%s does not answer, its registers read as all ones: it is gone, asleep (D3), or its memory is switched "
          .. "off in the command register"):format(dev.address) or nil
      end
      was.silent = nil
      local why
      if regs.RCTL:get "EN" ~= 1 or regs.RDLEN[0]:read() ~= port.rx.count * 16 then why = "somebody reset " .. dev.address
      elseif hangs(regs, tx, was) then why = ("%s reported nothing that was sent for %d s"):format(dev.address, HUNG) end
      if why then
        port.totals.resets = port.totals.resets + 1
        local lost, dropped = rx:restart(), tx:restart()
        local ok, message = bring_up(regs, port, rx, tx)
        return ("%s: %d received and %d given to be sent were lost; %s"):format(why, lost, dropped,
          ok and "it was set up again" or "it can't be set up again: " .. message)
      end
      if port.rx.counts.misfits == 0 or was.misfits > 0 then return nil end
      was.misfits = port.rx.counts.misfits
      return ("%s says of frames that they are shorter than a header, or longer than the packet that it was given: it, or what is written "
        .. "into its ring, is broken; they are dropped, and counted with the rest (rx_dropped)"):format(dev.address)
    end,
  }
end

-- ---- The driver's life ---------------------------------------------------------------------------

function e1000e.start(dev, reason)
  local regs, port = dev.regs, dev.state.port
  if reason == "reload" and port then -- rings, pool and packets under way stay
    local rx, tx = ring.rx_again(port.rx, regs.RDT[0]), ring.tx_again(port.tx, regs.TDT[0])
    return net.serve(dev, offer(dev, port, rx, tx))
  end
  local ok, message, code, rx, tx
  if port then -- it was gone: after its reset no packet that was under way comes any more
    ok, message, code = reset(regs)
    if not ok then return nil, message, code end
    let_go(port, regs)
    dev.state.port = nil
  end
  port, rx, tx = new_port(dev, net.options(dev))
  if not port then return nil, rx, tx end
  ok, message, code = bring_up(regs, port, rx, tx)
  if not ok then return nil, message, code end
  dev.state.port = port
  return net.serve(dev, offer(dev, port, rx, tx))
end

-- A worker has died: its rings are forgotten by a reset.
function e1000e.quiesce(dev)
  return reset(dev.regs)
end

function e1000e.stop(dev)
  local regs = dev.regs
  regs.IMC:write(0xffffffff)
  regs.RCTL:write { EN = 0 }
  regs.TCTL:update { EN = 0 }
end

return e1000e
