--- Makes Lua source of a filter's tree.
---
--- It is straight code with jumps, as BPF is: a test jumps to where it goes on when it is false, or when it is true. Before each
--- load stands the look at the packet's length; a load that does not fit ends it all with false. Loads are
--- repeated as often as they are needed: LuaJIT, which compiles what comes out, does each once.
---
--- Arithmetic is BPF's: 32 bits, unsigned. A value is held as a number from 0 to 2^32 - 1; most of the cutting is left out,
--- because the range of each value is known.

local ffi = require "ffi"
local bit = require "bit"

local M = {}

local LITTLE = ffi.abi "le"
local WORD = 4294967296
local LARGE = 1000 -- tests; LuaJIT jumps over 32767 instructions, and a test takes about ten
local MAX = { [1] = 255, [2] = 65535, [4] = WORD - 1 }

---@class luio.net.FilterEmitter
---@field lines string[]
---@field names integer  labels and locals so far
---@field functions string[]  lines of those that stand before the predicate
---@field used table<string, true>  labels
---@field outside "false"|"nil"  what a load that does not fit ends it with
local Emitter = {}
Emitter.__index = Emitter

function Emitter:line(format, ...)
  table.insert(self.lines, select("#", ...) > 0 and format:format(...) or format)
end

function Emitter:name(letter)
  self.names = self.names + 1
  return letter .. self.names
end

-- A 16- or 32-bit number as the machine loads it from a packet; of 32 bits as a signed one.
local function swapped(size, value)
  if size == 2 then return LITTLE and bit.rshift(bit.bswap(value), 16) or value end
  return LITTLE and bit.bswap(bit.tobit(value)) or bit.tobit(value)
end

local function number_of(size, at)
  if size == 1 then return ("p[%s]"):format(at) end
  if size == 2 then return ("p[%s] * 256 + p[%s + 1]"):format(at, at) end
  local word = ("cast(word, p + %s)[0]"):format(at)
  return ("%s %% %.0f"):format(LITTLE and "bswap(" .. word .. ")" or word, WORD)
end

-- The length of the IPv4 header at `at`, as a local.
function Emitter:ip_header(at)
  self:line("  if length < %d then return %s end", at + 1, self.outside)
  local x = self:name "x"
  self:line("  local %s = band(p[%d], 15) * 4", x, at)
  return x
end

-- ---- Arithmetic ----------------------------------------------------------------------------------

local function cut(text, max)
  if max < WORD then return text, max end
  return ("(%s) %% %.0f"):format(text, WORD), WORD - 1
end

-- By halves: a product of 64 bits is not exact in a double.
local PRODUCT = "(%s %% 65536 * %s + (%s - %s %% 65536) / 65536 * %s %% 65536 * 65536) %% 4294967296"

local OPERATION = {
  ["+"] = function(a, b) return cut(a.text .. " + " .. b.text, a.max + b.max) end,
  ["-"] = function(a, b) return cut(a.text .. " - " .. b.text, WORD) end,
  ["*"] = function(a, b)
    if a.max * b.max < WORD then return a.text .. " * " .. b.text, a.max * b.max end
    return PRODUCT:format(a.text, b.text, a.text, a.text, b.text), WORD - 1
  end,
  ["/"] = function(a, b) return ("floor(%s / %s)"):format(a.text, b.text), a.max end,
  ["%"] = function(a, b) return a.text .. " % " .. b.text, math.min(a.max, b.max) end,
  ["&"] = function(a, b)
    local max = math.min(a.max, b.max)
    local text = ("band(%s, %s)"):format(a.text, b.text)
    if max < 2 ^ 31 then return text, max end
    return text .. " % 4294967296", max
  end,
  ["|"] = function(a, b) return ("bor(%s, %s) %% 4294967296"):format(a.text, b.text), WORD - 1 end,
  ["^"] = function(a, b) return ("bxor(%s, %s) %% 4294967296"):format(a.text, b.text), WORD - 1 end,
  ["<<"] = function(a, b) return ("%s > 31 and 0 or lshift(%s, %s) %% 4294967296"):format(b.text, a.text, b.text), WORD - 1 end,
  [">>"] = function(a, b) return ("%s > 31 and 0 or rshift(%s, %s) %% 4294967296"):format(b.text, a.text, b.text), a.max end,
}

-- Computes it, into a local unless it is a number; its text, and what it is at most.
function Emitter:compute(node)
  local op = node.op
  if op == "number" then return { text = ("%.0f"):format(node.value), max = node.value } end
  if op == "len" then return { text = "length", max = WORD - 1 } end
  local text, max
  if op == "load" then
    local index = self:compute(node.index)
    local at
    if node.behind_ip then
      local x = self:ip_header(node.behind_ip)
      at = ("%d + %s"):format(node.offset, (cut(x .. " + " .. index.text, 60 + index.max)))
    elseif node.index.op == "number" then
      at = ("%.0f"):format(node.offset + node.index.value)
    else
      at = ("%d + %s"):format(node.offset, index.text)
    end
    if not tonumber(at) then
      local o = self:name "o"
      self:line("  local %s = %s", o, at)
      at = o
    end
    self:line("  if %s + %d > length then return %s end", at, node.size, self.outside)
    text, max = number_of(node.size, at), MAX[node.size]
  elseif op == "negative" then
    text, max = cut("-" .. self:compute(node[1]).text, WORD)
  else
    local a, b = self:compute(node[1]), self:compute(node[2])
    if op == "/" or op == "%" then self:line("  if %s == 0 then return %s end", b.text, self.outside) end
    text, max = OPERATION[op](a, b)
  end
  local v = self:name "v"
  self:line("  local %s = %s", v, text)
  return { text = v, max = max }
end

-- ---- Tests ---------------------------------------------------------------------------------------

local CONDITION = { ["="] = "==", ["!="] = "~=", ["<"] = "<", ["<="] = "<=", [">"] = ">", [">="] = ">=" }

-- The condition of a test of bytes at a place that is known, or behind an IPv4 header.
function Emitter:condition(node)
  if node.left then
    local left = self:compute(node.left)
    return ("%s %s %s"):format(left.text, CONDITION[node.op], self:compute(node.right).text)
  end
  local at, size, value = tostring(node.offset), node.size, node.value
  if node.behind_ip then at = ("%d + %s"):format(node.offset, self:ip_header(node.behind_ip)) end
  self:line("  if %s + %d > length then return %s end", at, size, self.outside)
  if node.op == "&" then return ("band(%s, %d) ~= 0"):format(number_of(size, at), value) end
  if node.op ~= "=" then return ("%s %s %d"):format(number_of(size, at), CONDITION[node.op], value) end
  if value > MAX[size] then return "false" end
  if size == 1 then return ("p[%s] == %d"):format(at, value) end
  local text = ("cast(%s, p + %s)[0]"):format(size == 2 and "half" or "word", at)
  local mask = node.mask and node.mask ~= MAX[4] and swapped(size, node.mask)
  if mask then text = ("band(%s, %d)"):format(text, mask) end
  return ("%s == %d"):format(text, swapped(size, value))
end

-- To a label, or out. Labels that nobody jumps to are left out: LuaJIT's room for them is limited, and so is the length of
-- a jump, which is why the ends of a filter are none.
function Emitter:jump(label)
  if label == "yes" then return "return true" end
  if label == "no" then return "return false" end
  self.used[label] = true
  return "goto " .. label
end

local function tests(node)
  if node.op == "not" then return tests(node[1]) end
  if node.op == "and" or node.op == "or" then return tests(node[1]) + tests(node[2]) end
  return 1
end

-- A part that is too large to be jumped over becomes a function of its own. It says nil when a load does not fit.
function Emitter:apart(node, yes, no)
  local lines, outside, name = self.lines, self.outside, self:name "f"
  self.lines, self.outside = {}, "nil"
  self:line("local function %s(p, length)", name)
  self:block(node, "yes", "no", "yes")
  self:line "return true"
  self:line "end"
  for _, line in ipairs(self.lines) do table.insert(self.functions, line) end -- behind those that it calls
  self.lines, self.outside = lines, outside
  self:line "do"
  self:line("  local r = %s(p, length)", name)
  self:line("  if r == nil then return %s end", outside)
  self:line("  if r then %s end", self:jump(yes))
  self:line("  %s", self:jump(no))
  self:line "end"
end

-- Code that goes to the label `yes` or `no`; `next` is the one that will stand right behind it.
function Emitter:block(node, yes, no, next)
  local op = node.op
  if op == "not" then return self:block(node[1], no, yes, next) end
  if op == "and" or op == "or" then
    local far = op == "and" and no or yes -- where its first test may jump to
    if far ~= "yes" and far ~= "no" and tests(node) > LARGE then return self:apart(node, yes, no) end
    local middle = self:name "l"
    if op == "and" then self:block(node[1], middle, no, middle) else self:block(node[1], yes, middle, middle) end
    if self.used[middle] then self:line("::%s::", middle) end
    return self:block(node[2], yes, no, next)
  end
  self:line "do"
  local condition = self:condition(node)
  if next == yes then
    self:line("  if not (%s) then %s end", condition, self:jump(no))
  else
    self:line("  if %s then %s end", condition, self:jump(yes))
    if next ~= no then self:line("  %s", self:jump(no)) end
  end
  self:line "end"
end

local HEAD = [[
local bit, ffi, floor = ...
local band, bor, bxor, lshift, rshift, bswap = bit.band, bit.bor, bit.bxor, bit.lshift, bit.rshift, bit.bswap
local cast, half, word = ffi.cast, ffi.typeof "const uint16_t *", ffi.typeof "const int32_t *"
]]

--- The source of a chunk that returns the predicate. It is given the modules bit and ffi, and math.floor.
---@param block table?
---@return string
function M.source(block)
  local self = setmetatable({ lines = {}, functions = {}, names = 0, used = {}, outside = "false" }, Emitter)
  if block then self:block(block, "yes", "no", "yes") end
  return HEAD .. table.concat(self.functions, "\n") .. "\nreturn function(p, length)\n" .. table.concat(self.lines, "\n")
    .. "\nreturn true\nend\n"
end

return M
