--- Interruptions of the whole machine while drivers work: it is stopped from outside for seconds, as a virtual machine is when it
--- is moved or saved, or it goes to sleep and wakes. Runs on the host; the guests' part is beside it (sleep.lua, stop.lua, work.lua).

local amount = require "spec.support.amount"
local luio = require "luio"
local machine = require "spec.support.machine"
local wait = require "spec.support.wait"

-- As in the guest `faults`; there is no default e1000e.
local DEVICES = {
  "--smp", "2", -- a machine that sleeps takes all but one offline
  "--device", "pcie-root-port,id=rp,slot=1,chassis=1,addr=08.0", "--device", "edu,id=edu2,bus=rp",
  "--device", "pcie-root-port,id=rp2,slot=2,chassis=2,addr=09.0", "--device", "e1000e,id=nic2,bus=rp2,netdev=net1,romfile=",
  "--qemu", "-netdev", "--qemu", "hubport,id=net1,hubid=0",
  "--bind", "edu", "--bind", "0000:01:00.0", "--bind", "0000:02:00.0",
}

local function with(more)
  local list = { unpack(DEVICES) }
  for _, word in ipairs(more or {}) do table.insert(list, word) end
  return list
end

describe("a machine", function()
  local m
  after_each(function()
    if m then m:close() end
    m = nil
  end)

  local SLEEPS = amount(3, 100)
  it(("sleeps and wakes %d times, and its devices work: interrupts, DMA, the guardian's worker"):format(SLEEPS), function()
    m = machine.start("machine", "spec/guest/machine/sleep.lua", with { "--module", "button" }, { SLEEPS })
    for i = 1, SLEEPS do
      m:wait(("%%[sleep %d%%]"):format(i), 120)
      wait.till(60, "the guest awake", function()
        luio.sleep(0.3)
        m:tell "system_powerdown" -- the power button, which wakes it
        return m.program:text():find(("[awake %d]"):format(i), 1, true)
      end)
    end
    local losses, ended, asleep, others = m:wait("%[losses (%d+), transfers ended (%d+), not whole elsewhere %d+, asleep (%d+), others (%d+)%]", 120)
    m:wait "%[done%]"
    assert.equal(SLEEPS, tonumber(losses)) -- the kernel switches it off: there was something to be repaired
    assert.equal(SLEEPS, tonumber(ended))
    -- Three devices, each time with the true reason, however short the sleep.
    assert.same({ 3 * SLEEPS, 0 }, { tonumber(asleep), tonumber(others) }, m.program:text())
  end)

  local STOPS, SECONDS = amount(1, 20), 10
  it(("is stopped for %d s, %d times: nothing in it times out, is killed, or is lost"):format(SECONDS, STOPS), function()
    m = machine.start("machine", "spec/guest/machine/stop.lua", with(), { 3 * STOPS + 3 })
    for i = 1, STOPS do
      m:wait(("%%[round %d%%]"):format(3 * i), 120)
      m:tell "stop"
      local text = m.program:text()
      luio.sleep(SECONDS)
      assert.equal(text, m.program:text())
      m:tell "cont"
    end
    local longest, warnings, lost, restarts = m:wait("%[longest ([%d.]+), warnings (%d+), lost (%d+), restarts (%d+)%]", 300)
    m:wait "%[done%]"
    assert.same({ 0, 0, 0 }, { tonumber(warnings), tonumber(lost), tonumber(restarts) })
    print(("the longest round, by the guest's clock: %s s"):format(longest))
  end)
end)
