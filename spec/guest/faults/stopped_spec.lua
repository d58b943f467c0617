--- A process that is stopped while it waits for an interrupt: one that came meanwhile counts, though the wait's deadline has passed.
--- The same of other waits is spec/runtime/stopped_spec.lua.

local amount = require "spec.support.amount"
local files = require "spec.support.files"
local luio = require "luio"
local program = require "spec.support.program"
local uv = require "luv"
local wait = require "spec.support.wait"

local EDU = "0000:00:04.0"

local WAITER = [[
local luio = require "luio"
local dev = assert(luio.start("edu", arg[1]))
luio.run(function()
  for i = 1, 1e9 do
    while dev.irqs[0]:poll() do end -- its thread runs
    print(("[waiting %d]"):format(i))
    io.stdout:flush()
    local event, message = dev.irqs[0]:wait(4)
    print(("[%d %s]"):format(i, event and event.IRQ_STATUS or message))
    io.stdout:flush()
  end
end)
]]

describe("a wait for an interrupt", function()
  teardown(files.clean)

  local TIMES = amount(3, 30)
  it(("takes what came while its process was stopped, %d times"):format(TIMES), function()
    local script = files.write("waiter.lua", WAITER)
    local beside = assert(luio.open(EDU, { shared = true }))
    local p = program.start { script, EDU }
    local i, taken = 0, 0
    while taken < TIMES do
      i = i + 1
      local over = ("%%[%d ([^%%]]+)%%]"):format(i)
      p:wait(("%%[waiting %d%%]"):format(i))
      luio.sleep(0.1)
      uv.kill(p.pid, "sigstop")
      wait.till(10, "it is stopped", function() return files.read(("/proc/%d/stat"):format(p.pid)):match "%) (%a)" == "T" end)
      local late = p:text():find(over) -- this machine is slow
      assert(not late or i < 2 * TIMES + 100, "the process was never stopped within its wait")
      beside.regions[0]:write32(0x60, i)
      luio.sleep(4.1) -- longer than the wait
      uv.kill(p.pid, "sigcont")
      if not late then
        assert.equal(tostring(i), (p:wait(over)))
        taken = taken + 1
      end
    end
    p:close()
    assert(beside:close())
  end)
end)
