--- A real /dev/uioX behind uio_pci_generic: behaviour that needs a kernel. Runs in the QEMU guest
--- (spec/guest/specs); the devices and their addresses are spec/guest/run's.

local luio = require "luio"
local uv = require "luv"
local R = { ID = 0x00, LIVENESS = 0x04, STATUS = 0x20, IRQ_STATUS = 0x24, IRQ_RAISE = 0x60, IRQ_ACK = 0x64 } -- edu's
local files = require "spec.support.files"
local sysfs = require "spec.support.sysfs"
local wait = require "spec.support.wait"

local EDU, NIC, SERIAL, TESTDEV, NVME = "0000:00:04.0", "0000:00:05.0", "0000:00:06.0", "0000:00:07.0", "0000:00:08.0"
local VIRTIO = "0000:00:1e.0" -- the kernel's own

local top_half = { capture = { { "cause", R.IRQ_STATUS } }, ack = { { R.IRQ_ACK, "cause" } } }

local function find(address)
  for _, info in ipairs(assert(luio.list())) do
    if info.address == address then return info end
  end
end

describe("discovery", function()
  it("finds edu with its UIO device, BAR and interrupt", function()
    local info = assert(find(EDU))
    assert.matches("^uio%d+$", info.uio)
    assert.equal("uio_pci_generic", info.uio_name)
    assert.equal("uio_pci_generic", info.driver)
    assert.equal("pci", info.bus)
    assert.same({ 0x1234, 0x11e8 }, { info.vendor, info.device })
    assert.equal("memory", info.bars[0].kind)
    assert.equal(0x100000, info.bars[0].size)
    assert.equal(0, info.bars[0].map)
    assert.equal(info.bars[0].addr, info.maps[0].addr)
    assert.equal(tonumber(sysfs.read("bus/pci/devices/" .. EDU .. "/irq")), info.irq)
    assert.is_nil(info.problem)
  end)

  it("lists devices that have no UIO driver, with the kernel's", function()
    local info = assert(find(VIRTIO))
    assert.is_nil(info.uio)
    assert.equal("virtio-pci", info.driver)
    assert.is_nil(assert(find(TESTDEV)).driver)
  end)

  it("tells I/O BARs and 64-bit BARs without a map", function()
    assert.same({ "port", 8 }, { find(SERIAL).bars[0].kind, find(SERIAL).bars[0].size })
    local bar = find(NVME).bars[0]
    assert.is_true(bar.is64)
    assert.is_nil(bar.map)
  end)

  it("names what the hardware database knows", function()
    if not (uv.fs_stat "/usr/lib/udev/hwdb.bin" or uv.fs_stat "/usr/lib/systemd/hwdb/hwdb.bin") then
      return pending "no hwdb.bin is installed (package udev)"
    end
    assert.matches("Intel", find(NIC).vendor_name)
    assert.matches("82574L", find(NIC).device_name)
  end)
end)

describe("opening", function()
  it("takes a PCI address, a short one, or the UIO name: the same device", function()
    local uio = find(EDU).uio
    for _, address in ipairs { EDU, "00:04.0", uio } do
      local dev = assert(luio.open(address))
      assert.equal(EDU, dev.address)
      assert.equal(0x010000ed, dev.regions[0]:read32(R.ID))
      assert.matches("BAR0 by " .. uio .. " map0", dev.regions[0].name)
      assert(dev:close())
    end
  end)

  it("changes nothing: no bus master, no unmask", function()
    local enabled = sysfs.read("bus/pci/devices/" .. EDU .. "/enable")
    for _, masked in ipairs { 0, sysfs.INTX_DISABLE } do
      sysfs.change_command(EDU, sysfs.INTX_DISABLE, masked)
      local before = sysfs.command(EDU)
      local dev = assert(luio.open(EDU))
      assert.is_false(dev.config:command().bus_master)
      assert.equal(before, sysfs.command(EDU))
      assert(dev:close())
      assert.equal(before, sysfs.command(EDU))
    end
    sysfs.change_command(EDU, sysfs.INTX_DISABLE, 0)
    assert.equal(enabled, sysfs.read("bus/pci/devices/" .. EDU .. "/enable"))
  end)

  it("refuses a second driver and names the process that has it; looking is allowed", function()
    local dev = assert(luio.open(EDU))
    local none, message, code = luio.open(EDU)
    assert.is_nil(none)
    assert.equal("EBUSY", code)
    assert.matches(("this process %%(%d%%) drives it already"):format(uv.os_getpid()), message)
    assert(dev:bus_master(true))
    local reader = assert(luio.open(EDU, { read_only = true }))
    assert.equal(0x010000ed, reader.regions[0]:read32(R.ID))
    assert.matches("BAR0 by resource0", reader.regions[0].name)
    assert.has_error(function() reader.regions[0]:write32(R.LIVENESS, 1) end)
    assert(reader:close())
    assert.is_true(dev.config:command().bus_master) -- closing /dev/uioX would have cleared it
    assert(dev:close())
  end)

  it("refuses a device that a kernel driver has, and says how to get it", function()
    local dev, message, code = luio.open(VIRTIO)
    assert.is_nil(dev)
    assert.equal("EBUSY", code)
    assert.matches("the kernel driver virtio%-pci has it: `luio bind 0000:00:1e.0` gives it to uio_pci_generic", message)
    local reader = assert(luio.open(VIRTIO, { read_only = true }))
    assert.equal(0x1af4, reader.config:read16(0))
    assert(reader:close())
  end)

  it("says that a device is not there", function()
    for _, address in ipairs { "0000:00:19.0", "uio77" } do
      local dev, message, code = luio.open(address)
      assert.is_nil(dev)
      assert.equal("ENODEV", code)
      assert.matches("there is no device " .. address, message)
    end
  end)
end)

describe("an interrupt of real hardware", function()
  local dev, regs, irq
  before_each(function()
    dev = assert(luio.open(EDU))
    regs, irq = dev.regions[0], dev.irqs[0]
    irq:setup(top_half)
  end)
  after_each(function() assert(dev:close()) end)

  it("wakes a task that is blocked", function()
    local event
    luio.run(function()
      local waiter = luio.spawn(function() event = irq:wait(50) end)
      luio.sleep(0.05)
      assert.is_nil(event)
      regs:write32(R.IRQ_RAISE, 0x42)
      assert(waiter:join(50))
    end)
    assert.equal(0x42, event.cause)
  end)

  it("is taken by the thread that sleeps in the loop, not by two in turn", function()
    regs:write64(0x88, 0x40000) -- a transfer: to its buffer,
    regs:write64(0x90, 4) -- so many bytes,
    regs:write64(0x98, 0x5) -- run, and interrupt
    assert.equal(0x100, assert(irq:wait(50)).cause) -- it took 100 ms, we slept
    assert.equal(1, irq:stats().direct)
    assert.is_false(dev.config:command().intx_disable)
  end)

  it("is polled without blocking", function()
    assert.is_nil(irq:poll())
    regs:write32(R.IRQ_RAISE, 1)
    assert.equal(1, assert(wait.still(2, function() return irq:poll() end)).cause)
    assert.is_nil(irq:poll())
  end)

  it("makes a descriptor readable, for somebody else's poll()", function()
    assert(irq:start())
    local readable = 0
    local poll = assert(uv.new_poll(irq:fd()))
    poll:start("r", function() readable = readable + 1; poll:stop() end)
    uv.run "nowait"
    assert.equal(0, readable)
    regs:write32(R.IRQ_RAISE, 1)
    uv.run()
    assert.equal(1, readable)
    assert.equal(1, irq:poll().cause)
    poll:close()
    uv.run "nowait"
  end)

  it("counts as the kernel counts", function()
    assert(irq:start()) -- what came before is not counted by us, but by the kernel
    local node = "class/uio/" .. dev.info.uio .. "/event"
    local before = tonumber(sysfs.read(node))
    for i = 1, 20 do
      regs:write32(R.IRQ_RAISE, i)
      local event = assert(irq:wait(50))
      assert.equal(i, event.cause)
      assert.equal(1, event.count)
    end
    assert.equal(before + 20, tonumber(sysfs.read(node)))
    assert.equal(20, irq:stats().interrupts)
  end)

  it("is unmasked after a reopen, though whoever had it before left it masked", function()
    irq:setup { capture = { { "cause", R.IRQ_STATUS } } }
    assert(irq:start())
    assert(irq:close())
    regs:write32(R.IRQ_RAISE, 0x10) -- fires, is masked by the kernel, is not acknowledged
    wait.till(2, "masked", function() return dev.config:command().intx_disable end)
    assert(dev:close())
    dev = assert(luio.open(EDU))
    assert.is_true(dev.config:command().intx_disable) -- opening does not touch it
    regs, irq = dev.regions[0], dev.irqs[0]:setup(top_half)
    assert.equal(0x10, assert(irq:wait(50)).cause)
    assert.is_false(dev.config:command().intx_disable)
  end)

  it("does not come while it is masked", function()
    assert(dev:close())
    dev = assert(luio.open(EDU))
    regs, irq = dev.regions[0], dev.irqs[0]:setup { capture = top_half.capture, ack = top_half.ack, unmask = false }
    assert(irq:start())
    assert(dev:mask())
    assert.is_true(dev.config:command().intx_disable)
    regs:write32(R.IRQ_RAISE, 0x20)
    assert.is_nil(irq:wait(0.05))
    assert(irq:unmask())
    assert.equal(0x20, assert(irq:wait(50)).cause)
  end)

  it("does not come when nothing raises it", function()
    local event, _, code = irq:wait(0.1)
    assert.is_nil(event)
    assert.equal("ETIMEDOUT", code)
  end)
end)

describe("a device without an interrupt", function()
  it("says so at the first wait; its registers work", function()
    sysfs.bind(TESTDEV)
    local dev = assert(luio.open(TESTDEV))
    assert.equal("uio_pci_generic", dev.info.uio_name)
    local event, message, code = dev.irqs[0]:wait(1)
    assert.is_nil(event)
    assert.equal("ENOTSUP", code)
    assert.matches("has no interrupt", message)
    assert.equal(0, dev.regions[0]:read8(0))
    assert(dev:close())
    sysfs.unbind(TESTDEV)
    -- And with no UIO driver at all.
    dev = assert(luio.open(TESTDEV))
    event, message, code = dev.irqs[0]:wait(1)
    assert.is_nil(event)
    assert.equal("ENOTSUP", code)
    assert.matches("no UIO driver is bound", message)
    assert(dev:close())
  end)
end)

describe("BARs that uio does not map", function()
  it("are reached through sysfs: nvme's 64-bit BAR", function()
    local dev = assert(luio.open(NVME))
    local regs = dev.regions[0]
    assert.equal("BAR0 by resource0", regs.name)
    assert.equal("memory", regs.kind)
    assert.equal(0x00010400, regs:read32(0x08)) -- NVM Express 1.4, 3.1.2: VS
    assert.equal(regs:read32(0), tonumber(regs:read64(0) % 0x100000000ULL)) -- CAP, one 64-bit load
    assert(dev:close())
  end)

  it("are I/O ports: pci-serial's 16550, byte by byte", function()
    local dev = assert(luio.open(SERIAL))
    local uart = dev.regions[0]
    assert.equal("port", uart.kind)
    assert.equal(8, uart.size)
    for _, value in ipairs { 0x55, 0xaa, 0x00, 0xff } do
      uart:write8(7, value) -- SCR, the scratch register
      assert.equal(value, uart:read8(7))
    end
    uart:write8(4, 0x10) -- MCR: loopback
    uart:write8(0, 0x41) -- THR
    assert(wait.still(2, function() return uart:read8(5) % 2 == 1 end)) -- LSR.DR
    assert.equal(0x41, uart:read8(0)) -- RBR
    uart:write8(4, 0)
    assert.has_error(function() uart:read64(0) end)
    assert.has_error(function() uart:read8(8) end)
    assert.has_error(function() uart:write8(7, 256) end)
    assert(dev:close())
  end)
end)

describe("an ordinary user", function()
  local function as_user(script)
    local path = files.write("user.lua", script)
    return files.shell(("LUA_PATH='./lua/?.lua;./lua/?/init.lua;;' setpriv --reuid 65534 --regid 65534 "
      .. "--clear-groups luajit %s"):format(path))
  end
  local say = [[
    local luio = require "luio"
    local function say(what, ok, message, code) print(what .. ": " .. (ok and "ok" or code .. " " .. message)) end
  ]]

  it("may list, and is told what opening takes", function()
    local out, status = as_user(say .. ([[
      say("list", luio.list())
      say("open", luio.open "%s")
    ]]):format(EDU))
    assert.equal(0, status, out)
    assert.matches("list: ok", out)
    assert.matches("open: EACCES open /dev/uio%d+: EACCES: run as root, or as one of the group luio, which `make install%-system` makes", out)
  end)

  it("may map and read once the node is theirs, and is told what still needs root", function()
    local node = "/dev/" .. find(EDU).uio
    local dev = assert(luio.open(EDU))
    assert(dev.config:write16(4, 0x402)) -- masked, so that there is something to unmask
    assert(dev:close())
    assert.equal(0, os.execute("chmod 666 " .. node))
    local out, status = as_user(say .. ([[
      local dev, message, code = luio.open "%s"
      say("open", dev, message, code)
      print("id", dev.regions[0]:read32(0))
      say("unmask", dev:unmask())
      say("wait", dev.irqs[0]:wait(0.1))
      say("master", dev:bus_master(true))
      say("dma", dev.dma:alloc(4096))
      say("close", dev:close())
    ]]):format(EDU))
    assert.equal(0, os.execute("chmod 600 " .. node))
    assert.equal(0, status, out)
    assert.matches("open: ok", out)
    assert.matches("id\t" .. 0x010000ed, out)
    assert.matches("unmask: EACCES write config space of " .. EDU, out)
    assert.matches("wait: EACCES", out)
    assert.matches("master: EACCES", out)
    assert.matches("dma: EPERM .*CAP_SYS_ADMIN", out)
    assert.matches("close: ok", out)
  end)
end)

describe("hot-plug", function()
  local function wait_for(monitor, action, address)
    local deadline = luio.now() + 50
    while luio.now() < deadline do
      local event = monitor:wait(50)
      if event and event.action == action and event.address == address then return event end
    end
  end

  it("reports unbind, bind, remove and add", function()
    local monitor = assert(luio.monitor())
    local uio = find(SERIAL).uio
    sysfs.unbind(SERIAL)
    assert.equal("uio", assert(wait_for(monitor, "remove", uio)).subsystem)
    assert(wait_for(monitor, "unbind", SERIAL))
    assert.is_nil(find(SERIAL).uio)
    sysfs.bind(SERIAL)
    local event = assert(wait_for(monitor, "bind", SERIAL))
    assert.equal("uio_pci_generic", event.driver)
    sysfs.write("bus/pci/devices/" .. TESTDEV .. "/remove", "1")
    assert(wait_for(monitor, "remove", TESTDEV))
    assert.is_nil(find(TESTDEV))
    sysfs.write("bus/pci/rescan", "1")
    assert(wait_for(monitor, "add", TESTDEV))
    assert.is_truthy(find(TESTDEV))
    local none, message, code = monitor:wait(0.01)
    while none do none, message, code = monitor:wait(0.01) end
    assert.equal("ETIMEDOUT", code)
    assert.matches("no device came or went", message)
    monitor:close()
  end)

  it("ends a wait when the device goes away", function()
    local dev = assert(luio.open(EDU))
    dev.irqs[0]:setup(top_half)
    local event, message, code
    luio.run(function()
      local waiter = luio.spawn(function() event, message, code = dev.irqs[0]:wait(50) end)
      luio.sleep(0.05)
      sysfs.unbind(EDU)
      assert(waiter:join(50))
    end)
    assert.is_nil(event)
    assert.equal("ENODEV", code)
    assert.matches("the device is gone", message)
    assert.equal("ENODEV", select(3, dev.irqs[0]:wait(0.1))) -- and stays so
    assert(dev:close())
    sysfs.bind(EDU)
    dev = assert(luio.start("edu", EDU))
    assert.equal(24, dev.driver.factorial(dev, 4))
    assert(dev:close())
  end)
end)
