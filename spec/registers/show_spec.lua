--- Looking at registers: printing, snapshots, comparing, restoring; and that looking disturbs nothing.

local luio = require "luio"
local buslog = require "spec.support.buslog"

local MAP = {
  ID = { 0x00, 32, "ro", MAGIC = { 7, 0 } },
  CTRL = { 0x04, 32, "rw", EN = 0, MODE = { 5, 4, values = { SLOW = 1, FAST = 2 } } },
  FIFO = { 0x100, 32, "ro", read_effect = "pops the FIFO" },
  ISR = { 0x104, 32, "w1c", RX = 0 },
  CMD = { 0x0c, 32, "wo" },
  ERR = { 0x10, 16, "rw", COUNT = { 7, 0, access = "rc" } },
  KEY = { 0x14, 32, "wonce" },
  WIDE = { 0x18, 64 },
  T = { 0x20, 16, count = 2 },
}

describe("looking at registers", function()
  local bus, regs
  before_each(function()
    bus = buslog.open()
    bus:poke(0, 32, 0xed)
    bus:poke(4, 32, 0x21)
    bus:poke(0x18, 64, 0x20000000000001ULL)
    regs = bus:bind(MAP)
  end)
  after_each(function() bus:close() end)

  -- Every register that may be read, once; none of those with a side effect.
  local READS = { "r32 0x0 0xed", "r32 0x4 0x21", "r32 0x14 0x0", "r64 0x18 0x20000000000001", "r16 0x20 0x0", "r16 0x22 0x0", "r32 0x104 0x0" }

  it("prints a register with one read: name, offset, value, fields", function()
    assert.equal("CTRL 0x4 = 0x00000021  MODE=FAST EN=1", tostring(regs.CTRL))
    assert.same({ "r32 0x4 0x21" }, bus:log())
  end)

  it("prints the map, and says what it did not read, and why", function()
    assert.equal(table.concat({
      "ID     0x0 = 0x000000ed  MAGIC=0xed",
      "CTRL   0x4 = 0x00000021  MODE=FAST EN=1",
      "CMD    0xc   (write-only)",
      "ERR   0x10   (not read: COUNT: reading clears it)",
      "KEY   0x14 = 0x00000000",
      "WIDE  0x18 = 0x0020000000000001",
      "T[0]  0x20 = 0x0000",
      "T[1]  0x22 = 0x0000",
      "FIFO 0x100   (not read: pops the FIFO)",
      "ISR  0x104 = 0x00000000  RX=0",
    }, "\n"), tostring(regs))
    assert.same(READS, bus:log())
  end)

  it("takes a snapshot: plain data, exact, and nothing disturbed", function()
    local s = regs:snapshot()
    assert.same(READS, bus:log())
    local by = {}
    for _, entry in ipairs(s.registers) do by[entry.path] = entry end
    assert.equal("0x0020000000000001", by.WIDE.value)
    assert.equal("0x00000021", by.CTRL.value)
    assert.equal("not read: pops the FIFO", by.FIFO.skipped)
    assert.is_nil(by.FIFO.value)
    assert.equal(10, #s.registers)
  end)

  it("tells what differs, field by field", function()
    local s = regs:snapshot()
    regs.CTRL:update { MODE = "SLOW" }
    regs.WIDE:write(0x20000000000002ULL)
    assert.same({
      { path = "CTRL", before = "0x00000021", after = "0x00000011", fields = { MODE = { "FAST", "SLOW" } } },
      { path = "WIDE", before = "0x0020000000000001", after = "0x0020000000000002", fields = {} },
    }, regs:diff(s))
    assert.same({}, regs:diff(s, s))
  end)

  it("plans a restore, shows it, and writes only when told", function()
    local s = regs:snapshot()
    regs.CTRL:write(0)
    regs.KEY:write(5)
    bus:log()
    local plan = regs:restore(s)
    for _, access in ipairs(bus:log()) do assert.equal("r", access:sub(1, 1)) end
    local shown = tostring(plan)
    assert.matches("would write CTRL 0x4  0x00000000 := 0x00000021", shown)
    assert.matches("KEY  %(not restored: it can be written only once%)", shown)
    assert.matches("CMD  %(not restored: write%-only%)", shown)
    assert.is_nil(shown:find "WIDE")
    assert.equal(1, plan:apply())
    assert.same({ "w32 0x4 0x21" }, bus:log())
    assert.equal(0, plan:apply())
    assert.equal(0x21, regs.CTRL:read())
  end)

  it("restores what holds its value, and writes neutral bits to the rest", function()
    local mixed = bus:bind { A = { 0x28, 32, EN = 0, DONE = { 4, access = "w1c" }, LOW = { 9, 8, access = "w0c" } } }
    bus:poke(0x28, 32, 0x111)
    local s = mixed:snapshot()
    bus:poke(0x28, 32, 0x010)
    assert.equal("would write A 0x28  0x00000010 := 0x00000301", tostring(mixed:restore(s)))
    bus:poke(0x28, 32, 0x101)
    assert.equal("A  (not restored: what differs can't be written back)", tostring(mixed:restore(s)))
  end)

  it("is not disturbed by a snapshot of another map", function()
    local s = { device = "x", registers = { { path = "GONE", value = "0x1" } } }
    assert.same({}, regs:diff(s))
    assert.matches("GONE  %(not restored: the map has no register GONE%)", tostring(regs:restore(s)))
  end)

  it("reads edu as it is: the demo's listing", function()
    local dev = assert(luio.start("edu", "sim:edu"))
    assert.matches("IRQ_RAISE  0x60   %(write%-only%)", tostring(dev.regs))
    assert(dev:close())
  end)
end)
