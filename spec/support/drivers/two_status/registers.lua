local luio = require "luio"

return luio.registers {
  name = "two_status",
  A = { 0, 32, "w1c" },
  B = { 4, 32, "w1c" },
  RAISE_A = { 8, 32, "wo" },
  RAISE_B = { 12, 32, "wo" },
  SERIAL = { 16, 32, "rw", ENABLE = 9 },
  P = { 20, 32, "ro" },
  RAISE_P = { 24, 32, "wo" },
}
