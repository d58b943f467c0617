--- A driver that acknowledges right, both ways.
return {
  name = "two_status", match = { pci = "1234:4713" }, registers = require "drivers.two_status.registers",
  irq = {
    capture = { "A", "B", "P", "SERIAL" },
    ack = { "A", "B", { "SERIAL", "SERIAL", mask = 0xfffffdff }, { "SERIAL", "SERIAL" } },
  },
}
