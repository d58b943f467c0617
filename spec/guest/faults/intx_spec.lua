--- Two processes of luio's on one interrupt line: the edu on the root bus is the spec's own, the one below the port belongs to a
--- `luio run` that is killed in the middle of its interrupts. The kernel calls uio_pci_generic for both at each interrupt; each
--- looks at its own device's status bit, and masks that device alone. That bit stays set while the device is masked, until it is
--- acknowledged, so an interrupt of the other's in that time is counted for both: there may be more events than interrupts, with
--- nothing in the captured cause; there are never fewer.

local amount = require "spec.support.amount"
local files = require "spec.support.files"
local luio = require "luio"
local program = require "spec.support.program"
local sysfs = require "spec.support.sysfs"
local wait = require "spec.support.wait"

local MINE, OTHER = "0000:00:04.0", "0000:01:00.0"
local KILLS = amount(5, 100)

-- Raises one interrupt after the other, as fast as they are handled: each must come, once, and nothing else but what the other
-- device has caused.
local NEXT = [[
local function next_interrupt(dev, number)
  dev.regs.IRQ_RAISE:write(number)
  while true do
    local event = assert(dev.irqs[0]:wait(200))
    if event.IRQ_STATUS == number then return end
    assert(event.IRQ_STATUS == 0, "an interrupt that nobody raised")
  end
end
return next_interrupt
]]
local next_interrupt = assert(loadstring(NEXT))()

-- Every life but the last does so until it is killed.
local BUSY = [[
local luio = require "luio"
local edu = assert(luio.load "drivers/edu")
local next_interrupt = (function() NEXT end)()
local d = { name = "busy", registers = edu.registers, irq = edu.irq, quiesce = edu.quiesce, durable = { "life" } }
function d.start(dev)
  dev.state.life = (dev.state.life or 0) + 1
  assert(dev:checkpoint())
  luio.spawn(function()
    local last = dev.state.life > KILLS
    dev.regs.IRQ_ACK:write(dev.regs.IRQ_STATUS:read()) -- raised before the death
    while dev.irqs[0]:wait(0.05) do end
    local raised = 0
    while not last or raised < 500 do
      raised = raised + 1
      next_interrupt(dev, raised)
      if raised == 20 then print(("[life %d]"):format(dev.state.life)) io.stdout:flush() end
    end
    print(("[all %d came]"):format(raised))
    io.stdout:flush()
  end)
  return true
end
return d
]]

-- Acknowledges nothing: the line fires again whenever the thread unmasks it.
local STORM = [[
local luio = require "luio"
local d = { name = "storm", registers = assert(luio.load "drivers/edu").registers, irq = {}, reset = false }
function d.start(dev)
  luio.spawn(function()
    dev.regs.IRQ_RAISE:write(1)
    for _ = 1, 20 do assert(dev.irqs[0]:wait(200)) end
    print "[storm]"
    io.stdout:flush()
    while dev.irqs[0]:wait(200) do end
  end)
  return true
end
function d.quiesce(dev)
  dev.regs.IRQ_ACK:write(1)
  return true
end
return d
]]

-- The kernel's line for an interrupt, and how often it fired.
local function line(irq)
  local text = files.read("/proc/interrupts"):match("\n *" .. irq .. ":([^\n]*)")
  local n = 0
  for count in text:match "^[ %d]+":gmatch "%d+" do n = n + tonumber(count) end
  return text, n
end

describe("an interrupt line that two processes share", function()
  local dev, p, irq
  setup(function()
    irq = sysfs.read(("bus/pci/devices/%s/irq"):format(MINE))
    assert.equal(irq, sysfs.read(("bus/pci/devices/%s/irq"):format(OTHER)))
    assert.matches("uio_pci_generic, uio_pci_generic", (line(irq)))
    for _, address in ipairs { MINE, OTHER } do assert.equal("uio_pci_generic", sysfs.driver(address)) end
  end)
  before_each(function() dev = assert(luio.start("edu", MINE)) end)
  after_each(function()
    if p then p:close() end
    p = nil
    assert(dev:close())
  end)
  teardown(files.clean)

  -- Interrupts of ours until told to stop.
  local function work(stop)
    local done = { raised = 0 }
    dev.regs.IRQ_ACK:write(dev.regs.IRQ_STATUS:read()) -- of before
    done.task = luio.spawn(function()
      while not stop() do
        next_interrupt(dev, done.raised + 1)
        done.raised = done.raised + 1
      end
    end)
    return done
  end

  local function all_came(done)
    assert(done.task:join(200))
    assert.is_true(done.raised > 20)
    local stats = dev.irqs[0]:stats()
    assert.is_true(stats.interrupts >= done.raised)
    assert.equal(0, stats.overflow)
    assert.is_nil(files.shell "dmesg":find("nobody cared", 1, true))
  end

  -- Nothing fires any more: the number stays for a while.
  local function silent()
    local _, before = line(irq)
    luio.sleep(0.2)
    assert.equal(before, (select(2, line(irq))))
  end

  it(("gives each its own, and the other all of its, while one is killed %d times"):format(KILLS), function()
    luio.run(function()
      local stopped
      local done = work(function() return stopped end)
      p = program.start { "run", files.driver((BUSY:gsub("KILLS", KILLS):gsub("NEXT", NEXT))), OTHER, "--restart", "1000", "--backoff", "0.01" }
      for life = 1, KILLS do
        p:wait(("%%[life %d%%]"):format(life), 30)
        local before = done.raised
        local pid = p:children()[1]
        p:kill("sigkill", pid)
        assert(program.gone(pid))
        wait.till(20, "interrupts of ours after its death", function() return done.raised > before + 10 end)
      end
      p:wait("%[all 500 came%]", 60)
      stopped = true
      all_came(done)
    end)
  end)

  it("survives a storm on it, which ends with the process that did not acknowledge", function()
    luio.run(function()
      local stopped
      local done = work(function() return stopped end)
      p = program.start { "run", files.driver(STORM), OTHER, "--restart", "0" }
      p:wait("%[storm%]", 30)
      local before = done.raised
      wait.till(30, "interrupts of ours in the storm", function() return done.raised > before + 20 end)
      p:kill("sigkill", p:children()[1])
      assert.equal(137, p:status())
      stopped = true
      all_came(done)
      silent()
      assert.is_true(sysfs.has(OTHER, sysfs.INTX_DISABLE)) -- the line is still asserted; the kernel has masked it
      assert.is_false(sysfs.has(OTHER, sysfs.BUS_MASTER))
    end)
    -- The next user must find the line quiet.
    local other = assert(luio.start("edu", OTHER))
    other.regs.IRQ_ACK:write(1)
    assert(other:close())
  end)
end)
