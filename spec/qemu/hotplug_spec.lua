--- A QEMU device that goes and comes back, by device_del and device_add: luio.hotplug's promises (spec/hotplug/conformance.lua), and what
--- only a QEMU can show.

local amount = require "spec.support.amount"
local ffi = require "ffi"
local files = require "spec.support.files"
local luio = require "luio"
local net = require "luio.net"
local program = require "spec.support.program"
local uv = require "luv"
local wait = require "spec.support.wait"

local PORT = { "-device", "pcie-root-port,id=rp,slot=1,chassis=1" }

local function unplug(dev)
  if dev.gone then return end
  assert(dev.qemu:command("device_del", { id = "luio-device" }))
  assert(dev.qemu:wait("DEVICE_DELETED", 100, { device = "luio-device" }))
  wait.till(10, "it is noticed", function() return dev.gone end)
end

local function plug(dev)
  local function add() return dev.qemu:command("device_add", { driver = "edu", bus = "rp", id = "luio-device" }) end
  if add() then return end
  assert(dev.qemu:command("device_del", { id = "luio-device" }))
  assert(dev.qemu:wait("DEVICE_DELETED", 100, { device = "luio-device" }))
  assert(add())
end

require "spec.hotplug.conformance" {
  name = "a device of QEMU's", address = "qemu:edu", region = "BAR0", why = "unplugged from its QEMU machine", cycles = amount(10, 100),
  start = function() return assert(luio.start("edu", "qemu:edu,bus=rp", { qemu = PORT })) end,
  unplug = unplug, plug = plug,
}

require "spec.hotplug.conformance" {
  name = "a device of QEMU's by MSI", address = "qemu:edu", region = "BAR0", why = "unplugged from its QEMU machine", cycles = 5,
  start = function() return assert(luio.start("edu", "qemu:edu,bus=rp", { qemu = PORT, vectors = "msi" })) end,
  unplug = unplug, plug = plug,
}

describe("a slot of a QEMU machine", function()
  local EMPTY = { "-device", "pcie-root-port,id=rp,slot=1,chassis=1", "-device", "pcie-root-port,id=rp2,slot=2,chassis=2" }

  after_each(function() assert(luio.close_all()) end)
  teardown(files.clean)

  local function add(machine, driver, options)
    local arguments = { driver = driver, bus = "rp", id = "new" }
    for key, value in pairs(options or {}) do arguments[key] = value end
    assert(machine:command("device_add", arguments))
  end

  local function delete(machine, id)
    assert(machine:command("device_del", { id = id }))
    assert(machine:wait("DEVICE_DELETED", 100, { device = id }))
  end

  it("takes a device while the machine runs: one with memory, ports, interrupts and DMA each", function()
    local dev = assert(luio.open("qemu:edu", { qemu = EMPTY }))
    for _ = 1, 2 do
      add(dev.qemu, "edu")
      local edu = assert(luio.start("edu", assert(dev.qemu:open "new")))
      local buffer = assert(edu.dma:alloc(64))
      buffer:write(0, "there and back")
      assert(edu.driver.to_device(edu, buffer, 14))
      buffer:fill(0)
      assert(edu.driver.from_device(edu, buffer, 14))
      assert.equal("there and back", buffer:read(0, 14))
      assert(edu:close())
      delete(dev.qemu, "new")
      assert.equal("ENODEV", select(3, dev.qemu:open "new"))

      add(dev.qemu, "pci-serial", { bus = "rp2" }) -- an I/O BAR
      local uart = assert(luio.start("uart16550", assert(dev.qemu:open "new")))
      assert.equal("port", uart.info.bars[0].kind)
      assert(uart:close())
      delete(dev.qemu, "new")

      add(dev.qemu, "virtio-rng-pci", { bus = "rp2" }) -- 64 bits, prefetchable
      local rng = assert(dev.qemu:open "new")
      assert.is_true(rng.info.bars[4].is64)
      assert.equal(0x1af4, rng.info.vendor)
      rng.regions[4]:write32(0, 1) -- device_feature_select
      assert.equal(1, rng.regions[4]:read32(4) % 2) -- VIRTIO_F_VERSION_1
      assert(rng:close())
      delete(dev.qemu, "new")
    end
  end)

  it("does not pass another device for the one that was there", function()
    local dev = assert(luio.open("qemu:edu,bus=rp", { qemu = PORT }))
    local edu = dev.regions[0]
    unplug(dev)
    add(dev.qemu, "pci-testdev")
    local _, message, code = dev:retake()
    assert.equal("ENODEV", code)
    assert.equal("take qemu:edu again: it came back as another device: 1b36:0005, it was 1234:11e8", message)
    assert.is_true(dev.gone)
    assert.is_false((pcall(edu.read32, edu, 0)))
    delete(dev.qemu, "new")
    _, message, code = dev:retake()
    assert.same({ "take qemu:edu again: it is unplugged", "ENODEV" }, { message, code })
    plug(dev)
    assert(dev:retake())
    assert.equal(0x010000ed, edu:read32(0))
  end)

  it("may lose and get a device before anybody looks", function()
    local dev = assert(luio.open("qemu:edu,bus=rp", { qemu = PORT }))
    local edu = dev.regions[0]
    for _ = 1, 20 do
      assert(dev.qemu.qmp:command_now("device_del", { id = "luio-device" }))
      for _ = 1, 1000 do -- QEMU goes on while this waits; the loop stands
        local ok, message = pcall(edu.read32, edu, 0)
        if not ok then
          assert.truthy(message:find("the device is gone", 1, true), message)
          break
        end
      end
      assert.is_true(dev.gone)
      assert(dev.qemu.qmp:command_now("device_add", { driver = "edu", bus = "rp", id = "luio-device" }))
      assert.is_false((pcall(edu.read32, edu, 0)))
      assert(dev:retake())
      assert.equal(0x010000ed, edu:read32(0))
    end
  end)

  it("loses its device in an access of another thread, which gets no wrong value", function()
    local dev = assert(luio.open("qemu:edu,bus=rp", { qemu = PORT }))
    local seen = ffi.new "struct { int32_t reads, wrong, code; }[1]"
    local address = tonumber(ffi.cast("uintptr_t", seen))
    local function read(region, to, paths, cpaths, many)
      package.path, package.cpath = paths, cpaths
      local f = require "ffi"
      local C, err = require("luio.ffi").C, require("luio.ffi").err
      local r = f.cast("luio_region *", f.cast("uintptr_t", region))
      local s = f.cast("struct { int32_t reads, wrong, code; } *", f.cast("uintptr_t", to))
      local values = f.new("uint32_t[?]", many)
      repeat
        local rc = C.luio_region_read_many(r, 0, 32, values, many, err)
        for i = 0, many - 1 do
          if rc == 0 and values[i] ~= 0x010000ed then s[0].wrong = s[0].wrong + 1 end
        end
        s[0].reads = s[0].reads + 1
        s[0].code = rc
      until rc ~= 0
    end
    luio.run(function()
      for round = 1, amount(4, 50) do
        ffi.fill(seen, ffi.sizeof(seen))
        local region = tonumber(ffi.cast("uintptr_t", dev.regions[0].handle))
        local thread = uv.new_thread(read, region, address, package.path, package.cpath, round % 2 == 0 and 1 or 200)
        wait.till(10, "reads", function() return seen[0].reads > 3 end)
        unplug(dev)
        assert(thread:join())
        assert.equal(0, seen[0].wrong)
        assert.equal(-19, seen[0].code)
        plug(dev)
        assert(dev:retake())
      end
    end)
  end)

  it("loses its device in a transfer, and in a wait", function()
    local dev = assert(luio.start("edu", "qemu:edu,bus=rp", { qemu = PORT }))
    luio.run(function()
      local buffer = assert(dev.dma:alloc(4096))
      local _, message, code
      local transfer = luio.spawn(function() _, message, code = dev.driver.from_device(dev, buffer, 4000) end)
      unplug(dev)
      assert(transfer:join(100))
      assert.equal("ENODEV", code)
      assert.matches("^device gone: ", message)
      plug(dev)
      assert(dev:wait_return(100))
      buffer:write(0, "again")
      assert(dev.driver.to_device(dev, buffer, 5))
    end)
  end)

  it("is emptied and filled under luio run, which says so and goes on", function()
    local folder = files.driver [[
      local luio = require "luio"
      local edu = assert(luio.load "drivers/edu")
      local d = { name = "plugged", match = edu.match, registers = edu.registers, irq = edu.irq, dma = edu.dma }
      function d.start(dev, reason)
        dev.state.n = (dev.state.n or 0) + 1
        print(("[%d %s 5! %d]"):format(dev.state.n, reason, assert(edu.factorial(dev, 5))))
        io.stdout:flush()
        if dev.state.n == 4 then return true end
        luio.spawn(function() -- it ends with this start
          assert(dev.qemu:command("device_del", { id = "luio-device" }))
          assert(dev.qemu:wait("DEVICE_DELETED", 100))
          assert(dev.qemu:command("device_add", { driver = "edu", bus = "rp", id = "luio-device" }))
        end)
        return true
      end
      return d
    ]]
    local p = program.start { "run", folder, "qemu:edu,bus=rp", "--qemu", PORT[1], "--qemu", PORT[2] }
    finally(function() p:close() end)
    p:wait "%[4 returned 5! 120%].-is there again"
    local text = p:text()
    assert.matches("%[1 fresh 5! 120%]", text)
    for n = 2, 4 do assert.truthy(text:find(("[%d returned 5! 120]"):format(n), 1, true), text) end
    assert.matches("qemu:edu is gone: unplugged from its QEMU machine", text)
    assert.matches("qemu:edu is there again after", text)
    p:kill "sigterm"
    assert.equal(0, p:status())
  end)
end)

describe("a reset of a QEMU machine", function()
  after_each(function() assert(luio.close_all()) end)

  it("is a device that is gone and comes back: its driver starts again, with its memory and its slots", function()
    local dev = assert(luio.start("edu", "qemu:edu,bus=rp", { qemu = PORT }))
    luio.run(function()
      for round = 1, 3 do
        local buffer = assert(dev.dma:alloc(64))
        buffer:write(0, "kept " .. round)
        local waiting, code
        waiting = luio.spawn(function() code = select(3, dev.irqs[0]:wait(100)) end)
        assert(dev.qemu:command "system_reset")
        assert(dev.qemu:wait("RESET", 100))
        assert(waiting:join(100))
        assert.equal("ENODEV", code)
        assert(dev:wait_return(100))
        assert.equal(120, (assert(dev.driver.factorial(dev, 5))))
        assert(dev.driver.to_device(dev, buffer, 6))
        buffer:fill(0)
        assert(dev.driver.from_device(dev, buffer, 6))
        assert.equal("kept " .. round, buffer:read(0, 6))
      end
      unplug(dev)
      plug(dev)
      assert(dev:wait_return(100))
      assert.equal(24, (assert(dev.driver.factorial(dev, 4))))
    end)
  end)

  it("is a network card's, whose link comes up again", function()
    local dev = assert(luio.open("qemu:e1000e,netdev=n0", { qemu = { "-netdev", "hubport,id=n0,hubid=0" } }))
    local port = assert(net.open(dev))
    luio.run(function()
      assert(port:wait_link(true, 100))
      assert(port.dev.qemu:command "system_reset")
      assert(port.dev.qemu:wait("RESET", 100))
      wait.till(10, "it is noticed", function() return port.dev.gone end)
      assert(port.dev:wait_return(100))
      assert(port:wait_link(true, 100))
      assert(port.dev.qemu:command("set_link", { name = "luio-device", up = false }))
      assert(port:wait_link(false, 100))
    end)
    assert(port:close())
  end)
end)
