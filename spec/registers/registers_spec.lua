--- Register maps: the format, and every fault that is found when one is loaded.

local luio = require "luio"
local files = require "spec.support.files"

local function faults(spec)
  local ok, message = pcall(luio.registers, spec)
  assert.is_false(ok)
  return message
end

describe("a register map", function()
  it("reads like the datasheet's table", function()
    local map = luio.registers {
      ID = { 0x00, 32, "ro", MAGIC = { 7, 0 }, MAJOR = { 31, 24 } },
      STATUS = { 0x20, 32, "rw", COMPUTING = { 0, access = "ro" }, RAISE_IRQ = 7, reset = 0x80, section = "4.2" },
      MODE = { 0x24, 8, SPEED = { 1, 0, values = { SLOW = 0, FAST = 2 } } },
    }
    local id, status = map.ID, map.STATUS
    assert.same({ 0, 32, "ro", true, false }, { id.offset, id.width, id.access, id.readable, id.writable })
    assert.same({ "MAJOR", "MAGIC" }, { id.fields[1].name, id.fields[2].name })
    assert.same({ 31, 24, 8 }, { id.field.MAJOR.high, id.field.MAJOR.low, id.field.MAJOR.bits })
    assert.same({ 0x80, "4.2" }, { status.reset, status.section })
    assert.same({ "ro", "rw" }, { status.field.COMPUTING.access, status.field.RAISE_IRQ.access })
    assert.same({ "rw", "FAST" }, { map.MODE.access, map.MODE.field.SPEED.names[2] })
  end)

  it("has arrays, blocks, blocks of blocks, and rows of fields", function()
    local map = luio.registers {
      TABLE = { 0x200, 16, count = 3 },
      CH = { 0x100, count = 2, stride = 0x40, block = {
        CTRL = { 0x0, 32 },
        RING = { 0x10, count = 2, stride = 8, block = { HEAD = { 0, 32 }, TAIL = { 4, 32 } } },
      } },
      PINS = { 0x300, 32, ["PIN%d"] = { 1, 0, count = 4, stride = 4, values = { IN = 0, OUT = 1 } } },
    }
    local paths = {}
    map:each(function(path, def, offset) table.insert(paths, ("%s 0x%x %d"):format(path, offset, def.width)) end)
    assert.same({
      "CH[0].CTRL 0x100 32", "CH[0].RING[0].HEAD 0x110 32", "CH[0].RING[0].TAIL 0x114 32", "CH[0].RING[1].HEAD 0x118 32",
      "CH[0].RING[1].TAIL 0x11c 32", "CH[1].CTRL 0x140 32", "CH[1].RING[0].HEAD 0x150 32", "CH[1].RING[0].TAIL 0x154 32",
      "CH[1].RING[1].HEAD 0x158 32", "CH[1].RING[1].TAIL 0x15c 32", "TABLE[0] 0x200 16", "TABLE[1] 0x202 16",
      "TABLE[2] 0x204 16", "PINS 0x300 32",
    }, paths)
    assert.same({ 13, 12, 1 }, { map.PINS.field.PIN3.high, map.PINS.field.PIN3.low, map.PINS.field.PIN3.values.OUT })
  end)

  it("takes names in lowercase apart from options", function()
    local map = luio.registers { registers = { reset = { 4, 32, fields = { count = 0, offset = { 3, 1 } } } } }
    assert.equal(4, map.reset.offset)
    assert.equal(3, map.reset.field.offset.high)
  end)

  it("finds every fault at once, each with file and line", function()
    local path = files.write("map.lua", table.concat({
      "local map = require('luio').registers {",
      "  A = { 0x00, 32, 'rw', X = { 3, 0 }, Y = { 5, 2 }, Z = 40 },",
      "  B = { 0x04, 32, 'rx' },",
      "  C = { 0x04, 32 },",
      "  D = { 0x0a, 32 },",
      "  E = { 0x10, 24 },",
      "  F = { 0x14, 32, rest = 5 },",
      "}",
      "return map",
    }, "\n"))
    local ok, message = pcall(dofile, path)
    assert.is_false(ok)
    for _, expected in ipairs {
      "register map: 7 faults",
      "map.lua:2: A.X: bits 3:0 overlap Y's 5:2",
      "map.lua:2: A.Z: bits 40:40 are outside the register's 32",
      "map.lua:3: B: unknown access rx (did you mean",
      "map.lua:4: C: 0x4 is B's place too: state alias = \"B\" if that is meant",
      "map.lua:5: D: offset 0xa is not aligned to 4 bytes",
      "map.lua:6: E: the width (second) is 8, 16, 32 or 64, not 24",
      "map.lua:7: F: unknown key rest (did you mean reset?)",
    } do
      assert.is_truthy(message:find(expected, 1, true), message)
    end
    files.clean()
  end)

  it("finds them in a driver's own file, whose call is in tail position, too", function()
    local uv = require "luv"
    local path, dir = files.write("registers.lua", "return require('luio').registers {\n  A = { 0, 33 },\n}")
    assert.equal(0, os.execute(("mkdir -p '%s/drivers/x' && mv '%s' '%s/drivers/x/'"):format(dir, path, dir)))
    uv.os_setenv("LUIO_DRIVERS", uv.cwd() .. "/" .. dir)
    local ok, message = pcall(require, "drivers.x.registers")
    uv.os_unsetenv "LUIO_DRIVERS"
    assert.is_false(ok)
    assert.matches("drivers/x/registers.lua:2: A: the width", message)
    files.clean()
  end)

  for what, case in pairs {
    ["a register that is no table"] = { { A = 5 }, "A: a register is { offset, width, access, FIELD = ... }, not a number" },
    ["an offset that is no number"] = { { A = { "x", 32 } }, "the offset (first) is a whole number, not x" },
    ["a missing width"] = { { A = { 0 } }, "the width (second) is 8, 16, 32 or 64, not nil" },
    ["a field's bits the wrong way round"] = { { A = { 0, 32, X = { 0, 3 } } }, "A.X: bits 0:3: the high one comes first" },
    ["a field that is a string"] = { { A = { 0, 32, X = "3:0" } }, "A.X: a field is a bit, or { high, low }" },
    ["a reset that does not fit"] = { { A = { 0, 8, reset = 256 } }, "A: reset 256 does not fit in 8 bits" },
    ["a field's reset that does not fit"] = { { A = { 0, 8, X = { 1, 0, reset = 4 } } }, "A.X: reset 4 does not fit in 2 bits" },
    ["a named value that does not fit"] = { { A = { 0, 8, X = { 1, 0, values = { BIG = 7 } } } }, "value BIG = 7 does not fit in 2 bits" },
    ["an unknown key of a field"] = { { A = { 0, 8, X = { 0, acess = "ro" } } }, "A.X: unknown key acess (did you mean access?)" },
    ["an unknown access of a field"] = { { A = { 0, 8, X = { 0, access = "r" } } }, "A.X: unknown access r" },
    ["an unknown key of the map"] = { { regoin = 1 }, "the map: unknown key regoin (did you mean region?)" },
    ["a stride without a count"] = { { A = { 0, 8, stride = 4 } }, "A: stride without count" },
    ["a stride that is too short"] = { { A = { 0, 32, count = 2, stride = 2 } }, "stride 2 is less than the 4 bytes of an element" },
    ["an array without an end"] = { { A = { 0, 8, count = 2 ^ 40 } }, "count is 1 to 65536" },
    ["an alias of nothing"] = { { STATUS = { 0, 8 }, B = { 0, 8, alias = "STATS" } }, "is an alias of STATS, which is not there (did you mean STATUS?)" },
    ["an alias of another address"] = { { A = { 0, 8 }, B = { 1, 8, alias = "A" } }, "is an alias of A, which is at 0x0" },
    ["an unknown byte order"] = { { endian = "middle", A = { 0, 8 } }, 'endian is "little" or "big", not middle' },
    ["64 bits on a bus of 32"] = { { max_width = 32, A = { 0, 64 } }, 'state halves = "low" or "high"' },
    ["something beside a block's block"] = { { B = { 0, block = {}, X = 1 } }, "the registers of a block go into block = { ... }" },
    ["a name that is none"] = { { ["A-B"] = { 0, 8 } }, "a name is letters, digits and _" },
    ["a list"] = { { { 0, 32 } }, "a register has a name" },
  } do
    it("refuses " .. what, function() assert.is_truthy(faults(case[1]):find(case[2], 1, true), faults(case[1])) end)
  end

  it("refuses blocks that nest for ever", function()
    local spec = { A = { 0, 8 } }
    for _ = 1, 20 do spec = { B = { 0, block = spec } } end
    assert.matches("blocks nest at most 8 deep", faults(spec))
  end)

  it("refuses to go through arrays of arrays that multiply beyond reason", function()
    local map = luio.registers { A = { 0, count = 65536, block = { B = { 0, count = 65536, block = { C = { 0, 8 } } } } } }
    local regs, message, code = luio.bind(map, { address = "none" })
    assert.is_nil(regs)
    assert.equal("EINVAL", code)
    assert.equal("the map has 4294967296 registers, counting elements of arrays: more than 1048576", message)
    assert.has_error(function() map:each(print) end)
  end)

  it("stops listing faults before they fill the screen", function()
    local spec = {}
    for i = 1, 500 do spec["R" .. i] = { 0, 33 } end
    local message = faults(spec)
    assert.matches("and %d+ more$", message)
    assert.is_true(#message < 10000)
  end)

  it("allows what shares an offset and says so", function()
    local map = luio.registers { RBR = { 0, 8, "ro" }, THR = { 0, 8, "wo", alias = "RBR" } }
    assert.equal("RBR", map.THR.alias)
  end)

  it("does not take a reserved field for something to read", function()
    local map = luio.registers { FCR = { 2, 8, "wo", EN = 0, RESERVED = { 5, 4, access = "zero" } } }
    assert.is_false(map.FCR.readable)
    assert.is_true(map.FCR.writable)
  end)
end)

describe("binding a map", function()
  local dev
  before_each(function() dev = assert(luio.open "sim:edu") end)
  after_each(function() assert(dev:close()) end)

  it("names every register that lies outside its region, and touches none", function()
    local map = luio.registers { A = { 0xffffc, 32 }, B = { 0x100000, 32 }, C = { 0x0ffff8, 64, count = 2 }, D = { 0, 32, region = 3 } }
    local regs, message, code = luio.bind(map, dev)
    assert.is_nil(regs)
    assert.equal("EINVAL", code)
    assert.matches("B: 0x100000 is outside region 0 of 0x100000 bytes", message)
    assert.matches("C%[1%]: 0x100000 is outside", message)
    assert.matches("D: sim:edu has no region 3", message)
    assert.is_nil(message:find "A:")
    assert.equal(0, dev.sim.stats().reads + dev.sim.stats().writes)
  end)

  it("refuses 64 bits in I/O ports, unless the map says which half goes first", function()
    local ports = { address = "ports", region = function() return { kind = "port", size = 16, max_width = 32 } end }
    function ports:root_device() return self end
    local regs, message, code = luio.bind(luio.registers { A = { 0, 64 } }, ports)
    assert.is_nil(regs)
    assert.equal("EINVAL", code)
    assert.matches('A: 64 bits in I/O ports: state halves = "low" or "high"', message)
    assert.is_truthy(luio.bind(luio.registers { A = { 0, 64, halves = "low" } }, ports))
  end)

  it("is done for a driver: dev.regs", function()
    assert(dev:close())
    dev = assert(luio.start("edu", "sim:edu"))
    assert.equal(0xed, (dev.regs.ID:get "MAGIC"))
  end)

  it("stops a driver whose map or top half does not fit, and says where", function()
    for text, expected in pairs {
      ["registers = {}"] = "x.registers is no register map: make one with luio.registers",
      ["registers = require('luio').registers { A = { 0x200000, 32 } }"] = "A: 0x200000 is outside region 0",
      ["registers = require('luio').registers { STATUS = { 0, 32 } }, irq = { capture = 'STATS' }"] = "irq: the map has no register STATS %(did you mean STATUS%?%)",
      ["registers = require('luio').registers { A = { 0, 32, 'wo' } }, irq = { capture = 'A' }"] = "irq: A can't be captured: it is write%-only",
      ["registers = require('luio').registers { A = { 0, 32, 'ro' } }, irq = { ack = 'A' }"] = "irq: A can't acknowledge: it is read%-only",
      ["registers = require('luio').registers { A = { 0, 32 } }, irq = { ack = 'A' }"] = "irq: ack A: with what%? Capture a register",
      ["irq = { capture = 'A' }"] = "irq: names A, but the driver has no registers",
    } do
      local path = files.write("init.lua", ("return { name = 'x', %s }"):format(text))
      local d, message = luio.start(path, "sim:edu")
      assert.is_nil(d)
      assert.matches(expected, message)
    end
    files.clean()
  end)
end)
