--- drivers/uio_timer on a model; with LUIO_TIMER set on the kernel module, in the guest.

local luio = require "luio"
local wait = require "spec.support.wait"

local module = os.getenv "LUIO_TIMER" and require "spec.support.timer_module"
local address = not module and "sim:uio_timer" or nil -- nil: the first device that it matches
local RATE = 500 -- per second: nothing here depends on its being kept

describe("drivers/uio_timer on " .. (address or "the kernel module"), function()
  local dev, timer, regs, batch
  setup(function() if module then module.load "records=1024" end end)
  teardown(function() if module then module.unload() end end)
  before_each(function()
    dev = assert(luio.start("uio_timer", address))
    timer, regs = dev.driver, dev.regs
    batch = timer.batch(256)
  end)
  after_each(function() assert(dev:close()) end)

  -- Takes records until `most` have come, none later than seconds apart; how many.
  local function collect(most, each, least)
    local n = 0
    while n < most do
      local got = assert(timer.receive(dev, batch, 5, least))
      for k = 0, got - 1 do each(batch.at[k]) end
      n = n + got
    end
    return n
  end

  it("is off until it is told to run", function()
    assert.equal(0, regs.STATUS:get "RUNNING")
    local n, message, code = timer.receive(dev, batch, 0.05)
    assert.is_nil(n)
    assert.equal("ETIMEDOUT", code)
    assert.matches("no record of .* within 0.05 s", message)
  end)

  it("gives a record for each interrupt, numbered, with the time", function()
    local before = luio.now()
    assert(timer.run(dev, RATE))
    local last
    collect(100, function(record)
      if last then
        assert.equal(last.number + 1, record.number)
        assert.is_true(record.time > last.time)
        assert.is_true(math.abs(record.due - last.due - last.periods / RATE) < 1e-6) -- where it was late it stands for several
      end
      assert.is_true(record.time >= record.due and record.time > before and record.time <= luio.now())
      last = { number = record.number, time = record.time, due = record.due, periods = record.periods }
    end)
    local stats = timer.stats(dev)
    assert.is_true(stats.received >= 100)
    assert.equal(0, stats.lost)
  end)

  it("wakes a task, once for as many records as it asks for", function()
    local other, woken = 0, 0
    luio.run(function()
      local ticker = luio.spawn(function()
        while true do
          luio.sleep(0.001)
          other = other + 1
        end
      end)
      assert(timer.run(dev, RATE))
      local before = timer.stats(dev).notified
      for _ = 1, 4 do assert.is_true(assert(timer.receive(dev, batch, 5, 25)) >= 25) end
      woken = timer.stats(dev).notified - before
      ticker:cancel()
    end)
    assert.is_true(woken >= 1 and woken <= 4, ("%d wake-ups for 100 records"):format(woken))
    assert.is_true(other > 0)
  end)

  it("gives what there is when time is up", function()
    assert(timer.run(dev, RATE))
    local n = assert(timer.receive(dev, batch, 0.05, 64))
    assert.is_true(n >= 1 and n < 64, n .. " records in 0.05 s")
  end)

  it("counts what finds the ring full, and goes on", function()
    local ring = dev.state.ring
    local before = timer.stats(dev).dropped
    assert(timer.run(dev, 5000))
    wait.till(10, "overrun", function() return regs.DROPPED:read() ~= before end)
    assert(timer.run(dev, RATE))
    assert.equal(ring.count, (regs.HEAD:read() - ring.tail) % 2 ^ 32) -- full, and nothing was written over
    local first, last, received
    received = collect(ring.count + 1, function(record)
      first, last = first or record.number, record.number
    end)
    local stats = timer.stats(dev)
    assert.is_true(stats.lost > 0)
    assert.equal(stats.dropped - before, stats.lost) -- by the numbers, and by the kernel's counter
    assert.equal(last - first + 1, received + stats.lost)
  end)

  it("stops, and starts again at another rate", function()
    assert(timer.run(dev, RATE))
    collect(10, function() end)
    assert(timer.halt(dev))
    wait.till(2, "stop", function() return regs.STATUS:get "RUNNING" == 0 end)
    local head = regs.HEAD:read()
    luio.sleep(0.05)
    assert.equal(head, regs.HEAD:read())
    while timer.take(dev, batch) > 0 do end -- what had come before
    assert(timer.run(dev, 2 * RATE))
    local due
    collect(50, function(record)
      if due then assert.is_true(math.abs(record.due - due) < 1e-6) end
      due = record.due + record.periods / (2 * RATE)
    end)
    assert.equal(0, timer.stats(dev).lost)
  end)

  it("refuses a rate that the module does not allow", function()
    local fastest = 1e9 / regs.MIN_PERIOD_NS:read()
    local ok, message, code = timer.run(dev, 2 * fastest)
    assert.is_nil(ok)
    assert.equal("ERANGE", code)
    assert.matches(("allows .* to %g %%(module parameter min_period_ns"):format(fastest), message)
    assert.is_nil((timer.run(dev, 0.1)))
    assert.has_error(function() timer.receive(dev, batch, 1, dev.state.ring.count) end)
  end)

  it("starts with an empty ring, whatever was left in it", function()
    assert(timer.run(dev, RATE))
    wait.till(5, "records", function() return (regs.HEAD:read() - dev.state.ring.tail) % 2 ^ 32 >= 3 end)
    assert(timer.halt(dev))
    assert(timer.start(dev, "fresh"))
    assert.equal(0, (timer.take(dev, batch)))
    assert.equal(0, timer.stats(dev).lost)
  end)

  it("keeps what nobody had read over a crash, and its rate", function()
    assert(timer.run(dev, RATE))
    wait.till(5, "records", function() return (regs.HEAD:read() - dev.state.ring.tail) % 2 ^ 32 >= 3 end)
    assert(timer.start(dev, "crash"))
    assert.is_true(timer.take(dev, batch) >= 3)
    assert.equal(1e9 / RATE, dev.state.period)
    assert(timer.receive(dev, batch, 5))
  end)

  it("throws away what makes no sense, and says so", function()
    regs.TAIL:write(0)
    dev.state.ring.tail = (regs.HEAD:read() + 5) % 2 ^ 32
    local n, message, code = timer.take(dev, batch)
    assert.equal(0, n)
    assert.equal("EPROTO", code)
    assert.matches("does another process write to its maps", message)
    assert.equal(regs.HEAD:read(), regs.TAIL:read())
  end)

  if not module then -- there the timer stands still, and what is in the maps is ours to write
    -- HEAD, and the record at TAIL, by somebody else.
    local HEAD, WRAP = 0x00, 2 ^ 32
    local function somebody_writes(head, number)
      dev.regions[1]:write32(HEAD, head % WRAP)
      dev.regions[2]:write64(dev.state.ring.tail % 1024 * 32, number)
    end

    it("takes no more than the ring has, wherever HEAD is said to be", function()
      for _, from in ipairs { 0, 5, 1024, 2 ^ 31 - 1, 2 ^ 31, WRAP - 1 } do
        for _, ahead in ipairs { 0, 1, 255, 256, 257, 1023, 1024, 1025, 2 ^ 16, 2 ^ 31 - 1, 2 ^ 31, 2 ^ 31 + 1, WRAP - 1 } do
          dev.state.ring.tail = from
          somebody_writes(from + ahead, 0ULL)
          local n, _, code = timer.take(dev, batch)
          if ahead <= 1024 then
            assert.same({ math.min(ahead, 256), nil }, { n, code })
            assert.equal((from + n) % WRAP, dev.state.ring.tail)
          else
            assert.same({ 0, "EPROTO", (from + ahead) % WRAP }, { n, code, dev.state.ring.tail })
          end
          if ahead > 0 then assert.equal(dev.state.ring.tail, regs.TAIL:read()) end
        end
      end
    end)

    it("counts no losses that the numbers of records can't mean", function()
      for _, number in ipairs { 10, 11, 13, 5, 6, 2 ^ 52, 0, 1 } do
        somebody_writes(dev.state.ring.tail + 1, number + 0ULL)
        assert.equal(1, timer.take(dev, batch))
        assert.is_true(timer.stats(dev).lost <= 1)
      end
      assert.same({ 1, 8 }, { timer.stats(dev).lost, timer.stats(dev).received })
    end)

    it("ends a wait at its deadline, though interrupts come with nothing behind them", function()
      local waits = 0
      local irq = next(dev.views).irqs[0] -- the driver's own
      function irq.wait()
        waits = waits + 1
        return {}
      end
      local n, _, code = timer.receive(dev, batch, 0.02)
      irq.wait = nil
      assert.same({ nil, "ETIMEDOUT" }, { n, code })
      assert.is_true(waits > 0)
    end)
  end

  it("is refused by another module", function()
    local load_again = assert(luio.load "uio_timer")
    local fake = { ID = { read = function() return 1 end, def = { reset = 2 } } }
    for _, name in ipairs { "VERSION", "RECORD_SIZE", "RECORDS" } do fake[name] = fake.ID end
    local ok, message, code = load_again.start({ regs = fake, state = {} }, "fresh")
    assert.is_nil(ok)
    assert.equal("ENODEV", code)
    assert.matches("ID is 0x00000001", message)
  end)
end)
