--- The examples' messages about wrong arguments. spec/guest/net runs the examples, on real cards.

local program = require "spec.support.program"

-- The status, and a line on standard error that has these words in it.
local function says(args, status, words)
  local out, got = program.run(args)
  assert.equal(status, got, args .. "\n" .. out)
  assert.is_truthy(out:find(words, 1, true), out)
end

describe("examples/capture.lua", function()
  it("has help, and says what is wrong with its arguments", function()
    says("examples/capture.lua --help", 0, "--snaplen")
    says("examples/capture.lua", 2, "capture: missing argument 'device'")
    says("examples/capture.lua sim:edu", 2, "capture: missing argument 'file'")
    says("examples/capture.lua sim:edu x --snaplen 0", 2, "a whole number from 1")
    says("examples/capture.lua sim:edu x --count 1.5", 2, "a whole number from 1")
    says("examples/capture.lua sim:edu x --seconds no", 2, "--seconds no: a number of seconds above 0 was expected")
    says("examples/capture.lua sim:edu x --filter 'tcp port'", 2, [[filter "tcp port": libpcap: can't parse filter expression]])
    says("examples/capture.lua sim:edu x --filters tcp", 2, "unknown option '--filters'")
  end)

  it("says which device it can't have, before it touches a file", function()
    says("examples/capture.lua 0000:ff:1f.7 /nowhere/x", 1, "capture: there is no device 0000:ff:1f.7")
    says("examples/capture.lua nonsense x", 1, "nonsense")
    says("examples/capture.lua sim:edu x", 1, "driver edu is no network driver")
  end)
end)

describe("examples/pktgen.lua", function()
  it("has help, and says what is wrong with its arguments", function()
    says("examples/pktgen.lua --help", 0, "--rate")
    says("examples/pktgen.lua", 2, "pktgen: missing argument 'device'")
    says("examples/pktgen.lua sim:edu --rate 0", 2, "a number from 0.001")
    says("examples/pktgen.lua sim:edu --size 59", 2, "a whole number from 60")
    says("examples/pktgen.lua sim:edu --dst 1:2", 2, "a MAC address was expected")
    says("examples/pktgen.lua sim:edu --ip-src 10.0.0.256", 2, "an IPv4 address was expected")
    says("examples/pktgen.lua sim:edu --port 65536", 2, "from 0 to 65535")
  end)

  it("says which device it can't have", function()
    says("examples/pktgen.lua 0000:ff:1f.7", 1, "pktgen: there is no device 0000:ff:1f.7")
    says("examples/pktgen.lua sim:edu", 1, "driver edu is no network driver")
  end)
end)
