#!/usr/bin/env luio
--- One port, several processes. Each connects to a unix socket by memif, and has a queue pair in shared memory; their memif
--- clients: DPDK's net_memif, VPP, libmemif, and luio.net.memif. A client that dies, stalls or breaks the rules does not
--- disturb the others.
---
---     luio examples/share.lua 0000:00:05.0 /run/share.sock --verbose
---     luio examples/share.lua none /run/share.sock                   clients among themselves, without a card
---
--- and then, as a client that answers pings and ARP:
---
---     dpdk-testpmd --no-pci --no-huge -m 128 --vdev=net_memif,role=client,id=1,socket=/run/share.sock,socket-abstract=no \
---       -- --forward-mode=icmpecho --auto-start -i
---
--- lua/luio/net/share.lua describes the way of a frame.

local luio = require "luio"
local net = require "luio.net"
local numbers = require "luio.tool.cli.numbers"
local share = require "luio.net.share"

local parser = require "argparse"("luio examples/share.lua", "Share a network port with other processes, over memif.")
parser:argument("device", "A network card, such as 0000:00:05.0; or none: clients talk to each other alone.")
parser:argument("socket", "Where clients connect.")
parser:option("--client", "Who may come: an interface id, its address, and a secret if you like. Else anybody may, and has "
  .. "the address of the first frame it sends."):argname "ID=MAC[,SECRET]":count "*"
parser:option("--by", "How clients share: each by an address of its own, or by flow under the port's.")
  :choices { "mac", "flow" }:default "mac"
parser:option("--mode", "Permissions of the socket."):argname("OCTAL"):default "600"
parser:option("--clients", "At most so many."):argname("N"):default("16"):convert(numbers.whole("--clients", 1, 64))
parser:option("--per-user", "Of these, of one user who is neither root nor who runs this; else three quarters."):argname "N"
  :convert(numbers.whole("--per-user", 1, 64))
parser:option("--mtu", "The longest payload."):argname("N"):default("1500"):convert(numbers.whole("--mtu", 68, 65535))
parser:flag("-v --verbose", "Counters of each client, once a second.")

local function misuse(message)
  io.stderr:write("share: ", message, "\n")
  return 2
end

-- "1=02:00:00:00:00:01,secret"
local function member_of(text)
  local id, mac, secret = text:match "^(%d+)=([%x:]+),?(.*)$"
  local bytes = id and net.mac_bytes(mac)
  if not bytes or bytes:byte() % 2 == 1 then return nil end
  return tonumber(id), { mac = mac, secret = secret ~= "" and secret or nil }
end

local function who(client)
  return ("client %s (%s, process %d)"):format(client.id or "?", client.name or "unnamed", client.pid)
end

local function changed(event, client, why)
  if event == "joined" then
    print(("%s came, %s"):format(who(client), client.mac or "its address is that of its first frame"))
  else
    print(("%s %s: %s"):format(who(client), event == "left" and "left" or "was refused", why))
  end
  io.flush()
end

local function show_counters(shared, port)
  if port then
    local s = port:stats()
    print(("  wire  sent %d  received %d, missed %d, damaged %d, unclaimed %d"):format(s.tx_packets, s.rx_packets, s.rx_missed,
      s.rx_errors + s.rx_dropped, shared.unclaimed))
  end
  for _, client in ipairs(shared:clients()) do
    local s = client.stats
    print(("  %-3d %-17s  sent %d, dropped %d  received %d, dropped %d"):format(client.id, client.mac or "?", s.rx_packets,
      s.rx_short + s.rx_long + s.rx_spoofed + s.rx_nowhere + s.rx_wire_full, s.tx_packets, s.tx_full))
  end
  io.flush()
end

local ok, args = parser:pparse(arg)
if not ok then return misuse(args) end
local mode = tonumber(args.mode, 8)
if not mode or mode > 511 then return misuse(("--mode %s: permissions are three octal digits"):format(args.mode)) end
if args.by == "flow" and args.device == "none" then return misuse "--by flow: that takes a card, whose flows they are" end
local members
for _, text in ipairs(args.client) do
  local id, member = member_of(text)
  if not id then return misuse(("--client %s: not like 1=02:00:00:00:00:01 or 1=02:00:00:00:00:01,secret"):format(text)) end
  members = members or {}
  members[id] = member
end

local port, message
if args.device ~= "none" then
  port, message = net.open(args.device, { mtu = args.mtu })
  if not port then
    io.stderr:write("share: ", message, "\n")
    return 1
  end
end

local shared
shared, message = share.start(port, {
  path = args.socket, mode = mode, clients = args.clients, per_user = args.per_user, by = args.by, members = members, changed = changed,
})
if not shared then
  io.stderr:write("share: ", message, "\n")
  return 1
end

if port then port:follow(print) end
luio.run(function()
  local stopping, due = luio.stopping(), luio.now() + 1
  print(("%s is shared at %s; Ctrl-C stops it"):format(port and tostring(port) or "no port", args.socket))
  io.flush()
  while not stopping() do
    if shared:turn() == 0 then shared:wait(0.1) end
    if args.verbose and luio.now() >= due then
      due = luio.now() + 1
      show_counters(shared, port)
    end
  end
end)
shared:close()
local closed, why = true, nil
if port then closed, why = port:close() end
if not closed then io.stderr:write("share: ", why, "\n") end
return closed and 0 or 1
