--- For scripts in the guest: devices at work, so that it shows what a fault of the machine does to them. One edu and a network
--- card in loopback belong to this process, another edu to a `luio run` beside it.

local files = require "spec.support.files"
local luio = require "luio"
local net = require "luio.net"
local frames = require "spec.net.conformance.support"
local program = require "spec.support.program"
local wait = require "spec.support.wait"

local M = { EDU = "0000:00:04.0", NIC = "0000:02:00.0", OTHER = "0000:01:00.0" }

-- Transfers there and back, and interrupts: how many were right, and how many not, in a file.
local DRIVER = [[
local luio = require "luio"
local edu = assert(luio.load "drivers/edu")
local d = { name = "at-work", registers = edu.registers, irq = edu.irq, dma = edu.dma, quiesce = edu.quiesce }
function d.start(dev)
  local buffer = assert(dev.dma:alloc(64))
  local good, lost = 0, 0
  luio.spawn(function()
    while true do
      local text = ("%014d"):format(good)
      buffer:write(0, text)
      assert(edu.to_device(dev, buffer, 14))
      buffer:fill(0)
      assert(edu.from_device(dev, buffer, 14))
      assert(edu.factorial(dev, 5) == 120)
      if buffer:read(0, 14) == text then good = good + 1 else lost = lost + 1 end
      dev:check_config()
      local f = assert(io.open("COUNTS", "w"))
      f:write(good, " ", lost)
      f:close()
      luio.sleep(0.02)
    end
  end)
  return true
end
return d
]]

---@class Work
---@field said string[]  warnings of the devices that are ours

--- Starts all.
---@return Work
function M.start()
  local self = setmetatable({ said = {} }, { __index = M })
  local function hear(dev)
    dev.on_warning = function(message) table.insert(self.said, message) end
  end
  self.dev = assert(luio.start("edu", M.EDU))
  self.port = assert(net.open(M.NIC, { loopback = true }))
  hear(self.dev)
  hear(self.port.dev)
  frames.wait_for_loopback(self.port)
  self.counts = files.write("counts", "0 0")
  self.program = program.start { "run", files.driver((DRIVER:gsub("COUNTS", self.counts))), M.OTHER }
  self.program:wait "runs on"
  self.worker = self.program:children()[1]
  return self
end

-- The worker's counts: right, wrong.
function M:counted()
  local good, lost = files.read(self.counts):match "(%d+) (%d+)"
  return tonumber(good) or 0, tonumber(lost)
end

--- Everything works: interrupts, DMA, frames, and the worker that was there at first.
function M:works()
  local dev, port = self.dev, self.port
  assert(dev.driver.factorial(dev, 5) == 120)
  dev:check_config()
  local buffer = assert(dev.dma:alloc(64))
  buffer:write(0, "there and back")
  assert(dev.driver.to_device(dev, buffer, 14))
  buffer:fill(0)
  assert(dev.driver.from_device(dev, buffer, 14))
  assert(buffer:read(0, 14) == "there and back", "DMA")
  buffer:free()
  port.dev:check_config()
  frames.drain(port) -- frames that were cut off
  frames.wait_for_loopback(port)
  frames.exchange(port, 100)
  local before = self:counted()
  wait.till(20, "work of the other process", function() return (self:counted()) > before + 2 end)
  assert(program.alive(self.worker), "the worker died: " .. self.program:text())
end

function M:close()
  self.program:kill "sigterm"
  assert(self.program:status() == 0, self.program:text())
  self.program:close()
  assert(self.port:close())
  assert(self.dev:close())
end

--- Runs a script's function, and prints its result for machine.lua's `wait`.
---@param fn fun()
function M.run(fn)
  io.stdout:setvbuf "no"
  local ok, message = xpcall(luio.run, debug.traceback, fn)
  print(ok and "[done]" or "[failed] " .. tostring(message))
end

return M
