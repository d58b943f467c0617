#!/usr/bin/env luio
--- The kernel's TCP/IP stack on a driver in Lua: bridges a port to a TAP device.
---
---     build/luio bind 0000:00:05.0
---     build/luio examples/tap.lua 0000:00:05.0 luio0 --address 10.0.0.1/24
---
--- and then, while it runs, `ping 10.0.0.2`, iperf3 or any other program. Save drivers/e1000e/init.lua meanwhile, and the
--- connections go on over the new code. Ctrl-C removes the TAP device. The parts: lua/luio/net/init.lua (the port), tap.lua, bridge.lua.
---
--- It waits while no frames come (no CPU time), works in bursts under load, and drops none of TCP's frames: when the
--- card has no room the kernel's queue fills, and the kernel counts frames that do not fit there.

local bridges = require "luio.net.bridge"
local handles = require "luio.loop.handles"
local luio = require "luio"
local net = require "luio.net"
local numbers = require "luio.tool.cli.numbers"
local output = require "luio.tool.output"
local taps = require "luio.net.tap"
local uv = require "luv"

local parser = require "argparse"("luio examples/tap.lua", "Bridges a network port to a TAP device.")
parser:argument("device", "The port: 0000:00:05.0, uio0.")
parser:argument("name", "The TAP device's name."):args "?":default "luio%d"
parser:option("--address", "IPv4 address of the TAP device; others by `ip addr add`."):argname "10.0.0.1/24"
parser:option("--mtu", "Of both."):argname "N":default "1500":convert(numbers.whole("--mtu", 68, 65535))
parser:option("--mac", "Of the TAP device: the port's, a random one, or this; with any but the port's the port receives all frames.")
  :argname "port|random|MAC":default "port"
parser:option("--queue", "Frames of the kernel that may wait for us."):argname "N":default "1000"
  :convert(numbers.whole("--queue", 1, 2 ^ 31 - 1))
parser:flag("--promiscuous", "Receive all frames, because the TAP device is a port of a Linux bridge.")
parser:flag("--no-offload", "Let the kernel compute checksums, not the card.")
parser:flag("-v --verbose", "Print counts every second, not only at the end.")
parser:flag("--json", "Say that as JSON, an object a line.")
parser:epilog "Example: luio examples/tap.lua 0000:00:05.0 luio0 --address 10.0.0.1/24"

local function fail(message, status)
  io.stderr:write("tap: ", message, "\n")
  return status or 1
end

local function say(...)
  print(string.format(...))
  io.stdout:flush()
end

local fine, args = parser:pparse(arg)
if not fine then return fail(args .. " (--help lists the options)", 2) end
if args.address and not taps.is_address(args.address) then return fail("--address " .. args.address .. ": not like 10.0.0.1/24", 2) end
local mac = args.mac:lower()
if mac ~= "port" and mac ~= "random" and not net.mac_bytes(mac) then return fail("--mac " .. mac .. ": port, random, or an address", 2) end

-- ---- Reports -------------------------------------------------------------------------------------

local function speed(link)
  if not link.up then return "down" end
  return link.speed and ("up, %d Mbit/s"):format(link.speed) or "up"
end

-- Counts of all frames that either side sent.
local function account(port, tap, bridge)
  local card, kernel = port:stats(), tap:stats()
  return {
    to_wire = {
      carried = bridge.back.carried, queue_full = kernel.rx_dropped, too_long = kernel.rx_errors, reset = card.tx_dropped,
      waits_for_room = bridge.back.full,
    },
    from_wire = {
      carried = bridge.there.carried, ring_full = card.rx_missed, damaged = card.rx_errors, dropped = card.rx_dropped,
      tap_down = kernel.tx_down, refused = kernel.tx_dropped, starved = card.rx_starved,
    },
    resets = card.resets,
  }
end

local function tell(sums, more)
  if args.json then return say("%s", output.line(sums)) end
  local out, back = sums.to_wire, sums.from_wire
  say("to the wire %d frames; dropped: %s because the kernel's queue was full, %d too long, %d by resets. "
    .. "From the wire %d; dropped: %d because the ring was full, %d by the driver, %d because the TAP device was down, "
    .. "%d refused by the kernel; the card counts %d as damaged or short%s",
    out.carried, out.queue_full or "unknown", out.too_long, out.reset,
    back.carried, back.ring_full, back.dropped, back.tap_down, back.refused, back.damaged, more or "")
end

local function report(port, tap, bridge)
  local last = { 0, 0 }
  while true do
    luio.sleep(1)
    local out, back = bridge.back.bytes, bridge.there.bytes
    tell(account(port, tap, bridge), (". Now %.1f and %.1f Mbit/s"):format((out - last[1]) * 8e-6, (back - last[2]) * 8e-6))
    last[1], last[2] = out, back
  end
end

-- ---- The work ------------------------------------------------------------------------------------

local port, message = net.open(args.device, { mtu = args.mtu, rx_checksum = false })
if not port then return fail(message) end
local offload = port.features.tx_checksum and not args.no_offload
local tap
tap, message = taps.open {
  name = args.name, mtu = args.mtu, mac = mac == "port" and port.mac or mac ~= "random" and mac or nil, pool = port.pool,
  checksum = offload, address = args.address, queue = args.queue,
}
if not tap then
  port:close()
  return fail(message)
end
port:promiscuous(args.promiscuous or tap.mac ~= port.mac)
port:multicast "all" -- which groups the kernel listens to it does not tell us
port:follow(function(line) say("%s", line) end)
local bridge = bridges.new(port, tap)

local function stop() bridge:stop() end
local signals = {}
for i, name in ipairs { "sigint", "sigterm" } do
  signals[i] = assert(uv.new_signal())
  signals[i]:start(name, stop)
  signals[i]:unref()
end

local why
luio.run(function()
  port:on_link(function(link)
    say("link %s", speed(link))
    tap:carrier(link.up)
  end)
  local link = port:link()
  tap:carrier(link.up)
  say("%s is %s, mtu %d, %s, checksums by the %s; link %s; Ctrl-C ends it", args.device, tap.name, tap.mtu, tap.mac,
    offload and "card" or "kernel", speed(link))
  local reporter = args.verbose and luio.spawn(report, port, tap, bridge)
  local ok
  ok, why = bridge:run()
  if reporter then reporter:cancel() end
  if ok then why = nil end
end)
tell(account(port, tap, bridge))
for _, signal in ipairs(signals) do
  signal:stop()
  handles.dispose(signal)
end
tap:close()
local closed, unsent = port:close()
why = why or not closed and unsent or nil
return why and fail(why) or 0
