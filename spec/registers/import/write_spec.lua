--- The text of a map: that it reads like a datasheet's table, says everything, and loads however large.

local s = require "spec.registers.import.support"
local x = require "spec.registers.import.fixtures"

local function text_of(registers, descriptions) return (select(3, s.registers(registers, descriptions))) end

describe("the text", function()
  it("has its columns aligned, in the file's order", function()
    local xml = x.register("B_LONG_NAME", "0x104", "<description>second</description><size>8</size>")
      .. x.register("A", 0, "<description>first</description><access>read-only</access>")
    assert.matches([[
  B_LONG_NAME = { 0x104,  8, "rw", reset = 0x10, description = "second" },
  A           = { 0x000, 32, "ro", reset = 0x00000010, description = "first" },
]], text_of(xml), 1, true)
    assert.matches([[
  B_LONG_NAME = { 0x104,  8, "rw", reset = 0x10 }, -- second
  A           = { 0x000, 32, "ro", reset = 0x00000010 }, -- first
]], text_of(xml, "comments"), 1, true)
  end)

  it("has fields below their register, or beside it when all is short", function()
    local text = text_of(x.fields("A", 0, { "X 3:0", { "LONGER 31:31", "<description>the last</description>" } }) .. x.fields("B", 4, { "X 1:0", "Y 2:2" }),
      "comments")
    assert.matches([[
  A = { 0x00, 32, "rw", reset = 0x00000010,
    X      = { 3, 0 },
    LONGER = 31, -- the last
  },
  B = { 0x04, 32, "rw", reset = 0x00000010, X = { 1, 0 }, Y = 2 },
]], text, 1, true)
  end)

  it("has descriptions that are not to be cut below their row when they are long", function()
    local words = {}
    for i = 1, 100 do words[i] = 'say "' .. i .. '"' end
    local long = table.concat(words, " ")
    local said = "<description>" .. long .. "</description>"
    local values = "<enumeratedValues><enumeratedValue><name>X</name><value>1</value></enumeratedValue></enumeratedValues>"
    local word = ("x"):rep(300)
    local map, _, text = s.registers(x.fields("A", 0, { { "F 3:0", said }, { "G 7:4", said .. values }, { "H 8:8", "<description>H</description>" } }, said)
      .. "<cluster><name>K</name><addressOffset>0x40</addressOffset>" .. said .. x.register("B", 0, "<description>" .. word .. " " .. word .. "</description>")
      .. "</cluster>")
    assert.same({ long, long, long }, { map.A.description, map.A.field.F.description, map.A.field.G.description })
    assert.same({ long, word .. " " .. word }, { map.child.K.description, map.child.K.child.B.description })
    assert.same({ X = 1 }, map.A.field.G.values)
    assert.is_nil(map.A.field.H.description) -- it says no more than the name
    for line in text:gmatch "[^\n]+" do assert.is_true(#line <= 120 or line:find(word, 1, true) ~= nil, line) end
  end)

  it("has comments in one line, wrapped above it when they are long, never cut", function()
    local words = {}
    for i = 1, 100 do words[i] = "word" .. i end
    local long = table.concat(words, "\n   ")
    local text = text_of(x.register("A", 0, "<description>" .. long .. "</description>") .. x.register("B", 4, "<description>two\r\n  lines</description>"),
      "comments")
    for i = 1, 100 do assert.matches("word" .. i .. "%f[%D]", text) end
    for line in text:gmatch "[^\n]+" do assert.is_true(#line <= 120) end
    assert.matches("}, %-%- two lines\n", text)
  end)

  it("is not to be broken out of", function()
    local bad = "]] --[[ \\\" ]=] \226\128\168 os.exit(1)"
    local xml = bad:gsub("&", "&amp;")
    local map, _, text = s.registers(x.register("A", 0, "<description>[[" .. xml .. "</description><fields><field><name>F</name><description>--[["
      .. xml .. "</description><bitRange>[3:0]</bitRange><enumeratedValues><enumeratedValue><name>\"] = 1, os.exit(1), [\"</name><value>1</value>"
      .. "<description>\n os.exit(1)</description></enumeratedValue></enumeratedValues></field></fields>"))
    assert.same({ ['"] = 1, os.exit(1), ["'] = 1 }, map.A.field.F.values)
    assert.matches("%-%- os.exit", text)
  end)

  it("of peripherals that are copies is there once", function()
    local one = x.register("ALPHA", 0) .. x.register("BETA", 4)
    local _, _, text = s.import(x.peripheral(one, "U1") .. x.peripheral(one, "U2") .. x.peripheral(x.register("ALPHA", 0), "U3"))
    local _, times = text:gsub("BETA", "")
    assert.equal(1, times)
    assert.matches("U2 += { 0x1000, block = U1 },", text)
  end)

  it("says what it is from, and the licence", function()
    local _, _, text = s.file("<device><vendor>V</vendor><name>N</name><version>3</version><description>D e\nf</description>"
      .. "<licenseText>One.\\nTwo.\nThree.</licenseText><peripherals/></device>")
    assert.matches("^%-%-%- N: D e f\n%-%-%-\n%-%-%- Imported from CMSIS%-SVD %(SVD%); vendor: V; version: 3%.\n", text)
    assert.matches("%-%-%- One%.\n%-%-%- Two%.\n%-%-%- Three%.\n", text)
  end)

  it("loads with more constants than a function can have", function()
    local list = {}
    for i = 0, 7999 do
      list[#list + 1] = x.fields("R" .. i, i * 4, { "A" .. i .. " 3:0", { "B" .. i .. " 7:4",
        "<enumeratedValues><enumeratedValue><name>V" .. i .. "</name><value>1</value></enumeratedValue></enumeratedValues>" } })
    end
    local map, _, text = s.registers(table.concat(list))
    assert.equal(8000, #map.children)
    assert.equal(1, map.R7999.field.B7999.values.V7999)
    assert.matches("luio.registers%(join {", text)
  end)

  it("loads with more shared blocks than a function can have locals", function()
    local list = {}
    for i = 1, 300 do
      list[#list + 1] = x.peripheral(x.register("R" .. i, 0), "P" .. i)
      list[#list + 1] = ('<peripheral derivedFrom="P%d"><name>Q%d</name><baseAddress>%d</baseAddress></peripheral>'):format(i, i, i * 16)
    end
    local map = s.import(table.concat(list))
    assert.equal(0, map.Q300.child.R300.offset)
    assert.equal(600, #map.children)
  end)
end)
