--- Registers behind a selector: the forms in a map, the conditions of an access, and its cost on the bus.

local luio = require "luio"
local files = require "spec.support.files"
local paged = require "spec.support.paged"
local types = require "luio.registers.types"
local when = require "luio.registers.when"

local function refused(spec, text)
  local ok, message = pcall(luio.registers, spec)
  assert.is_false(ok, "taken: " .. text)
  assert.is_truthy(message:find(text, 1, true), message)
end

describe("a map's when", function()
  teardown(files.clean)

  local A = { 0x10, 32 }
  local function behind(condition, more)
    local spec = { SEL = { 0, 32, F = { 3, 0, values = { ONE = 1, TWO = 2 } }, G = 7 }, A = { A[1], A[2], when = condition } }
    for name, def in pairs(more or {}) do spec[name] = def end
    return spec
  end

  it("names a register, or a field with a number, a name, or several", function()
    for condition, text in pairs {
      [{ SEL = 0x1c }] = "SEL is 0x1c", [{ ["SEL.F"] = "TWO" }] = "SEL.F is TWO", [{ ["SEL.F"] = { 2, 12 } }] = "SEL.F is TWO or 0xc",
      [{ ["SEL.F"] = 1, ["SEL.G"] = true }] = "SEL.F is ONE and SEL.G is 1",
    } do
      assert.equal(text, when.stated(luio.registers(behind(condition)).A))
    end
    assert.is_nil(when.stated(luio.registers(behind(nil)).A))
  end)

  it("that is none is refused with what was meant", function()
    refused(behind { SELL = 1 }, "A: when: there is no register SELL (did you mean SEL?)")
    refused(behind { ["SEL.FF"] = 1 }, "A: when: SEL has no field FF")
    refused(behind { ["SEL.F"] = "TWOO" }, "A: when: SEL.F has no value TWOO (did you mean TWO?)")
    refused(behind { ["SEL.G"] = "ON" }, "A: when: SEL.G has no names for values; ON is not a number")
    refused(behind { ["SEL.F"] = 16 }, "A: when: SEL.F is not 16: it has 4 bits")
    refused(behind { ["SEL.F"] = {} }, "A: when: SEL.F = { } is never so")
    refused(behind {}, "A: when = { } says nothing")
    refused(behind { "SEL" }, "A: when: a selector has a name")
    refused(behind "SEL", "A: when is a table, not a string: when = { SELECTOR = value }")
    refused({ A = { 0, 32, page = 1 } }, "unknown key page (a map says when = { SELECTOR = value })")
    refused({ B = { 0, bank = 1, block = { A } } }, "B: unknown key bank (a map says when = { SELECTOR = value })")
    local _, message = pcall(luio.registers, { A = { 0, 32, F = { 0, page = 1 } } })
    assert.matches("A%.F: unknown key page$", message) -- a field has no when
    refused(behind({ B = 1 }, { B = { 0x20, count = 2, stride = 4, block = { C = { 0, 32 } } } }), "B is an array: B[0]")
    refused(behind({ ["B[2].C"] = 1 }, { B = { 0x20, count = 2, stride = 4, block = { C = { 0, 32 } } } }), "B has no element [2]")
  end)

  it("names no selector at which looking would be harmful", function()
    refused(behind({ W = 1 }, { W = { 8, 32, "wo" } }), "W can't be read (it is write-only)")
    refused(behind({ R = 1 }, { R = { 8, 32, "rw", LATCH = { 0, access = "rc" } } }), "R can't be looked at: reading it has an effect")
    refused(behind({ SEL = 1 }, { FIFO = { 0, 8, "ro", alias = "SEL", read_effect = "pops" } }),
      "A: when: SEL can't be looked at: FIFO is there, too: reading pops")
  end)

  it("may name a selector behind a selector; itself, or what can't be, it may not", function()
    local map = luio.registers(behind({ SUB = 2 }, { SUB = { 8, 32, when = { SEL = 1 } } }))
    local labels = {}
    for i, c in ipairs(when.of(map, map.A, "A")) do labels[i] = c.label end
    assert.same({ "SEL", "SUB" }, labels)
    refused(behind { A = 1 }, "A: when: it is behind itself")
    refused(behind({ B = 1 }, { B = { 8, 32, when = { A = 1 } } }), "B: when: it is behind itself")
    refused(behind({ SUB = 2, SEL = 3 }, { SUB = { 8, 32, when = { SEL = 1 } } }), "A: when: it is never visible: SEL would have to be")
    refused({ SEL = { 0, 32 }, B = { 8, when = { SEL = 1 }, block = { C = { 0, 32, when = { SEL = 2 } } } } }, "it is never visible")
  end)

  it("lets registers share bytes without alias that are never visible together, and no others", function()
    luio.registers(paged.map())
    refused({ SEL = { 0, 32 }, A = { 8, 32, when = { SEL = { 1, 2 } } }, B = { 8, 32, when = { SEL = { 2, 3 } } } }, "0x8 is A's place too")
    refused({ SEL = { 0, 32 }, A = { 8, 32, when = { SEL = 1 } }, B = { 8, 32 } }, "0x8 is A's place too")
  end)

  it("comes with an overlay, on registers and blocks", function()
    local path, dir = files.write("map.lua", [[return (require("luio").registers { overlay = "map.overlay.lua",
      SEL = { 0, 32 }, A = { 8, 32 }, B = { 0x10, block = { C = { 0, 32 } } } })]])
    files.save(dir .. "/map.overlay.lua", "return { A = { when = { SEL = 1 } }, B = { when = { SEL = 2 } } }")
    local map = dofile(path)
    assert.same({ "SEL is 1", "SEL is 2" }, { when.stated(map.A), when.stated(map.B.child.C) })
  end)

  it("is in the types for an editor", function()
    assert.matches("DATA [%w_.]+ pops the FIFO; only while PAGE is 3\n", types.write(luio.registers(paged.map())))
  end)
end)

describe("a register behind a selector", function()
  local dev, regs
  before_each(function()
    dev = assert(luio.open(paged.address()))
    regs = assert(luio.bind(luio.registers(paged.map()), dev))
  end)
  after_each(function()
    assert(dev:close())
    files.clean()
  end)

  local function fails(fn, text)
    local ok, message = pcall(fn)
    assert.is_false(ok)
    assert.equal(text, (message:gsub("^[^:]*when_spec.lua:%d+: ", "", 1)))
    assert.matches("when_spec.lua:%d+: ", message)
  end

  it("is accessed while it is visible; else that is an error which names the selector, and touches nothing", function()
    assert.equal(0x40, regs.CTRL:read())
    regs.CTRL:update { EN = 1 }
    assert.equal(0x41, regs.CTRL:read())
    local why = 'DATA is not visible: PAGE is 0, not 3; PAGE:write(3) makes it so'
    fails(function() return regs.DATA:read() end, why)
    fails(function() regs.DATA:read_many(require("ffi").new("uint32_t[2]"), 2) end, why)
    why = 'EEPROM.WORD[2] is not visible: PAGE.SELECT is MAIN, not EEPROM or 0xd; PAGE:update { SELECT = "EEPROM" } makes it so'
    fails(function() regs.EEPROM.WORD[2]:write(1) end, why)
    fails(function() return regs.EEPROM.WORD[2]:read() end, why)
    assert.equal(0, paged.pops(dev))
    regs.PAGE:write { SELECT = "EEPROM" }
    regs.EEPROM.WORD[2]:write(7)
    assert.equal(7, regs.EEPROM.WORD[2]:read())
    fails(function() regs.CTRL:update("EN", 0) end,
      'CTRL is not visible: PAGE.SELECT is EEPROM, not MAIN; PAGE:update { SELECT = "MAIN" } makes it so')
    fails(function() return regs.CTRL:wait({ EN = 1 }, 1) end,
      'CTRL is not visible: PAGE.SELECT is EEPROM, not MAIN; PAGE:update { SELECT = "MAIN" } makes it so')
    regs.PAGE:write(3)
    assert.equal(1, regs.DATA:read())
  end)

  it("costs a driver that sets the selector no look at it", function()
    regs.PAGE:write { SELECT = "EEPROM" }
    for i = 0, 3 do regs.EEPROM.WORD[i]:write(regs.EEPROM.WORD[i]:read()) end
    regs.PAGE:write(0)
    for _ = 1, 100 do regs.CTRL:update("EN", 1) end
    assert.equal(0, paged.asked(dev))
    regs.ID:read()
    assert.equal(0, paged.asked(dev))
  end)

  it("is asked for each time by one who never set the selector", function()
    regs.CTRL:read()
    regs.CTRL:read()
    assert.equal(2, paged.asked(dev))
    paged.switch(dev, 3)
    assert.is_false(pcall(regs.CTRL.read, regs.CTRL))
    assert.equal(1, regs.DATA:read())
  end)

  it("is never refused by what is known from before, and a look at the selector corrects that", function()
    regs.PAGE:write(0)
    paged.switch(dev, 3) -- a reset, or another process
    assert.equal(1, regs.DATA:read())
    assert.is_false(pcall(regs.CTRL.read, regs.CTRL))
    paged.switch(dev, 0)
    regs.PAGE:read()
    assert.equal(0x40, regs.CTRL:read())
    assert.is_false(pcall(regs.DATA.read, regs.DATA))
  end)

  it("knows what was written to the selector by another name, view or map, also one whose bits do not stay", function()
    local spec = paged.map()
    spec.PAGE8 = { 0, 8, alias = "PAGE" }
    regs = assert(luio.bind(luio.registers(spec), dev))
    regs.PAGE:write(0)
    regs.PAGE8:write(3)
    assert.is_false(pcall(regs.CTRL.read, regs.CTRL))
    assert.equal(1, regs.DATA:read())
    -- Bits that follow something else are asked each time.
    spec.PAGE.SELECT.access = "ro"
    regs = assert(luio.bind(luio.registers(spec), dev))
    regs.PAGE:write(0)
    paged.switch(dev, 0xc)
    assert.is_false(pcall(regs.CTRL.read, regs.CTRL))
    assert.is_truthy(pcall(regs.EEPROM.SIZE.read, regs.EEPROM.SIZE))
  end)

  it("tells who listens of its selector's reads that they only looked", function()
    local seen = {}
    regs:on_access(function(access) table.insert(seen, ("%s %s %s"):format(access.direction, access.register, access.looking)) end)
    regs.CTRL:read()
    assert.same({ "read PAGE true", "read CTRL false" }, seen)
  end)

  it("has the selector of its own element in an array of blocks", function()
    assert(dev:close())
    dev = assert(luio.open(paged.address()))
    regs = assert(luio.bind(luio.registers { CH = { 0x80, count = 2, stride = 0x10, block = {
      SEL = { 0, 32 }, A = { 4, 32, when = { SEL = 1 } }, B = { 4, 32, when = { SEL = 2 } } } } }, dev))
    regs.CH[0].SEL:write(1)
    regs.CH[1].SEL:write(2)
    assert.is_true(pcall(regs.CH[0].A.read, regs.CH[0].A))
    assert.is_true(pcall(regs.CH[1].B.read, regs.CH[1].B))
    fails(function() return regs.CH[1].A:read() end, "CH[1].A is not visible: CH[1].SEL is 2, not 1; CH[1].SEL:write(1) makes it so")
  end)

  it("behind two selectors is asked for from the first, and a hidden selector is not read", function()
    regs = assert(luio.bind(luio.registers { PAGE = { 0, 32 }, SUB = { 0x40, 32, when = { PAGE = 1 } },
      A = { 0x44, 32, when = { SUB = 2 } }, FIFO = { 0x40, 32, "ro", read_effect = "pops", when = { PAGE = 3 } } }, dev))
    paged.switch(dev, 3)
    fails(function() return regs.A:read() end, "A is not visible: PAGE is 3, not 1; PAGE:write(1) makes it so")
    assert.matches("%(not visible: PAGE is 3, not 1: SUB, A%)", tostring(regs))
    assert.equal(0, paged.pops(dev))
    paged.switch(dev, 1)
    fails(function() return regs.A:read() end, "A is not visible: SUB is 0x140, not 2; SUB:write(2) makes it so")
    regs.PAGE:write(1)
    regs.SUB:write(2)
    assert.equal(0x144, regs.A:read())
  end)

  -- ---- Looking ------------------------------------------------------------------------------------

  it("is shown while it is visible; the others are named in a line", function()
    assert.equal(table.concat({ "PAGE  0x0 = 0x00000000  SELECT=MAIN", "ID    0x4 = 0x00000004", "CTRL 0x40 = 0x00000040  MODE=0 EN=0",
      "(not visible: PAGE is 0, not 3: DATA, LEVEL)",
      "(not visible: PAGE.SELECT is MAIN, not EEPROM or 0xd: EEPROM.WORD[0], EEPROM.WORD[1], EEPROM.WORD[2], EEPROM.WORD[3], EEPROM.SIZE)",
    }, "\n"), tostring(regs))
    paged.switch(dev, 3)
    assert.equal(table.concat({ "PAGE   0x0 = 0x00000003  SELECT=FIFO", "ID     0x4 = 0x00000004",
      "DATA  0x40   (not read: pops the FIFO)", "LEVEL 0x44 = 0x00000344",
      "(not visible: PAGE.SELECT is FIFO, not MAIN: CTRL)",
      "(not visible: PAGE.SELECT is FIFO, not EEPROM or 0xd: EEPROM.WORD[0], EEPROM.WORD[1], EEPROM.WORD[2], EEPROM.WORD[3], EEPROM.SIZE)",
    }, "\n"), tostring(regs))
    assert.equal("CTRL 0x40   (not visible: PAGE.SELECT is FIFO, not MAIN)", tostring(regs.CTRL))
    assert.equal(0, paged.pops(dev))
  end)

  it("is shown among others by one look at its selector", function()
    local asked = paged.asked(dev)
    tostring(regs)
    -- PAGE itself, CTRL's, and of the seven that are hidden each its own.
    assert.equal(1 + 1 + 7, paged.asked(dev) - asked)
  end)

  it("is looked at by what the device says, whatever was written before", function()
    regs.PAGE:write(0)
    paged.switch(dev, 3)
    assert.equal("CTRL 0x40   (not visible: PAGE.SELECT is FIFO, not MAIN)", tostring(regs.CTRL))
    assert.equal(0, paged.pops(dev))
  end)

  it("is not visible in a snapshot, differs from nothing, and is not restored", function()
    local main = regs:snapshot()
    local skipped = {}
    for _, entry in ipairs(main.registers) do skipped[entry.path] = entry.skipped end
    assert.equal("not visible: PAGE is 0, not 3", skipped.LEVEL)
    assert.is_nil(skipped.CTRL)
    regs.CTRL:write(0x4e)
    regs.PAGE:write(3)
    local changes = regs:diff(main)
    assert.equal(1, #changes)
    assert.equal("PAGE", changes[1].path)
    local plan = regs:restore(main)
    assert.equal("would write PAGE 0x0  0x00000003 := 0x00000000", tostring(plan):match "^[^\n]+")
    assert.matches("CTRL  %(not restored: not visible: PAGE.SELECT is FIFO, not MAIN; a second restore may find it visible", tostring(plan))
    assert.matches("EEPROM.SIZE  %(not restored: in the snapshot not visible: PAGE.SELECT is MAIN", tostring(plan))
    plan:apply()
    regs:restore(main):apply()
    assert.equal(0x40, regs.CTRL:read())
    assert.equal(0, paged.pops(dev))
  end)

  it("is restored before its selector is", function()
    local spec = { PAGE = { 0, 32, SELECT = { 3, 0 } }, A = { 0x40, 32, when = { ["PAGE.SELECT"] = { 0, 1 } } } }
    regs = assert(luio.bind(luio.registers(spec), dev))
    local page0 = regs:snapshot()
    regs.PAGE:write(1)
    local plan = regs:restore(page0)
    assert.same({ "A", "PAGE" }, { plan.writes[1].register.path, plan.writes[2].register.path })
    assert.equal(2, plan:apply())
    assert.equal(0, regs.PAGE:read())
  end)

  it("at a selector that another map says is disturbed by reading is neither looked at nor accessed", function()
    local other = assert(luio.bind(luio.registers { LATCH = { 0, 32, "ro", read_effect = "lets go" } }, dev))
    local asked = paged.asked(dev)
    local why = "PAGE, which says whether it is visible, is not read: as LATCH, reading lets go"
    assert.equal(("CTRL 0x40   (%s)"):format(why), tostring(regs.CTRL))
    fails(function() return regs.CTRL:read() end, "CTRL: " .. why)
    assert.equal(asked, paged.asked(dev))
    assert.truthy(other)
  end)

  it("is not looked at where reading could disturb, if somebody else may switch meanwhile", function()
    dev.driven_elsewhere = true
    assert.equal("CTRL 0x40   (not read: as DATA, reading pops the FIFO; PAGE.SELECT says it is not there now, but another drives the "
      .. "device and may switch meanwhile)", tostring(regs.CTRL))
    paged.switch(dev, 3)
    assert.equal("LEVEL 0x44 = 0x00000344", tostring(regs.LEVEL))
  end)
end)
