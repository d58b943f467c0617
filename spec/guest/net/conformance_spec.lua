--- drivers/e1000e keeps luio.net's promises with a kernel's interrupts and memory. The other parts, and all of them on the 82540EM, are
--- shown without a guest: spec/qemu/cards.lua; e1000e_spec has that card's traffic behind a kernel. Statements about the cards here are
--- about QEMU's models, from their source (7.2, hw/net/e1000.c, e1000e_core.c).

local amount = require "spec.support.amount"
local conformance = require "spec.net.conformance"
local qmp = require "spec.support.qmp"
local reset = require "spec.support.reset_card"

teardown(qmp.close)

local PACKETS = amount(5000, 20000)

conformance {
  address = "0000:00:05.0", packets = PACKETS, parts = amount({ "waits", "life" }, nil),
  driver = "drivers/e1000e", reset = reset,
  flap = function(_, up) qmp.set_link("nic", up) end,
  short = "QEMU's 82574L counts a short frame in RUC, and pads it",
  uncounted = "QEMU's 82574L counts no frame that its full ring misses",
}
