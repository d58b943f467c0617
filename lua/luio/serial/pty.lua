--- A pseudo-terminal. picocom, minicom or a program of one's own opens it in the place of /dev/ttyS0; luio is at the other end.
---
---     local pty = assert(require("luio.serial.pty").open { line = port.settings, link = "/run/ttyV0" })
---     print(pty.path)                          -- /dev/pts/4
---
--- Only `readable` and `writable` wait. A client is a process that has the terminal open. poll() reports the lack of one
--- (POLLHUP), but does not wake up when one comes, so a wait for a client polls now and then.
---
--- A client's settings are seen in packet mode (TIOCPKT) with EXTPROC: a read reports a change. That holds for
--- speed, stop bits and flow control. The kernel keeps word length and parity of a pseudo-terminal at 8 and none, drops
--- a break, and has no modem lines for it.

local bit = require "bit"
local fd_watch = require "luio.loop.fd_watch"
local ffi = require "ffi"
local posix = require "luio.posix"
local termios = require "luio.serial.termios"
local uv = require "luv"

local M = {}

local F_DUPFD_CLOEXEC = 1030
local TIOCSPTLCK, TIOCGPTN, TIOCPKT = 0x40045431, 0x80045430, 0x5420
local PACKET_IOCTL = 0x40 -- TIOCPKT_IOCTL
local POLLIN, POLLHUP = posix.POLLIN, posix.POLLHUP
local EIO, EAGAIN, EINTR = posix.EIO, posix.EAGAIN, posix.EINTR
local MOST = 4096

local failure = posix.failure
local int1 = ffi.typeof "int[1]"

--- A pseudo-terminal.
---@class luio.serial.Pty
---@field path string   "/dev/pts/4"
---@field link string?
local Pty = {}
Pty.__index = Pty

local function flags(...) return bit.bor(posix.O_RDWR, posix.O_NOCTTY, posix.O_CLOEXEC, ...) end

-- A name that stays the same; one that is there already is replaced if it is a link.
local function make_link(self, link)
  local there = uv.fs_lstat(link)
  if there and there.type ~= "link" then return nil, ("link %s: it is there, and no link"):format(link), "EEXIST" end
  if there then uv.fs_unlink(link) end
  local ok, message, code = uv.fs_symlink(self.path, link)
  if not ok then return nil, ("link %s: %s"):format(link, message), code end
  self.link = link
  return true
end

local function set_up(self, options)
  if posix.ioctl(self.fd, TIOCSPTLCK, int1(0)) < 0 then return failure "unlock a pseudo-terminal" end
  local number = int1()
  if posix.ioctl(self.fd, TIOCGPTN, number) < 0 then return failure "number of a pseudo-terminal" end
  self.path = "/dev/pts/" .. number[0]
  if posix.ioctl(self.fd, TIOCPKT, int1(1)) < 0 then return failure "packet mode of a pseudo-terminal" end
  local t, message, code = termios.get(self.fd)
  if not t then return nil, message, code end
  t = termios.raw(t)
  termios.external(t)
  termios.put_line(t, options.line)
  local ok
  ok, message, code = termios.set(self.fd, t)
  if not ok then return nil, message, code end
  -- Opened and closed once: from then on the kernel says that there is no client.
  local once = posix.open(self.path, flags())
  if once < 0 then return failure("open " .. self.path, "is /dev/pts mounted?") end
  posix.close(once)
  while posix.read(self.fd, self.buffer, MOST + 1) > 0 do end -- that we have set it ourselves is no news
  self.out = posix.fcntl(self.fd, F_DUPFD_CLOEXEC, 0)
  if self.out < 0 then return failure "a second descriptor of a pseudo-terminal" end
  self.reads, message, code = fd_watch.watch(self.fd)
  if not self.reads then return nil, message, code end
  self.writes, message, code = fd_watch.watch(self.out, "w")
  if not self.writes then return nil, message, code end
  if options.link then return make_link(self, options.link) end
  return true
end

--- Makes one. The caller closes it.
---@param options { line: luio.serial.Settings, link: string? }  what clients find it set to; a symbolic link to it
---@return luio.serial.Pty?
---@return string? message
---@return string? code
function M.open(options)
  local fd = posix.open("/dev/ptmx", flags(posix.O_NONBLOCK))
  if fd < 0 then return failure("open /dev/ptmx", "is /dev/pts mounted?") end
  local self = setmetatable({ fd = fd, out = -1, buffer = ffi.new("uint8_t[?]", MOST + 1), poll = posix.pollfd() }, Pty)
  local ok, message, code = set_up(self, options)
  if ok then return self end
  self:close()
  return nil, message, code
end

--- Whether a client has it open; or has had it, and what it wrote or set was not read yet.
---@return boolean
function Pty:connected()
  local p = self.poll
  p.fd, p.events, p.revents = self.fd, POLLIN, 0
  posix.poll(p, 1, 0)
  return bit.band(p.revents, POLLHUP) == 0 or bit.band(p.revents, POLLIN) ~= 0
end

--- Takes bytes that a client has written.
---@return string? text     "": nothing; nil: there is no client
---@return boolean changed  it has changed the settings
function Pty:read()
  local n
  repeat n = posix.read(self.fd, self.buffer, MOST + 1) until n >= 0 or ffi.errno() ~= EINTR
  if n < 0 then
    if ffi.errno() == EAGAIN then return "", false end
    return nil, false -- EIO: hung up
  end
  if n == 0 then return nil, false end
  local control = self.buffer[0]
  if control ~= 0 then return "", bit.band(control, PACKET_IOCTL) ~= 0 end
  return ffi.string(self.buffer + 1, n - 1), false
end

--- Gives a client as much of a text as the kernel has room for.
---@param text string
---@param from integer  its first byte, from 0
---@return integer? n   0: no room now; nil: there is no client
function Pty:write(text, from)
  local n
  repeat
    n = posix.write(self.out, ffi.cast("const char *", text) + from, #text - from)
  until n >= 0 or ffi.errno() ~= EINTR
  if n >= 0 then return n end
  local code = ffi.errno()
  if code == EAGAIN then return 0 end
  return code ~= EIO and 0 or nil
end

--- The settings that the client wants (luio.serial.termios). Arms the report of the next change.
---@return { baud: integer, stop: integer, flow: string }? line
---@return boolean|string hang_up
function Pty:line()
  local t, message = termios.get(self.fd)
  if not t then return nil, message end
  local line, hang_up = termios.line(t)
  if termios.external(t) then termios.set(self.fd, t) end
  return line, hang_up
end

--- Waits until there is something to read, or the client has gone.
---@param seconds number
---@return true? ok
---@return string? message
---@return string? code  "ETIMEDOUT"
function Pty:readable(seconds) return self.reads:readable(seconds) end

--- Waits until there is room.
---@param seconds number
---@return true? ok
---@return string? message
---@return string? code  "ETIMEDOUT"
function Pty:writable(seconds) return self.writes:readable(seconds) end

--- Ends it; a client gets EIO. Idempotent.
function Pty:close()
  for _, watch in ipairs { "reads", "writes" } do
    if self[watch] then self[watch]:close() end
    self[watch] = nil
  end
  if self.link and uv.fs_readlink(self.link) == self.path then uv.fs_unlink(self.link) end
  self.link = nil
  for _, fd in ipairs { "fd", "out" } do
    if self[fd] >= 0 then posix.close(self[fd]) end
    self[fd] = -1
  end
end

return M
