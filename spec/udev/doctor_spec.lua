--- luio doctor on written sysfs and procfs trees: each thing that can stop a driver, and its remedy.

local udev = require "spec.support.umockdev"
local config = udev.config

-- Runs before the code of a spec. `find` gives a check's findings.
local PRELUDE = [[
  local config = require("spec.support.umockdev").config
  local uv = require "luv"
  local doctor = require "luio.host.doctor"
  local sysfs = require "luio.host.sysfs"
  local root = os.getenv "UMOCKDEV_DIR"
  local A, DEVICE = "0000:00:04.0", "/sys/devices/pci0000:00/0000:00:04.0"
  local function link(target, path) assert(uv.fs_symlink(target, root .. path)) end
  sysfs.proc = root .. "/proc"
  put("/proc/1/comm", "init\n")
  put("/proc/self/status", "Name:\tluajit\nCapEff:\t000001ffffffffff\n")

  -- "status: text | remedy" for each finding of a check; all of them without one.
  local function find(findings, check)
    local list = {}
    for _, f in ipairs(findings) do
      if not check or f.check == check then
        table.insert(list, ("%s: %s%s"):format(f.status, f.text, f.remedy and " | " .. f.remedy or ""))
      end
    end
    return list
  end
  local function system(check) return find(doctor.system(), check) end
  local function device(check) return find(assert(doctor.device(A)), check) end
]]

local function run(tree, code)
  return udev.run(tree, PRELUDE .. code)
end

-- An edu (which is the luio driver's) behind uio_pci_generic, as it should be.
local function fine(changes)
  local attributes = { config = config(0x103), power_state = "D0", enable = "1" }
  for name, value in pairs(changes or {}) do attributes[name] = value end
  local tree = udev.pci(4, attributes, {}):gsub("E: SUBSYSTEM=pci\n", "%0L: driver=../../../bus/pci/drivers/uio_pci_generic\n")
  return (tree:gsub("E: SUBSYSTEM=uio\n", "%0N: uio4=00\n"))
end

describe("luio doctor, of the machine,", function()
  local bare = udev.device("/devices/platform/other", "platform", {})

  it("looks for the modules", function()
    local got = run(bare, [[
      local none = system "module"
      put("/sys/module/uio/initstate", "live\n")
      put("/sys/module/uio_pci_generic/parameters/x", "")
      put("/sys/bus/pci/devices/x", "")
      return { none, system "module" }]])
    assert.matches("^problem: uio is neither in this kernel %(.*%) nor among its modules | use a kernel with CONFIG_UIO=m", got[1][1])
    assert.matches("^note: uio_pci_generic is not in this kernel, and there is no PCI bus", got[1][2])
    assert.matches("^note: uio_pdrv_genirq, for devices of the device tree, is not in this kernel", got[1][3])
    assert.same({ "ok: uio is loaded", "ok: uio_pci_generic is built in" }, { got[2][1], got[2][2] })
  end)

  it("looks at capabilities, not at who asks", function()
    local got = run(bare, [[
      local results = {}
      for _, caps in ipairs { "000001ffffffffff", "0000000000000000", "0000000000200000", "0000000000020000" } do
        put("/proc/self/status", "Name:\tx\nCapInh:\tffffffffffffffff\nCapEff:\t" .. caps .. "\n")
        table.insert(results, table.concat(system "permission", "\n"))
      end
      return results]])
    assert.matches("^ok: .* has CAP_SYS_ADMIN", got[1])
    assert.matches("^problem: .* has no CAP_SYS_ADMIN: the kernel hides physical addresses", got[2])
    assert.matches("\nnote: .* has no CAP_SYS_RAWIO", got[2])
    assert.matches("^ok: .*\nnote: .* has no CAP_SYS_RAWIO", got[3])
    assert.is_nil(got[4]:find "RAWIO")
  end)

  it("tells how a user stands to a group, and what makes a member of him", function()
    local got = run(bare, [[
      local rights = require "luio.host.doctor.rights"
      rights.group_file = root .. "/group"
      local results = {}
      local function case(groups, ours)
        put("/group", "root:x:0:\n" .. groups)
        put("/proc/self/status", "Name:\tx\nGid:\t1\t17\t1\t1\nGroups:\t" .. ours .. " \n")
        table.insert(results, rights.group "luio" .. " | " .. rights.join "luio")
      end
      case("", "0")
      case("luio-config:x:995:\n", "995")
      case("luio:x:995:\n", "99 9950")
      case("luio:x:995:somebody," .. rights.user() .. "\n", "9")
      case("luio:x:995:\n", "4 995 1000")
      case("luio:x:17:\n", "")
      return { results, rights.user() }]])
    local results, user = got[1], got[2]
    assert.equal("none | make install-system, in luio's source, makes the groups luio and luio-config and what udev has to do; "
      .. "then usermod -aG luio " .. user .. ", and log in anew; or sudo luio ...", results[1])
    assert.matches("^none | make install%-system", results[2])
    assert.equal("outside | usermod -aG luio " .. user .. "; then log in anew", results[3])
    assert.equal(("listed | log in anew: %s is in the group luio, but was not when this session began"):format(user), results[4])
    assert.matches("^member | udevadm control %-%-reload; udevadm trigger", results[5])
    assert.matches("^member", results[6])
  end)

  it("tells lockdown from no lockdown from not knowing", function()
    local got = run(bare, [[
      local unmounted = system "lockdown"
      put("/sys/kernel/security/lsm", "capability\n")
      local without = system "lockdown"
      local results = { unmounted[1], without[1] }
      for _, text in ipairs { "[none] integrity confidentiality", "none [integrity] confidentiality", "none integrity [confidentiality]" } do
        put("/sys/kernel/security/lockdown", text .. "\n")
        table.insert(results, system "lockdown"[1])
      end
      return results]])
    assert.equal("note: whether the kernel is locked down can't be seen: securityfs is not mounted | mount -t securityfs securityfs /sys/kernel/security",
      got[1])
    assert.equal("ok: this kernel has no lockdown", got[2])
    assert.equal("ok: the kernel is not locked down", got[3])
    assert.matches("^problem: the kernel is locked down %(integrity%): config space can't be written.*| switch secure boot off", got[4])
    assert.matches("^problem: the kernel is locked down %(confidentiality%)", got[5])
  end)

  it("counts hugepages of each size", function()
    local got = run(bare, [[
      local none = system "hugepages"[1]
      local dir = "/sys/kernel/mm/hugepages/hugepages-"
      for _, kb in ipairs { "2048kB", "1048576kB", "64kB" } do
        put(dir .. kb .. "/nr_hugepages", "0\n")
        put(dir .. kb .. "/free_hugepages", "0\n")
      end
      local empty = system "hugepages"[1]
      put(dir .. "2048kB/nr_hugepages", "32\n")
      local taken = system "hugepages"[1]
      put(dir .. "2048kB/free_hugepages", "31\n")
      return { none, empty, taken, system "hugepages"[1] }]])
    assert.matches("^note: this kernel has no hugepages", got[1])
    assert.equal("note: 0 of 0 pages of 64 KiB free, 0 of 0 pages of 2 MiB free, 0 of 0 pages of 1 GiB free: DMA buffers of at most 4096 bytes"
      .. " | echo 32 > /proc/sys/vm/nr_hugepages", got[2])
    assert.matches("^note: .*0 of 32 pages of 2 MiB free", got[3])
    assert.equal("ok: 0 of 0 pages of 64 KiB free, 31 of 32 pages of 2 MiB free, 0 of 0 pages of 1 GiB free", got[4])
  end)

  it("says whether an IOMMU translates, and what was booted with", function()
    local got = run(bare, [[
      local none = system "iommu"[1]
      put("/sys/class/iommu/dmar0/x", "")
      put("/sys/kernel/iommu_groups/0/type", "identity\n")
      put("/sys/kernel/iommu_groups/1/type", "identity\n")
      put("/proc/cmdline", "root=/dev/sda1 intel_iommu=on iommu=pt quiet\n")
      local identity = system "iommu"[1]
      put("/sys/kernel/iommu_groups/1/type", "DMA-FQ\n")
      return { none, identity, system "iommu"[1] }]])
    assert.equal("ok: no IOMMU is in use: devices see physical addresses", got[1])
    assert.equal("ok: IOMMU dmar0: all 2 groups pass addresses through (booted with intel_iommu=on iommu=pt)", got[2])
    assert.equal("problem: IOMMU dmar0: 1 of 2 groups translate (DMA-FQ) (booted with intel_iommu=on iommu=pt): no DMA by physical addresses "
      .. "for the devices in them | boot with iommu=pt, or for one unbound device: echo identity > /sys/bus/pci/devices/ADDRESS/iommu_group/type",
      got[3])
  end)

  it("knows the limits of locked memory and of real-time priority", function()
    local got = run(bare, [[
      put("/proc/self/status", "CapEff:\t0000000000000000\n")
      local results = {}
      for _, row in ipairs { { "65536", "0" }, { "4096", "50" }, { "unlimited", "0" } } do
        put("/proc/self/limits", "Limit                     Soft Limit           Hard Limit           Units     \n"
          .. "Max locked memory         " .. row[1] .. "                unlimited            bytes     \n"
          .. "Max realtime priority     " .. row[2] .. "                    0                              \n")
        table.insert(results, system "memlock"[1])
        table.insert(results, system "realtime"[1])
      end
      return results]])
    assert.equal("ok: 64 KiB of memory may be locked", got[1])
    assert.matches("^note: interrupt threads can't have real%-time priority.*| ulimit %-r 50", got[2])
    assert.matches("^note: .* may lock 4096 bytes of memory: too little.*| ulimit %-l unlimited", got[3])
    assert.equal("ok: interrupt threads may have real-time priority up to 50", got[4])
    assert.equal("ok: locked memory has no limit", got[5])
  end)

  it("names nodes that can't be opened", function()
    local got = run(udev.uio(3), [[return system "nodes"]])
    assert.matches("^problem: .* can't open /dev/uio3 %(ENOENT%) | udevadm trigger %-%-subsystem%-match=uio$", got[1])
    got = run(fine(), [[return system "nodes"]])
    assert.matches("^ok: .* may open the UIO device$", got[1])
    got = run(bare, [[return system "nodes"]])
    assert.same({ "note: no device has a UIO driver now | luio bind ADDRESS (luio list shows them)" }, got)
  end)

  it("names drivers that do not load", function()
    local got = run(bare, [[
      put("/drivers/broken/init.lua", "return { name = 'broken', math = {} }\n")
      uv.os_setenv("LUIO_DRIVERS", root)
      return system "driver"]])
    assert.equal(1, #got)
    assert.matches("^problem: driver broken does not load: .*broken.math: did you mean match%? | luio lint broken$", got[1])
  end)
end)

describe("luio doctor, of a device,", function()
  it("finds nothing wrong with one that is ready", function()
    local got = run(fine(), [[return { device(), (doctor.device "uio4") ~= nil }]])
    assert.is_true(got[2])
    for _, line in ipairs(got[1]) do assert.is_truthy(line:match "^ok: " or line:match "hugepages", line) end
    assert.same({ "ok: edu matches", "ok: uio_pci_generic has it, as uio4", "ok: /dev/uio4 may be opened", "ok: nobody has it",
      "ok: region 0 is reached by uio4 map0", "ok: INTA, line 11", "ok: it is awake (D0)" }, { unpack(got[1], 1, 7) })
  end)

  it("says when no driver, or the kernel's own, has it, and what else uses it", function()
    local got = run(udev.pci(4, { config = config(0x103) }), [[
      put("/sys/module/uio/initstate", "live\n")
      put("/sys/module/uio_pci_generic/initstate", "live\n")
      local free = device "kernel driver"
      put("/sys/bus/pci/drivers/nvme/x", "")
      link("../../../bus/pci/drivers/nvme", DEVICE .. "/driver")
      put(DEVICE .. "/boot_vga", "1\n")
      return { free[1], device "kernel driver"[1], device "in use"[1] }]])
    assert.equal("problem: no kernel driver has it: its registers can be reached, its interrupts can't | luio bind 0000:00:04.0", got[1])
    assert.equal("problem: the kernel driver nvme has it | luio bind 0000:00:04.0", got[2])
    assert.matches("^problem: it is the display that the machine booted with: luio bind refuses to take it away", got[3])
  end)

  it("names maps that are no whole pages, which is all that UIO maps, and the other way", function()
    local got = run(udev.uio(3, {
      ["maps/map0/size"] = "0x100", ["maps/map1/addr"] = "0x20000024", ["maps/map2/name"] = "half", ["maps/map2/addr"] = "0x30000000",
      ["maps/map2/size"] = "0x1800", ["maps/map2/offset"] = "0x0", ["maps/map3/name"] = "kernel", ["maps/map3/addr"] = "0xffff888000000040",
      ["maps/map3/size"] = "0x80", ["maps/map3/offset"] = "0x0",
    }), [[return find(assert(doctor.device "uio3"), "regions")]])
    local function told(i, length, addr, reach, range)
      return ("problem: region %d has 0x%x bytes at 0x%x, and UIO maps whole pages: 0x%x bytes of it are reached by uio3 map%d | luio get mem:%s 0x0")
        :format(i, length, addr, reach, i, range)
    end
    assert.same({ told(0, 0x100, 0x10000000, 0, "0x10000000+0x100"), told(1, 0x4000, 0x20000024, 0, "0x20000020+0x4004"),
      told(2, 0x1800, 0x30000000, 0x1000, "0x30000000+0x1800"), "ok: region 3 is reached by uio3 map3" }, got)
  end)

  it("says that a region needs a file that lockdown forbids, but not one with a UIO map", function()
    local got = run(fine { resource = "0xfeb00000 0xfeb0ffff 0x40200\n0xc040 0xc047 0x40101\n0x8000000000 0x8000003fff 0x14220c"
      .. ("\n" .. udev.NO_BAR):rep(3) }, [[
      put(DEVICE .. "/resource1", "")
      local free = device "regions"
      put("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
      return { free, device "regions", device "interrupt" }]])
    assert.same({ "ok: region 0 is reached by uio4 map0", "ok: region 1 (I/O ports) is reached by resource1",
      "problem: region 2 (memory) is reached by resource2, which can't be opened: ENOENT | use another kernel: this one offers no such file" }, got[1])
    assert.same({ "ok: region 0 is reached by uio4 map0",
      "problem: region 1 (I/O ports) has no UIO map, and lockdown forbids resource1 | switch secure boot off, or boot without lockdown=",
      "problem: region 2 (memory) has no UIO map, and lockdown forbids resource2 | switch secure boot off, or boot without lockdown=" }, got[2])
    assert.matches("^problem: lockdown forbids writing config space, so interrupts can't be unmasked", got[3][1])
  end)

  it("says when it decodes none of its addresses, or does not answer at all", function()
    local got = run(fine { config = config(0x101) }, [[
      local off = device "regions"
      put(DEVICE .. "/config", ("\255"):rep(64))
      return { off, device "description" }]])
    assert.equal("problem: it does not decode its memory (command register 0x0101): what is read there is no register's value"
      .. " | setpci -s 0000:00:04.0 COMMAND=2:2",
      got[1][2])
    assert.matches("^problem: its config space reads as all ones: it is switched off, or fell off the bus | echo 1 > .*/remove; echo 1 > /sys/bus/pci/rescan",
      got[2][1])
  end)

  it("says when it sleeps, or is disabled", function()
    local got = run(fine { power_state = "D3hot", enable = "0" }, [[return device "power"]])
    assert.same({
      "problem: it sleeps (D3hot): registers read as all ones | echo on > /sys/devices/pci0000:00/0000:00:04.0/power/control",
      "problem: it has a UIO driver, but is disabled | luio unbind 0000:00:04.0; luio bind 0000:00:04.0",
    }, got)
  end)

  it("sees the power state and the messages that somebody wrote to config space, not only what the kernel knows of", function()
    local got = run(fine(), [[
      -- A list of capabilities: power management in D3, MSI on. The second is one that leads back to itself.
      local function with(list)
        local bytes = config(0x103)
        bytes = bytes:sub(1, 6) .. "\16" .. bytes:sub(8, 0x34) .. "\64" .. bytes:sub(0x36)
        put(DEVICE .. "/config", bytes .. list .. ("\0"):rep(192 - #list))
        return { device("power")[1], device("interrupt")[1] }
      end
      return {
        with "\1\80\3\0\3\0\0\0\0\0\0\0\0\0\0\0\5\0\1\0", with "\9\64\0\0", with "\1\0\3\0\0\0\0\0", with "\17\0\0\128",
      }]])
    assert.same({
      "problem: it sleeps (D3): registers read as all ones; a driver at work wakes it | setpci -s 0000:00:04.0 CAP_PM+4.w=0:3",
      "problem: MSI is on, so it drives no line, and uio_pci_generic sees no interrupt; a driver at work sets that right | "
        .. "setpci -s 0000:00:04.0 CAP_MSI+2.w=0:1",
    }, got[1])
    for i = 2, 3 do
      assert.equal("ok: it is awake (D0)", got[i][1])
      assert.matches("^ok: INTA", got[i][2])
    end
    assert.matches("^problem: MSIX is on, .* | setpci %-s 0000:00:04.0 CAP_MSIX%+2.w=0:8000", got[4][2])
  end)

  it("knows interrupts: no pin, no line, masked; worse when the driver waits for them", function()
    local got = run(fine(), [[
      put(DEVICE .. "/config", config(0x503))
      local masked = device "interrupt"
      put(DEVICE .. "/config", config(0x103, 0))
      local pinless = device "interrupt"
      put(DEVICE .. "/device", "0x9999\n") -- not edu's driver's any more
      local unknown = device "interrupt"
      put(DEVICE .. "/config", config(0x103, 2))
      put(DEVICE .. "/irq", "0\n")
      return { masked[1], pinless[1], unknown[1], device "interrupt"[1] }]])
    assert.equal("ok: INTA, line 11; masked now: luio unmasks at the first wait", got[1])
    assert.matches("^problem: it has no INTx pin: UIO gives it no interrupts, but its luio driver waits for them", got[2])
    assert.matches("^note: it has no INTx pin: UIO gives it no interrupts |", got[3])
    assert.matches("^note: its pin INTB was given no interrupt line", got[4])
  end)

  it("knows what DMA takes: an IOMMU that does not translate; and a bus master that was left on", function()
    local got = run(fine(), [[
      local off = device "bus master"
      put(DEVICE .. "/config", config(0x107))
      local on = device "bus master"
      put("/proc/812/fd/x", "")
      link("/dev/uio4", "/proc/812/fd/7")
      put("/proc/812/comm", "testpmd\n")
      local driven = { device "bus master"[1], device "holder"[1] }
      put("/sys/kernel/iommu_groups/7/type", "DMA\n")
      put("/sys/kernel/iommu_groups/7/devices/0000:00:04.0/x", "")
      put("/sys/kernel/iommu_groups/7/devices/0000:00:04.1/x", "")
      link("../../../kernel/iommu_groups/7", DEVICE .. "/iommu_group")
      local translated = device "iommu"
      put("/sys/kernel/iommu_groups/7/type", "identity\n")
      return { off[1], on[1], driven, translated[1], device "iommu"[1] }]])
    assert.equal("ok: bus master is off; luio switches it on when the driver starts", got[1])
    assert.equal("note: bus master is on, though nobody drives it: it may still write to memory | setpci -s 0000:00:04.0 COMMAND=0:4", got[2])
    assert.same({ "ok: bus master is on", "problem: process 812 (testpmd) drives it: /dev/uio4 | kill 812" }, got[3])
    assert.equal("problem: the IOMMU translates for it (group 7, DMA): physical addresses would fault, so luio refuses DMA | boot with iommu=pt; "
      .. "or with it unbound, and the other device of the group: echo identity > /sys/devices/pci0000:00/0000:00:04.0/iommu_group/type", got[4])
    assert.equal("ok: IOMMU group 7 passes addresses through", got[5])
  end)

  it("asks for no more rights than the driver needs", function()
    local got = run(fine { device = "0x0002", vendor = "0x1b36" }, [[
      put("/proc/self/status", "CapEff:\t0000000000000000\n")
      local uart = device "permission" -- uart16550 does no DMA
      put(DEVICE .. "/vendor", "0x1234\n")
      put(DEVICE .. "/device", "0x11e8\n")
      return { uart[1], device "permission"[1] }]])
    assert.matches("^note: .* has no CAP_SYS_ADMIN", got[1])
    assert.matches("^problem: .* has no CAP_SYS_ADMIN", got[2])
  end)

  it("says what a driver for it would match", function()
    -- Of a clock that no driver here knows: pl099.
    local got = run((udev.tree("spec/udev/recorded.umockdev"):gsub("706C303331", "706C303939")), [[
      local results = {}
      for _, address in ipairs { "0000:00:1a.0", "uio10", "uio2" } do
        table.insert(results, find(assert(doctor.device(address)), "luio driver")[1])
      end
      return results]])
    assert.matches('begins one, or put match = { pci = "1b36:0010" } into drivers/NAME/init.lua$', got[1])
    assert.matches('begins one, or put match = { of = "arm,pl099" } into', got[2])
    assert.matches('begins one, or put match = { uio = "card" } into', got[3])
  end)

  it("has little to say of a simulated one", function()
    local got = run(fine(), [[return find(assert(doctor.device "sim:edu"))]])
    assert.same({ "ok: its model runs: sim:edu", "ok: edu matches" }, got)
  end)

  it("shows status, text and remedy; exits with 1 when something stops a driver; as JSON, too", function()
    local got = run(fine(), [[
      local output = require "luio.tool.output"
      put("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0\n")
      local good = { command("doctor", A) }
      put(DEVICE .. "/power_state", "D3cold\n")
      output.columns = function() return 40 end
      return { good, { command("doctor", A) }, { command("doctor", A, "--json") }, { command("doctor", "uio9") } }]])
    assert.equal(0, got[1][2], got[1][1])
    assert.matches("^ok       luio driver: edu matches\n", got[1][1])
    assert.matches("\nnote     hugepages: 0 of 0 pages of 2 MiB free: DMA buffers of at most 4096 bytes\n         remedy: echo 32 > /proc/sys/vm/nr_hugepages\n$",
      got[1][1])
    assert.equal(1, got[2][2])
    assert.matches("\nproblem  power: it sleeps %(D3cold%):\n         registers read as all ones\n         remedy: echo on > /sys/", got[2][1])
    assert.matches("\n1 problem\n$", got[2][1])
    assert.equal(1, got[3][2])
    local list = require("dkjson").decode(got[3][1])
    assert.same({ check = "luio driver", status = "ok", text = "edu matches" }, list[1])
    assert.same({ "luio: there is no device uio9: `luio list` shows what there is\n", 1, "" }, got[4])
  end)
end)
