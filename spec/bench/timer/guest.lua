--- In the guest: interrupts of the kernel module uio_timer, taken by its shared ring, and with one wake-up for each.
---
---     luio guest.lua SAMPLES        prints rows as spec/bench/child.lua does
---
--- A way of taking them is tried at one rate after another, RATES, each time for COUNT interrupts, until some are lost in each of
--- TRIES tries: one may be lost at any rate, to the scheduler's tick or a kernel thread. "None lost" is the timer's true rate in the
--- fastest try without a loss: a handler that is late skips periods, and those are no interrupts that could have been taken.
--- "Handled" is the rate of interrupts taken at the fastest rate, the rest being lost.
---
--- The guest's clock counts instructions, one a nanosecond (QEMU's -icount): a host that is busy with something else does not
--- show, and figures repeat. They are those of a CPU that needs 1 ns for each instruction and nothing for an interrupt, a system
--- call or a missed cache line: good for comparing, not for predicting.

local luio = require "luio"

local here = arg[0]:match "^(.*)/[^/]*$" or "."
package.path = here .. "/../?.lua;" .. package.path
local output = require("tools").output
local build = here .. "/../../../build"
local samples = tonumber(arg[1])

local RATES = { 20, 40, 60, 80, 100, 150, 200, 300, 400, 600 } -- thousands per second
local COUNT = 3000
local WARM = 500 -- interrupts before the measurement, for code that is slow only once
local TRIES = 3
local AT_ONCE = 64 -- records that are worth a wake-up

local version = output "uname -r":match "%S+"
local said = output(("/run/luio/bin/insmod %s/modules/%s/uio_timer/uio_timer.ko records=65536 min_period_ns=1000 2>&1"):format(build, version))
assert(said == "", said)

-- Runs fn on the device and returns its result.
local function with_driver(fn)
  local dev = assert(luio.start "uio_timer")
  local handled, lost, seconds
  luio.run(function() handled, lost, seconds = fn(dev, dev.driver) end)
  assert(dev:close())
  return handled, lost, seconds
end

local woken = {} -- by rate, thousands per second: wake-ups of the ring's reader per 1000 records

-- Each way gives, for a rate: interrupts handled, lost, seconds.
local ways = {}

function ways.ring(rate)
  return with_driver(function(dev, timer)
    local batch = timer.batch(1024)
    -- Until so many have come; the times of the first and the last.
    local function take(count)
      local n, from, to = 0, nil, nil
      while n < count do
        local got = assert(timer.receive(dev, batch, 10, AT_ONCE))
        from, to, n = from or batch.at[0].time, batch.at[got - 1].time, n + got
      end
      return n, to - from
    end
    assert(timer.run(dev, rate))
    take(WARM)
    local lost, notified = dev.state.ring.lost, timer.stats(dev).notified
    local n, seconds = take(COUNT)
    woken[rate / 1000] = (timer.stats(dev).notified - notified) / n * 1000
    assert(timer.halt(dev))
    return n, dev.state.ring.lost - lost, seconds
  end)
end

function ways.task(rate)
  return with_driver(function(dev, timer)
    local irq = dev.irqs[0]
    local function take(count)
      local woke, together = 0, 0
      while woke + together < count do
        local event = assert(irq:wait(10))
        woke, together = woke + 1, together + event.count + event.overflow - 1
      end
      return woke, together
    end
    dev.regs.NOTIFY:write { WHEN = "EVERY" }
    assert(timer.run(dev, rate))
    take(WARM)
    local from = luio.now()
    local woke, together = take(COUNT)
    local seconds = luio.now() - from
    assert(timer.halt(dev))
    return woke, together, seconds
  end)
end

function ways.c(rate)
  local uio
  for _, info in ipairs(assert(luio.list())) do uio = info.uio_name == "uio_timer" and info.uio or uio end
  local text = output(("%s/bench/wakeups /dev/%s %d %d %d"):format(build, uio, 1e9 / rate, WARM, COUNT))
  local handled, lost, seconds = text:match "(%d+) (%d+) (%S+)"
  return tonumber(handled), tonumber(lost), assert(tonumber(seconds), text)
end

-- Thousands of interrupts per second: the most with none lost, and handled at the fastest rate.
local function sample(way)
  local most = 0
  for i = 1, #RATES do
    local clean
    for _ = 1, TRIES do
      local n, lost, seconds = way(RATES[i] * 1000)
      if lost == 0 then
        clean = n / seconds / 1000
        break
      end
    end
    if not clean then break end
    most = math.max(most, clean)
  end
  local n, _, seconds = way(RATES[#RATES] * 1000)
  return { most, n / seconds / 1000 }
end

local results = { ring = {}, task = {}, c = {} }
for _ = 1, samples do
  for _, name in ipairs { "ring", "task", "c" } do table.insert(results[name], sample(ways[name])) end
end

local function column(list, i)
  local out = {}
  for k, v in ipairs(list) do out[k] = ("%.6g"):format(v[i]) end
  return table.concat(out, ",")
end

local function tell(name, i, peer, note)
  print(table.concat({ "row", name, "1000/s", column(results.ring, i), column(results[peer], i), "", note }, "\t"))
end

tell("interrupts, none lost", 1, "c", "records in a shared ring; peer: a C process in read(), a wake-up for each; more is better")
tell("interrupts, none lost, task", 1, "task", "peer: a Lua task in irq:wait(), a wake-up for each")
tell("interrupts handled", 2, "c", ("of %d000 per second asked for; peer: as in the first, it loses the rest. The ring takes %.3g wake-ups for 1000 at 100000 per second")
  :format(RATES[#RATES], woken[100]))
tell("interrupts handled, task", 2, "task", "peer: the task")
os.execute "/run/luio/bin/rmmod uio_timer"
