--- dim: arrays, lists and rows, in every spelling of their names and indices.

local s = require "spec.registers.import.support"
local x = require "spec.registers.import.fixtures"

local function repeated(name, dim, more)
  return "<register>" .. dim .. ("<name>%s</name><addressOffset>0x10</addressOffset>%s</register>"):format(name, more or "")
end

describe("a register with dim", function()
  it("is an array when it counts from 0, however it is written", function()
    for _, case in ipairs {
      { "CH[%s]", nil, "CH" }, { "CH%s", nil, "CH" }, { "CH%s", "0,1,2", "CH" }, { "CH%s", "0-2", "CH" }, { "CH_%s", "0-2", "CH" },
      { "CH%s_CTRL", "0 , 1,2", "CH_CTRL" }, { "CH_%s_CTRL", "0-2", "CH_CTRL" }, { "CH[%s]CTRL", nil, "CHCTRL" }, { "CH", nil, "CH" },
    } do
      local map = s.registers(repeated(case[1], x.dim(3, 8, case[2])))
      assert.same({ { case[3], 0x10 } }, s.places(map))
      assert.same({ 3, 8 }, { map[case[3]].count, map[case[3]].stride })
    end
  end)

  it("has names of its own when it counts otherwise", function()
    for _, case in ipairs {
      { "CH%s", "A,B,C", { "CHA", "CHB", "CHC" } }, { "CH%s", "A-C", { "CHA", "CHB", "CHC" } }, { "P%sX", "3-5", { "P3X", "P4X", "P5X" } },
      { "CH[%s]", "1,2,4", { "CH1", "CH2", "CH4" } }, { "CH%s", "RX, TX ,AUX", { "CHRX", "CHTX", "CHAUX" } },
      { "CH%s", "2-0", { "CH2", "CH1", "CH0" } },
    } do
      local map = s.registers(repeated(case[1], x.dim(3, 4, case[2])))
      assert.same({ { case[3][1], 0x10 }, { case[3][2], 0x14 }, { case[3][3], 0x18 } }, s.places(map))
    end
  end)

  it("does not take the name of another", function()
    local map = s.registers(repeated("CH%s", x.dim(2, 4)) .. x.register("CH", 0))
    assert.same({ { "CH", 0 }, { "CH0", 0x10 }, { "CH1", 0x14 } }, s.places(map))
  end)

  it("says which index is meant in what it says of an element", function()
    local _, _, text = s.registers(repeated("P%s", x.dim(2, 4, "A,B"), "<description>port %s</description>"))
    assert.matches('PA = [^\n]* description = "port A" },\n', text)
    assert.matches('PB = [^\n]* description = "port B" },\n', text)
  end)

  it("is spread out where elements overlap", function()
    local map, notes = s.registers(repeated("CH%s", x.dim(2, 0)))
    assert.same({ 0x10, "CH0" }, { map.CH1.offset, map.CH1.alias })
    assert.is_table(s.note(notes, "elements of 4 bytes every 0 bytes"))
  end)

  it("with an index that is not as long as dim says so, and counts from 0", function()
    local map, notes = s.registers(repeated("CH%s", x.dim(3, 4, "A,B")))
    assert.equal(3, map.CH.count)
    assert.same({ "P.CH%s" }, s.note(notes, 'dimIndex "A,B" is not the 3 indices').where)
  end)

  it("without an increment has its size", function()
    local map, notes = s.registers(repeated("CH%s", "<dim>2</dim>"))
    assert.same({ 2, 4 }, { map.CH.count, map.CH.stride })
    assert.is_table(s.note(notes, "dim without dimIncrement"))
  end)

  it("of none is left out, of a billion an error", function()
    local map, notes = s.registers(repeated("CH%s", x.dim(0, 4)) .. x.register("A", 0))
    assert.same({ { "A", 0 } }, s.places(map))
    assert.is_table(s.note(notes, "dim is 0"))
    local none, message, code = s.import(x.peripheral(repeated("CH%s", x.dim("1099511627776", 4))))
    assert.is_nil(none)
    assert.matches("^SVD:%d+: dim of P.CH%%s is 1099511627776: at most 65536$", message)
    assert.equal("E2BIG", code)
  end)
end)

describe("a cluster with dim", function()
  local function cluster(name, dim, inner)
    return ("<cluster>%s<name>%s</name><addressOffset>0x40</addressOffset>%s</cluster>"):format(dim, name, inner)
  end

  it("is an array of blocks", function()
    local map = s.registers(cluster("DMA[%s]", x.dim(4, "0x20"), x.register("SRC", 0) .. x.register("DST", 4)))
    assert.same({ 0x40, 4, 0x20 }, { map.DMA.offset, map.DMA.count, map.DMA.stride })
    local last
    map:each(function(path, _, offset) last = { path, offset } end)
    assert.same({ "DMA[3].DST", 0xa4 }, last)
  end)

  it("with names is blocks that are written once", function()
    local map, _, text = s.registers(cluster("PORT%s", x.dim(2, "0x20", "A,B"), x.register("SOURCE", 0)))
    assert.same({ { "PORTA", 0x40 }, { "PORTB", 0x60 } }, s.places(map))
    local _, times = text:gsub("SOURCE", "")
    assert.equal(1, times)
  end)

  it("and a stride larger than a map may have, which only its size can give, is blocks, too", function()
    local function sized(offset) return (s.places(s.registers(cluster("CH[%s]", "<dim>2</dim>", x.register("A", offset))))) end
    assert.same({ { "CH", 0x40 } }, sized "0xfffffffffc")
    assert.same({ { "CH0", 0x40 }, { "CH1", 0x10000000044 } }, sized "0x10000000000")
  end)

  it("whose elements interleave is blocks, too", function()
    local map, notes = s.registers(cluster("CH[%s]", x.dim(2, 4), x.register("A", 0) .. x.register("B", 0x10)))
    assert.same({ { "CH0", 0x40 }, { "CH1", 0x44 } }, s.places(map))
    assert.is_table(s.note(notes, "elements of 20 bytes every 4 bytes"))
  end)
end)

it("a peripheral with dim is an array of blocks", function()
  local map = s.import(x.peripheral(x.register("A", 0), "GPIO%s", x.dim(3, "0x400")))
  assert.same({ 0x1000, 3, 0x400 }, { map.GPIO.offset, map.GPIO.count, map.GPIO.stride })
end)

describe("a field with dim", function()
  local function row(name, range, dim, more)
    return x.register("A", 0, ("<fields><field>%s<name>%s</name><bitRange>%s</bitRange></field>%s</fields>"):format(dim, name, range, more or ""))
  end

  it("is a row", function()
    for _, name in ipairs { "IN[%s]", "IN%s" } do
      local map, _, text = s.registers(row(name, "[5:4]", x.dim(3, 4)))
      local f = map.A.field
      assert.same({ 5, 4, 9, 8, 13, 12 }, { f.IN0.high, f.IN0.low, f.IN1.high, f.IN1.low, f.IN2.high, f.IN2.low })
      assert.matches('%["IN%%d"%] = { 5, 4, count = 3, stride = 4 }', text)
    end
  end)

  it("with names is fields", function()
    local f = s.registers(row("%sEN", "[0:0]", x.dim(2, 1, "RX,TX"))).A.field
    assert.same({ 0, 1 }, { f.RXEN.low, f.TXEN.low })
  end)

  it("keeps apart from a field of the same name", function()
    local f = s.registers(row("IN%s", "[0:0]", x.dim(2, 1), "<field><name>IN1</name><bitRange>[8:8]</bitRange></field>")).A.field
    assert.same({ 0, 1, 8 }, { f.IN0.low, f.IN1.low, f.IN1_2.low })
  end)

  it("is left out where it leaves the register", function()
    local map, notes = s.registers(row("IN%s", "[1:0]", x.dim(4, 12)))
    assert.same({ 0, 12, 24 }, { map.A.field.IN0.low, map.A.field.IN1.low, map.A.field.IN2.low })
    assert.is_nil(map.A.field.IN3)
    assert.same({ "P.A.IN3" }, s.note(notes, "outside of its register").where)
  end)
end)
