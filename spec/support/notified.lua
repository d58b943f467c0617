--- A service manager's end of sd_notify(3): a socket that programs find by NOTIFY_SOCKET.
---
---     local socket = notified.listen()
---     ... a program is started with NOTIFY_SOCKET=socket.name ...
---     assert.matches("^READY=1", socket:next(10))
---     socket:close()

local ffi = require "ffi"
local uv = require "luv"
local files = require "spec.support.files"
local wait = require "spec.support.wait"

ffi.cdef [[
int socket(int, int, int);
int bind(int, const void *, unsigned);
ssize_t recv(int, void *, size_t, int);
int close(int);
]]
local C = ffi.C

local M = {}

local Socket = {}
Socket.__index = Socket

---@param abstract? boolean  not in the file system
---@return table socket  name: for NOTIFY_SOCKET
function M.listen(abstract)
  local name = "@luio-spec-" .. uv.os_getpid()
  if not abstract then
    local path = files.write("notify", "")
    os.remove(path)
    name = uv.cwd() .. "/" .. path
  end
  local address = ffi.new "struct { uint16_t family; char path[108]; }"
  assert(#name < 108, name)
  address.family = 1
  ffi.copy(address.path, (name:gsub("^@", "\0")), #name)
  local fd = C.socket(1, 0x80802, 0) -- SOCK_DGRAM, not blocking
  assert(fd >= 0 and C.bind(fd, address, 2 + #name) == 0, "bind " .. name)
  return setmetatable({ fd = fd, name = name }, Socket)
end

--- The next datagram, by a deadline.
---@param seconds number
---@return string
function Socket:next(seconds)
  local buffer = ffi.new "char[4096]"
  return wait.till(seconds, "a datagram", function()
    local n = tonumber(C.recv(self.fd, buffer, 4096, 0))
    return n > 0 and ffi.string(buffer, n)
  end)
end

function Socket:close()
  C.close(self.fd)
end

return M
