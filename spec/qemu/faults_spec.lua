--- Faults of QEMU and of its machine, at any moment: it is killed, stopped, or answers wrongly (spec/support/false_qemu.lua). Each ends in
--- an error that says so, by a deadline, and leaves nothing behind.

local amount = require "spec.support.amount"
local false_qemu = require "spec.support.false_qemu"
local files = require "spec.support.files"
local luio = require "luio"
local program = require "spec.support.program"
local qemu = require "luio.qemu"
local qmp = require "luio.qemu.qmp"
local sysfs = require "luio.host.sysfs"
local uv = require "luv"
local wait = require "spec.support.wait"

local START, ANSWER, QMP_ANSWER = qemu.START, qemu.ANSWER, qmp.ANSWER

local function count(folder) return #sysfs.entries(folder) end

-- What a machine has of this process.
local function holdings()
  local children = 0
  for _, tid in ipairs(sysfs.entries "/proc/self/task") do
    for _ in (sysfs.read(("/proc/self/task/%s/children"):format(tid)) or ""):gmatch "%d+" do children = children + 1 end
  end
  local _, memory = files.read("/proc/self/maps"):gsub("machine memory", "")
  return { fds = count "/proc/self/fd", threads = count "/proc/self/task", children = children, memory = memory }
end

local before

before_each(function()
  before = holdings()
end)

after_each(function()
  qemu.START, qemu.ANSWER, qmp.ANSWER = START, ANSWER, QMP_ANSWER
  false_qemu.restore()
  assert(luio.close_all())
  wait.till(10, "nothing of the machines is left", function()
    local now = holdings()
    return now.fds <= before.fds and now.threads <= before.threads and now.children <= before.children and now.memory == 0
  end)
end)

setup(function() -- what the first machine of a process loads stays
  local dev = luio.open "qemu:edu"
  luio.run(function()
    local ended
    local child = uv.spawn("/bin/true", {}, function() ended = true end)
    wait.till(10, "a child ends", function() return ended end)
    child:close()
  end)
  if dev then assert(dev:close()) end
end)
teardown(files.clean)

-- The error of an access; it names QEMU, and what it has done.
local function fails(fn, ...)
  local ok, message = pcall(fn, ...)
  assert.is_false(ok)
  assert.matches("qemu%-system%-x86_64", tostring(message))
  return tostring(message)
end

describe("a QEMU that answers", function()
  local READ = [[if kind == "qtest" and line == "readl 0xc0000008" then %s end]]

  for text, said in pairs {
    ["garbage\n"] = 'said "garbage": is that QEMU?', ["\n"] = 'said ""', ["OK\n"] = 'said "OK"', ["OK 0x\n"] = 'said "OK 0x"',
    ["OK 0xg\n"] = 'said "OK 0xg"', ["ok 0x1\n"] = 'said "ok 0x1"', ["OK 0x1 \n"] = 'said "OK 0x1 "', ["OK 0x1 2\n"] = 'said "OK 0x1 2"',
    ["OK 0x10000000000000001\n"] = 'said "OK 0x10000000000000001"', ["OK 0x100000000\n"] = 'said "OK 0x100000000"', -- a value of 33 bits
    ["OK 0x1\0\n"] = 'said "OK 0x1?"', ["\0\n"] = 'said "?"', ["\27[2J\n"] = 'said "?[2J"', ["FAIL Unknown command 'readl'\n"] = "Unknown command",
    ["OK -1\n"] = "OK -1", ["IRQ\n"] = "IRQ", ["IRQ rise 5\n"] = "IRQ rise 5", ["IRQ raise\n"] = "IRQ raise", ["IRQ raise -1\n"] = "IRQ raise -1",
    ["IRQ raise 9999999999\n"] = "IRQ raise 9999999999", ["OK 0x" .. ("0"):rep(300) .. "\n"] = "OK 0x000", [("x"):rep(3000) .. "\n"] = "xxx\"...",
    [("x"):rep(5000)] = "sent a line that does not end", [("x"):rep(2 ^ 21)] = "sent a line that does not end",
    [("x\n"):rep(2 ^ 20)] = 'said "x"',
  } do
    it(("%s (%d bytes) is not believed, and not asked again"):format(text:sub(1, 24):gsub("%c", "?"), #text), function()
      false_qemu.use(READ:format(("return %q"):format(text):gsub("\\\n", "\\n"):gsub("%z", "\\0")))
      local dev = assert(luio.open "qemu:edu")
      local edu = dev.regions[0]
      assert.equal(0x010000ed, edu:read32(0))
      local message = fails(edu.read32, edu, 8)
      assert.truthy(message:find(said, 1, true), message)
      assert.truthy(message:find("read32 qemu:edu BAR0 at 0x8: ", 1, true), message)
      assert.equal(message:match "qemu%-system.*", fails(edu.read32, edu, 0):match "qemu%-system.*")
      assert.is_false((pcall(edu.write32, edu, 0, 1)))
      luio.run(function() wait.till(10, "the device is gone", function() return dev.gone end) end)
      assert.truthy(dev.gone_why:find(said, 1, true), dev.gone_why)
      assert.is_nil((dev:retake()))
    end)
  end

  it("a line in pieces, within the deadline, is understood", function()
    false_qemu.use(READ:format [[
      local C = require("ffi").C
      for _, part in ipairs { "IR", "Q raise 17\nOK", " 0x00", "12\nIRQ lower", " 17\n" } do
        C.write(3, part, #part)
        C.poll(nil, 0, 5)
      end
      return ""
    ]])
    local dev = assert(luio.open "qemu:edu")
    for _ = 1, 3 do assert.equal(0x12, dev.regions[0]:read32(8)) end
  end)

  it("one line too much is noticed though nobody asks", function()
    false_qemu.use(READ:format [[return "OK 0x5\nOK 0x6\n"]])
    local dev = assert(luio.open "qemu:edu")
    pcall(dev.regions[0].read32, dev.regions[0], 8)
    luio.run(function() wait.till(10, "the device is gone", function() return dev.gone end) end)
    assert.truthy(dev.gone_why:find('said "OK 0x6"', 1, true), dev.gone_why)
  end)

  it("one line too few in many accesses is waited for as long as for each answer", function()
    qemu.ANSWER = 0.3
    false_qemu.use [[seen = (seen or 0) + (line == "readl 0xc0000008" and 1 or 0) if line == "readl 0xc0000008" and seen == 70 then return "" end]]
    local dev = assert(luio.open "qemu:edu")
    local values = require("ffi").new "uint32_t[200]"
    local message = fails(dev.regions[0].read32_many, dev.regions[0], 8, values, 200)
    assert.truthy(message:find("it does not answer: is it stopped?", 1, true), message)
  end)

  it("interrupts without an end keep no access from its deadline", function()
    qemu.ANSWER = 0.3
    false_qemu.use(READ:format [[
      local ffi = require "ffi"
      while ffi.C.write(3, "IRQ raise 5\nIRQ lower 5\n", 24) == 24 do end
    ]])
    local dev = assert(luio.open "qemu:edu")
    local message = fails(dev.regions[0].read32, dev.regions[0], 8)
    assert.truthy(message:find("does not answer", 1, true), message)
    assert(dev:close())
  end)
end)

describe("a QEMU that ends, falls silent or talks nonsense", function()
  local function commands() -- of a start, by the kind of socket
    local list = select(2, files.write("count", "")) .. "/count"
    false_qemu.use(([[local f = io.open(%q, "a") f:write(kind, " ", n, "\n") f:close()]]):format(uv.cwd() .. "/" .. list))
    local dev = assert(luio.open "qemu:edu")
    local text = files.read(list)
    assert(dev:close())
    return tonumber(text:match ".*qtest (%d+)"), tonumber(text:match ".*qmp (%d+)")
  end

  -- An opening that fails: its message and code.
  local function refused()
    local dev, message, code = luio.open "qemu:edu"
    assert.is_true(dev == nil, "it was opened")
    assert.is_string(code, message)
    assert.matches("QEMU", message:upper())
    return message, code
  end

  it("at any command of a start is an error", function()
    local qtest, monitor = commands()
    assert.is_true(qtest > 40 and monitor >= 3)
    local step = math.max(1, math.floor(qtest / amount(12, qtest, 3))) -- so many of the commands
    for _, what in ipairs {
      { "os.exit(0)", "EIO" }, { [[require("ffi").C.write(kind == "qmp" and 4 or 3, "OK", 2) os.exit(0)]], "EIO" },
      { "if n > 0 then close(kind) hang() end os.exit(0)", "EIO" },
      { [[return "nonsense\n"]], "EPROTO" }, { [[return "\0\n"]], "EPROTO" },
    } do
      for _, at in ipairs { { "qtest", 1, qtest, step }, { "qmp", 0, monitor, 1 } } do
        for n = at[2], at[3], at[4] do
          false_qemu.use(([[if kind == %q and n == %d then %s end]]):format(at[1], n, what[1]))
          local dev, message, code = luio.open "qemu:edu"
          assert.is_true(dev == nil, ("%s %d of %d, %s: it was opened"):format(at[1], n, at[3], what[1]))
          assert.equal(what[2], code, ("%s %d %s: %s"):format(at[1], n, what[1], message))
        end
      end
    end
  end)

  it("is waited for until the deadline of a start", function()
    qemu.START, qemu.ANSWER, qmp.ANSWER = 0.3, 0.3, 0.3
    local qtest = commands()
    for _, at in ipairs { { "qtest", 1 }, { "qtest", 7 }, { "qtest", qtest }, { "qmp", 0 }, { "qmp", 1 }, { "qmp", 2 } } do
      false_qemu.use(("if kind == %q and n == %d then hang() end"):format(at[1], at[2]))
      local message, code = refused()
      assert.equal("ETIMEDOUT", code, message)
      assert.truthy(message:find("is it stopped", 1, true), message)
    end
  end)

  it("is told from one that says too much at its start, or of the wrong kind", function()
    for text, said in pairs {
      ['{"QMP"'] = 'said "{"QMP"{"return"', [("x"):rep(50000)] = 'said "xxxxx', ["{}\n"] = "does not begin with QMP's greeting",
      ['{"QMP": 5}\n'] = "does not begin with QMP's greeting", [""] = "does not begin with QMP's greeting",
    } do
      false_qemu.use(([[if kind == "qmp" and n == 0 then return %q end]]):format(text):gsub("\\\n", "\\n"))
      local message = refused()
      assert.truthy(message:find(said, 1, true), message)
    end
    false_qemu.use [[if kind == "qmp" and n == 1 then return ("x"):rep(17 * 2 ^ 20) end]]
    assert.truthy(refused():find("more than 16777216 bytes in a line", 1, true))
    for _, result in ipairs {
      "5", '"x"', "true", "[5]", "[{}]", '[{"devices": 5}]', '[{"devices": [{}]}]', '[{"devices": [{"bus": "x", "slot": 1, "function": 0}]}]',
      '[{"devices": [{"bus": 0, "slot": 4, "function": 0, "qdev_id": ["luio-device"], "id": {"vendor": 1, "device": 2}}]}]',
      '[{"devices": [{"bus": 0, "slot": 4, "function": 0, "qdev_id": "luio-device", "id": 7}]}]',
    } do
      false_qemu.use(([[if line:find "query.pci" then return '{"return": %s, "id": ' .. line:match '"id":(%%d+)' .. '}\n' end]]):format(result))
      local message, code = refused()
      assert.equal("EPROTO", code, result .. message)
      assert.truthy(message:find("makes no sense", 1, true), message)
    end
    false_qemu.use [[if kind == "qmp" and n > 1 then return '{"event": "RESUME", "timestamp": {"seconds": 1, "microseconds": 2}}\n'
      .. '{"event": "X", "data": {"a": [1, {}]}}\n{"return": ' .. (line:find "pci" and '[]' or '[]') .. ', "id": ' .. n .. '}\n' end]]
    local message, code = refused()
    assert.equal("ENODEV", code, message)
  end)
end)

local REAL = false_qemu.real()

local function describe_real(name, fn)
  if REAL then return describe(name, fn) end
  pending(name .. ": there is no qemu-system-x86_64 here")
end

describe_real("a real QEMU that is", function()
  -- A shell beside it does something to it after so many seconds, without its sockets.
  local function beside(script)
    false_qemu.program(("(%s) 3>&- 4>&- 5>&- 6>&- 7>&- >/dev/null 2>&1 </dev/null &\nexec '%s' \"$@\""):format(script, REAL))
  end

  -- Runs a shell's script while this process works; returns a function that waits for its end.
  local function shell(script)
    local ended
    local child = assert(uv.spawn("/bin/sh", { args = { "-c", script } }, function() ended = true end))
    return function()
      luio.run(function() wait.till(10, "the shell ends", function() return ended end) end)
      child:close()
    end
  end

  it("killed at any moment of its start, or just after, is an error", function()
    local fine, failed = 0, 0
    for i = 1, amount(25, 300) do
      beside(("sleep %.4f; kill -KILL $$"):format(i % 25 * 0.012))
      local dev, message, code = luio.open "qemu:edu"
      if dev then
        fine = fine + 1
        local ok, why
        for _ = 1, 100000 do
          ok, why = pcall(dev.regions[0].read32, dev.regions[0], 0)
          if not ok then break end
        end
        assert.truthy(tostring(why):find("it has ended", 1, true), tostring(why))
        assert(dev:close())
      else
        failed = failed + 1
        assert.truthy(code == "EIO", ("%s %s"):format(code, message))
        assert.truthy(message:find("ended", 1, true), message)
      end
    end
    assert.is_true(failed > 0, ("%d started, %d did not"):format(fine, failed))
  end)

  it("killed in an access, in many, in a wait, in a transfer, or while it is closed, is gone", function()
    local work = {
      function(dev) while true do dev.regions[0]:read32(0) end end,
      function(dev) while true do dev.regions[0]:write32(4, 1) end end,
      function(dev)
        local values = require("ffi").new "uint32_t[5000]"
        while true do dev.regions[0]:read32_many(0, values, 5000) end
      end,
      function(dev) error((select(2, dev.irqs[0]:wait(100)))) end,
      function(dev)
        local buffer = assert(dev.dma:alloc(4096))
        while true do
          local ok, message, code = dev.driver.from_device(dev, buffer, 4000)
          if not ok then
            assert.equal("ENODEV", code, message)
            error(message)
          end
        end
      end,
    }
    for round = 1, amount(2, 30) do
      for _, fn in ipairs(work) do
        local dev = assert(luio.start("edu", "qemu:edu"))
        local killed = shell(("sleep %.3f; kill -KILL %d"):format(round % 10 * 0.013, dev.qemu.pid))
        local ok, why
        luio.run(function() ok, why = pcall(fn, dev) end)
        assert.is_false(ok)
        assert.matches("ended", tostring(why))
        killed()
        luio.run(function() wait.till(10, "it is noticed", function() return dev.gone end) end)
        assert(dev:close())
      end
      local dev = assert(luio.start("edu", "qemu:edu"))
      uv.kill(dev.qemu.pid, "sigkill")
      assert(dev:close())
    end
  end)

  it("stopped and continued within the deadline has lost nothing", function()
    beside "sleep 0.05; kill -STOP $$; sleep 0.3; kill -CONT $$"
    local dev = assert(luio.start("edu", "qemu:edu"))
    for _ = 1, 3 do
      uv.kill(dev.qemu.pid, "sigstop")
      local continued = shell(("sleep 0.1; kill -CONT %d"):format(dev.qemu.pid))
      dev.regions[0]:write32(4, 0x12345678)
      assert.equal(0xedcba987, dev.regions[0]:read32(4))
      assert.equal(120, (assert(dev.driver.factorial(dev, 5))))
      assert.equal("running", assert(dev.qemu:command "query-status").status)
      continued()
    end
  end)

  it("stopped beyond the deadline is not used again, nor waited for, and ends when it is closed", function()
    qemu.ANSWER = 0.3
    local dev = assert(luio.open "qemu:edu")
    local pid = dev.qemu.pid
    uv.kill(pid, "sigstop")
    local message = fails(dev.regions[0].read32, dev.regions[0], 0)
    assert.truthy(message:find("it does not answer: is it stopped? Close its devices and open them anew", 1, true), message)
    uv.kill(pid, "sigcont")
    assert.equal(message:match "qemu%-system.*", fails(dev.regions[0].read32, dev.regions[0], 0):match "qemu%-system.*")
    uv.kill(pid, "sigstop")
    assert(dev:close())
    assert.is_false(program.alive(pid))
    qemu.START = 0.5
    beside "true"
    false_qemu.program("kill -STOP $$")
    local _, why, code = luio.open "qemu:edu"
    assert.equal("ETIMEDOUT", code)
    assert.matches("start qemu%-system%-x86_64: it did not answer within 0.5 s: is it stopped%?", why)
  end)

  it("minded by a process that is killed, or stopped, ends all the same", function()
    for _, signal in ipairs { "sigkill", "sigstop" } do
      local dev = assert(luio.open "qemu:edu")
      local pid = dev.qemu.pid
      local minder = tonumber(files.read(("/proc/%d/stat"):format(pid)):match "%) %a (%d+)")
      uv.kill(minder, signal)
      if signal == "sigkill" then wait.till(10, "QEMU ends with it", function() return not pcall(dev.regions[0].read32, dev.regions[0], 0) end) end
      assert(dev:close())
      wait.till(10, "QEMU has ended", function() return not program.alive(pid) end)
    end
  end)

  it("started many times in a row, and eight at once, leaves nothing behind", function()
    local pids = {}
    for _ = 1, amount(12, 100) do
      local dev = assert(luio.open "qemu:edu")
      assert.equal(0x010000ed, dev.regions[0]:read32(0))
      table.insert(pids, dev.qemu.pid)
      assert(dev:close())
      assert.same(before, holdings())
    end
    local devices = {}
    for i = 1, 8 do devices[i] = assert(luio.start("edu", "qemu:edu")) end
    luio.run(function()
      local tasks = {}
      for i, dev in ipairs(devices) do
        tasks[i] = luio.spawn(function()
          for n = 1, 10 do assert(dev.driver.factorial(dev, n)) end
        end)
      end
      for _, task in ipairs(tasks) do assert(task:join(600)) end
    end)
    for _, dev in ipairs(devices) do
      table.insert(pids, dev.qemu.pid)
      assert(dev:close())
    end
    for _, pid in ipairs(pids) do assert.is_false(program.alive(pid)) end
  end)

  it("left by a program that ends, by whatever way, ends", function()
    for _, way in ipairs {
      "os.exit(3)", "error 'x'", "require('ffi').C.raise(6)", "require('ffi').C.raise(11)", "require('ffi').C.raise(9)", "require('ffi').C.raise(15)",
      "require('ffi').C.raise(2)", "require('ffi').C._exit(0)",
      "local v = require('ffi').new('const char *[3]', { 'sleep', '600' }) require('ffi').C.execvp('sleep', v)",
    } do
      local script = files.write("end.lua", ([[
        require("ffi").cdef "int raise(int); void _exit(int); int execvp(const char *, const char *const *);"
        local luio = require "luio"
        local dev = assert(luio.open "qemu:edu")
        io.stdout:write("machine ", dev.qemu.pid, "\n")
        io.stdout:flush()
        %s
      ]]):format(way))
      local p = program.start { script }
      local pid = tonumber((p:wait "machine (%d+)\n"))
      assert.is_true(program.gone(pid), way)
      p:close()
    end
  end)
end)

describe_real("a start with too little", function()
  it("descriptors says so, for each number of them #plain", function()
    local out = files.shell(("(ulimit -n 120; exec timeout 300 %s spec/support/scarce.lua luio.open 45 qemu:edu)"):format(program.PATH))
    local fine, lines = 0, 0
    for result in out:gmatch "%d+\t([^\n]*)\n" do
      lines = lines + 1
      if result == "fine" then fine = fine + 1
      else assert.truthy(result:find("EMFILE", 1, true) or result:find("Too many open files", 1, true), result) end
      assert.is_true(fine == 0 or result == "fine", out)
    end
    assert.equal(46, lines, out)
    assert.is_true(fine > 0, out)
  end)

  it("memory is an error, or works #plain", function()
    local script = files.write("memory.lua", [[
      local luio = require "luio"
      local dev, message, code = luio.open "qemu:edu"
      print(dev and "fine" or message, code)
      if dev then assert(dev:close()) end
    ]])
    local fine, failed, out = 0, 0, nil
    for _, mib in ipairs { 200, 300, 400, 600, 800, 1000, 1400, 2000, 3000, 6000 } do
      out = files.shell(("(ulimit -v %d; exec timeout 300 %s %s)"):format(mib * 1024, program.PATH, script))
      if out:find "^fine" then fine = fine + 1
      else
        failed = failed + 1
        assert.truthy(out:find "^start qemu%-system%-x86_64: " or out:find("not enough memory", 1, true) or out:find "memory", mib .. ": " .. out)
      end
    end
    assert.is_true(fine > 0 and failed > 0, out)
  end)
end)
