--- Live reload on a real device: another process raises edu's interrupts as fast as they are acknowledged,
--- each with the next number as its cause.

local amount = require "spec.support.amount"
local files = require "spec.support.files"
local live = require "luio.reload.live"
local luio = require "luio"
local wait = require "spec.support.wait"

local EDU = "0000:00:04.0"
local RELOADS = amount(50, 1000)

local DRIVER = [[
local luio = require "luio"
local d = {
  name = "edu", match = { pci = "1234:11e8" }, registers = require "drivers.edu.registers",
  irq = { capture = "IRQ_STATUS", ack = "IRQ_ACK", capacity = 65536 },
}
function d.start(dev)
  dev.state.seen = dev.state.seen or 0
  luio.spawn(function()
    while true do
      local event = dev.irqs[0]:wait(60)
      if event then
        if event.IRQ_STATUS ~= dev.state.seen + 1 then
          dev.state.wrong = dev.state.wrong or ("%d after %d"):format(event.IRQ_STATUS, dev.state.seen)
        end
        dev.state.seen = event.IRQ_STATUS
      end
    end
  end)
  return true
end
function d.answer() return 1 end
return d
]]

-- Writes IRQ_RAISE of edu, and waits until the cause is acknowledged; until a file is there.
local SENDER = [[
local luio = require "luio"
local dev = assert(luio.open(arg[1], { shared = true }))
local bar, n = dev.regions[0], 0
while not io.open(arg[2]) do
  for _ = 1, 32 do
    n = n + 1
    bar:write32(0x60, n)
    local deadline = luio.now() + 10
    while bar:read32(0x24) ~= 0 do assert(luio.now() < deadline, "not acknowledged") end
  end
end
print(n)
]]

describe(RELOADS .. " reloads of a driver on a real device", function()
  it("lose no interrupt and deliver none twice", function()
    local path, dir = files.write("init.lua", DRIVER)
    local sender = files.write("sender.lua", SENDER)
    local stop, sent = dir .. "/stop", dir .. "/sent"
    finally(files.clean)
    luio.run(function()
      local dev = assert(luio.start(path, EDU))
      local probation = live.PROBATION
      live.PROBATION = 0.05
      os.execute(("build/luio %s %s %s > %s 2>&1 &"):format(sender, EDU, stop, sent))
      local pauses = {}
      for i = 1, RELOADS do
        files.save(path, (DRIVER:gsub("return 1 end", ("return %d end"):format(i))))
        local report = assert(dev:reload())
        pauses[i] = report.pause + report.loading
        assert.equal(i, dev.driver.answer())
        assert.equal(0, report.lost)
        luio.sleep(0)
      end
      files.save(stop, "")
      local n = wait.poll(200, function() return tonumber(files.read(sent)) end)
      live.PROBATION = probation
      assert.is_number(n, files.read(sent))
      wait.poll(200, function() return dev.state.seen == n end)
      luio.sleep(0.1) -- for one that would be delivered twice
      assert.is_nil(dev.state.wrong)
      assert.same({ n, n }, { dev.state.seen, dev.irqs[0]:stats().interrupts })
      table.sort(pauses)
      print(("%d reloads, %d interrupts: median %.2f ms, at most %.2f ms, loading included (emulated)"):format(
        RELOADS, n, pauses[RELOADS / 2] * 1e3, pauses[RELOADS] * 1e3))
      assert(dev:close())
    end)
  end)
end)
