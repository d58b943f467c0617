--- Devices of the board `virt` of a QEMU machine without a guest, found in its device tree, keep to what a backend promises
--- (spec/backend/conformance.lua). In the arm64 guest uio_pdrv_genirq does (spec/backend/generic_uio_spec.lua).

local arm_board = require "spec.support.arm_board"
local bit = require "bit"
local conformance = require "spec.backend.conformance"

local DR, MR, IMSC, MIS, ICR = 0x00, 0x04, 0x10, 0x18, 0x1c -- pl031

arm_board.describe("on the board virt", function()
  conformance {
    name = "pl031 of a QEMU machine", address = "qemu:virt/pl031", private = true,
    regions = {
      [0] = {
        size = 0x1000, kind = "qemu", name = "^map0$", id = { 0xfe0, 32, 0x31 }, last = 32,
        scratch = { { offset = MR, widths = { 32 } } },
      },
    },
    interrupt = {
      setup = { capture = { { "MIS", MIS } }, ack = { { ICR, "MIS" } } }, names = { "MIS" },
      raise = function(dev) -- the clock says what the alarm waits for
        dev.regions[0]:write32(IMSC, 1)
        dev.regions[0]:write32(MR, dev.regions[0]:read32(DR))
      end,
      quiet = function(dev) dev.regions[0]:write32(IMSC, 0) end,
    },
  }

  conformance {
    name = "pl061 of a QEMU machine", address = "qemu:virt/pl061", private = true, only = "regions",
    regions = { [0] = { size = 0x1000, kind = "qemu", name = "^map0$", id = { 0xfe0, 32, 0x61 }, last = 32 } },
  }

  -- The same card, and the other processor's windows and interrupt controller. With a property it is asked of -device at once.
  conformance {
    name = "edu of a QEMU machine", address = "qemu:virt/edu,id=edu", private = true, pci = { 0x1234, 0x11e8 },
    regions = {
      [0] = {
        size = 0x100000, kind = "qemu", name = "^BAR0$", id = { 0x00, 32, 0x010000ed }, last = 32,
        scratch = {
          { offset = 0x04, widths = { 32 }, back = function(value) return bit.bnot(value) % 2 ^ 32 end },
          { offset = 0x80, widths = { 64 } },
        },
      },
    },
    interrupt = {
      setup = { capture = { { "cause", 0x24 } }, ack = { { 0x64, "cause" } } }, names = { "cause" },
      raise = function(dev) dev.regions[0]:write32(0x60, 1) end,
    },
  }
end)
