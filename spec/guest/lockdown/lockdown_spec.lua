--- In a guest whose kernel is locked down (lockdown=integrity), as secure boot does it: config space can't
--- be written, resourceN not be mapped. Looking works, by the UIO map; driving is refused, with what to do.

local luio = require "luio"
local program = require "spec.support.program"
local sysfs = require "spec.support.sysfs"

local EDU, E1000E = "0000:00:04.0", "0000:00:05.0"
local REMEDY = "kernel lockdown forbids it: switch secure boot off, or boot without lockdown="

describe("under lockdown", function()
  before_each(function() assert.matches("%[integrity%]", sysfs.read "kernel/security/lockdown") end)

  it("a device can be looked at by its UIO map", function()
    local before = sysfs.command(EDU)
    local out, status = program.run("get " .. EDU .. " ID.MAGIC")
    assert.same({ "ID.MAGIC = 0xed\n", 0 }, { out, status })
    out, status = program.run("dump " .. EDU .. " ID")
    assert.equal(0, status)
    assert.matches("ID 0x0 = 0x010000ed", out)
    out, status = program.run(("explore %s -e 'ID'"):format(EDU))
    assert.equal(0, status)
    assert.matches("ID 0x0 = 0x010000ed", out)
    local dev = assert(luio.open(EDU, { read_only = true }))
    assert.matches("^BAR0 by uio%d+ map0$", dev.regions[0].name)
    assert(dev:close())
    assert.equal(before, sysfs.command(EDU))
  end)

  it("one without a UIO driver can't, and that is said", function()
    local dev = assert(luio.open(E1000E, { read_only = true }))
    local region, message, code = dev:region(0)
    assert.is_nil(region)
    assert.equal("EPERM", code)
    assert.matches("kernel lockdown %(secure boot%) forbids it: use a UIO driver that offers the region as a map, or boot without lockdown", message)
    assert(dev:close())
  end)

  it("a range of physical addresses can't be opened, not even to look, and it is said why", function()
    local line = sysfs.read("bus/pci/devices/" .. E1000E .. "/resource"):match "[^\n]+"
    local bar = ("mem:0x%x+0x1000"):format(tonumber(line:match "0x%x+"))
    for _, read_only in ipairs { true, false } do
      local dev, message, code = luio.open(bar, { read_only = read_only })
      assert.is_nil(dev)
      assert.equal("EPERM", code)
      assert.matches("^open mem:0x%x+%+0x1000: open /dev/mem: EPERM: the kernel is locked down %(secure boot%): use a UIO driver that "
        .. "offers the region as a map, switch secure boot off, or boot without lockdown=$", message)
    end
    local out, status = program.run("doctor " .. bar)
    assert.equal(1, status)
    assert.matches("problem  lockdown: the kernel is locked down %(integrity%): nobody opens /dev/mem\n +remedy: use a UIO driver", out)
  end)

  it("a driver that does DMA is refused, with what to do", function()
    local dev, message, code = luio.start("edu", EDU)
    assert.is_nil(dev)
    assert.equal("EPERM", code)
    assert.is_truthy(message:find(REMEDY, 1, true), message)
    local out, status = program.run("run drivers/edu " .. EDU)
    assert.equal(1, status)
    assert.is_truthy(out:find(REMEDY, 1, true), out)
    assert.matches("^[^\n]*\n$", out)
  end)

  it("an interrupt comes once, and then it is said why no more", function()
    local dev = assert(luio.open(EDU))
    assert(dev.irqs[0]:setup({ ack = { { 0x64, 0x40 } } }):start())
    dev.regions[0]:write32(0x60, 0x40)
    local event, message, code = dev.irqs[0]:wait(60)
    assert.is_nil(event)
    assert.equal("EPERM", code)
    assert.is_truthy(message:find(REMEDY, 1, true), message)
    assert(dev:close())
  end)

  it("doctor says it", function()
    local out, status = program.run("doctor " .. EDU)
    assert.equal(1, status)
    assert.matches("problem  interrupt: lockdown forbids writing config space, so interrupts can't be unmasked\n"
      .. " +remedy: switch secure boot off, or boot without lockdown=\n", out)
  end)
end)
