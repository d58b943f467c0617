--- Watches LuaJIT record traces, and keeps code out of them that the installed build compiles wrongly.
---
--- LuaJIT calls `jit.attach(fn, "record")` handlers before each bytecode instruction that it records. Ours reads the intermediate
--- code that came since (jit.util.traceir). When it finds what a fault needs (faults.lua), it switches off one optimisation until
--- the trace is finished, or makes the recorder give the trace up; that code goes on being interpreted, and is correct. Every other
--- trace is compiled as ever, and compiled code costs nothing more than before.
---
--- Why this is safe:
--- - The handler is never compiled, calls nothing but C functions of LuaJIT's and allocates no memory that a collection could
---   start at: a finalizer would run in the middle of a recording.
--- - Only "record" is attached. The "trace" event's handler crashes in these builds when a recording is given up where no Lua
---   function is on the stack (LuaJIT's b138ccfa). So the beginning of a new trace is detected from its intermediate code.
--- - Switches are restored at the next trace's first event, and before a call of jit.opt.start.

jit.off(true, true) -- nor what it calls

local M = {}

local util = require "jit.util"
local funcbc, traceir, tracek = util.funcbc, util.traceir, util.tracek
local next, type, select, tonumber = next, type, select, tonumber

-- IRT_*, lj_ir.h: the same since 2009.
local TYPE_MASK, P32, P64, FLOAT, NUM, INT, U32, I64, U64 = 0x1f, 5, 9, 13, 14, 19, 20, 21, 22
local CTID_INT64 = 11 -- lj_ctype.h

local numbers = assert(require("luio.compiler.numbers").get())
local OP, IR = numbers.op, numbers.ir

-- ---- Optimisations, and the user's own settings --------------------------------------------------

local set = jit.opt.start -- LuaJIT's own
local wanted = {} -- optimisations that are on when we are not at it
local most_records = "maxrecord=4000" -- LuaJIT's default; jit.status() does not say

local without = {} -- those that are off for this trace
local refused = false
local careful = false -- folding is off for one instruction

local function off(name)
  if not wanted[name] or without[name] then return end
  without[name] = true
  set("-" .. name)
end

-- The recorder looks at the number of instructions after each one, and this is always too many.
local function refuse()
  refused = true
  set "maxrecord=0"
end

local function put_back()
  if careful then set "+fold" end
  if refused then set(most_records) end
  careful, refused = false, false
  for name in next, without do
    set("+" .. name)
    without[name] = nil
  end
end

local function read_settings()
  wanted = {}
  for i = 1, select("#", jit.status()) do
    local name = select(i, jit.status())
    if type(name) == "string" then wanted[name] = true end
  end
end

--- Replaces jit.opt.start.
---@param ... string|integer  as jit.opt.start takes them: "hotloop=10"
function M.start(...)
  put_back()
  for i = 1, select("#", ...) do
    local text = select(i, ...)
    if type(text) == "string" and text:match "^maxrecord=%d+$" then most_records = text end
  end
  local ok, message = pcall(set, ...)
  read_settings()
  if not ok then error(message, 2) end
end

-- ---- The trace so far ----------------------------------------------------------------------------

local trace        -- its number
local seen         -- the last instruction that was looked at
local seen_ot, seen_op1, seen_op2
local serial = 0   -- of the trace: marks in the tables below belong to the trace with this number

local made         -- a table was made
local hoisted      -- a bounds check was made for a whole loop
local numbered     -- from a template with a number among its keys
local loaded       -- a number was read from a table
local new_key, stored = {}, {} -- reference of a NEWREF -> serial
local measured, filled         -- tables of which the length was taken, that were stored to: a reference, or -1: several
local masked, shifted, product -- 64-bit values

local function begin(tr)
  put_back()
  trace, seen, serial = tr, 0, serial + 1
  made, hoisted, numbered, loaded, masked, shifted, product = false, false, false, false, false, false, false
  measured, filled = nil, nil
end

local function opcode(ref)
  local _, ot = traceir(trace, ref)
  return ot and (ot - ot % 256) / 256
end

local function irtype(ot) return ot % (TYPE_MASK + 1) end

local function is64(ot)
  local t = irtype(ot)
  return t == I64 or t == U64
end

local handlers = {} -- opcode -> function(ref, ot, op1, op2)

local function add(name, fn)
  local op = IR[name]
  if not op then return end
  local before = handlers[op]
  handlers[op] = before and function(...)
    before(...)
    fn(...)
  end or fn
end

local at = {} -- bytecode -> function(ins, depth)
local of = {} -- C function -> function()

-- ---- Detection of each fault -----------------------------------------------------------------------

local rules = {}

function rules.traversal()
  at[OP.ITERN or -1] = refuse
  of[next] = refuse
end

function rules.template()
  add("TDUP", function() off "loop" end)
end

function rules.rehash()
  add("TDUP", function(_, _, op1)
    local template = not numbered and tracek(trace, op1)
    if type(template) ~= "table" then return end
    for key in next, template do
      if type(key) == "number" then
        numbered = true
        return
      end
    end
  end)
  add("NEWREF", function()
    if numbered then off "fwd" end
  end)
end

function rules.length()
  local function check()
    if measured and filled and (measured ~= filled or measured == -1) then
      off "loop"
      off "fwd"
    end
  end
  add("ALEN", function(_, _, op1)
    measured = (measured or op1) == op1 and op1 or -1
    check()
  end)
  add("ASTORE", function(_, _, op1)
    local _, _, array = traceir(trace, op1) -- AREF
    local _, _, tab = traceir(trace, array) -- FLOAD tab.array
    if opcode(array) ~= IR.FLOAD then tab = array end
    filled = (filled or tab) == tab and tab or -1
    check()
  end)
end

function rules.vararg()
  at[OP.VARG] = function(ins, depth)
    if depth == 0 and (ins >= 0x1000000 or ins < 0) then refuse() end -- B is not 0: a fixed number of results
  end
end

function rules.shift()
  local function check()
    if masked and shifted then off "loop" end
  end
  add("BAND", function(_, ot, _, op2)
    if is64(ot) and op2 < 0 then
      masked = true
      check()
    end
  end)
  local function seen_shift(_, ot)
    if is64(ot) then
      shifted = true
      check()
    end
  end
  for _, name in next, { "BSHR", "BSAR", "BROL", "BROR" } do add(name, seen_shift) end
  local function fold_nothing()
    if masked and wanted.fold and not without.fold then
      careful = true
      set "-fold"
    end
  end
  for _, name in next, { "rshift", "arshift", "rol", "ror" } do of[require "bit"[name]] = fold_nothing end
end

function rules.fusion()
  local function load(_, ot)
    if irtype(ot) == NUM or irtype(ot) == INT then loaded = true end
  end
  add("ALOAD", load)
  add("HLOAD", load)
  local function move()
    if loaded then off "fuse" end
  end
  add("NEWREF", move)
  add("CALLS", function(_, _, _, op2)
    if op2 == numbers.clear then move() end
  end)
end

function rules.twice()
  add("NEWREF", function(ref)
    if made then new_key[ref] = serial end
  end)
  add("HSTORE", function(_, _, op1)
    if new_key[op1] ~= serial then return end
    if stored[op1] == serial then off "sink" end
    stored[op1] = serial
  end)
end

function rules.metatable()
  add("FSTORE", function(_, _, op1)
    local _, _, _, field = traceir(trace, op1) -- FREF
    if made and field == numbers.nomm then off "sink" end
  end)
end

function rules.variadic()
  add("CALLXS", function(_, _, _, op2)
    if op2 >= 0 and opcode(op2) == IR.CARG then off "loop" end
  end)
end

function rules.bounds()
  -- The check before a loop over an array has a type of its own. Tables made in the loop have a size that is known, which is
  -- when it is dropped.
  local function check()
    if made and hoisted then off "loop" end
  end
  add("ABC", function(_, ot)
    if irtype(ot) == P32 then
      hoisted = true
      check()
    end
  end)
  add("TNEW", check)
  add("TDUP", check)
end

function rules.product()
  local function multiplied(_, ot)
    if is64(ot) then product = true end
  end
  add("MUL", multiplied)
  -- The comparison itself is recorded late, perhaps after the last look. A product is followed by the box that holds it, except in
  -- the loop's second copy: only there is the flag used.
  local function compared()
    if product then off "loop" end
  end
  local meta = debug.getmetatable(require("ffi").new "int64_t")
  for _, name in next, { "__eq", "__lt", "__le" } do of[meta[name]] = compared end
end

function rules.sign()
  add("CNEWI", function(_, _, op1, op2)
    if op2 < 0 then return end
    local _, ot = traceir(trace, op2)
    if irtype(ot) == U32 and tracek(trace, op1) == CTID_INT64 then refuse() end
  end)
end

function rules.extension()
  local function check(_, ot, op1, op2)
    if is64(ot) and (opcode(op1) == IR.CONV or opcode(op2) == IR.CONV) then off "fuse" end
  end
  for _, name in next, { "BAND", "BOR", "BXOR" } do add(name, check) end
end

function rules.pairing()
  local SIZE = { [INT] = 4, [U32] = 4, [FLOAT] = 4, [NUM] = 8, [I64] = 8, [U64] = 8, [P64] = 8 }
  local function check(_, ot, op1)
    local size = SIZE[irtype(ot)]
    if not size or opcode(op1) ~= IR.ADD then return end
    local _, _, _, offset = traceir(trace, op1)
    if offset >= 0 then return end -- no constant
    local constant = tracek(trace, offset) -- first of two
    offset = tonumber(constant)
    if offset < 0 or offset % size ~= 0 then off "fuse" end
  end
  add("XLOAD", check)
  add("XSTORE", check)
end

-- ---- The event -----------------------------------------------------------------------------------

local function record(tr, func, pc, depth)
  if tr ~= trace or refused then
    begin(tr)
  else
    -- The number is given out again after a trace was given up.
    local _, ot, op1, op2 = traceir(tr, seen)
    if ot ~= seen_ot or op1 ~= seen_op1 or op2 ~= seen_op2 then
      begin(tr)
    elseif careful then
      careful = false
      set "+fold"
    end
  end
  local ref = seen + 1
  local _, ot, op1, op2 = traceir(tr, ref)
  while ot do
    local fn = handlers[(ot - ot % 256) / 256]
    if fn then fn(ref, ot, op1, op2) end
    ref = ref + 1
    _, ot, op1, op2 = traceir(tr, ref)
  end
  seen = ref - 1
  _, seen_ot, seen_op1, seen_op2 = traceir(tr, seen)
  if pc < 0 then
    local fn = of[func]
    if fn then fn() end
  else
    local ins = funcbc(func, pc)
    local fn = at[ins % 256]
    if fn then fn(ins, depth) end
  end
end

--- Begins to look on, for these faults.
---@param faults luio.CompilerFault[]
---@return fun(trace: integer, func: function, pc: integer, depth: integer) record  the handler
function M.begin(faults)
  local function tables()
    made = true
  end
  add("TNEW", tables)
  add("TDUP", tables)
  for _, fault in next, faults do rules[fault.name]() end
  read_settings()
  return record
end

return M
