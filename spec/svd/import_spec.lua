--- What an import makes of each construct of CMSIS-SVD: the text is loaded, and the map looked at.

local luio = require "luio"
local svd = require "luio.svd"

local function reader(text)
  local given
  return function()
    if given then return nil end
    given = true
    return text
  end
end

local HEAD = [[<?xml version="1.0"?><device><name>CHIP</name><addressUnitBits>8</addressUnitBits><width>32</width>
  <size>32</size><access>read-write</access><resetValue>0x10</resetValue><peripherals>]]
local TAIL = "</peripherals></device>"

local function peripheral(registers, name, attributes)
  return ("<peripheral%s><name>%s</name><baseAddress>0x1000</baseAddress><registers>%s</registers></peripheral>"):format(
    attributes or "", name or "P", registers)
end

-- Imports peripherals, loads the result: the map, the notes, the text.
local function import(peripherals, options)
  local text, notes, code = svd.import(reader(HEAD .. peripherals .. TAIL), options)
  if not text then return nil, notes, code end
  local map = assert(loadstring(text))()
  return map, notes, text
end

local function registers(text)
  return assert(import(peripheral(text), { peripherals = { "P" } }))
end

local function register(name, offset, more)
  return ("<register><name>%s</name><addressOffset>%s</addressOffset>%s</register>"):format(name, offset, more or "")
end

describe("an imported map", function()
  it("has registers with inherited and own properties", function()
    local map = registers(register("A", "0x0") .. register("B", "4", "<size>16</size><access>read-only</access><resetValue>0xff</resetValue>")
      .. register("C", "#1000", "<size>8</size><access>write-only</access>"))
    assert.same({ 0, 32, "rw", 0x10 }, { map.A.offset, map.A.width, map.A.access, map.A.reset })
    assert.same({ 4, 16, "ro", 0xff }, { map.B.offset, map.B.width, map.B.access, map.B.reset })
    assert.same({ 8, 8, "wo" }, { map.C.offset, map.C.width, map.C.access })
  end)

  it("takes a bit range all three ways", function()
    local map = registers(register("A", 0, [[<fields>
      <field><name>X</name><lsb>0</lsb><msb>3</msb></field>
      <field><name>Y</name><bitOffset>4</bitOffset><bitWidth>2</bitWidth></field>
      <field><name>Z</name><bitRange>[31:8]</bitRange></field></fields>]]))
    local f = map.A.field
    assert.same({ 3, 0, 5, 4, 31, 8 }, { f.X.high, f.X.low, f.Y.high, f.Y.low, f.Z.high, f.Z.low })
  end)

  it("knows side effects", function()
    local map = registers(register("A", 0, "<readAction>clear</readAction><access>read-only</access>")
      .. register("B", 4, "<readAction>modify</readAction>")
      .. register("C", 8, [[<fields>
        <field><name>W1C</name><bitRange>[0:0]</bitRange><modifiedWriteValues>oneToClear</modifiedWriteValues></field>
        <field><name>W0C</name><bitRange>[1:1]</bitRange><modifiedWriteValues>zeroToClear</modifiedWriteValues></field>
        <field><name>W1S</name><bitRange>[2:2]</bitRange><modifiedWriteValues>oneToSet</modifiedWriteValues></field>
        <field><name>W1T</name><bitRange>[3:3]</bitRange><modifiedWriteValues>oneToToggle</modifiedWriteValues></field></fields>]]))
    assert.is_truthy(map.A.read_effect)
    assert.is_truthy(map.B.read_effect)
    local f = map.C.field
    assert.same({ "w1c", "w0c", "w1s", "w1t" }, { f.W1C.access, f.W0C.access, f.W1S.access, f.W1T.access })
  end)

  it("has names for values, in every notation", function()
    local map = registers(register("A", 0, [[<fields><field><name>M</name><bitRange>[3:0]</bitRange><enumeratedValues>
      <enumeratedValue><name>OFF</name><value>0</value></enumeratedValue>
      <enumeratedValue><name>ON</name><value>0x1</value></enumeratedValue>
      <enumeratedValue><name>FAST</name><value>0b0110</value></enumeratedValue>
      <enumeratedValue><name>SLOW</name><value>#0111</value></enumeratedValue></enumeratedValues></field></fields>]]))
    local values = map.A.field.M.values
    assert.same({ 0, 1, 6, 7 }, { values.OFF, values.ON, values.FAST, values.SLOW })
  end)

  it("keeps arrays as arrays, and gives lists their names", function()
    local dim = "<dim>%d</dim><dimIncrement>%d</dimIncrement>"
    local map = registers(
      ("<register>" .. dim .. "<name>CH[%%s]</name><addressOffset>0</addressOffset></register>"):format(4, 4)
        .. ("<register>" .. dim .. "<dimIndex>A,B,C</dimIndex><name>GP%%sR</name><addressOffset>0x40</addressOffset></register>"):format(3, 4)
        .. ("<cluster>" .. dim .. "<name>RING[%%s]</name><addressOffset>0x80</addressOffset>%s</cluster>"):format(2, 16, register("HEAD", 4)))
    assert.same({ 4, 4 }, { map.CH.count, map.CH.stride })
    assert.same({ 0x40, 0x44, 0x48 }, { map.GPAR.offset, map.GPBR.offset, map.GPCR.offset })
    assert.same({ 2, 16, 4 }, { map.RING.count, map.RING.stride, map.RING.child.HEAD.offset })
  end)

  it("follows derivedFrom, forwards too", function()
    local map = assert(import('<peripheral derivedFrom="Q"><name>P</name><baseAddress>0x2000</baseAddress></peripheral>'
      .. peripheral(register("A", 0, "<size>8</size>")
        .. '<register derivedFrom="A"><name>B</name><addressOffset>1</addressOffset></register>', "Q")))
    assert.same({ 0x2000, 0x1000 }, { map.P.offset, map.Q.offset })
    assert.same({ 8, 8, 1 }, { map.P.child.A.width, map.P.child.B.width, map.P.child.B.offset })
  end)

  it("keeps 64 bits exact", function()
    local map = registers(register("A", 0, "<size>64</size><resetValue>0xfedcba9876543211</resetValue>"))
    assert.same({ 64, "low" }, { map.A.width, map.A.halves }) -- the bus is 32 bits wide
    assert.equal(0xfedcba9876543211ULL, map.A.reset)
  end)

  it("loads where the file contradicts itself, and notes it", function()
    local map, notes = import(peripheral(register("A", 0, [[<fields>
      <field><name>X</name><bitRange>[3:0]</bitRange></field><field><name>Y</name><bitRange>[5:2]</bitRange></field>
      <field><name>Z</name><bitRange>[40:36]</bitRange></field></fields>]]) .. register("B", 0) .. register("C", 8, "<size>24</size>")))
    assert.is_truthy(map)
    assert.is_true(#notes > 0)
  end)

  it("has names that Lua can say", function()
    local map, notes = import(peripheral(register("end", 0) .. register("lower", 4) .. register("A-B", 8), "2D"))
    assert.is_truthy(map)
    assert.is_true(#notes > 0)
    local n = 0
    map:each(function() n = n + 1 end)
    assert.equal(3, n)
  end)
end)

describe("a malformed file", function()
  -- Each: one clear error, soon, and nothing raised.
  local cases = {
    ["is empty"] = "",
    ["is no XML"] = "hello",
    ["is cut off"] = HEAD .. "<peripheral><name>P</na",
    ["nests wrongly"] = HEAD .. "<peripheral><name>P</peripheral></name>" .. TAIL,
    ["is something else"] = "<html><body/></html>",
    ["is an entity bomb"] = '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><device><name>&b;</name></device>',
    ["derives in a circle"] = HEAD .. '<peripheral derivedFrom="B"><name>A</name><baseAddress>0</baseAddress></peripheral>'
      .. '<peripheral derivedFrom="A"><name>B</name><baseAddress>0</baseAddress></peripheral>' .. TAIL,
    ["derives from nothing"] = HEAD .. '<peripheral derivedFrom="X"><name>A</name><baseAddress>0</baseAddress></peripheral>' .. TAIL,
    ["repeats without end"] = HEAD .. peripheral("<register><dim>1099511627776</dim><dimIncrement>4</dimIncrement><name>A%s</name>"
      .. "<addressOffset>0</addressOffset></register>") .. TAIL,
    ["nests without end"] = HEAD .. peripheral(("<cluster><name>C</name><addressOffset>0</addressOffset>"):rep(5000)) .. TAIL,
    ["has a number that is none"] = HEAD .. peripheral(register("A", "five")) .. TAIL,
  }
  for what, text in pairs(cases) do
    it(what, function()
      local before = luio.now()
      local map, message, code = svd.import(reader(text))
      if map then
        -- It was carried over as far as it goes: then it loads, and a note says what was left out.
        assert.is_truthy(assert(loadstring(map))())
        assert.is_true(#message > 0)
      else
        assert.equal("string", type(message))
        assert.is_true(#message < 2000)
        assert.matches("^E%w+$", code)
      end
      assert.is_true(luio.now() - before < 5)
    end)
  end

  it("that is an entity bomb is refused for its declarations", function()
    local map, message = svd.import(reader(cases["is an entity bomb"]))
    assert.is_nil(map)
    assert.matches("%u", message)
  end)

  it("that is not there is ENOENT", function()
    assert.equal("ENOENT", select(3, svd.import "/nowhere.svd"))
  end)
end)
