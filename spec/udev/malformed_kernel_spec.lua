--- Text of the kernel's that no kernel should write, beside that of single devices (malformed_pci_spec, malformed_uio_spec): each
--- fault that spec/fuzz/kernel has found, by itself; and that it drives all that reads such text.

local files = require "spec.support.files"
local text = require "spec.support.kernel_text"
local udev = require "spec.support.umockdev"

local CARD = "/sys/devices/pci0000:00/0000:00:0c.0"

-- Runs code where the whole machine is described, with `link(path, target)`, and `uses` and so on loaded.
local function run(code)
  return udev.run(text.TREE, ([[
    local text = require "spec.support.kernel_text"
    local root = os.getenv "UMOCKDEV_DIR"
    local function must(command, ...) assert(os.execute(command:format(...)) == 0) end
    local function link(path, target)
      must("mkdir -p '%%s%%s' && ln -sfn '%%s' '%%s%%s'", root, path:match "^(.*)/", target, root, path)
    end
    text.build(root)
    local inspect, uses, doctor = require "luio.host.inspect", require "luio.host.in_use", require "luio.host.doctor"
    local CARD = %q
    local card = assert(inspect.find "0000:00:0c.0")
    local function finding(check)
      for _, one in ipairs(doctor.system()) do
        if one.check == check then return one.text end
      end
    end
  ]]):format(CARD) .. code)
end

describe("what the kernel says, when it is not broken,", function()
  it("is read by every parser without a complaint, and the device opened", function()
    local got = run [[
      for i, parser in ipairs(text.PARSERS) do
        math.randomseed(i)
        for _ = 1, 5 do parser.run() end
      end
      local dev = assert(luio.open "0000:00:0c.0")
      local on = dev:bus_master(true)
      local size = dev:region(0).size
      dev:close()
      return { on = on, size = size, maps = #uses.of(card) }]]
    assert.same({ on = true, size = 0x10000 }, { on = got.on, size = got.size })
    assert.is_true(got.maps > 3)
  end)
end)

describe("/proc/iomem", function()
  -- The range's problem with this file, or "none".
  local function problem(iomem)
    return run(([[
      put("/proc/iomem", %q)
      return inspect.find("mem:0x21000000+0x1000").problem or "none"]]):format(iomem))
  end
  local HEAD = "00000000-00000fff : Reserved\n"
  local PCI = "20000000-2fffffff : PCI Bus 0000:00\n"
  local NOT_UNDERSTOOD = "/proc/iomem can't be understood, so what is there can't be checked: is /proc mounted?"

  it("is not believed when it ends in the middle of a line: what is missing could be memory", function()
    assert.equal("none", problem(HEAD .. PCI))
    assert.equal(NOT_UNDERSTOOD, problem(HEAD .. PCI:sub(1, -2)))
  end)

  it("is not believed when something stands behind a NUL", function()
    assert.equal(NOT_UNDERSTOOD, problem(HEAD .. "\0\n20000000-2fffffff : System RAM\n"))
  end)
end)

describe("/proc/self/pagemap", function()
  it("gives no address beyond 64 bits", function()
    local got = run [[
      link("/proc/self/pagemap", "/dev/urandom") -- frames of 55 bits, present or not
      local dev = assert(luio.open "uio12")
      local seen = {}
      for _ = 1, 300 do
        local buffer, message, code = dev.dma:alloc(4096)
        local what = buffer and (buffer.iova < 2 ^ 64 and "fine" or "too far") or message:match "beyond 64 address bits" and code or "other"
        seen[what] = true
        if buffer then buffer:free() end
      end
      dev:close()
      return seen]]
    assert.is_true(got.EFAULT)
    assert.is_nil(got["too far"])
  end)
end)

describe("an IOMMU", function()
  it("whose type is nothing that can be read is not taken for none", function()
    local got = run [[
      local said = {}
      for i, kind in ipairs { "DMA\n", "identity\0DMA\n", ("D"):rep(40), "identity\n" } do
        put("/sys/kernel/iommu_groups/3/type", kind)
        local dev = assert(luio.open "uio12")
        local buffer, message = dev.dma:alloc(4096)
        said[i] = buffer and "a buffer" or message:match "the IOMMU translates" or message:match "whether an IOMMU translates" or "other"
        dev:close()
      end
      return said]]
    assert.same({ "the IOMMU translates", "whether an IOMMU translates", "whether an IOMMU translates" }, { unpack(got, 1, 3) })
    assert.is_true(got[4] == "a buffer" or got[4] == "other") -- what pagemap says is random
  end)
end)

describe("a number that is none", function()
  it("is no hugepage, and no limit #plain", function()
    local got = run [[
      local texts = {}
      for i, number in ipairs { "nan", "-5", "inf", "0x20", "1e9", "3.5", "99999999999999999999" } do
        put("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", number)
        put("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", number)
        put("/proc/self/limits", ("Max realtime priority     %s    50\n"):format(number))
        put("/proc/self/status", "CapEff:\t0\n")
        texts[i] = finding "hugepages" .. "; " .. finding "realtime"
      end
      put("/sys/kernel/mm/hugepages/hugepages-99999999999999999999kB/nr_hugepages", "1")
      texts.folder = finding "hugepages"
      return texts]]
    for i = 1, 7 do
      assert.equal("0 of 0 pages of 2 MiB free: DMA buffers of at most 4096 bytes; interrupt threads can't have real-time priority "
        .. "(priority = N of an interrupt)", got[i])
    end
    assert.equal("0 of 0 pages of 2 MiB free: DMA buffers of at most 4096 bytes", got.folder)
  end)

  it("is no IOMMU group and no process #plain", function()
    local got = run [[
      local groups = {}
      for i, name in ipairs { "nan", "0x3", "1e5", "-3" } do
        put("/sys/kernel/iommu_groups/" .. name .. "/type", "identity")
        link(CARD .. "/iommu_group", "../../../kernel/iommu_groups/" .. name)
        groups[i] = inspect.iommu(card) or "none"
      end
      link("/proc/99999999999999999999/fd/3", "/dev/uio12")
      local holders = (require("luio.host.holders").of(assert(inspect.find "uio12")))
      return { groups = groups, holders = #holders, pid = holders[1].pid }]]
    assert.same({ groups = { "none", "none", "none", "none" }, holders = 1, pid = 812 }, got)
  end)
end)

describe("what is built upon something #plain", function()
  it("is walked once, though it is built upon itself", function()
    local got = run [[
      local names, commands = {}, {}
      local function folder(path) table.insert(commands, ("mkdir -p '%s%s'"):format(root, path)) end
      local function link(path, target)
        folder(path:match "^(.*)/")
        table.insert(commands, ("ln -sfn '%s' '%s%s'"):format(target, root, path))
      end
      for i = 1, 12 do names[i] = "loop" .. i end
      for _, name in ipairs(names) do
        for _, upper in ipairs(names) do folder(("/sys/devices/virtual/net/%s/upper_%s"):format(name, upper)) end
        folder(("%s/net/eth9/upper_%s"):format(CARD, name))
        link("/sys/class/net/" .. name, "../../devices/virtual/net/" .. name)
        local block = "/sys/devices/virtual/block/" .. name
        for _, upper in ipairs(names) do link(("%s/holders/%s"):format(block, upper), "../../" .. upper) end
        link("/sys/class/block/" .. name, "../../devices/virtual/block/" .. name)
        link(("%s/block/sda/sda1/holders/%s"):format(CARD, name), "../../../../../../../virtual/block/" .. name)
      end
      local script = os.tmpname()
      require("spec.support.files").save(script, table.concat(commands, "\n"))
      must("sh -e '%s' && rm '%s'", script, script)
      put("/proc/self/mountinfo", "")
      put("/proc/swaps", "")
      put("/proc/net/route", "")
      put("/proc/net/ipv6_route", "")
      return #uses.of(card)]]
    assert.is_true(got > 0 and got < 100)
  end)
end)

describe("a swap area #plain", function()
  it("without a name is none", function()
    local got = run [[
      put("/proc/self/mountinfo", "")
      put("/proc/swaps", "Filename Type Size Used Priority\n/ partition 1 0 -2\n//// file 1 0 -2\n/dev/sda1 partition 1 0 -2\n")
      local texts = {}
      for _, use in ipairs(uses.of(card)) do
        if use.text:find "swap" then table.insert(texts, use.text) end
      end
      return texts]]
    assert.same({ "its disk sda1 is swap" }, got)
  end)
end)

describe("a name", function()
  it("is quoted in a command that is to be pasted, and shortened where it is shown #plain", function()
    local got = run [[
      put("/proc/self/mountinfo", ("36 21 8:1 / /a'; \\040reboot;'%s rw - ext4 /dev/sda1 rw\n"):format(("b"):rep(300)):gsub(" \\", "\\"))
      for _, use in ipairs(uses.of(card)) do
        if use.text:find "sda1 is mounted" then return use end
      end]]
    assert.equal("umount '/a'\\'';' reboot;'\\''" .. ("b"):rep(300) .. "'", (got.remedy:gsub("; reboot", ";' reboot")))
    assert.is_true(#got.text < 160)
  end)

  it("of an event is cleaned; one longer than any device's is of no device of ours", function()
    local bad = "/devices/platform/dev7/uio/uio\27[2J"
    local long = "/devices/platform/dev7/uio/uio" .. ("7"):rep(100)
    local tree = text.TREE .. udev.device(bad, "uio", {}) .. udev.device(long, "uio", {})
    local got = udev.run(tree, ([[
      local bed, bad, long = testbed(), %q, %q
      local monitor = assert(luio.monitor())
      bed.uevent("/sys" .. long, "add")
      bed.uevent("/sys" .. bad, "add")
      local addresses = {}
      luio.run(function()
        for i = 1, 2 do
          local event = monitor:wait(i == 1 and 5 or 0.1)
          addresses[i] = event and event.address
        end
      end)
      monitor:close()
      bed.close()
      return addresses]]):format(bad, long))
    assert.same({ "uio?[2J" }, got)
  end)
end)

describe("spec/fuzz/kernel #plain", function()
  -- Reading /sys or /proc: by a path, by a folder that was found, by what reads both.
  local READS = { '"/proc/', '"/sys/', "info%.sysfs", "sysfs%.read", "sysfs%.bytes", "sysfs%.entries", "sysfs%.proc", "udev_device_get_sysattr" }
  -- Those that read nothing that a parser makes something of, each with why.
  local NONE = {
    ["runtime/main.c"] = "/proc/self/exe: a link to the program itself",
    ["runtime/monitor.c"] = "events: above, and spec/udev/monitor_spec.lua",
    ["runtime/guard.c"] = "names the device's config file to the guardian",
    ["runtime/guard_bars.c"] = "a node's number, compared with the node's own: spec/guest/bars_spec.lua",
    ["runtime/guardian_children.c"] = "its own children: their numbers",
    ["runtime/files.c"] = "/proc/self/fd of its own, to open it once it was looked at",
    ["runtime/qemu.c"] = "descriptors that QEMU opens, by /proc/self/fd",
    ["runtime/porter.c"] = "/proc/self/fd of a descriptor that it was given: spec/net/share_spec.lua",
    ["runtime/watchdog.c"] = "schedstat and stat of a thread of its own: a number, a letter",
    ["lua/luio/hotplug/bus_errors.lua"] = "names and numbers of the AER counters: spec/guest/faults/aer_spec.lua",
    ["lua/luio/hotplug/bridges.lua"] = "addresses out of a path, two bytes of config space: spec/guest/faults/bridge_spec.lua",
    ["lua/luio/hotplug/config_watch.lua"] = "how often and how long the machine was asleep: three numbers",
    ["lua/luio/driver/lint_code.lua"] = "a driver's Lua",
    ["lua/luio/net/pcapng.lua"] = "/proc/self/fd of its own, to open it once more",
    ["lua/luio/net/memif/memory.lua"] = "/proc/self/fd of what a client gave: spec/net/memif_spec.lua",
    ["lua/luio/host/discovery.lua"] = "makes a table of what C has read",
    ["lua/luio/qemu/attach.lua"] = "/proc/PID/cwd of a QEMU, to open a socket that it named: spec/qemu/attach_spec.lua",
    ["lua/luio/qemu/scratch.lua"] = "/proc/PID/fd of its own, as a name for QEMU",
    ["lua/luio/tool/cli/dma.lua"] = "hugepages, by sysfs.hugepages",
    ["lua/luio/tool/cli/run.lua"] = "hands the path on",
    ["lua/luio/tool/output.lua"] = "/proc/self/fd of its own, to open it once more",
  }

  it("drives everything that reads /sys or /proc", function()
    local driven, missing, unknown = {}, {}, {}
    for _, parser in ipairs(text.PARSERS) do
      for _, path in ipairs(parser.covers) do driven[path] = true end
    end
    local list = files.shell "find runtime lua/luio -name '*.c' -o -name '*.lua' | sort"
    local seen = {}
    for path in list:gmatch "%S+" do
      seen[path] = true
      local source = files.read(path)
      for _, pattern in ipairs(READS) do
        if source:find(pattern) and not driven[path] and not NONE[path] then
          table.insert(missing, path)
          break
        end
      end
    end
    for path in pairs(driven) do
      if not seen[path] then table.insert(unknown, path) end
    end
    for path in pairs(NONE) do
      if not seen[path] or driven[path] then table.insert(unknown, path) end
    end
    assert.same({ missing = {}, unknown = {} }, { missing = missing, unknown = unknown })
  end)

  it("finds nothing in a first look", function()
    local out, status = files.shell "spec/fuzz/kernel 0 1"
    assert.equal(0, status, out)
    assert.matches("fuzz kernel: %d+ cases", out)
  end)
end)
