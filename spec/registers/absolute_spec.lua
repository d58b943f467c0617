--- A whole chip's map, which states addresses, on devices that are a part of the chip.

local files = require "spec.support.files"
local luio = require "luio"
local program = require "spec.support.program"

local BASE = 0xfe000000 -- of a simulated device's region 0

describe("a map that states addresses", function()
  local dev
  before_each(function() dev = assert(luio.open "sim:edu") end)
  after_each(function() dev:close() end)
  teardown(files.clean)

  local EDU = { ID = { 0, 32, "ro", MAGIC = { 7, 0 } }, LIVENESS = { 4, 32 } }

  it("has those registers in reach that the region has, under their names", function()
    local map = luio.registers {
      DMA = { 0x40000000, block = { GO = { 0, 32 } } }, EDU = { BASE, block = EDU }, LAST = { 0xffffff00, block = { X = { 0, 32 } } },
    }
    local regs = assert(luio.bind(map, dev))
    assert.equal(0xed, regs.EDU.ID:get "MAGIC")
    regs.EDU.LIVENESS:write(5)
    assert.equal(0xfffffffa, regs.EDU.LIVENESS:read())
    assert.equal(4, regs.EDU.LIVENESS.offset)
    local names = {}
    for reg in regs:each() do table.insert(names, reg.path) end
    assert.same({ "EDU.ID", "EDU.LIVENESS" }, names)
    assert.equal("the map states addresses: 2 of its 4 registers are in reach", regs.map.reach)
    local message = select(2, pcall(function() return regs.DMA end))
    assert.matches("DMA is at 0x40000000, which is not in reach of sim:edu$", message)
    assert.equal(map, regs.map.whole)
  end)

  it("may have an array there, whole or some of its elements, and a block that goes beyond the region", function()
    local regs = assert(luio.bind(luio.registers { CH = { BASE, count = 2, stride = 0x80, block = EDU }, FAR = { 0xf0000000, 32 } }, dev))
    assert.equal(0x010000ed, regs.CH[0].ID:read())
    assert.equal(0x84, regs.CH[1].LIVENESS.offset)
    regs = assert(luio.bind(luio.registers { CH = { BASE - 0x1000, count = 2, stride = 0x1000, block = EDU } }, dev))
    assert.equal(0x010000ed, regs.CH1.ID:read())
    assert.equal(2, regs.map.total)
    regs = assert(luio.bind(luio.registers {
      WIDE = { BASE - 0x10, block = { BEFORE = { 0, 32 }, ID = { 0x10, 32 }, ROW = { 0xffffc, 32, count = 10 }, BEHIND = { 0x100010, 32 } } },
    }, dev))
    assert.equal(0x010000ed, regs.WIDE.ID:read())
    local names = {}
    for reg in regs:each() do table.insert(names, ("%s 0x%x"):format(reg.path, reg.offset)) end
    assert.same({ "WIDE.ID 0x0", "WIDE.ROW0 0xfffec", "WIDE.ROW1 0xffff0", "WIDE.ROW2 0xffff4", "WIDE.ROW3 0xffff8", "WIDE.ROW4 0xffffc" }, names)
  end)

  it("asks the selector in an element of an array of which only some are there", function()
    for key, spec in pairs {
      ["BANK[1].SEL"] = { BANK = { BASE - 0x1000, count = 2, stride = 0x1000, block = { ID = { 0, 32, "ro" }, SEL = { 4, 32 } } } },
      ["SEL[3]"] = { SEL = { BASE - 8, 32, count = 4 } },
    } do
      spec.FAR = { 0xf0000000, 32 }
      spec.A = { BASE + 8, 32, when = { [key] = 0xfffffffa } }
      local regs = assert(luio.bind(luio.registers(spec), dev))
      local path = key:gsub("%[(%d)%]", "%1")
      local selector = assert(regs:find(path))
      selector:write(0)
      assert.matches(("^A 0x8   %%(not visible: %s is 0xffffffff, not 0xfffffffa"):format(path), tostring(regs.A))
      local _, message = pcall(regs.A.read, regs.A)
      assert.matches(("; %s:write%%(0xfffffffa%%) makes it so$"):format(path), message)
      selector:write(5) -- holds its complement
      assert.matches("^A 0x8 = 0x%x+$", tostring(regs.A))
    end
  end)

  it("and has nothing there is told in one line what it is, and how to have one peripheral", function()
    local spec = {}
    for i = 0, 99 do spec["UART" .. i] = { 0x40000000 + i * 0x1000, block = EDU } end
    local regs, message, code = luio.bind(luio.registers(spec), dev)
    assert.same({ nil, "EINVAL" }, { regs, code })
    assert.matches("^register map %S+ does not fit sim:edu: it is of a whole chip, 0x40000000 to 0x40063007, and region 0 is 0xfe000000%+0x100000%. "
      .. "A map of one peripheral begins at 0: luio import svd FILE %-%-peripheral NAME %(UART0, UART1, UART2, UART3, UART4, UART5, and 94 more%)$",
      message)
  end)

  it("is told from one of offsets that is wrong", function()
    local _, message = luio.bind(luio.registers { A = { 0, 32 }, B = { 0x100000, 32 } }, dev)
    assert.matches("^register map %S+ does not fit sim:edu\n  B: 0x100000 is outside region 0 of 0x100000 bytes %(region0%)$", message)
  end)

  it("goes by commands as any other", function()
    local path = files.write("chip.lua", ("return require('luio').registers { EDU = { %d, block = { LIVENESS = { 4, 32 } } }, "
      .. "DMA = { 0x40000000, block = { GO = { 0, 32 } } } }"):format(BASE))
    local out, status = program.run(("set sim:edu EDU.LIVENESS=5 --map %s"):format(path))
    assert.equal("note: the map states addresses: 1 of its 2 registers are in reach\n"
      .. "EDU.LIVENESS 0xfe000004 (+0x4) 0x00000000 := 0x00000005 -> 0xfffffffa\n  triggered LIVENESS: stores the complement\n", out) -- the driver's map says so
    assert.equal(0, status)
    assert.equal("EDU.LIVENESS 0x4 = 0x00000000\n", (program.run("dump sim:edu --map " .. path):gsub("^note[^\n]*\n", "")))
    out, status = program.run("get sim:pl031 DMA.GO --map " .. path)
    assert.equal(1, status)
    assert.matches("\nluio: [^\n]*DMA is at 0x40000000, which is not in reach of sim:pl031[^\n]*\n$", out)
    assert.matches("DMA is at 0x40000000, which is not in reach", (program.run(("explore sim:edu -e DMA.GO --map " .. path))))
  end)
end)
