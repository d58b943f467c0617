--- mem:0xADDR+0xLEN where /proc/iomem, /dev/mem and /sys are a tree of umockdev's: texts that are no range, the uses of an
--- address on each kind of machine, and a /dev/mem that is a file, to be looked into. A kernel's refusals are in
--- spec/guest/devmem_spec.lua.

local udev = require "spec.support.umockdev"

-- A PC with a driver on one card and none on another; RAM that ends within a page.
local PC = [[
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
0009fc00-000fffff : Reserved
  000a0000-000bffff : PCI Bus 0000:00
  000f0000-000fffff : System ROM
00100000-0ffd67ff : System RAM
  01000000-01e01d31 : Kernel code
0ffd6800-0fffffff : ACPI Tables
10000000-1fffffff : PCI Bus 0000:00
  10000000-100fffff : 0000:00:04.0
  10100000-1011ffff : 0000:00:05.0
    10100000-1011ffff : e1000e
  10200000-102fffff : PCI Bus 0000:01
    10200000-10200fff : 0000:01:00.0
      10200000-102003ff : some driver
20000000-200fffff : PCI ECAM 0000 [bus 00-00]
  20000000-200fffff : PCI Bus 0000:00
20200000-202003ff : IOAPIC 0
20300000-20300fff : iTCO_wdt.0.auto
  20300000-20300fff : iTCO_wdt.0.auto iTCO_wdt
20400000-20400fff : pnp 00:02
30000000-3fffffff : VMD
  30000000-300fffff : PCI Bus 10000:e0
    30000000-30003fff : 10000:e1:00.0
100000000-1ffffffff : System RAM (kmem)
]]

-- A board: AMBA and platform devices under their names in the device tree, with a driver or none.
local BOARD = [[
09000000-09000fff : pl011@9000000
  09000000-09000fff : 9000000.pl011 pl011@9000000
09010000-09010fff : pl031@9010000
09020000-0902000f : 9020000.timer timer@9020000
09030000-09030fff : pl061@9030000
09040000-09040fff : gpio@9040000
0a000000-0a0001ff : a000000.virtio_mmio
10000000-1efeffff : pcie@10000000
  10000000-10003fff : 0000:00:01.0
    10000000-10003fff : virtio-pci-modern
  10004000-10007fff : 0000:00:02.0
40000000-5fffffff : System RAM
]]

local function platform(name, subsystem)
  return udev.device("/devices/platform/" .. name, subsystem or "platform", {})
end

local TREE = platform("9010000.pl031", "amba") .. platform "9030000.pl061" .. platform "9040000.gpio"

-- Runs code with a machine's /proc/iomem, and a /dev/mem with bytes up to an address.
local function run(tree, iomem, code)
  return udev.run(tree, ([[
    local iomem = %q
    put(iomem ~= "" and "/proc/iomem" or "/proc/iomem/folder", iomem)
    put("/dev/mem", "")
    local function memory(size) assert(os.execute(("truncate -s %%d '%%s/dev/mem'"):format(size, os.getenv "UMOCKDEV_DIR")) == 0) end
    memory(2 ^ 30)
    local file = assert(io.open(os.getenv "UMOCKDEV_DIR" .. "/dev/mem", "r+b"))
    file:setvbuf "no"
    local function bytes(at, n) file:seek("set", at) return file:read(n) end
    local function store(at, text) file:seek("set", at) file:write(text) end
    local ones = ("\255"):rep(8)
  ]]):format(iomem) .. code)
end

local function attempts(tree, iomem, addresses)
  return run(tree, iomem, ([[
    local results = {}
    for _, address in ipairs { %s } do results[#results + 1] = attempt(address) end
    return results]]):format(("%q,"):rep(#addresses):format(unpack(addresses))))
end

describe("a range of physical addresses", function()
  it("is refused when it is none, with what is wrong and how it is written", function()
    local form = "mem:0xADDR+0xLEN, as in mem:0xfea00000+0x1000"
    local cases = {
      { "mem:", "the address is not hexadecimal: " .. form },
      { "mem:268435456+0x1000", "the address is not hexadecimal: " .. form },
      { "mem:10000000+0x1000", "the address is not hexadecimal: " .. form },
      { "mem:0xg+0x1000", "the address is not hexadecimal: " .. form },
      { "mem:-0x10+0x1000", "the address is not hexadecimal: " .. form },
      { "mem: 0x10+0x1000", "the address is not hexadecimal: " .. form },
      { "mem:0X10+0x1000", "the address is not hexadecimal: " .. form },
      { "mem:0x10000000", "the range has no length: " .. form },
      { "mem:0x10000000g+0x10", "between address and length is a +: " .. form },
      { "mem:0x10000000-0x10001000", "between address and length is a +: " .. form },
      { "mem:0x10000000 +0x10", "between address and length is a +: " .. form },
      { "mem:0x10000000+", "the length is not hexadecimal: " .. form },
      { "mem:0x10000000+4096", "the length is not hexadecimal: " .. form },
      { "mem:0x10000000+0x1000 ", "the length is not hexadecimal: " .. form },
      { "mem:0x10000000+0x1000+0x10", "the length is not hexadecimal: " .. form },
      { "mem:0x10000000+0x-1", "the length is not hexadecimal: " .. form },
      { "mem:0x10000000+0x0", "a range of 0 bytes" },
      { "mem:0x10000000000000000+0x10", "the range ends beyond the last physical address, 52 bits" },
      { "mem:0x10000000+0xffffffffffffffff", "the range ends beyond the last physical address, 52 bits" },
      { "mem:0xffffffffffffffff+0x2", "the range ends beyond the last physical address, 52 bits" },
      { "mem:0xffffffffffff8+0x10", "the range ends beyond the last physical address, 52 bits" },
      { "mem:0x10000001+0x10", "0x10000001 is not a multiple of 8, so no access in it would be aligned as its offset is: begin at 0x10000000" },
      { "mem:0x1000000c+0x4", "0x1000000c is not a multiple of 8, so no access in it would be aligned as its offset is: begin at 0x10000008" },
      { "mem:0x\27[2J+0x10", "the address is not hexadecimal: " .. form },
    }
    local addresses = {}
    for i, case in ipairs(cases) do addresses[i] = case[1] end
    for i, result in ipairs(attempts(TREE, PC, addresses)) do
      local shown = addresses[i]:gsub("%c", "?")
      assert.same({ opened = false, code = "EINVAL", left = 0, message = shown .. ": " .. cases[i][2] }, result)
    end
  end)

  -- Checks the verdict on each range, and its message.
  local function judges(tree, iomem, cases)
    local addresses = {}
    for i, case in ipairs(cases) do addresses[i] = case[1] end
    for i, result in ipairs(attempts(tree, iomem, addresses)) do
      local address, code, message = unpack(cases[i])
      assert.same({ code == nil, code, 0 }, { result.opened, result.code, result.left }, address .. " " .. (result.message or ""))
      if code then assert.is_truthy(result.message:find(("open %s: %s: %s"):format(address, code, message), 1, true), result.message) end
    end
  end

  it("may be had on a PC where no driver has it, not one byte of it", function()
    local ram = "0x100000-0xffd67ff is System RAM (/proc/iomem): /dev/mem is for device registers"
    local e1000e = "the kernel driver e1000e has 0x10100000-0x1011ffff of 0000:00:05.0 (/proc/iomem): `luio bind 0000:00:05.0` gives it "
      .. "to UIO, `luio unbind 0000:00:05.0` leaves it free"
    judges(TREE, PC, {
      { "mem:0x10000000+0x100000" }, { "mem:0x10000008+0x1" }, { "mem:0x18000000+0x1000" }, { "mem:0x10200400+0x1000" },
      { "mem:0x0+0x1000" }, { "mem:0xa0000+0x1000" }, { "mem:0x20400000+0x1000" }, { "mem:0x21000000+0x1000" }, { "mem:0x30000000+0x4000" },
      { "mem:0x100000+0x1000", "EPERM", ram }, { "mem:0x1000000+0x8", "EPERM", ram }, { "mem:0xffd6000+0x1000", "EPERM", ram },
      { "mem:0xffd6f00+0x8", "EPERM", ram }, -- in RAM's last page
      { "mem:0xffff000+0x2000", "EBUSY", "ACPI Tables has 0xffd6800-0xfffffff (/proc/iomem): if that is a driver, unbind it" },
      { "mem:0x0+0x100000000", "EPERM", "0x1000-0x9fbff is System RAM" },
      { "mem:0x1fffffff8+0x10", "EPERM", "0x100000000-0x1ffffffff is System RAM (kmem)" },
      { "mem:0xf0000+0x10", "EBUSY", "System ROM has 0xf0000-0xfffff" },
      { "mem:0x10100000+0x20000", "EBUSY", e1000e }, { "mem:0x10110000+0x8", "EBUSY", e1000e },
      { "mem:0x100ffff8+0x10", "EBUSY", e1000e }, { "mem:0x1011fff8+0x1000", "EBUSY", e1000e }, { "mem:0x10000000+0x10000000", "EBUSY", e1000e },
      { "mem:0x102003f8+0x10", "EBUSY", "the kernel driver some driver has 0x10200000-0x102003ff of 0000:01:00.0" },
      { "mem:0x20000000+0x1000", "EBUSY", "PCI ECAM 0000 [bus 00-00] has 0x20000000-0x200fffff" },
      { "mem:0x20200000+0x400", "EBUSY", "IOAPIC 0 has 0x20200000-0x202003ff" },
      { "mem:0x20300000+0x8", "EBUSY", "iTCO_wdt.0.auto has 0x20300000-0x20300fff" },
    })
  end)

  it("may be had on a board where the device has no driver", function()
    judges(TREE, BOARD, {
      { "mem:0x9010000+0x1000" }, { "mem:0x9030000+0x1000" }, { "mem:0x10004000+0x4000" }, { "mem:0x9050000+0x1000" },
      { "mem:0x9000000+0x1000", "EBUSY", "pl011@9000000 has 0x9000000-0x9000fff" },
      { "mem:0x9020000+0x10", "EBUSY", "9020000.timer timer@9020000 has 0x9020000-0x902000f" },
      { "mem:0xa000000+0x100", "EBUSY", "a000000.virtio_mmio has 0xa000000-0xa0001ff" },
      { "mem:0x10000000+0x1000", "EBUSY", "the kernel driver virtio-pci-modern has 0x10000000-0x10003fff of 0000:00:01.0" },
      { "mem:0x40000000+0x1000", "EPERM", "0x40000000-0x5fffffff is System RAM" },
    })
    -- The driver's link decides.
    local got = run(TREE, BOARD, [[
      local dir = os.getenv "UMOCKDEV_DIR" .. "/sys/bus/platform/"
      local before = attempt "mem:0x9040000+0x10"
      assert(os.execute(("mkdir -p %sdrivers/gpio-pl && ln -s ../../../bus/platform/drivers/gpio-pl %sdevices/9040000.gpio/driver"):format(
        dir, dir)) == 0)
      return { before, attempt "mem:0x9040000+0x10", attempt "mem:0x9030000+0x10" }]])
    assert.same({ true, false, true }, { got[1].opened, got[2].opened, got[3].opened })
    assert.equal("open mem:0x9040000+0x10: EBUSY: gpio-pl has 0x9040000-0x9040fff (/proc/iomem): if that is a driver, unbind it; ranges "
      .. "that the kernel itself uses cannot be released", got[2].message)
  end)

  it("can't be judged where /proc/iomem hides its addresses, can't be read, or says what nobody understands", function()
    local hidden = PC:gsub("%x+%-%x+ :", "00000000-00000000 :")
    local got = attempts(TREE, hidden, { "mem:0x10000000+0x1000" })[1]
    if require("luv").getuid() == 0 then
      assert.equal("open mem:0x10000000+0x1000: EPERM: /proc/iomem hides its addresses (all are 0), so what is there can't be checked: this "
        .. "process has no CAP_SYS_ADMIN: is it in a container?", got.message)
    else
      assert.equal("open mem:0x10000000+0x1000: EACCES: /dev/mem is root's: run as root", got.message)
    end
    for text, code in pairs {
      [""] = "EISDIR", ["\n"] = "ENODATA", ["hello\n"] = "EBADMSG", [PC .. "20000000 : odd\n"] = "EBADMSG",
      ["2000-1000 : backwards\n"] = "EBADMSG", [("0-1 : x\n"):rep(700000)] = "EFBIG",
    } do
      -- Large, it would not fit on a command line.
      local big = #text > 100000
      got = run(TREE, big and PC or text, (big and [[put("/proc/iomem", ("0-1 : x\n"):rep(700000))]] or "") .. [[ return attempt "mem:0x10000000+0x1000"]])
      assert.same({ false, code, 0 }, { got.opened, got.code, got.left })
      assert.matches("/proc/iomem can't be %a+, so what is there can't be checked", got.message)
    end
  end)

  it("is not written where a device has a driver that claims nothing; looked at it may be", function()
    local bound = udev.pci(4, { resource = "0x0000000010000000 0x000000001000ffff 0x0000000000040200" .. ("\n" .. udev.NO_BAR):rep(5) }, {
      ["maps/map0/addr"] = "0x0000000010000000",
    })
    local got = run(bound .. udev.uio(7, { ["maps/map0/addr"] = "0x0000000018000000" }), PC, [[
      local function may(address)
        local dev, message, code = luio.open(address)
        local reader = assert(luio.open(address, { read_only = true }))
        if dev then dev:close() end
        reader:close()
        return { dev ~= nil, message, code }
      end
      return { may "mem:0x1000fff8+0x8", may "mem:0x10010000+0x8", may "mem:0x18000ff8+0x10", may "mem:0x18001000+0x8" }]])
    assert.same({ false, "open mem:0x1000fff8+0x8: EBUSY: 0000:00:04.0 is there, and uio_pci_generic has it: open 0000:00:04.0 instead, or "
      .. "this read-only", "EBUSY" }, got[1])
    assert.same({ true }, got[2])
    assert.same({ false, "open mem:0x18000ff8+0x10: EBUSY: uio7 is there, and widget has it: open uio7 instead, or this read-only", "EBUSY" },
      got[3])
    assert.same({ true }, got[4])
  end)

  it("is read and written at its very bytes, wherever in a page it begins", function()
    local got = run(TREE, PC, [[
      local results = {}
      for _, case in ipairs { { 0x10000000, 0x1000 }, { 0x10000ff8, 0x10 }, { 0x10000008, 0x2 }, { 0x10003c08, 0x13f5 } } do
        local addr, size = case[1], case[2]
        store(addr - 8, ones:rep(size / 8 + 3))
        local dev = assert(luio.open(("mem:0x%x+0x%x"):format(addr, size)))
        local r = dev.regions[0]
        local before = r:read8(0) == 0xff and r:read8(size - 1) == 0xff
        for offset = 0, size - 1 do r:write8(offset, 0x5a) end
        local ok = { pcall(r.read8, r, size) }
        local written = bytes(addr - 1, size + 2)
        results[#results + 1] = {
          before, written == "\255" .. ("\x5a"):rep(size) .. "\255", not ok[1], r.size == size, r.addr == addr, r.name,
        }
        dev:close()
      end
      return results]])
    for i = 1, 4 do assert.same({ true, true, true, true, true, "memory by /dev/mem" }, got[i]) end
  end)

  it("is one of several, and not had twice", function()
    local got = run(TREE, PC, [[
      local a, b = assert(luio.open "mem:0x10000000+0x80"), assert(luio.open "mem:0x10000080+0x80")
      local c = luio.open("mem:0x10000000+0x1000", { read_only = true })
      local results = { attempt "mem:0x10000078+0x10", attempt "mem:0x10000100+0x10" }
      a:close() b:close() c:close()
      results[3] = attempt "mem:0x10000078+0x10"
      return results]])
    assert.same({ false, true, true }, { got[1].opened, got[2].opened, got[3].opened })
    assert.matches("^open mem:0x10000078%+0x10: EBUSY: another process or this one drives it, or some of it; stop that one, ", got[1].message)
  end)

  it("is gone when a kernel driver claims it, and comes back when that lets it go", function()
    local got = run(TREE, PC, [[
      local hotplug = require "luio.hotplug"
      local dev = assert(luio.open "mem:0x10000000+0x1000")
      store(0x10000000, "\1\2\3\4")
      local r, results = dev.regions[0], {}
      results.before = r:read32(0)
      hotplug.check_presence(dev, false)
      results.still = dev.gone == nil
      local claims = iomem:gsub("(10000000)(%-100fffff : 0000:00:04.0\n)", "%1%2    %1-10000fff : sly\n")
      put("/proc/iomem", claims)
      hotplug.check_presence(dev, false)
      results.gone = dev.gone
      results.read = select(2, pcall(r.read32, r, 0))
      results.write = select(2, pcall(r.write32, r, 0, 7))
      results.wait = select(3, dev.irqs[0]:wait(1))
      results.retake = select(2, dev:retake())
      put("/proc/iomem", iomem)
      results.back = dev:retake()
      results.after = r:read32(0)
      r:write32(4, 0x08070605)
      results.written = bytes(0x10000000, 8)
      dev:close()
      return results]])
    assert.same({ 0x04030201, true, true, 0x04030201 }, { got.before, got.still, got.gone, got.after })
    assert.matches("read32 memory by /dev/mem of mem:0x10000000%+0x1000 at 0x0: the device is gone: a kernel driver has claimed it", got.read)
    assert.matches("the device is gone", got.write)
    assert.equal("ENODEV", got.wait)
    assert.matches("the kernel driver sly has 0x10000000%-0x10000fff of 0000:00:04.0", got.retake)
    assert.is_true(got.back)
    assert.equal("\1\2\3\4\5\6\7\8", got.written)
  end)

  it("is gone when the kernel takes its pages away: an error that says where", function()
    local got = run(TREE, PC, [[
      local dev = assert(luio.open "mem:0x10000800+0x1000")
      local r = dev.regions[0]
      local first = r:read32(0)
      memory(0x10000000)
      local ok, message = pcall(r.read32, r, 0x10)
      local gone = dev.gone
      dev:close()
      return { first, ok, message, gone }]])
    assert.same({ 0, false, true }, { got[1], got[2], got[4] })
    assert.matches("read32 memory by /dev/mem of mem:0x10000800%+0x1000 at 0x10: the device is gone: SIGBUS at 0x10", got[3])
  end)

  it("is described without being opened", function()
    local got = run(TREE, PC, [[
      local inspect = require "luio.host.inspect"
      local free, claimed = assert(inspect.find "mem:0x10000010+0x10"), assert(inspect.find "mem:0x10100000+0x10")
      return { free, claimed }]])
    local free, claimed = got[1], got[2]
    assert.same({ "mem:0x10000010+0x10", "mem", nil, nil }, { free.address, free.bus, free.driver, free.problem })
    assert.same({ name = "0000:00:04.0", addr = 0x10000010, size = 0x10, offset = 0x10 }, free.maps[0])
    assert.same({ false, false, false, false, false, true, false, "/dev/mem" }, { free.has_sysfs, free.has_config, free.has_bars,
      free.has_interrupts, free.has_dma, free.can_leave, free.can_bind, free.node })
    assert.equal("e1000e", claimed.driver)
    assert.matches("^the kernel driver e1000e has 0x10100000", claimed.problem)
  end)
end)
