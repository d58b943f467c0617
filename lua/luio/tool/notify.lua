--- Messages to a service manager: a service is ready, and its state (sd_notify(3)).
---
--- That is a datagram of lines to the socket which NOTIFY_SOCKET names; without one, in a shell, nothing
--- happens. A name that begins with @ is an abstract one. Sending does not wait: a manager that is slow gets
--- the next one.

local ffi = require "ffi"
local posix = require "luio.posix"
local term = require "luio.text.term"

local M = {}

local DGRAM = posix.SOCK_DGRAM + posix.SOCK_NONBLOCK + posix.SOCK_CLOEXEC
local PATH = 2 -- offset of the path in a sockaddr_un, which has 108 bytes for it

--- Tells the service manager how it is.
---@param change string?  what became of the service: "READY=1"
---@param status string   for people; a line end in it would begin another statement, MAINPID= for example
---@return boolean sent   false: there is no manager, or the message failed
function M.send(change, status)
  local text = (change and change .. "\n" or "") .. "STATUS=" .. term.clean(status)
  local name = os.getenv "NOTIFY_SOCKET"
  if not name or #name < 2 or #name > 108 or not name:match "^[/@]" then return false end
  local address = posix.sockaddr_un(posix.AF_UNIX)
  ffi.copy(address.path, name, #name)
  if name:byte() == 64 then address.path[0] = 0 end -- @
  local fd = posix.socket(posix.AF_UNIX, DGRAM, 0)
  if fd < 0 then return false end
  local sent = posix.sendto(fd, text, #text, posix.MSG_NOSIGNAL, address, PATH + #name)
  posix.close(fd)
  return sent == #text
end

return M
