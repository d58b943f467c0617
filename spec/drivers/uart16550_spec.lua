--- drivers/uart16550 on its models, with the spec at the other end of the cable. spec/serial/conformance.lua has the
--- behaviour of every port in loopback.

local far_end = require "spec.support.far_end"
local luio = require "luio"
local serial = require "luio.serial"
local wait = require "spec.support.wait"

local CHIPS = {
  ["16550A"] = { address = "sim:uart16550", fifo = 16 },
  ["16550C"] = { address = "sim:drivers/uart16550/model_tl16c550c.lua", fifo = 16, auto_flow = true },
  ["16450"] = { address = "sim:drivers/uart16550/model_16450.lua", fifo = 1 },
}

describe("drivers/uart16550", function()
  local port, far

  local function open(chip, options, control)
    port = assert(serial.open(CHIPS[chip].address, options))
    far = far_end.of(port, control)
    return port, far
  end

  -- Sends by halves of a FIFO, each after the one before has been taken: so that nothing is a matter of speed.
  local function feed(text)
    for i = 1, #text, 8 do
      local part, before = text:sub(i, i + 7), port:stats().rx_bytes
      far:send(part)
      wait.till(5, "it is taken", function() return port:stats().rx_bytes == before + #part end)
    end
  end

  after_each(function()
    if port then assert(port:close()) end
    port = nil
  end)

  for kind, chip in pairs(CHIPS) do
    it("finds out that it is a " .. kind, function()
      open(kind)
      assert.same({ kind, chip.fifo, chip.auto_flow or false }, { port.kind, port.fifo, port.auto_flow })
      assert(port:write("AT\r", 1))
      wait.till(5, "it has arrived", function() return far:received() == 3 end)
      assert.equal("AT\r", far:receive())
      far:send "O"
      assert.equal("O", port:read(1, 5))
    end)
  end

  it("says that there is no UART, and leaves the device to others", function()
    local dev, message, code = luio.start("uart16550", "sim:edu")
    assert.is_nil(dev)
    assert.equal("ENODEV", code)
    assert.matches("no UART answers: MSR is 0x%x+ in loopback, not 0x9., IER 0x%x+, not 0$", message)
  end)

  it("starts on a chip that somebody left with the divisor latch open", function()
    local dev = assert(luio.open "sim:uart16550")
    dev.regions[0]:write8(3, 0x80) -- LCR.DLAB
    assert(require("luio.reload.live").start(require "drivers.uart16550", dev))
    assert.equal(0, dev.regs.LCR:get "DLAB")
    assert(dev:close())
  end)

  it("reads LCR for no character: it has set LCR.DLAB itself", function()
    open "16550A"
    local seen = { RBR = 0, THR = 0, IER = 0, LCR = 0 }
    port.dev.regs:on_access(function(access)
      if seen[access.register] then seen[access.register] = seen[access.register] + 1 end
    end)
    assert(port:write("AT\r", 1))
    wait.till(5, "it has arrived", function() return far:received() == 3 end)
    far:send "O"
    assert.equal("O", port:read(1, 5))
    port.dev.regs:on_access(nil)
    assert.is_true(seen.RBR > 0 and seen.THR > 0)
    assert.equal(0, seen.LCR)
  end)

  it("sets speed and format as the far end sees them", function()
    open "16550A"
    -- LCR (8.6.2): WLS, STB, PEN, EPS, stick
    for _, one in ipairs {
      { { baud = 9600 }, 0x03, 9600 }, { { bits = 7, parity = "even", baud = 19200 }, 0x1a, 19200 }, { { parity = "odd", stop = 2 }, 0x0e, 19200 },
      { { bits = 5, stop = 1.5, parity = "mark", baud = 38400 }, 0x2c, 38400 }, { { parity = "space" }, 0x3c, 38400 },
      { { baud = 57600, bits = 8, stop = 1, parity = "none" }, 0x03, 57600 },
    } do
      assert(port:configure(one[1]))
      assert(port:write("x", 1))
      wait.till(5, "it has arrived", function() return far:received() == 1 end)
      far:receive()
      assert.same({ one[2], one[3] }, { far:format() })
    end
    local none, message, code = serial.open("sim:uart16550", { baud = 12345678 })
    assert.same({ nil, "EINVAL" }, { none, code })
    assert.matches("12345678 baud can't be had from 1843200 Hz: 115200 is its limit$", message)
  end)

  it("counts characters with errors and hands them on; a break is no character", function()
    open "16550A"
    far:send "a"
    far:send_marked(0x62, far_end.PARITY)
    far:send_marked(0x63, far_end.FRAMING)
    far:send "d"
    far:send_marked(0, far_end.BREAK)
    far:send "efgh"
    assert.equal("abcdefgh", port:read(8, 5))
    feed "ijklmnop"
    assert.equal("ijklmnop", port:read(8, 5))
    local stats = port:stats()
    assert.same({ 1, 1, 1, 0 }, { stats.parity, stats.framing, stats.breaks, stats.overruns })
  end)

  it("tells of each break, and of lines that change, even for a moment", function()
    open "16550A"
    luio.run(function()
      local n, changes = 0, {}
      local forget = port:on_break(function() n = n + 1 end)
      port:on_lines(function(lines, changed) table.insert(changes, { lines, changed }) end)
      far:send_marked(0, far_end.BREAK)
      far:send_marked(0, far_end.BREAK)
      wait.till(5, "both breaks", function() return n == 2 end)
      forget()
      far:drive(0x3) -- DCD goes off
      wait.till(5, "DCD", function() return #changes == 1 end)
      assert.same({ false, true }, { changes[1][1].dcd, changes[1][2].dcd })
      far:drive(0x7) -- it rings; the end of a ring is told (8.6.8)
      far:drive(0x3)
      wait.till(5, "RI", function() return #changes == 2 end)
      assert.same({ false, true }, { changes[2][1].ri, changes[2][2].ri })
    end)
  end)

  it("sends a break that the far end sees, after what was written before", function()
    open "16550A"
    luio.run(function()
      assert(port:write("before", 1))
      local sender = luio.spawn(function() return port:send_break(0.1) end)
      wait.till(5, "the break", function() return far:sees() >= 16 end)
      assert.equal("before", far:receive())
      assert(port:write("after", 10)) -- has to wait
      assert(sender:join(5))
      wait.till(5, "what was written after", function() return far:received() == 5 end)
    end)
    assert.equal(1, far:breaks())
    assert.is_true(far:sees() < 16)
  end)

  it("raises its lines when it starts, and drops them when it ends", function()
    open "16550A"
    assert.equal(1 + 2 + 8, far:sees())
    port:set_lines { dtr = false, rts = false, out2 = false }
    assert.equal(0, far:sees())
    port:set_lines { dtr = true }
    assert.equal(1, far:sees())
    port.dev.driver.stop(port.dev)
    assert.equal(0, far:sees())
  end)

  it("counts overruns: somebody sends, nobody obeys, Lua is busy", function()
    open "16550A"
    far:send(("."):rep(100))
    local stop = luio.now() + 0.2 -- 100 characters take 9 ms
    while luio.now() < stop do end -- luacheck: ignore 542
    wait.till(5, "a FIFO of them is read", function() return port:available() >= 16 end)
    assert.equal(16, #port:read(200, 0.1))
    assert.is_true(port:stats().overruns >= 1)
  end)

  it("drops RTS when its ring is three quarters full, and raises it when half is free", function()
    open("16550A", { rx = 64, flow = "rts/cts" })
    feed(("x"):rep(47))
    assert.equal(2, far:sees() % 4 - far:sees() % 2)
    feed "y"
    assert.equal(0, far:sees() % 4 - far:sees() % 2)
    assert.equal(15, #port:read(15, 10))
    assert.is_false(port:lines().rts)
    assert.equal(1, #port:read(1, 10))
    assert.is_true(port:lines().rts)
    assert.equal(2, far:sees() % 4 - far:sees() % 2)
  end)

  it("leaves in the FIFO what a full ring has no room for, though the sender goes on", function()
    open("16550A", { rx = 64, flow = "rts/cts" })
    feed(("abcdefgh"):rep(8))
    far:send(("abcdefgh"):rep(2))
    wait.till(5, "all is there", function() return far:queued() == 0 end)
    assert.equal(64, port:available())
    assert.equal(("abcdefgh"):rep(10), port:read(80, 10))
    assert.same({ 0, 0 }, { port:stats().overruns, port:stats().rx_dropped })
  end)

  it("loses nothing from one that obeys RTS at full speed, where the chip does it by itself #plain", function()
    open("16550C", { rx = 256, flow = "rts/cts" }, far_end.OBEYS_RTS)
    local wanted, parts, left = ("0123456789abcdef"):rep(256), {}, 4096
    far:send(wanted)
    luio.run(function()
      while left > 0 do
        if left % 3 == 0 then
          local stop = luio.now() + 0.005
          while luio.now() < stop do end -- luacheck: ignore 542
        end
        local part = assert(port:read_some(100, 5))
        parts[#parts + 1], left = part, left - #part
      end
    end)
    assert.equal(wanted, table.concat(parts))
    assert.equal(0, port:stats().overruns)
  end)

  for _, kind in ipairs { "16550A", "16550C" } do
    it(("%s sends nothing while CTS is off"):format(kind), function()
      open(kind, { flow = "rts/cts" })
      far:drive(0xa)
      wait.till(5, "CTS is off", function() return not port:lines().cts end)
      assert(port:write(("z"):rep(100), 1))
      luio.sleep(0.05)
      assert.equal(0, far:received())
      assert.equal("ETIMEDOUT", (select(3, port:drain(0.02))))
      far:drive(0xb)
      wait.till(5, "it has arrived", function() return far:received() == 100 end)
    end)
  end

  it("obeys XOFF and XON, and sends them", function()
    -- A ring whose quarter has room for what is under way: two FIFOs, and a third before XOFF.
    open("16550A", { rx = 256, flow = "xon/xoff", baud = 2400 }, far_end.OBEYS_XON)
    far:send "\19"
    wait.till(5, "it stopped", function() return port:stats().rx_bytes == 1 end)
    assert(port:write("held", 1))
    luio.sleep(0.03)
    assert.equal(0, far:received())
    far:send "a\17b"
    wait.till(5, "it has arrived", function() return far:received() == 4 end)
    assert.equal("ab", port:read(2, 10))
    far:send(("."):rep(600)) -- it stops when our XOFF comes
    wait.till(20, "we asked it to stop", function() return port:stats().withheld == 1 end)
    luio.sleep(0.1)
    assert.is_true(far:queued() > 30)
    local text = port:read(600, 5)
    assert.equal(0, far:queued()) -- it was asked to go on
    local stats = port:stats()
    assert.equal(0, stats.rx_dropped)
    -- A machine that gives us no processor for the time of 16 characters overruns the FIFO, as hardware does: that is counted.
    assert.is_true(#text == 600 or #text < 600 and stats.overruns > 0, ("%d characters, %d overruns"):format(#text, stats.overruns))
  end)
end)
