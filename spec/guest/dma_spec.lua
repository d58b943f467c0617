--- Real hugepages and their real addresses, in the guest.

local luio = require "luio"
local files = require "spec.support.files"
local memory = require "spec.support.memory"

local EDU = "0000:00:04.0"
local MIB = 2 ^ 20

describe("DMA memory on real hardware", function()
  local dev, before
  before_each(function()
    before = memory.free_pages()
    dev = assert(luio.open(EDU))
  end)
  after_each(function()
    assert(dev:close())
    assert.equal(before, memory.free_pages()) -- nothing is kept
  end)

  it("is a hugepage, at the address the kernel says", function()
    local buffer = assert(dev.dma:alloc(8192, { align = 4096 }))
    assert.equal(2 * MIB, buffer.page_size)
    assert.equal(0, buffer.iova % 4096)
    assert.equal(memory.physical(buffer:pointer "char *"), buffer.iova)
    assert.equal(memory.physical(buffer:pointer("char *", 5000)), buffer.iova + 5000)
    assert.is_true(buffer:verify())
    assert.same({ buffers = 1, bytes = 8192, pages = 1, mapped_bytes = 2 * MIB, pinned = 1 }, dev.dma:stats())
    assert.same({}, dev.warnings)
  end)

  it("fills a page before it takes another, and none overlaps", function()
    local spans = {}
    for i = 1, 40 do
      local buffer = assert(dev.dma:alloc(64 * 1024))
      spans[i] = { buffer.iova, buffer.iova + buffer.size }
    end
    assert.equal(2, dev.dma:stats().pages) -- 40 × 64 KiB = 2.5 MiB
    table.sort(spans, function(a, b) return a[1] < b[1] end)
    for i = 2, #spans do assert.is_true(spans[i][1] >= spans[i - 1][2]) end
  end)

  it("aligns by the device's address, up to a page", function()
    for _, align in ipairs { 64, 256, 4096, 65536, 2 * MIB } do
      local buffer = assert(dev.dma:alloc(100, { align = align }))
      assert.equal(0, buffer.iova % align)
    end
  end)

  it("keeps below a mask, or says that it can't", function()
    local buffer = assert(dev.dma:alloc(4096, { mask = 2 ^ 28 - 1 }))
    assert.is_true(buffer.iova + 4096 <= 2 ^ 28)
    local none, message, code = dev.dma:alloc(4096, { mask = 2 ^ 20 - 1 })
    assert.is_nil(none)
    assert.equal("ERANGE", code)
    assert.matches("below 0xfffff: no free 2 MiB page lies there", message)
  end)

  it("says when there is no more, which pages are needed, and what to do", function()
    local buffers = {}
    local buffer, message, code
    repeat
      buffer, message, code = dev.dma:alloc(2 * MIB)
      table.insert(buffers, buffer)
    until not buffer
    assert.equal(before, #buffers)
    assert.equal("ENOMEM", code)
    assert.matches("0 free hugepages of 2 MiB, one is needed: echo 32 > /proc/sys/vm/nr_hugepages", message)
    buffers[1]:free()
    assert(dev.dma:alloc(2 * MIB)) -- freed memory can be allocated again
    local none
    none, message, code = dev.dma:alloc(4 * MIB)
    assert.is_nil(none)
    assert.equal("ENOMEM", code)
    assert.matches("0 free hugepages of 1 GiB", message)
  end)

  it("falls back to one locked page when there are no hugepages, and says so", function()
    memory.without_hugepages(function()
      local buffer = assert(dev.dma:alloc(4096, { align = 4096 }))
      assert.equal(4096, buffer.page_size)
      assert.equal(memory.physical(buffer:pointer "char *"), buffer.iova)
      assert.equal(1, #dev.warnings)
      assert.matches("are in small pages: 0 free hugepages", dev.warnings[1])
      local none, message, code = dev.dma:alloc(8192)
      assert.is_nil(none)
      assert.equal("ENOMEM", code)
      assert.matches("echo 32 > /proc/sys/vm/nr_hugepages", message)
      assert(dev:close())
    end)
  end)

  it("is neither kept by a child nor seen by one", function()
    local buffer = assert(dev.dma:alloc(4096))
    local at = memory.physical(buffer:pointer "char *")
    assert.matches("luio%-dma", files.read "/proc/self/maps") -- its name here
    assert.is_nil(files.shell("cat /proc/self/maps; ls -l /proc/self/fd"):find "luio%-dma")
    buffer:fill(1) -- copy-on-write would move it now
    assert.equal(at, memory.physical(buffer:pointer "char *"))
    assert.is_true(buffer:verify())
  end)

  it("refuses frame 0, which is what pagemap shows without CAP_SYS_ADMIN", function()
    local path = files.write("frame.lua", ([[
      local luio = require "luio"
      local dev = assert(luio.open "%s")
      print(select(2, dev.dma:alloc(4096)))
      print(select(3, dev.dma:alloc(4096)))
      dev:close()
    ]]):format(EDU))
    assert(dev:close())
    local out = files.shell(("LUA_PATH='./lua/?.lua;./lua/?/init.lua;;' setpriv --bounding-set -sys_admin "
      .. "--inh-caps -sys_admin luajit %s"):format(path))
    assert.matches("physical addresses are hidden %(/proc/self/pagemap shows frame 0%): run with CAP_SYS_ADMIN", out)
    assert.matches("\nEPERM\n", out)
  end)
end)
