--- The 82574L by MSI: the same driver, with one message in INTx's place (spec/qemu/cards.lua). What does not wait is shown by INTx.

local amount = require "spec.support.amount"
local settings = require "luio.device.settings"

setup(function() settings.vectors = "msi" end)
teardown(function() settings.vectors = nil end)

require "spec.qemu.cards" {
  address = "qemu:e1000e", parts = amount({ "waits", "life" }, nil),
  short = "QEMU's 82574L counts a short frame in RUC, and pads it",
  uncounted = "QEMU's 82574L counts no frame that its full ring misses",
}

describe("this card", function()
  it("interrupts by MSI", function()
    local port = assert(require("luio.net").open "qemu:e1000e")
    assert.equal("msi", port.dev.irqs.kind)
    assert(port:close())
  end)
end)
