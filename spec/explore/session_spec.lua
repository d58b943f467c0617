--- Sessions: what the prompt has in scope, the journal, undo, and the script that is made of it.

local luio = require "luio"
local probe = require "spec.support.probe"
local sessions = require "luio.explore.session"
local wait = require "spec.support.wait"

local s, said, printed

local function open(args)
  args = args or {}
  args.device = args.device or "sim:probe"
  s = assert(sessions.open(args))
  said = {}
  s:notify(function(text) table.insert(said, text) end)
  return s
end

-- Runs a chunk as the prompt does: in a task; its results, and what it printed.
local function run(code)
  local chunk = assert(loadstring("return " .. code, "=prompt") or loadstring(code, "=prompt"))
  setfenv(chunk, s.env)
  printed = {}
  local real = print
  _G.print = function(...)
    local parts = {}
    for i = 1, select("#", ...) do parts[i] = tostring((select(i, ...))) end
    table.insert(printed, table.concat(parts, "\t"))
  end
  local function done(ok, ...)
    _G.print = real
    if not ok then error(..., 0) end
    return ...
  end
  return done(pcall(luio.run, chunk))
end

-- Waits until so many lines were said.
local function hears(n)
  wait.till(5, n .. " lines", function() return #said >= n end)
end

setup(probe.setup)
teardown(probe.teardown)

describe("a session", function()
  after_each(function() if s then assert(s:close()) end s = nil end)

  it("watches no register whose read has a side effect", function()
    open()
    run "watch(regs, 0.2)"
    assert.equal(0, probe.lost(s.dev))
    assert.matches("not read", table.concat(printed, "\n"))
  end)

  it("does what the commands do: info, list, doctor, a range as words, bytes of memory", function()
    open()
    run "info()"
    assert.equal("address       sim:probe", printed[1])
    assert.matches("\nregion 0 +memory 0x", table.concat(printed, "\n"))
    run "info 'sim:edu'"
    assert.equal("address       sim:edu", printed[1])
    run "list()"
    assert.matches("^ADDRESS +UIO +ID +KERNEL DRIVER", printed[1])
    run "doctor()"
    assert.equal("ok       model: its model runs: sim:probe", printed[1])
    run "dump('0x0+0x8', CTRL)"
    assert.matches("^0x0: 00000010 %x+$", printed[1])
    assert.matches("^CTRL +0x0 = 0x00000010", printed[2])
    run "b = assert(dev.dma:alloc(64)) b:fill(0x41) hexdump(b, 16)"
    assert.same({ "0010", "*", "0040" }, { printed[1]:sub(1, 4), printed[2], printed[3] })
    run "hexdump('hello', 1, 2)"
    assert.same({ "0001  65 6c                                             |el|" }, printed)
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
    assert.same({ s.dev, s.regs, "probe", luio, math }, { run "dev", run "regs", run "driver.name", run "luio", run "math" })
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
    assert.same({ 0, 0 }, { s.dev.sim.stats().reads, s.dev.sim.stats().writes })
  end)

  it("looks without disturbing: dump, get, snapshot, diff", function()
    open()
    run "dump()"
    assert.matches("^CTRL +0x0 = 0x00000010  BUSY=0 LEVEL=1 MODE=SLOW ENABLE=0$", printed[1])
    assert.matches("^CAUSE +0x8   %(not read: reading clears it%)$", printed[3])
    run "dump('CH*[1]', CTRL)"
    assert.equal(4, #printed)
    assert.equal(3, run "get 'STATUS[1:0]'")
    run "snap = snapshot()"
    assert.matches("^snapshot of sim:probe, 28 registers", tostring(run "snap"))
    assert.equal("nothing differs", tostring(run "diff(snapshot 'CTRL')"))
    run "CTRL:update { LEVEL = 3, MODE = 'FAST' }"
    local d = run "diff(snap)"
    assert.matches("CTRL 0x00000010 %-> 0x00000034\n  LEVEL 1 %-> 3\n  MODE SLOW %-> FAST", tostring(d))
    assert.equal(0, probe.lost(s.dev))
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
    assert.matches("^TICK 0x14 = 0x", printed[1])
    assert.matches("^%d+%.%d+ TICK 0x%x+ %-> 0x%x+$", printed[2])
  end)

  it("refuses writes when it is read-only", function()
    open { read_only = true }
    assert.equal(0x10, run "CTRL:read()")
    assert.matches("opened read%-only", select(2, pcall(run, "CTRL:write(1)")))
    assert.matches("opened read%-only", select(2, pcall(run, "set 'CTRL=1'")))
    assert.matches("read%-only", select(2, pcall(run, "start()")))
    assert.equal(0, s.dev.sim.stats().writes)
  end)

  it("goes on with the same journal after the device was reopened", function()
    open()
    run "CTRL:write(5)"
    local before = s.dev
    run "reopen()"
    assert.is_true(before.closed)
    assert.equal(0x10, run "CTRL:read()")
    assert.same({ "write", "read" }, { s.journal.entries[1].kind, s.journal.entries[2].kind })
  end)
end)

describe("undo", function()
  before_each(function() open() end)
  after_each(function() assert(s:close()) s = nil end)

  it("takes the last writes back, from the latest", function()
    run "CTRL:write(0x21)"
    run "WIDE:write(0xfedcba9876543210ULL)"
    run "CTRL:update { MODE = 'FAST' }"
    run "undo()"
    assert.same({ "CTRL 0x00000025 := 0x00000021" }, printed)
    run "undo(2)"
    assert.same({ 0x10, 0ULL }, { run "CTRL:read()", run "WIDE:read()" })
    run "undo()"
    assert.matches("nothing to undo", printed[1])
  end)

  it("wants a number, and loses nothing without", function()
    run "CTRL:write(5)"
    for _, code in ipairs { "undo('x')", "undo(0)", "undo(-1)" } do assert.matches("how many writes", select(2, pcall(run, code))) end
    run "undo()"
    assert.same({ "CTRL 0x00000005 := 0x00000010" }, printed)
  end)

  it("says what it can't take back, and why", function()
    run "KICK:write(1)"
    run "FUSE:write(1)"
    run "STATUS:write { OVERRUN = 1 }"
    run "undo(3)"
    assert.matches("^STATUS := 0x00000001 can't be undone: what was written does something", printed[1])
    assert.matches("^FUSE := 0x00000001 can't be undone: it can be written only once", printed[2])
    assert.matches("^KICK := 0x00000001 can't be undone: write%-only", printed[3])
  end)

  it("puts back what it can of a register, and leaves write-1-to-clear bits alone", function()
    run "STATUS:write { MASK = 7, OVERRUN = 1 }"
    assert.equal(0x702, run "STATUS:read()")
    run "undo()"
    assert.matches("its other bits do something when written, and stay", printed[1])
    assert.equal(0x002, run "STATUS:read()")
  end)

  it("goes on after the device was opened again, on the one that is open", function()
    run "CTRL:write(0x21)"
    run "set('0x1f0:u16=5', 'read')"
    run "reopen()"
    run "CTRL:write(0x31)"
    run "undo(3)"
    assert.same({ "CTRL 0x00000031 := 0x00000010", "0x1f0:u16 (not read: no map describes it) := 0x0000", "CTRL 0x00000010 := 0x00000010" }, printed)
  end)

  it("costs one read of its own for a write, none for an update or where reading disturbs", function()
    local function reads(code)
      local before = s.dev.sim.stats().reads
      run(code)
      return s.dev.sim.stats().reads - before
    end
    assert.same({ 1, 1, 0 }, { reads "CTRL:write(1)", reads "CTRL:update { LEVEL = 2 }", reads "KICK:write(1)" })
  end)
end)

-- Runs a spec's text as a spec of its own.
local function busted(text)
  local files = require "spec.support.files"
  local path = files.write("kept_spec.lua", text)
  local out, status = files.shell(("luajit $(command -v busted) --ignore-lua --lpath './lua/?.lua;./lua/?/init.lua;./?.lua' -o TAP '%s'")
    :format(path))
  files.clean()
  return out, status
end

describe("the script of a session", function()
  before_each(function() open() end)
  after_each(function() assert(s:close()) s = nil end)

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
    local text = printed[1]
    assert.is_truthy(text:find('regs = assert(luio.bind(require "drivers.probe.registers", dev))', 1, true), text)
    assert.is_truthy(text:find("regs.CTRL:write(0x00000015)  -- LEVEL=1 MODE=FAST ENABLE=1", 1, true), text)
    assert.is_truthy(text:find("_ = regs.CTRL:read() -- 0x00000015, 5 times", 1, true), text)
    assert.is_truthy(text:find("regs.WIDE:write(0x1122334455667788ULL)", 1, true), text)
    assert.is_nil(text:find("TICK", 1, true))
    assert.is_nil(text:find("0x1f0", 1, true))
  end)

  it("is not disturbed by what is printed, nor by two hundred reads", function()
    run "print(CTRL, regs)"
    run "tostring(CTRL)"
    run "for i = 1, 300 do TICK:read() CTRL:read() end"
    run "session()"
    assert.is_nil(printed[1]:find("STATUS", 1, true))
    assert.is_function(assert(loadstring(printed[1])))
  end)

  it("has a write and its undoing when something was done between them", function()
    run "CTRL:write(1)"
    run "CTRL:read()"
    run "undo()"
    run "CTRL:read()"
    run "session 'spec'"
    local out, status = busted(printed[1])
    assert.equal(0, status, out)
  end)

  it("runs as it stands: as a script, and as a driver", function()
    work()
    run "session()"
    local chunk = assert(loadstring(printed[1]))
    chunk()
    run "session 'driver'"
    local d = assert(loadstring(printed[1]))()
    assert.same({ "probe", "1234:4711" }, { d.name, d.match.pci })
    local dev = assert(luio.open "sim:probe")
    dev = assert(require("luio.driver").start(d, dev))
    assert.equal(0x15, dev.regs.CTRL:read())
    assert(dev:close())
  end)

  it("is a spec that busted runs, and that fails on another device", function()
    work()
    run "session 'spec'"
    local out, status = busted(printed[1])
    assert.equal(0, status, out)
    out, status = busted((printed[1]:gsub("assert.equal%(0x00000015", "assert.equal(0x00000016")))
    assert.equal(1, status, out)
  end)
end)

describe("interrupts at the prompt", function()
  after_each(function() if s then assert(s:close()) end s = nil end)

  it("are shown as they come, with the driver's top half, until they are not wanted", function()
    open { device = "sim:edu" }
    run "irqs()"
    run "IRQ_RAISE:write(5)"
    hears(1)
    assert.same({ "interrupt 1  IRQ_STATUS=5" }, said)
    assert.equal(0, run "IRQ_STATUS:read()")
    run "irqs(false)"
    run "IRQ_RAISE:write(1) luio.sleep(0.1)"
    assert.equal(1, #said)
  end)

  it("are few lines when they are many, and all are counted", function()
    open { device = "sim:edu" }
    run "irqs()"
    run "for i = 1, 50 do IRQ_RAISE:write(1) repeat luio.sleep(0.001) until IRQ_STATUS:read() == 0 end luio.sleep(1.3) IRQ_RAISE:write(1)"
    wait.till(5, "the last one", function() return said[#said]:find "^interrupt 51 " end)
    assert.is_true(#said <= 8, table.concat(said, "\n"))
    local found
    for _, line in ipairs(said) do found = found or line:match "^%.%.%. and %d+ more interrupts, %d+ in all" end
    assert.is_string(found)
  end)

  it("are left masked when nothing says how to acknowledge", function()
    open { device = "sim:edu" }
    s.target.driver = nil
    run "irqs()"
    assert.matches("nothing says how to acknowledge", printed[1])
    run "IRQ_RAISE:write(1)"
    hears(1)
    assert.matches("^interrupt 1 .*left masked: acknowledge it, then unmask", said[1])
    run "luio.sleep(0.1)"
    assert.equal(1, #said)
    run "IRQ_ACK:write(1) unmask() IRQ_RAISE:write(2)"
    hears(2)
    assert.equal(2, #said)
  end)

  it("are waited for in the session's script, so that it does what was done", function()
    open { device = "sim:edu" }
    run "irqs()"
    run "STATUS:write { RAISE_IRQ = 1 }"
    run "FACTORIAL:write(10) luio.sleep(0.1)"
    run "FACTORIAL:read()"
    run "session 'spec'"
    local text = printed[1]
    assert.is_truthy(text:find("assert(dev.irqs[0]:wait(1))\n    assert.equal(0x00375f00, regs.FACTORIAL:read())", 1, true), text)
    run "session()"
    for _ = 1, 5 do assert(loadstring(printed[1]))() end
    local out, status = busted(text)
    assert.equal(0, status, out)
  end)

  it("go to a driver once that is started", function()
    open { device = "sim:edu" }
    run "irqs()"
    run "start()"
    assert.same({ "driver edu runs" }, printed)
    local names = {}
    for name in pairs(s.env.driver) do names[name] = true end
    assert.is_true(names.factorial and names.from_device)
    assert.equal(120, (run "driver.factorial(dev, 5)"))
    assert.matches("runs already", select(2, pcall(run, "start()")))
    function s.dev.live.reload() return { ok = false, step = "stage", version = 1, message = "two faults:\nfirst\nsecond" } end
    run "reload()"
    assert.same({ "reload refused in stage, version 1 goes on: two faults:\nfirst\nsecond" }, printed)
    s.dev.live.reload = nil
    run "undo()"
    assert.matches("FACTORIAL", printed[1])
  end)
end)
