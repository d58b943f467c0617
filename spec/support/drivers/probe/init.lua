return { name = "probe", match = { pci = "1234:4711" }, registers = require "drivers.probe.registers" }
