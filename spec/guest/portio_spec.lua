--- Ports that a UIO driver declares (portio): spec/guest/portio is such a driver, over pci-serial's BAR. LUIO_PORTIO: its .ko.

local conformance = require "spec.serial.conformance"
local files = require "spec.support.files"
local luio = require "luio"
local program = require "spec.support.program"
local sysfs = require "spec.support.sysfs"
local uio_named = require "spec.support.uio_named"

local MODULE, SERIAL = os.getenv "LUIO_PORTIO", "0000:00:06.0"

describe("ports of a UIO device", function()
  if not MODULE then
    it("are there", function() pending "LUIO_PORTIO names no module: spec/guest/specs does" end)
    return
  end

  -- While the specs are named there is no device yet: a name is enough, it is the first uio that is free.
  sysfs.unbind(SERIAL)
  local out, status = files.shell("/run/luio/bin/insmod " .. MODULE .. " slot=6")
  assert(status == 0, out)
  local address = assert(uio_named "uart16550").address

  teardown(function()
    assert.equal(0, select(2, files.shell "/run/luio/bin/rmmod luio_portio"))
    sysfs.bind(SERIAL)
  end)

  it("are regions behind the maps, of which there are none", function()
    local info = uio_named "uart16550"
    assert.same({ "platform", 0x40 - 0x38 }, { info.bus, info.ports[0].size })
    assert.same({ "port_x86", "port_gpio" }, { info.ports[0].porttype, info.ports[1].porttype })
    local dev = assert(luio.open(address))
    local ports = dev.regions[0]
    assert.same({ "port", 8, info.ports[0].start, "port0 by port instructions" }, { ports.kind, ports.size, ports.addr, ports.name })
    for _, value in ipairs { 0x55, 0xaa, 0, 0xff } do
      ports:write8(7, value) -- SCR
      assert.equal(value, ports:read8(7))
    end
    ports:write8(3, 0x80) -- LCR.DLAB: two registers that keep what they are given
    ports:write16(0, 0x1234)
    assert.equal(0x1234, ports:read16(0))
    assert.equal(0x34, ports:read8(0))
    ports:write8(3, 0x03)
    for _, wrong in ipairs {
      function() ports:read8(8) end, function() ports:read16(1) end, function() ports:read64(0) end, function() ports:write8(7, 256) end,
      function() ports:read32(6) end,
    } do assert.has_error(wrong) end
    local none, message, code = dev:region(1)
    assert.same({ nil, "ENOTSUP" }, { none, code })
    assert.matches("^open port1 of uio%d+: it is a port_gpio: only its UIO driver's own way leads there$", message)
    none, message, code = dev:region(2)
    assert.same({ nil, "ENOENT" }, { none, code })
    assert.matches("it has: 0 1$", message)
    assert(dev:close())
    assert.has_error(function() ports:read8(7) end)
  end)

  it("can be looked at and not written, read-only; beside an owner, whose stay when the other ends", function()
    local owner = assert(luio.open(address))
    local reader = assert(luio.open(address, { read_only = true }))
    owner.regions[0]:write8(7, 0x5a)
    assert.equal(0x5a, reader.regions[0]:read8(7))
    assert.has_error(function() reader.regions[0]:write8(7, 1) end)
    assert(reader:close())
    assert.equal(0x5a, owner.regions[0]:read8(7))
    assert(owner:close())
  end)

  it("are in info, with what they are reached by", function()
    local text = program.run("info " .. address)
    assert.matches("region 0 +I/O ports 0x%x+%+0x8 %(8 bytes%), by uio%d+ port0\n", text)
    assert.matches("region 1 +I/O ports 0x10%+0x4 %(4 bytes%)\n", text)
    assert.matches("ports 1 +0x10%+0x4 port_gpio pins\n", text)
  end)

  it("take CAP_SYS_RAWIO, and that is said", function()
    local path = files.write("user.lua", ([[
      local luio = require "luio"
      local dev = assert(luio.open("%s", { read_only = true }))
      print(select(2, dev:region(0)))
    ]]):format(address))
    assert.equal(0, os.execute("chmod 666 /dev/" .. uio_named("uart16550").uio))
    local said = files.shell(("LUA_PATH='./lua/?.lua;./lua/?/init.lua;;' setpriv --reuid 65534 --regid 65534 --clear-groups luajit %s"):format(path))
    assert.matches("open port0 of uio%d+: ioperm of 0x%x+%+0x8: EPERM: it takes CAP_SYS_RAWIO", said)
    assert.equal(0, os.execute("chmod 600 /dev/" .. uio_named("uart16550").uio))
  end)

  it("are used by the interrupt thread, too", function()
    local dev = assert(luio.open(address))
    local uart, irq = dev.regions[0], dev.irqs[0]
    irq:setup { capture = { { "iir", 2, width = 8 } }, ack = { { 1, 0, width = 8 } } } -- IIR; IER = 0
    assert(irq:start())
    uart:write8(1, 2) -- the transmitter is empty
    local stop = luio.now() + 0.2
    while luio.now() < stop do end -- luacheck: ignore 542 (so that the thread takes it, not we)
    local event = assert(irq:wait(50))
    assert.equal(2, event.iir % 16)
    assert.equal(0, uart:read8(1))
    assert.equal(0, irq:stats().direct)
    assert(dev:close())
  end)

  conformance {
    address = address, kind = "16550A", fifo = 16,
    only = { "carries every value of a byte, in a task and outside of one", "waits by interrupt" }, -- the rest: spec/qemu/serial_spec.lua
  }
end)
