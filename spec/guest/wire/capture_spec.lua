--- Frames on the wire, byte for byte: those that luio carried either way against tcpdump's file of the far side.

local amount = require "spec.support.amount"
local bit = require "bit"
local bridges = require "luio.net.bridge"
local files = require "spec.support.files"
local luio = require "luio"
local net = require "luio.net"
local program = require "spec.support.program"
local taps = require "luio.net.tap"
local wait = require "spec.support.wait"
local wire = require "spec.support.wire"

-- Frames of a pcap file (libpcap's pcap-savefile(5)), in order.
local function frames_of(path)
  local text = files.read(path)
  local function word(at)
    local a, b, c, d = text:byte(at, at + 3)
    return a + b * 2 ^ 8 + c * 2 ^ 16 + d * 2 ^ 24
  end
  local magic = word(1)
  assert(magic == 0xa1b2c3d4 or magic == 0xa1b23c4d, "not a pcap file of this machine's byte order")
  local list, at = {}, 25
  while at + 15 <= #text do
    local length, whole = word(at + 8), word(at + 12)
    assert(length == whole, "tcpdump cut a frame off")
    if at + 15 + length > #text then break end
    table.insert(list, text:sub(at + 16, at + 15 + length))
    at = at + 16 + length
  end
  return list
end

-- QEMU's 82574L pads received frames to 60 bytes, and sends frames unpadded.
local function padded(frame)
  return frame .. ("\0"):rep(60 - #frame)
end

local function differ(title, ours, theirs)
  for i = 1, math.max(#ours, #theirs) do
    if ours[i] ~= theirs[i] then
      return ("%s: frame %d of %d and %d: %s here, %s there"):format(title, i, #ours, #theirs,
        ours[i] and ours[i]:gsub(".", function(c) return ("%02x"):format(c:byte()) end):sub(1, 160) or "none",
        theirs[i] and theirs[i]:gsub(".", function(c) return ("%02x"):format(c:byte()) end):sub(1, 160) or "none")
    end
  end
end

-- Checksums of a TCP segment in a frame: the card made them.
local function tcp_sum_is_right(frame)
  local header = bit.band(frame:byte(15), 15) * 4
  local total = frame:byte(17) * 256 + frame:byte(18)
  local segment = frame:sub(15 + header, 14 + total)
  local data = frame:sub(27, 34) .. "\0\6" .. string.char(math.floor(#segment / 256), #segment % 256) .. segment
  if #data % 2 == 1 then data = data .. "\0" end
  local sum = 0
  for i = 1, #data, 2 do sum = sum + data:byte(i) * 256 + data:byte(i + 1) end
  while sum > 0xffff do sum = sum % 65536 + math.floor(sum / 65536) end
  return sum == 0xffff
end

describe("what crosses the wire", function()
  setup(wire.setup)
  teardown(wire.release)

  for _, checksum in ipairs { true, false } do
    it("is what the far side sees, byte for byte, " .. (checksum and "with the card's checksums" or "with the kernel's"), function()
      wire.far("ethtool -K %s gro off", wire.FAR) -- tcpdump would see segments put together
      local port = assert(net.open(wire.NIC))
      local tap = assert(taps.open {
        name = wire.TAP, mac = port.mac, pool = port.pool, checksum = checksum, address = wire.HERE .. "/24", up = false,
      })
      wire.must("sysctl -q -w net.ipv6.conf.%s.disable_ipv6=1", wire.TAP)
      wire.must("ip link set %s up", wire.TAP)
      local bridge = bridges.new(port, tap)
      -- Every frame as it passes, both ways.
      local sent, received, partial = {}, {}, 0
      function bridge.on_packets(packets, n, way)
        local log = way == bridge.back and sent or received
        for i = 0, n - 1 do
          log[#log + 1] = packets[i]:read()
          if packets[i].checksum_start ~= 0 then partial = partial + 1 end
        end
      end
      local far_mac = net.mac_bytes(wire.far_mac())
      local theirs
      luio.run(function()
        assert(port:wait_link(true, 5))
        local runs = luio.spawn(function() return assert(bridge:run()) end)
        local dump = wire.beside(("ip netns exec far tcpdump --immediate-mode -i %s -s 0 -B 32768 -U -Z root -w /tmp/far.pcap"):format(wire.FAR))
        wait.till(20, "tcpdump", function() return dump.text():match "listening on" end)
        local ping = wire.beside(("ping -q -c 50 -i 0.01 -s 1 -w 200 %s"):format(wire.THERE))
        assert.equal(0, ping.status(20), ping.text())
        for size = 2, 1472, 735 do
          ping = wire.beside(("ping -q -c 1 -s %d -w 200 %s"):format(size, wire.THERE))
          assert.equal(0, ping.status(20), ping.text())
        end
        for _, way in ipairs { "", "--reverse" } do
          local server = wire.beside "ip netns exec far iperf3 -s -1"
          wait.till(10, "iperf3's server", function() return wire.far("ss -Hltn 'sport = :5201'"):match "5201" end)
          local client = wire.beside(("iperf3 -c %s -n %dK %s"):format(wire.THERE, amount(384, 1024), way))
          assert.equal(0, client.status(60), client.text())
          server.status(20)
        end
        -- Frames under way arrive, and tcpdump writes its buffer.
        wait.poll(10 * wait.HANG, function()
          luio.sleep(0.2)
          return #frames_of "/tmp/far.pcap" >= #sent + #received
        end)
        dump.kill "sigint"
        assert.matches("\n0 packets dropped by kernel", dump.text())
        theirs = frames_of "/tmp/far.pcap"
        bridge:stop()
        assert(runs:join(5))
      end)
      tap:close()
      port:close()
      wire.far("ethtool -K %s gro on", wire.FAR)

      local from_far, to_far = {}, {}
      for _, frame in ipairs(theirs) do
        if frame:sub(7, 12) == far_mac then table.insert(from_far, padded(frame)) else table.insert(to_far, frame) end
      end
      assert.is_true(#received > 200 and #sent > 200)
      assert.equal(checksum, partial > 0)
      -- Where the card makes the checksums we have seen the frames without: they must be right there, and the rest the same.
      if checksum then
        for i, frame in ipairs(to_far) do
          local ours = sent[i]
          if ours and frame:sub(24, 24) == "\6" and frame:sub(13, 14) == "\8\0" then
            if not tcp_sum_is_right(frame) then error(("frame %d has a wrong checksum"):format(i)) end
            sent[i] = ours:sub(1, 50) .. frame:sub(51, 52) .. ours:sub(53)
          end
        end
      end
      assert.is_nil(differ("sent", sent, to_far))
      assert.is_nil(differ("received", received, from_far))
      wire.measured("byte for byte, checksums by the %s: %d frames sent, %d received, the same in tcpdump's file",
        checksum and "card" or "kernel", #sent, #received)
    end)
  end

  it("is in the file of examples/capture.lua as in tcpdump's, byte for byte", function()
    local COUNT, kind = amount(300, 1000), ("ether proto 0x%04x"):format(wire.TYPE)
    local far_mac = net.mac_bytes(wire.far_mac())
    local dump = wire.beside(("ip netns exec far tcpdump --immediate-mode -i %s -s 0 -B 32768 -U -Z root -w /tmp/far.pcap '%s'"):format(
      wire.FAR, kind))
    wait.till(20, "tcpdump", function() return dump.text():match "listening on" end)
    local capture = program.start { "examples/capture.lua", wire.NIC, "/tmp/ours.pcapng", "--filter", kind, "--count", tostring(COUNT) }
    capture:wait("listening on", 30)
    local socket = wire.socket(wire.FAR, wire.there)
    for i = 1, COUNT do
      local head = net.mac_bytes "52:54:00:12:34:56" .. far_mac .. string.char(math.floor(wire.TYPE / 256), wire.TYPE % 256)
      local payload = {}
      for j = 1, i * 37 % 1500 + 1 do payload[j] = string.char((i * 7 + j * 13) % 256) end
      wait.till(10, "room", function() return socket:send(head .. table.concat(payload)) end)
      if i % 50 == 0 then luio.sleep(0.02) end -- what a ring and a file take without a loss
    end
    assert.equal(0, capture:status(60), capture:text())
    assert.matches(("matched %d, written %d, dropped 0"):format(COUNT, COUNT), capture:text())
    capture:close()
    socket:close()
    wait.till(10, "tcpdump's file", function() return #frames_of "/tmp/far.pcap" >= COUNT end)
    dump.kill "sigint"
    wire.must "tcpdump -r /tmp/ours.pcapng -w /tmp/ours.pcap"
    local theirs = frames_of "/tmp/far.pcap"
    for i, frame in ipairs(theirs) do theirs[i] = padded(frame) end
    assert.is_nil(differ("captured", frames_of "/tmp/ours.pcap", theirs))
  end)
end)
