--- A network driver's own cost: e1000e's rings in plain memory, without a device.
---
--- Transmit: packets are taken from the pool and given to the ring in bursts, and sent ones are freed. Receive: packets are
--- taken in bursts, each replaced by an empty one, and freed. The tail is a register in plain memory. The device's part
--- (marking descriptors as done) is done between the samples, not timed. The peer is the same in C: the same
--- descriptors, a pool that is a stack of pointers, the same checks of a packet's owner (twin.c).

local amount = require("tools").amount
local ffi = require "ffi"

local COUNT, POOL, ROUNDS, SAMPLES = 512, 2048, amount(400), amount(15)
local BATCHES = { 1, 8, 32, 256 }

local M = { name = "net_ring", under = { "umockdev-run", "-d", "%BENCH/ram.umockdev", "--" } }

local function transmit(pool, tx, batch, size, bursts)
  for _ = 1, bursts do
    pool:fill(batch, 0, size)
    tx:burst(batch, size)
  end
end

local function receive(rx, batch, size, bursts)
  for _ = 1, bursts do
    local n = rx:burst(batch, size)
    batch:free(n)
  end
end

function M.run(tools)
  package.path = tools.root .. "/?.lua;" .. package.path
  local luio = require "luio"
  local C = require("luio.ffi").C
  local ring = require "drivers.e1000e.ring"
  local twin = tools.twin()
  local dev, memory = assert(luio.open "sim:edu"), assert(luio.open "uio0")
  local tail = assert(luio.bind(luio.registers { TAIL = { 0x10, 32, "rw" } }, memory)).TAIL
  local pool = assert(luio.pool(dev, { count = POOL }))
  local tx, rx = assert(ring.tx(dev, COUNT, tail)), assert(ring.rx(dev, pool, COUNT, tail))
  rx:start()
  local peer = twin.twin_ring_open(COUNT, POOL, ffi.cast("volatile uint8_t *", memory.regions[0].base) + 0x10)

  -- Whole bursts, fewer than the ring has room for.
  local function bursts_of(size) return math.floor((COUNT - 1) / size) end
  local function timed(work, prepare, size)
    return function()
      local spent, bursts = 0, bursts_of(size)
      for _ = 1, ROUNDS do
        prepare()
        local from = C.luio_now()
        work(size, bursts)
        spent = spent + tonumber(C.luio_now() - from)
      end
      return spent / (ROUNDS * bursts * size)
    end
  end

  local who = {}
  for _, size in ipairs(BATCHES) do
    local batch = luio.batch(size)
    who["tx" .. size] = timed(function(n, bursts) transmit(pool, tx, batch, n, bursts) end,
      function() twin.twin_ring_sent(ffi.cast("void *", tx.d), COUNT) end, size)
    who["rx" .. size] = timed(function(n, bursts) receive(rx, batch, n, bursts) end,
      function() twin.twin_ring_received(ffi.cast("void *", rx.d), COUNT, 60) end, size)
    who["ctx" .. size] = timed(function(n, bursts) twin.twin_ring_transmit(peer, n, bursts) end,
      function() twin.twin_ring_sent(twin.twin_ring_tx(peer), COUNT) end, size)
    who["crx" .. size] = timed(function(n, bursts) twin.twin_ring_receive(peer, n, bursts) end,
      function() twin.twin_ring_received(twin.twin_ring_rx(peer), COUNT, 60) end, size)
  end
  local samples = tools.take_turns(SAMPLES, who)
  -- The garbage of a million packets, both ways.
  collectgarbage()
  collectgarbage "stop"
  local before, batch = collectgarbage "count", luio.batch(32)
  for _ = 1, amount(1e6) / 480 do
    twin.twin_ring_sent(ffi.cast("void *", tx.d), COUNT)
    transmit(pool, tx, batch, 32, 15)
    twin.twin_ring_received(ffi.cast("void *", rx.d), COUNT, 60)
    receive(rx, batch, 32, 15)
  end
  local garbage = collectgarbage "count" - before
  collectgarbage "restart"
  twin.twin_ring_close(peer)
  dev:close()
  memory:close()
  local rows = {}
  for _, size in ipairs(BATCHES) do
    table.insert(rows, { name = "e1000e transmit, batch " .. size, unit = "ns/packet", luio = samples["tx" .. size], peer = samples["ctx" .. size] })
  end
  for _, size in ipairs(BATCHES) do
    table.insert(rows, { name = "e1000e receive, batch " .. size, unit = "ns/packet", luio = samples["rx" .. size], peer = samples["crx" .. size] })
  end
  rows[1].note = ("plain memory, no device; peer: the same in C. Garbage of a million packets each way: %.0f KiB"):format(garbage)
  return rows
end

return M
