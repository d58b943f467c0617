--- Devices that go away and come back: what luio.hotplug promises on every way to a device, shown by an edu and its driver. The
--- kernel's part is in spec/guest/gone_spec.lua.

local assert = require "luassert"
local busted = require "busted"
local luio = require "luio"
local hotplug = require "luio.hotplug"
local wait = require "spec.support.wait"

---@class luio.HotplugSubject
---@field name string     "a simulated device"
---@field address string
---@field region string   the name of its region 0, in messages
---@field why string      the reason in messages
---@field cycles integer  how often it goes and comes back
---@field start fun(): luio.Device  edu with its driver
---@field unplug fun(dev: luio.Device)  once it returns the device is gone; nothing, if it is gone already
---@field plug fun(dev: luio.Device)    puts it back; where it is there already, that is noticed again

---@param subject luio.HotplugSubject
return function(subject)
  local describe, it, before_each, after_each = busted.describe, busted.it, busted.before_each, busted.after_each
  local dev, reasons, gone, said
  local unplug, plug = subject.unplug, subject.plug
  local ADDRESS = subject.address:gsub("%p", "%%%0")

  before_each(function()
    reasons, gone, said = {}, 0, {}
    dev = subject.start()
    dev.on_warning = function(message) table.insert(said, message) end
    local original = dev.live.version.driver.start
    function dev.live.version.driver.start(d, reason)
      table.insert(reasons, reason)
      return original(d)
    end
    function dev.live.version.driver.gone() gone = gone + 1 end
    dev:watch_presence()
  end)

  after_each(function() assert(dev:close()) end)

  describe(subject.name .. " that goes away", function()
    it("ends the wait for its interrupt", function()
      luio.run(function()
        local event, message, code
        local waiter = luio.spawn(function() event, message, code = dev.irqs[0]:wait(10) end)
        luio.sleep(0.01)
        unplug(dev)
        assert(waiter:join(20))
        assert.is_nil(event)
        assert.equal("ENODEV", code)
        assert.matches("^device gone: interrupt 0 of " .. ADDRESS .. ": the device is gone, " .. subject.why .. "; dev:wait_return", message)
      end)
      assert.equal("ENODEV", select(3, dev.irqs[0]:wait(1)))
      assert.equal("ENODEV", select(3, dev.irqs[0]:poll()))
    end)

    it("ends the wait for a register; misuse of one is still the caller's line", function()
      local ok, why = pcall(function() dev.regs.STATUS:wait({ COMPUTNG = 1 }, 1) end)
      assert.is_false(ok)
      assert.matches("^%.?/?spec/hotplug/conformance.lua:%d+: STATUS has no field COMPUTNG", why)
      luio.run(function()
        local value, message, code
        local waiter = luio.spawn(function() value, message, code = dev.regs.STATUS:wait({ COMPUTING = 1 }, 10) end)
        luio.sleep(0.01)
        unplug(dev)
        assert(waiter:join(20))
        assert.is_nil(value)
        assert.equal("ENODEV", code)
        assert.matches("^device gone: wait for STATUS of " .. ADDRESS, message)
      end)
    end)

    it("makes each access an error that names device and region", function()
      local regs = dev.regions[0]
      unplug(dev)
      for _, access in ipairs { "read8", "read16", "read32", "read64" } do
        local ok, message = pcall(regs[access], regs, 0x20)
        assert.is_false(ok)
        assert.matches(("%s STATUS, %s of %s at 0x20: the device is gone: %s"):format(access, subject.region, ADDRESS, subject.why), message)
      end
      assert.has_error(function() regs:write32(4, 1) end)
      assert.has_error(function() regs:write64(0x80, 1) end)
      assert.has_error(function() dev.regs.ID:read() end)
      assert.same({ "ENODEV", "ENODEV", "ENODEV", "ENODEV" }, {
        select(3, dev:bus_master(true)), (select(3, dev:unmask())), (select(3, dev.config:read16(0))), (select(3, dev.config:write16(4, 4))),
      })
      assert.matches("gone$", tostring(dev))
      assert.matches("gone: " .. subject.why .. "$", tostring(regs))
    end)

    it("is told to its driver, once, and not asked to stop what is not there", function()
      local stopped = 0
      function dev.live.version.driver.stop() stopped = stopped + 1 end
      luio.run(function()
        unplug(dev)
        unplug(dev)
        wait.till(2, "gone", function() return gone > 0 end)
        luio.sleep(0.05)
      end)
      assert.equal(1, gone)
      assert.matches("^" .. ADDRESS .. " is gone: " .. subject.why .. "$", said[1])
      assert(dev:close())
      assert.equal(0, stopped)
    end)

    it("survives a driver whose gone throws, or does not end", function()
      function dev.live.version.driver.gone() error "no" end
      luio.run(function()
        unplug(dev)
        wait.till(2, "a warning", function() return (said[2] or ""):match "^gone of driver edu failed: .*no$" end)
        plug(dev)
        assert(dev:wait_return(20))
        local let_go
        function dev.live.version.driver.gone() wait.till(100, "the end of this spec", function() return let_go end) end
        hotplug.GONE = 0.05
        unplug(dev)
        wait.till(2, "a warning", function() return said[#said]:match "^gone of driver edu: timed out" end)
        plug(dev)
        assert(dev:wait_return(20))
        let_go = true
      end)
      hotplug.GONE = 3
    end)
  end)

  describe(subject.name .. " that comes back", function()
    it("is the same object: regions, registers, state, DMA memory; and its driver was started again", function()
      luio.run(function()
        local regs, id = dev.regions[0], dev.regs.ID
        local buffer = assert(dev.dma:alloc(64))
        buffer:write(0, "kept")
        dev.state.n = 7
        unplug(dev)
        plug(dev)
        assert(dev:wait_return(20))
        assert.is_nil(dev.gone)
        assert.same({ "returned" }, reasons)
        assert.equal(regs, dev.regions[0])
        assert.equal(0x010000ed, id:read())
        assert.equal(7, dev.state.n)
        assert.equal(120, (assert(dev.driver.factorial(dev, 5))))
        assert(dev.driver.to_device(dev, buffer, 4))
        buffer:write(0, "....")
        assert(dev.driver.from_device(dev, buffer, 4))
        assert.equal("kept", buffer:read(0, 4))
        assert.matches("^" .. ADDRESS .. " is there again after [%d.e-]+ s; driver edu was started again$", said[#said])
      end)
    end)

    it("works however often it goes, and whenever", function()
      luio.run(function()
        for i = 1, subject.cycles do
          dev.regs.IRQ_RAISE:write(0x40)
          if i % 2 == 0 then luio.sleep(0.002) end
          unplug(dev)
          if i % 3 == 0 then luio.sleep(0.002) end
          plug(dev)
          assert(dev:wait_return(5))
          assert.equal(24, (assert(dev.driver.factorial(dev, 4))))
        end
        assert.equal(subject.cycles, gone)
        assert.equal(subject.cycles, #reasons)
      end)
    end)

    it("stays gone when its driver does not start, and may try again", function()
      local works = false
      function dev.live.version.driver.start() return works or nil, "not ready", "EIO" end
      luio.run(function()
        unplug(dev)
        plug(dev)
        local expected = "driver edu did not start on " .. subject.address .. ": not ready; it counts as gone"
        wait.till(2, "a warning", function() return table.concat(said, "\n"):find(expected, 1, true) end)
        local ok, message, code = dev:wait_return(0.05)
        assert.is_nil(ok)
        assert.equal("ETIMEDOUT", code)
        assert.matches(ADDRESS .. " has not come back within 0.05 s", message)
        works = true
        plug(dev)
        assert(dev:wait_return(20))
        assert.equal(0x010000ed, dev.regs.ID:read())
      end)
    end)

    it("is told to everybody who waits for it", function()
      luio.run(function()
        local told, waiters = {}, {}
        unplug(dev)
        for i = 1, 5 do waiters[i] = luio.spawn(function() told[i] = dev:wait_return(20) end) end
        local impatient = luio.spawn(function() told.impatient = dev:wait_return(0) or "no" end)
        assert(impatient:join(10))
        plug(dev)
        for _, waiter in ipairs(waiters) do assert(waiter:join(3)) end
        assert.same({ true, true, true, true, true, impatient = "no" }, told)
      end)
    end)

    it("is not waited for after it was closed", function()
      luio.run(function()
        local ok, _, code
        unplug(dev)
        local waiter = luio.spawn(function() ok, _, code = dev:wait_return(10) end)
        luio.sleep(0.01)
        assert(dev:close())
        assert(waiter:join(10))
        assert.is_nil(ok)
        assert.equal("ECANCELED", code)
      end)
    end)

    it("keeps no program running that only waits for it", function()
      unplug(dev)
      local before = luio.now()
      luio.run() -- what lets it go ends by itself
      assert.is_true(luio.now() - before < 20)
      assert.equal(1, gone)
    end)
  end)
end
