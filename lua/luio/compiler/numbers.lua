--- The numbers of bytecode and intermediate-code instructions and of their parts, by name. LuaJIT installs them as
--- jit/vmdef.lua; a program that contains LuaJIT (make dist) finds no such file on a board, and is linked with Debian 12's.

local M = {}

local function by_name(names) -- six characters each
  local list = {}
  for i = 0, #names / 6 - 1 do list[names:sub(6 * i + 1, 6 * i + 6):match "%S*"] = i end
  return list
end

local function index(list, name)
  for i = 0, #list do
    if list[i] == name then return i end
  end
end

---@class luio.CompilerNumbers
---@field op table<string, integer>  bytecode
---@field ir table<string, integer>  intermediate code
---@field nomm integer               FLOAD/FREF of "tab.nomm"
---@field clear integer              CALLS of lj_tab_clear

--- The numbers of one build of LuaJIT, by the names in its jit.vmdef.
---@param vmdef table
---@return luio.CompilerNumbers
function M.of(vmdef)
  return {
    op = by_name(vmdef.bcnames), ir = by_name(vmdef.irnames), nomm = index(vmdef.irfield, "tab.nomm"),
    clear = index(vmdef.ircall, "lj_tab_clear"),
  }
end

--- Debian 12's: only what luio.compiler.watch asks for.
---@type luio.CompilerNumbers
M.march_2022 = {
  op = { ITERN = 70, VARG = 71 },
  ir = {
    ABC = 10, BAND = 33, BOR = 34, BXOR = 35, BSHR = 37, BSAR = 38, BROL = 39, BROR = 40, ADD = 41, MUL = 43, NEWREF = 59,
    ALOAD = 66, HLOAD = 67, FLOAD = 69, XLOAD = 70, ALEN = 73, ASTORE = 74, HSTORE = 75, FSTORE = 77, XSTORE = 78, TNEW = 81, TDUP = 82,
    CNEWI = 84, CONV = 91, CALLS = 98, CALLXS = 99, CARG = 100,
  },
  nomm = 10, clear = 34,
}

local known ---@type luio.CompilerNumbers?

--- Those of the LuaJIT that runs.
---@return luio.CompilerNumbers?  nil: unknown
function M.get()
  if known then return known end
  local before = package.loaded["jit.vmdef"]
  local found, vmdef = pcall(require, "jit.vmdef")
  known = found and M.of(vmdef) or jit.version == "LuaJIT 2.1.0-beta3" and M.march_2022 or nil
  if not before then package.loaded["jit.vmdef"] = nil end -- 24 KiB, most of it names that nothing asks for
  return known
end

return M
