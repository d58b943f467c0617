--- edu with an acknowledgement that takes back any bit but the one that interrupts: an interrupt storm, from the start on.
local luio = require "luio"

local stuck = {
  name = "stuck", match = { pci = "1234:11e8" }, registers = require "drivers.edu.registers",
  irq = { capture = "IRQ_STATUS", ack = { { "IRQ_ACK", "IRQ_STATUS", mask = 0xfffffffe } } },
}

function stuck.start(dev)
  dev.regs.IRQ_RAISE:write(1)
  luio.spawn(function()
    repeat local event = dev.irqs[0]:wait(60) until not event
  end)
  return true
end

function stuck.stop(dev) dev.regs.IRQ_ACK:write(1) end

return stuck
