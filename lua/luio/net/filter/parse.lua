--- Parses a filter's tokens: pcap-filter's grammar, as far as luio.net.filter lists it.
---
--- `and` and `or` bind alike, from left to right; `not` binds tighter. A value alone takes the qualifiers of the one before it
--- (port 80 or 443), so each part comes with those it leaves behind. A part in parentheses can be a filter, values, or
--- arithmetic; it shows by what it begins with, and by what comes behind it.

local build = require "luio.net.filter.build"
local near = require "luio.registers.near"
local scan = require "luio.net.filter.scan"

local fail = scan.fail

local DEEPEST = 100 -- parentheses and the like, within each other

-- Words for numbers, of pcap-filter.
local NAMES = {
  icmptype = 0, icmpcode = 1, icmp6type = 0, icmp6code = 1, tcpflags = 13,
  ["tcp-fin"] = 1, ["tcp-syn"] = 2, ["tcp-rst"] = 4, ["tcp-push"] = 8, ["tcp-ack"] = 16, ["tcp-urg"] = 32,
  ["tcp-ece"] = 64, ["tcp-cwr"] = 128,
  ["icmp-echoreply"] = 0, ["icmp-unreach"] = 3, ["icmp-sourcequench"] = 4, ["icmp-redirect"] = 5, ["icmp-echo"] = 8,
  ["icmp-routeradvert"] = 9, ["icmp-routersolicit"] = 10, ["icmp-timxceed"] = 11, ["icmp-paramprob"] = 12, ["icmp-tstamp"] = 13,
  ["icmp-tstampreply"] = 14, ["icmp-ireq"] = 15, ["icmp-ireqreply"] = 16, ["icmp-maskreq"] = 17, ["icmp-maskreply"] = 18,
  ["icmp6-destinationunreach"] = 1, ["icmp6-packettoobig"] = 2, ["icmp6-timeexceeded"] = 3, ["icmp6-parameterproblem"] = 4,
  ["icmp6-echo"] = 128, ["icmp6-echoreply"] = 129, ["icmp6-routersolicit"] = 133, ["icmp6-routeradvert"] = 134,
  ["icmp6-neighborsolicit"] = 135, ["icmp6-neighboradvert"] = 136, ["icmp6-redirect"] = 137,
}

local PRECEDENCE = { ["|"] = 1, ["&"] = 2, ["<<"] = 3, [">>"] = 3, ["+"] = 4, ["-"] = 4, ["*"] = 5, ["/"] = 5 }
-- These have none in libpcap's grammar, so that they take all that comes after them.
local GREEDY = { ["%"] = true, ["^"] = true }
local RELATION = { ["="] = true, ["!="] = true, ["<"] = true, ["<="] = true, [">"] = true, [">="] = true }
local KIND = { host = true, net = true, port = true, portrange = true, proto = true }
local VALUE = { ipv4 = true, ipv6 = true, mac = true, range = true, escaped = true }

local WORDS = {
  "src", "dst", "host", "net", "port", "portrange", "proto", "broadcast", "multicast", "less", "greater", "vlan", "and", "or", "not", "len",
  "ether", "ip", "ip6", "arp", "rarp", "tcp", "udp", "sctp", "icmp", "icmp6", "igmp", "ah", "esp", "pim", "vrrp",
}
local RESERVED = { mask = true, length = true, link = true }
for _, word in ipairs(WORDS) do RESERVED[word] = true end

---@class luio.net.FilterParser
---@field tokens luio.net.FilterToken[]
---@field i integer
---@field depth integer
---@field cx luio.net.FilterContext
local Parser = {}
Parser.__index = Parser

function Parser:peek(ahead) return self.tokens[math.min(self.i + (ahead or 0), #self.tokens)] end

function Parser:next()
  local token = self:peek()
  self.i = self.i + 1
  return token
end

-- Whether the next token is this word or symbol; then it is taken.
function Parser:takes(text)
  local token = self:peek()
  if (token.kind == "word" or token.kind == "symbol") and token.text == text then return self:next() end
end

function Parser:expect(text, why)
  return self:takes(text) or fail(self:peek(), ("%q was expected%s"):format(text, why or ""))
end

function Parser:number(what)
  local token = self:peek()
  if token.kind ~= "number" then fail(token, what .. " was expected") end
  return self:next()
end

function Parser:deeper(token)
  self.depth = self.depth + 1
  if self.depth > DEEPEST then fail(token, "that is nested too deeply") end
end

-- ---- Arithmetic ----------------------------------------------------------------------------------

local function protocol_at(token) return token.kind == "word" and build.PROTOCOLS[token.text] end

function Parser:begins_arithmetic()
  local token, after = self:peek(), self:peek(1)
  if token.kind == "number" then return true end
  if token.kind == "symbol" then return token.text == "-" end
  return token.kind == "word" and (token.text == "len" or token.text == "length" or NAMES[token.text] ~= nil
    or protocol_at(token) and after.kind == "symbol" and after.text == "[")
end

function Parser:load()
  local token = self:next()
  self:expect "["
  local index = self:arithmetic(0)
  local size = 1
  if self:takes ":" then
    local at = self:number "a size of 1, 2 or 4"
    size = at.value
    if size ~= 1 and size ~= 2 and size ~= 4 then fail(at, "a size of 1, 2 or 4 was expected") end
  end
  self:expect("]", size == 1 and ", or : and a size" or "")
  return build.load(self.cx, build.PROTOCOLS[token.text], index, size, token)
end

function Parser:operand()
  local token = self:peek()
  self:deeper(token)
  local node
  if token.kind == "number" then
    node = { op = "number", value = self:next().value, token = token }
  elseif self:takes "-" then
    node = self:arithmetic(6)
    node = { op = "negative", node, needs = node.needs }
  elseif self:takes "(" then
    node = self:arithmetic(0)
    self:expect ")"
  elseif token.kind == "word" and NAMES[token.text] then
    node = { op = "number", value = NAMES[self:next().text] }
  elseif self:takes "len" or self:takes "length" then
    node = { op = "len" }
  elseif protocol_at(token) then
    node = self:load()
  else
    fail(token, "a number, len, or a packet's bytes as ip[8] or tcp[2:2] were expected")
  end
  self.depth = self.depth - 1
  return node
end

-- The rest of an expression after its first operand, as far as operators bind at least so tightly. An expression needs the
-- protocols of its leftmost operand; those of the other operands are ignored. That is libpcap's way, too.
function Parser:arithmetic_after(left, least)
  while true do
    local token = self:peek()
    local precedence = token.kind == "symbol" and (GREEDY[token.text] and 6 or PRECEDENCE[token.text])
    if not precedence or precedence < least then return left end
    self:next()
    local right = self:arithmetic(GREEDY[token.text] and 0 or precedence + 1)
    local constant = right.op == "number" and right.value
    if constant == 0 and (token.text == "/" or token.text == "%") then fail(token, "nothing can be divided by 0") end
    if (constant or 0) > 31 and (token.text == "<<" or token.text == ">>") then fail(token, "a shift by up to 31 bits was expected") end
    left = { op = token.text, left, right, needs = left.needs }
  end
end

function Parser:arithmetic(least) return self:arithmetic_after(self:operand(), least) end

-- A comparison, or the number alone: { number = node }.
function Parser:comparison(left)
  local token = self:peek()
  if token.kind ~= "symbol" or not RELATION[token.text] then return { number = left, at = token } end
  self:next()
  return { block = build.relation(token.text, left, self:arithmetic(0)) }
end

-- ---- Values --------------------------------------------------------------------------------------

-- A value that takes the qualifiers q.
function Parser:value(q)
  local token = self:next()
  if not q then fail(token, "what is it? host, net, port or the like was expected before it") end
  local length, netmask
  if token.kind == "ipv4" or token.kind == "ipv6" then
    if self:takes "/" then
      length = self:number "the length of a prefix"
    elseif token.kind == "ipv4" and self:takes "mask" then
      netmask = self:next()
      if netmask.kind ~= "ipv4" then fail(netmask, "a mask as 255.255.255.0 was expected") end
    end
  end
  return { block = build.value(self.cx, q, token, length, netmask), q = q, values = true }
end

function Parser:is_value()
  local token = self:peek()
  return VALUE[token.kind] or token.kind == "number" or token.kind == "word" and not RESERVED[token.text]
end

-- The part behind qualifiers: a value, or several in parentheses.
function Parser:values(q)
  local token = self:peek()
  self:deeper(token)
  local part
  if self:takes "!" or self:takes "not" then
    part = self:values(q)
    part.block = build.negation(part.block)
  elseif self:takes "(" then
    part = self:values(q)
    while true do
      local op = self:takes "and" or self:takes "or"
      if not op then break end
      part.block = (op.text == "and" and build.both or build.either)(part.block, self:values(q).block)
    end
    self:expect(")", ", or and, or or")
  elseif self:is_value() then
    part = self:value(q)
  else
    local name = q.kind == "proto" and protocol_at(token)
    fail(token, name and ("a protocol's number was expected, or its name as \\%s"):format(token.text)
      or ("a value was expected after %s"):format(q.kind or q.dir))
  end
  self.depth = self.depth - 1
  return part
end

-- ---- Primitives ----------------------------------------------------------------------------------

-- src, dst, src or dst, ...
function Parser:direction()
  local first = self:takes "src" or self:takes "dst"
  if not first then return nil end
  local op, other = self:peek(), self:peek(1)
  if op.kind == "word" and (op.text == "or" or op.text == "and") and other.kind == "word"
    and other.text == (first.text == "src" and "dst" or "src") then
    self.i = self.i + 2
    return op.text
  end
  return first.text
end

function Parser:primitive()
  local token = self:peek()
  local proto = protocol_at(token)
  if proto then self:next() end
  local word = self:peek()
  if self:takes "broadcast" then return { block = build.broadcast(proto, word) } end
  if self:takes "multicast" then return { block = build.multicast(self.cx, proto, word) } end
  local q = { proto = proto }
  q.dir = self:direction()
  local kind = self:peek()
  if kind.kind == "word" and KIND[kind.text] then
    if kind.text == "proto" and q.dir then fail(kind, "proto has no direction") end
    self:next()
    q.kind = kind.text
  end
  if q.dir or q.kind then return self:values(q) end
  if proto then return { block = build.protocol(self.cx, proto, token) } end
  if self:takes "less" or self:takes "greater" then
    return { block = build.length(token.text == "greater", self:number("a length after " .. token.text).value) }
  elseif self:takes "vlan" then
    return { block = build.vlan(self.cx, self:peek().kind == "number" and self:next() or nil) }
  end
  fail(token, "a primitive was expected, such as host 10.0.0.1, port 80, tcp, ip[8] < 5"
    .. (token.kind == "word" and near.hint(token.text, WORDS) or ""))
end

-- A part: a primitive, a comparison, something in parentheses or negated, or, where q is said, a value.
function Parser:part(q)
  local token = self:peek()
  self:deeper(token)
  local part
  if self:takes "!" or self:takes "not" then
    part = self:settled(self:part(q), q)
    part.block = build.negation(part.block)
  elseif self:takes "(" then
    part = self:expression(q, true)
    self:expect(")", ", or and, or or")
    if part.number then
      part = self:comparison(self:arithmetic_after(part.number, 0))
    elseif not part.values then
      part.q = q -- what stands before the parentheses goes on behind them
    end
  elseif self:begins_arithmetic() then
    part = self:comparison(self:arithmetic(0))
  elseif q ~= nil and self:is_value() then
    part = self:value(q)
  elseif VALUE[token.kind] then
    self:value(nil)
  else
    part = self:primitive()
    part.values = nil
  end
  self.depth = self.depth - 1
  return part
end

-- A number that is compared with nothing is a value.
function Parser:settled(part, q)
  if not part.number then return part end
  local token = part.number.token
  if not token then fail(part.at, "a comparison was expected: = != < <= > >=") end
  if not q then fail(part.at, "a comparison (= != < <= > >=) was expected, or before the number what it is: port, proto or the like") end
  return { block = build.value(self.cx, q, token), q = q, values = true }
end

-- Parts with and and or between. In parentheses it may be a number alone.
function Parser:expression(q, inner)
  local left = self:part(q)
  local word = self:peek()
  local joined = word.kind == "word" and (word.text == "and" or word.text == "or")
  if left.number and inner and not joined then return left end
  left = self:settled(left, q)
  while true do
    local op = self:takes "and" or self:takes "or"
    if not op then return left end
    local right = self:settled(self:part(left.q), left.q)
    if left.values and not right.values then fail(op, "in these parentheses only values can follow") end
    local join = op.text == "and" and build.both or build.either
    left = { block = join(left.block, right.block), q = right.q, values = left.values and right.values }
  end
end

local M = {}

--- The tree of a filter; nil for an empty one, which everything matches. Raises a failure of luio.net.filter.scan.
---@param text string
---@return table? block
function M.parse(text)
  local self = setmetatable({ tokens = scan.scan(text), i = 1, depth = 0, cx = { shift = 0 } }, Parser)
  if self:peek().kind == "end" then return nil end
  local whole = self:expression(nil, false)
  local token = self:peek()
  if token.kind ~= "end" then fail(token, "and, or, or the filter's end was expected") end
  return whole.block
end

return M
