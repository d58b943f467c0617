--- The kernel's TCP/IP stack over drivers/e1000e and examples/tap.lua, to a card of the kernel's on the same wire.

local amount = require "spec.support.amount"
local json = require "dkjson"
local luio = require "luio"
local wait = require "spec.support.wait"
local ping = require "spec.support.ping"
local wire = require "spec.support.wire"

local PIECE = amount(4, 16) -- MiB of a file, which is sent as often as it takes
local MIB = amount(1, 64) * PIECE
local PINGS = amount(200, 1000)

local bridge

local function start(...) bridge = wire.bridge(...) end

local function stop()
  local one = bridge
  bridge = nil
  return wire.stop(one)
end

local function cpu_seconds(pid)
  local f = assert(io.open(("/proc/%d/stat"):format(pid)))
  local user, system = f:read("*a"):match "%) %a %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ (%d+) (%d+)"
  f:close()
  return tonumber(user) / 100, tonumber(system) / 100
end

describe("examples/tap.lua on a wire", function()
  setup(wire.setup)
  teardown(wire.release)
  before_each(function() bridge = nil end)
  after_each(function()
    if bridge then bridge:close() end
  end)

  it(("carries %d pings each way and loses none"):format(PINGS), function()
    start()
    wire.must("ping -q -c 3 -i 0.2 %s", wire.THERE) -- ARP, and the compiler
    wire.measured("ping, %d at up to 500/s: rtt %s", PINGS, ping(wire.must, PINGS, "-i 0.002", wire.THERE))
    wire.measured("ping from the far side: rtt %s", ping(wire.far, PINGS, "-i 0.002", wire.HERE))
    local sums = stop()
    assert.is_true(sums.to_wire.carried >= 2 * PINGS + 3 and sums.from_wire.carried >= 2 * PINGS + 3)
    assert.same({ 0, 0, 0, 0, 0, 0 }, {
      sums.to_wire.queue_full, sums.to_wire.too_long, sums.to_wire.reset,
      sums.from_wire.ring_full, sums.from_wire.refused, sums.from_wire.tap_down,
    })
  end)

  it("takes no time while nothing comes", function()
    start()
    luio.sleep(1)
    local user, system = cpu_seconds(bridge.pid)
    luio.sleep(3)
    local user_after, system_after = cpu_seconds(bridge.pid)
    local share = (user_after + system_after - user - system) / 3
    wire.measured("idle: %.1f %% of an emulated CPU", share * 100)
    -- Once a second the device's counters and health are looked at, by emulated accesses. Polling would be 1; a
    -- busy host makes an emulated CPU slower, and its seconds more.
    assert.is_true(share < 0.5, ("%.1f %%"):format(share * 100))
    stop()
  end)

  -- A file goes from one side to the other, its checksum is looked at there.
  local function copy(title, listen, send)
    local listener = wire.beside(("sh -c '%s socat -u -b 262144 TCP-LISTEN:5001,reuseaddr - | sha256sum'"):format(listen))
    wait.till(10, "a listener", function()
      return wire.must("%s ss -Hltn 'sport = :5001'", listen):match "5001"
    end)
    local user, system = cpu_seconds(bridge.pid)
    local began = luio.now()
    local sender = wire.beside(("sh -c 'for i in $(seq %d); do cat /tmp/wire.data; done | %s'"):format(MIB / PIECE, send))
    assert.equal(0, sender.status(amount(300, 1800)))
    assert.equal(0, listener.status(60))
    local seconds = luio.now() - began
    local user_after, system_after = cpu_seconds(bridge.pid)
    assert.equal(wire.must("for i in $(seq %d); do cat /tmp/wire.data; done | sha256sum", MIB / PIECE), listener.text())
    wire.measured("TCP %s, %d MiB: %.1f s, %.0f Mbit/s; the bridge's CPU: %.0f %% in Lua, %.0f %% in the kernel", title, MIB, seconds,
      MIB * 8.388608 / seconds, (user_after - user) / seconds * 100, (system_after - system) / seconds * 100)
  end

  it(("carries %d MiB of TCP each way, whole"):format(MIB), function()
    wire.must("head -c %d /dev/urandom >/tmp/wire.data", PIECE * 2 ^ 20)
    start()
    copy("to the wire", "ip netns exec far", ("socat -u -b 262144 - TCP:%s:5001"):format(wire.THERE))
    copy("from the wire", "", ("ip netns exec far socat -u -b 262144 - TCP:%s:5001"):format(wire.HERE))
    local sums = stop()
    wire.must "rm /tmp/wire.data"
    assert.is_true(sums.to_wire.carried > MIB * 2 ^ 20 / 1448)
    assert.is_true(sums.from_wire.carried > MIB * 2 ^ 20 / 1448)
    wire.measured("TCP: of %d frames to the wire the kernel dropped %d, its queue being full, and sent them again", sums.to_wire.carried,
      sums.to_wire.queue_full)
  end)

  it("carries iperf3 both ways at once", function()
    start()
    local server = wire.beside "ip netns exec far iperf3 -s -1"
    wait.till(10, "iperf3's server", function() return wire.far("ss -Hltn 'sport = :5201'"):match "5201" end)
    local out = json.decode(wire.must("iperf3 -c %s -t %d --bidir -J", wire.THERE, amount(2, 10)))
    server.status(10)
    local to, from = out["end"].sum_received.bits_per_second, out["end"].sum_received_bidir_reverse.bits_per_second
    assert.is_true(to > 1e6 and from > 1e6)
    wire.measured("iperf3 both ways at once: %.0f and %.0f Mbit/s", to / 1e6, from / 1e6)
    stop()
  end)

  it("carries jumbo frames", function()
    wire.far("ip link set %s mtu 9000", wire.FAR)
    finally(function() wire.far("ip link set %s mtu 1500", wire.FAR) end)
    start("--mtu", "9000")
    wire.must("ping -q -c 3 -w 200 -s 8972 -M do %s", wire.THERE) -- ARP, the compiler, a queue that is not there at once
    ping(wire.must, 20, "-i 0.01 -s 8972 -M do", wire.THERE)
    ping(wire.far, 20, "-i 0.01 -s 8972 -M do", wire.HERE)
    stop()
  end)

  it("pads what is too short, and drops and counts what is too long", function()
    start()
    wire.must("ip link set %s mtu 1500", wire.TAP)
    wire.far("ip link set %s mtu 9000", wire.FAR)
    finally(function() wire.far("ip link set %s mtu 1500", wire.FAR) end)
    local near, far = wire.socket(wire.TAP), wire.socket(wire.FAR, wire.there)
    finally(function()
      near:close()
      far:close()
      wire.far("ip link set %s mtu 1500", wire.FAR)
    end)
    local header = "\82\84\0\18\52\86\82\84\0\18\52\87\136\181" -- to 52:54:00:12:34:56
    for length = 14, 59 do assert(far:send(header .. ("r"):rep(length - 14))) end
    for length = 14, 59 do
      local frame = wait.till(5, "runt of " .. length, function() return near:receive() end)
      assert.equal(header .. ("r"):rep(length - 14) .. ("\0"):rep(60 - length), frame)
    end
    -- 1522 with a VLAN tag is the longest; the card drops and counts longer ones.
    for _, length in ipairs { 1600, 2048, 2049, 4000, 9014 } do assert(far:send(header .. ("o"):rep(length - 14))) end
    assert(far:send(header .. ("e"):rep(1514 - 14)))
    assert.equal(header .. ("e"):rep(1514 - 14), wait.till(5, "the frame behind", function() return near:receive() end))
    assert.is_nil(near:receive())
    -- And the other way: somebody raises the TAP device's MTU.
    wire.must("ip link set %s mtu 4000", wire.TAP)
    local back = header:sub(7, 12) .. header:sub(1, 6) .. header:sub(13)
    for _, length in ipairs { 1519, 2000, 2048, 4014 } do assert(near:send(back .. ("o"):rep(length - 14))) end
    for length = 14, 59 do assert(near:send(back .. ("r"):rep(length - 14))) end
    for length = 14, 59 do
      local frame = wait.till(5, "runt of " .. length, function() return far:receive() end)
      assert.equal(back .. ("r"):rep(length - 14), frame:sub(1, length))
      assert.equal(("\0"):rep(math.max(0, 60 - length)):sub(1, #frame - length), frame:sub(length + 1))
    end
    assert.is_nil(far:receive())
    local sums = stop()
    assert.equal(4, sums.to_wire.too_long)
    assert.equal(46 + 5, sums.from_wire.damaged) -- QEMU counts what it pads as undersized (RUC), and the others as oversized (ROC)
    assert.same({ 0, 0, 0, 0 }, { sums.from_wire.ring_full, sums.from_wire.refused, sums.from_wire.tap_down, sums.from_wire.dropped })
  end)

  it("tells the kernel of the link, and goes on when it is back", function()
    start()
    local function carrier() return wire.must("cat /sys/class/net/%s/carrier", wire.TAP) end
    wire.must("ping -q -c 2 -i 0.1 -w 200 %s", wire.THERE)
    for _ = 1, 3 do
      local before = select(2, bridge:text():gsub("link down", ""))
      assert.equal("1\n", carrier())
      wire.link("nic", false)
      wait.till(10, "no carrier", function() return carrier() == "0\n" end)
      wait.till(5, "its word", function() return select(2, bridge:text():gsub("link down", "")) == before + 1 end)
      wire.link("nic", true)
      wait.till(10, "a carrier", function() return carrier() == "1\n" end)
      -- "carrier" says so at once; the kernel gives the device its queue back a moment later, with its state (linkwatch), and
      -- drops frames sent in between.
      wait.till(10, "its state", function() return wire.must("ip -o link show dev %s", wire.TAP):match "state UP" end)
      wire.must("ping -q -c 1 -w 200 %s", wire.THERE)
      ping(wire.must, 5, "-i 0.1", wire.THERE)
    end
    local _, text = stop()
    assert.equal(3, select(2, text:gsub("link down\n", "")))
    assert.equal(3, select(2, text:gsub("link up, 1000 Mbit/s\n", "")))
  end)
end)
