--- Transmit, 60-byte frames: packets from the pool, a UDP header written into each, at full speed.
---
---     luio transmit.lua DEVICE BURST SECONDS [ARGUMENT...]     prints packets/s, a sample a second; arguments for a qemu: device's QEMU
---
--- As DPDK's testpmd does in txonly mode, whose frames have the same size and headers.

local ffi = require "ffi"
local luio = require "luio"
local net = require "luio.net"

local address, burst, seconds = arg[1], tonumber(arg[2]), tonumber(arg[3])

local header_t = ffi.typeof [[struct {
  uint8_t destination[6], source[6]; uint16_t type;
  uint8_t version, service; uint16_t length, id, fragment; uint8_t ttl, protocol; uint16_t sum;
  uint32_t from, to;
  uint16_t source_port, destination_port, udp_length, udp_sum;
} __attribute__((packed))]]

local function template(port)
  local h = header_t()
  ffi.copy(h.destination, net.mac_bytes "02:00:00:00:00:00", 6)
  ffi.copy(h.source, net.mac_bytes(port.mac), 6)
  h.type, h.version, h.length, h.ttl, h.protocol = 0x0008, 0x45, 0x2e00, 64, 17 -- big-endian
  h.from, h.to, h.source_port, h.destination_port, h.udp_length = 0x0112a8c6, 0x0212a8c6, 0x0900, 0x0900, 0x1a00
  return h
end

local HEADER = ffi.sizeof(header_t)

-- Sends for a while; packets and seconds.
local function send(pool, tx, batch, header, duration)
  local copy, want, have, sent = ffi.copy, batch.capacity, 0, 0
  local began = luio.now()
  local stop = began + duration
  repeat
    for k = have, want - 1 do
      local packet = pool:alloc()
      if not packet then break end
      copy(packet:pointer(), header, HEADER)
      packet.length = 60
      batch[k] = packet
      have = k + 1
    end
    local went = tx:burst(batch, have)
    sent, have = sent + went, batch:shift(went, have)
  until luio.now() >= stop
  batch:free(have)
  return sent, luio.now() - began
end

if arg[4] then require("luio.device.settings").qemu = { unpack(arg, 4) } end
local port = assert(net.open(address))
assert(port:wait_link(true, 10))
local header, batch, samples = template(port), luio.batch(burst), {}
send(port.pool, port.tx[0], batch, header, 1) -- until it is compiled
for i = 1, seconds do
  local sent, took = send(port.pool, port.tx[0], batch, header, 1)
  samples[i] = ("%.0f"):format(sent / took)
end
print(table.concat(samples, ","))
assert(port:close())
