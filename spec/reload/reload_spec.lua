--- Live reload: the driver's code is exchanged while the device works, and a failed reload changes nothing.

local amount = require "spec.support.amount"
local files = require "spec.support.files"
local live = require "luio.reload.live"
local luio = require "luio"
local probe = require "spec.support.probe"
local reload_report = require "luio.reload.report"
local wait = require "spec.support.wait"

local dev, path, dir

-- A driver of edu that counts its interrupts in its state. `parts` replaces pieces of it.
local function text(parts)
  parts = parts or {}
  return ([[
local luio = require "luio"
%s
local d = {
  name = "edu", registers = require "drivers.edu.registers", state_version = %s,
  irq = { capture = "IRQ_STATUS", ack = "IRQ_ACK" },
}
local function handle(dev, event) %s end
function d.start(dev, reason)
  dev.state.reason = reason
  dev.state.seen = dev.state.seen or {}
  %s
  luio.spawn(function()
    while true do
      local event = dev.irqs[0]:wait(60)
      if event then handle(dev, event) end
    end
  end)
  return true
end
function d.answer() return %s end
%s
return d
]]):format(parts.head or "", parts.version or 1, parts.handle or "table.insert(dev.state.seen, event.IRQ_STATUS)", parts.start or "",
    parts.answer or 1, parts.tail or "")
end

local function save(source) files.save(path, source) end

local function start(parts)
  path, dir = files.write("init.lua", text(parts))
  dev = assert(luio.start(path, "sim:edu"))
end

local raised

-- Raises interrupts with causes of their own, one after the other.
local function raise(n)
  for _ = 1, n or 1 do
    raised = raised + 1
    local before = #dev.state.seen
    dev.regs.IRQ_RAISE:write(raised)
    wait.till(2, "the interrupt was handled", function() return #dev.state.seen > before end)
  end
end

local function seen_all()
  local expected = {}
  for i = 1, raised do expected[i] = i end
  assert.same(expected, dev.state.seen)
end

before_each(function() raised, live.QUIET, live.PROBATION = 0, 10, 0.1 end)
after_each(function()
  live.QUIET, live.PROBATION = 1, 1
  if dev then assert(dev:close()) end
  dev = nil
  files.clean()
end)

local function it_runs(name, fn)
  it(name, function() luio.run(fn) end)
end

describe("a reload", function()
  it_runs("exchanges the functions, and keeps state, device, and the order of interrupts", function()
    start()
    assert.equal(1, dev.driver.answer())
    raise(2)
    save(text { answer = 2, tail = "function d.more(dev) return dev.address end" })
    local report = assert(dev:reload())
    assert.same({ "swap", 2, { added = { "more" }, changed = { "answer" }, removed = {} } }, { report.step, report.version, report.functions })
    assert.same({ 2, "sim:edu", "reload" }, { dev.driver.answer(), dev.driver.more(dev), dev.state.reason })
    raise(3)
    seen_all()
    assert.matches("^version 2: answer %+more; kept 2 values of state; %d+%.%d+ ms without a driver %(loading %d+%.%d+ ms%); events waited 0, lost 0$",
      reload_report.line(report))
  end)

  it_runs("says what else became another: by what functions use, else by the file", function()
    local SOURCE = [[
      local luio = require "luio"
      local part = require "part"
      local LIMIT, TABLE = 5, { deep = { 1, 2 } }
      local function helper() return LIMIT end
      local seen = {}
      local d = { name = "edu", registers = require "drivers.edu.registers", irq = { capture = "IRQ_STATUS", ack = "IRQ_ACK" } }
      function d.limit() table.insert(seen, 1) return helper() end
      function d.deep() return TABLE.deep[2], 7ULL end
      function d.part() return part.n() end
      function d.itself(n) return n == 0 and LIMIT or d.itself(n - 1) end
      function d.other() return luio.now(), d end
      return d]]
    path, dir = files.write("init.lua", SOURCE)
    local part = "local n = 1 return { n = function() return n end }"
    files.save(dir .. "/part.lua", part)
    dev = assert(luio.start(path, "sim:edu"))
    for i, case in ipairs {
      { "LIMIT, TABLE = 5", "LIMIT, TABLE = 6", "itself limit" },
      { "{ 1, 2 }", "{ 1, 3 }", "deep" },
      { "7ULL", "8ULL", "deep" },
      { "n = 1", "n = 2", "part", dir .. "/part.lua" },
      { '"IRQ_STATUS"', '{ "IRQ_STATUS" }', "code of " .. path .. " changed" },
      { "return d$", "-- and that is all\nreturn d", "nothing changed" },
      { "return n end", "return n end ", "nothing changed", dir .. "/part.lua" },
      { "local seen", "local more local seen", "code of " .. path .. " changed" },
      { "LIMIT, TABLE = 6", "LIMIT, TABLE = nil", "itself limit" },
    } do
      dev.driver.limit()
      local file = case[4] or path
      local text_now = files.read(file)
      local changed, n = text_now:gsub(case[1], case[2])
      assert.equal(1, n, case[1])
      files.save(file, changed)
      local report, message = dev:reload()
      assert(report, message)
      assert.matches(("^version %d: %s; kept"):format(i + 1, (case[3]:gsub("%-", "%%-"))), reload_report.line(report))
    end
  end)

  it_runs("delivers what came during the swap once, to the new version", function()
    start()
    save(text { handle = "table.insert(dev.state.seen, event.IRQ_STATUS) dev.state.by_new = (dev.state.by_new or 0) + 1" })
    -- Interrupts that are in the ring when the reload begins, and nobody has seen.
    local irq = dev.irqs[0]
    dev.regs.IRQ_RAISE:write(1)
    raised = 1
    assert(wait.still(2, function() return irq:stats().events > 0 end))
    local report = assert(dev:reload())
    assert.equal(1, report.waited)
    wait.till(2, "delivered", function() return #dev.state.seen > 0 end)
    luio.sleep(0.02) -- for one more, should it come twice
    seen_all()
    assert.equal(1, dev.state.by_new)
  end)

  it_runs("lets the old version finish what it has in hand", function()
    start { handle = "dev.state.by = 'nobody' luio.sleep(0.05) table.insert(dev.state.seen, event.IRQ_STATUS) dev.state.by = 'old'" }
    dev.regs.IRQ_RAISE:write(1)
    raised = 1
    wait.till(2, "it is in hand", function() return dev.state.by == "nobody" end)
    save(text { answer = 2 })
    assert(dev:reload())
    assert.equal("old", dev.state.by)
    seen_all()
  end)

  it_runs("loads what the driver requires anew, too: modules beside it, with locals of their own", function()
    path, dir = files.write("init.lua", 'local part = require "part" local d = { name = "x" } function d.f() return part.n() end return d')
    local function part(n)
      files.save(dir .. "/part.lua", ("local n = %d GLOBAL_OF_PART = n return { n = function() n = n + 1 return n end }"):format(n))
    end
    part(10)
    dev = assert(luio.start(path, "sim:edu"))
    assert.same({ 11, 12 }, { dev.driver.f(), dev.driver.f() })
    part(20)
    assert(dev:reload())
    assert.equal(21, dev.driver.f())
    assert.is_nil(rawget(_G, "GLOBAL_OF_PART"))
    assert.is_nil(package.loaded.part)
  end)

  it_runs("exchanges the register map; what others hold of the old one still works", function()
    start()
    local mine = dev.regs.ID
    local map = 'luio.registers { SIGN = { 0, 32, "ro" }, IRQ_STATUS = { 0x24, 32, "ro" }, IRQ_ACK = { 0x64, 32, "wo" } }'
    save(((text { tail = "function d.sign(dev) return dev.regs.SIGN:read() end" }):gsub('require "drivers.edu.registers"', map)))
    local report = assert(dev:reload())
    assert.same({ 0x10000ed, 0x10000ed, 0x10000ed }, { dev.driver.sign(dev), dev.regs.SIGN:read(), mine:read() })
    assert.same({ "SIGN" }, report.registers.added)
    assert.same({ "IRQ_ACK", "IRQ_STATUS" }, report.registers.changed)
    assert.matches("^version 2: %+sign IRQ_ACK IRQ_STATUS %+SIGN %-DMA_CMD", reload_report.line(report))
  end)

  it_runs("exchanges the top half, with captures of other names", function()
    start()
    raise()
    save(((text { handle = "table.insert(dev.state.seen, event.FACTORIAL and event.IRQ_STATUS)" }):gsub('capture = "IRQ_STATUS"',
      'capture = { "FACTORIAL", "IRQ_STATUS" }'):gsub('ack = "IRQ_ACK"', 'ack = { { "IRQ_ACK", "IRQ_STATUS" } }')))
    assert(dev:reload())
    raise(2)
    seen_all()
  end)

  it_runs("gives migrate a copy of the state, and the version it is of", function()
    start { version = 3, start = "dev.state.list = dev.state.list or { { n = 1 } }" }
    save(text { version = 4, tail = "function d.migrate(state, from) state.from, state.list[1].n = from, 2 end" })
    local before = dev.state
    assert(dev:reload())
    assert.same({ 3, 2, 1 }, { dev.state.from, dev.state.list[1].n, before.list[1].n })
  end)

  it_runs("turns handles of the old version into errors, and those in the state into the new one's", function()
    start { start = "dev.state.reg, dev.state.region = dev.regs.ID, dev.regions[0] kept = dev",
      tail = "function d.kept() return kept end function d.reg(dev) return dev.state.reg:read(), dev.state.region:read32(0) end" }
    local old = dev.driver.kept()
    local regs, region, irq = old.regs, old.regions[0], old.irqs[0]
    save(text { tail = "function d.reg(dev) return dev.state.reg:read(), dev.state.region:read32(0) end" })
    assert(dev:reload())
    for _, fn in ipairs {
      function() regs.ID:read() end, function() region:read32(0) end, function() region:write32(4, 1) end, function() irq:wait(0) end,
      function() irq:poll() end, function() old:bus_master(true) end, function() old:region(0):read32(0) end,
    } do
      local ok, message = pcall(fn)
      assert.is_false(ok)
      assert.matches("belongs to version 1 of driver edu, which was replaced", message)
    end
    assert.same({ 0x10000ed, 0x10000ed }, { dev.driver.reg(dev) })
  end)

  it_runs("ends tasks and timers of the old version", function()
    start { start = "luio.spawn(function() while true do luio.sleep(0.005) ticks = (ticks or 0) + 1 dev.state.ticks = ticks end end)" }
    wait.till(2, "a tick", function() return dev.state.ticks end)
    local before = dev.state
    save(text())
    assert(dev:reload())
    local at = before.ticks
    wait.till(2, "probation is over", function() return not dev.live.probation end)
    luio.sleep(0.01) -- for a tick of one that goes on
    assert.same({ at, at }, { before.ticks, dev.state.ticks })
  end)

  it_runs("needs a driver, and a file", function()
    dev = assert(luio.open "sim:edu")
    assert.has_error(function() dev:reload() end)
    dev:close()
    dev = assert(require("luio.driver").start({ name = "by hand" }, assert(luio.open "sim:edu")))
    local ok, message, code = dev:reload()
    assert.is_nil(ok)
    assert.equal("ENOTSUP", code)
    assert.matches("not loaded from a file", message)
  end)
end)

describe("a new version that fails", function()
  -- The saved version is refused with the step and these words, and the old one misses nothing.
  local function refuses(source, step, words, after)
    start()
    raise(2)
    save(source)
    local report, message = dev:reload()
    assert.is_nil(report)
    assert.is_truthy(message:find("in " .. step .. ", version 1 goes on: ", 1, true), message)
    assert.is_truthy(message:find(words, 1, true), message)
    assert.equal(1, dev.driver.answer())
    assert.equal("fresh", dev.state.reason)
    raise(3)
    seen_all()
    if after then after() end
    save(text { answer = 5 }) -- and the next save works
    assert(dev:reload())
    assert.equal(5, dev.driver.answer())
    raise(2)
    seen_all()
  end

  it_runs("by a syntax error", function() refuses("local x = = 5", "stage", "init.lua:1: unexpected symbol") end)
  it_runs("by an error at load", function() refuses("error 'boo'", "stage", "init.lua:1: boo") end)
  it_runs("by a table that is none", function() refuses("return 5", "stage", "returns a table, this one a number") end)
  it_runs("by another name", function() refuses('return { name = "ude" }', "stage", "this is driver ude now, not edu") end)
  it_runs("by a bad register map", function()
    refuses('return { name = "edu", registers = require("luio").registers { A = { 0, 33 } } }', "stage", "A: the width")
  end)
  it_runs("by a map that does not fit the device", function()
    refuses('return { name = "edu", registers = require("luio").registers { A = { 0x100000, 32 } } }', "stage", "outside region 0")
  end)
  it_runs("by its check", function()
    refuses(text { tail = "function d.check() return nil, 'not on a Sunday' end" }, "stage", "check of driver edu: not on a Sunday")
  end)
  it_runs("by a throwing check", function() refuses(text { tail = "function d.check() error 'oh' end" }, "stage", "check of driver edu threw") end)
  it_runs("by a throwing migrate", function()
    refuses(text { tail = "function d.migrate(state) state.seen = {} error 'lost it' end" }, "migrate", "lost it")
  end)
  it_runs("by a throwing start, whatever it has done to its state", function()
    refuses(text { start = "dev.state.seen = {} error 'no way'" }, "swap", "no way")
  end)
  it_runs("by a task that fails before it first waits", function()
    refuses(text { start = "luio.spawn(function() dev.state.seen = {} error 'at once' end)" }, "swap", "at once")
  end)
  it_runs("by a start that says no", function() refuses(text { start = "do return nil, 'not now' end" }, "swap", "not now") end)
  it_runs("by a top half that names no register", function()
    refuses(text():gsub('ack = "IRQ_ACK"', 'ack = "IRQ_AKC"'), "stage", "did you mean IRQ_ACK?")
  end)

  it_runs("because it touches the device while it is loaded: with the line", function()
    for code, words in pairs {
      ['luio.open "sim:edu"'] = "open sim:edu: a driver is being loaded", ["luio.spawn(function() end)"] = "luio.spawn: a driver is being loaded",
      ['luio.start "edu"'] = "a driver is being loaded", ["shared.regs.ID:read()"] = "a driver is being loaded",
      ["shared.dma:alloc(64)"] = "a driver is being loaded", ["shared.irqs[0]:start()"] = "a driver is being loaded",
      ["shared:bus_master(true)"] = "a driver is being loaded", ["shared.regions[0]:write32(4, 1)"] = "a driver is being loaded",
    } do
      start()
      _G.shared = assert(luio.open "sim:edu")
      _G.shared.regs = assert(luio.bind(require "drivers.edu.registers", _G.shared))
      local _ = _G.shared.regs.ID
      save(text { head = "\n\nassert(" .. code .. ")" })
      local report, message = dev:reload()
      assert.is_nil(report)
      assert.is_truthy(message:find("init.lua:4: ", 1, true), code .. ": " .. message)
      assert.is_truthy(message:find(words, 1, true), code .. ": " .. message)
      assert.equal(0x10000ed, _G.shared.regs.ID:read())
      raise()
      seen_all()
      raised = 0
      assert(_G.shared:close())
      assert(dev:close())
    end
    _G.shared = nil
  end)

  it_runs("because a task of the old one does not come back from an interrupt: which is named", function()
    live.QUIET = 0.1
    start { handle = "dev.state.busy = true repeat luio.sleep(0.005) until dev.state.go table.insert(dev.state.seen, event.IRQ_STATUS)" }
    dev.regs.IRQ_RAISE:write(1)
    raised = 1
    wait.till(2, "it is in hand", function() return dev.state.busy end)
    save(text { answer = 2 })
    local report, message = dev:reload()
    assert.is_nil(report)
    assert.matches("refused in quiesce, version 1 goes on: task .*init.lua:%d+ handles an interrupt, and did not come back within 0.1 s", message)
    live.QUIET, dev.state.go = 10, true
    wait.till(2, "it came back", function() return #dev.state.seen > 0 end)
    seen_all()
    assert(dev:reload())
    assert.equal(2, dev.driver.answer())
  end)

  it_runs("in probation: the old one comes back with its state, and gets the interrupt that failed", function()
    live.PROBATION = 60
    start()
    raise(2)
    local told
    dev.live.on_report = function(report) told = report end
    save(text { handle = "dev.state.seen = {} error 'can not'", answer = 2 })
    assert(dev:reload())
    assert.equal(2, dev.driver.answer())
    dev.regs.IRQ_RAISE:write(3)
    raised = 3
    wait.till(2, "undone", function() return told end)
    assert.same({ "probation", false, 1, 1 }, { told.step, told.ok, told.version, told.waited })
    assert.matches("^reload undone in probation, version 1 goes on: task .* failed: .*can not", reload_report.line(told))
    assert.same({ 1, "fresh" }, { dev.driver.answer(), dev.state.reason })
    wait.till(2, "handled after all", function() return #dev.state.seen == 3 end)
    raise(2)
    seen_all()
  end)

  it_runs("after probation only fails", function()
    start()
    local failures = {}
    local shown = require("luio.loop.task").on_failure
    luio.on_task_failure(function(t) table.insert(failures, t.name) end)
    save(text { handle = "error 'late'", answer = 2 })
    assert(dev:reload())
    wait.till(2, "probation is over", function() return not dev.live.probation end)
    dev.regs.IRQ_RAISE:write(1)
    wait.till(2, "a failure", function() return failures[1] end)
    luio.sleep(0.02) -- in which nothing is undone
    luio.on_task_failure(shown)
    assert.same({ 2, 1 }, { dev.driver.answer(), #failures })
  end)
end)

local RELOADS = amount(1000, 1000, 200)

describe("hundreds of reloads", function()
  it_runs("while interrupts come as fast as they do: none lost, none twice", function()
    probe.setup()
    finally(probe.teardown)
    local source = files.read "spec/support/drivers/storm/init.lua"
    path, dir = files.write("init.lua", source)
    dev = assert(luio.start(path, "sim:storm"))
    dev.regs.RUN:write(1)
    local pauses = {}
    for i = 1, RELOADS do
      save((source:gsub("return 1 end", ("return %d end"):format(i))))
      local report, message = dev:reload()
      assert(report, message)
      pauses[i] = report.pause + report.loading
      assert.equal(i, dev.driver.answer())
      assert.equal(0, report.lost)
      local deadline = luio.now() + 2 * wait.HANG
      repeat luio.sleep(0) until dev.state.seen > i or luio.now() > deadline -- one at least between two reloads
    end
    dev.regs.RUN:write(0)
    wait.poll(2 * wait.HANG, function() return dev.state.seen == dev.regs.SEQUENCE:read() end)
    luio.sleep(0.05) -- for one that would be delivered twice
    assert.is_nil(dev.state.wrong)
    assert.equal(dev.regs.SEQUENCE:read(), dev.state.seen)
    assert.equal(dev.state.seen, dev.irqs[0]:stats().interrupts)
    assert.is_true(dev.state.seen > RELOADS)
    table.sort(pauses)
    print(("%d reloads, %d interrupts: median %.3f ms, at most %.3f ms, loading included"):format(
      RELOADS, dev.state.seen, pauses[RELOADS / 2] * 1e3, pauses[RELOADS] * 1e3))
  end)
end)
