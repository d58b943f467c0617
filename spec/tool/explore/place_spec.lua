--- Places: their notation, and the messages about mistakes in it.

local place = require "luio.tool.explore.place"

local function parts(text)
  local p = assert(place.parse(text))
  p.text = nil
  return p
end

describe("a place", function()
  it("is a register, a field, an element, bits, or a pattern", function()
    assert.same({ kind = "name", path = "STATUS", pattern = false }, parts "STATUS")
    assert.same({ kind = "name", path = "STATUS.RAISE_IRQ", pattern = false }, parts "STATUS.RAISE_IRQ")
    assert.same({ kind = "name", path = "CHANNEL[2].CTRL", pattern = false }, parts "CHANNEL[2].CTRL")
    assert.same({ kind = "name", path = "STATUS", pattern = false, high = 7, low = 4 }, parts "STATUS[7:4]")
    assert.same({ kind = "name", path = "TABLE[3]", pattern = false, high = 7, low = 4 }, parts "TABLE[3][7:4]")
    assert.same({ kind = "name", path = "CH*[?].C*", pattern = true }, parts "CH*[?].C*")
  end)

  it("is an offset, with a region, a width, bits; or a range", function()
    assert.same({ kind = "raw", region = 0, offset = 0x20 }, parts "0x20")
    assert.same({ kind = "raw", region = 0, offset = 32, width = 32 }, parts "32:u32")
    assert.same({ kind = "raw", region = 2, offset = 0x20, width = 16, high = 7, low = 7 }, parts "2:0x20:u16[7:7]")
    assert.same({ kind = "range", region = 0, offset = 0, length = 0x40 }, parts "0x0+0x40")
    assert.same({ kind = "range", region = 1, offset = 16, length = 8, width = 8 }, parts "1:0x10+8:u8")
  end)

  it("that is none gets one line that says what was expected", function()
    for text, expected in pairs {
      [""] = "not a register", ["A..B"] = "not a register", ["A]"] = 'not a register at "]"', ["A[x]"] = 'not a register at "[x]"',
      ["A.B."] = "not a register", ["0xzz"] = "0xzz is not an offset", ["0x20:l"] = "u8, u16, u32 or u64, not l",
      ["0x20:u33"] = "not u33", ["0x0+0"] = "0 is not a length", ["0x0+4[1:0]"] = "a range has no bits", ["A[4:7]"] = "so [7:4]",
      ["A[64:0]"] = "at most 64 bits", ["99999999999999999999"] = "is not an offset",
    } do
      local p, message, code = place.parse(text)
      assert.is_nil(p)
      assert.equal("USAGE", code)
      assert.is_truthy(message:find(expected, 1, true), message)
      assert.is_nil(message:find "\n")
    end
  end)
end)

describe("a number", function()
  it("is decimal, hexadecimal or binary, up to 64 bits, and nothing else", function()
    assert.same({ 10, 16, 5, 4096 }, { place.number "10", place.number "0x10", place.number "0b101", place.number "0x10_00" })
    assert.equal(0xffffffffffffffffULL, place.number "0xffffffffffffffff")
    for _, text in ipairs { "", "x", "0x", "-1", "1.5", "18446744073709551616", "0b2", "_1", "nan" } do assert.is_nil(place.number(text)) end
  end)
end)

describe("an assignment", function()
  it("has a place and a value, and may go on with fields", function()
    local a = assert(place.assignment "CTRL.MODE=FAST,ENABLE=1")
    assert.same({ "CTRL.MODE", "FAST", { { name = "ENABLE", value = "1" } } }, { a.place.path, a.value, a.fields })
    assert.equal(7, assert(place.assignment "0x20:u32[7:7]=1").place.high)
    for text, expected in pairs { A = "REGISTER=VALUE", ["A="] = "REGISTER=VALUE", ["A*=1"] = "one is written at a time",
      ["0x0+4=1"] = "one is written at a time", ["A.X=1,Y"] = '"Y" is not FIELD=VALUE' } do
      local _, message, code = place.assignment(text)
      assert.equal("USAGE", code)
      assert.is_truthy(message:find(expected, 1, true), message)
    end
  end)
end)
