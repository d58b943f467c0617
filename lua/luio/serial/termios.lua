--- The settings of the kernel's terminals, as numbers: TCGETS2 and TCSETS2 (asm-generic/termbits.h, x86 and arm64 alike), which
--- say the speed in bits a second.

local bit = require "bit"
local ffi = require "ffi"
local posix = require "luio.posix"

local band, bor, bnot = bit.band, bit.bor, bit.bnot

local M = {}

local TCGETS2, TCSETS2 = 0x802c542a, 0x402c542b

local termios_t = ffi.typeof [[struct {
  uint32_t c_iflag, c_oflag, c_cflag, c_lflag;
  uint8_t c_line, c_cc[19];
  uint32_t c_ispeed, c_ospeed;
}]]

-- asm-generic/termbits.h
local IGNBRK, BRKINT, PARMRK, ISTRIP, INLCR, IGNCR, ICRNL, IXON, IXOFF = 1, 2, 8, 0x20, 0x40, 0x80, 0x100, 0x400, 0x1000
local OPOST = 1
local CBAUD, CSTOPB, HUPCL, CRTSCTS, BOTHER = 0x100f, 0x40, 0x400, 0x80000000, 0x1000
local ISIG, ICANON, ECHO, ECHONL, IEXTEN, EXTPROC = 1, 2, 8, 0x40, 0x8000, 0x10000
local VTIME, VMIN = 5, 6

--- Reads them.
---@param fd integer  of a terminal, or of a pseudo-terminal's master: then it is the other side's
---@return ffi.cdata*? termios
---@return string? message
---@return string? code
function M.get(fd)
  local t = termios_t()
  if posix.ioctl(fd, TCGETS2, t) < 0 then return posix.failure "settings of a terminal" end
  return t
end

--- Sets them.
---@param fd integer
---@param t ffi.cdata*
---@return true? ok
---@return string? message
---@return string? code
function M.set(fd, t)
  if posix.ioctl(fd, TCSETS2, t) < 0 then return posix.failure "set a terminal" end
  return true
end

--- The same with every byte handed on as it is.
---@param t ffi.cdata*
---@return ffi.cdata*
function M.raw(t)
  local r = termios_t(t)
  r.c_iflag = band(r.c_iflag, bnot(bor(IGNBRK, BRKINT, PARMRK, ISTRIP, INLCR, IGNCR, ICRNL, IXON, IXOFF)))
  r.c_oflag = band(r.c_oflag, bnot(OPOST))
  r.c_lflag = band(r.c_lflag, bnot(bor(ISIG, ICANON, ECHO, ECHONL, IEXTEN)))
  r.c_cc[VMIN], r.c_cc[VTIME] = 1, 0
  return r
end

--- Has the kernel leave everything to the master, and tell it when the settings change. Clients may take that back, so it
--- is set again whenever they did.
---@param t ffi.cdata*
---@return boolean changed
function M.external(t)
  if band(t.c_lflag, EXTPROC) ~= 0 then return false end
  t.c_lflag = bor(t.c_lflag, EXTPROC)
  return true
end

--- The settings that a client wants. Word length and parity are not among it: a pseudo-terminal has eight bits and no
--- parity, whatever is asked for (Linux: pty_set_termios).
---@param t ffi.cdata*
---@return { baud: integer, stop: integer, flow: string } line  baud 0: hang up
---@return boolean hang_up  DTR is to go off with the last client
function M.line(t)
  local flow = band(t.c_cflag, CRTSCTS) ~= 0 and "rts/cts" or band(t.c_iflag, bor(IXON, IXOFF)) ~= 0 and "xon/xoff" or "none"
  return { baud = t.c_ospeed, stop = band(t.c_cflag, CSTOPB) ~= 0 and 2 or 1, flow = flow }, band(t.c_cflag, HUPCL) ~= 0
end

--- Puts a line's settings in.
---@param t ffi.cdata*
---@param line luio.serial.Settings
function M.put_line(t, line)
  t.c_cflag = bor(band(t.c_cflag, bnot(bor(CBAUD, CSTOPB, CRTSCTS))), BOTHER, HUPCL, line.stop > 1 and CSTOPB or 0,
    line.flow == "rts/cts" and CRTSCTS or 0)
  t.c_ispeed, t.c_ospeed = line.baud, line.baud
  t.c_iflag = bor(band(t.c_iflag, bnot(bor(IXON, IXOFF))), line.flow == "xon/xoff" and bor(IXON, IXOFF) or 0)
end

return M
