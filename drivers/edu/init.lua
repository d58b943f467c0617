--- QEMU's "edu": a factorial engine, an interrupt and a DMA engine (QEMU docs/specs/edu.rst).

local luio = require "luio"

local edu = { name = "edu", match = { pci = "1234:11e8" }, registers = require "drivers.edu.registers" }

edu.irq = { capture = "IRQ_STATUS", ack = "IRQ_ACK" } -- top half: runs in C, before unmasking
edu.dma = { bits = 28 } -- QEMU's default; its option dma_mask= changes it

edu.BUFFER, edu.BUFFER_SIZE = 0x40000, 4096 -- the device's own memory, in its address space
edu.MAX_TRANSFER = 4095 -- bytes; the last one of the buffer is left alone

local DEADLINE = 2 -- seconds; a transfer takes 0.1, a factorial microseconds

function edu.start(dev)
  local magic = dev.regs.ID:get "MAGIC"
  if magic ~= 0xed then return nil, ("ID.MAGIC is 0x%02x, not 0xed"):format(magic), "ENODEV" end
  return true
end

function edu.stop(dev)
  dev.regs.STATUS:write { RAISE_IRQ = 0 }
end

--- After a crash: a transfer that the process before had begun ends in nothing, for bus master is off.
function edu.quiesce(dev)
  return dev.regs.DMA_CMD:wait({ RUN = 0 }, DEADLINE)
end

--- The device's version.
---@return integer major
---@return integer minor
function edu.version(dev)
  local id = dev.regs.ID:decode(dev.regs.ID:read())
  return id.MAJOR, id.MINOR
end

--- Whether the device answers: it returns the complement of the written value.
---@return boolean
function edu.alive(dev)
  dev.regs.LIVENESS:write(0x12345678)
  return dev.regs.LIVENESS:read() == 0xedcba987
end

-- Waits for an interrupt with this cause; others may come first, left over from a wait given up.
local function wait_for(dev, cause)
  local deadline = luio.now() + DEADLINE
  while true do
    local event, message, code = dev.irqs[0]:wait(math.max(0, deadline - luio.now()))
    if not event then return nil, message, code end
    if dev.regs.IRQ_STATUS:decode(event.IRQ_STATUS)[cause] == 1 then return event end
  end
end

--- n! modulo 2^32, by interrupt.
---@param n integer
---@return integer? result  nil, message, code when no interrupt comes
---@return luio.Event|string event
---@return string? code
function edu.factorial(dev, n)
  local regs = dev.regs
  regs.STATUS:write { RAISE_IRQ = 1 }
  regs.FACTORIAL:write(n)
  local event, message, code = wait_for(dev, "FACTORIAL")
  if not event then return nil, message, code end
  -- It may be an older one, which was pending when the driver started: the result is there when COMPUTING is 0.
  local idle
  idle, message, code = regs.STATUS:wait({ COMPUTING = 0 }, 2)
  if not idle then return nil, message, code end
  return regs.FACTORIAL:read(), event
end

--- n! modulo 2^32, by polling.
---@param n integer
---@return integer? result
---@return string? message
---@return string? code
function edu.factorial_polled(dev, n)
  local regs = dev.regs
  regs.STATUS:write { RAISE_IRQ = 0 }
  regs.FACTORIAL:write(n)
  local done, message, code = regs.STATUS:wait({ COMPUTING = 0 }, DEADLINE)
  if not done then return nil, message, code end
  return regs.FACTORIAL:read()
end

local function transfer(dev, src, dst, count, direction)
  local regs = dev.regs
  regs.DMA_SRC:write(src)
  regs.DMA_DST:write(dst)
  regs.DMA_COUNT:write(count)
  regs.DMA_CMD:write { RUN = 1, DIRECTION = direction, RAISE_IRQ = 1 }
  local event, message, code = wait_for(dev, "DMA")
  if not event then return nil, message, code end
  local idle
  idle, message, code = regs.DMA_CMD:wait({ RUN = 0 }, DEADLINE) -- as above
  if not idle then return nil, message, code end
  return event
end

local function check(offset, count)
  if count < 1 or offset < 0 or offset + count > edu.MAX_TRANSFER then
    error(("edu has %d bytes for transfers: %d at %d don't fit"):format(edu.MAX_TRANSFER, count, offset), 3)
  end
end

--- Copies memory to the device's buffer.
---@param buffer luio.Buffer
---@param count integer   bytes
---@param offset? integer in the device's buffer; 0
---@return luio.Event?
---@return string? message
---@return string? code
function edu.to_device(dev, buffer, count, offset)
  check(offset or 0, count)
  return transfer(dev, buffer.iova, edu.BUFFER + (offset or 0), count, "TO_DEVICE")
end

--- Copies the device's buffer to memory.
---@param buffer luio.Buffer
---@param count integer
---@param offset? integer
---@return luio.Event?
---@return string? message
---@return string? code
function edu.from_device(dev, buffer, count, offset)
  check(offset or 0, count)
  return transfer(dev, edu.BUFFER + (offset or 0), buffer.iova, count, "TO_RAM")
end

return edu
