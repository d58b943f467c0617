--- Packet pools on a simulated device.

local ffi = require "ffi"
local luio = require "luio"

local dev

before_each(function() dev = assert(luio.open "sim:edu") end)
after_each(function() assert(dev:close()) end)

local function fails(pattern, fn, ...)
  local ok, message = pcall(fn, ...)
  assert.is_false(ok)
  assert.matches(pattern, message)
end

describe("a pool", function()
  it("hands out each packet once, and none when all are in use", function()
    local pool = assert(luio.pool(dev, { count = 100, size = 1500, headroom = 18 }))
    local taken, addresses = {}, {}
    for i = 1, 100 do
      local packet = assert(pool:alloc())
      assert.equal(0, packet.length)
      assert.equal(1500, packet:room())
      assert.equal(18, packet:headroom())
      local start = packet:address() - 18
      assert.equal(0, start % 64)
      assert.is_nil(addresses[start])
      addresses[start], taken[i] = true, packet
    end
    assert.is_nil((pool:alloc()))
    assert.is_nil((pool:alloc()))
    assert.same({ 2, 100 }, { pool:empty(), pool:used() })
    for _, packet in ipairs(taken) do packet:free() end
    assert.equal(0, pool:used())
    local last = taken[100].number
    assert.equal(last, pool:alloc().number) -- the one that is still in the cache
  end)

  it("lays no packet across a page, and none over another", function()
    local pool = assert(luio.pool(dev, { count = 3000, size = 2048 }))
    local seen = {}
    for i = 1, 3000 do
      local packet = pool:alloc()
      local first = packet:address() - packet:headroom()
      assert.equal(math.floor(first / 2 ^ 21), math.floor((first + pool.size - 1) / 2 ^ 21))
      packet:write(("%04d"):format(i):rep(512))
      seen[i] = packet
    end
    for i, packet in ipairs(seen) do assert.equal(("%04d"):format(i):rep(512), packet:read()) end
  end)

  it("has memory that the device reaches", function()
    local pool = assert(luio.pool(dev, { count = 2, size = 64 }))
    local packet = pool:alloc()
    packet:write "by the device"
    packet:lend()
    local edu = assert(luio.load "drivers/edu")
    dev.regs = assert(luio.bind(edu.registers, dev))
    assert(dev:bus_master(true))
    dev.regs.DMA_SRC:write(packet:address())
    dev.regs.DMA_DST:write(edu.BUFFER)
    dev.regs.DMA_COUNT:write(13)
    dev.regs.DMA_CMD:write { RUN = 1, DIRECTION = "TO_DEVICE" }
    assert(dev.regs.DMA_CMD:wait({ RUN = 0 }, 20))
    packet:take_back()
    local other = pool:alloc()
    other:lend()
    dev.regs.DMA_SRC:write(edu.BUFFER)
    dev.regs.DMA_DST:write(other:address())
    dev.regs.DMA_CMD:write { RUN = 1, DIRECTION = "TO_RAM" }
    assert(dev.regs.DMA_CMD:wait({ RUN = 0 }, 20))
    other:take_back()
    other.length = 13
    assert.equal("by the device", other:read())
  end)

  it("says what can't be, and gives back what it took", function()
    for _, case in ipairs {
      { {}, "count is 1 to 1048576, not nil" }, { { count = 0 }, "not 0" }, { { count = 1.5 }, "not 1.5" },
      { { count = 1, size = 0 }, "size is 1 to 2 MiB, not 0" }, { { count = 1, size = 2 ^ 21 }, "don't fit" },
      { { count = 1, headroom = -1 }, "headroom is 0 to" },
    } do fails("pool_spec.lua:%d+: .*" .. case[2], function() luio.pool(dev, case[1]) end) end
    local before = dev.dma:stats().bytes
    dev.dma.mask = 2 ^ 22 - 1
    local pool, message, code = luio.pool(dev, { count = 4096, size = 2048 })
    assert.is_nil(pool)
    assert.equal("ERANGE", code)
    assert.matches("DMA memory for sim:edu below 0x3fffff", message)
    assert.equal(before, dev.dma:stats().bytes)
  end)

  it("makes no garbage", function()
    package.loaded["luio.pool"] = nil -- anew: what other specs did may have made the compiler give parts of it up
    local pool = assert(luio.pool(dev, { count = 64 }))
    local held = luio.batch(32)
    local function churn(n)
      for i = 1, n do
        for j = 0, 15 do held[j] = pool:alloc() end
        assert(pool:fill(held, 16, 32) == 32)
        for j = 0, 31 do held[j].length = i % 1500 end
        held:free(32)
      end
    end
    churn(1000)
    collectgarbage()
    collectgarbage "stop"
    local before = collectgarbage "count"
    churn(30000)
    local grown = collectgarbage "count" - before
    collectgarbage "restart"
    assert.is_true(grown < 64, grown .. " KiB") -- the compiler's own, no packet's: a million of them passed
  end)
end)

describe("a batch", function()
  it("holds packets from 0, filled from a pool as far as that goes", function()
    local pool, batch = assert(luio.pool(dev, { count = 5 })), luio.batch(8)
    assert.equal(2, pool:fill(batch, 0, 2))
    assert.equal(2, pool:fill(batch, 2, 2))
    assert.equal(5, pool:fill(batch, 2, 8))
    assert.same({ 1, 5, 0 }, { pool:empty(), pool:used(), batch[4].length })
    for i = 0, 4 do batch[i]:write(tostring(i)) end
    assert.equal(2, batch:shift(3, 5)) -- the first three are somebody else's now
    assert.same({ "3", "4" }, { batch[0]:read(), batch[1]:read() })
    assert.equal(2, batch:shift(0, 2))
    batch:free(2)
    assert.equal(3, pool:used())
  end)

  it("has bounds", function()
    local pool, batch = assert(luio.pool(dev, { count = 5 })), luio.batch(2)
    fails("pool_spec.lua:%d+: packet 2 of a batch: there are 0 to 1", function() return batch[2] end)
    fails("packet %-1 of a batch", function() batch[-1] = pool:alloc() end)
    fails("there are 0 to 1", pool.fill, pool, batch, 0, 3)
    fails("there are 0 to 1", batch.free, batch, 3)
    fails("there are 0 to 1", batch.shift, batch, 1, 3)
    fails("a batch has room for 1 to 65536 packets, not 0", luio.batch, 0)
    assert.equal(2, #batch)
  end)
end)

describe("a packet", function()
  it("takes a header before its data, and gives one off", function()
    local packet = assert(luio.pool(dev, { count = 1, size = 100, headroom = 20 })):alloc()
    packet:write "payload"
    local at = packet:address()
    ffi.copy(packet:prepend(14), "header........", 14)
    assert.equal(at - 14, packet:address())
    assert.same({ 21, 6, "header........payload", "load" }, { packet.length, packet:headroom(), packet:read(), packet:read(17) })
    fails("prepend 7 bytes of packet 0: there is room for 6", packet.prepend, packet, 7)
    assert.equal(("p"):byte(), packet:strip(14)[0])
    assert.equal("payload", packet:read())
    fails("strip 8 bytes of packet 0: there is room for 7", packet.strip, packet, 8)
    fails("write 101 bytes of packet 0: there is room for 100", packet.write, packet, ("x"):rep(101))
    fails("read 5 bytes at 4 of packet 0, which has 7", packet.read, packet, 4, 5)
    packet:write(("x"):rep(100))
  end)

  it("is an error to use when it is not yours", function()
    local pool = assert(luio.pool(dev, { count = 2 }))
    local packet = pool:alloc()
    packet:lend()
    fails("free packet %d of sim:edu: it is the device's", packet.free, packet)
    fails("lend packet %d of sim:edu: it is the device's", packet.lend, packet)
    fails("write packet %d of sim:edu: it is the device's", packet.write, packet, "x")
    packet:take_back()
    packet:free()
    for _, verb in ipairs { "free", "lend", "pointer", "read", "take_back" } do
      fails("packet %d of sim:edu: it is free", packet[verb], packet)
    end
    assert.equal(0, pool:used())
    assert.matches("^packet %d: 0 bytes, it is free$", tostring(packet))
  end)

  it("is an error, not a crash, after its device was closed or its pool", function()
    local other = assert(luio.open "sim:edu")
    local pool = assert(luio.pool(other, { count = 2 }))
    local packet = pool:alloc()
    assert(other:close())
    fails("packet %d: its pool is closed", packet.pointer, packet)
    fails("packet %d: its pool is closed", packet.free, packet)
    assert.is_nil((pool:alloc()))
    pool = assert(luio.pool(dev, { count = 2 }))
    local bytes = dev.dma:stats().bytes
    packet = pool:alloc()
    pool:close()
    pool:close()
    fails("its pool is closed", packet.write, packet, "x")
    assert.is_true(dev.dma:stats().bytes < bytes)
  end)

  it("that was written to while it was free is found out with debug", function()
    local pool = assert(luio.pool(dev, { count = 3, size = 100, headroom = 0, debug = true }))
    local packet = pool:alloc()
    local stray = packet:pointer()
    packet:free()
    assert(pool:alloc()):free()
    stray[77] = 1
    fails("packet %d of sim:edu was written to while it was free, at byte 77", pool.alloc, pool)
  end)
end)
