--- Registers behind a selector, as the program and the prompt show them: a 16550, whose divisor latch is in the place of its
--- FIFO, and a device with a paged window.

local luio = require "luio"
local complete = require "luio.tool.explore.complete"
local explain = require "luio.tool.explore.explain"
local files = require "spec.support.files"
local paged = require "spec.support.paged"
local journal = require "luio.tool.explore.journal"
local place = require "luio.tool.explore.place"
local program = require "spec.support.program"
local record = require "luio.tool.explore.record"
local sessions = require "luio.tool.explore.session"
local snapshots = require "luio.tool.explore.snapshots"
local target = require "luio.tool.explore.target"
local term = require "luio.text.term"
local watch = require "luio.tool.explore.watch"

local DATA, DIVISOR = "LCR.DLAB is DATA, not DIVISOR", "LCR.DLAB is DIVISOR, not DATA"

describe("the program", function()
  it("dumps a 16550's visible registers, and names the others with the selector", function()
    local out, status = program.run "dump sim:uart16550"
    assert.equal(0, status)
    assert.matches("\nIER 0x1 = 0x00", out)
    assert.matches("\n%(not visible: LCR.DLAB is DATA, not DIVISOR: DLL, DLM%)\n$", out)
    assert.is_nil(out:find "\nDL[LM] ")
  end)

  it("says of one that is hidden what hides it, and reads it by no force", function()
    for _, force in ipairs { "", "--force-read " } do
      local out, status = program.run("get " .. force .. "sim:uart16550 DLL")
      assert.equal(1, status)
      assert.is_truthy(out:find("luio: DLL was not read: not visible: " .. DATA .. "\n", 1, true), out)
    end
  end)

  it("writes behind a selector that was set in the same line, and else does not", function()
    local out, status = program.run "set sim:uart16550 LCR.DLAB=DIVISOR DLL=5 DLM=0"
    assert.equal(0, status)
    assert.matches("DLL 0x%x+ %(%+0x0%) 0x0c := 0x05 %-> 0x05", out)
    out, status = program.run "set sim:uart16550 SCR=1 DLL=5 DLM=0"
    assert.equal(1, status)
    assert.matches("SCR 0x%x+ %(%+0x7%) 0x00 := 0x01", out)
    assert.is_truthy(out:find("luio: DLL was not written: not visible: " .. DATA, 1, true), out)
    assert.is_nil(out:find "DLM")
    out, status = program.run "set -n sim:uart16550 DLL=5"
    assert.equal(0, status)
    assert.is_truthy(out:find("would write DLL", 1, true) and out:find("(not visible: " .. DATA .. ") := 0x05", 1, true), out)
  end)

  it("takes an offset for no name behind a selector: a byte that is a FIFO for some is not read", function()
    local out, status = program.run "get sim:uart16550 0x0:u8 0x1:u8"
    assert.equal(1, status)
    assert.matches("0x00:u8   %(not read: RBR: takes the character", out)
    assert.matches("0x01:u8 = 0x00", out)
  end)
end)

describe("a session", function()
  local s, said
  local function open(args)
    s, said = assert(sessions.open(args)), {}
    s:notify(function(text) table.insert(said, text) end)
  end
  after_each(function()
    assert(s:close())
    files.clean()
  end)

  local function fails(text, fn, ...)
    local ok, message = pcall(fn, ...)
    assert.is_false(ok)
    assert.is_truthy(tostring(message):find(text, 1, true), tostring(message))
  end

  it("shows, gets, sets and undoes what is behind LCR.DLAB", function()
    open { device = "sim:uart16550" }
    luio.run(function()
      local env, regs = s.env, s.regs
      fails("DLL is not visible: " .. DATA, function() return regs.DLL:read() end)
      fails("DLL: not visible: " .. DATA, env.get, "DLL")
      fails("DLL was not written: not visible: " .. DATA, env.set, "DLL=1")
      regs.LCR:update { DLAB = "DIVISOR" }
      assert.equal(12, env.get "DLL")
      regs.DLL:write(7)
      assert.equal("RBR 0x0   (not visible: " .. DIVISOR .. ")", tostring(regs.RBR))
      regs.LCR:update { DLAB = "DATA" }
      -- The write to DLL can't be undone while LCR hides it.
      local result = s.journal:undo(1)
      assert.matches("^LCR ", result.done[1])
      result = s.journal:undo(1)
      assert.same({ "DLL 0x07 := 0x0c" }, result.done)
      regs.LCR:update { DLAB = "DIVISOR" }
      regs.DLL:write(9)
      s.regs.root = nil
      s.dev.regions[0]:write8(3, 0) -- none of the map's
      result = s.journal:undo(1)
      assert.same({ "DLL := 0x09 can't be undone: not visible: " .. DATA }, result.refused)
    end)
  end)

  it("explains and completes it like any other, and says of what it is visible", function()
    open { device = "sim:uart16550" }
    local colour = term.colour
    term.colour = false
    local text = assert(explain.name(s, "DLL"))
    term.colour = colour
    assert.matches("\n  visible   while LCR.DLAB is DIVISOR\n", text)
    assert.is_nil(text:find "takes the character") -- RBR is not there at the same time
    assert.matches("\n  reading   takes the character", assert(explain.name(s, "RBR")):gsub("\27%[[%d;]*m", ""))
    local _, words = complete.line(s.env, "DL")
    assert.same({ "DLL", "DLM" }, { words[1].text or words[1], words[2].text or words[2] })
  end)
end)

describe("a target with a paged window", function()
  local t
  before_each(function()
    t = assert(target.open(paged.address(), { how = "own", map = files.write("map.lua",
      "return require('luio').registers(require('spec.support.paged').map())") }))
  end)
  after_each(function()
    t:close()
    files.clean()
  end)

  local function read(list)
    local records = {}
    for i, found in ipairs(list or t:all()) do records[i] = record.read(t, found) end
    return records
  end

  it("is dumped as it is now", function()
    local function dump() return record.dump(read(), {}) end
    assert.equal("CTRL 0x40 = 0x00000040  MODE=0 EN=0", dump()[3])
    assert.equal("(not visible: PAGE is 0, not 3: DATA, LEVEL)", dump()[4])
    paged.switch(t.dev, 0xd)
    local lines = dump()
    assert.equal("EEPROM.WORD[0] 0x40 = 0x00000d40", lines[3])
    assert.equal("(not visible: PAGE.SELECT is 0xd, not MAIN: CTRL)", lines[8])
    paged.switch(t.dev, 3)
    assert.equal("DATA  0x40   (not read: pops the FIFO)", dump()[3])
    assert.equal("not visible: PAGE.SELECT is FIFO, not MAIN", record.plain(record.read(t, t:find(place.parse "CTRL")[1])).skipped)
    assert.equal(0, paged.pops(t.dev))
  end)

  it("is watched while it is visible, and changes are those of a register, not of what took its place", function()
    local w = watch.new(t, t:find(place.parse "CTRL"))
    paged.switch(t.dev, 3)
    assert.same({}, w:sample())
    assert.equal("not visible: PAGE.SELECT is FIFO, not MAIN", w.rows[1].record.skipped)
    paged.switch(t.dev, 0)
    assert.same({}, w:sample())
    assert.equal(0x40, w.rows[1].record.value)
    t.regs.CTRL:write(0x41)
    assert.equal(1, #w:sample())
    assert.equal(0, paged.pops(t.dev))
  end)

  it("differs from a snapshot where it is visible in one only, not by what the selector was else", function()
    local before = snapshots.of(t, read())
    paged.switch(t.dev, 3)
    local after = snapshots.of(t, read())
    local lines = {}
    for _, d in ipairs(snapshots.diff(before, after, t.regs.map)) do
      for _, line in ipairs(snapshots.lines(d)) do table.insert(lines, line) end
    end
    assert.same({ "PAGE 0x00000000 -> 0x00000003", "  SELECT MAIN -> FIFO", "CTRL 0x00000040 -> not visible",
      "DATA not visible -> not read: pops the FIFO", "LEVEL not visible -> 0x00000344" }, lines)
  end)

  it("is asked once for its selector before a write that is kept, and once to undo it", function()
    local j = journal.new(t)
    local before = paged.asked(t.dev)
    t.regs.CTRL:write(0x41)
    -- The write's own question, and that of the look before it.
    assert.equal(2, paged.asked(t.dev) - before)
    before = paged.asked(t.dev)
    assert.same({ "CTRL 0x00000041 := 0x00000040" }, j:undo(1).done)
    assert.equal(3, paged.asked(t.dev) - before)
  end)

  it("takes an offset in the window for none of its registers", function()
    paged.switch(t.dev, 1)
    assert.equal(0x144, record.read(t, t:find(place.parse "0x44:u32")[1]).value)
    assert.equal("not read: DATA: pops the FIFO", record.read(t, t:find(place.parse "0x40:u32")[1]).skipped)
    assert.equal("not read: no map describes it", t:unasked(t:find(place.parse "0x44:u32")[1].reg))
  end)

  it("is known to have been switched by an offset, too", function()
    t.regs.PAGE:write(0)
    assert.equal(0x40, t.regs.CTRL:read())
    t:find(place.parse "0x0:u8")[1].reg:write(3)
    assert.is_false(pcall(t.regs.CTRL.read, t.regs.CTRL))
    assert.equal(0, paged.pops(t.dev))
  end)
end)
