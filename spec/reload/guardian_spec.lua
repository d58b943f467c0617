--- `luio run` as two processes, on simulated devices: deaths, signals, kept state, and the end.

local uv = require "luv"
local files = require "spec.support.files"
local program = require "spec.support.program"
local wait = require "spec.support.wait"
local luio = require "luio"

-- A driver that says what it finds, and remembers it.
local DRIVER = [[
local luio = require "luio"
local uv = require "luv"
local d = { name = "kept", registers = require "drivers.edu.registers", dma = { bits = 28 }, durable = { "starts", "list" } }
d.irq = { capture = "IRQ_STATUS", ack = "IRQ_ACK" }
function d.quiesce(dev)
  assert(dev.config:read16(4) % 8 < 4, "bus master is on")
  return dev.regs.DMA_CMD:wait({ RUN = 0 }, 1)
end
function d.start(dev, reason)
  local state = dev.state
  state.starts = (state.starts or 0) + 1
  state.list = state.list or { "first", { nested = 7ULL } }
  state.lost = state.lost or state.starts
  local ring = assert(dev.dma:alloc(8192, { name = "ring" }))
  local other = assert(dev.dma:alloc(64 * 1024))
  local before = ring:read(0, 6)
  ring:write(0, "start" .. state.starts % 10)
  other:fill(0xee)
  assert(dev:checkpoint())
  print(("[%d %s pid %d lost %d %s %s ring %s 0x%x %s]"):format(state.starts, reason, uv.os_getpid(), state.lost, state.list[1],
    tostring(state.list[2].nested), tostring(ring.kept), ring.iova, before:gsub("%z", "-")))
  io.stdout:flush()
  EXTRA
  return true
end
function d.stop() print "stopped" io.stdout:flush() STOP end
return d
]]

local function driver(extra, stop)
  return files.driver((DRIVER:gsub("EXTRA", extra or ""):gsub("STOP", stop or "")))
end

local p
local function run(extra, ...)
  p = program.start { "run", driver(extra), "sim:edu", ... }
  return p
end

-- Waits for the n-th start; the worker's process and what it said.
local function started(n)
  local line, pid = p:wait(("%%[(%d %%a+ pid (%%d+) [^\n]*)%%]\n.-runs "):format(n))
  return tonumber(pid), line
end

describe("luio run", function()
  after_each(function()
    if p then p:close() end
    p = nil
  end)
  teardown(files.clean)

  it("starts the driver again when its process is killed, with its durable state and named buffers", function()
    run(nil, "--backoff", "0.02", "--restart", "20")
    local pid, line = started(1)
    local iova = line:match "ring false (0x%x+) %-%-%-%-%-%-$"
    assert.is_string(iova)
    for n = 2, 11 do
      p:kill("sigkill", pid)
      pid, line = started(n)
      assert.equal(("%d crash pid %d lost %d first 7ULL ring true %s start%d"):format(n, pid, n, iova, (n - 1) % 10), line)
    end
    p:kill "sigterm"
    assert.equal(0, p:status())
    local text = p:text()
    assert.matches("\nluio: worker %d+ died of SIGKILL; restart 1 of 20 in 10 ms\n", text)
    assert.matches("restart 10 of 20 in 20 ms\n", text)
    assert.matches("runs again on device sim:edu 1234:11e8, %d+ ms after the worker before it died\n", text)
    assert.equal(1, p:count "stopped")
    assert.is_nil(text:find("stay unused", 1, true)) -- quiesce said that all is settled
  end)

  it("starts again after every way to die: a fault, an abort, an exit in the middle", function()
    for _, case in ipairs {
      { "if reason == 'fresh' then require('ffi').cast('int *', 8)[0] = 1 end", "died of SIGSEGV" },
      { "if reason == 'fresh' then require('luv').kill(require('luv').os_getpid(), 'sigabrt') end", "died of SIGABRT" },
    } do
      -- A sanitizer would make an exit of the fault.
      p = program.start({ "run", driver("luio.spawn(function() luio.sleep(0.1) " .. case[1] .. " end)"), "sim:edu" }, { program = "build/luio" })
      started(2)
      assert.matches(case[2], p:text())
      p:kill "sigterm"
      assert.equal(0, p:status())
      p:close()
    end
    run "luio.spawn(function() luio.sleep(0.1) if reason == 'fresh' then os.exit(3) end end)"
    started(2)
    assert.matches("left with status 3; restart 1 of 5", p:text())
  end)

  it("gives up after --restart N, and ends with the worker's status", function()
    run("luio.spawn(function() luio.sleep(0.05) os.exit(42) end)", "--restart", "2", "--backoff", "0.01")
    assert.equal(42, p:status())
    assert.equal(3, p:count "%[")
    assert.matches("left with status 42; not restarted: 2 of 2 restarts used\n$", p:text())
    p:close()
    run(nil, "--restart", "0")
    p:kill("sigkill", (started(1)))
    assert.equal(128 + 9, p:status())
    assert.matches("\nluio: worker %d+ died of SIGKILL\n$", p:text())
  end)

  it("does not start a driver again that never started", function()
    run "do return nil, 'not today', 'EAGAIN' end"
    assert.equal(1, p:status())
    assert.equal(1, p:count "%[")
    assert.matches("luio: driver kept did not start on sim:edu: not today\n$", p:text())
  end)

  it("ends with an error when the first version never comes back, or leaves", function()
    for _, case in ipairs {
      { "while true do end", "luio: driver kept threw in start: [^\n]*: function start has not come back for", "start" },
      { "local _ = (('a'):rep(40)):find(('a-'):rep(30) .. 'b')", "luio: start of driver kept %([^\n]*init.lua:%d+%) has not come back for", "start" },
      { "os.exit(0)", "luio: driver kept threw in start: [^\n]*init.lua:%d+: function start called os.exit%(0%)\n$", "start" },
      { "require('ffi').cdef 'void exit(int);' require('ffi').C.exit(0)", "left with status 0, and nobody asked: it counts as a crash\n$", "load" },
    } do
      local limit = "package.path = './?.lua;' .. package.path require 'spec.support.impatient' "
      local body = DRIVER:gsub("EXTRA", case[3] == "start" and case[1] or ""):gsub("STOP", "")
      p = program.start { "run", files.driver(limit .. (case[3] == "load" and case[1] .. " " or "") .. body), "sim:edu" }
      assert.equal(1, p:status(20), case[1])
      assert.matches(case[2], p:text())
      p:close()
    end
  end)

  it("says who in a driver at work called os.exit, and takes it for a crash whatever the status", function()
    run "if reason == 'fresh' then luio.spawn(function() luio.sleep(0.05) os.exit(0) end) end"
    started(2)
    assert.matches("\nluio: driver kept ends this process: [^\n]*init%.lua:%d+: the function at line %d+ called os%.exit%(0%)\n"
      .. "luio: worker %d+ left with status 0, and nobody asked: it counts as a crash; restart 1 of 5", p:text())
  end)

  it("keeps trying when a restart fails, and keeps what it has", function()
    run("if state.starts == 2 then return nil, 'not yet', 'EAGAIN' end", "--backoff", "0.01")
    p:kill("sigkill", (started(1)))
    local _, line = started(3)
    assert.matches("^3 crash .* ring true 0x%x+ start2$", line)
    assert.matches("not yet\nluio: worker %d+ left with status 1; restart 2 of 5", p:text())
  end)

  it("reloads on SIGHUP, with named memory kept", function()
    run()
    local pid = started(1)
    p:kill "sighup"
    p:wait "version 2: "
    assert.matches("version 2: nothing changed; kept %d+ values? of state, %d+ buffers?; ", p:text())
    assert.matches("reload pid " .. pid .. " .* ring true 0x%x+", p:text())
    p:kill "sigterm"
    assert.equal(0, p:status())
  end)

  it("stops in order on SIGTERM and SIGINT, whichever process hears it", function()
    for _, signal in ipairs { "sigterm", "sigint" } do
      run()
      local pid = started(1)
      p:kill(signal)
      assert.equal(0, p:status())
      assert.is_true(program.gone(pid))
      assert.matches("stopped\n$", p:text())
      p:close()
    end
    run()
    p:kill("sigterm", (started(1)))
    assert.equal(0, p:status())
    p:close()
    run()
    started(1)
    uv.kill(-p.pid, "sigint") -- Ctrl-C: the terminal tells all of them
    assert.equal(0, p:status())
    assert.equal(1, p:count "stopped")
  end)

  it("hears a second SIGTERM as the first: systemd tells the whole group", function()
    local told = files.write("told.txt", "")
    assert(os.remove(told))
    p = program.start { "run", driver(nil, ("repeat luio.sleep(0.01) until io.open(%q) print 'after stop'"):format(told)), "sim:edu" }
    local pid = started(1)
    p:kill("sigterm", pid)
    p:wait "stopped"
    p:kill("sigterm", pid)
    p:kill "sigterm"
    assert(io.open(told, "w")):close()
    assert.equal(0, p:status())
    assert.matches("stopped\nafter stop\n$", p:text())
  end)

  it("sees how its worker ended though it was started with SIGCHLD ignored", function()
    p = program.start({ "--ignore-signal=CHLD", "build/luio", "run", driver(), "sim:edu" }, { program = "/usr/bin/env" })
    p:kill("sigkill", (started(1)))
    started(2)
    assert.matches("died of SIGKILL; restart 1 of 5", p:text())
    p:kill "sigterm"
    assert.equal(0, p:status())
  end)

  it("has room for eight devices at a time, and for more one after the other", function()
    run [[
      local more = {}
      local function another(i) return luio.open("sim:" .. ("./"):rep(i) .. "drivers/edu") end
      for i = 1, 7 do more[i] = assert(another(i)) end
      local _, message, code = another(8)
      print(code, message)
      for _ = 1, 20 do
        for _, one in ipairs(more) do assert(one:close()) end
        for i = 1, 7 do more[i] = assert(another(i + 7)) end
      end
      for _, one in ipairs(more) do assert(one:close()) end
      print(another(20))
    ]]
    started(1)
    assert.matches("\nENOSPC\topen sim:[./]*drivers/edu: a guardian has room for 8 devices\ndevice sim:[./]+drivers/edu 1234:11e8\n", p:text())
  end)

  it("leaves at once on a second Ctrl-C", function()
    p = program.start { "run", driver(nil, "while true do end"), "sim:edu" }
    local pid = started(1)
    p:kill "sigint"
    p:wait "stopped"
    uv.sleep(100) -- no second stroke sooner, see program.lua
    p:kill "sigint"
    assert.equal(130, p:status())
    assert.is_true(program.gone(pid))
    assert.matches("was told twice to stop: SIGKILL\n$", p:text())
  end)

  it("ends by a deadline, should stop not come to an end", function()
    -- In C, so that waiting costs nothing: what a loop in Lua does is the watchdog's, see spec/loop/watchdog_spec.lua.
    p = program.start { "run", driver(nil, "require('ffi').cdef 'int pause(void)' while true do require('ffi').C.pause() end"), "sim:edu" }
    local pid = started(1)
    local start = uv.hrtime()
    p:kill "sigterm"
    assert.equal(1, p:status(60))
    assert.is_true((uv.hrtime() - start) / 1e9 > 4.9) -- it had its 5 s
    assert.is_true(program.gone(pid))
    assert.matches("did not stop in time: SIGKILL\n$", p:text())
  end)

  it("does not wait out a pause when it is told to stop #plain", function()
    local tries, quick = 0
    repeat -- once sooner than the pause is over; a busy machine may take longer than that to end it
      tries = tries + 1
      if p then p:close() end
      run("luio.spawn(function() luio.sleep(0.05) os.exit(1) end)", "--restart", "100", "--backoff", "60")
      p:wait("in 1280 ms", 40)
      local start = uv.hrtime()
      p:kill "sigterm"
      assert.equal(0, p:status())
      quick = uv.hrtime() - start < 1e9
    until quick or tries == 20
    assert.is_true(quick)
  end)

  it("stops the driver and leaves when the guardian dies", function()
    run()
    local pid = started(1)
    p:kill "sigkill"
    assert.equal(-9, p:status())
    assert.is_true(program.gone(pid))
    assert.matches("stopped\nluio: the guardian died; the device is stopped\n$", p:text())
  end)

  it("leaves even if Lua is stuck when the guardian dies", function()
    run "luio.spawn(function() luio.sleep(0.1) print 'stuck' io.stdout:flush() while true do end end)"
    local pid = started(1)
    p:wait "stuck"
    p:kill "sigkill"
    assert.equal(-9, p:status())
    assert.is_true(program.gone(pid, 20))
  end)

  it("never loses durable state to a kill in the middle of writing it", function()
    -- 100 KB that must all be of one generation, written without a pause.
    local folder = files.driver [[
      local luio = require "luio"
      local uv = require "luv"
      local d = { name = "writer", durable = { "n", "text" } }
      function d.start(dev, reason)
        local s = dev.state
        local whole = s.text == nil or s.text == ("%08d"):format(s.n):rep(12500)
        print(("[%d %s pid %d]"):format(s.n or 0, whole and "whole" or "TORN", uv.os_getpid()))
        io.stdout:flush()
        luio.spawn(function()
          luio.sleep(0)
          while true do
            s.n = (s.n or 0) + 1
            s.text = ("%08d"):format(s.n):rep(12500)
            assert(dev:checkpoint())
          end
        end)
        return true
      end
      return d
    ]]
    p = program.start { "run", folder, "sim:edu", "--restart", "50", "--backoff", "0" }
    local seen, last = 0, -1
    for _ = 1, 20 do
      local text = wait.poll(10, function()
        local text = p:text()
        return select(2, text:gsub("runs ", "")) > seen and text
      end)
      seen = seen + 1
      local n, whole, pid = text:match "%[(%d+) (%a+) pid (%d+)%][^%[]*$"
      assert.equal("whole", whole)
      assert.is_true(tonumber(n) >= last) -- the same, if it was killed before it wrote any
      last = tonumber(n)
      uv.sleep(5 + seen * 7 % 20)
      p:kill("sigkill", tonumber(pid))
    end
    assert.is_true(last > 20)
  end)

  it("starts without durable state that can't be read back, and says so", function()
    local garble = "if state.starts == 1 then luio.spawn(function() luio.sleep(0.02) d.durable = nil "
      .. "for _ = 1, 2 do assert(require('luio.ffi').C.luio_device_save(dev.handle, 'garbage', 7, nil) == 0) end print 'garbled' io.stdout:flush() end) end"
    run(garble)
    local pid = started(1)
    p:wait "garbled"
    p:kill("sigkill", pid)
    p:wait "luio: durable state of sim:edu can't be read back: it is cut short; driver kept starts without it"
    p:wait "%[1 crash"
    p:kill "sigterm"
    assert.equal(0, p:status())
  end)

  it("says which state can't be durable, and goes on #plain", function()
    run "state.list = print"
    started(1)
    p:wait "luio: durable state of driver kept: cannot serialize"
    p:kill "sigterm"
    assert.equal(0, p:status())
    assert.equal(1, p:count "cannot serialize")
  end)

  it("keeps memory of a dead worker out of use when the driver can't tell that the device is done", function()
    local text = DRIVER:gsub("EXTRA", ""):gsub("STOP", ""):gsub("function d.quiesce", "function d.no_such_thing")
    p = program.start { "run", files.driver(text), "sim:edu" }
    p:kill("sigkill", (started(1)))
    started(2)
    assert.matches("luio: %d+ KiB of DMA memory of the worker that died stay unused: sim:edu can't be reset, and driver kept has no quiesce",
      p:text())
  end)

  it("gives a named buffer anew when another size is asked for, and says so", function()
    local text = DRIVER:gsub("EXTRA", ""):gsub("STOP", ""):gsub("alloc%(8192", "alloc(8192 * state.starts")
    p = program.start { "run", files.driver(text), "sim:edu" }
    p:kill("sigkill", (started(1)))
    local _, line = started(2)
    assert.matches("ring false 0x%x+ %-%-%-%-%-%-$", line)
    assert.matches('luio: DMA buffer "ring" of sim:edu was kept with 8192 bytes', p:text())
  end)

  it("runs as one process with --no-guardian", function()
    run(nil, "--no-guardian")
    local pid = started(1)
    assert.equal(p.pid, pid)
    assert.same({}, p:children())
    p:kill "sigint"
    assert.equal(0, p:status())
    assert.matches("stopped\n$", p:text())
  end)

  it("refuses numbers that make no sense #plain", function()
    for _, case in ipairs { { "--restart", "many" }, { "--restart", "1.5" }, { "--backoff", "x" } } do
      p = program.start { "run", "drivers/edu", "sim:edu", case[1], case[2] }
      assert.equal(2, p:status())
      assert.matches("^luio: run: " .. case[1]:gsub("%-", "%%-"), p:text())
      p:close()
    end
  end)
end)

describe("a named DMA buffer, without a guardian", function()
  it("is an ordinary one; a name is given once", function()
    local dev = assert(luio.open "sim:edu")
    local ring = assert(dev.dma:alloc(4096, { name = "ring" }))
    assert.is_false(ring.kept)
    local none, message, code = dev.dma:alloc(4096, { name = "ring" })
    assert.is_nil(none)
    assert.equal("EEXIST", code)
    assert.matches('there is a buffer named "ring" already', message)
    ring:free()
    assert(dev.dma:alloc(64, { name = "ring" }))
    assert.equal("EINVAL", select(3, dev.dma:alloc(64, { name = "" })))
    assert.equal("EINVAL", select(3, dev.dma:alloc(64, { name = ("x"):rep(64) })))
    assert.has_error(function() dev.dma:alloc(64, { name = 5 }) end)
    assert(dev:close())
  end)
end)
