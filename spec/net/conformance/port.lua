--- Conformance: what a port says of itself, and how it is opened.

local busted = require "busted"
local assert = require "luassert"
local luio = require "luio"
local net = require "luio.net"
local wait = require "spec.support.wait"

local it = busted.it

return function(subject)
  it("has an address, an mtu, features and a link", function()
    local port = subject.open()
    local mac = assert(net.mac_bytes(port.mac))
    assert.equal(0, mac:byte() % 2) -- of one, not of many
    assert.equal(port.mac, net.mac_text(mac))
    assert.equal(1500, port.mtu)
    assert.is_true(port.features.loopback)
    for _, name in ipairs { "tx_checksum", "rx_checksum", "interrupts" } do assert.is_boolean(port.features[name]) end
    assert.is_true(port.features.max_mtu >= 1500)
    assert.same({ 0, 0 }, { port.rx[0].number, port.tx[0].number })
    local link = port:link()
    assert.is_true(link.up)
    assert.is_true(({ [10] = true, [100] = true, [1000] = true, [2500] = true, [10000] = true })[link.speed])
    assert.is_boolean(link.full_duplex)
    assert.equal(port, net.port(port.dev))
    assert.matches("^port .+ " .. port.mac .. "$", tostring(port))
  end)

  it("refuses options that can't be, before anything is touched", function()
    local port, message, code = net.open(subject.address, { mtu = 20 })
    assert.same({ nil, "EINVAL" }, { port, code })
    assert.matches("mtu is %d+ to %d+, not 20", message)
    port, message, code = net.open(subject.address, { mtu = 1000000, loopback = true })
    assert.same({ nil, "EINVAL" }, { port, code })
    assert.matches("not 1000000", message)
    for _, case in ipairs {
      { { mut = 1500 }, "unknown option mut %(did you mean mtu%?%)" }, { { rx = 100 }, "a power of two, not 100" },
      { { tx = 4 }, "8 to 4096" }, { { debug = 1 }, "debug is a boolean, not 1" },
    } do
      local ok, why = pcall(function()
        local none = net.open(subject.address, case[1])
        return none
      end)
      assert.is_false(ok)
      assert.matches("port.lua:%d+: net.open: .*" .. case[2], why)
    end
    port, message, code = net.open(subject.address, { packets = 8, loopback = true })
    assert.same({ nil, "ENOBUFS" }, { port, code })
    assert.matches("needs as many packets; the pool had 8", message)
  end)

  it("has rings and a pool of the sizes that were asked for", function()
    local port = subject.open { rx = 16, tx = 8, packets = 100, mtu = 1000 }
    assert.same({ 1000, 100, 16, 7 }, { port.mtu, port.pool.count, port.pool:used(), port.tx[0]:reclaim() })
    assert.is_true(port.pool.size - port.pool.headroom >= 1000 + 18)
  end)

  if subject.flap then
    it("tells when the link goes and comes, whoever listens and whoever waits", function()
      local port = subject.open()
      luio.run(function()
        local heard = {}
        local forget = port:on_link(function(link) table.insert(heard, link.up) end)
        local waited
        luio.spawn(function() waited = { port:wait_link(false, 10) } end)
        subject.flap(port, false)
        wait.till(10, "the link is down", function() return not port:link().up end)
        wait.till(10, "it was told", function() return heard[1] ~= nil end)
        wait.till(10, "who waits was told", function() return waited end)
        assert.same({ { false }, { true } }, { heard, waited })
        local ok, message, code = port:wait_link(true, 0.01)
        if not ok then -- by itself it may come back at any time
          assert.equal("ETIMEDOUT", code)
          assert.matches("the link of .* is down after 0.01 s", message)
        end
        subject.flap(port, true)
        assert(port:wait_link(true, 10))
        wait.till(10, "it was told again", function() return heard[2] ~= nil end)
        assert.same({ false, true }, heard)
        forget()
      end)
    end)
  end

  it("can be closed, and is then of no use", function()
    local port = subject.open()
    local packet = port.pool:alloc()
    assert(port:close())
    assert(port:close())
    assert.equal(0, port.rx[0]:burst(luio.batch(8), 8))
    for _, name in ipairs { "link", "stats" } do
      assert.has_error(function() port[name](port) end, ("%s of %s: the port is closed"):format(name, port.dev.address))
    end
    assert.has_error(function() port.rx[0]:wait(1) end, ("receive of %s: the port is closed"):format(port.dev.address))
    assert.has_error(function() port.rx[0]:receive(1) end, ("receive of %s: the port is closed"):format(port.dev.address))
    assert.has_error(function() port.tx[0]:wait(1) end, ("send of %s: the port is closed"):format(port.dev.address))
    assert.has_error(function() packet:free() end)
    assert.matches("closed$", tostring(port))
  end)

  it("wakes who waits when it is closed", function()
    local port = subject.open()
    luio.run(function()
      local result
      luio.spawn(function() result = { port.rx[0]:receive(1000) } end)
      assert(port:close())
      wait.till(5, "it was woken", function() return result end)
      assert.is_nil(result[1])
      assert.is_true(result[3] == "ECANCELED" or result[3] == "ENODEV", tostring(result[3]))
    end)
  end)
end
