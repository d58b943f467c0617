--- derivedFrom: the elements that a path finds, and the properties that are taken from them.

local s = require "spec.registers.import.support"
local x = require "spec.registers.import.fixtures"

local function enumeration(name, values, from)
  local list = {}
  for value, label in pairs(values or {}) do
    table.insert(list, ("<enumeratedValue><name>%s</name><value>%d</value></enumeratedValue>"):format(label, value))
  end
  return ("<enumeratedValues%s>%s%s</enumeratedValues>"):format(from and (' derivedFrom="%s"'):format(from) or "",
    name and "<name>" .. name .. "</name>" or "", table.concat(list))
end

describe("derivedFrom", function()
  it("of a register takes all but its name, and what it states itself counts", function()
    local map = s.registers(
      x.fields("A", 0, { "X 3:0", "Y 7:4" }, "<size>16</size><access>read-only</access><resetValue>0x1234</resetValue>")
        .. x.register("B", 4, "<access>write-only</access>", "A"))
    assert.same({ 4, 16, "wo", 0x1234 }, { map.B.offset, map.B.width, map.B.access, map.B.reset })
    assert.same({ 7, 4 }, { map.B.field.Y.high, map.B.field.Y.low })
  end)

  it("does not take what says where the base is besides", function()
    local map, notes = s.registers(x.register("A", 0) .. x.register("B", 0, "<alternateRegister>A</alternateRegister>") .. x.register("C", 4, "", "B"))
    assert.is_nil(map.C.alias)
    assert.same({}, notes)
  end)

  it("of a field takes its bits, in one spelling or in the other", function()
    local map, notes = s.registers(x.register("A", 0, [[<fields><field><name>X</name><lsb>4</lsb><msb>7</msb></field>
      <field derivedFrom="X"><name>Y</name><bitRange>[9:8]</bitRange></field>
      <field derivedFrom="Y"><name>Z</name><bitOffset>10</bitOffset><bitWidth>1</bitWidth></field></fields>]]))
    local f = map.A.field
    assert.same({ 9, 8, 10, 10 }, { f.Y.high, f.Y.low, f.Z.high, f.Z.low })
    assert.same({}, notes)
  end)

  it("of a field that is moved keeps the width, of one that is widened the place", function()
    local map, notes = s.registers(x.register("A", 0, [[<fields><field><name>X</name><lsb>4</lsb><msb>7</msb></field>
      <field><name>R</name><bitRange>[14:12]</bitRange></field>
      <field derivedFrom="X"><name>Y</name><bitOffset>8</bitOffset></field>
      <field derivedFrom="R"><name>Z</name><lsb>16</lsb></field>
      <field derivedFrom="Z"><name>V</name><lsb>20</lsb></field></fields>]])
      .. x.register("B", 4, [[<fields><field derivedFrom="A.X"><name>W</name><bitWidth>2</bitWidth></field>
      <field derivedFrom="A.R"><name>M</name><msb>15</msb></field></fields>]]))
    local a, b = map.A.field, map.B.field
    assert.same({ 11, 8, 18, 16, 22, 20 }, { a.Y.high, a.Y.low, a.Z.high, a.Z.low, a.V.high, a.V.low })
    assert.same({ 5, 4, 15, 12 }, { b.W.high, b.W.low, b.M.high, b.M.low })
    assert.same({}, notes)
  end)

  it("of an array that is as long as it says itself keeps the distance", function()
    local map, notes = s.registers(
      x.register("CTL[%s]", 0x100, x.dim(4, "0x10")) .. x.register("AUX[%s]", 0x200, "<dim>2</dim>", "CTL[%s]")
        .. x.register("BY%s", 0x300, "<dim>3</dim><dimIndex>A,B,C</dimIndex>", "CTL[%s]")
        .. x.register("ROW_%s", 0x400, x.dim(2, 8, "X,Y")) .. x.register("SAME_%s", 0x500, "<dim>0x2</dim>", "ROW_%s")
        .. x.register("LONG_%s", 0x600, "<dim>3</dim>", "ROW_%s")
        .. "<cluster><dim>4</dim><dimIncrement>0x20</dimIncrement><name>K[%s]</name><addressOffset>0x800</addressOffset>"
        .. x.register("R", 4) .. "</cluster>"
        .. '<cluster derivedFrom="K[%s]"><dim>2</dim><name>L[%s]</name><addressOffset>0xa00</addressOffset></cluster>')
    assert.same({ 2, 0x10 }, { map.AUX.count, map.AUX.stride })
    assert.same({ 0x300, 0x310, 0x320 }, { map.BYA.offset, map.BYB.offset, map.BYC.offset })
    assert.same({ 0x500, 0x508 }, { map.SAME_X.offset, map.SAME_Y.offset })
    assert.same({ 3, 8 }, { map.LONG.count, map.LONG.stride })
    assert.same({ 2, 0x20 }, { map.child.L.count, map.child.L.stride })
    assert.same({}, notes)
  end)

  it("points forwards, through several, and past stray spaces", function()
    local map = s.registers(x.register("C", 8, "", " B ") .. x.register("B", 4, "", "A") .. x.fields("A", 0, { "X 3:0" }))
    assert.is_table(map.C.field.X)
  end)

  it("adds fields and replaces those of the same name", function()
    local map = s.registers(x.fields("A", 0, { "X 3:0", "Y 7:4" })
      .. (x.fields("B", 4, { "Y 9:8", "Z 10:10" }):gsub("<register>", '<register derivedFrom="A">')))
    assert.same({ 3, 9, 10 }, { map.B.field.X.high, map.B.field.Y.high, map.B.field.Z.high })
    assert.equal(7, map.A.field.Y.high)
  end)

  it("finds paths of one to four parts, spaces around the dots", function()
    local base = x.peripheral("<cluster><name>K</name><addressOffset>0</addressOffset>" .. x.fields("R", 0, { "F 5:2" })
      .. "</cluster>" .. x.fields("R", 0x20, { "G 7:7" }), "Q")
    local map = assert(s.import(base .. x.peripheral(x.register("ONE", 0, "", "LOCAL") .. x.register("TWO", 4, "", "Q.R")
      .. x.register("THREE", 8, "", "Q . K.R") .. x.fields("LOCAL", 12, { "H 1:0" })
      .. x.register("FOUR", 16, [[<fields><field derivedFrom="Q.K.R.F"><name>F4</name></field></fields>]]))))
    local p = map.P.child
    assert.is_table(p.ONE.field.H)
    assert.is_table(p.TWO.field.G)
    assert.is_table(p.THREE.field.F)
    assert.same({ 5, 2 }, { p.FOUR.field.F4.high, p.FOUR.field.F4.low })
  end)

  it("finds an array by its name with and without %s, and by an element", function()
    local map = s.registers("<register>" .. x.dim(2, 4) .. [[<name>A[%s]</name><addressOffset>0</addressOffset><fields>
      <field><name>X</name><bitRange>[3:0]</bitRange></field></fields></register>]]
      .. x.register("B", 8, "", "A[%s]") .. x.register("C", 12, "", "A") .. x.register("D", 16, "", "A1"))
    for _, name in ipairs { "B", "C", "D" } do
      assert.is_table(map[name].field.X)
      assert.is_nil(map[name].count) -- a name without %s is no array
    end
  end)

  it("of a cluster takes its registers", function()
    local map = s.registers("<cluster><name>K</name><addressOffset>0</addressOffset>" .. x.register("R", 4) .. "</cluster>"
      .. '<cluster derivedFrom="K"><name>L</name><addressOffset>0x10</addressOffset>' .. x.register("S", 8) .. "</cluster>")
    assert.same({ { "R", 4 }, { "S", 8 } }, s.places(map.L))
    assert.same({ { "R", 4 } }, s.places(map.K))
  end)

  it("of a peripheral writes the same registers once", function()
    local map, _, text = s.import(x.peripheral(x.register("ALPHA", 4), "Q")
      .. '<peripheral derivedFrom="Q"><name>R</name><baseAddress>0x2000</baseAddress></peripheral>')
    assert.same({ 0x1000, 0x2000, 4, 4 }, { map.Q.offset, map.R.offset, map.Q.child.ALPHA.offset, map.R.child.ALPHA.offset })
    local _, times = text:gsub("ALPHA", "")
    assert.equal(1, times)
    assert.matches("local Q = {", text)
    assert.matches("R += { 0x2000, block = Q },", text)
  end)

  it("of a peripheral follows what that one states of its own", function()
    local map = s.import(x.peripheral(x.register("A", 0), "Q") .. [[<peripheral derivedFrom="Q"><name>R</name>
      <baseAddress>0x2000</baseAddress><size>8</size><access>read-only</access></peripheral>]])
    assert.same({ 32, "rw", 8, "ro" }, { map.Q.child.A.width, map.Q.child.A.access, map.R.child.A.width, map.R.child.A.access })
  end)

  it("takes along what the base has from its surroundings", function()
    local map = s.import(x.peripheral(x.register("A", 0), "Q", "<size>16</size><access>read-only</access>")
      .. x.peripheral(x.register("B", 0, "", "Q.A")))
    assert.same({ 16, "ro" }, { map.P.child.B.width, map.P.child.B.access })
  end)

  it("of a field takes its values, and moves them to bits of its own", function()
    local map = s.registers(x.fields("A", 0, { { "X 1:0", enumeration(nil, { [0] = "OFF", [2] = "ON" }) } })
      .. x.register("B", 4, [[<fields><field derivedFrom="A.X"><name>Y</name><lsb>8</lsb><msb>9</msb></field></fields>]]))
    local y = map.B.field.Y
    assert.same({ 9, 8, { OFF = 0, ON = 2 } }, { y.high, y.low, y.values })
  end)

  it("of an enumeration is found by every path that files use", function()
    local map = s.registers(
      x.fields("A", 0, { { "X 1:0", enumeration("SPEED", { [1] = "FAST" }) }, { "BARE 3:2", enumeration(nil, { [2] = "BARELY" }) } })
        .. x.fields("B", 4, {
          { "F 1:0", enumeration(nil, nil, "A.X.SPEED") },
          { "G 3:2", enumeration(nil, nil, "SPEED") },
          { "H 5:4", enumeration(nil, nil, "P.A.X.SPEED") },
          { "I 7:6", enumeration(nil, nil, "A.BARE") },
          { "J 9:8", enumeration(nil, { [3] = "MORE" }, "A.X.SPEED") },
        }))
    local f = map.B.field
    assert.same({ FAST = 1 }, f.F.values)
    assert.same({ FAST = 1 }, f.G.values)
    assert.same({ FAST = 1 }, f.H.values)
    assert.same({ BARELY = 2 }, f.I.values)
    assert.same({ FAST = 1, MORE = 3 }, f.J.values)
  end)

  it("to nothing is a note, and imported without", function()
    local map, notes = s.registers(x.register("A", 0, "", "NOWHERE.AT.ALL"))
    assert.equal(0, map.A.offset)
    assert.same({ "P.A" }, s.note(notes, 'derivedFrom="NOWHERE.AT.ALL" is not there').where)
  end)

  it("in a circle names the circle", function()
    local map, message, code = s.import(x.peripheral(x.register("A", 0, "", "B") .. x.register("B", 4, "", "C") .. x.register("C", 8, "", "A")))
    assert.is_nil(map)
    assert.matches("^SVD:%d+: derivedFrom goes in a circle: P.A %-> P.B %-> P.C %-> P.A$", message)
    assert.equal("EINVAL", code)
  end)

  it("from itself is a circle, too, and so is a cluster in the cluster it derives from", function()
    assert.matches("P.A %-> P.A$", select(2, s.import(x.peripheral(x.register("A", 0, "", "A")))))
    local map, message = s.import(x.peripheral("<cluster><name>K</name><addressOffset>0</addressOffset>"
      .. '<cluster derivedFrom="K"><name>L</name><addressOffset>0</addressOffset></cluster></cluster>'))
    assert.is_nil(map)
    assert.matches("clusters nest more than 5 deep", message)
  end)

  it("over thousands in a row is followed", function()
    local list = { x.fields("R0", 0, { "X 3:0" }) }
    for i = 1, 5000 do table.insert(list, 1, x.register("R" .. i, i * 4, "", "R" .. i - 1)) end
    local map = s.registers(table.concat(list))
    assert.is_table(map.R5000.field.X)
  end)
end)
