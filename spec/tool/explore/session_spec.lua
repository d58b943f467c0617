--- Sessions: the prompt's scope, the journal, undo, and the script that is made of it.

local files = require "spec.support.files"
local luio = require "luio"
local probe = require "spec.support.probe"
local prompt = require "spec.support.prompt"
local wait = require "spec.support.wait"

local open, run, busted = prompt.open, prompt.run, prompt.busted

setup(probe.setup)
teardown(probe.teardown)

describe("a session", function()
  after_each(prompt.close)

  it("watches no register whose read has a side effect", function()
    open()
    run "watch(regs, 0.2)"
    assert.equal(0, probe.lost(prompt.session.dev))
    assert.matches("not read", table.concat(prompt.printed, "\n"))
  end)

  it("does what the commands do: info, list, doctor, a range as words, bytes of memory", function()
    open()
    run "info()"
    assert.equal("address       sim:probe", prompt.printed[1])
    assert.matches("\nregion 0 +memory 0x", table.concat(prompt.printed, "\n"))
    run "info 'sim:edu'"
    assert.equal("address       sim:edu", prompt.printed[1])
    run "list()"
    assert.matches("^ADDRESS +UIO +ID +KERNEL DRIVER", prompt.printed[1])
    run "doctor()"
    assert.equal("ok       model: its model runs: sim:probe", prompt.printed[1])
    run "dump('0x0+0x8', CTRL)"
    assert.matches("^0x0: 00000010 %x+$", prompt.printed[1])
    assert.matches("^CTRL +0x0 = 0x00000010", prompt.printed[2])
    run "b = assert(dev.dma:alloc(64)) b:fill(0x41) hexdump(b, 16)"
    assert.same({ "0010", "*", "0040" }, { prompt.printed[1]:sub(1, 4), prompt.printed[2], prompt.printed[3] })
    run "hexdump('hello', 1, 2)"
    assert.same({ "0001  65 6c                                             |el|" }, prompt.printed)
    assert.matches("^hexdump wants a DMA buffer or a string", select(2, pcall(run, "hexdump(5)")))
    assert.matches("^hexdump wants a DMA buffer or a string", select(2, pcall(run, "hexdump(CTRL)")))
    assert.matches("^hexdump: N is a number", select(2, pcall(run, "hexdump('x', 0, 'y')")))
    assert.matches("^hexdump: FROM is 0 to 1", select(2, pcall(run, "hexdump('x', 2)")))
    assert.matches('there is no .*"nothing"', select(2, pcall(run, "info 'sim:nothing'")))
  end)

  it("has registers under their names, the device, luio, and Lua's globals", function()
    open()
    assert.equal(0x10, run "CTRL:read()")
    assert.equal(1, run "CTRL:get 'LEVEL'")
    assert.equal("TABLE[3]", run "TABLE[3].path")
    assert.same({ prompt.session.dev, prompt.session.regs, "probe", luio, math }, { run "dev", run "regs", run "driver.name", run "luio", run "math" })
    assert.is_nil((run "undefined"))
    run "x = 5"
    assert.equal(5, run "x")
    assert.is_nil(rawget(_G, "x"))
  end)

  it("says that a name in capitals is unknown, and which is near", function()
    open()
    assert.has_error(function() run "CTRLL:read()" end)
    local _, message = pcall(run, "STATU")
    assert.matches("there is no STATU %(did you mean STATUS%?%)", message)
  end)

  it("touches nothing when it is opened, and unmasks nothing", function()
    open()
    assert.same({ 0, 0 }, { prompt.session.dev.sim.stats().reads, prompt.session.dev.sim.stats().writes })
  end)

  it("looks without disturbing: dump, get, snapshot, diff", function()
    open()
    run "dump()"
    assert.matches("^CTRL +0x0 = 0x00000010  BUSY=0 LEVEL=1 MODE=SLOW ENABLE=0$", prompt.printed[1])
    assert.matches("^CAUSE +0x8   %(not read: reading clears it%)$", prompt.printed[3])
    run "dump('CH*[1]', CTRL)"
    assert.equal(4, #prompt.printed)
    assert.equal(3, run "get 'STATUS[1:0]'")
    run "snap = snapshot()"
    assert.matches("^snapshot of sim:probe, 28 registers", tostring(run "snap"))
    assert.equal("nothing differs", tostring(run "diff(snapshot 'CTRL')"))
    run "CTRL:update { LEVEL = 3, MODE = 'FAST' }"
    local d = run "diff(snap)"
    assert.matches("CTRL 0x00000010 %-> 0x00000034\n  LEVEL 1 %-> 3\n  MODE SLOW %-> FAST", tostring(d))
    assert.equal(0, probe.lost(prompt.session.dev))
    for code, expected in pairs { ["get 'FIFO'"] = "pops the FIFO; FIFO:read%(%)", ["get 'TABLE'"] = "several", ["dump 'X'"] = "no register X",
      ["dump(5)"] = "a place is", ["diff(5)"] = "wants a snapshot" } do
      local ok, message = pcall(run, code)
      assert.is_false(ok)
      assert.matches(expected, message)
    end
  end)

  it("keeps a snapshot in a file that diff takes", function()
    open()
    local path = os.tmpname()
    run(("save(snapshot(), %q)"):format(path))
    run "CTRL:write(1)"
    assert.matches("^CTRL 0x00000010 %-> 0x00000001", tostring(run(("diff(%q)"):format(path))))
    os.remove(path)
  end)

  it("sets and says what became of it", function()
    open()
    assert.equal("CTRL 0x00000010 := 0x00000018 -> 0x00000018\n  MODE SLOW -> TURBO", tostring(run "set 'CTRL.MODE=TURBO'"))
    assert.equal("KICK (write-only) := 0x00000001", tostring(run "set 'KICK=1'"))
    assert.equal("0x1f0:u16 (not read: no map describes it) := 0x0005", tostring(run "set '0x1f0:u16=5'"))
    assert.equal("0x1f0:u16 0x0005 := 0x0006 -> 0x0006", tostring(run "set('0x1f0:u16=6', 'read')"))
    local ok, message = pcall(run, "set 'CTRL.MODE=SLOWER'")
    assert.is_false(ok)
    assert.matches("there is FAST, SLOW, TURBO", message)
  end)

  it("watches until a time is over", function()
    open()
    run "watch(TICK, 0.3)"
    assert.matches("^TICK 0x14 = 0x", prompt.printed[1])
    assert.matches("^%d+%.%d+ TICK 0x%x+ %-> 0x%x+$", prompt.printed[2])
  end)

  it("refuses writes when it is read-only", function()
    open { read_only = true }
    assert.equal(0x10, run "CTRL:read()")
    assert.matches("opened read%-only", select(2, pcall(run, "CTRL:write(1)")))
    assert.matches("opened read%-only", select(2, pcall(run, "set 'CTRL=1'")))
    assert.matches("read%-only", select(2, pcall(run, "start()")))
    assert.equal(0, prompt.session.dev.sim.stats().writes)
  end)

  it("goes on with the same journal after the device was reopened", function()
    open()
    run "CTRL:write(5)"
    local before = prompt.session.dev
    run "reopen()"
    assert.is_true(before.closed)
    assert.equal(0x10, run "CTRL:read()")
    assert.same({ "write", "read" }, { prompt.session.journal.entries[1].kind, prompt.session.journal.entries[2].kind })
  end)
end)

describe("an update", function()
  after_each(prompt.close)

  it("of a field says once what writing its register sets off in any case, not what was named", function()
    open { device = "sim:edu" }
    run "DMA_CMD:update { RAISE_IRQ = 1 }"
    run "DMA_CMD:update { RAISE_IRQ = 0 }"
    run "STATUS:update { RAISE_IRQ = 1 }"
    run "FACTORIAL:write(5)"
    assert.same({ "note: writing DMA_CMD starts a transfer if RUN is 1, and is ignored if it is 0, whichever field an update names" }, prompt.said)
  end)
end)

describe("undo", function()
  before_each(function() open() end)
  after_each(prompt.close)

  it("takes the last writes back, from the latest", function()
    run "CTRL:write(0x21)"
    run "WIDE:write(0xfedcba9876543210ULL)"
    run "CTRL:update { MODE = 'FAST' }"
    run "undo()"
    assert.same({ "CTRL 0x00000025 := 0x00000021" }, prompt.printed)
    run "undo(2)"
    assert.same({ 0x10, 0ULL }, { run "CTRL:read()", run "WIDE:read()" })
    run "undo()"
    assert.matches("nothing to undo", prompt.printed[1])
  end)

  it("wants a number, and loses nothing without", function()
    run "CTRL:write(5)"
    for _, code in ipairs { "undo('x')", "undo(0)", "undo(-1)" } do assert.matches("how many writes", select(2, pcall(run, code))) end
    run "undo()"
    assert.same({ "CTRL 0x00000005 := 0x00000010" }, prompt.printed)
  end)

  it("says what it can't take back, and why", function()
    run "KICK:write(1)"
    run "FUSE:write(1)"
    run "STATUS:write { OVERRUN = 1 }"
    run "undo(3)"
    assert.matches("^STATUS := 0x00000001 can't be undone: the written value has an effect", prompt.printed[1])
    assert.matches("^FUSE := 0x00000001 can't be undone: it can be written only once", prompt.printed[2])
    assert.matches("^KICK := 0x00000001 can't be undone: write%-only", prompt.printed[3])
  end)

  it("does not send a command, start or reset anything again, by whichever name it was written", function()
    local map = files.write("effects.lua", [[return require("luio").registers {
      CMD = { 0x1f0, 32, "rw", write_effect = "sends the command" }, PLAIN = { 0x1f0, 32, "rw", alias = "CMD" },
      CTRL = { 0x1f4, 32, "rw", MODE = { 7, 4 }, GO = { 0, write_effect = "goes" } },
    }]])
    assert(prompt.session:close())
    open { map = map }
    for _, case in ipairs { -- in this order: what stands in CTRL before is part of what undoing it would write
      { "CMD:write(5)", "CMD := 0x00000005 can't be undone: writing CMD sends the command" },
      { "PLAIN:write(6)", "PLAIN := 0x00000006 can't be undone: writing CMD sends the command" },
      { "set '0x1f2:u16=7'", "0x1f2:u16 := 0x0007 can't be undone: writing CMD sends the command" },
      { "CTRL:write { GO = 1 }", "CTRL := 0x00000001 can't be undone: the written value has an effect, or does not stay" },
      { "CTRL:write { MODE = 3, GO = 1 }", "CTRL := 0x00000031 can't be undone: writing CTRL.GO goes" },
    } do
      run(case[1])
      local before = prompt.session.dev.sim.stats().writes
      run "undo()"
      assert.same({ case[2], 0 }, { prompt.printed[1], prompt.session.dev.sim.stats().writes - before })
    end
    files.clean()
  end)

  it("puts back what it can of a register, and leaves write-1-to-clear bits alone", function()
    run "STATUS:write { MASK = 7, OVERRUN = 1 }"
    assert.equal(0x702, run "STATUS:read()")
    run "undo()"
    assert.matches("its other bits do something when written, and stay", prompt.printed[1])
    assert.equal(0x002, run "STATUS:read()")
  end)

  it("goes on after the device was opened again, on the one that is open", function()
    run "CTRL:write(0x21)"
    run "set('0x1f0:u16=5', 'read')"
    run "reopen()"
    run "CTRL:write(0x31)"
    run "undo(3)"
    assert.same({ "CTRL 0x00000031 := 0x00000010", "0x1f0:u16 (not read: no map describes it) := 0x0000", "CTRL 0x00000010 := 0x00000010" }, prompt.printed)
  end)

  it("costs one read of its own for a write, none for an update or where reading disturbs", function()
    local function reads(code)
      local before = prompt.session.dev.sim.stats().reads
      run(code)
      return prompt.session.dev.sim.stats().reads - before
    end
    assert.same({ 1, 1, 0 }, { reads "CTRL:write(1)", reads "CTRL:update { LEVEL = 2 }", reads "KICK:write(1)" })
  end)
end)

describe("the script of a session", function()
  before_each(function() open() end)
  after_each(prompt.close)

  local function work()
    run "CTRL:write { MODE = 'FAST', ENABLE = 1 }"
    run "for i = 1, 5 do CTRL:get 'BUSY' end"
    run "WIDE:write(0x1122334455667788ULL)"
    run "set('0x1f0:u16=7', 'read')"
    run "undo()"
    run "dump()"
  end

  it("has what was done to registers, not what was only looked at, nor what was undone", function()
    work()
    run "session()"
    local text = prompt.printed[1]
    assert.is_truthy(text:find('regs = assert(luio.bind(require "drivers.probe.registers", dev))', 1, true), text)
    assert.is_truthy(text:find("regs.CTRL:write(0x00000015)  -- LEVEL=1 MODE=FAST ENABLE=1", 1, true), text)
    assert.is_truthy(text:find("_ = regs.CTRL:read() -- 0x00000015, 5 times", 1, true), text)
    assert.is_truthy(text:find("regs.WIDE:write(0x1122334455667788ULL)", 1, true), text)
    assert.is_nil(text:find("TICK", 1, true))
    assert.is_nil(text:find("0x1f0", 1, true))
  end)

  it("is not disturbed by what is prompt.printed, nor by two hundred reads", function()
    run "print(CTRL, regs)"
    run "tostring(CTRL)"
    run "for i = 1, 300 do TICK:read() CTRL:read() end"
    run "session()"
    assert.is_nil(prompt.printed[1]:find("STATUS", 1, true))
    assert.is_function(assert(loadstring(prompt.printed[1])))
  end)

  it("has a write and its undoing when something was done between them", function()
    run "CTRL:write(1)"
    run "CTRL:read()"
    run "undo()"
    run "CTRL:read()"
    run "session 'spec'"
    local out, status = busted(prompt.printed[1])
    assert.equal(0, status, out)
  end)

  it("runs as it stands: as a script, and as a driver", function()
    work()
    run "session()"
    local chunk = assert(loadstring(prompt.printed[1]))
    chunk()
    run "session 'driver'"
    local d = assert(loadstring(prompt.printed[1]))()
    assert.same({ "probe", "1234:4711" }, { d.name, d.match.pci })
    local dev = assert(luio.open "sim:probe")
    dev = assert(require("luio.driver").start(d, dev))
    assert.equal(0x15, dev.regs.CTRL:read())
    assert(dev:close())
  end)

  it("expects what get() and showing a register showed, where it is a spec; a driver does without", function()
    run "CTRL:write(0x15)"
    run "get 'CTRL.MODE'"
    run "get 'WIDE'"
    run "get '0x1f0:u16'"
    run "tostring(CTRL)"
    run "dump()"
    run "session 'spec'"
    local text = prompt.printed[1]
    for _, line in ipairs { 'assert.equal(0x1, (regs.CTRL:get "MODE"))', "assert.equal(0x0000000000000000ULL, regs.WIDE:read())",
      "assert.equal(0x0000, dev.regions[0]:read16(0x1f0))", "assert.equal(0x00000015, regs.CTRL:read())" } do
      assert.is_truthy(text:find(line, 1, true), text)
    end
    assert.is_nil(text:find("STATUS", 1, true))
    local out, status = busted(text)
    assert.equal(0, status, out)
    run "session 'driver'"
    assert.is_nil(prompt.printed[1]:find("read", 1, true), prompt.printed[1])
  end)

  it("is a spec that busted runs, and that fails on another device", function()
    work()
    run "session 'spec'"
    local out, status = busted(prompt.printed[1])
    assert.equal(0, status, out)
    out, status = busted((prompt.printed[1]:gsub("assert.equal%(0x00000015", "assert.equal(0x00000016")))
    assert.equal(1, status, out)
  end)
end)

describe("the script of a session with DMA memory", function()
  before_each(function() open { device = "sim:edu" } end)
  after_each(prompt.close)

  -- Moves 8 bytes to the device and back, and looks at them; the buffer is not where a script's will be.
  local THERE = [[
    other = assert(dev.dma:alloc(8192))
    other:free()
    kept = assert(dev.dma:alloc(8192))
    b = assert(dev.dma:alloc(4096, { align = 4096 }))
    b:fill(0x2e)
    b:write(16, "a\0\"\200 b\n")
    dev:bus_master(true)
    irqs()
    DMA_SRC:write(b.iova + 16)
    DMA_DST:write(0x40000)
    DMA_COUNT:write(8)
    DMA_CMD:write { RUN = 1, RAISE_IRQ = 1 }
  ]]
  local BACK = [[
    DMA_SRC:write(0x40000)
    DMA_DST:write(b.iova + 64)
    DMA_CMD:write { RUN = 1, DIRECTION = "TO_RAM", RAISE_IRQ = 1 }
  ]]

  local function interrupted(n)
    wait.till(5, n .. " interrupts", function() return table.concat(prompt.said, "\n"):find("interrupt " .. n, 1, true) end)
  end

  it("allocates it, fills it, and tells the device its own addresses", function()
    run(THERE)
    interrupted(1)
    run(BACK)
    interrupted(2)
    assert.equal("a\0\"\200 b\n", run "b:read(64, 7)")
    run "session()"
    local text = prompt.printed[1]
    assert.is_nil(text:find(("%x"):format(run "b.iova"), 1, true), text)
    for _, line in ipairs { "= assert(dev.dma:alloc(4096, { align = 4096 }))", "assert(dev:bus_master(true))", ".iova + 0x10)", ".iova + 0x40)" } do
      assert.is_truthy(text:find(line, 1, true), text)
    end
    assert.is_nil(text:find("8192", 1, true)) -- nobody was told of it
    -- Elsewhere in memory it does the same.
    local name = text:match "local (b%d) = assert"
    local again = text:gsub("local b%d = assert", "assert(dev.dma:alloc(65536))\n%0")
      :gsub("\ndev:close%(%)$", "\nlocal got, at = " .. name .. ":read(64, 7), " .. name .. ".iova\ndev:close()\nreturn got, at")
    local before = run "b.iova"
    local got, at = assert(loadstring(again))()
    assert.equal("a\0\"\200 b\n", got)
    assert.are_not.equal(before, at)
  end)

  it("has the whole value of a field that was asked for", function()
    run "get 'ID.MAGIC'"
    run "session 'spec'"
    assert.is_truthy(prompt.printed[1]:find('assert.equal(0xed, (regs.ID:get "MAGIC"))', 1, true), prompt.printed[1])
  end)

  it("puts addresses that are in the memory itself, and those of a 32-bit half, by the buffer they are of", function()
    run [[
      a = assert(dev.dma:alloc(4096, { name = "ring" }))
      b = assert(dev.dma:alloc(4096))
      ffi = require "ffi"
      a:write(0, ffi.string(ffi.new("uint64_t[2]", b.iova + 8, 77), 16) .. ffi.string(ffi.new("uint32_t[1]", b.iova), 4))
      DMA_SRC:write(a.iova)
      session()
    ]]
    local text = prompt.printed[1]
    assert.is_truthy(text:find('alloc(4096, { name = "ring" })', 1, true), text)
    assert.is_truthy(text:find('b1:write(0, le64(b2.iova + 0x8) .. "M\\000\\000\\000\\000\\000\\000\\000" .. le32(b2.iova))', 1, true), text)
    assert(loadstring(text))()
  end)

  for what, case in pairs {
    ["memory that was written by a pointer"] = { "p = b:pointer 'uint8_t *' DMA_SRC:write(b.iova)", "not known here: it was written by a pointer" },
    ["an address in memory that was freed"] = { "at = b.iova b:free() DMA_SRC:write(at)", "DMA_SRC was given 0x%x+, an address in a buffer that had been freed" },
    ["what may be a part of an address"] = { "DMA_COUNT:write(b.iova / 4096)", "DMA_COUNT := 0x%x+ may be a part of the address of a buffer, 0x%x+ shifted by 12 bits" },
    ["memory of a device that was opened again"] = { "at = b.iova DMA_SRC:write(at) reopen() DMA_SRC:write(at)", "a buffer that had been freed" },
  } do
    it("is refused for " .. what, function()
      run("b = assert(dev.dma:alloc(4096)) b:write(0, 'x') " .. case[1])
      for _, form in ipairs { "", "'spec'", "'driver'" } do
        local ok, message = pcall(run, ("session(%s)"):format(form))
        assert.is_false(ok)
        assert.matches("^no script is written, because it could point the device at another program's memory: ", message)
        assert.matches(case[2], message)
      end
    end)
  end
end)
