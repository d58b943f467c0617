--- Regions as a driver author meets them. That an access is exactly one is exactness_spec's.

local ffi = require "ffi"
local luio = require "luio"
local region = require "luio.region"

local function over(size)
  local memory = ffi.new("uint64_t[?]", size / 8)
  return region.over(memory, size, "scratch"), ffi.cast("uint8_t *", memory)
end

local function message_of(fn, ...)
  local ok, message = pcall(fn, ...)
  assert.is_false(ok)
  return message
end

describe("a region of memory", function()
  it("is little-endian here, and keeps every bit of 64", function()
    local regs, bytes = over(64)
    regs:write64(8, 0xfedcba9876543210ULL)
    assert.equal(0xfedcba9876543210ULL, regs:read64(8))
    assert.equal(0x76543210, regs:read32(8))
    assert.equal(0xfedc, regs:read16(14))
    assert.equal(0x10, regs:read8(8))
    assert.equal(0x10, bytes[8])
  end)

  it("accesses one place many times", function()
    local regs, bytes = over(64)
    regs:write16_many(4, ffi.new("uint16_t[3]", 1, 2, 0x1234), 3)
    assert.equal(0x34, bytes[4])
    local out = ffi.new "uint32_t[2]"
    regs:read32_many(4, out, 2)
    assert.same({ 0x1234, 0x1234 }, { out[0], out[1] })
    assert.matches("outside", message_of(regs.read32_many, regs, 64, out, 0))
    assert.matches("not aligned", message_of(regs.write32_many, regs, 2, out, 1))
    assert.matches("read8_many memory scratch: 1.5 is no number of accesses", message_of(regs.read8_many, regs, 0, out, 1.5))
  end)

  it("swaps for a big-endian device", function()
    local regs, bytes = over(64)
    regs:write32_swapped(0, 0x11223344)
    assert.same({ 0x11, 0x22, 0x33, 0x44 }, { bytes[0], bytes[1], bytes[2], bytes[3] })
    assert.equal(0x11223344, regs:read32_swapped(0))
    regs:write16_swapped(8, 0xf00d)
    assert.equal(0xf00d, regs:read16_swapped(8))
    regs:write64_swapped(16, 0x0102030405060708ULL)
    assert.equal(0x0102030405060708ULL, regs:read64_swapped(16))
    assert.equal(1, bytes[16])
  end)

  it("takes what the bit library gives: signed numbers of 32 bits", function()
    local regs = over(64)
    regs:write32(0, require("bit").bnot(0))
    assert.equal(0xffffffff, regs:read32(0))
  end)

  it("says which offset is outside, and of what", function()
    local regs = over(64)
    assert.matches("read32 memory scratch: offset 0x40 is outside its 0x40 bytes", message_of(regs.read32, regs, 64))
    assert.matches("outside", message_of(regs.read64, regs, 60))
    assert.matches("offset %-4 is outside", message_of(regs.read32, regs, -4))
    assert.matches("outside", message_of(regs.write8, regs, 2 ^ 60, 0))
    assert.matches("not a whole offset", message_of(regs.read32, regs, math.huge))
    assert.has_error(function() regs:read32(0 / 0) end)
  end)

  it("refuses misaligned and fractional offsets", function()
    local regs = over(64)
    assert.matches("offset 0x2 is not aligned to 4 bytes", message_of(regs.read32, regs, 2))
    assert.matches("offset 0x4 is not aligned to 8 bytes", message_of(regs.write64, regs, 4, 0))
    assert.matches("0.5 is not a whole offset", message_of(regs.read8, regs, 0.5))
    assert.matches("an offset is a number, not nil", message_of(regs.read8, regs))
  end)

  it("refuses a value that does not fit, before any access", function()
    local regs, bytes = over(64)
    for _, case in ipairs {
      { 8, 256 }, { 8, -129 }, { 16, 65536 }, { 32, 2 ^ 32 }, { 32, -2 ^ 31 - 1 }, { 64, 2 ^ 53 + 2 }, { 64, -1 }, { 32, 1.5 },
    } do
      assert.matches("is not a value of " .. case[1] .. " bits", message_of(regs["write" .. case[1]], regs, 0, case[2]))
    end
    assert.matches("nil is not a value", message_of(regs.write32, regs, 0))
    for i = 0, 7 do assert.equal(0, bytes[i]) end
  end)

  it("says when it was called with a dot", function()
    local regs = over(64)
    assert.matches("call it with a colon: region:read32%(offset%)", message_of(regs.read32, 0))
  end)

  it("has no access of another width", function()
    local regs = over(64)
    assert.is_nil(regs.read24)
    assert.is_nil(regs.read128)
  end)
end)

describe("a region of a simulated device", function()
  local dev, regs
  before_each(function()
    dev = assert(luio.open "sim:edu")
    regs = dev.regions[0]
  end)
  after_each(function() assert(dev:close()) end)

  it("says what it is", function()
    assert.equal("sim", regs.kind)
    assert.equal(0x100000, regs.size)
    assert.is_true(regs.writable)
    assert.matches("region 0 of sim:edu", tostring(regs))
  end)

  it("makes each access one access of the model", function()
    local before = dev.sim.stats()
    for _ = 1, 200 do regs:read32(0) end
    for i = 1, 100 do regs:write32(4, i) end
    local after = dev.sim.stats()
    assert.equal(200, after.reads - before.reads)
    assert.equal(100, after.writes - before.writes)
  end)

  it("refuses just as one of memory does, and touches nothing", function()
    assert.matches("offset 0x100000 is outside its 0x100000 bytes", message_of(regs.read32, regs, 0x100000))
    assert.matches("not aligned to 4", message_of(regs.read32, regs, 2))
    assert.matches("not a value of 32 bits", message_of(regs.write32, regs, 4, 2 ^ 32))
    assert.equal(0, dev.sim.stats().reads + dev.sim.stats().writes)
  end)

  it("is the same object each time, and numbered from 0", function()
    assert.equal(regs, dev.regions[0])
    local r, message, code = dev:region(1)
    assert.is_nil(r)
    assert.equal("sim:edu has no region 1; it has: 0", message)
    assert.equal("ENOENT", code)
    assert.matches("has no region 5", message_of(function() return dev.regions[5] end))
    assert.matches("numbered from 0", message_of(function() return dev.regions.bar0 end))
  end)

  it("is stale once the device is closed, not a crash", function()
    assert(dev:close())
    assert.matches("the device is closed", message_of(regs.read32, regs, 0))
    assert.matches("the device is closed", message_of(regs.write64, regs, 0x80, 1))
    assert.matches("the device is closed", message_of(dev.region, dev, 0))
  end)

  it("takes no write when the device was opened read-only", function()
    local reader = assert(luio.open("sim:edu", { read_only = true }))
    assert.equal(0x010000ed, reader.regions[0]:read32(0))
    assert.matches("opened read%-only", message_of(reader.regions[0].write32, reader.regions[0], 4, 1))
    local ok, message, code = reader:bus_master(true)
    assert.is_nil(ok)
    assert.matches("read%-only", message)
    assert.equal("EACCES", code)
    assert.equal("EACCES", select(3, reader.irqs[0]:wait(0)))
    assert.equal("EACCES", select(3, reader.dma:alloc(64)))
    assert.equal(0, reader.sim.stats().writes)
    assert(reader:close())
  end)
end)
