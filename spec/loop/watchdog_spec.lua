--- A driver's function that does not come back: it is cut off by name and line, and the version that worked goes on.

local errors = require "luio.errors"
local files = require "spec.support.files"
local live = require "luio.reload.live"
local luio = require "luio"
local wait = require "spec.support.wait"
local watchdog = require "luio.loop.watchdog"

local dev, path

-- A driver of edu. Its parts stand on lines of their own: 1 head, 4 check, 6 migrate, 8 start, 10 a task of its, 14 tail.
local function text(parts)
  return ([[
%s
local d = { name = "edu", registers = require "drivers.edu.registers", answer = function() return %s end }
function d.check()
  %s return true
end function d.migrate(state)
  %s return state
end function d.start(dev)
  dev.state.n = (dev.state.n or 0) + 1 %s
  require "luio".spawn(function()
    require "luio".sleep(0.01) %s
  end)
  return true
end
%s return d
]]):format(parts.head or "", parts.answer or 1, parts.check or "", parts.migrate or "", parts.start or "", parts.task or "", parts.tail or "")
end

local function start(parts)
  path = files.write("init.lua", text(parts or {}))
  local message, code
  dev, message, code = luio.start(path, "sim:edu")
  return dev, message, code
end

local function reload(parts)
  files.save(path, text(parts))
  return dev.live:reload()
end

local function it_runs(name, fn)
  it(name, function() luio.run(fn) end)
end

before_each(function() watchdog.LIMIT, live.START, live.PROBATION = 0.1, 5, 0.2 end)
after_each(function()
  watchdog.LIMIT, live.START, live.PROBATION = 5, 5, 1
  if dev then assert(dev:close()) end
  dev = nil
  assert.is_nil(debug.gethook())
  assert.is_true((jit.status()))
end)
local FIFO = files.write("fifo", "")
setup(function() files.shell(("rm -f '%s' && mkfifo '%s'"):format(FIFO, FIFO)) end)
teardown(files.clean)

-- Bodies of functions that never return, each in its way.
local LOOPS = {
  ["an empty loop"] = "while true do end",
  ["a loop that LuaJIT would compile"] = "local x = 0 for i = 1, math.huge do x = x + i end",
  ["a loop that catches every error"] = "while true do pcall(function() while true do end end) end",
  ["a loop in a coroutine of its own"] = "local co = coroutine.wrap(function() while true do pcall(coroutine.yield) end end) while true do pcall(co) end",
  ["a loop that catches errors in a handler that loops, too"] = "while true do xpcall(function() while true do end end, function() for _ = 1, 1e4 do end end) end",
  ["a loop over a library's function"] = "while true do (' '):rep(10):find 'x' end",
  ["a file that blocks"] = ("io.open('%s')"):format(FIFO),
}

describe("a new version that does not come back", function()
  for name, loop in pairs(LOOPS) do
    -- For the watchdog's thread there are two: one that its hook ends, and one that its signal ends.
    local same = name ~= "an empty loop" and name ~= "a file that blocks"
    it_runs("is refused: " .. name .. (same and " #plain" or ""), function()
      assert(start())
      for part, line in pairs(name == "an empty loop" and { head = 1, check = 4, migrate = 6, start = 8 } or { head = 1, start = 8 }) do
        local report = reload { [part] = loop, answer = 2 }
        assert.is_false(report.ok, part)
        assert.matches(name == "a file that blocks" and "init%.lua" or "init%.lua:" .. line .. ": .* has not come back for %d+%.%d s", report.message)
        assert.same({ 1, 1 }, { dev.driver.answer(), dev.state.n })
      end
      assert(reload({ answer = 3 }).ok)
      assert.equal(3, dev.driver.answer())
    end)
  end

  it_runs("is undone on probation, when it is not compiled", function()
    jit.off()
    assert(start())
    local undone
    dev.live.on_report = function(report) undone = report end
    assert(reload({ task = "while true do end", answer = 2 }).ok)
    wait.till(10, "undone", function() return undone end)
    jit.on()
    assert.same({ false, "probation", 1 }, { undone.ok, undone.step, undone.version })
    assert.matches("init%.lua:10: the function at line 9 has not come back for", undone.message)
    assert.equal(1, dev.driver.answer())
  end)

  it_runs("may wait for longer than it may compute", function()
    assert(start())
    local report = reload { migrate = "for _ = 1, 20 do require 'luio'.sleep(0.015) end", answer = 2 }
    assert(report.ok, report.message)
    assert.equal(2, dev.driver.answer())
  end)

  it_runs("does not wait in migrate for ever", function()
    assert(start())
    live.START = 0.1
    local report = reload { migrate = "while true do require 'luio'.sleep(0.01) end" }
    assert.same({ "migrate", "migrate of driver edu threw: it did not end within 0.1 s" }, { report.step, report.message })
    assert.equal(1, dev.driver.answer())
  end)
end)

describe("a new version #plain", function()
  -- The version's fault, and the message.
  local REFUSED = {
    ["that yields when it is loaded"] = { { head = "coroutine.yield()" }, "init%.lua:1: coroutine%.yield: there is nobody" },
    ["that yields in check"] = { { check = "coroutine.yield()" }, "init%.lua:4: coroutine%.yield: there is nobody" },
    ["whose table makes its fields"] = { { tail = "setmetatable(d, { __index = function() while true do end end })" }, "an __index that is no table" },
    ["whose match loops"] = { { tail = "d.match = setmetatable({}, { __index = function() while true do end end })" },
      "init%.lua:14: function __index has not come back" },
    ["whose top half loops"] = { { tail = "d.irq = setmetatable({}, { __index = function() while true do end end })" },
      "init%.lua:14: function __index has not come back" },
    ["whose top half yields"] = { { tail = "d.irq = setmetatable({}, { __index = coroutine.yield })" }, "coroutine%.yield: there is nobody" },
    ["that leaves no state"] = { { start = "dev.state = nil" }, "dev%.state is a nil after it" },
  }
  for name, case in pairs(REFUSED) do
    it_runs(name .. " is refused, and the one before goes on", function()
      assert(start())
      case[1].answer = 2
      local report = reload(case[1])
      assert.is_false(report.ok)
      assert.matches(case[2], report.message)
      require("luio").sleep(0.01)
      assert.same({ 1, 1 }, { dev.driver.answer(), dev.state.n })
      assert(reload({ answer = 3 }).ok)
    end)
  end

  it_runs("has no say in when its state has been saved", function()
    assert(start { tail = "d.durable = { 'n', 'x' } function d.put(view, state) view.state = state end" })
    dev.driver.put(dev, setmetatable({ n = 1 }, { __index = function() while true do end end }))
    assert(dev:checkpoint())
    dev.driver.put(dev, "none")
    local ok, message, code = dev:checkpoint()
    assert.same({ nil, "durable state of driver edu: dev.state is a string, not a table", "EINVAL" }, { ok, message, code })
  end)

  it_runs("may have its fields from another table", function()
    assert(start())
    assert(reload({ tail = "d = setmetatable({}, { __index = d })", answer = 2 }).ok)
    assert.equal(2, dev.driver.answer())
  end)
end)

describe("a first version that does not come back", function()
  it("is an error with function and line", function()
    local _, message, code = start { head = "local function spin() while true do end end spin()" }
    assert.equal("EINVAL", code)
    assert.matches("^build/.*/init%.lua threw when it was loaded: .*init%.lua:1: function spin has not come back for %d+%.%d s$", message)
    _, message, code = start { start = "while true do end" }
    assert.equal("EFAULT", code)
    assert.matches("^driver edu threw in start: .*init%.lua:8: function start has not come back for %d+%.%d s$", message)
  end)
end)

describe("os.exit #plain", function()
  before_each(function() watchdog.LIMIT = 5 end) -- nothing here loops
  local EXITS = { plain = "os.exit(0)", caught = "pcall(os.exit, 0)", ["in a coroutine"] = "coroutine.wrap(function() os.exit(0) end)()",
    ["of a required os"] = "require('os').exit(0)" }
  for name, exit in pairs(EXITS) do
    it_runs(("by a new version ends nothing (%s)"):format(name), function()
      assert(start())
      for part, line in pairs { head = 1, check = 4, migrate = 6, start = 8 } do
        local report = reload { [part] = exit, answer = 2 }
        assert.is_false(report.ok, part)
        assert.matches("init%.lua:" .. line .. ": .* called os%.exit%(0%)", report.message)
        assert.same({ 1, 1 }, { dev.driver.answer(), dev.state.n })
      end
      local undone
      dev.live.on_report = function(report) undone = report end
      assert(reload({ task = exit, answer = 2 }).ok)
      wait.till(2, "undone", function() return undone end)
      assert.same({ false, "probation", 1 }, { undone.ok, undone.step, undone.version })
      assert.matches("init%.lua:10: .* called os%.exit%(0%)", undone.message)
      assert.equal(1, dev.driver.answer())
    end)
  end

  it("by a first version is an error", function()
    local _, message = start { start = "os.exit(0)" }
    assert.matches("^driver edu threw in start: .*init%.lua:8: function start called os%.exit%(0%)$", message)
  end)
end)

describe("an error value #plain", function()
  local function object(fn) return setmetatable({}, { __tostring = fn }) end

  it("becomes text whatever it is", function()
    assert.equal("boo", errors.text "boo")
    assert.equal("nil was thrown, no message", errors.text(nil))
    assert.equal("5ULL", errors.text(5ULL))
    assert.equal("said", errors.text(object(function() return "said" end)))
    assert.matches("^a table whose text can't be had %(__tostring: .*: boo%)$", errors.text(object(function() error "boo" end)))
    assert.equal("a table whose text can't be had (__tostring: it gives back a number)", errors.text(object(function() return 5 end)))
    assert.equal("a table whose text can't be had (__tostring: it throws a table)", errors.text(object(function() error {} end)))
    for _, loop in ipairs { function() while true do end end, function() while true do pcall(function() while true do end end) end end } do
      assert.equal("a table whose text can't be had (__tostring: it does not end)", errors.text(object(loop)))
    end
    assert.equal("\\x1b[2J\\x00\tx\ny", errors.text "\27[2J\0\tx\ny")
    assert.is_true(#errors.text(("x"):rep(1e7)) <= 16 * 1024)
  end)

  it("of a driver is shown wherever it is thrown", function()
    local THROW = "error(setmetatable({}, { __tostring = function() error 'of the object' end }))"
    local SHOWN = "a table whose text can't be had %(__tostring: .*of the object%)"
    for _, part in ipairs { "head", "start" } do
      local _, message = start { [part] = THROW }
      assert.matches(SHOWN, message)
    end
    luio.run(function()
      assert(start())
      for _, part in ipairs { "head", "check", "migrate", "start" } do
        assert.matches(SHOWN, reload({ [part] = THROW }).message)
      end
      local undone
      dev.live.on_report = function(report) undone = report end
      assert(reload({ task = THROW }).ok)
      wait.till(2, "undone", function() return undone end)
      assert.matches(SHOWN, undone.message)
    end)
  end)
end)
