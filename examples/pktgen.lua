#!/usr/bin/env luio
--- Sends numbered UDP frames, as fast as the device takes them or at a given rate; or receives them and says what became
--- of them. Needs a network card that is bound to a UIO driver (luio bind 0000:00:05.0):
---
---     luio examples/pktgen.lua 0000:00:05.0                               full speed, until Ctrl-C
---     luio examples/pktgen.lua 0000:00:05.0 --rate 10000 --seconds 5
---     luio examples/pktgen.lua 0000:00:09.0 --receive                     what arrives of it elsewhere
---
--- The frames are luio.net.stream's, the rate is luio.net.pace's. Read `send` first: a loop over bursts that never
--- waits for the device. It is a function of its own, with all values in locals, because LuaJIT compiles that best;
--- the line once a second is outside of it.

local histogram = require "luio.text.histogram"
local luio = require "luio"
local net = require "luio.net"
local numbers = require "luio.tool.cli.numbers"
local pace = require "luio.net.pace"
local stream = require "luio.net.stream"

local now = luio.now
local NAP = 2e-3 -- seconds: a longer pause than that between two frames is slept, a shorter one is polled

-- ---- Options -------------------------------------------------------------------------------------

local function address(text)
  if net.mac_bytes(text) then return text end
  return nil, ("%q: a MAC address was expected, as in 52:54:00:12:34:57"):format(text)
end

local function ip(text)
  local bytes = { text:match "^(%d+)%.(%d+)%.(%d+)%.(%d+)$" }
  for _, byte in ipairs(bytes) do
    if tonumber(byte) > 255 then bytes = {} end
  end
  if bytes[1] then return text end
  return nil, ("%q: an IPv4 address was expected"):format(text)
end

local parser = require "argparse"("luio examples/pktgen.lua", "Sends numbered UDP frames, or receives them.")
parser:argument("device", "A network device: 0000:00:05.0, uio0, sim:e1000e.")
parser:flag("--receive", "Receive such frames: what was lost between the first and the last that came, what came twice or late, and "
  .. "how long it took.")
parser:option("--rate", "Frames a second; else as many as go."):argname("PPS"):convert(numbers.number("--rate", 1e-3, 1e9))
parser:option("--size", "Bytes of a frame without its CRC."):argname("BYTES"):default("60"):convert(numbers.whole("--size", 60, 9230))
parser:option("--count", "End after so many."):argname("N"):convert(numbers.whole("--count", 1, 2 ^ 53))
parser:option("--seconds", "End after so long."):argname("N"):convert(numbers.seconds "--seconds")
parser:option("--dst", "Destination. Without it: an address without an owner."):argname("MAC"):default("02:00:00:00:00:02"):convert(address)
parser:option("--src", "Source; else the device's own."):argname("MAC"):convert(address)
parser:option("--ip-src"):argname("IP"):default("198.18.0.1"):convert(ip)
parser:option("--ip-dst"):argname("IP"):default("198.18.0.2"):convert(ip)
parser:option("--port", "UDP port, destination."):argname("N"):default("9"):convert(numbers.whole("--port", 0, 65535))
parser:option("--port-src", "UDP port, source."):argname("N"):default("9"):convert(numbers.whole("--port-src", 0, 65535))
parser:option("--burst", "Frames that are given to the device at once."):argname("N"):default("128")
  :convert(numbers.whole("--burst", 1, 4096))
parser:epilog "Example: luio examples/pktgen.lua 0000:00:05.0 --rate 10000 --seconds 5"

-- ---- Output --------------------------------------------------------------------------------------

local function si(n, unit)
  if n >= 1e9 then return ("%.3f G%s"):format(n / 1e9, unit) end
  if n >= 1e6 then return ("%.3f M%s"):format(n / 1e6, unit) end
  if n >= 1e3 then return ("%.3f k%s"):format(n / 1e3, unit) end
  return ("%.1f %s"):format(n, unit)
end

-- Packets a second of each second so far: its line, and in the end least, median, greatest.
local Meter = {}
Meter.__index = Meter

local function meter()
  local t = now()
  return setmetatable({ start = t, last = t, due = t + 1, packets = 0, bytes = 0, rates = {} }, Meter)
end

function Meter:show(t, packets, bytes, more)
  local took = t - self.last
  local rate = (packets - self.packets) / took
  table.insert(self.rates, rate)
  print(("%7.1f s  %s  %s  %s"):format(t - self.start, si(rate, "packets/s"), si((bytes - self.bytes) * 8 / took, "bit/s"), more))
  io.flush()
  self.last, self.due, self.packets, self.bytes = t, t + 1, packets, bytes
end

function Meter:sum(packets)
  local rates, seconds = self.rates, now() - self.start
  table.sort(rates)
  if #rates < 2 then return ("%s in %.3f s"):format(si(packets / seconds, "packets/s"), seconds) end
  return ("%s min, %s median, %s max of %d seconds"):format(si(rates[1], "packets/s"), si(rates[math.ceil(#rates / 2)], "packets/s"),
    si(rates[#rates], "packets/s"), #rates)
end

-- ---- Sending -------------------------------------------------------------------------------------

-- Sends until `stop`, until `most` frames went, or until told to. The first `have` packets of the batch are frames that did
-- not go yet.
---@return integer went
---@return integer have
local function send(tx, out, packets, burst, have, bucket, most, stop, stopping)
  local went = 0
  repeat
    local want = burst
    if want > most - went then want = most - went end
    local t = now()
    if bucket then want = have + bucket:take(want - have, t) end
    if have < want then have = out:fill(packets, have, want) end
    if have > 0 then
      local n = tx:burst(packets, have)
      have = packets:shift(n, have)
      went = went + n
    elseif bucket and bucket:due() >= NAP then
      luio.sleep(math.max(0, math.min(bucket:due(), stop - t) - NAP / 2))
    end
  until went >= most or t >= stop or stopping()
  return went, have
end

local function sending(port, args, stopping)
  local out = stream.sender(port.pool, {
    size = args.size, dst = args.dst, src = args.src or port.mac, ip_src = args.ip_src, ip_dst = args.ip_dst,
    port_src = args.port_src, port_dst = args.port,
  })
  local packets, bucket = luio.batch(args.burst), args.rate and pace.new(args.rate)
  local up, message = port:wait_link(true, 5)
  if not up then io.stderr:write("pktgen: ", message, "\n") end
  local before = port:stats()
  local m, given, have, count = meter(), 0, 0, args.count or 2 ^ 53
  local stop = args.seconds and m.start + args.seconds or math.huge
  while not port.dev.gone and given < count and now() < stop and not stopping() do
    local went
    went, have = send(port.tx[0], out, packets, args.burst, have, bucket, count - given, math.min(stop, m.due), stopping)
    given = given + went
    local t = now()
    if t >= m.due then m:show(t, given, given * args.size, port:link().up and "" or "the link is down") end
  end
  packets:free(have)
  local all, why = port.tx[0]:flush(1)
  local after = port:stats()
  print(("given %d, sent %d by the device's count, %d errors; %s"):format(given, after.tx_packets - before.tx_packets,
    after.tx_errors - before.tx_errors, m:sum(given)))
  if all and not port.dev.gone then return 0 end
  io.stderr:write("pktgen: ", port.dev.gone and args.device .. " is gone" or why, "\n")
  return 1
end

-- ---- Receiving -----------------------------------------------------------------------------------

-- Takes packets, and waits when there are none. Says why when it can't go on.
---@return string? message
local function receive(rx, check, packets, most, stop, stopping)
  local got = check:received()
  repeat
    local n = rx:burst(packets, packets.capacity)
    if n > 0 then
      check:count(packets, n)
      packets:free(n)
    else
      local ok, message, code = rx:wait(math.max(0, math.min(0.1, stop - now())))
      if not ok and code ~= "ETIMEDOUT" then return message end
    end
  until check:received() - got >= most or now() >= stop or stopping()
end

local function receiving(port, args, stopping)
  local check, packets = stream.receiver(), luio.batch(256)
  port:promiscuous(true)
  local up, message = port:wait_link(true, 5)
  if not up then io.stderr:write("pktgen: ", message, "\n") end
  io.stderr:write("pktgen: receiving\n")
  local m, count = meter(), args.count or 2 ^ 53
  local stop, failed = args.seconds and m.start + args.seconds or math.huge, nil
  while not failed and check:received() < count and now() < stop and not stopping() do
    failed = receive(port.rx[0], check, packets, count - check:received(), math.min(stop, m.due), stopping)
    local t, r = now(), check:result()
    if t >= m.due then m:show(t, r.received, r.bytes, ("lost %d, doubled %d, late %d"):format(r.lost, r.doubled, r.late)) end
  end
  local r, stats, latency = check:result(), port:stats(), check.latency
  print(("received %d%s, lost between %d, doubled %d, late %d, damaged %d, others %d; missed by the device %d; %s"):format(r.received,
    r.first and (", numbers %d to %d"):format(r.first, r.last) or "", r.lost, r.doubled, r.late, r.damaged, r.other, stats.rx_missed,
    m:sum(r.received)))
  if latency.count > 0 then
    print(("one way %s min, %s median, %s 99 %%, %s max"):format(histogram.time(latency.min), histogram.time(latency:percentile(0.5)),
      histogram.time(latency:percentile(0.99)), histogram.time(latency.max)))
  end
  if failed then io.stderr:write("pktgen: ", failed, "\n") end
  return (failed or r.lost + r.doubled + r.damaged > 0) and 1 or 0
end

-- ---- The program ---------------------------------------------------------------------------------

local ok, args = parser:pparse(arg)
if not ok then
  io.stderr:write("pktgen: ", args, " (--help lists the options)\n")
  return 2
end
local port, message = net.open(args.device, { mtu = args.size > 1514 and args.size - 14 or nil })
if not port then
  io.stderr:write("pktgen: ", message, "\n")
  return 1
end
port:follow(print)
local status = (args.receive and receiving or sending)(port, args, luio.stopping())
local closed, why = port:close()
if not closed then io.stderr:write("pktgen: ", why, "\n") end
return closed and status or 1
