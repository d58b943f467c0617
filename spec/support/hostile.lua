--- Attacks of a driver without privileges on a guardian that is still root. A driver of a spec loads it before it gives root up:
---
---     local hostile = dofile "spec/support/hostile.lua"
---     hostile.hand_over(hostile.lingering(port))

local bit = require "bit"
local ffi = require "ffi"
local uv = require "luv"

ffi.cdef [[
struct hostile_address { uint16_t family; uint8_t port[2], address[4], zero[8]; };
struct hostile_part { void *base; size_t size; };
struct hostile_message { void *name; unsigned name_size; struct hostile_part *parts; size_t n; void *control; size_t control_size; int flags; };
struct hostile_control { size_t size; int level, type; int fds[254]; };
int socket(int, int, int);
int connect(int, const void *, unsigned);
int setsockopt(int, int, int, const void *, unsigned);
ssize_t send(int, const void *, size_t, int);
ssize_t sendmsg(int, const void *, int);
ssize_t recv(int, void *, size_t, int);
int getsockopt(int, int, int, void *, unsigned *);
ssize_t write(int, const void *, size_t);
int fcntl(int, int, ...);
int close(int);
int fork(void);
int pause(void);
int prctl(int, ...);
long ptrace(int, ...);
int getppid(void);
int kill(int, int);
]]
local C = ffi.C

local M = {}

--- A TCP socket whose last close waits for a minute: SO_LINGER, and unread data.
---@param port integer  of a local listener that does not read
function M.lingering(port)
  local fd = C.socket(2, 1, 0)
  local to = ffi.new("struct hostile_address", { 2, { math.floor(port / 256), port % 256 }, { 127, 0, 0, 1 } })
  assert(C.connect(fd, to, 16) == 0, "connect")
  assert(C.setsockopt(fd, 1, 13, ffi.new("int[2]", 1, 60), 8) == 0, "SO_LINGER")
  local bytes = ffi.new("char[?]", 65536)
  while C.send(fd, bytes, 65536, 0x40) > 0 do end -- MSG_DONTWAIT
  return fd
end

--- Sends a descriptor, n times, in a message of so many bytes, zeros if none are given. Whether it went.
function M.send(to, fd, n, size, data)
  local control = ffi.new "struct hostile_control"
  control.size, control.level, control.type = 16 + 4 * n, 1, 1
  for i = 0, n - 1 do control.fds[i] = fd end
  local bytes, part, message = ffi.new("char[?]", size), ffi.new "struct hostile_part", ffi.new "struct hostile_message"
  part.base, part.size = data or bytes, size
  message.parts, message.n, message.control, message.control_size = part, 1, control, bit.band(16 + 4 * n + 7, bit.bnot(7))
  return C.sendmsg(to, message, 0x4040) > 0 -- MSG_NOSIGNAL, MSG_DONTWAIT
end

--- Sends a descriptor, n times, into every socket there is; then it is the last one's to close. How many messages went.
function M.hand_over(fd, n)
  local went = 0
  for _, name in ipairs(M.descriptors()) do
    if name ~= fd and M.is(name, "^socket:") and M.send(name, fd, n, 8) then went = went + 1 end
  end
  if went > 0 then C.close(fd) end -- else it would be us who wait
  return went
end

--- The numbers of our descriptors.
function M.descriptors()
  local list = {}
  local scan = assert(uv.fs_scandir "/proc/self/fd")
  for name in function() return uv.fs_scandir_next(scan) end do list[#list + 1] = tonumber(name) end
  return list
end

--- Whether a descriptor is of a kind.
function M.is(fd, pattern)
  return (uv.fs_readlink("/proc/self/fd/" .. fd) or ""):find(pattern) ~= nil
end

--- Memory that the guardian made and we have mapped, by its name: address and size.
function M.mapping(name)
  for line in io.lines "/proc/self/maps" do
    local from, to, what = line:match "^(%x+)%-(%x+).-memfd:(%S+)"
    if what == name then
      from, to = tonumber(from, 16), tonumber(to, 16)
      return ffi.cast("uint8_t *", from), to - from
    end
  end
  error(name .. " is not mapped")
end

--- Puts a request into the guardian's mail (runtime/guard.h) and rings. One that it has not taken yet is lost.
---@param fields table  kind, slot, size, address
---@return integer number  as the mail has it: uint64_t
function M.request(fields)
  local mail = M.mapping "luio-mail"
  local q = ffi.cast("struct { uint64_t number; uint32_t kind, version, slot, restarts; uint64_t backoff, stop, size; char address[64]; } *", mail)
  q.kind, q.version, q.slot, q.size, q.address = fields.kind, 5, fields.slot or 0, fields.size or 0, fields.address or ""
  q.number = q.number + 1
  M.ring()
  return q.number
end

local replies

-- The descriptor that they come by: a SOCK_SEQPACKET that our parent has made.
local function find_replies()
  local kind, peer, size = ffi.new "int[1]", ffi.new "int[3]", ffi.new "unsigned[1]"
  local function option(fd, name, to)
    size[0] = ffi.sizeof(to)
    return C.getsockopt(fd, 1, name, to, size) == 0
  end
  for _, fd in ipairs(M.descriptors()) do
    if option(fd, 3, kind) and kind[0] == 5 and option(fd, 17, peer) and peer[0] == C.getppid() then return fd end -- SO_TYPE, SO_PEERCRED
  end
  error "no replies come"
end

--- The same, and waits for the reply, so that the guardian has taken it. The descriptors of the reply are dropped.
---@param fields table
---@return integer code  0 or an errno value
function M.ask(fields)
  replies = replies or find_replies()
  local number = M.request(fields)
  local reply = ffi.new "struct { uint64_t number; int32_t code; uint32_t slots, settled, humble, restarts; uint64_t died; }"
  for _ = 1, 5000 do
    while C.recv(replies, reply, ffi.sizeof(reply), 0x40) > 0 do -- MSG_DONTWAIT
      if reply.number == number then return reply.code end
    end
    uv.sleep(1)
  end
  error "the guardian does not answer"
end

M.KINDS = { OPEN = 2, MAKE = 3, HOLD = 4, GONE = 5, NO_RESET = 6, CLOSED = 7, READY = 8 }

local bell

--- Rings the guardian's bell: the eventfd that is never read.
function M.ring()
  local most = 0
  for _, fd in ipairs(bell and {} or M.descriptors()) do
    local info = io.open("/proc/self/fdinfo/" .. fd)
    local count = tonumber(info and info:read("*a"):match "eventfd%-count:%s*(%x+)" or "0", 16)
    if info then info:close() end
    if count > most then bell, most = fd, count end
  end
  C.write(bell, ffi.new("uint64_t[1]", 1), 8)
end

--- Fills what standard error leads to, and lets the next writer wait.
function M.fill_stderr()
  local flags = C.fcntl(2, 3)
  C.fcntl(2, 4, ffi.new("int", bit.bor(flags, 0x800)))
  local text = ("."):rep(4096)
  for _, size in ipairs { 4096, 1 } do
    while C.write(2, text, size) > 0 do end
  end
  C.fcntl(2, 4, ffi.new("int", bit.band(flags, bit.bnot(0x800))))
end

--- A process of ours that does nothing but be there: its id.
function M.child(what)
  local pid = C.fork()
  if pid == 0 then
    if what then what() end
    while true do C.pause() end
  end
  return pid
end

--- A child that traces this process, and never takes note of its death.
function M.traced()
  C.prctl(4, ffi.new("int", 1)) -- PR_SET_DUMPABLE: setuid took it away
  C.prctl(0x59616d61, ffi.new("long", -1)) -- PR_SET_PTRACER_ANY
  local parent = uv.os_getpid()
  M.child(function() C.ptrace(0x4206, ffi.new("int", parent), nil, nil) end) -- PTRACE_SEIZE
  local function tracer() return tonumber(io.open("/proc/self/status"):read("*a"):match "TracerPid:%s*(%d+)") end
  for _ = 1, 5000 do
    if tracer() > 0 then return end
    uv.sleep(10)
  end
  error "not traced"
end

function M.stop_self() C.kill(uv.os_getpid(), 19) end

return M
