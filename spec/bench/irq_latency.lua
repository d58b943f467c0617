--- Interrupt latency: from the signal on a descriptor to the handler running.
---
--- A C thread stamps the clock and signals an eventfd, after a pause of 100 to 500 us in which
--- everybody has gone to sleep; the handler stamps the clock as the first thing it does. luio's
--- side is the whole path of a driver: from the interrupt to the task that waits in irq:wait(),
--- with the top half (an unmask) and the ring between. The descriptor is the event descriptor of a
--- simulated device, signalled behind the model's back, so that only the bus is simulated. The
--- peer is a C thread blocked in read() on an eventfd.
---
--- The threads' CPUs decide as much as their work: to wake a thread on an idle CPU costs an
--- inter-processor interrupt and the way out of idle, several times what the switch to a thread on
--- the same CPU does. So it is measured twice. "apart": the signaller has a CPU of its own, as a
--- device is no thread of ours, and both sides run on the others. "free": everybody runs where the
--- scheduler likes, which puts a single reader right behind its writer.
---
--- Two more C threads, one that reads the eventfd and wakes another by a second one, show what an
--- interrupt thread of its own costs at least.
---
--- A sample is the median (or the 99th percentile) of ROUNDS signals.

local amount = require("tools").amount
local ffi = require "ffi"

local ROUNDS = amount(700)
local SAMPLES = amount(7)

local M = { name = "irq_latency" }

local function column(list, i)
  local out = {}
  for k, v in ipairs(list) do out[k] = v[i] end
  return out
end

-- device_cpu: where the signaller runs; nil: anywhere.
local function compare(tools, twin, device_cpu)
  local luio = require "luio"
  local C = require("luio.ffi").C
  local dev = assert(luio.open "sim:edu")
  local irq = assert(dev.irqs[0]:start())
  local config = ffi.new "luio_irq_config"
  assert(C.luio_device_irq(dev.handle, 0, config, nil) == 0)
  local device_fd = config.fd -- what irq's thread waits on
  local twin_fd = twin.twin_eventfd()

  local seed = 0
  local function measure(fd, answer)
    return function()
      seed = seed + 1
      local s = twin.twin_signaller_start(fd, ROUNDS, seed, device_cpu or -1)
      assert(s ~= nil, "no thread for the signaller")
      answer(s, fd)
      twin.twin_signaller_join(s)
      local result = { twin.twin_quantile(s, 0.5) / 1000, twin.twin_quantile(s, 0.99) / 1000 }
      twin.twin_signaller_free(s)
      return result
    end
  end

  local t = tools.take_turns(SAMPLES, {
    luio = measure(device_fd, function(s)
      luio.run(function()
        repeat
          assert(irq:wait(5))
        until twin.twin_arrived(s) == 0
      end)
    end),
    one = measure(twin_fd, function(s, fd) assert(twin.twin_answer(s, fd) == 0) end),
    two = measure(twin_fd, function(s, fd) assert(twin.twin_answer_relayed(s, fd) == 0) end),
  })
  twin.twin_close(twin_fd)
  assert(dev:close())
  return t
end

function M.run(tools)
  local twin = tools.twin()
  local rows = {}
  local function add(where, t, aim)
    table.insert(rows, { name = "irq latency, " .. where, unit = "us", aim = aim,
      luio = column(t.luio, 1), peer = column(t.one, 1), note = "medians; peer: a C thread in read()" })
    table.insert(rows, { name = ("irq latency, %s, p99"):format(where), unit = "us",
      luio = column(t.luio, 2), peer = column(t.one, 2) })
    table.insert(rows, { name = ("irq latency, %s, two threads"):format(where), unit = "us",
      luio = column(t.luio, 1), peer = column(t.two, 1), note = "peer: a C thread in read() that wakes another" })
  end

  local cpu = twin.twin_leave_a_cpu()
  if cpu >= 0 then
    add("apart", compare(tools, twin, cpu), "<= 1.5")
    twin.twin_use_all_cpus()
  end
  add("free", compare(tools, twin), "<= 1.5")
  return rows
end

return M
