--- A memif client that sends descriptors whose last close blocks, and ends. For spec/net/visitors_spec.lua:
---
---     luio spec/support/memif_hostile.lua SOCKET PORT N TIMES SERVER NAME...
---
--- For each name a connection, TIMES over, with N descriptors in a message of that name. SERVER is stopped by SIGSTOP when all are
--- connected, or has been: so it takes them after this process has ended, which does not wait in its own closing.

local hostile = dofile "spec/support/hostile.lua"
local protocol = require "luio.net.memif.protocol"
local socket = require "luio.net.memif.socket"
local uv = require "luv"

local path, port, n, times, server = arg[1], tonumber(arg[2]), tonumber(arg[3]), tonumber(arg[4]), tonumber(arg[5])
local message = protocol.message(0)

local function hear(fd)
  for _ = 1, 20000 do
    local size, _, code = socket.receive(fd, message)
    if size or code ~= "EAGAIN" then return size end
    uv.sleep(2)
  end
  error "nothing was heard"
end

local stopped = io.open(("/proc/%d/stat"):format(server)):read("*a"):match "%) T" ~= nil
local open = {}
for id = 1, times do
  for i = 6, #arg do
    local fd = assert(socket.connect(path))
    table.insert(open, { fd = fd, name = arg[i] })
    if not stopped then hear(fd) end
    if arg[i] == "ADD_REGION" and not stopped then -- in its place, of a size that would do
      local init = protocol.message(protocol.INIT)
      init.init.version, init.init.id = protocol.VERSION, 100 + id
      socket.send(fd, init)
      hear(fd)
    end
  end
end
uv.kill(server, "sigstop")
for _, one in ipairs(open) do
  message = protocol.message(protocol[one.name])
  if one.name == "ADD_REGION" then message.add_region.size = 65536 end
  assert(hostile.send(one.fd, hostile.lingering(port), n, protocol.MESSAGE, message))
end
