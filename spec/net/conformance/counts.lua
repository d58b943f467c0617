--- Conformance: counters add up, and packets make no garbage.

local busted = require "busted"
local assert = require "luassert"
local luio = require "luio"
local pending = require "spec.support.pending"
local support = require "spec.net.conformance.support"
local wait = require "spec.support.wait"

local it = busted.it

local NAMES = {
  "rx_packets", "rx_bytes", "rx_missed", "rx_errors", "rx_dropped", "rx_starved", "tx_packets", "tx_bytes", "tx_errors",
  "tx_dropped", "resets",
}

-- All that it counted, for messages.
local function told(port)
  local stats, list = port:stats(), {}
  for _, name in ipairs(NAMES) do table.insert(list, ("%s %d"):format(name, stats[name])) end
  return table.concat(list, ", ")
end

return function(subject)
  -- How much each counter grew; all are whole numbers, and none went down.
  local function since(port, before)
    local after, grown = port:stats(), {}
    for _, name in ipairs(NAMES) do
      local value = after[name]
      assert.is_true(type(value) == "number" and value % 1 == 0 and value >= 0 and value < 2 ^ 53, ("%s is %s"):format(name, tostring(value)))
      assert.is_true(not before or value >= before[name], ("%s went from %s to %s"):format(name, before and before[name], value))
      grown[name] = value - (before and before[name] or 0)
    end
    return grown, after
  end

  it("counts what it sent and received, however often it is asked", function()
    local port = subject.open()
    local _, before = since(port)
    local _, last = since(port, before)
    local asked = 0
    local n = subject.packets
    support.exchange(port, n, {
      size = function() return 100 end,
      beside = function()
        asked = asked + 1
        if asked % 10 == 0 then _, last = since(port, last) end
      end,
    })
    local grown = since(port, before)
    assert.same({ n, n, 0, 0, 0, 0, 0, 0, 0 }, {
      grown.tx_packets, grown.rx_packets, grown.rx_missed, grown.rx_errors, grown.rx_dropped, grown.rx_starved, grown.tx_errors,
      grown.tx_dropped, grown.resets,
    })
    for _, name in ipairs { "rx_bytes", "tx_bytes" } do -- with or without the CRC
      assert.is_true(grown[name] == n * 104 or grown[name] == n * 100, ("%s: %d of %d packets"):format(name, grown[name], n))
    end
    assert.same(port:stats(), port:stats())
  end)

  it("counts what a full ring misses: sent is received and missed", function()
    local port = subject.open { rx = 8, tx = 256 }
    local before, n, sent, have = port:stats(), 600, 0, 0
    local packets = luio.batch(64)
    local deadline = luio.now() + 20 * wait.HANG
    while sent < n do
      assert(luio.now() < deadline)
      local from = have
      have = port.pool:fill(packets, have, math.min(64, n - sent))
      for i = from, have - 1 do packets[i]:write(support.frame(port, sent + i, 1000)) end
      local went = port.tx[0]:burst(packets, have)
      have, sent = packets:shift(went, have), sent + went
    end
    assert(port.tx[0]:flush(5))
    local got, last = 0, -1
    while port.rx[0]:wait(0.5) do -- what the device itself keeps comes, too
      local text = support.next(port)
      local number = tonumber(text:sub(15, 22))
      assert.equal(support.frame(port, number, 1000), text)
      assert.is_true(number > last)
      last, got = number, got + 1
    end
    local grown = since(port, before)
    assert.is_true(got >= 7 and got < n, tostring(got))
    assert.same({ n, got, 0 }, { grown.tx_packets, grown.rx_packets, grown.rx_dropped })
    if subject.uncounted then return pending(subject.uncounted) end
    assert.equal(n, got + grown.rx_missed)
    -- and goes on
    support.exchange(port, 100, { window = 6, burst = 6 })
    luio.sleep(1.2) -- a look of the driver's own at its counters
    grown = since(port, before)
    assert.same({ n + 100, n + 100 }, { grown.tx_packets, grown.rx_packets + grown.rx_missed })
  end)

  it("makes no garbage by bursts, after reloads neither #plain", function()
    local port = subject.open()
    local packets, n, bursts = luio.batch(32), 0, 0
    local text = support.frame(port, 1)
    local deadline = luio.now() + 10 * wait.HANG
    local function churn(rounds)
      for _ = 1, rounds do
        local have = port.pool:fill(packets, 0, 32)
        for i = 0, have - 1 do packets[i].length = #text end
        local went = port.tx[0]:burst(packets, have)
        packets:free(packets:shift(went, have))
        local got = 0
        repeat
          local now = port.rx[0]:burst(packets, 32)
          packets:free(now)
          got, bursts = got + now, bursts + 1
          if luio.now() > deadline then error(("%d of %d came back; %s"):format(got, went, told(port))) end
        until got >= went
        n = n + got
      end
    end
    -- Every packet of the pool has our address in it.
    local all = {}
    for packet in function() return port.pool:alloc() end do
      packet:write(text)
      table.insert(all, packet)
    end
    for _, packet in ipairs(all) do packet:free() end
    port:promiscuous(true) -- those that the ring had were empty
    support.wait_for_loopback(port)
    local rounds = math.ceil(subject.packets / 32)
    -- How much the heap grew by, in bytes a burst, once the compiler had nothing left to do.
    local function grown()
      local least = math.huge
      for _ = 1, 6 do
        collectgarbage()
        collectgarbage "stop"
        local before, had, bursts_before = collectgarbage "count", n, bursts
        churn(2 * rounds)
        least = math.min(least, (collectgarbage "count" - before) * 1024 / (bursts - bursts_before))
        collectgarbage "restart"
        assert.equal(2 * rounds * 32, n - had)
        if least < 1 then break end
      end
      return least
    end
    for reloads = 0, 3 do
      churn(math.max(200, rounds))
      local bytes = grown()
      -- Which traces there are depends on what came when they were recorded: another try.
      for _ = 1, 3 do
        if bytes < 64 then break end
        jit.flush()
        churn(math.max(200, rounds))
        bytes = grown()
      end
      -- Not a byte for a packet; once a burst LuaJIT may box a pointer, where one trace goes over into another.
      assert.is_true(bytes < 64, ("%.1f bytes a burst, after %d reloads"):format(bytes, reloads))
      assert(port.dev:reload())
    end
  end)
end
