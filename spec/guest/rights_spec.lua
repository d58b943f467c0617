--- An ordinary user, by the groups and udev rules of `make install-system`, under a real udevd: each group's rights to a
--- device, the refusals, and doctor's report on them. In the guest of spec/guest/specs: an edu, and a serial port, whose
--- BAR has no UIO map.

local files = require "spec.support.files"
local sysfs = require "spec.support.sysfs"
local udevd = require "spec.support.udevd"
local wait = require "spec.support.wait"

local EDU, SERIAL = "0000:00:04.0", "0000:00:06.0"

local must = udevd.must

-- Every way into a device that needs rights: "way: result", a line each. Then the commands' messages: a process
-- takes a second to start here.
local WAYS = [[
  local luio = require "luio"
  local cli = require "luio.tool.cli"
  local address = arg[1]
  local function say(what, ...)
    local ok, message, code = ...
    print(what .. ": " .. (ok and "yes" or tostring(code or message)))
  end
  local dev, message, code = luio.open(address)
  say("open", dev, message, code)
  if dev then
    local region
    region, message, code = dev:region(0)
    say("map", region, message, code)
    say("id", region and region:read32(0) == 0x010000ed, "other", "other")
    dev.irqs[0]:setup { capture = { { "cause", 0x24 } }, ack = { { 0x64, "cause" } } }
    region:write32(0x60, 1)
    say("wait 1", dev.irqs[0]:wait(50)) -- masked by the first: each wait unmasks
    region:write32(0x60, 2)
    say("wait 2", dev.irqs[0]:wait(50))
    say("bus master", dev:bus_master(true))
    say("dma", dev.dma:alloc(4096))
    dev:close()
  end
  for i = 2, #arg do
    local words = {}
    for word in arg[i]:gmatch "%S+" do words[#words + 1] = word end
    io.stdout:flush()
    say(words[1], nil, nil, cli.main(words))
  end]]

describe("a user who is not root", function()
  local group, script

  -- The results for a user of these groups, and all output.
  local function ways(groups, ...)
    local list = {}
    for i, name in ipairs(groups) do list[i] = group[name] end
    local commands = { ... }
    for i, command in ipairs(commands) do commands[i] = "'" .. command .. "'" end
    local found = {}
    local out = files.shell(("setpriv --reuid 65534 --regid 65534 %s build/luio %s %s %s"):format(
      list[1] and "--groups " .. table.concat(list, ",") or "--clear-groups", script, EDU, table.concat(commands, " ")))
    for what, result in ("\n" .. out):gmatch "\n([^\n:]+): ([^\n]*)%f[\n]" do found[what] = result end
    return found, out
  end

  local mode = udevd.mode

  setup(function()
    group = udevd.start()
    script = files.write("ways.lua", WAYS)
    if not sysfs.driver(EDU) then sysfs.bind(EDU) end
    udevd.trigger()
  end)
  teardown(function()
    files.clean()
    udevd.stop()
  end)

  it("in no group can list devices, and look at none", function()
    local found, out = ways({}, "list", "doctor " .. EDU)
    assert.same({ "EACCES", "0", "1" }, { found.open, found.list, found.doctor }, out)
    assert.matches("problem  node: /dev/uio%d can't be opened: EACCES\n +remedy: usermod %-aG luio nobody; then log in anew\n", out)
  end)

  it("in luio maps registers, of BARs without a UIO map, too; gets no second interrupt, no bus master and no DMA memory", function()
    sysfs.change_command(EDU, 0, sysfs.INTX_DISABLE) -- as the previous user may have left it
    local found, out = ways({ "luio" }, "get " .. SERIAL .. " IIR --force-read", "doctor " .. EDU)
    assert.same({ "yes", "yes", "yes" }, { found.open, found.map, found.id }, out)
    assert.matches("IIR +0x2 = 0x%x+", out)
    assert.same({ "EACCES", "EACCES", "EPERM" }, { found["wait 2"], found["bus master"], found.dma }, out)
    assert.equal("1", found.doctor)
    assert.matches("ok       node: /dev/uio%d may be opened", out)
    assert.matches("config can't be written %(EACCES%): interrupts can't be unmasked\n +remedy: usermod %-aG luio%-config nobody; then log in anew\n", out)
    assert.matches("rights: its luio driver takes root: unmasking its interrupt, switching bus master on, physical addresses for DMA;", out)
    assert.matches("\n +remedy: sudo luio run %-%-user nobody edu " .. EDU .. "\n", out)
  end)

  it("in luio-config, too, waits for interrupts and switches bus master; physical addresses stay root's", function()
    local found, out = ways({ "luio", "luio-config" }, "doctor " .. EDU)
    assert.same({ "yes", "yes", "yes", "EPERM" }, { found["wait 1"], found["wait 2"], found["bus master"], found.dma }, out)
    assert.matches("rights: its luio driver takes root: physical addresses for DMA;", out)
  end)

  it("has what doctor offers: root that is given up once the driver has started", function()
    local p = require("spec.support.program").start { "run", "--user", "nobody", "drivers/edu", EDU }
    finally(function() p:close() end)
    p:wait("driver edu runs on", 30)
    assert.matches("\nUid:\t65534\t65534\t", files.read(("/proc/%d/status"):format(p:children()[1])))
    p:kill "sigterm" -- killed, it would leave the registers to root
    assert.equal(0, p:status(20))
  end)

  it("loses all of that with the UIO driver, and has it again when udev has seen the next", function()
    local device = "/sys/bus/pci/devices/" .. EDU
    assert.equal("luio-config 664", (mode(device .. "/config")))
    assert.equal("luio 660", (mode(device .. "/resource0")))
    sysfs.unbind(EDU)
    must "udevadm settle -t 300"
    assert.equal("root 644", (mode(device .. "/config")))
    assert.equal("root 600", (mode(device .. "/resource0")))
    -- The node is there before its rights are: --wait is for that, too.
    local p = require("spec.support.program").start({ "-c",
      ("exec setpriv --reuid 65534 --regid 65534 --groups %s,%s build/luio run --wait=60 %s %s"):format(group.luio, group["luio-config"],
        files.driver 'return { name = "looks", match = { pci = "1234:11e8" } }', EDU) }, { program = "/bin/sh" })
    finally(function() p:close() end)
    p:wait("waiting for " .. EDU .. ": no UIO driver has it", 30)
    sysfs.bind(EDU)
    p:wait("driver looks runs on", 30)
    assert.is_true(wait.poll(100, function() return mode(device .. "/config") == "luio-config 664" end))
  end)
end)
