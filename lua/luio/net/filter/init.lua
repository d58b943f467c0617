--- Filters: an expression as tcpdump's, compiled to a function that looks at a packet where it is.
---
---     local filter = require "luio.net.filter"
---     local f = assert(filter.compile "udp port 53 and not net 10.0.0.0/8")
---     if f.match(packet:pointer(), packet.length) then ...
---
--- The expression is parsed (parse), turned into tests of the packet's bytes (build), and these into Lua source (emit), which
--- is loaded once and which LuaJIT compiles with the loop it is in. Nothing is copied, nothing is allocated.
---
--- The syntax is a part of pcap-filter(7), on Ethernet, and means the same there and here:
---
---     [PROTO] [src|dst|src or dst|src and dst] [host|net|port|portrange] VALUE
---     host 10.0.0.1 or fe80::1    ether host 52:54:00:12:34:56    net 10.0.0.0/8    net 10.0 mask 255.255.0.0
---     tcp port 80 or 443          udp portrange 5000-5010         ip proto 47       ether proto 0x88cc    ip proto \tcp
---     ether ip ip6 arp rarp tcp udp sctp icmp icmp6 igmp ah esp pim vrrp       (PROTO; alone, all but ether)
---     [ether] broadcast           [ether|ip|ip6] multicast        vlan [N]
---     less N   greater N          (N included)
---     EXPR = != < <= > >= EXPR    of numbers, len, PROTO[offset], PROTO[offset:size], + - * / % & | ^ << >>
---     tcp[tcpflags] & (tcp-syn|tcp-fin) != 0      icmp[icmptype] = icmp-echo
---     and && or || not ! ( )      and and or bind alike, from left to right
---
--- Names of hosts, networks and ports are not looked up. `vlan` moves what is to the right of it behind the tag; a tag
--- that was not asked for hides what is behind it. Ports and tcp[...] are of first fragments, behind the IPv4 header's options;
--- IPv6's extension headers are not followed. A test of a byte that the packet does not have makes the whole filter
--- false, even behind `not`. Where libpcap's optimizer, which moves tests about, decides otherwise on such a cut packet,
--- it is as without that (tcpdump -O). The length is the packet's: there is no other, shorter one.

local bit = require "bit"
local emit = require "luio.net.filter.emit"
local ffi = require "ffi"
local parse = require "luio.net.filter.parse"
local scan = require "luio.net.filter.scan"

local M = {}

local LONGEST = 16384 -- bytes: beyond it LuaJIT's limits on jumps and labels come near

---@class luio.net.Filter
---@field text string
---@field source string   the Lua it became
---@field match fun(data: ffi.cdata*, length: integer): boolean  data: uint8_t *, so many bytes; unchecked

--- Compiles an expression. The empty one is matched by everything.
---@param text string
---@return luio.net.Filter?
---@return string? message  says where, and what was expected
---@return string? code     "EINVAL"; "E2BIG"
function M.compile(text)
  if type(text) ~= "string" then error("a filter is a string, not " .. type(text), 2) end
  if #text > LONGEST then return nil, ("a filter has at most %d bytes, this one %d"):format(LONGEST, #text), "E2BIG" end
  local source, message = scan.catch(function() return emit.source(parse.parse(text)) end)
  local shown = #text <= 200 and text or text:sub(1, 200) .. "..."
  if not source then return nil, ("filter %q: %s"):format(shown, message), "EINVAL" end
  local chunk, why = loadstring(source, "=filter")
  if not chunk then return nil, ("filter %q is too long for LuaJIT: %s"):format(shown, why), "E2BIG" end
  return { text = text, source = source, match = chunk(bit, ffi, math.floor) }
end

return M
