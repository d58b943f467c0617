--- Real devices keep to what a backend promises (spec/backend/conformance.lua), by each way there is to PCI: a UIO map, a
--- BAR by sysfs beside a UIO driver's absence, I/O ports. /dev/mem is devmem_spec's.

local bit = require "bit"
local conformance = require "spec.backend.conformance"
local sysfs = require "spec.support.sysfs"
local wait = require "spec.support.wait"

local EDU, SERIAL, TESTDEV, NVME = "0000:00:04.0", "0000:00:06.0", "0000:00:07.0", "0000:00:08.0"

-- Bus master and the INTx mask; what the kernel counts of enabling it.
local function unchanged(address)
  return function()
    return { sysfs.command(address), sysfs.read("bus/pci/devices/" .. address .. "/enable") }
  end
end

conformance {
  name = "edu by UIO", address = EDU, aliases = { "00:04.0" }, pci = { 0x1234, 0x11e8 }, unchanged = unchanged(EDU),
  regions = {
    [0] = {
      size = 0x100000, kind = "memory", name = "^BAR0 by uio%d+ map0$", id = { 0x00, 32, 0x010000ed }, last = 32,
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
  leave = function() sysfs.unbind(EDU) end,
  back = function() sysfs.bind(EDU) end,
}

-- The holding register is empty, which interrupts as soon as IER lets it; reading IIR takes that back.
conformance {
  name = "pci-serial by I/O ports", address = SERIAL, pci = { 0x1b36, 0x0002 }, unchanged = unchanged(SERIAL),
  regions = { [0] = { size = 8, kind = "port", name = "^BAR0", scratch = { { offset = 7, widths = { 8 } } }, id = { 5, 8, 0x60 } } },
  interrupt = {
    setup = { capture = { { "IIR", 2, width = 8 } } }, names = { "IIR" },
    raise = function(dev)
      dev.regions[0]:write8(1, 0)
      dev.regions[0]:write8(1, 2)
    end,
    quiet = function(dev) dev.regions[0]:write8(1, 0) end,
  },
  leave = function() sysfs.unbind(SERIAL) end,
  back = function() sysfs.bind(SERIAL) end,
}

-- No UIO driver, so no interrupt; reached by resourceN. A 64-bit BAR.
describe("without a UIO driver", function()
  setup(function() sysfs.unbind(NVME) end)
  teardown(function() sysfs.bind(NVME) end)
  conformance {
    name = "nvme's BAR by sysfs", address = NVME, pci = { 0x1b36, 0x0010 }, unchanged = unchanged(NVME),
    regions = {
      [0] = {
        size = 0x4000, kind = "memory", name = "^BAR0 by resource0$", id = { 0x08, 32, 0x00010400 },
        scratch = { { offset = 0x28, widths = { 64 } } }, -- ASQ, of which QEMU keeps all bits
      },
    },
    leave = function() sysfs.write("bus/pci/devices/" .. NVME .. "/remove", "1") end,
    back = function()
      sysfs.write("bus/pci/rescan", "1")
      wait.till(10, "nvme is there", function() return sysfs.exists("bus/pci/devices/" .. NVME) end)
    end,
  }
  conformance {
    name = "pci-testdev, memory and ports", address = TESTDEV, pci = { 0x1b36, 0x0005 }, unchanged = unchanged(TESTDEV),
    regions = {
      [0] = { size = 0x1000, kind = "memory", id = { 0, 8, 0 } },
      [1] = { size = 0x100, kind = "port", id = { 0, 8, 0 } },
    },
  }
end)
