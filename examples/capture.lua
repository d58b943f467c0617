#!/usr/bin/env luio
--- Writes a network port's received frames to a pcapng file, which Wireshark and tshark read. Needs a network card that is
--- bound to a UIO driver (luio bind 0000:00:05.0):
---
---     luio examples/capture.lua 0000:00:05.0 out.pcapng                          until Ctrl-C
---     luio examples/capture.lua 0000:00:05.0 out.pcapng --filter "udp port 53"
---     luio examples/capture.lua 0000:00:05.0 - | tshark -r -
---
--- A packet is looked at where the device put it, and written from there (luio.net.pcapng). The filter is compiled by
--- libpcap, then to Lua, then by LuaJIT to machine code (luio.net.filter). Frames that the device dropped while the disk was busy are
--- counted, shown, and written at the file's end.

local filter = require "luio.net.filter"
local luio = require "luio"
local net = require "luio.net"
local numbers = require "luio.tool.cli.numbers"
local pcapng = require "luio.net.pcapng"

local now = luio.now
local BURST = 256
local RING = 2048 -- descriptors: room for frames that come during a slow write

local parser = require "argparse"("luio examples/capture.lua", "Writes what a network port receives to a pcapng file.")
parser:argument("device", "A network device: 0000:00:05.0, uio0, sim:e1000e.")
parser:argument("file", "What to write; - is standard output.")
parser:option("--filter", "Only packets that match, as in tcpdump."):argname "EXPR"
parser:option("--snaplen", "Bytes of each packet that are written; else all."):argname("N")
  :convert(numbers.whole("--snaplen", 1, 2 ^ 31 - 1))
parser:option("--count", "End after so many packets that match."):argname("N"):convert(numbers.whole("--count", 1, 2 ^ 53))
parser:option("--seconds", "End after so long."):argname("N"):convert(numbers.seconds "--seconds")
parser:flag("--no-promiscuous", "Receive only frames for this port, not all frames.")
parser:epilog 'Example: luio examples/capture.lua 0000:00:05.0 out.pcapng --filter "udp port 53"'

local function say(...) io.stderr:write("capture: ", ...) io.stderr:write "\n" end

local ok, args = parser:pparse(arg)
if not ok then
  say(args, " (--help lists the options)")
  return 2
end
local match
if args.filter then
  local compiled, message = filter.compile(args.filter)
  if not compiled then
    say("--filter: ", message)
    return 2
  end
  match = compiled.match
end
if args.file == "-" and require("luv").guess_handle(1) == "tty" then
  say "packets are no text: standard output is a terminal; pipe it into tshark -r -"
  return 2
end

local port, message = net.open(args.device, { rx = RING, packets = RING + 4 * BURST + 512 })
if not port then
  say(message)
  return 1
end
local options = {
  name = args.device, description = tostring(port.dev), mac = net.mac_bytes(port.mac), filter = args.filter, snaplen = args.snaplen,
  application = "luio " .. luio.version, capacity = BURST, patience = 2,
}
local file
if args.file == "-" then file, message = pcapng.to(1, options) else file, message = pcapng.create(args.file, options) end
if not file then
  say(message)
  return 1
end

-- Takes packets until `stop`, or until `most` packets matched, or until a signal. The first `pending` packets of the batch
-- are in line to be written since the last call: the reader of the file is slow; the device counts the frames that it misses
-- meanwhile.
---@return integer? taken    nil: it can't go on, the message and the code follow
---@return integer|string matched
---@return integer|string pending
local function capture(rx, packets, pending, most, stop, stopping)
  local taken, matched, fine, why, code = 0, 0, nil, nil, nil
  repeat
    if pending == 0 then
      pending = rx:burst(packets, BURST)
      if pending == 0 then
        fine, why, code = rx:wait(math.max(0, math.min(0.1, stop - now())))
      else
        file:stamp()
        matched = matched + file:select(packets, pending, match, most - matched)
        taken = taken + pending
      end
    end
    if pending > 0 then
      fine, why, code = file:write(0.05)
      if fine then
        packets:free(pending)
        pending = 0
      end
    end
    if not fine and code ~= "EAGAIN" and code ~= "ETIMEDOUT" then return nil, why, code end
  until matched >= most or now() >= stop or stopping()
  return taken, matched, pending
end

local function missed()
  local s = port:stats()
  return s.rx_missed, s.rx_dropped
end

local packets, stopping = luio.batch(BURST), luio.stopping()
if not args.no_promiscuous then port:promiscuous(true) end
port:follow(say)
say(("listening on %s, %s"):format(args.device, port.mac))
local start, taken, matched, pending, count = now(), 0, 0, 0, args.count or 2 ^ 53
local stop, due, failed, code = args.seconds and start + args.seconds or math.huge, start + 1, nil, nil
while not failed and matched < count and now() < stop and not stopping() do
  local n, m, rest = capture(port.rx[0], packets, pending, count - matched, math.min(stop, due), stopping)
  if n then
    taken, matched, pending = taken + n, matched + m, rest
    if now() >= due then
      due = due + 1
      local lost, dropped = missed()
      say(("%6.1f s  packets %d, matched %d, dropped %d"):format(now() - start, taken, matched, lost + dropped))
    end
  else
    failed, code = m, rest
  end
end

local lost, dropped = missed()
local closed, why = file:close { received = taken + lost + dropped, missed = lost, dropped = dropped, accepted = matched }
say(("packets %d, matched %d, written %d, dropped %d"):format(taken, matched, (file:written()), lost + dropped))
if code == "EPIPE" then -- the reader has closed the pipe
  say "it has no reader any more"
  return 0
elseif failed or not closed then
  say(failed or why)
  return 1
end
return 0
