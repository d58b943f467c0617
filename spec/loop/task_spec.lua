--- Tasks: the loop, waiting, failing, ending.

local fd_watch = require "luio.loop.fd_watch"
local handles = require "luio.loop.handles"
local luio = require "luio"
local task = require "luio.loop.task"
local uv = require "luv"
local wait = require "spec.support.wait"

describe("tasks", function()
  local shown, failures
  before_each(function()
    shown, failures = task.on_failure, {}
    luio.on_task_failure(function(_, traceback) table.insert(failures, traceback) end)
  end)
  after_each(function() luio.on_task_failure(shown) end)

  it("run side by side, each at its own pace", function()
    local order = {}
    local slow = luio.spawn(function()
      pcall(luio.sleep, 600)
      table.insert(order, "slow")
    end)
    luio.spawn(function()
      for i = 1, 3 do
        luio.sleep(0.002)
        table.insert(order, i)
      end
      slow:cancel()
    end)
    luio.run()
    assert.same({ 1, 2, 3, "slow" }, order)
  end)

  it("sleep at least as long as they say, also after the loop stood still", function()
    luio.sleep(0.001)
    local busy = luio.now()
    while luio.now() - busy < 0.05 do end
    local before = luio.now()
    luio.sleep(0.02)
    assert.is_true(luio.now() - before >= 0.019)
  end)

  it("that sleep for no time, again and again, let descriptors and signals be seen", function()
    local pipe = assert(uv.pipe { nonblock = true })
    local seen, stop = {}, luio.now() + 10 * wait.HANG
    luio.run(function()
      local signal, watch = assert(uv.new_signal()), assert(fd_watch.watch(pipe.read))
      signal:start("sigusr1", function() seen.signal = true end)
      signal:unref()
      luio.spawn(function() seen.descriptor = watch:readable(10) end)
      assert(uv.fs_write(pipe.write, "x"))
      assert(uv.kill(uv.os_getpid(), "sigusr1"))
      while not (seen.signal and seen.descriptor) and luio.now() < stop do luio.sleep(0) end
      signal:stop()
      handles.dispose(signal)
      watch:close()
    end)
    assert(uv.fs_close(pipe.read) and uv.fs_close(pipe.write))
    assert.same({ signal = true, descriptor = true }, seen)
  end)

  it("that fail show their traceback and don't take the others down", function()
    local done
    luio.spawn(function()
      luio.sleep(0.001)
      error "boo"
    end)
    luio.spawn(function()
      luio.sleep(0.01)
      done = true
    end)
    luio.run()
    assert.is_true(done)
    assert.equal(1, #failures)
    assert.matches("boo", failures[1])
    assert.matches("task_spec.lua:%d+: in function", failures[1])
  end)

  it("give their results to luio.run, or their error", function()
    assert.same({ 1, nil, 3 }, { luio.run(function(a, b) luio.sleep(0) return a, nil, b end, 1, 3) })
    local ok, message = pcall(luio.run, function() luio.sleep(0) error "boo" end)
    assert.is_false(ok)
    assert.matches("boo", message)
    assert.same({}, failures) -- raised, so not shown as well
  end)

  it("are joined, with a deadline", function()
    luio.run(function()
      local go
      local slow = luio.spawn(function()
        while not go do luio.sleep(0.001) end
        return "result"
      end)
      local ok, message, code = slow:join(0.001)
      assert.is_nil(ok)
      assert.equal("ETIMEDOUT", code)
      assert.matches("timed out after 0.001 s", message)
      go = true
      assert.same({ true, "result" }, { slow:join(10) })
      local failing = luio.spawn(function() error "boo" end)
      ok, message = failing:join(1)
      assert.is_nil(ok)
      assert.matches("boo", message)
    end)
  end)

  it("are cancelled at their wait, and clean up", function()
    local cleaned, went_on
    luio.run(function()
      local t = luio.spawn(function()
        local ok, err = pcall(luio.sleep, 60)
        cleaned = not ok
        error(err, 0)
      end)
      luio.spawn(function() luio.sleep(60) went_on = true end):cancel()
      t:cancel()
      assert.equal("cancelled", t.status)
      assert.equal("ECANCELED", select(3, t:join(1)))
    end)
    assert.is_true(cleaned)
    assert.is_nil(went_on)
    assert.same({}, failures)
  end)

  it("refuse waits without a limit, and what is no function", function()
    assert.has_error(function() luio.sleep(math.huge) end)
    assert.has_error(function() luio.sleep(-1) end)
    assert.has_error(function() luio.sleep() end)
    assert.has_error(function() luio.spawn(5) end)
  end)

  it("don't leave timers behind: ten thousand waits, one timer", function()
    local function timers()
      local n = 0
      uv.walk(function(handle) if uv.handle_get_type(handle) == "timer" then n = n + 1 end end)
      return n
    end
    luio.sleep(0)
    local before = timers()
    luio.run(function() for _ = 1, 10000 do luio.sleep(0) end end)
    assert.is_true(timers() <= before + 1)
  end)

  it("wait outside of a task by turning the loop there", function()
    local ticks = 0
    local ticker = luio.spawn(function()
      while true do
        luio.sleep(0.001)
        ticks = ticks + 1
      end
    end)
    wait.till(2, "ticks", function() return ticks > 3 end)
    ticker:cancel()
  end)

  it("ends with its last task, whatever else the loop watches", function()
    local signal, net = assert(uv.new_signal()), assert(uv.new_timer())
    signal:start("sigusr2", function() end)
    local caught
    net:start(60000, 0, function() caught = true end)
    luio.spawn(function() luio.sleep(0.01) end)
    uv.sleep(30) -- so that the loop begins with the end of that sleep
    luio.run()
    signal:close()
    net:close()
    uv.run "nowait"
    assert.is_nil(caught)
  end)
end)
