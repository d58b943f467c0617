--- DMA memory on a simulated device: the allocator, its refusals, and the model's view of it.

local luio = require "luio"

describe("dev.dma", function()
  local dev
  before_each(function() dev = assert(luio.open "sim:edu") end)
  after_each(function() assert(dev:close()) end)

  it("gives zeroed memory with an address for the device", function()
    local buffer = assert(dev.dma:alloc(100))
    assert.equal(100, buffer.size)
    assert.is_true(buffer.iova > 0)
    assert.equal(("\0"):rep(100), buffer:read(0, 100))
    buffer:write(90, "0123456789")
    assert.equal("89", buffer:read(98, 2))
    assert.is_true(buffer:verify())
  end)

  it("aligns as asked and never overlaps", function()
    local spans, seed = {}, 12345
    local function random(n)
      seed = (seed * 1103515245 + 12345) % 2 ^ 31
      return math.floor(seed / 65536) % n
    end
    local live = {}
    for _ = 1, 500 do
      if #live > 40 or (#live > 0 and random(3) == 0) then
        table.remove(live, random(#live) + 1):free()
      else
        local align = 2 ^ (6 + random(7))
        local buffer = assert(dev.dma:alloc(1 + random(9000), { align = align }))
        assert.equal(0, buffer.iova % align)
        table.insert(live, buffer)
      end
    end
    for _, b in ipairs(live) do table.insert(spans, { b.iova, b.iova + b.size }) end
    table.sort(spans, function(a, b) return a[1] < b[1] end)
    for i = 2, #spans do assert.is_true(spans[i][1] >= spans[i - 1][2]) end
    assert.equal(#live, dev.dma:stats().buffers)
  end)

  it("joins freed pieces again: a page's worth fits after its pieces are freed", function()
    local first = assert(dev.dma:alloc(64 * 1024))
    local held = dev.dma:stats().mapped_bytes
    first:free()
    for _ = 1, 3 do
      local pieces = {}
      for i = 1, 64 do pieces[i] = assert(dev.dma:alloc(1024)) end
      for i = 1, 64, 2 do pieces[i]:free() end
      for i = 2, 64, 2 do pieces[i]:free() end
      assert(dev.dma:alloc(64 * 1024)):free()
    end
    assert.equal(held, dev.dma:stats().mapped_bytes)
    assert.equal(0, dev.dma:stats().buffers)
  end)

  it("zeroes again what somebody used before", function()
    local buffer = assert(dev.dma:alloc(64))
    local iova = buffer.iova
    buffer:fill(0xff)
    buffer:free()
    buffer = assert(dev.dma:alloc(64))
    assert.equal(iova, buffer.iova)
    assert.equal(("\0"):rep(64), buffer:read(0, 64))
  end)

  it("checks bounds and lifetime of what it copies", function()
    local buffer = assert(dev.dma:alloc(16))
    assert.has_error(function() buffer:write(10, "0123456") end)
    assert.has_error(function() buffer:read(-1, 2) end)
    assert.has_error(function() buffer:read(0, 17) end)
    assert.has_error(function() buffer:fill(0, 8, 9) end)
    assert.has_error(function() buffer:pointer("char *", 17) end)
    buffer:free()
    buffer:free()
    assert.has_error(function() buffer:read(0, 1) end)
    assert.equal("DMA buffer, freed", tostring(buffer))
  end)

  it("refuses sizes, alignments and masks that make no sense", function()
    for _, case in ipairs {
      { 0, {}, "EINVAL" }, { 2 ^ 30 + 1, {}, "EINVAL" }, { 64, { align = 3 }, "EINVAL" }, { 64, { align = 2 ^ 31 }, "EINVAL" },
      { 64, { mask = 0x1000 }, "EINVAL" }, { 64, { mask = 0x1f }, "ERANGE" }, { 4096, { mask = 0xffff }, "ERANGE" },
    } do
      local buffer, message, code = dev.dma:alloc(case[1], case[2])
      assert.is_nil(buffer)
      assert.equal(case[3], code)
      assert.matches("sim:edu", message)
    end
    assert.has_error(function() dev.dma:alloc "many" end)
    assert.has_error(function() dev.dma:alloc(1.5) end)
    assert.equal(0, dev.dma:stats().buffers)
  end)

  it("runs out below a mask, says so, and has room again after a free", function()
    local buffers = {}
    local buffer, message, code
    repeat
      buffer, message, code = dev.dma:alloc(2 ^ 20, { mask = 2 ^ 23 - 1 })
      table.insert(buffers, buffer)
    until not buffer
    assert.equal(6, #buffers) -- 8 MiB, less the 2 MiB at the bottom that are never given out
    assert.equal("ERANGE", code)
    assert.matches("below 0x7fffff: all of it is in use", message)
    buffers[3]:free()
    assert(dev.dma:alloc(2 ^ 20, { mask = 2 ^ 23 - 1 }))
  end)

  it("does not tell of small pages, which a model does not care about", function()
    assert(dev.dma:alloc(4096))
    assert.same({}, dev.warnings)
  end)

  it("is stale after close", function()
    local buffer = assert(dev.dma:alloc(64))
    assert(dev:close())
    assert.has_error(function() buffer:read(0, 1) end)
    assert.has_error(function() dev.dma:alloc(64) end)
    buffer:free() -- nothing, as it is gone already
  end)
end)
