--- PCI devices as no kernel should describe them: BARs that end before they start, maps that are no
--- BAR, numbers that are none. Each case adds one device to one tree. Wrong attributes are left out and
--- named in `problem`, and all others are there.

local udev = require "spec.support.umockdev"

local BAR0 = "0x00000000feb00000 0x00000000feb0ffff 0x0000000000040200"

describe("a PCI device", function()
  local trees, devices = {}, nil
  setup(function() devices = udev.list(table.concat(trees)) end)

  -- One more device, with these changes from a fine one; returns its address.
  local function pci(changes, uio)
    table.insert(trees, udev.pci(#trees, changes, uio))
    return ("0000:00:%02x.0"):format(#trees - 1)
  end

  -- A `resource` file of these lines, and as many empty BARs as are missing.
  local function resource(...)
    local lines = { ... }
    for i = #lines + 1, 6 do lines[i] = udev.NO_BAR end
    return { resource = table.concat(lines, "\n") }
  end

  -- Compares the listing with a device without faults but for `differences`.
  local function check(address, problem, differences)
    local want = {
      address = address, event = 0, bus = "pci", sysfs = "/sys/devices/pci0000:00/" .. address, compatible = {},
      vendor = 0x1234, device = 0x11e8, subvendor = 0, subdevice = 0, class = 0xff00, revision = 0, irq = 11,
      maps = {}, ports = {},
      bars = { [0] = { kind = "memory", addr = 0xfeb00000, size = 0x10000, prefetchable = false, is64 = false } },
      problem = problem,
    }
    if differences then differences(want) end
    assert.same(udev.capable(want), devices[address])
  end

  local function without_bar0(info) info.bars[0] = nil end

  -- The same for one that has a UIO driver with a map of BAR0.
  local function check_uio(address, problem, differences)
    check(address, problem, function(info)
      info.uio, info.uio_name, info.uio_version = "uio" .. tonumber(address:match ":(%x+)%.0$", 16), "uio_pci_generic", "0.01.0"
      info.maps[0] = { name = "0000:00:04.0", addr = 0xfeb00000, size = 0x10000, offset = 0 }
      info.bars[0].map = 0
      differences(info)
    end)
  end

  local first, second = pci(), pci({}, {})
  it("is intact when the others are not", function()
    check(first)
    check_uio(second, nil, function() end)
    assert.equal(#trees, #devices)
  end)

  -- ---- Maps and BARs that contradict each other ----

  local larger = pci({}, { ["maps/map0/size"] = "0x0000000000100000" })
  it("may have a map larger than its BAR, which is then not used for it", function()
    check_uio(larger, "map0 claims 0x100000 bytes of a BAR0 of 0x10000", function(info)
      info.maps[0].size, info.bars[0].map = 0x100000, nil
    end)
  end)

  local smaller = pci({}, { ["maps/map0/size"] = "0x0000000000001000" })
  it("may have a map of a part of its BAR, which is then not used for it", function()
    check_uio(smaller, nil, function(info) info.maps[0].size, info.bars[0].map = 0x1000, nil end)
  end)

  local elsewhere = pci({}, { ["maps/map0/addr"] = "0x00000000feb01000" })
  it("may have a map that is no BAR", function()
    check_uio(elsewhere, "map0 at 0xfeb01000 is no BAR", function(info)
      info.maps[0].addr, info.bars[0].map = 0xfeb01000, nil
    end)
  end)

  local shifted = pci({}, { ["maps/map0/offset"] = "0x80" })
  it("may have a map with an offset that its BAR does not have", function()
    check_uio(shifted, "map0 at 0xfeb00000 is no BAR", function(info) info.maps[0].offset, info.bars[0].map = 0x80, nil end)
  end)

  local of_ports = pci(resource "0x000000000000c000 0x000000000000c0ff 0x0000000000040101", { ["maps/map0/addr"] = "0xc000" })
  it("has no map of an I/O BAR", function()
    check_uio(of_ports, "map0 at 0xc000 is no BAR", function(info)
      info.maps[0].addr = 0xc000
      info.bars[0] = { kind = "port", addr = 0xc000, size = 0x100, prefetchable = false, is64 = false }
    end)
  end)

  -- ---- The resource file ----

  local missing, empty = pci { resource = false }, pci { resource = "" }
  it("may have no BARs to tell of", function()
    check(missing, "resource is missing", without_bar0)
    check(empty, "resource has 0 lines, not one for each BAR", without_bar0)
  end)

  local short = pci { resource = BAR0 .. "\n" .. udev.NO_BAR }
  it("may have a resource file that ends early", function()
    check(short, "resource has 2 lines, not one for each BAR")
  end)

  local lines = {
    "garbage", "", "0xfea00000 0xfea0ffff", "0xfea00000 0xfea0ffff 0x40200 0x0", "0x-1 0x-1 0x200", "fea00000 fea0ffff 40200",
    "0x10000000000000000 0x10000000000000000 0x200", "0xfea00000 0xfea0ffff 0x40200\27[2J",
    "0xfea00000 0xfea0ffff 0x40200" .. (" "):rep(200) .. "x",
  }
  for _, line in ipairs(lines) do
    local address = pci(resource(line, udev.NO_BAR, BAR0))
    it(("names the line %q of resource, and lists the rest"):format(line:sub(1, 50)), function()
      check(address, ('line 1 of resource is "%s"'):format(line:sub(1, 40):gsub("%c", "?")), function(info)
        info.bars[0], info.bars[2] = nil, info.bars[0]
      end)
    end)
  end

  local backwards = pci(resource "0x00000000feb10000 0x00000000feb0ffff 0x0000000000040200")
  local endless = pci(resource "0x0000000000001000 0xffffffffffffffff 0x0000000000140204")
  it("may have a BAR that ends before it starts, or nowhere", function()
    check(backwards, "BAR0 ends at 0xfeb0ffff before its start or too far behind it", without_bar0)
    check(endless, "BAR0 ends at 0xffffffffffffffff before its start or too far behind it", without_bar0)
  end)

  -- The kernel writes such a BAR as a span from 0. Mapped, that would be RAM.
  local unset = pci(resource "0x0000000000000000 0x000000000000ffff 0x0000000020040200")
  it("may have a BAR that was given no address", function()
    check(unset, "BAR0 was given no address", without_bar0)
  end)

  -- ---- Numbers ----

  local strange = pci { vendor = "0x11234", device = "acme", class = false, subsystem_vendor = "-2", revision = "0x100" }
  it("may have numbers that are none", function()
    check(strange, 'vendor is 0x11234, more than 0xffff; device is "acme", not a number; class is missing; '
      .. 'subsystem_vendor is "-2", not a number; revision is 0x100, more than 0xff', function(info)
      info.vendor, info.device, info.class = 0, 0, 0
    end)
  end)

  local line, node = pci { irq = "0x80000000" }, pci { irq = "none", numa_node = "here" }
  local far, unknown, second_node = pci { numa_node = "4294967296" }, pci { numa_node = "-1", irq = false }, pci { numa_node = "1" }
  it("may have an interrupt line or a NUMA node that is none", function()
    local function no_irq(info) info.irq = nil end
    check(line, "irq is 0x80000000, more than 0x7fffffff", no_irq)
    check(node, 'irq is "none", not a number; numa_node is "here"', no_irq)
    check(far, 'numa_node is "4294967296"')
    check(unknown, nil, no_irq)
    check(second_node, nil, function(info) info.numa_node = 1 end)
  end)

  local zeros = pci { irq = "0011", revision = "010" }
  it("has no numbers in octal, whatever they begin with", function()
    check(zeros, nil, function(info) info.irq, info.revision = 11, 10 end)
  end)

  it("is not hidden by a UIO device of its name", function()
    local impostor = udev.device("/devices/virtual/uio/0000:00:04.0", "uio", { name = "widget", event = "0" })
    local found = udev.list(udev.pci(4) .. impostor)
    assert.equal(2, #found)
    assert.equal("pci", found[1].bus)
    assert.equal("widget", found[2].uio_name)
  end)
end)
