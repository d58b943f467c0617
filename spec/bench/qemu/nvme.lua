--- As much of an NVMe driver as a measurement needs: reads of one size, one after another, with completions polled.
---
--- "NVM Express Base Specification" 2.0: controller registers (3.1.3), queue entries (3.3.3), PRP lists (4.1.1), Create I/O
--- Completion Queue (5.4) and Submission Queue (5.5); "PCIe Transport Specification" 1.0: doorbells (3.1.2); "NVM Command Set
--- Specification" 1.0: Read (3.2.4).

local bit = require "bit"
local ffi = require "ffi"
local luio = require "luio"
local C = require("luio.ffi").C

local CC, CSTS, AQA, ASQ, ACQ, DOORBELLS = 0x14, 0x1c, 0x24, 0x28, 0x30, 0x1000
local CREATE_SQ, CREATE_CQ, READ = 0x01, 0x05, 0x02
local ENTRIES, PAGE, BLOCK = 16, 4096, 512
local DEADLINE = 60

local command_t = ffi.typeof [[struct {
  uint8_t opcode, flags; uint16_t id; uint32_t namespace; uint64_t reserved, metadata, prp1, prp2; uint32_t cdw[6];
} *]]

-- A queue pair: entries of 64 bytes in the first page, of 16 bytes in the second. CAP.DSTRD of QEMU's is 0.
local function pair(dev, id)
  local buffer = assert(dev.dma:alloc(2 * PAGE))
  ffi.fill(buffer.addr, 2 * PAGE)
  return { id = id, buffer = buffer, tail = 0, head = 0, phase = 1 }
end

-- A command of 0 at the tail, to be filled in.
local function command(q, opcode)
  local c = ffi.cast(command_t, q.buffer.addr + 64 * q.tail)
  ffi.fill(c, 64)
  c.opcode, c.id = opcode, q.tail
  return c
end

-- Sends the command at the tail, and waits for its completion.
local function complete(region, q)
  q.tail = (q.tail + 1) % ENTRIES
  region:write32(DOORBELLS + 8 * q.id, q.tail)
  local deadline = luio.now() + DEADLINE
  local status
  repeat
    status = C.luio_read16(q.buffer.addr + PAGE + 16 * q.head + 14) -- a load each time
    if luio.now() > deadline then error("the disk does not complete a command", 0) end
  until status % 2 == q.phase
  q.head = (q.head + 1) % ENTRIES
  if q.head == 0 then q.phase = 1 - q.phase end
  region:write32(DOORBELLS + 8 * q.id + 4, q.head)
  if status > 1 then error(("the disk completed a command with status 0x%x"):format(bit.rshift(status, 1)), 0) end
end

local function ready(region, value)
  local deadline = luio.now() + DEADLINE
  while region:read32(CSTS) % 2 ~= value do
    if luio.now() > deadline then error("the disk does not become ready", 0) end
  end
end

--- Prepares reads of `size` bytes, a multiple of a page.
---@param dev luio.Device
---@param size integer  up to 2 MiB
---@return fun() read  reads once
return function(dev, size)
  local region = dev.regions[0]
  local admin, io, data, list = pair(dev, 0), pair(dev, 1), assert(dev.dma:alloc(size)), assert(dev.dma:alloc(PAGE))
  local entries = ffi.cast("uint64_t *", list.addr)
  for i = 1, size / PAGE - 1 do entries[i - 1] = data.iova + i * PAGE end
  assert(dev:bus_master(true))
  region:write32(CC, 0)
  ready(region, 0)
  region:write32(AQA, (ENTRIES - 1) * 0x10001)
  region:write64(ASQ, admin.buffer.iova)
  region:write64(ACQ, admin.buffer.iova + PAGE)
  region:write32(CC, 0x460001) -- entries of 64 and 16 bytes, enabled
  ready(region, 1)
  for _, queue in ipairs { { CREATE_CQ, PAGE, 1 }, { CREATE_SQ, 0, 0x10001 } } do -- physically contiguous; its completion queue is 1
    local c = command(admin, queue[1])
    c.prp1, c.cdw[0], c.cdw[1] = io.buffer.iova + queue[2], (ENTRIES - 1) * 0x10000 + 1, queue[3]
    complete(region, admin)
  end
  return function()
    local c = command(io, READ)
    c.namespace, c.prp1, c.prp2, c.cdw[2] = 1, data.iova, list.iova, size / BLOCK - 1
    complete(region, io)
  end
end
