--- A device that is pulled out of its slot and put back while `luio run --bind` drives it: by the slot's power, by its button;
--- with the port's own hot-plug (pciehp) here, with the firmware's (acpiphp) in the guest `gone`. Its driver_override is lost
--- with it, so only luio can give it to the UIO driver again.

local amount = require "spec.support.amount"
local files = require "spec.support.files"
local memory = require "spec.support.memory"
local program = require "spec.support.program"
local qmp = require "spec.support.qmp"
local slots = require "spec.support.slot"
local sysfs = require "spec.support.sysfs"
local uv = require "luv"
local wait = require "spec.support.wait"

local EDU = "0000:01:00.0"
local CYCLES = amount(3, 100)

-- Works at each start: an interrupt, a transfer there and back.
local DRIVER = [[
local luio = require "luio"
local edu = assert(luio.load "drivers/edu")
local d = { name = "plugged", registers = edu.registers, irq = edu.irq, dma = edu.dma, start_edu = edu.start, quiesce = edu.quiesce }
package.path = "./?.lua;" .. package.path
require "spec.support.returns_soon"
function d.start(dev, reason)
  dev.state.n = (dev.state.n or 0) + 1
  local buffer = dev.state.buffer or assert(dev.dma:alloc(64))
  dev.state.buffer = buffer
  buffer:write(0, "there and back")
  assert(edu.to_device(dev, buffer, 14))
  buffer:fill(0)
  assert(edu.from_device(dev, buffer, 14))
  print(("[%d %s 5! %d %s]"):format(dev.state.n, reason, assert(edu.factorial(dev, 5)), buffer:read(0, 14)))
  io.stdout:flush()
  return true
end
return d
]]

describe("a slot", function()
  local slot, p, folder
  setup(function()
    slot = slots.below(EDU, { driver = "edu", id = "edu2", bus = "rp" })
    folder = files.driver(DRIVER)
  end)
  before_each(function()
    if not slot:taken() then slot:plug() end
    if sysfs.driver(EDU) then sysfs.unbind(EDU) end
    os.remove("/run/luio/bind/" .. EDU)
  end)
  after_each(function()
    if p then p:close() end
    p = nil
  end)
  teardown(function()
    if sysfs.driver(EDU) ~= "uio_pci_generic" then sysfs.bind(EDU) end
    qmp.close()
    files.clean()
  end)

  local function run(...)
    p = program.start { "run", folder, EDU, ... }
    p:wait "%[1 fresh 5! 120 there and back%].-runs on"
  end

  local function again(n) p:wait(("%%[%d returned 5! 120 there and back%%].-is there again after"):format(n), 20) end

  -- Not by a pattern of so many pieces: one that does not match yet would be tried for ever.
  local function gone(n)
    wait.till(20, "gone", function() return p:count "is gone: " >= n end)
  end

  local function descriptors() return #require("luio.host.sysfs").entries(("/proc/%d/fd"):format(p:children()[1])) end

  -- Of the worker at rest: the child that binds the device to its driver may have left some that close a moment later.
  local function descriptors_at_rest()
    local n, since = descriptors(), uv.hrtime()
    wait.till(20, "the descriptors stay", function()
      local now = descriptors()
      if now ~= n then n, since = now, uv.hrtime() end
      return uv.hrtime() - since > 0.3e9
    end)
    return n
  end

  it(("may be emptied and filled %d times under a driver, which goes on by itself each time"):format(CYCLES), function()
    run "--bind"
    local before, pages
    for i = 1, CYCLES do
      if i % 10 == 3 then slot:press() else slot:power_off() end
      gone(i)
      slot:plug()
      again(i + 1)
      assert.equal("uio_pci_generic", sysfs.driver(EDU))
      assert.equal("(null)", sysfs.override(EDU)) -- as it was
      before, pages = before or descriptors_at_rest(), pages or memory.free_pages()
    end
    local after = descriptors_at_rest()
    assert.is_true(after <= before, ("%d descriptors, then %d"):format(before, after))
    assert.equal(pages, memory.free_pages())
    assert.equal(CYCLES + 1, p:count "5! 120")
    p:kill("sigkill", p:children()[1]) -- the guardian knows the device of today
    p:wait "%[1 crash 5! 120 there and back%].-runs again"
    p:kill "sigterm"
    assert.equal(0, p:status())
    assert.matches("no driver", (program.run("unbind " .. EDU))) -- which it had none of before
  end)

  it("is given to who drove it where `luio bind` had done that, too, and not when somebody else had", function()
    assert.equal(0, (select(2, program.run("bind " .. EDU))))
    run()
    slot:power_off()
    gone(1)
    slot:plug()
    again(2)
    p:close()
    sysfs.unbind(EDU)
    os.remove("/run/luio/bind/" .. EDU)
    sysfs.bind(EDU) -- as a rule of the administrator's would
    run()
    slot:power_off()
    gone(1)
    slot:plug()
    p:wait("did not come back within 1.5 s: .- no UIO driver is bound to it: bind uio_pci_generic", 20)
    assert.is_nil(sysfs.driver(EDU))
  end)

  it("may be filled under a driver that gave root up: a new worker takes the device, as root", function()
    run("--bind", "--user", "nobody")
    slot:power_off()
    gone(1)
    slot:plug()
    p:wait(EDU .. " is there again, and nobody may not take it: a new worker does, as root", 20)
    p:wait("%[1 %a+ 5! 120 there and back%].-%[1 %a+ 5! 120 there and back%].-runs again", 20)
    p:kill "sigterm"
    assert.equal(0, p:status())
  end)

  it("may be empty when the driver dies, which is started when its device is back", function()
    run "--bind"
    slot:power_off()
    gone(1)
    p:kill("sigkill", p:children()[1])
    p:wait("died of SIGKILL.-waiting for " .. EDU, 20)
    slot:plug()
    p:wait("%[1 crash 5! 120 there and back%].-runs again", 20)
    -- The next one dies before it has noticed anything: the guardian has the device of before.
    local worker = p:children()[1]
    uv.kill(worker, "sigstop")
    slot:power_off()
    slot:plug()
    uv.kill(worker, "sigkill")
    p:wait("runs again.-%[1 crash 5! 120 there and back%].-runs again", 20)
    p:kill "sigterm"
    assert.equal(0, p:status())
  end)

  it("is left to who decided otherwise meanwhile", function()
    run "--bind"
    slot:power_off()
    gone(1)
    local worker = p:children()[1]
    uv.kill(worker, "sigstop")
    slot:plug()
    sysfs.write(("bus/pci/devices/%s/driver_override"):format(EDU), "vfio-pci")
    uv.kill(worker, "sigcont")
    p:wait("did not come back within 1.5 s: .-; its driver_override is vfio%-pci now, which is left so", 20)
    assert.is_nil(sysfs.driver(EDU))
    sysfs.write(("bus/pci/devices/%s/driver_override"):format(EDU), "\n")
    -- Unbound by hand, in the same life: nothing is taken back.
    sysfs.bind(EDU)
    again(2)
    sysfs.unbind(EDU)
    gone(2)
    sysfs.write(("bus/pci/devices/%s/uevent"):format(EDU), "change") -- a sign to look
    p:wait("did not come back.-did not come back within 1.5 s", 20)
    assert.is_nil(sysfs.driver(EDU))
  end)
end)
