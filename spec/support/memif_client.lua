--- A memif client in a process of its own: build/luio spec/support/memif_client.lua SOCKET ID MAC WHAT [UID]. With a UID it becomes
--- that user when luio is loaded, because that user may not be allowed to read the checkout.
---
---     flood   sends frames to 02:00:00:00:00:0b as fast as it can, until it is killed
---     stall   joins, and then stays idle
---     echo    sends received frames back, addresses exchanged

local luio = require "luio"
local memif = require "luio.net.memif"
local net = require "luio.net"
require "luio.net.memory" -- loaded by connect else

local path, id, mac, what = arg[1], tonumber(arg[2]), arg[3], arg[4]
if arg[5] then require("luv").setuid(tonumber(arg[5])) end
local port = assert(memif.connect(path, { id = id, mac = mac, seconds = 10 }))
print "joined"
io.flush()
local batch, have = luio.batch(64), 0
local frame = net.mac_bytes "02:00:00:00:00:0b" .. net.mac_bytes(mac) .. "\x88\xb5" .. ("f"):rep(50)

luio.run(function()
  while not port.ended do
    if what == "flood" then
      local before = have
      have = port.pool:fill(batch, have, 64)
      for i = before, have - 1 do batch[i]:write(frame) end
      have = batch:shift(port.tx[0]:burst(batch, have), have)
    elseif what == "echo" then
      local packet = port.rx[0]:receive(0.1)
      if packet then
        local bytes = packet:read()
        packet:write(bytes:sub(7, 12) .. net.mac_bytes(mac) .. bytes:sub(13))
        port.tx[0]:send(packet, 1)
      end
    else
      luio.sleep(0.1)
    end
  end
end)
print(port.ended)
return 0
