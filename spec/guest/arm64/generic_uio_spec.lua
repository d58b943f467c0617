--- Devices of the device tree, which no bus can discover, behind uio_pdrv_genirq. Runs in the arm64 guest (spec/guest/specs_arm64), whose board
--- has a clock and a GPIO that its tree calls generic-uio, too.

local files = require "spec.support.files"
local luio = require "luio"
local match = require "luio.driver.match"
local program = require "spec.support.program"
local sysfs = require "spec.support.sysfs"
local wait = require "spec.support.wait"

local RTC, GPIO = "9010000.pl031", "9030000.pl061" -- as the platform bus names them

local function find(compatible)
  for _, info in ipairs(assert(luio.list())) do
    for _, name in ipairs(info.compatible) do
      if name == compatible then return info end
    end
  end
end

local function bind(name) sysfs.write("bus/platform/drivers/uio_pdrv_genirq/bind", name) end
local function unbind(name) sysfs.write("bus/platform/drivers/uio_pdrv_genirq/unbind", name) end

describe("a device of the device tree", function()
  it("is found by its compatible strings", function()
    local info = assert(find "arm,pl031")
    assert.matches("^uio%d+$", info.uio)
    assert.equal(info.uio, info.address)
    assert.same({ "arm,pl031", "generic-uio" }, info.compatible)
    assert.same({ "platform", "uio_pdrv_genirq", "pl031" }, { info.bus, info.driver, info.uio_name })
    assert.same({ 0x9010000, 0x1000 }, { info.maps[0].addr, info.maps[0].size })
    assert.matches("/" .. RTC .. "$", info.sysfs)
    assert.is_nil(info.problem)
    assert.equal(0x9030000, find("arm,pl061").maps[0].addr)
  end)

  it("is shown with the driver for it", function()
    local uio = find("arm,pl031").uio
    local list = files.shell "build/luio list"
    assert.matches(uio .. " +" .. uio .. " +%- +uio_pdrv_genirq +pl031 +arm,pl031", list)
    local info = files.shell("build/luio info " .. uio)
    assert.matches("compatible +arm,pl031 generic%-uio", info)
    assert.matches("luio driver +pl031", info)
    assert.matches("region 0 +memory 0x9010000%+0x1000", info)
  end)

  it("finds its driver by `of`, or by the name that its UIO driver gives it", function()
    local info = find "arm,pl061"
    assert.is_true(match.fits({ of = "arm,pl061" }, info))
    assert.is_true(match.fits({ uio = "pl061" }, info))
    assert.is_false(match.fits({ of = "arm,pl031" }, info))
    assert.is_false(match.fits({ uio = "pl031" }, info))
    assert.equal("pl061", (match.driver_of(info)))
    local running = program.start { "run", "drivers/pl061" }
    running:wait("driver pl061 runs on device " .. info.uio, 30)
    running:kill "sigint"
    assert.equal(0, running:status())
    running:close()
  end)

  it("is mapped, and has one owner", function()
    local uio = find("arm,pl031").uio
    local dev = assert(luio.open(uio))
    assert.equal(0x31, dev.regions[0]:read32(0xfe0))
    assert.equal("ENOENT", select(3, dev:region(1)))
    assert.has_error(function() dev.regions[0]:read32(0x1000) end)
    local none, message, code = luio.open(uio)
    assert.is_nil(none)
    assert.equal("EBUSY", code)
    assert.matches("this process %(%d+%) drives it already", message)
    local reader = assert(luio.open(uio, { read_only = true }))
    assert.equal(0x31, reader.regions[0]:read32(0xfe0))
    assert.has_error(function() reader.regions[0]:write32(0x10, 1) end)
    assert(reader:close())
    assert(dev:close())
  end)

  it("may begin within a page, and has the bytes that the tree says", function()
    local info = assert(find "virtio,mmio")
    assert.same({ 0xa000000, 0x1000, 0x200, 0x200 },
      { info.maps[0].addr, info.maps[0].size, info.maps[0].offset, info.maps[0].length })
    assert.matches("region 0 +memory 0xa000200%+0x200 %(512 bytes%)", (files.shell("build/luio info " .. info.uio)))
    local dev = assert(luio.open(info.uio))
    local regs = dev.regions[0]
    assert.same({ 0xa000200, 0x200 }, { regs.addr, regs.size })
    assert.equal(0x74726976, regs:read32(0)) -- "virt": Virtual I/O Device (VIRTIO) 1.1, 4.2.2: MagicValue
    assert.has_error(function() regs:read32(0x200) end) -- the next one's
    assert(dev:close())
  end)

  it("has no config space and no bus master, and says so", function()
    local dev = assert(luio.open(find("arm,pl031").uio))
    local none, message, code = dev:bus_master(true)
    assert.is_nil(none)
    assert.equal("ENOTSUP", code)
    assert.matches("it is not a PCI device", message)
    assert(dev:close())
  end)
end)

describe("its interrupt", function()
  local dev, regs, irq
  local DR, MR, IMSC, RIS, ICR = 0x00, 0x04, 0x10, 0x14, 0x1c -- the clock's

  before_each(function()
    dev = assert(luio.open(find("arm,pl031").uio))
    regs, irq = dev.regions[0], dev.irqs[0]
  end)
  after_each(function()
    regs:write32(IMSC, 0)
    regs:write32(ICR, 1)
    assert(dev:close())
  end)

  -- A match that is right at once: the line rises now.
  local function fire()
    regs:write32(MR, regs:read32(DR))
    regs:write32(IMSC, 1)
  end

  local function count() return tonumber(sysfs.read("class/uio/" .. dev.info.uio .. "/event")) end

  it("is masked by the kernel until write(1), which is what unmasking does", function()
    irq:setup { capture = { { "status", RIS } }, unmask = false }
    assert(irq:unmask())
    local before = count()
    fire()
    assert.equal(1, assert(irq:wait(60)).status)
    luio.sleep(0.05) -- the line is still high
    assert.equal(before + 1, count())
    assert.is_nil(irq:poll())
    assert(irq:unmask())
    assert.equal(1, assert(irq:wait(60)).status) -- at once: it has not been acknowledged
    assert.equal(before + 2, count())
    regs:write32(ICR, 1)
    assert(irq:unmask())
    assert.equal("ETIMEDOUT", select(3, irq:wait(0.05)))
    assert.equal(before + 2, count())
  end)

  it("is taken, acknowledged and unmasked by the top half, each once", function()
    irq:setup { capture = { { "status", RIS } }, ack = { { ICR, "status" } } }
    assert(irq:start())
    local before = count()
    for _ = 1, 20 do
      fire()
      local event = assert(irq:wait(60))
      assert.same({ 1, 1, 0 }, { event.status, event.count, event.overflow })
    end
    assert.equal(before + 20, count())
    assert.equal(20, irq:stats().interrupts)
    assert.is_nil(irq:storm())
  end)

  -- How the line is this UIO driver does not say, so it is a question, and nothing is held up.
  it("is a storm where the top half does not take it back: named, and by doctor", function()
    irq:setup { capture = { { "status", RIS } }, ack = { { ICR, 0 } } }
    assert(irq:start())
    fire()
    wait.till(30, "a storm", function() return dev.warnings[1] end)
    assert.matches(("^interrupt storm of %s: %%d+ interrupts/s, each with status=1: does its acknowledgement %%(writes 0x1c := "
      .. "0x00000000%%) take the line back%%?$"):format(dev.address), dev.warnings[1])
    local storm = assert(irq:storm())
    assert.is_nil(storm.pause)
    -- It counts for a moment, in which an emulated machine that is busy may have fewer than are worth a question.
    local out, rate
    for _ = 1, 10 do
      local before, from = count(), luio.now()
      out = program.run("doctor " .. dev.info.uio):gsub("\n +", " ")
      rate = (count() - before) / (luio.now() - from)
      if out:find("storm:", 1, true) then break end
    end
    local named = out:find("storm:", 1, true) ~= nil
    assert.is_true(named or rate < 4000, ("%d interrupts/s"):format(rate))
    assert.equal(named, out:find("note     storm: %d+ interrupts/s: is that its way, or a storm, because what is done about them does not take "
      .. "its line back%?; process %d+ %(.*%) drives it: .*; luio's driver pl031 reads RTCMIS, writes RTCICR := RTCMIS, unmasks") ~= nil)
    regs:write32(ICR, 1)
    while irq:wait(0.3) do end -- those that were taken before
  end)
end)

describe("a device of the device tree that goes away", function()
  it("ends waits, and is taken again at its place in the tree, whatever its number then", function()
    local rtc_uio, gpio_uio = find("arm,pl031").uio, find("arm,pl061").uio
    local dev = assert(luio.start("pl031", rtc_uio))
    local rtc = dev.driver
    rtc.set_time(dev, 1000000000)
    local code
    luio.run(function()
      local waiter = luio.spawn(function() code = select(3, rtc.alarm(dev, 1000000100)) end)
      luio.sleep(0.05)
      unbind(RTC)
      assert(waiter:join(200))
      assert.equal("ENODEV", code)
      assert.is_true(dev.gone)
      assert.has_error(function() rtc.time(dev) end)
      unbind(GPIO)
      bind(rtc_uio < gpio_uio and GPIO or RTC) -- takes the lower number
      bind(rtc_uio < gpio_uio and RTC or GPIO)
      assert(dev:wait_return(100))
      local time = rtc.time(dev)
      assert.is_true(time >= 1000000000 and time < 1000000100, time)
      assert.equal(1, assert(rtc.alarm(dev, time + 1)).RTCMIS)
    end)
    assert.same({ gpio_uio, rtc_uio }, { find("arm,pl031").uio, find("arm,pl061").uio })
    assert(dev:close())
  end)
end)
