--- A simulated device that is unplugged and plugged in: spec/hotplug/conformance.lua.

local luio = require "luio"

require "spec.hotplug.conformance" {
  name = "a simulated device", address = "sim:edu", region = "region0", why = "unplugged", cycles = 50,
  start = function() return assert(luio.start("edu", "sim:edu")) end,
  unplug = function(dev) dev.sim.unplug() end,
  plug = function(dev) dev.sim.plug() end,
}
