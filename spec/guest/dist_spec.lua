--- `make dist` on a board (spec/support/board.lua) with a real device: a UIO driver, registers, an interrupt, DMA.

local board = require "spec.support.board"
local files = require "spec.support.files"

local EDU = os.getenv "LUIO_EDU" or "0000:00:04.0"

describe("the file for a board", function()
  teardown(files.clean)

  it("drives a real device with nothing but a C library", function()
    local b, why = board.make "amd64"
    if not b then return pending(why) end
    local out, status = b:run("info " .. EDU)
    assert.equal(0, status, out)
    assert.matches("luio driver +edu\n", out)
    out, status = b:run("/opt/luio/share/luio/examples/demo.lua " .. EDU)
    assert.equal(0, status, out)
    assert.matches("\nAll as it should be", out)
    assert.matches("by interrupt %(IRQ_STATUS was 0x1%)", out)
  end)
end)
