--- Forward between two ports on one wire, MAC addresses exchanged. Frames sent by one port come in at the other, so frames
--- once sent go around for ever, and the figure is that of forwarding alone.
---
---     luio forward.lua DEVICE DEVICE FRAMES SECONDS    prints packets/s, a sample a second; FRAMES go around each way
---
--- As DPDK's testpmd does in macswap mode.

local ffi = require "ffi"
local luio = require "luio"
local net = require "luio.net"

local FRAMES, SECONDS = tonumber(arg[3]), tonumber(arg[4])
local BURST = 64
local MAC = ffi.typeof "struct { uint32_t low; uint16_t high; } __attribute__((packed)) *"

local function pump(from, to, batch)
  local n = from:burst(batch, BURST)
  for i = 0, n - 1 do
    local start = batch[i]:pointer()
    local destination, source = ffi.cast(MAC, start), ffi.cast(MAC, start + 6)
    local low, high = destination.low, destination.high
    destination.low, destination.high = source.low, source.high
    source.low, source.high = low, high
  end
  local sent = to:burst(batch, n)
  for i = sent, n - 1 do batch[i]:free() end
  return sent
end

local function forward(a, b, batch, duration)
  local rx_a, tx_a, rx_b, tx_b, sent = a.rx[0], a.tx[0], b.rx[0], b.tx[0], 0
  local began = luio.now()
  local stop = began + duration
  repeat
    sent = sent + pump(rx_a, tx_b, batch) + pump(rx_b, tx_a, batch)
  until luio.now() >= stop
  return sent, luio.now() - began
end

local function inject(port, n)
  local batch = luio.batch(n)
  local have = port.pool:fill(batch, 0, n)
  for i = 0, have - 1 do
    batch[i]:write(net.mac_bytes "02:00:00:00:00:01" .. net.mac_bytes(port.mac) .. "\x88\xb5" .. ("\0"):rep(46))
  end
  assert(port.tx[0]:burst(batch, have) == n)
end

local a, b = assert(net.open(arg[1])), assert(net.open(arg[2]))
for _, port in ipairs { a, b } do
  port:promiscuous(true)
  assert(port:wait_link(true, 10))
end
inject(a, FRAMES)
inject(b, FRAMES)
local batch, samples = luio.batch(BURST), {}
forward(a, b, batch, 1)
for i = 1, SECONDS do
  local sent, took = forward(a, b, batch, 1)
  samples[i] = ("%.0f"):format(sent / took)
end
print(table.concat(samples, ","))
for _, port in ipairs { a, b } do port.tx[0]:flush(1) end
assert(a:close())
assert(b:close())
