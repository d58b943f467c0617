--- Conformance: frames of every length, the filters, and checksums.

local busted = require "busted"
local assert = require "luassert"
local ffi = require "ffi"
local luio = require "luio"
local net = require "luio.net"
local pool = require "luio.pool"
local pending = require "spec.support.pending"
local support = require "spec.net.conformance.support"
local wait = require "spec.support.wait"

local it = busted.it
local GOOD, BAD = pool.CHECKSUM_GOOD, pool.CHECKSUM_BAD

return function(subject)
  -- Sends one and receives until the next of ours: what came before that.
  local function came(port, text)
    local marker, list = support.frame(port, 99999999), {}
    assert(port.tx[0]:send(support.packet(port, text), 1))
    assert(port.tx[0]:send(support.packet(port, marker), 1))
    repeat
      local one = support.next(port)
      table.insert(list, one)
    until one == marker
    list[#list] = nil
    return list
  end

  it("carries frames of every length, from 60 bytes to the mtu's", function()
    local port = subject.open()
    local n = 1514 - 60 + 1
    assert.equal(n, support.exchange(port, n, { size = function(i) return 60 + i end }))
    assert.equal(4, support.exchange(port, 4, { size = function(i) return 1515 + i end })) -- a VLAN tag's 4 bytes more
  end)

  it("pads what is shorter", function()
    local port = subject.open()
    local before, own = port:stats(), net.mac_bytes(port.mac)
    for size = 14, 59 do
      local text = (own .. own .. "\x88\xb5" .. ("short"):rep(10)):sub(1, size)
      assert(port.tx[0]:send(support.packet(port, text), 1))
      assert.equal(text .. ("\0"):rep(60 - size), (support.next(port)))
    end
    assert(port.tx[0]:flush(10))
    local after = port:stats()
    assert.same({ 46, 46 }, { after.tx_packets - before.tx_packets, after.rx_packets - before.rx_packets })
    if not subject.short then assert.equal(before.rx_errors, after.rx_errors) end
  end)

  it("carries jumbo frames when its mtu says so", function()
    local port = subject.open { mtu = 9000 }
    local sizes = { [0] = 9014, 60, 1514, 1515, 2047, 2048, 2049, 4096, 4097, 8191, 8192, 8193, 9013, 9018 }
    local n = math.max(14, math.floor(subject.packets / 20))
    assert.equal(n, support.exchange(port, n, { size = function(i) return sizes[i % 14] end, window = 32, burst = 8 }))
    assert.equal(9000, port.mtu)
  end)

  it("drops a frame that is too long for its mtu, and counts it", function()
    local port = subject.open()
    local before = port:stats()
    for i = 1, 3 do assert.same({}, came(port, support.frame(port, i, 1523 + i * 50))) end
    local after = port:stats()
    assert.equal(3, after.rx_errors - before.rx_errors)
    assert.equal(3, after.rx_packets - before.rx_packets)
    assert.same({ 0, 0 }, { after.rx_dropped, after.rx_missed })
  end)

  it("has room before what it received, so that a header can be put there and it be sent on", function()
    local port = subject.open()
    assert(port.tx[0]:send(support.packet(port, support.frame(port, 5, 100)), 1))
    local packet = assert(port.rx[0]:receive(5))
    assert.equal(port.pool.headroom, packet:headroom())
    local own = net.mac_bytes(port.mac)
    packet:strip(14)
    ffi.copy(packet:prepend(20), own .. own .. "\x88\xb5" .. "tunnel", 20)
    assert(port.tx[0]:send(packet, 1))
    assert.equal(own .. own .. "\x88\xb5tunnel" .. support.frame(port, 5, 100):sub(15), (support.next(port)))
    assert(port.tx[0]:flush(10))
  end)

  local OTHER = "\x02\x11\x22\x33\x44\x55"

  it("receives what is for itself and for all, and everything when it is promiscuous", function()
    local port = subject.open()
    local other, all = support.frame(port, 1, 64, OTHER), support.frame(port, 2, 64, ("\xff"):rep(6))
    assert.same({ all }, came(port, all))
    assert.same({}, came(port, other))
    port:promiscuous(true)
    support.wait_for_loopback(port)
    assert.same({ other }, came(port, other))
    local many = support.frame(port, 3, 64, "\x01\x00\x5e\x12\x34\x56")
    assert.same({ many }, came(port, many))
    port:promiscuous(false)
    support.wait_for_loopback(port)
    assert.same({}, came(port, other))
    assert.same({}, came(port, many))
  end)

  it("receives the multicast groups that were asked for", function()
    local port = subject.open()
    local function to(text) return support.frame(port, 1, 64, (net.mac_bytes(text))) end
    local one, two, ip6 = to "01:00:5e:00:00:01", to "01:80:c2:ff:ee:dd", to "33:33:00:00:00:fb"
    assert.same({}, came(port, one))
    port:multicast { "01:00:5e:00:00:01", "33:33:00:00:00:fb" }
    support.wait_for_loopback(port)
    assert.same({ { one }, {}, { ip6 } }, { came(port, one), came(port, two), came(port, ip6) })
    port:multicast "all"
    support.wait_for_loopback(port)
    assert.same({ { one }, { two }, { ip6 } }, { came(port, one), came(port, two), came(port, ip6) })
    port:multicast {}
    support.wait_for_loopback(port)
    assert.same({ {}, {} }, { came(port, one), came(port, two) })
    assert.has_error(function() port:multicast { "02:00:00:00:00:01" } end, "port:multicast: 02:00:00:00:00:01 is no multicast address")
    assert.has_error(function() port:multicast { "one" } end, "port:multicast: one is no multicast address")
  end)

  it("keeps its filters over a reload", function()
    local port = subject.open()
    local one = support.frame(port, 1, 64, "\x01\x00\x5e\x00\x00\x07")
    port:multicast { "01:00:5e:00:00:07" }
    assert(port.dev:reload())
    support.wait_for_loopback(port)
    assert.same({ one }, came(port, one))
    port:promiscuous(true)
    assert(port.dev:reload())
    support.wait_for_loopback(port)
    local other = support.frame(port, 2, 64, OTHER)
    assert.same({ other }, came(port, other))
  end)

  -- ---- Checksums -----------------------------------------------------------------------------------

  local DATA = {}
  for _, n in ipairs { 0, 1, 2, 3, 18, 19, 100, 1001, 1460 } do table.insert(DATA, ("payload"):rep(300):sub(1, n)) end

  it("computes the checksums of TCP and UDP that it is asked for", function()
    local port = subject.open()
    if not port.features.tx_checksum then return pending "no checksums when sending" end
    local packets, expected = luio.batch(64), {}
    local n = 0
    -- Kinds change within a burst, and between two of them there are some that ask for nothing.
    for round = 1, 3 do
      for i, data in ipairs(DATA) do
        for _, protocol in ipairs(i % 2 == round % 2 and { "tcp", "udp" } or { "udp", "udp", "tcp" }) do
          local asks = (n + round) % 4 ~= 0
          local text, start, offset = support.ipv4(port, protocol, data, asks and "pseudo" or "wrong")
          local packet = support.packet(port, text)
          if asks then packet.checksum_start, packet.checksum_offset = start, offset end
          table.insert(expected, (support.ipv4(port, protocol, data, asks and "right" or "wrong")))
          packets[n] = packet
          n = n + 1
        end
      end
      assert.equal(n, port.tx[0]:burst(packets, n))
      for _, text in ipairs(expected) do
        local got = support.next(port)
        assert.equal(#text < 60 and 60 or #text, #got)
        if got:sub(1, #text) ~= text then
          local at = 1
          while got:byte(at) == text:byte(at) do at = at + 1 end
          error(("byte %d of %d of a frame is 0x%02x, not 0x%02x"):format(at - 1, #text, got:byte(at), text:byte(at)))
        end
      end
      n, expected = 0, {}
    end
    assert(port.tx[0]:flush(10))
  end)

  it("has such packets go around a small ring, in part when there is no room", function()
    local port = subject.open { tx = 8 }
    if not port.features.tx_checksum then return pending "no checksums when sending" end
    local packets, have, made, got = luio.batch(12), 0, 0, 0
    local n, deadline = math.max(60, math.floor(subject.packets / 20)), luio.now() + 30 * wait.HANG
    local function text(i, checksum) return support.ipv4(port, i % 3 == 0 and "tcp" or "udp", ("%08d"):format(i):rep(4), checksum) end
    while got < n do
      assert(luio.now() < deadline, "they don't come")
      while have < 12 and made < n do
        local bytes, start, offset = text(made, made % 5 == 0 and "right" or "pseudo")
        local packet = support.packet(port, bytes)
        if made % 5 ~= 0 then packet.checksum_start, packet.checksum_offset = start, offset end
        packets[have], have, made = packet, have + 1, made + 1
      end
      have = packets:shift(port.tx[0]:burst(packets, have), have)
      while got < n and port.rx[0]:wait(0) do
        assert.equal((text(got, "right")), (support.next(port)))
        got = got + 1
      end
    end
    assert(port.tx[0]:flush(10))
  end)

  it("says of TCP and UDP that it receives whether the checksum is right", function()
    local port = subject.open { rx_checksum = true }
    if not port.features.rx_checksum then return pending "no checksums when receiving" end
    local good, bad = subject.blind and 0 or GOOD, subject.blind and 0 or BAD
    for _, protocol in ipairs { "tcp", "udp" } do
      for _, data in ipairs(DATA) do
        for _, case in ipairs { { "right", good }, { "wrong", bad } } do
          assert(port.tx[0]:send(support.packet(port, (support.ipv4(port, protocol, data, case[1]))), 1))
          local _, flags = support.next(port)
          assert.equal(case[2], flags, ("%s of %d bytes, checksum %s"):format(protocol, #data, case[1]))
        end
      end
    end
    assert(port.tx[0]:send(support.packet(port, support.frame(port, 1)), 1))
    assert.equal(0, select(2, support.next(port))) -- nothing of that to look at
    if subject.blind then pending(subject.blind) end
  end)

  it("says nothing of checksums when it was not asked to look", function()
    local port = subject.open()
    for _, checksum in ipairs { "right", "wrong" } do
      assert(port.tx[0]:send(support.packet(port, (support.ipv4(port, "tcp", "x", checksum))), 1))
      assert.equal(0, select(2, support.next(port)))
    end
  end)
end
