--- A member of the long run: numbered frames from a card, over the wire and the shared port, to a client that sends them back.
---
---     luio spec/soak/traffic.lua CARD TO COUNTS     TO: the client's address

package.path = package.path .. ";./?.lua" -- started from the checkout
local counts = require "spec.soak.counts"
local luio = require "luio"
local net = require "luio.net"
local pace = require "luio.net.pace"
local stream = require "luio.net.stream"

local RATE = 400 -- frames a second

local port = assert(net.open(arg[1]))
local c = counts.new(arg[3], { "sent", "received", "lost", "wrong" })
local out = stream.sender(port.pool, { src = port.mac, dst = arg[2], size = 200 })
local check, bucket, packets, back = stream.receiver(), pace.new(RATE), luio.batch(64), luio.batch(64)
local stopping = counts.until_told()

luio.run(function()
  local have, next_save = 0, 0
  while not stopping() do
    have = out:fill(packets, have, have + bucket:take(64 - have, luio.now()))
    local went = port.tx[0]:burst(packets, have)
    have, c.sent = packets:shift(went, have), c.sent + went
    local n = port.rx[0]:burst(back, 64)
    check:count(back, n)
    back:free(n)
    if luio.now() >= next_save then
      local r = check:result()
      c.received, c.lost, c.wrong = r.received, r.lost, r.damaged + r.doubled
      c:save()
      next_save = luio.now() + 0.5
    end
    luio.sleep(0.005)
  end
  packets:free(have)
end)
assert(port:close())
