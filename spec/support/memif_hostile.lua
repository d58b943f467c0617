--- A memif client that sends descriptors which block whoever closes them last, and is gone. For spec/net/visitors_spec.lua:
---
---     luio spec/support/memif_hostile.lua SOCKET PORT N TIMES WAIT NAME...
---
--- For each name a connection, TIMES over, with N descriptors in a message of that name; WAIT: hello is waited for. A process that
--- ends does not wait in its own closing.

local hostile = dofile "spec/support/hostile.lua"
local protocol = require "luio.net.memif.protocol"
local socket = require "luio.net.memif.socket"
local uv = require "luv"

local path, port, n, times, waits = arg[1], tonumber(arg[2]), tonumber(arg[3]), tonumber(arg[4]), arg[5] == "yes"
local message = protocol.message(0)

local function hear(fd)
  for _ = 1, 2000 do
    local size, _, code = socket.receive(fd, message)
    if size or code ~= "EAGAIN" then return size end
    uv.sleep(2)
  end
end

for _ = 1, times do
  for i = 6, #arg do
    local fd = assert(socket.connect(path))
    if waits then hear(fd) end
    if arg[i] == "ADD_REGION" and waits then -- in its place, of a size that would do
      local init = protocol.message(protocol.INIT)
      init.init.version, init.init.id = protocol.VERSION, 99
      socket.send(fd, init)
      hear(fd)
    end
    message = protocol.message(protocol[arg[i]])
    message.add_region.size = 65536
    hostile.send(fd, hostile.lingering(port), n, protocol.MESSAGE, message)
    if waits then hear(fd) end
  end
end
print "given"
