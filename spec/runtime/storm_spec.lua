--- Interrupt storms: an acknowledgement that does not take the line back is named, held up, and over when the line is.

local json = require "dkjson"
local luio = require "luio"
local program = require "spec.support.program"
local wait = require "spec.support.wait"

local EDU = { IRQ_STATUS = 0x24, IRQ_RAISE = 0x60, IRQ_ACK = 0x64 }
local LONG = 60 -- seconds, for a machine that is busy with other things

-- The top half of a driver that means to acknowledge edu's bit 0, and acknowledges bit 1.
local function wrong(more)
  local setup = { capture = { { "IRQ_STATUS", EDU.IRQ_STATUS } }, ack = { { EDU.IRQ_ACK, 2, name = "IRQ_ACK" } } }
  for key, value in pairs(more or {}) do setup[key] = value end
  return setup
end

describe("an interrupt storm", function()
  local dev, regs, irq
  before_each(function()
    dev = assert(luio.open "sim:edu")
    regs, irq = dev.regions[0], dev.irqs[0]
  end)
  after_each(function() assert(dev:close()) end)

  local function rages()
    local storm = irq:storm()
    return storm and not storm.ended and storm
  end

  local function begin(setup)
    irq:setup(setup)
    assert(irq:start())
    regs:write32(EDU.IRQ_RAISE, 1)
    return assert(wait.poll(LONG, rages))
  end

  local NAMED = "^interrupt storm of sim:edu: %d+ interrupts/s, each with IRQ_STATUS=1: "

  it("is named, by device, capture and acknowledgement, while nobody waits for interrupts", function()
    irq:setup(wrong())
    assert(irq:start())
    regs:write32(EDU.IRQ_RAISE, 1)
    wait.till(LONG, "a warning", function() return dev.warnings[1] end)
    assert.matches(NAMED .. "its acknowledgement %(writes IRQ_ACK := 0x00000002%) does not take the line back%. "
      .. "One is let through every 5 ms until it does$", dev.warnings[1])
  end)

  it("is named to a loop that takes them without a pause, so that libuv's does not turn", function()
    irq:setup(wrong())
    regs:write32(EDU.IRQ_RAISE, 1)
    local named
    local deadline = luio.now() + LONG
    while not named and luio.now() < deadline do
      irq:poll()
      for _, text in ipairs(dev.warnings) do named = named or text:match "^interrupt storm" end
    end
    assert.is_truthy(named)
  end)

  it("says that nothing acknowledges, where nothing does", function()
    begin { capture = { { "IRQ_STATUS", EDU.IRQ_STATUS } } }
    assert.matches(NAMED .. "nothing acknowledges it, so its line is never taken back: `ack` in the driver's irq says what does%. ",
      dev.warnings[1])
  end)

  it("is held up, and loses nothing: all that come are delivered, with what is new in them", function()
    local storm = begin(wrong { capacity = 65536 })
    assert.same({ 5e-3, { IRQ_STATUS = 1 } }, { storm.pause, storm.captured })
    while irq:poll() do end
    local last
    for _ = 1, 20 do
      local event = assert(irq:wait(LONG))
      assert.same({ 1, 0 }, { event.count, event.overflow })
      if last then assert.is_true(event.time - last >= storm.pause, ("after %g s"):format(event.time - last)) end
      last = event.time
    end
    regs:write32(EDU.IRQ_RAISE, 0x100)
    local seen = wait.poll(LONG, function()
      local event = irq:poll()
      return event and event.IRQ_STATUS == 0x101
    end)
    assert.is_true(seen)
    regs:write32(EDU.IRQ_ACK, 0x101)
    wait.till(LONG, "its end", function() return irq:storm().ended end)
    local stats = irq:stats()
    assert.equal(stats.interrupts, stats.delivered + stats.overflow)
    assert.equal(0, stats.overflow)
  end)

  it("is over when the line is taken back, and the next interrupt is not held up", function()
    begin(wrong())
    regs:write32(EDU.IRQ_ACK, 1)
    wait.till(LONG, "its end", function() return irq:storm().ended end)
    wait.till(LONG, "a warning", function() return dev.warnings[2] end)
    assert.matches("^the interrupt storm of sim:edu is over, after [%d.e+]+ s and %d+ interrupts$", dev.warnings[#dev.warnings])
    while irq:poll() do end
    assert.is_false(dev.config:command().intx_disable)
    regs:write32(EDU.IRQ_RAISE, 2) -- which is acknowledged right
    assert.equal(2, assert(irq:wait(LONG)).IRQ_STATUS)
    assert.is_nil(irq:wait(0.02))
    assert.is_false(dev.config:command().intx_disable)
    assert.equal(1, irq:storm().number)
  end)

  it("ends with a top half that acknowledges right, and is told again if the next does not", function()
    begin(wrong())
    assert(irq:exchange { capture = { { "IRQ_STATUS", EDU.IRQ_STATUS } }, ack = { { EDU.IRQ_ACK, "IRQ_STATUS" } } })
    wait.till(LONG, "the line taken back", function() return regs:read32(EDU.IRQ_STATUS) == 0 end)
    assert.is_truthy(irq:storm().ended)
    for n = 2, 4 do
      assert(irq:exchange(wrong { ack = { { EDU.IRQ_ACK, 0x100 * n } } }))
      regs:write32(EDU.IRQ_RAISE, 1)
      wait.till(LONG, "storm " .. n, function() return irq:storm().number == n end)
      assert.matches(("writes 0x64 := 0x00000%x00"):format(n), dev.warnings[#dev.warnings])
    end
  end)

  it("loses no interrupt to a top half that comes in a pause and leaves the mask to its user", function()
    begin(wrong { capacity = 65536 })
    wait.till(LONG, "a pause", function() return dev.config:command().intx_disable end)
    assert(irq:exchange { capture = { { "again", EDU.IRQ_STATUS } }, unmask = false })
    wait.till(LONG, "one for the new one, for the line is still held", function()
      for event in function() return irq:poll() end do
        if event.again then return true end
      end
    end)
    regs:write32(EDU.IRQ_ACK, 1)
    assert(irq:unmask())
  end)

  it("is named and not held up with paced = false", function()
    local storm = begin(wrong { paced = false })
    assert.is_nil(storm.pause)
    assert.matches("does not take the line back$", dev.warnings[1])
    local n = irq:stats().interrupts
    wait.till(LONG, "more of them", function() return irq:stats().interrupts > n + 100 end)
  end)

  it("is no device that is fast: neither one that goes on by itself, nor one that says the same each time", function()
    irq:setup { capture = { { "IRQ_STATUS", EDU.IRQ_STATUS } }, ack = { { EDU.IRQ_ACK, "IRQ_STATUS" } } }
    local began, n = luio.now(), 0
    while n < 500 or luio.now() < began + 0.6 do
      regs:write32(EDU.IRQ_RAISE, 1)
      assert(irq:wait(LONG))
      n = n + 1
    end
    assert.is_nil(irq:storm())
    local fast = assert(luio.start("spec/support/drivers/storm", "sim:spec/support/drivers/storm"))
    fast.regs.RUN:write(1)
    wait.till(LONG, "many interrupts", function() return fast.irqs[0]:stats().interrupts > 2000 end)
    fast.regs.RUN:write(0)
    assert.is_nil(fast.irqs[0]:storm())
    assert(fast:close())
  end)

  it("of a driver that unmasks by itself is the driver's business", function()
    irq:setup { capture = { { "IRQ_STATUS", EDU.IRQ_STATUS } }, unmask = false }
    assert(irq:start())
    regs:write32(EDU.IRQ_RAISE, 1)
    local began, n = luio.now(), 0
    while n < 100 or luio.now() < began + 0.4 do
      assert(irq:unmask())
      assert(irq:wait(LONG))
      n = n + 1
    end
    assert.is_nil(irq:storm())
  end)
end)

describe("a storm of a driver at work", function()
  local DRIVER, DEVICE = "spec/support/drivers/stuck", "sim:spec/support/drivers/stuck"
  local NAMED = "interrupt storm of sim:%S+: %d+ interrupts/s, each with IRQ_STATUS=1: its acknowledgement "
    .. "%(writes IRQ_ACK := IRQ_STATUS & 0xfffffffe%) does not take the line back"

  it("is named by luio run, which still hears that it is to end", function()
    local running = program.start { "run", DRIVER, DEVICE }
    finally(function() running:close() end)
    running:wait("luio: " .. NAMED, LONG)
    running:kill "sigterm"
    assert.equal(0, running:status(LONG))
  end)

  it("is named by luio irq, and at the prompt #plain", function()
    local running = program.start { "irq", DEVICE, "--trigger", "IRQ_RAISE=1", "--count", "1000000000", "--json" }
    finally(function() running:close() end)
    running:wait("luio: " .. NAMED, LONG)
    running:kill "sigint"
    running:status(LONG)
    local doc = json.decode(running:text():match "\n({.*})")
    assert.same({ number = 1, pause = 5e-3, captured = { IRQ_STATUS = "0x00000001" } },
      { number = doc.storm.number, pause = doc.storm.pause, captured = doc.storm.captured })
    local out = program.run(([[explore %s -e 'irqs(); IRQ_RAISE:write(1)
      for _ = 1, 600 do if not table.concat(dev.warnings):find "storm" then luio.sleep(0.1) end end']]):format(DEVICE))
    assert.matches("warning: " .. NAMED, out)
  end)
end)
