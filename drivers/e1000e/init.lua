--- Intel 82574L, QEMU's "e1000e": so far its register map, for looking.
return { name = "e1000e", match = { pci = "8086:10d3" }, registers = require "drivers.e1000e.registers" }
