--- A model of QEMU's "edu", after hw/misc/edu.c: it behaves as the driver can see the device
--- behave.

local bit = require "bit"
local ffi = require "ffi"

-- Stated again, not taken from the driver's map: a shared mistake would not be seen.
local ID, LIVENESS, FACTORIAL, STATUS, IRQ_STATUS, IRQ_RAISE, IRQ_ACK = 0x00, 0x04, 0x08, 0x20, 0x24, 0x60, 0x64
local DMA_SRC, DMA_DST, DMA_COUNT, DMA_CMD = 0x80, 0x88, 0x90, 0x98
local COMPUTING, RAISE_IRQ = 0x01, 0x80 -- STATUS
local CAUSE_FACTORIAL, CAUSE_DMA = 0x001, 0x100 -- IRQ_STATUS
local RUN, TO_RAM, DMA_RAISE_IRQ = 0x1, 0x2, 0x4 -- DMA_CMD
local BUFFER, BUFFER_SIZE = 0x40000, 4096

local model = {
  pci = { vendor = 0x1234, device = 0x11e8, class = 0x00ff00, revision = 0x10 },
  vectors = 1,
  regions = { [0] = { size = 0x100000 } },
}

local FACTORIAL_SECONDS = 20e-6
local TRANSFER_SECONDS = 100e-3
local DMA_MASK = 0xfffffff -- 28 bits

function model.reset(dev)
  dev.liveness, dev.factorial, dev.status, dev.irq_status = 0, 0, 0, 0
  dev.dma = { [DMA_SRC] = 0ULL, [DMA_DST] = 0ULL, [DMA_COUNT] = 0ULL, [DMA_CMD] = 0ULL }
  dev.buffer = ffi.new("uint8_t[?]", BUFFER_SIZE)
end

local function unsigned(v)
  return v % 0x100000000
end

local function raise(dev, cause)
  dev.irq_status = unsigned(bit.bor(dev.irq_status, cause))
  if dev.irq_status ~= 0 then dev:raise() end
end

local function compute(dev)
  local n, result = dev.factorial, 1
  while n > 1 and result ~= 0 do -- once it is 0 modulo 2^32 it stays so
    result = tonumber(ffi.cast("uint32_t", result * 1ULL * n))
    n = n - 1
  end
  dev.factorial = result
  dev.status = bit.band(dev.status, bit.bnot(COMPUTING))
  if bit.band(dev.status, RAISE_IRQ) ~= 0 then raise(dev, CAUSE_FACTORIAL) end
end

-- Where in the device's buffer a transfer starts. One outside is an error.
local function inside(address, count)
  local offset = tonumber(address) - BUFFER
  if offset < 0 or count < 1 or offset + count >= BUFFER_SIZE then
    error(("DMA: %d bytes at device address 0x%x: the buffer has %d at 0x%x"):format(
      count, tonumber(address), BUFFER_SIZE - 1, BUFFER), 0)
  end
  return offset
end

local function transfer(dev)
  local count = tonumber(dev.dma[DMA_COUNT])
  local command = tonumber(dev.dma[DMA_CMD])
  if bit.band(command, TO_RAM) ~= 0 then
    local offset = inside(dev.dma[DMA_SRC], count)
    dev:dma_write(bit.band(tonumber(dev.dma[DMA_DST]), DMA_MASK), ffi.string(dev.buffer + offset, count))
  else
    local offset = inside(dev.dma[DMA_DST], count)
    local bytes = dev:dma_read(bit.band(tonumber(dev.dma[DMA_SRC]), DMA_MASK), count)
    if bytes then ffi.copy(dev.buffer + offset, bytes, count) end -- without bus master: no data
  end
  dev.dma[DMA_CMD] = bit.band(dev.dma[DMA_CMD], bit.bnot(RUN + 0ULL))
  if bit.band(command, DMA_RAISE_IRQ) ~= 0 then raise(dev, CAUSE_DMA) end
end

-- As the hardware: offsets without a register read all ones and ignore writes.
local function allowed(offset, width)
  return width == 32 or (width == 64 and offset >= 0x80)
end

function model.read(dev, offset, width)
  local ones = width == 64 and 0xffffffffffffffffULL or 2 ^ width - 1
  if not allowed(offset, width) then return ones end
  if offset == ID then return 0x010000ed end
  if offset == LIVENESS then return dev.liveness end
  if offset == FACTORIAL then return dev.factorial end
  if offset == STATUS then return dev.status end
  if offset == IRQ_STATUS then return dev.irq_status end
  local value = dev.dma[offset]
  if not value then return ones end
  return width == 64 and value or tonumber(value % 0x100000000ULL)
end

function model.write(dev, offset, width, value)
  if not allowed(offset, width) then return end
  if offset == LIVENESS then
    dev.liveness = unsigned(bit.bnot(value))
  elseif offset == FACTORIAL then
    if bit.band(dev.status, COMPUTING) ~= 0 then return end
    dev.factorial = value
    dev.status = bit.bor(dev.status, COMPUTING)
    dev:after(FACTORIAL_SECONDS, compute)
  elseif offset == STATUS then
    dev.status = bit.bor(bit.band(dev.status, bit.bnot(RAISE_IRQ)), bit.band(value, RAISE_IRQ))
  elseif offset == IRQ_RAISE then
    raise(dev, value)
  elseif offset == IRQ_ACK then
    dev.irq_status = unsigned(bit.band(dev.irq_status, bit.bnot(value)))
    if dev.irq_status == 0 then dev:lower() end
  elseif dev.dma[offset] then
    -- Nothing changes while a transfer runs.
    if bit.band(dev.dma[DMA_CMD], RUN + 0ULL) ~= 0ULL then return end
    if offset == DMA_CMD and tonumber(value) % 2 ~= RUN then return end
    dev.dma[offset] = ffi.cast("uint64_t", value) -- 32 bits: the upper half becomes 0
    if offset == DMA_CMD then dev:after(TRANSFER_SECONDS, transfer) end
  end
end

return model
