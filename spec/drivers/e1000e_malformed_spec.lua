--- e1000e against a device that is broken or hostile: descriptors of every malformed kind, written straight into the rings,
--- and a model that hangs, falls silent, or interrupts for nothing. Nothing is read outside of a packet, no packet of the pool
--- is lost or there twice, no burst goes on for ever, and all of it is counted.

local bit = require "bit"
local ffi = require "ffi"
local amount = require "spec.support.amount"
local files = require "spec.support.files"
local luio = require "luio"
local net = require "luio.net"
local pools = require "luio.pool"
local ring = require "drivers.e1000e.ring"
local wait = require "spec.support.wait"

local band = bit.band
local RX = ffi.typeof "struct { uint64_t address; uint16_t length, checksum; uint8_t status, errors; uint16_t special; } *"
local TX = ffi.typeof "struct { uint64_t address; uint16_t length; uint8_t cso, cmd, status, css; uint16_t special; } *"
local DD, EOP = 0x01, 0x02
local NO_FRAME = 0x97 -- CE, SE, SEQ, CXE, RXE; TCPE and IPE are told by flags
local COUNT, SIZE, PACKETS = 8, 2048, 64

local SEED = tonumber(os.getenv "LUIO_SEED") or os.time()

local dev, pool, tail

before_each(function()
  dev = assert(luio.open "sim:edu")
  pool = assert(luio.pool(dev, { count = PACKETS, size = SIZE }))
  tail = { at = 0, write = function(self, value) self.at = value end }
end)
after_each(function() assert(dev:close()) end)

-- Numbers from 0 below n, the same for a seed.
local function generator()
  local x = SEED % 2147483646 + 1
  return function(n)
    x = x * 48271 % 2147483647
    return x % n
  end
end

-- Every packet of the pool is in one place and no other: free, in the ring (`lent` descriptors from `first` on), or ours.
local function all_there(list, first, lent, ours, n)
  local seen, total = {}, 0
  local function add(packet, owner)
    if packet == nil then return end
    assert(not seen[packet.number], "a packet is in two places")
    assert(packet.owner == owner, "a packet has another owner")
    seen[packet.number], total = true, total + 1
  end
  for i = 0, pool.record.free - 1 do add(pool.stack[i], pools.FREE) end
  for i = first, first + lent - 1 do add(list.packets[band(i, list.mask)], pools.DEVICE) end
  for i = 0, n - 1 do add(ours[i], pools.YOURS) end
  assert.equal(PACKETS, total)
end

describe("e1000e's receive ring, of a broken device,", function()
  local LENGTHS = { 0, 1, 13, 14, 59, 60, 1518, 1519, 2047, 2048, 2049, 4096, 16383, 65535 }

  it("hands out what is a frame and drops the rest: each status, each error, each length", function()
    local rx = assert(ring.rx(dev, pool, COUNT, tail))
    rx:start()
    local d, packets, c = rx.parts.buffer:pointer(RX), luio.batch(COUNT), rx.c
    local broken, dropped, taken = false, 0, 0
    local function one(status, errors, length)
      local at = c.next
      d[at].length, d[at].checksum, d[at].errors, d[at].special = length, 0xffff, errors, 0xffff
      d[at].address = 0xdead0000beefULL -- the device has written over it
      d[at].status = status
      local n = rx:burst(packets, COUNT)
      if band(status, DD) == 0 then -- the device's still
        if n ~= 0 or c.next ~= at then return "a descriptor that is the device's was taken" end
        d[at].address, d[at].status = rx.packets[at].iova + pool.headroom, 0
        return
      end
      local good = not broken and band(status, EOP) ~= 0 and band(errors, NO_FRAME) == 0 and length >= 14 and length <= SIZE
      if n ~= (good and 1 or 0) then return ("%d frames"):format(n) end
      if good and packets[0].length ~= length then return "another length" end
      if good then
        packets[0]:free()
        taken = taken + 1
      else
        dropped = dropped + 1
      end
      broken = band(status, EOP) == 0
      if c.next == at then return "the ring did not go on" end
      if d[at].address ~= rx.packets[at].iova + pool.headroom then return "the descriptor has another address than its packet" end
      if band(d[at].status, DD) ~= 0 then return "the descriptor is not the device's again" end
      if pool:used() ~= COUNT then return "a packet is lost" end
    end
    for status = 0, 255 do
      for errors = 0, 255 do
        for _, length in ipairs(LENGTHS) do
          local fault = one(status, errors, length)
          if fault then error(("status 0x%02x, errors 0x%02x, length %d: %s"):format(status, errors, length, fault), 0) end
        end
      end
    end
    assert.same({ dropped, taken }, { c.errors, c.received })
    assert.is_true(taken > 1000)
    all_there(rx, 0, COUNT, packets, 0)
  end)

  -- In each turn the device writes anything anywhere in the ring, its own descriptors or not; then we take, keep, free.
  it("loses no packet and keeps within each, whatever is written into the ring", function()
    local random = generator()
    for _ = 1, amount(20, 500) do
      local before = pool:used()
      local rx = assert(ring.rx(dev, pool, COUNT, tail))
      rx:start()
      local d, packets, held, n = rx.parts.buffer:pointer(RX), luio.batch(COUNT), luio.batch(PACKETS), 0
      for _ = 1, 500 do
        for _ = 1, random(COUNT + 1) do
          local one = d[random(COUNT)]
          one.status, one.errors, one.special = random(256), random(4) == 0 and random(256) or 0, random(65536)
          one.length = random(3) == 0 and random(65536) or random(SIZE)
          if random(4) == 0 then one.status = DD + EOP end
          if random(8) == 0 then one.address = random(2 ^ 31) end
        end
        local got = rx:burst(packets, random(COUNT) + 1)
        for i = 0, got - 1 do
          assert(packets[i].length >= 14 and packets[i].length <= SIZE)
          assert(packets[i].offset == pool.headroom)
          held[n], n = packets[i], n + 1
        end
        while n > 30 or n > 0 and random(3) > 0 do
          n = n - 1
          held[n]:free()
        end
      end
      all_there(rx, 0, COUNT, held, n)
      rx:restart()
      for i = 0, COUNT - 1 do
        assert(d[i].address == rx.packets[i].iova + pool.headroom, "a descriptor has another address than its packet, seed " .. SEED)
      end
      held:free(n)
      rx:close()
      assert.equal(before, pool:used())
    end
  end)

  -- Its status is read as such whenever it is looked at: the device writes as fast as we give back.
  local function endless(status, length)
    local rx = assert(ring.rx(dev, pool, COUNT, tail))
    rx:start()
    local real, looks = rx.d, 0
    rx.d = setmetatable({}, { __index = function(_, i)
      return setmetatable({}, {
        __index = function(_, field)
          looks = looks + 1
          if field == "status" then return status end
          return field == "length" and length or real[i][field]
        end,
        __newindex = function(_, field, value) real[i][field] = value end,
      })
    end })
    return rx, function()
      local n = looks
      looks = 0
      return n
    end
  end

  it("ends a burst of pieces that have no end, of damaged frames, of frames that fit nowhere", function()
    for _, case in ipairs { { DD, 60 }, { DD + EOP + 0x0100, 60 }, { DD + EOP, 0 }, { DD + EOP, 65535 }, { DD + EOP + 0x97ff00, 60 } } do
      local rx, looks = endless(case[1], case[2])
      local before = rx.c.errors
      for _ = 1, 100 do
        assert.equal(0, rx:burst(luio.batch(32), 32))
        assert.is_true(looks() <= 10 * COUNT)
      end
      assert.is_true(rx.c.errors >= before + 100)
      rx:close()
    end
  end)

  it("is waited for until the deadline, not for ever, when only damaged frames come", function()
    local port = assert(net.open("sim:e1000e", { rx = 8, tx = 8, packets = 64 }))
    finally(function() port:close() end)
    local q = port.rx[0]
    local offer = q.offer
    q.offer = { ring = offer.ring, burst = function() return 0 end, ready = function() return true end }
    local began = luio.now()
    local packet, message, code = q:receive(0.05)
    assert.same({ nil, "ETIMEDOUT" }, { packet, code })
    assert.matches("^receive of sim:e1000e: all frames within 0.05 s were damaged %(rx_dropped counts them%)$", message)
    assert.is_true(luio.now() - began >= 0.05)
    q.offer = offer
  end)
end)

describe("e1000e's transmit ring, of a broken device,", function()
  it("frees each packet once, whatever the device reports", function()
    local random = generator()
    for _ = 1, amount(20, 500) do
      local tx, packets = assert(ring.tx(dev, COUNT, tail)), luio.batch(COUNT)
      local d = tx.parts.buffer:pointer(TX)
      for _ = 1, 500 do
        for _ = 1, random(4) do
          local one = d[random(COUNT)]
          one.status = random(256) -- EC, LC, TU; reported twice, never given, taken back
          if random(8) == 0 then one.address, one.length, one.cmd = random(2 ^ 31), random(65536), random(256) end
        end
        local n = pool:fill(packets, 0, random(COUNT) + 1)
        for i = 0, n - 1 do
          packets[i].length = 60
          if random(3) == 0 then packets[i].checksum_start, packets[i].checksum_offset = 34, random(4) * 2 end
        end
        local sent = tx:burst(packets, n)
        for i = sent, n - 1 do packets[i]:free() end
        local room, pending = tx:reclaim(), tx:pending()
        assert(room + pending == COUNT - 1)
        assert(pool:used() <= pending)
      end
      all_there(tx, tx.c.clean, tx:pending(), packets, 0)
      tx:close()
      assert.equal(0, pool:used())
    end
  end)

  it("keeps what the device never reports, and takes no more than the ring holds", function()
    local tx, packets = assert(ring.tx(dev, COUNT, tail)), luio.batch(COUNT)
    for _ = 1, 20 do
      local n = pool:fill(packets, 0, COUNT)
      for i = 0, n - 1 do packets[i].length = 60 end
      local sent = tx:burst(packets, n)
      for i = sent, n - 1 do packets[i]:free() end
    end
    assert.same({ COUNT - 1, COUNT - 1, 0 }, { pool:used(), tx:pending(), tx:reclaim() })
    tx:close()
    assert.equal(0, pool:used())
  end)
end)

-- The card's model with a switch for each way to be broken, on the wire's bench (region 5, 0x10).
local MODEL = [[
local model = {}
for key, value in pairs(require "drivers.e1000e.model") do model[key] = value end
local read, write = model.read, model.write
local BROKEN = 0x10
local SILENT, IDLE_TAIL, WILD_HEAD, STATISTICS, STUCK = 1, 2, 4, 8, 16
function model.read(dev, offset, width, region)
  local broken = dev.broken or 0
  if region == 5 then return read(dev, offset, width, region) end
  if broken % 2 >= SILENT then return 0xffffffff end
  if broken % 8 >= WILD_HEAD and (offset == 0x2810 or offset == 0x3810) then return 0xffff end
  if broken % 16 >= STATISTICS and offset >= 0x4000 and offset < 0x4100 then return dev.next_count() end
  return read(dev, offset, width, region)
end
function model.write(dev, offset, width, value, region)
  if region == 5 and offset == BROKEN then
    dev.broken = value
    local n = 0
    function dev.next_count() -- full, and begun anew
      n = n + 1
      return n % 3 == 0 and 0 or n % 3 == 1 and 0xfffffffe or 5
    end
    if value >= STUCK then
      dev.lower = function() end
      dev:raise()
    end
    return
  end
  local broken = dev.broken or 0
  if region ~= 5 and broken % 2 >= SILENT then return end
  if region ~= 5 and broken % 4 >= IDLE_TAIL and offset == 0x3818 then return end
  return write(dev, offset, width, value, region)
end
return model]]
local BROKEN, SILENT, IDLE_TAIL, WILD_HEAD, STATISTICS, STUCK = 0x10, 1, 2, 4, 8, 16

describe("a port of e1000e whose device", function()
  local port, warnings

  before_each(function()
    local path = files.write("model.lua", MODEL)
    port = assert(net.open("sim:" .. path, { loopback = true, driver = "e1000e", rx = 64, tx = 64, packets = 256 }))
    warnings = {}
    function port.dev.on_warning(message) table.insert(warnings, message) end
    assert(port:wait_link(true, 5))
  end)
  after_each(function()
    assert(port:close())
    files.clean()
  end)

  local function broken(how) port.dev.regions[5]:write32(BROKEN, how) end

  local function frame(size)
    local packet = assert(port.pool:alloc())
    packet:write(net.mac_bytes(port.mac):rep(2) .. "\x88\xb5" .. ("x"):rep((size or 60) - 14))
    return packet
  end

  local function works()
    assert(port.tx[0]:send(frame(), 5))
    local packet = assert(port.rx[0]:receive(5))
    assert.equal(60, packet.length)
    packet:free()
    assert(port.tx[0]:flush(5))
  end

  it("falls silent says so once, counts nothing of it, and is left alone", function()
    works()
    local before = port:stats()
    broken(SILENT)
    local first = port.offer.tick()
    assert.matches("does not answer, its registers read as all ones: it is gone, asleep %(D3%), or its memory is switched off", first)
    for _ = 1, 5 do assert.is_nil(port.offer.tick()) end
    assert.is_false(port:link().up)
    assert.same(before, port:stats())
    broken(0)
    assert.is_nil(port.offer.tick())
    works()
    assert.equal(0, port:stats().resets)
  end)

  it("reports nothing any more is reset, and what was under way counted", function()
    works()
    broken(IDLE_TAIL)
    for _ = 1, 3 do assert(port.tx[0]:send(frame(), 1)) end
    local said
    for i = 1, 20 do
      said = port.offer.tick()
      if said then break end
      assert.is_true(i < 10)
      broken(i >= 4 and 0 or IDLE_TAIL) -- mended by the reset
    end
    assert.matches("reported nothing that was sent for 5 s: %d+ received and 3 given to be sent were lost; it was set up again", said)
    assert(port:wait_link(true, 5))
    works()
    local stats = port:stats()
    assert.same({ 1, 3, 64 }, { stats.resets, stats.tx_dropped, port.pool:used() })
  end)

  it("has heads that are none goes on", function()
    broken(WILD_HEAD)
    for _ = 1, 10 do works() end
    assert.is_nil(port.offer.tick())
  end)

  it("has counters that begin anew has statistics that only grow", function()
    broken(STATISTICS)
    local before = port:stats()
    for _ = 1, 50 do
      local after = port:stats()
      for name, value in pairs(after) do
        assert(value >= before[name] and value % 1 == 0, name)
      end
      before = after
    end
  end)

  it("says lengths that are none is told of once, and goes on", function()
    works()
    local rx = port.rx[0].offer.ring
    local d = rx.parts.buffer:pointer(RX)
    for _, length in ipairs { 0, 65535, 5 } do
      local at = rx.c.next
      d[at].length, d[at].errors, d[at].status = length, 0, DD + EOP
      assert.is_nil((port.rx[0]:receive(0)))
    end
    assert.equal(3, port:stats().rx_dropped)
    assert.matches("says of frames that they are shorter than a header, or longer than the packet", port.offer.tick())
    assert.is_nil(port.offer.tick())
    assert.equal(64, port.pool:used())
  end)

  -- The link's interrupt is not masked while nobody waits.
  it("has a link that comes and goes tells of each change that lasts, and of no other", function()
    luio.run(function()
      local heard = {}
      port:on_link(function(link) table.insert(heard, link.up) end)
      local ICS, LSC = port.dev.regs.ICS, 0x04
      for _ = 1, amount(200, 5000) do ICS:write(LSC) end
      port.dev.regs.CTRL:update { SLU = 0 }
      wait.till(10, "it is down", function() return heard[1] ~= nil end)
      port.dev.regs.CTRL:update { SLU = 1 }
      wait.till(10, "it is up", function() return heard[2] ~= nil end)
      assert.same({ false, true }, heard)
      works()
    end)
  end)

  -- All causes there are, again and again, with nothing behind any of them.
  it("interrupts for nothing loses nothing, and lets others live", function()
    luio.run(function()
      local turns, stop, n = 0, false, amount(200, 5000)
      local other = luio.spawn(function()
        repeat
          turns = turns + 1
          luio.sleep(0)
        until stop
      end)
      local waiter = luio.spawn(function() return port.rx[0]:receive(60) end)
      for _ = 1, n do
        port.dev.regs.ICS:write(0x1ffffff)
        luio.sleep(0)
      end
      assert.equal("waiting", waiter.status)
      assert(port.tx[0]:send(frame(), 5))
      assert(waiter:join(10))
      assert.equal(60, waiter.results[1].length)
      waiter.results[1]:free()
      stop = true
      assert(other:join(5))
      assert(port.tx[0]:flush(5))
      assert.is_true(turns > n / 2)
    end)
    assert.equal(64, port.pool:used())
  end)

  -- The line is held whatever is acknowledged: a shared one, with a device at it that nobody drives.
  it("holds its interrupt for ever says so once; others live, and frames pass", function()
    luio.run(function()
      local turns, stop = 0, false
      local other = luio.spawn(function()
        repeat
          turns = turns + 1
          luio.sleep(0.001)
        until stop
      end)
      broken(STUCK)
      wait.till(30, "it is said", function() return table.concat(warnings):find "interrupts without a reason" end)
      for _ = 1, 20 do works() end
      wait.till(10, "others live", function() return turns > 50 end)
      stop = true
      assert(other:join(5))
    end)
    local _, times = table.concat(warnings):gsub("interrupts without a reason", "")
    assert.equal(1, times)
  end)
end)
