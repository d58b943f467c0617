--- A memif client that holds many connections, says nothing, and renews each that is ended. For spec/net/visitors_spec.lua:
---
---     luio spec/support/memif_silent.lua SOCKET COUNT

local protocol = require "luio.net.memif.protocol"
local socket = require "luio.net.memif.socket"
local uv = require "luv"

local path, count = arg[1], tonumber(arg[2])
local message, open, said = protocol.message(0), {}, false
while true do
  local held = 0
  for i = 1, count do
    open[i] = open[i] or socket.connect(path) or nil
    local size, _, code
    if open[i] then size, _, code = socket.receive(open[i], message) end
    if size == 0 or not size and code ~= "EAGAIN" then
      if open[i] then socket.close(open[i]) end
      open[i] = nil
    elseif message.type == protocol.HELLO then
      held = held + 1
    end
  end
  if held > 0 and not said then
    said = true
    print "silent"
    io.stdout:flush()
  end
  uv.sleep(1)
end
