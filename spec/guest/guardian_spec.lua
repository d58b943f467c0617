--- Deaths in the middle of a transfer, on a device that writes into memory 100 ms after the command.
---
--- Two edus: one behind uio_pci_generic, whose bus master the kernel clears when the worker's
--- /dev/uioX is closed; and one without any driver, reached by sysfs alone, whose bus master only
--- the guardian clears. This process takes memory that a death frees at once and fills it with a
--- canary, in which a late transfer of the dead process would show.

local ffi = require "ffi"
local amount = require "spec.support.amount"
local uv = require "luv"
local luio = require "luio"
local files = require "spec.support.files"
local memory = require "spec.support.memory"
local program = require "spec.support.program"
local sysfs = require "spec.support.sysfs"
local system = require "spec.support.system"
local wait = require "spec.support.wait"

local BOUND, BARE, NVME = "0000:00:04.0", "0000:00:09.0", "0000:00:08.0"
local PAGE = 2 * 2 ^ 20
local CANARY = 0xc5

ffi.cdef [[
  void *mmap(void *, size_t, int, int, int, long);
  int munmap(void *, size_t);
]]

-- Starts a transfer into a hugepage of its own, says so, and sits there.
local DRIVER = [[
local luio = require "luio"
local uv = require "luv"
local edu = assert(luio.load "drivers/edu")
local d = { name = "victim", registers = edu.registers, dma = edu.dma, quiesce = edu.quiesce, durable = { "n", "sum" } }
local function transfer(dev, src, dst, direction)
  dev.regs.DMA_SRC:write(src)
  dev.regs.DMA_DST:write(dst)
  dev.regs.DMA_COUNT:write(edu.MAX_TRANSFER)
  dev.regs.DMA_CMD:write { RUN = 1, DIRECTION = direction }
end
local function alloc(dev) -- others may have the memory for a moment
  for _ = 1, 10000 do
    local b = dev.dma:alloc(2 * 2^20)
    if b then return b end
    uv.sleep(5)
  end
  error "no hugepage within 50 s"
end
function d.start(dev, reason)
  local s = dev.state
  s.n = (s.n or 0) + 1
  s.sum = (s.sum or 0) + s.n
  assert(dev:checkpoint())
  local ring = assert(dev.dma:alloc(4096, { name = "ring" }))
  local seen = ring:read(0, 8)
  ring:write(0, ("%08d"):format(s.n))
  if reason == "fresh" then -- fills the device's own memory with what is to be recognised
    local b = alloc(dev)
    b:fill(0xdd)
    transfer(dev, b.iova, edu.BUFFER, "TO_DEVICE")
    assert(dev.regs.DMA_CMD:wait({ RUN = 0 }, 60))
    b:free()
  end
  local target = alloc(dev)
  transfer(dev, edu.BUFFER, target.iova, "TO_RAM")
  print(("[%d %s pid %d sum %d ring %s 0x%x %s target 0x%x]"):format(s.n, reason, uv.os_getpid(), s.sum, tostring(ring.kept),
    ring.iova, seen:gsub("%z", "-"), target.iova))
  io.stdout:flush()
  return true
end
return d
]]

-- Takes every hugepage that is free now: list of { addr, physical }.
local function take()
  local list = {}
  while true do
    local p = ffi.C.mmap(nil, PAGE, 3, 0x40022, -1, 0) -- PRIVATE | ANONYMOUS | HUGETLB
    if ffi.cast("intptr_t", p) == -1 then return list end
    ffi.fill(p, 8192, CANARY)
    list[#list + 1] = { addr = ffi.cast("uint8_t *", p), physical = memory.physical(p) }
  end
end

-- Gives them back; how many were written to.
local function give_back(list)
  local spoilt = 0
  for _, page in ipairs(list) do
    for i = 0, 8191 do
      if page.addr[i] ~= CANARY then
        spoilt = spoilt + 1
        break
      end
    end
    ffi.C.munmap(page.addr, PAGE)
  end
  return spoilt
end

local function state_of(pid) return files.read(("/proc/%d/stat"):format(pid)):match "%) (%a)" end

local function master(address) return sysfs.has(address, sysfs.BUS_MASTER) end

local function count(text, pattern)
  return select(2, text:gsub(pattern, ""))
end

describe("the guardian", function()
  local p, before, folder
  setup(function() folder = files.driver(DRIVER) end)
  before_each(function() before = memory.free_pages() end)
  after_each(function()
    if p then p:close() end
    p = nil
    memory.wait_free(before)
  end)
  teardown(files.clean)

  local function started(n)
    local line, pid, target = p:wait(("%%[(%d %%a+ pid (%%d+) [^\n]* target (0x%%x+))%%]\n"):format(n))
    return line, tonumber(pid), tonumber(target)
  end

  -- Kills the worker of the n-th start within its transfer, and returns the damage done until the transfer was over.
  local function kill_in_transfer(n)
    local line, pid = started(n)
    local start = uv.hrtime()
    uv.sleep(n * 7 % 40)
    p:kill("sigkill", pid)
    while program.alive(pid) do uv.sleep(1) end
    local pages = take()
    uv.sleep(math.max(0, 130 - (uv.hrtime() - start) / 1e6))
    return give_back(pages), line
  end

  -- Most kills are of the one that only the guardian stops, some of the one the kernel stops, too.
  for _, case in ipairs { { BARE, amount(20, 100) }, { BOUND, amount(4, 10) } } do
    it(("stops %s, killed %d times in a transfer, and starts it again with all that it had"):format(case[1], case[2]), function()
      local address, kills = case[1], case[2]
      p = program.start { "run", folder, address, "--restart", "1000", "--backoff", "0.02" }
      local iova
      for n = 1, kills do
        local spoilt, line = kill_in_transfer(n)
        assert.equal(0, spoilt, "canaries overwritten after kill " .. n)
        iova = iova or line:match "ring false (0x%x+)"
        assert.matches(("^%d %s pid %%d+ sum %d ring %s %s %s target"):format(n, n == 1 and "fresh" or "crash", n * (n + 1) / 2,
          tostring(n > 1), iova, n == 1 and "%-%-%-%-%-%-%-%-" or ("%08d"):format(n - 1)), line)
      end
      started(kills + 1)
      p:wait(("%%[%d .-runs again"):format(kills + 1))
      p:kill "sigterm"
      assert.equal(0, p:status())
      local text = p:text()
      assert.equal(kills, count(text, "died of SIGKILL; " .. address:gsub("%p", "%%%0") .. ": bus master off after"))
      assert.equal(kills, count(text, "died of SIGKILL; [^\n]*; restart %d+ of 1000 in "))
      local said = count(text, "runs again on") -- a worker that is killed at once has not said it yet
      assert.is_false(master(address))
      local off, again, slowest, longest = 0, 0, 0, 0
      for ms in text:gmatch "bus master off after ([%d.]+) ms" do off, slowest = off + ms, math.max(slowest, ms) end
      for ms in text:gmatch "(%d+) ms after the worker before" do again, longest = again + ms, math.max(longest, ms) end
      print(("%s: %d kills; bus master off %.2f ms after the death (at most %.2f), driver runs again after %.0f ms (at most %.0f)")
        :format(address, kills, off / kills, slowest, again / said, longest))
    end)
  end

  -- Starts a transfer to an address from here, whatever the worker's has come to, and waits for its end.
  local function transfer_to(regs, target)
    local function over() return bit.band(regs:read32(0x98), 1) == 0 end -- as drivers/edu/registers.lua has them
    wait.till(10, "the end of the transfer before", over)
    regs:write64(0x80, assert(luio.load "drivers/edu").BUFFER)
    regs:write64(0x88, target)
    regs:write64(0x90, 4095)
    regs:write64(0x98, 3)
    wait.till(10, "the end of a transfer", over)
  end

  -- One that is not started again: its memory goes back to the kernel, and we take it. The device is told then to write there once
  -- more, as the dead process's transfer would at any later time. How many pages were written to, bus master.
  local function killed_for_good(executable)
    local beside = assert(luio.open(BARE, { shared = true }))
    p = program.start({ "run", folder, BARE, "--restart", "0" }, { program = executable })
    local _, pid, target = started(1)
    p:kill("sigkill", pid)
    assert.equal(137, p:status())
    memory.wait_free(before)
    local pages, had = take(), false
    for _, page in ipairs(pages) do had = had or page.physical == target end
    assert.is_true(had)
    local on = master(BARE)
    transfer_to(beside.regions[0], target)
    local spoilt = give_back(pages)
    p:close()
    assert(beside:close())
    return spoilt, on
  end

  it("lets memory go only when nothing can be written to it any more", function()
    for _ = 1, amount(3, 10) do assert.same({ 0, false }, { killed_for_good "build/luio" }) end
  end)

  it("is what does it: without its step the memory is overwritten, and the spec sees it", function()
    for _ = 1, amount(2, 5) do assert.same({ 1, true }, { killed_for_good "build/luio-reckless" }) end
    -- Off again for those that come.
    local dev = assert(luio.open(BARE))
    assert(dev:bus_master(false))
    assert(dev:close())
  end)

  it("and the worker killed at once: the kernel switches bus master off before it frees the memory", function()
    local trace = "/sys/kernel/tracing/"
    local function set(name, text) files.save(trace .. name, text .. "\n") end
    os.execute "mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing"
    set("trace_clock", "counter") -- in order on all processors; their own clocks may differ by milliseconds on a busy machine
    set("kprobe_events", "p:kprobes/luio_off pci_clear_master\np:kprobes/luio_freed hugetlbfs_evict_inode")
    set("events/kprobes/enable", "1")
    local orders = {}
    for i = 1, amount(5, 50) do
      p = program.start { "run", folder, BOUND }
      local _, pid = started(1)
      files.save(trace .. "trace", "")
      -- The guardian first, or the worker first: as it comes.
      local first, second = p.pid, pid
      if i % 2 == 0 then first, second = second, first end
      for _, process in ipairs { first, second } do -- so that neither can act on the other's death
        uv.kill(process, "sigstop")
        wait.till(5, "it is stopped", function() return state_of(process) == "T" end)
      end
      uv.kill(first, "sigkill")
      uv.kill(second, "sigkill")
      p:status()
      program.gone(pid)
      memory.wait_free(before)
      local order = {}
      for what in files.read(trace .. "trace"):gmatch "luio_(%a+):" do order[#order + 1] = what end
      orders[i] = table.concat(order, " ")
      p:close()
    end
    set("events/kprobes/enable", "0")
    set("kprobe_events", "") -- none any more
    set("trace_clock", "local")
    for i, order in ipairs(orders) do assert.equal("off freed", (order:gsub("^(off) off.*freed", "%1 freed")), i) end
  end)

  it("resets a device that can be reset, unless its driver needs what that would lose", function()
    local text = [[
      local luio = require "luio"
      local uv = require "luv"
      local INTMS = 0x0c -- NVM Express Base Specification 1.4, 3.1.3: set by ones, cleared by a reset
      local d = { name = "disk", dma = {} RESET }
      function d.start(dev, reason)
        print(("[%s pid %d mask 0x%x]"):format(reason, uv.os_getpid(), dev.regions[0]:read32(INTMS)))
        io.stdout:flush()
        dev.regions[0]:write32(INTMS, 0xf)
        return true
      end
      return d
    ]]
    for _, case in ipairs { { "", "0x0", ", reset in [%d.]+ ms" }, { ", reset = false", "0xf", "after [%d.]+ ms; restart" } } do
      p = program.start { "run", files.driver((text:gsub("RESET", case[1]))), NVME }
      local pid = p:wait "%[fresh pid (%d+) mask 0x%x+%]\n.-runs"
      p:kill("sigkill", tonumber(pid))
      assert.equal(case[2], (p:wait "%[crash pid %d+ mask (0x%x+)%]\n.-runs"))
      assert.matches(case[3], p:text())
      p:kill "sigterm"
      assert.equal(0, p:status())
      p:close()
    end
  end)

  it("has the device's lock, from worker to worker; one who comes second disturbs nothing", function()
    p = program.start { "run", folder, BOUND }
    local _, pid = started(1)
    for n = 1, 2 do
      local second = program.start { "run", "drivers/edu", BOUND }
      assert.equal(1, second:status())
      assert.matches(("EBUSY: process %d drives it; stop that one"):format(p.pid), second:text())
      second:close()
      local out, status = program.run("explore " .. BOUND .. " -e 'STATUS:write(0)'")
      assert.not_equal(0, status, out)
      p:wait(("%%[%d .-runs "):format(n))
      assert.is_true(master(BOUND))
      p:kill("sigkill", pid)
      _, pid = started(n + 1)
    end
    p:kill "sigterm"
    assert.equal(0, p:status())
  end)

  it("goes on as another user: interrupts, DMA, restart", function()
    local text = [[
      local luio = require "luio"
      local uv = require "luv"
      local edu = assert(luio.load "drivers/edu")
      local d = setmetatable({ name = "humble", start = false }, { __index = edu })
      for key, value in pairs(edu) do if d[key] == value then d[key] = value end end
      d.name, d.durable = "humble", { "n" }
      function d.start(dev, reason)
        dev.state.n = (dev.state.n or 0) + 1
        local buffer = assert(dev.dma:alloc(4096, { name = "data" }))
        luio.spawn(function()
          luio.sleep(0.05) -- as the other user then
          buffer:write(0, ("hello %d"):format(dev.state.n))
          assert(edu.to_device(dev, buffer, 8))
          buffer:fill(0)
          assert(edu.from_device(dev, buffer, 8))
          local late = assert(dev.dma:alloc(2 * 2^20)) -- a page that the kernel has yet to give
          local none, _, code = luio.open "0000:00:05.0"
          print(("[%d %s pid %d uid %d %s 5! %d late 0x%x %s]"):format(dev.state.n, reason, uv.os_getpid(), uv.getuid(), buffer:read(0, 7),
            (edu.factorial(dev, 5)), late.iova, tostring(none or code)))
          io.stdout:flush()
        end)
        return true
      end
      return d
    ]]
    local dir = files.driver(text)
    -- luio has loaded its own modules before, because the user may not be allowed to read them.
    assert.equal(0, select(2, files.shell "chmod 700 lua/luio"))
    finally(function() files.shell "chmod 755 lua/luio" end)
    p = program.start { "run", dir, BOUND, "--user", "nobody" }
    local pid = p:wait "%[1 fresh pid (%d+) uid 65534 hello 1 5! 120 late 0x%x+ E%a+%]"
    p:kill("sigkill", tonumber(pid))
    p:wait "%[2 crash pid %d+ uid 65534 hello 2 5! 120 late 0x%x+ E%a+%]"
    files.save(dir .. "/part.lua", "return 'part'")
    files.save(dir .. "/init.lua", (text:gsub("return d%s*$", "d.part = require 'part' return d")))
    p:wait "%[3 reload pid %d+ uid 65534 hello 3 5! 120 late 0x%x+ E%a+%]"
    files.save(dir .. "/secret.lua", "return 'root only'")
    files.shell(("chmod 600 %s/secret.lua"):format(dir))
    files.save(dir .. "/init.lua", (text:gsub("return d%s*$", "d.part = require 'secret' return d")))
    p:wait "reload refused in stage, version 2 goes on: "
    p:kill "sigterm"
    assert.equal(0, p:status())
    assert.is_false(master(BOUND))
    p:close()
    p = program.start { "run", "drivers/edu", BOUND, "--user", "nobody-of-that-name" }
    assert.equal(1, p:status())
    assert.matches('there is no user "nobody%-of%-that%-name"', p:text())
  end)

  it("follows a device that goes away and comes back, and stops it when its driver dies after that", function()
    p = program.start { "run", folder, BOUND }
    local _, pid = started(1)
    p:wait "runs on"
    for i = 1, 3 do
      sysfs.unbind(BOUND)
      p:wait(("is gone: .*"):rep(i))
      sysfs.bind(BOUND)
      p:wait(("%%[%d returned .*is there again after"):format(i * 2))
      p:kill("sigkill", pid) -- in the transfer that the start began
      wait.till(5, "bus master off", function() return p:text():find(("%s: bus master off"):format(BOUND), 1, true) end)
      _, pid = started(i * 2 + 1)
      p:wait(("%%[%d crash .-runs again"):format(i * 2 + 1))
      assert.is_true(master(BOUND))
    end
    assert.is_nil(p:text():find("still ON", 1, true))
    p:kill "sigterm"
    assert.equal(0, p:status())
    assert.is_false(master(BOUND))
  end)

  it("lets go of a device that is gone, also for another user: somebody else may drive it then", function()
    for _, user in ipairs { {}, { "--user", "nobody" } } do
      p = program.start { "run", "drivers/edu", BOUND, unpack(user) }
      p:wait "runs on"
      sysfs.unbind(BOUND)
      p:wait "is gone: "
      local dev = assert(luio.open(BOUND)) -- no EBUSY
      assert(dev:bus_master(true))
      p:kill("sigkill", p:children()[1])
      p:wait "died of SIGKILL"
      assert.is_true(master(BOUND)) -- it is ours
      assert(dev:close())
      p:close()
      sysfs.bind(BOUND)
    end
  end)

  it("keeps the files of a device that it can stop by no others, though the worker says it is closed, and opens more", function()
    p = program.start { "run", files.driver [[
      local hostile = dofile "spec/support/hostile.lua"
      local luio = require "luio"
      local edu = assert(luio.load "drivers/edu")
      local d = { name = "forgets", dma = edu.dma }
      function d.start(dev)
        luio.spawn(function()
          luio.sleep(0.1)
          hostile.ask { kind = hostile.KINDS.CLOSED, address = dev.address }
          for i = 1, 12 do hostile.ask { kind = hostile.KINDS.OPEN, address = "another " .. i } end
          print "done"
          io.stdout:flush()
        end)
        return true
      end
      return d
    ]], BARE, "--restart", "0" }
    p:wait "done"
    assert.is_true(master(BARE))
    p:kill("sigkill", p:children()[1])
    p:status()
    assert.is_false(master(BARE), p:text())
  end)

  it("stops the device of a worker that was killed and hangs in the kernel, also one that it said was closed", function()
    if files.shell "command -v dmsetup" == "" then return pending "no dmsetup here (package dmsetup)" end
    local MODPROBE = "/run/luio/bin/modprobe"
    local must = system.must
    must("%s dm_mod && %s brd rd_nr=1 rd_size=1024", MODPROBE, MODPROBE)
    must "dmsetup create hangs --noudevsync --table '0 2048 linear /dev/ram0 0' && dmsetup suspend --noudevsync hangs"
    finally(function() files.shell "dmsetup resume --noudevsync hangs; dmsetup remove --noudevsync hangs" end)
    local text = [[
      local ffi = require "ffi"
      local luio = require "luio"
      local edu = assert(luio.load "drivers/edu")
      local hostile = dofile "spec/support/hostile.lua"
      ffi.cdef "int open(const char *, int); long pread(int, void *, size_t, long); int posix_memalign(void **, size_t, size_t);"
      local d = { name = "hangs", dma = edu.dma }
      function d.start(dev)
        luio.spawn(function()
          luio.sleep(0.1)
          hostile.ask { kind = hostile.KINDS.CLOSED, address = dev.address }
          local block = ffi.new "void *[1]"
          assert(ffi.C.posix_memalign(block, 4096, 4096) == 0)
          local fd = ffi.C.open("/dev/dm-0", 0x4000) -- O_DIRECT: the wait can't be interrupted
          assert(fd >= 0, "open")
          print "hanging"
          io.stdout:flush()
          ffi.C.pread(fd, block[0], 4096, 0)
        end)
        return true
      end
      return d
    ]]
    p = program.start { "run", files.driver(text), BARE }
    p:wait "hanging"
    local pid = p:children()[1]
    assert.is_true(master(BARE))
    wait.till(5, "it hangs", function() return state_of(pid) == "D" end)
    p:ctrl_c_twice()
    p:wait(("luio: worker %d was killed, and hangs in the kernel %%(/proc/%d/stack%%); %s: bus master off"):format(pid, pid,
      (BARE:gsub("%p", "%%%0"))))
    assert.is_true(program.alive(pid))
    assert.is_false(master(BARE))
    must "dmsetup resume --noudevsync hangs"
    assert.equal(130, p:status())
    assert.is_true(program.gone(pid))
  end)
end)
