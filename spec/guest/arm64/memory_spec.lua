--- DMA on arm64: memory that a UIO driver brings (uio_dmem_genirq), hugepages for a card whose bus looks into the caches, and no
--- memory for a device that does not. Runs in the arm64 guest (spec/guest/specs_arm64), with an edu that has 64 address bits.

local files = require "spec.support.files"
local luio = require "luio"
local match = require "luio.driver.match"
local uio_named = require "spec.support.uio_named"

local EDU = "0000:00:04.0"
local MODULES = os.getenv "LUIO_MODULES" -- a folder of them

local function insert(name)
  local out, status = files.shell(("/run/luio/bin/insmod '%s'"):format(name))
  assert.equal(0, status, out)
end

-- 256 bytes, none like the next.
local pattern = {}
for i = 0, 255 do pattern[i + 1] = string.char((i * 7 + 3) % 256) end
pattern = table.concat(pattern)

-- The driver's own address mask is of an edu that QEMU was told nothing about.
local function start_edu()
  local driver = assert(luio.load "edu")
  driver.dma = { bits = 64 }
  return assert(luio.start(driver, EDU))
end

-- To edu's buffer and back to another place.
local function round_trip(edu, from, to)
  from:write(0, pattern)
  to:fill(0xa5)
  assert(edu.driver.to_device(edu, from, #pattern))
  assert(edu.driver.from_device(edu, to, #pattern))
  assert.is_true(to:read(0, #pattern) == pattern)
  assert.equal(("\165"):rep(16), to:read(#pattern, 16))
end

describe("memory that a UIO driver brings", function()
  local dev

  lazy_setup(function()
    for _, name in ipairs { "genirq/uio_dmem_genirq.ko", "uio_memory/uio_memory.ko" } do insert(MODULES .. "/" .. name) end
  end)
  before_each(function() dev = assert(luio.open(uio_named("uio_memory").uio)) end)
  after_each(function() assert(dev:close()) end)

  it("has no address before it is opened, and is listed all the same", function()
    assert(dev:close())
    local info = uio_named "uio_memory"
    assert.equal("uio_dmem_genirq", info.driver)
    assert.same({ name = "", addr = 0, size = 0x10000, offset = 0, at_open = true }, info.maps[0])
    assert.equal(0x1000, info.maps[1].size)
    assert.is_nil(info.problem)
    assert.is_true(match.fits({ uio = "uio_memory" }, info))
    assert.matches("region 0 +DMA memory that opening allocates, 0x10000 bytes %(64 KiB%)", (files.shell("build/luio info " .. info.uio)))
    assert.matches("ok +memory: its UIO driver brings memory for DMA", (files.shell("build/luio doctor " .. info.uio)))
    dev = assert(luio.open(info.uio))
    assert.is_true(dev.regions[0].addr >= 0x40000000) -- the board's RAM
    assert.equal(dev.regions[0].addr, dev.info.maps[0].addr)
  end)

  it("is where its device's buffers are, and no other", function()
    local a, b = assert(dev.dma:alloc(4096, { align = 4096 })), assert(dev.dma:alloc(256))
    assert.equal(dev.regions[0].addr, a.iova)
    assert.equal(a.iova + 4096, b.iova)
    assert.is_true(a.uncached)
    assert.equal(0x10000, a.page_size)
    assert.equal(("\0"):rep(4096), a:read(0, 4096))
    a:write(3, "odd places and lengths")
    assert.equal("places", a:read(7, 6))
    assert.equal(("o"):byte(), dev.regions[0]:read8(3)) -- the same bytes
    a:fill(0x11, 1, 6)
    assert.equal("\0" .. ("\17"):rep(6) .. "p", a:read(0, 8))
    assert(a:verify())
    -- Sizes that are too large for the first region, or for both.
    assert(dev.dma:alloc(0x10000 - 4096 - 256 - 64))
    local last = assert(dev.dma:alloc(4096))
    assert.equal(dev.regions[1].addr, last.iova)
    local none, message, code = dev.dma:alloc(4096)
    assert.is_nil(none)
    assert.equal("ENOMEM", code)
    assert.matches("its UIO driver has brought 69632, in 2 regions, and no free piece is so large", message)
    last:free()
    assert(dev.dma:alloc(4096))
  end)

  it("is reached by a device at that address", function()
    local edu = start_edu()
    round_trip(edu, assert(dev.dma:alloc(512)), assert(dev.dma:alloc(512)))
    assert(edu:close())
  end)

  it("is gone when it is closed", function()
    local buffer = assert(dev.dma:alloc(64))
    assert(dev:close())
    assert.has_error(function() buffer:read(0, 1) end)
    assert.is_true(uio_named("uio_memory").maps[0].at_open)
    dev = assert(luio.open(uio_named("uio_memory").uio))
  end)
end)

describe("a card on a bus that looks into the caches", function()
  it("does DMA with hugepages", function()
    local edu = start_edu()
    local from, to = assert(edu.dma:alloc(4096)), assert(edu.dma:alloc(4096))
    assert.equal(2 ^ 21, from.page_size)
    assert.is_false(from.uncached)
    assert.is_true(from.iova >= 0x40000000)
    round_trip(edu, from, to)
    -- Written through a pointer, and told of by a register: the order is the fence's.
    local words = from:pointer "uint32_t *"
    for i = 0, 63 do words[i] = 0x01010101 * i end
    luio.fence_doorbell()
    assert(edu.driver.to_device(edu, from, 256))
    assert(edu.driver.from_device(edu, to, 256))
    luio.fence_flag()
    local back = to:pointer "uint32_t *"
    for i = 0, 63 do assert.equal(0x01010101 * i, back[i]) end
    assert(edu:close())
  end)
end)

describe("a device that does not look into the caches", function()
  it("is refused ordinary memory for DMA", function()
    local clock = assert(luio.open(match.devices(assert(luio.load "pl031"))[1].address))
    local none, message, code = clock.dma:alloc(4096)
    assert.is_nil(none)
    assert.equal("ENOTSUP", code)
    assert.matches("its DMA does not look into the CPU's caches %(no dma%-coherent in the device tree%)", message)
    assert(clock:close())
    assert.matches("note +memory: its DMA does not look into the CPU's caches", (files.shell("build/luio doctor " .. clock.address)))
  end)
end)
