--- The memory that the kernel module uio_timer shares with user space (examples/kernel/uio_timer): three UIO maps, which are
--- regions 0, 1 and 2. Words of region 0 lie in uncached memory, as a device's registers do. "ro" is what the kernel writes:
--- it keeps its own copy, so a stray write there misleads readers only.

local luio = require "luio"

return luio.registers {
  name = "uio_timer",

  -- ---- Region 0, "registers": UIO_MEM_PHYS -----------------------------------------------------
  --              offset width access
  ID            = { 0x00, 32, "ro", reset = 0x726d6974, description = "\"timr\"" },
  VERSION       = { 0x04, 32, "ro", reset = 1, description = "of the three maps" },
  PERIOD_NS     = { 0x08, 32, "rw", description = "nanoseconds from interrupt to interrupt, looked at by each; 0: off" },
  MIN_PERIOD_NS = { 0x0c, 32, "ro", description = "a shorter PERIOD_NS counts as this" },
  NOTIFY        = { 0x10, 32, "rw",
                    WHEN = { 0, values = { EVERY = 0, ASKED = 1 },
                             description = "which interrupts wake: all, or the one that WAKE_AT names" } },
  RECORDS       = { 0x14, 32, "ro", description = "that the ring holds, a power of two" },
  RECORD_SIZE   = { 0x18, 32, "ro", reset = 32, description = "bytes" },
  STATUS        = { 0x1c, 32, "ro", RUNNING = { 0, description = "there will be interrupts" } },

  -- ---- Region 1, "control": UIO_MEM_LOGICAL; counters modulo 2^32 ------------------------------
  HEAD          = { 0x00, 32, "ro", region = 1, description = "records put into the ring" },
  DROPPED       = { 0x04, 32, "ro", region = 1, description = "interrupts that found no room for theirs" },
  MISSED        = { 0x08, 32, "ro", region = 1, description = "periods that passed without an interrupt" },
  NOTIFIED      = { 0x0c, 32, "ro", region = 1, description = "wake-ups" },
  TAIL          = { 0x80, 32, "rw", region = 1, description = "records taken out of the ring: ours" },
  WAKE_AT       = { 0x84, 32, "rw", region = 1, description = "wake when HEAD gets here, once; NOTIFY is ASKED" },

  -- ---- Region 2, "ring": UIO_MEM_VIRTUAL; record n is at n modulo RECORDS ----------------------
  RECORD        = { 0x00, count = 4, stride = 32, region = 2, description = "the first of them",
                    block = {
                      NUMBER  = { 0x00, 64, "ro", description = "of the interrupt; a gap: dropped" },
                      TIME_NS = { 0x08, 64, "ro", description = "when the handler ran, CLOCK_MONOTONIC" },
                      DUE_NS  = { 0x10, 64, "ro", description = "when the timer was to fire" },
                      PERIODS = { 0x18, 32, "ro", description = "that it stands for: more than 1 when late" },
                    } },
}
