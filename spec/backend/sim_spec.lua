--- Simulated devices keep to what a backend promises (spec/backend/conformance.lua). Real ones do in the guest:
--- spec/backend/pci_spec.lua, spec/guest/devmem_spec.lua.

local bit = require "bit"
local conformance = require "spec.backend.conformance"
local probe = require "spec.support.probe"

setup(probe.setup)
teardown(probe.teardown)

local function accesses(dev)
  local stats = dev.sim.stats()
  return stats.reads + stats.writes
end

local function leave(dev) dev.sim.unplug() end
local function back(dev) dev.sim.plug() end

conformance {
  address = "sim:edu", private = true, pci = { 0x1234, 0x11e8 }, accesses = accesses, leave = leave, back = back,
  regions = {
    [0] = {
      size = 0x100000, kind = "sim", id = { 0x00, 32, 0x010000ed }, last = 32,
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

-- Two regions, memory in both, and no interrupt.
conformance {
  address = "sim:probe", private = true, pci = { 0x1234, 0x4711 }, accesses = accesses, leave = leave, back = back,
  regions = {
    [0] = { size = 0x200, kind = "sim", id = { 0x00, 8, 0x10 }, ram = { 0x100, 0x28 } },
    [2] = { size = 0x10, kind = "sim", scratch = { { offset = 8, widths = { 8, 16, 32, 64 } } } },
  },
}
