--- Which loads of a BPF program may leave a number as it lies in the packet.
---
--- Most numbers of two or four bytes are only compared for equality, or by a mask. Then the constant is swapped once, instead
--- of the number for each packet. That goes where all that reads a number is such a comparison, and where a comparison that
--- can be reached with several numbers gets all of them so, in one size. Programs that jump back are left alone.

local bit = require "bit"

local M = {}

-- pcap/bpf.h
local JA, RET_A, TAX, TXA, ST = 0x05, 0x16, 0x07, 0x87, 0x02
local JEQ, JSET, AND = 0x15, 0x45, 0x54 -- by a constant
local ALU, JMP, RET = 4, 5, 6
local SIZE = { [0x20] = 4, [0x28] = 2, [0x40] = 4, [0x48] = 2 } -- BPF_ABS, BPF_IND
local KEEPS = { [JEQ] = true, [JSET] = true, [AND] = true }

local function reads(code)
  local class = bit.band(code, 7)
  return class == ALU or class == JMP and code ~= JA or code == ST or code == TAX or code == RET_A
end

local function writes(code) return bit.band(code, 7) == 0 or code == TXA or bit.band(code, 7) == ALU and code ~= AND end

-- The instructions that may read what A holds before `from`.
local function readers(insns, from)
  local list, seen, open = {}, {}, { from }
  while #open > 0 do
    local i = table.remove(open)
    if not seen[i] then
      seen[i] = true
      local insn = insns[i]
      local code = insn.code
      if reads(code) then table.insert(list, i) end
      local class = bit.band(code, 7)
      if code == JA then
        table.insert(open, i + 1 + insn.k)
      elseif class == JMP then
        table.insert(open, i + 1 + insn.jt)
        table.insert(open, i + 1 + insn.jf)
      elseif class ~= RET and not writes(code) then
        table.insert(open, i + 1)
      end
    end
  end
  return list
end

--- By instruction, loads and those that read what they load: the size of the number that stays as it lies.
---@param program luio.net.BpfProgram  jumps forward only
---@return table<integer, integer>
function M.kept(program)
  local insns, size, read = program.insns, {}, {} -- the 0 that A begins with is one in both orders
  local any = false
  for i = 0, program.n - 1 do
    if writes(insns[i].code) then
      size[i], read[i] = SIZE[insns[i].code], readers(insns, i + 1)
      any = any or size[i]
    end
  end
  -- If a number cannot be kept so, its readers cannot, and no other number that they read.
  local kept, changed = {}, any
  while changed do
    kept, changed = {}, false
    for i, list in pairs(read) do
      for _, reader in ipairs(list) do
        if kept[reader] == nil then
          kept[reader] = KEEPS[insns[reader].code] and size[i] or false
        elseif kept[reader] ~= size[i] then
          kept[reader] = false
        end
      end
    end
    for i, list in pairs(read) do
      for _, reader in ipairs(list) do
        if size[i] and not kept[reader] then size[i], changed = nil, true end
      end
    end
  end
  for i in pairs(size) do kept[i] = size[i] end
  return kept
end

return M
