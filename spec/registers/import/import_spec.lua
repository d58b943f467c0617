--- The importer from outside: its arguments, its results, and one file with every element in it.

local svd = require "luio.registers.import"
local s = require "spec.registers.import.support"
local x = require "spec.registers.import.fixtures"
local files = require "spec.support.files"

describe("an import", function()
  teardown(files.clean)

  it("of everything loads, with every definition in its place", function()
    local map, notes = s.file(x.everything)
    assert.same({ "CHIP", 32 }, { map.name, map.max_width })
    assert.same({ { "UART0", 0x40001000 }, { "UART1", 0x40002000 }, { "GPIO", 0x40003000 } }, s.places(map))
    local list = {}
    map.child.UART0.each = map.each
    map:each(function(path, def, offset)
      if path:match "^UART1" then
        table.insert(list, ("%s 0x%x %d %s %d%s"):format(path, offset - 0x40002000, def.width, def.access, #def.fields,
          def.alias and " " .. def.alias or ""))
      end
    end)
    assert.same({
      "UART1.DATA 0x0 32 ro 0", "UART1.DATA8 0x0 8 rw 0 DATA", "UART1.PARTS.DATA_HIGH 0x2 16 rw 0", "UART1.STATUS 0x4 32 rw 9",
      "UART1.CHAX 0x10 32 rw 0", "UART1.CHBX 0x14 32 rw 0", "UART1.CHCX 0x18 32 rw 0", "UART1.CHDX 0x1c 32 rw 0", "UART1.COPY 0x30 32 rw 9",
      "UART1.ODD 0x38 32 rw 2", "UART1.ODD_ALT 0x38 32 rw 2 ODD", "UART1.RING[0].HEAD 0x40 64 rw 0", "UART1.RING[0].INNER.end 0x48 32 wo 0",
      "UART1.RING[1].HEAD 0x60 64 rw 0", "UART1.RING[1].INNER.end 0x68 32 wo 0", "UART1.EXTRA.HEAD 0x100 64 rw 0",
      "UART1.EXTRA.INNER.end 0x108 32 wo 0",
    }, list)
    local status = map.UART0.child.STATUS
    assert.same({ 0, 1 }, { status.field.BUSY.reset, status.field.third.values.FAST and 1 }) -- by resetMask; through two references
    assert.same({ "rs", "w1c", 11, 14 }, { status.field.BUSY.access, status.field.DONE.access, status.field.PIN0.low, status.field.PIN3.low })
    assert.equal(16, map.GPIO.child.STATUS.width)
    for _, note in ipairs(notes) do
      assert.is_true(note.count >= #note.where and #note.where >= 1)
      assert.matches("^%l+: .+ %(.+%)$", tostring(note))
    end
  end)

  it("of one peripheral is a map of its own, its base in a comment", function()
    local map, _, text = s.file(x.everything, { peripherals = { "UART1" } })
    assert.equal("UART1", map.name)
    assert.equal(4, map.STATUS.offset)
    assert.matches("\n%-%-%- UART1 at 0x40002000: A UART, \"quoted\" \\ and on two lines %-%- with dashes %[", text)
    assert.matches("%[interrupt UART1 = 4%]", text)
  end)

  it("of some peripherals has those, by an element's name, too", function()
    local map = s.file(x.everything, { peripherals = { "UART1", "GPIO1" }, name = "TWO" })
    assert.same({ "TWO", { { "UART1", 0x40002000 }, { "GPIO1", 0x40003100 } } }, { map.name, s.places(map) })
  end)

  it("of one element of an array of peripherals is that one's, at its own address", function()
    local array = '<device schemaVersion="1.1"><name>CHIP</name><size>32</size><peripherals><peripheral><dim>2</dim>'
      .. "<dimIncrement>0x400</dimIncrement><name>UART%s</name><description>UART number %s</description><baseAddress>0x1000</baseAddress>"
      .. "<registers><register><name>STATUS</name><addressOffset>4</addressOffset></register></registers></peripheral></peripherals></device>"
    local map, _, text = s.file(array, { peripherals = { "UART1" } })
    assert.same({ "UART1", 4 }, { map.name, map.STATUS.offset })
    assert.matches("\n%-%-%- UART1 at 0x1400: UART number 1\n", text)
    map = s.file(array, { peripherals = { "UART1", "UART0" } })
    assert.same({ { "UART0", 0x1000 }, { "UART1", 0x1400 } }, s.places(map))
    map = s.file(array, { peripherals = { "UART" } })
    assert.equal(4, map.STATUS.offset)
    map = s.file(array)
    assert.same({ 2, 0x400 }, { map.UART.count, map.UART.stride })
  end)

  it("of a peripheral that is not there names the nearest", function()
    local text, message, code = svd.import(s.reader(x.everything), { peripherals = { "UART2" } })
    assert.is_nil(text)
    assert.matches("^SVD: there is no peripheral UART2 %(did you mean UART%d%?%)$", message)
    assert.equal("ENOENT", code)
  end)

  it("takes a path, an open file, and a function, in pieces of any size", function()
    local path = files.write("chip.svd", x.everything)
    local whole = assert(svd.import(path))
    assert.matches("%(chip.svd%)", whole)
    local f = assert(io.open(path))
    local of_file = assert(svd.import(f))
    f:close()
    assert.equal(whole:gsub("chip.svd", "SVD", 1), (of_file))
    for _, size in ipairs { 1, 7, 4096 } do assert.equal(of_file, (svd.import(s.reader(x.everything, size)))) end
  end)

  it("says which file it could not read, and where it is wrong", function()
    assert.same({ nil, "/nowhere.svd: No such file or directory", "ENOENT" }, { svd.import "/nowhere.svd" })
    local _, message, code = svd.import "/"
    assert.matches("^/: ", message)
    assert.equal("EISDIR", code)
    local path = files.write("bad.svd", "<device>\n<oops")
    assert.matches("bad.svd:2: not well%-formed XML", (select(2, svd.import(path))))
  end)

  it("raises on misuse only", function()
    assert.has_error(function() svd.import(5) end, "svd.import wants a path, a function or an open file, not number")
    assert.has_error(function() svd.import(nil) end, "svd.import wants a path, a function or an open file, not nil")
  end)

  it("names the file of corrections", function()
    local text = svd.import(s.reader(x.everything), { overlay = "chip.overlay.lua" })
    assert.matches('\n  overlay = "chip.overlay.lua",\n', text)
  end)

  it("reads other encodings", function()
    local text = assert(svd.import(s.reader("<?xml version='1.0' encoding='ISO-8859-1'?><device><name>A</name><description>\233t\233</description></device>")))
    assert.matches("A: été", text)
    local _, notes = svd.import(s.reader "<?xml version='1.0' encoding='windows-1252'?><device><name>A</name></device>")
    assert.is_table(s.note(notes, "encoding windows%-1252 is read as ISO%-8859%-1"))
  end)

  it("keeps the map's own: endian, bus width", function()
    local function of(more) return s.file("<device><name>D</name>" .. more .. "<peripherals>" .. x.peripheral(x.register("A", 0)) .. "</peripherals></device>") end
    local map, notes = of "<cpu><endian>big</endian></cpu><width>64</width>"
    assert.same({ "big", 64 }, { map.P.child.A.endian, map.max_width })
    assert.same({}, notes)
    map, notes = of "<cpu><endian>selectable</endian></cpu><width>16</width><addressUnitBits>32</addressUnitBits>"
    assert.same({ "little", 64 }, { map.P.child.A.endian, map.max_width })
    assert.is_table(s.note(notes, "endian is selectable"))
    assert.is_table(s.note(notes, "a bus of 16 bits, but registers of 32"))
    assert.is_table(s.note(notes, "offsets are taken as bytes"))
  end)

  it("says the same of many places in one note", function()
    local list = {}
    for i = 1, 50 do list[i] = x.register("R" .. i, i * 4, "<dataType>int</dataType>") end
    local _, notes = s.registers(table.concat(list))
    assert.equal(1, #notes)
    assert.same({ 50, 50 }, { notes[1].count, #notes[1].where })
    assert.matches("%(50 places: P.R1, P.R2, P.R3, %.%.%.%)$", tostring(notes[1]))
  end)
end)
