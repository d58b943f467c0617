--- A stream of numbered, time-stamped UDP frames: its sender, and a receiver that checks it.
---
---     local out = stream.sender(port.pool, { dst = "52:54:00:12:34:57" })
---     local have = out:fill(packets, 0, 128)              -- frames, made from the pool's packets
---     have = packets:shift(port.tx[0]:burst(packets, have), have)
---
---     local check = stream.receiver()
---     check:count(packets, port.rx[0]:burst(packets, 128)) -- then check:result()
---
--- A frame: Ethernet, IPv4, UDP without a checksum (which IPv4 allows), and of the payload
---
---     0   2  0x6c75 ("lu")
---     2   8  number, from 0
---     10  8  when it was made: nanoseconds of the monotonic clock, so latencies are of one machine
---     18     0, 1, 2 ... 255, 0 ... up to the frame's size
---
--- all in network order. 60 bytes, the least an Ethernet frame has without its CRC, are just that without a filling.
---
--- The receiver remembers which of the last 65,536 numbers it saw. So it can tell a frame that comes twice from one that
--- comes late: a late one was counted as lost before, and is not any more.

local bit = require "bit"
local checks = require "luio.options"
local runtime = require "luio.ffi"
local ffi = require "ffi"
local histogram = require "luio.text.histogram"
local posix = require "luio.posix"

local band, bswap, tobit = bit.band, bit.bswap, bit.tobit
local copy, cast, memcmp = ffi.copy, ffi.cast, posix.memcmp
local C = runtime.C

local M = {}

local HEADER = 44 -- bytes up to the number: Ethernet 14, IPv4 20, UDP 8, and what marks the payload
local LEAST, MOST = 60, 9234 -- bytes of a frame
local WINDOW = 65536 -- numbers

local fields_t = ffi.typeof [[struct __attribute__((packed)) {
  uint8_t dst[6], src[6];
  uint16_t ether;
  uint8_t version, service;
  uint16_t total, id, fragment;
  uint8_t ttl, protocol;
  uint16_t sum;
  uint8_t ip_src[4], ip_dst[4];
  uint16_t port_src, port_dst, length, udp_sum, mark;
  int32_t high, low, time_high, time_low;
  uint8_t filling[];
} *]]

local function order16(n) return ffi.abi "le" and bit.rshift(bswap(n), 16) or n end
local function order32(n) return ffi.abi "le" and bswap(n) or tobit(n) end
local IP, UDP, MARK = order16(0x0800), 17, order16(0x6c75)

local filling = ffi.new("uint8_t[?]", MOST)
for i = 0, MOST - 1 do filling[i] = band(i, 255) end

-- ---- Sending -------------------------------------------------------------------------------------

--- Options of a stream of test packets.
---@class luio.net.StreamOptions
---@field size integer?    bytes of a frame without its CRC: 60 to 9234; 60
---@field src string?      MAC address; 02:00:00:00:00:01
---@field dst string?      02:00:00:00:00:02, which no card has
---@field ip_src string?   198.18.0.1: that network is for such tests (RFC 2544)
---@field ip_dst string?   198.18.0.2
---@field port_src integer? 9
---@field port_dst integer? 9: "discard"

--- The sending end of a stream of numbered packets.
---@class luio.net.Sender
---@field package pool luio.Pool
---@field package header ffi.cdata*
---@field package s ffi.cdata*
local Sender = {}
Sender.__index = Sender

local sender_t = ffi.typeof "struct { double made; int32_t size; }"

local function address4(text)
  local a, b, c, d = tostring(text):match "^(%d+)%.(%d+)%.(%d+)%.(%d+)$"
  a, b, c, d = tonumber(a), tonumber(b), tonumber(c), tonumber(d)
  if not a or a > 255 or b > 255 or c > 255 or d > 255 then return nil end
  return string.char(a, b, c, d)
end

local function mac(text) return require("luio.net").mac_bytes(text) end

local MAC, IPV4, PORT = { words = "a MAC address", fits = mac }, { words = "an IPv4 address", fits = address4 }, checks.whole(0, 65535)
local OPTIONS = {
  size = checks.whole(LEAST, MOST, "bytes"), src = MAC, dst = MAC, ip_src = IPV4, ip_dst = IPV4, port_src = PORT, port_dst = PORT,
}

-- RFC 1071, over the header with its sum still 0.
local function ip_sum(bytes)
  local sum = 0
  for i = 1, #bytes, 2 do sum = sum + bytes:byte(i) * 256 + bytes:byte(i + 1) end
  while sum > 0xffff do sum = sum % 65536 + math.floor(sum / 65536) end
  return 0xffff - sum
end

--- Makes a sender. It raises when an option is none.
---@param pool luio.Pool  its packets have room for `size`
---@param options? luio.net.StreamOptions
---@return luio.net.Sender
function M.sender(pool, options)
  options = checks.check("stream.sender", options, OPTIONS)
  local function u16(n) return string.char(math.floor(n / 256), n % 256) end
  local size = options.size or LEAST
  local room = pool.size - pool.headroom
  if size > room then
    error(("a stream of frames of %d bytes needs a pool of larger packets: there is room for %d"):format(size, room), 2)
  end
  local ip = "\x45\0" .. u16(size - 14) .. "\0\0\0\0" .. "\x40" .. string.char(UDP)
  local ends = address4(options.ip_src or "198.18.0.1") .. address4(options.ip_dst or "198.18.0.2")
  local header = mac(options.dst or "02:00:00:00:00:02") .. mac(options.src or "02:00:00:00:00:01") .. "\8\0"
    .. ip .. u16(ip_sum(ip .. "\0\0" .. ends)) .. ends
    .. u16(options.port_src or 9) .. u16(options.port_dst or 9)
    .. u16(size - 34) .. "\0\0" .. "lu"
  local self = setmetatable({ pool = pool, header = ffi.new("uint8_t[?]", HEADER), s = sender_t(0, size) }, Sender)
  copy(self.header, header, HEADER)
  return self
end

--- Makes the next frames of packets of the pool, into places `have` to `want` - 1 of a batch. All of a call have one
--- time: they go out together.
---@param packets luio.Batch
---@param have integer
---@param want integer  at most packets.capacity
---@return integer have  how many there are now: fewer than `want` when the pool has no more
function Sender:fill(packets, have, want)
  local s, header = self.s, self.header
  local number = s.made
  local high = math.floor(number / 2 ^ 32)
  local left = (high + 1) * 2 ^ 32 - number -- with the same high half
  if want - have > left then want = have + left end
  local n = self.pool:fill(packets, have, want)
  local now = tonumber(C.luio_now()) -- below 2^53 for 104 days of uptime; then its last bits are rounded
  local time_high, time_low = order32(tobit(math.floor(now / 2 ^ 32))), order32(tobit(now % 2 ^ 32))
  local first, size, at_high = tobit(number - high * 2 ^ 32), s.size, order32(tobit(high))
  local rest = size - LEAST
  for k = have, n - 1 do
    local packet = packets.at[k]
    local d = packet:pointer()
    copy(d, header, 44) -- HEADER; a constant, so that it is a few stores
    local f = cast(fields_t, d)
    f.high, f.low, f.time_high, f.time_low = at_high, order32(tobit(first + (k - have))), time_high, time_low
    if rest > 0 then copy(d + 60, filling, rest) end
    packet.length = size
  end
  s.made = number + (n - have)
  return n
end

--- Frames made so far: the number of the next one.
---@return integer
function Sender:made()
  return self.s.made
end

-- ---- Receiving -----------------------------------------------------------------------------------

local receiver_t = ffi.typeof [[struct {
  double received, bytes, first, next, lost, doubled, late, damaged, other;
  uint8_t seen[65536];
}]]

--- The receiving end of a stream of numbered packets.
---@class luio.net.Receiver
---@field latency luio.Histogram  from the making of a frame to the look at it
---@field package s ffi.cdata*
local Receiver = {}
Receiver.__index = Receiver

--- The result of a stream.
---@class luio.net.StreamResult
---@field received integer  frames of the stream, doubled ones included
---@field bytes integer     of those
---@field first integer?    number of the first that came; nil: none came
---@field last integer?     the greatest that came; frames sent and lost behind it are known to the sender only
---@field lost integer      numbers left out between them
---@field doubled integer
---@field late integer      came behind one with a higher number
---@field damaged integer   of the stream by their mark, but not as they were made; not looked at further
---@field other integer     frames that are not of a stream

--- A receiver; the first frame it sees is where the stream begins.
---@return luio.net.Receiver
function M.receiver()
  local self = setmetatable({ latency = histogram.new(), s = receiver_t() }, Receiver)
  self.s.next = -1
  return self
end

-- A number behind the last: is it late, or here once more? Older ones than the window holds are taken to be late.
local function behind(s, number)
  if s.next - number <= WINDOW then
    local at = band(number, WINDOW - 1)
    if s.seen[at] ~= 0 then
      s.doubled = s.doubled + 1
      return
    end
    s.seen[at] = 1
  end
  s.late = s.late + 1
  if s.lost > 0 then s.lost = s.lost - 1 end
end

-- Numbers were left out.
local function gap(s, number)
  local missing = number - s.next
  s.lost = s.lost + missing
  if missing >= WINDOW then
    ffi.fill(s.seen, WINDOW)
  else
    for i = 0, missing - 1 do s.seen[band(s.next + i, WINDOW - 1)] = 0 end
  end
end

--- Looks at packets, which stay yours.
---@param packets luio.Batch
---@param n integer
function Receiver:count(packets, n)
  local s, latency = self.s, self.latency
  local now = tonumber(C.luio_now())
  for k = 0, n - 1 do
    local packet = packets.at[k]
    local d, length = packet:pointer(), packet.length
    local f = cast(fields_t, d)
    if length < 60 or f.ether ~= IP or f.version ~= 0x45 or f.protocol ~= UDP or f.mark ~= MARK then
      s.other = s.other + 1
    elseif order16(f.total) ~= length - 14 or length > 60 and memcmp(d + 60, filling, length - 60) ~= 0 then
      s.damaged = s.damaged + 1
    else
      s.received, s.bytes = s.received + 1, s.bytes + length
      local number = order32(f.high) % 2 ^ 32 * 2 ^ 32 + order32(f.low) % 2 ^ 32
      if s.next < 0 then s.first, s.next = number, number end
      if number < s.next then
        behind(s, number)
      else
        if number > s.next then gap(s, number) end
        s.seen[band(number, 65535)] = 1
        s.next = number + 1
      end
      local made = order32(f.time_high) % 2 ^ 32 * 2 ^ 32 + order32(f.time_low) % 2 ^ 32
      latency:add((now - made) / 1e9)
    end
  end
end

--- Frames of the stream that came.
---@return integer
function Receiver:received()
  return self.s.received
end

--- The result of the stream so far.
---@return luio.net.StreamResult
function Receiver:result()
  local s = self.s
  local any = s.next >= 0
  return {
    first = any and s.first or nil, last = any and s.next - 1 or nil,
    received = s.received, bytes = s.bytes, lost = s.lost, doubled = s.doubled, late = s.late, damaged = s.damaged, other = s.other,
  }
end

return M
