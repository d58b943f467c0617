--- Filters: an expression as tcpdump's, compiled to a function that looks at a packet where it is.
---
---     local filter = require "luio.net.filter"
---     local f = assert(filter.compile "udp port 53 and not net 10.0.0.0/8")
---     if f.match(packet:pointer(), packet.length) then ...
---
--- libpcap compiles the expression, with its optimizer, for Ethernet (luio.net.filter.pcap). So the syntax is all of
--- pcap-filter(7), and a filter lets those packets through that `tcpdump EXPRESSION` does. The BPF program that comes out
--- becomes Lua source (luio.net.filter.translate), which LuaJIT compiles with the loop it is in. Nothing is copied,
--- nothing is allocated. A program that is too long for LuaJIT is interpreted by libpcap; one of a very long text
--- is not optimized, either.
---
--- A test of a byte that the packet does not have makes the whole filter false, even behind `not`. The length is the packet's:
--- there is no other, shorter one. `ip broadcast` needs the network's mask, which is not known here; `inbound` and
--- `outbound` need more than the packet's bytes. libpcap's message says so.
---
--- Names of hosts, networks, ports and protocols are looked up by the system's resolver, which may ask the network. The
--- look-up, and a long expression, run in a process of their own; the caller waits for it, 10 seconds at most.

local bit = require "bit"
local ffi = require "ffi"
local pcap = require "luio.net.filter.pcap"
local translate = require "luio.net.filter.translate"

local M = {}

local LONGEST = 16384 -- bytes
local MOST = 1000 -- instructions; LuaJIT leaves longer programs to its interpreter, which is slower than libpcap's

--- A compiled capture filter.
---@class luio.net.Filter
---@field text string
---@field source string?  the Lua it became; nil: libpcap interprets its program
---@field match fun(data: ffi.cdata*, length: integer): boolean  data: uint8_t *, so many bytes; unchecked

--- Compiles an expression. The empty one is matched by everything.
---@param text string
---@param seconds? number  for names, and for what takes libpcap long; 10
---@return luio.net.Filter?
---@return string? message  libpcap's, with the expression
---@return string? code     "EINVAL": libpcap refuses it; "E2BIG"; "ENOENT": there is no libpcap; "ETIMEDOUT"; "EAGAIN": no process
function M.compile(text, seconds)
  if type(text) ~= "string" then error("a filter is a string, not " .. type(text), 2) end
  if #text > LONGEST then return nil, ("a filter has at most %d bytes, this one %d"):format(LONGEST, #text), "E2BIG" end
  local program, message, code = pcap.compile(text, seconds or 10)
  if not program then
    return nil, ("filter %q: %s"):format(#text <= 200 and text or text:sub(1, 200) .. "...", message), code
  end
  local source = program.n <= MOST and translate.source(program)
  local chunk = source and loadstring(source, "=filter")
  if chunk then return { text = text, source = source, match = chunk(bit, ffi, math.floor) } end
  return { text = text, match = pcap.interpreter(program) }
end

return M
