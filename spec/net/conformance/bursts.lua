--- Conformance: bursts never wait, keep the order, and keep to whose a packet is.

local busted = require "busted"
local assert = require "luassert"
local luio = require "luio"
local support = require "spec.net.conformance.support"
local wait = require "spec.support.wait"

local it = busted.it

local function fails(pattern, fn, ...)
  local ok, message = pcall(fn, ...)
  assert.is_false(ok)
  assert.matches(pattern, message)
end

return function(subject)
  it("takes nothing when nothing came, without waiting", function()
    local port = subject.open()
    local packets = luio.batch(8)
    luio.run(function()
      local turns = 0
      local other = luio.spawn(function()
        while true do
          luio.sleep(0)
          turns = turns + 1
        end
      end)
      for _ = 1, 1000 do
        if port.rx[0]:burst(packets, 8) ~= 0 then error "something came" end
      end
      assert.equal(0, turns)
      other:cancel()
    end)
    assert.same({ 0, 0 }, { port.rx[0]:burst(packets, 0), port.tx[0]:burst(packets, 0) })
  end)

  it("carries packets in bursts of every size, whole, in order and once", function()
    local port = subject.open()
    for _, burst in ipairs { 1, 2, 3, 7, 8, 32, 33, 64, 128 } do
      local n = math.max(2 * burst, math.floor(subject.packets / 8))
      assert.equal(n, support.exchange(port, n, { burst = burst }))
    end
    support.drain(port)
  end)

  it("goes around rings of the smallest size", function()
    local port = subject.open { rx = 8, tx = 8, packets = 200 }
    local n = math.floor(subject.packets / 4)
    assert.equal(n, support.exchange(port, n, { burst = 7, window = 6 }))
  end)

  it("takes of a burst as many as there is room for; the others stay yours", function()
    local port = subject.open { tx = 16 }
    local packets, waiting = luio.batch(64), luio.batch(64)
    assert.equal(64, port.pool:fill(packets, 0, 64))
    for i = 0, 63 do packets[i]:write(support.frame(port, i)) end
    local given = port.tx[0]:burst(packets, 64)
    assert.is_true(given >= 1 and given <= 15, tostring(given))
    fails("it is the device's", function() packets[0]:free() end)
    assert.equal(support.frame(port, given), packets[given]:read())
    local have, got = packets:shift(given, 64), 0
    local deadline = luio.now() + 20 * wait.HANG
    while got < 64 do
      have = packets:shift(port.tx[0]:burst(packets, have), have)
      for i = 0, port.rx[0]:burst(waiting, 64) - 1 do
        if waiting[i]:read() ~= support.frame(port, got) then error(("%d is another"):format(got)) end
        waiting[i]:free()
        got = got + 1
      end
      assert(luio.now() < deadline, "they don't come")
    end
    assert.equal(0, have)
  end)

  it("gives a packet back to its pool when it was sent, and not before", function()
    local port = subject.open()
    local used = port.pool:used()
    local one = support.packet(port, support.frame(port, 1))
    assert.equal(used + 1, port.pool:used())
    local packets = luio.batch(1)
    packets[0] = one
    assert.equal(1, port.tx[0]:burst(packets, 1))
    for _, verb in ipairs { "free", "pointer", "read" } do fails("it is the device's", function() one[verb](one) end) end
    assert(port.tx[0]:flush(5))
    assert.equal(0, port.tx[0]:pending())
    fails("it is free", function() one:free() end)
    assert.equal(support.frame(port, 1), support.next(port))
    assert.equal(used, port.pool:used())
    packets[0] = assert(port.pool:alloc()) -- the ring has forgotten it
    packets:free(1)
  end)

  it("refuses a packet that is not yours, and sends nothing of that burst", function()
    local port = subject.open()
    local used = port.pool:used()
    local free, packets, yours = support.packet(port, "x"), luio.batch(8), {}
    for i = 0, 2 do yours[i] = support.packet(port, support.frame(port, i)) end
    free:free()
    for at = 0, 2 do
      for i = 0, 2 do packets[i] = i == at and free or yours[i] end
      fails("bursts.lua:%d+: send packet %d+ of [^ ]+: it is free", function()
        local n = port.tx[0]:burst(packets, 3)
        return n
      end)
      for i = 0, 2 do assert.equal(support.frame(port, i), yours[i]:read()) end -- yours still
    end
    for i = 0, 2 do yours[i]:free() end
    assert.equal(used, port.pool:used())
    fails("bursts.lua:%d+: send packet %d+ of [^ ]+: it is free", function()
      local ok = port.tx[0]:send(free, 1)
      return ok
    end)
    -- and one of whom there are two in the burst
    local twice = support.packet(port, support.frame(port, 1))
    packets[0], packets[1], packets[2] = support.packet(port, support.frame(port, 0)), twice, twice
    fails("bursts.lua:%d+: send packet %d+: it is in the burst twice", function()
      local n = port.tx[0]:burst(packets, 3)
      return n
    end)
    packets[0]:free()
    twice:free()
    -- or none at all
    local empty = luio.batch(4)
    empty[0] = support.packet(port, support.frame(port, 0))
    fails("bursts.lua:%d+: send packet: there is none in that place", function()
      local n = port.tx[0]:burst(empty, 2)
      return n
    end)
    empty[0]:free()
    assert.equal(used, port.pool:used())
    assert.equal(50, support.exchange(port, 50)) -- and goes on
  end)

  it("keeps to what a batch has room for", function()
    local port = subject.open()
    local packets = luio.batch(4)
    for _, n in ipairs { 5, -1, 1.5, 0 / 0 } do
      for _, queue in ipairs { port.rx[0], port.tx[0] } do
        fails("bursts.lua:%d+: a burst of [%d.nai-]+ packets in a batch of 4", function()
          local taken = queue:burst(packets, n)
          return taken
        end)
      end
    end
    for i = 0, 3 do packets[i] = support.packet(port, support.frame(port, i)) end
    assert.equal(4, port.tx[0]:burst(packets, 4))
    local got = 0
    wait.till(5, "four came", function()
      local n = port.rx[0]:burst(packets, 3)
      assert.is_true(n <= 3)
      for i = 0, n - 1 do
        assert.equal(support.frame(port, got + i), packets[i]:read())
        packets[i]:free()
      end
      got = got + n
      return got == 4
    end)
  end)

  it("loses nothing to an empty pool: what came waits in the ring", function()
    local port = subject.open { rx = 64, tx = 64 }
    local held, packets = {}, luio.batch(32)
    for i = 0, 31 do packets[i] = support.packet(port, support.frame(port, i)) end
    for packet in function() return port.pool:alloc() end do table.insert(held, packet) end
    assert.is_true(port.pool:empty() > 0)
    local starved = port:stats().rx_starved
    assert.equal(32, port.tx[0]:burst(packets, 32))
    -- The ring keeps its sent packets until they are reclaimed: nobody has a free one.
    assert(port.rx[0]:wait(5))
    assert.equal(0, port.rx[0]:burst(packets, 32))
    local packet, message, code = port.rx[0]:receive(0.01)
    assert.same({ nil, "ENOBUFS" }, { packet, code })
    assert.matches("all %d+ packets of its pool are in use", message)
    assert.is_true(port:stats().rx_starved > starved)
    for _ = 1, 3 do table.remove(held):free() end
    local got = 0
    local function take(most)
      local n = port.rx[0]:burst(packets, most)
      for i = 0, n - 1 do
        assert.equal(support.frame(port, got + i), packets[i]:read())
        table.insert(held, packets[i])
      end
      got = got + n
      return n
    end
    assert.is_true(take(32) <= 3) -- as many as there are empty ones for
    for _, one in ipairs(held) do one:free() end
    held = {}
    wait.till(5, "all came", function()
      take(32)
      return got == 32
    end)
    for _, one in ipairs(held) do one:free() end
    assert(port.tx[0]:flush(5))
  end)

  it("finds out who wrote to a free packet, when it is opened to debug", function()
    local port = subject.open { debug = true }
    assert.equal(100, support.exchange(port, 100))
    local packet = assert(port.pool:alloc())
    local stray = packet:pointer()
    packet:free()
    stray[10] = 1
    fails("was written to while it was free", function() return port.pool:alloc() end)
    stray[10] = 0xa5
    port.pool:alloc():free()
  end)
end
