--- Interrupts: the ring, its overflow, its order; the top half; waiting.

local ffi = require "ffi"
local amount = require "spec.support.amount"
local luio = require "luio"
local runtime = require "luio.ffi"
local sources = require "luio.irq.source"
local wait = require "spec.support.wait"
local C = runtime.C

ffi.cdef [[
  struct eventsource;
  struct eventsource *eventsource_start(int fd, uint64_t n, uint64_t every, uint64_t pause_ns);
  uint32_t eventsource_join(struct eventsource *s);
  int pipe(int fds[2]);
  int close(int fd);
  int eventfd(unsigned initial, int flags);
  long write(int fd, const void *from, size_t size);
  int fcntl(int fd, int command, ...);
]]
local F_SETFL, O_NONBLOCK = 4, 2048
local EVENTS = amount(1000000, 1000000, 100000)
local E = ffi.load "build/spec/libeventsource.so"

local function open(config)
  local c = ffi.new "luio_irq_config"
  c.cpu = -1
  for key, value in pairs(config) do c[key] = value end
  local out = ffi.new "luio_irq *[1]"
  if C.luio_irq_open(c, out, runtime.err) < 0 then return runtime.failure() end
  return out[0]
end

local function stats(irq)
  local s = ffi.new "luio_irq_stats"
  C.luio_irq_get_stats(irq, s)
  return tonumber(s.interrupts), tonumber(s.delivered), tonumber(s.overflow), tonumber(s.events), tonumber(s.direct)
end

local function pipe()
  local fds = ffi.new "int[2]"
  assert(ffi.C.pipe(fds) == 0)
  return fds[0], fds[1]
end

-- Nobody can steal a count from a reader that doesn't block, so such a source is shared.
local function shareable_pipe()
  local reader, writer = pipe()
  assert(ffi.C.fcntl(reader, F_SETFL, ffi.cast("int", O_NONBLOCK)) == 0)
  return reader, writer
end

local function spin(seconds)
  local over = luio.now() + seconds
  while luio.now() < over do end
end

-- Where the source's count is after n events: 28 for each round of seven.
local function count_after(n)
  local rest = n % 7
  return (n - rest) / 7 * 28 + rest * (rest + 1) / 2
end

-- Follows the source's pattern: the count grows by 1, 2, ... 7, 1, ... (28 a round).
local function follower()
  local sum, last = 0, 0ULL
  local ends = {} -- count modulo 28 -> the step that ended there
  local at = 0
  for step = 1, 7 do
    at = at + step
    ends[at % 28] = step
  end
  return function(event)
    sum = sum + tonumber(event.overflow) + tonumber(event.count)
    if ends[sum % 28] ~= tonumber(event.count) then error(("count %d does not end a step of %d"):format(sum, tonumber(event.count))) end
    if event.time_ns < last then error "time ran backwards" end
    last = event.time_ns
    return sum
  end
end

describe("the event ring", function()
  it("accounts for hundreds of thousands of events with a slow consumer: none lost unseen, doubled or reordered", function()
    local reader, writer = pipe()
    local irq = assert(open { source = C.LUIO_IRQ_UIO, fd = reader, capacity = 256 })
    local source = E.eventsource_start(writer, EVENTS, 0, 0)
    local event, follow = ffi.new "luio_irq_event", follower()
    local taken, seen, waits = 0, 0, 0
    local deadline = luio.now() + 60 * wait.HANG
    repeat
      -- Slow: lets the ring fill up again and again.
      if C.luio_irq_next(irq, event) == 1 then
        seen = follow(event)
        taken = taken + 1
        if taken % 200 == 0 then require("luv").sleep(1) end
      else
        waits = waits + 1
        if waits % 1000 == 0 then require("luv").sleep(1) end
      end
      local interrupts, _, _, events = stats(irq)
      if interrupts == count_after(EVENTS) and taken == events then break end
    until luio.now() > deadline
    local total = E.eventsource_join(source)
    local interrupts, delivered, overflow, events = stats(irq)
    assert.equal(total, interrupts)
    assert.equal(total, delivered + overflow)
    assert.equal(events, taken)
    assert.is_true(overflow > 0) -- else the consumer was not slow, and this showed nothing
    assert.is_true(seen <= total)
    assert.equal(0, C.luio_irq_close(irq, 1e9, nil))
    ffi.C.close(reader)
    ffi.C.close(writer)
  end)

  it("loses nothing when it is large enough", function()
    local reader, writer = pipe()
    local irq = assert(open { source = C.LUIO_IRQ_UIO, fd = reader, capacity = 65536 })
    local total = E.eventsource_join(E.eventsource_start(writer, 50000, 0, 0))
    local event, follow, taken, seen = ffi.new "luio_irq_event", follower(), 0, 0
    local deadline = luio.now() + 10 * wait.HANG
    while seen < total and luio.now() < deadline do
      if C.luio_irq_next(irq, event) == 1 then
        seen = follow(event)
        taken = taken + 1
      end
    end
    assert.equal(total, seen)
    assert.equal(50000, taken)
    local interrupts, delivered, overflow = stats(irq)
    assert.same({ total, total, 0 }, { interrupts, delivered, overflow })
    assert.equal(0, C.luio_irq_close(irq, 1e9, nil))
    ffi.C.close(reader)
    ffi.C.close(writer)
  end)

  it("counts an eventfd's 8-byte count as so many interrupts", function()
    local fd = ffi.C.eventfd(0, 0)
    local irq = assert(open { source = C.LUIO_IRQ_EVENTFD, fd = fd })
    local seven = ffi.new("uint64_t[1]", 7)
    ffi.C.write(fd, seven, 8)
    local event = ffi.new "luio_irq_event"
    local deadline = luio.now() + 2 * wait.HANG
    while C.luio_irq_next(irq, event) == 0 do assert.is_true(luio.now() < deadline) end
    assert.equal(7, tonumber(event.count))
    assert.equal(0, C.luio_irq_close(irq, 1e9, nil))
    ffi.C.close(fd)
  end)

  it("subtracts a UIO count that wraps, unsigned", function()
    local reader, writer = pipe()
    local irq = assert(open { source = C.LUIO_IRQ_UIO, fd = reader, baseline = 0xfffffffe })
    ffi.C.write(writer, ffi.new("uint32_t[1]", 1), 4)
    local event = ffi.new "luio_irq_event"
    local deadline = luio.now() + 2 * wait.HANG
    while C.luio_irq_next(irq, event) == 0 do assert.is_true(luio.now() < deadline) end
    assert.equal(3, tonumber(event.count))
    assert.equal(0, C.luio_irq_close(irq, 1e9, nil))
    ffi.C.close(reader)
    ffi.C.close(writer)
  end)

  it("reports a source that dies as the last event, even into a full ring", function()
    local reader, writer = pipe()
    local irq = assert(open { source = C.LUIO_IRQ_UIO, fd = reader, capacity = 4 })
    E.eventsource_join(E.eventsource_start(writer, 100, 0, 0))
    ffi.C.close(writer)
    local event, last = ffi.new "luio_irq_event", nil
    local deadline = luio.now() + 2 * wait.HANG
    while last ~= C.LUIO_EVENT_GONE and luio.now() < deadline do
      if stats(irq) == count_after(100) and C.luio_irq_next(irq, event) == 1 then last = event.flags end
    end
    assert.equal(C.LUIO_EVENT_GONE, last)
    assert.matches("the device is gone", ffi.string(C.luio_irq_error(irq)))
    assert.equal(0, C.luio_irq_next(irq, event))
    assert.equal(0, C.luio_irq_close(irq, 1e9, nil))
    ffi.C.close(reader)
  end)

  it("refuses nonsense and leaves nothing behind", function()
    for _, bad in ipairs {
      { source = 7, fd = 0 }, { capacity = 100, fd = 0 }, { capacity = 2 ^ 30, fd = 0 }, { priority = 100, fd = 0 },
      { n_ops = 17, fd = 0 }, { cpu = 5000, fd = 0 },
    } do
      local irq, message, code = open(bad)
      assert.is_nil(irq)
      assert.equal("EINVAL", code)
      assert.matches("^interrupt of a descriptor: ", message)
    end
  end)

  it("refuses a top half that unmasks before its last step", function()
    local dev = assert(luio.open "sim:edu")
    finally(function() assert(dev:close()) end)
    local c = ffi.new "luio_irq_config"
    assert.equal(0, C.luio_device_irq(dev.handle, 0, c, runtime.err))
    c.n_ops = 2
    c.ops[0].op = C.LUIO_OP_UNMASK
    c.ops[1] = { op = C.LUIO_OP_READ, width = 32, region = dev:region(0).handle, offset = 0x24 }
    assert.is_true(C.luio_irq_open(c, ffi.new "luio_irq *[1]", runtime.err) < 0)
    assert.equal("interrupt of sim:edu: step 1 unmasks, and is not the last", select(2, runtime.failure()))
  end)

  it("runs with real-time priority and on a CPU where that is permitted, or says what it takes", function()
    local fd = ffi.C.eventfd(0, 0)
    local irq, message, code = open { source = C.LUIO_IRQ_EVENTFD, fd = fd, priority = 10, cpu = 0 }
    if irq then
      assert.equal(0, C.luio_irq_close(irq, 1e9, nil))
    else
      assert.equal("EPERM", code)
      assert.matches("CAP_SYS_NICE", message)
    end
    ffi.C.close(fd)
  end)
end)

describe("a source that the loop shares with the thread", function()
  local uv = require "luv"
  local reader, writer, source, irq, watch, event
  local function start(config)
    local c = ffi.new "luio_irq_config"
    c.source, c.fd, c.cpu = C.LUIO_IRQ_UIO, reader, -1
    for key, value in pairs(config) do c[key] = value end
    source = sources.new()
    assert(source:open(c, {}, { address = "a pipe" }))
    irq, event, watch = source.handle, source.raw, source.watch
  end

  -- The next event: what the loop has taken, or the ring's oldest.
  local function next_event()
    local taken = source.taken
    source.taken = false
    return taken and 1 or C.luio_irq_next(irq, event)
  end
  before_each(function() reader, writer = shareable_pipe() end)
  after_each(function()
    assert(source:close())
    ffi.C.close(reader)
    ffi.C.close(writer)
  end)

  it("accounts for hundreds of thousands of events taken by either, as the loop sleeps or is busy", function()
    start { capacity = 256 }
    local counter = E.eventsource_start(writer, EVENTS, 1000, 500000)
    local follow = follower()
    local taken, seen, rounds = 0, 0, 0
    local deadline = luio.now() + 60 * wait.HANG
    luio.run(function()
      repeat
        rounds = rounds + 1
        watch:readable(0.01)
        while next_event() == 1 do
          seen = follow(event)
          taken = taken + 1
        end
        if rounds % 3 == 0 then spin(0.0003) end
        local interrupts, _, _, events = stats(irq)
      until interrupts == count_after(EVENTS) and taken == events or luio.now() > deadline
    end)
    local total = E.eventsource_join(counter)
    local interrupts, delivered, overflow, events, direct = stats(irq)
    assert.equal(total, interrupts)
    assert.equal(total, delivered + overflow)
    assert.equal(events, taken)
    assert.is_true(seen <= total)
    assert.is_true(direct > 0)
    assert.is_true(direct < total)
  end)

  it("loses none to deadlines that pass at the same moment", function()
    start { capacity = 65536 }
    local counter = E.eventsource_start(writer, 3000, 1, 2000000)
    local follow, seen, late = follower(), 0, 0
    local total = count_after(3000)
    local deadline = luio.now() + 60 * wait.HANG
    luio.run(function()
      while seen < total and luio.now() < deadline do
        local _, _, code = watch:readable(0.001)
        if code == "ETIMEDOUT" then late = late + 1 end
        while next_event() == 1 do seen = follow(event) end
      end
    end)
    assert.equal(total, E.eventsource_join(counter))
    assert.equal(total, seen)
    local interrupts, delivered, overflow, _, direct = stats(irq)
    assert.same({ total, total, 0 }, { interrupts, delivered, overflow })
    assert.is_true(late > 0)
    assert.is_true(direct > 0)
  end)

  -- The loop and the thread race for each interrupt: repeats until the loop took some, fifty times at least.
  local function again_until_direct(fn)
    local deadline, round = luio.now() + 20, 0
    repeat
      round = round + 1
      fn()
      local _, _, _, _, direct = stats(irq)
    until round >= 50 and direct > 0 or luio.now() > deadline
    assert.is_true(select(5, stats(irq)) > 0)
  end

  -- n interrupts at once, by a thread of libuv's, so that the loop may be asleep.
  local sent = 0
  local function send(n)
    local counts = ffi.new("uint32_t[?]", n)
    for i = 0, n - 1 do
      sent = sent + 1
      counts[i] = sent
    end
    uv.fs_write(writer, ffi.string(counts, 4 * n), -1, function() end)
  end

  it("leaves no rest lying until the loop comes round: the thread is called", function()
    start { capacity = 65536 }
    sent = 0
    again_until_direct(function()
      luio.run(function()
        send(300) -- more than is taken at once
        assert.is_true(watch:readable(10))
      end)
      local deadline = luio.now() + 1 * wait.HANG
      while stats(irq) < sent and luio.now() < deadline do end -- nobody turns the loop
      assert.equal(sent, (stats(irq)))
      while next_event() == 1 do end
    end)
  end)

  it("ends the wait when it dies, says so once, and lets the loop sleep thereafter", function()
    start {}
    local flags
    luio.run(function()
      luio.spawn(function()
        luio.sleep(0.01)
        ffi.C.close(writer)
        writer = -1
      end)
      assert.is_true(watch:readable(10))
      assert.equal(1, next_event())
      flags = event.flags
      assert.equal(0, next_event())
      local before = os.clock()
      repeat until select(3, watch:readable(0.2)) == "ETIMEDOUT"
      assert.is_true(os.clock() - before < 0.1)
    end)
    assert.equal(C.LUIO_EVENT_GONE, flags)
    assert.equal(0, next_event())
  end)

  it("makes the descriptor readable for events that were taken and left", function()
    start {}
    sent = 0
    again_until_direct(function()
      luio.run(function()
        send(3)
        assert.is_true(watch:readable(10))
        assert.equal(1, next_event())
      end)
      watch:stop()
      local fired = 0
      local poll, timer = assert(uv.new_poll(C.luio_irq_fd(irq))), assert(uv.new_timer())
      local function stop()
        poll:stop()
        timer:stop()
      end
      poll:start("r", function()
        fired = fired + 1
        stop()
      end)
      timer:start(1000, 0, stop)
      uv.run()
      poll:close()
      timer:close()
      uv.run "nowait"
      assert.equal(1, fired)
      local deadline, rest = luio.now() + 1, 0
      while rest < 2 and luio.now() < deadline do rest = rest + next_event() end
      assert.equal(2, rest)
      assert.equal(0, next_event())
    end)
  end)

  it("is the thread's alone where the thread was asked for", function()
    start { cpu = 0 }
    assert.is_true(C.luio_irq_share(irq, uv.backend_fd()) < 0)
    luio.run(function()
      luio.spawn(function()
        luio.sleep(0.01)
        ffi.C.write(writer, ffi.new("uint32_t[1]", 1), 4)
      end)
      assert.is_true(watch:readable(10))
    end)
    local interrupts, _, _, _, direct = stats(irq)
    assert.same({ 1, 0 }, { interrupts, direct })
  end)
end)

describe("dev.irqs[0]", function()
  local R = { ID = 0x00, LIVENESS = 0x04, STATUS = 0x20, IRQ_STATUS = 0x24, IRQ_RAISE = 0x60, IRQ_ACK = 0x64 } -- edu's
  local dev, regs, irq
  before_each(function()
    dev = assert(luio.open "sim:edu")
    regs, irq = dev.regions[0], dev.irqs[0]
  end)
  after_each(function() assert(dev:close()) end)

  local function acknowledged() return { capture = { { "cause", R.IRQ_STATUS } }, ack = { { R.IRQ_ACK, "cause" } } } end

  it("runs the top half before the event: cause captured, line taken back, unmasked", function()
    irq:setup(acknowledged())
    assert(irq:start())
    local before = luio.now()
    regs:write32(R.IRQ_RAISE, 0x30)
    local event = assert(irq:wait(10))
    assert.equal(0x30, event.cause)
    assert.equal(1, event.count)
    assert.is_true(event.time >= before and event.time <= luio.now())
    assert.equal(0, regs:read32(R.IRQ_STATUS))
    assert.is_false(dev.config:command().intx_disable)
  end)

  it("writes constants, too, and masks what it copies", function()
    irq:setup { capture = { { "cause", R.IRQ_STATUS } }, ack = { { R.LIVENESS, 0x55 }, { R.IRQ_ACK, "cause", mask = 0x0f } } }
    assert(irq:start())
    regs:write32(R.IRQ_RAISE, 0x31)
    assert(irq:wait(10))
    assert.equal(0xffffffaa, regs:read32(R.LIVENESS))
    regs:write32(R.IRQ_ACK, 0x30) -- what the mask left standing kept firing: stop it
  end)

  it("times out by its deadline and says on what it waited", function()
    irq:setup(acknowledged())
    local before = luio.now()
    local event, message, code = irq:wait(0.05)
    local took = luio.now() - before
    assert.is_nil(event)
    assert.equal("no interrupt of sim:edu within 0.05 s", message)
    assert.equal("ETIMEDOUT", code)
    assert.is_true(took >= 0.045)
  end)

  it("polls without waiting", function()
    irq:setup(acknowledged())
    assert.is_nil(irq:poll())
    regs:write32(R.IRQ_RAISE, 1)
    local deadline = luio.now() + 1 * wait.HANG
    local event
    repeat event = irq:poll() until event or luio.now() > deadline
    assert.equal(1, event.cause)
    assert.is_nil(irq:poll())
  end)

  it("keeps events while nobody waits", function()
    irq:setup(acknowledged())
    assert(irq:start())
    for i = 1, 50 do
      regs:write32(R.IRQ_RAISE, i)
      while regs:read32(R.IRQ_STATUS) ~= 0 do end -- until the top half has taken it
    end
    for i = 1, 50 do assert.equal(i, assert(irq:wait(10)).cause) end
    assert.same({ interrupts = 50, delivered = 50, overflow = 0, events = 50, direct = 0 }, irq:stats())
  end)

  it("sees an interrupt that was pending before anyone listened", function()
    regs:write32(R.IRQ_RAISE, 4)
    irq:setup(acknowledged())
    assert.equal(4, assert(irq:wait(10)).cause)
  end)

  it("is taken by the loop's thread, if that sleeps", function()
    irq:setup(acknowledged())
    regs:write64(0x88, 0x40000) -- a transfer: to its buffer,
    regs:write64(0x90, 4) -- so many bytes,
    regs:write64(0x98, 0x5) -- run, and interrupt
    assert.equal(0x100, assert(irq:wait(20)).cause) -- it took 100 ms, we slept
    assert.same({ interrupts = 1, delivered = 1, overflow = 0, events = 1, direct = 1 }, irq:stats())
    assert.is_false(dev.config:command().intx_disable)
  end)

  it("may be closed while an interrupt is on its way", function()
    for i = 1, 200 do
      irq:setup(acknowledged())
      luio.run(function()
        local waiter = luio.spawn(function() return irq:wait(1) end)
        regs:write32(R.IRQ_RAISE, i)
        if i % 2 == 0 then luio.sleep(0) end
        assert(irq:close())
        assert.is_true(waiter:join(10))
      end)
      regs:write32(R.IRQ_ACK, 0xffffffff)
    end
  end)

  it("goes on after close and start", function()
    irq:setup(acknowledged())
    for i = 1, 3 do
      assert(irq:start())
      regs:write32(R.IRQ_RAISE, i)
      assert.equal(i, assert(irq:wait(10)).cause)
      assert(irq:close())
      assert(irq:close())
    end
  end)

  it("gives at most one event per unmask without an acknowledgement, as uio_pci_generic does", function()
    irq:setup { capture = { { "cause", R.IRQ_STATUS } }, capacity = 2 }
    assert(irq:start())
    regs:write32(R.IRQ_RAISE, 1)
    local deadline = luio.now() + 50
    repeat until irq:stats().overflow > 0 or luio.now() > deadline -- the level stays: it fires again and again
    for _ = 1, 3 do assert.equal(1, assert(irq:wait(50)).cause) end
    -- A machine that is busy may take so long for this that it is a storm by then, which is said first.
    local storm = dev.warnings[1]:match "^interrupt storm"
    assert.matches(storm and "were lost to a full ring in a storm" or "no `ack` in the top half, so a level%-triggered line fires for ever",
      dev.warnings[storm and 2 or 1])
    regs:write32(R.IRQ_ACK, 1)
  end)

  it("refuses a second waiter, a setup while it runs, and a vector there is not", function()
    assert(irq:start())
    assert.has_error(function() irq:setup {} end)
    local seen
    luio.run(function()
      luio.spawn(function() irq:wait(0.05) end)
      local ok, message = pcall(irq.wait, irq, 0.01)
      assert.is_false(ok)
      seen = message
    end)
    luio.run()
    assert.matches("two tasks wait for one interrupt", seen)
    local event, message, code = dev.irqs[1]:wait(0)
    assert.is_nil(event)
    assert.matches("has no vector 1", message)
    assert.equal("ENOENT", code)
  end)

  it("says what is wrong with a top half, before it runs", function()
    for _, case in ipairs {
      { { capture = { { 0x24, "cause" } } }, 'capture[1]: a capture is { "name", offset }' },
      { { capture = { { "cause" } } }, 'capture[1] "cause": the offset is nil, not a number (a misspelt register?)' },
      { { capture = { { "count", 0 } } }, "that name every event has already" },
      { { capture = { { "a", 0, witdh = 8 } } }, "unknown key witdh (did you mean width?)" },
      { { ack = { { 0x64, "cause" } } }, 'ack[1] names "cause", which is no capture' },
      { { ack = { { 0x64 } } }, "ack[1]: with what? A value, or the name of a capture, not nil" },
      { { ack = 0x64 }, "ack is a number, not a table" },
      { { acknowledge = {} }, "unknown key acknowledge" },
      { { capture = { { "a", 0 }, { "b", 0 }, { "c", 0 }, { "d", 0 }, { "e", 0 } } }, "at most 4 captures" },
    } do
      local ok, message = pcall(irq.setup, irq, case[1])
      assert.is_false(ok)
      assert.is_truthy(message:find(case[2], 1, true), message)
    end
    irq:setup { capture = { { "a", 0, region = 3 } } }
    local started, why, why_code = irq:start()
    assert.is_nil(started)
    assert.matches("has no region 3", why)
    assert.equal("ENOENT", why_code)
    for _, setup in ipairs { { capture = { { "a", 0x100000 } } }, { capacity = 3 }, { priority = 1000 } } do
      irq:setup(setup)
      local ok, _, code = irq:start()
      assert.is_nil(ok)
      assert.equal("EINVAL", code)
    end
    irq:setup {}
  end)

  it("is an error after close, and a wait that was under way ends", function()
    irq:setup(acknowledged())
    local code
    luio.run(function()
      local waiter = luio.spawn(function() code = select(3, irq:wait(1)) end)
      assert(irq:close())
      waiter:join(2)
    end)
    assert.equal("ECANCELED", code)
    assert(dev:close())
    assert.has_error(function() irq:wait(0) end)
  end)

  it("wants to know how long to wait", function()
    for _, bad in ipairs { "x", -1, math.huge, 0 / 0 } do
      assert.has_error(function() irq:wait(bad) end)
    end
    assert.has_error(function() irq:wait() end)
  end)
end)
