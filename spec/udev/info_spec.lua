--- luio info on recorded and written sysfs trees: its output, for people and as JSON.

local amount = require "spec.support.amount"
local udev = require "spec.support.umockdev"
local config = udev.config

local RUNS = amount(12, 20000)

local recorded = udev.tree "spec/udev/recorded.umockdev"

-- Runs before the code of a spec: `info(address)` is what the command prints, and its status.
local PRELUDE = [[
  local config = require("spec.support.umockdev").config
  local output = require "luio.tool.output"
  local sysfs = require "luio.host.sysfs"
  local root = os.getenv "UMOCKDEV_DIR"
  sysfs.proc = root .. "/proc"
  put("/proc/1/comm", "init\n")
  local function info(...)
    return command("info", ...)
  end
]]

local function run(tree, code, times)
  return udev.run(tree, PRELUDE .. code, times)
end

describe("luio info", function()
  it("shows a PCI device: who it is, its regions and how each is reached, interrupt, DMA", function()
    local got = run(recorded, [[
      put("/sys/devices/pci0000:00/0000:00:10.0/config", config(0x0407, 1))
      return { (info "0000:00:10.0"), (info "uio3") }]])
    assert.equal([[
address       0000:00:10.0
id            1af4:1005, subsystem 0000:0000, revision 0x00
class         0x00ff00, unclassified
bus           pci
kernel driver uio_pci_generic
uio           uio3, uio_pci_generic, version 0.01.0, 5 interrupts so far
luio driver   no driver in drivers/ matches
region 0      I/O ports 0xc060+0x20 (32 bytes), by resource0
region 1      memory 0xfebf1080+0x80 (128 bytes), by uio3 map1
region 3      memory 0xfebf2000+0x1000 (4 KiB), by uio3 map0
region 4      memory 0x8000000000+0x4000 (16 KiB), 64-bit, prefetchable, by resource4
map 0         0xfebf2000+0x1000 0000:00:10.0
map 1         0xfebf1000+0x1000, starts at 0x80 0000:00:10.0
interrupt     INTA, masked (INTx disable is set)
command       0x0407: memory on, ports on, bus master on
IOMMU         none for it: DMA uses physical addresses
held by       nobody
sysfs         /sys/devices/pci0000:00/0000:00:10.0
]], got[1])
    assert.equal(got[1], got[2])
  end)

  -- Without luio.compiler every fourth process ends with a segmentation fault (Debian 12's LuaJIT).
  it("says so each time, compiled", function()
    local got = run(recorded, [[return { (info "0000:00:10.0"), (info "uio3") }]], RUNS)
    assert.matches("^address       0000:00:10.0\n.*\nregion 4      memory", got[1])
    assert.equal(got[1], got[2])
  end)

  it("shows a device of the device tree, and one of ports", function()
    local got = run(recorded, [[return { (info "uio10"), (info "uio2") }]])
    assert.matches("\ncompatible    arm,pl031 arm,primecell generic%-uio\nbus           platform\n", got[1])
    assert.matches("\nregion 1      memory 0x9020f80%+0x100 %(256 bytes%), by uio10 map1\n", got[1])
    assert.is_nil(got[1]:find "\nmap ")
    assert.matches("\nregion 0      I/O ports 0x300%+0x8 %(8 bytes%), by uio2 port0\nregion 1      I/O ports 0xfff0%+0x10 %(16 bytes%), by uio2 port1\n", got[2])
    assert.matches("\nports 0       0x300%+0x8 port_x86 control\nports 1       0xfff0%+0x10 port_x86\n", got[2])
  end)

  it("shows an IOMMU group, NUMA node, power state, and what was wrong with the description", function()
    local group = "/sys/kernel/iommu_groups/3"
    local code = [[
      put("%s/type", "DMA-FQ\n")
      put("%s/devices/0000:00:04.0/x", "")
      put("%s/devices/0000:00:04.1/x", "")
      assert(require("luv").fs_symlink("../../../kernel/iommu_groups/3", root .. "/sys/devices/pci0000:00/0000:00:04.0/iommu_group"))
      return (info "0000:00:04.0")]]
    local out = run(udev.pci(4, { numa_node = "1", power_state = "D3hot", revision = "0x100" }), code:format(group, group, group))
    assert.matches("\nIOMMU         group 3, DMA%-FQ: it translates; 1 other device in it\n", out)
    assert.matches("\nNUMA node     1\n", out)
    assert.matches("\npower         D3hot\n", out)
    assert.matches("\nproblem       revision is 0x100, more than 0xff\n$", out)
    assert.matches("\nuio           none: luio bind 0000:00:04.0\n", out)
  end)

  it("says what it can't read, and when nobody answers", function()
    local out = run(udev.pci(4), [[return (info "0000:00:04.0")]])
    assert.matches("\ncommand       can't be read: /sys/devices/pci0000:00/0000:00:04.0/config: No such file or directory\n", out)
    out = run(udev.pci(4, { config = ("\255"):rep(64) }), [[return (info "0000:00:04.0")]])
    assert.matches("\ncommand       all ones: the device does not answer\n", out)
    out = run(udev.pci(4, { config = config(0, 0) }), [[return (info "0000:00:04.0")]])
    assert.matches("\ninterrupt     no INTx pin: ", out)
  end)

  it("tells the vectors of a device that sends messages, where this user can see them", function()
    -- MSI-X with 5 entries at 0x40, MSI with up to 8 vectors at 0x50.
    local long = config(2, 1):sub(1, 6) .. "\16\0" .. config(2, 1):sub(9, 0x34) .. "\64" .. config(2, 1):sub(0x36)
      .. "\17\80\4\0" .. ("\0"):rep(12) .. "\5\0\6\0" .. ("\0"):rep(172)
    local got = run(udev.pci(4, { config = long }), [[return { (info "0000:00:04.0"), (info("0000:00:04.0", "--json")) }]])
    assert.matches("\nvectors       INTx 1, MSI 8, MSI%-X 5; by UIO INTx alone\n", got[1])
    assert.same({ intx = 1, msi = 8, msix = 5 }, require("dkjson").decode(got[2]).kinds)
    assert.is_nil(run(udev.pci(4, { config = long:sub(1, 64) }), [[return (info "0000:00:04.0")]]):match "\nvectors")
  end)

  it("tells an interrupt only where there is one", function()
    local pin = "which was given no line: poll"
    assert.matches("\ninterrupt     INTA, " .. pin .. "\n",
      run(udev.pci(4, { config = config(2, 1), irq = "0" }), [[return (info "0000:00:04.0")]]))
    local got = run(udev.uio(4, { name = "timer", event = "0" }) .. udev.uio(5, { name = "fabric", event = "0" })
      .. udev.uio(6, { name = "pruss", event = "9" }), [[
      local hidden = info "uio4"
      put("/sys/kernel/irq/9/actions", "acpi\n")
      put("/sys/kernel/irq/20/actions", "virtio0,timer,eth0\n")
      local got = { hidden, (info "uio4"), (info "uio5"), (info "uio6") }
      put("/sys/kernel/irq/107/actions", "timer\n")
      got[5] = info "uio4"
      got[6] = info("uio5", "--json")
      return got]])
    local expected = {
      "by uio4, if its UIO driver has one: this kernel does not show it", "by uio4, line 20",
      "none: its UIO driver has no line, and has told of no event: poll",
      "by uio6, whose UIO driver tells of events by itself: it has no line",
      "by uio4, line 20 or 107, which another device of that name may have",
    }
    for i, text in ipairs(expected) do assert.equal(text, got[i]:match "\ninterrupt     ([^\n]*)") end
    assert.same({}, require("dkjson").decode(got[6]).uio_lines)
  end)

  it("knows a virtual function by its physical one, and what the header of such leaves out", function()
    local zeros = ("\0"):rep(4)
    local tree = udev.pci(4, { config = config(2), sriov_numvfs = "2" })
      .. udev.pci(5, { config = ("\255"):rep(4) .. config(0, 1):sub(5), irq = "0" })
    local got = run(tree, ([[
      local link = require("luv").fs_symlink
      local PF, VF = "/sys/devices/pci0000:00/0000:00:04.0", "/sys/devices/pci0000:00/0000:00:05.0"
      assert(link("../0000:00:04.0", root .. VF .. "/physfn"))
      assert(link("../0000:00:05.0", root .. PF .. "/virtfn0"))
      assert(link("../0000:00:06.0", root .. PF .. "/virtfn10"))
      assert(link("../0000:00:05.1", root .. PF .. "/virtfn9"))
      local got = { (info "0000:00:05.0"), (info "0000:00:04.0") }
      local function capability(control) -- the SR-IOV capability behind another
        return config(2) .. ("\0"):rep(0x100 - 64) .. "\3\0\1\20" .. ("\0"):rep(0x140 - 0x104) .. "\16\0\1\0%s"
          .. string.char(control) .. ("\0"):rep(64)
      end
      for i, control in ipairs { 9, 1 } do
        put(PF .. "/config", capability(control))
        got[2 + i] = info "0000:00:05.0"
      end
      put(VF .. "/config", ("\255"):rep(64))
      got[5] = info "0000:00:05.0"
      return got]]):format(zeros:gsub("%z", "\\0")))
    assert.matches("\nid            1234:11e8, ", got[1])
    assert.matches("\nvirtual       a function of 0000:00:04.0\n", got[1])
    assert.matches("\ninterrupt     a virtual function has no INTx: poll, or use MSI%-X by another driver\n", got[1])
    assert.matches("\ncommand       0x0000: memory unknown %(root sees it%) by 0000:00:04.0, ports off, bus master off\n", got[1])
    assert.matches("\nvirtual       3 functions: 0000:00:05.0 0000:00:05.1 0000:00:06.0\n", got[2])
    assert.matches("\ncommand       0x0000: memory on by 0000:00:04.0, ", got[3])
    assert.matches("\ncommand       0x0000: memory off by 0000:00:04.0, ", got[4])
    assert.matches("\ncommand       all ones: the device does not answer\n", got[5])
  end)

  it("names who holds the device", function()
    local out = run(recorded, [[
      put("/proc/812/cmdline", "luio\0run\0edu\0")
      put("/proc/812/fd/x", "")
      assert(require("luv").fs_symlink("/dev/uio0", root .. "/proc/812/fd/7"))
      put("/proc/812/fdinfo/7", "pos:\t0\nlock:\t1: FLOCK  ADVISORY  WRITE 812 00:05:110 0 EOF\n")
      return (info "uio0")]])
    assert.matches("\nheld by       process 812 %(luio run edu%) drives it: /dev/uio0, luio's lock\n", out)
  end)

  it("wraps at words on a narrow terminal, below its column", function()
    local got = run(recorded, [[
      output.columns = function() return 40 end
      local narrow = info "0000:00:10.0"
      output.columns = function() return 10 end
      return { narrow, (info "0000:00:10.0") }]])
    for line in got[1]:gmatch "[^\n]+" do
      assert.is_true(#line <= 40 or line:match "^[%a ]+/sys/%S+$" ~= nil, line)
    end
    assert.matches("\nregion 4      memory 0x8000000000%+0x4000\n              %(16 KiB%), 64%-bit,\n              prefetchable, by resource4\n", got[1])
    assert.matches("\nregion 0      I/O ports\n", got[2])
  end)

  it("is one JSON document with lists that have gaps numbered", function()
    local text = run(recorded, [[return (info("0000:00:10.0", "--json"))]])
    local all = require("dkjson").decode(text)
    local regions = {}
    for i, region in ipairs(all.regions) do regions[i] = ("%d %s %s"):format(region.index, region.kind, region.by) end
    assert.same({ "0 port resource0", "1 memory uio3 map1", "3 memory uio3 map0", "4 memory resource4" }, regions)
    assert.same({ "0000:00:10.0", "uio3", 0x1af4, {}, false }, { all.address, all.uio, all.vendor, all.holders, all.holders_partial })
    assert.is_truthy(text:find('"holders":[]', 1, true))
    assert.same({ 1, 0x80 }, { all.maps[2].index, all.maps[2].offset })
    assert.is_string(all.config_problem)
  end)

  it("works for simulated devices, and refuses what is none", function()
    local got = run(recorded, [[
      local fs = { (info "sim:edu"), (info("sim:edu", "--json")) }
      local err, status = {}, {}
      for i, address in ipairs { "sim:nope", "uio77", "nonsense", "uio0\0x" } do err[i], status[i] = info(address) end
      return { fs[1], fs[2], table.concat(err), status }]])
    assert.matches("^address       sim:edu\n", got[1])
    assert.matches("\nregion 0      memory 0xfe000000%+0x100000 %(1 MiB%), by its model\ninterrupt     by its model\n$", got[1])
    assert.equal("edu", require("dkjson").decode(got[2]).luio_driver)
    assert.matches('there is no model "nope"', got[3])
    assert.matches("there is no device uio77", got[3])
    assert.matches('"nonsense" is not a device address: uio0 or 0000:00:04.0; a simulated one is sim:NAME', got[3])
    assert.matches('"uio0\\0x" is not a device address', got[3], 1, true)
    assert.same({ 1, 1, 2, 2 }, got[4])
  end)
end)
