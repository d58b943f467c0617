--- A driver's `irq`, and the steps of its top half: which register gets which value.

local driver = require "luio.driver"
local files = require "spec.support.files"
local luio = require "luio"
local top_half = require "luio.top_half"

local SIM = "sim:spec/support/drivers/two_status"
local registers = dofile "spec/support/drivers/two_status/registers.lua"

-- The device with that top half at work.
local function start(irq, map)
  local d = { name = "spec", registers = map or registers, irq = irq }
  return luio.start(d, SIM)
end

describe("an acknowledgement", function()
  local dev
  after_each(function()
    if dev then assert(dev:close()) end
    dev = nil
  end)

  -- One interrupt for one trigger, with that in it, and nothing pending after it.
  local function one(writes, captured)
    local before = dev.irqs[0]:stats().interrupts
    for name, value in pairs(writes) do dev.regs[name]:write(value) end
    local event = assert(dev.irqs[0]:wait(5))
    for name, value in pairs(captured) do assert.equal(value, event[name], name) end
    assert.same({ 0, 0, 0 }, { dev.regs.A:read(), dev.regs.B:read(), dev.regs.P:read() })
    assert.is_nil(dev.irqs[0]:wait(0.02))
    assert.equal(1, dev.irqs[0]:stats().interrupts - before)
  end

  it("goes to the register it names: each of several gets what was captured from it", function()
    for _, ack in ipairs { { "A", "B" }, { "B", "A" }, { { "B" }, "A" } } do
      dev = assert(start { capture = { "A", "B" }, ack = ack })
      one({ RAISE_A = 1 }, { A = 1, B = 0 })
      one({ RAISE_B = 2 }, { A = 0, B = 2 })
      assert(dev:close())
    end
  end)

  it("takes the only capture where that has another name, as edu's does", function()
    dev = assert(luio.start("edu", "sim:edu"))
    dev.regs.IRQ_RAISE:write(5)
    assert.equal(5, assert(dev.irqs[0]:wait(5)).IRQ_STATUS)
    assert.equal(0, dev.regs.IRQ_STATUS:read())
  end)

  it("takes back an enable bit and sets it again: two acks in a row of one register", function()
    dev = assert(luio.start("spec/support/drivers/two_status", SIM))
    one({ RAISE_P = 1 }, { P = 1, SERIAL = 0x42ff })
    assert.equal(0x42ff, dev.regs.SERIAL:read())
  end)

  it("takes a mask as bit operations make it, and as the register has it", function()
    for _, mask in ipairs { 0xfffffdff, bit.bnot(0x200), 0xfffffdffULL, bit.bnot(0x200ULL) } do
      dev = assert(start { capture = { "P", "SERIAL" }, ack = { { "SERIAL", mask = mask }, "SERIAL" } })
      dev.regs.SERIAL:write(0xc00002ff)
      one({ RAISE_P = 1 }, { SERIAL = 0xc00002ff })
      assert.equal(0xc00002ff, dev.regs.SERIAL:read())
      assert(dev:close())
    end
  end)

  it("takes a constant of the register's width, also one that bit operations made", function()
    for _, value in ipairs { 0xffffffff, -1, 0xffffffffULL } do
      dev = assert(start { capture = "A", ack = { { "A", value } } })
      one({ RAISE_A = 0x80000001 }, { A = 0x80000001 })
      assert(dev:close())
    end
  end)

  it("follows a register to the name that an overlay gives it", function()
    local path, dir = files.write("map.lua", [[
      return (require("luio").registers { overlay = "map.overlay.lua", X = { 0, 32, "w1c" }, Y = { 4, 32, "w1c" },
        RAISE_A = { 8, 32, "wo" }, RAISE_B = { 12, 32, "wo" }, P = { 20, 32, "ro" } })]])
    files.save(dir .. "/map.overlay.lua", "return { X = { rename = 'B', offset = 4 }, Y = { rename = 'A', offset = 0 } }")
    dev = assert(start({ capture = { "A", "B" }, ack = { "A", "B" } }, dofile(path)))
    one({ RAISE_B = 4 }, { A = 0, B = 4 })
    files.clean()
  end)

  it("is refused where several are captured and none of its name, with each way to say it, when the driver is loaded", function()
    local text = [[return { name = "x", irq = { capture = { "A", "B" }, ack = "C" } }]]
    for _, case in ipairs { text, text:gsub('"C"', '{ { "C" } }'), text:gsub('"B"', '{ "B", 4 }'),
      (text:gsub("irq = (%b{})", "irq = { [0] = %1 }")) } do
      local loaded, message, code = luio.load(files.driver(case))
      assert.is_nil(loaded)
      assert.equal("EINVAL", code)
      assert.matches("init%.lua: x%.irq: ack C: with what%? Several registers are captured, and none of that name: say "
        .. '{ "C", "A" } or { "C", "B" }, which writes what was captured, or { "C", 0x1 }, a constant$', message)
    end
    local device, message = start { capture = { "A", "B" }, ack = "SERIAL" }
    assert.is_nil(device)
    assert.matches('say { "SERIAL", "A" } or { "SERIAL", "B" }', message)
    files.clean()
  end)

  it("is refused where what it says would not be done", function()
    for _, case in ipairs {
      { { capture = "A", ack = { { "A", 1, mask = 1 } } }, "a mask is for what was captured, not for a constant" },
      { { capture = { { "a", 0, mask = 1 } } }, 'capture%[1%] "a": a capture takes no mask' },
      { { capture = "A", ack = { { "A", "A", mask = 2 ^ 32 } } }, "ack%[1%]: the mask 4294967296 is not one of 32 bits" },
      { { capture = "A", ack = { { "A", 2 ^ 32 } } }, "ack%[1%]: 4294967296 is not a value of 32 bits" },
      { { capture = "A", ack = { { "A", 1.5 } } }, "ack%[1%]: 1.5 is not a value of 32 bits" },
      { { capture = "A", ack = { { "A", 0x100, width = 8 } } }, "ack%[1%]: 256 is not a value of 8 bits" },
      { { capture = "A", ack = { { "A", "A", maks = 1 } } }, "ack%[1%]: unknown key maks %(did you mean mask%?%)" },
      { { capture = { { "a", -4 } } }, 'capture%[1%] "a": the offset is %-4, not a whole number of bytes' },
      { { capture = { { "a", 0, width = 33 } } }, "the width is 8, 16, 32 or 64, not 33" },
    } do
      local device, message, code = start(case[1])
      assert.is_nil(device)
      assert.equal("EINVAL", code)
      assert.matches(case[2], message)
    end
  end)

  it("is written as Lua that says the same", function()
    for _, setup in ipairs {
      {}, { unmask = false },
      { capture = { { "s", 16 }, { "t", 0x20, width = 64, region = 2 } }, ack = { { 16, "s", mask = bit.bnot(0x700) }, { 16, -1 } } },
      { ack = { { 0x123456780, 0x1122334455667788ULL, width = 64 }, { 8, 2 ^ 33, width = 64 }, { 1, 0xff, width = 8 } } },
    } do
      local again = assert(loadstring("return " .. top_half.source(setup)))()
      assert.is_nil(top_half.fault(again))
      assert.equal(top_half.describe(setup), top_half.describe(again))
      assert.equal(top_half.source(setup), top_half.source(again))
    end
    assert.equal('{ capture = { { "s", 0x10 } }, ack = { { 0x10, "s", mask = 0xfffff8ff } } }',
      top_half.source { capture = { { "s", 16 } }, ack = { { 16, "s", mask = bit.bnot(0x700) } } })
  end)

  it("is said in words, with its mask", function()
    dev = assert(luio.open(SIM))
    dev.regs = assert(luio.bind(registers, dev))
    local function words(irq)
      return top_half.describe(assert(driver.top_half({ name = "spec", irq = irq }, dev, 0)))
    end
    assert.equal("reads P, reads SERIAL, writes SERIAL := SERIAL & 0xfffff8ff, writes SERIAL := SERIAL, unmasks",
      words { capture = { "P", "SERIAL" }, ack = { { "SERIAL", "SERIAL", mask = 0xfffff8ff }, "SERIAL" } })
    assert.equal("reads s, writes SERIAL := s & 0xfffff8ff, writes SERIAL := 0xffffffff, writes 0x4 := 0x02, unmasks",
      words { capture = { { "s", 16 } }, ack = { { "SERIAL", mask = bit.bnot(0x700) }, { "SERIAL", -1 }, { 4, 2, width = 8 } } })
    assert.equal("reads A, writes 2:0x10 := A", words { capture = "A", ack = { { 16, "A", region = 2 } }, unmask = false })
  end)
end)
