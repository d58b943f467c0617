--- drivers/pl011 on its model. What luio.serial promises of every driver is in spec/serial/models_spec.lua; QEMU's UART in
--- spec/qemu/pl011_spec.lua.

local luio = require "luio"
local serial = require "luio.serial"
local wait = require "spec.support.wait"

describe("drivers/pl011", function()
  local port
  local function open(options)
    port = assert(serial.open("sim:pl011", options))
    return port.dev.regs
  end
  after_each(function()
    if port then assert(port:close()) end
    port = nil
  end)

  it("goes at the speed that it is set to, to a 64th of the divisor", function()
    local regs = open()
    -- 24 MHz / 16 / 115200 is 13 and 1/64; ARM DDI 0183 3.3.6
    for baud, divisor in pairs { [115200] = { 13, 1 }, [9600] = { 156, 16 }, [1500000] = { 1, 0 }, [300] = { 5000, 0 } } do
      assert(port:configure { baud = baud })
      assert.same(divisor, { regs.UARTIBRD:read(), regs.UARTFBRD:read() })
    end
    assert(port:close())
    port = nil
    regs = open { clock = 48000000 }
    assert.same({ 26, 3 }, { regs.UARTIBRD:read(), regs.UARTFBRD:read() })
    local ok, message, code = port:configure { baud = 5 }
    assert.is_nil(ok)
    assert.equal("EINVAL", code)
    assert.truthy(message:find("5 baud can't be had from 48000000 Hz: 46 is its limit", 1, true), message)
  end)

  it("has the format that it is set to", function()
    local regs = open()
    for format, bits in pairs {
      [{ bits = 8, parity = "none", stop = 1 }] = { WLEN = "BITS_8", PEN = 0, SPS = 0, STP2 = 0 },
      [{ bits = 7, parity = "even", stop = 2 }] = { WLEN = "BITS_7", PEN = 1, EPS = "EVEN", SPS = 0, STP2 = 1 },
      [{ bits = 6, parity = "odd", stop = 1 }] = { WLEN = "BITS_6", PEN = 1, EPS = "ODD", SPS = 0, STP2 = 0 },
      [{ bits = 5, parity = "mark", stop = 1.5 }] = { WLEN = "BITS_5", PEN = 1, EPS = "ODD", SPS = 1, STP2 = 1 },
      [{ bits = 8, parity = "space", stop = 1 }] = { WLEN = "BITS_8", PEN = 1, EPS = "EVEN", SPS = 1, STP2 = 0 },
    } do
      assert(port:configure(format))
      local set = regs.UARTLCR_H:decode(regs.UARTLCR_H:read())
      for field, value in pairs(bits) do assert.equal(value, set[field], field) end
      assert.equal(1, set.FEN)
      assert.equal(1, regs.UARTCR:get "UARTEN")
    end
  end)

  it("counts what is wrong with a character, and hands it on; a break is none", function()
    open()
    local far = port.dev.regions[1]
    port:set_lines { rts = true }
    for _, word in ipairs { 0x41, 0x242, 0x143, 0x400, 0x44 } do far:write32(0, word) end
    assert.equal("ABCD", port:read(4, 100))
    wait.till(10, "the break is counted", function() return port:stats().breaks == 1 end)
    local stats = port:stats()
    assert.same({ 1, 1, 0 }, { stats.parity, stats.framing, stats.overruns })
  end)

  it("loses nothing by the device's own flow control, however slowly it is read", function()
    open { flow = "rts/cts", rx = 64, baud = 1500000 }
    assert.is_true(port.auto_flow)
    local parts, left = {}, 1000
    local text = ("0123456789abcdef"):rep(63):sub(1, 1000)
    luio.run(function()
      local writer = luio.spawn(function() return port:write(text, 100) end) -- the far end sends it back
      while left > 0 do
        luio.sleep(0.002)
        local part = assert(port:read_some(40, 100))
        parts[#parts + 1], left = part, left - #part
      end
      assert(writer:join(100))
    end)
    assert.equal(text, table.concat(parts))
    local stats = port:stats()
    assert.same({ 0, 0 }, { stats.rx_dropped, stats.overruns })
  end)

  it("is refused by other silicon", function()
    local driver = assert(luio.load "pl011")
    local dev, message, code = require("luio.driver").start(driver, assert(luio.open "sim:pl031"))
    assert.is_nil(dev)
    assert.equal("ENODEV", code)
    assert.matches("UARTPeriphID says part 0x031 of designer 0x41, not 0x011 of 0x41", message)
    assert(luio.close_all())
  end)
end)
