#!/usr/bin/env luio
--- A timer's interrupts, taken in two ways: as records of a shared ring that the kernel's handler fills, and with one wake-up
--- for each. At rates where the second is too slow it loses some, and the first none.
---
---     luio examples/ticks.lua --rate 20000              with the kernel module uio_timer (examples/kernel/uio_timer) loaded
---     luio examples/ticks.lua sim:uio_timer --rate 500  without

local luio = require "luio"
local histogram = require "luio.text.histogram"
local numbers = require "luio.tool.cli.numbers"

local parser = require "argparse"("luio examples/ticks.lua", "Take a timer's interrupts by a shared ring, and one by one.")
parser:argument("device", "As `luio list` has it; the first uio_timer unless said."):args "?"
parser:option("--rate", "Interrupts per second."):default "1000":convert(numbers.number("--rate", 0.3, 1e9))
parser:option("--seconds", "How long, each way."):default "1":convert(numbers.number("--seconds", 0.01, 1e6))
parser:option("--at-once", "Records that are worth a wake-up."):default "64":convert(numbers.number("--at-once", 1, 1e6))

local function failed(status, message)
  io.stderr:write("ticks: ", message, "\n")
  return status
end

local ok, args = parser:pparse(arg)
if not ok then return failed(2, args .. "\n" .. parser:get_usage()) end

local dev, message = luio.start("uio_timer", args.device)
if not dev then return failed(1, message) end
local timer = dev.driver

-- Both return what went wrong.
local function by_the_ring()
  local batch, late, n = timer.batch(1024), histogram.new(), 0
  local most = math.floor(math.min(args.at_once, dev.state.ring.count / 2))
  local before, stop = timer.stats(dev), luio.now() + args.seconds
  while luio.now() < stop do
    local got, why, code = timer.receive(dev, batch, math.max(0.001, stop - luio.now()), most)
    if not got and code ~= "ETIMEDOUT" then return why end
    for k = 0, (got or 0) - 1 do late:add(batch.at[k].time - batch.at[k].due) end
    n = n + (got or 0)
  end
  local after = timer.stats(dev)
  print(("by the ring      %6d of %d interrupts, %d lost, %d wake-ups, %d periods missed"):format(n, n + dev.state.ring.lost,
    dev.state.ring.lost, after.notified - before.notified, after.missed - before.missed))
  if n > 0 then
    print(("  the handler was late by %s (median), %s (99 %%)"):format(histogram.time(late:percentile(0.5)),
      histogram.time(late:percentile(0.99))))
  end
end

local function one_by_one()
  local woken, together, stop = 0, 0, luio.now() + args.seconds
  dev.regs.NOTIFY:write { WHEN = "EVERY" }
  dev:unmask()
  while luio.now() < stop do
    local event, why, code = dev.irqs[0]:wait(math.max(0.001, stop - luio.now()))
    if not event and code ~= "ETIMEDOUT" then return why end
    if event then
      woken, together = woken + 1, together + event.count + event.overflow - 1
      -- The model masks its interrupt after each; the kernel module does not, and an unmask there is a system call that would
      -- slow the measured path. No capability tells the two apart, so this asks for the model.
      if dev.sim then dev:unmask() end
    end
  end
  print(("one wake-up each %6d of %d interrupts, %d came together with another"):format(woken, woken + together, together))
end

local problem
luio.run(function()
  local running, why = timer.run(dev, args.rate)
  problem = not running and why or by_the_ring() or one_by_one()
end)
dev:close()
if problem then return failed(1, problem) end
return 0
