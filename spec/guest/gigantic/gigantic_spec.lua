--- In a guest with one hugepage of 1 GiB: buffers larger than 2 MiB.

local luio = require "luio"

local GIB, MIB = 2 ^ 30, 2 ^ 20

describe("DMA memory of more than 2 MiB", function()
  -- One test, because the kernel clears the whole GiB each time it is taken.
  it("comes from a 1 GiB page, contiguous and shared, and is refused when there is no other", function()
    local dev = assert(luio.open "0000:00:04.0")
    local large = assert(dev.dma:alloc(100 * MIB))
    assert.equal(GIB, large.page_size)
    assert.is_true(large:verify())
    assert.equal(1, dev.dma:stats().pinned)
    local other = assert(dev.dma:alloc(3 * MIB, { align = 2 * MIB }))
    assert.equal(math.floor(large.iova / GIB), math.floor(other.iova / GIB))
    large:write(100 * MIB - 4, "last")
    assert.equal("last", large:read(100 * MIB - 4, 4))
    assert.same({ 2, 1, GIB }, { dev.dma:stats().buffers, dev.dma:stats().pages, dev.dma:stats().mapped_bytes })
    local none, message, code = dev.dma:alloc(GIB)
    assert.is_nil(none)
    assert.equal("ENOMEM", code)
    assert.matches("0 free hugepages of 1 GiB, one is needed: echo 1 > .*hugepages%-1048576kB/nr_hugepages", message)
    assert(dev:close())
  end)
end)
