--- For startup.lua: from nothing to the first register of a simulated device.

local dev = assert(require("luio").open "sim:edu")
assert(dev.regions[0]:read32(0) == 0x010000ed)
assert(dev:close())
