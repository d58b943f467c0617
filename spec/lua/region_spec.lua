local luio = require "luio"

describe("a region", function()
  local dev, regs
  before_each(function()
    dev = assert(luio.open "sim:edu")
    regs = dev.regions[0]
  end)
  after_each(function() assert(dev:close()) end)

  it("says what and where it is", function()
    assert.equal("sim", regs.kind)
    assert.equal(0x100000, regs.size)
    assert.is_true(regs.writable)
  end)
end)
