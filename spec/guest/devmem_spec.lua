--- mem:0xADDR+0xLEN in a real kernel: edu's BAR by /dev/mem, without a driver; ranges that /proc/iomem and the kernel rule out.
--- Debian's has CONFIG_STRICT_DEVMEM and CONFIG_IO_STRICT_DEVMEM.

local bit = require "bit"
local conformance = require "spec.backend.conformance"
local documents = require "spec.support.documents"
local files = require "spec.support.files"
local luio = require "luio"
local place = require "luio.tool.explore.place"
local program = require "spec.support.program"
local record = require "luio.tool.explore.record"
local sysfs = require "spec.support.sysfs"
local system = require "spec.support.system"
local target = require "luio.tool.explore.target"
local uv = require "luv"

local EDU, NIC, NODE = "0000:00:04.0", "0000:00:05.0", "/dev/mem"

-- The address map of the guest's board.
local PC = uv.os_uname().machine == "x86_64"
local MAIN_RAM = PC and "^00100000%-%x+ : System RAM" or "^40000000%-%x+ : System RAM"
local CLAIMED = PC and { IOAPIC = "IOAPIC 0 has 0xfec00000%-0xfec003ff", MMCONFIG = "PCI MMCONFIG" }
  or { ["9000000.pl011"] = "pl011", ["PCI ECAM"] = "PCI ECAM" }
local function nothing() end
local on_pc, on_board = PC and it or nothing, PC and nothing or it

-- A memory BAR as the device's own file has it, and as an address for luio.
local function bar(address, index)
  local n = 0
  for line in (sysfs.read("bus/pci/devices/" .. address .. "/resource") .. "\n"):gmatch "(.-)\n" do
    if n == index then
      local first, last = line:match "^(0x%x+) (0x%x+)"
      return tonumber(first), tonumber(last) - tonumber(first) + 1
    end
    n = n + 1
  end
end

local function mem(addr, size) return ("mem:0x%x+0x%x"):format(addr, size) end

local edu, edu_size = bar(EDU, 0)
local nic, nic_size = bar(NIC, 0)
local EDU_BAR, NIC_BAR = mem(edu, edu_size), mem(nic, nic_size)

setup(function()
  system.start()
  sysfs.unbind(EDU)
  sysfs.unbind(NIC)
end)
teardown(function()
  os.execute "/run/luio/bin/rmmod e1000e"
  system.stop()
end)
after_each(luio.close_all) -- should a case have failed

-- Of the first entry of /proc/iomem whose line fits: first and last address.
local function iomem(pattern)
  for line in files.read("/proc/iomem"):gmatch "[^\n]+" do
    if line:match(pattern) then
      local first, last = line:match "(%x+)%-(%x+) :"
      return tonumber(first, 16), tonumber(last, 16)
    end
  end
  error("/proc/iomem has no " .. pattern)
end

local function refused(address, code, ...)
  local dev, message, got = luio.open(address, { read_only = true })
  if dev then
    local region
    region, message, got = dev:region(0)
    assert(dev:close())
    assert.is_nil(region, address .. " was not refused")
  end
  for _, pattern in ipairs { ... } do assert.matches(pattern, message) end
  assert.equal(code, got)
end

conformance {
  name = "edu's BAR by /dev/mem", address = EDU_BAR,
  regions = {
    [0] = {
      size = edu_size, kind = "memory", name = "^memory by /dev/mem$", id = { 0x00, 32, 0x010000ed }, last = 32,
      scratch = {
        { offset = 0x04, widths = { 32 }, back = function(value) return bit.bnot(value) % 2 ^ 32 end },
        { offset = 0x80, widths = { 64 } },
      },
    },
  },
  unchanged = function() return sysfs.command(EDU) end,
}

-- The kernel's own driver comes and claims it, and is sent away again.
conformance {
  name = "e1000e's BAR by /dev/mem", address = NIC_BAR, only = "life",
  regions = { [0] = { size = nic_size, kind = "memory", id = { 0x38, 32, 0x8100 } } }, -- VET
  leave = function()
    assert(os.execute "/run/luio/bin/modprobe e1000e" == 0)
    if sysfs.driver(NIC) ~= "e1000e" then sysfs.write("bus/pci/drivers/e1000e/bind", NIC) end
  end,
  back = function() sysfs.unbind(NIC) end,
}

describe("a range of physical addresses", function()
  it("begins and ends where it says, wherever the pages do", function()
    local dev = assert(luio.open(mem(edu + 0x80, 0x14))) -- DMA_SRC, DMA_DST, half of DMA_COUNT
    local whole = assert(luio.open(EDU_BAR, { read_only = true }))
    local r = dev.regions[0]
    assert.same({ edu + 0x80, 0x14 }, { r.addr, r.size })
    for _, value in ipairs { 0x123456789abcdef0ULL, 0ULL } do
      r:write64(8, value)
      assert.equal(value, whole.regions[0]:read64(0x88))
      assert.equal(value, r:read64(8))
    end
    assert.equal(whole.regions[0]:read32(0x90), r:read32(0x10))
    assert.has_error(function() r:read64(0x10) end)
    assert.has_error(function() r:read32(0x14) end)
    assert(whole:close())
    assert(dev:close())
  end)

  it("is another name for the registers of the device there: what its driver's map says of reading them counts", function()
    local function read(range, text)
      local t = assert(target.open(range, { how = "read" }))
      local r = record.read(t, t:find(place.parse(text))[1])
      t:close()
      return r.skipped or r.value
    end
    assert.matches("^not read: ICR: acknowledges", read(NIC_BAR, "0xc0:u32"))
    assert.matches("^not read: ICR: acknowledges", read(mem(nic + 0xc0, 0x10), "0x2:u8"))
    assert.equal(0x8100, read(NIC_BAR, "0x38:u32")) -- VET
    local mine = files.write("map.lua", "return require('luio').registers { ANY = { 0, 32, count = 4 } }")
    local t = assert(target.open(mem(nic + 0xc0, 0x10), { how = "read", map = mine }))
    assert.matches("^not read: as ICR, reading acknowledges", record.read(t, t:find(place.parse "ANY[0]")[1]).skipped)
    t:close()
  end)

  it("is one address, however it is written", function()
    local dev = assert(luio.open(("mem:0x%016X+0x%X"):format(edu, edu_size)))
    assert.equal(EDU_BAR, dev.address)
    assert(dev:close())
  end)

  it("is opened with O_SYNC, and mapped read-only where it is only looked at: the kernel sees to it, too", function()
    for _, case in ipairs { { true, "r%-%-s", 0 }, { false, "rw%-s", 2 } } do
      local dev = assert(luio.open(mem(edu + 0x1000, 0x1000), { read_only = case[1] }))
      assert.is_truthy(dev.regions[0])
      local seen
      for line in io.lines "/proc/self/maps" do
        local mode, offset = line:match "^%x+%-%x+ (%S+) (%x+) %S+ %d+%s+/dev/mem$"
        if mode then
          assert.equal(edu + 0x1000, tonumber(offset, 16))
          assert.matches(case[2], mode)
          seen = true
        end
      end
      assert.is_true(seen)
      local flags
      for fd in function(s) return uv.fs_scandir_next(s) end, uv.fs_scandir "/proc/self/fd" do
        if uv.fs_readlink("/proc/self/fd/" .. fd) == NODE then
          flags = tonumber(files.read("/proc/self/fdinfo/" .. fd):match "flags:%s*(%d+)", 8)
        end
      end
      assert.equal(case[3], bit.band(flags, 3)) -- O_RDONLY, O_RDWR
      assert.equal(0x101000, bit.band(flags, 0x101000)) -- O_SYNC
      assert(dev:close())
    end
  end)

  on_pc("is uncached in the kernel's table of memory types", function()
    os.execute "mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug"
    local dev = assert(luio.open(mem(edu + 0x1000, 0x1000)))
    assert.is_truthy(dev.regions[0])
    assert.matches(("PAT: %%[mem 0x%016x%%-0x%016x%%] uncached%%-minus"):format(edu + 0x1000, edu + 0x2000),
      files.read "/sys/kernel/debug/x86/pat_memtype_list")
    assert(dev:close())
  end)

  it("can be one of several in a process; those that overlap have one owner", function()
    local first = assert(luio.open(mem(edu, 0x80)))
    local second = assert(luio.open(mem(edu + 0x80, 0x20))) -- the same page
    local card = assert(luio.open(NIC_BAR))
    second.regions[0]:write64(0, 0x1234)
    assert.equal(0x010000ed, first.regions[0]:read32(0))
    assert.equal(0x8100, card.regions[0]:read32(0x38))
    assert.equal(0x1234ULL, second.regions[0]:read64(0))
    second.regions[0]:write64(0, 0)
    for _, range in ipairs { { 0, 8 }, { 0x78, 0x10 }, { 0x98, 0x100 }, { 0, edu_size } } do
      local dev, message, code = luio.open(mem(edu + range[1], range[2]))
      assert.is_nil(dev)
      assert.equal("EBUSY", code)
      assert.matches(("EBUSY: this process %%(%d%%) drives it already, or some of it$"):format(uv.os_getpid()), message)
    end
    local beside = assert(luio.open(mem(edu + 0xa0, 8)))
    for _, dev in ipairs { first, second, card, beside } do assert(dev:close()) end
  end)

  on_board("is an error to read where nothing answers", function()
    local dev = assert(luio.open "mem:0xfea00000+0x1000")
    local ok, message = pcall(dev.regions[0].read32, dev.regions[0], 0x10)
    assert.is_false(ok)
    assert.matches("the device is gone: SIGBUS at 0x10, where nothing answers", message)
    assert(dev:close())
  end)

  it("has neither interrupts nor DMA nor config space, and says so", function()
    local dev = assert(luio.open(EDU_BAR))
    for _, case in ipairs {
      { "has no interrupt: /dev/mem brings none; poll it, or give the device a UIO driver", dev.irqs[0]:wait(30) },
      { "there is none by /dev/mem, nor a bus master", dev:bus_master(true) },
      { "there is none by /dev/mem, nor a bus master", dev.config:read32(0) },
      { "its bus master can't be switched off again: give the device a UIO driver", dev.dma:alloc(64) },
    } do
      assert.is_nil(case[2])
      assert.is_truthy(case[3]:find(case[1], 1, true), case[3])
      assert.equal("ENOTSUP", case[4])
    end
    assert(dev:close())
  end)

  local polling
  setup(function()
    polling = files.driver [[
      local polling = { name = "polling", match = { pci = "1234:11e8" }, registers = require "drivers.edu.registers" }
      function polling.start() return true end
      function polling.factorial(dev, n)
        dev.regs.FACTORIAL:write(n)
        local ok, message, code = dev.regs.STATUS:wait({ COMPUTING = 0 }, 30)
        if not ok then return nil, message, code end
        return dev.regs.FACTORIAL:read()
      end
      return polling]]
  end)

  it("takes a driver that polls, when it is named; one that wants interrupts is told", function()
    local dev = assert(luio.start(polling .. "/init.lua", EDU_BAR))
    assert.equal(3628800, dev.driver.factorial(dev, 10))
    assert(dev:close())
    local none, message, code = luio.start("edu", EDU_BAR)
    assert.is_nil(none)
    assert.equal("ENOTSUP", code)
    assert.matches("has no interrupt: /dev/mem brings none", message)
    assert.is_nil(require("luio.driver.match").driver_of(assert(require("luio.host.inspect").find(EDU_BAR)))) -- not by itself
  end)

  it("is driven under a guardian, by a process that gave root up, and again after that was killed", function()
    local p = program.start { "run", polling .. "/init.lua", EDU_BAR, "--user", "nobody" }
    finally(function() p:close() end)
    p:wait("driver polling runs on device mem:0x%x+%+0x100000", 20)
    luio.sleep(1.5) -- it is looked whether the range is claimed, once a second
    p:kill("sigkill", p:children()[1])
    p:wait("driver polling runs again on device mem:", 20)
    p:kill "sigterm"
    assert.equal(0, p:status(20), p:text())
    assert.not_matches("gone", p:text())
  end)
end)

describe("/dev/mem is refused", function()
  it("for RAM, all of it or some, also where only the page is shared", function()
    local first, last = iomem "^%x+%-%x+ : System RAM"
    local big_first, big_last = iomem(MAIN_RAM)
    for _, range in ipairs {
      { big_first, 0x1000 }, { big_last + 1 - 0x1000, 0x1000 }, { big_last + 1 - 8, 0x10 }, { 0, 2 ^ 40 }, { first, 8 },
      { last + 1 - last % 8 - 1, 0x10 },
    } do
      refused(mem(range[1], range[2]), "EPERM", "^open mem:0x%x+%+0x%x+: EPERM: 0x%x+%-0x%x+ is System RAM %(/proc/iomem%)")
    end
  end)

  it("for what a kernel driver has claimed, with its name, however little of it", function()
    local virtio, virtio_last = iomem "virtio%-pci"
    for _, range in ipairs { { virtio, 0x1000 }, { virtio - 0x1000, 0x1008 }, { virtio_last + 1 - 8, 0x100 }, { virtio + 0x100, 4 } } do
      refused(mem(range[1], range[2]), "EBUSY", "the kernel driver virtio%-pci%-modern has 0x%x+%-0x%x+ of 0000:00:%x%x%.0 %(/proc/iomem%)",
        "`luio bind 0000:00:%x%x%.0` gives it to UIO")
    end
    for name, message in pairs(CLAIMED) do refused(mem(iomem(name), 0x100), "EBUSY", message) end
  end)

  it("for a device that has a UIO driver, but for looking", function()
    sysfs.bind(EDU)
    local dev, message, code = luio.open(mem(edu + 0x100, 8))
    assert.is_nil(dev)
    assert.equal("EBUSY", code)
    assert.matches("0000:00:04.0 is there, and uio_pci_generic has it: open 0000:00:04.0 instead", message)
    local reader = assert(luio.open(EDU_BAR, { read_only = true }))
    assert.equal(0x010000ed, reader.regions[0]:read32(0))
    assert(reader:close())
    sysfs.unbind(EDU)
  end)

  on_pc("by the kernel, page by page, though nobody has these bytes: CONFIG_IO_STRICT_DEVMEM", function()
    local _, last = iomem "IOAPIC"
    refused(mem(last + 1, 0x100), "EPERM", "^map mem:0xfec00400%+0x100: EPERM: the kernel keeps some page of it to itself",
      "CONFIG_STRICT_DEVMEM: RAM; CONFIG_IO_STRICT_DEVMEM: a page in which a driver has claimed anything", "iomem=relaxed")
  end)

  it("where the machine has no such address", function()
    refused("mem:0xffffffff00000+0x100", "EINVAL", "this machine has no such physical address")
  end)

  it("to who is not root", function()
    assert.same({ ("luio: open %s: EACCES: /dev/mem is root's: run as root\n"):format(EDU_BAR), 1 }, {
      system.as_user("get %s 0x0", EDU_BAR),
    })
  end)

  it("to a root that is not all of root: addresses hidden, or the node locked", function()
    local script = files.write("open.lua", ('print(select(2, require("luio").open("%s", { read_only = true })))'):format(EDU_BAR))
    for capability, message in pairs {
      sys_admin = "EPERM: /proc/iomem hides its addresses %(all are 0%), so what is there can't be checked: this process has no "
        .. "CAP_SYS_ADMIN: is it in a container%?",
      sys_rawio = "open /dev/mem: EPERM: this process has no CAP_SYS_RAWIO: is it in a container%?",
    } do
      local out = files.shell(("LUA_PATH='./lua/?.lua;./lua/?/init.lua;;' setpriv --bounding-set -%s luajit %s"):format(capability, script))
      assert.matches(message, out)
    end
  end)

  it("where there is no such node", function()
    assert(os.rename(NODE, NODE .. ".away"))
    local dev, message, code = luio.open(EDU_BAR)
    assert(os.rename(NODE .. ".away", NODE))
    assert.is_nil(dev)
    assert.equal("ENOENT", code)
    assert.matches("open /dev/mem: ENOENT: no such node: a container, or a kernel without CONFIG_DEVMEM", message)
  end)
end)

describe("luio on mem:", function()
  local function run(args) return system.run((args:gsub("EDU", EDU_BAR))) end

  it("looks, with the map that is named or without one", function()
    assert.same({ "0x00:u32 = 0x010000ed\n", 0 }, { run "get EDU 0x0:u32" })
    assert.same({ "ID.MAGIC = 0xed\n", 0 }, { run "get EDU ID.MAGIC --map drivers/edu" })
    local out, status = run "dump EDU --map drivers/edu"
    assert.equal(0, status, out)
    assert.matches("ID          0x0 = 0x010000ed  MAJOR=1 MINOR=0 MAGIC=0xed\n", out)
    out, status = run "get EDU ID"
    assert.equal(1, status)
    assert.matches("there is no register map for mem:.*: no driver in drivers/ matches; name one with %-%-map FILE", out)
  end)

  it("takes a whole chip's map by its addresses", function()
    local map = files.write("chip.lua", ("return require('luio').registers { EDU = { 0x%x, block = { ID = { 0, 32, 'ro' }, "
      .. "LIVENESS = { 4, 32 } } }, UART = { 0x%x, count = 2, stride = 0x400, block = { DATA = { 0, 32 } } } }"):format(edu, edu - 0x100000))
    assert.equal("note: the map states addresses: 2 of its 4 registers are in reach\nEDU.ID 0x0 = 0x010000ed\n",
      (system.run("get %s EDU.ID --map %s", EDU_BAR, map)))
    local out, status = system.run("get %s UART[0].DATA --map %s", EDU_BAR, map)
    assert.equal(1, status)
    assert.matches("\nluio: [^\n]*UART is at 0x[^\n]*\n$", out)
    files.clean()
  end)

  it("explores read-only, unless told to write", function()
    local out, status = run "explore EDU --map drivers/edu -e ID:read() -e LIVENESS:write(1)"
    assert.equal(1, status)
    assert.matches("16777453 = 0x10000ed", out)
    assert.matches("read%-only", out)
    out, status = run "explore EDU --map drivers/edu --write -e LIVENESS:write(1) -e LIVENESS:read()"
    assert.equal(0, status, out)
    assert.matches("0xfffffffe", out)
    out, status = run "explore EDU --write --read-only -e ID:read()"
    assert.equal(2, status)
    assert.matches("%-%-read%-only and %-%-write: one of them", out)
  end)

  it("sets only when told to write; a dry run needs no telling", function()
    local out, status = run "set EDU 0x4:u32=5"
    assert.equal(2, status)
    assert.matches("is not written without %-%-write", out)
    out, status = run "set EDU 0x4:u32=5 --dry-run"
    assert.equal(0, status, out)
    assert.matches("^would write .*\n  would trigger LIVENESS: stores the complement\n$", out)
    out, status = run "set EDU 0x4:u32=5 --write"
    assert.equal(0, status, out)
    assert.matches(":= 0x00000005 %-> 0xfffffffa", out)
  end)

  it("says all about it, and who has it", function()
    local out, status = run "info EDU"
    assert.equal(0, status, out)
    assert.matches("/proc/iomem   0000:00:04.0\n", out)
    assert.matches("region 0      memory 0x%x+%+0x100000 %(1 MiB%), by /dev/mem\n", out)
    assert.matches("interrupt     none by /dev/mem: poll\n", out)
    assert.matches("held by       nobody\n", out)
    local dev = assert(luio.open(mem(edu + 0x100, 8)))
    assert.is_truthy(dev.regions[0])
    out = run "info EDU"
    assert.matches(("held by       process %d %%(.*%%) drives it: /dev/mem, luio's lock\n"):format(uv.os_getpid()), out)
    out, status = run "set EDU 0x4:u32=5 --write"
    assert.equal(1, status)
    assert.matches(("is driven by process %d"):format(uv.os_getpid()), out)
    assert.same({ "0x00:u32 = 0x010000ed\n", 0 }, { run "get EDU 0x0:u32" })
    out, status = system.run("set %s 0x4:u32=5 --write", mem(edu, 0x100)) -- beside it
    assert.equal(0, status, out)
    assert(dev:close())
  end)

  it("doctor finds nothing in the way, or what is", function()
    local out, status = run "doctor EDU"
    assert.equal(0, status, out)
    assert.matches("ok       range: it is in 0000:00:04.0, which no kernel driver has claimed\n", out)
    assert.matches("ok       node: /dev/mem may be opened\n", out)
    out, status = system.run("doctor %s", mem(iomem(MAIN_RAM), 0x1000))
    assert.equal(1, status)
    assert.matches("problem  range: 0x%x+00000%-0x%x+ is System RAM", out)
  end)

  on_pc("does what the documents show", function()
    local block = documents.of("spec/guest/devmem_spec.lua")[1].text
    local dev = assert(luio.open(EDU_BAR))
    dev.regions[0]:write32(4, 0xffffffff) -- as after power-on
    assert(dev:close())
    local out = {}
    for command in block:gmatch "%$ ([^\n]*)\n" do
      local shown = command:match "^luio (.*)"
      table.insert(out, ("$ %s\n%s"):format(command, shown and system.run("%s", shown) .. "\n" or files.shell(command)))
    end
    assert.equal(block, (table.concat(out):gsub("\n\n", "\n")))
  end)

  it("says that there is no interrupt to wait for, and nothing to bind", function()
    local out, status = run "irq EDU"
    assert.equal(1, status)
    assert.matches("has no interrupt: /dev/mem brings none", out)
    out, status = run "bind EDU"
    assert.equal(1, status)
    assert.matches("a range of physical addresses has no kernel driver", out)
  end)
end)
