--- Answers ARP for an address, and counts what else comes: the least that a program with a network card does.
---
---     build/luio examples/arp.lua 0000:00:05.0 10.0.0.1
---
--- A frame that is received is changed where it lies and sent back: its bytes are never copied. The methods of a packet (read,
--- write, length, pointer) are in lua/luio/pool.lua.

local luio = require "luio"
local net = require "luio.net"

local device, address = arg[1], arg[2]
local a, b, c, d = tostring(address):match "^(%d+)%.(%d+)%.(%d+)%.(%d+)$"
if not a then
  io.stderr:write "arp: luio examples/arp.lua DEVICE 10.0.0.1\n"
  return 2
end
local ip = string.char(a, b, c, d)

local port, message = net.open(device)
if not port then
  io.stderr:write("arp: ", message, "\n")
  return 1
end
local mac = net.mac_bytes(port.mac)
port:follow(print)

local ARP, REQUEST = "\8\6", "\0\1\8\0\6\4\0\1" -- EtherType; Ethernet and IPv4, their lengths, a request (RFC 826)

-- Whether a frame asks for the owner of our address; then it is the answer.
local function answered(packet)
  if packet.length < 42 or packet:read(14, 8) ~= REQUEST or packet:read(38, 4) ~= ip then return false end
  local asker = packet:read(22, 10) -- its MAC and IP address
  packet:write(asker:sub(1, 6) .. mac .. ARP .. REQUEST:sub(1, 7) .. "\2" .. mac .. ip .. asker .. ("\0"):rep(18))
  return true
end

luio.run(function()
  local stopping, kinds, seen = luio.stopping(), {}, {}
  print(("%s answers for %s; Ctrl-C ends it"):format(tostring(port), address))
  while not stopping() do
    local packet, why, code = port.rx[0]:receive(0.5)
    if packet then
      local kind = packet:read(12, 2)
      if not seen[kind] then table.insert(kinds, kind) end
      seen[kind] = (seen[kind] or 0) + 1
      if kind ~= ARP or not answered(packet) or not port.tx[0]:send(packet, 1) then packet:free() end
    elseif code ~= "ETIMEDOUT" then
      error(why, 0)
    end
  end
  for _, kind in ipairs(kinds) do print(("EtherType 0x%02x%02x: %d"):format(kind:byte(1), kind:byte(2), seen[kind])) end
end)
port:close()
