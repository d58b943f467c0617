--- The machine behind qemu: devices: it starts, it ends with luio, and its faults are told.

local luio = require "luio"
local qemu = require "luio.qemu"
local files = require "spec.support.files"
local program = require "spec.support.program"
local wait = require "spec.support.wait"
local uv = require "luv"

local function pid_of(dev) return assert(dev.qemu.pid) end

local function descriptors()
  local n = 0
  for _ in uv.fs_scandir_next, (uv.fs_scandir "/proc/self/fd") do n = n + 1 end
  return n
end

-- Whether a thread beside this one has work.
local function runs_beside()
  local own = tostring(uv.os_getpid())
  for tid in uv.fs_scandir_next, (uv.fs_scandir "/proc/self/task") do
    local f = tid ~= own and io.open(("/proc/self/task/%s/stat"):format(tid))
    local state = f and f:read("*a"):match "%) (%a)"
    if f then f:close() end
    if state == "R" then return true end
  end
  return false
end

describe("a QEMU machine", function()
  local answer = qemu.ANSWER
  after_each(function()
    qemu.ANSWER = answer
    assert(luio.close_all())
  end)
  teardown(files.clean)

  it("ends when its device is closed", function()
    local dev = assert(luio.open "qemu:edu")
    local pid = pid_of(dev)
    assert.is_true(program.alive(pid))
    assert(dev:close())
    assert.is_false(program.alive(pid))
  end)

  it("ends with a program that has closed another one, and leaves this one open", function()
    local script = files.write("leave.lua", [[
      local luio = require "luio"
      local one, other = assert(luio.open "qemu:edu"), assert(luio.open "qemu:edu")
      print(other.qemu.pid)
      assert(one:close())
      os.exit(3, true)
    ]])
    local out, status = files.shell(("eval \"$(build/luio env)\" && luajit '%s'"):format(script))
    assert.equal(3, status, out)
    assert.is_true(program.gone(tonumber(out)))
  end)

  it("ends when the program is killed", function()
    local script = files.write("hold.lua", [[
      local luio = require "luio"
      local dev = assert(luio.open "qemu:edu")
      print("machine " .. dev.qemu.pid)
      io.flush()
      luio.sleep(600)
    ]])
    local p = program.start { script }
    local pid = tonumber((p:wait "machine (%d+)\n"))
    assert.is_true(program.alive(pid))
    p:kill "sigkill"
    p:status()
    assert.is_true(program.gone(pid))
  end)

  it("says in QEMU's words what is wrong with its arguments", function()
    for text, said in pairs {
      ["nosuch"] = "'nosuch' is not a valid device model name",
      ["vfio-pci"] = "No provided host device",
      ["edu,nosuch=1"] = "Property 'edu.nosuch' not found",
    } do
      local dev, message, code = luio.open("qemu:" .. text)
      assert.is_nil(dev)
      assert.equal(text == "nosuch" and "ENOENT" or "EINVAL", code)
      assert.truthy(message:find("open qemu:" .. text:match "^[^,]*" .. ": QEMU", 1, true), message)
      assert.truthy(message:find(said, 1, true), message)
    end
    local _, message, code = luio.open("qemu:edu", { qemu = { "-nosuch" } })
    assert.equal("EINVAL", code)
    assert.truthy(message:find("-nosuch: invalid option", 1, true), message)
  end)

  it("is for PCI devices", function()
    local _, message, code = luio.open("qemu:isa-serial,chardev=c", { qemu = { "-chardev", "null,id=c" } })
    assert.equal("ENODEV", code)
    assert.truthy(message:find("not as a PCI device", 1, true), message)
  end)

  it("is gone when it is killed: every access says so", function()
    local dev = assert(luio.open "qemu:edu")
    local region = dev.regions[0]
    uv.kill(pid_of(dev), "sigkill")
    wait.till(100, "it has ended", function() return not pcall(region.read32, region, 0) end)
    local ok, message = pcall(region.read32, region, 0)
    assert.is_false(ok)
    assert.truthy(tostring(message):find("qemu-system-x86_64: it has ended", 1, true), tostring(message))
    assert.is_false(pcall(region.write32, region, 4, 1))
  end)

  it("that has ended ends the waits for its device", function()
    local dev = assert(luio.open "qemu:edu")
    local ok, message, code
    luio.run(function()
      local waiter = luio.spawn(function() ok, message, code = dev.irqs[0]:wait(100) end)
      uv.kill(pid_of(dev), "sigkill")
      assert(waiter:join(100))
    end)
    assert.is_nil(ok)
    assert.equal("ENODEV", code, message)
    assert.truthy(message:find("its QEMU has ended", 1, true), message)
  end)

  it("takes no processor time once it was killed", function()
    local dev = assert(luio.open "qemu:edu")
    uv.kill(pid_of(dev), "sigkill")
    wait.till(100, "it has ended", function() return not pcall(dev.regions[0].read32, dev.regions[0], 0) end)
    local running = 0
    for _ = 1, 50 do
      uv.sleep(2)
      if runs_beside() then running = running + 1 end
    end
    assert.is_true(running < 25, "a thread spins")
  end)

  it("does not live on in a child that the program forks", function()
    local script = files.write("fork.lua", [[
      local luio, posix = require "luio", require "luio.posix"
      local dev = assert(luio.open "qemu:edu")
      local child = posix.fork()
      if child == 0 then
        while true do posix.poll(nil, 0, 1000) end
      end
      print(("machine %d child %d"):format(dev.qemu.pid, child))
      io.flush()
      luio.sleep(600)
    ]])
    local p = program.start { script }
    local pid, child = p:wait "machine (%d+) child (%d+)\n"
    finally(function() uv.kill(tonumber(child), "sigkill") end)
    p:kill "sigkill"
    p:status()
    assert.is_true(program.gone(tonumber(pid)))
    assert.is_true(program.alive(tonumber(child)))
  end)

  it("does not mind a child that closes its device", function()
    local script = files.write("close.lua", [[
      local ffi, luio, posix = require "ffi", require "luio", require "luio.posix"
      local dev = assert(luio.open "qemu:edu")
      local edu = dev.regions[0]
      local child = posix.fork()
      if child == 0 then
        local ok = pcall(dev.close, dev)
        posix._exit(ok and 7 or 8)
      end
      local status = ffi.new "int[1]"
      assert(posix.waitpid(child, status, 0) == child)
      assert(edu:read32(0) == 0x010000ed)
      local irq = dev.irqs[0]
      irq:setup { capture = { { "cause", 0x24 } }, ack = { { 0x64, "cause" } } }
      assert(dev:bus_master(true))
      local buffer = assert(dev.dma:alloc(64))
      luio.run(function()
        edu:write64(0x80, buffer.iova)
        edu:write64(0x88, 0x40000)
        edu:write64(0x90, 4)
        edu:write64(0x98, 5) -- it ends some 100 ms later, while no access is under way: the machine's thread hears of it
        print(("child %d, cause 0x%x"):format(status[0] / 256, assert(irq:wait(100)).cause))
      end)
      assert(dev:close())
    ]])
    local p = program.start { script }
    assert.equal(0, p:status(), p:text())
    assert.equal("child 7, cause 0x100\n", p:text())
  end)

  it("that has ended is not taken again", function()
    local dev = assert(luio.open "qemu:edu")
    uv.kill(pid_of(dev), "sigkill")
    dev:vanish "unplugged"
    local ok, message, code = dev:retake()
    assert.is_nil(ok)
    assert.equal("ENODEV", code)
    assert.truthy(message:find("close it and open it anew", 1, true), message)
  end)

  it("is stuck when it does not answer in time", function()
    qemu.ANSWER = 0.5
    local dev = assert(luio.open "qemu:edu")
    local region = dev.regions[0]
    uv.kill(pid_of(dev), "sigstop")
    local ok, message = pcall(region.read32, region, 0)
    assert.is_false(ok)
    assert.truthy(tostring(message):find("it does not answer: is it stopped?", 1, true), tostring(message))
  end)

  it("leaves nothing behind, many times", function()
    local before
    for round = 1, 12 do
      local dev = assert(luio.open "qemu:edu")
      local pid = pid_of(dev)
      assert.equal(0x010000ed, dev.regions[0]:read32(0))
      assert(dev:close())
      assert.is_false(program.alive(pid))
      if round == 2 then before = descriptors() end
    end
    assert.equal(before, descriptors())
  end)

  it("is another one for each device, several at once", function()
    local devices = {}
    for i = 1, 4 do devices[i] = assert(luio.open "qemu:edu") end
    for i, dev in ipairs(devices) do dev.regions[0]:write32(4, i) end
    for i, dev in ipairs(devices) do assert.equal(bit.bnot(i) % 2 ^ 32, dev.regions[0]:read32(4)) end
  end)

  it("has bridges", function()
    local dev = assert(luio.open("qemu:edu,bus=rp", { qemu = { "-device", "pcie-root-port,id=rp,slot=1,chassis=1" } }))
    assert.equal(0x010000ed, dev.regions[0]:read32(0))
    assert(dev:bus_master(true))
  end)

  it("answers QMP", function()
    local dev = assert(luio.open "qemu:edu")
    assert.equal("running", assert(dev.qemu:command "query-status").status)
    local _, message, code = dev.qemu:command("qom-get", { path = "/nosuch", property = "x" })
    assert.equal("EINVAL", code)
    assert.truthy(message:find "^qom%-get: QEMU: ", message)
  end)
end)
