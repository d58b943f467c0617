--- Devices that go away and come back, behind the kernel's UIO: hot-unplug by QMP, unbind, removal by
--- sysfs, and another process that switches bus master off. Runs in a guest with an edu below a root
--- port (spec/guest/specs); each case ends with the driver at work again.

local amount = require "spec.support.amount"
local luio = require "luio"
local qmp = require "spec.support.qmp"
local sysfs = require "spec.support.sysfs"
local wait = require "spec.support.wait"

local EDU = "0000:01:00.0" -- below the root port
local FIXED = "0000:00:04.0" -- another edu, on the root bus
local NVME = "0000:00:09.0" -- its 64-bit BAR is mapped by sysfs, which takes mappings back

-- ---- The operator --------------------------------------------------------------------------------

local function there(address) return sysfs.exists("bus/pci/devices/" .. address) end
local function remove(address) sysfs.write(("bus/pci/devices/%s/remove"):format(address), "1") end
local function rescan() sysfs.write("bus/pci/rescan", "1") end

local tell_qemu = qmp.tell
teardown(qmp.close)

local function unplug()
  tell_qemu '{"execute":"device_del","arguments":{"id":"edu2"}}'
end

local function plug()
  -- Refused while the slot is not yet empty, which the kernel's sysfs knows earlier than QEMU.
  for _ = 1, 100 do
    tell_qemu '{"execute":"device_add","arguments":{"driver":"edu","id":"edu2","bus":"rp"}}'
    if wait.poll(2, function() return there(EDU) end) then break end
  end
  assert(there(EDU), "edu was not plugged in within 200 s")
  -- It is there before the kernel lets drivers have it.
  assert(wait.poll(100, function()
    sysfs.bind(EDU)
    return sysfs.driver(EDU)
  end))
end

-- ---- The driver ----------------------------------------------------------------------------------

local dev, reasons, gone, said

-- edu's driver, which records its calls and their arguments.
local function start(address)
  reasons, gone, said = {}, 0, {}
  dev = assert(luio.start("edu", address or EDU))
  local driver = dev.live.version.driver
  local original = driver.start
  function driver.start(d, reason)
    table.insert(reasons, reason)
    return original(d)
  end
  function driver.gone(d)
    assert(d.gone)
    gone = gone + 1
  end
  dev.on_warning = function(message) table.insert(said, message) end
end

-- The driver at work: registers, an interrupt, DMA there and back.
local function works()
  assert.equal(0xed, (dev.regs.ID:get "MAGIC"))
  assert.equal(120, (assert(dev.driver.factorial(dev, 5))))
  local buffer = assert(dev.dma:alloc(64))
  buffer:write(0, "there and back")
  assert(dev.driver.to_device(dev, buffer, 14))
  buffer:write(0, ("."):rep(14))
  assert(dev.driver.from_device(dev, buffer, 14))
  assert.equal("there and back", buffer:read(0, 14))
  buffer:free()
end

local function returns(seconds)
  local ok, message = dev:wait_return(seconds * wait.HANG)
  assert(ok, tostring(message) .. "; warnings: " .. table.concat(said, " | "))
end

describe("a device that goes away", function()
  before_each(function()
    if not there(EDU) then plug() end
    if not sysfs.driver(EDU) then sysfs.bind(EDU) end
    start()
  end)
  after_each(function()
    if dev then assert(dev:close()) end
    dev = nil
  end)

  it("ends a wait for an interrupt, is an error to touch, and works again when it is plugged in", function()
    local regs, old_reg = dev.regions[0], dev.regs.ID
    luio.run(function()
      local event, message, code
      local waiter = luio.spawn(function() event, message, code = dev.irqs[0]:wait(300) end)
      luio.sleep(0.05)
      unplug()
      assert(waiter:join(200))
      assert.is_nil(event)
      assert.equal("ENODEV", code)
      assert.matches("^device gone: interrupt 0 of 0000:01:00.0", message)
      assert.is_true(dev.gone)
      local ok, why = pcall(regs.read32, regs, 0x20)
      assert.is_false(ok)
      assert.matches("read32 STATUS, BAR0 by uio%d+ map0 of 0000:01:00.0 at 0x20: the device is gone", why)
      assert.has_error(function() old_reg:read() end)
      assert.has_error(function() regs:write32(4, 1) end)
      assert.equal("ENODEV", select(3, dev.irqs[0]:wait(0.1)))
      assert.equal("ENODEV", select(3, dev.config:read16(0)))
      assert.equal("ENODEV", select(3, dev:bus_master(true)))
      wait.till(20, "edu removed", function() return not there(EDU) end)
      wait.till(5, "the driver's gone", function() return gone == 1 end)
      plug()
      returns(10)
      works()
      assert.same({ "returned" }, reasons)
      assert.equal(regs, dev.regions[0]) -- the same objects, at work again
      assert.equal(0x010000ed, old_reg:read())
    end)
  end)

  it("ends a wait for a register", function()
    luio.run(function()
      local value, message, code
      local waiter = luio.spawn(function() value, message, code = dev.regs.STATUS:wait({ COMPUTING = 1 }, 300) end)
      luio.sleep(0.05)
      unplug()
      assert(waiter:join(200))
      assert.is_nil(value)
      assert.equal("ENODEV", code)
      assert.matches("^device gone: wait for STATUS of 0000:01:00.0", message)
      wait.till(20, "edu removed", function() return not there(EDU) end)
      plug()
      returns(10)
      works()
    end)
  end)

  it("ends a wait for a register when its UIO driver is unbound, though the mapping still reaches it", function()
    luio.run(function()
      sysfs.unbind(EDU)
      local value, _, code = dev.regs.STATUS:wait({ COMPUTING = 1 }, 60)
      assert.is_nil(value)
      assert.equal("ENODEV", code)
      sysfs.bind(EDU)
      returns(10)
      works()
    end)
  end)

  -- The message and code of a transfer that the device was taken away from. One takes 100 ms, which a busy machine may be too
  -- late for: then the device is brought back, and another begins.
  local function in_a_transfer(buffer, take, give_back)
    for _ = 1, 20 do
      local event, message, code
      local transfer = luio.spawn(function() event, message, code = dev.driver.from_device(dev, buffer, 4095) end)
      luio.sleep(0.02)
      take()
      assert(transfer:join(200))
      if not event then return message, code end
      give_back()
      returns(10)
    end
    error "the device never went during a transfer"
  end

  it("may go while its DMA runs", function()
    luio.run(function()
      local buffer = assert(dev.dma:alloc(4096))
      buffer:fill(0x5a, 0, 4096)
      local iova = buffer.iova
      local message, code = in_a_transfer(buffer, unplug, function()
        wait.till(20, "edu removed", function() return not there(EDU) end)
        plug()
      end)
      assert.equal("ENODEV", code)
      assert.matches("^device gone", message)
      wait.till(20, "edu removed", function() return not there(EDU) end)
      plug()
      returns(10)
      -- The memory is still there, and still ours.
      assert.equal(iova, buffer.iova)
      assert(buffer:verify())
      buffer:write(0, "kept")
      assert(dev.driver.to_device(dev, buffer, 4))
      buffer:write(0, "....")
      assert(dev.driver.from_device(dev, buffer, 4))
      assert.equal("kept", buffer:read(0, 4))
      buffer:free()
      works()
    end)
  end)

  it("may be unbound and bound during its DMA: what it still writes goes to memory that is ours", function()
    luio.run(function()
      local buffer = assert(dev.dma:alloc(4096))
      local _, code = in_a_transfer(buffer, function()
        sysfs.unbind(EDU)
        sysfs.bind(EDU)
      end, function() end)
      assert.equal("ENODEV", code)
      returns(10)
      luio.sleep(0.2) -- the old transfer ends
      assert(buffer:verify())
      buffer:free()
      works()
    end)
  end)

  local CYCLES = amount(20, 100)
  it(("survives %d unbinds and binds under interrupts and register polling"):format(CYCLES), function()
    luio.run(function()
      local stop, rounds, lost = false, 0, 0
      local function load(work)
        return luio.spawn(function()
          while not stop do
            local ok, result, _, code = pcall(work)
            luio.sleep(0.001) -- the guest has little processor
            if ok and result then rounds = rounds + 1
            else -- a wait ended, or an access was an error that says so
              assert(ok and code == "ENODEV" or not ok and tostring(result):find "the device is gone" or dev.gone,
                tostring(result) .. " " .. tostring(code))
              lost = lost + 1
              assert(dev:wait_return(200))
            end
          end
        end)
      end
      local tasks = {
        load(function()
          dev.regs.IRQ_RAISE:write(0x40)
          return dev.irqs[0]:wait(60)
        end),
        load(function()
          for _ = 1, 20 do assert(dev.regs.ID:read() == 0x010000ed) end
          return dev.regs.STATUS:wait({ COMPUTING = 0 }, 60)
        end),
      }
      for i = 1, CYCLES do
        sysfs.unbind(EDU)
        if i % 3 ~= 0 then luio.sleep(i % 5 * 0.01) end -- or back before anybody could notice
        sysfs.bind(EDU)
        wait.till(10, "edu gone", function() return gone == i end)
        returns(20)
        local before = rounds
        wait.till(10, "work", function() return rounds > before end)
      end
      stop = true
      for _, task in ipairs(tasks) do assert(task:join(200)) end
      assert.equal(CYCLES, gone)
      assert.equal(CYCLES, #reasons)
      assert.is_true(lost >= CYCLES)
      works()
    end)
  end)

  it("may come back elsewhere: removed, and found by a rescan with its BAR moved", function()
    -- The firmware gave this one its place; a rescan gives it another.
    assert(dev:close())
    start(FIXED)
    local regs = dev.regions[0]
    local before = regs.addr
    luio.run(function()
      local code
      local waiter = luio.spawn(function() code = select(3, dev.irqs[0]:wait(200)) end)
      luio.sleep(0.02)
      remove(FIXED)
      assert(waiter:join(200))
      assert.equal("ENODEV", code)
      rescan()
      assert.is_true(there(FIXED))
      luio.sleep(0.1)
      assert.is_true(dev.gone) -- it is not bound
      sysfs.bind(FIXED)
      returns(10)
      assert.not_equal(before, regs.addr)
      assert.equal(regs, dev.regions[0])
      works()
    end)
  end)

  it("says what to do when it is there, but nobody binds it", function()
    local hotplug = require "luio.hotplug"
    local usual = hotplug.RETURN
    hotplug.RETURN = 0.3
    luio.run(function()
      remove(EDU)
      rescan()
      wait.till(5, "a warning", function()
        return table.concat(said, "\n"):find "no UIO driver is bound to it: bind uio_pci_generic %(driver_override, drivers_probe%)"
      end)
      local ok, message, code = dev:wait_return(0.1)
      assert.is_nil(ok)
      assert.equal("ETIMEDOUT", code)
      assert.matches("has not come back within 0.1 s", message)
      sysfs.bind(EDU)
      returns(10)
      works()
    end)
    hotplug.RETURN = usual
  end)

  it("is closed while it is gone, and left to who has it then", function()
    luio.run(function()
      sysfs.unbind(EDU)
      wait.till(5, "gone", function() return dev.gone end)
      sysfs.change_command(EDU, 0, sysfs.BUS_MASTER) -- somebody's
      assert(dev:close())
      assert.is_true(sysfs.has(EDU, sysfs.BUS_MASTER))
    end)
    dev = nil
  end)
end)

describe("a mapping that the kernel takes back", function()
  local map = luio.registers { CAP = { 0x00, 64, "ro" }, VS = { 0x08, 32, "ro", MINOR = { 15, 8 } }, CC = { 0x14, 32, "rw" } }
  local disk

  -- The kernel's driver claims the BAR, and takes away other mappings of it (IO_STRICT_DEVMEM). The
  -- loop does not turn meanwhile, so no event has arrived.
  local function lose()
    sysfs.unbind(NVME)
    assert.equal(0, os.execute("/run/luio/bin/modprobe nvme"))
    if not sysfs.driver(NVME) then sysfs.write("bus/pci/drivers_probe", NVME) end
    assert(wait.still(100, function() return sysfs.driver(NVME) == "nvme" end))
  end

  local function get_back()
    disk:watch_presence()
    sysfs.unbind(NVME)
    sysfs.bind(NVME)
    assert(disk:wait_return(100))
    assert.equal(0x00010400, disk.regs.VS:read())
  end

  before_each(function()
    disk = assert(luio.open(NVME))
    disk.regs = assert(luio.bind(map, disk))
    assert.equal("BAR0 by resource0", disk.regions[0].name)
    assert.equal(0x00010400, disk.regs.VS:read())
  end)
  after_each(function() assert(disk:close()) end)

  it("is no crash but an error that names the register; the device returns", function()
    luio.run(function()
      lose()
      local ok, message = pcall(disk.regs.VS.read, disk.regs.VS) -- SIGBUS
      assert.is_false(ok)
      assert.matches("read32 VS, BAR0 by resource0 of 0000:00:09.0 at 0x8: the device is gone: SIGBUS at 0x8", message)
      assert.is_true(disk.gone)
      assert.has_error(function() disk.regs.CC:write(0) end)
      get_back()
    end)
  end)

  it("may be noticed by a write, or by a wait", function()
    luio.run(function()
      lose()
      disk.regs.CC:write(0) -- SIGBUS; a write has no answer
      local value, message, code = disk.regs.VS:wait({ MINOR = 0 }, 60)
      assert.is_nil(value)
      assert.equal("ENODEV", code)
      assert.matches("^device gone: wait for VS of 0000:00:09.0: the device is gone, SIGBUS at 0x14", message)
      get_back()
    end)
  end)
end)

describe("bus master that another process switches off", function()
  it("is noticed, set again, counted and reported", function()
    start(FIXED)
    luio.run(function()
      local buffer = assert(dev.dma:alloc(4096))
      -- The look of every second may be quicker than a slow machine: then once more.
      local before, lost
      for _ = 1, 50 do
        buffer:write(0, "not overwritten")
        before = dev.repairs.bus_master
        assert.equal(0, os.execute("true </dev/" .. dev.info.uio))
        dev.driver.from_device(dev, buffer, 15) -- edu says it is done
        lost = dev.repairs.bus_master == before and buffer:read(0, 15) == "not overwritten"
        if lost then break end
      end
      assert.is_true(lost)
      wait.till(20, "the look of every second", function() return dev.repairs.bus_master == before + 1 end)
      assert.is_true(dev.config:command().bus_master)
      wait.till(20, "its word, which waits for a cause that the kernel knows of", function() return said[1] end)
      assert.matches("^config space of 0000:00:04.0 was changed by another process: .*bus master was off: .*/dev/uio%d+", said[1])
      works()
      os.execute("true </dev/" .. dev.info.uio)
      assert.is_false((dev:check_config())) -- who wants to know sooner asks
      assert.is_true((dev:check_config()))
      assert.equal(before + 2, dev.repairs.bus_master)
      buffer:free()
      works()
    end)
    assert(dev:close())
  end)
end)
