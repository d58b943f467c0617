--- Exploring real devices behind the kernel's UIO: by each way to registers, beside a process that drives the device, and while the
--- device goes away. What the program does with a card's registers needs no kernel: spec/qemu/explore_spec.lua.

local luio = require "luio"
local sessions = require "luio.tool.explore.session"
local sysfs = require "spec.support.sysfs"
local system = require "spec.support.system"
local wait = require "spec.support.wait"

local EDU, SERIAL, TESTDEV = "0000:00:04.0", "0000:00:06.0", "0000:00:07.0"

local run = system.run

setup(system.start)
teardown(system.stop)

describe("the program on real devices", function()
  it("reads and writes registers of edu, by its address and by its UIO name", function()
    local uio = assert(luio.list())
    for _, info in ipairs(uio) do if info.address == EDU then uio = info.uio end end
    assert.same({ "ID.MAGIC = 0xed\n", 0 }, { run("get " .. uio .. " ID.MAGIC") })
    local out, status = run(("set %s LIVENESS=0x12345678"):format(EDU))
    assert.equal(0, status)
    assert.matches("^LIVENESS 0x%x+ %(%+0x4%) 0x%x+ := 0x12345678 %-> 0xedcba987\n  triggered LIVENESS: stores the complement\n$", out)
    assert.matches("0x0: 010000ed edcba987", (run(("dump %s 0x0+0x10"):format(EDU))))
  end)

  it("reaches I/O ports, and what has neither driver nor map", function()
    assert.matches("0x%x+ %(%+0x7%) 0x%x%x := 0x5a %-> 0x5a\n$", (run(("set %s SCR=0x5a"):format(SERIAL))))
    assert.equal(0, select(2, run(("dump %s 0x0+0x20"):format(TESTDEV))))
  end)

  it("leaves bus master and the INTx mask as they were", function()
    finally(function() sysfs.change_command(EDU, sysfs.INTX_DISABLE, 0) end)
    for _, masked in ipairs { 0, sysfs.INTX_DISABLE } do
      sysfs.change_command(EDU, sysfs.INTX_DISABLE, masked)
      local before = sysfs.command(EDU)
      for _, args in ipairs { "list", "info " .. EDU, "get " .. EDU .. " ID", "dump " .. EDU, "snapshot " .. EDU, "watch " .. EDU .. " --for 0.1",
        "set " .. EDU .. " LIVENESS=1", "explore --read-only -e STATUS " .. EDU } do
        local out, status = system.run("%s", args)
        assert.equal(0, status, out)
        assert.equal(before, sysfs.command(EDU), args)
      end
    end
  end)
end)

describe("beside a process that drives the device", function()
  local dev

  before_each(function()
    dev = assert(luio.open(EDU))
    assert(dev:bus_master(true))
  end)

  after_each(function() dev:close() end)

  it("looking works and does not stop its DMA", function()
    for _, args in ipairs { "list", "info " .. EDU, "get " .. EDU .. " ID", "dump " .. EDU, "snapshot " .. EDU, "watch " .. EDU .. " --for 0.1" } do
      local out, status = run(args)
      assert.equal(0, status, out)
      assert.is_true(dev.config:command().bus_master, args)
    end
  end)

  it("writing is refused with the owner's name, unless it is forced", function()
    local before = dev.regions[0]:read32(4)
    local out, status = run(("set %s LIVENESS=0x77"):format(EDU))
    assert.equal(1, status)
    assert.matches("0000:00:04.0 is driven by process %d+ %([^)]+%); %-%-force writes beside it\n$", out)
    assert.equal(before, dev.regions[0]:read32(4))
    out, status = run(("set --force %s LIVENESS=0x77"):format(EDU))
    assert.equal(0, status)
    assert.matches("note: .* written beside it\n", out)
    assert.equal(0xffffff88, dev.regions[0]:read32(4))
    assert.is_true(dev.config:command().bus_master)
  end)

  it("exploring goes through the BARs, read-only, and says so", function()
    local out, status = run(("explore -e 'ID:get \"MAGIC\"' %s"):format(EDU))
    assert.equal(0, status, out)
    assert.matches("opened read%-only through its BARs", out)
    assert.matches("237", out)
    out, status = run(("explore -e 'LIVENESS:write(1)' %s"):format(EDU))
    assert.equal(1, status)
    assert.matches("opened read%-only", out)
    assert.is_true(dev.config:command().bus_master)
  end)

  it("doctor names its owner, and leaves bus master on", function()
    local out, status = run("doctor " .. EDU)
    assert.equal(1, status)
    assert.matches("problem  holder: process %d+ ", out)
    assert.is_true(dev.config:command().bus_master)
  end)
end)

describe("a session", function()
  local s, said

  local function open()
    s = assert(sessions.open { device = EDU })
    said = {}
    s:notify(function(text) table.insert(said, text) end)
  end

  local function wait_for(pattern)
    return wait.poll(50, function()
      for _, text in ipairs(said) do
        if text:find(pattern) then return text end
      end
    end) or error(("%q was not said, but: %s"):format(pattern, table.concat(said, " | ")), 2)
  end

  after_each(function() if s then s:close() end s = nil end)

  it("shows real interrupts, acknowledged by the driver's top half", function()
    open()
    luio.run(function()
      assert(s:irqs(true))
      s.regs.IRQ_RAISE:write(5)
      assert.equal("interrupt 1  IRQ_STATUS=5", wait_for "^interrupt")
      assert.equal(0, s.regs.IRQ_STATUS:read())
      s.regs.IRQ_RAISE:write(1)
      wait_for "^interrupt 2"
    end)
  end)

  it("leaves an interrupt masked that nothing acknowledges: no storm", function()
    open()
    luio.run(function()
      s.target.driver = nil
      local _, note = assert(s:irqs(true))
      assert.matches("left masked", note)
      s.regs.IRQ_RAISE:write(1)
      wait_for "^interrupt 1"
      luio.sleep(0.2)
      assert.equal(1, #said)
      assert.is_true(s.dev.config:command().intx_disable)
      s.regs.IRQ_ACK:write(1)
      assert(s.dev:unmask())
      s.regs.IRQ_RAISE:write(1)
      wait_for "^interrupt 2"
      s.regs.IRQ_ACK:write(1)
    end)
  end)

  it("says that its device went away, refuses to touch it, and takes it again", function()
    open()
    luio.run(function()
      assert.equal(0xed, (s.regs.ID:get "MAGIC"))
      sysfs.unbind(EDU)
      wait_for("^" .. EDU:gsub("%p", "%%%0") .. " .*reopen%(%) takes it again")
      assert.has_error(function() s.regs.ID:read() end)
      sysfs.bind(EDU)
      wait_for "is there again: reopen"
      assert(s:reopen())
      assert.equal(0xed, (s.regs.ID:get "MAGIC"))
    end)
  end)
end)
