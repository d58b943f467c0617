--- Sends every frame back, addresses exchanged: blocking, one at a time.
---
---     luio echo.lua DEVICE POLL      POLL: luio.net's option, or "auto"; runs until a signal stops it

local ffi = require "ffi"
local luio = require "luio"
local net = require "luio.net"

local port = assert(net.open(arg[1], { poll = tonumber(arg[2]) }))
assert(port:wait_link(true, 10))
local mac = net.mac_bytes(port.mac)
local stopping = luio.stopping()
print("ready " .. port.mac)
io.stdout:flush()
luio.run(function()
  local rx, tx = port.rx[0], port.tx[0]
  while not stopping() do
    local packet = rx:receive(0.2)
    if packet then
      local start = packet:pointer()
      ffi.copy(start, start + 6, 6)
      ffi.copy(start + 6, mac, 6)
      assert(tx:send(packet, 1))
    end
  end
end)
assert(port:close())
