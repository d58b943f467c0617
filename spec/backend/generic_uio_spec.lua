--- Devices of the device tree keep to what a backend promises (spec/backend/conformance.lua), by uio_pdrv_genirq.

local conformance = require "spec.backend.conformance"
local luio = require "luio"
local match = require "luio.driver.match"
local sysfs = require "spec.support.sysfs"

local function address(driver) return assert(match.devices(assert(luio.load(driver))))[1].address end
local function bound(name, verb) sysfs.write("bus/platform/drivers/uio_pdrv_genirq/" .. verb, name) end

local DR, MR, IMSC, MIS, ICR = 0x00, 0x04, 0x10, 0x18, 0x1c -- pl031

conformance {
  name = "pl031 by generic-uio", address = address "pl031",
  regions = {
    [0] = {
      size = 0x1000, kind = "memory", name = "^map0$", id = { 0xfe0, 32, 0x31 }, last = 32,
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
  leave = function() bound("9010000.pl031", "unbind") end,
  back = function() bound("9010000.pl031", "bind") end,
}

conformance {
  name = "pl061 by generic-uio", address = address "pl061", only = "regions",
  regions = { [0] = { size = 0x1000, kind = "memory", name = "^map0$", id = { 0xfe0, 32, 0x61 }, last = 32 } },
}
