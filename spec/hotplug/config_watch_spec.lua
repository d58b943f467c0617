--- Config space that another process changes under a running driver: noticed, set right, counted and reported, and no
--- interrupt lost. On a simulated device, whose config space is written without its driver. A real kernel
--- and QEMU's devices are in spec/guest/config_watch_spec.lua.

local amount = require "spec.support.amount"
local config_watch = require "luio.hotplug.config_watch"
local luio = require "luio"
local wait = require "spec.support.wait"

local TIMES = amount(10, 100)
local COMMAND, BAR0, INTERRUPT_LINE, PMCSR, MSI = 0x04, 0x10, 0x3c, 0x44, 0x52
local MEMORY, MASTER, INTX_DISABLE, INTX_STATUS = 0x2, 0x4, 0x400, 0x80000
local AGAIN, COUNTING, SLEEPS = config_watch.AGAIN, config_watch.COUNTING, config_watch.sleeps

describe("config space that another process changes", function()
  local dev, said, reasons

  before_each(function()
    said, reasons = {}, {}
    config_watch.sleeps = function() return { least = 0, most = 0 } end -- a machine that does not say
    dev = assert(luio.start("edu", "sim:edu"))
    dev.on_warning = function(message) table.insert(said, message) end
    local original = dev.live.version.driver.start
    function dev.live.version.driver.start(d, reason)
      table.insert(reasons, reason)
      return original(d)
    end
  end)
  after_each(function()
    config_watch.AGAIN, config_watch.COUNTING, config_watch.sleeps = AGAIN, COUNTING, SLEEPS
    assert(dev:close())
  end)

  local function command() return dev.sim.config(COMMAND, 16) end

  -- As `dd` does: two bytes, with no regard to what they were.
  local function foreign(set, clear)
    dev.sim.config(COMMAND, 16, bit.bor(bit.band(command(), bit.bnot(clear)), set))
  end

  local function works()
    local result, message = dev.driver.factorial(dev, 5)
    assert.equal(120, result, message)
  end

  -- A machine that counts its sleeps.
  local function counts(n)
    local s = { count = n, least = 0, most = 0 }
    config_watch.sleeps = function() return { count = s.count, least = s.least, most = s.most } end
    dev.sleeps = config_watch.sleeps()
    return s
  end

  local function lose_bus_master()
    foreign(0, MASTER)
    assert.same({ false, "bus_master" }, { dev:check_config() })
  end

  it("is a sleep of the machine, too, that the kernel counts only after processes go on", function()
    luio.run(function()
      local machine = counts(3)
      config_watch.COUNTING = 60
      for i = 1, TIMES do
        lose_bus_master()
        luio.sleep(i % 3 * 0.03)
        machine.count = machine.count + 1
        wait.till(10, "its cause", function() return said[i] end)
        assert.matches("was changed while the machine was asleep.*bus master was off", said[i])
      end
      -- One that is not counted, when nothing else says what it was.
      config_watch.COUNTING = 0.1
      dev.repairs.bus_master = 0 -- it is told the first time
      lose_bus_master()
      wait.till(10, "its cause", function() return said[TIMES + 1] end)
      assert.matches("was changed by another process", said[TIMES + 1])
      -- The next sleep is not this one's cause.
      dev.repairs.bus_master = 0
      lose_bus_master()
      assert(dev:close())
      assert.matches("was changed by another process", said[TIMES + 2])
      assert.equal(TIMES + 2, #said)
    end)
  end)

  -- Nothing of it needs setting right any more.
  local function quiet()
    local ok, message = dev:check_config()
    assert.is_true(ok, message)
  end

  it("is nothing while nobody does: no repair, no warning, however busy the interrupt is", function()
    luio.run(function()
      for _ = 1, 20 * TIMES do
        works()
        quiet()
      end
    end)
    for kind, count in pairs(dev.repairs) do assert.equal(0, count, kind) end
    assert.same({}, said)
  end)

  it("bus master: is on again", function()
    for i = 1, TIMES do
      foreign(0, MASTER)
      assert.same({ false, "bus_master" }, { dev:check_config() })
      assert.is_true(dev.config:command().bus_master)
      assert.equal(i, dev.repairs.bus_master)
    end
    assert.matches("^config space of sim:edu was changed by another process: .*bus master was off: transfers meanwhile did not reach memory", said[1])
  end)

  it("bus master that the driver switched off itself stays off, whichever way it did", function()
    assert(dev:bus_master(false))
    quiet()
    assert.equal(0, bit.band(command(), MASTER))
    assert(dev:bus_master(true))
    assert(dev.config:write16(COMMAND, MEMORY))
    quiet()
    assert.equal(0, bit.band(command(), MASTER))
    assert(dev.config:write16(COMMAND, MEMORY + MASTER)) -- nor is one that it switched on so less its own
    foreign(0, MASTER)
    assert.same({ false, "bus_master" }, { dev:check_config() })
    assert(dev:close())
    dev = assert(luio.open "sim:edu")
    foreign(MASTER, MEMORY) -- not its own when it is written back
    assert(dev.config:write16(COMMAND, command()))
    foreign(0, MASTER)
    assert.same({ false, "memory" }, { dev:check_config() })
    assert.equal(0, bit.band(command(), MASTER))
  end)

  it("interrupts: one that came while they were masked arrives, and each once", function()
    config_watch.AGAIN = 0.021
    luio.run(function()
      local irq = dev.irqs[0]
      assert(irq:start())
      local before = irq:stats().interrupts
      for i = 1, TIMES do
        foreign(INTX_DISABLE, 0)
        dev.regs.IRQ_RAISE:write(0x40)
        assert.is_truthy(bit.band(dev.sim.config(COMMAND, 32), INTX_STATUS) ~= 0) -- it waits at the device
        assert.is_nil(irq:poll())
        dev:check_config() -- the first look; the second comes by itself
        local event, message = irq:wait(5)
        assert.equal(0x40, event and event.IRQ_STATUS, message)
        assert.equal(i, dev.repairs.intx)
      end
      assert.equal(before + TIMES, irq:stats().interrupts)
      assert.is_nil(irq:poll())
      works()
    end)
    assert.matches("its interrupts were masked %(INTX_DISABLE%): one that waited comes now", said[1])
  end)

  it("interrupts: a mask is suspected, too, while the thread looks for an interrupt and finds none", function()
    local C = require("luio.ffi").C
    local out = require("ffi").new "unsigned[1]"
    config_watch.AGAIN = 60 -- not by itself
    local irq = dev.irqs[0]
    assert(irq:start())
    local looks = 0
    while looks < 2000 do
      foreign(INTX_DISABLE, 0)
      dev.regs.IRQ_RAISE:write(0x40)
      repeat -- until a look, 20 ms later, is sure and unmasks
        looks = looks + 1
        C.luio_irq_unshare(irq.source.handle) -- calls the thread
        local sure = C.luio_config_check(dev.handle, out, nil)
        assert.equal(sure == 1 and C.LUIO_WRONG_INTX or C.LUIO_WRONG_AGAIN, out[0])
      until sure == 1
      assert(irq:wait(wait.HANG))
    end
  end)

  it("interrupts are noticed by the look of every second, with nobody asking", function()
    dev:watch_presence()
    luio.run(function()
      local irq = dev.irqs[0]
      assert(irq:start())
      foreign(INTX_DISABLE, 0)
      dev.regs.IRQ_RAISE:write(0x40)
      assert.equal(0x40, (assert(irq:wait(10)).IRQ_STATUS))
      foreign(0, MASTER)
      wait.till(10, "bus master", function() return dev.repairs.bus_master == 1 end)
    end)
    assert.equal(1, dev.repairs.intx)
  end)

  it("interrupts: a mask is believed at the second look only, and not if one has come meanwhile", function()
    config_watch.AGAIN = 60 -- not by itself
    luio.run(function()
      local irq = dev.irqs[0]
      assert(irq:start())
      local quick
      repeat -- the kernel's handler takes microseconds from mask to count; a busy machine may take us longer
        local started = luio.now()
        foreign(INTX_DISABLE, 0)
        quiet()
        local ok = dev:check_config()
        quick = luio.now() - started < 0.015
        if quick then assert.is_true(ok) end
        foreign(0, INTX_DISABLE)
        quiet()
      until quick
      local repairs = dev.repairs.intx
      foreign(INTX_DISABLE, 0)
      quiet()
      foreign(0, INTX_DISABLE)
      dev.regs.IRQ_RAISE:write(1)
      assert(irq:wait(5))
      luio.sleep(0.025)
      foreign(INTX_DISABLE, 0)
      quiet() -- the first look at another mask
      assert.equal(repairs, dev.repairs.intx)
      luio.sleep(0.025)
      assert.same({ false, "intx" }, { dev:check_config() })
    end)
  end)

  it("interrupts: none is lost or made up, whenever the mask is set and looked at", function()
    config_watch.AGAIN = 0.021
    math.randomseed(1)
    luio.run(function()
      local irq = dev.irqs[0]
      assert(irq:start())
      local before, done = irq:stats().interrupts, false
      luio.spawn(function()
        while not done do
          foreign(INTX_DISABLE, 0)
          luio.sleep(math.random() * 0.03)
        end
      end)
      luio.spawn(function()
        while not done do
          dev:check_config()
          luio.sleep(math.random() * 0.005)
        end
      end)
      for i = 1, 10 * TIMES do
        local cause = 2 ^ (i % 30)
        dev.regs.IRQ_RAISE:write(cause)
        local event, message = irq:wait(5)
        assert.equal(cause, event and event.IRQ_STATUS, message)
        if i % 3 == 0 then luio.sleep(math.random() * 0.003) end
      end
      done = true
      assert.equal(before + 10 * TIMES, irq:stats().interrupts)
      assert.is_true(dev.repairs.intx > 0)
    end)
  end)

  it("interrupts that the driver masks itself stay masked: by hand, by unmask = false, by config space", function()
    assert(dev:mask())
    local function looks()
      luio.run(function()
        for _ = 1, 4 do
          quiet()
          luio.sleep(0.025)
        end
      end)
      assert.is_truthy(bit.band(command(), INTX_DISABLE) ~= 0)
    end
    looks()
    assert(dev:unmask())
    assert(dev.config:write16(COMMAND, MEMORY + INTX_DISABLE))
    looks()
    assert(dev.irqs[0]:close())
    dev.irqs[0]:setup { capture = { { "cause", 0x24 } }, unmask = false }
    assert(dev.irqs[0]:start())
    assert(dev:unmask())
    dev.regs.IRQ_RAISE:write(1)
    luio.run(function() assert(dev.irqs[0]:wait(5)) end)
    looks() -- taken, and not let through again
    assert.equal(0, dev.repairs.intx)
  end)

  it("memory decoding: reads give all ones until it is on again, and the device is as it was", function()
    dev.regs.LIVENESS:write(5)
    for i = 1, TIMES do
      foreign(0, MEMORY)
      assert.equal(0xffffffff, dev.regs.ID:read())
      assert.same({ false, "memory" }, { dev:check_config() })
      assert.equal(i, dev.repairs.memory)
      assert.equal(0xfffffffa, dev.regs.LIVENESS:read())
    end
    assert.matches("its memory BARs were switched off: what was read meanwhile is wrong, what was written lost", said[1])
    works()
  end)

  it("BARs are put back where the kernel had them", function()
    local before = dev.sim.config(BAR0, 32)
    for i = 1, TIMES do
      dev.sim.config(BAR0, 32, 0xfd000000)
      assert.equal(0xffffffff, dev.regs.ID:read())
      assert.same({ false, "bars" }, { dev:check_config() })
      assert.equal(before, dev.sim.config(BAR0, 32))
      assert.equal(i, dev.repairs.bars)
      assert.equal(0x010000ed, dev.regs.ID:read())
    end
    assert.is_true(dev.config:command().bus_master)
  end)

  it("MSI is switched off again, and an interrupt that waited comes by the line", function()
    luio.run(function()
      for i = 1, TIMES do
        dev.sim.config(MSI, 16, 1)
        dev.regs.IRQ_RAISE:write(0x40)
        assert.is_nil(dev.irqs[0]:poll())
        assert.same({ false, "msi" }, { dev:check_config() })
        assert.equal(0x40, (assert(dev.irqs[0]:wait(5)).IRQ_STATUS))
        assert.equal(i, dev.repairs.msi)
      end
    end)
    assert(dev.config:write16(MSI, 1)) -- a driver that wants it has it
    quiet()
    assert.equal(1, dev.sim.config(MSI, 16))
  end)

  it("power: it is woken, and its driver starts again, for the device has forgotten its registers", function()
    dev:watch_presence()
    dev.sim.config(INTERRUPT_LINE, 8, 11)
    luio.run(function()
      local buffer = assert(dev.dma:alloc(64))
      buffer:write(0, "kept")
      for i = 1, TIMES do
        local event, message, code
        local waiter = luio.spawn(function() event, message, code = dev.irqs[0]:wait(10) end)
        luio.sleep(0)
        dev.sim.config(PMCSR, 16, 3)
        assert.equal(0xffffffff, dev.regs.ID:read())
        assert.same({ false, "power" }, { dev:check_config() })
        assert.equal(0, bit.band(command(), MASTER)) -- until its driver has started again
        assert(dev:wait_return(5))
        assert(waiter:join(5))
        assert.same({ nil, "ENODEV" }, { event, code })
        assert.matches("^device gone: interrupt 0 of sim:edu: .*it slept", message)
        assert.equal(i, dev.repairs.power)
        assert.equal(i, #reasons)
        assert.equal("returned", reasons[i])
        assert.equal(0, dev.sim.config(PMCSR, 16))
        works()
        assert(dev.driver.to_device(dev, buffer, 4))
        quiet()
      end
    end)
    assert.equal(0, dev.repairs.bus_master) -- one thing has one name
    assert.matches("it was put into another power state than D0", said[1])
  end)

  it("a driver may let its device sleep", function()
    assert(dev.config:write16(PMCSR, 3))
    quiet()
    assert.equal(3, dev.sim.config(PMCSR, 16))
    assert(dev.config:write16(PMCSR, 0))
    assert(dev.config:write32(BAR0, dev.info.bars[0].addr))
    assert(dev.config:write16(COMMAND, MEMORY + MASTER))
    quiet()
    works()
  end)

  it("is told a few times only by somebody who does it again and again", function()
    for _ = 1, 100 do
      foreign(0, MASTER)
      assert.is_false((dev:check_config()))
    end
    assert.equal(100, dev.repairs.bus_master)
    assert.equal(7, #said) -- 1 2 4 8 16 32 64
    assert.matches("%(64 so far%)", said[7])
  end)

  it("all of it at once is all set right", function()
    dev:watch_presence()
    luio.run(function()
      dev.sim.config(MSI, 16, 1)
      dev.sim.config(BAR0, 32, 0)
      foreign(INTX_DISABLE, MEMORY + MASTER)
      dev.sim.config(PMCSR, 16, 3)
      assert.is_false((dev:check_config()))
      assert(dev:wait_return(5))
      works()
      quiet()
    end)
  end)
end)
