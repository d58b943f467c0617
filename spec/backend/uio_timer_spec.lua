--- A UIO driver of one's own, with three maps of three memory types and an irqcontrol, keeps to what a backend promises
--- (spec/backend/conformance.lua).

local conformance = require "spec.backend.conformance"
local module = require "spec.support.timer_module"
local sysfs = require "spec.support.sysfs"

local RECORDS = 1024
local PERIOD_NS = 0x08

local info = module.load("records=" .. RECORDS)
teardown(function() if module.loaded() then module.unload() end end)

local function bound(verb) sysfs.write("bus/platform/drivers/uio_timer/" .. verb, info.sysfs:match "[^/]+$") end

conformance {
  name = "uio_timer", address = info.address,
  regions = {
    [0] = { size = 4096, kind = "memory", name = "^map0$", id = { 0, 32, 0x726d6974 } },
    [1] = { size = 4096, kind = "memory", name = "^map1$", ram = { 0x100, 64 } },
    [2] = { size = RECORDS * 32, kind = "memory", name = "^map2$", ram = { 0, 64 } },
  },
  interrupt = {
    setup = { unmask = false }, -- irqcontrol starts and stops the timer
    raise = function(dev)
      dev.regions[0]:write32(PERIOD_NS, 20e6)
      assert(dev:unmask())
    end,
    quiet = function(dev) assert(dev:mask()) end,
  },
  leave = function() bound "unbind" end,
  back = function() bound "bind" end,
}
