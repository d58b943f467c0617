--- Targets: the meaning of places on a device, with a map and without; reading and changing by them.

local change = require "luio.tool.explore.change"
local place = require "luio.tool.explore.place"
local probe = require "spec.support.probe"
local record = require "luio.tool.explore.record"
local target = require "luio.tool.explore.target"

local t

local function open(options)
  t = assert(target.open("sim:probe", options or { how = "own" }))
  return t
end

local function find(text)
  return t:find(assert(place.parse(text)))
end

local function labels(text)
  local list = {}
  for i, found in ipairs((assert(find(text)))) do list[i] = found.label end
  return list
end

local function read(text)
  return record.read(t, assert(find(text))[1])
end

local function set(text, dry, read_around)
  local c, message, code = change.plan(t, assert(place.assignment(text)), read_around)
  if not c then return nil, message, code end
  return c:apply(dry)
end

setup(probe.setup)
teardown(probe.teardown)

describe("a target", function()
  after_each(function() if t then t:close() end t = nil end)

  it("has the map of the driver that matches, or the one that is named, or none", function()
    assert.same({ "drivers/probe", "probe" }, { open().map_name, t.driver.name })
    t:close()
    local _, message, code = target.open("sim:probe", { map = "nowhere.lua" })
    assert.equal("ENOENT", code)
    assert.matches("no register map \"nowhere.lua\"", message)
    _, message = target.open("sim:probe", { map = "drivers/e1000e" })
    assert.matches("does not fit sim:probe", message)
  end)

  it("finds registers, fields, bits, blocks, arrays and patterns", function()
    open()
    assert.same({ "CTRL" }, labels "CTRL")
    assert.same({ "CTRL.MODE" }, labels "CTRL.MODE")
    assert.same({ "CTRL[3:2]" }, labels "CTRL[3:2]")
    assert.same({ "CHANNEL[1].CTRL", "CHANNEL[1].LENGTH", "CHANNEL[1].KIND" }, labels "CHANNEL[1]")
    assert.equal(8, #labels "TABLE")
    assert.same({ "CHANNEL[0].CTRL", "CHANNEL[1].CTRL", "CHANNEL[2].CTRL", "CHANNEL[3].CTRL" }, labels "CHANNEL[*].CTRL")
    assert.equal(12, #labels "CH*")
    assert.same({ "CAUSE" }, labels "CA*")
  end)

  it("finds offsets: by the map's register where one is exactly there, else as they are", function()
    open()
    assert.same({ "CTRL", "CTRL", "0x00:u8", "CTRL[7:7]" },
      { labels("0x0")[1], labels("0x0:u32")[1], labels("0x0:u8")[1], labels("0x0:u32[7:7]")[1] })
    assert.same({ "0x1f0:u32", "2:0x04:u16" }, { labels("0x1f0")[1], labels("2:0x4:u16")[1] })
    assert.same({ "0x40:u32", "0x44:u32" }, labels "0x40+8")
  end)

  it("says what is wrong with a place, near names included", function()
    open()
    for text, expected in pairs {
      CTL = "did you mean CTRL?", ["CTRL.MOD"] = "CTRL has no field MOD (did you mean MODE?)", ["CHANNEL[4].CTRL"] = "has elements 0 to 3, not 4",
      ["CTRL[32:0]"] = "CTRL has 32 bits", ["CHANNEL[0][1:0]"] = "no register but several", ["0x200"] = "region 0 of sim:probe has 0x200 bytes",
      ["0x2:u32"] = "not aligned to 4 bytes", ["1:0x0"] = "region 1", ["X*"] = "no register of drivers/probe is called so",
      ["0x0+6"] = "not whole u32", ["CTRL.MODE[1:0]"] = "not of a field",
    } do
      local list, message, code = find(text)
      assert.is_nil(list)
      assert.equal("ENOENT", code, text)
      assert.is_truthy(message:find(expected, 1, true), message)
    end
  end)

  it("reads nothing that would be disturbed, by whatever name or offset, unless it is forced", function()
    open()
    for _, text in ipairs { "CAUSE", "FIFO", "0x8", "0x8:u32", "0xc:u8", "0xe:u16", "0x8:u64" } do
      local list, message = find(text)
      assert.is_table(list, message)
      local r = record.read(t, list[1])
      assert.is_nil(r.value, text)
      assert.matches("^not read: ", r.skipped)
    end
    assert.equal(0, probe.lost(t.dev))
    local r = record.read(t, find("FIFO")[1], true)
    assert.same({ 0, "FIFO was read: pops the FIFO", 1 }, { r.value, r.disturbed, probe.lost(t.dev) })
    assert.equal("write-only", record.read(t, find("KICK")[1], true).skipped)
  end)

  it("reads fields with their names, bits, and 64 bits exactly", function()
    open()
    t.regs.CTRL:write { MODE = "TURBO", ENABLE = 1 }
    assert.same({ 2, "TURBO" }, { read("CTRL.MODE").part, read("CTRL.MODE").part_text })
    assert.equal(9, read("CTRL[3:0]").part)
    t.regs.WIDE:write(0xfedcba9876543210ULL)
    assert.equal(0xfedcba9876543210ULL, read("WIDE").value)
    assert.equal(0xfedcba9876543210ULL, read("WIDE[63:0]").part)
    assert.equal("0xfedcba9876543210", record.plain(read "WIDE").value)
  end)
end)

describe("a change", function()
  before_each(function() open() end)
  after_each(function() if t then t:close() end t = nil end)

  it("of a whole register is one store, with the value before and after", function()
    local before = t.dev.sim.stats()
    local c = assert(set "CTRL=0x21")
    local after = t.dev.sim.stats()
    assert.same({ 2, 1 }, { after.reads - before.reads, after.writes - before.writes })
    assert.same({ 0x10, 0x21, 0x21 }, { c.old, c.written, c.readback })
    assert.same({ { name = "LEVEL", before = "1", after = "2" }, { name = "ENABLE", before = "0", after = "1" } }, change.fields(c))
  end)

  it("of fields keeps the others, and takes names of values", function()
    local c = assert(set "CTRL.MODE=FAST,ENABLE=1")
    assert.equal(0x15, c.readback)
    assert.equal(0x95, assert(set "CTRL[7:4]=9").readback)
  end)

  it("of fields or bits leaves write-1-to-clear bits beside them alone", function()
    assert.equal(0x503, assert(set "STATUS.MASK=5").readback)
    assert.equal(0x703, assert(set "STATUS[9:8]=3").readback)
    local c = assert(set "STATUS.PARITY=1")
    assert.same({ 0x702, 0x701 }, { c.written, c.readback })
  end)

  it("of a write-only register starts from its reset value and reads nothing", function()
    local before = t.dev.sim.stats().reads
    local c = assert(set "KICK.SPEED=2,GO=1")
    assert.same({ 5, before, "write-only" }, { c.written, t.dev.sim.stats().reads, c.why_unread })
    assert.is_nil(c.old)
  end)

  it("of an offset in no map works, with bits and of any width", function()
    assert.equal(0xab, assert(set("0x1f0:u8=0xab", false, true)).readback)
    assert.equal(0x2b, assert(set("0x1f0:u8[7:4]=2", false, true)).readback)
    assert.equal(0xffffffffffffffffULL, assert(set("0x1f8:u64=0xffffffffffffffff", false, true)).readback)
    assert.equal(7, assert(set("2:0x8:u16=7", false, true)).readback)
  end)

  it("of an offset in no map is written and not read, unless that is asked for, or bits of it are to be kept", function()
    local function reads(text, around)
      local before = t.dev.sim.stats().reads
      local c = assert(set(text, false, around))
      return t.dev.sim.stats().reads - before, c.why_unread
    end
    assert.same({ 0, "not read: no map describes it" }, { reads "0x1f0:u8=0xab" })
    assert.same({ 2 }, { reads("0x1f0:u8=0xab", true) })
    assert.same({ 1 }, { reads "0x1f0:u8[7:4]=2" })
    assert.same({ 2 }, { reads "0x2:u16=1" }) -- within CTRL
    assert.same({ 0, "not read: no map describes it" }, { reads "0x18:u64=0" }) -- FUSE, and four bytes of nobody
    assert.same({ 0, "not read: FIFO: pops the FIFO" }, { reads("0xe:u8=1", true) })
    assert.equal(0, probe.lost(t.dev))
  end)

  it("that is only tried writes nothing", function()
    local before = t.dev.sim.stats().writes
    local c = assert(set("CTRL.LEVEL=7", true))
    assert.same({ 0x70, before }, { c.written, t.dev.sim.stats().writes })
    assert.is_nil(c.readback)
  end)

  it("that can't be is refused before any access", function()
    local before = t.dev.sim.stats()
    for text, expected in pairs {
      ["TICK=1"] = "it is read-only", ["CAUSE=1"] = "it is read-only", ["CTRL.BUSY=1"] = "its access is ro", ["CTRL.LEVEL=16"] = "does not fit in 4 bits",
      ["CTRL=0x100000000"] = "does not fit in 32 bits", ["CTRL.MODE=TURBOS"] = "there is FAST, SLOW, TURBO", ["CTRL.MODE=Q"] = "there is FAST, SLOW, TURBO",
      ["CTRL=FAST"] = '"FAST" is not a number', ["CTRL=1,ENABLE=1"] = "further fields need a field first", ["CTRL.ENABLE=1,MOD=1"] = "did you mean MODE?",
      ["CHANNEL[0]=1"] = "one is written at a time", ["0xc:u32[0:0]=1"] = "it is read-only", ["0x8:u16[0:0]=1"] = "reading it would disturb it",
    } do
      local c, message = set(text)
      assert.is_nil(c)
      assert.is_truthy(message:find(expected, 1, true), message)
    end
    assert.same({ before.reads, before.writes }, { t.dev.sim.stats().reads, t.dev.sim.stats().writes })
  end)
end)
