--- Explanations of registers, at the widths of real terminals.

local luio = require "luio"
local explain = require "luio.tool.explore.explain"
local term = require "luio.text.term"

local MAP = luio.registers {
  description = "a device",
  ID = { 0x00, 32, "ro", reset = 0x010000ed, MAGIC = { 7, 0 }, MAJOR = { 31, 24 } },
  CTRL = {
    0x08, 32, "rw", section = "4.2", description = "device control; keep the bits that have no name",
    MODE = { 5, 4, reset = 2, values = { SLOW = 1, FAST = 2, FASTEST = 3 }, description = "how fast it goes, when ENABLE is 1" },
    DONE = { 2, access = "w1c" },
    ENABLE = { 0, section = "4.2.7" },
  },
  FIFO = { 0x100, 8, "ro", read_effect = "pops the FIFO", description = "receiver" },
  COUNTER = { 0x104, 32, "rc" },
  THR = { 0x100, 8, "wo", alias = "FIFO" },
  PEEK = { 0x100, 8, "ro", alias = "FIFO" },
  CMD = { 0x108, 32, "rw", write_effect = "sends the command", RST = { 0, access = "sc", write_effect = "writing resets the card" } },
  ARGS = { 0x108, block = { INDEX = { 0, 8, "rw" }, STATE = { 1, 8, "ro" } } },
  BASE = { 0x110, 64, "rw", reset = 0x8000000000000001ULL, endian = "big" },
  CHANNEL = { 0x200, count = 4, stride = 0x20, description = "one a queue", block = {
    LENGTH = { 0x4, 32, "rw", description = "bytes" },
    SLOT = { 0x8, 16, count = 2, stride = 2, HEAD = 0 },
  } },
}

local function explained(name, width)
  return assert(explain.name({ regs = { map = MAP } }, name, { width = width }))
end

describe("explaining", function()
  local colour
  setup(function() colour, term.colour = term.colour, false end)
  teardown(function() term.colour = colour end)

  it("a register: offset, width, access in words, reset, section, and its fields", function()
    assert.equal(table.concat({
      "CTRL  0x8, 32 bits, rw: read and write",
      "  device control; keep the bits that have no name",
      "  reset     MODE=FAST",
      "  datasheet section 4.2",
      "",
      "  BITS  FIELD   ACCESS",
      "  5:4   MODE    rw      how fast it goes, when ENABLE is 1",
      "                        1=SLOW, 2=FAST, 3=FASTEST",
      "  2     DONE    w1c",
      "  0     ENABLE  rw      section 4.2.7",
      "",
      "  w1c       writing 1 clears, 0 leaves",
    }, "\n"), explained "CTRL")
    assert.matches("^ID  0x0, 32 bits, ro: read%-only\n  reset     0x010000ed MAJOR=1 MAGIC=0xed\n", explained "ID")
    assert.matches("reset     0x8000000000000001\n  bytes     big%-endian", explained "BASE")
  end)

  it("what writing does, under every name of that address that can be written", function()
    assert.matches("\n  writing   sends the command; not done by undo%(%) and restore%(%)\n", explained "CMD")
    assert.matches("\n  0     RST    sc      writing resets the card\n", explained "CMD")
    assert.matches("\n  sc        self%-clearing: writing 1 starts something", explained "CMD")
    assert.matches("\n  writing   resets the card; not done", explained "CMD.RST")
    assert.matches("\n  writing   CMD is there, too: writing sends the command; not", explained "ARGS.INDEX")
    assert.is_nil(explained("ARGS.STATE"):find "writing")
    assert.equal("CMD      0x108  sends the command\nCMD.RST  0x108  writing resets the card",
      explain.search({ regs = { map = MAP } }, "the c"))
  end)

  it("what reading does, under every name of that address", function()
    assert.matches("\n  receiver\n  reading   pops the FIFO; left out when registers are only looked at", explained "FIFO")
    assert.matches("reading   as FIFO, reading pops the FIFO;.*\n  alias     the same address as FIFO", explained "PEEK")
    assert.matches("rc: read%-only, and reading clears it\n  reading   clears it; left out", explained "COUNTER")
    assert.matches("wo: write%-only\n  reading   as FIFO, reading pops the FIFO", explained "THR")
  end)

  it("a field", function()
    assert.equal(table.concat({
      "CTRL.MODE  bits 5:4 of CTRL (0x8), rw: read and write",
      "  how fast it goes, when ENABLE is 1",
      "  reset     FAST",
      "  values    1=SLOW, 2=FAST, 3=FASTEST",
      "  datasheet section 4.2",
    }, "\n"), explained "CTRL.MODE")
    assert.matches("^CTRL.DONE  bit 2 of CTRL %(0x8%), w1c: writing 1 clears, 0 leaves$", (explained "CTRL.DONE":gsub("\n.*", "")))
  end)

  it("blocks and arrays, with and without an index", function()
    assert.equal(table.concat({
      "CHANNEL  4 blocks at 0x200 + 0x20 * i, one 0x20 bytes after the other, each of 3",
      "  registers",
      "  one a queue",
      "",
      "  0x204  LENGTH      bytes",
      "  0x208  SLOT[0..1]",
    }, "\n"), explained "CHANNEL")
    assert.matches("^CHANNEL%[2%]  0x240, 3 registers\n", explained "CHANNEL[2]")
    assert.matches("^CHANNEL%[2%]%.LENGTH  0x244, 32 bits", explained "CHANNEL[2].LENGTH")
    assert.matches("^CHANNEL%.LENGTH  0x204 %+ 0x20 %* i, 32 bits", explained "CHANNEL.LENGTH")
    assert.matches("^CHANNEL%[1%]%.SLOT  2 registers at 0x228 %+ 0x2 %* i, 16 bits", explained "CHANNEL[1].SLOT")
    assert.matches("^CHANNEL%.SLOT%.HEAD  bit 0 of CHANNEL%.SLOT %(0x208 %+ 0x20 %* i %+ 0x2 %* j%)", explained "CHANNEL.SLOT.HEAD")
  end)

  it("within the width, down to 40 columns", function()
    for _, map in ipairs { MAP, require "drivers.e1000e.registers", require "drivers.uart16550.registers" } do
      for _, width in ipairs { 40, 60, 80, 132 } do
        for _, def in ipairs(map.children) do
          local text = assert(explain.name({ regs = { map = map } }, def.name, { width = width }))
          for line in text:gmatch "[^\n]+" do assert.is_true(#line <= width, line) end
        end
      end
    end
    assert.matches("\n  5:4   MODE    rw\n          how fast it goes, when ENABLE\n          is 1\n          1=SLOW, 2=FAST, 3=FASTEST\n", explained("CTRL", 40))
  end)

  it("with colour only where it is wanted", function()
    assert.is_nil(explained("FIFO"):find "\27")
    term.colour = true
    local text = explained "FIFO"
    term.colour = false
    assert.matches("^\27%[1mFIFO\27%[0m  0x100", term.ready(text))
    assert.equal(explained "FIFO", (text:gsub(term.COLOUR, "")))
  end)

  it("says what a wrong name may have meant", function()
    local function message(name) return select(2, explain.name({ regs = { map = MAP } }, name)) end
    assert.same({ nil, "no register CTRK (did you mean CTRL?)", "ENOENT" }, { explain.name({ regs = { map = MAP } }, "CTRK") })
    assert.equal("CTRL has no field MODES (did you mean MODE?)", message "CTRL.MODES")
    assert.equal("CHANNEL[1] has no register LENGHT (did you mean LENGTH?)", message "CHANNEL[1].LENGHT")
    assert.equal("CHANNEL has elements 0 to 3, not 4", message "CHANNEL[4]")
    assert.equal("CTRL is no array", message "CTRL[0]")
    assert.equal("which register?", message "")
    assert.equal('"CTRL." is no register\'s name', message "CTRL.")
    assert.equal('"5" is no register\'s name', message "5")
    assert.equal("no register map, so no CTRL", select(2, explain.name({}, "CTRL")))
  end)

  it("commands of the prompt, too", function()
    local env = { regs = { map = MAP }, help = { dump = "dump PATTERN: shows registers" } }
    assert.equal("dump PATTERN: shows registers", explain.name(env, "dump"))
    explain.topics.places = "NAME, NAME.FIELD"
    assert.equal("NAME, NAME.FIELD", explain.name({}, "places"))
    assert.equal("no register map, so no placs (did you mean places?)", select(2, explain.name({}, "placs")))
    explain.topics.places = nil
    assert.equal("no register dumb (did you mean dump?)", select(2, explain.name(env, "dumb")))
  end)
end)

describe("searching", function()
  local function search(word, map, width) return explain.search({ regs = { map = map or MAP } }, word, { width = width }) end

  it("finds names, descriptions and values, whatever their case", function()
    assert.equal("CTRL  0x8  device control; keep the bits that have no name", search "DEVICE")
    assert.equal("CTRL.MODE  0x8  how fast it goes, when ENABLE is 1", search "Fast")
    assert.equal("CTRL.MODE  0x8  FASTEST = 3", search "fastest")
    assert.equal("FIFO  0x100  receiver", search "pops")
    assert.equal("CHANNEL[*].SLOT[*].HEAD  0x208", search "head")
    assert.equal('nothing in the map contains "zebra"', search "zebra")
    assert.equal("search for which word?", search " ")
    assert.equal("there is no register map", explain.search({}, "x"))
  end)

  it("shows the first 40, and says how many there are more; lines fit", function()
    local text = search("a", require "drivers.e1000e.registers", 60)
    local _, lines = text:gsub("\n", "")
    assert.equal(40, lines)
    assert.matches("\nand %d+ more$", text)
    for line in text:gmatch "[^\n]+" do
      local _, continuation = line:gsub("[\128-\191]", "")
      assert.is_true(#line - continuation <= 60, line)
    end
  end)

  it("takes the word as it is, not as a pattern", function()
    assert.equal('nothing in the map contains "%a"', search "%a")
    assert.equal("COUNTER  0x104  reading clears it", search "clears it")
  end)
end)
