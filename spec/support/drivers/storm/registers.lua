--- A device that interrupts by itself, as fast as it is acknowledged. For specs.
local luio = require "luio"

return luio.registers {
  SEQUENCE = { 0x0, 32, "ro", description = "of the interrupt that is asserted: 1, 2, ..." },
  ACK = { 0x4, 32, "wo", description = "the sequence number that is acknowledged" },
  RUN = { 0x8, 32, "rw", description = "1: interrupts" },
}
