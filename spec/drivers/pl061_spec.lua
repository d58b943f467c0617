--- drivers/pl061 on whatever LUIO_PL061 names: a simulated GPIO by default; the one that QEMU's board `virt` has in the stage `qemu`. There
--- system_powerdown raises line 3 for 100 ms, as a power button would. The machine's clock stands still from `press` to `release`, so that
--- the pulse lasts as long as this process needs.

local luio = require "luio"
local wait = require "spec.support.wait"

local address = os.getenv "LUIO_PL061" or "sim:pl061"

local BUTTON = 3

describe("drivers/pl061 on " .. address, function()
  local dev, gpio, regs
  before_each(function()
    dev = assert(luio.start("pl061", address))
    gpio, regs = dev.driver, dev.regs
    for line = 0, 7 do gpio.input(dev, line) end
  end)
  after_each(function() assert(dev:close()) end)

  -- Line 3 goes high.
  local function press()
    if dev.qemu then
      assert(dev.qemu:command "stop")
      assert(dev.qemu:command "system_powerdown")
    else
      dev.regions[1]:write32(0, bit.lshift(1, BUTTON))
    end
  end

  local function release()
    if dev.qemu then assert(dev.qemu:command "cont") else dev.regions[1]:write32(0, 0) end
    wait.till(2, "the line is low", function() return not gpio.get(dev, BUTTON) end)
  end

  it("drives outputs, one at a time or several at once", function()
    gpio.output(dev, 0, true)
    gpio.output(dev, 5, false)
    assert.equal(0x21, regs.GPIODIR:read())
    assert.is_true(gpio.get(dev, 0))
    assert.is_false(gpio.get(dev, 5))
    gpio.set(dev, 5, true)
    assert.equal(0x21, bit.band(gpio.read(dev), 0x21))
    gpio.set(dev, 0, false)
    assert.equal(0x20, bit.band(gpio.read(dev), 0x21))
    gpio.write(dev, 0x01, 0xff) -- the other output is not meant
    assert.equal(0x21, bit.band(gpio.read(dev), 0x21))
    gpio.write(dev, 0x21, 0)
    assert.equal(0, bit.band(gpio.read(dev), 0x21))
    assert.equal(0, regs.LINE5:read())
  end)

  it("leaves inputs to those who drive them", function()
    gpio.input(dev, BUTTON)
    gpio.set(dev, BUTTON, true)
    gpio.write(dev, 0xff, 0xff)
    assert.is_false(gpio.get(dev, BUTTON))
    press()
    wait.till(2, "the line is high", function() return gpio.get(dev, BUTTON) end)
    release()
  end)

  it("wakes a task at a rising edge, and not at the falling one", function()
    assert(gpio.watch(dev, BUTTON, "rising"))
    local event
    luio.run(function()
      local waiter = luio.spawn(function() event = assert(gpio.wait(dev, 100)) end)
      luio.sleep(0.05)
      assert.is_nil(event)
      press()
      assert(waiter:join(100))
    end)
    assert.same({ BUTTON }, event.lines)
    assert.equal(8, event.GPIOMIS)
    assert.equal(8, bit.band(event.levels, 8))
    assert.equal(1, event.count)
    release()
    assert.equal("ETIMEDOUT", select(3, gpio.wait(dev, 0.05)))
    assert.equal(0, regs.GPIORIS:read())
    assert.equal(1, dev.irqs[0]:stats().interrupts)
  end)

  it("gives a stream of both edges, with the levels at each", function()
    assert(gpio.watch(dev, BUTTON, "both"))
    press()
    local levels = {}
    for event in gpio.events(dev, 100) do
      assert.same({ BUTTON }, event.lines)
      table.insert(levels, bit.band(event.levels, 8))
      if #levels == 1 then
        release()
      elseif #levels == 2 then
        break
      end
    end
    assert.same({ 8, 0 }, levels)
    assert(gpio.unwatch(dev, BUTTON))
    press()
    wait.till(2, "the line is high", function() return gpio.get(dev, BUTTON) end)
    release()
    assert.is_nil(dev.irqs[0]:poll())
  end)

  it("reports a level once, however long it lasts, and again when it is watched anew", function()
    local before = dev.irqs[0]:stats().interrupts
    assert(gpio.watch(dev, BUTTON, "low")) -- which it is
    for n = 1, 3 do
      local event = assert(gpio.wait(dev, 100))
      assert.same({ BUTTON }, event.lines)
      assert.equal(0, bit.band(event.levels, 8))
      assert.equal(before + n, dev.irqs[0]:stats().interrupts) -- no storm
      assert.is_nil((gpio.wait(dev, 0.02)))
      assert(gpio.watch(dev, BUTTON, n < 3 and "low" or "high")) -- which it is not
    end
    assert.is_nil((gpio.wait(dev, 0.02)))
    press()
    local event = assert(gpio.wait(dev, 100))
    assert.equal(8, bit.band(event.levels, 8))
    assert(gpio.unwatch(dev, BUTTON))
    release()
    -- Edges are taken in C again.
    assert(gpio.watch(dev, BUTTON, "falling"))
    press()
    wait.till(2, "the line is high", function() return gpio.get(dev, BUTTON) end)
    release()
    assert.same({ BUTTON }, assert(gpio.wait(dev, 100)).lines)
  end)

  it("says what it does not have", function()
    assert.has_error(function() gpio.get(dev, 8) end, "get: lines are 0 to 7, not 8")
    assert.has_error(function() gpio.watch(dev, 1, "sideways") end, "watch: rising, falling, both, low or high, not sideways")
    assert.has_error(function() gpio.write(dev, 256, 0) end)
  end)

  it("is quiet once it is closed", function()
    assert(gpio.watch(dev, BUTTON, "rising"))
    assert(dev:close())
    dev = assert(luio.open(address))
    assert.equal(0, dev.regions[0]:read32(0x410)) -- GPIOIE
  end)
end)
