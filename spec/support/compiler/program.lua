--- Random programs of the kind that drivers are: loops over constant lists, tables from templates that are replaced while a loop
--- runs, queues, counters, varargs, closures, 64-bit masks and shifts, FFI arrays, strings, pairs() and next(). Each is a function
--- of no argument that returns a number: a digest of all values that it met. Interpreted and compiled it must be the same.

local M = {}

-- The common part of the programs. `see` takes a value into the digest.
M.PRELUDE = [[
local ffi, bit = require "ffi", require "bit"
local digest = 0
local function see(v)
  local kind = type(v)
  local n
  if kind == "number" then n = v % 1000003
  elseif kind == "string" then n = #v * 7 + (v:byte() or 3)
  elseif kind == "cdata" then n = tonumber(v % 1000003ULL)
  elseif v == nil then n = 11
  elseif v == true then n = 13
  elseif v == false then n = 17
  else n = 19 end
  digest = (digest * 31 + n) % 2147483647
end
]]

-- A generator's own random numbers: the same on every machine.
local function dice(seed)
  local state = seed % 2147483646 + 1
  return function(n)
    state = state * 16807 % 2147483647
    return state % n + 1
  end
end

--- The text of program number `seed`.
---@param seed integer
---@return string
function M.text(seed)
  local roll = dice(seed * 7919 + 17)
  for _ = 1, 5 do roll(9) end
  local function pick(list) return list[roll(#list)] end
  local lines, indent, depth = {}, 1, 0
  local function put(text, ...) lines[#lines + 1] = ("  "):rep(indent) .. (select("#", ...) > 0 and text:format(...) or text) end
  local names = 0
  local function fresh(prefix)
    names = names + 1
    return prefix .. names
  end

  local KEYS = { "a", "b", "ok", "mode", "next" }
  local NUMBERS, TABLES, STRINGS, WIDE = { "n1", "n2", "i" }, { "t1", "t2", "t3" }, { "s1", "s2" }, { "w1", "w2" }

  local constant, number, value, wide, str
  function constant()
    return pick { "1", "2", "-1", "0.5", '"x"', '"yy"', "true", "false", "nil", "7" }
  end
  function number()
    local k = roll(11)
    if k <= 4 then return pick(NUMBERS) end
    if k == 5 then return tostring(roll(9)) end
    if k == 6 then return ("(%s %s %s)"):format(pick(NUMBERS), pick { "+", "-", "*" }, pick(NUMBERS)) end
    if k == 7 then return ("#%s"):format(pick { "q1", "q2", "s1" }) end
    if k == 8 then return ("(tonumber(%s.%s) or %d)"):format(pick(TABLES), pick(KEYS), roll(9)) end
    if k == 9 then return ("bit.%s(%s, %d)"):format(pick { "band", "bor", "bxor", "rshift", "lshift", "rol" }, pick(NUMBERS), roll(20)) end
    if k == 10 then return ("%s[%s %% 4]"):format(pick { "u8", "u16", "u32", "i32" }, pick(NUMBERS)) end
    return ("(%s %% %d)"):format(pick(NUMBERS), roll(5) + 1)
  end
  function str()
    local k = roll(5)
    if k <= 2 then return pick(STRINGS) end
    if k == 3 then return ("(%s .. %s)"):format(pick(STRINGS), pick { '"x"', "(n1 % 10)" }) end
    if k == 4 then return ("%s:sub(1, %d)"):format(pick(STRINGS), roll(4)) end
    return ('("%%d"):format(%s %% 100)'):format(pick(NUMBERS))
  end
  function wide()
    local k = roll(9)
    if k <= 2 then return pick(WIDE) end
    if k == 3 then return ("bit.%s(bit.band(%s, 0x%x%sULL), %d)"):format(pick { "rshift", "lshift", "rol", "ror", "arshift" }, pick(WIDE),
      roll(255), pick { "", "00", "00000000", "0000000000" }, roll(63)) end
    if k == 4 then return ("bit.%s(%s, %s)"):format(pick { "band", "bor", "bxor" }, pick(WIDE), pick(WIDE)) end
    if k == 5 then return ("(%s %s %s)"):format(pick(WIDE), pick { "+", "-", "*" }, pick { "i", "3ULL", pick(WIDE) }) end
    if k == 6 then -- no negative numbers to uint64_t: not defined
      return ("ffi.cast(%s)"):format(pick { '"uint64_t", u32[i % 4]', '"int64_t", u32[n1 % 4]', '"int64_t", i32[i % 4]', '"uint64_t", u8[1]' })
    end
    if k == 7 then return ("(1LL + ffi.cast('int64_t', u32[%s %% 4]))"):format(pick(NUMBERS)) end
    if k == 8 then return "u64[i % 4]" end
    return ("bit.rshift(%s, %d)"):format(pick(WIDE), roll(40))
  end
  function value()
    local k = roll(7)
    if k == 1 then return constant() end
    if k <= 4 then return number() end
    if k == 5 then return str() end
    if k == 6 then return ("%s.%s"):format(pick(TABLES), pick(KEYS)) end
    return ("%s[%d]"):format(pick { "q1", "q2", "list" }, roll(4))
  end
  local function condition()
    local k = roll(7)
    if k == 1 then return ("%s.%s"):format(pick(TABLES), pick(KEYS)) end
    if k == 2 then return ("%s.%s == nil"):format(pick(TABLES), pick(KEYS)) end
    if k == 3 then return ("i %% %d == %d"):format(roll(4) + 1, roll(2) - 1) end
    if k == 4 then return ("%s.%s == %s"):format(pick(TABLES), pick(KEYS), constant()) end
    if k == 5 then return ("%s < %s"):format(number(), number()) end
    if k == 6 then return ("%s == %s"):format(str(), str()) end
    return ("%s * %s == 0"):format(pick(WIDE), wide())
  end
  local function template()
    local parts = {}
    for _ = 1, roll(3) do
      local k = roll(6)
      if k <= 3 then parts[#parts + 1] = ("%s = %s"):format(pick(KEYS), roll(3) == 1 and value() or constant())
      elseif k <= 5 then parts[#parts + 1] = constant()
      else parts[#parts + 1] = ("[%d] = %s"):format(roll(6), constant()) end
    end
    return "{ " .. table.concat(parts, ", ") .. " }"
  end

  local block
  local function list_of_constants()
    local parts = {}
    for _ = 1, roll(4) do parts[#parts + 1] = pick { '"a"', '"bb"', "1", "2", '"ok"', "true" } end
    return "{ " .. table.concat(parts, ", ") .. " }"
  end

  local statements = {
    function() put("see(%s)", value()) end,
    function() put("see(%s)", wide()) end,
    function() put("%s = %s %% 100000", pick { "n1", "n2" }, number()) end,
    function() put("%s = (%s):sub(-6)", pick(STRINGS), str()) end,
    function() put("%s = %s", pick(WIDE), wide()) end,
    function() put("%s = %s", pick(TABLES), template()) end,
    function() put("%s = %s", pick(TABLES), template()) end,
    function() put("%s.%s = %s", pick(TABLES), pick(KEYS), value()) end,
    function() put("%s[%d] = %s", pick(TABLES), roll(6), value()) end,
    function() -- No holes: the length of a list with holes is any of several.
      local q = pick { "q1", "q2" }
      put("%s[#%s + 1] = %s", q, q, value())
    end,
    function() put("table.insert(%s, %s)", pick { "q1", "q2" }, roll(2) == 1 and number() or str()) end,
    function() put("see(table.remove(%s))", pick { "q1", "q2" }) end,
    function() put("if #%s > 6 then %s = {} end", pick { "q1", "q2" }, pick { "q1", "q2" }) end,
    function() put("q2 = q1") end,
    function() put("%s = %s", pick(TABLES), pick(TABLES)) end,
    function() -- In range: the conversion of a larger number to int32_t is not defined.
      put("%s[%s %% 4] = %s", unpack(pick {
        { "u8", pick(NUMBERS), "n1 % 256" }, { "u16", pick(NUMBERS), "65535 - i" }, { "u32", pick(NUMBERS), "4294967295 - i" },
        { "i32", pick(NUMBERS), "i - 40" },
      }))
    end,
    function() put("u64[%s %% 4] = %s", pick(NUMBERS), wide()) end,
    function() put("see(call%d(%s, %s))", roll(4), value(), value()) end,
    function() put("see(select('#', all(%s, %s)))", value(), value()) end,
    function() put("%s = count()", pick { "n1", "n2" }) end,
    function()
      put("for _, x in ipairs %s do", list_of_constants())
      block(roll(2), "see(x)")
      put "end"
    end,
    function()
      local t = pick(TABLES)
      put("for _, key in ipairs { %s } do", ('"%s", "%s", "%s"'):format(pick(KEYS), pick(KEYS), pick(KEYS)))
      block(roll(2), roll(2) == 1 and ("see(%s[key])"):format(t) or ("%s[key] = %s"):format(t, value()))
      put "end"
    end,
    function()
      local j = fresh "j"
      put("for %s = 1, %s do", j, pick { "2", "3", "i % 3", "4" })
      block(roll(2), ("see(%s[%s])"):format(pick { "list", "q1", "t1" }, j))
      put "end"
    end,
    function()
      local j = fresh "j"
      put("local %s = %s", j, pick { "0", "i % 2" })
      put("while %s < %d do", j, roll(3))
      block(roll(2), ("%s = %s + 1"):format(j, j))
      put "end"
    end,
    function()
      put("if %s then", condition())
      block(roll(2))
      if roll(2) == 1 then
        put "else"
        block(roll(2))
      end
      put "end"
    end,
    function()
      local sum = fresh "sum"
      put("local %s = 0", sum)
      put("for k, v in %s(%s) do %s = %s + #tostring(k) + (tonumber(v) or 2) %% 100 end", pick { "pairs", "pairs", "next," }, pick(TABLES),
        sum, sum)
      put("see(%s)", sum)
    end,
    function()
      local f = fresh "f"
      put("local function %s(a, ...)", f)
      block(1, "local b = ...")
      put("  see(b) return a")
      put "end"
      put("see(%s(%s, %s))", f, value(), value())
    end,
    function() put("see(next(%s) ~= nil)", pick(TABLES)) end,
    function()
      local t = fresh "t"
      put("local %s = {}", t)
      put("%s.a = %s", t, value())
      if roll(2) == 1 then put("if %s then %s.a = %s end", condition(), t, value()) end
      put("%s.%s = %s", t, pick(KEYS), value())
      put("if %s then t1 = %s end", condition(), t)
      put("see(%s.a)", t)
    end,
    function()
      local t = fresh "t"
      put("local %s = { %s, %s, %s }", t, number(), number(), value())
      put("for j = 1, i %% 6 do see(%s[j]) end", t)
    end,
    function() put("q1, q2 = { %s }, { %s }", constant(), constant()) end,
  }

  function block(n, first)
    depth, indent = depth + 1, indent + 1
    if first then put(first) end
    for _ = 1, n do
      local s = statements[roll(#statements)]
      -- Nested blocks end somewhere.
      if depth > 3 then s = statements[roll(19)] end
      s()
    end
    depth, indent = depth - 1, indent - 1
  end

  put("local n1, n2, s1, s2 = %d, %d, 'ab', 'c'", roll(50), roll(50))
  put "local w1, w2 = 0x123456789abcULL, 5ULL"
  put("local t1, t2, t3 = { %s = %s, %s }, { a = 1, ok = true }, {}", pick(KEYS), constant(), constant())
  put "local q1, q2 = {}, {}"
  put "local list = { 1, 'two', 3, true, 5.5 }"
  put "local u8, u16, u32, i32, u64 = ffi.new 'uint8_t[4]', ffi.new 'uint16_t[4]', ffi.new 'uint32_t[4]', ffi.new 'int32_t[4]', ffi.new 'uint64_t[4]'"
  put "local i = 1"
  put "local function all(...) local a, b = ... see(a) return ... end"
  put "local ticks = 0"
  put "local function count() ticks = ticks + 1 return ticks end"
  for k = 1, 4 do
    put("local function call%d(x, y)", k)
    indent = indent + 1
    if k == 1 then put("local t = %s if t[x] then return y end return t.%s", "{ a = 1, ok = true, [1] = 'one', x = 2 }", pick(KEYS))
    elseif k == 2 then put("for _, name in ipairs %s do if name == x then return name end end return y", list_of_constants())
    elseif k == 3 then put "local n = 0 for _, v in ipairs { x, y, 1 } do n = n + (tonumber(v) or 1) end return n"
    else put "local t = { kind = x } if y then t.other = y t.kind = y end t2 = t return t.kind" end
    indent = indent - 1
    put "end"
  end
  put("for round = 1, %d do", roll(3))
  indent = indent + 1
  put("for index = 1, %d do", 20 + roll(60))
  put "  i = index"
  block(3 + roll(6))
  put "end"
  put "see(n1) see(s1) see(w1) see(t1.a) see(#q1)"
  indent = indent - 1
  put "end"
  put "return digest"
  return M.PRELUDE .. table.concat(lines, "\n") .. "\n"
end

return M
