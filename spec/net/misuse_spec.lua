--- luio.net when it is used wrongly: by a driver whose offer lacks something, by a program that takes one thing for another.

local luio = require "luio"
local net = require "luio.net"

describe("a network driver's offer", function()
  local dev, offer

  before_each(function()
    dev = assert(luio.open "sim:edu")
    local function nothing() return 0 end
    offer = {
      mac = "52:54:00:12:34:56", mtu = 1500, pool = {},
      features = { tx_checksum = false, rx_checksum = false, loopback = false, interrupts = false, max_mtu = 1500 },
      rx = { [0] = { ring = {}, burst = nothing, ready = nothing } },
      tx = { [0] = { ring = {}, burst = nothing, reclaim = nothing, pending = nothing } },
      link = function() return { up = false } end, stats = function() return { rx_packets = 1 } end,
      promiscuous = nothing, multicast = nothing, arm = nothing, interrupted = nothing,
    }
  end)
  after_each(function() dev:close() end)

  local function refused()
    local ok, message, code = net.serve(dev, offer)
    assert.is_nil(ok)
    assert.equal("EINVAL", code)
    return message
  end

  it("is refused when it lacks a function, by name", function()
    offer.tx[0].reclaim = nil
    assert.equal("net.serve: tx[0] lacks reclaim", refused())
    offer.tx[0] = nil
    assert.equal("net.serve: tx lacks [0]: queues are numbered from 0", refused())
    offer.arm = nil
    assert.equal("net.serve: the offer lacks arm", refused())
  end)

  it("is refused for a slip", function()
    offer.mac, offer.mca = nil, offer.mac
    assert.matches("^net.serve: the offer: unknown key mca %(did you mean mac%?%)", refused())
    offer.mac, offer.mca = 7, nil
    assert.equal("net.serve: the offer.mac is a string, not 7", refused())
  end)

  it("must have all counters", function()
    dev.driver = { name = "mynic" }
    assert(net.serve(dev, offer))
    dev.users[1](dev) -- as luio.reload.live does when it has started
    local port = net.port(dev)
    assert.error_matches(function() port:stats() end, "driver mynic: its stats lack rx_bytes")
  end)
end)

describe("a port", function()
  local port
  before_each(function() port = assert(net.open("sim:e1000e", { loopback = true })) end)
  after_each(function() port:close() end)

  it("says what it needs when it is given something else", function()
    local rx, tx = port.rx[0], port.tx[0]
    assert.error_matches(function() tx:send("hello", 1) end, "send: a packet was expected, not hello")
    assert.error_matches(function() tx:send(nil, 1) end, "send: a packet was expected, not nil")
    assert.error_matches(function() rx:burst({}, 5) end, "a burst needs a batch %(luio.batch%), not table")
    assert.error_matches(function() tx:burst({}, 5) end, "a burst needs a batch")
    assert.error_matches(function() rx:burst(luio.batch(4), 5) end, "a burst of 5 packets in a batch of 4")
    assert.matches("misuse_spec.lua:%d+: send", select(2, pcall(function() tx:send(nil, 1) end)))
    local packet = port.pool:alloc()
    assert.error_matches(function() packet:raed() end, "a packet has no raed %(did you mean read%?%)")
    packet:free()
  end)

  it("does not keep luio.run from ending", function()
    local got
    luio.spawn(function() got = port:wait_link(true, 5) end)
    luio.run()
    assert.is_true(got)
  end)
end)

describe("a driver that does not load", function()
  it("is named where no other matches", function()
    local files = require "spec.support.files"
    local program = require "spec.support.program"
    local _, folder = files.write("drivers/mynic/init.lua",
      "return { name = 'mynic', match = { pci = '1af4:9999' }, dmaa = {} }")
    files.save(folder .. "/drivers/mynic/model.lua",
      "local function nothing() return 0 end "
      .. "return { pci = { vendor = 0x1af4, device = 0x9999, class = 0, revision = 0 }, regions = {}, read = nothing, write = nothing }")
    local text, status = files.shell(("LUIO_DRIVERS=$PWD/%s %s examples/pktgen.lua sim:mynic"):format(folder, program.PATH))
    assert.equal(1, status)
    assert.matches("drivers/mynic/init.lua: mynic.dmaa: did you mean dma%?", text)
    files.clean()
  end)
end)
