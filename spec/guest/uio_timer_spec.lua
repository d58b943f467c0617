--- The kernel module uio_timer in a real kernel: behaviour that needs one. The driver's own spec, spec/drivers/uio_timer_spec.lua,
--- runs here, too (LUIO_TIMER).

local ffi = require "ffi"
local files = require "spec.support.files"
local luio = require "luio"
local match = require "luio.driver.match"
local module = require "spec.support.timer_module"
local sysfs = require "spec.support.sysfs"
local wait = require "spec.support.wait"

local FAST = 100000 -- per second: no emulated machine keeps up, with one wake-up for each
local DRIVER = "bus/platform/drivers/uio_timer/"

-- Of a page of this process: its number, as /proc/self/pagemap has it.
local function frame(region, offset)
  local address = tonumber(ffi.cast("uintptr_t", region.base + offset))
  local f = assert(io.open("/proc/self/pagemap", "rb"))
  f:setvbuf "no"
  f:seek("set", math.floor(address / 4096) * 8)
  local number = 0
  for i, byte in ipairs { f:read(8):byte(1, 8) } do
    if i < 7 then number = number + byte * 256 ^ (i - 1) end
  end
  f:close()
  return number
end

local function events(uio)
  return tonumber(sysfs.read("class/uio/" .. uio .. "/event"))
end

describe("the kernel module uio_timer", function()
  local info
  setup(function() info = module.load "records=65536" end)
  teardown(function() if module.loaded() then module.unload() end end)

  it("is found by its UIO name, with the driver for it", function()
    assert.equal("platform", info.bus)
    assert.equal("uio_timer", info.driver)
    assert.equal("1", info.uio_version)
    assert.is_nil(info.problem)
    assert.same({ "registers", "control", "ring" }, { info.maps[0].name, info.maps[1].name, info.maps[2].name })
    assert.same({ 4096, 4096, 65536 * 32 }, { info.maps[0].size, info.maps[1].size, info.maps[2].size })
    assert.equal("uio_timer", (match.driver_of(info)))
    assert.equal(info.address, assert(match.devices(assert(luio.load "uio_timer")))[1].address)
  end)

  it("refuses parameters that make no sense", function()
    module.unload()
    for _, parameters in ipairs { "records=1000", "records=64", "min_period_ns=10" } do
      assert.is_false((pcall(module.load, parameters)), parameters)
    end
    assert.is_nil(module.find())
    info = module.load "records=65536"
  end)

  describe("opened", function()
    local dev
    before_each(function() dev = assert(luio.open(info.uio)) end)
    after_each(function() assert(dev:close()) end)

    it("gives a map of each memory type, whose memory is the kernel's", function()
      local registers, control, ring = dev.regions[0], dev.regions[1], dev.regions[2]
      -- By physical address: mapped as a device is, the kernel names no page for it.
      assert.equal(0x726d6974, registers:read32(0))
      assert.equal(0, frame(registers, 0))
      -- Logical and virtual: pages of the kernel's, the latter one by one.
      control:read32(0)
      assert.is_true(frame(control, 0) > 0)
      local first, contiguous = nil, true
      for page = 0, 511 do
        assert.equal(0, ring:read32(page * 4096)) -- also maps it
        local number = frame(ring, page * 4096)
        first = first or number
        contiguous = contiguous and number == first + page
      end
      assert.is_false(contiguous)
      -- And what the handler writes arrives in all of them.
      registers:write32(0x08, 1) -- PERIOD_NS: shorter than it allows
      assert(dev:unmask())
      wait.till(5, "records", function() return control:read32(0) > 100 end)
      assert(dev:mask())
      assert.equal(0, registers:read32(0x1c))
      for n = 0, 99 do
        assert.equal(n, tonumber(ring:read64(n * 32)))
        local due = n > 0 and tonumber(ring:read64(n * 32 + 16) - ring:read64((n - 1) * 32 + 16)) or 10000
        assert.is_true(due >= 10000 and due % 10000 == 0, due)
      end
      assert.has_error(function() ring:read32(65536 * 32) end)
    end)

    it("is started and stopped by irqcontrol, and by nothing else", function()
      local registers, control = dev.regions[0], dev.regions[1]
      local function stands()
        local head = control:read32(0)
        luio.sleep(0.05)
        return head == control:read32(0) and registers:read32(0x1c) == 0
      end
      assert.is_true(stands()) -- opening starts nothing, though PERIOD_NS is 1 ms
      assert.equal(1000000, registers:read32(0x08))
      assert(dev:unmask())
      assert.equal(1, registers:read32(0x1c))
      local head = control:read32(0)
      wait.till(5, "interrupts", function() return control:read32(0) ~= head end)
      assert(dev:unmask()) -- again changes nothing
      assert(dev:mask())
      assert.is_true(stands())
      registers:write32(0x08, 0)
      assert(dev:unmask())
      assert.is_true(stands())
      local out, status = files.shell(("printf '\\002\\000\\000\\000' | dd of=/dev/%s bs=4 conv=notrunc"):format(info.uio))
      assert.is_true(status ~= 0 and out:match "Invalid argument" ~= nil, out)
      assert.equal(0, registers:read32(0x08)) -- closing that descriptor was not the last close
    end)

    it("wakes for each interrupt as long as nobody asks for less", function()
      local before, irq = events(info.uio), dev.irqs[0]
      irq:setup { unmask = false }
      assert(irq:start())
      assert(dev:unmask())
      local count = 0
      while count < 50 do count = count + assert(irq:wait(50)).count end
      assert(dev:mask())
      assert.equal(dev.regions[1]:read32(0x0c) % 2 ^ 32, events(info.uio) % 2 ^ 32)
      assert.is_true(events(info.uio) - before >= 50)
    end)
  end)

  describe("with drivers/uio_timer", function()
    local dev, timer, batch
    before_each(function()
      dev = assert(luio.start "uio_timer")
      timer, batch = dev.driver, dev.driver.batch(4096)
    end)
    after_each(function() assert(dev:close()) end)

    it("loses no record at a rate where one wake-up for each is too slow", function()
      local regs = dev.regs
      -- First one wake-up for each: those that came two at a time are lost to a reader that needs each.
      local irq, seen, together, deadline = dev.irqs[0], 0, 0, luio.now() + 60 * wait.HANG
      regs.NOTIFY:write { WHEN = "EVERY" }
      assert(timer.run(dev, FAST))
      while seen < 2000 or together == 0 and luio.now() < deadline do
        local event = assert(irq:wait(50))
        seen, together = seen + event.count, together + event.count - 1
        regs.TAIL:write(regs.HEAD:read())
      end
      assert(timer.halt(dev))
      assert.is_true(together > 0, "one wake-up for each was fast enough")
      -- Then by the ring, at the same rate.
      regs.NOTIFY:write { WHEN = "ASKED" }
      assert(timer.start(dev, "fresh"))
      assert(timer.run(dev, FAST))
      local before, n, wrong, last = timer.stats(dev), 0, 0, nil
      while n < 10000 do
        local got = assert(timer.receive(dev, batch, 50, 64))
        for k = 0, got - 1 do
          local number = batch.at[k].number
          if last and number ~= last + 1 then wrong = wrong + 1 end
          last = number
        end
        n = n + got
      end
      local after = timer.stats(dev)
      assert.same({ 0, 0, 0 }, { wrong, after.lost, after.dropped - before.dropped })
      assert.is_true(after.notified - before.notified <= n / 64, after.notified - before.notified .. " wake-ups")
    end)

    it("loses no wake-up", function()
      assert(timer.run(dev, 5000))
      for i = 1, 1000 do
        local before = luio.now()
        assert(timer.receive(dev, batch, 60))
        -- WAKE_AT is met once: a reader that misses it sleeps until its deadline.
        assert.is_true(luio.now() - before < 60, i)
      end
      assert.equal(0, timer.stats(dev).lost)
    end)

    it("is not removed while it is open; unbound it is gone, and bound again it goes on", function()
      assert(timer.run(dev, 1000))
      assert(timer.receive(dev, batch, 50))
      local removed, said = module.remove()
      assert.is_false(removed)
      assert.matches("temporarily unavailable", said)
      local n, message, code
      luio.run(function()
        local waiter = luio.spawn(function()
          repeat n, message, code = timer.receive(dev, batch, 50, 512) until not n
        end)
        luio.sleep(0.1)
        sysfs.write(DRIVER .. "unbind", "uio_timer")
        assert(waiter:join(50))
      end)
      assert.is_nil(n)
      assert.equal("ENODEV", code)
      assert.matches("device gone", message)
      assert.equal("ENODEV", select(3, timer.receive(dev, batch, 1)))
      assert.is_false(pcall(function() return dev.regions[2]:read32(0x1ff000) end)) -- a page that was never touched
      assert.is_false((module.remove())) -- still mapped
      luio.run(function()
        sysfs.write(DRIVER .. "bind", "uio_timer")
        assert(dev:wait_return(100))
        assert(timer.receive(dev, batch, 50)) -- at the rate it had
      end)
      assert.equal(0, timer.stats(dev).lost)
    end)
  end)

  it("stops when the process that ran it is killed", function()
    local script = files.write("hold.lua", [[
      local luio = require "luio"
      local dev = assert(luio.start "uio_timer")
      assert(dev.driver.run(dev, 1000))
      dev.regs.NOTIFY:write { WHEN = "EVERY" }
      print "runs"
      io.flush()
      luio.run(function() luio.sleep(600) end)
    ]])
    local pipe = assert(io.popen(("echo $$; LUA_PATH='./lua/?.lua;./lua/?/init.lua;;' exec luajit %s"):format(script)))
    local pid = pipe:read "*l"
    assert.equal("runs", pipe:read "*l")
    local before = events(info.uio)
    wait.till(5, "interrupts", function() return events(info.uio) > before end)
    assert(os.execute("kill -9 " .. pid) == 0)
    pipe:close()
    local last
    wait.till(5, "silence", function()
      local now = events(info.uio)
      local still = now == last
      last = now
      luio.sleep(0.05)
      return still
    end)
    local dev = assert(luio.open(info.uio))
    assert.equal(1000000, dev.regions[0]:read32(0x08)) -- as after loading
    assert.equal(0, dev.regions[0]:read32(0x10))
    assert(dev:close())
  end)

  it("is removed when nobody has it, and the kernel has found no fault", function()
    module.unload()
    assert.is_nil(module.find())
    local log = files.shell "dmesg"
    for _, word in ipairs { "BUG", "WARNING", "Oops", "map pfn" } do assert.is_nil(log:match("[^\n]*" .. word .. "[^\n]*")) end
  end)
end)
