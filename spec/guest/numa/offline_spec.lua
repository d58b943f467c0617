--- A processor that goes offline, with the interrupts and the thread that were bound to it. In the guest of spec/guest/specs that has two
--- processors.

local amount = require "spec.support.amount"
local files = require "spec.support.files"
local luio = require "luio"
local sysfs = require "spec.support.sysfs"

local TIMES = amount(3, 100)
local EDU = "0000:00:04.0"

describe("a processor that goes offline", function()
  local CPU1 = "devices/system/cpu/cpu1/online"
  teardown(function() sysfs.write(CPU1, "1") end)

  -- The line of a device, bound to a processor.
  local function bind_line(irq, cpu)
    files.save(("/proc/irq/%d/smp_affinity_list"):format(irq), cpu .. "\n")
  end

  local function affinity(irq) return (files.read(("/proc/irq/%d/effective_affinity_list"):format(irq)):gsub("%s+$", "")) end

  it("takes no interrupt along: neither the line nor the thread that were bound to it", function()
    if not sysfs.driver(EDU) then sysfs.bind(EDU) end
    local dev = assert(luio.open(EDU))
    finally(function() assert(dev:close()) end)
    local line = dev.info.irq
    luio.run(function()
      local irq, regs = dev.irqs[0], dev.regions[0]
      irq:setup { capture = { { "cause", 0x24 } }, ack = { { 0x64, "cause" } }, cpu = 1 }
      local raised = 0
      local function one()
        raised = raised + 1
        regs:write32(0x60, 1)
        assert(irq:wait(100))
      end
      for _ = 1, TIMES do
        bind_line(line, 1)
        for _ = 1, 20 do one() end
        assert.equal("1", affinity(line)) -- the kernel moves it at the next interrupt
        regs:write32(0x60, 1) -- and one that is on its way
        raised = raised + 1
        sysfs.write(CPU1, "0")
        assert(irq:wait(100))
        assert.equal("0", affinity(line))
        for _ = 1, 20 do one() end
        assert.has_error(function() bind_line(line, 1) end) -- the kernel refuses it
        sysfs.write(CPU1, "1")
        one()
      end
      -- None is lost. One may come twice: where the kernel masks while luio unmasks (runtime/intx.c).
      local stats = irq:stats()
      assert.is_true(stats.interrupts >= raised, ("%d of %d"):format(stats.interrupts, raised))
      assert.equal(stats.interrupts, stats.delivered)
    end)
  end)
end)
