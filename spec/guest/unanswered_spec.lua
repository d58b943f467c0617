--- A device whose memory is switched off, at work with a real kernel: QEMU reads zeros there, hardware ones, and either looks like a
--- value. Each command says so in place of it, and no status says that all is well.

local files = require "spec.support.files"
local luio = require "luio"
local program = require "spec.support.program"
local sysfs = require "spec.support.sysfs"
local system = require "spec.support.system"
local wait = require "spec.support.wait"

local EDU = system.EDU
local function memory(on)
  sysfs.change_command(EDU, on and 0 or sysfs.MEMORY, on and sysfs.MEMORY or 0)
end

-- The message in that case.
local function why()
  return ("%s does not decode its memory (command register 0x%04x): what is read there is no register's value, and writes are lost; "
    .. "setpci -s %s COMMAND=2:2"):format(EDU, sysfs.command(EDU), EDU)
end

describe("a device that does not decode its memory", function()
  setup(system.start)
  teardown(system.stop)
  before_each(function()
    assert.matches("0x010000ed", (system.fine("get %s ID", EDU)))
    memory(false)
  end)
  after_each(function() memory(true) end)

  for _, command in ipairs { "get %s ID", "get %s 0x0", "dump %s", "dump %s 0x0+0x10", "snapshot %s", "set %s LIVENESS=1", "watch %s ID --for 0.1" } do
    it(("gives no values to luio %s, but the reason"):format(command:format "EDU"), function()
      assert.same({ ("luio: %s\n"):format(why()), 1 }, { system.run(command, EDU) })
    end)
  end

  it("is read all the same when that is asked for, and it is said", function()
    local out = system.fine("get %s ID --force-read", EDU)
    assert.matches(why(), out, 1, true)
    assert.matches("\nID 0x0 = 0x00000000", out)
    assert.matches(why(), (system.fine("set %s LIVENESS=1 --dry-run", EDU)), 1, true)
  end)

  it("is no other side of a comparison", function()
    memory(true)
    local path = files.write("before.json", system.fine("snapshot %s", EDU))
    memory(false)
    assert.same({ ("luio: %s\n"):format(why()), 1 }, { system.run("diff %s %s", path, EDU) })
  end)

  it("shows at the prompt what was read, and fails what was done there", function()
    local out, status = system.run("explore -r %s -e 7 -e ID:read() -e 8", EDU)
    assert.equal(1, status)
    assert.equal(("note: %s\n7\n0\n8\n"):format(why()), (out:gsub("luio: [^\n]*\n", "")))
    assert.matches(("luio: %s\n"):format(why()), out, 1, true)
    out, status = system.run("explore -r %s -e 7", EDU)
    assert.same({ ("note: %s\n7\n"):format(why()), 0 }, { out, status })
  end)

  it("is opened with a warning, and a driver that does not start there says why", function()
    for _, options in ipairs { {}, { read_only = true } } do
      local dev = assert(luio.open(EDU, options))
      assert.same({ why() }, dev.warnings)
      assert(dev:close())
    end
    local started, message = luio.start("edu", EDU)
    assert.is_nil(started)
    assert.matches("ID.MAGIC is 0x00, not 0xed; " .. why(), message, 1, true)
  end)

  it("ends no wait for a value, and watching goes on when it is on again", function()
    memory(true)
    system.fine("set %s LIVENESS=1", EDU)
    local watch = program.start { "watch", EDU, "LIVENESS", "ID", "--until", "LIVENESS=0", "--for", "60" }
    finally(function() watch:close() end)
    local n = 1
    wait.till(30, "a change is seen", function()
      n = n + 1
      system.fine("set %s LIVENESS=%d", EDU, n)
      return watch:text():find(" -> ", 1, true)
    end)
    memory(false)
    watch:wait("note: [^\n]* does not decode its memory [^\n]*; until then nothing is read\n", 30)
    memory(true)
    watch:wait("note: 0000:00:04.0 answers again\n", 30)
    system.fine("set %s LIVENESS=0xffffffff", EDU)
    assert.equal(0, watch:status(30), watch:text())
    assert.is_nil(watch:text():find "ID [^\n]* %-> ") -- it has not changed for a moment
  end)

  it("is told of by doctor, with a remedy that is none of the kernel's switch, which it refuses now", function()
    local out, status = system.run("doctor %s", EDU)
    assert.equal(1, status)
    assert.matches("problem  regions: it does not decode its memory %(command register 0x%x+%): what is read there is no register's value\n"
      .. " +remedy: setpci %-s 0000:00:04.0 COMMAND=2:2\n", out)
    assert.has_error(function() sysfs.write("bus/pci/devices/" .. EDU .. "/enable", "1") end)
  end)
end)
