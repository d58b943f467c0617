--- Several devices of one QEMU machine: dev.qemu.

local ffi = require "ffi"
local luio = require "luio"
local net = require "luio.net"
local program = require "spec.support.program"
local uv = require "luv"

local SECOND = { "-device", "edu,id=b" }
local FRAME = "\255\255\255\255\255\255" .. "\2\0\0\0\0\1" .. "\x88\xb5"

local function ids(machine)
  local list = {}
  for _, one in ipairs(assert(machine:devices())) do
    if one.id then list[one.id] = one end
  end
  return list
end

describe("a QEMU machine with several devices", function()
  after_each(function() assert(luio.close_all()) end)

  it("lists them by id, QEMU's name and address, those behind bridges, too #plain", function()
    local dev = assert(luio.open("qemu:edu,id=a", { qemu = {
      "-device", "pcie-root-port,id=rp,slot=1,chassis=1", "-device", "nec-usb-xhci,id=usb,bus=rp", "-device", "pci-serial,id=s,addr=9",
    } }))
    local list = ids(dev.qemu)
    assert.equal("edu", list.a.name)
    assert.is_true(list.a.open)
    assert.same({ "nec-usb-xhci", "01:00.0", 0x1033, 0x0194, false },
      { list.usb.name, list.usb.address, list.usb.vendor, list.usb.device, list.usb.open })
    assert.same({ "pci-serial", "00:09.0", "Serial port" }, { list.s.name, list.s.address, list.s.class })
    local own
    for _, one in ipairs(dev.qemu:devices()) do own = own or one.address == "00:1f.0" and one end
    assert.same({ "ISA bridge" }, { own.class, own.id, own.name })
    assert.equal("qemu:edu,id=a", dev.address)
    assert.equal("qemu:nec-usb-xhci,id=usb", assert(dev.qemu:open "usb").address)
    assert.equal("qemu:pci-serial,id=00:09.0", assert(dev.qemu:open "00:09.0").address)
  end)

  it("opens each once #plain", function()
    local dev = assert(luio.open("qemu:edu,id=a", { qemu = SECOND }))
    local other = assert(dev.qemu:open "b")
    assert.equal(dev.qemu, other.qemu)
    dev.regions[0]:write32(4, 1)
    other.regions[0]:write32(4, 2)
    assert.equal(0xfffffffe, dev.regions[0]:read32(4))
    assert.equal(0xfffffffd, other.regions[0]:read32(4))
    for id, said in pairs { b = "it is open in this process", a = "it is open in this process",
      c = 'the machine has no PCI device "c"; it has a, b', ["00:44.0"] = "the machine has no PCI device" } do
      local none, message, code = dev.qemu:open(id)
      assert.is_nil(none)
      assert.equal(said:find "open" and "EBUSY" or "ENODEV", code)
      assert.truthy(message:find(said, 1, true), message)
      assert.equal(("open %s of qemu-system-x86_64: "):format(id), message:match "^open .-: ")
    end
    assert(other:close())
    assert.equal(0, assert(dev.qemu:open "b").regions[0]:read32(8))
    assert.error_matches(function() dev.qemu:open(7) end, "open wants a device's id, not a number")
    assert.error_matches(function() dev.qemu:open("b", { qemu = {} }) end, "qemu")
  end)

  it("ends with the last of them, in whatever order they are closed", function()
    for _, order in ipairs { { 1, 2, 3 }, { 3, 2, 1 }, { 2, 3, 1 } } do
      local a = assert(luio.open("qemu:edu,id=a", { qemu = { "-device", "edu,id=b", "-device", "edu,id=c" } }))
      local machine, devices = a.qemu, { a, assert(a.qemu:open "b"), assert(a.qemu:open "c") }
      local pid = machine.pid
      for n, i in ipairs(order) do
        assert.is_true(program.alive(pid))
        assert.equal(0x010000ed, devices[i].regions[0]:read32(0))
        assert.is_nil((machine:open "nosuch")) -- an error is not the end of it
        assert(devices[i]:close())
        assert.equal(n < 3, program.alive(pid))
      end
      assert.error_matches(function() machine:command "query-status" end, "the machine has ended with the last of its devices")
      assert.error_matches(function() machine:open "a" end, "the machine has ended")
    end
  end)

  it("has one memory: what one device wrote to a buffer of another's the other one reads #plain", function()
    local a = assert(luio.start("edu", "qemu:edu"))
    local second = assert(luio.open("qemu:edu,id=a", { qemu = SECOND }))
    local b = assert(luio.start("edu", assert(second.qemu:open "b")))
    second = assert(luio.start("edu", second))
    assert.not_equal(a.qemu, b.qemu)
    local buffer = assert(b.dma:alloc(4096))
    buffer:write(0, "from one to the other")
    assert(second.driver.to_device(second, buffer, 21))
    buffer:fill(0)
    assert(second.driver.from_device(second, buffer, 21))
    assert.equal("from one to the other", buffer:read(0, 21))
    assert(b.driver.to_device(b, buffer, 21, 100))
    buffer:fill(0)
    assert(b.driver.from_device(b, buffer, 21, 100))
    assert.equal("from one to the other", buffer:read(0, 21))
    -- Both have pieces of it, none of them twice.
    local seen = {}
    for _ = 1, 20 do
      for _, dev in ipairs { second, b } do
        local piece = assert(dev.dma:alloc(2 ^ 20))
        assert.is_nil(seen[piece.iova])
        seen[piece.iova] = true
      end
    end
    assert(b:close())
    assert.equal(120, (assert(second.driver.factorial(second, 5))))
  end)

  it("tells the interrupts of each from those of the others, also on one line", function()
    -- q35 has its eight lines by slot: 4 and 12 share one.
    local a = assert(luio.open("qemu:edu,id=a,addr=4", { qemu = { "-device", "edu,id=b,addr=0xc", "-device", "edu,id=c,addr=5" } }))
    local devices = { a, assert(a.qemu:open "b"), assert(a.qemu:open "c") }
    for i, dev in ipairs(devices) do devices[i] = assert(luio.start("edu", dev)) end
    luio.run(function()
      local tasks = {}
      for i, dev in ipairs(devices) do
        tasks[i] = luio.spawn(function()
          for n = 1, 20 do
            local result = assert(dev.driver.factorial(dev, (n + i) % 10))
            local wanted = 1
            for k = 2, (n + i) % 10 do wanted = wanted * k end
            assert(result == wanted, ("%d: %d! is not %d"):format(i, (n + i) % 10, result))
          end
        end)
      end
      for _, task in ipairs(tasks) do assert(task:join(600)) end
    end)
  end)

  it("whose QEMU ends takes all of them along #plain", function()
    local a = assert(luio.open("qemu:edu,id=a", { qemu = SECOND }))
    local b = assert(a.qemu:open "b")
    luio.run(function()
      local codes, tasks = {}, {}
      for i, dev in ipairs { a, b } do
        tasks[i] = luio.spawn(function() codes[i] = select(3, dev.irqs[0]:wait(100)) end)
      end
      uv.kill(a.qemu.pid, "sigkill")
      for _, task in ipairs(tasks) do assert(task:join(100)) end
      assert.same({ "ENODEV", "ENODEV" }, codes)
    end)
    assert(a.gone and b.gone)
  end)

  it("connects two network cards by a hub: each hears the other #plain", function()
    local dev = assert(luio.open("qemu:e1000e,id=a,netdev=n0", { qemu = {
      "-netdev", "hubport,id=n0,hubid=0", "-netdev", "hubport,id=n1,hubid=0", "-device", "e1000,id=b,netdev=n1",
    } }))
    local other = assert(dev.qemu:open "b")
    local ports = { assert(net.open(dev)), assert(net.open(other)) }
    assert.equal(dev.qemu, ports[2].dev.qemu)
    local function send(port, text)
      local packet = assert(port.pool:alloc())
      packet:write(FRAME .. text .. ("\0"):rep(46))
      return assert(port.tx[0]:send(packet, 100))
    end
    for _, port in ipairs(ports) do assert(port:wait_link(true, 100)) end
    -- QEMU's 82540EM is deaf for a second after it was set up: frames are sent until it hears one.
    local function hears(from, to, text)
      local deadline = luio.now() + 100
      while luio.now() < deadline do
        send(from, text)
        local packet = to.rx[0]:receive(0.1)
        local came = packet and packet:read(14, #text)
        if packet then packet:free() end
        if came == text then return true end
      end
    end
    for round = 1, 3 do
      assert(hears(ports[1], ports[2], "a to b " .. round))
      assert(hears(ports[2], ports[1], "b to a " .. round))
    end
  end)

  it("lets a program open it by several threads at once, and close it", function()
    local arguments, wanted = {}, {}
    for i = 1, 6 do
      table.insert(arguments, "-device")
      table.insert(arguments, ("edu,id=d%d,addr=0x%x"):format(i, 10 + i))
    end
    local dev = assert(luio.open("qemu:edu,id=a", { qemu = arguments }))
    local address = tonumber(ffi.cast("uintptr_t", dev.qemu.handle))
    local library = require("luio.ffi").path
    local function work(machine, slot, path, paths, cpaths)
      package.path, package.cpath = paths, cpaths
      local f = require "ffi"
      local runtime = require "luio.ffi"
      assert(path == runtime.path)
      local C, err = runtime.C, runtime.err
      local q = f.cast("luio_qemu *", f.cast("uintptr_t", machine))
      for n = 1, 30 do
        local out, region, value = f.new "luio_device *[1]", f.new "luio_region *[1]", f.new "uint64_t[1]"
        assert(C.luio_device_open_qemu(q, 0, slot, 0, "qemu:edu", 0, out, err) == 0, f.string(err.message))
        assert(C.luio_device_region(out[0], 0, region, err) == 0)
        assert(C.luio_region_write(region[0], 4, 32, n, err) == 0)
        assert(C.luio_region_read(region[0], 4, 32, value, err) == 0)
        assert(value[0] == 0xffffffffULL - n)
        assert(C.luio_device_close(out[0], err) == 0)
      end
    end
    for i = 1, 6 do
      wanted[i] = uv.new_thread(work, address, 10 + i, library, package.path, package.cpath)
    end
    for _, thread in ipairs(wanted) do assert(thread:join()) end
    assert.equal(0x010000ed, dev.regions[0]:read32(0))
    local pid = dev.qemu.pid
    assert(dev:close())
    assert.is_false(program.alive(pid))
  end)
end)
