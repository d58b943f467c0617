--- The smallest program, examples/arp.lua, asked by the kernel of the far side.

local program = require "spec.support.program"
local wait = require "spec.support.wait"
local wire = require "spec.support.wire"

describe("examples/arp.lua on a wire", function()
  setup(wire.setup)
  teardown(wire.release)

  it("answers for its address and for no other, and counts what came", function()
    local one = wire.beside(("%s examples/arp.lua %s 10.0.0.9"):format(program.PATH, wire.NIC))
    wait.till(20, "the port", function() return one.text():find "answers for 10.0.0.9" end)
    wire.far "ip neigh flush dev wire0"
    assert.matches("Received 2 response", (wire.far("busybox arping -c 2 -w 120 -I %s 10.0.0.9", wire.FAR)))
    assert.has_error(function() wire.far("busybox arping -c 1 -w 1 -I %s 10.0.0.8", wire.FAR) end)
    one.kill "sigint"
    assert.matches("EtherType 0x0806: %d+\n", one.text())
    assert.equal(0, one.exit)
  end)
end)
