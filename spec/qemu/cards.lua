--- Holds drivers/e1000e on a card of QEMU's, without a guest, to luio.net's promises. What a kernel has to do with it (its UIO
--- driver's interrupts, DMA memory that it gave, its own network) is shown in the guests: spec/guest/net, spec/guest/wire.
--- Statements about the cards are about QEMU's models, from their source (7.2, hw/net/e1000.c, e1000e_core.c).

local amount = require "spec.support.amount"
local conformance = require "spec.net.conformance"
local reset = require "spec.support.reset_card"

---@param subject luio.Conformance
return function(subject)
  subject.packets, subject.reset = amount(5000, 20000), reset
  function subject.flap(port, up) assert(port.dev.qemu:command("set_link", { name = "luio-device", up = up })) end
  conformance(subject)
end
