--- A UIO driver that makes twelve UIO devices of one PCI device: spec/guest/vectors, over edu. LUIO_VECTORS: its .ko.

local files = require "spec.support.files"
local luio = require "luio"
local program = require "spec.support.program"
local sysfs = require "spec.support.sysfs"
local system = require "spec.support.system"
local uv = require "luv"
local wait = require "spec.support.wait"

local MODULE, EDU, VECTORS = os.getenv "LUIO_VECTORS", system.EDU, 12
local DRIVER = [[return { name = "vector", match = { uio = "%s" }, start = function() return true end }]]

describe("several UIO devices of one PCI device", function()
  if not MODULE then
    it("are there", function() pending "LUIO_VECTORS names no module: spec/guest/specs does" end)
    return
  end

  local uio = {} -- by vector

  setup(function()
    system.start()
    system.must("/run/luio/bin/insmod %s", MODULE)
    assert.matches(EDU .. ": luio_vectors, as uio%d+\n", (system.fine("bind %s --driver luio_vectors", EDU)))
    for _, info in ipairs(assert(luio.list())) do
      local n = (info.uio_name or ""):match "^vector(%d+)$"
      if n then uio[tonumber(n)] = info.uio end
    end
  end)
  teardown(function()
    system.fine("unbind %s", EDU)
    system.must "/run/luio/bin/rmmod luio_vectors"
    system.stop()
  end)
  after_each(luio.close_all)

  it("are found by number: the PCI address means the lowest", function()
    assert.equal(VECTORS - 1, #uio)
    local dev = assert(luio.open(EDU))
    assert.equal(uio[0], dev.info.uio)
    assert.matches(("%s is one of 12 UIO devices of %s: %s %s "):format(uio[0], EDU, uio[0], uio[1]), dev.warnings[1], 1, true)
  end)

  it("say which has an interrupt, and which has none", function()
    local function interrupt(n) return (system.fine("info %s", uio[n])):match "\ninterrupt     ([^\n]*)" end
    assert.equal(("by %s, line %s"):format(uio[0], sysfs.read("bus/pci/devices/" .. EDU .. "/irq")), interrupt(0))
    assert.equal("none: its UIO driver has no line, and has told of no event: poll", interrupt(VECTORS - 1))
    local dev = assert(luio.open(uio[1]))
    luio.run(function()
      assert(dev.irqs[0]:start())
      assert(dev:unmask())
      assert(dev.irqs[0]:wait(50))
    end)
    assert(dev:close())
    assert.equal(("by %s, whose UIO driver tells of events by itself: it has no line"):format(uio[1]), interrupt(1))
    dev = assert(luio.open(uio[VECTORS - 1]))
    local _, message, code = dev.irqs[0]:wait(0.1)
    assert.same({ "ENOTSUP", true }, { code, message:find("has no interrupt", 1, true) ~= nil })
  end)

  it("are driven at once, in one process and in several, and each by one alone", function()
    local first, last = assert(luio.open(uio[2])), assert(luio.open(uio[VECTORS - 1]))
    assert.equal(0x010000ed, last.regions[0]:read32(0))
    local path = files.write("other.lua", ([[
      local luio = require "luio"
      local dev = assert(luio.open "%s")
      print(("id 0x%%08x"):format(dev.regions[0]:read32(0)))
      print((select(2, luio.open "%s")))
      print((select(2, dev:bus_master(true))))
      print "ready"
      io.read()]]):format(uio[1], uio[2]))
    local out, status = files.shell(("echo | build/luio %s"):format(path))
    assert.equal(0, status, out)
    local pid = uv.os_getpid()
    assert.matches("id 0x010000ed\n", out, 1, true)
    assert.matches(("\nopen %s: EBUSY: process %d drives it; stop that one, "):format(uio[2], pid), out, 1, true)
    assert.matches(("\nbus master of %s: EBUSY: it is one of several UIO devices of %s, "):format(uio[1], EDU), out, 1, true)
    assert.matches(("by process %d: use that one's\nready\n"):format(pid), out, 1, true)
    -- The other process has ended, and has not switched off bus master, which belongs to the first device.
    assert(first:bus_master(true))
    files.shell(("echo | build/luio %s"):format(path))
    assert.is_true(sysfs.has(EDU, sysfs.BUS_MASTER))
    assert(last:close())
    assert.is_true(sysfs.has(EDU, sysfs.BUS_MASTER))
    assert(first:close())
    assert.is_false(sysfs.has(EDU, sysfs.BUS_MASTER))
  end)

  it("are kept from others while bus master is on, all of them", function()
    local dev = assert(luio.open(uio[3]))
    finally(function()
      dev:close()
      files.shell "chmod 600 /dev/uio*"
    end)
    files.shell "chmod 666 /dev/uio*"
    assert(dev:bus_master(true))
    for n = 0, VECTORS - 1 do assert.equal(tonumber("600", 8), bit.band(uv.fs_stat("/dev/" .. uio[n]).mode, 511)) end
    assert(dev:close())
    for n = 0, VECTORS - 1 do assert.equal(tonumber("666", 8), bit.band(uv.fs_stat("/dev/" .. uio[n]).mode, 511)) end
  end)

  it("are found by their names, also under a guardian, two beside each other", function()
    local running = {}
    finally(function()
      for _, p in ipairs(running) do p:close() end
    end)
    for i, n in ipairs { 1, 5 } do
      local _, dir = files.write("vector/init.lua", DRIVER:format("vector" .. n))
      running[i] = program.start { "run", dir .. "/vector" }
      running[i]:wait(("runs on device %s 1234:11e8 %%(%s%%)"):format(EDU:gsub("%p", "%%%0"), uio[n]), 30)
    end
    local out, status = system.run("unbind %s", EDU)
    assert.equal(1, status)
    for i = 1, 2 do assert.matches(("process %d "):format(running[i]:children()[1]), out, 1, true) end
  end)

  it("come back as the ones they were", function()
    local dev = assert(luio.open(uio[4]))
    dev:watch_presence()
    sysfs.unbind(EDU)
    luio.run(function()
      wait.till(20, "it is gone", function() return dev.gone end)
      sysfs.write("bus/pci/devices/" .. EDU .. "/driver_override", "luio_vectors")
      sysfs.write("bus/pci/drivers_probe", EDU)
      sysfs.write("bus/pci/devices/" .. EDU .. "/driver_override", "\n")
      assert(dev:wait_return(100))
      assert.equal("vector4", dev.info.uio_name)
      assert.equal(0x010000ed, dev.regions[0]:read32(0))
    end)
  end)
end)
