--- luio.net.tap and luio.net.bridge with the kernel's TAP device on this machine, without a card. In network namespaces of
--- their own, entered by this process for as long as it opens something: nothing of it is seen outside.

local bridges = require "luio.net.bridge"
local ffi = require "ffi"
local files = require "spec.support.files"
local luio = require "luio"
local net = require "luio.net"
local taps = require "luio.net.tap"
local wait = require "spec.support.wait"
local wire = require "spec.support.wire"

ffi.cdef [[
int luio_tapspec_unshare(int) __asm__("unshare");
int luio_tapspec_setns(int, int) __asm__("setns");
int luio_tapspec_open(const char *, int) __asm__("open");
int luio_tapspec_close(int) __asm__("close");
]]
local C = ffi.C
local CLONE_NEWNET = 0x40000000

local NEEDS = "needs root and /dev/net/tun (modprobe tun), to make network namespaces and TAP devices"
local home, dev, pool, can

setup(function()
  home = C.luio_tapspec_open("/proc/self/ns/net", 0)
  can = C.luio_tapspec_unshare(CLONE_NEWNET) == 0
  if can then
    local device = assert(luio.open "sim:edu")
    local tap = taps.open { name = "probe", pool = assert(luio.pool(device, { count = 8 })) }
    can = tap ~= nil
    if tap then tap:close() end
    device:close()
  end
end)
teardown(function()
  files.clean()
  C.luio_tapspec_setns(home, 0)
  C.luio_tapspec_close(home)
end)

-- A case in a fresh namespace; no devices but what it makes.
local function case(title, fn)
  it(title, function()
    if not can then return pending(NEEDS) end
    assert(C.luio_tapspec_unshare(CLONE_NEWNET) == 0)
    dev = assert(luio.open "sim:edu")
    pool = assert(luio.pool(dev, { count = 256 }))
    local ok, why = pcall(fn)
    dev:close()
    if not ok then error(why, 0) end
  end)
end

local function shell(...) return wire.must(...) end

-- A TAP device that keeps quiet: no IPv6, so that every frame is ours.
local function open(options)
  options.name, options.pool = options.name or "t0", options.pool or pool
  options.up = false
  local tap, message, code = taps.open(options)
  if not tap then return nil, message, code end
  shell("echo 1 >/proc/sys/net/ipv6/conf/%s/disable_ipv6", tap.name)
  shell("ip link set %s up", tap.name)
  return tap
end

local HEADER = "\2\0\0\0\0\2\2\0\0\0\0\1\136\181"

describe("luio.net.tap", function()
  case("makes a device as it is told, and removes it", function()
    local tap = assert(open { name = "luio7", mtu = 1400, mac = "02:00:00:00:00:07", address = "10.1.2.3/20", queue = 77 })
    assert.equal("luio7", tap.name)
    assert.equal("02:00:00:00:00:07", tap.mac)
    local out = shell "ip -4 addr show dev luio7"
    assert.matches("mtu 1400", out)
    assert.matches("inet 10%.1%.2%.3/20", out)
    assert.matches("qlen 77", out)
    assert.matches("link/ether 02:00:00:00:00:07", shell "ip link show dev luio7")
    assert.matches("LOWER_UP", shell "ip link show dev luio7")
    assert(tap:carrier(false))
    assert.matches("NO%-CARRIER", shell "ip link show dev luio7")
    assert(tap:carrier(true))
    assert.matches("LOWER_UP", shell "ip link show dev luio7")
    tap:close()
    tap:close()
    assert.equal("", shell "ip link show dev luio7 2>/dev/null || true")
    local one, two = assert(taps.open { pool = pool }), assert(taps.open { pool = pool })
    assert.matches("^luio%d+$", one.name)
    assert.is_true(one.name ~= two.name and one.mac ~= two.mac)
    one:close()
    two:close()
  end)

  case("says what is wrong and what to do", function()
    local tap = assert(open {})
    local none, message, code = taps.open { name = "t0", pool = pool }
    assert.same({ "nil", "EBUSY" }, { tostring(none), code })
    assert.matches("^make TAP device t0: EBUSY: another process has it", message)
    none, message, code = taps.open { name = "a-name-of-16-byte", pool = pool }
    assert.same({ "nil", "EINVAL" }, { tostring(none), code })
    assert.matches("1 to 15 bytes", message)
    none, message, code = taps.open { name = "lo", pool = pool }
    assert.is_nil(none)
    assert.matches("make TAP device lo: E", message)
    assert.is_true(code == "EINVAL" or code == "EBUSY")
    assert.has_error(function() taps.open { pool = pool, mtu = 4000 } end,
      "tap.open: frames of mtu 4000 and 18 more bytes don't fit in packets of 2048")
    assert.has_error(function() taps.open { pool = pool, address = "10.0.0.1" } end,
      "tap.open: address is one like 10.0.0.1/24, not 10.0.0.1")
    assert.has_error(function() taps.open { pool = assert(luio.pool(dev, { count = 1, headroom = 0 })) } end)
    none, message, code = taps.open { name = "t2", pool = pool, mac = "01:00:00:00:00:07" }
    assert.same({ "nil", "EADDRNOTAVAIL" }, { tostring(none), code })
    assert.matches("^MAC address 01:00:00:00:00:07 of t2: EADDRNOTAVAIL: ", message)
    assert.equal("", shell "ip link show dev t2 2>/dev/null || true")
    tap:close()
    -- In a process without the capability; and there, one that was prepared for it.
    local script = files.write("no.lua", [[
      local luio = require "luio"
      local dev = assert(luio.open "sim:edu")
      print(require("luio.net.tap").open { name = arg[1], mtu = tonumber(arg[2]), pool = assert(luio.pool(dev, { count = 8 })) })
    ]])
    shell "ip tuntap add t3 mode tap user 0"
    shell "ip link set t3 up"
    local without = "setpriv --bounding-set -net_admin --inh-caps -net_admin build/luio " .. script
    assert.matches("TAP device t3 [%x:]+\n$", shell(without .. " t3 1500"))
    assert.matches("nil%s+mtu of t3: EPERM: that takes CAP_NET_ADMIN: run it as root, or set it before by `ip`%s+EPERM",
      shell(without .. " t3 1400"))
    assert.matches("t3", shell "ip link show dev t3") -- it was there before, and stays
    assert.matches("nil%s+make TAP device t1: EPERM: that takes CAP_NET_ADMIN: run it as root, or prepare the device: "
      .. "ip tuntap add t1 mode tap user %$USER%s+EPERM", shell(without .. " t1 1500"))
  end)

  for _, checksum in ipairs { false, true } do
    case("carries frames both ways, whole, " .. (checksum and "with" or "without") .. " a header for checksums", function()
      local tap = assert(open { checksum = checksum })
      local socket, packets = wire.socket "t0", luio.batch(32)
      local free = pool.record.free
      for n = 1, 300 do
        local frame = HEADER .. ("%04d"):format(n) .. ("x"):rep(n * 37 % 1482)
        -- The kernel sends ...
        assert(socket:send(frame))
        assert.equal(1, tap.rx[0]:burst(packets, 32))
        assert.equal(frame, packets[0]:read())
        -- ... and receives.
        packets[0]:write(frame .. "back")
        packets[0].length = #frame -- "back" is no part of it
        assert.equal(1, tap.tx[0]:burst(packets, 1))
        assert.equal(frame, socket:receive())
      end
      assert.equal(0, tap.rx[0]:burst(packets, 32))
      assert.equal(free, pool.record.free)
      local stats = tap:stats()
      assert.same({ 300, 300, 0, 0, 0, 0 }, {
        stats.rx_packets, stats.tx_packets, stats.rx_errors, stats.rx_dropped, stats.tx_down, stats.tx_dropped,
      })
      socket:close()
      tap:close()
    end)
  end

  case("counts what is too long, what does not fit into the queue, and what comes while it is down", function()
    local tap = assert(open { queue = 10 })
    local socket, packets = wire.socket "t0", luio.batch(64)
    shell "ip link set t0 mtu 9000"
    for _, length in ipairs { 1518, 1519, 2048, 2049, 2051, 9014, 60 } do assert(socket:send(HEADER .. ("x"):rep(length - 14))) end
    assert.equal(2, tap.rx[0]:burst(packets, 64)) -- 1518 is that of a VLAN
    assert.same({ 1518, 60 }, { packets[0].length, packets[1].length })
    packets:free(2)
    assert.equal(5, tap:stats().rx_errors)
    for _ = 1, 25 do socket:send(HEADER .. ("y"):rep(46)) end
    local stats = tap:stats()
    local n = tap.rx[0]:burst(packets, 64)
    packets:free(n)
    assert.is_true(stats.rx_dropped > 0)
    assert.equal(25, n + stats.rx_dropped)
    shell "ip link set t0 down"
    assert.equal(5, pool:fill(packets, 0, 5))
    for i = 0, 4 do packets[i]:write(HEADER .. ("z"):rep(46)) end
    assert.equal(5, tap.tx[0]:burst(packets, 5))
    assert.equal(5, tap:stats().tx_down)
    assert.equal(0, pool:used())
    socket:close()
    tap:close()
  end)

  case("waits without turning, and learns that its device was removed", function()
    local tap = assert(open {})
    local socket = wire.socket "t0"
    luio.run(function()
      local _, _, code = tap.rx[0]:wait(0.05)
      assert.equal("ETIMEDOUT", code)
      luio.spawn(function()
        luio.sleep(0.05)
        assert(socket:send(HEADER .. ("x"):rep(46)))
      end)
      assert(tap.rx[0]:wait(5))
      local packets = luio.batch(4)
      assert.equal(1, tap.rx[0]:burst(packets, 4))
      packets:free(1)
      luio.spawn(function()
        luio.sleep(0.05)
        shell "ip link del t0"
      end)
      local ok, message
      ok, message, code = tap.rx[0]:wait(5)
      assert.same({ "nil", "EBADFD" }, { tostring(ok), code })
      assert.matches("t0: EBADFD: the device was removed", message)
      assert.equal(0, tap.rx[0]:burst(packets, 4))
      assert.equal(1, pool:fill(packets, 0, 1))
      packets[0]:write(HEADER .. ("z"):rep(46))
      assert.equal(1, tap.tx[0]:burst(packets, 1))
      assert.equal(0, pool:used())
    end)
    socket:close()
    tap:close()
  end)

  -- The sum of 16-bit words of what a UDP packet's checksum covers; 0xffff is right.
  local function udp_sum(frame)
    local segment = frame:sub(35)
    local data = frame:sub(27, 34) .. "\0\17" .. string.char(math.floor(#segment / 256), #segment % 256) .. segment
    if #data % 2 == 1 then data = data .. "\0" end
    local sum = 0
    for i = 1, #data, 2 do sum = sum + data:byte(i) * 256 + data:byte(i + 1) end
    while sum > 0xffff do sum = sum % 65536 + math.floor(sum / 65536) end
    return sum
  end

  case("leaves the kernel's checksums to who sends, or makes them", function()
    local tap = assert(open { checksum = true, address = "10.9.0.1/24" })
    shell "ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev t0"
    local packets = luio.batch(4)
    for size = 1, 1400, 233 do
      shell("head -c %d /dev/zero | tr '\\0' z | socat -u -b 1500 - UDP:10.9.0.2:9", size)
      assert.equal(1, wait.till(5, "a datagram", function()
        local n = tap.rx[0]:burst(packets, 4)
        return n > 0 and n
      end))
      local packet = packets[0]
      assert.equal(42 + size, packet.length)
      assert.same({ 34, 6 }, { packet.checksum_start, packet.checksum_offset })
      assert.is_true(udp_sum(packet:read()) ~= 0xffff)
      taps.sum(packet)
      assert.same({ 0, 0 }, { packet.checksum_start, packet.checksum_offset })
      assert.equal(0xffff, udp_sum(packet:read()))
      packet:free()
    end
    tap:close()
  end)

  case("gives the kernel nothing to trust: it looks at checksums by itself", function()
    -- virtio_net_hdr's DATA_VALID (2) on a datagram with a wrong checksum.
    local tap = assert(open { checksum = true, address = "10.9.0.1/24", mac = "02:00:00:00:00:01" })
    local path = os.tmpname()
    local listener = wire.beside(("socat -u UDP-RECV:4000 OPEN:%s,trunc"):format(path))
    wait.till(5, "a listener", function() return shell("ss -Hlun 'sport = :4000'"):match "4000" end)
    local function datagram(text)
      local udp = "\0\9\15\160" .. string.char(0, 8 + #text) .. "\0\0" .. text
      local ip = "\69\0" .. string.char(0, 28 + #text) .. "\0\0\0\0\64\17\0\0\10\9\0\2\10\9\0\1"
      local frame = "\2\0\0\0\0\1\2\0\0\0\0\2\8\0" .. ip .. udp
      local packet = pool:alloc()
      packet:write(frame)
      local words, sum = packet:read(14, 20), 0
      for i = 1, 20, 2 do sum = sum + words:byte(i) * 256 + words:byte(i + 1) end
      sum = 0xffff - (sum % 65536 + math.floor(sum / 65536))
      packet:pointer()[24], packet:pointer()[25] = math.floor(sum / 256), sum % 256
      -- The pseudo header's sum, as a sender leaves it to who computes the rest.
      local pseudo = 0x0a09 + 0x0002 + 0x0a09 + 0x0001 + 17 + 8 + #text
      packet:pointer()[40], packet:pointer()[41] = math.floor(pseudo / 256), pseudo % 256
      return packet
    end
    local right, wrong = datagram "right", datagram "wrong"
    right.checksum_start, right.checksum_offset = 34, 6 -- made on the way in
    local batch = luio.batch(1)
    batch[0] = wrong
    wrong.flags = require("luio.pool").CHECKSUM_GOOD
    tap.tx[0]:burst(batch, 1)
    ffi.cdef "int luio_tapspec_write(int, const void *, size_t) __asm__(\"write\");"
    local claimed = datagram "claim"
    local start = claimed:pointer() - 10
    ffi.fill(start, 10)
    start[0] = 2 -- VIRTIO_NET_HDR_F_DATA_VALID
    assert.equal(claimed.length + 10, C.luio_tapspec_write(tap.fd, start, claimed.length + 10))
    claimed:free()
    batch[0] = right
    tap.tx[0]:burst(batch, 1)
    wait.till(5, "the right one", function() return files.read(path) ~= "" end)
    listener.kill "sigterm"
    assert.equal("right", files.read(path))
    os.remove(path)
    tap:close()
  end)
end)

describe("luio.net.bridge", function()
  case("carries between two TAP devices: TCP, both ways, whole", function()
    -- The two must not be in one namespace, or the kernel would hand over by itself.
    local a = assert(open { name = "t0", address = "10.9.0.1/24", checksum = true })
    local b = assert(open { name = "t1", checksum = true })
    local holder = wire.beside "unshare -n sleep 60"
    wait.till(5, "a namespace", function()
      local link = require("luv").fs_readlink(("/proc/%d/ns/net"):format(holder.pid))
      return link and link ~= require("luv").fs_readlink "/proc/self/ns/net"
    end)
    shell("ip link set t1 netns %d", holder.pid)
    local inside = ("nsenter -t %d -n "):format(holder.pid)
    shell(inside .. "ip addr add 10.9.0.2/24 dev t1")
    shell(inside .. "ip link set t1 up")
    local bridge = bridges.new(a, b)
    local seen = 0
    function bridge.on_packets(_, n) seen = seen + n end
    luio.run(function()
      local runs = luio.spawn(function() return assert(bridge:run()) end)
      local expected = shell "head -c 20000000 /dev/zero | tr '\\0' q | sha256sum"
      for _, way in ipairs { { "", inside, "10.9.0.1" }, { inside, "", "10.9.0.2" } } do
        local listener = wire.beside(("sh -c '%s socat -u -b 262144 TCP-LISTEN:4001,reuseaddr - | sha256sum'"):format(way[1]))
        wait.till(5, "a listener", function() return shell(way[1] .. "ss -Hltn 'sport = :4001'"):match "4001" end)
        local sender = wire.beside(("sh -c 'head -c 20000000 /dev/zero | tr \"\\0\" q | %s socat -u -b 262144 - TCP:%s:4001'"):format(
          way[2], way[3]))
        assert.equal(0, sender.status(60), sender.text())
        assert.equal(0, listener.status(60))
        assert.equal(expected, listener.text())
      end
      bridge:stop()
      assert(runs:join(5))
    end)
    assert.is_true(bridge.there.carried > 1000 and bridge.back.carried > 1000)
    assert.equal(seen, bridge.there.carried + bridge.back.carried + bridge.there.left + bridge.back.left)
    assert.equal(0, pool:used())
    holder.kill()
    a:close()
    b:close()
  end)

  case("makes no garbage for a frame #jit", function()
    -- Anew: what other specs did may have made the compiler give parts of them up.
    for _, name in ipairs { "luio.pool", "luio.net.tap", "luio.net.bridge" } do package.loaded[name] = nil end
    taps, bridges, pool = require "luio.net.tap", require "luio.net.bridge", assert(luio.pool(dev, { count = 256 }))
    local a, b = assert(open { name = "t0" }), assert(open { name = "t1" })
    local from, to, bridge = wire.socket "t0", wire.socket "t1", bridges.new(a, b)
    local frame = HEADER .. ("x"):rep(46)
    local function round(n)
      for _ = 1, n do
        for _ = 1, 64 do from:send(frame) end
        local packets, tx, rx = bridge.there.packets, b.tx[0], a.rx[0]
        tx:burst(packets, rx:burst(packets, 64))
      end
    end
    round(200)
    collectgarbage()
    collectgarbage "stop"
    local before = collectgarbage "count"
    round(200)
    local grown = (collectgarbage "count" - before) * 1024
    collectgarbage "restart"
    assert.equal(400 * 64, a:stats().rx_packets + a:stats().rx_dropped)
    assert.is_true(grown < 64 * 200 * 4, ("%.1f bytes a frame"):format(grown / 12800))
    from:close()
    to:close()
    a:close()
    b:close()
  end)

  case("ends when an end fails for good", function()
    local a, b = assert(open { name = "t0" }), assert(open { name = "t1" })
    local bridge = bridges.new(a, b)
    luio.run(function()
      luio.spawn(function()
        luio.sleep(0.05)
        shell "ip link del t1"
      end)
      local ok, message, code = bridge:run()
      assert.same({ "nil", "EBADFD" }, { tostring(ok), code })
      assert.matches("t1: EBADFD", message)
    end)
    a:close()
    b:close()
    assert.is_nil(net.mac_bytes "nonsense")
  end)
end)
