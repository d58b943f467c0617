--- Bytes written to a serial port leave it before it is closed, or are reported as lost. A slow line is distinguished from a stalled
--- one, and both from the other end's flow control.

local draining = require "luio.serial.draining"
local far_end = require "spec.support.far_end"
local files = require "spec.support.files"
local luio = require "luio"
local program = require "spec.support.program"
local serial = require "luio.serial"
local task = require "luio.loop.task"
local wait = require "spec.support.wait"

local port, far

local function open(options, lines)
  port = assert(serial.open("sim:uart16550", options))
  far = far_end.of(port)
  if lines then far:drive(lines) end
end

local NO_CTS = 0xa -- DSR and DCD are on
local STANDING = draining.STANDING

describe("what was written to a serial port", function()
  after_each(function()
    draining.STANDING = STANDING
    if port and not port.closed then port:close(0) end
    port = nil
  end)

  it("leaves it as long as bytes leave, however many they are", function()
    open()
    assert.equal(2000, port:write(("x"):rep(2000), 1))
    assert(port:drain())
    assert.equal(2000, far:received())
    assert(port:close())
  end)

  it("leaves it before the port is closed", function()
    open()
    assert(port:write(("x"):rep(4000), 1))
    assert(port:close())
    local stats = port:stats()
    assert.same({ 4000, 4000, 0 }, { stats.tx_written, stats.tx_bytes, stats.tx_lost })
  end)

  it("leaves it before its device is closed by other means", function()
    open()
    assert(port:write(("x"):rep(2000), 1))
    assert(port.dev:close())
    assert.equal(2000, port:stats().tx_bytes)
    assert(port:close())
  end)

  it("may take longer than a stall where the line is slow", function()
    draining.STANDING = 0.2
    open { baud = 300 } -- a FIFO takes 0.5 s
    assert(port:write(("x"):rep(17), 1))
    assert(port:drain())
    assert.equal(17, far:received())
  end)

  it("is not sent for ever to a line that stands still", function()
    draining.STANDING = 0.2
    open()
    port.offer.send = function() return 0 end
    assert(port:write(("x"):rep(100), 1))
    local ok, message, code, left = port:drain()
    assert.same({ nil, "EIO", 100 }, { ok, code, left })
    assert.matches("^drain sim:uart16550: 100 bytes were not sent: none has left for [%d.]+ s, and nothing holds them back$", message)
  end)

  it("is held back by CTS, which is another reason, and is counted when the port is closed", function()
    draining.STANDING = 0.2
    open({ flow = "rts/cts" }, NO_CTS)
    assert(port:write(("x"):rep(100), 1))
    local ok, message, code, left = port:drain(nil, 0.1)
    assert.same({ nil, "EAGAIN", 100 }, { ok, code, left })
    assert.matches("^drain sim:uart16550: 100 bytes were not sent: CTS is off", message)
    assert.matches("not within 0%.1 s; CTS is off", (select(2, port:drain(0.1))))
    ok, message, code, left = port:close()
    assert.same({ nil, "EAGAIN", 100 }, { ok, code, left })
    assert.matches("^close sim:uart16550: 100 bytes were not sent: CTS is off", message)
    assert.is_true(port.closed)
    assert.equal(100, port:stats().tx_lost)
    assert.is_true(port:close())
  end)

  it("goes out when CTS is on again before patience ends", function()
    open({ flow = "rts/cts" }, NO_CTS)
    assert(port:write(("x"):rep(100), 1))
    luio.run(function()
      local drain = luio.spawn(function() return port:drain(nil, 20) end)
      luio.sleep(0.05)
      far:drive(0xb)
      assert(drain:join(20))
      assert.is_true(drain.results[1])
    end)
    assert.equal(100, far:received())
  end)

  it("is held back by XOFF", function()
    draining.STANDING = 0.2
    open { flow = "xon/xoff" }
    far:send "\19"
    wait.till(5, "XOFF has come", function() return port.stopped end)
    assert(port:write("x", 1))
    local _, message, code = port:drain(nil, 0.05)
    assert.equal("EAGAIN", code)
    assert.matches("1 byte was not sent: the other end has sent XOFF", message)
    local broke, why = port:send_break(0.01)
    assert.is_nil(broke)
    assert.matches("the other end has sent XOFF", why)
  end)

  it("that can't be sent fails the close of its device, too, which is closed", function()
    draining.STANDING = 0.2
    open({ flow = "rts/cts" }, NO_CTS)
    assert(port:write("xyz", 1))
    local ok, message, code = port.dev:close()
    assert.same({ nil, "EAGAIN" }, { ok, code })
    assert.matches("3 bytes were not sent: CTS is off", message)
    assert.is_true(port.dev.closed)
    assert.is_true(port.dev:close())
    assert.equal(3, port:stats().tx_lost)
  end)

  it("is sent, or said to be lost, also at the end of a script that closes nothing", function()
    local script = files.write("script.lua", [[
      require("luio.serial.draining").STANDING = 0.2
      local port = assert(require("luio.serial").open("sim:uart16550", { flow = "rts/cts" }))
      port.dev.regions[1]:write32(0x24, tonumber(arg[1]))
      assert(port:write(("x"):rep(500), 1))]])
    assert.same({ "", 0 }, { files.shell(("build/luio %s 0xb 2>&1"):format(script)) })
    local out, status = files.shell(("build/luio %s 0xa 2>&1"):format(script))
    assert.equal(1, status)
    assert.matches("^luio: close sim:uart16550: 500 bytes were not sent: CTS is off[^\n]*\n$", out)
    files.clean()
  end)

  it("is counted as lost when the device is gone", function()
    open({ flow = "rts/cts" }, NO_CTS)
    port.dev:watch_presence()
    assert(port:write("xyz", 1))
    port.dev.sim.unplug()
    wait.till(5, "it is gone", function() return port.dev.gone end)
    local ok, message, code, left = port:close()
    assert.same({ nil, "ENODEV", 3 }, { ok, code, left })
    assert.matches("^close sim:uart16550: 3 bytes were not sent: the device is gone$", message)
  end)

  it("is sent by the close that was not cancelled, and only then is the port closed", function()
    open({ flow = "rts/cts" }, NO_CTS)
    luio.run(function()
      assert(port:write(("x"):rep(300), 1))
      local first = luio.spawn(function() return port:close() end)
      wait.till(5, "it is being closed", function() return port.finishing end)
      first:cancel()
      first:join(5)
      assert.is_falsy(port.closed)
      local list = {}
      for i = 1, 3 do list[i] = luio.spawn(function() return i == 3 and port.dev:close() or port:close() end) end
      far:drive(0xb)
      for i = 1, 3 do
        assert(list[i]:join(20))
        assert.is_true(list[i].results[1])
      end
    end)
    assert.same({ 300, 0 }, { port:stats().tx_bytes, port:stats().tx_lost })
  end)

  it("may be nothing: a task that has waited for what comes closes the port", function()
    local failed
    local shown = task.on_failure
    finally(function() luio.on_task_failure(shown) end)
    luio.on_task_failure(function(_, traceback) failed = traceback end)
    open()
    luio.run(function()
      local reads = luio.spawn(function() return port:read(1, 20) and port:close() end)
      far:send "x"
      assert(reads:join(20))
      assert.is_true(reads.results[1])
    end)
    assert.is_nil(failed)
  end)

  it("can't become more while the port is being closed", function()
    open { baud = 9600 }
    luio.run(function()
      assert(port:write(("x"):rep(200), 1))
      local closing = luio.spawn(function() return port:close() end)
      assert.has_error(function() port:write("more", 1) end, "write of sim:uart16550: the port is closed")
      assert(closing:join(20))
      assert.is_true(closing.results[1])
    end)
    assert.equal(200, port:stats().tx_bytes)
  end)
end)

describe("examples/serial.lua on standard input", function()
  teardown(files.clean)

  it("sends all of it, at any speed", function()
    local out, status = files.shell([[head -c 1000 /dev/zero | tr '\0' x | build/luio examples/serial.lua sim:uart16550 --baud 19200 2>&1 >/dev/null]])
    assert.equal(0, status)
    assert.matches("sent 1000;", out)
  end)

  it("fails, and says how many bytes were not sent", function()
    local input = files.write("input", "\19" .. ("x"):rep(60000)) -- the other end sends the XOFF back, and so stops us
    local p = program.start({ "-c", "exec build/luio examples/serial.lua sim:uart16550 --flow xon/xoff > /dev/null < " .. input },
      { program = "/bin/sh" })
    finally(function() p:close() end)
    p:wait("are still to be sent", 20)
    p:kill "sigterm"
    assert.equal(1, p:status(20))
    assert.matches("serial: %d+ bytes were given up\n$", p:text())
  end)

  it("fails when standard output takes no more", function()
    local out, status = files.shell "echo hello | build/luio examples/serial.lua sim:uart16550 2>&1 > /dev/full"
    assert.equal(1, status)
    assert.matches("serial: standard output: No space left on device: %d+ bytes that had come are lost\n", out)
  end)
end)
