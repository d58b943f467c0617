--- drivers/edu on whatever LUIO_EDU names: a simulated device by default; in the guest the same
--- file runs against the real one behind /dev/uio0. LUIO_INTERRUPTS: its interrupts, "msi".

local luio = require "luio"

local address = os.getenv "LUIO_EDU" or "sim:edu"
local interrupts = os.getenv "LUIO_INTERRUPTS" or "intx"
local options = interrupts ~= "intx" and { vectors = interrupts } or nil

describe(("drivers/edu on %s, by %s"):format(address, interrupts), function()
  local dev, edu, regs
  before_each(function()
    dev = assert(luio.start("edu", address, options))
    edu, regs = dev.driver, dev.regs
  end)
  after_each(function() assert(dev:close()) end)

  it("identifies the device", function()
    assert.equal(0x1234, dev.info.vendor)
    assert.equal(0x11e8, dev.info.device)
    assert.equal(0x100000, dev.regions[0].size)
    assert.same({ 1, 0 }, { edu.version(dev) })
    assert.equal(0x11e81234, dev.config:read32(0))
  end)

  it("finds it alive", function()
    assert.is_true(edu.alive(dev))
    regs.LIVENESS:write(0)
    assert.equal(0xffffffff, regs.LIVENESS:read())
  end)

  -- Modulo 2^32: 13! does not fit any more, 34! is 0.
  local factorials = { [0] = 1, [1] = 1, [5] = 120, [10] = 3628800, [12] = 479001600, [13] = 1932053504, [33] = 2147483648, [34] = 0 }

  it("computes factorials by polling", function()
    for n, expected in pairs(factorials) do assert.equal(expected, edu.factorial_polled(dev, n)) end
    assert.equal(0, dev.irqs[0]:stats().interrupts)
  end)

  it("computes factorials by interrupt, one each", function()
    local count = 0
    for n, expected in pairs(factorials) do
      local result, event = edu.factorial(dev, n)
      assert.equal(expected, result)
      assert.equal(0x1, event.IRQ_STATUS)
      assert.equal(1, event.count)
      count = count + 1
    end
    local stats = dev.irqs[0]:stats()
    assert.same({ count, count, 0, count }, { stats.interrupts, stats.delivered, stats.overflow, stats.events })
    assert.equal(0, regs.IRQ_STATUS:read())
  end)

  it("computes in a task while others run", function()
    local result, ticks = nil, 0
    luio.run(function()
      local ticker = luio.spawn(function()
        while true do
          luio.sleep(0.001)
          ticks = ticks + 1
        end
      end)
      result = edu.factorial(dev, 6)
      luio.sleep(0.02)
      ticker:cancel()
    end)
    assert.equal(720, result)
    assert.is_true(ticks > 0)
  end)

  it("moves data by DMA to the device and back, byte for byte", function()
    local buffer = assert(dev.dma:alloc(4096, { align = 4096 }))
    local bytes = {}
    for i = 1, edu.MAX_TRANSFER do bytes[i] = string.char((i * 31 + 7) % 256) end
    bytes = table.concat(bytes)
    buffer:write(0, bytes)
    local event = assert(edu.to_device(dev, buffer, #bytes))
    assert.equal(0x100, event.IRQ_STATUS)
    buffer:fill(0xa5)
    assert(edu.from_device(dev, buffer, #bytes))
    assert.is_true(buffer:read(0, #bytes) == bytes)
    assert.equal(0xa5, buffer:read(4095, 1):byte()) -- and not one byte more
  end)

  it("moves a part of the buffer, and leaves the rest", function()
    local a, b = assert(dev.dma:alloc(64)), assert(dev.dma:alloc(64))
    a:write(0, ("abcdefgh"):rep(8))
    assert(edu.to_device(dev, a, 64, 100))
    b:fill(0x2e)
    assert(edu.from_device(dev, b, 8, 104))
    assert.equal("efghabcd" .. ("."):rep(56), b:read(0, 64))
    assert.has_error(function() edu.to_device(dev, a, 4096) end)
    assert.has_error(function() edu.to_device(dev, a, 100, 4000) end)
  end)

  it("takes no older interrupt for the end of a transfer by DMA", function()
    local buffer = assert(dev.dma:alloc(64))
    buffer:write(0, ("x"):rep(64))
    dev.regs.IRQ_RAISE:write(0x100) -- as if a transfer had ended that nobody waited for
    assert(edu.to_device(dev, buffer, 64))
    buffer:fill(0x2e)
    dev.regs.IRQ_RAISE:write(0x100)
    assert(edu.from_device(dev, buffer, 64))
    assert.equal(("x"):rep(64), buffer:read(0, 64))
  end)

  it("transfers nothing without bus master, though the device says it is done", function()
    local buffer = assert(dev.dma:alloc(64))
    buffer:write(0, ("x"):rep(64))
    assert(edu.to_device(dev, buffer, 64))
    buffer:fill(0x2e)
    assert(dev:bus_master(false))
    assert.is_false(dev.config:command().bus_master)
    local ok, message, code = edu.from_device(dev, buffer, 64)
    if interrupts == "intx" then assert(ok, message)
    else -- the message that it is done is lost, too
      assert.equal("ETIMEDOUT", code)
      assert.matches("its bus master is off, and a message is a memory write", message)
    end
    assert.equal(("."):rep(64), buffer:read(0, 64))
    assert(dev:bus_master(true))
    assert(edu.from_device(dev, buffer, 64))
    assert.equal(("x"):rep(64), buffer:read(0, 64))
  end)

  it("keeps buffers within the 28 bits that the device drives", function()
    for _ = 1, 8 do
      local buffer = assert(dev.dma:alloc(4096))
      assert.is_true(buffer.iova > 0 and buffer.iova + 4096 <= 2 ^ 28)
    end
    local buffer, message, code = dev.dma:alloc(4096, { mask = 0xfff })
    assert.is_nil(buffer)
    assert.matches("below 0xfff", message)
    assert.equal("ERANGE", code)
  end)

  it("starts again after close, with nothing left from before", function()
    regs.STATUS:write { RAISE_IRQ = 1 }
    assert(dev:close())
    for _ = 1, 3 do
      local again = assert(luio.start("edu", address, options))
      assert.equal(120, edu.factorial(again, 5))
      assert(again:close())
    end
  end)

  it("is refused by other silicon", function()
    local driver = assert(luio.load "edu")
    local start = driver.start
    driver.start = function(d)
      d.regs = { ID = { get = function() return 0x78 end } }
      return start(d)
    end
    driver.stop = nil
    assert(dev:close())
    local d, message, code = require("luio.driver").start(driver, assert(luio.open(address, options)))
    assert.is_nil(d)
    assert.matches("ID.MAGIC is 0x78, not 0xed", message)
    assert.equal("ENODEV", code)
  end)
end)
