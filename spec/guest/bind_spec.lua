--- bind and unbind against a real kernel: real drivers leave and come back, and devices that the system uses (a
--- network, a disk) are refused. In the guest of spec/guest/specs, as the last file: it unbinds devices
--- and binds them again.
---
--- Specs without their device in the guest are skipped, and name it:
---
---     spec/guest/run --bind edu --bind e1000e --bind serial --bind 0000:00:08.0 --env LUIO_DISK=0000:00:09.0 \
---       --qemu -blockdev --qemu driver=null-co,node-name=disk --device nvme,drive=disk,serial=1,addr=08.0 \
---       --qemu -blockdev --qemu driver=vvfat,dir=$PWD/spec/guest/trace,node-name=fat,read-only=on \
---       --device virtio-blk-pci,drive=fat,addr=09.0 -- busted spec/guest/bind_spec.lua

local luio = require "luio"
local uv = require "luv"
local files = require "spec.support.files"
local program = require "spec.support.program"
local sysfs = require "spec.support.sysfs"
local system = require "spec.support.system"
local wait = require "spec.support.wait"

local EDU, NIC, SERIAL, TESTDEV, NVME = system.EDU, system.NIC, system.SERIAL, system.TESTDEV, system.NVME
local SHARE, BRIDGE = "0000:00:1d.0", "0000:00:1f.0" -- /run/out, and the ISA bridge
local DISK = os.getenv "LUIO_DISK"
local MODPROBE = "/run/luio/bin/modprobe"

local run, as_user, fine, must, info = system.run, system.as_user, system.fine, system.must, system.info
local there, remembered, free, restore = system.there, system.remembered, system.free, system.restore
local lockdown, translates = system.lockdown, system.translates

setup(system.start)
teardown(system.stop)

-- ---- bind and unbind -----------------------------------------------------------------------------

describe("luio bind and unbind", function()
  teardown(restore)

  it("take a device without a driver, and leave it without one", function()
    fine("unbind %s", EDU) -- bound by restore, or by the guest's init: nothing is remembered
    assert.is_nil(sysfs.driver(EDU))
    local out, status = files.shell("build/luio bind " .. EDU)
    assert.equal(0, status, out)
    assert.equal(("%s: uio_pci_generic, as %s\n"):format(EDU, info(EDU).uio), out)
    assert.equal("(null)", sysfs.override(EDU))
    assert.is_true(remembered(EDU))
    assert.same({ ("%s: uio_pci_generic, as %s (it was so already)\n"):format(EDU, info(EDU).uio), 0 }, { run("bind %s", EDU) })
    if not lockdown() and not translates() then
      local dev = assert(luio.start("edu", EDU))
      assert.equal(24, dev.driver.factorial(dev, 4))
      assert(dev:close())
    end
    assert.same({ EDU .. ": no driver\n", 0 }, { run("unbind %s", info(EDU).uio) })
    assert.is_nil(sysfs.driver(EDU))
    assert.is_false(remembered(EDU))
    out, status = run("unbind %s", EDU)
    assert.equal(1, status)
    assert.matches("no driver has it, and none is remembered; `echo " .. EDU .. " > /sys/bus/pci/drivers_probe`", out)
  end)

  it("say what they would do, and do it not", function()
    free(EDU)
    local plan = program.json(("bind %s --dry-run"):format(EDU))
    assert.same({ EDU, 3 }, { plan.address, #plan.steps })
    local out, status = run("bind %s --dry-run", EDU)
    assert.equal(0, status)
    assert.equal(table.concat({
      ("echo uio_pci_generic > /sys/bus/pci/devices/%s/driver_override\n"):format(EDU),
      ("echo %s > /sys/bus/pci/drivers_probe\n"):format(EDU),
      ("echo > /sys/bus/pci/devices/%s/driver_override\n"):format(EDU),
    }), out)
    assert.is_nil(sysfs.driver(EDU))
    must("sh -c '%s'", out) -- and these commands do it
    assert.equal("uio_pci_generic", sysfs.driver(EDU))
  end)

  it("note a device without an interrupt pin", function()
    local out, status = run("bind %s", TESTDEV)
    assert.equal(0, status, out)
    assert.matches("it has no INTx pin: no interrupts by UIO", out)
    out, status = run("doctor %s", TESTDEV)
    assert.equal(lockdown() and 1 or translates() and 1 or 0, status, out)
    assert.matches("note     interrupt: it has no INTx pin", out)
  end)

  it("refuse a bridge, and the shared folder that is mounted", function()
    local out, status = run("bind %s", BRIDGE)
    assert.equal(1, status)
    assert.matches("refused: it is a bridge, and other devices depend on it", out)
    out, status = run("bind %s", SHARE)
    assert.equal(1, status)
    assert.matches("refused: its shared folder luio.out is mounted on /run/out %(umount /run/out%)", out)
    out, status = run "bind 0000:00:1c.0" -- the root file system's lower layer, which is no mount that can be seen
    assert.equal(1, status)
    assert.matches("refused: its shared folder luio.root may be below the overlay on /", out)
    assert.equal("virtio-pci", sysfs.driver(SHARE))
    assert.equal("(null)", sysfs.override(SHARE))
  end)

  it("refuse to unbind what a process drives; --force does it, and the process is told", function()
    if lockdown() then return pending "lockdown" end
    if not sysfs.driver(EDU) then fine("bind %s", EDU) end
    local dev = assert(luio.open(EDU))
    local out, status = run("unbind %s", EDU)
    assert.equal(1, status)
    assert.matches(("refused: process %d %%(.*%%) drives it: .* %%(kill %d%%)"):format(uv.os_getpid(), uv.os_getpid()), out)
    assert.equal("uio_pci_generic", sysfs.driver(EDU))
    dev.irqs[0]:setup { capture = { { "cause", 0x24 } }, ack = { { 0x64, "cause" } } }
    assert(dev.irqs[0]:start())
    out, status = run("unbind %s --force", EDU)
    assert.equal(0, status, out)
    assert.matches("forced, although process", out)
    assert.equal("ENODEV", select(3, dev.irqs[0]:wait(2)))
    assert(dev:close())
  end)

  it("leave everything as it is for an ordinary user, and say what it takes", function()
    free(EDU)
    local out, status = as_user("bind %s", EDU)
    assert.equal(1, status)
    assert.equal(("luio: bind %s: /sys/bus/pci/devices/%s/driver_override may not be written: EACCES: run as root; nothing was changed\n"):format(
      EDU, EDU), out)
    assert.is_nil(sysfs.driver(EDU))
    fine("bind %s", EDU)
    out, status = as_user("unbind %s", EDU)
    assert.equal(1, status)
    assert.matches("EACCES: run as root; nothing was changed", out)
  end)

  it("refuse what is no PCI device, no device, no driver", function()
    assert.matches("a simulated device has no kernel driver", (run "bind sim:edu"))
    assert.matches("there is no device 0000:00:19.0", (run "bind 0000:00:19.0"))
    free(EDU)
    local out = run("bind %s --driver nosuch", EDU)
    assert.matches("there is no PCI driver nosuch: modprobe nosuch gave %d+: .*; nothing was changed", out)
    assert.equal("(null)", sysfs.override(EDU))
    assert.equal(2, select(2, run("bind %s --driver ../x", EDU)))
  end)

  it("put back what was there when the new driver refuses", function()
    free(EDU)
    local out, status = run("bind %s --driver virtio-pci", EDU) -- not one of its ids
    assert.equal(1, status)
    assert.matches("virtio%-pci did not take it: .*: ENODEV; dmesg may say more; it has no driver, as before", out)
    assert.equal("(null)", sysfs.override(EDU))
    assert.is_false(remembered(EDU))
    fine("bind %s", EDU)
    out, status = run("bind %s --driver virtio-pci", EDU)
    assert.equal(1, status)
    assert.matches("; uio_pci_generic has it again", out)
    assert.equal("uio_pci_generic", sysfs.driver(EDU))
    assert.is_true(remembered(EDU)) -- that it had none before is still known
    assert.same({ EDU .. ": no driver\n", 0 }, { run("unbind %s", EDU) })
  end)

  it("load the driver's module", function()
    for _, address in ipairs { EDU, NIC, SERIAL, NVME, TESTDEV } do
      if there(address) then free(address) end
    end
    must "busybox rmmod uio_pci_generic"
    local out = run("bind %s --dry-run", EDU)
    assert.matches("^modprobe uio_pci_generic\n", out)
    out = run "doctor"
    assert.matches("note     module: uio_pci_generic is not loaded; luio bind does that\n +remedy: modprobe uio_pci_generic\n", out)
    assert.matches("note     nodes: no device has a UIO driver now", out)
    out = run("bind %s", EDU)
    assert.matches("uio_pci_generic, as uio0\n", out)
    out = run "doctor"
    assert.matches("ok       module: uio_pci_generic is loaded\n", out)
  end)
end)

-- ---- A network interface -------------------------------------------------------------------------

describe("a network interface's device", function()
  local name

  setup(function() must("%s e1000e", MODPROBE) end)
  teardown(restore)
  before_each(function()
    if sysfs.driver(NIC) ~= "e1000e" then
      system.forget(NIC)
      fine("unbind --force %s", NIC) -- the kernel chooses
    end
    name = wait.till(5, "e1000e's network interface", function()
      local scan = uv.fs_scandir(("/sys/bus/pci/devices/%s/net"):format(NIC))
      return scan and (uv.fs_scandir_next(scan))
    end)
  end)
  after_each(function() system.forget(NIC) end)

  local function remember(text) files.save("/run/luio/bind/" .. NIC, text .. "\n") end
  local function override(text) sysfs.write(("bus/pci/devices/%s/driver_override"):format(NIC), text) end

  local function down()
    files.shell(("ip link set %s down; ip address flush dev %s; ip link del br0"):format(name, name))
  end

  local function refused(pattern)
    local out, status = run("bind %s", NIC)
    assert.equal(1, status, out)
    assert.matches(pattern, out)
    assert.equal("e1000e", sysfs.driver(NIC))
    assert.equal("(null)", sysfs.override(NIC))
    assert.is_false(remembered(NIC))
  end

  it("goes to UIO while it is down, and back to the kernel's driver", function()
    local out, status = run("bind %s", NIC)
    assert.equal(0, status, out)
    assert.matches("uio_pci_generic, as uio%d+\n$", out)
    assert.same({ NIC .. ": e1000e\n", 0 }, { run("unbind %s", NIC) })
    assert.equal("e1000e", sysfs.driver(NIC))
    assert.is_false(remembered(NIC))
    out, status = run("unbind %s", NIC)
    assert.equal(1, status)
    assert.matches("the kernel driver e1000e has it, and no UIO driver: there is nothing to give back", out)
  end)

  it("is refused while it is up; taken by force, which says what it took", function()
    finally(down)
    must("ip link set %s up", name)
    refused("refused: its network interface " .. name .. " is up %(ip link set " .. name .. " down%)")
    local out, status = run("doctor %s", NIC)
    assert.equal(1, status)
    assert.matches("problem  kernel driver: the kernel driver e1000e has it\n +remedy: luio bind " .. NIC, out)
    assert.matches("problem  in use: its network interface " .. name .. " is up: luio bind refuses to take it away\n", out)
    out = fine("bind %s --force", NIC)
    assert.matches("forced, although its network interface " .. name .. " is up", out)
    assert.equal("uio_pci_generic", sysfs.driver(NIC))
    assert.same({ NIC .. ": e1000e\n", 0 }, { run("unbind %s", NIC) })
  end)

  it("is refused with the default route, of IPv4 or IPv6, its own or that of a bridge above it", function()
    finally(down)
    must("ip link set %s up && ip address add 192.0.2.1/24 dev %s && ip route add default via 192.0.2.2", name, name)
    refused("its network interface " .. name .. " has the default route %(")
    must "ip route del default"
    refused("its network interface " .. name .. " is up")
    if uv.fs_access("/proc/net/ipv6_route", 0) then
      must("ip -6 address add 2001:db8::1/64 dev %s nodad && ip -6 route add default via 2001:db8::2 dev %s", name, name)
      refused("its network interface " .. name .. " has the default route %(")
    end
    must("ip link set %s down && ip address flush dev %s && %s bridge", name, name, MODPROBE)
    must("ip link add br0 type bridge && ip link set %s up master br0 && ip link set br0 up && "
      .. "ip address add 192.0.2.1/24 dev br0 && ip route add default via 192.0.2.2", name)
    refused("its network interface " .. name .. " has the default route, as part of br0")
  end)

  it("goes back to the kernel's driver when the new one refuses it", function()
    local out, status = run("bind %s --driver virtio-pci", NIC)
    assert.equal(1, status)
    assert.matches("virtio%-pci did not take it.*; e1000e has it again", out)
    assert.equal("e1000e", sysfs.driver(NIC))
    assert.equal("(null)", sysfs.override(NIC))
    assert.is_false(remembered(NIC))
  end)

  it("goes to the driver that it had, not to one the kernel would choose", function()
    fine("bind %s", NIC)
    remember "driver \nbound uio_pci_generic\nid 8086:10d3" -- it had none
    assert.same({ NIC .. ": no driver\n", 0 }, { run("unbind %s", NIC) })
    fine("bind %s", NIC)
    remember "driver e1000e\nbound uio_pci_generic\nid 8086:1533" -- another card sat there
    assert.same({ NIC .. ": e1000e\n", 0 }, { run("unbind %s", NIC) }) -- chosen by the kernel
  end)

  it("is put right by unbind after a bind that was killed half-way", function()
    remember "driver e1000e\nbound uio_pci_generic\nid 8086:10d3" -- the folder is there by now
    override "uio_pci_generic"
    sysfs.unbind(NIC)
    assert.same({ NIC .. ": e1000e\n", 0 }, { run("unbind %s", NIC) })
    assert.equal("(null)", sysfs.override(NIC))
    assert.is_false(remembered(NIC))
  end)

  it("keeps an override that somebody else set", function()
    finally(function() override "\n" end)
    override "e1000e"
    fine("bind %s", NIC)
    assert.equal("(null)", sysfs.override(NIC)) -- of the driver that was to leave
    override "vfio-pci"
    fine("unbind %s", NIC)
    assert.equal("e1000e", sysfs.driver(NIC))
    assert.equal("vfio-pci", sysfs.override(NIC))
    override "\n"
  end)
end)

-- ---- Disks ---------------------------------------------------------------------------------------

describe("a disk's device", function()
  local function wait_for(path)
    wait.till(5, path, function() return uv.fs_access(path, 0) == true end)
  end

  local function refused(address, driver, pattern)
    local out, status = run("bind %s", address)
    assert.equal(1, status, out)
    assert.matches(pattern, out)
    assert.equal(driver, sysfs.driver(address))
    assert.equal("(null)", sysfs.override(address))
  end

  describe("on NVMe", function()
    before_each(function()
      if not there(NVME) then return end
      if sysfs.driver(NVME) == "nvme" then return end
      must("%s nvme", MODPROBE)
      fine("unbind %s", NVME)
      wait_for "/dev/nvme0n1"
    end)
    teardown(restore)

    it("is refused while something is built upon it, mounted or not", function()
      if not there(NVME) then return pending("no nvme at " .. NVME .. " in this guest") end
      if files.shell "command -v dmsetup" == "" then return pending "no dmsetup here (package dmsetup)" end
      must("%s dm_mod && dmsetup create luio --noudevsync --table '0 2048 linear /dev/nvme0n1 0'", MODPROBE)
      refused(NVME, "nvme", "refused: its disk nvme0n1 is part of dm%-0 %(dmsetup remove luio%)")
      must "dmsetup remove --noudevsync luio"
      if not DISK or files.shell "command -v mkfs.ext4" == "" then return end -- the rest takes seconds
      -- The disk itself keeps nothing (null-co); writes go to RAM.
      must("for m in dm_snapshot 'brd rd_nr=1 rd_size=16384' ext4; do %s $m || exit 1; done", MODPROBE)
      must "dmsetup create luio --noudevsync --table '0 20480 snapshot /dev/nvme0n1 /dev/ram0 N 8'"
      must "mkfs.ext4 -q /dev/dm-0 && mount /dev/dm-0 /mnt"
      refused(NVME, "nvme", "refused: its disk nvme0n1 is part of dm%-0 %(luio%), which is mounted on /mnt %(umount /mnt%)")
      must "umount /mnt && mkswap /dev/dm-0 && swapon /dev/dm-0"
      refused(NVME, "nvme", "refused: its disk nvme0n1 is part of dm%-0 %(luio%), which is swap %(swapoff /dev/dm%-0%)")
      must "swapoff /dev/dm-0 && dmsetup remove --noudevsync luio"
    end)

    it("is refused while somebody has it exclusively, and taken when nobody does; then given back", function()
      if not there(NVME) then return pending("no nvme at " .. NVME .. " in this guest") end
      local fd = assert(uv.fs_open("/dev/nvme0n1", uv.constants.O_RDONLY + uv.constants.O_EXCL, 0))
      refused(NVME, "nvme", "refused: its disk nvme0n1 is in use %(/dev/nvme0n1 can't be opened exclusively: EBUSY%)")
      uv.fs_close(fd)
      fine("bind %s", NVME)
      assert.equal("uio_pci_generic", sysfs.driver(NVME))
      assert.same({ NVME .. ": nvme\n", 0 }, { run("unbind %s", NVME) })
      wait_for "/dev/nvme0n1"
    end)
  end)

  it("is refused while its partition is mounted", function()
    if not DISK then return pending "no disk with a file system in this guest: see the top of this file" end
    must("for m in virtio_blk vfat nls_cp437 nls_ascii nls_utf8; do %s $m || exit 1; done", MODPROBE)
    wait_for "/dev/vda1"
    must "mkdir -p '/mnt/a b' && mount -o ro /dev/vda1 '/mnt/a b'"
    refused(DISK, "virtio-pci", "refused: its disk vda1 is mounted on /mnt/a b %(umount '/mnt/a b'%)")
    local out = run("doctor %s", DISK)
    assert.matches("problem  in use: its disk vda1 is mounted on /mnt/a b: luio bind refuses to take it away", out)
    must "umount '/mnt/a b'"
    fine("bind --dry-run %s", DISK)
  end)
end)
