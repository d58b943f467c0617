--- Frames for the conformance spec: made so that each is known by itself, and loops that send and receive them.

local luio = require "luio"
local net = require "luio.net"
local wait = require "spec.support.wait"

local M = {}

local HEADER = 14
local fillers = {}
for i = 0, 255 do fillers[i] = string.char(i):rep(9300) end

--- A frame from the port to itself, of a type that nobody has, with a number in it.
---@param port luio.net.Port
---@param number integer
---@param size? integer  64; 22 at least
---@param to? string     6 bytes; the port's own
---@return string
function M.frame(port, number, size, to)
  local own = net.mac_bytes(port.mac)
  local text = ("%08d"):format(number)
  return (to or own) .. own .. "\x88\xb5" .. text .. fillers[number % 256]:sub(1, (size or 64) - HEADER - #text)
end

--- A packet with such a frame.
---@param port luio.net.Port
---@param text string
---@return luio.Packet
function M.packet(port, text)
  local packet = port.pool:alloc() or error("the pool is empty", 2)
  packet:write(text)
  return packet
end

--- Frees what waits to be received.
function M.drain(port)
  local packets = luio.batch(64)
  repeat
    local n = port.rx[0]:burst(packets, 64)
    packets:free(n)
  until n == 0
end

--- Sends frames until one comes back: a device may need a moment after its setup. No frame is under way afterwards.
---@param port luio.net.Port
function M.wait_for_loopback(port)
  local deadline, own = luio.now() + 10, net.mac_bytes(port.mac)
  for i = 1, 10000 do
    local text = own .. own .. "\x88\xb6" .. ("frame %05d"):format(i):rep(5)
    assert(port.tx[0]:send(M.packet(port, text), 1))
    local patience = luio.now() + 0.05
    repeat
      local packet = port.rx[0]:receive(math.max(0, patience - luio.now()))
      local mine = packet and packet:read() == text
      if packet then packet:free() end
      if mine then
        assert(port.tx[0]:flush(10))
        return
      end
    until not packet
    if luio.now() > deadline then error("nothing comes back within 10 s", 2) end
  end
end

--- Receives the next packet, whole: its bytes. Polls; an error when none comes within 5 s.
---@param port luio.net.Port
---@return string
---@return integer flags
function M.next(port)
  local packet = assert(port.rx[0]:receive(5))
  local text, flags = packet:read(), packet.flags
  packet:free()
  return text, flags
end

--- Sends frames, one burst after the other, while they are received: how many came, each whole, in order and once.
--- Never more than `window` are under way, so none is missed.
---@param port luio.net.Port
---@param n integer
---@param options? { burst: integer?, window: integer?, size: (fun(number: integer): integer)?, first: integer?, beside: fun(got: integer)? }
---@return integer got
function M.exchange(port, n, options)
  options = options or {}
  local most, window, first = options.burst or 32, options.window or 200, options.first or 0
  local out, packets = luio.batch(most), luio.batch(64)
  local made, sent, got, have, deadline = 0, 0, 0, 0, luio.now() + 60 * wait.HANG
  local size = options.size or function() return 64 end
  while got < n do
    if luio.now() > deadline then error(("%d of %d came back"):format(got, n), 2) end
    local want = math.min(most, n - sent, window - (sent - got))
    local before = have
    if want > have then have = port.pool:fill(out, have, want) end
    for i = before, have - 1 do
      out[i]:write(M.frame(port, first + made, size(made)))
      made = made + 1
    end
    local went = port.tx[0]:burst(out, have)
    have, sent = out:shift(went, have), sent + went
    for i = 0, port.rx[0]:burst(packets, 64) - 1 do
      local text, expected = packets[i]:read(), M.frame(port, first + got, size(got))
      if text ~= expected then
        error(("frame %d is another: %d bytes, number %s; expected %d bytes"):format(got, #text, text:sub(15, 22), #expected), 2)
      end
      packets[i]:free()
      got = got + 1
    end
    if options.beside then options.beside(got) end
  end
  assert(port.tx[0]:flush(5))
  return got
end

--- The ones' complement sum of a string, as IP and its protocols add up (RFC 1071).
---@param bytes string
---@param sum? integer  added
---@return integer  16 bits
function M.sum(bytes, sum)
  sum = sum or 0
  for i = 1, #bytes - 1, 2 do
    local high, low = bytes:byte(i, i + 1)
    sum = sum + high * 256 + low
  end
  if #bytes % 2 == 1 then sum = sum + bytes:byte(-1) * 256 end
  while sum > 0xffff do sum = sum % 65536 + math.floor(sum / 65536) end
  return sum
end

local function u16(value) return string.char(math.floor(value / 256), value % 256) end

--- An IPv4 packet in a frame. Its checksum is right; or, on request, that of the pseudo header alone, which is what a
--- device that is to complete it wants; or wrong.
---@param port luio.net.Port
---@param protocol "tcp"|"udp"
---@param data string
---@param checksum? "right"|"pseudo"|"wrong"
---@return string frame
---@return integer start   byte that the sum begins at
---@return integer offset  of the checksum from there
function M.ipv4(port, protocol, data, checksum)
  local number, offset = protocol == "tcp" and 6 or 17, protocol == "tcp" and 16 or 6
  local addresses = "\10\0\0\1\10\0\0\2"
  local l4
  if protocol == "tcp" then
    l4 = u16(1234) .. u16(80) .. "\0\0\0\1\0\0\0\2\x50\x10" .. u16(0xffff) .. "\0\0\0\0" .. data
  else
    l4 = u16(1234) .. u16(53) .. u16(8 + #data) .. "\0\0" .. data
  end
  local pseudo = M.sum(addresses, number + #l4)
  local value = 65535 - M.sum(l4, pseudo)
  if value == 0 then value = 65535 end
  if checksum == "pseudo" then value = pseudo end
  if checksum == "wrong" then value = value % 65535 + 1 end
  l4 = l4:sub(1, offset) .. u16(value) .. l4:sub(offset + 3)
  local ip = "\x45\0" .. u16(20 + #l4) .. "\0\1\0\0\64" .. string.char(number) .. "\0\0" .. addresses
  ip = ip:sub(1, 10) .. u16(65535 - M.sum(ip)) .. ip:sub(13)
  local own = net.mac_bytes(port.mac)
  return own .. own .. "\x08\0" .. ip .. l4, 34, offset
end

return M
