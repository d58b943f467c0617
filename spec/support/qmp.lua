--- QEMU's control socket, from inside the guest, for the actions of a machine's operator. Its answers are not read; specs wait for
--- the effects.

local M = {}

local socket

--- Says something to QEMU: one JSON object.
---@param command string
function M.tell(command)
  if not socket then
    socket = assert(io.open("/dev/virtio-ports/luio.qmp", "r+"))
    socket:setvbuf "no"
    socket:write '{"execute":"qmp_capabilities"}\n'
  end
  socket:write(command .. "\n")
end

--- Takes a network card's cable out, or puts it in.
---@param id string  QEMU's, of the card
---@param up boolean
function M.set_link(id, up)
  M.tell(('{"execute":"set_link","arguments":{"name":"%s","up":%s}}'):format(id, tostring(up)))
end

--- In teardown: one process at a time can have it.
function M.close()
  if socket then socket:close() end
  socket = nil
end

return M
