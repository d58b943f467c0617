--- A read-only /sys, as in most containers: every command that has to write there says so, in the same words to root and to others.

local files = require "spec.support.files"
local system = require "spec.support.system"

local TESTDEV = system.TESTDEV
local WHY = "/sys is mounted read-only here, as in a container: do it on the host, or mount -o remount,rw /sys"

-- Runs commands and asks the library, one after another; a line between what each gave.
local SCRIPT = [[
  local cli, luio = require "luio.tool.cli", require "luio"
  local EDU, TESTDEV = "0000:00:04.0", "0000:00:07.0"
  io.stdout:setvbuf "no"
  io.stderr = io.stdout
  local function run(...)
    cli.main { ... }
    print "----"
  end
  local function tell(_, message, code)
    print(code, message)
    print "----"
  end
  run("bind", TESTDEV)
  run("unbind", EDU)
  run("doctor", EDU)
  require("luio.host.doctor.system").read_only(print) -- all of it would load each driver, in a process
  print "----"
  run("run", "drivers/edu", EDU)
  run("set", EDU, "0x4=1")
  local dev = assert(luio.open(EDU))
  tell(dev:bus_master(true))
  tell(dev.config:write16(0x3c, 0))
  tell(dev:mask())
  for _, file in ipairs { "bus/pci/drivers/uio_pci_generic/new_id", "bus/pci/devices/" .. EDU .. "/driver_override", "bus/pci/rescan",
    "bus/pci/devices/" .. EDU .. "/enable", "bus/pci/devices/" .. EDU .. "/reset" } do
    if require("luio.host.sysfs").exists("/sys/" .. file) then tell(require("luio.host.process").write("/sys/" .. file, "x", 10)) end
  end
  assert(dev:close())
  run("get", EDU, "ID")
  print(require("luio.host.sysfs").remedy("/proc/sys/vm/nr_hugepages", nil, "32"))
  print "----"
]]

-- The output of the script, run with `prefix`.
local function say(prefix)
  local path = files.write("commands.lua", SCRIPT)
  -- Of the mount only: the file system itself would be read-only for the whole guest.
  local out = files.shell(("unshare -m sh -c 'mount --make-rprivate / && mount -o remount,bind,ro /sys && "
    .. "mount -o bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec %s build/luio %s'"):format(
    prefix, path))
  local list = {}
  for text in out:gmatch "(.-)%-%-%-%-\n" do table.insert(list, text) end
  return list, out
end

describe("a read-only /sys", function()
  setup(system.start)
  teardown(system.stop)

  it("is the reason that root gets, wherever something is to be written", function()
    local list, out = say ""
    assert.is_true(#list >= 12, out)
    for i = 1, #list - 2 do
      local text = list[i]
      assert.is_truthy(text:find(WHY, 1, true), ("%d: %s"):format(i, text))
      if i ~= 3 and i ~= 4 then assert.is_truthy(text:find("EROFS", 1, true), text) end -- doctor: it tries nothing
      for _, wrong in ipairs { "run as root", "usermod", "dmesg", "sudo", "install%-system", "CAP_CHOWN" } do
        assert.is_nil(text:find(wrong), ("%d: %s"):format(i, text))
      end
    end
    assert.matches("; nothing was changed", list[1], 1, true)
    assert.equal("ID 0x0 = 0x010000ed  MAJOR=1 MINOR=0 MAGIC=0xed\n", list[#list - 1]) -- reading still works
    assert.matches("/proc/sys is mounted read-only here, as in a container: do it on the host, or mount -o remount,rw /proc/sys", list[#list], 1, true)
    assert.matches("^problem  sysfs: nobody can write to /sys here", list[3])
    assert.is_nil(files.shell("cat /sys/bus/pci/devices/" .. TESTDEV .. "/driver_override"):find "uio_pci_generic")
  end)

  it("is the reason that an ordinary user gets, whom no group would help", function()
    files.shell "chmod 666 /dev/uio*"
    finally(function() files.shell "chmod 600 /dev/uio*" end)
    local list = say "setpriv --reuid 65534 --regid 65534 --clear-groups"
    for _, i in ipairs { 1, 2, 4 } do assert.is_truthy(list[i]:find(WHY, 1, true), list[i]) end
    local doctor = list[3]
    assert.matches("problem  interrupt: /sys/devices/pci0000:00/0000:00:04.0/config can't be written (EROFS): interrupts can't be unmasked\n"
      .. "         remedy: " .. WHY, doctor, 1, true)
    assert.is_nil(doctor:find("usermod", 1, true))
  end)

end)
