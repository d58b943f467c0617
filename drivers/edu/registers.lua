--- Registers of QEMU's "edu" device, BAR 0 (QEMU docs/specs/edu.rst). Below 0x80 it takes 32-bit
--- accesses only; from 0x80 on 32 or 64, where one of 32 zeroes the upper half: hence 64.

local luio = require "luio"

return luio.registers {
  name = "edu",
  --           offset width access
  ID         = { 0x00, 32, "ro", MAGIC = { 7, 0 }, MINOR = { 23, 16 }, MAJOR = { 31, 24 }, reset = 0x010000ed },
  LIVENESS   = { 0x04, 32, "rw", write_effect = "stores the complement",
                 description = "reads back the complement of the written value" },
  FACTORIAL  = { 0x08, 32, "rw", write_effect = "starts the computation",
                 description = "write n, wait until STATUS.COMPUTING is 0, read n! modulo 2^32" },
  STATUS     = { 0x20, 32, "rw",
                 COMPUTING = { 0, access = "ro" },
                 RAISE_IRQ = { 7, description = "interrupt when the factorial is done" } },
  IRQ_STATUS = { 0x24, 32, "ro", FACTORIAL = 0, DMA = 8, description = "why it interrupts" },
  IRQ_RAISE  = { 0x60, 32, "wo", write_effect = "interrupts", description = "ORs into IRQ_STATUS" },
  IRQ_ACK    = { 0x64, 32, "wo", write_effect = "acknowledges", description = "clears these bits of IRQ_STATUS" },
  DMA_SRC    = { 0x80, 64, "rw" },
  DMA_DST    = { 0x88, 64, "rw" },
  DMA_COUNT  = { 0x90, 64, "rw", description = "bytes" },
  DMA_CMD    = { 0x98, 64, "rw", write_effect = "starts a transfer if RUN is 1, and is ignored if it is 0",
                 RUN       = { 0, access = "sc", description = "stays 1 until the transfer is done" },
                 DIRECTION = { 1, values = { TO_DEVICE = 0, TO_RAM = 1 } },
                 RAISE_IRQ = 2 },
}
