--- Registers of QEMU's "edu" device, BAR0: QEMU docs/specs/edu.rst. Offsets in bytes. Below 0x80
--- only 4-byte accesses; from 0x80 on 4 or 8, where a 4-byte write would zero the upper half.

return {
  ID = 0x00, -- ro: 0xMMmm00ed, major and minor version
  LIVENESS = 0x04, -- rw: reads back the complement of what was written
  FACTORIAL = 0x08, -- rw: write n, wait for STATUS bit 0 to clear, read n! modulo 2^32
  STATUS = 0x20, -- rw
  IRQ_STATUS = 0x24, -- ro: why it interrupts
  IRQ_RAISE = 0x60, -- wo: ORs into IRQ_STATUS
  IRQ_ACK = 0x64, -- wo: clears these bits of IRQ_STATUS
  DMA_SRC = 0x80, -- rw, 64 bits
  DMA_DST = 0x88, -- rw, 64 bits
  DMA_COUNT = 0x90, -- rw, 64 bits: bytes
  DMA_CMD = 0x98, -- rw, 64 bits

  STATUS_COMPUTING = 0x01, -- ro
  STATUS_RAISE_IRQ = 0x80, -- interrupt when the factorial is done

  CAUSE_FACTORIAL = 0x001,
  CAUSE_DMA = 0x100,

  DMA_CMD_RUN = 0x1, -- reads 1 until the transfer is done
  DMA_CMD_TO_RAM = 0x2, -- from the device's buffer to memory; else the other way
  DMA_CMD_RAISE_IRQ = 0x4,

  BUFFER = 0x40000, -- the device's own 4096 bytes, in its address space
  BUFFER_SIZE = 4096,
}
