--- Code that LuaJIT builds compile wrongly, each fault as a short program that a driver could contain: data for compiler_spec.
---
--- `code` counts in `wrong`. Interpreted that is 0; the wrong figure was seen on Debian 12's LuaJIT (March 2022), on x86-64, with
--- LuaJIT's default settings. `arch`: shown only there. Faults of arm64 alone are shown by the file for a board (spec/dist).

---@class CompilerCase
---@field fault string  of luio.compiler.faults
---@field what string
---@field code string
---@field arch? string

---@type CompilerCase[]
return {
  { fault = "template", what = "a state that alternates in a table that is made anew", code = [[
    local state = { on = true }
    local on, off = 0, 0
    for _ = 1, 1000 do
      if state.on then
        on = on + 1
        state = { on = false }
      else
        off = off + 1
        state = { on = true }
      end
    end
    if on ~= 500 or off ~= 500 then wrong = 1 end]] },
  { fault = "template", what = "a number that is text in the next table", code = [[
    local t, sum = { n = 1 }, 0
    for i = 1, 1000 do
      sum = sum + t.n
      if i % 2 == 0 then t = { n = 1 } else t = { n = "2" } end
    end
    if sum ~= 1500 then wrong = 1 end]] },
  { fault = "rehash", what = "an element of a constant list, after a name was added to the list", code = [[
    for i = 6, 200 do
      local t = { 1, 2, 3, 4, 5, 6, 7, 8 }
      local k = 6 + i % 2
      t[k], t[k + 1] = "x", "x"
      t[1], t[2], t[3], t[4], t[5], t[6] = nil, nil, nil, nil, nil, nil
      t.name = 1
      if t[8] ~= (k == 7 and "x" or 8) then wrong = wrong + 1 end
    end]] },
  { fault = "length", what = "a queue that is filled by another name", code = [[
    local queue = { items = {} }
    local function push(x) queue.items[#queue.items + 1] = x end
    for i = 1, 300 do
      local items = {}
      queue.items = items
      local steps = 0
      while #items < 20 and steps < 100 do
        push(i)
        steps = steps + 1
      end
      if steps ~= 20 then wrong = wrong + 1 end
    end]] },
  { fault = "vararg", what = "`...` in a loop", code = [[
    local function f(...)
      for _ = 1, 200 do
        local a, b = ...
        if a ~= 11 or b ~= 22 then wrong = wrong + 1 end
      end
    end
    f(11, 22)
    f(11, 22, 33)]] },
  { fault = "shift", what = "fields of 64-bit values, first masked, then shifted", code = [[
    for i = 1, 300 do
      local v = 0x1200000000ULL * i
      local field = v / 0x100000000ULL % 0x10000ULL
      if bit.rshift(bit.band(v, 0xffff00000000ULL), 32) ~= field then wrong = wrong + 1 end
      if bit.rol(bit.band(v, 0xffff00000000ULL), 32) ~= field then wrong = wrong + 1 end
    end]] },
  { fault = "fusion", arch = "x64", what = "an element that was read before its table was cleared", code = [[
    local clear, ffi = require "table.clear", require "ffi"
    local t = { 42 }
    local same = t
    for _ = 1, 200 do
      local v = t[1]
      clear(t)
      if ffi.cast("int64_t", v) ~= 42LL then wrong = wrong + 1 end
      same[1] = 42
    end]] },
  { fault = "twice", what = "a new table with one key assigned twice", code = [[
    local kept
    for i = 1, 2000 do
      local t = {}
      t.kind = i
      if i % 3 == 0 then t.kind = -i end
      if i % 7 == 0 then kept = t end
      if i % 7 == 0 then
        local n = 0
        for _ in next, kept do n = n + 1 end
        if n ~= 1 then wrong = wrong + 1 end
      end
    end]] },
  { fault = "bounds", arch = "x64", what = "a loop beyond the end of a table that was made in it", code = [[
    local long = {}
    for i = 1, 200 do long[i] = 1 end
    local function sum_of(t, n)
      local sum = 0
      for i = 1, n do
        sum = sum + (t[i] or 0)
        t = {}
      end
      return sum
    end
    for _ = 1, 100 do
      if sum_of(long, 200) ~= 1 then wrong = wrong + 1 end
    end]] },
  { fault = "product", arch = "x64", what = "a product of 64 bits compared with 0", code = [[
    local a, b = 0ULL, 0ULL
    for _ = 1, 4000 do
      if 0ULL ~= b * a then wrong = wrong + 1 end
      b = b + 1ULL
    end
    local ffi = require "ffi"
    local bytes, five = ffi.new "uint8_t[4]", 5ULL
    for i = 1, 400 do -- compared at the very end of the loop
      bytes[i % 4] = 11
      if five * ffi.cast("uint64_t", bytes[1]) == 0 then wrong = wrong + 1 end
    end]] },
  { fault = "sign", arch = "x64", what = "a uint32_t above 0x7fffffff as an int64_t", code = [[
    local ffi = require "ffi"
    local words = ffi.new("uint32_t[2]", 0xc0000000, 5)
    for _ = 1, 300 do
      local big, small = ffi.cast("int64_t", words[0]), ffi.cast("int64_t", words[1])
      if big < small then wrong = wrong + 1 end
    end]] },
  { fault = "extension", arch = "arm64", what = "bits of a 64-bit value and an int32_t", code = [[
    local ffi = require "ffi"
    local words = ffi.new("int32_t[2]", -5, 7)
    for i = 1, 300 do
      local mask, word = 0x123456789abcLL + i, ffi.cast("int64_t", words[i % 2])
      if bit.bor(mask, word) + bit.band(mask, word) ~= mask + word then wrong = wrong + 1 end
    end]] },
  { fault = "pairing", arch = "arm64", what = "two fields of a descriptor", code = [[
    local ffi = require "ffi"
    ffi.cdef "typedef struct { int32_t length, status; } compiler_case_t;"
    local ring = ffi.new "compiler_case_t[64]"
    for i = 0, 63 do ring[i].length, ring[i].status = i, -i end
    local descriptors = ffi.cast("const compiler_case_t *", ring)
    for _ = 1, 10 do
      for i = 1, 64 do
        local d = descriptors[i - 1]
        local length, status = d.length, d.status
        if length ~= i - 1 or status ~= 1 - i then wrong = wrong + 1 end
      end
    end]] },
  { fault = "traversal", what = "pairs() in pairs(), where the outer loop can't be compiled", code = [[
    local inner = { 1, 2, 3, 4, 5 }
    local outer = { a = inner, b = inner, c = inner, d = inner, e = inner }
    local function interlude(...) for _ = 1, 100 do end end
    for _ = 1, 60000 do
      interlude()
      local n = 0
      for _, v in pairs(outer) do
        for _ in pairs(v) do end
        n = n + 1
      end
      if n ~= 5 then wrong = wrong + 1 end
    end]] },
}
