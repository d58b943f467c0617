--- Out of descriptors on a real device: each step says so.

local scarcity = require "spec.support.scarcity"

describe("a step of a program on a real device that finds no descriptor", function()
  for _, step in ipairs { "luio.list", "luio.open", "luio.start", "a reload", "an interrupt's start", "DMA memory", "the kernel's events" } do
    it("says so: " .. step, function() scarcity.check(step, "0000:00:04.0", "drivers/edu") end)
  end
end)
