--- Serial drivers on their models keep to what luio.serial promises.

local conformance = require "spec.serial.conformance"

local function leave(port) port.dev.sim.unplug() end
local function back(port) port.dev.sim.plug() end

conformance { address = "sim:uart16550", kind = "16550A", fifo = 16, leave = leave, back = back }
conformance { address = "sim:drivers/uart16550/model_tl16c550c.lua", kind = "16550C", fifo = 16, leave = leave, back = back }
conformance { address = "sim:pl011", kind = "PL011", fifo = 16, data = "UARTDR", too_fast = 4000000, leave = leave, back = back }
