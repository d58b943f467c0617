--- A memif client: a port like a card's over the memory that another process shares (luio.net.share, VPP,
--- DPDK).
---
---     local port = assert(memif.connect("/run/share.sock", { id = 1, mac = "02:00:00:00:00:01" }))
---     local n = port.rx[0]:burst(packets, 32)
---     port.tx[0]:burst(packets, n)
---     port:close()
---
--- Frames are copied between packets and the shared memory, once each way: packets of any pool may be sent, and are freed at once.
--- A connection has no link events and no multicast lists. There is no device: `dev` is nil.
---
--- A client that waits is woken by the server; one that polls is not.

local fd_watch = require "luio.loop.fd_watch"
local checks = require "luio.options"
local client_ring = require "luio.net.memif.client_ring"
local runtime = require "luio.ffi"
local ffi = require "ffi"
local luio = require "luio"
local memory = require "luio.net.memif.memory"
local pool = require "luio.pool"
local protocol = require "luio.net.memif.protocol"
local queues = require "luio.net.queue"
local socket = require "luio.net.memif.socket"
local wait_slot = require "luio.loop.wait_slot"
local uv = require "luv"
local C, now = runtime.C, runtime.now

local M = {}

--- Options of `memif.connect`.
---@class luio.memif.ClientOptions
---@field id integer?       the interface that is asked for; 0
---@field name string?      of this program; "luio"
---@field secret string?    if the server wants one; at most 23 characters
---@field ring integer?     descriptors each way, a power of two, 8 to 16384; 1024
---@field buffer integer?   bytes of a buffer, a multiple of 64; 2048. Longer frames take several
---@field mtu integer?      1500
---@field mac string?       the address that frames will be sent from; nil: a random one of our own
---@field pool luio.Pool?   for received frames; it stays the caller's. nil: one in plain memory, of 2048
---@field seconds number?   for the introduction; 3

--- A memif client's port.
---@class luio.memif.Port
---@field mac string
---@field mtu integer
---@field pool luio.Pool
---@field rx table<integer, luio.net.Rx>  0
---@field tx table<integer, luio.net.Tx>  0
---@field ended string?  why there is no connection any more
---@field remote string  what the server calls itself
---@field package queue ffi.cdata*
local Port = {}
Port.__index = Port

local Rx, Tx = {}, {}
Rx.__index, Tx.__index = Rx, Tx

local function outside(n, packets, level)
  error(("a burst of %s packets in a batch of %d"):format(tostring(n), packets.capacity), level + 1)
end

local function over(port, why)
  port.ended = port.ended or why
end

-- Takes the server's next message: into self.message.
local function hear(self)
  local passed = self.passed
  local more, fd, code = socket.receive_passed(self.socket, passed)
  if more == nil then return nil, fd, code end
  if fd then socket.close(fd) end -- memory or an eventfd
  if passed.given == C.LUIO_GIVEN_DEAF then return nil, "the server does not read its socket", "EPROTO" end
  if passed.given ~= C.LUIO_GIVEN_NONE then return nil, "the server sent a descriptor", "EPROTO" end
  if not more then return nil, "the server has closed the connection", "ECONNRESET" end
  if passed.size ~= protocol.MESSAGE then return nil, "the server sent a message of another size", "EPROTO" end
  ffi.copy(self.message, passed.message, protocol.MESSAGE)
  return true
end

-- Looks at the connection. Only its end can come.
local function check_connection(port)
  for i = 0, port.poller:poll() - 1 do
    if port.poller:tag(i) == 0 then
      local ok, message, code = hear(port)
      if ok and port.message.type == protocol.DISCONNECT then
        over(port, "the server says: " .. protocol.text(port.message.disconnect.text))
      elseif not ok and code ~= "EAGAIN" then over(port, message) end
    end
  end
end

-- After a burst.
local function finish_burst(port)
  local queue = port.queue
  if queue.fault ~= 0 then over(port, "the server broke a rule: " .. client_ring.FAULTS[queue.fault]) end
  if queue.wake ~= 0 then
    queue.wake = 0
    C.luio_waker_add(port.waker, port.to_fd, runtime.err)
  end
end

--- Takes the frames that have come, without waiting. The packets are yours.
---@param packets luio.Batch
---@param n integer  at most packets.capacity; 64 at a time
---@return integer taken
function Rx:burst(packets, n)
  if n > packets.capacity then outside(n, packets, 2) end
  local port = self.port
  if port.ended then return 0 end
  n = client_ring.take(port.queue, port.pool, packets, n)
  if port.queue.fault ~= 0 then finish_burst(port) end
  return n
end

--- Gives frames to the server, as many as there is room for. Their packets are freed; the others stay yours.
---@param packets luio.Batch
---@param n integer
---@return integer given
function Tx:burst(packets, n)
  if n > packets.capacity then outside(n, packets, 2) end
  local port = self.port
  if port.ended then return 0 end
  n = client_ring.give(port.queue, packets, n)
  if port.queue.wake ~= 0 or port.queue.fault ~= 0 then finish_burst(port) end
  return n
end

--- Room for so many frames of one buffer.
---@return integer
function Tx:reclaim()
  return self.port.ended and 0 or client_ring.room(self.port.queue)
end

--- Frames that the server has not taken.
---@return integer
function Tx:pending()
  if self.port.ended then return 0 end
  return self.port.queue.mask + 1 - client_ring.room(self.port.queue)
end

local function ended(port) return nil, port.ended, "ENODEV" end

-- No event tells that there is room: looked at, 1 ms apart.
local function until_room(self, done, seconds)
  local port, deadline = self.port, now() + seconds
  while not done(self) do
    check_connection(port)
    if port.ended then return ended(port) end
    if now() >= deadline then return nil, ("send: timed out after %g s"):format(seconds), "ETIMEDOUT" end
    wait_slot.sleep(0.001)
  end
  return true
end

--- Waits until something has come.
---@param seconds number
---@return true? ok
---@return string? message
---@return string? code  "ETIMEDOUT"; "ENODEV": the connection has ended
function Rx:wait(seconds)
  local port, deadline = self.port, now() + seconds
  while not port.ended do
    client_ring.listen(port.queue, true)
    luio.fence_full()
    if client_ring.ready(port.queue) then
      client_ring.listen(port.queue, false)
      return true
    end
    local ok, message, code = port.watch:readable(math.max(0, deadline - now()))
    if port.ended then break end -- closed meanwhile
    client_ring.listen(port.queue, false)
    check_connection(port)
    if client_ring.ready(port.queue) then return true end
    if not ok then return nil, "receive: " .. message, code end
  end
  return ended(port)
end

--- Waits for a frame. Its packet is yours.
---@param seconds number
---@return luio.Packet? packet
---@return string? message
---@return string? code  "ETIMEDOUT" "ENODEV"; "ENOBUFS": one is there, but the pool is empty
function Rx:receive(seconds)
  local deadline, one = now() + seconds, self.one
  while true do
    if self:burst(one, 1) == 1 then return one.at[0] end
    if self.port.pool:used() == self.port.pool.count then return nil, "receive: all packets of the pool are in use", "ENOBUFS" end
    local ok, message, code = self:wait(math.max(0, deadline - now()))
    if not ok then return nil, message, code end
  end
end

--- Waits until there is room for a frame.
---@param seconds number
---@return true? ok
---@return string? message
---@return string? code  "ETIMEDOUT" "ENODEV"
function Tx:wait(seconds)
  return until_room(self, function() return self:reclaim() > 0 end, seconds)
end

--- Sends a frame, waiting for room. Its packet is freed then; else it stays yours.
---@param packet luio.Packet
---@param seconds number
---@return true? ok
---@return string? message
---@return string? code
function Tx:send(packet, seconds)
  local one = self.one
  return until_room(self, function()
    one.at[0] = packet
    return self:burst(one, 1) == 1
  end, seconds)
end

--- Waits until the server has taken everything.
---@param seconds number
---@return true? ok
---@return string? message
---@return string? code
function Tx:flush(seconds)
  return until_room(self, function() return self:pending() == 0 end, seconds)
end

--- The port's counters.
---@return table<string, integer>
function Port:stats()
  local q = self.queue
  return { rx_packets = q.rx_packets, rx_bytes = q.rx_bytes, rx_dropped = q.rx_dropped, tx_packets = q.tx_packets, tx_bytes = q.tx_bytes }
end

--- Up while there is a connection.
---@return luio.net.Link
function Port:link()
  if not self.ended then check_connection(self) end
  return { up = not self.ended }
end

-- Waits for the server's next message.
local function expect(self, type, deadline)
  while true do
    local ok, message, code = hear(self)
    if ok and self.message.type == type then return true end
    if ok and self.message.type == protocol.DISCONNECT then
      return nil, "the server says: " .. protocol.text(self.message.disconnect.text), "ECONNREFUSED"
    elseif ok then
      return nil, ("the server sent %s, not %s"):format(protocol.name(self.message.type), protocol.name(type)), "EPROTO"
    elseif code ~= "EAGAIN" then
      return nil, message, code
    end
    ok, message, code = self.watch:readable(math.max(0, deadline - now()))
    if not ok then return nil, ("%s did not come: %s"):format(protocol.name(type), message), code end
    self.poller:poll()
  end
end

local function say(self, message, fd, deadline)
  local ok, why, code = socket.send(self.socket, message, fd)
  if not ok then return nil, why, code end
  return expect(self, message.type == protocol.CONNECT and protocol.CONNECTED or protocol.ACK, deadline)
end

-- The conversation, after HELLO.
local function introduce(self, options, count, buffer, deadline)
  local message = protocol.message(protocol.INIT)
  local init = message.init
  init.version, init.id, init.mode = protocol.VERSION, options.id or 0, protocol.ETHERNET
  protocol.put(init.name, options.name or "luio")
  protocol.put(init.secret, options.secret or "")
  local ok, why, code = say(self, message, nil, deadline)
  if not ok then return nil, why, code end

  message = protocol.message(protocol.ADD_REGION)
  message.add_region.index, message.add_region.size = 0, client_ring.bytes(count, buffer)
  ok, why, code = say(self, message, self.region.fd, deadline)
  if not ok then return nil, why, code end

  for _, ring in ipairs { { self.to_fd, protocol.S2M, self.queue.to }, { self.from_fd, 0, self.queue.from } } do
    message = protocol.message(protocol.ADD_RING)
    local add = message.add_ring
    add.flags, add.offset, add.log2_ring_size = ring[2], ring[3] - self.queue.base, math.log(count) / math.log(2) + 0.5
    ok, why, code = say(self, message, ring[1], deadline)
    if not ok then return nil, why, code end
  end

  message = protocol.message(protocol.CONNECT)
  protocol.put(message.connect.name, ("luio-%d"):format(options.id or 0))
  return say(self, message, nil, deadline)
end

-- A connection in the making, up to the end of the handshake.
local function build(self, path, options, count, buffer)
  local deadline = now() + (options.seconds or 3)
  local ok, message, code
  local waker = ffi.new "luio_waker *[1]"
  if C.luio_waker_open(waker, runtime.err) < 0 then return runtime.failure() end
  self.waker = waker[0]
  self.region, message, code = memory.create(client_ring.bytes(count, buffer))
  if not self.region then return nil, message, code end
  self.queue = client_ring.new(self.region.base, count, buffer)
  self.to_fd, message, code = memory.eventfd()
  if not self.to_fd then return nil, message, code end
  self.from_fd, message, code = memory.eventfd()
  if not self.from_fd then return nil, message, code end
  self.poller, message, code = socket.poller()
  if not self.poller then return nil, message, code end
  self.socket, message, code = socket.call(path)
  if not self.socket then return nil, message, code end
  ok, message, code = self.poller:add(self.socket, 0)
  if ok then ok, message, code = self.poller:add(self.from_fd, 1, true) end
  if not ok then return nil, message, code end
  self.watch, message, code = fd_watch.watch(self.poller.fd)
  if not self.watch then return nil, message, code end
  ok, message, code = expect(self, protocol.HELLO, deadline)
  if not ok then return nil, message, code end
  local hello = self.message.hello
  if hello.min_version > protocol.VERSION or hello.max_version < protocol.VERSION then
    return nil, ("the server speaks memif 0x%x to 0x%x, not 0x%x"):format(hello.min_version, hello.max_version, protocol.VERSION), "EPROTO"
  elseif 2 ^ hello.max_log2_ring_size < count then
    return nil, ("rings of %d descriptors: the server takes at most %d"):format(count, 2 ^ hello.max_log2_ring_size), "EINVAL"
  end
  self.remote = protocol.text(hello.name)
  return introduce(self, options, count, buffer, deadline)
end

local OPTIONS = {
  id = checks.whole(0, 2 ^ 32 - 1), name = "string",
  secret = { words = "a text of at most 23 characters", fits = function(value) return type(value) == "string" and #value <= 23 end },
  ring = checks.power_of_two(8, 16384),
  buffer = {
    words = "64 to 65536 bytes, a multiple of 64",
    fits = function(value) return type(value) == "number" and value % 64 == 0 and value >= 64 and value <= 65536 end,
  },
  mtu = "number", mac = "string", pool = "table", seconds = "number",
}

local function check(options)
  local count, buffer = options.ring or 1024, options.buffer or 2048
  if client_ring.bytes(count, buffer) >= 2 ^ 31 then
    error("memif.connect: rings and buffers have more than 2 GiB", 3)
  end
  return count, buffer
end

--- Connects to a server, and introduces itself. Waits for it: in a task, as any wait.
---@param path string
---@param options? luio.memif.ClientOptions
---@return luio.memif.Port?
---@return string? message
---@return string? code  "ENOENT" "ECONNREFUSED": no server is there, or it refuses; "EACCES" "ETIMEDOUT" "EPROTO"
function M.connect(path, options)
  options = checks.check("memif.connect", options, OPTIONS)
  local count, buffer = check(options)
  local mtu = options.mtu or 1500
  local self = setmetatable({
    mtu = mtu, message = protocol.message(0), passed = ffi.new "luio_passed", rx = {}, tx = {},
    pool = options.pool, own_pool = not options.pool,
    mac = options.mac or ("02:%02x:%02x:%02x:%02x:%02x"):format(uv.random(5):byte(1, 5)),
    features = { tx_checksum = false, rx_checksum = false, loopback = false, interrupts = true, max_mtu = mtu },
  }, Port)
  self.pool = self.pool or require("luio.net.memory").pool({ count = 2048, size = math.ceil((mtu + 18) / 64) * 64 }, "memif:" .. path)
  self.rx[0] = setmetatable({ port = self, number = 0, one = pool.batch(1) }, Rx)
  self.tx[0] = setmetatable({ port = self, number = 0, one = pool.batch(1) }, Tx)
  local ok, message, code = build(self, path, options, count, buffer)
  if not ok then
    self:close()
    return nil, ("memif %s: %s"):format(path, message), code
  end
  client_ring.offer(self.queue)
  return self
end

--- Leaves when the server has taken all frames, or none of them for a second. Idempotent.
---@return true? ok
---@return string? message  the server has not taken all; the connection is closed all the same
---@return string? code     "EAGAIN"
---@return integer? lost    frames, counted in buffers
function Port:close()
  if self.closed then return true end
  local lost = self.queue and not self.ended and queues.send_rest(self.tx[0]) or 0
  if self.closed then return true end -- by another task meanwhile
  self.closed = true
  if self.socket and not self.ended then
    local message = protocol.message(protocol.DISCONNECT)
    protocol.put(message.disconnect.text, "goodbye")
    socket.send(self.socket, message)
  end
  over(self, "the port was closed")
  if self.watch then self.watch:close() end
  if self.poller then self.poller:close() end
  for _, name in ipairs { "socket", "to_fd", "from_fd" } do
    if self[name] then socket.close(self[name]) end
  end
  if self.queue then self.queue.base, self.queue.to, self.queue.from = nil, nil, nil end
  if self.region then self.region:close() end
  if self.own_pool then self.pool:close() end
  C.luio_waker_close(self.waker)
  if lost == 0 then return true end
  return nil, ("close memif: %d frames were sent and not taken by the server"):format(lost), "EAGAIN", lost
end

function Port:__tostring()
  return ("memif port %s%s"):format(self.mac, self.ended and ", " .. self.ended or "")
end

return M
