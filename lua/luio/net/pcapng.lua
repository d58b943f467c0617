--- Writes packets to a file that Wireshark, tshark and tcpdump read: pcapng (draft-ietf-opsawg-pcapng).
---
---     local file = assert(pcapng.create("x.pcapng", { name = "0000:00:05.0" }))     -- or pcapng.to(descriptor)
---     while true do
---       local n = port.rx[0]:burst(packets, 256)
---       file:stamp()                                        -- now
---       file:select(packets, n)                             -- no copy, nothing is written
---       assert(file:write())                                -- one writev(2) for all of them
---       packets:free(n)
---     end
---     assert(file:close { received = 10, missed = 0 })
---
--- The file is one section: its header, an interface, a block for each packet, and at the end a block of statistics.
---
--- Nothing is copied before the write: an array of iovecs, made once, has two entries for each packet, the packet's own
--- memory, and a piece of *glue*, which is the end of the block before (padding, total length) together with the head of the
--- next. So a burst of n packets is one system call of 2 n + 1 pieces. The packets stay their owner's, and must not
--- change until `write` has returned true.
---
--- Time stamps are taken once a burst, not once a packet: the devices stamp nothing, and Lua sees a frame only when it takes
--- the burst it is in. A clock read for each frame would measure Lua's speed.
---
--- `write` waits with a deadline for a descriptor that takes no more for now (a pipe with a slow reader). After the deadline the
--- rest of a burst stays pending, and the next `write` goes on in the middle of it. A full disk cuts the file back to its
--- last whole block, where that can be done.

local bit = require "bit"
local checks = require "luio.options"
local runtime = require "luio.ffi"
local ffi = require "ffi"
local posix = require "luio.posix"
local uv = require "luv"

local band, rshift = bit.band, bit.rshift

local M = {}

local writev, clock_gettime = posix.writev, posix.clock_gettime
local EINTR, EAGAIN = posix.EINTR, posix.EAGAIN
local CLOCK_REALTIME = 0
local O_NONBLOCK = posix.O_NONBLOCK
local O_WRONLY, O_CREAT, O_TRUNC = 1, 0x40, 0x200
local SIGPIPE, SIG_DFL, SIG_IGN = 13, ffi.cast("void *", 0), ffi.cast("void *", 1)
local SEEK_SET, SEEK_CUR = 0, 1

local SECTION, INTERFACE, STATISTICS, PACKET = 0x0a0d0d0a, 1, 5, 6
local ETHERNET = 1 -- LINKTYPE_ETHERNET
local MOST = 511 -- packets of one write: IOV_MAX is 1024, and 2 n + 1 pieces are needed

-- The head of an enhanced packet block, and what goes before it: the end of the one before.
local glues_t = ffi.typeof [[struct {
  uint8_t padding[4];        // zero
  int32_t total_before;
  int32_t type, total, interface, time_high, time_low, captured, length;
} [?] ]]
local BEFORE, HEAD, TAIL = 8, 28, 4 -- bytes: of glue before the head; of a block before its data, and behind the padding

-- Lasting state, in C: no garbage, and no pointer that lives across loops (luio.pool's opening).
local state_t = ffi.typeof [[struct {
  int32_t descriptor, snaplen, capacity;
  int32_t packets;           // in line
  int32_t next, pieces;      // of the write that is under way: the first that is left, and how many there are
  int32_t time_high, time_low;
  int64_t size, left;        // bytes: of the blocks in line, and not yet written of those, once that has begun
  int64_t whole;             // in the file
  double written, bytes;     // packets in the file; bytes of packets
  int64_t clock[2];
}]]
local pieces_t = ffi.typeof "struct { const uint8_t *base; int64_t length; }[?]"
local bytes_t = ffi.typeof "const uint8_t *"

--- Options of a capture file.
---@class luio.PcapngOptions
---@field name string?      of the interface
---@field description string?
---@field mac string?       6 bytes
---@field filter string?    the expression that chose the packets
---@field snaplen integer?  bytes that are kept of a packet, from 1; nil: all
---@field application string?  what writes; "luio"
---@field capacity integer? packets that fit between two writes, at most 511; 256
---@field patience number?  seconds that a write waits for a descriptor which takes nothing; 1

--- Counts that a capture file stores at its end.
---@class luio.PcapngStatistics
---@field received integer?  packets that the device received since the start, those it had to drop included
---@field missed integer?    dropped by the device for want of room
---@field accepted integer?  that the filter let through
---@field dropped integer?   dropped by the driver

--- A capture file that is being written.
---@class luio.Pcapng
---@field path string
---@field package s ffi.cdata*
---@field package glues ffi.cdata*
---@field package pieces ffi.cdata*
---@field package start integer?  where a file that can be cut begins
---@field package own integer?    a descriptor to be closed
---@field package restore integer? flags of one that is not ours
---@field package failed string?
local Pcapng = {}
Pcapng.__index = Pcapng

-- ---- Blocks --------------------------------------------------------------------------------------

local function u16(n) return string.char(n % 256, math.floor(n / 256) % 256) end
local function u32(n) return u16(n % 65536) .. u16(math.floor(n / 65536)) end
local function u64(n) return u32(n % 2 ^ 32) .. u32(math.floor(n / 2 ^ 32)) end
local function padded(bytes) return bytes .. ("\0"):rep(-#bytes % 4) end

local function option(code, bytes)
  if not bytes then return "" end
  bytes = bytes:sub(1, 65535)
  return u16(code) .. u16(#bytes) .. padded(bytes)
end

-- In the machine's own order, which the section's header tells.
local function block(kind, body)
  local total = #body + 12
  return u32(kind) .. u32(total) .. body .. u32(total)
end

local function heading(options)
  local system = uv.os_uname()
  local section = u32(0x1a2b3c4d) .. u16(1) .. u16(0) .. ("\255"):rep(8) -- version 1.0, length not told
    .. option(3, ("%s %s"):format(system.sysname, system.release)) .. option(4, options.application or "luio") .. option(0, "")
  local interface = u16(ETHERNET) .. u16(0) .. u32(options.snaplen or 0)
    .. option(2, options.name) .. option(3, options.description) .. option(6, options.mac) .. option(9, "\9") -- nanoseconds
    .. option(11, options.filter and "\0" .. options.filter) .. option(0, "")
  return block(SECTION, section) .. block(INTERFACE, interface)
end

local function failure(self, verb, number)
  return posix.failure(("%s %s"):format(verb, self.path), nil, number)
end

-- ---- Packets -------------------------------------------------------------------------------------

--- Takes the time that the packets to come are stamped with, until the next call.
function Pcapng:stamp()
  local s = self.s
  clock_gettime(CLOCK_REALTIME, s.clock)
  local time = s.clock[0] * 1000000000LL + s.clock[1]
  s.time_high, s.time_low = tonumber(rshift(time, 32)), ffi.cast("int32_t", band(time, 0xffffffffLL))
end

--- The time of the last stamp: nanoseconds since 1970.
---@return ffi.cdata*  int64_t
function Pcapng:time()
  return self.s.clock[0] * 1000000000LL + self.s.clock[1]
end

--- Puts a packet in line for the next write. It stays yours, and is to be left alone until that has said true.
---@param packet luio.Packet
function Pcapng:add(packet)
  local s = self.s
  local k = s.packets
  if s.left > 0 then error("packets of before are still being written: write() first", 2) end
  if k >= s.capacity then error(("%d packets are in line, there is no room for more: write() first"):format(k), 2) end
  local data, length = packet:pointer(), packet.length
  local captured = length
  if captured > s.snaplen then captured = s.snaplen end
  local padding = band(-captured, 3)
  local total = HEAD + captured + padding + TAIL
  local glue, after, pieces = self.glues[k], self.glues[k + 1], self.pieces
  glue.total, glue.time_high, glue.time_low, glue.captured, glue.length = total, s.time_high, s.time_low, captured, length
  after.total_before = total
  if k == 0 then
    pieces[0].base, pieces[0].length = ffi.cast(bytes_t, glue) + BEFORE, HEAD
    s.size = 0
  else -- it is there with the end of the block before
    pieces[2 * k].length = pieces[2 * k].length + HEAD
  end
  pieces[2 * k + 1].base, pieces[2 * k + 1].length = data, captured
  pieces[2 * k + 2].base, pieces[2 * k + 2].length = ffi.cast(bytes_t, after) + (BEFORE - TAIL - padding), padding + TAIL
  s.packets, s.size, s.bytes = k + 1, s.size + total, s.bytes + captured
end

--- Puts those of a burst in line that a filter lets through.
---@param packets luio.Batch
---@param n integer
---@param match? fun(data: ffi.cdata*, length: integer): boolean  of luio.net.filter; nil: all
---@param most? integer  at most so many; nil: all
---@return integer added
function Pcapng:select(packets, n, match, most)
  local before = self.s.packets
  local stop = before + (most or n)
  for k = 0, n - 1 do
    local packet = packets.at[k]
    if not match or match(packet:pointer(), packet.length) then
      if self.s.packets >= stop then break end
      self:add(packet)
    end
  end
  return self.s.packets - before
end

-- Counts the first `n` pending bytes as written.
local function advance(s, pieces, n)
  s.left = s.left - n
  if s.left == 0 then return end
  local i = s.next
  while n > 0 and n >= pieces[i].length do
    n = n - tonumber(pieces[i].length)
    i = i + 1
  end
  if n > 0 then
    pieces[i].base = pieces[i].base + n
    pieces[i].length = pieces[i].length - n
  end
  s.next = i
end

-- Waits until the descriptor takes something, or has an error to tell; false: not in time.
local function wait(self, deadline)
  local one = self.watched
  one.fd, one.events = self.s.descriptor, posix.POLLOUT
  while true do
    local left = deadline - runtime.now()
    if left <= 0 then return false end
    if posix.poll(one, 1, math.ceil(left * 1000)) > 0 then return true end -- else interrupted, or too late
  end
end

-- How many of the packets in line are in the file whole, and the bytes of their blocks.
local function whole(self)
  local s, bytes = self.s, 0
  local done = s.size - s.left
  for k = 0, s.packets - 1 do
    local total = self.glues[k + 1].total_before
    if bytes + total > done then return k, bytes end
    bytes = bytes + total
  end
  return s.packets, bytes
end

-- It can't be written: a file ends with its last whole block then.
local function give_up(self, number)
  local s = self.s
  local _, message, code = failure(self, "write", number)
  local packets, bytes = whole(self)
  s.written, s.whole = s.written + packets, s.whole + bytes
  s.packets, s.left = 0, 0
  if self.start and s.whole > 0 then self.cut = uv.fs_ftruncate(s.descriptor, self.start + tonumber(s.whole)) end
  if self.cut then
    posix.lseek(s.descriptor, self.start + s.whole, SEEK_SET)
    message = message .. "; the file ends with its last whole packet"
  end
  self.failed, self.code = message, code
  return nil, message, code
end

-- Writes the rest.
local function push(self, patience)
  local s, pieces, deadline = self.s, self.pieces, nil
  while s.left > 0 do
    local n = writev(s.descriptor, pieces + s.next, s.pieces - s.next)
    if n > 0 then
      advance(s, pieces, n)
      deadline = nil
    else
      local number = n < 0 and ffi.errno() or EAGAIN
      if number == EAGAIN then
        deadline = deadline or runtime.now() + patience
        if not wait(self, deadline) then
          return nil, ("write %s: who reads it took nothing for %g s"):format(self.path, patience), "EAGAIN"
        end
      elseif number ~= EINTR then
        return give_up(self, number)
      end
    end
  end
  s.written, s.whole = s.written + s.packets, s.whole + s.size
  s.packets = 0
  return true
end

local function write_text(self, bytes)
  local s = self.s
  self.text = bytes -- kept from the collector while it is written
  self.pieces[0].base, self.pieces[0].length = ffi.cast(bytes_t, bytes), #bytes
  s.next, s.pieces, s.size, s.left = 0, 1, #bytes, #bytes
  return push(self, self.patience)
end

--- Writes the packets in line. After "EAGAIN" the rest is still to be written: call it again before they are freed.
--- It holds up everything else while it writes or waits: this is one thread.
---@param patience? number  seconds to wait for a descriptor that takes nothing; else that of the options
---@return true? ok
---@return string? message
---@return string? code  "EAGAIN": not in time; "EPIPE": there is no reader any more; "ENOSPC" and others. After any but EAGAIN
---  nothing waits any more, and every further write fails the same way
function Pcapng:write(patience)
  local s = self.s
  if self.failed then
    s.packets = 0
    return nil, self.failed, self.code
  end
  if s.packets == 0 then return true end
  if s.left == 0 then s.next, s.pieces, s.left = 0, 2 * s.packets + 1, s.size end
  return push(self, patience or self.patience)
end

--- Packets that are in the file, and bytes of them.
---@return integer packets
---@return integer bytes    without those that wait
function Pcapng:written()
  return self.s.written, self.s.bytes
end

-- ---- The end -------------------------------------------------------------------------------------

-- A pipe without a reader gives EPIPE, not a signal that ends the program. The signal is ignored while a file is open
-- that needs it, unless the program handles it.
local hushed = 0

local function hush(self)
  if hushed == 0 then
    local before = posix.signal(SIGPIPE, SIG_IGN)
    if before ~= SIG_DFL then
      posix.signal(SIGPIPE, before)
      return
    end
  end
  hushed, self.hushed = hushed + 1, true
end

local function release(self)
  if self.hushed then
    hushed = hushed - 1
    if hushed == 0 then posix.signal(SIGPIPE, SIG_DFL) end
    self.hushed = nil
  end
  if self.restore then posix.fcntl(self.s.descriptor, posix.F_SETFL, self.restore) end
  local ok, message, code = true, nil, nil
  if self.own then
    -- Written data are in memory; an error of the disk shows here. Pipes and the like have no such thing.
    local synced, why, number = uv.fs_fsync(self.own)
    ok, message, code = uv.fs_close(self.own)
    if not synced and number ~= "EINVAL" then ok, message, code = nil, why, number end
  end
  self.own, self.restore, self.closed = nil, nil, true
  return ok, message, code
end

local function statistics(self, counts)
  local function stamp(time) return u32(tonumber(rshift(time, 32))) .. u32(tonumber(band(time, 0xffffffffLL))) end
  local function count(n) return n and u64(n) end
  self:stamp()
  local now = stamp(self:time())
  return block(STATISTICS, u32(0) .. now .. option(2, stamp(self.began)) .. option(3, now) .. option(4, count(counts.received))
    .. option(5, count(counts.missed)) .. option(6, count(counts.accepted)) .. option(7, count(counts.dropped))
    .. option(8, count(self.s.written)) .. option(0, ""))
end

--- Writes what waits and the statistics, and closes the file, if it was made by `create`. Idempotent.
---@param counts? luio.PcapngStatistics
---@return true? ok
---@return string? message  also when a write has failed before
---@return string? code
function Pcapng:close(counts)
  if self.closed then return true end
  local ok, message, code = self:write()
  if ok or self.cut then
    self.failed = nil
    local s = self.s
    local done, why, number = write_text(self, statistics(self, counts or {}))
    if ok then ok, message, code = done, why, number end
    s.left = 0
  end
  local closed, why, number = release(self)
  if not closed and ok then return nil, ("close %s: %s"):format(self.path, why), number end
  return ok, message, code
end

-- ---- Opening -------------------------------------------------------------------------------------

-- A file's offset now, or nil: no file that can be cut.
local function offset_of(descriptor)
  local stat = uv.fs_fstat(descriptor)
  if not stat or stat.type ~= "file" then return nil end
  local offset = tonumber(posix.lseek(descriptor, 0, SEEK_CUR))
  return offset >= 0 and offset or nil
end

-- Makes writes return instead of waiting. A pipe is opened once more for that: the flag belongs to the open file, which
-- others may share. Where that can't be done it is set, and taken back by close.
local function unblock(self, descriptor)
  local flags = posix.fcntl(descriptor, posix.F_GETFL, 0)
  if flags < 0 then return nil, ffi.errno() end
  if band(flags, O_NONBLOCK) ~= 0 then return descriptor end
  local again = uv.fs_open("/proc/self/fd/" .. descriptor, O_WRONLY + O_NONBLOCK, 0)
  if again then
    self.own = again
    return again
  end
  if posix.fcntl(descriptor, posix.F_SETFL, flags + O_NONBLOCK) == 0 then self.restore = flags end
  return descriptor
end

local OPTIONS = {
  name = "string", description = "string", mac = "string", filter = "string", snaplen = checks.whole(1, 2 ^ 31 - 1, "bytes"),
  application = "string", capacity = checks.whole(1, MOST, "packets"), patience = "number",
}

local function new(descriptor, path, options)
  local capacity = options.capacity or 256
  local self = setmetatable({
    path = path, patience = options.patience or 1, start = offset_of(descriptor),
    s = state_t(), glues = glues_t(capacity + 1), pieces = pieces_t(2 * capacity + 1), watched = posix.pollfd(),
  }, Pcapng)
  local s = self.s
  s.capacity, s.snaplen = capacity, options.snaplen or 2 ^ 31 - 1
  s.descriptor = descriptor
  if not self.start then
    local usable, number = unblock(self, descriptor)
    if not usable then return failure(self, "write", number) end
    s.descriptor = usable
    hush(self)
  end
  for i = 0, capacity do self.glues[i].type = PACKET end
  self:stamp()
  self.began = self:time()
  local ok, message, code = write_text(self, heading(options))
  if not ok then
    release(self)
    return nil, message, code
  end
  return self
end

--- Writes to a descriptor that is open already; it stays the caller's, and is not closed.
---@param descriptor integer
---@param options? luio.PcapngOptions
---@return luio.Pcapng?
---@return string? message
---@return string? code
function M.to(descriptor, options)
  options = checks.check("pcapng.to", options, OPTIONS)
  return new(descriptor, descriptor == 1 and "standard output" or "descriptor " .. descriptor, options)
end

--- Makes a file, or empties it.
---@param path string
---@param options? luio.PcapngOptions
---@return luio.Pcapng?
---@return string? message
---@return string? code  "ENOENT" "EACCES" "ENOSPC" ...
function M.create(path, options)
  options = checks.check("pcapng.create", options, OPTIONS)
  -- A named pipe's reader is not waited for: that would be without end.
  local descriptor, message, code = uv.fs_open(path, O_WRONLY + O_CREAT + O_TRUNC + O_NONBLOCK, 420) -- 0644
  if not descriptor then
    return nil, ("write %s%s"):format(message, code == "ENXIO" and ": the pipe has no reader" or ""), code
  end
  local self
  self, message, code = new(descriptor, path, options)
  if not self then
    uv.fs_close(descriptor)
    return nil, message, code
  end
  self.own = descriptor
  return self
end

return M
