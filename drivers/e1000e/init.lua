--- Intel 82574L, QEMU's "e1000e": so far one queue each way, by polling or by waiting for interrupts.
---
--- Sections are those of the "82574 GbE Controller Family Datasheet"; 4.6 is the order of things at the start.

local bit = require "bit"
local luio = require "luio"
local ring = require "drivers.e1000e.ring"

local e1000e = {
  name = "e1000e",
  match = { pci = "8086:10d3" },
  registers = require "drivers.e1000e.registers",
  -- Reading ICR acknowledges, and drops the line (10.2.4.1).
  irq = { capture = "ICR" },
  dma = { bits = 64 },
}

local RX, TX = 512, 512 -- descriptors
local PACKET = 2048 -- bytes: RCTL.BSIZE 0

-- 4.6.3: interrupts off, reset, and off again, for the reset lets them through.
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

-- 4.6.5
local function receiver(dev, regs, port)
  local rx, message, code = ring.rx(dev, port.pool, RX, regs.RDT[0])
  if not rx then return nil, message, code end
  port.rx = rx
  for i = 0, 127 do regs.MTA[i]:write(0) end
  local low, high = rx.state.buffer.iova % 2 ^ 32, math.floor(rx.state.buffer.iova / 2 ^ 32)
  regs.RDBAL[0]:write(low)
  regs.RDBAH[0]:write(high)
  regs.RDLEN[0]:write(RX * 16)
  regs.RDH[0]:write(0)
  regs.RDT[0]:write(0)
  regs.RCTL:write { EN = 1, BAM = 1, BSIZE = "SIZE_2048", SECRC = 1 }
  rx:start() -- after EN: 10.2.5.9
  return true
end

-- 4.6.6; the values of TIPG and TCTL are the ones it asks for, full duplex.
local function transmitter(dev, regs, port)
  local tx, message, code = ring.tx(dev, TX, regs.TDT[0])
  if not tx then return nil, message, code end
  port.tx = tx
  regs.TDBAL[0]:write(tx.state.buffer.iova % 2 ^ 32)
  regs.TDBAH[0]:write(math.floor(tx.state.buffer.iova / 2 ^ 32))
  regs.TDLEN[0]:write(TX * 16)
  regs.TDH[0]:write(0)
  regs.TDT[0]:write(0)
  regs.TXDCTL[0]:update { COUNT_DESC = 1, GRAN = "DESCRIPTORS" }
  regs.TIPG:write { IPGT = 8, IPGR1 = 8, IPGR2 = 6 }
  regs.TCTL:write { EN = 1, PSP = 1, CT = 0x0f, COLD = 0x3f }
  return true
end

function e1000e.start(dev, reason)
  local regs = dev.regs
  local before = dev.state.port
  if reason == "reload" and before then -- rings, pool and what is under way stay
    dev.state.port = {
      pool = before.pool, rx = ring.rx_again(before.rx, regs.RDT[0]), tx = ring.tx_again(before.tx, regs.TDT[0]),
    }
    return true
  end
  local ok, message, code = reset(regs)
  if not ok then return nil, message, code end
  if before then -- it was gone: nothing of what was under way comes any more
    before.rx:close()
    before.tx:close()
    before.pool:close()
    dev.state.port = nil
  end
  local port = {}
  port.pool, message, code = luio.pool(dev, { count = RX + TX + 1024, size = PACKET })
  if not port.pool then return nil, message, code end
  regs.CTRL:update { SLU = 1, ASDE = 0, ILOS = 0, FRCSPD = 0, FRCDPLX = 0 }
  ok, message, code = receiver(dev, regs, port)
  if ok then ok, message, code = transmitter(dev, regs, port) end
  if not ok then return nil, message, code end
  dev.state.port = port
  regs.IMS:write { RXT0 = 1, RXDMT0 = 1, RXO = 1, LSC = 1 }
  return true
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

--- Its own address.
---@return string  "52:54:00:12:34:56"
function e1000e.mac(dev)
  local low, high = dev.regs.RAL[0]:read(), dev.regs.RAH[0]:get "RAH"
  local bytes = {}
  for i = 0, 5 do bytes[i + 1] = ("%02x"):format(bit.band(bit.rshift(i < 4 and low or high, i % 4 * 8), 0xff)) end
  return table.concat(bytes, ":")
end

--- Whether there is a link.
---@return boolean
function e1000e.link(dev)
  return dev.regs.STATUS:get "LU" == 1
end

--- Empty packets to send: luio.Pool. nil alone: all are in use.
---@return luio.Packet?
function e1000e.packet(dev)
  return dev.state.port.pool:alloc()
end

--- Takes what has been received, without waiting. The packets are yours to free.
---@param packets luio.Packet[]  filled from 1
---@param most integer
---@return integer n
function e1000e.receive(dev, packets, most)
  return dev.state.port.rx:burst(packets, most)
end

--- The same, but waits for the first.
---@param packets luio.Packet[]
---@param most integer
---@param seconds number
---@return integer? n
---@return string? message
---@return string? code  "ETIMEDOUT"
function e1000e.receive_wait(dev, packets, most, seconds)
  local rx, deadline = dev.state.port.rx, luio.now() + seconds
  while true do
    local n = rx:burst(packets, most)
    if n > 0 then return n end
    local event, message, code = dev.irqs[0]:wait(math.max(0, deadline - luio.now()))
    if not event then
      n = code == "ETIMEDOUT" and rx:burst(packets, most) or 0 -- what came in the last moment
      if n > 0 then return n end
      return nil, message, code
    end
  end
end

--- Sends packets, in order, as many as there is room for; those are the device's then, and freed when they
--- were sent.
---@param packets luio.Packet[]  from 1
---@param n integer
---@return integer n  how many went
function e1000e.send(dev, packets, n)
  return dev.state.port.tx:burst(packets, n)
end

return e1000e
