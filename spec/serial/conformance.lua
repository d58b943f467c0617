--- Holds one port in loopback to what luio.serial promises: the same for every driver, on a model and on a device.
---
---     require "spec.serial.conformance" {
---       address = "sim:uart16550",
---       kind = "16550A", fifo = 16,
---       leave = function(port) ... end,    -- takes the device away; and back: gives it back
---     }
---
--- The calling spec names what the device, or its emulation, can't do, each with its reason:
---
---     quiet_lines = "..."   lines that change in loopback are not told of: they are only to be read
---     no_break = "..."      a break is not looped back
---     data = "UARTDR"       the register that sends a character; else THR
---     too_fast = 4000000    a speed that it does not have; else 100000
---     qemu = { "..." }      a qemu: device's machine needs these arguments
---     only = { "..." }      these specs alone: the spec that calls this says where the others are shown

local busted = require "busted"
local assert = require "luassert"
local luio = require "luio"
local serial = require "luio.serial"
local pending = require "spec.support.pending"
local text_of = require("spec.support.line_end").text_of
local wait = require "spec.support.wait"
local describe, before_each, after_each = busted.describe, busted.before_each, busted.after_each

local ALL = {}
for i = 0, 255 do ALL[i + 1] = string.char(i) end
ALL = table.concat(ALL)

local XOFF = "\19"

---@class luio.serial.Subject
---@field address string
---@field kind string
---@field fifo integer
---@field leave fun(port: luio.serial.Port)?
---@field back fun(port: luio.serial.Port)?
---@field quiet_lines string?
---@field no_break string?
---@field data string?
---@field too_fast integer?
---@field qemu string[]?
---@field only string[]?

---@param subject luio.serial.Subject
return function(subject)
  describe(("luio.serial on %s in loopback"):format(subject.address), function()
    local port, left = nil, {}
    for _, name in ipairs(subject.only or {}) do left[name] = true end

    local function it(name, fn)
      if not subject.only or left[name] then busted.it(name, fn) end
      left[name] = nil
    end

    local function open(options)
      local all = { loopback = true }
      for key, value in pairs(options or {}) do all[key] = value end
      port = assert(serial.open(subject.qemu and assert(luio.open(subject.address, { qemu = subject.qemu })) or subject.address, all))
      return port
    end

    before_each(function() port = nil end)
    after_each(function()
      if not port then return end
      assert(port:close())
      assert(port:close())
      assert.has_error(function() port:write("x", 1) end, ("write of %s: the port is closed"):format(port.dev.address))
    end)

    it("says what it is", function()
      open()
      assert.equal(subject.kind, port.kind)
      assert.equal(subject.fifo, port.fifo)
      assert.equal(("port %s %s 115200 8N1"):format(port.dev.address, subject.kind), tostring(port))
      assert.equal(port, serial.port(port.dev))
    end)

    it("carries every value of a byte, in a task and outside of one", function()
      open()
      assert.equal(256, port:write(ALL, 5))
      assert.equal(ALL, port:read(256, 5))
      luio.run(function()
        assert.equal(256, port:write(ALL, 5))
        assert.equal(ALL, port:read(256, 5))
        assert(port:drain(5))
      end)
      local stats = port:stats()
      assert.same({ 512, 512, 0, 0 }, { stats.rx_bytes, stats.tx_bytes, stats.rx_dropped, stats.overruns })
    end)

    it("reads fewer when the time is over, and says when there is nothing", function()
      open()
      assert(port:write("abc", 1))
      wait.till(5, "all have come back", function() return port:available() == 3 end)
      assert.equal("abc", port:read(10, 0.02))
      local none, message, code = port:read(10, 0.02)
      assert.same({ nil, "ETIMEDOUT" }, { none, code })
      assert.matches("^read .*: not within the time$", message)
      none, message, code = port:read_some(10, 0)
      assert.same({ nil, "ETIMEDOUT" }, { none, code }, message)
    end)

    it("reads what is there at once, and waits for the number asked for", function()
      open()
      luio.run(function()
        local got
        local reader = luio.spawn(function() got = port:read(6, 5) end)
        assert(port:write("abc", 1))
        luio.sleep(0.1)
        assert.is_nil(got)
        assert(port:write("defg", 1))
        assert(reader:join(5))
        assert.equal("abcdef", got)
        assert.equal("g", port:read_some(100, 5))
      end)
    end)

    it("waits by interrupt", function()
      open()
      luio.run(function()
        local before, tries, quick = port:stats().interrupts, 0
        repeat -- once before the look that is taken once a second; a busy machine may take longer than that
          tries = tries + 1
          local began = luio.now()
          local reader = luio.spawn(function() return port:read_some(1, 100) end)
          luio.sleep(0.05)
          port.dev.regs[subject.data or "THR"]:write(0x41) -- nobody of ours knows
          assert(reader:join(100))
          assert.equal("A", reader.results[1])
          quick = luio.now() - began < 0.9
        until quick or tries == 20
        assert.is_true(quick, "each came by the look once a second")
        assert.is_true(port:stats().interrupts > before)
      end)
    end)

    it("drops and counts what nobody reads, without flow control", function()
      open { rx = 64 }
      assert(port:write(text_of(1000), 10))
      assert(port:drain(10))
      local stats
      wait.till(5, "all have come back", function()
        stats = port:stats()
        return stats.rx_bytes == 1000 or stats.overruns > 0
      end)
      assert.equal(stats.rx_bytes - 64, stats.rx_dropped)
      assert.equal(text_of(64), port:read(100, 0.05))
    end)

    for _, flow in ipairs { "rts/cts", "xon/xoff" } do
      it(("loses nothing with %s, however slowly it is read"):format(flow), function()
        -- A quarter of the ring is for what is under way: with XOFF two FIFOs full, and XOFF behind a third.
        open { rx = flow == "rts/cts" and 64 or 256, flow = flow }
        local wanted, parts = text_of(1000), {}
        luio.run(function()
          local writer = luio.spawn(function() return port:write(wanted, 20) end)
          wait.till(10, "the sender is asked to stop", function() return port:stats().withheld == 1 end)
          local missing = 1000
          while missing > 0 do
            parts[#parts + 1] = assert(port:read_some(40, 5))
            missing = missing - #parts[#parts]
          end
          assert(writer:join(20))
        end)
        assert.equal(wanted, table.concat(parts))
        local stats = port:stats()
        assert.same({ 0, 0 }, { stats.rx_dropped, stats.overruns })
      end)
    end

    it("says how much was written when there is no more room", function()
      open { tx = 64, flow = "xon/xoff" }
      assert(port:write(XOFF, 1)) -- comes back, and stops us
      wait.till(5, "it has", function() return port.stopped end)
      local n, message, code, written = port:write(text_of(100), 0.1)
      assert.same({ nil, "ETIMEDOUT", 64 }, { n, code, written }, message)
      assert.same({ nil, "ETIMEDOUT" }, { select(1, port:drain(0.05)), (select(3, port:drain(0.05))) })
      assert(port:configure { flow = "none" }) -- nobody stops us any more
      assert.equal(text_of(64), port:read(64, 5))
    end)

    it("has the lines that are looped back", function()
      open()
      for _, wanted in ipairs { { true, false, true }, { false, true, false }, { false, false, true }, { true, true, false } } do
        port:set_lines { dtr = wanted[1], rts = wanted[2], out2 = wanted[3] }
        local lines = port:lines()
        assert.same(wanted, { lines.dtr, lines.rts, lines.out2 })
        assert.same(wanted, { lines.dsr, lines.cts, lines.dcd })
      end
      assert.has_error(function() port:set_lines { cts = true } end, "set_lines: dtr, rts and out2 are ours to set, not cts")
      assert(port:configure { flow = "rts/cts" })
      assert.has_error(function() port:set_lines { rts = false } end, "set_lines: RTS is flow control's")
    end)

    it("waits for a line that changes", function()
      if subject.quiet_lines then return pending(subject.quiet_lines) end
      open()
      local none, _, code = port:wait_lines(0.02)
      assert.same({ nil, "ETIMEDOUT" }, { none, code })
      luio.run(function()
        local lines, changed
        local task = luio.spawn(function() lines, changed = port:wait_lines(5) end)
        luio.sleep(0.01)
        port:set_lines { dtr = false }
        assert(task:join(5))
        assert.is_false(lines.dsr)
        assert.same({ cts = false, dsr = true, ri = false, dcd = false }, changed)
      end)
    end)

    it("sends and receives a break", function()
      if subject.no_break then return pending(subject.no_break) end
      open()
      luio.run(function()
        local heard = luio.spawn(function() return port:wait_break(5) end)
        assert(port:send_break(0.05))
        assert(heard:join(5))
        assert.is_true(heard.results[1])
      end)
      assert(port:write("ab", 1))
      assert.equal("ab", port:read(2, 10)) -- the break is no character
      assert.equal(1, port:stats().breaks)
    end)

    it("counts an overrun", function()
      if subject.fifo == 1 then return pending "without a FIFO it is another number" end
      open()
      local thr = port.dev.regs[subject.data or "THR"]
      for burst = 1, 2 do -- nobody takes anything meanwhile
        for i = 1, burst == 1 and subject.fifo or 4 do thr:write(0x40 + i) end
        local stop = luio.now() + 0.1
        while luio.now() < stop do end -- luacheck: ignore 542
      end
      wait.till(5, "a FIFO of them is read", function() return port:available() == 16 end)
      assert.equal(text_of(0) .. ("ABCDEFGHIJKLMNOP"):sub(1, 16), port:read(100, 0.02))
      assert.is_true(port:stats().overruns >= 1)
    end)

    it("is set as it is told, or says why not", function()
      open()
      for _, line in ipairs {
        { baud = 9600 }, { bits = 7, parity = "even" }, { bits = 5, stop = 1.5, parity = "mark" }, { bits = 8, stop = 2, parity = "space" },
        { baud = 115200, parity = "odd", stop = 1 }, { parity = "none", flow = "xon/xoff" },
      } do
        assert(port:configure(line))
        for key, value in pairs(line) do assert.equal(value, port.settings[key]) end
        assert(port:write("\21\5", 1))
        assert.equal("\21\5", port:read(2, 10))
      end
      local before = tostring(port)
      local too_fast = subject.too_fast or 100000
      local ok, message, code = port:configure { baud = too_fast }
      assert.same({ nil, "EINVAL" }, { ok, code })
      assert.matches(("%d baud can't be had from %%d+ Hz: %%d+ "):format(too_fast), message)
      assert.equal(before, tostring(port))
      assert.has_error(function() port:configure { bits = 9 } end, "configure: bits is 5 to 8, not 9")
      assert.has_error(function() port:configure { parity = "evne" } end, "configure: parity is none, odd, even, mark or space, not evne")
      assert.has_error(function() port:configure { buad = 300 } end, "configure: there is no setting buad (did you mean baud?)")
      assert.has_error(function() port:configure { bits = 8, stop = 1.5 } end, "configure: 1.5 stop bits go with 5 bits only")
    end)

    it("refuses what makes no sense", function()
      open()
      assert.has_error(function() port:read(0, 1) end, "read: how many bytes? A whole number above 0, not 0")
      assert.has_error(function() port:read(1) end, "read needs a number of seconds, not nil")
      assert.has_error(function() port:write(5, 1) end, "write wants a string, not number")
      assert.has_error(function() serial.open(subject.address, { rx = 100 }) end,
        "serial.open: rx is 16 to 16777216 bytes, a power of two, not 100")
      luio.run(function()
        local reader = luio.spawn(function() return port:read(1, 0.3) end)
        assert.has_error(function() port:read(1, 1) end, ("two tasks read %s at once"):format(port.dev.address))
        reader:join(1)
      end)
    end)

    it("keeps what waits, and who waits, when its driver's code is exchanged", function()
      open()
      luio.run(function()
        assert(port:write("before", 1))
        wait.till(5, "all have come", function() return port:available() == 6 end)
        assert(port.dev:reload())
        assert.equal("before", port:read(6, 10))
        local reader = luio.spawn(function() return port:read(5, 10) end)
        assert(port:write("mid", 1))
        luio.sleep(0.05)
        assert(port.dev:reload())
        assert(port:write("dle", 1))
        assert(reader:join(10))
        assert.equal("middl", reader.results[1])
        assert.equal("e", port:read(1, 10))
      end)
      local stats = port:stats()
      assert.same({ 12, 12, 0 }, { stats.rx_bytes, stats.tx_bytes, stats.overruns })
    end)

    it("tells who waits that the device is gone, keeps what had come, and works again when it is back", function()
      if not subject.leave then return pending "nobody here can take it away" end
      open()
      port.dev:watch_presence()
      luio.run(function()
        assert(port:write("kept", 1))
        wait.till(5, "all have come", function() return port:available() == 4 end)
        local reader = luio.spawn(function() return port:read(10, 20) end)
        subject.leave(port)
        assert(reader:join(20))
        assert.equal("kept", reader.results[1])
        local none, message, code = port:read(1, 5)
        assert.same({ nil, "ENODEV" }, { none, code }, message)
        assert.equal("ENODEV", (select(3, port:configure { baud = 9600 })))
        subject.back(port)
        assert(port.dev:wait_return(10))
        luio.sleep(0.05)
        assert(port:write("again", 1))
        assert.equal("again", port:read(5, 5))
      end)
    end)

    assert.same({}, left) -- each of `only` is one of these
  end)
end
