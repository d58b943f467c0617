--- QEMU's "edu": a factorial engine, an interrupt and a DMA engine (QEMU docs/specs/edu.rst).

local luio = require "luio"
local R = require "drivers.edu.registers"

local edu = { name = "edu", match = { pci = "1234:11e8" } }

--- The top half: note the cause, take the line back.
edu.irq = {
  capture = { { "cause", R.IRQ_STATUS } },
  ack = { { R.IRQ_ACK, "cause" } },
}

--- It drives 28 address bits unless QEMU is told otherwise (dma_mask=).
edu.dma = { bits = 28 }

--- A transfer takes 100 ms, a factorial microseconds.
local DEADLINE = 2

--- QEMU 7.2 aborts on a transfer that ends at the end of the buffer.
edu.MAX_TRANSFER = R.BUFFER_SIZE - 1

function edu.start(dev)
  local id = dev.regions[0]:read32(R.ID)
  if id % 0x100 ~= 0xed then return nil, ("ID is 0x%08x; its low byte is not 0xed"):format(id), "ENODEV" end
  return true
end

function edu.stop(dev)
  dev.regions[0]:write32(R.STATUS, 0)
end

--- The device's version.
---@return integer major
---@return integer minor
function edu.version(dev)
  local id = dev.regions[0]:read32(R.ID)
  return math.floor(id / 0x1000000), math.floor(id / 0x10000) % 0x100
end

--- Whether the device answers: it complements what it is given.
---@return boolean
function edu.alive(dev)
  dev.regions[0]:write32(R.LIVENESS, 0x12345678)
  return dev.regions[0]:read32(R.LIVENESS) == 0xedcba987
end

-- Waits for an interrupt with this cause; others may come first, left over from a wait given up.
local function wait_for(dev, cause)
  local deadline = luio.now() + DEADLINE
  while true do
    local event, message, code = dev.irqs[0]:wait(math.max(0, deadline - luio.now()))
    if not event then return nil, message, code end
    if math.floor(event.cause / cause) % 2 == 1 then return event end
  end
end

--- n! modulo 2^32, by interrupt.
---@param n integer
---@return integer? result  nil, message, code when no interrupt comes
---@return luio.Event|string event
---@return string? code
function edu.factorial(dev, n)
  local regs = dev.regions[0]
  regs:write32(R.STATUS, R.STATUS_RAISE_IRQ)
  regs:write32(R.FACTORIAL, n)
  local event, message, code = wait_for(dev, R.CAUSE_FACTORIAL)
  if not event then return nil, message, code end
  return regs:read32(R.FACTORIAL), event
end

--- n! modulo 2^32, by polling.
---@param n integer
---@return integer? result
---@return string? message
---@return string? code
function edu.factorial_polled(dev, n)
  local regs = dev.regions[0]
  regs:write32(R.STATUS, 0)
  regs:write32(R.FACTORIAL, n)
  local deadline = luio.now() + DEADLINE
  while regs:read32(R.STATUS) % 2 == R.STATUS_COMPUTING do
    if luio.now() > deadline then
      return nil, ("%d! was not done within %g s"):format(n, DEADLINE), "ETIMEDOUT"
    end
  end
  return regs:read32(R.FACTORIAL)
end

local function transfer(dev, src, dst, count, command)
  local regs = dev.regions[0]
  regs:write64(R.DMA_SRC, src)
  regs:write64(R.DMA_DST, dst)
  regs:write64(R.DMA_COUNT, count)
  regs:write64(R.DMA_CMD, command + R.DMA_CMD_RUN + R.DMA_CMD_RAISE_IRQ)
  return wait_for(dev, R.CAUSE_DMA)
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
  return transfer(dev, buffer.iova, R.BUFFER + (offset or 0), count, 0)
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
  return transfer(dev, R.BUFFER + (offset or 0), buffer.iova, count, R.DMA_CMD_TO_RAM)
end

return edu
