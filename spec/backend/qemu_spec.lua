--- QEMU's devices without a guest keep to what a backend promises (spec/backend/conformance.lua).

local bit = require "bit"
local conformance = require "spec.backend.conformance"

local luio = require "luio"

local edu = {
  name = "edu of a QEMU machine", address = "qemu:edu", private = true, pci = { 0x1234, 0x11e8 },
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
conformance(edu)

-- The same by messages.
local by_msi = {}
for key, value in pairs(edu) do by_msi[key] = value end
by_msi.name, by_msi.only = "edu of a QEMU machine by MSI", "interrupts"
function by_msi.open(options)
  local all = { vectors = "msi" }
  for key, value in pairs(options or {}) do all[key] = value end
  return luio.open(edu.address, all)
end
conformance(by_msi)

-- The holding register is empty, which interrupts as soon as IER lets it; reading IIR takes that back.
conformance {
  name = "pci-serial of a QEMU machine", address = "qemu:pci-serial", private = true, pci = { 0x1b36, 0x0002 },
  regions = { [0] = { size = 8, kind = "qemu", name = "^BAR0$", widths = { 8, 16, 32 }, scratch = { { offset = 7, widths = { 8 } } }, id = { 5, 8, 0x60 } } },
  interrupt = {
    setup = { capture = { { "IIR", 2, width = 8 } } }, names = { "IIR" },
    raise = function(dev)
      dev.regions[0]:write8(1, 0)
      dev.regions[0]:write8(1, 2)
    end,
    quiet = function(dev) dev.regions[0]:write8(1, 0) end,
  },
}
