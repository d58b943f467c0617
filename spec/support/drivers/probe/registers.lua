--- A register of each kind that looking and changing must tell apart. For specs.
local luio = require "luio"

return luio.registers {
  name = "probe",
  description = "a device made of everything that is easily done wrong",

  CTRL = {
    0x00, 32, "rw", reset = 0x10, section = "2.1", description = "control",
    ENABLE = { 0, description = "lets it run" },
    MODE = { 3, 2, values = { SLOW = 0, FAST = 1, TURBO = 2 }, description = "how fast it runs" },
    LEVEL = { 7, 4 },
    BUSY = { 31, access = "ro" },
  },
  STATUS = { 0x04, 32, "rw", OVERRUN = { 0, access = "w1c" }, PARITY = { 1, access = "w1c" }, MASK = { 11, 8 } },
  CAUSE = { 0x08, 32, "rc", description = "reading it acknowledges" },
  FIFO = { 0x0c, 32, "ro", read_effect = "pops the FIFO" },
  KICK = { 0x10, 32, "wo", GO = 0, SPEED = { 3, 1 } },
  TICK = { 0x14, 32, "ro", description = "counts by itself" },
  FUSE = { 0x18, 32, "wonce" },
  WIDE = { 0x20, 64, "rw" },
  CHANNEL = { 0x40, count = 4, stride = 0x10, block = { CTRL = { 0, 32, ON = 0 }, LENGTH = { 4, 16 }, KIND = { 6, 8 } } },
  TABLE = { 0x100, 16, "rw", count = 8 },
}
