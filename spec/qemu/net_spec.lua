--- The 82574L: spec/qemu/cards.lua.

require "spec.qemu.cards" {
  address = "qemu:e1000e",
  short = "QEMU's 82574L counts a short frame in RUC, and pads it",
  uncounted = "QEMU's 82574L counts no frame that its full ring misses",
}
