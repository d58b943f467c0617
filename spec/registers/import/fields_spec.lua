--- Fields: bits, values, reset; and numbers as SVD writes them.

local s = require "spec.registers.import.support"
local x = require "spec.registers.import.fixtures"
local numbers = require "luio.registers.import.numbers"

local function values(list, more)
  local xml = {}
  for _, v in ipairs(list) do
    table.insert(xml, ("<enumeratedValue>%s%s%s</enumeratedValue>"):format(v[1] and "<name>" .. v[1] .. "</name>" or "",
      v[2] and "<value>" .. v[2] .. "</value>" or "", v[3] or ""))
  end
  return "<enumeratedValues>" .. (more or "") .. table.concat(xml) .. "</enumeratedValues>"
end

local function field(range, more, register)
  local map, notes, text = s.registers(x.fields("A", 0, { { "F " .. range, more or "" } }, register))
  return map.A.field.F, notes, text
end

describe("a bit range", function()
  local function bits(xml)
    local map, notes = s.registers(x.register("A", 0, "<fields><field><name>F</name>" .. xml .. "</field></fields>"))
    local f = map.A.field.F
    return f and { f.high, f.low } or {}, notes
  end

  it("is stated in three ways", function()
    assert.same({ 6, 3 }, (bits "<lsb>3</lsb><msb>6</msb>"))
    assert.same({ 6, 3 }, (bits "<bitOffset> 0x3 </bitOffset><bitWidth>4</bitWidth>"))
    assert.same({ 6, 3 }, (bits "<bitRange>[6:3]</bitRange>"))
    assert.same({ 6, 3 }, (bits "<bitRange> 6 : 3 </bitRange>"))
  end)

  it("without a width is one bit, and a note", function()
    local range, notes = bits "<bitOffset>3</bitOffset>"
    assert.same({ 3, 3 }, range)
    assert.is_table(s.note(notes, "taken as one bit"))
  end)

  it("the wrong way round is turned, and noted", function()
    local range, notes = bits "<bitRange>[3:6]</bitRange>"
    assert.same({ 6, 3 }, range)
    assert.is_table(s.note(notes, "bits 3:6: taken as 6:3"))
  end)

  it("stated twice, differently, is noted", function()
    local range, notes = bits "<bitRange>[6:3]</bitRange><lsb>0</lsb><msb>1</msb>"
    assert.same({ 6, 3 }, range)
    assert.is_table(s.note(notes, "two bit ranges"))
    range, notes = bits "<bitRange>[6:3]</bitRange><lsb>3</lsb><msb>6</msb>"
    assert.same({ { 6, 3 }, {} }, { range, notes })
    assert.is_table(s.note(select(2, bits "<bitRange>[6:3]</bitRange><lsb>3</lsb><msb>7</msb>"), "two bit ranges"))
  end)

  it("that is none leaves the field out, and says so", function()
    for _, xml in ipairs { "", "<bitRange>all</bitRange>", "<lsb>-1</lsb><msb>4</msb>", "<bitOffset>2</bitOffset><bitWidth>0</bitWidth>" } do
      local range, notes = bits(xml)
      assert.same({}, range)
      assert.same({ "P.A.F" }, s.note(notes, "without bits is left out").where)
    end
  end)
end)

describe("values", function()
  it("are read in every notation", function()
    local f = field("3:0", values { { "A", "0" }, { "B", "0x1" }, { "C", "0X2" }, { "D", "#11" }, { "E", "0b100" }, { "G", " 5 " } })
    assert.same({ A = 0, B = 1, C = 2, D = 3, E = 4, G = 5 }, f.values)
  end)

  it("keep their spelling", function()
    local f = field("3:0", values { { "1/2", "0" }, { "end", "1" }, { 'a "b" \\', "2" }, { "two  words", "3" } })
    assert.same({ ["1/2"] = 0, ["end"] = 1, ['a "b" \\'] = 2, ["two words"] = 3 }, f.values)
  end)

  it("with don't-care bits are the lowest, the rest a remark", function()
    local f, notes, text = field("3:0", values { { "LOW", "#00x0" }, { "HIGH", "0b1xxx" } })
    assert.same({ LOW = 0, HIGH = 8 }, f.values)
    assert.matches("%[HIGH is 0b1xxx%]", text)
    assert.equal(2, s.note(notes, "don't%-care").count)
  end)

  it("by default are a remark", function()
    local f, notes, text = field("3:0", values { { "A", "0" }, { "REST", nil, "<isDefault>true</isDefault>" } })
    assert.same({ A = 0 }, f.values)
    assert.matches("%[REST otherwise%]", text)
    assert.is_table(s.note(notes, "isDefault"))
  end)

  it("for reading are what is shown, those for writing a remark", function()
    local xml = values({ { "READY", "1" } }, "<usage>read</usage>") .. values({ { "START", "1" } }, "<usage>write</usage>")
    local f, notes, text = field("0:0", xml)
    assert.same({ READY = 1 }, f.values)
    assert.matches("%[write: START = 1%]", text)
    assert.is_table(s.note(notes, "for reading and for writing"))
    f = field("0:0", xml .. "<access>write-only</access>")
    assert.same({ START = 1 }, f.values)
  end)

  it("that are the same both ways are said once", function()
    local xml = values({ { "ON", "1" } }, "<usage>read</usage>") .. values({ { "ON", "1" } }, "<usage>write</usage>")
    local f, notes = field("0:0", xml)
    assert.same({ ON = 1 }, f.values)
    assert.has_error(function() s.note(notes, "for reading and for writing") end)
  end)

  it("that don't fit, have no number or the same name are noted", function()
    local f, notes = field("1:0", values { { "A", "1" }, { "BIG", "4" }, { "NONE", "many" }, { "A", "2" }, { "EMPTY" }, { nil, "3" } })
    assert.same({ A = 1, A_0x2 = 2, VALUE_0x3 = 3 }, f.values)
    assert.is_table(s.note(notes, "does not fit in its field"))
    assert.is_table(s.note(notes, '"many" is no number'))
    assert.is_table(s.note(notes, "two values of one name"))
    assert.is_table(s.note(notes, "without a value"))
  end)

  it("of 64 bits are exact", function()
    local f = field("63:0", values { { "ALL", "0xffffffffffffffff" }, { "ODD", "0x20000000000001" } }, "<size>64</size>")
    assert.equal(0xffffffffffffffffULL, f.values.ALL)
    assert.equal(0x20000000000001ULL, f.values.ODD)
  end)
end)

describe("a reset value", function()
  it("is the register's", function()
    assert.equal(0x1234, s.registers(x.register("A", 0, "<resetValue>0x1234</resetValue>")).A.reset)
  end)

  it("is exact at 64 bits", function()
    local map = s.registers(x.register("A", 0, "<size>64</size><resetValue>18446744073709551615</resetValue>"))
    assert.equal(0xffffffffffffffffULL, map.A.reset)
  end)

  it("is inherited, and cut to the register without a word", function()
    local map, notes = s.import(x.peripheral(x.register("A", 0, "<size>8</size>"), "P", "<resetValue>0x1ff</resetValue>"))
    assert.equal(0xff, map.P.child.A.reset)
    assert.same({}, notes)
  end)

  it("that is too large for its own register is noted", function()
    local map, notes = s.registers(x.register("A", 0, "<size>8</size><resetValue>0x1ff</resetValue>"))
    assert.equal(0xff, map.A.reset)
    assert.is_table(s.note(notes, "larger than the register"))
  end)

  it("with a mask over all fields is the register's", function()
    local map, notes = s.registers(x.fields("A", 0, { "F 3:0" }, "<resetValue>0xff</resetValue><resetMask>0xf</resetMask>"))
    assert.equal(0xf, map.A.reset)
    assert.is_table(s.note(notes, "bits outside of the fields are unknown"))
  end)

  it("with a mask over some is those fields', the rest a remark", function()
    local map, notes, text = s.registers(x.fields("A", 0, { "F 3:0", "G 7:4", "H 9:8" }, "<resetValue>0x25</resetValue><resetMask>0x1f</resetMask>"))
    local f = map.A.field
    assert.is_nil(map.A.reset)
    assert.equal(5, f.F.reset)
    assert.is_nil(f.G.reset) -- one of its bits is unknown
    assert.is_nil(f.H.reset)
    assert.matches("%[reset 0x25, of the bits 0x1f%]", text)
    assert.is_table(s.note(notes, "resetMask"))
  end)

  it("with a mask of nothing is unknown", function()
    assert.is_nil(s.registers(x.register("A", 0, "<resetMask>0</resetMask>")).A.reset)
  end)

  it("of a field is the field's", function()
    assert.equal(2, field("3:0", "<resetValue>2</resetValue>").reset)
  end)
end)

describe("a number", function()
  it("is read in every notation, exactly", function()
    for text, value in pairs {
      ["0"] = 0, [" 42 "] = 42, ["+7"] = 7, ["010"] = 10, ["0x1F"] = 31, ["0X1f"] = 31, ["#101"] = 5, ["0b11"] = 3, ["4k"] = 4096,
      ["0x10M"] = 2 ^ 24, ["0x1fffffffffffff"] = 2 ^ 53 - 1,
    } do
      assert.equal(value, numbers.parse(text))
    end
    assert.equal(0x20000000000001ULL, numbers.parse "9007199254740993")
    assert.equal(0xffffffffffffffffULL, numbers.parse "0xFFFFFFFFFFFFFFFF")
  end)

  it("of more than 64 bits, or none at all, is none", function()
    for _, text in ipairs { "", "x", "0x", "#", "#2", "0b", "-1", "1.5", "1e3", "12ab", "18446744073709551616", "0x10000000000000000", "16777216T" } do
      assert.is_nil(numbers.parse(text))
    end
  end)
end)
