--- e1000e's descriptor rings against a device made of a few lines, which does with the descriptors in memory what
--- the datasheet says: 82574, 7.1.4 and 7.2.10.

local bit = require "bit"
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
  pool = assert(luio.pool(dev, { count = 200, size = 512, headroom = 0 }))
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

local HEADER = ("\255"):rep(14)

-- The bytes behind a frame's header.
local function said(packet) return packet:read(14) end

-- Puts a frame into the next descriptor; false: there is none.
local function arrives(rx, text, status, errors)
  if tail.head == tail.at then return false end
  local d = rx.parts.buffer:pointer(RX)[tail.head]
  text = HEADER .. text
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
        assert.equal("frame " .. got, said(packets[i]))
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
    assert.equal("late", said(packets[0]))
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
    assert.equal("good", said(packets[0]))
    assert.equal(1, rx:burst(packets, 8))
    assert.same({ "good again", 3 }, { said(packets[0]), rx.c.errors })
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
    assert.equal("waits", said(packets[0]))
  end)

  -- The device writes while a burst looks: here it does so before each instruction of one in turn.
  it("takes a frame that comes at any moment of a burst for what it is", function()
    local rx = assert(ring.rx(dev, pool, 64, tail))
    rx:start()
    local packets, frames = luio.batch(8), 0
    jit.off()
    jit.flush()
    for moment = 1, 200 do
      local left = moment
      debug.sethook(function()
        left = left - 1
        if left == 0 then arrives(rx, "frame " .. moment) end
      end, "", 1)
      local n = rx:burst(packets, 8)
      debug.sethook()
      if left > 0 then -- the burst was over before
        assert.equal(0, n)
        break
      end
      if n == 0 then n = rx:burst(packets, 8) end
      assert.same({ 1, 0 }, { n, rx.c.errors })
      assert.equal("frame " .. moment, said(packets[0]))
      packets:free(1)
      frames = frames + 1
    end
    jit.on()
    assert.is_true(frames > 5)
  end)

  it("begins anew after a reset, with the packets it has", function()
    local rx = assert(ring.rx(dev, pool, 8, tail))
    rx:start()
    local used, packets = pool:used(), luio.batch(8)
    for i = 1, 5 do arrives(rx, "before " .. i) end
    assert.equal(2, rx:burst(packets, 2))
    packets:free(2)
    assert.same({ 3, 3 }, { rx:restart(), rx.c.errors })
    tail.head = 0
    rx:start()
    assert.equal(7, tail.at)
    for i = 1, 7 do assert.is_true(arrives(rx, "after " .. i)) end
    assert.is_false(arrives(rx, "no room"))
    assert.equal(7, rx:burst(packets, 8))
    for i = 0, 6 do assert.equal("after " .. i + 1, said(packets[i])) end
    packets:free(7)
    assert.equal(used, pool:used())
  end)

  it("goes on as another version's handle of the same parts", function()
    local rx = assert(ring.rx(dev, pool, 8, tail))
    rx:start()
    local packets = luio.batch(8)
    for i = 1, 20 do
      arrives(rx, "frame " .. i)
      local handle = i % 2 == 0 and rx or ring.rx_again(rx.parts, tail)
      assert.equal(1, handle:burst(packets, 8))
      assert.equal("frame " .. i, said(packets[0]))
      packets:free(1)
    end
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

  -- A context (82574, 7.2.11) is told from data by DTYP, bits 20 to 23 of the second word's lower half.
  local CONTEXT = ffi.typeof "struct { uint8_t ipcss, ipcso; uint16_t ipcse; uint8_t tucss, tucso; uint16_t tucse; uint32_t lower; uint32_t upper; } *"

  local function with_sum(text, start, offset)
    local p = packet(text .. ("\0"):rep(400 - #text))
    p.checksum_start, p.checksum_offset = start, offset
    return p
  end

  -- The ring's content from the head to the tail: frames, and contexts as TUCSS and TUCSO.
  local function queued(tx)
    local list, d = {}, tx.parts.buffer:pointer(CONTEXT)
    while tail.head ~= tail.at do
      local one = d[tail.head]
      local extended, kind = bit.band(one.lower, 0x20000000) ~= 0, bit.band(one.lower, 0x00f00000)
      if extended and kind == 0 then
        table.insert(list, ("context %d %d"):format(one.tucss, one.tucso))
      else
        local address = ffi.cast("uint64_t *", one)[0]
        local frame = ffi.string(memory_of(address), bit.band(one.lower, 0xffff)):gsub("%z+$", "")
        table.insert(list, frame .. (extended and bit.band(one.upper, 0x200) ~= 0 and " sum" or ""))
      end
      if bit.band(one.lower, 0x08000000) ~= 0 then tx.parts.buffer:pointer(TX)[tail.head].status = DD end
      tail.head = (tail.head + 1) % tx.parts.count
    end
    return list
  end

  local function burst(tx, ...)
    local list, packets = { ... }, luio.batch(16)
    for i, p in ipairs(list) do packets[i - 1] = p end
    return tx:burst(packets, #list), packets
  end

  it("says once where a checksum goes, and again when it goes elsewhere", function()
    local tx = assert(ring.tx(dev, 32, tail))
    assert.equal(5, (burst(tx, packet "a", with_sum("b", 34, 16), with_sum("c", 34, 16), packet "d", with_sum("e", 34, 6))))
    assert.same({ "a", "context 34 50", "b sum", "c sum", "d", "context 34 40", "e sum" }, queued(tx))
    assert.equal(2, (burst(tx, with_sum("f", 34, 6), with_sum("g", 54, 6))))
    assert.same({ "f sum", "context 54 60", "g sum" }, queued(tx))
    tx:reclaim()
    assert.same({ 0, 0 }, { tx:pending(), pool:used() })
    tx:restart() -- the device has forgotten its context
    tail.head, tail.at = 0, 0
    burst(tx, with_sum("h", 54, 6))
    assert.same({ "context 54 60", "h sum" }, queued(tx))
  end)

  it("takes none whose context has no room, and gives half of no packet", function()
    local tx = assert(ring.tx(dev, 8, tail))
    local n, packets = burst(tx, packet "1", packet "2", packet "3", packet "4", packet "5", packet "6", with_sum("7", 34, 16))
    assert.equal(6, n)
    assert.matches("^7%z+$", packets[6]:read())
    assert.equal(1, packets:shift(6, 7))
    queued(tx)
    assert.equal(1, tx:burst(packets, 1))
    assert.same({ "context 34 50", "7 sum" }, queued(tx))
  end)

  it("forgets a context that it wrote for a burst which was refused", function()
    local tx = assert(ring.tx(dev, 16, tail))
    local good, used, far = with_sum("good", 34, 16), packet "free", with_sum("far", 34, 300)
    used:free()
    assert.has_error(function() burst(tx, good, used) end)
    assert.matches("^good%z+$", good:read()) -- yours still
    assert.has_error(function() burst(tx, good, far) end)
    assert.same({ {}, 0 }, { queued(tx), tx:pending() })
    assert.equal(1, (burst(tx, good)))
    assert.same({ "context 34 50", "good sum" }, queued(tx))
    far:free()
  end)

  it("refuses a checksum that is not in the packet", function()
    local tx = assert(ring.tx(dev, 16, tail))
    local cut = with_sum("cut", 34, 16)
    for _, length in ipairs { 0, 34, 51 } do
      cut.length = length
      local ok, message = pcall(burst, tx, with_sum("whole", 34, 16), cut)
      assert.is_false(ok)
      assert.matches(("packet %%d+: its checksum is at byte 50, and it has %d bytes"):format(length), message)
      assert.equal(0, tx:pending())
    end
    cut.length = 52
    assert.equal(1, (burst(tx, cut)))
  end)

  it("frees what was under way when the device was reset, and counts it", function()
    local tx = assert(ring.tx(dev, 16, tail))
    burst(tx, packet "a", with_sum("b", 34, 16), packet "c")
    queued(tx)
    burst(tx, packet "d", with_sum("e", 34, 6))
    assert.same({ 2, 2 }, { tx:restart(), tx.c.dropped }) -- packets, not descriptors
    assert.same({ 0, 0, 15 }, { pool:used(), tx:pending(), tx:reclaim() })
    tail.head = 0
    burst(tx, packet "f") -- before it was set up again
    tail.at = 0
    tx:start()
    assert.same({ "f" }, queued(tx))
  end)

  it("frees packets of several pools, each to its own; those of a closed one to nobody", function()
    local tx = assert(ring.tx(dev, 32, tail))
    local other = assert(luio.pool(dev, { count = 20, size = 64 }))
    local watched = assert(luio.pool(dev, { count = 20, size = 64, debug = true }))
    local packets = luio.batch(12)
    for round = 1, 10 do
      for i = 0, 11 do
        local from = ({ pool, other, watched })[(i * round) % 3 + 1]
        packets[i] = from:alloc()
        packets[i].length = 20
      end
      assert.equal(12, tx:burst(packets, 12))
      while tail.head ~= tail.at do
        local one = tx.parts.buffer:pointer(TX)[tail.head]
        if one.cmd % 16 >= 8 then one.status = DD end
        tail.head = (tail.head + 1) % 32
      end
      tx:reclaim()
      assert.same({ 0, 0, 0 }, { pool:used(), other:used(), watched:used() })
    end
    packets[0], packets[1], packets[2] = pool:alloc(), other:alloc(), pool:alloc()
    tx:burst(packets, 3)
    other:close()
    tx:restart()
    assert.equal(0, pool:used())
    assert.is_nil((other:alloc()))
    local next_one = assert(luio.pool(dev, { count = 20, size = 64 })) -- in the closed one's place
    assert.equal(0, next_one:used())
  end)
end)
