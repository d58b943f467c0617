--- Records a driver's functions when they are loaded, so that a reload's report names those that changed.
---
--- A function's behaviour is its bytecode and its upvalues: constants of the file, helpers, tables. So two functions are the same
--- if both are equal, recursively. They are recorded when a version has been loaded, because its variables change later. Objects
--- with a metatable, the driver's own table and luio's values count as equal: the first can be anything, and the driver's table
--- would change every function with each one that is added.

local errors = require "luio.errors"
local ffi = require "ffi"

local M = {}

local MOST = 5000 -- functions and tables that are recorded; the rest counts as equal

---@alias luio.LoadedCode table<function|table, { code: string?, uses: table }>

-- A number of a dump, in seven bits a byte, and where it ends.
local function number_at(code, at)
  local n, factor = 0, 1
  repeat
    local byte = code:byte(at)
    n, factor, at = n + byte % 128 * factor, factor * 128, at + 1
  until byte < 128
  return n, at
end

-- A function's bytecode, without the places in the surrounding function that its upvalues come from: they change with each local
-- that is stated above it. A dump (LuaJIT's src/lj_bcdump.h) has a header of five bytes, then the functions, each behind its length,
-- the inner ones first, and a 0. A function: four bytes, the last being the number of upvalues; three numbers, the last being that
-- of instructions; these, of four bytes; two bytes for each upvalue.
local function bytecode(fn)
  local code = string.dump(fn, true)
  local length, at = number_at(code, 6)
  local start
  while length > 0 do
    start = at
    length, at = number_at(code, at + length)
  end
  local upvalues, instructions = code:byte(start + 3), nil
  at = start + 4
  for _ = 1, 3 do instructions, at = number_at(code, at) end
  at = at + 4 * instructions
  return code:sub(1, at - 1) .. code:sub(at + 2 * upvalues)
end

-- A function's upvalues, or a table's fields.
local function uses_of(value)
  local uses = {}
  if type(value) == "table" then
    for key, inner in next, value do
      if type(key) ~= "table" and type(key) ~= "function" then uses[key] = inner end
    end
    return uses
  end
  for i = 1, 255 do
    local name, inner = debug.getupvalue(value, i)
    if not name then return uses end
    uses[i] = inner
  end
  return uses
end

--- Records a driver's functions.
---@param driver any  the result of its file
---@return luio.LoadedCode
function M.of(driver)
  local noted, left = {}, MOST
  local waiting = {}
  local function note(value)
    local kind = type(value)
    if kind ~= "function" and (kind ~= "table" or value == driver or debug.getmetatable(value)) then return end
    if noted[value] or left == 0 then return end
    local code
    if kind == "function" then
      local info = debug.getinfo(value, "S")
      if info.what == "C" or errors.is_ours(info.source) then return end
      code = bytecode(value)
    end
    noted[value], left = { code = code, uses = uses_of(value) }, left - 1
    table.insert(waiting, noted[value])
  end
  for _, value in next, type(driver) == "table" and driver or {} do
    if type(value) == "function" then note(value) end
  end
  while waiting[1] do
    for _, inner in pairs(table.remove(waiting).uses) do note(inner) end
  end
  return noted
end

local function same_number(a, b)
  local integers = ffi.istype("int64_t", a) or ffi.istype("uint64_t", a)
  return not integers or tostring(a) == tostring(b)
end

--- A function that tells whether two functions are the same.
---@param before luio.LoadedCode?  of the one version
---@param after luio.LoadedCode?   of the other
---@return fun(a: any, b: any): boolean
function M.comparer(before, after)
  local known = {} -- those that are being compared, too: a function may use itself
  before, after = before or {}, after or {}
  local function same(a, b)
    local kind = type(a)
    if kind ~= type(b) then return false end
    if a == b or a ~= a and b ~= b then return true end
    if kind == "cdata" then return same_number(a, b) end
    if kind ~= "function" and kind ~= "table" then return kind == "userdata" or kind == "thread" end
    local x, y = before[a], after[b]
    if not x or not y then return true end
    if known[x] == y then return true end
    if x.code ~= y.code then return false end
    known[x] = y
    for key, value in pairs(x.uses) do
      if not same(value, y.uses[key]) then
        known[x] = nil
        return false
      end
    end
    for key in pairs(y.uses) do
      if x.uses[key] == nil then
        known[x] = nil
        return false
      end
    end
    return true
  end
  return same
end

return M
