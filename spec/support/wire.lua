--- The guest "wire" (spec/guest/specs): our card and one of the kernel's on QEMU's hub. The kernel's is in a network
--- namespace of its own, "far", so that frames from here to there cross the wire; without it, the kernel would hand them over itself.
---
---     wire.setup()                                    -- the kernel's card to "far", with 10.0.0.2/24
---     wire.far("ping -c 1 10.0.0.1")                  -- a command there
---     local s = wire.socket(wire.FAR, wire.there)     -- raw frames, there
---     local stream = wire.stream(s, other, ...)       -- numbered frames from one socket to another
---     wire.link("nic", false)                         -- pulls our card's plug (QMP set_link)
---
--- The hub's losses are not counted: frames while a plug is out, and, sent by our card, those behind 10,000 that wait for
--- the other (net/queue.c). Frames of the kernel's card wait in its own ring instead.

local assert = require "luassert"
local ffi = require "ffi"
local json = require "dkjson"
local luio = require "luio"
local uv = require "luv"
local files = require "spec.support.files"
local program = require "spec.support.program"
local wait = require "spec.support.wait"

local M = {}

M.NIC = "0000:00:05.0" -- ours, an 82574L
M.FAR_CARD = "0000:00:09.0" -- the kernel's, virtio-net
M.FAR = "wire0" -- its name there
M.TAP = "luio0"
M.HERE, M.THERE = "10.0.0.1", "10.0.0.2"
M.TYPE = 0x88b5 -- of our raw frames: "local experimental"

-- ---- Commands ------------------------------------------------------------------------------------

--- A shell's command that works; its output.
---@param command string  a format for what follows
---@return string output
function M.must(command, ...)
  local text = select("#", ...) > 0 and command:format(...) or command
  local out, status = files.shell(text)
  if status ~= 0 then error(("%s: status %d\n%s"):format(text, status, out), 2) end
  return out
end

local FAR_COMMAND = "ip netns exec far "

--- The same in the namespace of the other card.
---@return string output
function M.far(command, ...)
  return M.must(FAR_COMMAND .. command, ...)
end

--- A command that runs beside us. `text` is what it printed, `status` waits for its end, `kill` ends it.
---@param command string  for a shell
---@return { pid: integer, text: fun(): string, status: fun(seconds: number): integer, kill: fun(signal: string?) }
function M.beside(command)
  local path = files.write("beside.txt", "")
  local out = assert(uv.fs_open(path, "a", 420))
  local self, handle = {}, nil
  handle, self.pid = uv.spawn("sh", { args = { "-c", "exec " .. command }, stdio = { nil, out, out } }, function(status, signal)
    self.exit = signal ~= 0 and -signal or status
    handle:close()
  end)
  uv.fs_close(out)
  assert(handle, self.pid)
  function self.text() return files.read(path) end
  function self.status(seconds)
    return wait.poll(seconds * wait.HANG, function() return self.exit end) or error(("%s did not end; it printed:\n%s"):format(command, self.text()), 2)
  end
  function self.kill(signal)
    if not self.exit then uv.kill(self.pid, signal or "sigkill") end
    return self.status(10)
  end
  return self
end

--- A command that works, while tasks go on (`must` and `far` hold everything up). In a task.
---@param command string  a format for what follows
function M.run(command, ...)
  local text = select("#", ...) > 0 and command:format(...) or command
  local one = M.beside(text)
  if one.status(30) ~= 0 then error(("%s: status %d\n%s"):format(text, one.exit, one.text()), 2) end
end

--- A figure that a person wants to see: a line of /run/out/measured (build/guest/wire/out/measured on the host).
function M.measured(format, ...)
  local f = assert(io.open("/run/out/measured", "a"))
  f:write(format:format(...), "\n")
  f:close()
end

-- ---- The namespace and the card in it ------------------------------------------------------------

--- The name that the kernel gave to a card that is in our namespace.
---@param address string
---@return string?
function M.interface(address)
  for _, folder in ipairs { "virtio*/net/*", "net/*" } do
    local out = files.shell(("ls -d /sys/bus/pci/devices/%s/%s 2>/dev/null"):format(address, folder))
    local name = out:match "([^/\n]+)\n"
    if name then return name end
  end
end

--- Takes the kernel's card, wherever its driver just put it, to "far" and sets it up. Again after a new bind.
---@param mtu? integer
function M.take_over(mtu)
  local name = wait.till(10, "an interface of " .. M.FAR_CARD, function() return M.interface(M.FAR_CARD) end)
  M.must("ip link set %s down", name)
  M.must("ip link set %s netns far name %s", name, M.FAR)
  M.far("ip addr add %s/24 dev %s", M.THERE, M.FAR)
  M.far("sysctl -q -w net.ipv6.conf.%s.disable_ipv6=1", M.FAR) -- only the spec sends
  M.far("tc qdisc replace dev %s root pfifo limit 1000", M.FAR) -- fq_codel, Linux's own choice, drops what waits for 5 ms
  M.far("ip link set %s mtu %d up", M.FAR, mtu or 1500)
end

--- Makes "far". Idempotent: the files of specs share it.
function M.setup()
  if uv.fs_stat "/run/netns/far" then return end
  M.must "ip netns add far"
  M.far "ip link set lo up"
  M.take_over()
end

--- The MAC address of the card in "far".
---@return string
function M.far_mac()
  return (M.far("cat /sys/class/net/%s/address", M.FAR):gsub("%s", ""))
end

--- The kernel's count of an interface, there with `far`.
---@param name string
---@param what string  "tx_packets"
---@param far? boolean
---@return integer
function M.count(name, what, far)
  return tonumber((M.must("%scat /sys/class/net/%s/statistics/%s", far and FAR_COMMAND or "", name, what)))
end

-- ---- The bridge ----------------------------------------------------------------------------------

--- examples/tap.lua as a process (spec.support.program), at work.
---@param ... string  more options
---@return Program
function M.bridge(...)
  local bridge = program.start { "examples/tap.lua", M.NIC, M.TAP, "--address", M.HERE .. "/24", "--json", ... }
  bridge:wait("Ctrl%-C ends it", 20)
  M.must("sysctl -q -w net.ipv6.conf.%s.disable_ipv6=1", M.TAP)
  return bridge
end

--- Ctrl-C: it ends in order, its TAP device is gone.
---@param bridge Program
---@return table sums    what it has carried and dropped, as it says
---@return string text   all that it said
function M.stop(bridge)
  bridge:kill "sigint"
  assert.equal(0, bridge:status(10), bridge:text())
  assert.equal("", M.must("ip -br link show dev %s 2>/dev/null || true", M.TAP))
  local text = bridge:text()
  bridge:close()
  return json.decode(text:match "({[^\n]*})\n$" or "null") or error(text), text
end

-- ---- QEMU ----------------------------------------------------------------------------------------

local qmp

--- Pulls or plugs a card's cable: "nic" is ours, "far" the kernel's.
---@param id string
---@param up boolean
function M.link(id, up)
  if not qmp then
    qmp = assert(io.open("/dev/virtio-ports/luio.qmp", "r+"))
    qmp:setvbuf "no"
    qmp:write '{"execute":"qmp_capabilities"}\n'
  end
  qmp:write(('{"execute":"set_link","arguments":{"name":"%s","up":%s}}\n'):format(id, tostring(up)))
end

--- For the end of a file of specs.
function M.release()
  if qmp then qmp:close() end
  qmp = nil
end

-- ---- Raw frames ----------------------------------------------------------------------------------

ffi.cdef [[
int luio_wire_open(const char *, int) __asm__("open");
int luio_wire_close(int) __asm__("close");
int luio_wire_setns(int, int) __asm__("setns");
int luio_wire_socket(int, int, int) __asm__("socket");
int luio_wire_bind(int, const void *, unsigned) __asm__("bind");
int luio_wire_setsockopt(int, int, int, const void *, unsigned) __asm__("setsockopt");
int luio_wire_getsockopt(int, int, int, void *, unsigned *) __asm__("getsockopt");
int luio_wire_send(int, const void *, size_t, int) __asm__("send");
int luio_wire_recv(int, void *, size_t, int) __asm__("recv");
unsigned luio_wire_index(const char *) __asm__("if_nametoindex");
]]
local C = ffi.C
local AF_PACKET, SOCK_RAW, SOL_SOCKET, SOL_PACKET = 17, 3, 1, 263
local SO_RCVBUFFORCE, SO_SNDBUFFORCE, PACKET_STATISTICS, MSG_DONTWAIT = 33, 32, 6, 0x40
local EAGAIN, ENOBUFS, ENETDOWN, ENXIO, ENODEV = 11, 105, 100, 6, 19
local address_t = ffi.typeof "struct { uint16_t family, protocol; int32_t index; uint16_t hatype; uint8_t pkttype, halen; uint8_t addr[8]; }"
local buffer = ffi.new "uint8_t[65536]"

M.there = "/run/netns/far"

local function checked(rc, what)
  if rc < 0 then error(("%s: errno %d"):format(what, ffi.errno()), 3) end
  return rc
end

---@class WireSocket
---@field fd integer
local Socket = {}
Socket.__index = Socket

--- Sends and receives frames of our type on an interface, past the IP stack.
---@param interface string
---@param namespace? string  M.there; nil: ours
---@return WireSocket
function M.socket(interface, namespace)
  local home = checked(C.luio_wire_open("/proc/self/ns/net", 0), "our namespace")
  if namespace then
    local other = checked(C.luio_wire_open(namespace, 0), namespace)
    checked(C.luio_wire_setns(other, 0), "setns")
    C.luio_wire_close(other)
  end
  local fd = C.luio_wire_socket(AF_PACKET, SOCK_RAW, 0)
  local index = C.luio_wire_index(interface)
  local where = address_t()
  where.family, where.protocol, where.index = AF_PACKET, bit.rshift(bit.bswap(M.TYPE), 16), index
  local bound = index > 0 and C.luio_wire_bind(fd, where, 20) or -1
  checked(C.luio_wire_setns(home, 0), "setns back")
  C.luio_wire_close(home)
  checked(fd, "AF_PACKET")
  checked(bound, "bind to " .. interface)
  local size = ffi.new("int[1]", 64 * 2 ^ 20)
  checked(C.luio_wire_setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, size, 4), "receive buffer")
  size[0] = 2 ^ 20
  checked(C.luio_wire_setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, size, 4), "send buffer")
  return setmetatable({ fd = fd, interface = interface }, Socket)
end

--- Sends a frame, if the kernel takes it.
---@param frame string
---@return boolean taken  false: no room, or no link
function Socket:send(frame)
  if C.luio_wire_send(self.fd, frame, #frame, MSG_DONTWAIT) >= 0 then return true end
  local code = ffi.errno()
  if code == EAGAIN or code == ENOBUFS or code == ENETDOWN or code == ENXIO or code == ENODEV then return false end
  error(("send on %s: errno %d"):format(self.interface, code), 2)
end

--- Takes a frame that has come.
---@return string? frame
function Socket:receive()
  local n = C.luio_wire_recv(self.fd, buffer, 65536, MSG_DONTWAIT)
  if n >= 0 then return ffi.string(buffer, n) end
  local code = ffi.errno()
  if code ~= EAGAIN and code ~= ENETDOWN then error(("receive on %s: errno %d"):format(self.interface, code), 2) end
end

--- Frames that did not fit into the socket's buffer since the last call: a fault of the spec.
---@return integer
function Socket:lost()
  local out, size = ffi.new "unsigned[2]", ffi.new("unsigned[1]", 8)
  checked(C.luio_wire_getsockopt(self.fd, SOL_PACKET, PACKET_STATISTICS, out, size), "statistics")
  return out[1]
end

function Socket:close()
  if self.fd then C.luio_wire_close(self.fd) end
  self.fd = nil
end

-- ---- Numbered frames -----------------------------------------------------------------------------

--- Frames from one socket to another, numbered from 1, of changing sizes, with contents that follow from the number. One that
--- comes twice, or otherwise than it was sent, is an error, and so is one that comes late, but with `late_allowed`: where
--- a card's ring was full QEMU's hub brings the frame that met the full ring after those that waited before it
--- (qemu_flush_or_purge_queued_packets in net/net.c empties the hub's queues first, then the card's own).
---@class WireStream
---@field sent integer      taken by the kernel
---@field got integer       received
---@field highest integer   the highest number received
---@field late integer      came after a higher number
---@field late_allowed boolean?
---@field gaps integer      of numbers that did not come; known after drain()
---@field window integer    frames under way
local Stream = {}
Stream.__index = Stream

local function mac_bytes(text)
  return (text:gsub("(%x%x):?", function(digits) return string.char(tonumber(digits, 16)) end))
end

---@param from WireSocket
---@param to WireSocket
---@param from_mac string
---@param to_mac string
---@param window? integer  200, less than every queue holds
---@return WireStream
function M.stream(from, to, from_mac, to_mac, window)
  return setmetatable({
    from = from, to = to, header = mac_bytes(to_mac) .. mac_bytes(from_mac) .. "\x88\xb5", window = window or 200,
    sent = 0, got = 0, highest = 0, late = 0, gaps = 0, seen = {}, heard = luio.now(),
  }, Stream)
end

local FILL = ("0123456789abcdefghijklmnopqrstuvwxyz"):rep(42)

-- 60 to 1514 bytes.
function Stream:frame(number)
  return self.header .. ("%010d"):format(number) .. FILL:sub(1 + number % 36, 36 + number % 36 + number * 97 % 1455)
end

--- Takes what has come, and looks at it.
---@return integer n
function Stream:take()
  local n = 0
  while true do
    local frame = self.to:receive()
    if not frame then break end
    local number = tonumber(frame:sub(15, 24))
    if frame ~= self:frame(number or 0) then
      error(("after frame %d came one that is not as it was sent: %d bytes, number %s"):format(self.highest, #frame, tostring(number)), 0)
    end
    if self.seen[number] then error(("frame %d came twice"):format(number), 0) end
    if number < self.highest then
      if not self.late_allowed then error(("frame %d came after %d"):format(number, self.highest), 0) end
      self.late = self.late + 1
    end
    self.seen[number], self.highest, n = true, math.max(self.highest, number), n + 1
  end
  if n > 0 then self.got, self.heard = self.got + n, luio.now() end
  return n
end

--- Sends what the window lets through. Were all that is under way lost, nothing would ever come: then one now and then.
---@param most? integer  in all
---@return integer n
function Stream:push(most)
  local n = 0
  while n < 32 and self.sent < (most or math.huge) do
    if self.sent - self.highest >= self.window then
      if luio.now() - self.heard < 0.2 then break end
      self.heard = luio.now()
    end
    if not self.from:send(self:frame(self.sent + 1)) then break end
    self.sent, n = self.sent + 1, n + 1
  end
  return n
end

--- Frames that were sent and did not come.
---@return integer
function Stream:missing() return self.sent - self.got end

--- Lets streams flow until `stop` says so: some thousand frames a second, so that a processor is left for what carries them.
---@param streams WireStream[]
---@param stop fun(): boolean?
function M.flow(streams, stop)
  wait.till(120, "the end of the traffic", function()
    for _, stream in ipairs(streams) do
      stream:push()
      stream:take()
    end
    luio.sleep(0.002)
    return stop()
  end)
end

--- Lets streams flow until so many more frames have come by each of them.
---@param streams WireStream[]
---@param n integer
function M.flow_more(streams, n)
  local from = {}
  for i, stream in ipairs(streams) do from[i] = stream.got end
  M.flow(streams, function()
    for i, stream in ipairs(streams) do
      if stream.got < from[i] + n then return false end
    end
    return true
  end)
end

--- Waits until all that was sent has come or is lost. Frames keep their order, so when the last one comes, all before it are
--- decided; for one that is lost another is sent. Where some may be late, nothing more comes for some time instead.
---@param streams WireStream[]
function M.drain(streams)
  for _, stream in ipairs(streams) do
    stream.heard = luio.now()
    wait.till(60, "the last frame of a stream", function()
      stream:take()
      if stream:missing() == 0 then return true end
      if stream.late_allowed then return luio.now() - stream.heard > 3 end
      if stream.highest == stream.sent then return true end
      if luio.now() - stream.heard > 0.3 then
        stream.heard = luio.now()
        if stream.from:send(stream:frame(stream.sent + 1)) then stream.sent = stream.sent + 1 end
      end
    end)
    stream.gaps = 0
    for i = 1, stream.sent do
      if not stream.seen[i] and (i == 1 or stream.seen[i - 1]) then stream.gaps = stream.gaps + 1 end
    end
    assert(stream.to:lost() == 0, "the spec's own socket lost frames")
  end
end

return M
