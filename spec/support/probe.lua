--- The probe device of spec/support/drivers, for specs in this process and for the program.

local uv = require "luv"

local M = {}

--- Lets this process and its children find the probe's driver and model.
function M.setup()
  uv.os_setenv("LUIO_DRIVERS", uv.cwd() .. "/spec/support")
end

function M.teardown()
  uv.os_unsetenv "LUIO_DRIVERS"
end

--- How often a read that disturbs reached the device.
---@param dev luio.Device
---@return integer
function M.lost(dev)
  return dev.regions[0]:read32(0x3c)
end

return M
