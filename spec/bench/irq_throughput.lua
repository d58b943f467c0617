--- Interrupt throughput: events per second from a source to the handler, with none lost.
---
--- The source gives one event per interrupt, as /dev/uioX does: 4-byte counts, here through a pipe
--- that a C thread fills as fast as it may. For luio its reading end is non-blocking, as luio opens
--- /dev/uioX. The writer may run WINDOW ahead of the handler, which is less
--- than the ring holds, so nothing overflows (the note says so) and the figure is what the path
--- sustains: read() and the ring on luio's interrupt thread, and events taken by Lua. The peer is
--- one C thread that reads the same source and does nothing else.
---
--- Two Lua consumers. "poll" takes the events in a loop and waits when there is none, as a
--- driver does; it gets a table per event. "raw" is the same with luio_irq_next by FFI, no table.
---
--- The interrupt is a real one but for its descriptor: luio.irq opens those of devices only, so
--- this one is put together here from the same parts.

local amount = require("tools").amount
local ffi = require "ffi"

local EVENTS = amount(200000)
local WINDOW = 512
local SAMPLES = amount(7)

local M = { name = "irq_throughput" }

-- A started luio.Irq on a descriptor of our own.
local function irq_on(fd)
  local C = require("luio.ffi").C
  local config = ffi.new "luio_irq_config"
  config.source, config.fd, config.cpu = C.LUIO_IRQ_UIO, fd, -1
  local device = { address = "a pipe" }
  local irq = require("luio.irq").new(device, 0)
  assert(irq.source:open(config, {}, device))
  return irq
end

function M.run(tools)
  local luio = require "luio"
  local C = require("luio.ffi").C
  local twin = tools.twin()
  local overflow, seen = 0, 0

  local function rate(ns) return EVENTS / tonumber(ns) * 1e9 / 1000 end

  local function piped(nonblocking, consume)
    local fds = ffi.new "int[2]"
    assert(twin.twin_pipe(fds, nonblocking) == 0)
    local result = consume(fds)
    twin.twin_close(fds[0])
    twin.twin_close(fds[1])
    return result
  end

  local function lua(take)
    return function()
      return piped(1, function(fds) -- as /dev/uioX is opened
        local irq = irq_on(fds[0])
        local from = C.luio_now()
        local source = twin.twin_source_start(fds[1], EVENTS, WINDOW)
        luio.run(take, irq, source)
        local ns = C.luio_now() - from
        twin.twin_source_join(source)
        local stats = irq:stats()
        overflow, seen = overflow + stats.overflow, seen + stats.interrupts
        assert(irq:close())
        return rate(ns)
      end)
    end
  end

  local function poll(irq, source)
    local n = 0
    while n < EVENTS do
      local event = irq:poll() or assert(irq:wait(5))
      n = n + event.count + event.overflow
      if n % 64 == 0 or n >= EVENTS then twin.twin_consumed(source, n) end
    end
  end

  local function raw(irq, source)
    local handle, event, n = irq.source.handle, irq.source.raw, 0
    while n < EVENTS do
      if C.luio_irq_next(handle, event) == 1 then
        n = n + tonumber(event.count + event.overflow)
      else
        local waited = assert(irq:wait(5))
        n = n + waited.count + waited.overflow
      end
      if n % 64 == 0 or n >= EVENTS then twin.twin_consumed(source, n) end
    end
  end

  local t = tools.take_turns(SAMPLES, {
    poll = lua(poll), raw = lua(raw),
    c = function()
      return piped(0, function(fds)
        local source = twin.twin_source_start(fds[1], EVENTS, WINDOW)
        local ns = twin.twin_consume(fds[0], source, EVENTS)
        twin.twin_source_join(source)
        assert(ns > 0, "the twin could not read")
        return rate(ns)
      end)
    end,
  })
  return {
    { name = "irq throughput, poll", unit = "1000/s", luio = t.poll, peer = t.c,
      note = ("%d of %d interrupts lost to a full ring; more is better"):format(overflow, seen) },
    { name = "irq throughput, raw", unit = "1000/s", luio = t.raw, peer = t.c, note = "more is better" },
  }
end

return M
