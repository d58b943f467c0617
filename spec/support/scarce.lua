--- A program that holds all descriptors but so many, and takes a step; for each number of them up to one. It prints the number
--- and the result of the step: "fine", or its message or error.
---
---     build/luio spec/support/scarce.lua STEP MOST [DEVICE DRIVER]      sim:edu and drivers/edu

local ffi = require "ffi"
ffi.cdef "int open(const char *, int, ...); int close(int);"
local luio = require "luio"
local held = {}
local function leave(free)
  repeat held[#held + 1] = ffi.C.open("/", 0x280000) until held[#held] < 0 -- O_PATH, O_CLOEXEC
  held[#held] = nil
  for _ = 1, free do ffi.C.close(table.remove(held)) end
end
local function give_back()
  while held[1] do ffi.C.close(table.remove(held)) end
end
local DEVICE, DRIVER = arg[3] or "sim:edu", arg[4] or "drivers/edu"
local function open() return assert(luio.open(DEVICE)) end
local steps = {
  ["luio.list"] = { function() return luio.list() end },
  ["luio.open"] = { function() return luio.open(DEVICE) end },
  ["luio.open of what is not there"] = { function() return luio.open "uio99" end },
  ["luio.load"] = { function() return luio.load(DRIVER) end },
  ["luio.start"] = { function() return luio.start(DRIVER, DEVICE) end },
  ["a reload"] = { function(dev) return dev:reload() end, function() return assert(luio.start(DRIVER, DEVICE)) end },
  ["an interrupt's start"] = { function(dev) return dev.irqs[0]:start() end, open },
  ["DMA memory"] = { function(dev) return dev.dma:alloc(4096) end, open },
  ["a network port"] = { function() return require("luio.net").open("sim:e1000e", { loopback = true }) end },
  ["a serial port"] = { function() return require("luio.serial").open "sim:uart16550" end },
  ["require"] = { function() return require "luio.net.pcapng" end },
  ["the kernel's events"] = { function() return require("luio.hotplug.monitor").open() end },
  ["a return"] = { function(dev)
    dev.sim.plug()
    return dev:wait_return(5)
  end, function()
    local dev = open()
    dev:watch_presence()
    dev.sim.unplug()
    luio.sleep(0.05)
    return dev
  end },
}
local step = steps[arg[1]]
luio.on_warning(function() end)
local function once(free)
  local dev = step[2] and step[2]()
  leave(free)
  local ok, result, message, code = pcall(step[1], dev)
  give_back()
  if ok and result then
    luio.close_all()
    return "fine"
  end
  luio.close_all()
  return ("%s %s %s"):format(ok and "nil" or "raised", tostring(ok and message or result):gsub("\n.*", ""), tostring(code))
end
luio.run(function()
  for free = 0, tonumber(arg[2]) do print(free, once(free)) end
end)
