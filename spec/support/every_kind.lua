--- A register map with one of every kind of register, for the specs of completion.

return {
  ID = { 0x00, 32, "ro", MAGIC = { 7, 0 }, MINOR = { 23, 16 } },
  STATUS = { 0x04, 32, "rw", COMPUTING = { 0, access = "ro" }, RAISE_IRQ = 7 },
  CTRL = { 0x08, 32, "rw", MODE = { 5, 4, values = { SLOW = 1, FAST = 2, FASTEST = 3 } }, ENABLE = 0 },
  CMD = { 0x0c, 32, "wo" },
  FIFO = { 0x100, 32, "rw", read_effect = "pops", LEVEL = { 7, 0, access = "ro" }, FLUSH = 31 },
  CHANNEL = { 0x200, count = 40, stride = 0x20, block = {
    CTRL = { 0x0, 32, RUN = 0, KIND = { 2, 1, values = { IN = 0, OUT = 1 } } },
    COUNT = { 0x4, 32 },
    QUEUE = { 0x8, 16, count = 2, stride = 2, HEAD = 0 },
  } },
  PHY = { 0x800, block = { BMCR = { 0, 16, RESET = 15 }, BMSR = { 2, 16, "ro" } } },
  TABLE = { 0x900, 8, count = 4, LOW = { 3, 0 } },
}
