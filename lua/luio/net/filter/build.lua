--- The meaning of a filter's primitives on Ethernet: trees of tests, in libpcap's order.
---
--- A *block* is true or false: { op = "and"|"or", a, b }, { op = "not", a }, or a test. A test loads bytes from the packet and
--- compares them; a load outside of the packet makes the whole filter false, as in BPF, so the order of tests is
--- part of what they mean, and is libpcap's.
---
--- `vlan` moves everything that is written to the right of it four bytes on, whatever parentheses and operators are
--- between. That is how libpcap does it, and `shift` of the context is where it is kept.

local bit = require "bit"
local scan = require "luio.net.filter.scan"

local fail = scan.fail

local M = {}

local ETHER = { ip = 0x0800, arp = 0x0806, rarp = 0x8035, ip6 = 0x86dd, [1] = 0x8100, [2] = 0x88a8, [3] = 0x9100 }
local PROTOCOL = { icmp = 1, igmp = 2, tcp = 6, udp = 17, esp = 50, ah = 51, icmp6 = 58, pim = 103, vrrp = 112, sctp = 132 }
-- As /etc/protocols and libpcap have them, for \\tcp.
local NAMED = {
  icmp = 1, igmp = 2, tcp = 6, udp = 17, gre = 47, esp = 50, ah = 51, ["ipv6-icmp"] = 58, ospf = 89, pim = 103, vrrp = 112, sctp = 132,
}
local FRAGMENT = 44
-- SAPs and types of 802.3 and SNAP frames that libpcap looks for in ways of their own.
local ELSEWHERE = { [0xfe] = true, [0xf0] = true, [0xe0] = true, [0x809b] = true, [0x80f3] = true, [0x8137] = true }

--- Names of protocols that begin a primitive.
M.PROTOCOLS = {
  ether = "ether", link = "ether", ip = "ip", ip6 = "ip6", arp = "arp", rarp = "rarp", tcp = "tcp", udp = "udp", sctp = "sctp",
  icmp = "icmp", icmp6 = "icmp6", igmp = "igmp", ah = "ah", esp = "esp", pim = "pim", vrrp = "vrrp",
}

-- ---- Tests ---------------------------------------------------------------------------------------

---@class luio.net.FilterContext
---@field shift integer  bytes of VLAN tags that were asked for so far

local function both(a, b) return { op = "and", a, b } end
local function either(a, b) return { op = "or", a, b } end
local function negation(a) return { op = "not", a } end
M.both, M.either, M.negation = both, either, negation

-- behind_ip: the offset is from the end of the IPv4 header that begins there.
local function test(op, size, offset, value, mask, behind_ip)
  return { op = op, size = size, offset = offset, value = value, mask = mask, behind_ip = behind_ip }
end

local function payload(cx, offset) return 14 + cx.shift + offset end

local function ether_type(cx, value) return test("=", 2, 12 + cx.shift, value) end

-- By number: below 1501 it is an 802.3 frame's length, and the number is looked for as its DSAP.
local function ether_proto(cx, value, token)
  if ELSEWHERE[value] then fail(token, "frames of that protocol are not known here") end
  if value > 1500 then return ether_type(cx, value) end
  return both(negation(test(">", 2, 12 + cx.shift, 1500)), test("=", 1, payload(cx, 0), value))
end

local function ip_proto(cx, value) return both(ether_type(cx, ETHER.ip), test("=", 1, payload(cx, 9), value)) end

-- A fragment's header may stand before that of the protocol.
local function ip6_proto(cx, value)
  return both(ether_type(cx, ETHER.ip6), either(test("=", 1, payload(cx, 6), value),
    both(test("=", 1, payload(cx, 6), FRAGMENT), test("=", 1, payload(cx, 40), value))))
end

-- The first fragment, or the only one.
local function first_fragment(cx) return negation(test("&", 2, payload(cx, 6), 0x1fff)) end

--- A protocol's name alone.
---@param cx luio.net.FilterContext
---@param name string
---@param token luio.net.FilterToken
function M.protocol(cx, name, token)
  if ETHER[name] then return ether_type(cx, ETHER[name]) end
  if name == "icmp" or name == "igmp" or name == "vrrp" then return ip_proto(cx, PROTOCOL[name]) end
  if name == "icmp6" then return ip6_proto(cx, PROTOCOL[name]) end
  if PROTOCOL[name] then return either(ip_proto(cx, PROTOCOL[name]), ip6_proto(cx, PROTOCOL[name])) end
  fail(token, "every frame is of that; a qualifier such as host, src, proto was expected after it")
end

-- ---- Values with qualifiers ----------------------------------------------------------------------

---@class luio.net.FilterQualifiers
---@field proto string?  of M.PROTOCOLS
---@field dir "src"|"dst"|"and"|"or"|nil
---@field kind "host"|"net"|"port"|"portrange"|"proto"|nil

-- `make` for source, destination, both, or either of them.
local function directed(dir, make)
  if dir == "src" or dir == "dst" then return make(dir) end
  return (dir == "and" and both or either)(make "src", make "dst")
end

local ADDRESSES = { ip = { src = 12, dst = 16 }, arp = { src = 14, dst = 24 }, rarp = { src = 14, dst = 24 } }

local function host4(cx, q, address, mask, token)
  if not q.proto then
    local function of(proto) return host4(cx, { proto = proto, dir = q.dir }, address, mask, token) end
    return either(either(of "ip", of "arp"), of "rarp")
  end
  local places = ADDRESSES[q.proto]
  if not places then fail(token, ("%s has no IPv4 addresses; ip, arp or rarp was expected before it"):format(q.proto)) end
  local function has(dir)
    return both(ether_type(cx, ETHER[q.proto]), test("=", 4, payload(cx, places[dir]), address, mask))
  end
  return directed(q.dir, has)
end

local function host6(cx, q, words, masks, token)
  if q.proto and q.proto ~= "ip6" then fail(token, ("%s has no IPv6 addresses; ip6 was expected before it"):format(q.proto)) end
  return directed(q.dir, function(dir)
    local block, at = ether_type(cx, ETHER.ip6), payload(cx, dir == "src" and 8 or 24)
    for i = 1, 4 do block = both(block, test("=", 4, at + 4 * (i - 1), words[i], masks[i])) end
    return block
  end)
end

local function ether_host(q, bytes, token)
  if q.proto ~= "ether" or q.kind and q.kind ~= "host" then
    fail(token, "ether host, ether src or ether dst was expected before a MAC address")
  end
  return directed(q.dir, function(dir)
    local at = dir == "src" and 6 or 0
    local word = ((bytes[3] * 256 + bytes[4]) * 256 + bytes[5]) * 256 + bytes[6]
    return both(test("=", 4, at + 2, word), test("=", 2, at, bytes[1] * 256 + bytes[2]))
  end)
end

-- Ports from `low` to `high`; without high just the one.
local function ports(cx, q, low, high, token)
  if q.proto and q.proto ~= "tcp" and q.proto ~= "udp" and q.proto ~= "sctp" then
    fail(token, ("%s has no ports; tcp, udp or sctp was expected before %s"):format(q.proto, q.kind))
  end
  for _, port in ipairs { low, high or low } do
    if port > 65535 then fail(token, "a port is 0 to 65535") end
  end
  if high and low > high then low, high = high, low end
  local function port(offset, behind_ip)
    if not high then return test("=", 2, offset, low, nil, behind_ip) end
    return both(test(">=", 2, offset, low, nil, behind_ip), negation(test(">", 2, offset, high, nil, behind_ip)))
  end
  local function ip6(proto)
    return both(test("=", 1, payload(cx, 6), PROTOCOL[proto]),
      directed(q.dir, function(dir) return port(payload(cx, dir == "src" and 40 or 42)) end))
  end
  local function ip(proto)
    return both(both(test("=", 1, payload(cx, 9), PROTOCOL[proto]), first_fragment(cx)),
      directed(q.dir, function(dir) return port(payload(cx, dir == "src" and 0 or 2), payload(cx, 0)) end))
  end
  local function any(of)
    if q.proto then return of(q.proto) end
    return either(of "sctp", either(of "tcp", of "udp"))
  end
  return either(both(ether_type(cx, ETHER.ip6), any(ip6)), both(ether_type(cx, ETHER.ip), any(ip)))
end

local function proto(cx, q, value, token)
  if q.proto == "ether" then return ether_proto(cx, value, token) end
  if q.proto == "ip" then return ip_proto(cx, value) end
  if q.proto == "ip6" then return ip6_proto(cx, value) end
  if not q.proto then return either(ip_proto(cx, value), ip6_proto(cx, value)) end
  fail(token, ("%s carries no protocols; ether, ip or ip6 was expected before proto"):format(q.proto))
end

local function ones(n) return n == 0 and 0 or 2 ^ 32 - 2 ^ (32 - n) end

local function without(address, mask) return bit.band(address, bit.bnot(mask)) == 0 end

-- One to four numbers as the front of an address.
local function number4(parts)
  local address = 0
  for i = 1, 4 do address = address * 256 + (parts[i] or 0) end
  return address
end

local function only_net(q, token)
  if q.kind ~= "net" then fail(token, "a mask is for networks: net was expected before it") end
end

--- A value with what stands before it.
---@param cx luio.net.FilterContext
---@param q luio.net.FilterQualifiers
---@param token luio.net.FilterToken
---@param length luio.net.FilterToken?  the number behind /
---@param netmask luio.net.FilterToken?  the address behind `mask`
function M.value(cx, q, token, length, netmask)
  local kind, value = q.kind, token.value
  local function expected(what)
    fail(token, ("%s was expected after %s"):format(what, kind or q.dir or q.proto))
  end
  if token.kind == "mac" then return ether_host(q, value, token) end
  if kind == "port" then
    if token.kind ~= "number" then expected "a port's number (names are not looked up)" end
    return ports(cx, q, value, nil, token)
  elseif kind == "portrange" then
    if token.kind == "number" then return ports(cx, q, value, value, token) end
    local low, high = token.text:match "^(%d+)%-(%d+)$"
    if not low then expected "a range of ports, 80-90," end
    return ports(cx, q, tonumber(low, 10), tonumber(high, 10), token)
  elseif kind == "proto" then
    if token.kind == "number" then return proto(cx, q, value, token) end
    local known = token.kind == "escaped" and (q.proto == "ether" and ETHER or NAMED)[token.text]
    if not known then expected "a protocol's number, or a name as \\tcp," end
    return proto(cx, q, known, token)
  end
  if q.proto == "ether" then expected "a MAC address" end
  if token.kind == "number" then -- net 10 is 10.0.0.0/8; host 16909060 is 1.2.3.4
    local mask = 2 ^ 32 - 1
    if kind == "net" then
      while value > 0 and value < 2 ^ 24 do value, mask = value * 256, mask * 256 % 2 ^ 32 end
    end
    return host4(cx, q, value, mask, token)
  elseif token.kind == "ipv4" then
    local address, mask = number4(value), ones(8 * #value)
    if length or netmask then
      only_net(q, length or netmask)
      if netmask then
        mask = number4(netmask.value)
      else
        if length.value > 32 then fail(length, "a prefix of up to 32 bits was expected") end
        mask = ones(length.value)
      end
      if not without(address, mask) then fail(token, "a network's address was expected: it has bits outside of the mask") end
    end
    return host4(cx, q, address, mask, token)
  elseif token.kind == "ipv6" then
    local bits, masks = length and length.value or 128, {}
    if bits > 128 then fail(length, "a prefix of up to 128 bits was expected") end
    if bits < 128 then only_net(q, length) end
    for i = 1, 4 do
      masks[i] = ones(math.max(0, math.min(32, bits - 32 * (i - 1))))
      if not without(value[i], masks[i]) then fail(token, "a network's address was expected: it has bits outside of the mask") end
    end
    return host6(cx, q, value, masks, token)
  end
  expected "an address (names are not looked up)"
end

-- ---- The others ----------------------------------------------------------------------------------

--- broadcast and multicast, with the protocol that stands before them.
---@param name string?
---@param token luio.net.FilterToken
function M.broadcast(name, token)
  if name and name ~= "ether" then fail(token, "only ether broadcast is known: the network's mask is not") end
  return both(test("=", 4, 2, 0xffffffff), test("=", 2, 0, 0xffff))
end

---@param cx luio.net.FilterContext
---@param name string?
---@param token luio.net.FilterToken
function M.multicast(cx, name, token)
  if not name or name == "ether" then return test("&", 1, 0, 1) end
  if name == "ip" then return both(ether_type(cx, ETHER.ip), test(">=", 1, payload(cx, 16), 224)) end
  if name == "ip6" then return both(ether_type(cx, ETHER.ip6), test("=", 1, payload(cx, 24), 255)) end
  fail(token, ("%s has no multicast; ether, ip or ip6 was expected before it"):format(name))
end

--- less and greater: both include the number.
---@param greater boolean
---@param value integer
function M.length(greater, value)
  return { op = greater and ">=" or "<=", left = { op = "len" }, right = { op = "number", value = value } }
end

---@param cx luio.net.FilterContext
---@param token luio.net.FilterToken?  the VLAN's number
function M.vlan(cx, token)
  local block = either(either(ether_type(cx, ETHER[1]), ether_type(cx, ETHER[2])), ether_type(cx, ETHER[3]))
  if token then
    if token.value > 4095 then fail(token, "a VLAN is 0 to 4095") end
    block = both(block, test("=", 2, payload(cx, 0), token.value, 0xfff))
  end
  cx.shift = cx.shift + 4
  return block
end

-- ---- Arithmetic ----------------------------------------------------------------------------------

--- proto[index:size]. What it can be computed for only is in `needs`.
---@param cx luio.net.FilterContext
---@param name string
---@param index table
---@param size integer
---@param token luio.net.FilterToken
function M.load(cx, name, index, size, token)
  local node, needs = { op = "load", size = size, index = index, offset = payload(cx, 0) }, nil
  if name == "ether" then
    node.offset = 0
  elseif ETHER[name] then
    needs = M.protocol(cx, name, token)
  elseif name == "icmp6" then
    node.offset = payload(cx, 40)
    needs = both(ether_type(cx, ETHER.ip6), test("=", 1, payload(cx, 6), PROTOCOL.icmp6))
  elseif name == "ah" or name == "esp" then
    fail(token, "there is no looking into that by number")
  else
    node.behind_ip = payload(cx, 0)
    needs = both(ether_type(cx, ETHER.ip), both(M.protocol(cx, name, token), first_fragment(cx)))
  end
  node.needs = index.needs and needs and both(index.needs, needs) or needs or index.needs
  return node
end

--- A comparison of two of them.
---@param op string  "=" "!=" "<" "<=" ">" ">="
---@param left table
---@param right table
function M.relation(op, left, right)
  local block = { op = op, left = left, right = right }
  local needs = left.needs and right.needs and both(left.needs, right.needs) or left.needs or right.needs
  return needs and both(needs, block) or block
end

return M
