--- Conformance: waiting, by interrupt and by polling, and no longer than one was told to.

local busted = require "busted"
local assert = require "luassert"
local luio = require "luio"
local pending = require "spec.support.pending"
local support = require "spec.net.conformance.support"
local wait = require "spec.support.wait"

local it = busted.it

local LATE = 20 -- seconds: later than this is no delay of a machine that is busy

return function(subject)
  local function interrupts(port) return port.dev.irqs[0]:stats().interrupts end

  it("waits for a packet no longer than it was told", function()
    local port = subject.open()
    for _, seconds in ipairs { 0, 0.01, 0.1 } do
      for _, verb in ipairs { "wait", "receive" } do
        local start = luio.now()
        local ok, message, code = port.rx[0][verb](port.rx[0], seconds)
        local took = luio.now() - start
        assert.same({ nil, "ETIMEDOUT" }, { ok, code })
        assert.matches("^receive of [^ ]+: timed out after", message)
        assert.is_true(took >= seconds - 0.002 and took < seconds + LATE, ("%s(%g) took %g s"):format(verb, seconds, took))
      end
    end
    for _, what in ipairs { "wait", "receive" } do
      for _, bad in ipairs { -1, 0 / 0, "1", 1e12 } do
        local ok, message = pcall(function()
          local result = port.rx[0][what](port.rx[0], bad)
          return result
        end)
        assert.is_false(ok)
        assert.matches("waits.lua:%d+: rx:" .. what .. " needs a number of seconds, not", message)
      end
    end
  end)

  it("wakes for a packet that comes while it waits", function()
    local port = subject.open()
    luio.run(function()
      for i = 1, 20 do
        luio.spawn(function()
          luio.sleep(0.003)
          assert(port.tx[0]:send(support.packet(port, support.frame(port, i)), 1))
        end)
        local start = luio.now()
        local packet = assert(port.rx[0]:receive(100))
        assert.is_true(luio.now() - start < LATE)
        assert.equal(support.frame(port, i), packet:read())
        packet:free()
      end
      if port.features.interrupts then assert.is_true(interrupts(port) > 0) end
    end)
  end)

  it("hands out one by one what came at once", function()
    local port = subject.open()
    local packets = luio.batch(50)
    for i = 0, 49 do packets[i] = support.packet(port, support.frame(port, i)) end
    assert.equal(50, port.tx[0]:burst(packets, 50))
    for i = 0, 49 do assert.equal(support.frame(port, i), (support.next(port))) end
    local packet, _, code = port.rx[0]:receive(0)
    assert.same({ nil, "ETIMEDOUT" }, { packet, code })
  end)

  it("waits for room when the ring is full, and until all was sent", function()
    local port = subject.open { tx = 8 }
    luio.run(function()
      local got = 0
      local n = math.max(100, math.floor(subject.packets / 20))
      local receiver = luio.spawn(function()
        while got < n do
          local packet = assert(port.rx[0]:receive(10))
          assert.equal(support.frame(port, got), packet:read())
          packet:free()
          got = got + 1
        end
      end)
      for i = 0, n - 1 do
        assert(port.tx[0]:send(support.packet(port, support.frame(port, i)), 10))
        while i - got > 200 and receiver.status == "waiting" do luio.sleep(0) end
      end
      assert(port.tx[0]:flush(10))
      assert.equal(0, port.tx[0]:pending())
      assert(port.tx[0]:wait(0))
      assert.equal(7, port.tx[0]:reclaim())
      assert(receiver:join(20))
      assert.equal(n, got)
    end)
  end)

  it("lets one task wait for a queue, and one for each", function()
    local port = subject.open()
    luio.run(function()
      local packet
      local first = luio.spawn(function() packet = assert(port.rx[0]:receive(10)) end)
      local second = luio.spawn(function()
        local ok, message = pcall(port.rx[0].receive, port.rx[0], 1)
        assert.is_false(ok)
        assert.matches("two tasks wait for one queue of", message)
      end)
      assert(second:join(5))
      assert(port.tx[0]:flush(10)) -- the other queue's business
      assert(port.tx[0]:send(support.packet(port, support.frame(port, 7)), 1))
      assert(first:join(10))
      assert.equal(support.frame(port, 7), packet:read())
      packet:free()
    end)
  end)

  it("forgets a task that was cancelled while it waited", function()
    local port = subject.open()
    luio.run(function()
      local waiting = luio.spawn(function() port.rx[0]:receive(60) end)
      waiting:cancel()
      assert.equal("cancelled", waiting.status)
      assert(port.tx[0]:send(support.packet(port, support.frame(port, 1)), 1))
      assert.equal(support.frame(port, 1), (support.next(port)))
    end)
  end)

  it("polls a queue that is busy, and leaves one that is idle to the interrupt", function()
    local port = subject.open { poll = 30 }
    if not port.features.interrupts then return pending "no interrupts" end
    luio.run(function()
      local function round(i)
        assert(port.tx[0]:send(support.packet(port, support.frame(port, i)), 1))
        assert.equal(support.frame(port, i), (support.next(port)))
      end
      round(0) -- busy from here on
      local before = interrupts(port)
      for i = 1, 100 do round(i) end
      assert.is_true(interrupts(port) - before <= 1) -- the last wait may have asked for one, and not needed it
      -- Idle for longer than it polls: it sleeps, and an interrupt wakes it. Others run meanwhile.
      port.options.poll = 0.05
      local ran, start = 0, luio.now()
      luio.spawn(function()
        for _ = 1, 3 do
          luio.sleep(0.001)
          ran = ran + 1
        end
        luio.sleep(0.2)
        assert(port.tx[0]:send(support.packet(port, support.frame(port, 200)), 1))
      end)
      assert.equal(support.frame(port, 200), (support.next(port)))
      assert.is_true(luio.now() - start > 0.05)
      assert.same({ 3, true }, { ran, interrupts(port) > before })
    end)
  end)

  it("interrupts nobody while nobody waits", function()
    local port = subject.open { poll = 0 }
    if not port.features.interrupts then return pending "no interrupts" end
    luio.run(function()
      luio.sleep(0.05) -- what the link had to say
      local before = interrupts(port)
      support.exchange(port, 500)
      luio.sleep(0.05)
      -- At most the one that the last wait had asked for.
      assert.is_true(interrupts(port) - before <= 1, ("%d interrupts"):format(interrupts(port) - before))
    end)
  end)

  it("does not lose a wake-up, however sending and waiting meet", function()
    local port = subject.open { poll = 0 }
    luio.run(function()
      local n = math.max(200, math.floor(subject.packets / 10))
      luio.spawn(function()
        for i = 0, n - 1 do
          assert(port.tx[0]:send(support.packet(port, support.frame(port, i)), 10))
          if i % 3 == 0 then luio.sleep(0) end
          if i % 50 == 0 then luio.sleep(0.002) end
        end
      end)
      -- A wake-up that is lost is made up for once a second. Time is counted in turns of another task, for a busy machine holds
      -- up both.
      local ticks, worst, done = 0, 0, false
      luio.spawn(function()
        while not done do
          luio.sleep(0.01)
          ticks = ticks + 1
        end
      end)
      for i = 0, n - 1 do
        local start = ticks
        assert.equal(support.frame(port, i), (support.next(port)))
        worst = math.max(worst, ticks - start)
      end
      done = true
      wait.till(2, "all was sent", function() return port.tx[0]:pending() == 0 end)
      assert.is_true(worst < 80, ("one came after %d hundredths of a second"):format(worst))
    end)
  end)
end
