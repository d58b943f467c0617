--- Virtual functions (SR-IOV) of a disk, by a real kernel: their config space reads as all ones where the ids are, their memory is
--- switched on by the physical function, and they are no more when that is taken from its driver.

local files = require "spec.support.files"
local luio = require "luio"
local sysfs = require "spec.support.sysfs"
local system = require "spec.support.system"

local PF, VF, OTHER = "0000:03:00.0", "0000:03:00.1", "0000:03:00.2"
local FOLDER = "bus/pci/devices/" .. PF .. "/"
local run, fine = system.run, system.fine

-- A bit of the control word of the SR-IOV capability, which is behind ARI's, at 0x100 + 0x20 (QEMU 7.2's nvme).
local CONTROL, MEMORY_SPACE = 0x120 + 8, 8

local function vf_memory(on)
  local f = assert(io.open("/sys/" .. FOLDER .. "config", "r+b"))
  f:setvbuf "no"
  f:seek("set", CONTROL)
  local byte = f:read(1):byte()
  f:seek("set", CONTROL)
  f:write(string.char(on and bit.bor(byte, MEMORY_SPACE) or bit.band(byte, bit.bnot(MEMORY_SPACE))))
  f:close()
end

describe("virtual functions", function()
  setup(function()
    system.start()
    assert.equal(0, os.execute "/run/luio/bin/modprobe nvme")
    sysfs.write(FOLDER .. "sriov_drivers_autoprobe", "0")
    sysfs.write(FOLDER .. "sriov_numvfs", "2")
  end)
  teardown(function()
    system.free(VF)
    sysfs.write(FOLDER .. "sriov_numvfs", "0")
    system.stop()
  end)

  it("are there for luio, by the ids of sysfs, and nothing says that they do not answer", function()
    assert.equal("\255\255\255\255", files.read("/sys/bus/pci/devices/" .. VF .. "/config"):sub(1, 4))
    local info, doctor = fine("info %s", VF), run("doctor %s", VF)
    assert.matches("\nid            1b36:0010, ", info)
    assert.matches("\nvirtual       a function of " .. PF:gsub("%p", "%%%0") .. "\n", info)
    assert.matches("\ninterrupt     a virtual function has no INTx: ", info)
    assert.matches("\ncommand       0x0000: memory on by ", info)
    for _, wrong in ipairs { "not answer", "fell off", "does not decode", "/remove" } do
      assert.is_nil(doctor:find(wrong, 1, true), doctor)
    end
    assert.matches("a virtual function has no INTx pin: UIO gives it no interrupts", doctor)
    assert.matches(("\nvirtual       2 functions: %s %s\n"):format(VF, OTHER):gsub("%p", "%%%0"), (fine("info %s", PF)))
  end)

  it("can be bound, driven, watched and made to master the bus like others", function()
    local out = fine("bind %s", VF)
    assert.matches(": a virtual function has no INTx pin", out)
    local dev = assert(luio.open(VF))
    finally(function() dev:close() end)
    assert.same({}, dev.warnings)
    assert(dev:bus_master(true))
    assert.is_true(sysfs.has(VF, sysfs.BUS_MASTER))
    sysfs.change_command(VF, sysfs.BUS_MASTER, 0)
    assert.same({ false, "bus_master" }, { dev:check_config() }) -- its header is no reason to let that pass
    assert.is_true(sysfs.has(VF, sysfs.BUS_MASTER))
  end)

  it("say so when their physical function has switched their memory off", function()
    fine("get %s 0x1c", VF)
    vf_memory(false)
    local out, status = run("get %s 0x1c", VF)
    vf_memory(true)
    assert.equal(1, status)
    assert.matches("0000:03:00.1 does not decode its memory (0000:03:00.0 says so for all its virtual functions)", out, 1, true)
    fine("get %s 0x1c", VF)
  end)

  it("keep their physical function from being taken, and are named with who has them", function()
    local dev = assert(luio.open(VF))
    local out, status = run("bind %s", PF)
    local dry = fine("bind --force --dry-run %s", PF)
    assert(dev:close())
    assert.equal(1, status)
    assert.matches(("bind %s: refused: "):format(PF), out, 1, true)
    assert.matches(("its 2 virtual functions need it: %s (uio_pci_generic, process "):format(VF), out, 1, true)
    assert.matches(("drives it: /dev/uio[%%d]+, config, luio's lock%%), %s %%(no driver%%) "):format(OTHER:gsub("%p", "%%%0")), out)
    assert.matches(("(echo 0 > /sys/devices/pci0000:00/0000:00:0b.0/%s/sriov_numvfs, when nobody uses them)"):format(PF), out, 1, true)
    assert.matches("forced, although its 2 virtual functions need it", dry, 1, true)
    assert.equal("nvme", sysfs.driver(PF))
    assert.equal("2", sysfs.read(FOLDER .. "sriov_numvfs"))
  end)
end)
