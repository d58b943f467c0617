--- Reading and writing: SVD's four elements for them, as a map's access, read_effect and write_effect.

local s = require "spec.registers.import.support"
local x = require "spec.registers.import.fixtures"

local function of(more, fields)
  local map, notes, text = s.registers(fields and x.fields("A", 0, fields, more) or x.register("A", 0, more))
  return map.A, notes, text
end

describe("access", function()
  it("is a map's word", function()
    for stated, word in pairs {
      ["read-only"] = "ro", ["write-only"] = "wo", ["read-write"] = "rw", ["read-writeOnce"] = "wonce", [" read-writeonce "] = "wonce",
      ["READ-ONLY"] = "ro", write = "wo",
    } do
      assert.equal(word, of("<access>" .. stated .. "</access>").access)
    end
  end)

  it("of writeOnce can't be read: wo, and a remark", function()
    local a, notes, text = of "<access>writeOnce</access>"
    assert.same({ "wo", false }, { a.access, a.readable })
    assert.is_table(s.note(notes, "writeOnce"))
    assert.matches("%[can be written once%]", text)
  end)

  it("that is unknown is read-write, and a note", function()
    local a, notes = of "<access>sometimes</access>"
    assert.equal("rw", a.access)
    assert.same({ "P.A" }, s.note(notes, 'unknown access "sometimes"').where)
  end)

  it("that says more than reading and writing, and not what, is not read by looking, and a neighbour is not updated", function()
    local map, notes = s.registers(x.register("A", 0, [[<fields><field><name>F</name><bitRange>[0:0]</bitRange><access>read/clear</access></field>
      <field><name>G</name><bitRange>[7:4]</bitRange></field></fields>]]) .. x.register("B", 4, "<access>Read-Set</access>")
      .. x.register("C", 8, "<access>R/W</access>"))
    assert.equal('F: its effect is not looked up yet: the file says access "read/clear"', map.A.read_effect)
    assert.equal('its effect is not looked up yet: the file says access "read/clear"', map.A.field.F.write_effect)
    assert.equal('its effect is not looked up yet: the file says access "Read-Set"', map.B.read_effect)
    assert.is_nil(map.C.read_effect)
    assert.same({ "P.A.F" }, s.note(notes, '"read/clear" does not say how').where)
    assert.same({ "P.B" }, s.note(notes, '"Read%-Set" does not say how').where)
    local luio = require "luio"
    local dev = assert(luio.open "sim:edu")
    local regs = assert(luio.bind(map, dev))
    local ok, message = pcall(regs.A.update, regs.A, { G = 1 })
    assert.is_false(ok)
    assert.matches("its effect is not looked up yet", message)
    assert(dev:close())
  end)

  it("is inherited from device, peripheral, cluster and register, the nearest first", function()
    local map = s.file("<device><name>D</name><access>read-only</access><peripherals>" .. x.peripheral(
      "<cluster><name>K</name><addressOffset>0</addressOffset>" .. x.register("OUTER", 0)
        .. "</cluster><cluster><name>L</name><addressOffset>0x10</addressOffset><access>write-only</access><size>8</size>"
        .. x.register("NEAR", 0) .. x.fields("OWN", 4, { "F 0:0", { "G 1:1", "<access>read-only</access>" } }, "<access>read-write</access>")
        .. "</cluster>", "P", "<size>16</size>") .. "</peripherals></device>")
    local k, l = map.P.child.K.child, map.P.child.L.child
    assert.same({ "ro", 16, "wo", 8 }, { k.OUTER.access, k.OUTER.width, l.NEAR.access, l.NEAR.width })
    assert.same({ "rw", "rw", "ro" }, { l.OWN.access, l.OWN.field.F.access, l.OWN.field.G.access })
  end)
end)

describe("modifiedWriteValues", function()
  it("is a map's word for those that have one", function()
    for stated, word in pairs { oneToClear = "w1c", zeroToClear = "w0c", oneToSet = "w1s", oneToToggle = "w1t", zeroToSet = "w0s", zeroToToggle = "w0t", modify = "rw",
      clear = "sc" } do
      local more = "<modifiedWriteValues>" .. stated .. "</modifiedWriteValues>"
      assert.equal(word, of(more).access)
      local a = of("", { { "F 0:0", more }, "G 1:1" })
      assert.same({ word, "rw" }, { a.field.F.access, a.field.G.access })
    end
  end)

  it("is a remark and a note where there is none: of what can be written once", function()
    local a, notes, text = of("<access>read-writeOnce</access><modifiedWriteValues>zeroToSet</modifiedWriteValues>")
    assert.equal("wonce", a.access)
    assert.is_table(s.note(notes, "zerotoset has no word in a map"))
    assert.matches("%[writing 0 sets%]", text)
  end)

  it("of a register is its fields', too", function()
    local a = of("<modifiedWriteValues>oneToClear</modifiedWriteValues>", { "F 0:0", { "G 1:1", "<access>read-only</access>" } })
    assert.same({ "w1c", "w1c", "ro" }, { a.access, a.field.F.access, a.field.G.access })
  end)

  it("does not make readable what is write-only", function()
    local a, _, text = of "<access>write-only</access><modifiedWriteValues>oneToClear</modifiedWriteValues>"
    assert.same({ "wo", false, "clears where 1 is written" }, { a.access, a.readable, a.write_effect })
    assert.matches('write_effect = "clears where 1 is written"', text)
    a = of("<access>write-only</access><modifiedWriteValues>oneToSet</modifiedWriteValues>", {
      "F 0:0", { "G 1:1", "<modifiedWriteValues>oneToToggle</modifiedWriteValues>" } })
    assert.same({ "sets where 1 is written", "toggles where 1 is written" }, { a.write_effect, a.field.G.write_effect })
    assert.is_nil(a.field.F.write_effect) -- it is its register's
  end)

  it("that holds of any write is an effect of writing the register, whichever field has it", function()
    local more = "<modifiedWriteValues>set</modifiedWriteValues>"
    assert.same({ "rw", "sets it" }, { of(more).access, of(more).write_effect })
    local a = of("", { { "F 0:0", more }, "G 1:1", { "H 2:2", more } })
    assert.same({ "rw", "sets F, H", "rw" }, { a.access, a.write_effect, a.field.F.access })
    assert.is_nil(of("<access>read-only</access>" .. more).write_effect)
    assert.equal("sets it", of(more, { "F 0:0" }).write_effect)
  end)
end)

describe("readAction", function()
  it("makes a read-only one rc or rs", function()
    assert.equal("rc", of("<access>read-only</access><readAction>clear</readAction>").access)
    assert.equal("rs", of("<access>read-only</access><readAction>set</readAction>").access)
    assert.is_string(of("<access>read-only</access><readAction>clear</readAction>").read_effect)
  end)

  it("is an effect where there is no such word", function()
    for stated, effect in pairs {
      clear = "clears it", set = "sets it", modify = "changes it", modifyExternal = "changes something elsewhere",
    } do
      local a = of("<readAction>" .. stated .. "</readAction>")
      assert.same({ "rw", effect }, { a.access, a.read_effect })
    end
  end)

  it("of a field is its register's", function()
    local a = of("", { "F 0:0", { "G 1:1", "<readAction>modify</readAction>" } })
    assert.is_nil(a.field.F.read_effect)
    assert.equal("changes it", a.field.G.read_effect)
    assert.equal("G: changes it", a.read_effect)
  end)

  it("in a comment is not applied, but said", function()
    local a, notes = of "<!-- <readAction>clear</readAction> -->"
    assert.is_nil(a.read_effect)
    assert.is_table(s.note(notes, "a comment speaks of readAction"))
    notes = select(2, s.import("<!-- a template: <readAction>clear</readAction> -->" .. x.peripheral(x.register("A", 0), "P")))
    assert.same({}, notes)
  end)
end)

describe("writeConstraint", function()
  local function constraint(inner) return "<writeConstraint>" .. inner .. "</writeConstraint>" end

  it("writeAsRead keeps what was read", function()
    local a = of("", { { "F 7:0", constraint "<writeAsRead>true</writeAsRead>" }, { "G 8:8", constraint "<writeAsRead>false</writeAsRead>" } })
    assert.same({ "preserve", "rw" }, { a.field.F.access, a.field.G.access })
  end)

  it("of a range, or of values only, is a remark and a note", function()
    local _, notes, text = of("", {
      { "F 7:0", constraint "<range><minimum>2</minimum><maximum>9</maximum></range>" },
      { "G 8:8", constraint "<useEnumeratedValues>true</useEnumeratedValues>" },
    })
    assert.matches("F = { 7, 0 }, %-%- %[takes 2 to 9%]", text)
    assert.matches("%[takes only the values listed%]", text)
    assert.same({ "P.A.F" }, s.note(notes, "the range that may be written").where)
  end)
end)

it("protection is a remark and a note", function()
  local _, notes, text = of "<protection>s</protection>"
  assert.matches("%-%- %[access: secure%]", text)
  assert.same({ "P.A" }, s.note(notes, "protection").where)
end)
