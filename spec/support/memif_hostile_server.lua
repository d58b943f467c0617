--- A memif server that sends descriptors whose last close blocks. For spec/net/visitors_spec.lua:
---
---     luio spec/support/memif_hostile_server.lua SOCKET PORT
---
--- It sends HELLO to each client, and answers INIT by ACK. The first two clients get one such descriptor with it. The others get
--- many behind it, which the client never receives.

local ffi = require "ffi"
local hostile = dofile "spec/support/hostile.lua"
local protocol = require "luio.net.memif.protocol"
local socket = require "luio.net.memif.socket"
local uv = require "luv"
ffi.cdef "int accept4(int, void *, void *, int);"

local path, port = arg[1], tonumber(arg[2])
local fd = assert(socket.listen(path, 384))

local function till(fn)
  for _ = 1, 60000 do
    local value = fn()
    if value then return value end
    uv.sleep(1)
  end
  error "nobody came"
end

local function give(client, message)
  local blocks = hostile.lingering(port)
  hostile.send(client, blocks, 1, protocol.MESSAGE, message)
  uv.fs_close(blocks, function() end) -- should the client have left already, it is us who wait: in a thread
end

print "listening"
io.stdout:flush()
for i = 1, math.huge do
  local client = till(function()
    local one = ffi.C.accept4(fd, nil, nil, 0x80800)
    return one >= 0 and one
  end)
  local hello, ack = protocol.message(protocol.HELLO), protocol.message(protocol.ACK)
  hello.hello.min_version, hello.hello.max_version, hello.hello.max_log2_ring_size = protocol.VERSION, protocol.VERSION, 14
  if i == 1 then give(client, hello) else socket.send(client, hello) end
  if i > 1 then
    local message = protocol.message(0)
    till(function() return (socket.receive(client, message)) end)
    if i > 2 then socket.send(client, protocol.message(protocol.HELLO)) end -- out of turn: the client leaves
    for _ = 1, i == 2 and 1 or 3 do give(client, ack) end
  end
  socket.close(client)
  print("served " .. i)
  io.stdout:flush()
end
