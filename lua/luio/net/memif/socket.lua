--- memif's control channel: unix sockets of packets, with descriptors in them; and epoll, for a server with many.
---
--- Nothing here waits: sockets are non-blocking. A descriptor from another process may be anything, and much can be
--- done with it that takes as long as its sender likes: writing, reading, even closing (a file of a FUSE file system, a
--- TCP socket with SO_LINGER). So neither side has the other's socket: porters, processes of their own, pass on
--- harmless messages (runtime/porter.c).

local runtime = require "luio.ffi"
local ffi = require "ffi"
local posix = require "luio.posix"
local protocol = require "luio.net.memif.protocol"
local uv = require "luv"

local M = {}

local SOCKET = bit.bor(posix.SOCK_SEQPACKET, posix.SOCK_NONBLOCK, posix.SOCK_CLOEXEC)
local SOL_SOCKET, SCM_RIGHTS = 1, 1
local CTRUNC, TRUNC, CMSG_CLOEXEC = 0x08, 0x20, 0x40000000
local MOST_DESCRIPTORS = 253 -- SCM_MAX_FD: all that can come, for what has no room is closed by the kernel, here and now

local part_t = ffi.typeof "struct { void *base; size_t length; }"
local header_t = ffi.typeof [[struct {
  void *name; unsigned name_length; void *parts; size_t n_parts; void *control; size_t control_length; int flags;
}]]
local control_t = ffi.typeof("struct { size_t length; int level, type; int fds[$]; }", MOST_DESCRIPTORS + 1)
-- Packed on x86-64 alone.
local event_t = ffi.typeof(ffi.arch == "x64" and "struct __attribute__((packed)) { uint32_t events; int32_t tag, high; }"
  or "struct { uint32_t events, gap; int32_t tag, high; }")

--- Closes a descriptor of the right kind.
---@param fd integer
function M.close(fd) posix.close(fd) end

local function address_of(path)
  local address = posix.sockaddr_un(posix.AF_UNIX)
  if #path == 0 or #path >= ffi.sizeof(address.path) then return nil end
  ffi.copy(address.path, path)
  return address
end

local function new(path)
  local address = address_of(path)
  if not address then return nil, ("socket %s: a path of 1 to 107 bytes is needed"):format(path), "EINVAL" end
  local fd = posix.socket(posix.AF_UNIX, SOCKET, 0)
  if fd < 0 then return posix.failure("socket " .. path) end
  return fd, address
end

--- Connects to a server, by a porter.
---@param path string
---@return integer? fd  for send and receive_passed
---@return string? message
---@return string? code  "ENOENT" "ECONNREFUSED" "EACCES" "EAGAIN": too many are waiting
function M.call(path)
  local fd = runtime.C.luio_porter_connect(path, runtime.err)
  if fd < 0 then return runtime.failure() end
  return fd
end

--- Connects to a server that is trusted, without one.
---@param path string
---@return integer? fd
---@return string? message
---@return string? code  "ENOENT" "ECONNREFUSED" "EACCES" "EAGAIN": too many are waiting
function M.connect(path)
  local fd, address, code = new(path)
  if not fd then return nil, address, code end
  if posix.connect(fd, address, ffi.sizeof(address)) < 0 then
    local _, message
    _, message, code = posix.failure("connect to " .. path)
    posix.close(fd)
    return nil, message, code
  end
  return fd
end

--- Listens. A socket that a dead server left is taken away.
---@param path string
---@param mode integer  permissions of the socket's file: a process that may write to it may connect
---@return integer? fd
---@return string? message
---@return string? code  "EADDRINUSE": a server is there, or a file that is no socket
function M.listen(path, mode)
  local fd, address, code = new(path)
  if not fd then return nil, address, code end
  local before = posix.umask(bit.band(bit.bnot(mode), 511)) -- from the first moment on
  local bound = posix.bind(fd, address, ffi.sizeof(address))
  local number = ffi.errno()
  if bound < 0 and runtime.errno_name(number) == "EADDRINUSE" then
    local other, _, why = M.connect(path)
    if other then posix.close(other) end
    local stat = uv.fs_stat(path)
    if why == "ECONNREFUSED" and stat and stat.type == "socket" and uv.fs_unlink(path) then
      bound = posix.bind(fd, address, ffi.sizeof(address))
      number = ffi.errno()
    end
  end
  posix.umask(before)
  if bound == 0 and posix.listen(fd, 64) == 0 then return fd end
  if bound == 0 then number = ffi.errno() end
  posix.close(fd)
  code = runtime.errno_name(number)
  local hint = code == "EADDRINUSE" and ": another server is there, or a file that is no socket" or ""
  return nil, ("listen at %s: %s%s"):format(path, code, hint), code
end

-- One of each is enough: a state has one thread.
local part, header, control = part_t(), header_t(), control_t()

--- Sends a message.
---@param fd integer
---@param message ffi.cdata*  of protocol.message
---@param give? integer       a descriptor to go along; it stays ours, too
---@return true? ok
---@return string? why
---@return string? code  "EAGAIN": the other side does not read; "EPIPE": it is gone
function M.send(fd, message, give)
  part.base, part.length = message, protocol.MESSAGE
  ffi.fill(header, ffi.sizeof(header))
  header.parts, header.n_parts = part, 1
  if give then
    control.length, control.level, control.type, control.fds[0] = 20, SOL_SOCKET, SCM_RIGHTS, give
    header.control, header.control_length = control, 24
  end
  if posix.sendmsg(fd, header, posix.MSG_NOSIGNAL) ~= protocol.MESSAGE then return posix.failure(protocol.name(message.type)) end
  return true
end

local function receive(fd, base, length)
  part.base, part.length = base, length
  ffi.fill(header, ffi.sizeof(header))
  header.parts, header.n_parts, header.control, header.control_length = part, 1, control, ffi.sizeof(control)
  local size = posix.recvmsg(fd, header, CMSG_CLOEXEC)
  if size < 0 then return posix.failure "receive" end
  local given = {}
  if tonumber(header.control_length) >= 20 and control.level == SOL_SOCKET and control.type == SCM_RIGHTS then
    for i = 0, (tonumber(control.length) - 16) / 4 - 1 do given[i + 1] = control.fds[i] end
  end
  if bit.band(header.flags, bit.bor(CTRUNC, TRUNC)) ~= 0 then size = -1 end -- longer, or more came than can be taken
  return size, given
end

--- Takes a message of a server's that is trusted.
---@param fd integer
---@param message ffi.cdata*
---@return integer? size  bytes, protocol.MESSAGE if it is whole; 0: the other side has closed
---@return integer[]|string given  descriptors that came along, the caller's now; or what failed
---@return string? code  "EAGAIN": there is none
function M.receive(fd, message) return receive(fd, message, protocol.MESSAGE) end

--- Takes a message that a porter passes on.
---@param fd integer
---@param passed ffi.cdata*  luio_passed
---@return boolean? more  false: the connection is over
---@return integer|string|nil fd  a descriptor that came along, the caller's now: memory or an eventfd; or what failed
---@return string? code  "EAGAIN": there is nothing
function M.receive_passed(fd, passed)
  local size, given, code = receive(fd, passed, ffi.sizeof(passed))
  if not size then return nil, given, code end
  return size > 0 and passed.size > 0, given[1]
end

-- ---- Many at once --------------------------------------------------------------------------------

local ADD, DELETE, IN, EDGE = 1, 2, 1, 0x80000000

---@class luio.memif.Poller
---@field fd integer  readable while there is something
local Poller = {}
Poller.__index = Poller

--- A set of descriptors, each with a number.
---@return luio.memif.Poller?
---@return string? message
---@return string? code
function M.poller()
  local fd = posix.epoll_create1(0x80000)
  if fd < 0 then return posix.failure "epoll_create1" end
  return setmetatable({ fd = fd, events = ffi.new(ffi.typeof("$[64]", event_t)) }, Poller)
end

--- Adds one.
---@param fd integer
---@param tag integer
---@param edge boolean?  tell of each change once: then it need not be read, which its other owner could make last
---@return true? ok
---@return string? message
---@return string? code
function Poller:add(fd, tag, edge)
  local event = event_t()
  event.events, event.tag = IN + (edge and EDGE or 0), tag
  if posix.epoll_ctl(self.fd, ADD, fd, event) < 0 then return posix.failure "epoll_ctl" end
  return true
end

--- Takes one out, before it is closed: a descriptor that another process has, too, would stay, because it is not
--- closed for good.
---@param fd integer
function Poller:remove(fd)
  posix.epoll_ctl(self.fd, DELETE, fd, event_t())
end

--- Lists the ready descriptors: their numbers are in `tag(i)`, from 0 on.
---@return integer n  at most 64
function Poller:poll()
  return math.max(0, posix.epoll_wait(self.fd, self.events, 64, 0))
end

---@param i integer
---@return integer
---@private
function Poller:tag(i) return self.events[i].tag end

---@private
function Poller:close() posix.close(self.fd) end

return M
