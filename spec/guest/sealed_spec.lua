--- A hostile worker that gave root up, below a guardian that is root. In each case signals, the worker's death and the second
--- Ctrl-C keep their promises, and the next worker starts. Devices are in guardian_spec.lua; here they are simulated.

local files = require "spec.support.files"
local luio = require "luio"
local memory = require "spec.support.memory"
local program = require "spec.support.program"
local sysfs = require "spec.support.sysfs"
local uv = require "luv"
local wait = require "spec.support.wait"

local DRIVER = [[
local hostile = dofile "spec/support/hostile.lua"
local ffi = require "ffi"
local luio = require "luio"
local uv = require "luv"
local d = { name = "hostile", registers = require "drivers.edu.registers", dma = { bits = 28 }, durable = { "n", "list" } }
function d.quiesce() return true end
function d.start(dev, reason)
  local state = dev.state
  state.n = (state.n or 0) + 1
  local ring = assert(dev.dma:alloc(4096, { name = "ring" }))
  if not ring.kept then ring:write(0, "first") end
  print(("[%d %s pid %d %s %s ring %s]"):format(state.n, reason, uv.os_getpid(), tostring(state.list), tostring(state.other),
    ring:read(0, 5)))
  io.stdout:flush()
  assert(dev:checkpoint())
  luio.spawn(function()
    repeat luio.sleep(0.002) until uv.getuid() ~= 0
    if reason == "fresh" then
      EXTRA
    end
    print "done"
    io.stdout:flush()
  end)
  return true
end
return d
]]

describe("a hostile worker without privileges", function()
  local p, listener
  setup(function() -- accepts, and never reads
    assert.equal(0, uv.getuid(), "run as root, in the guest")
    listener = uv.new_tcp()
    listener:bind("127.0.0.1", 0)
    listener:listen(8, function() end)
  end)
  teardown(function()
    listener:close()
    files.clean()
  end)
  after_each(function()
    if p then p:close() end
    p = nil
  end)

  local function run(extra, options)
    local folder = files.driver((DRIVER:gsub("EXTRA", (extra:gsub("PORT", listener:getsockname().port):gsub("%%", "%%%%")))))
    p = program.start({ "run", folder, "sim:edu", "--user", "nobody", "--backoff", "0.01" }, options)
  end

  local function started(n)
    local line, pid = p:wait(("%%[(%d %%a+ pid (%%d+) [^\n]*)%%]\n.-runs "):format(n))
    return tonumber(pid), line
  end

  -- Killed, started again, told to stop, within seconds.
  local function survives()
    local pid = started(1)
    p:wait "done"
    p:kill("sigkill", pid)
    started(2)
    p:kill "sigterm"
    assert.equal(0, p:status())
  end

  it("can't make the guardian hold what blocks when it is closed", function()
    for _, n in ipairs { 1, 250 } do
      run(("print(('%%d messages went'):format(hostile.hand_over(hostile.lingering(PORT), %d)))"):format(n))
      survives()
      assert.matches("\n0 messages went\n", p:text()) -- the guardian's sockets take none
      p:close()
    end
  end)

  it("can't hold up its end by a tracer that keeps its status", function()
    run "hostile.traced()"
    survives()
  end)

  it("can't hold up the guardian by standard error", function()
    local fifo = files.write("stderr", "")
    os.remove(fifo)
    assert.equal(0, os.execute("mkfifo " .. fifo))
    local fd = assert(uv.fs_open(fifo, 0x802, 0)) -- O_RDWR | O_NONBLOCK
    finally(function()
      uv.fs_close(fd)
      os.remove(fifo)
    end)
    local folder = files.driver((DRIVER:gsub("EXTRA", "hostile.fill_stderr()")))
    p = program.start({ "-c", ("exec build/luio run %s sim:edu --user nobody --backoff 0.01 2>%s"):format(folder, fifo) }, { program = "/bin/sh" })
    local pid = started(1)
    p:wait "done"
    p:kill("sigkill", pid)
    pid = started(2)
    p:kill("sigkill", pid)
    pid = started(3)
    -- Output that could not be printed comes once the pipe is read, or is counted.
    local said = ""
    local function reads(words)
      wait.till(5, words, function()
        said = said .. (uv.fs_read(fd, 65536, -1) or "")
        return said:find(words)
      end)
    end
    reads "luio: worker %d+ died of SIGKILL; restart 1"
    p:kill("sigkill", pid)
    started(4)
    reads "restart 3 of 5 in %d+ ms; 1 lines? before this one could not be printed\n"
    p:kill "sigterm"
    assert.equal(0, p:status())
  end)

  it("can't keep its driver going when the guardian was told to stop", function()
    for name, extra in pairs {
      flood = "while true do for kind = 0, 12 do hostile.request { kind = kind, address = dev.address, slot = kind } end end",
      ["garbage, without a pause"] = [[
        local mail, size = hostile.mapping "luio-mail"
        while true do
          for i = 8, 127 do mail[i] = math.random(0, 255) end
          mail[0] = mail[0] + 1
          hostile.ring()
        end]],
      ["it stopped itself"] = "hostile.stop_self()",
    } do
      run("print 'now' io.stdout:flush() " .. extra)
      p:wait "now"
      local pid = started(1)
      p:ctrl_c_twice()
      assert.equal(130, p:status(), name)
      assert.is_true(program.gone(pid))
      p:close()
    end
  end)

  it("is killed at the deadline when it has stopped itself", function()
    run "print 'now' io.stdout:flush() hostile.stop_self()"
    p:wait "now"
    local pid = started(1)
    p:kill "sigterm"
    assert.equal(1, p:status(15))
    assert.is_true(program.gone(pid))
    assert.matches("did not stop in time: SIGKILL", p:text())
  end)

  it("leaves no process behind", function()
    run "print(('child %d'):format(hostile.child(function() hostile.child() end)))"
    local child = tonumber((p:wait "child (%d+)"))
    p:kill("sigkill", (started(1)))
    started(2)
    assert.is_true(program.gone(child))
    p:kill "sigterm"
    assert.equal(0, p:status())
  end)

  it("hands its successor plain data, or none", function()
    local function save(bytes) return ("local b = %s assert(require('luio.ffi').C.luio_device_save(dev.handle, b, #b, nil) == 0)"):format(bytes) end
    local buffer = "require('string.buffer').encode"
    for _, case in ipairs {
      { save "'\\5\\1\\2\\3\\4\\5\\6\\7\\8'", "durable state of sim:edu can't be read back: no plain data: tag 0x05" },
      { save(buffer .. "{ fields = 7 }"), "durable state of sim:edu can't be read back: it has no fields" },
      { save "('\\12\\2'):rep(1e5)", "too deep" },
      { save "'\\12\\255\\0\\0\\0\\7'", "cut short" },
    } do
      run(case[1])
      local pid = started(1)
      p:wait "done"
      p:kill("sigkill", pid)
      p:wait(case[2])
      p:wait "%[1 crash pid %d+ [^\n]*%]\n.-runs " -- without it
      p:kill "sigterm"
      assert.equal(0, p:status())
      p:close()
    end
    run(save(buffer .. "{ fields = { n = 41, list = 'mine', other = 'not durable', start = 'nor this' } }"))
    local pid = started(1)
    p:wait "done"
    p:kill("sigkill", pid)
    assert.matches("^42 crash pid %d+ mine nil ", (select(2, started(42))))
  end)

  it("can't use the restarts up by values with which the driver does not start", function()
    local folder = files.driver((DRIVER:gsub("EXTRA", "state.n = 'no number' assert(dev:checkpoint())")))
    p = program.start { "run", folder, "sim:edu", "--user", "nobody", "--backoff", "0.01" }
    local pid = started(1)
    p:wait "done"
    p:kill("sigkill", pid)
    p:wait "driver hostile threw in start: .-arithmetic on a string value"
    p:wait "driver hostile did not start with the durable state that a process of nobody left for sim:edu: it starts without it"
    pid = tonumber((p:wait "%[1 crash pid (%d+) [^\n]*%]\n.-runs "))
    p:kill("sigkill", pid)
    started(2) -- what that one kept is kept
    p:kill "sigterm"
    assert.equal(0, p:status())
  end)

  it("can't empty slots, nor replace the memory in them", function()
    run [[
      local before = hostile.mapping "luio-dma"
      for slot = 0, 8 do
        for _, kind in ipairs { "MAKE", "HOLD", "GONE", "NO_RESET", "CLOSED" } do
          hostile.ask { kind = hostile.KINDS[kind], address = dev.address, slot = slot }
        end
      end]]
    local pid = started(1)
    p:wait "done"
    p:kill("sigkill", pid)
    p:wait "%[1 crash pid %d+ nil nil ring first%]\n.-runs " -- its state is its own to throw away
  end)

  it("hands its successor records that are looked at", function()
    -- Everything in them is noise; then all in them is the largest number there is.
    for _, noise in ipairs { "math.random(0, 255)", "255", "1" } do
      run(("local at, size = hostile.mapping 'luio-records' for i = 0, size - 1 do at[i] = %s end"):format(noise))
      local pid = started(1)
      p:wait "done"
      p:kill("sigkill", pid)
      assert.matches("ring first$", (select(2, started(2))))
      p:close()
    end
  end)
end)

describe("a hostile worker with a device", function()
  local BARE = "0000:00:09.0" -- without a kernel driver: only the guardian stops it
  local p
  after_each(function()
    if p then p:close() end
  end)
  teardown(files.clean)

  it("is stopped with it, whatever it has said of it", function()
    local text = [[
      local hostile = dofile "spec/support/hostile.lua"
      local luio = require "luio"
      local uv = require "luv"
      local edu = assert(luio.load "drivers/edu")
      local d = { name = "liar", dma = edu.dma, registers = edu.registers, quiesce = edu.quiesce }
      function d.start(dev, reason)
        local target = assert(dev.dma:alloc(4096))
        print(("[%s pid %d]"):format(reason, uv.os_getpid()))
        io.stdout:flush()
        luio.spawn(function()
          repeat luio.sleep(0.002) until uv.getuid() ~= 0
          for _, kind in ipairs { "GONE", "NO_RESET", "CLOSED", "OPEN" } do
            hostile.ask { kind = hostile.KINDS[kind], address = dev.address }
          end
          for slot = 2, 4 do
            hostile.ask { kind = hostile.KINDS.MAKE, address = dev.address, slot = slot }
            hostile.ask { kind = hostile.KINDS.HOLD, address = dev.address, slot = slot }
          end
          print "done" io.stdout:flush()
          while true do
            dev.regs.DMA_SRC:write(edu.BUFFER)
            dev.regs.DMA_DST:write(target.iova)
            dev.regs.DMA_COUNT:write(64)
            dev.regs.DMA_CMD:write { RUN = 1, DIRECTION = "TO_RAM" }
            repeat luio.sleep(0.005) until dev.regs.DMA_CMD:get "RUN" == 0
          end
        end)
        return true
      end
      return d
    ]]
    local before = memory.free_pages()
    for restarts = 0, 1 do
      p = program.start { "run", files.driver(text), BARE, "--user", "nobody", "--restart", tostring(restarts) }
      local pid = tonumber((p:wait "%[fresh pid (%d+)%]"))
      p:wait "done"
      assert.is_true(sysfs.has(BARE, sysfs.BUS_MASTER))
      local none, message, code = luio.open(BARE)
      assert.same({ nil, "EBUSY" }, { none, code }, message)
      p:kill("sigkill", pid)
      p:wait "died of SIGKILL; 0000:00:09.0: bus master off after"
      if restarts == 0 then
        assert.equal(137, p:status())
        assert.is_false(sysfs.has(BARE, sysfs.BUS_MASTER))
        memory.wait_free(before)
      else
        p:wait "%[crash pid %d+%].-runs again"
        p:kill "sigterm"
        assert.equal(0, p:status())
        assert.is_false(sysfs.has(BARE, sysfs.BUS_MASTER))
      end
      p:close()
    end
  end)
end)
