--- Plain data that is read back: unchanged, or refused; never a pointer, never larger than its bytes.

local buffer = require "string.buffer"
local ffi = require "ffi"
local plain = require "luio.text.plain"

local function decode(bytes) return plain.decode(bytes, #bytes) end

describe("luio.text.plain", function()
  it("reads what string.buffer wrote", function()
    for _, value in ipairs {
      0, -1, 1.5, 2 ^ 31, -2 ^ 53, 1 / 0, "", "text", ("x"):rep(0xbf), ("x"):rep(0xc0), ("x"):rep(0x1fbf), ("x"):rep(0x1fc0), ("x"):rep(1e5),
      true, false, {}, { 1, 2, "three" }, { [0] = 0, 1 }, { a = 1, b = { c = {} } }, { 1, 2, a = "both", [2.5] = true, [false] = "no" },
      { nil, nil, 3 },
    } do
      assert.same(value, decode(buffer.encode(value)))
    end
    assert.is_nil((decode(buffer.encode(nil))))
    assert.equal(7ULL, decode(buffer.encode { 7ULL })[1])
    assert.equal(-7LL, decode(buffer.encode { -7LL })[1])
  end)

  local function random_value(depth)
    local kind = math.random(depth > 4 and 4 or 6)
    if kind == 1 then return math.random() * 2 ^ math.random(-100, 100) end
    if kind == 2 then return math.random(-2 ^ 31, 2 ^ 31 - 1) end
    if kind == 3 then return ("s"):rep(math.random(0, 400)) end
    if kind == 4 then return math.random() < 0.5 end
    local t = {}
    for i = 1, math.random(0, 12) do t[math.random() < 0.5 and i or "k" .. i] = random_value(depth + 1) end
    return t
  end

  it("reads random values back, and random damage without harm", function()
    math.randomseed(14)
    for _ = 1, 300 do
      local value = random_value(0)
      local bytes = buffer.encode(value)
      assert.same(value, decode(bytes))
      for _ = 1, 10 do
        local at = math.random(#bytes)
        decode(bytes:sub(1, at - 1) .. string.char(math.random(0, 255)) .. bytes:sub(at + 1))
        decode(bytes:sub(1, at - 1))
      end
    end
    collectgarbage()
  end)

  it("refuses what is no plain data, and says why", function()
    for name, case in pairs {
      pointer = { "\3", "tag 0x03" },
      ["a 32-bit pointer"] = { "\4\1\2\3\4", "tag 0x04" },
      ["a 64-bit pointer"] = { "\5" .. ("\1"):rep(8), "tag 0x05" },
      ["a complex number"] = { "\18" .. ("\0"):rep(16), "tag 0x12" },
      ["a metatable"] = { "\14\0\8", "tag 0x0e" },
      ["a word of a dictionary"] = { "\15\0", "tag 0x0f" },
      nothing = { "", "cut short" },
      ["half a number"] = { "\7\0\0\0", "cut short" },
      ["a string longer than all"] = { "\255\255\255\255\255x", "cut short" },
      ["an array of 2^32 - 1"] = { "\12\255\255\255\255\255\0", "cut short" },
      ["a hash of 2^32 - 1"] = { "\9\255\255\255\255\255" .. "\33k\0", "cut short" },
      ["a key that is nil"] = { "\9\1\0\0", "a key that is none" },
      ["a key that is NaN"] = { "\9\1\7" .. ("\255"):rep(8) .. "\0", "a key that is none" },
      ["what follows"] = { "\1\1", "1 bytes are left over" },
      ["tables in tables without end"] = { ("\12\2"):rep(1e5), "too deep" },
    } do
      local value, why = decode(case[1])
      assert.is_nil(value, name)
      assert.is_truthy(why and why:find(case[2], 1, true), ("%s: %s"):format(name, tostring(why)))
    end
  end)

  it("makes no table that is larger than its bytes", function()
    collectgarbage()
    local before = collectgarbage "count"
    local bytes = ("\12\255\0\0\0\4"):rep(50) -- fifty arrays of 2^26, each in the one before
    assert.is_nil((decode(bytes)))
    assert.is_true(collectgarbage "count" - before < 100)
  end)

  it("makes a number of any NaN, never a pointer", function()
    for _, high in ipairs { 0xfff, 0xfffb, 0xfffd, 0x7ff4, 0xffff } do
      local bits = ffi.new("uint8_t[8]", 0x78, 0x56, 0x34, 0x12, 0x34, 0x12)
      bits[6], bits[7] = high % 256, math.floor(high / 256)
      local value = decode("\7" .. ffi.string(bits, 8))
      assert.equal("number", type(value))
      if high ~= 0xfff then assert.is_true(value ~= value) end
    end
    collectgarbage()
  end)
end)
