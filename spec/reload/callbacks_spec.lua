--- Functions of a driver that C calls: an error in one is an error of the driver, not the end of the process.

local files = require "spec.support.files"
local live = require "luio.reload.live"
local luio = require "luio"
local program = require "spec.support.program"
local task = require "luio.loop.task"
local uv = require "luv"
local wait = require "spec.support.wait"

local dev, path, failures, undone
local shown = task.on_failure

-- A driver of edu. The body of start is line 5; it may `fail`, by a name of line 3.
local function text(start, fail, answer)
  return ([[
local luio, uv, ffi = require "luio", require "luv", require "ffi"
local d = { name = "edu", registers = require "drivers.edu.registers" }
local function fail() %s end
function d.start(dev)
  %s
  return true
end
function d.answer() return %d end
return d
]]):format(fail or "error 'mine'", start or "", answer or 1)
end

local function start(...)
  path = files.write("init.lua", text(...))
  local message
  dev, message = luio.start(path, "sim:edu")
  if dev then dev.live.on_report = function(report) undone = report end end
  return dev, message
end

local function reload(first, fail, answer)
  files.save(path, text(first, fail, answer or 2))
  return dev.live:reload()
end

before_each(function()
  live.PROBATION, failures, undone = 0.5, {}, nil
  luio.on_task_failure(function(_, traceback) table.insert(failures, traceback) end)
end)
after_each(function()
  live.PROBATION = 1
  luio.on_task_failure(shown)
  if dev then assert(dev:close()) end
  dev = nil
  files.clean()
end)

local function it_runs(name, fn)
  it(name, function() luio.run(fn) end)
end

-- Every way to have C call `fail` soon.
local WAYS = {
  ["a timer"] = "uv.new_timer():start(1, 0, fail)",
  ["a timer, by a function"] = "uv.timer_start(uv.new_timer(), 1, 0, function() fail() end)",
  ["a repeating timer"] = "uv.new_timer():start(1, 1, fail)",
  ["an object that can be called"] = "uv.new_timer():start(1, 0, setmetatable({}, { __call = fail }))",
  ["the loop's turn"] = "for _, what in ipairs { 'idle', 'check', 'prepare' } do local h = uv['new_' .. what]() h:start(function() h:stop() fail() end) end",
  ["a file"] = "uv.fs_stat('/', fail)",
  ["a folder"] = "uv.fs_opendir('/', function(_, dir) dir:readdir(fail) end)",
  ["another thread"] = "uv.new_async(fail):send()",
  ["a name"] = "uv.getaddrinfo('127.0.0.1', nil, { numerichost = true }, fail)",
  ["random bytes"] = "uv.random(4, 0, fail)",
  ["a child's end"] = "uv.spawn('true', {}, fail)",
  ["a handle's end"] = "uv.close(uv.new_timer(), fail)",
  ["a pipe"] = "uv.new_pipe(false):connect('build/spec/tmp/no-such-socket', fail)",
  ["a descriptor"] = "local ends = uv.pipe() uv.fs_close(ends.write) local h = uv.new_poll(ends.read) "
    .. "h:start('r', function() h:stop() uv.fs_close(ends.read) fail() end)",
  ["a signal"] = "local h = uv.new_signal() h:start('sigusr2', fail) h:unref() uv.kill(uv.os_getpid(), 'sigusr2')",
  ["a function that a library of its calls"] = "late = fail uv.new_timer():start(1, 0, function() late() end)",
  ["a signal, once"] = "uv.signal_start_oneshot(uv.new_signal(), 'sigusr2', fail) luio.spawn(function() luio.sleep(0) uv.kill(uv.os_getpid(), 'sigusr2') end)",
  ["all handles"] = "luio.spawn(function() luio.sleep(0) uv.walk(fail) end)",
  ["the collector"] = "local x = ffi.gc(ffi.new 'int[1]', fail) x = nil luio.spawn(function() luio.sleep(0) collectgarbage() end)",
  ["the collector, of a proxy"] = "getmetatable(newproxy(true)).__gc = fail luio.spawn(function() luio.sleep(0) collectgarbage() end)",
}

describe("an error that comes by", function()
  for name, way in pairs(WAYS) do
    it_runs(name .. " undoes a new version, and is one of a task's of a driver at work", function()
      assert(start())
      live.PROBATION = 60 -- however long the error takes to come, it comes within that
      for fail, words in pairs { ["error 'mine'"] = "init%.lua:3: mine", ["os.exit(0)"] = "init%.lua:3: .* called os%.exit%(0%)" } do
        undone = nil
        local report = reload(way, fail)
        if report.ok then
          wait.till(5, "undone", function() return undone end)
          report = undone
        end
        assert.is_false(report.ok)
        assert.matches(words, report.message)
        assert.equal(1, dev.driver.answer())
      end
      assert.same({}, failures)
      assert(dev:close())
      assert(start(way))
      wait.till(5, "told", function() return failures[1] end)
      assert.matches("init%.lua:3: mine", failures[1])
    end)
  end

  it_runs("a timer while start waits is the reason for its refusal", function()
    assert(start())
    local report = reload("uv.new_timer():start(1, 0, fail) luio.sleep(0.05)")
    assert.same({ false, "swap" }, { report.ok, report.step })
    assert.matches("^task .*init%.lua:3 failed: .*init%.lua:3: mine", report.message)
    assert.equal(1, dev.driver.answer())
  end)
end)

describe("a callback", function()
  it_runs("gets what libuv gives it, and may wait", function()
    assert(start [[uv.fs_stat("/", function(message, stat)
      luio.sleep(0.001)
      dev.state.type, dev.state.message = stat.type, message
    end)]])
    wait.till(5, "called", function() return dev.state.type end)
    assert.same({ type = "directory" }, dev.state)
  end)

  it_runs("of a version that is held is called when it goes on", function()
    assert(start "dev.state.n = 0 uv.new_timer():start(1, 1, function() dev.state.n = dev.state.n + 1 end)")
    wait.till(5, "called", function() return dev.state.n > 2 end)
    local state, before = dev.state, nil
    finally(function()
      uv.os_unsetenv "LUIO_SPEC_STARTS"
      uv.os_unsetenv "LUIO_SPEC_SEEN"
    end)
    local looks = luio.spawn(function() -- while the new version starts
      wait.till(5, "the new version starts", function() return os.getenv "LUIO_SPEC_STARTS" end)
      before = state.n
      luio.sleep(0.02)
      local after = state.n
      uv.os_setenv("LUIO_SPEC_SEEN", "1")
      assert.equal(before, after)
    end)
    local report = reload("uv.os_setenv('LUIO_SPEC_STARTS', '1') repeat luio.sleep(0.001) until os.getenv 'LUIO_SPEC_SEEN' error 'no'")
    assert.is_false(report.ok)
    assert.matches("init%.lua:5: no$", report.message)
    assert(looks:join(5))
    assert.is_true(state.n > before)
    assert.same({}, failures)
  end)

  it_runs("of a version that was replaced is not called any more, and its timer is closed", function()
    assert(start "timer = uv.new_timer() timer:start(1, 1, function() dev.state.n = (dev.state.n or 0) + 1 end) function d.timer() return timer end")
    wait.till(5, "called", function() return dev.state.n end)
    local state, timer = dev.state, dev.driver.timer()
    assert.is_true(reload().ok)
    local n = state.n
    wait.till(5, "closed", function() return timer:is_closing() end)
    assert.equal(n, state.n)
  end)

  it_runs("of a handle that went to the new version in dev.state is the new version's to set", function()
    local way = "dev.state.timer = dev.state.timer or uv.new_timer() dev.state.timer:start(1, 1, function() dev.state.by = %d end)"
    assert(start(way:format(1)))
    assert.is_true(reload(way:format(2)).ok)
    local timer = dev.state.timer
    wait.till(5, "probation is over", function() return not dev.live.probation end)
    wait.till(5, "called", function() return dev.state.by == 2 end)
    assert.is_false(timer:is_closing())
    assert.is_true(reload("dev.state.timer = nil").ok)
    wait.till(5, "closed", function() return timer:is_closing() end)
  end)

  it_runs("of a handle that was made when the driver was loaded works on when the device was away, one of start's not", function()
    path = files.write("init.lua", (text([[
        dev.state.n, dev.state.starts = 0, (dev.state.starts or 0) + 1
        local start = dev.state.starts
        TIMER:start(1, 1, function() dev.state.n = dev.state.n + 1 end)
        uv.new_timer():start(1, 1, function() dev.state.last = start end)]]):gsub("local d = ", [[
      LOADED = 0
      TIMER = uv.new_timer()
      uv.new_timer():start(1, 1, function() LOADED = LOADED + 1 end)
      local d = ]]):gsub("return d\n$", "function d.loaded() return LOADED end return d\n")))
    dev = assert(luio.start(path, "sim:edu"))
    for i = 1, 3 do
      dev.state.last = nil
      local before = dev.driver.loaded()
      wait.till(5, "all are called", function() return dev.state.n > 3 and dev.state.last and dev.driver.loaded() > before + 3 end)
      assert.same({ i, i }, { dev.state.starts, dev.state.last })
      assert(dev.live:restart "returned")
    end
    assert.same({}, failures)
  end)

  it_runs("for warnings that fails is a failure, not luio's", function()
    assert(start "dev.root.on_warning = fail")
    dev:warn "something"
    assert.matches("init%.lua:3: mine$", failures[1])
  end)

  it_runs("of a script's passes as it is", function()
    assert(start())
    local got
    local timer = uv.new_timer()
    timer:start(1, 0, function(...) got = { select("#", ...), task.running() } end)
    wait.till(5, "called", function() return got end)
    assert.same({ 0 }, got)
    timer:close()
  end)
end)

describe("luio run", function()
  for what, case in pairs {
    ["what follows a thread's work"] = { "uv.new_work(function(n) return n, 2 end, function(a, b) if a == 1 and b == 2 then fail() end end):queue(1)", 3 },
    ["a thread's work"] = { "uv.new_work(function() error 'mine' end, print):queue()", 5 },
    ["a thread"] = { "uv.new_thread(function(a) if a == 1 then error 'mine' end end, 1):join()", 5 },
    ["a thread with options"] = { "uv.new_thread({ stack_size = 65536 }, function(a) if a == 1 then error 'mine' end end, 1):join()", 5 },
  } do
    it(("goes on when %s fails, too"):format(what), function()
      local p = program.start { "run", files.driver(text(case[1])), "sim:edu" }
      finally(function() p:close() end)
      p:wait(("luio: task .-init%%.lua:5 failed: .-init%%.lua:%d: mine"):format(case[2]))
      p:kill "sigterm"
      assert.equal(0, p:status())
      assert.is_nil(p:text():find("Uncaught", 1, true))
    end)
  end

  it("has its threads' results", function()
    local p = program.start { "run", files.driver(text [[
      uv.new_thread(function() print "threaded" io.stdout:flush() end):join()
      uv.new_work(function(a) return a + 1 end, function(b) print("worked", b) io.stdout:flush() end):queue(1)]]), "sim:edu" }
    finally(function() p:close() end)
    p:wait "threaded\n"
    p:wait "worked%s2\n"
    p:kill "sigterm"
    assert.equal(0, p:status())
  end)

  it("goes on when a callback fails, and says so with the line", function()
    local p = program.start { "run", files.driver(text "uv.new_timer():start(20, 0, fail)"), "sim:edu" }
    finally(function() p:close() end)
    p:wait "luio: task .-init%.lua:3 failed: .-init%.lua:3: mine"
    p:kill "sigterm"
    assert.equal(0, p:status())
    assert.is_nil(p:text():find("Uncaught", 1, true))
  end)
end)
