--- Guardian and worker that were stopped (SIGSTOP), in each order, with an edu in the middle of a transfer. SIGKILL ends a stopped
--- worker. Bus master is off as soon as the guardian runs again. Deadlines hold for a stopped worker, too. A continued process goes
--- on where it was.

local amount = require "spec.support.amount"
local files = require "spec.support.files"
local luio = require "luio"
local memory = require "spec.support.memory"
local program = require "spec.support.program"
local sysfs = require "spec.support.sysfs"
local uv = require "luv"
local wait = require "spec.support.wait"

local BOUND, BARE = "0000:00:04.0", "0000:00:09.0"

-- Transfers, one after the other, each counted; interrupts, too, where there are any.
local DRIVER = [[
local luio = require "luio"
local uv = require "luv"
local edu = assert(luio.load "drivers/edu")
local d = { name = "busy", registers = edu.registers, dma = edu.dma, quiesce = edu.quiesce, durable = { "n" } }
function d.start(dev, reason)
  local s = dev.state
  s.n = (s.n or 0) + 1
  local b = assert(dev.dma:alloc(4096, { name = "data" }))
  print(("[%d %s pid %d]"):format(s.n, reason, uv.os_getpid()))
  io.stdout:flush()
  luio.spawn(function()
    for i = 1, 1e6 do
      dev.regs.DMA_SRC:write(edu.BUFFER)
      dev.regs.DMA_DST:write(b.iova)
      dev.regs.DMA_COUNT:write(64)
      dev.regs.DMA_CMD:write { RUN = 1, DIRECTION = "TO_RAM" }
      repeat luio.sleep(0.005) until dev.regs.DMA_CMD:get "RUN" == 0
      print(("transfer %d of %d"):format(i, s.n))
      io.stdout:flush()
      EXTRA
    end
  end)
  return true
end
return d
]]

local function master(address) return sysfs.has(address, sysfs.BUS_MASTER) end

local function state_of(pid) return files.read(("/proc/%d/stat"):format(pid)):match "%) (%a)" end

describe("stopped processes:", function()
  local p, before
  before_each(function() before = memory.free_pages() end)
  after_each(function()
    if p then p:close() end
    p = nil
    memory.wait_free(before)
  end)
  teardown(files.clean)

  -- The process of the n-th start, once it is at work.
  local function started(n)
    local pid = tonumber((p:wait(("%%[%d %%a+ pid (%%d+)%%]"):format(n))))
    p:wait(("transfer 1 of %d\n"):format(n))
    return pid
  end

  local function run(address, extra)
    p = program.start { "run", files.driver((DRIVER:gsub("EXTRA", function() return extra or "" end))), address, "--backoff", "0.02", "--restart", "1000" }
    return started(1)
  end

  local function stop(pid)
    uv.kill(pid, "sigstop")
    wait.till(5, "it is stopped", function() return state_of(pid) == "T" end)
  end

  local function transfers(n)
    return p:count(("transfer %%d+ of %d\n"):format(n))
  end

  local function goes_on(n)
    local so_far = transfers(n)
    wait.till(10, "more transfers", function() return transfers(n) > so_far + 1 end)
  end

  for _, address in ipairs { BARE, BOUND } do
    it(("%s, the guardian stopped, its worker killed"):format(address), function()
      local pid = run(address)
      for n = 1, amount(1, 50) do
        stop(p.pid)
        goes_on(n) -- the driver needs no guardian for what it has
        uv.kill(pid, "sigkill")
        wait.till(5, "it is dead", function() return state_of(pid) == "Z" end)
        -- uio_pci_generic clears bus master when the worker's files are closed; elsewhere nobody does before the guardian runs.
        if address == BOUND then wait.till(5, "bus master off", function() return not master(address) end)
        else assert.is_true(master(address)) end
        uv.kill(p.pid, "sigcont")
        p:wait(("worker %d died of SIGKILL; [^\n]*: bus master off after [^\n]*; restart %%d+ of"):format(pid))
        pid = started(n + 1)
      end
      p:kill "sigterm"
      assert.equal(0, p:status())
      assert.is_false(master(address))
    end)

    it(("%s, the worker stopped in a transfer, the guardian asked to stop"):format(address), function()
      local pid = run(address)
      stop(pid)
      assert.is_true(master(address))
      p:kill "sigterm"
      assert.equal(1, p:status(15))
      assert.is_true(program.gone(pid))
      assert.is_false(master(address))
      assert.matches("did not stop in time: SIGKILL; [^\n]*: bus master off", p:text())
    end)

    it(("%s, the worker stopped, a second Ctrl-C"):format(address), function()
      local pid = run(address)
      stop(pid)
      p:ctrl_c_twice()
      assert.equal(130, p:status())
      assert.is_true(program.gone(pid))
      assert.is_false(master(address))
    end)

    it(("%s, both stopped, continued in each order"):format(address), function()
      local pid = run(address)
      local orders = { { pid, p.pid, pid, p.pid }, { pid, p.pid, p.pid, pid }, { p.pid, pid, pid, p.pid }, { p.pid, pid, p.pid, pid } }
      for i = 1, amount(1, 25) * #orders do
        local order = orders[i % #orders + 1]
        stop(order[1])
        stop(order[2])
        uv.kill(order[3], "sigcont")
        uv.kill(order[4], "sigcont")
        goes_on(1)
      end
      assert.is_true(master(address))
      p:kill "sigterm"
      assert.equal(0, p:status())
      assert.is_false(master(address))
    end)

    it(("%s, the worker stopped, the guardian killed"):format(address), function()
      local pid = run(address)
      stop(pid)
      p:kill "sigkill"
      assert.equal(-9, p:status())
      assert.is_true(program.alive(pid)) -- nothing can be done by it, nor for it
      uv.kill(pid, "sigcont")
      assert.is_true(program.gone(pid))
      assert.is_false(master(address))
      assert.matches("the guardian died; the device is stopped", p:text())
    end)
  end

  it("what needs a guardian that is stopped fails within its time, and says so", function()
    local pid = run(BARE, [[
      if i == 3 then
        print "asks" io.stdout:flush()
        repeat uv.sleep(2) until io.open(("/proc/%d/stat"):format(uv.os_getppid())):read "*a":match "%) (%a)" == "T"
        local big, message = dev.dma:alloc(3 * 2^20)
        print("answer", big, message) io.stdout:flush()
      end]])
    p:wait "asks"
    stop(p.pid)
    p:wait("answer\tnil\t[^\n]*does not answer within 5 s: is it stopped%?", 15)
    uv.kill(p.pid, "sigcont")
    goes_on(1)
    uv.kill(pid, "sigkill")
    p:wait "%[2 crash pid"
    p:kill "sigterm"
    assert.equal(0, p:status())
  end)
end)

describe("a driver that forks", function()
  local p, before
  before_each(function() before = memory.free_pages() end)
  after_each(function()
    if p then p:close() end
    memory.wait_free(before)
  end)
  teardown(files.clean)

  local FORKS = [[
    local ffi = require "ffi"
    local C = require("luio.ffi").C
    ffi.cdef "int fork(void); int pause(void); int getrlimit(int, unsigned long *); int setrlimit(int, const unsigned long *);"
    if i == 2 and s.n == 1 then
      -- There is no descriptor left: the child has to do without a new one.
      local limit, hoard = ffi.new "unsigned long[2]", {}
      ffi.C.getrlimit(7, limit)
      limit[0] = 200 -- RLIMIT_NOFILE
      assert(ffi.C.setrlimit(7, limit) == 0)
      repeat
        local fd, _, code = uv.fs_open("/dev/zero", "r", 0)
        hoard[#hoard + 1] = fd
      until code == "EMFILE"
      local child = ffi.C.fork()
      for _, fd in ipairs(hoard) do uv.fs_close(fd) end
      if child == 0 then
        -- Here the device is gone: descriptors, registers, the guardian. The report is one write.
        local said = {}
        for fd = 3, 255 do
          local to = uv.fs_readlink("/proc/self/fd/" .. fd) or ""
          if to:find "/dev/uio" or to:find "/config" or to:find "memfd:luio%-[^g]" or to:find "pagemap"
            or to:find "io_uring" then said[#said + 1] = to end
        end
        for line in io.lines "/proc/self/maps" do
          if line:find "memfd:luio%-[^g]" or line:find "resource" or line:find "/dev/uio" then said[#said + 1] = line end
        end
        local _, id = pcall(dev.regions[0].read32, dev.regions[0], 0)
        local on, message, code = dev:bus_master(false)
        local closed = dev:close()
        print(("child: kept %d %s; register %s; bus master %s %s; close %s"):format(#said, said[1] or "",
          tostring(id):match "the device is gone", tostring(on), tostring(code), tostring(closed)))
        io.stdout:flush()
        while true do ffi.C.pause() end
      end
      print("forked " .. child)
    end]]

  for _, address in ipairs { BOUND, BARE } do
    it(("at %s: the child has no part in the device, also without a descriptor to spare, and does not outlive the driver"):format(address), function()
      p = program.start { "run", files.driver((DRIVER:gsub("EXTRA", function() return FORKS end))), address, "--backoff", "0.02" }
      local pid = tonumber((p:wait "%[1 fresh pid (%d+)%]"))
      p:wait "child: kept 0 ; register the device is gone; bus master nil ENODEV; close true\n"
      local child = tonumber((p:wait "forked (%d+)"))
      p:wait "transfer 4 of 1" -- the device is the parent's, as before
      assert.is_true(master(address))
      uv.kill(pid, "sigkill")
      p:wait "bus master off[^\n]*; restart 1"
      assert.is_true(program.gone(child))
      p:wait "%[2 crash pid"
      p:wait "transfer 2 of 2"
      p:kill "sigterm"
      assert.equal(0, p:status())
      assert.is_false(master(address))
      local again = assert(luio.open(address)) -- the lock is free, and so is the memory
      assert(again:close())
    end)
  end
end)
