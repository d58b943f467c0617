--- An idle runtime, for memory.lua: luio with one simulated device and its interrupt thread, once
--- round the loop. Prints what the kernel says of it.

local luio = require "luio"
local dev = assert(luio.open "sim:edu")
assert(dev.irqs[0]:start())
dev.irqs[0]:wait(0.01) -- nothing comes
collectgarbage()
collectgarbage() -- twice: the second run frees objects that the first one finalized
local f = assert(io.open "/proc/self/status")
io.write(f:read "*a")
f:close()
assert(dev:close())
