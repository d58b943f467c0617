--- `luio irq` and `luio dma` on real devices, in the guest (spec/guest/run has their addresses).

local luio = require "luio"
local interrupted = require "spec.support.interrupted"
local memory = require "spec.support.memory"
local program = require "spec.support.program"
local sysfs = require "spec.support.sysfs"
local system = require "spec.support.system"
local uv = require "luv"
local wait = require "spec.support.wait"

local EDU, NIC, SERIAL, TESTDEV = "0000:00:04.0", "0000:00:05.0", "0000:00:06.0", "0000:00:07.0"
local BUS_MASTER, INTX_DISABLE = sysfs.BUS_MASTER, sysfs.INTX_DISABLE
local change_command = sysfs.change_command

local function kernel_count()
  local dev = assert(luio.open(EDU, { read_only = true }))
  local uio = dev.info.uio
  assert(dev:close())
  return tonumber(sysfs.read(("class/uio/%s/event"):format(uio)))
end

setup(system.start)
teardown(system.stop)

describe("luio irq on a real device", function()
  it("raises a thousand interrupts and loses none; the kernel counts the same", function()
    local before = kernel_count()
    local doc, status, out = system.json("irq " .. EDU .. " --trigger IRQ_RAISE=1 --count 1000")
    assert.equal(0, status, out)
    assert.same({ 1000, 1000, 0 }, { doc.triggered, doc.interrupts, doc.overflow })
    assert.same({ 1000, 999, 1000 }, { doc.latency.count, doc.interval.count, doc.trigger.count })
    assert.equal(before + 1000, kernel_count())
    assert.equal("0x00000001", doc.first_events[1].captured.IRQ_STATUS.value)
  end)

  it("leaves the source as it was, masked or not, however it ends", function()
    for _, mask in ipairs { INTX_DISABLE, 0 } do
      change_command(EDU, INTX_DISABLE, mask)
      local out, status = interrupted(("%s irq %s"):format(program.PATH, EDU), "interrupts of " .. EDU, "INT")
      assert.equal(0, status, out)
      assert.matches("\n0 interrupts, 0 events, ", out)
      assert.equal(mask ~= 0, sysfs.has(EDU, INTX_DISABLE))
    end
    change_command(EDU, INTX_DISABLE, INTX_DISABLE)
    local out, status = system.run("irq " .. EDU .. " --for 0.2")
    assert.equal(1, status, out)
    assert.matches(("no interrupt of %s within 0.2 s: luio doctor %s"):format(EDU, EDU), out)
    assert.is_true(sysfs.has(EDU, INTX_DISABLE))
    change_command(EDU, INTX_DISABLE, 0)
  end)

  it("sees one interrupt of a line that nobody acknowledges, and no storm", function()
    local doc, status, out = system.json("irq " .. SERIAL .. " --trigger IER=2") -- the transmitter is empty: the line goes up
    assert.equal(0, status, out)
    assert.matches("not acknowledged: nothing says how", out)
    assert.same({ 1, false }, { doc.interrupts, doc.acknowledged })
    assert.equal(0, select(2, system.run("set " .. SERIAL .. " IER=0")))
  end)

  it("takes a line back by reading, as the driver says: e1000e's ICR", function()
    assert.equal(0, select(2, system.run("set " .. NIC .. " IMS.LSC=1")))
    local doc, status, out = system.json("irq " .. NIC .. " --capture ICR --trigger ICS=4 --count 20")
    system.run("set " .. NIC .. " IMC=0xffffffff")
    assert.equal(0, status, out)
    assert.equal("reads ICR, writes IMC := 0x000000d1, unmasks", doc.top_half)
    assert.equal(20, doc.triggered)
    assert.equal(1, doc.first_events[1].captured.ICR.fields.LSC)
  end)

  it("says that a device has no interrupt", function()
    local out, status = system.run("irq " .. TESTDEV .. " --for 1")
    assert.equal(1, status)
    assert.matches("luio: interrupt of 0000:00:07%.0: .*no UIO driver is bound", out)
  end)
end)

describe("luio dma on a real device", function()
  it("takes a hugepage, verifies its address, and gives it back", function()
    local before = memory.free_pages()
    local doc, status, out = system.json("dma " .. EDU .. " --size 64k --align 64k --fill address --hexdump")
    assert.equal(0, status, out)
    assert.same({ true, 2 ^ 21, 28 }, { doc.verified, doc.page_size, doc.address_bits })
    local iova = tonumber(doc.iova)
    assert.equal(0, iova % 65536)
    assert.is_true(iova + 65536 <= 2 ^ 28)
    for _, pages in ipairs(doc.hugepages) do
      if pages.size == 2 ^ 21 then assert.same({ before, before - 1 }, { pages.free_before, pages.free_after }) end
    end
    assert.equal(("%02x%02x%02x%02x00000000"):format(iova % 256, math.floor(iova / 2 ^ 8) % 256, math.floor(iova / 2 ^ 16) % 256,
      math.floor(iova / 2 ^ 24)), doc.data:sub(1, 16))
    assert.equal(before, memory.free_pages())
  end)

  it("says whether bus master is on, and leaves it so while it runs", function()
    change_command(EDU, BUS_MASTER, 0)
    assert.matches("\nbus master +off: the device reaches no memory; it is left so\n", (system.run("dma " .. EDU)))
    change_command(EDU, 0, BUS_MASTER)
    local out = system.run("dma " .. EDU)
    assert.matches("\nbus master +on\n", out)
    assert.matches("\npage +2 MiB; %d+ free before, %d+ now\n", out)
    assert.is_false(sysfs.has(EDU, BUS_MASTER)) -- by the kernel, when /dev/uioX was closed
  end)

  it("shows what the device writes while it is held", function()
    local p = program.start { "dma", EDU, "--fill", "count", "--hold", "1000" }
    finally(function() p:close() end)
    local iova = tonumber((p:wait "\nIOVA +(0x%x+).*\nheld"))
    change_command(EDU, 0, BUS_MASTER)
    local dev = assert(luio.open(EDU, { shared = true }))
    local regs = dev.regions[0]
    local function transfer(src, dst, how)
      regs:write64(0x80, src)
      regs:write64(0x88, dst)
      regs:write64(0x90, 3)
      regs:write64(0x98, how)
      wait.till(2, "a transfer's end", function() return regs:read64(0x98) % 2 == 0ULL end)
    end
    transfer(iova, 0x40000, 1) -- to the device's buffer,
    transfer(0x40000, iova + 0x20, 3) -- and from there to memory
    assert(dev:close())
    p:kill "sigint"
    assert.equal(0, p:status(), p:text())
    assert.matches("\nchanged +3 bytes\n%*\n0020> 00 01 02 23 24 ", p:text())
  end)

  it("says when there is no hugepage, and does with a small one", function()
    local out, status = memory.without_hugepages(function() return system.run("dma " .. EDU) end)
    assert.equal(0, status, out)
    assert.matches("are in small pages: 0 free hugepages of 2 MiB", out)
    assert.matches("\npage +4 KiB, no hugepage\n", out)
  end)
end)

describe("a device that somebody drives", function()
  it("is opened by neither: closing it again would stop its owner's DMA", function()
    local dev = assert(luio.open(EDU))
    assert(dev:bus_master(true))
    local said = {}
    for i, name in ipairs { "irq", "dma" } do said[i] = { system.run(name .. " " .. EDU) } end
    local on = dev.config:command().bus_master
    assert(dev:close())
    assert.is_true(on)
    for _, result in ipairs(said) do
      assert.equal(1, result[2])
      assert.matches(("^luio: %s: process %d .*drives it.*; end that first\n$"):format(EDU, uv.os_getpid()), result[1])
    end
  end)
end)
