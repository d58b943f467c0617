--- e1000e's descriptor rings against a device made of a few lines, which does with the descriptors in memory what
--- the datasheet says: 82574, 7.1.4 and 7.2.10.

local ffi = require "ffi"
local luio = require "luio"
local ring = require "drivers.e1000e.ring"

local RX = ffi.typeof "struct { uint64_t address; uint16_t length, checksum; uint8_t status, errors; uint16_t special; } *"
local TX = ffi.typeof "struct { uint64_t address; uint16_t length; uint8_t cso, cmd, status, css; uint16_t special; } *"
local DD, EOP, CE = 1, 2, 1

local dev, pool, tail

-- A tail register, and the head that follows it.
local function new_tail()
  return { at = 0, head = 0, writes = 0, write = function(self, value)
    assert(value % 1 == 0 and value >= 0)
    self.at, self.writes = value, self.writes + 1
  end }
end

before_each(function()
  dev = assert(luio.open "sim:edu")
  pool = assert(luio.pool(dev, { count = 200, size = 256, headroom = 0 }))
  tail = new_tail()
end)
after_each(function() assert(dev:close()) end)

-- Where an address is in this process: the sim's pool gives IOVAs in order of its pages.
local function memory_of(address)
  address = tonumber(address)
  for _, buffer in ipairs(pool.buffers) do
    if address >= buffer.iova and address < buffer.iova + buffer.size then return buffer:pointer("uint8_t *", address - buffer.iova) end
  end
  error "an address that is no packet's"
end

-- Puts a frame into the next descriptor; false: there is none.
local function arrives(rx, text, status, errors)
  if tail.head == tail.at then return false end
  local d = rx.parts.buffer:pointer(RX)[tail.head]
  ffi.copy(memory_of(d.address), text, #text)
  d.length, d.errors = #text, errors or 0
  d.status = status or DD + EOP
  tail.head = (tail.head + 1) % rx.parts.count
  return true
end

-- Sends what is there; reports where it was asked to.
local function sends(tx, most)
  local sent, d = {}, tx.parts.buffer:pointer(TX)
  while tail.head ~= tail.at and #sent < (most or 1e9) do
    local one = d[tail.head]
    table.insert(sent, ffi.string(memory_of(one.address), one.length))
    if one.cmd % 16 >= 8 then one.status = DD end
    tail.head = (tail.head + 1) % tx.parts.count
  end
  return sent
end

describe("e1000e's receive ring", function()
  it("hands frames out in order, around and around, with an empty packet in the place of each", function()
    local rx = assert(ring.rx(dev, pool, 8, tail))
    rx:start()
    assert.equal(7, tail.at)
    local packets, expected, got = luio.batch(8), 0, 0
    for round = 1, 100 do
      for _ = 1, round % 9 do
        if arrives(rx, "frame " .. expected) then expected = expected + 1 end
      end
      local n = rx:burst(packets, round % 5 + 1)
      for i = 0, n - 1 do
        assert.equal("frame " .. got, packets[i]:read())
        packets[i]:free()
        got = got + 1
      end
    end
    got = got + rx:burst(packets, 8)
    assert.is_true(got > 200)
    assert.same({ expected, expected }, { got, rx.c.received })
  end)

  it("drops no frame that comes between two looks at its descriptor", function()
    local rx = assert(ring.rx(dev, pool, 8, tail))
    rx:start()
    -- The frame comes right after the first look at its descriptor's status, whichever that is.
    local real, looks = rx.d, 0
    rx.d = setmetatable({}, { __index = function(_, i)
      return setmetatable({}, {
        __index = function(_, field)
          local value = real[i][field]
          if field == "status" then
            looks = looks + 1
            if looks == 1 then arrives(rx, "late") end
          end
          return value
        end,
        __newindex = function(_, field, value) real[i][field] = value end,
      })
    end })
    local packets = luio.batch(8)
    local n = rx:burst(packets, 8)
    if n == 0 then n = rx:burst(packets, 8) end
    assert.same({ 1, 0 }, { n, rx.c.errors })
    assert.equal("late", packets[0]:read())
    rx.d = real
  end)

  it("writes no tail and takes no packet when nothing came", function()
    local rx = assert(ring.rx(dev, pool, 8, tail))
    rx:start()
    local writes, used = tail.writes, pool:used()
    assert.equal(0, rx:burst(luio.batch(32), 32))
    assert.same({ writes, used }, { tail.writes, pool:used() })
  end)

  it("drops what is damaged or in pieces, and counts it", function()
    local rx = assert(ring.rx(dev, pool, 8, tail))
    rx:start()
    local used = pool:used()
    arrives(rx, "good")
    arrives(rx, "bad crc", nil, CE)
    arrives(rx, "first piece", DD)
    arrives(rx, "last piece")
    arrives(rx, "good again")
    local packets = luio.batch(8)
    assert.equal(1, rx:burst(packets, 8)) -- as far as all is well
    assert.equal("good", packets[0]:read())
    assert.equal(1, rx:burst(packets, 8))
    assert.same({ "good again", 3 }, { packets[0]:read(), rx.c.errors })
    assert.equal(used + 2, pool:used())
  end)

  it("leaves a frame where it is while the pool is empty", function()
    local rx = assert(ring.rx(dev, pool, 8, tail))
    rx:start()
    local taken, packets = {}, luio.batch(8)
    for packet in function() return pool:alloc() end do table.insert(taken, packet) end
    arrives(rx, "waits")
    assert.same({ 0, 1 }, { rx:burst(packets, 8), rx.c.starved })
    table.remove(taken):free()
    assert.equal(1, rx:burst(packets, 8))
    assert.equal("waits", packets[0]:read())
  end)

  it("needs as many packets as it has descriptors; closed it gives all back", function()
    local none, message, code = ring.rx(dev, pool, 256, tail)
    assert.is_nil(none)
    assert.same({ "ENOBUFS", 0 }, { code, pool:used() })
    assert.equal("a receive ring of 256 needs as many packets; the pool had 200", message)
    local rx = assert(ring.rx(dev, pool, 64, tail))
    rx:close()
    assert.equal(0, pool:used())
    assert.has_error(function() ring.rx(dev, pool, 12, tail) end)
  end)
end)

describe("e1000e's transmit ring", function()
  local function packet(text)
    local p = assert(pool:alloc())
    p:write(text)
    return p
  end

  it("sends in order, around and around, and frees what was sent", function()
    local tx = assert(ring.tx(dev, 16, tail))
    local queued, seen, waiting, have = 0, 0, luio.batch(20), 0
    for round = 1, 200 do
      while have < round % 20 do
        waiting[have] = packet("frame " .. queued)
        queued, have = queued + 1, have + 1
      end
      have = waiting:shift(tx:burst(waiting, have), have)
      for _, text in ipairs(sends(tx, round % 7)) do
        assert.equal("frame " .. seen, text)
        seen = seen + 1
      end
    end
    while have > 0 or tx:pending() > 0 do
      have = waiting:shift(tx:burst(waiting, have), have)
      seen = seen + #sends(tx)
      tx:reclaim()
    end
    assert.is_true(seen > 500)
    assert.same({ queued, queued, 0 }, { seen, tx.c.sent, pool:used() })
  end)

  it("takes as many as there is room for; the others stay yours", function()
    local tx = assert(ring.tx(dev, 8, tail))
    local packets = luio.batch(10)
    for i = 0, 9 do packets[i] = packet(tostring(i + 1)) end
    assert.equal(7, tx:burst(packets, 10))
    packets:shift(7, 10)
    assert.equal(0, tx:burst(packets, 1))
    assert.equal("8", packets[0]:read())
    assert.same({ "1", "2", "3" }, sends(tx, 3))
    assert.equal(0, tx:reclaim()) -- one report for the whole burst
    sends(tx)
    assert.equal(7, tx:reclaim())
    assert.equal(3, pool:used())
  end)

  it("refuses what is not yours, and leaves what stands before it yours", function()
    local tx, packets = assert(ring.tx(dev, 8, tail)), luio.batch(4)
    packets[0], packets[1] = packet "a", packet "b"
    packets[2] = packets[0]
    local function refused(pattern, n)
      local ok, message = pcall(tx.burst, tx, packets, n)
      assert.is_false(ok)
      assert.matches(pattern, message)
      assert.same({ 0, 0 }, { tail.writes, tx:pending() })
      assert.same({ "a", "b" }, { packets[0]:read(), packets[1]:read() })
    end
    refused("send packet %d+: it is in the burst twice", 3)
    packets[2] = packet "c"
    refused("send packet: there is none in that place of the batch", 4)
    packets[2]:free()
    refused("send packet %d+ of sim:edu: it is free", 3)
    assert.equal(2, tx:burst(packets, 2))
  end)

  it("asks for one report a burst, at its end", function()
    local tx = assert(ring.tx(dev, 8, tail))
    local packets = luio.batch(3)
    packets[0], packets[1], packets[2] = packet "a", packet "b", packet "c"
    tx:burst(packets, 3)
    local d = tx.parts.buffer:pointer(TX)
    assert.same({ 0x03, 0x03, 0x0b }, { d[0].cmd, d[1].cmd, d[2].cmd })
    assert.equal(1, tail.writes)
    tx:close()
    assert.equal(0, pool:used())
  end)
end)
