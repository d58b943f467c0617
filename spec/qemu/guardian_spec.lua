--- `luio run` on a device of QEMU's: the guardian keeps the machine from worker to worker (runtime/guardian_machines.c). What it does for
--- a real device is shown in spec/guest/guardian_spec.lua.

local amount = require "spec.support.amount"
local files = require "spec.support.files"
local program = require "spec.support.program"
local uv = require "luv"

-- At each start it prints what the device, its DMA memory and its state are like; LIVENESS gives the complement of what was written, at first 0.
local DRIVER = [[
  local bit = require "bit"
  local luio = require "luio"
  local uv = require "luv"
  local edu = assert(luio.load "drivers/edu")
  local d = { name = "keeper", registers = edu.registers, irq = edu.irq, dma = edu.dma, durable = { "n" } }
  function d.quiesce(dev)
    local over = dev.regs.DMA_CMD:wait({ RUN = 0 }, 60)
    return over, "a transfer does not end", "ETIMEDOUT"
  end
  function d.start(dev, reason)
    local before = bit.band(dev.config:read16(4), 4)
    dev.state.n = (dev.state.n or 0) + 1
    local ring = assert(dev.dma:alloc(8192, { name = "ring" }))
    local had = ring:read(0, 8)
    ring:write(0, ("%08d"):format(dev.state.n))
    local target = assert(dev.dma:alloc(4096))
    local kept = bit.bnot(dev.regs.LIVENESS:read())
    dev.regs.LIVENESS:write(kept + 1)
    dev:checkpoint()
    print(("[%d %s pid %d qemu %d kept %d ring 0x%x %s target 0x%x]"):format(dev.state.n, reason, uv.os_getpid(), dev.qemu.pid, kept,
      ring.iova, (had:gsub("%z", "-")), target.iova))
    io.stdout:flush()
    d.work(dev, target)
    return true
  end
  function d.work(dev, target)
    luio.spawn(function()
      for i = 1, 1e9 do
        assert(edu.factorial(dev, 5) == 120)
        assert(edu.from_device(dev, target, 4095))
      end
    end)
  end
  return d
]]

describe("the guardian of a device of QEMU's", function()
  local p
  after_each(function()
    if p then p:close() end
    p = nil
  end)
  teardown(files.clean)

  local function started(n)
    local line, pid, qemu = p:wait(("%%[(%d %%a+ pid (%%d+) qemu (%%d+) [^\n]*)%%]\n"):format(n))
    return line, tonumber(pid), tonumber(qemu)
  end

  it("keeps its machine when the driver's process is killed: device, named memory, durable state", function()
    local kills = amount(8, 100)
    p = program.start { "run", files.driver(DRIVER), "qemu:edu", "--restart", "1000", "--backoff", "0.02" }
    local ring, machine
    for n = 1, kills do
      local line, pid, qemu = started(n)
      ring, machine = ring or line:match "ring (0x%x+)", machine or qemu
      assert.equal(machine, qemu)
      assert.matches(("^%d %s pid %%d+ qemu %%d+ kept %s ring %s %s target"):format(n, n == 1 and "fresh" or "crash",
        n == 1 and "%-1" or n - 2, ring,
        n == 1 and "%-%-%-%-%-%-%-%-" or ("%08d"):format(n - 1)), line)
      uv.sleep(n * 17 % 150) -- at another point each time: in an access, in a wait, in a transfer
      p:kill("sigkill", pid)
      p:wait(("died of SIGKILL; 1 QEMU machine kept; restart %d of"):format(n))
    end
    local _, _, qemu = started(kills + 1)
    p:wait(("%%[%d .-runs again"):format(kills + 1))
    p:kill "sigterm"
    assert.equal(0, p:status(), p:text())
    assert.is_true(program.gone(qemu))
    assert.is_nil(p:text():find("stay unused", 1, true))
  end)

  it("has bus master switched off before the next driver sees the device", function()
    local text = DRIVER:gsub("dev%.state%.n = %(dev", 'print("master " .. before) %0'):gsub("d%.dma = edu%.dma", ""):gsub(
      "function d%.quiesce%(dev%)", '%0 print("quiesce, master " .. bit.band(dev.config:read16(4), 4))')
    p = program.start { "run", files.driver(text), "qemu:edu", "--backoff", "0.02" }
    local _, pid = started(1)
    p:kill("sigkill", pid)
    started(2)
    p:wait "quiesce, master 0"
  end)

  it("lets memory be used again when the device is settled, and not before", function()
    for quiet, said in pairs { [true] = false, [false] = "stay unused: qemu:edu can't be reset, and driver keeper has no quiesce" } do
      local text = quiet and DRIVER or DRIVER:gsub("function d%.quiesce", "local function unused")
      p = program.start { "run", files.driver(text), "qemu:edu", "--backoff", "0.02" }
      local line, pid = started(1)
      local first = line:match "target (0x%x+)"
      p:kill("sigkill", pid)
      line = started(2)
      p:wait "runs again"
      if said then p:wait((said:gsub("%p", "%%%0"))) end
      assert.equal(quiet, line:match "target (0x%x+)" == first, line)
      p:close()
    end
  end)

  it("goes on with a new machine if QEMU ended, and says so", function()
    local text = DRIVER:gsub("function d%.work.-\n  end\n  return", "function d.work() end\n  return")
    p = program.start { "run", files.driver(text), "qemu:edu", "--backoff", "0.02" }
    local _, pid, qemu = started(1)
    p:wait "runs on"
    uv.kill(pid, "sigstop") -- it can't notice
    uv.kill(qemu, "sigkill")
    assert.is_true(program.gone(qemu))
    p:kill("sigkill", pid)
    local line, _, new = started(2)
    assert.not_equal(qemu, new)
    assert.matches("^2 crash .* kept %-1 ring 0x%x+ %-%-%-%-%-%-%-%- ", line)
    p:wait "qemu:edu has a new machine: the one of the worker that died is lost, .*: qemu%-system%-x86_64: it has ended"
    p:kill "sigterm"
    assert.equal(0, p:status())
    assert.is_true(program.gone(new))
  end)

  it("ends QEMU when it ends itself, by whatever way", function()
    for _, how in ipairs { "guardian", "both", "worker, not restarted", "twice" } do
      p = program.start { "run", files.driver(DRIVER), "qemu:edu", "--restart", how:find "worker" and "0" or "5" }
      local _, pid, qemu = started(1)
      p:wait "runs on"
      if how ~= "guardian" then p:kill("sigkill", pid) end
      if how == "twice" then
        _, pid = started(2)
        p:kill("sigkill", pid)
        started(3)
      end
      if not how:find "worker" then p:kill "sigkill" end
      p:status()
      assert.is_true(program.gone(qemu), how)
      if how == "guardian" then assert.is_true(program.gone(pid)) end
      p:close()
    end
  end)

  it("reloads a saved driver on the same machine", function()
    local dir = files.driver(DRIVER)
    p = program.start { "run", dir, "qemu:edu" }
    local _, _, qemu = started(1)
    p:wait "runs on"
    files.save(dir .. "/init.lua", (DRIVER:gsub("local bit", "-- another\n  local bit", 1)))
    local line, pid, same = started(2)
    assert.equal(qemu, same)
    assert.matches("^2 reload .* kept 0 ", line)
    p:wait "reload"
    p:kill("sigkill", pid)
    line = started(3)
    assert.matches("^3 crash .* kept 1 ", line)
  end)

  it("keeps each of several machines, and devices in one", function()
    local text = [[
      local bit = require "bit"
      local luio = require "luio"
      local uv = require "luv"
      local d = { name = "several" }
      local function mark(dev)
        local kept = bit.bnot(dev.regions[0]:read32(4))
        dev.regions[0]:write32(4, kept + 1)
        return kept
      end
      function d.start(dev, reason)
        local beside = assert(dev.qemu:open "b")
        local other = assert(luio.open("qemu:edu", { qemu = {} }))
        local third = assert(luio.open("qemu:edu", { qemu = {} }))
        local buffers = {}
        for i, one in ipairs { dev, beside, other, third } do
          local buffer = one.dma:alloc(4096, { name = "kept" })
          buffers[i] = ("%x:%s"):format(buffer.iova, (buffer:read(0, 4):gsub("%z", "-")))
          buffer:write(0, ("<%d%d>"):format(i, i))
        end
        for _, one in ipairs { beside, other, third } do one:bus_master(true) end
        third.regions[0]:write32(4, bit.bnot(third.regions[0]:read32(4)) + 10)
        print(("[%s pid %d: %d %d %d %d %s machines %d %d %d]"):format(reason, uv.os_getpid(), mark(dev), mark(beside), mark(other),
          mark(third), table.concat(buffers, " "), dev.qemu.pid, other.qemu.pid, third.qemu.pid))
        io.stdout:flush()
        return true
      end
      return d
    ]]
    p = program.start { "run", files.driver(text), "qemu:edu,id=a", "--qemu", "-device", "--qemu", "edu,id=b", "--backoff", "0.02" }
    local pid, rest, machines = p:wait "%[fresh pid (%d+): %-1 %-1 %-1 9 ([^\n]*) (machines [%d ]+)%]"
    local a, b, c = rest:match "^(%x+):%-%-%-%- (%x+):%-%-%-%- (%x+):%-%-%-%- "
    assert.not_equal(a, b)
    p:kill("sigkill", tonumber(pid))
    -- The second of two devices of one address is not guarded: its state is kept, its memory not.
    local again = p:wait "%[crash pid %d+: 0 0 0 20 ([^\n]*)%]"
    assert.equal(("%s:<11> %s:<22> %s:<33> "):format(a, b, c), again:match "^%S+ %S+ %S+ ")
    assert.truthy(again:find(machines, 1, true), again)
    p:kill "sigterm"
    assert.equal(0, p:status(), p:text())
    for qemu in machines:gmatch "%d+" do assert.is_true(program.gone(tonumber(qemu))) end
  end)

  it("ends a machine that the next worker does not ask for", function()
    local text = [[
      local luio = require "luio"
      local uv = require "luv"
      local d = { name = "forgets" }
      function d.start(dev, reason)
        local other = reason == "fresh" and assert(luio.open("qemu:pci-serial", { qemu = {} }))
        print(("[%s pid %d machines %d %s]"):format(reason, uv.os_getpid(), dev.qemu.pid, other and other.qemu.pid or 0))
        io.stdout:flush()
        return true
      end
      return d
    ]]
    p = program.start { "run", files.driver(text), "qemu:edu", "--backoff", "0.02" }
    local pid, one, other = p:wait "%[fresh pid (%d+) machines (%d+) (%d+)%].-runs on"
    p:kill("sigkill", tonumber(pid))
    p:wait(("2 QEMU machines kept.*%%[crash pid %%d+ machines %s 0%%].-runs again"):format(one))
    assert.is_true(program.gone(tonumber(other)))
    assert.is_true(program.alive(tonumber(one)))
  end)

  it("has vectors again after a crash", function()
    local text = [[
      local luio = require "luio"
      local uv = require "luv"
      local d = { name = "vectors", dma = {} }
      function d.start(dev, reason)
        luio.spawn(function()
          dev.regions[0]:write32(0x60, 1)
          local event = assert(dev.irqs[0]:wait(60))
          dev.regions[0]:write32(0x64, 1)
          print(("[%s pid %d event]"):format(reason, uv.os_getpid()))
          io.stdout:flush()
        end)
        return true
      end
      return d
    ]]
    p = program.start { "run", files.driver(text), "qemu:edu", "--vectors", "1", "--backoff", "0.02" }
    for n = 1, 4 do
      local pid = p:wait(n == 1 and "%[fresh pid (%d+) event%]" or ("restart %d of .-%%[crash pid (%%d+) event%%]"):format(n - 1))
      p:kill("sigkill", tonumber(pid))
    end
  end)

  it("is for the user who starts it: QEMU would stay root's", function()
    program.refuses("run drivers/edu qemu:edu --user nobody", 2, "--user nobody: a qemu: device needs no root")
  end)
end)
