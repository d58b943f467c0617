--- `make dist` on a board (spec/support/board.lua) with a real device: a UIO driver, registers, an interrupt, DMA.

local board = require "spec.support.board"
local files = require "spec.support.files"
local uv = require "luv"

local EDU = os.getenv "LUIO_EDU" or "0000:00:04.0"
local PC = uv.os_uname().machine == "x86_64"

describe("the file for a board", function()
  local b, why
  setup(function() b, why = board.make(PC and "amd64" or "arm64") end)
  teardown(files.clean)

  it("drives a real device with nothing but a C library", function()
    if not b then return pending(why) end
    local out, status = b:run("info " .. EDU)
    assert.equal(0, status, out)
    assert.matches("luio driver +edu\n", out)
    -- The arm64 guest's edu has 64 address bits: its RAM begins beyond 28.
    b:put("/tmp/there_and_back.lua", ([[
      local luio = require "luio"
      local edu = assert(luio.load "edu")
      edu.dma = { bits = %d }
      local dev = assert(luio.start(edu, arg[1]))
      print((assert(edu.factorial(dev, 10))))
      local from, to = assert(dev.dma:alloc(64)), assert(dev.dma:alloc(64))
      from:write(0, "there and back")
      assert(edu.to_device(dev, from, 14))
      assert(edu.from_device(dev, to, 14))
      print(to:read(0, 14), dev.irqs[0]:stats().interrupts >= 3)]]):format(PC and 28 or 64))
    assert.same({ "3628800\nthere and back\ttrue\n", 0 }, { b:run("/tmp/there_and_back.lua " .. EDU) })
  end)

  if PC then
    it("shows its demo on it", function()
      if not b then return pending(why) end
      local out, status = b:run("/opt/luio/share/luio/examples/demo.lua " .. EDU)
      assert.equal(0, status, out)
      assert.matches("\nAll as it should be", out)
      assert.matches("by interrupt %(IRQ_STATUS was 0x1%)", out)
    end)
  end
end)
