--- A TAP device: an Ethernet card whose wire is a file descriptor. Frames that the kernel's TCP/IP stack sends are
--- read here; the stack receives frames that are written here.
---
---     local t = assert(require("luio.net.tap").open { name = "luio0", mtu = port.mtu, mac = port.mac, pool = port.pool })
---     local n = t.rx[0]:burst(packets, 32)     -- frames that the kernel sent
---     t.tx[0]:burst(packets, n)                -- frames that it is to receive
---
--- Its queues are used like a port's (luio.net), so a bridge between two ports also works between a port and the
--- kernel (luio.net.bridge). A frame is read by one system call straight into a packet's memory, and written straight
--- from it; nothing is copied in Lua, and nothing is made for the collector. Packets that are read come from a pool that the
--- device is given, mostly a port's, which can then send them without a copy.
---
--- Checksums. With `checksum` the kernel leaves TCP's and UDP's to us: a header of 10 bytes (virtio_net_hdr), which is
--- read into and written from the headroom, says where to sum, like packet.checksum_start and _offset for a port.
--- Where the port's fields don't reach (drivers/e1000e: 255 bytes) the sum is made here. The other way round there
--- is nothing to gain: only VIRTIO_NET_HDR_F_DATA_VALID could carry a port's verdict on a received checksum, and
--- Linux 6.1's tun ignores that flag in frames that it is given (spec/net/tap_spec.lua shows it). The kernel sums itself.
--- Segments are never longer than a frame (no TSO, no GSO): the cards we drive by legacy descriptors could not cut them.
---
--- Losses are counted. The kernel drops, and counts (tx_dropped), frames that do not fit into the device's queue: 1000
--- frames by default, `queue`. We count frames that can't be written because the device is down or the kernel short of
--- memory, and those longer than mtu + 18 bytes, in case the device's MTU was raised.
---
--- The device lives in the network namespace of the process that opens it, and ends when it is closed, unless it existed
--- before (`ip tuntap add NAME mode tap user USER`: so a process without CAP_NET_ADMIN can use one).

local fd_watch = require "luio.loop.fd_watch"
local bit = require "bit"
local checks = require "luio.options"
local ffi = require "ffi"
local net = require "luio.net"
local posix = require "luio.posix"
local sysfs = require "luio.host.sysfs"

local band, bor, rshift = bit.band, bit.bor, bit.rshift
local read, write, failure = posix.read, posix.write, posix.failure

local M = {}

-- linux/if_tun.h, linux/sockios.h, linux/if.h
local TUNSETIFF, TUNSETOFFLOAD, TUNSETCARRIER = 0x400454ca, 0x400454d0, 0x400454e2
local IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
local TUN_F_CSUM = 1
local SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK = 0x8913, 0x8914, 0x8916, 0x891c
local SIOCSIFMTU, SIOCGIFMTU, SIOCSIFHWADDR, SIOCGIFHWADDR, SIOCSIFTXQLEN = 0x8922, 0x8921, 0x8924, 0x8927, 0x8943
local IFF_UP, ARPHRD_ETHER = 1, 1
local EIO, EAGAIN, EINTR, EBADFD = posix.EIO, posix.EAGAIN, posix.EINTR, 77

local ifreq_t = ffi.typeof [[struct {
  char name[16];
  union { int16_t flags; int32_t value; uint16_t family; uint8_t bytes[24]; };
}]]

local HEADER = 10 -- bytes of a virtio_net_hdr
local NEEDS_CSUM = 1
local header_t = ffi.typeof [[struct __attribute__((packed)) {
  union { struct { uint8_t flags, gso_type; uint16_t hdr_len, gso_size, csum_start; }; uint64_t word; };
  uint16_t csum_offset;
} *]]

local LONGEST_FIELD = 255 -- of checksum_start and the sum's offset: some ports' descriptors hold no larger ones

--- Options of `tap.open`.
---@class luio.net.TapOptions
---@field pool luio.Pool       for packets that are read; headroom of at least 10 bytes
---@field name string?         at most 15 bytes; "luio%d": the kernel puts a number there
---@field mtu integer?         1500
---@field mac string?          "52:54:00:12:34:56"; nil: the kernel chooses one
---@field checksum boolean?    the kernel leaves checksums to packet.checksum_start
---@field queue integer?       frames that may wait to be read; 1000
---@field address string?      IPv4, "10.0.0.1/24"
---@field up boolean?          true

--- Lost frames since the device was opened; whole numbers.
---@class luio.net.TapStats
---@field rx_packets integer   read
---@field rx_bytes integer
---@field rx_errors integer    read, and dropped: longer than mtu + 18
---@field rx_dropped integer?  by the kernel: its queue was full (tx_dropped of the device); nil: it is in another namespace
---@field rx_starved integer   times that nothing was read because the pool was empty
---@field tx_packets integer   written
---@field tx_bytes integer
---@field tx_down integer      dropped because the device was down
---@field tx_dropped integer   dropped because the kernel had no memory, or refused the frame

local counts_t = ffi.typeof [[struct {
  double rx_packets, rx_bytes, rx_errors, rx_starved, tx_packets, tx_bytes, tx_down, tx_dropped;
}]]
local COUNTS = { "rx_packets", "rx_bytes", "rx_errors", "rx_starved", "tx_packets", "tx_bytes", "tx_down", "tx_dropped" }

-- ---- Settings ------------------------------------------------------------------------------------

local REMEDY_OF_SETTINGS = {
  EPERM = "that takes CAP_NET_ADMIN: run it as root, or set it before by `ip`",
  EADDRNOTAVAIL = "no address for one device: is it a multicast one?",
}

-- An ioctl on a socket for the device of this name.
local function set(socket, name, what, request, fill)
  local request_of = ifreq_t()
  ffi.copy(request_of.name, name)
  if fill then fill(request_of) end
  if posix.ioctl(socket, request, request_of) < 0 then return failure(("%s of %s"):format(what, name), REMEDY_OF_SETTINGS) end
  return request_of
end

-- A sockaddr_in, or the netmask of so many bits.
local function inet(bytes)
  return function(request)
    request.family = posix.AF_INET
    for i = 1, 4 do request.bytes[3 + i] = bytes[i] end
  end
end

-- "10.0.0.1/24" as bytes of address and mask.
local function parse_address(text)
  local a, b, c, d, bits = tostring(text):match "^(%d+)%.(%d+)%.(%d+)%.(%d+)/(%d+)$"
  local address, mask = { tonumber(a), tonumber(b), tonumber(c), tonumber(d) }, {}
  bits = tonumber(bits)
  if not bits or bits > 32 then return nil end
  for i = 1, 4 do
    if address[i] > 255 then return nil end
    mask[i] = 256 - 2 ^ (8 - math.max(0, math.min(8, bits - 8 * (i - 1))))
  end
  return address, mask
end

--- Whether a text is an IPv4 address with its length, as `address` wants it.
---@param text string
---@return boolean
function M.is_address(text)
  return parse_address(text) ~= nil
end

local NO_TAP = "the kernel's TAP driver is not there: modprobe tun"
local REMEDY_OF_TUN = { ENOENT = NO_TAP, ENODEV = NO_TAP, ENXIO = NO_TAP, EACCES = "run it as root" }
local REMEDY = {
  EPERM = "that takes CAP_NET_ADMIN: run it as root, or prepare the device:",
  EBUSY = "another process has it, or it is no TAP device",
  EINVAL = "not a name for a network device, or one of another kind has it",
}

local function open_device(self, options)
  local fd = posix.open("/dev/net/tun", bor(posix.O_RDWR, posix.O_NONBLOCK, posix.O_CLOEXEC))
  if fd < 0 then return failure("open /dev/net/tun", REMEDY_OF_TUN) end
  self.fd = fd
  local request = ifreq_t()
  ffi.copy(request.name, options.name or "luio%d")
  request.flags = IFF_TAP + IFF_NO_PI + (options.checksum and IFF_VNET_HDR or 0)
  if posix.ioctl(fd, TUNSETIFF, request) < 0 then
    local _, message, code = failure(("make TAP device %s"):format(options.name or "luio%d"), REMEDY)
    return nil, code == "EPERM" and ("%s ip tuntap add %s mode tap user $USER"):format(message, options.name or "NAME") or message, code
  end
  self.name = ffi.string(request.name)
  if options.checksum and posix.ioctl_value(fd, TUNSETOFFLOAD, TUN_F_CSUM) < 0 then return failure("checksum offload of " .. self.name) end
  return true
end

-- MTU, MAC, addresses, up. A value that is right already is not set, because setting takes
-- CAP_NET_ADMIN.
local function configure(self, options)
  self.socket = posix.socket(posix.AF_INET, bor(posix.SOCK_DGRAM, posix.SOCK_CLOEXEC), 0)
  if self.socket < 0 then return failure("a socket for the settings of " .. self.name) end
  local ok, message, code
  local function apply(what, request, fill)
    ok, message, code = set(self.socket, self.name, what, request, fill)
    return ok
  end
  if not apply("mtu", SIOCGIFMTU) then return nil, message, code end
  if ok.value ~= self.mtu and not apply("mtu", SIOCSIFMTU, function(r) r.value = self.mtu end) then return nil, message, code end
  if options.queue and not apply("queue", SIOCSIFTXQLEN, function(r) r.value = options.queue end) then return nil, message, code end
  local mac = options.mac and net.mac_bytes(options.mac)
  if not apply("MAC address", SIOCGIFHWADDR) then return nil, message, code end
  self.mac = net.mac_text(ffi.string(ok.bytes + 2, 6))
  if mac and net.mac_text(mac) ~= self.mac then
    self.mac = net.mac_text(mac)
    if not apply("MAC address " .. self.mac, SIOCSIFHWADDR, function(r)
      r.family = ARPHRD_ETHER
      ffi.copy(r.bytes + 2, mac, 6)
    end) then return nil, message, code end
  end
  if options.address then
    local address, mask = parse_address(options.address)
    if not apply("address " .. options.address, SIOCSIFADDR, inet(address)) or
      not apply("netmask of " .. options.address, SIOCSIFNETMASK, inet(mask)) then return nil, message, code end
  end
  if options.up ~= false then
    if not apply("flags", SIOCGIFFLAGS) then return nil, message, code end
    local flags = ok.flags
    if band(flags, IFF_UP) == 0 and not apply("up", SIOCSIFFLAGS, function(r) r.flags = bor(flags, IFF_UP) end) then
      return nil, message, code
    end
  end
  return true
end

-- ---- Checksums -----------------------------------------------------------------------------------

local words_t = ffi.typeof "const uint16_t *"

--- Computes the checksum that packet.checksum_start and _offset ask for, and asks no more.
---@param packet luio.Packet  yours
function M.sum(packet)
  local start, at = packet.checksum_start, packet.checksum_start + packet.checksum_offset
  local data = packet.base + packet.offset
  local n = packet.length - start
  if start == 0 or at + 2 > packet.length then return end
  local words, sum = ffi.cast(words_t, data + start), 0
  for i = 0, rshift(n, 1) - 1 do sum = sum + words[i] end
  if band(n, 1) == 1 then sum = sum + data[packet.length - 1] end -- in memory's order, as the rest
  while sum > 0xffff do sum = sum % 0x10000 + math.floor(sum / 0x10000) end
  sum = 0xffff - sum
  if sum == 0 then sum = 0xffff end -- for UDP 0 would mean none; to others the two are the same
  ffi.cast("uint16_t *", data + at)[0] = sum
  packet.checksum_start, packet.checksum_offset = 0, 0
end

-- ---- Queues --------------------------------------------------------------------------------------

--- A TAP device of the kernel, with a port's receive and transmit queue.
---@class luio.net.Tap
---@field name string
---@field mac string
---@field mtu integer
---@field pool luio.Pool
---@field rx table<integer, luio.net.TapRx>  0: frames that the kernel sends
---@field tx table<integer, luio.net.TapTx>  0: frames that it receives
---@field failed string[]?  message and code: the device was removed
---@field package fd integer
---@field package counts ffi.cdata*
local Tap = {}
Tap.__index = Tap

local REMOVED = { EBADFD = "the device was removed, by `ip link del` for instance" }

-- The device does not work any more: EBADFD says that it was removed.
local function fail(tap, what, code)
  local _, message, name = failure(("%s %s"):format(what, tap.name), REMOVED, code)
  tap.failed = tap.failed or { message, name }
end

--- A TAP device's receive queue: packets that the kernel sends.
---@class luio.net.TapRx
---@field tap luio.net.Tap
local Rx = {}
Rx.__index = Rx

--- Reads frames that the kernel has sent, without waiting. The packets are yours.
---@param packets luio.Batch  filled from 0
---@param n integer           at most so many; at most packets.capacity
---@return integer taken
function Rx:burst(packets, n)
  local tap = self.tap
  if tap.failed or tap.closed then return 0 end
  local fd, header, pool, counts, longest = tap.fd, tap.header, tap.pool, tap.counts, tap.mtu + 18
  if n > packets.capacity then error(("a burst of %d packets in a batch of %d"):format(n, packets.capacity), 2) end
  local taken, bytes, most = 0, 0, tap.most
  while taken < n do
    local packet = pool:alloc()
    if packet == nil then
      counts.rx_starved = counts.rx_starved + 1
      break
    end
    -- Two bytes below the usual place: the IP header is aligned, and a frame that was cut off is seen to be too long.
    local offset = packet.offset - 2
    local got = read(fd, packet.base + offset - header, most + header)
    if got < 0 then
      local code = ffi.errno()
      packet:free()
      if code ~= EAGAIN and code ~= EINTR then fail(tap, "read", code) end
      break
    end
    local length = got - header
    if length > longest or length < 14 then
      counts.rx_errors = counts.rx_errors + 1
      packet:free()
    else
      packet.offset, packet.length = offset, length
      if header ~= 0 then
        local h = ffi.cast(header_t, packet.base + offset - HEADER)
        if band(h.flags, NEEDS_CSUM) ~= 0 then
          packet.checksum_start, packet.checksum_offset = h.csum_start, h.csum_offset
          if packet.checksum_start + packet.checksum_offset > LONGEST_FIELD then M.sum(packet) end
        end
      end
      packets.at[taken] = packet
      taken, bytes = taken + 1, bytes + length
    end
  end
  counts.rx_packets, counts.rx_bytes = counts.rx_packets + taken, counts.rx_bytes + bytes
  return taken
end

--- Waits until there is something to read.
---@param seconds number
---@return true? ok
---@return string? message
---@return string? code  "ETIMEDOUT"; "EBADFD": the device was removed; "ECANCELED": it was closed
function Rx:wait(seconds)
  local tap = self.tap
  if tap.failed then return nil, tap.failed[1], tap.failed[2] end
  if tap.closed then error(("wait for %s: it is closed"):format(tap.name), 2) end
  local ok, message, code = tap.watch:readable(seconds)
  if code == "ETIMEDOUT" or code == "ECANCELED" or ok then return ok, message, code end
  fail(tap, "wait for", EBADFD) -- POLLERR: there is no other cause. (luv 1.44 itself says EBADF on standard error then.)
  return nil, tap.failed[1], tap.failed[2]
end

--- A TAP device's transmit queue: packets that the kernel receives.
---@class luio.net.TapTx
---@field tap luio.net.Tap
local Tx = {}
Tx.__index = Tx

--- Has the kernel receive packets. All of them are freed: frames that it does not take are dropped, and
--- counted.
---@param packets luio.Batch  from 0
---@param n integer
---@return integer given  n
function Tx:burst(packets, n)
  local tap = self.tap
  local fd, header, counts = tap.fd, tap.header, tap.counts
  if n > packets.capacity then error(("a burst of %d packets in a batch of %d"):format(n, packets.capacity), 2) end
  local given, bytes = 0, 0
  for i = 0, n - 1 do
    local packet = packets.at[i]
    local from, length = packet:pointer() - header, packet.length + header
    if packet.offset < header then error(("packet %d has no room for a header of %d bytes"):format(packet.number, header), 2) end
    if packet.checksum_start ~= 0 then M.sum(packet) end
    if header ~= 0 then
      local h = ffi.cast(header_t, from)
      h.word, h.csum_offset = 0, 0
    end
    local put = not tap.failed and not tap.closed and write(fd, from, length) or -1
    if put >= 0 then
      given, bytes = given + 1, bytes + length - header
    elseif tap.failed or tap.closed then
      counts.tx_down = counts.tx_down + 1
    else
      local code = ffi.errno()
      if code == EIO then
        counts.tx_down = counts.tx_down + 1
      else
        counts.tx_dropped = counts.tx_dropped + 1
        if code == EBADFD then fail(tap, "write", code) end
      end
    end
    packet:free()
  end
  counts.tx_packets, counts.tx_bytes = counts.tx_packets + given, counts.tx_bytes + bytes
  return n
end

--- As of a port; there is always room.
---@return true
function Tx:wait() return true end -- luacheck: ignore 212

--- As of a port: frees nothing, for nothing is kept.
---@return integer room
function Tx:reclaim() return 1 end -- luacheck: ignore 212

-- ---- The device ----------------------------------------------------------------------------------

--- Tells the kernel whether there is a link: without one it sends nothing, and routes lead elsewhere.
---@param up boolean
---@return true? ok
---@return string? message
---@return string? code
function Tap:carrier(up)
  local value = ffi.new("int[1]", up and 1 or 0)
  if posix.ioctl(self.fd, TUNSETCARRIER, value) < 0 then return failure("carrier of " .. self.name) end
  return true
end

--- tx_dropped of a network interface, as the kernel of this process's namespace counts it.
---@param name string
---@return integer?
function M.kernel_drops(name)
  for _, line in ipairs(sysfs.proc_lines "net/dev") do
    local who, rest = line:match "^%s*([^:%s]+):(.*)$"
    if who == name then
      local n = 0
      for number in rest:gmatch "%d+" do
        n = n + 1
        if n == 12 then return tonumber(number) end -- receive has 8 columns; then bytes, packets, errs, drop
      end
    end
  end
end

--- Counters since it was opened.
---@return luio.net.TapStats
function Tap:stats()
  local copy = {}
  for i = 1, #COUNTS do copy[COUNTS[i]] = self.counts[COUNTS[i]] end
  local drops = M.kernel_drops(self.name)
  copy.rx_dropped = drops and drops - (self.drops_before or 0)
  return copy
end

--- Closes it; one that was made here ends. Idempotent.
function Tap:close()
  if self.closed then return end
  self.closed = true
  if self.watch then self.watch:close() end
  if self.socket and self.socket >= 0 then posix.close(self.socket) end
  if self.fd then posix.close(self.fd) end
end

function Tap:__tostring()
  return ("TAP device %s %s%s"):format(self.name or "", self.mac or "", self.closed and ", closed" or "")
end

local OPTIONS = {
  pool = checks.needed {
    words = "a pool whose packets have 12 bytes of headroom",
    fits = function(value) return type(value) == "table" and value.headroom and value.headroom >= HEADER + 2 end,
  },
  name = "string", mtu = checks.whole(68, 65521), mac = { words = "a MAC address", fits = net.mac_bytes }, checksum = "boolean",
  queue = checks.whole(1, 2 ^ 31 - 1, "frames"), address = { words = "one like 10.0.0.1/24", fits = M.is_address }, up = "boolean",
}

local function check(options)
  local name, mtu = options.name, options.mtu
  local room = options.pool.size - options.pool.headroom
  if (mtu or 1500) + 18 > room then
    error(("tap.open: frames of mtu %d and 18 more bytes don't fit in packets of %d"):format(mtu or 1500, room), 3)
  end
  if name and (#name > 15 or not name:match "^[^/%s]+$") then
    return nil, ("%q can't be the name of a network device: 1 to 15 bytes, no blanks or slashes"):format(name), "EINVAL"
  end
  return true
end

--- Makes a TAP device, or takes one that is there, and sets it up.
---@param options luio.net.TapOptions
---@return luio.net.Tap?
---@return string? message
---@return string? code  "ENOENT" "ENODEV": the kernel has no TAP; "EPERM"; "EBUSY": taken; "EINVAL": the name
function M.open(options)
  options = checks.check("tap.open", options, OPTIONS)
  local ok, message, code = check(options)
  if not ok then return nil, message, code end
  local self = setmetatable({
    mtu = options.mtu or 1500, pool = options.pool, header = options.checksum and HEADER or 0, counts = counts_t(),
  }, Tap)
  self.most = math.min(self.mtu + 19, self.pool.size - self.pool.headroom + 2)
  ok, message, code = open_device(self, options)
  if ok then ok, message, code = configure(self, options) end
  if ok then
    self.watch, message, code = fd_watch.watch(self.fd)
    ok = self.watch
  end
  if not ok then
    self:close()
    return nil, message, code
  end
  self.drops_before = M.kernel_drops(self.name)
  self.rx, self.tx = { [0] = setmetatable({ tap = self }, Rx) }, { [0] = setmetatable({ tap = self }, Tx) }
  return self
end

return M
