--- 16550-compatible UARTs, of which QEMU's "pci-serial" is one: so far the register map, for looking.
return { name = "uart16550", match = { pci = "1b36:0002" }, registers = require "drivers.uart16550.registers" }
