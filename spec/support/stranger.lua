--- A memif client that is up to something: the conversation step by step, each of which a spec may change, and the shared memory
--- as bytes.
---
---     local s = stranger.new(path)
---     s:hello(); s:init { version = 1 }; ...
---     s:join()                       all of it, as it should be
---     s.ring16(s.base + s.to, 6, 99)
---
--- `server:poll()` of the spec runs between the steps, so that one process can be both sides.

local ffi = require "ffi"
local memory = require "luio.net.memif.memory"
local protocol = require "luio.net.memif.protocol"
local socket = require "luio.net.memif.socket"
local wait = require "spec.support.wait"

ffi.cdef [[
int ftruncate(int, int64_t);
int memfd_create(const char *, unsigned);
void *mmap(void *, size_t, int, int, int, int64_t);
int munmap(void *, size_t);
]]

local M = {}

local descriptors_t = ffi.typeof "struct { uint16_t flags, region; uint32_t length, offset, metadata; } *"

---@class Stranger
local Stranger = {}
Stranger.__index = Stranger

M.RING, M.SIZE = 16, 65536 -- descriptors of a ring; bytes of the region

--- Connects.
---@param path string
---@param poll fun()  the server's turn
---@return Stranger
function M.new(path, poll)
  local self = setmetatable({ poll = poll, message = protocol.message(0), fds = {} }, Stranger)
  self.socket = wait.till(5, "connected", function()
    local fd, message, code = socket.connect(path)
    return fd or code ~= "EAGAIN" and error(message) -- EAGAIN: too many are waiting
  end)
  return self
end

--- The server's next message: its name and, of DISCONNECT, the reason; nil: the server has closed.
function Stranger:hear()
  return wait.poll(5, function()
    self.poll()
    local size, given, code = socket.receive(self.socket, self.message)
    if size == 0 then return "CLOSED" end
    if not size then return code ~= "EAGAIN" and given or nil end
    return protocol.name(self.message.type)
  end)
end

--- The reason for which we were disconnected.
function Stranger:reason()
  for _ = 1, 50 do
    local name = self:hear()
    if name == "DISCONNECT" then return protocol.text(self.message.disconnect.text) end
    if name == "CLOSED" or not name then return nil end
  end
end

function Stranger:say(message, fd)
  return socket.send(self.socket, message, fd)
end

local function put(fields, over)
  return function(to)
    for _, set in ipairs { fields, over or {} } do
      for name, value in pairs(set) do
        if name ~= "fd" then to[name] = value end
      end
    end
  end
end

function Stranger:init(over)
  local message = protocol.message(protocol.INIT)
  put({ version = protocol.VERSION, id = 9, mode = 0 }, over)(message.init)
  self:say(message)
end

--- A file of our own, laid out: two rings, then buffers of 1024 bytes.
function Stranger:memory(flags, size)
  self.fd = ffi.C.memfd_create("stranger", flags or 3)
  table.insert(self.fds, self.fd)
  self.size = size or M.SIZE
  assert(ffi.C.ftruncate(self.fd, self.size) == 0)
  local base = ffi.C.mmap(nil, self.size, 3, 1, self.fd, 0)
  assert(base ~= ffi.cast("void *", -1))
  self.base = ffi.cast("uint8_t *", base)
  self.to, self.from = 0, 1024 -- offsets of the rings
  for _, at in ipairs { self.to, self.from } do
    ffi.cast("uint32_t *", self.base + at)[0] = protocol.COOKIE
  end
  for i = 0, M.RING - 1 do
    self:descriptor(self.to, i, { length = 1024, offset = 4096 + i * 1024 })
    self:descriptor(self.from, i, { length = 1024, offset = 4096 + (M.RING + i) * 1024 })
  end
  return self.fd
end

function Stranger:descriptor(ring, i, over)
  put({ flags = 0, region = 0 }, over)(ffi.cast(descriptors_t, self.base + ring + 128)[i])
end

--- Index words: 6 the head, 64 the tail, 4 the flags.
function Stranger:word(ring, at, value)
  local p = ffi.cast("uint16_t *", self.base + ring + at)
  if value then p[0] = value end
  return p[0]
end

function Stranger:region(over)
  local message = protocol.message(protocol.ADD_REGION)
  put({ index = 0, size = self.size or M.SIZE }, over)(message.add_region)
  local fd = over and over.fd
  if fd == nil then fd = self.fd or self:memory() end
  self:say(message, fd or nil)
end

function Stranger:ring(toward_server, over)
  local message = protocol.message(protocol.ADD_RING)
  put({ flags = toward_server and 1 or 0, index = 0, region = 0, offset = toward_server and 0 or 1024, log2_ring_size = 4,
    private_hdr_size = 0 }, over)(message.add_ring)
  local fd = over and over.fd
  if fd == nil then
    fd = assert(memory.eventfd())
    table.insert(self.fds, fd)
    self[toward_server and "to_fd" or "from_fd"] = fd
  end
  self:say(message, fd or nil)
end

function Stranger:connect()
  local message = protocol.message(protocol.CONNECT)
  protocol.put(message.connect.name, "stranger")
  self:say(message)
end

--- The whole conversation; steps may be changed: { region = { size = 1 } }.
---@param over table?
---@return string answer  "CONNECTED", or the reason
function Stranger:join(over)
  over = over or {}
  local steps = {
    function() end, function() self:init(over.init) end, function() self:region(over.region) end, function() self:ring(true, over.to) end,
    function() self:ring(false, over.from) end, function() self:connect() end,
  }
  local answer
  for _, step in ipairs(steps) do
    step()
    answer = self:hear()
    if answer == "DISCONNECT" then return protocol.text(self.message.disconnect.text) end
  end
  return answer
end

--- Puts a frame, or several descriptors, into the ring to the server.
function Stranger:send(frame)
  local head = self:word(self.to, 6)
  local slot = head % M.RING
  self:descriptor(self.to, slot, { length = #frame, offset = 4096 + slot * 1024 })
  ffi.copy(self.base + 4096 + slot * 1024, frame, #frame)
  self:word(self.to, 6, (head + 1) % 65536)
end

function Stranger:close()
  if self.socket then socket.close(self.socket) end
  if self.base then ffi.C.munmap(self.base, self.size) end
  for _, fd in ipairs(self.fds) do socket.close(fd) end
  self.socket, self.base, self.fds = nil, nil, {}
end

return M
