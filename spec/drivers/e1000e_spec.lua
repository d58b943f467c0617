--- drivers/e1000e on the models of its two cards keeps to what luio.net promises.

local conformance = require "spec.net.conformance"

-- A reset by somebody else: another process, a firmware.
local function reset(port) port.dev.regs.CTRL:update { RST = 1 } end

-- The MAC takes no notice of the PHY's link without SLU.
local function flap(port, up) port.dev.regs.CTRL:update { SLU = up and 1 or 0 } end

for _, address in ipairs { "sim:e1000e", "sim:drivers/e1000e/model_82540em.lua" } do
  conformance { address = address, packets = 1000, driver = "drivers/e1000e", reset = reset, flap = flap }
end
