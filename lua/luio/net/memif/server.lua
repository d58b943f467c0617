--- A memif server: listens on a unix socket, and has a queue pair with each client that comes.
---
---     local server = assert(memif.listen("/run/share.sock", { joined = ..., left = ... }))
---     server:poll()                           -- handles messages from sockets; never waits
---     local n = client:take(pool, batch, 32)  -- client: the argument of `joined`
---     client:give(batch, n)
---
--- Clients are strangers. Each message is checked for its size, its type at this point of the conversation, its descriptors, and
--- all its numbers; memory as memif/memory.lua says, rings as memif/ring.lua. A client that breaks a rule gets the reason, and is
--- disconnected. Nothing that a client does or leaves undone makes a call here wait: a process of its own has the client's socket,
--- and keeps descriptors that are neither memory nor an eventfd (runtime/porter.c).
---
--- The number of clients is limited, and lower for one user other than root and the server's; and a few that are still
--- introducing themselves, for which they have 3 s. When all of these places are taken, a new client replaces one. That is the
--- oldest of the connections that have sent least, of the process with most connections, of the user with most. So a
--- process that holds silent connections open loses them first.

local checks = require "luio.options"
local runtime = require "luio.ffi"
local memory = require "luio.net.memif.memory"
local protocol = require "luio.net.memif.protocol"
local ring = require "luio.net.memif.ring"
local socket = require "luio.net.memif.socket"
local ffi = require "ffi"
local uv = require "luv"
local C = runtime.C

local M = {}

local PATIENCE = 3 -- seconds for the introduction
local NEWCOMERS = 8 -- that have yet to finish it
local HANGING = 8 -- connections of a user that may hang on their end, beside those that he may have
local MESSAGES = 8 -- of one client, a look
local DEFAULT_REGION = 256 * 2 ^ 20 -- bytes

---@class luio.memif.ServerOptions
---@field mode integer?     permissions of the socket's file: tonumber("600", 8)
---@field clients integer?  at most so many at a time, 1 to 64; 16
---@field per_user integer? of these, of one user other than root and our own; three quarters of them
---@field region integer?   largest region that a client may have, in bytes; 256 MiB
---@field most integer?     longest frame that is taken, in bytes; 1518
---@field name string?      the server's name, sent in CONNECTED
---@field admit (fun(client: luio.memif.Client): true?, string?)?  refuses by nil and the reason; its id, secret and so on are known
---@field joined fun(client: luio.memif.Client)?  frames may pass from now on
---@field left fun(client: luio.memif.Client, why: string)?  one that had joined
---@field refused fun(client: luio.memif.Client, why: string)?  one that had not

---@class luio.memif.Client
---@field number integer   its place, from 1
---@field pid integer      0: not known
---@field uid integer
---@field id integer?      the interface that it asked for
---@field name string?     of its program
---@field interface string? as it calls its end
---@field queue ffi.cdata*? luio.net.memif.ring's, with counters; nil once it is gone
---@field state "new"|"setup"|"up"|"gone"
---@field package server luio.memif.Server
local Client = {}
Client.__index = Client

---@class luio.memif.Server
---@field path string
---@field fd integer  readable while `look` has something to do: for descriptor.watch
---@field clients table<integer, luio.memif.Client|false>  by place, of any state
---@field places integer
---@field package deaf boolean?  no process accepts
local Server = {}
Server.__index = Server

-- ---- A client ------------------------------------------------------------------------------------

local function close_rings(self)
  if self.queue then self.server.poller:remove(self.from_fd) end
  for _, name in ipairs { "from_fd", "to_fd" } do
    if self[name] then socket.close(self[name]) end
    self[name] = nil
  end
  for _, region in ipairs(self.regions) do region:close() end
  self.regions, self.queue = {}, nil
end

--- Ends the connection. It has nothing of ours any more, and its memory is given back. Idempotent.
---@param why string     for people
---@param told boolean?  true: the client knows already, or cannot be told
function Client:disconnect(why, told)
  if self.state == "gone" then return end
  local up = self.state == "up"
  self.state = "gone"
  if not told then
    local message = protocol.message(protocol.DISCONNECT)
    protocol.put(message.disconnect.text, why)
    socket.send(self.socket, message)
  end
  self.last_queue = self.queue
  close_rings(self)
  self.server.poller:remove(self.socket)
  socket.close(self.socket) -- the porter's: nothing can be left in it
  self.server.clients[self.number] = false
  local tell = self.server.options[up and "left" or "refused"]
  if tell then tell(self, why) end
end

--- Takes frames that it sent: ring.take. After a fault the client is disconnected; frames that were taken
--- stay good.
---@param pool luio.Pool
---@param batch luio.Batch
---@param n integer  at most ring.BURST
---@return integer taken
function Client:take(pool, batch, n)
  local queue = self.queue
  if queue == nil then return 0 end
  n = ring.take(queue, pool, batch, n)
  if queue.fault ~= 0 then self:disconnect(ring.FAULTS[queue.fault]) end
  return n
end

--- Gives it frames: ring.give; and wakes it when it wants to be. The packets stay yours.
---@param batch luio.Batch
---@param n integer
---@return integer given  fewer: its ring is full
function Client:give(batch, n)
  local queue = self.queue
  if queue == nil then return 0 end
  local given, wanted = ring.give(queue, batch, 0, n), n
  n = given
  while given > 0 and n < wanted do -- frames in many pieces
    given = ring.give(queue, batch, n, wanted - n)
    n = n + given
  end
  if queue.wake ~= 0 then
    queue.wake = 0
    if C.luio_waker_add(self.server.waker, self.to_fd, runtime.err) < 0 then
      local _, message = runtime.failure()
      self:disconnect(message)
    end
  end
  if queue.fault ~= 0 then self:disconnect(ring.FAULTS[queue.fault]) end
  return n
end

function Client:__tostring()
  return ("client %d%s, process %d"):format(self.id or -1, self.name and self.name ~= "" and (" (" .. self.name .. ")") or "", self.pid)
end

-- ---- The conversation ----------------------------------------------------------------------------

local OTHER = "neither memory nor an eventfd" -- in place of a descriptor that the porter keeps

-- Each returns nil and why when a rule was broken; then the answer, if there is one.
local answer = {}

function answer.INIT(self, message)
  local init, options = message.init, self.server.options
  if init.version ~= protocol.VERSION then return nil, ("memif version 0x%x, not 0x%x"):format(init.version, protocol.VERSION) end
  if init.mode ~= protocol.ETHERNET then return nil, ("mode %d: only Ethernet frames are spoken here"):format(init.mode) end
  self.id, self.name, self.secret = tonumber(init.id), protocol.text(init.name), protocol.text(init.secret)
  for i = 1, self.server.places do
    local other = self.server.clients[i]
    if other and other ~= self and other.id == self.id then return nil, ("interface %d is in use"):format(self.id) end
  end
  if options.admit then
    local ok, why = options.admit(self)
    if not ok then return nil, why end
  end
  self.state = "setup"
  return protocol.message(protocol.ACK)
end

function answer.ADD_REGION(self, message, fd)
  local index, size = message.add_region.index, tonumber(message.add_region.size)
  if not fd then return nil, "a region without a descriptor" end
  local why
  if index ~= #self.regions or index >= ring.REGIONS then
    why = ("region %d, when %d are there and %d may be"):format(index, #self.regions, ring.REGIONS)
  elseif size < 1 or size > self.server.options.region then
    why = ("a region of %.0f bytes; at most %.0f"):format(size, self.server.options.region)
  end
  if why then
    if fd ~= OTHER then socket.close(fd) end
    return nil, why
  elseif fd == OTHER then
    return nil, ("region %d: it is no memfd"):format(index)
  end
  local region
  region, why = memory.accept(fd, size)
  if not region then return nil, ("region %d: %s"):format(index, why) end
  self.regions[index + 1] = region
  return protocol.message(protocol.ACK)
end

local function fault_of_ring(self, add, which)
  local region = self.regions[add.region + 1]
  if self[which .. "_fd"] or add.index ~= 0 then return "one ring each way, number 0" end
  if not region then return "its region is not there" end
  if add.private_hdr_size ~= 0 then return "private headers are not spoken here" end
  if add.log2_ring_size > protocol.MOST_LOG2 then
    return ("2^%d descriptors; at most 2^%d"):format(add.log2_ring_size, protocol.MOST_LOG2)
  end
  if add.offset % protocol.DESCRIPTOR ~= 0 then return "its place is no multiple of 16 bytes" end
  local bytes = protocol.DESCRIPTORS_AT + 2 ^ add.log2_ring_size * protocol.DESCRIPTOR
  if add.offset + bytes > region.size then return "it does not fit into its region" end
end

function answer.ADD_RING(self, message, fd)
  local add = message.add_ring
  local which = bit.band(add.flags, protocol.S2M) ~= 0 and "from" or "to"
  if not fd then return nil, "a ring without a descriptor" end
  local why = (fd == OTHER or not memory.is_eventfd(fd)) and "its descriptor is no eventfd" or fault_of_ring(self, add, which)
  if why then
    if fd ~= OTHER then socket.close(fd) end
    return nil, ("ring %d %s the server: %s"):format(add.index, which == "from" and "to" or "from", why)
  end
  self[which .. "_fd"] = fd
  self[which] = { region = add.region + 1, offset = tonumber(add.offset), mask = 2 ^ add.log2_ring_size - 1 }
  return protocol.message(protocol.ACK)
end

function answer.CONNECT(self, message)
  if not (self.from_fd and self.to_fd) then return nil, "it has not a ring each way" end
  local queue = ring.queue_t()
  for i, region in ipairs(self.regions) do queue.base[i - 1], queue.size[i - 1] = region.base, region.size end
  queue.regions, queue.most = #self.regions, self.server.options.most
  queue.from, queue.from_mask = self.regions[self.from.region].base + self.from.offset, self.from.mask
  queue.to, queue.to_mask = self.regions[self.to.region].base + self.to.offset, self.to.mask
  if not ring.begin(queue) then return nil, "there is no ring where it says: the cookie is another" end
  local ok, why = self.server.poller:add(self.from_fd, self.number * 2 + 1, true)
  if not ok then return nil, why end
  self.queue, self.interface, self.state = queue, protocol.text(message.connect.name), "up"
  local connected = protocol.message(protocol.CONNECTED)
  protocol.put(connected.connect.name, self.server.options.name)
  return connected
end

local EXPECTED = {
  new = { INIT = true },
  setup = { ADD_REGION = true, ADD_RING = true, CONNECT = true },
  up = {},
}

-- Takes one message. Whether there was one, and the client is still there.
local function take_message(self)
  local passed, message = self.server.passed, self.server.message
  local more, fd, code = socket.receive_passed(self.socket, passed)
  if more == nil and (code == "EAGAIN" or code == "EINTR") then return false end
  if passed.given == C.LUIO_GIVEN_DEAF then
    self:disconnect("it does not read its socket", true)
    return false
  elseif not more then
    self:disconnect(more == nil and fd or "it has closed the connection", true)
    return false
  end
  if passed.given == C.LUIO_GIVEN_OTHER then fd = OTHER end
  ffi.copy(message, passed.message, protocol.MESSAGE)
  local name, why = protocol.name(message.type), nil
  if passed.size ~= protocol.MESSAGE or passed.given == C.LUIO_GIVEN_MANY then
    why = ("a message that is not of %d bytes and at most one descriptor"):format(protocol.MESSAGE)
  elseif name == "DISCONNECT" then
    why = "it says: " .. protocol.text(message.disconnect.text)
  elseif not EXPECTED[self.state][name] then
    why = ("%s is out of place"):format(name)
  elseif fd and not (name == "ADD_REGION" or name == "ADD_RING") then
    why = ("a descriptor with %s"):format(name)
  end
  if why then
    if fd and fd ~= OTHER then socket.close(fd) end
    self:disconnect(why, name == "DISCONNECT")
    return false
  end
  local reply
  reply, why = answer[name](self, message, fd)
  if reply then
    local ok
    ok, why = socket.send(self.socket, reply)
    reply = ok
  end
  if not reply then
    if self.state == "up" then self.state = "setup" end -- `joined` has not been called for it
    self:disconnect(why)
    return false
  end
  if name == "CONNECT" and self.server.options.joined then self.server.options.joined(self) end
  return self.state ~= "gone"
end

-- ---- The server ----------------------------------------------------------------------------------

local function hello(options)
  local message = protocol.message(protocol.HELLO)
  local h = message.hello
  protocol.put(h.name, options.name)
  h.min_version, h.max_version = protocol.VERSION, protocol.VERSION
  h.max_region, h.max_log2_ring_size = ring.REGIONS - 1, protocol.MOST_LOG2
  h.max_m2s_ring, h.max_s2m_ring = 0, 0 -- the highest number
  return message
end

-- Those that are still introducing themselves.
local function connecting_clients(self)
  local list = {}
  for i = 1, self.places do
    local client = self.clients[i]
    if client and client.state ~= "up" then table.insert(list, client) end
  end
  return list
end

-- How many of a list are of the user, or of the process, that this one is of.
local function relatives(list, one, what)
  local n = 0
  for _, other in ipairs(list) do
    if other[what] == one[what] then n = n + 1 end
  end
  return n
end

-- Which of them makes room: comparable numbers, most important first.
local function load_of(list, one)
  return { relatives(list, one, "uid"), relatives(list, one, "pid"), one.state == "new" and 1 or 0, -one.deadline }
end

local function has_more_load(a, b)
  for i = 1, #a do
    if a[i] ~= b[i] then return a[i] > b[i] end
  end
  return false
end

-- Makes room for one who has just come, if there are as many newcomers as may be.
local function make_room(list, client)
  table.insert(list, client)
  local worst
  for i, one in ipairs(list) do
    local its = load_of(list, one)
    if i < #list and (not worst or has_more_load(its, worst.burden)) then worst = { client = one, burden = its } end
  end
  worst.client:disconnect(("%d others are still introducing themselves, and one more came"):format(NEWCOMERS - 1))
end

local function is_stranger(uid) return uid ~= 0 and uid ~= uv.getuid() end

-- The reason why a client can't be taken; else there is a free place.
local function no_room(self, client)
  local free, of_user = nil, 0
  for i = self.places, 1, -1 do
    local other = self.clients[i]
    if not other then free = i elseif other.uid == client.uid then of_user = of_user + 1 end
  end
  if is_stranger(client.uid) and of_user >= self.options.per_user then
    return ("%d clients of user %d are there, no more of these are taken"):format(of_user, client.uid)
  elseif not free then
    return ("%d clients are there, no more are taken"):format(self.places)
  end
  client.number = free
end

-- The process that accepts is a new one. If none can be made, for lack of descriptors or processes, it is tried again soon.
local function replace_porter(self)
  if not self.deaf then self.poller:remove(C.luio_porter_fd(self.porter)) end
  self.deaf = C.luio_porter_restart(self.porter, runtime.err) < 0 or not self.poller:add(C.luio_porter_fd(self.porter), 0)
end

local function take_connection(self)
  local visitor = self.visitor
  local rc = C.luio_porter_next(self.porter, visitor, runtime.err)
  if rc < 0 and select(3, runtime.failure()) == "ECHILD" then replace_porter(self) end
  if rc <= 0 then return false end
  local client = setmetatable({
    server = self, socket = visitor.fd, pid = visitor.pid, uid = tonumber(visitor.uid), state = "new", regions = {},
    number = self.places + 1, deadline = runtime.now() + PATIENCE,
  }, Client)
  local list = connecting_clients(self)
  local why = no_room(self, client)
  if #list >= NEWCOMERS or why and #list > 0 then
    make_room(list, client)
    why = no_room(self, client)
  end
  if why then
    client:disconnect(why)
    return true
  end
  self.clients[client.number] = client
  local ok
  ok, why = self.poller:add(client.socket, client.number * 2)
  if ok then ok, why = socket.send(client.socket, self.hello) end
  if not ok then client:disconnect(why) end
  return true
end

--- Does what there is to do on the sockets, without waiting. A client that sends frames and wants us woken for it is
--- counted: after it, look at the rings.
---@return integer n  things that happened
function Server:poll()
  if self.closed then return 0 end
  local n = self.poller:poll()
  for i = 0, n - 1 do
    local tag = self.poller:tag(i)
    local client = self.clients[math.floor(tag / 2)]
    if tag == 0 then
      for _ = 1, NEWCOMERS do
        if not take_connection(self) then break end
      end
    elseif client and tag % 2 == 0 then
      for _ = 1, MESSAGES do
        if not take_message(client) then break end
      end
    end
  end
  local t = runtime.now()
  if t >= self.due then
    self.due = t + 0.1
    if self.deaf then replace_porter(self) end
    for i = 1, self.places do
      local client = self.clients[i]
      if client and client.state ~= "up" and t >= client.deadline then
        client:disconnect(("it was not done with its introduction after %d s"):format(PATIENCE))
      end
    end
  end
  return n
end

--- Disconnects everybody. Idempotent.
function Server:close()
  if self.closed then return end
  for i = 1, self.places do
    if self.clients[i] then self.clients[i]:disconnect "the server ends" end
  end
  self.closed = true
  self.poller:close()
  os.remove(self.path)
  C.luio_porter_close(self.porter)
  C.luio_waker_close(self.waker)
end

--- The options of `listen`, for a caller that hands some of them on (luio.net.share).
M.OPTIONS = {
  mode = checks.whole(0, 511), clients = checks.whole(1, 64), per_user = checks.whole(1, 2 ^ 53),
  region = checks.whole(4096, 2 ^ 31 - 1, nil, "4096 bytes to 2 GiB"), most = "number", name = "string", admit = "function",
  joined = "function", left = "function", refused = "function",
}

--- Listens.
---@param path string  of the socket
---@param options? luio.memif.ServerOptions
---@return luio.memif.Server?
---@return string? message
---@return string? code  "EADDRINUSE" "EACCES" "ENOSYS"
function M.listen(path, options)
  local given = checks.check("memif.listen", options, M.OPTIONS)
  local clients = given.clients or 16
  options = setmetatable({
    clients = clients, per_user = given.per_user or math.max(1, math.floor(clients * 3 / 4)),
    region = given.region or DEFAULT_REGION, most = given.most or 1518, name = given.name or "luio",
  }, { __index = given })
  local listener, message, code = socket.listen(path, given.mode or 384) -- 0600
  if not listener then return nil, message, code end
  local self = setmetatable({
    path = path, clients = {}, places = clients, options = options, visitor = ffi.new "luio_visitor", passed = ffi.new "luio_passed",
    message = protocol.message(0), hello = hello(options), due = 0,
  }, Server)
  for i = 1, clients do self.clients[i] = false end
  local porter, waker = ffi.new "luio_porter *[1]", ffi.new "luio_waker *[1]"
  if C.luio_porter_open(listener, clients + NEWCOMERS + HANGING, porter, runtime.err) < 0 then
    socket.close(listener)
    os.remove(path)
    return runtime.failure()
  end
  self.porter = porter[0]
  local poller
  poller, message, code = socket.poller()
  local ok = poller
  if ok then ok, message, code = poller:add(C.luio_porter_fd(self.porter), 0) end
  if ok and C.luio_waker_open(waker, runtime.err) < 0 then ok, message, code = runtime.failure() end
  if ok then
    self.poller, self.fd, self.waker = poller, poller.fd, waker[0]
    return self
  end
  if poller then poller:close() end
  os.remove(path)
  C.luio_porter_close(self.porter)
  return nil, message, code
end

return M
