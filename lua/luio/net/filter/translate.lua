--- Makes Lua source of a BPF program.
---
--- Each instruction becomes a line or two, and each jump a goto: all registers are locals that stand before the first label,
--- so a goto enters no local's scope. A return is written where a jump to it would stand. The registers A, X and M[] hold 32
--- bits as `bit` does, signed, so that equality and arithmetic are single machine instructions; `bit` gives the same bits as
--- unsigned arithmetic does.
---
--- Two things are known of each place in the program before it is written, by following all paths to it: how large A, X and
--- M[] can be at most (a number below 2^31 is compared as it is), and how long the packet is at least (a load within that is
--- not checked again). libpcap's `ip6 protochain` jumps back; then nothing is assumed. Numbers that are only compared for
--- equality stay in the packet's byte order (luio.net.filter.byte_order).

local bit = require "bit"
local byte_order = require "luio.net.filter.byte_order"
local ffi = require "ffi"

local M = {}

local WORD, HALF = 2 ^ 32, 2 ^ 31
local LITTLE = ffi.abi "le"
local REGISTERS = 16 -- M[0] to M[15]

-- pcap/bpf.h: instructions, and the bits of their codes.
local JA, RET_K, RET_A, TAX, TXA, ST, STX = 0x05, 0x06, 0x16, 0x07, 0x87, 0x02, 0x03
local IND, BY_X = 0x40, 0x08
local SIZE = { [0x00] = 4, [0x08] = 2, [0x10] = 1 }
local MAX = { [1] = 2 ^ 8 - 1, [2] = 2 ^ 16 - 1, [4] = WORD - 1 }

local function signed(k) return ("%d"):format(bit.tobit(k)) end

-- The smallest 2^n - 1 that is not below.
local function ones(max)
  local n = 1
  while n - 1 < max do n = n * 2 end
  return n - 1
end

-- ---- Arithmetic ----------------------------------------------------------------------------------

-- A value in the source: its text, and the most it can be as an unsigned number.
---@class luio.net.BpfValue
---@field text string
---@field max number
---@field k number?  it is this number

local function unsigned(v) return v.max < HALF and v.text or v.text .. " % 4294967296" end

local function product(a, b)
  if a.max * b.max < 2 ^ 51 then return ("tobit(%s * %s)"):format(a.text, b.text) end -- exact as a number
  return ("tobit(%s * band(%s, 65535) + tobit(%s * rshift(%s, 16)) * 65536)"):format(a.text, b.text, a.text, b.text)
end

local function quotient(a, b)
  return ("tobit(floor((%s) / (%s)))"):format(unsigned(a), unsigned(b))
end

local function remainder(a, b) return ("tobit((%s) %% (%s))"):format(unsigned(a), unsigned(b)) end

local function shift(name)
  return function(a, b)
    if b.max <= 31 then return ("%s(%s, %s)"):format(name, a.text, b.text) end
    if b.k then return "0" end
    return ("(%s < 0 or %s > 31) and 0 or %s(%s, %s)"):format(b.text, b.text, name, a.text, b.text)
  end
end

local function binary(name)
  return function(a, b) return ("%s(%s, %s)"):format(name, a.text, b.text) end
end

-- By operation, BPF_ADD to BPF_XOR: the text, and the most that comes out.
local OPERATION = {
  [0x00] = { function(a, b) return ("tobit(%s + %s)"):format(a.text, b.text) end, function(a, b) return a.max + b.max end },
  [0x10] = { function(a, b) return ("tobit(%s - %s)"):format(a.text, b.text) end, function() return WORD end },
  [0x20] = { product, function(a, b) return a.max * b.max end },
  [0x30] = { quotient, function(a) return a.max end, divides = true },
  [0x40] = { binary "bor", function(a, b) return ones(math.max(a.max, b.max)) end },
  [0x50] = { binary "band", function(a, b) return math.min(a.max, b.max) end },
  [0x60] = { shift "lshift", function(a, b) return b.k and b.k < 32 and a.max * 2 ^ b.k or WORD end },
  [0x70] = { shift "rshift", function(a, b) return b.k and math.floor(a.max / 2 ^ math.min(b.k, 32)) or a.max end },
  [0x90] = { remainder, function(a, b) return math.min(a.max, b.max) end, divides = true },
  [0xa0] = { binary "bxor", function(a, b) return ones(math.max(a.max, b.max)) end },
}

-- BPF_JEQ, BPF_JGT, BPF_JGE: a comparison and its opposite.
local JEQ, JSET = 0x10, 0x40
local COMPARISON = { [0x10] = { "==", "~=" }, [0x20] = { ">", "<=" }, [0x30] = { ">=", "<" } }

-- ---- State at each instruction -------------------------------------------------------------------

---@class luio.net.BpfState
---@field a number       A at most
---@field x number
---@field m number[]     by register
---@field length number  the packet has at least so many bytes

local function unknown(registers)
  local m = {}
  for i in pairs(registers) do m[i] = WORD - 1 end
  return { a = WORD - 1, x = WORD - 1, m = m, length = 0 }
end

local function copy(s)
  local m = {}
  for i, max in pairs(s.m) do m[i] = max end
  return { a = s.a, x = s.x, m = m, length = s.length }
end

---@class luio.net.BpfTranslator
---@field code ffi.cdata*
---@field states table<integer, luio.net.BpfState>  by instruction that can be reached
---@field labels table<integer, true>               instructions that a goto leads to
---@field lines string[]
---@field registers table<integer, true>            those of M[] that it uses
---@field kept table<integer, integer>              by instruction: A is in the packet's byte order, of so many bytes
local Translator = {}
Translator.__index = Translator

-- Notes the state at `to` when it is reached from a place with the state `s`. The callee keeps `s`.
---@private
function Translator:reaches(to, s)
  local t = self.states[to]
  if not t then
    self.states[to] = s
  else
    t.a, t.x, t.length = math.max(t.a, s.a), math.max(t.x, s.x), math.min(t.length, s.length)
    for i, max in pairs(s.m) do t.m[i] = math.max(t.m[i], max) end
  end
end

-- ---- The source ----------------------------------------------------------------------------------

---@private
function Translator:line(format, ...) table.insert(self.lines, select("#", ...) > 0 and format:format(...) or format) end

-- To an instruction: it, when it is a return.
---@private
function Translator:jump(to)
  local insn = self.code[to]
  if insn.code == RET_K then return insn.k ~= 0 and "return true" or "return false" end
  self.labels[to] = true
  return "goto l" .. to
end

-- The packet must have so many bytes.
---@private
function Translator:needs(length, s)
  if length <= s.length then return end
  self:line("if length < %.0f then return false end", length)
  s.length = length
end

-- Bytes at k, or at X + k, into A.
---@private
function Translator:load(insn, s, i)
  local size, k = SIZE[bit.band(insn.code, 0x18)], insn.k
  local at = ("%.0f"):format(k)
  if bit.band(insn.code, 0xe0) == IND then
    self:line("if %sx + %.0f > length then return false end", s.x < HALF and "" or "x < 0 or ", k + size)
    at = k == 0 and "x" or ("(x + %.0f)"):format(k)
  else
    self:needs(k + size, s)
  end
  if size == 1 then
    self:line("a = p[%s]", at)
  else
    local text = ("cast(%s, p + %s)[0]"):format(size == 2 and "half" or "word", at)
    if LITTLE and not self.kept[i] then text = size == 2 and ("rshift(bswap(%s), 16)"):format(text) or ("bswap(%s)"):format(text) end
    self:line("a = %s", text)
  end
  s.a = MAX[size]
end

-- The text of a constant for what has the size `kept` in the packet's byte order; nil: it has more bits.
local function swapped(k, kept)
  if not LITTLE or not kept then return signed(k) end
  if kept == 4 then return signed(bit.bswap(bit.tobit(k))) end
  return k < 65536 and ("%d"):format(bit.rshift(bit.bswap(k), 16)) or nil
end

-- The condition of a conditional jump, and its opposite.
local function condition(insn, s, kept)
  local op, k = bit.band(insn.code, 0xf0), insn.k
  local by_x = bit.band(insn.code, BY_X) ~= 0
  if op == JSET then
    local text = ("band(a, %s)"):format(by_x and "x" or swapped(kept == 2 and k % 65536 or k, kept))
    return text .. " ~= 0", text .. " == 0"
  end
  local left, right, signs = "a", by_x and "x" or swapped(k, kept), COMPARISON[op]
  if not right then return "false", "true" end
  if op ~= JEQ and (s.a >= HALF or by_x and s.x >= HALF or k >= HALF) then
    left, right = "bxor(a, -2147483648)", by_x and "bxor(x, -2147483648)" or signed(bit.bxor(k, 0x80000000))
  end
  return ("%s %s %s"):format(left, signs[1], right), ("%s %s %s"):format(left, signs[2], right)
end

---@private
function Translator:branch(i, insn, s)
  local yes, no = i + 1 + insn.jt, i + 1 + insn.jf
  local is, is_not = condition(insn, s, self.kept[i])
  self:reaches(yes, copy(s))
  self:reaches(no, s)
  if yes == i + 1 then return self:line("if %s then %s end", is_not, self:jump(no)) end
  self:line("if %s then %s end", is, self:jump(yes))
  if no ~= i + 1 then self:line("do %s end", self:jump(no)) end
end

---@private
function Translator:calculate(insn, s, i)
  local operation, kept = OPERATION[bit.band(insn.code, 0xf0)], self.kept[i]
  local by_x = bit.band(insn.code, BY_X) ~= 0
  if kept then return self:line("a = band(a, %s)", swapped(kept == 2 and insn.k % 65536 or insn.k, kept)) end
  local b = by_x and { text = "x", max = s.x } or { text = signed(insn.k), max = insn.k, k = insn.k }
  if operation.divides then
    if by_x then self:line "if x == 0 then return false end" elseif insn.k == 0 then self:line "do return false end" end
  end
  self:line("a = %s", operation[1]({ text = "a", max = s.a }, b))
  s.a = math.min(operation[2]({ text = "a", max = s.a }, b), WORD - 1)
end

-- ---- By instruction ------------------------------------------------------------------------------

-- The writers of instructions that go on to the next one. s is the state before the instruction; the writer makes it
-- the state behind it.
---@type table<integer, fun(self: luio.net.BpfTranslator, insn: ffi.cdata*, s: luio.net.BpfState, i: integer)>
local STEP = {}

for size in pairs(SIZE) do
  STEP[0x20 + size] = Translator.load -- BPF_ABS
  STEP[0x40 + size] = Translator.load -- BPF_IND
end
for operation in pairs(OPERATION) do
  STEP[0x04 + operation] = Translator.calculate
  STEP[0x04 + operation + BY_X] = Translator.calculate
end

for code, name in pairs { [0x00] = "a", [0x01] = "x" } do -- BPF_LD, BPF_LDX
  STEP[code] = function(self, insn, s) -- BPF_IMM
    self:line("%s = %s", name, signed(insn.k))
    s[name] = insn.k
  end
  STEP[code + 0x60] = function(self, insn, s) -- BPF_MEM
    self:line("%s = m%d", name, insn.k)
    s[name] = s.m[insn.k]
  end
  STEP[code + 0x80] = function(self, _, s) -- BPF_LEN
    self:line("%s = length", name)
    s[name] = HALF - 1
  end
end

STEP[0xb1] = function(self, insn, s) -- BPF_MSH
  self:needs(insn.k + 1, s)
  self:line("x = lshift(band(p[%.0f], 15), 2)", insn.k)
  s.x = 60
end

STEP[ST] = function(self, insn, s)
  self:line("m%d = a", insn.k)
  s.m[insn.k] = s.a
end

STEP[STX] = function(self, insn, s)
  self:line("m%d = x", insn.k)
  s.m[insn.k] = s.x
end

STEP[TAX] = function(self, _, s)
  self:line "x = a"
  s.x = s.a
end

STEP[TXA] = function(self, _, s)
  self:line "a = x"
  s.a = s.x
end

STEP[0x84] = function(self, _, s) -- BPF_NEG
  self:line "a = tobit(-a)"
  s.a = WORD - 1
end

local IN_MEMORY = { [0x60] = true, [0x61] = true, [ST] = true, [STX] = true }

-- One instruction; s holds before it. false: it is none that libpcap makes.
---@private
function Translator:instruction(i, insn, s)
  local code = insn.code
  if STEP[code] then
    STEP[code](self, insn, s, i)
    self:reaches(i + 1, s)
  elseif code == JA then
    local to = i + 1 + bit.tobit(insn.k)
    self:reaches(to, s)
    if to ~= i + 1 then self:line("do %s end", self:jump(to)) end
  elseif code == RET_K then
    self:line("do return %s end", insn.k ~= 0 and "true" or "false")
  elseif code == RET_A then
    self:line "do return a ~= 0 end"
  elseif bit.band(code, 0xff07) == JA and bit.band(code, 0xf0) <= JSET then
    self:branch(i, insn, s)
  else
    return false
  end
  return true
end

local HEAD = [[
local bit, ffi, floor = ...
local tobit, band, bor, bxor, lshift, rshift, bswap = bit.tobit, bit.band, bit.bor, bit.bxor, bit.lshift, bit.rshift, bit.bswap
local cast, half, word = ffi.cast, ffi.typeof "const uint16_t *", ffi.typeof "const int32_t *"
return function(p, length)
local a, x = 0, 0
]]

--- The source of a chunk that returns the predicate. It is given the modules bit and ffi, and math.floor.
---@param program luio.net.BpfProgram
---@return string? source  nil: it has an instruction that libpcap does not make
function M.source(program)
  local code, n, registers, loops = program.insns, program.n, {}, false
  for i = 0, n - 1 do
    local insn = code[i]
    if insn.code == JA and bit.tobit(insn.k) < 0 then loops = true end
    if IN_MEMORY[insn.code] then
      if insn.k >= REGISTERS then return nil end
      registers[insn.k] = true
    end
  end
  local kept = loops and {} or byte_order.kept(program)
  local self = setmetatable({ code = code, states = {}, labels = {}, registers = registers, kept = kept }, Translator)
  local first, parts = { a = 0, x = 0, m = {}, length = 0 }, {}
  for i in pairs(registers) do first.m[i] = 0 end
  self.states[0] = first
  for i = 0, n - 1 do
    local s = loops and unknown(registers) or self.states[i]
    if s then
      self.lines = {}
      if not self:instruction(i, code[i], s) then return nil end
      parts[i] = table.concat(self.lines, "\n")
    end
  end
  local list = { HEAD }
  for i in pairs(registers) do table.insert(list, ("local m%d = 0\n"):format(i)) end
  for i = 0, n - 1 do
    if self.labels[i] then table.insert(list, ("::l%d::\n"):format(i)) end
    if parts[i] then table.insert(list, parts[i] .. "\n") end
  end
  table.insert(list, "end\n")
  return table.concat(list)
end

return M
