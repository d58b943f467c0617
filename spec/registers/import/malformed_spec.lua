--- Files that are broken or mean harm: one clear error, with the line, in bounded time and memory.

local svd = require "luio.registers.import"
local s = require "spec.registers.import.support"
local x = require "spec.registers.import.fixtures"

-- Message and code of an import that must fail soon, without taking much memory. The time is the processor's: others may use it, too.
local function fails(xml)
  collectgarbage()
  local before, memory = os.clock(), collectgarbage "count"
  local text, message, code = svd.import(s.reader(xml, 65536))
  assert.is_nil(text)
  assert.is_true(os.clock() - before < 20)
  assert.is_true(collectgarbage "count" - memory < 600 * 1024)
  assert.not_matches("\n", message)
  assert.is_true(#message < 400)
  return message, code
end

local function cluster(name, inner, more)
  return ("<cluster%s><name>%s</name><addressOffset>0</addressOffset>%s</cluster>"):format(more or "", name, inner)
end

describe("XML that is none", function()
  it("is refused with the line", function()
    for xml, pattern in pairs {
      [""] = "^SVD:1: not well%-formed XML: no element found, where the file ends$",
      ["hello"] = "^SVD:1: not well%-formed XML: ",
      ["<device>\n<name>X</device>"] = "^SVD:2: not well%-formed XML: mismatched tag$",
      ["<device>\n\n<name>X</name>"] = "^SVD:3: not well%-formed XML: no element found, where the file ends$",
      ["<device/>\n<device/>"] = "^SVD:2: not well%-formed XML: junk after document element$",
      ["<device a='1' a='2'/>"] = "^SVD:1: not well%-formed XML: duplicate attribute$",
      ["<device>&nbsp;</device>"] = "^SVD:1: not well%-formed XML: undefined entity$",
      ["<device>\0</device>"] = "^SVD:1: not well%-formed XML: ",
      ["<device>\255\254</device>"] = "^SVD:1: not well%-formed XML: ",
    } do
      local message, code = fails(xml)
      assert.matches(pattern, message)
      assert.equal("EINVAL", code)
    end
  end)

  it("is refused wherever the file is cut off", function()
    for n = 1, #x.everything - 1, 97 do
      assert.matches("^SVD:%d+: not well%-formed XML: ", (fails(x.everything:sub(1, n))))
    end
  end)

  it("is refused when it is something else's", function()
    assert.matches("the file is <html>, not <device>", (fails "<html><body/></html>"))
  end)
end)

describe("a DTD", function()
  it("is refused before its entities are read", function()
    local bomb = { "<?xml version='1.0'?>\n<!DOCTYPE device [<!ENTITY a0 'aaaaaaaaaa'>" }
    for i = 1, 30 do table.insert(bomb, ("<!ENTITY a%d '%s'>"):format(i, ("&a%d;"):format(i - 1):rep(10))) end
    table.insert(bomb, "]><device><name>&a30;</name></device>")
    local message, code = fails(table.concat(bomb))
    assert.equal("SVD:2: a DTD (<!DOCTYPE) is refused: SVD has none", message)
    assert.equal("EINVAL", code)
    fails '<!DOCTYPE device SYSTEM "file:///etc/passwd"><device/>'
  end)
end)

describe("a limit", function()
  it("is on depth", function()
    local message, code = fails("<device>" .. ("<a>"):rep(100000))
    assert.matches("^SVD:1: elements nest more than 40 deep$", message)
    assert.equal("E2BIG", code)
  end)

  it("is on how deep clusters nest", function()
    local inner = x.register("A", 0)
    for _ = 1, 5 do inner = cluster("K", inner) end
    assert.is_table(s.registers(inner))
    assert.matches("clusters nest more than 5 deep", (fails(x.HEAD .. x.peripheral(cluster("K", inner)) .. x.TAIL)))
  end)

  it("is on a text, a name, a tag and a comment", function()
    assert.matches("<description> has more than %d+ bytes", (fails("<device><description>" .. ("x "):rep(100000))))
    assert.matches("<name> has more than 1024 bytes", (fails("<device><name>" .. ("x"):rep(2000) .. "</name>")))
    assert.matches("derivedFrom has more than 1024 bytes", (fails("<device><peripherals><peripheral derivedFrom='" .. ("x"):rep(2000) .. "'>")))
    assert.matches("a tag or comment of more than %d+ bytes", (fails("<device " .. ("x"):rep(2 ^ 22))))
    assert.matches("a tag or comment of more than %d+ bytes", (fails("<device><!-- " .. ("x"):rep(2 ^ 22))))
  end)

  it("is on the file, read no further than that", function()
    local pieces = 0
    local text, message, code = svd.import(function()
      pieces = pieces + 1
      return pieces == 1 and "<device>" or (" "):rep(2 ^ 20)
    end)
    assert.is_nil(text)
    assert.matches("the file has more than 64 MiB", message)
    assert.equal("E2BIG", code)
    assert.is_true(pieces < 70)
  end)

  it("is on elements", function()
    local n = 0
    local _, message = svd.import(function()
      n = n + 1
      return n == 1 and "<device><peripherals><peripheral><registers>" or ("<register/>"):rep(5000)
    end)
    assert.matches("more than 1000000 elements", message)
  end)

  it("is on what a small file expands to", function()
    local list = ("<register>%s<name>R%%s</name><addressOffset>0</addressOffset><fields><field>%s<name>F%%s</name><bitRange>[0:0]</bitRange></field></fields></register>")
      :format(x.dim(60000, 4, "1-60000"), x.dim(32, 1, "1-32"))
    local message, code = fails(x.HEAD .. x.peripheral(list:rep(20)) .. x.TAIL)
    assert.matches("too many registers, fields and values when everything is expanded", message)
    assert.equal("E2BIG", code)
    -- Arrays cost nothing to keep, but someone will walk them.
    local nested = "<register>" .. x.dim(60000, 4) .. "<name>R[%s]</name><addressOffset>0</addressOffset></register>"
    message = fails(x.HEAD .. x.peripheral("<cluster>" .. x.dim(60000, "0x40000") .. "<name>K[%s]</name><addressOffset>0</addressOffset>"
      .. nested .. "</cluster>") .. x.TAIL)
    assert.matches("more than 1048576 registers", message)
  end)

  it("is on clusters that derive from each other's contents", function()
    local inner = {}
    for i = 1, 30 do inner[i] = cluster("L" .. i, "", ' derivedFrom="K"') end
    assert.matches("clusters nest more than 5 deep", (fails(x.HEAD .. x.peripheral(cluster("K", table.concat(inner))) .. x.TAIL)))
  end)

  it("is on descriptions that repeat", function()
    local message = fails(x.HEAD .. x.peripheral("<register>" .. x.dim(200, 4, "1-200") .. "<name>R%s</name><description>"
      .. ("word "):rep(20000) .. "</description><addressOffset>0</addressOffset></register>") .. x.TAIL)
    assert.matches("the map has more than 16 MiB", message)
  end)

  it("is not needed for many fields outside of one register", function()
    local list = {}
    for i = 1, 30000 do list[i] = ("F%d 99:99"):format(i) end
    local before = os.clock()
    local map = s.registers(x.fields("A", 0, list))
    assert.equal(0, #map.A.fields)
    assert.is_true(os.clock() - before < 10)
  end)

  it("is on references to follow", function()
    local list = {}
    for i = 1, 3000 do list[i] = x.register("SAME", i * 4) end
    for i = 3001, 6000 do list[i] = x.register("R" .. i, i * 4, "", "SAME.NOTHING") end
    assert.matches("too many derivedFrom to follow", (fails(x.HEAD .. x.peripheral(table.concat(list)) .. x.TAIL)))
  end)
end)

describe("what does not belong", function()
  it("is skipped with a note, and the rest imported", function()
    local map, notes = s.registers("stray<register><name>A<b>c</b></name><addressOffset>0</addressOffset><what><register/></what>"
      .. "<fields><register><name>INNER</name></register></fields></register>")
    assert.same({ { "A", 0 } }, s.places(map))
    assert.is_table(s.note(notes, "<what> in <register> is skipped"))
    assert.is_table(s.note(notes, "<b> inside <name> is skipped"))
    assert.is_table(s.note(notes, "<register> in <register> is skipped"))
    assert.is_table(s.note(notes, "text outside of any element"))
  end)

  it("is noted when it is stated twice", function()
    local map, notes = s.registers "<register><name>A</name><name>B</name><addressOffset>0</addressOffset></register>"
    assert.same({ { "B", 0 } }, s.places(map))
    assert.is_table(s.note(notes, "<name> is stated twice"))
  end)
end)
