--- Completion at the prompt: its candidates, and that completing disturbs no register.

local luio = require "luio"
local complete = require "luio.tool.explore.complete"
local buslog = require "spec.support.buslog"
local files = require "spec.support.files"
local MAP = require "spec.support.every_kind"

-- A session's environment: registers and Lua's names by a function that must not be called for others.
local function environment(regs, dev, more)
  local env = more or {}
  env.regs, env.dev = regs, dev
  return setmetatable(env, { __index = function(_, name) error("asked for " .. tostring(name)) end })
end

describe("completing a line of Lua", function()
  local bus, env

  -- What "text" at the end of a line becomes: its start and the candidates.
  local function at(text) return { complete.line(env, text) } end
  local function words(text) return (select(2, complete.line(env, text))) end

  setup(function()
    bus = buslog.open()
    env = environment(bus:bind(MAP), bus.dev, { luio = luio, help = {
      dump = "dump(PLACE, ...)  shows registers", set = 'set("PLACE=VALUE")  writes', session = 'session(["spec"|"driver"])  as a script',
      start = "start([DRIVER])  starts it",
    } })
    bus:log()
  end)
  teardown(function()
    assert.same({}, bus:log()) -- after all that is below
    bus:close()
    files.clean()
  end)

  it("completes registers, with and without regs, in the middle of an expression", function()
    assert.same({ 6, { "STATUS" } }, at "regs.ST")
    assert.same({ 1, { "STATUS" } }, at "ST")
    assert.same({ 18, { "STATUS" } }, at "print(1 + regs . ST")
    assert.same({ 17, { "STATUS" } }, at "x = { 'a' .. y, ST")
    assert.same({ 11, { "STATUS" } }, at 'x = regs["ST')
    assert.same({ 6, {} }, at "regs.NOPE")
    assert.same({ 14, {} }, at "regs.STATUS2.X")
  end)

  it("completes what is in blocks and arrays", function()
    assert.same({ 6, { "CHANNEL[" } }, at "regs.CH")
    assert.same({ 17, { "COUNT", "CTRL" } }, at "regs.CHANNEL[2].C")
    assert.same({ "COUNT", "CTRL", "QUEUE[" }, words "CHANNEL[i + 1].")
    assert.same({ "HEAD" }, words 'CHANNEL[0].QUEUE[1]:get "')
    assert.same({ "BMCR", "BMSR" }, words "PHY.")
    assert.same({ "0]", "1]", "2]", "3]" }, words "TABLE[")
    assert.equal(16, #words "CHANNEL[")
    assert.same({}, words "CHANNEL[40].C")
    assert.same({}, words "CHANNEL.C")
    assert.same({}, words "PHY[0].B")
  end)

  it("completes verbs; none that would only refuse", function()
    assert.same({ 8, { "read(" } }, at "STATUS:re")
    assert.same({ "decode(", "encode(", "get(", "read(", "update(", "wait(", "write(" }, words "regs.STATUS:")
    assert.same({ "decode(", "encode(", "write(" }, words "CMD:")
    assert.same({ "decode(", "encode(", "get(", "read(", "wait(" }, words "ID:")
    assert.same({ "decode(", "encode(", "get(", "read(", "wait(", "write(" }, words "FIFO:")
    assert.same({ "read(" }, words 'regs:find("CHANNEL[1].CTRL"):r')
    assert.same({ "read(" }, words "(regs.STATUS):r")
    assert.same({}, words "(1 + regs.STATUS):r")
    assert.same({}, words "PHY:")
  end)

  it("completes fields where a verb takes one, and what can be done to them", function()
    assert.same({ 13, { "RAISE_IRQ" } }, at 'STATUS:get "RA')
    assert.same({ "COMPUTING", "RAISE_IRQ" }, words "STATUS:get('")
    assert.same({ 17, { "RAISE_IRQ" } }, at "STATUS:update { RA")
    assert.same({ "RAISE_IRQ" }, words "STATUS:write{")
    assert.same({ 15, { "COMPUTING" } }, at "STATUS:wait({ CO")
    assert.same({ "MAGIC", "MINOR" }, words "ID:wait { ")
    assert.same({ "ENABLE" }, words "CTRL:write { MODE = 1, ")
    assert.same({ "ENABLE" }, words 'CTRL:update("MODE", f({ 1, 2 }), "')
  end)

  it("completes the names of values", function()
    assert.same({ 22, { "FAST", "FASTEST" } }, at 'CTRL:write { MODE = "F')
    assert.same({ '"FAST"', '"FASTEST"', '"SLOW"' }, words "CTRL:write { ENABLE = 1, MODE = ")
    assert.same({ "IN", "OUT" }, words 'regs.CHANNEL[0].CTRL:wait({ KIND = "')
    assert.same({ "SLOW" }, words 'CTRL:update("MODE", "S')
    assert.same({}, words 'CTRL:update("ENABLE", "')
    assert.same({ "STATUS" }, words "CTRL:write { MODE = STA")
  end)

  it("completes parts of the device", function()
    assert.same({ 5, { "read_only", "regions" } }, at "dev.re")
    assert.same({ 5, { "close(" } }, at "dev:cl")
    assert.same({ "read32(", "read32_many(", "read32_swapped(" }, words "dev.regions[0]:read32")
    assert.same({ "read32(", "read32_many(", "read32_swapped(" }, words "dev:region(0):read32")
    assert.same({ "close(", "exchange(", "fd(", "mask(", "poll(", "setup(", "start(", "started(", "stats(", "storm(", "unmask(", "wait(" }, words "dev.irqs[0]:")
    assert.same({ "alloc(", "stats(" }, words "dev.dma:")
    assert.same({ "command(" }, words "dev.config:c")
    assert.same({ "address" }, words "dev.info.addr")
    assert.same({ "diff(" }, words "regs:d")
  end)

  it("knows the methods of what is not made yet, and those of the registers", function()
    assert.equal(20, #words "dev.regions[1]:")
    assert.equal(20, #words "dev:region(5):")
    assert.same({ "close(" }, words "dev.irqs[3]:cl")
    assert.is_nil(rawget(bus.dev.irqs, 3))
    assert.same({ "diff(", "each(", "find(", "on_access(", "restore(", "snapshot(" }, words "regs:")
  end)

  it("completes Lua: words, globals, what is in tables and behind their __index tables", function()
    assert.same({ 1, { "while" } }, at "whi")
    assert.same({ 10, { "pairs(" } }, at "for k in pai")
    assert.same({ "rep(", "reverse(" }, words "string.re")
    assert.same({ "open(" }, words "luio.op")
    local class = { go = function() end, size = 1 }
    class.__index = class
    env.thing = setmetatable({ gone = false }, class)
    assert.same({ "go(", "gone" }, words "thing.g")
    assert.same({ "go(" }, words "thing:g")
    env.thing = nil
  end)

  it("calls no __index function, no accessor, and no user's code", function()
    local called = false
    env.trap = setmetatable({ inner = { known = 1 } }, { __index = function() called = true end, __call = function() called = true end })
    assert.same({ "inner" }, words "trap.in")
    assert.same({ "known" }, words "trap.inner.k")
    assert.same({}, words "trap.other.k")
    assert.same({}, words "trap(1).k")
    assert.same({}, words "trap:inner(1):k")
    env.trap = nil
    assert.is_false(called)
  end)

  it("offers nothing in comments, numbers and strings that mean nothing to it", function()
    for _, text in ipairs { "-- ST", "x = 1 --[[ ST", "12", "0x1f", "print 'ST", "STATUS:get 'a\\", "[[ST", "x = 5 .ST", '"a" ' .. "..ST2" } do
      assert.same({}, words(text), text)
    end
    assert.same({ "STATUS" }, words "x = 1 -- a comment\nST")
    assert.same({ "STATUS" }, words "--[[ more ]] ST")
  end)

  it("takes any text without failing", function()
    local pieces = { "regs", ".", ":", "[", "]", "(", ")", "{", "}", "=", ",", '"', "'", "STATUS", "get", "1", " ", "[[", "]]", "--", "\\", "CTRL",
      "MODE", "?", "dev", "find", "\n", "..", "function", "\255", "%" }
    math.randomseed(7)
    for _ = 1, 5000 do
      local parts = {}
      for i = 1, math.random(1, 12) do parts[i] = pieces[math.random(#pieces)] end
      local text = table.concat(parts)
      local start, list = complete.line(env, text)
      assert.is_true(start >= 1 and start <= #text + 1, text)
      assert.equal("table", type(list))
    end
  end)

  it("completes registers, fields and commands behind a question mark", function()
    assert.same({ 2, { "STATUS", "STATUS.COMPUTING", "STATUS.RAISE_IRQ" } }, at "?ST")
    assert.same({ 4, { "STATUS.COMPUTING" } }, at "?? STATUS.C")
    assert.same({ 2, { "dump" } }, at "?du")
  end)

  it("completes commands, and what goes into their strings", function()
    assert.same({ 1, { "session(", "set(", "setfenv(", "setmetatable(" } }, { 1, { select(2, unpack(words "se")) } })
    assert.same({ 6, { "CTRL", "CTRL.ENABLE=", "CTRL.MODE=" } }, at 'set "CT')
    assert.same({ "CTRL.MODE=FAST", "CTRL.MODE=FASTEST" }, words 'set("CTRL.MODE=F')
    assert.same({ "driver" }, words 'session "d')
    assert.same({ "edu" }, words 'start "ed')
    assert.same({ 7, { "CTRL", "CTRL.ENABLE", "CTRL.MODE" } }, at 'dump "CT')
    assert.same({ "PHY.BMCR", "PHY.BMSR" }, words "dump('PHY.BM")
    assert.same({ "PHY.BMSR" }, words "regs:find 'PHY.BMS")
    assert.same({ "STATUS" }, words "regs:find 'ST")
  end)

  it("knows the names of a session, which its environment finds by a function", function()
    local session = assert(require("luio.tool.explore.session").open { device = "sim:edu" })
    local before = session.dev.sim.stats().reads
    local function offered(text) return (select(2, complete.line(session.env, text))) end
    assert.same({ "STATUS" }, offered "STA")
    assert.same({ "STATUS" }, offered "regs.STA")
    assert.same({ "read(" }, offered "STATUS:rea")
    assert.same({ "regions", "regs" }, offered "dev.reg")
    assert.same({ "factorial(", "factorial_polled(" }, offered "driver.fact")
    assert.same({ "dump(" }, offered "dum")
    assert.same({ "STATUS.RAISE_IRQ=" }, offered 'set "STATUS.R')
    assert.same({ "pairs(" }, offered "for k in pai")
    assert.same({ "dump" }, offered "?dum")
    assert.matches("^dump", require("luio.tool.explore.explain").name(session, "dump"))
    assert.equal(before, session.dev.sim.stats().reads)
    session:close()
  end)

  it("works without a map and without a device", function()
    env = environment(nil, nil)
    rawset(env, "regs", false)
    rawset(env, "dev", false)
    assert.same({ 1, {} }, at "STA")
    assert.same({ 6, {} }, at "regs.ST")
    assert.same({ 2, {} }, at "?ST")
  end)
end)
