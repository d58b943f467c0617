--- The writes of luio bind and unbind, in order, and the values put back when a write fails: on a
--- recorded sysfs with a stand-in for the kernel behind it. Devices that the system uses are refused.
--- spec/guest/bind_spec.lua shows that real kernels do as the stand-in does.

local udev = require "spec.support.umockdev"

-- Runs before the code of a spec: `kernel` plays the driver core for 0000:00:04.0.
local PRELUDE = [[
  local uv = require "luv"
  local binding = require "luio.host.binding"
  local process = require "luio.host.process"
  local sysfs = require "luio.host.sysfs"
  local root = os.getenv "UMOCKDEV_DIR"
  local A, DEVICE = "0000:00:04.0", root .. "/sys/devices/pci0000:00/0000:00:04.0"
  local PCI = root .. "/sys/bus/pci"
  binding.run_dir, binding.refusal_s = root .. "/run/luio/bind", 0

  local put = require("spec.support.files").put
  local function proc(files)
    sysfs.proc = root .. "/proc"
    put(sysfs.proc .. "/1/comm", "init\n")
    for name, text in pairs(files or {}) do put(sysfs.proc .. "/" .. name, text) end
  end
  proc()

  local kernel = { log = {}, refuses = {}, fails = {}, natural = nil, early = 0 } -- early: lets no driver have it so many times
  local function driver() return (uv.fs_readlink(DEVICE .. "/driver") or ""):match "[^/]+$" end
  local function override()
    local f = assert(io.open(DEVICE .. "/driver_override"))
    local text = f:read "*l"
    f:close()
    return text
  end
  function kernel.has(name) -- there is such a driver
    for _, file in ipairs { "bind", "unbind" } do put(("%s/drivers/%s/%s"):format(PCI, name, file), "") end
  end
  function kernel.give(name) -- it has the device
    kernel.has(name)
    assert(uv.fs_symlink("../../../bus/pci/drivers/" .. name, DEVICE .. "/driver"))
    if name:match "uio" then
      put(DEVICE .. "/uio/uio4/name", name)
      put(root .. "/dev/uio4", "")
    end
  end
  put(DEVICE .. "/driver_override", "(null)\n")
  put(PCI .. "/drivers_probe", "")
  kernel.has "uio_pci_generic"

  local function take(name)
    kernel.early = kernel.early - 1
    if driver() or kernel.refuses[name] or kernel.early >= 0 then return false end
    kernel.give(name)
    return true
  end
  function process.write(path, value)
    table.insert(kernel.log, value .. " > " .. path:gsub("^/sys/bus/pci/", ""):gsub("devices/0000:00:04.0/", ""))
    local code = kernel.fails[#kernel.log] or kernel.fails[path:match "[^/]+$"]
    if code then return nil, ("write %q to %s: %s"):format(value, path, code), code end
    if path:match "/driver_override$" then
      put(DEVICE .. "/driver_override", (value == "" and "(null)" or value) .. "\n")
    elseif path:match "/driver/unbind$" then
      assert(driver())
      assert(uv.fs_unlink(DEVICE .. "/driver"))
      os.execute("rm -rf " .. DEVICE .. "/uio")
    elseif path:match "/drivers_probe$" then
      local name = override()
      if name == "(null)" then name = kernel.natural end
      if name then take(name) end -- a refusal is not reported
    elseif path:match "/bind$" then
      local name = path:match "/([^/]+)/bind$"
      if override() ~= name and name ~= kernel.natural or not take(name) then
        return nil, ("write %q to %s: ENODEV"):format(value, path), "ENODEV"
      end
    else
      error("nobody writes to " .. path)
    end
    return true
  end

  -- The call's result, and the state afterwards.
  local function try(what, ...)
    local from = #kernel.log
    local result, message, code = binding[what](...)
    local log = {}
    for i = from + 1, #kernel.log do table.insert(log, kernel.log[i]) end
    return {
      result = result, message = message, code = code, log = log, driver = driver(), override = override(),
      remembered = sysfs.read(binding.run_dir .. "/" .. A),
    }
  end
]]

local function run(tree, code)
  return udev.run(tree, PRELUDE .. code)
end

local CONFIG = ("\0"):rep(0x3d) .. "\1" .. ("\0"):rep(2) -- with an INTx pin

-- A PCI device, with more devices below it.
local function tree(...)
  return udev.pci(4, { config = CONFIG, subsystem_vendor = "0x1af4" }) .. table.concat { ... }
end

describe("binding", function()
  it("names the driver, unbinds the old one, probes, and clears the name; unbinding gives it back", function()
    local got = run(tree(), [[
      kernel.give "e1000e"
      return { try("bind", A), try("bind", A), try("unbind", A) }]])
    assert.same({
      "uio_pci_generic > driver_override", "0000:00:04.0 > driver/unbind", "0000:00:04.0 > drivers_probe", " > driver_override",
    }, got[1].log)
    assert.same({ address = "0000:00:04.0", driver = "uio_pci_generic", uio = "uio4", previous = "e1000e", notes = {},
      steps = {
        "echo uio_pci_generic > /sys/bus/pci/devices/0000:00:04.0/driver_override",
        "echo 0000:00:04.0 > /sys/bus/pci/devices/0000:00:04.0/driver/unbind",
        "echo 0000:00:04.0 > /sys/bus/pci/drivers_probe",
        "echo > /sys/bus/pci/devices/0000:00:04.0/driver_override",
      } }, got[1].result)
    assert.same({ "uio_pci_generic", "(null)", "driver e1000e\nbound uio_pci_generic\nid 1234:11e8" },
      { got[1].driver, got[1].override, got[1].remembered })
    assert.same({ true, {} }, { got[2].result.unchanged, got[2].log })
    assert.same({ "e1000e > driver_override", "0000:00:04.0 > driver/unbind", "0000:00:04.0 > drivers_probe", " > driver_override" },
      got[3].log)
    assert.same({ "e1000e", "(null)" }, { got[3].driver, got[3].override })
    assert.is_nil(got[3].remembered)
  end)

  it("leaves the device as it was, whichever write fails", function()
    for failing = 1, 4 do
      local got = run(tree(), ([[
        kernel.give "e1000e"
        kernel.fails[%d] = "EIO"
        return try("bind", A)]]):format(failing))
      assert.is_nil(got.result)
      assert.equal("EIO", got.code)
      assert.matches("^bind 0000:00:04.0: write .* EIO; e1000e has it again$", got.message)
      assert.same({ "e1000e", "(null)" }, { got.driver, got.override }, "write " .. failing)
      assert.is_nil(got.remembered)
    end
  end)

  it("gives it back to the UIO driver when the one it had before does not take it", function()
    local got = run(tree(), [[
      kernel.give "e1000e"
      local bound = try("bind", A)
      kernel.refuses.e1000e = true
      return { try("unbind", A) }]])
    assert.matches("^unbind 0000:00:04.0: e1000e did not take it: .* ENODEV; dmesg may say more; uio_pci_generic has it again$",
      got[1].message)
    assert.same({ "uio_pci_generic", "(null)" }, { got[1].driver, got[1].override })
    assert.matches("driver e1000e", got[1].remembered)
  end)

  it("says why uio_pci_generic refuses, with a pin and without", function()
    local got = run(tree(), [[
      kernel.refuses.uio_pci_generic = true
      local first = try("bind", A)
      put(DEVICE .. "/config", ("\0"):rep(64))
      return { first, try("bind", A) }]])
    assert.matches("ENODEV: its INTx can't be masked in the command register %(PCI 2.3%).*; it has no driver, as before$", got[1].message)
    assert.matches("ENODEV: it has no INTx pin, which older kernels insist on", got[2].message)
    assert.is_nil(got[1].driver)
    assert.equal("(null)", got[1].override)
  end)

  it("says so when not even the old driver takes it back", function()
    local got = run(tree(), [[
      kernel.give "e1000e"
      kernel.refuses.uio_pci_generic, kernel.refuses.e1000e = true, true
      return try("bind", A)]])
    assert.matches("; and e1000e did not take it back: .*ENODEV; luio bind 0000:00:04.0 %-%-driver e1000e tries again$", got.message)
    assert.equal("(null)", got.override)
  end)

  it("writes no more after a write that hangs, and keeps what it needs to undo it later", function()
    local got = run(tree(), [[
      kernel.give "e1000e"
      kernel.fails.unbind = "ETIMEDOUT"
      local first = try("bind", A)
      kernel.fails.unbind = nil
      process.write("/sys/bus/pci/devices/" .. A .. "/driver/unbind", A) -- it ended at last
      return { first, try("unbind", A) }]])
    assert.same({ "uio_pci_generic > driver_override", "0000:00:04.0 > driver/unbind" }, got[1].log)
    assert.equal("ETIMEDOUT", got[1].code)
    assert.matches('driver_override is "uio_pci_generic" now; when the kernel is done, `luio unbind 0000:00:04.0` puts things right$',
      got[1].message)
    assert.same({ "e1000e", "(null)" }, { got[2].driver, got[2].override })
    assert.is_nil(got[2].remembered)
  end)

  it("waits for a hanging kernel no longer than it said", function()
    -- A FIFO that nobody reads is a file whose opening hangs: the true process.write meets it.
    local got = udev.run(tree(), [[
      local process = require "luio.host.process"
      local path = os.getenv "UMOCKDEV_DIR" .. "/sys/devices/pci0000:00/0000:00:04.0/unbind"
      assert(os.execute("mkfifo " .. path) == 0)
      local start = luio.now()
      local ok, message, code = process.write("/sys/devices/pci0000:00/0000:00:04.0/unbind", "0000:00:04.0", 0.2)
      return { ok = ok, message = message, code = code, seconds = luio.now() - start }]])
    assert.same({ "ETIMEDOUT",
      'write "0000:00:04.0" to /sys/devices/pci0000:00/0000:00:04.0/unbind: no end after 0.2 s: the kernel waits for something that uses the device' },
      { got.code, got.message })
    assert.is_true(got.seconds < 2)
  end)

  it("keeps an override of somebody else's, and the first previous driver from one UIO driver to the next", function()
    local got = run(tree(), [[
      kernel.give "e1000e"
      put(DEVICE .. "/driver_override", "special\n")
      local first = try("bind", A)
      kernel.has "vfio-pci"
      local second = try("bind", A, { driver = "vfio-pci" })
      return { first, second, try("unbind", A) }]])
    for i = 1, 3 do assert.equal("special", got[i].override) end
    assert.equal("driver e1000e\nbound vfio-pci\nid 1234:11e8", got[2].remembered)
    assert.equal("e1000e", got[3].driver)
  end)

  it("waits for a device that was plugged in just now, until the kernel lets drivers have it", function()
    local got = run(tree(), [[
      binding.refusal_s = 5
      kernel.early = 4
      return try("bind", A)]])
    assert.same({ "uio_pci_generic", "(null)", "uio4" }, { got.driver, got.override, got.result.uio })
    got = run(tree(), [[
      binding.refusal_s = 0.1
      kernel.early = 1000
      return try("bind", A)]])
    assert.is_nil(got.result)
    assert.equal("ENODEV", got.code)
    assert.matches("uio_pci_generic did not take it: ENODEV", got.message)
    assert.equal("(null)", got.override)
  end)

  it("lets the kernel choose where nothing is remembered, or what is was for another card", function()
    local got = run(tree(), [[
      kernel.give "uio_pci_generic"
      kernel.natural = "nvme"
      local first = try("unbind", A)
      try("bind", A)
      put(binding.run_dir .. "/" .. A, "driver e1000e\nbound uio_pci_generic\nid 8086:10d3\n")
      local second = try("unbind", A)
      try("bind", A)
      put(binding.run_dir .. "/" .. A, "garbage")
      local third = try("unbind", A)
      try("bind", A)
      kernel.natural = nil
      os.remove(binding.run_dir .. "/" .. A)
      put(DEVICE .. "/modalias", "pci:v00001234d000011E8sv*\n")
      local none = try("unbind", A)
      kernel.give "uio_pci_generic"
      kernel.natural = "uio_pci_generic"
      return { first, second, third, none, try("unbind", A) }]])
    for i = 1, 3 do
      assert.same({ "0000:00:04.0 > driver/unbind", "0000:00:04.0 > drivers_probe" }, got[i].log)
      assert.equal("nvme", got[i].driver)
    end
    assert.is_nil(got[4].driver)
    assert.same({ "no loaded driver takes it; `modprobe 'pci:v00001234d000011E8sv*'` may load one" }, got[4].result.notes)
    assert.matches("uio_pci_generic took it again: its new_id names 1234:11e8; `echo 1234 11e8 > .*/uio_pci_generic/remove_id` ends that",
      got[5].message)
  end)

  it("binds though it can't remember, and says so", function()
    local got = run(tree(), [[
      put(root .. "/run/luio", "a file")
      return try("bind", A)]])
    assert.equal("uio_pci_generic", got.driver)
    assert.matches("^what had it before is not remembered: .*", got.result.notes[1])
  end)

  it("has nothing for devices that are not on PCI", function()
    local got = udev.run(udev.uio(3), [[
      local binding = require "luio.host.binding"
      local result, message, code = binding.bind "uio3"
      return { message, code, (select(2, binding.unbind "sim:edu")) }]])
    assert.same({ 'bind uio3: it is not a PCI device; on bus "platform" its driver is chosen by the device tree, '
      .. "or by a parameter of the module (uio_pdrv_genirq: of_id=)", "ENOTSUP",
      "unbind sim:edu: a simulated device has no kernel driver, and needs none" }, got)
  end)
end)

-- ---- Devices that the system uses ----------------------------------------------------------------

describe("binding a device that the system uses", function()
  local BELOW = "/devices/pci0000:00/0000:00:04.0/"
  local SDA = BELOW .. "ata1/host0/target0:0:0/0:0:0:0/block/sda"
  local disk = udev.device(SDA, "block", { dev = "8:0" }) .. udev.device(SDA .. "/sda1", "block", { dev = "8:1", partition = "1" })
    .. udev.device(SDA .. "/sda2", "block", { dev = "8:2", partition = "2" })

  -- The refusal with these files in /proc; nil: none.
  local function refused(devices, files, code)
    local got = run(tree(devices), ([[
      kernel.give "ahci"
      proc { %s }
      %s
      local got = try("bind", A)
      got.dry = (select(2, binding.bind(A, { dry_run = true })))
      got.forced = try("bind", A, { force = true })
      return got]]):format(files, code or ""))
    if got.result then
      assert.is_nil(got.dry)
      return nil
    end
    assert.same({ {}, "ahci", "EBUSY" }, { got.log, got.driver, got.code })
    assert.equal(got.message, got.dry)
    assert.equal("uio_pci_generic", got.forced.driver)
    local reasons = got.message:match "^bind 0000:00:04.0: refused: (.*)%. %-%-force does it regardless; nothing was changed$"
    assert.equal(select(2, reasons:gsub("%); ", "")) + 1, #got.forced.result.notes)
    return reasons
  end

  it("takes a disk that nobody uses", function()
    assert.is_nil(refused(disk, "['self/mountinfo'] = '22 1 8:16 / / rw - ext4 /dev/sdb rw\\n'"))
  end)

  it("refuses one that is mounted, by its number or its name; spaces and all", function()
    assert.equal("its disk sda1 is mounted on /mnt/my disk (umount '/mnt/my disk')",
      refused(disk, [=[['self/mountinfo'] = [[30 22 8:1 / /mnt/my\040disk rw,noatime shared:1 - ext4 /dev/root rw]]]=]))
    -- btrfs has numbers of its own.
    assert.equal("its disk sda2 is mounted on /home (umount /home)",
      refused(disk, [=[['self/mountinfo'] = [[30 22 0:44 /@home /home rw - btrfs /dev/sda2 rw,subvol=/@home]]]=]))
  end)

  it("refuses the root file system before all, and swap", function()
    assert.equal("its disk sda1 holds the root file system (boot from another disk); its disk sda2 is swap (swapoff /dev/sda2)",
      refused(disk, [=[['self/mountinfo'] = "30 22 8:1 / /snap rw - ext4 /dev/sda1 rw\n22 1 8:1 / / rw - ext4 /dev/sda1 rw\n",
        swaps = "Filename Type Size Used Priority\n/dev/sda2   partition 975868 0 -2\n"]=]))
  end)

  it("refuses what is under LVM, encryption, RAID: down to what is mounted", function()
    local stacked = disk .. udev.device("/devices/virtual/block/dm-0", "block", { dev = "254:0", ["dm/name"] = "crypt" })
      .. udev.device("/devices/virtual/block/dm-1", "block", { dev = "254:1", ["dm/name"] = "vg-home" })
      .. udev.device("/devices/virtual/block/md0", "block", { dev = "9:0" })
    local links = [[
      put(root .. "/sys/devices/virtual/block/dm-0/holders/dm-1/x", "")
      put(root .. "/sys]] .. SDA .. [[/sda1/holders/dm-0/x", "")
      put(root .. "/sys]] .. SDA .. [[/sda2/holders/md0/x", "")]]
    assert.equal("its disk sda1 is part of dm-0 (crypt), part of dm-1 (vg-home), which is mounted on /home (umount /home); "
      .. "its disk sda2 is part of md0 (mdadm --stop /dev/md0)",
      refused(stacked, [=[['self/mountinfo'] = "30 22 254:1 / /home rw - ext4 /dev/mapper/vg-home rw\n"]=], links))
  end)

  it("finds an NVMe disk with several paths, which lies elsewhere", function()
    local nvme = udev.device(BELOW .. "nvme/nvme0", "nvme", {})
      .. udev.device("/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1", "block", { dev = "259:0" })
    assert.equal("its disk nvme0n1 holds the root file system (boot from another disk)",
      refused(nvme, [=[['self/mountinfo'] = "22 1 259:0 / / rw - ext4 /dev/nvme0n1 rw\n"]=], [[
        assert(uv.fs_symlink("../../../pci0000:00/0000:00:04.0/nvme/nvme0", root .. "/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0"))]]))
  end)

  it("refuses the display of the boot, and the line of the console", function()
    assert.equal("it is the display that the machine booted with (work over the network or a serial line)",
      refused("", "", [[put(DEVICE .. "/boot_vga", "1\n")]]))
    assert.is_nil(refused("", "", [[put(DEVICE .. "/boot_vga", "0\n")]]))
    local tty = udev.device(BELOW .. "tty/ttyS4", "tty", {})
    assert.equal("its serial line ttyS4 is the kernel's console (boot with another console=)",
      refused(tty, "", [[put(root .. "/sys/class/tty/console/active", "tty0 ttyS4\n")]]))
  end)

  it("refuses a bridge by its header, whatever its class says", function()
    assert.equal("it is a bridge, and other devices depend on it (bind the device behind it instead)",
      refused("", "", [[put(DEVICE .. "/config", ("\0"):rep(14) .. "\129" .. ("\0"):rep(46) .. "\1\0\0")]]))
  end)

  it("refuses a network interface that is up, or carries the default route by what is above it", function()
    local net = udev.device(BELOW .. "net/eth0", "net", { flags = "0x1003" })
    assert.equal("its network interface eth0 is up (ip link set eth0 down)", refused(net, ""))
    assert.is_nil(refused(udev.device(BELOW .. "net/eth0", "net", { flags = "0x1002" }), ""))
    assert.equal("its network interface eth0 has the default route, as part of bond0 (work from a console, or give the route to another interface)",
      refused(net, [=[['net/route'] = "Iface\tDestination\tGateway\nbond0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"]=],
        [[put(root .. "/sys]] .. BELOW .. [[net/eth0/upper_bond0/x", "")]]))
    -- A route to 0.0.0.0/1 is none, and neither is IPv6's "unreachable" on lo.
    local zeros = ("0"):rep(32)
    assert.equal("its network interface eth0 is up (ip link set eth0 down)",
      refused(net, ([=[['net/route'] = "eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000080\t0\t0\t0\n",
        ['net/ipv6_route'] = "%s 00 %s 00 %s ffffffff 00000001 00000000 00200200     eth0\n"]=]):format(zeros, zeros, zeros)))
    assert.equal("its network interface eth0 has the default route (work from a console, or give the route to another interface)",
      refused(net, ([=[['net/ipv6_route'] = "%s 00 %s 00 fe80%s 00000400 00000001 00000000 00000003     eth0\n"]=]):format(zeros, zeros, ("0"):rep(28))))
  end)

  it("refuses what another process drives by UIO", function()
    assert.equal("process 4711 (testpmd) drives it: /dev/vfio/7 (kill 4711)",
      refused("", "['4711/cmdline'] = 'testpmd'", [[
        put(root .. "/sys/kernel/iommu_groups/7/type", "identity\n")
        assert(uv.fs_symlink("../../../kernel/iommu_groups/7", DEVICE .. "/iommu_group"))
        put(sysfs.proc .. "/4711/fd/x", "")
        assert(uv.fs_symlink("/dev/vfio/7", sysfs.proc .. "/4711/fd/5"))]]))
  end)
end)
