--- Holds drivers/e1000e on a card of QEMU's, without a guest, to luio.net's promises. What a kernel has to do with it (its UIO
--- driver's interrupts, DMA memory that it gave, its own network) is shown in the guests: spec/guest/net, spec/guest/wire.
--- Statements about the cards are about QEMU's models, from their source (7.2, hw/net/e1000.c, e1000e_core.c).

local amount = require "spec.support.amount"
local conformance = require "spec.net.conformance"

-- CTRL.RST resets nothing in QEMU 7.2 but the address, so the reset values are written.
local function reset(port)
  local regs = port.dev.regs
  regs.RCTL:write(0)
  regs.TCTL:write(0)
  for _, name in ipairs { "RDLEN", "TDLEN", "RDH", "RDT", "TDH", "TDT", "RDBAL", "TDBAL" } do regs[name][0]:write(0) end
end

---@param subject luio.Conformance
return function(subject)
  subject.packets, subject.reset = amount(5000, 20000), reset
  function subject.flap(port, up) assert(port.dev.qemu:command("set_link", { name = "luio-device", up = up })) end
  conformance(subject)
end
