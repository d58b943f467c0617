--- The 82540EM: spec/qemu/cards.lua. It receives nothing for a second after each write of RCTL, so an opening takes as long. Batches
--- and waits are luio.net's own, and shown by the 82574L.

local amount = require "spec.support.amount"

require "spec.qemu.cards" {
  address = "qemu:e1000", parts = amount({ "port", "frames", "counts", "life" }, nil),
  blind = "QEMU's 82540EM looks at no checksum of what it receives",
  uncounted = "QEMU counts no frame that comes back from its 82540EM's PHY to a full ring",
}
