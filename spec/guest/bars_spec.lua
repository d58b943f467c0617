--- Rights to the registers while a driver has bus master on. A member of the group luio may write them before and after, but
--- not then, because the member could have the device write to any memory. Under a real udevd with the rules of `make
--- install-system`; in the guest of spec/guest/specs.

local amount = require "spec.support.amount"
local files = require "spec.support.files"
local luio = require "luio"
local program = require "spec.support.program"
local sysfs = require "spec.support.sysfs"
local udevd = require "spec.support.udevd"
local uv = require "luv"
local wait = require "spec.support.wait"

local TIMES = amount(1, 100)
local EDU = "0000:00:04.0"
local MEMBER = "12345" -- the only member of luio
local DEVICE = "/sys/bus/pci/devices/" .. EDU
local LOCAL_RULES = udevd.RULES .. "59-luio-local.rules"

describe("a device's registers", function()
  local group, node
  local running = {}

  setup(function()
    group = udevd.start()
    if not sysfs.driver(EDU) then sysfs.bind(EDU) end
    udevd.trigger()
    node = "/dev/" .. udevd.must("ls %s/uio", DEVICE):match "uio%d+"
  end)
  teardown(function()
    files.clean()
    udevd.stop()
  end)
  before_each(function() assert.same({ "luio 660", "luio 660" }, { udevd.mode(node), udevd.mode(DEVICE .. "/resource0") }) end)
  after_each(function()
    for _, p in ipairs(running) do p:close() end
    running = {}
    if os.remove(LOCAL_RULES) then udevd.must "udevadm control --reload" end
    if udevd.mode(node) ~= "luio 660" then udevd.trigger() end
  end)

  local function as_member(command)
    return files.shell(("setpriv --reuid %s --regid %s --groups %s sh -c '%s' 2>&1"):format(MEMBER, MEMBER, group.luio, command))
  end

  -- Whether a member can open what leads to the registers, for writing.
  local function may_open()
    local out = as_member(("for f in %s %s; do (: <>$f) 2>/dev/null && echo yes || echo no; done"):format(node, DEVICE .. "/resource0"))
    local first, second = out:match "^(%l+)\n(%l+)\n$"
    assert.equal(first, second, out)
    return first == "yes"
  end

  local function run(...)
    local p = program.start { "run", "--no-watch", "--backoff", "0.1", ... }
    running[#running + 1] = p
    return p
  end

  -- edu's driver at work: it does DMA, so bus master is on.
  local function drive(...)
    local args = { ... }
    args[#args + 1] = "drivers/edu"
    args[#args + 1] = EDU
    local p = run(unpack(args))
    p:wait("driver edu runs on", 30)
    assert.is_true(sysfs.has(EDU, sysfs.BUS_MASTER))
    return p
  end

  local function given_back()
    assert.is_true(wait.poll(200, function() return udevd.mode(node) == "luio 660" and udevd.mode(DEVICE .. "/resource0") == "luio 660" end),
      udevd.mode(node))
    assert.is_true(may_open())
    assert.is_false(sysfs.has(EDU, sysfs.BUS_MASTER))
  end

  it("are the group's before and after a driver, and its alone while it has bus master on", function()
    local SET = ("build/luio set %s DMA_SRC=0x1000 --force"):format(EDU)
    local out, status = as_member(SET)
    assert.equal(0, status, out)
    local p = drive()
    assert.same({ "luio 600", "luio 600", "luio-config 664" }, {
      udevd.mode(node), udevd.mode(DEVICE .. "/resource0"), udevd.mode(DEVICE .. "/config"),
    })
    assert.is_false(may_open())
    out, status = as_member(SET)
    assert.equal(1, status, out)
    assert.matches("resource0: EACCES: its bus master is on, and so long its registers are its driver's alone", out)
    out = as_member("build/luio doctor " .. EDU)
    assert.matches("problem  node: " .. node .. " can't be opened: EACCES: bus master is on, and so long its registers are its driver's alone\n"
      .. " +remedy: end its driver; or let the group have them all the same: LUIO_SHARED_BARS", out)
    udevd.trigger() -- as the installation of a package does
    assert.is_false(may_open())
    for i = 1, 2 do -- each report of a change comes from a look after the udev event
      sysfs.change_command(EDU, sysfs.MEMORY, 0)
      wait.till(10, "memory BARs are on again", function() return p:count "its memory BARs were switched off" == i end)
    end
    assert.is_true(sysfs.has(EDU, sysfs.BUS_MASTER))
    p:kill "sigterm"
    assert.equal(0, p:status(20))
    assert.is_nil(p:text():find("given", 1, true), p:text())
    given_back()
  end)

  it("are its driver's alone, too, when that switches bus master on by config space", function()
    local p = run(files.driver [[
      return { name = "direct", start = function(dev)
        assert(dev.config:write16(4, dev.config:read16(4) + 4))
        return true
      end }
    ]], EDU)
    p:wait("driver direct runs on", 30)
    assert.is_true(sysfs.has(EDU, sysfs.BUS_MASTER))
    assert.is_false(may_open())
    p:kill "sigterm"
    assert.equal(0, p:status(20))
    given_back()
  end)

  -- As after a sleep of the machine, or by `dd`: bus master goes off, and udev is asked, before the driver looks.
  local function lose(p, meanwhile)
    local worker = p:children()[1]
    uv.kill(worker, "sigstop")
    sysfs.change_command(EDU, sysfs.BUS_MASTER, 0)
    udevd.trigger()
    assert.is_true(may_open())
    if meanwhile then meanwhile() end
    uv.kill(worker, "sigcont")
  end

  it("are its driver's alone again when somebody had switched bus master off, and udev had given them to the group", function()
    local p = drive()
    lose(p)
    p:wait("bus master was off: transfers meanwhile did not reach memory", 20)
    assert.is_true(sysfs.has(EDU, sysfs.BUS_MASTER))
    assert.is_false(may_open())
    p:kill "sigterm"
    assert.equal(0, p:status(20))
    given_back()
  end)

  it("are taken from the group again by a new worker where the driver had given root up", function()
    for _, user in ipairs { "daemon", "nobody" } do
      local p = drive("--user", user, "--restart", "100")
      for i = 1, TIMES do
        lose(p)
        p:wait("bus master of " .. EDU .. " stays off: its registers %(resourceN, /dev/uio%d+%) were given to others", 20)
        assert.is_true(wait.poll(300, function() return p:count "driver edu runs again" == i end), p:text())
        assert.is_true(sysfs.has(EDU, sysfs.BUS_MASTER))
        assert.is_false(may_open())
      end
      assert.matches("were given to others, and " .. user .. " may not take them back: a new worker does, as root", p:text())
      p:kill "sigterm"
      assert.equal(0, p:status(20))
      given_back()
    end
  end)

  it("are noticed to be the group's also when bus master is on again before the driver has looked", function()
    local p = drive()
    lose(p, function() sysfs.change_command(EDU, sysfs.BUS_MASTER, sysfs.BUS_MASTER) end)
    p:wait("others were given its registers", 20)
    assert.is_true(sysfs.has(EDU, sysfs.BUS_MASTER))
    assert.is_false(may_open())
  end)

  it("that a member opened while bus master was off keep it off, and he is named; it comes on when he has ended", function()
    local holder
    local function hold()
      holder = program.start({ "--reuid", MEMBER, "--regid", MEMBER, "--groups", group.luio, "sh", "-c",
        "exec 3<>" .. DEVICE .. "/resource0; echo open; exec sleep 600" }, { program = "/usr/bin/setpriv" })
      running[#running + 1] = holder
      holder:wait("open", 30)
    end
    -- The files may be as they should when the driver looks: udev, or an administrator, has taken them back.
    for _, after in ipairs { "true", ("chown 0:%s %s/resource0 %s; chmod 600 %s/resource0 %s"):format(group.luio, DEVICE, node, DEVICE, node) } do
      local p = drive()
      lose(p, function()
        hold()
        udevd.must("%s", after)
      end)
      p:wait(("process %d %%(.-%%) of user %s can write its registers"):format(holder.pid, MEMBER), 20)
      assert.is_false(sysfs.has(EDU, sysfs.BUS_MASTER))
      assert.is_false(may_open())
      holder:kill "sigkill"
      p:wait("bus master stayed off until they were its driver's alone", 20)
      assert.is_true(sysfs.has(EDU, sysfs.BUS_MASTER))
      p:kill "sigterm"
      assert.equal(0, p:status(20))
      given_back()
    end
  end)

  it("stay its driver's while that is started again, and are given back when it is not", function()
    local p = drive("--restart", tostring(TIMES))
    for i = 1, TIMES do
      local worker = p:children()[1]
      p:kill("sigkill", worker)
      p:wait(("restart %d of %d"):format(i, TIMES), 30)
      assert.is_false(may_open())
      assert.is_true(wait.poll(300, function() return p:count "driver edu runs again" == i end), p:text())
      assert.is_false(may_open())
    end
    p:kill("sigkill", p:children()[1])
    p:wait("not restarted", 30)
    p:status(20)
    given_back()
  end)

  it("stay root's when the guardian is killed, too, until udev is asked, or the next driver ends", function()
    local p = drive()
    uv.kill(-p.pid, "sigkill") -- both at once
    p:status(20)
    assert.is_true(wait.poll(200, function() return not sysfs.has(EDU, sysfs.BUS_MASTER) end))
    assert.is_false(may_open())
    local out = files.shell("build/luio doctor " .. EDU)
    local remedy = out:match("note +node: " .. node .. " is not the group's: a driver was killed together with its guardian[^\n]*\n +remedy: ([^\n]*)\n")
    assert(remedy, out)
    udevd.must("%s && udevadm settle -t 300", remedy)
    given_back()
    p = drive()
    uv.kill(-p.pid, "sigkill")
    p:status(20)
    assert.is_false(may_open())
    p = drive()
    p:kill "sigterm"
    assert.equal(0, p:status(20))
    given_back()
  end)

  it("are those of the user that root is given up for; of nobody they are root's", function()
    local function owner(user, check)
      local p = drive("--user", user)
      local name = udevd.must("stat -c %%U %s %s/resource0", node, DEVICE)
      assert.is_false(may_open())
      if check then check(p) end
      p:kill "sigterm"
      assert.equal(0, p:status(20))
      given_back()
      return name
    end
    assert.equal("daemon\ndaemon\n", owner("daemon", function(p)
      -- A process of the permitted owner that holds the registers does not prevent a restart of the driver.
      local holder = program.start({ "--reuid", "daemon", "--clear-groups", "sh", "-c", "exec 3<>" .. node .. "; echo open; exec sleep 600" },
        { program = "/usr/bin/setpriv" })
      running[#running + 1] = holder
      holder:wait("open", 30)
      p:kill("sigkill", p:children()[1])
      p:wait("driver edu runs again", 30)
      holder:close()
    end))
    assert.equal("root\nroot\n", owner "nobody")
  end)

  it("are not taken by a driver without bus master", function()
    local p = run(files.driver 'return { name = "looks", match = { pci = "1234:11e8" } }', EDU)
    p:wait("driver looks runs on", 30)
    assert.is_true(may_open())
  end)

  it("that a member has open or mapped keep bus master off, and he is named", function()
    local mapped = files.write("mapped.lua", ([[
      local luio = require "luio"
      local dev = assert(luio.open(%q, { shared = true }))
      dev:region(0)
      print "mapped"
      io.stdout:flush()
      luio.run(function() luio.sleep(600) end)]]):format(EDU))
    local HOLD = {
      { "exec 3<>" .. node .. "; echo open; exec sleep 600", "open" },
      { "exec 3<>" .. DEVICE .. "/resource0; echo open; exec sleep 600", "open" },
      { "exec build/luio " .. mapped, "mapped" }, -- its descriptor is closed
      { "exec unshare -rm sh -c \"touch /tmp/n; mount --bind " .. node .. " /tmp/n; exec 3<>/tmp/n; echo open; exec sleep 600\"", "open" },
    }
    for _, hold in ipairs(amount({ HOLD[3], HOLD[4] }, HOLD)) do
      local holder = program.start({ "--reuid", MEMBER, "--regid", MEMBER, "--groups", group.luio, "sh", "-c", hold[1] },
        { program = "/usr/bin/setpriv" })
      running[#running + 1] = holder
      holder:wait(hold[2], 30)
      local p = run("drivers/edu", EDU)
      assert.equal(1, p:status(30))
      assert.matches(("process %d %%(.-%%) of user %s can write its registers, and so could have it write to any memory: kill %d;"):format(
        holder.pid, MEMBER, holder.pid), p:text())
      given_back()
      holder:kill "sigkill"
      assert.is_true(program.gone(holder.pid))
    end
    -- A process that can only read does no harm.
    local reader = program.start({ "--reuid", MEMBER, "--regid", MEMBER, "--groups", group.luio, "sh", "-c",
      "exec 3<" .. DEVICE .. "/resource0; echo open; exec sleep 600" }, { program = "/usr/bin/setpriv" })
    running[#running + 1] = reader
    reader:wait("open", 30)
    drive()
  end)

  it("are the group's all the same where a rule says so", function()
    files.save(LOCAL_RULES, ('SUBSYSTEM=="uio", KERNELS=="%s", ENV{LUIO_SHARED_BARS}="1"\n'):format(EDU))
    udevd.must "udevadm control --reload"
    udevd.trigger()
    local p = drive()
    assert.is_true(may_open())
    udevd.trigger()
    assert.is_true(may_open())
    p:kill "sigterm"
    assert.equal(0, p:status(20))
  end)

  it("are taken although udev comes late: a device is bound and driven at once", function()
    for _ = 1, TIMES do
      sysfs.unbind(EDU)
      udevd.must "udevadm settle -t 300"
      local p = drive "--bind"
      node = "/dev/" .. udevd.must("ls %s/uio", DEVICE):match "uio%d+"
      udevd.must "udevadm settle -t 300"
      assert.is_false(may_open())
      p:kill "sigterm"
      assert.equal(0, p:status(20))
      given_back()
    end
  end)

  it("a member of luio-config can't take; he is told", function()
    local script = files.write("config.lua", ([[
      local luio = require "luio"
      local dev = assert(luio.open(%q))
      dev.on_warning = print
      assert(dev:bus_master(true))
      assert(dev:close())]]):format(EDU))
    local out = files.shell(("setpriv --reuid %s --regid %s --groups %s,%s build/luio %s"):format(MEMBER, MEMBER, group.luio,
      group["luio-config"], script))
    assert.matches("others may open /dev/uio%d+ while bus master of " .. EDU .. " is on, and so could have it write to any memory", out)
  end)

  it("that go away with the device are nobody's but root's", function()
    local dev = assert(luio.open(EDU))
    assert(dev:bus_master(true))
    sysfs.unbind(EDU)
    assert.is_true(wait.poll(100, function() return require("luio.ffi").C.luio_device_present(dev.handle) == 0 end))
    dev:vanish "unbound"
    udevd.must "udevadm settle -t 300"
    assert.equal("root 600", udevd.mode(DEVICE .. "/resource0"))
    sysfs.bind(EDU)
    udevd.must "udevadm settle -t 300"
    node = "/dev/" .. udevd.must("ls %s/uio", DEVICE):match "uio%d+"
    given_back()
    assert(dev:retake())
    assert(dev:bus_master(true))
    assert.is_false(may_open())
    assert(dev:close())
    given_back()
  end)
end)
