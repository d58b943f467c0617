--- luio.list() on sysfs as kernels write it. recorded.umockdev has the attributes of uio_pci_generic,
--- uio_pdrv_genirq and drivers that are not UIO, for QEMU's devices mostly. Attributes that they never have
--- are in malformed_pci_spec.lua and malformed_uio_spec.lua. Only one device has a modalias: with it come names from the machine's
--- hardware database, which another machine need not have.

local udev = require "spec.support.umockdev"

local recorded = udev.tree "spec/udev/recorded.umockdev"

describe("a listing", function()
  local devices
  setup(function() devices = udev.list(recorded) end)

  it("is in the order of the addresses: hexadecimal on PCI, uio2 before uio10", function()
    local order = {}
    for i, info in ipairs(devices) do order[i] = info.address end
    assert.same({ "0000:00:02.0", "0000:00:03.0", "0000:00:04.0", "0000:00:10.0", "0000:00:1a.0", "10000:e1:00.0",
      "uio2", "uio4", "uio10" }, order)
  end)

  it("finds nothing wrong with what kernels write", function()
    for _, info in ipairs(devices) do assert.equal(nil, info.problem, info.address) end
  end)

  it("tells everything about a PCI device on uio_pci_generic", function()
    assert.same(udev.capable {
      address = "0000:00:04.0", uio = "uio0", uio_name = "uio_pci_generic", uio_version = "0.01.0",
      event = 4294967295, bus = "pci", driver = "uio_pci_generic", sysfs = "/sys/devices/pci0000:00/0000:00:04.0",
      compatible = {}, vendor = 0x1234, device = 0x11e8, subvendor = 0x1af4, subdevice = 0x1100, class = 0x00ff00,
      revision = 0x10, irq = 11, ports = {},
      maps = { [0] = { name = "0000:00:04.0", addr = 0xfea00000, size = 0x100000, offset = 0 } },
      bars = {
        [0] = { kind = "memory", addr = 0xfea00000, size = 0x100000, prefetchable = false, is64 = false, map = 0 },
      },
    }, devices["0000:00:04.0"])
  end)

  it("has the BARs of a device without maps, ports among them", function()
    local serial = devices["0000:00:03.0"]
    assert.equal("uio1", serial.uio)
    assert.same({}, serial.maps)
    assert.same({ [0] = { kind = "port", addr = 0xc040, size = 8, prefetchable = false, is64 = false } }, serial.bars)
  end)

  it("matches maps and BARs by address, not by number, and keeps the BAR's true size", function()
    local virtio = devices["0000:00:10.0"]
    assert.same({
      [0] = { name = "0000:00:10.0", addr = 0xfebf2000, size = 0x1000, offset = 0 },
      { name = "0000:00:10.0", addr = 0xfebf1000, size = 0x1000, offset = 0x80 },
    }, virtio.maps)
    assert.same({
      [0] = { kind = "port", addr = 0xc060, size = 0x20, prefetchable = false, is64 = false },
      [1] = { kind = "memory", addr = 0xfebf1080, size = 0x80, prefetchable = false, is64 = false, map = 1 },
      [3] = { kind = "memory", addr = 0xfebf2000, size = 0x1000, prefetchable = false, is64 = false, map = 0 },
      [4] = { kind = "memory", addr = 0x8000000000, size = 0x4000, prefetchable = true, is64 = true },
    }, virtio.bars)
  end)

  it("has PCI devices that no UIO driver has, with the kernel driver that has them", function()
    local nic = devices["0000:00:02.0"]
    nic.vendor_name, nic.device_name = nil, nil -- the hardware database's; see below
    assert.same(udev.capable {
      address = "0000:00:02.0", event = 0, bus = "pci", driver = "e1000e",
      sysfs = "/sys/devices/pci0000:00/0000:00:02.0", compatible = {}, vendor = 0x8086, device = 0x10d3,
      subvendor = 0x8086, subdevice = 0xa01f, class = 0x020000, revision = 0, irq = 22, numa_node = 1,
      maps = {}, ports = {},
      bars = {
        [0] = { kind = "memory", addr = 0xfebc0000, size = 0x20000, prefetchable = false, is64 = false },
        { kind = "memory", addr = 0xfebe0000, size = 0x20000, prefetchable = false, is64 = false },
        { kind = "port", addr = 0xc000, size = 0x20, prefetchable = false, is64 = false },
        { kind = "memory", addr = 0xfebb0000, size = 0x4000, prefetchable = false, is64 = false },
      },
    }, nic)
    assert.equal(nil, devices["0000:00:1a.0"].driver)
    assert.same({ [0] = { kind = "memory", addr = 0xfe00000000, size = 0x4000, prefetchable = false, is64 = true } },
      devices["0000:00:1a.0"].bars)
  end)

  it("tells everything about a platform device, offsets within a page included", function()
    assert.same(udev.capable {
      address = "uio10", uio = "uio10", uio_name = "pl031", uio_version = "devicetree", event = 3, bus = "platform",
      driver = "uio_pdrv_genirq", sysfs = "/sys/devices/platform/9010000.pl031",
      compatible = { "arm,pl031", "arm,primecell", "generic-uio" }, bars = {}, ports = {},
      maps = {
        [0] = { name = "pl031@9010000", addr = 0x09010000, size = 0x1000, offset = 0 },
        { name = "status", addr = 0x09020000, size = 0x2000, offset = 0xf80, length = 0x100 },
      },
    }, devices.uio10)
  end)

  it("has port regions, up to the last port", function()
    assert.same({
      [0] = { name = "control", start = 0x300, size = 8, porttype = "port_x86" },
      { name = "", start = 0xfff0, size = 0x10, porttype = "port_x86" },
    }, devices.uio2.ports)
    assert.equal("uio_card", devices.uio2.driver)
  end)

  it("has a UIO device without a parent, at its own sysfs path", function()
    assert.same(udev.capable {
      address = "uio4", uio = "uio4", uio_name = "orphan", uio_version = "1", event = 0, bus = "",
      sysfs = "/sys/devices/virtual/uio/uio4", compatible = {}, maps = {}, ports = {}, bars = {},
    }, devices.uio4)
  end)

  it("has the names that the hardware database gives", function()
    local installed
    for _, dir in ipairs { "/etc/systemd/hwdb", "/etc/udev", "/usr/lib/systemd/hwdb", "/lib/systemd/hwdb", "/lib/udev" } do
      local f = io.open(dir .. "/hwdb.bin")
      if f then installed = f:close() end
    end
    if not installed then
      return pending "no hwdb.bin here: it comes with udev (systemd-hwdb update), and libudev looks in no other place"
    end
    local nic = udev.list(recorded)["0000:00:02.0"]
    assert.equal("Intel Corporation", nic.vendor_name)
    assert.truthy(nic.device_name:find("82574L", 1, true), nic.device_name)
  end)

  it("is empty where there is nothing", function()
    assert.same({}, udev.list "P: /devices/platform/other\nE: SUBSYSTEM=platform\n")
  end)
end)

describe("finding one device by its address", function()
  it("tells what a listing tells, of each device, by both of its names", function()
    local got = udev.run(recorded, [[
      local inspect = require "luio.host.inspect"
      local pairs_found = {}
      for _, info in ipairs(assert(luio.list())) do
        for _, name in ipairs { info.address, info.uio } do
          table.insert(pairs_found, { name = name, listed = info, found = (inspect.find(name)) })
        end
      end
      return pairs_found]])
    assert.equal(15, #got)
    for _, one in ipairs(got) do assert.same(one.listed, one.found, one.name) end
  end)

  it("opens no file of another device", function()
    local got = udev.run(recorded, [[
      local ffi = require "ffi"
      local inspect = require "luio.host.inspect"
      ffi.cdef "int inotify_init1(int); int inotify_add_watch(int, const char *, uint32_t); ssize_t read(int, void *, size_t);"
      local IN_OPEN, IN_NONBLOCK = 0x20, 0x800
      local devices = os.getenv "UMOCKDEV_DIR" .. "/sys/devices/pci0000:00/"
      -- How often one of the files of the device in slot 2 is opened.
      local function opened(work)
        local fd = ffi.C.inotify_init1(IN_NONBLOCK)
        assert(ffi.C.inotify_add_watch(fd, devices .. "0000:00:02.0", IN_OPEN) >= 0)
        work()
        local bytes = ffi.C.read(fd, ffi.new "char[65536]", 65536)
        assert(require("luv").fs_close(fd))
        return bytes > 0
      end
      return {
        list = opened(luio.list),
        itself = opened(function() assert(inspect.find "0000:00:02.0") end),
        card = opened(function() assert(inspect.find "0000:00:04.0") end),
        uio = opened(function() assert(inspect.find "uio10") end),
        none = opened(function() assert(not inspect.find "0000:00:07.0") end),
      }]])
    assert.same({ list = true, itself = true, card = false, uio = false, none = false }, got)
  end)
end)
