--- Wait slots: one task at a time waits at each; waking, deadlines, cancelling, holding.

local fd_watch = require "luio.loop.fd_watch"
local luio = require "luio"
local task = require "luio.loop.task"
local uv = require "luv"
local wait_slot = require "luio.loop.wait_slot"

-- Lua is busy for so long, and the loop does not turn.
local function busy(seconds)
  local over = luio.now() + seconds
  while luio.now() < over do end
end

describe("a wait slot", function()
  it("gives its waiter what it is woken with, in a task and outside of one", function()
    local slot = {}
    local function wait() return wait_slot.wait(slot, 10) end
    for _, run in ipairs { luio.run, function(fn) return fn() end } do
      luio.spawn(function()
        luio.sleep(0)
        wait_slot.wake(slot, 1, nil, 3)
      end)
      assert.same({ 1, nil, 3 }, { run(wait) })
      assert.is_nil(wait_slot.waiter(slot))
    end
    assert.is_false(wait_slot.wake(slot, true)) -- nobody waits
  end)

  it("says that the time is over, and does not keep that for the next wait", function()
    luio.run(function()
      local slot = {}
      for _, seconds in ipairs { 0, 0.001 } do
        local ok, message, code = wait_slot.wait(slot, seconds)
        assert.same({ nil, ("timed out after %g s"):format(seconds), "ETIMEDOUT" }, { ok, message, code })
      end
      luio.spawn(function() wait_slot.wake(slot, "woken") end)
      luio.spawn(function()
        luio.sleep(0)
        wait_slot.wake(slot, "woken")
      end)
      assert.equal("woken", wait_slot.wait(slot, 10))
    end)
  end)

  it("takes one waiter at a time, and says so to another", function()
    local slot = {}
    luio.run(function()
      local first = luio.spawn(function() return wait_slot.wait(slot, 10) end)
      assert.has_error(function() wait_slot.wait(slot, 10) end, "two tasks wait for the same thing at once")
      assert.has_error(function() wait_slot.wait_any({ {}, slot }, 10) end, "two tasks wait for the same thing at once")
      wait_slot.wake(slot, "first")
      assert.equal("first", select(2, first:join(10)))
    end)
  end)

  it("is free again after a cancelled wait", function()
    local slot = {}
    luio.run(function()
      local waiting = luio.spawn(function() wait_slot.wait(slot, 10) end)
      assert.equal(waiting, wait_slot.waiter(slot))
      waiting:cancel()
      assert.equal("cancelled", waiting.status)
      assert.is_nil(wait_slot.waiter(slot))
      assert.equal("ETIMEDOUT", select(3, wait_slot.wait(slot, 0)))
    end)
  end)

  it("of several wakes a task that waits at all of them, once, and all are free", function()
    local a, b = {}, {}
    luio.run(function()
      local times = 0
      local waiting = luio.spawn(function()
        local got = wait_slot.wait_any({ a, b }, 10)
        times = times + 1
        luio.sleep(0)
        return got
      end)
      assert.is_true(wait_slot.wake(b, "b"))
      assert.is_false(wait_slot.wake(a, "a"))
      assert.equal("b", select(2, waiting:join(10)))
      assert.equal(1, times)
    end)
  end)

  it("wakes a task of a held group when that is let go, once", function()
    local slot, group, got = {}, task.group "held", {}
    luio.run(function()
      local function wait_for(at) return function() table.insert(got, (wait_slot.wait(at, 10))) end end
      local held = task.spawn_in(group, wait_for(slot))
      group:hold()
      assert.is_true(wait_slot.wake(slot, "held"))
      assert.is_false(wait_slot.wake(slot, "again"))
      assert.same({}, got)
      luio.spawn(wait_for(slot)) -- the slot is free meanwhile
      wait_slot.wake(slot, "other")
      assert.same({ "other" }, got)
      group:let_go()
      assert(held:join(10))
      assert.same({ "other", "held" }, got)
    end)
  end)

  it("is another's after it was freed, and its waiter goes on waiting", function()
    local slot, got = {}, {}
    luio.run(function()
      local function wait() table.insert(got, (wait_slot.wait(slot, 10))) end
      luio.spawn(wait)
      local displaced = wait_slot.displace(slot)
      luio.spawn(wait)
      wait_slot.wake(slot, "second")
      assert.same({ "second" }, got)
      wait_slot.wake_waiter(displaced)
      assert.same({ "second", true }, got)
      wait_slot.wake_waiter(displaced) -- it waits no more
      assert.same({ "second", true }, got)
    end)
  end)

  it("makes nothing for the collector when a task waits there again and again", function()
    local slot, n = {}, 2000
    local waiting = luio.spawn(function()
      while true do wait_slot.wait(slot, 10) end
    end)
    jit.off() -- traces count as memory, too
    for _ = 1, n do wait_slot.wake(slot, true) end
    collectgarbage()
    collectgarbage "stop"
    local before = collectgarbage "count"
    for _ = 1, n do wait_slot.wake(slot, true) end
    local bytes = (collectgarbage "count" - before) * 1024
    collectgarbage "restart"
    jit.on()
    waiting:cancel()
    assert.is_true(bytes / n < 64, bytes / n) -- interpreted, now() makes one object; a table and a closure are more
  end)
end)

describe("deadlines", function()
  it("that have passed while Lua was busy end waits in their order", function()
    local order = {}
    luio.run(function()
      for _, ms in ipairs { 30, 10, 20, 40 } do
        luio.spawn(function()
          luio.sleep(ms / 1000)
          table.insert(order, ms)
        end)
      end
      busy(0.06)
      luio.sleep(0.02)
    end)
    assert.same({ 10, 20, 30, 40 }, order)
  end)

  it("set no timer for each wait of a task", function()
    local function due() -- milliseconds; of the timer that is set for the longest: other specs' may still be set
      local longest = 0
      uv.walk(function(handle)
        if uv.handle_get_type(handle) == "timer" and handle:is_active() then longest = math.max(longest, handle:get_due_in()) end
      end)
      return longest
    end
    local before = due()
    local slot = {}
    local waiting = luio.spawn(function()
      while true do wait_slot.wait(slot, 10000) end
    end)
    busy(0.01)
    wait_slot.wake(slot, true)
    uv.update_time()
    local left = due()
    assert.is_true(left > before and left <= 10000000 - 10) -- it was not set anew
    waiting:cancel()
    assert.is_true(due() <= before)
  end)

  it("of tasks that have ended keep the loop from nothing", function()
    local slot = {}
    local waiting = luio.spawn(function() wait_slot.wait(slot, 1000) end)
    wait_slot.wake(slot, true)
    assert.equal("done", waiting.status)
    assert.is_false(uv.run()) -- nothing is active, so it comes back at once
  end)
end)

describe("a descriptor", function()
  it("takes one waiter at a time, and says so to another", function()
    local pipe = assert(uv.pipe { nonblock = true })
    local watch = assert(fd_watch.watch(pipe.read))
    luio.run(function()
      local first = luio.spawn(function() return watch:readable(10) end)
      assert.has_error(function() watch:readable(10) end, "two tasks wait for the same thing at once")
      assert(uv.fs_write(pipe.write, "x"))
      assert.same({ true, true }, { first:join(10) })
    end)
    watch:close()
    assert(uv.fs_close(pipe.read) and uv.fs_close(pipe.write))
  end)

  it("that is closed ends the wait", function()
    local pipe = assert(uv.pipe { nonblock = true })
    local watch = assert(fd_watch.watch(pipe.read))
    luio.run(function()
      local waiting = luio.spawn(function() return watch:readable(10) end)
      watch:close()
      watch:close()
      assert.same({ true, nil, "closed during the wait", "ECANCELED" }, { waiting:join(10) })
    end)
    assert(uv.fs_close(pipe.read) and uv.fs_close(pipe.write))
  end)

  it("calls its listener whenever it is readable, until there is none", function()
    local pipe = assert(uv.pipe { nonblock = true })
    local watch, calls = assert(fd_watch.watch(pipe.read)), 0
    assert(watch:listen(function()
      calls = calls + 1
      if calls == 3 then watch:listen(nil) end
    end))
    assert(uv.fs_write(pipe.write, "x"))
    luio.run(function() for _ = 1, 10 do luio.sleep(0) end end)
    assert.equal(3, calls)
    watch:close()
    assert(uv.fs_close(pipe.read) and uv.fs_close(pipe.write))
  end)

  it("calls its listener also after an error of the descriptor, which ends libuv's watch", function()
    local pipe = assert(uv.pipe { nonblock = true })
    local watch, calls = assert(fd_watch.watch(pipe.write, "w")), 0
    assert(uv.fs_close(pipe.read)) -- POLLERR from now on
    assert(watch:listen(function()
      calls = calls + 1
      if calls == 3 then watch:listen(nil) end
    end))
    luio.run(function() for _ = 1, 10 do luio.sleep(0) end end)
    assert.equal(3, calls)
    watch:close()
    assert(uv.fs_close(pipe.write))
  end)
end)
