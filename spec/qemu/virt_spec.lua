--- QEMU's ARM board `virt` without a guest: its devices are found in the device tree that QEMU writes, and interrupt by the lines of
--- its interrupt controller.

local arm_board = require "spec.support.arm_board"
local files = require "spec.support.files"
local luio = require "luio"
local match = require "luio.driver.match"
local program = require "spec.support.program"
local uv = require "luv"
local wait = require "spec.support.wait"

arm_board.describe("QEMU's board virt", function()
  after_each(function() assert(luio.close_all()) end)
  teardown(files.clean)

  it("has the devices of its device tree", function()
    local info = assert(luio.open "qemu:virt/pl031").info
    assert.same({ "arm,pl031", "arm,primecell" }, info.compatible)
    assert.same({ "platform", "pl031" }, { info.bus, info.uio_name })
    assert.same({ 0x9010000, 0x1000, 0 }, { info.maps[0].addr, info.maps[0].size, info.maps[0].offset })
    assert.equal("pl031", (match.driver_of(info)))
    assert.is_true(match.fits({ of = "arm,pl031" }, info))
    assert.is_false(match.fits({ of = "arm,pl061" }, info))
  end)

  it("names a device by its node, by its node's place, and by what it is compatible with", function()
    for _, name in ipairs { "pl031", "pl031@9010000", "arm,pl031" } do
      local dev = assert(luio.open("qemu:virt/" .. name))
      assert.equal(0x31, dev.regions[0]:read32(0xfe0), name)
    end
    local dev = assert(luio.open "qemu:virt/virtio_mmio@a000200")
    assert.same({ 0xa000000, 0x1000, 0x200, 0x200 },
      { dev.info.maps[0].addr, dev.info.maps[0].size, dev.info.maps[0].offset, dev.info.maps[0].length })
    assert.same({ 0xa000200, 0x200 }, { dev.regions[0].addr, dev.regions[0].size })
    assert.equal(0x74726976, dev.regions[0]:read32(0)) -- "virt": Virtual I/O Device (VIRTIO) 1.1, 4.2.2: MagicValue
    assert.has_error(function() dev.regions[0]:read32(0x200) end) -- the next one's
  end)

  it("says which devices it has, where a name means none, or several", function()
    local dev, message, code = luio.open "qemu:virt/nosuch"
    assert.is_nil(dev)
    assert.equal("ENOENT", code)
    assert.truthy(message:find("its device tree has no nosuch, only flash, fw-cfg, ", 1, true), message)
    assert.truthy(message:find("virtio_mmio (32: virtio_mmio@a000000, ...)", 1, true), message)
    assert.truthy(message:find("'nosuch' is not a valid device model name", 1, true), message)
    dev, message, code = luio.open "qemu:virt/virtio_mmio"
    assert.is_nil(dev)
    assert.equal("EINVAL", code)
    assert.truthy(message:find("its device tree has 32 of that name: virtio_mmio@a000000, virtio_mmio@a000200, ", 1, true), message)
  end)

  it("has no config space, and says so", function()
    local dev = assert(luio.open "qemu:virt/pl031")
    local ok, message, code = dev:bus_master(true)
    assert.is_nil(ok)
    assert.equal("ENOTSUP", code)
    assert.truthy(message:find("it is not a PCI device", 1, true), message)
  end)

  it("has several devices open at once, each once", function()
    local clock = assert(luio.start("pl031", "qemu:virt/pl031"))
    local gpio = assert(luio.start("pl061", assert(clock.qemu:open "pl061")))
    assert.equal("qemu:virt/pl061@9030000", gpio.address)
    assert(gpio.driver.watch(gpio, 3, "rising"))
    luio.run(function()
      local alarm = luio.spawn(function() return assert(clock.driver.alarm(clock, clock.driver.time(clock) + 2, 100)) end)
      assert(clock.qemu:command "system_powerdown")
      assert.same({ 3 }, assert(gpio.driver.wait(gpio, 100)).lines)
      assert(alarm:join(100))
      assert.equal(1, alarm.results[1].RTCMIS)
    end)
    assert.same({ 1, 1 }, { clock.irqs[0]:stats().interrupts, gpio.irqs[0]:stats().interrupts })
    for _, name in ipairs { "pl061", "pl031@9010000" } do
      local dev, message, code = clock.qemu:open(name)
      assert.is_nil(dev)
      assert.equal("EBUSY", code)
      assert.truthy(message:find("it is open in this process", 1, true), message)
    end
    local list = {}
    for _, one in ipairs(assert(clock.qemu:devices())) do list[one.id or one.class] = one end
    assert.same({ id = "pl061@9030000", name = "pl061", address = "0x9030000", compatible = { "arm,pl061", "arm,primecell" }, open = true },
      list["pl061@9030000"])
    assert.is_false(list["pl011@9000000"].open)
    assert.equal("00:00.0", list["Host bridge"].address)
    assert(gpio:close())
    assert(clock.qemu:open "pl061")
  end)

  it("is listed by luio list --qemu, with the drivers for it", function()
    local out, status = program.run "list --qemu"
    assert.equal(0, status, out)
    assert.truthy(out:match "\nqemu:virt/pl031 +ARM board +pl031 +arm,pl031 arm,primecell\n", out)
    assert.truthy(out:match "\nqemu:virt/virtio_mmio@a000000 +ARM board +%- +virtio,mmio %(32 of them%)\n", out)
    local of = {}
    for _, device in ipairs(require("dkjson").decode((program.run "list --qemu --json"))) do of[device.address] = device end
    assert.same({ name = "virt/pl061", address = "qemu:virt/pl061", category = "ARM board", luio_driver = "pl061",
      compatible = { "arm,pl061", "arm,primecell" }, description = "arm,pl061 arm,primecell" }, of["qemu:virt/pl061"])
    assert.equal("edu", of["qemu:edu"].luio_driver)
  end)

  it("is what luio new begins a driver for", function()
    local _, dir = files.write("x", "")
    local function shell(command)
      return files.shell(("cd '%s' && export PATH='%s/build':\"$PATH\" && eval \"$(luio env)\" && timeout 200 %s"):format(dir, uv.cwd(), command))
    end
    local out, status = shell "luio new uart qemu:virt/pl011"
    assert.equal(0, status, out)
    assert.matches('match = { of = "arm,pl011" }', files.read(dir .. "/drivers/uart/init.lua"), 1, true)
    assert.matches("  -- region 0: memory, 0x1000 bytes\n", files.read(dir .. "/drivers/uart/registers.lua"), 1, true)
    out, status = shell "busted --lua=luajit drivers/uart"
    assert.equal(0, status, out)
    assert.matches("1 success / 0 failures / 0 errors", out)
  end)

  it("is changed by QEMU's arguments", function()
    for _, more in ipairs { { "-M", "gic-version=3" }, { "-cpu", "cortex-a57", "-smp", "2" }, { "-M", "virtualization=on,secure=on" } } do
      local dev = assert(luio.start("pl031", "qemu:virt/pl031", { qemu = more }))
      local event = assert(dev.driver.alarm(dev, dev.driver.time(dev) + 2, 100))
      assert.equal(1, event.RTCMIS)
      assert(dev:close())
    end
  end)

  it("takes no processor time while nothing is asked of it", function()
    local dev = assert(luio.open "qemu:virt/pl031")
    local function ticks()
      local user, system = files.read(("/proc/%d/stat"):format(dev.qemu.pid)):match "%) %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ (%d+) (%d+)"
      return user + system
    end
    assert.equal(0x31, dev.regions[0]:read32(0xfe0))
    local before = ticks()
    luio.sleep(1)
    assert.is_true(ticks() - before < 50, "a processor runs") -- of 100
  end)

  it("says how to install the QEMU that is missing", function()
    local out = files.shell("PATH=/nonexistent build/luio info qemu:virt/pl031 2>&1")
    assert.truthy(out:find("start qemu-system-aarch64: there is no such program: apt install qemu-system-arm", 1, true), out)
  end)
end)

arm_board.describe("interrupts of QEMU's board virt", function()
  local DR, MR, IMSC, RIS, ICR = 0x00, 0x04, 0x10, 0x14, 0x1c -- the clock's
  local dev, regs, irq

  before_each(function()
    dev = assert(luio.open "qemu:virt/pl031")
    regs, irq = dev.regions[0], dev.irqs[0]
  end)
  after_each(function() assert(luio.close_all()) end)

  -- A match that is right at once: the line rises now.
  local function fire()
    regs:write32(MR, regs:read32(DR))
    regs:write32(IMSC, 1)
  end

  it("are off after each, until they are unmasked; a level that lasts comes again then", function()
    irq:setup { capture = { { "status", RIS } }, unmask = false }
    assert(irq:unmask())
    fire()
    assert.equal(1, assert(irq:wait(60)).status)
    assert.is_nil(irq:wait(0.05)) -- the line is still high
    assert(irq:unmask())
    assert.equal(1, assert(irq:wait(60)).status) -- at once: it has not been acknowledged
    regs:write32(ICR, 1)
    assert(irq:unmask())
    assert.equal("ETIMEDOUT", select(3, irq:wait(0.05)))
    assert.equal(2, irq:stats().interrupts)
  end)

  it("are taken, acknowledged and unmasked by the top half, each once", function()
    irq:setup { capture = { { "status", RIS } }, ack = { { ICR, "status" } } }
    assert(irq:start())
    for _ = 1, 100 do
      fire()
      local event = assert(irq:wait(60))
      assert.same({ 1, 1, 0 }, { event.status, event.count, event.overflow })
    end
    assert.equal(100, irq:stats().interrupts)
    assert.is_nil(irq:storm())
  end)

  it("stay away while they are masked", function()
    irq:setup { capture = { { "status", RIS } }, unmask = false }
    assert(irq:start())
    assert(dev:mask())
    fire()
    assert.equal("ETIMEDOUT", select(3, irq:wait(0.05)))
    assert(dev:unmask())
    assert.equal(1, assert(irq:wait(60)).status)
  end)

  it("are a storm where the top half does not take the line back", function()
    irq:setup { capture = { { "status", RIS } }, ack = { { ICR, 0 } } }
    assert(irq:start())
    fire()
    wait.till(100, "a storm", function() return dev.warnings[1] end)
    assert.matches(("^interrupt storm of %s: %%d+ interrupts/s, each with status=1: .*writes 0x1c := 0x00000000"):format(
      dev.address:gsub("%p", "%%%0")), dev.warnings[1])
    regs:write32(ICR, 1)
    while irq:wait(0.3) do end
    assert.is_number(irq:storm().ended)
  end)
end)

-- Virtual I/O Device (VIRTIO) 1.1, 4.2.2 (registers), 2.6 (the queue); QEMU's entropy device, a buffer of random bytes for each that is
-- offered. Its line is one of edges.
arm_board.describe("a device of QEMU's board virt that reads and writes memory", function()
  local FEATURES_SEL, FEATURES, QUEUE_SEL, QUEUE_NUM, QUEUE_READY, NOTIFY, STATUS = 0x24, 0x20, 0x30, 0x38, 0x44, 0x50, 0x70
  local INTERRUPT_STATUS, INTERRUPT_ACK, DESC, DRIVER, DEVICE = 0x60, 0x64, 0x80, 0x90, 0xa0
  local FOUND, FEATURES_OK, DRIVER_OK = 1 + 2, 8, 4 -- bits of STATUS
  local dev, regs, ring, buffer, used

  local function put64(offset, value)
    regs:write32(offset, value % 2 ^ 32)
    regs:write32(offset + 4, math.floor(value / 2 ^ 32))
  end

  before_each(function()
    dev = assert(luio.open("qemu:virt/virtio_mmio@a003e00",
      { qemu = { "-device", "virtio-rng-device", "-global", "virtio-mmio.force-legacy=false" } }))
    regs = dev.regions[0]
    assert.equal(4, regs:read32(8)) -- entropy source
    ring, buffer = assert(dev.dma:alloc(4096, { align = 4096 })), assert(dev.dma:alloc(4096, { align = 4096 }))
    regs:write32(STATUS, 0)
    regs:write32(STATUS, FOUND)
    regs:write32(FEATURES_SEL, 1)
    regs:write32(FEATURES, 1) -- VERSION_1
    regs:write32(STATUS, FOUND + FEATURES_OK)
    assert.equal(FOUND + FEATURES_OK, regs:read32(STATUS))
    regs:write32(QUEUE_SEL, 0)
    regs:write32(QUEUE_NUM, 8)
    put64(DESC, ring.iova)
    put64(DRIVER, ring.iova + 1024)
    put64(DEVICE, ring.iova + 2048)
    regs:write32(QUEUE_READY, 1)
    regs:write32(STATUS, FOUND + FEATURES_OK + DRIVER_OK)
    used = 0
  end)
  after_each(function() assert(luio.close_all()) end)

  -- Offers 64 bytes; the device fills them.
  local function offer()
    local desc, avail = ring:pointer "uint64_t *", ring:pointer "uint16_t *" + 512
    desc[0], desc[1] = buffer.iova, 64 + 2 * 2 ^ 32 -- 2: for the device to write
    avail[2 + used % 8] = 0
    used = used + 1
    luio.fence_doorbell()
    avail[1] = used
    luio.fence_doorbell()
    regs:write32(NOTIFY, 0)
  end
  local function filled() return (ring:pointer "uint16_t *")[1025] == used % 2 ^ 16 end

  it("finds it where the board's memory is, and interrupts by an edge", function()
    local irq = dev.irqs[0]
    irq:setup { capture = { { "status", INTERRUPT_STATUS } }, ack = { { INTERRUPT_ACK, "status" } } }
    assert(irq:start())
    assert.is_true(buffer.iova >= 0x40200000 and buffer.iova < 0x50000000, "behind the device tree")
    for _ = 1, 20 do
      buffer:fill(0)
      offer()
      assert.equal(1, assert(irq:wait(100)).status)
      assert.is_true(filled())
      assert.is_false(buffer:read(0, 64) == ("\0"):rep(64))
      assert.equal(("\0"):rep(16), buffer:read(64, 16))
    end
    assert.equal(20, irq:stats().interrupts)
  end)

  it("does not come again for an edge that was taken, however long its line stays high", function()
    local irq = dev.irqs[0]
    irq:setup { capture = { { "status", INTERRUPT_STATUS } }, unmask = false }
    assert(irq:unmask())
    offer()
    assert.equal(1, assert(irq:wait(100)).status)
    assert(irq:unmask())
    assert.equal("ETIMEDOUT", select(3, irq:wait(0.05))) -- not acknowledged, and no other edge
    regs:write32(INTERRUPT_ACK, 1)
    offer()
    assert.equal(1, assert(irq:wait(100)).status)
    -- Edges while the line is off come as one.
    for _ = 1, 3 do
      regs:write32(INTERRUPT_ACK, 1)
      offer()
      wait.till(100, "it is filled", filled)
    end
    assert(irq:unmask())
    assert.equal(1, assert(irq:wait(100)).count)
    regs:write32(INTERRUPT_ACK, 1)
    assert(irq:unmask())
    assert.equal("ETIMEDOUT", select(3, irq:wait(0.05)))
    assert.equal(3, irq:stats().interrupts)
  end)
end)

-- Common Flash Memory Interface (JEDEC JESD68.01); QEMU's flash has the commands of Intel's chips, and two of 16 bits side by side.
arm_board.describe("flash of QEMU's board virt", function()
  after_each(function() assert(luio.close_all()) end)

  it("is identified, erased and programmed, in each of its banks", function()
    local dev = assert(luio.open "qemu:virt/flash")
    for bank = 0, 1 do
      local flash = dev.regions[bank]
      flash:write32(0, 0x00980098) -- query
      local said = ""
      for i = 0x10, 0x12 do said = said .. string.char(flash:read32(4 * i) % 256) end
      assert.equal("QRY", said)
      flash:write32(0, 0x00ff00ff) -- read
      local at = 0x40000 * (bank + 1)
      flash:write32(at, 0x00200020) -- erase,
      flash:write32(at, 0x00d000d0) -- confirmed
      assert.equal(0x80, flash:read32(at) % 256) -- ready
      flash:write32(at, 0x00400040) -- program
      flash:write32(at, 0x12345678)
      flash:write32(at, 0x00ff00ff)
      assert.same({ 0x12345678, 0xffffffff }, { flash:read32(at), flash:read32(at + 4) })
    end
  end)
end)

arm_board.describe("PCI of QEMU's board virt", function()
  after_each(function() assert(luio.close_all()) end)

  it("has the devices that -device makes", function()
    local dev = assert(luio.start("edu", "qemu:virt/edu"))
    for n = 1, 200 do assert.equal(120, (assert(dev.driver.factorial(dev, 5))), n) end
    assert.equal(200, dev.irqs[0]:stats().interrupts)
    assert.is_true(dev.regions[0].addr >= 0x10000000 and dev.regions[0].addr < 0x3eff0000)
  end)

  it("reaches the board's memory by DMA", function()
    local driver = assert(luio.load "edu")
    driver.dma = { bits = 64 }
    local dev = assert(luio.start(driver, "qemu:virt/edu,dma_mask=0xffffffffffffffff"))
    local from, to = assert(dev.dma:alloc(256)), assert(dev.dma:alloc(256))
    assert.is_true(from.iova >= 0x40200000)
    from:write(0, "from the board's memory")
    assert(dev.driver.to_device(dev, from, 32))
    assert(dev.driver.from_device(dev, to, 32))
    assert.equal("from the board's memory", to:read(0, 23))
    local none, message, code = assert(luio.open "qemu:virt/edu").dma:alloc(64, { mask = 0xfffffff })
    assert.is_nil(none)
    assert.equal("ERANGE", code)
    assert.truthy(message:find("the machine's memory begins at 0x40000000, which the device does not reach", 1, true), message)
  end)

  it("has bridges, ports, and messages", function()
    local edu = assert(luio.open("qemu:virt/edu,bus=rp", { qemu = { "-device", "pcie-root-port,id=rp,slot=1,chassis=1" } }))
    assert.equal(0x010000ed, edu.regions[0]:read32(0))
    assert.equal("qemu:virt/pcie-root-port,id=rp", assert(edu.qemu:open "rp").address)
    local serial = assert(luio.open "qemu:virt/pci-serial")
    serial.regions[0]:write8(7, 0xa5)
    assert.equal(0xa5, serial.regions[0]:read8(7))
    local msi = assert(luio.open("qemu:virt/edu", { vectors = "msi" }))
    assert(msi.irqs[0]:setup({ capture = { { "cause", 0x24 } }, ack = { { 0x64, "cause" } } }):start())
    msi.regions[0]:write32(0x60, 5)
    assert.equal(5, assert(msi.irqs[0]:wait(100)).cause)
  end)
end)
