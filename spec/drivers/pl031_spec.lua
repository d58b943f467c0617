--- drivers/pl031 on whatever LUIO_PL031 names: a simulated clock by default; the one that QEMU's board `virt` has in the stage `qemu`.

local luio = require "luio"
local wait = require "spec.support.wait"

local address = os.getenv "LUIO_PL031" or "sim:pl031"

describe("drivers/pl031 on " .. address, function()
  local dev, rtc, regs
  before_each(function()
    dev = assert(luio.start("pl031", address))
    rtc, regs = dev.driver, dev.regs
  end)
  after_each(function() assert(dev:close()) end)

  it("counts seconds from what it was set to, and goes on where 32 bits end", function()
    local from = luio.now()
    rtc.set_time(dev, 1000000000)
    local time = rtc.time(dev) - 1000000000
    assert.is_true(time >= 0 and time <= luio.now() - from + 1, time)
    from = luio.now()
    rtc.set_time(dev, 2 ^ 32 - 1)
    luio.sleep(1.1)
    local passed = (rtc.time(dev) + 1) % 2 ^ 32
    assert.is_true(passed >= 1 and passed <= luio.now() - from + 1, passed)
    rtc.set_time(dev, 1000000000)
  end)

  it("wakes a task at the time of its alarm, by interrupt, while others run", function()
    local event, ticks, said = nil, 0, nil
    local before = dev.irqs[0]:stats().interrupts
    luio.run(function()
      local ticker = luio.spawn(function()
        while true do
          luio.sleep(0.01)
          ticks = ticks + 1
        end
      end)
      local at, began = rtc.time(dev) + 2, luio.now() -- one second at least
      event = assert(rtc.alarm(dev, at))
      said = { rtc.time(dev) - at, luio.now() - began - 1 }
      ticker:cancel()
    end)
    assert.equal(1, event.RTCMIS)
    assert.equal(1, event.count)
    assert.equal(before + 1, dev.irqs[0]:stats().interrupts)
    assert.is_true(said[1] >= 0 and said[1] <= said[2] + 1, said[1])
    assert.is_true(ticks > 0)
    assert.equal(0, regs.RTCRIS:read()) -- acknowledged,
    assert.equal(0, regs.RTCIMSC:read()) -- and masked
  end)

  it("interrupts no more once its alarm was given up", function()
    local at = rtc.time(dev) + 3
    luio.run(function()
      local sleeper = luio.spawn(function() rtc.alarm(dev, at) end)
      luio.sleep(0.01)
      local none, message, code = rtc.alarm(dev, at + 10)
      assert.is_nil(none)
      assert.equal("EBUSY", code)
      assert.matches("has one, at " .. at, message)
      sleeper:cancel()
      luio.sleep(0)
    end)
    assert.equal(0, regs.RTCIMSC:read())
    wait.till(6, "the alarm nobody waits for", function() return regs.RTCRIS:read() == 1 end)
    assert.is_nil(dev.irqs[0]:poll())
    local next_second = rtc.time(dev) + 2
    assert.equal(1, assert(rtc.alarm(dev, next_second)).RTCMIS) -- of the next, not of the one before
    assert.is_true(rtc.time(dev) >= next_second)
  end)

  it("refuses what is past, and says what time it is", function()
    rtc.set_time(dev, 5000)
    local none, message, code = rtc.alarm(dev, 4000)
    assert.is_nil(none)
    assert.equal("ERANGE", code)
    assert.matches("alarm at 4000: the clock of .* says 500%d already", message)
    assert.has_error(function() rtc.alarm(dev, -1) end)
    assert.has_error(function() rtc.set_time(dev, 2 ^ 32) end)
    assert.has_error(function() rtc.set_time(dev, 1.5) end)
  end)

  it("gives up by a deadline", function()
    local none, message, code = rtc.alarm(dev, rtc.time(dev) + 1000, 0.1)
    assert.is_nil(none)
    assert.equal("ETIMEDOUT", code)
    assert.matches("no interrupt of .* within 0.1 s", message)
  end)

  it("is refused by other silicon", function()
    local driver = assert(luio.load "pl031")
    local start = driver.start
    driver.start = function(d)
      local id = d.regs.RTCPeriphID0
      d.regs = setmetatable({
        RTCPeriphID0 = { read = function() return 0x61 end, decode = function(_, v) return id:decode(v) end },
      }, { __index = d.regs })
      return start(d)
    end
    driver.stop = nil
    assert(dev:close())
    local d, message, code = require("luio.driver").start(driver, assert(luio.open(address)))
    assert.is_nil(d)
    assert.matches("part 0x061 of designer 0x41, not 0x031 of 0x41", message)
    assert.equal("ENODEV", code)
    dev = assert(luio.start("pl031", address))
  end)
end)
