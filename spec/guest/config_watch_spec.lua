--- Config space of a real device behind uio_pci_generic that another process writes to: interrupts masked, memory off, MSI on,
--- another power state. Also the kernel's own power management. In the guest of spec/guest/specs: an edu, which has MSI and no power management, and an e1000e.

local amount = require "spec.support.amount"
local files = require "spec.support.files"
local luio = require "luio"
local net = require "luio.net"
local program = require "spec.support.program"
local sysfs = require "spec.support.sysfs"

local TIMES = amount(3, 100)
local EDU, NIC = "0000:00:04.0", "0000:00:05.0"
local COMMAND, BAR0, CAPABILITIES = 0x04, 0x10, 0x34
local MEMORY, MASTER, INTX_DISABLE, INTX_STATUS = 0x2, 0x4, 0x400, 0x8

local function config_path(address) return "/sys/bus/pci/devices/" .. address .. "/config" end

-- Another process's write: `dd`, one write of so many bytes.
local function foreign(address, offset, bytes)
  local octal = bytes:gsub(".", function(c) return ("\\%03o"):format(c:byte()) end)
  local out, status = files.shell(("printf '%s' | dd of=%s bs=%d seek=%d conv=notrunc status=none"):format(octal,
    config_path(address), #bytes, offset / #bytes))
  assert.equal(0, status, out)
end

local function foreign16(address, offset, value)
  foreign(address, offset, string.char(value % 256, math.floor(value / 256)))
end

local function bytes_of(address)
  local f = assert(io.open(config_path(address), "rb"))
  local all = f:read(256)
  f:close()
  return all
end

-- Where a capability is.
local function capability(address, id)
  local all = bytes_of(address)
  local at = all:byte(CAPABILITIES + 1)
  while at ~= 0 do
    if all:byte(at + 1) == id then return at end
    at = all:byte(at + 2)
  end
end

describe("config space of a real device that another process changes", function()
  local dev, said

  before_each(function()
    if not sysfs.driver(EDU) then sysfs.bind(EDU) end
    said = {}
    dev = assert(luio.start("edu", EDU))
    dev.on_warning = function(message) table.insert(said, message) end
  end)
  after_each(function() assert(dev:close()) end)

  local function works()
    local result, message = dev.driver.factorial(dev, 5)
    assert.equal(120, result, message)
  end

  it("has its mask taken back: what was raised meanwhile arrives, each once", function()
    luio.run(function()
      local irq = dev.irqs[0]
      assert(irq:start())
      local before = irq:stats().interrupts
      for i = 1, TIMES do
        foreign16(EDU, COMMAND, MEMORY + MASTER + INTX_DISABLE)
        dev.regs.IRQ_RAISE:write(0x40)
        assert.equal(INTX_STATUS, bit.band(bytes_of(EDU):byte(7), INTX_STATUS)) -- it waits at the device
        assert.is_nil(irq:poll())
        if i > 1 then dev:check_config() end -- the first time the look of every second does it all
        local event, message = irq:wait(100)
        assert.equal(0x40, event and event.IRQ_STATUS, message)
        assert.equal(i, dev.repairs.intx)
      end
      assert.equal(before + TIMES, irq:stats().interrupts)
      works()
    end)
    assert.matches("^config space of 0000:00:04.0 was changed by another process: .*masked %(INTX_DISABLE%): one that waited comes now", said[1])
  end)

  it("has its mask taken back however often another process sets it, and whenever", function()
    local command = ("while :; do printf '\\006\\004' | dd of=%s bs=2 seek=2 conv=notrunc status=none; done"):format(config_path(EDU))
    local other = program.start({ "-c", command }, { program = "/bin/sh" })
    finally(function() other:close() end)
    luio.run(function()
      local irq, done = dev.irqs[0], false
      assert(irq:start())
      luio.spawn(function()
        while not done do
          dev:check_config()
          luio.sleep(0.01)
        end
      end)
      local i = 0
      while i < 30 * TIMES or dev.repairs.intx < 3 do
        i = i + 1
        local cause = 2 ^ (i % 30)
        dev.regs.IRQ_RAISE:write(cause)
        local event, message = irq:wait(100)
        assert.equal(cause, event and event.IRQ_STATUS, message)
      end
      done = true
    end)
  end)

  it("is left alone while interrupts come as fast as they can", function()
    luio.run(function()
      local irq = dev.irqs[0]
      for _ = 1, 100 * TIMES do
        dev.regs.IRQ_RAISE:write(0x40)
        dev:check_config()
        assert(irq:wait(100))
        dev:check_config()
      end
      assert.equal(0, dev.repairs.intx)
      assert.same({}, said)
    end)
  end)

  it("decodes memory again", function()
    dev.regs.LIVENESS:write(5)
    for i = 1, TIMES do
      foreign16(EDU, COMMAND, MASTER)
      assert.not_equal(0x010000ed, dev.regs.ID:read()) -- QEMU gives 0, hardware all ones
      assert.same({ false, "memory" }, { dev:check_config() })
      assert.equal(0xfffffffa, dev.regs.LIVENESS:read())
      assert.equal(i, dev.repairs.memory)
    end
    works()
  end)

  it("has its BAR where the kernel put it", function()
    local before = bytes_of(EDU):sub(BAR0 + 1, BAR0 + 4)
    for i = 1, TIMES do
      foreign(EDU, BAR0, "\0\0\0\0")
      assert.same({ false, "bars" }, { dev:check_config() })
      assert.equal(before, bytes_of(EDU):sub(BAR0 + 1, BAR0 + 4))
      assert.equal(i, dev.repairs.bars)
      assert.equal(0x010000ed, dev.regs.ID:read())
    end
    works()
  end)

  it("sends no messages in place of interrupts", function()
    local msi = assert(capability(EDU, 0x05)) + 2
    local control = bytes_of(EDU):byte(msi + 1) + 256 * bytes_of(EDU):byte(msi + 2)
    luio.run(function()
      local irq = dev.irqs[0]
      for i = 1, TIMES do
        foreign16(EDU, COMMAND, MEMORY) -- its message would be written to address 0
        foreign16(EDU, msi, control + 1)
        dev.regs.IRQ_RAISE:write(0x20)
        assert.is_nil(irq:poll())
        assert.same({ false, "msi, bus_master" }, { dev:check_config() })
        dev.regs.IRQ_RAISE:write(0x40) -- QEMU's edu asserts the line at this write, not when MSI goes off
        assert.equal(0x60, (assert(irq:wait(100)).IRQ_STATUS))
        assert.equal(i, dev.repairs.msi)
      end
    end)
    works()
  end)

  it("is nobody's to change for a member of no group", function()
    local _, status = files.shell(("printf '\\002\\004' | setpriv --reuid 65534 --regid 65534 --clear-groups dd of=%s bs=2 seek=2 "
      .. "conv=notrunc status=none"):format(config_path(EDU)))
    assert.not_equal(0, status)
    assert.equal(0, bit.band(sysfs.command(EDU), INTX_DISABLE))
  end)
end)

describe("a card that another process puts to sleep", function()
  it("is woken, and its port works on", function()
    if not sysfs.driver(NIC) then sysfs.bind(NIC) end
    local pm = assert(capability(NIC, 0x01)) + 4
    local port = assert(net.open(NIC, { loopback = true }))
    local dev = port.dev
    local said = {}
    dev.on_warning = function(message) table.insert(said, message) end
    local function there_and_back(text)
      local packet = assert(port.pool:alloc())
      packet:write(net.mac_bytes(port.mac):rep(2) .. "\x88\xb5" .. text .. ("x"):rep(46))
      assert(port.tx[0]:send(packet, 50))
      local got = assert(port.rx[0]:receive(10))
      assert.equal(text, got:read(14, #text))
      got:free()
    end
    luio.run(function()
      assert(port:wait_link(true, 100))
      there_and_back "before"
      for i = 1, TIMES do
        foreign16(NIC, pm, 3)
        assert.same({ false, "power" }, { dev:check_config() })
        assert.equal(0, bytes_of(NIC):byte(pm + 1) % 4)
        assert.is_true(dev:wait_return(100))
        assert(port:wait_link(true, 100))
        there_and_back("again " .. i)
        assert.equal(i, dev.repairs.power)
      end
    end)
    assert.equal(0, dev.repairs.bus_master)
    assert.matches("^config space of 0000:00:05.0 was changed by another process: .*another power state than D0", said[1])
    assert(port:close())
  end)

  it("is woken, and driven again, by a worker that has given root up", function()
    if not sysfs.driver(NIC) then sysfs.bind(NIC) end
    local p = program.start { "run", "--user", "nobody", "drivers/e1000e", NIC }
    finally(function() p:close() end)
    p:wait("driver e1000e runs on", 30)
    foreign16(NIC, assert(capability(NIC, 0x01)) + 4, 3)
    p:wait("is there again after [^\n]*; driver e1000e was started again", 30)
    assert.is_true(sysfs.has(NIC, sysfs.BUS_MASTER))
    p:kill "sigterm"
    assert.equal(0, p:status(20))
  end)

  it("is not put there by the kernel's own power management while a UIO driver has it", function()
    sysfs.write(("bus/pci/devices/%s/power/control"):format(NIC), "auto")
    finally(function() sysfs.write(("bus/pci/devices/%s/power/control"):format(NIC), "on") end)
    assert.equal("active", sysfs.read(("bus/pci/devices/%s/power/runtime_status"):format(NIC)))
    assert.equal("1", sysfs.read(("bus/pci/devices/%s/power/runtime_usage"):format(NIC))) -- it holds one use for good
  end)
end)
