--- UIO devices as no kernel should describe them: files missing, numbers that are none or too
--- large, names that are novels or drive terminals. Each case adds one device to one tree. Wrong
--- attributes are left out and named in `problem`, and all others are there. malformed_pci_spec.lua has
--- the PCI side.

local udev = require "spec.support.umockdev"

describe("a UIO device", function()
  local trees, devices = {}, nil
  setup(function() devices = udev.list(table.concat(trees)) end)

  -- One more device, `changes` from a fine one; returns its address.
  local function uio(changes)
    table.insert(trees, udev.uio(#trees, changes))
    return "uio" .. #trees - 1
  end

  -- Compares the listing with a device without faults but for `differences`.
  local function check(address, problem, differences)
    local want = {
      address = address, uio = address, uio_name = "widget", uio_version = "1.0", event = 7, bus = "platform",
      sysfs = "/sys/devices/platform/dev" .. address:match "%d+", compatible = {}, ports = {}, bars = {},
      maps = {
        [0] = { name = "registers", addr = 0x10000000, size = 0x1000, offset = 0 },
        { name = "buffer", addr = 0x20000000, size = 0x4000, offset = 0 },
      },
      problem = problem,
    }
    if differences then differences(want) end
    assert.same(udev.capable(want), devices[address])
  end

  local function without_map0(info) info.maps[0] = nil end

  local first = uio()
  it("is intact when the others are not", function()
    check(first)
    assert.equal(#trees, #devices)
  end)

  -- ---- Files that are missing ----

  local nameless, empty_name = uio { name = false }, uio { name = "" }
  it("may lack its name, or have an empty one", function()
    check(nameless, "name is missing", function(info) info.uio_name = nil end)
    check(empty_name, "name is empty", function(info) info.uio_name = nil end)
  end)

  local eventless, no_event = uio { event = false }, uio { event = "several" }
  it("may lack its count of events", function()
    check(eventless, "event is missing", function(info) info.event = 0 end)
    check(no_event, 'event is "several", not a number', function(info) info.event = 0 end)
  end)

  local versionless = uio { version = false }
  it("needs no version", function()
    check(versionless, nil, function(info) info.uio_version = nil end)
  end)

  local no_addr, no_size = uio { ["maps/map0/addr"] = false }, uio { ["maps/map0/size"] = false }
  it("may have a map without address or size", function()
    check(no_addr, "maps/map0/addr is missing", without_map0)
    check(no_size, "maps/map0/size is missing", without_map0)
  end)

  local hollow = uio {
    ["maps/map0/addr"] = false, ["maps/map0/size"] = false, ["maps/map0/offset"] = false, ["maps/map0/name"] = false,
    ["maps/map0/uevent"] = "",
  }
  it("may have a folder for a map with nothing of use in it", function()
    check(hollow, "maps/map0/size is missing; maps/map0/addr is missing", without_map0)
  end)

  local plain = uio { ["maps/map0/offset"] = false, ["maps/map0/name"] = false }
  it("needs neither name nor offset of a map, which old kernels lack", function()
    check(plain, nil, function(info) info.maps[0].name = "" end)
  end)

  local folder = uio { name = false, ["name/x"] = "1" }
  it("may have a folder where a file should be", function()
    check(folder, "name is missing", function(info) info.uio_name = nil end)
  end)

  -- ---- Numbers ----

  local sizes = {
    "-1", "0x10000000000000000", "lots", "", "0x", "0x1000 ", " 0x1000", "4096 bytes", "+4096", "0x1000\n0x2000",
  }
  for _, size in ipairs(sizes) do
    local complaint = #size == 19 and "not a 64-bit number" or "not a number"
    local address = uio { ["maps/map0/size"] = size }
    it(("names the map whose size is %q, and lists the rest"):format(size), function()
      check(address, ('maps/map0/size is "%s", %s'):format(size:gsub("\n", "?"), complaint), without_map0)
    end)
  end

  local nothing, everything = uio { ["maps/map0/size"] = "0x0" }, uio { ["maps/map0/size"] = "0x400000000001" }
  it("may have a map of no bytes, or of more than there can be", function()
    check(nothing, "map0 has a size of 0x0 bytes", without_map0)
    check(everything, "map0 has a size of 0x400000000001 bytes", without_map0)
  end)

  local top = { ["maps/map0/addr"] = "0xfffffffffffff000", ["maps/map0/size"] = "0x1000" }
  local last = uio(top)
  top["maps/map0/size"] = "0x1001"
  local wrapping = uio(top)
  it("may have a map up to the last address, but not beyond", function()
    check(last, nil, function(info) info.maps[0].addr = 0xfffffffffffff000 end)
    check(wrapping, "map0 at 0xfffffffffffff000 ends beyond 64 bits", without_map0)
  end)

  local far, odd = uio { ["maps/map0/offset"] = "0x1000" }, uio { ["maps/map0/offset"] = "behind" }
  it("may have a map that starts beyond its first page", function()
    check(far, "map0 has an offset of 0x1000, more than a page", without_map0)
    check(odd, 'maps/map0/offset is "behind", not a number', without_map0)
  end)

  -- An offset is within the map's pages; what is before the registers is not theirs.
  local within, later = uio { ["maps/map0/offset"] = "0x200" }, uio { ["maps/map0/addr"] = "0xffffffffffffffff" }
  it("has no bytes behind its last page, and none yet where the driver allocates them at opening", function()
    check(within, nil, function(info) info.maps[0].offset, info.maps[0].length = 0x200, 0xe00 end)
    check(later, nil, function(info) info.maps[0].addr, info.maps[0].at_open = 0, true end)
  end)

  local hundreds = {}
  for i = 2, 301 do hundreds[("maps/map%d/addr"):format(i)], hundreds[("maps/map%d/size"):format(i)] = "0x1000", "0x1000" end
  local many = uio(hundreds)
  it("may have more maps than a kernel allows; the first five count", function()
    check(many, "maps/ holds 297 more than map0 to map4", function(info)
      for i = 2, 4 do info.maps[i] = { name = "", addr = 0x1000, size = 0x1000, offset = 0 } end
    end)
  end)

  local misnamed = uio { ["maps/map01/size"] = "0x1000", ["maps/mapX/size"] = "0x1000" }
  it("may have maps with names that are none", function()
    check(misnamed, "maps/ holds 2 more than map0 to map4")
  end)

  -- ---- Ports ----

  local ports = uio {
    ["portio/port0/start"] = "0xfff0", ["portio/port0/size"] = "0x11", ["portio/port0/porttype"] = "port_x86",
    ["portio/port1/start"] = "0x10000", ["portio/port1/size"] = "1", ["portio/port2/size"] = "8",
    ["portio/port3/start"] = "0x60", ["portio/port3/size"] = "8", ["portio/port3/porttype"] = "port_x86",
    ["portio/port9/start"] = "0x60",
  }
  it("may have ports where no ports are", function()
    check(ports, "portio/ holds 1 more than port0 to port4; port0 spans 0xfff0+0x11; port1 spans 0x10000+0x1; "
      .. "portio/port2/start is missing", function(info)
      info.ports[3] = { name = "", start = 0x60, size = 8, porttype = "port_x86" }
    end)
  end)

  -- ---- Texts ----

  local novel = ("once upon a time "):rep(400)
  local long = uio { name = novel, version = novel, ["maps/map0/name"] = novel }
  it("may have names of several KB; they are cut", function()
    check(long, "name is longer than 63 bytes; version is longer than 31 bytes; maps/map0/name is longer than 63 bytes",
      function(info)
        info.uio_name, info.uio_version, info.maps[0].name = novel:sub(1, 63), novel:sub(1, 31), novel:sub(1, 63)
      end)
  end)

  local loud = uio {
    name = "a\27]0;owned\7b\127c\nd\te", version = "\194\155" .. "2J \155 \255\254",
    ["maps/map0/name"] = "gr\195\182\195\159e \226\130\172",
  }
  it("can't drive a terminal by its names, while UTF-8 stays", function()
    check(loud, nil, function(info)
      info.uio_name, info.uio_version, info.maps[0].name = "a?]0;owned?b?c?d?e", "??2J ? ??", "größe €"
    end)
  end)

  local cut = uio { name = ("ä"):rep(40) }
  it("has no half characters where a name was cut", function()
    check(cut, "name is longer than 63 bytes", function(info) info.uio_name = ("ä"):rep(31) .. "?" end)
  end)

  local quoted = uio { event = "\27[31m" .. ("9"):rep(5000) }
  it("can't drive a terminal by what a problem quotes, nor fill it", function()
    check(quoted, ('event is "?[31m%s", not a number'):format(("9"):rep(35)), function(info) info.event = 0 end)
  end)

  local wreck = {}
  for i = 0, 4 do
    wreck[("maps/map%d/size"):format(i)], wreck[("maps/map%d/addr"):format(i)] = "no size at all", "no address at all"
  end
  local wrecked = uio(wreck)
  it("names as many problems as there is room for, and says that there are more", function()
    local problem = devices[wrecked].problem
    local all = {}
    for i = 0, 4 do
      table.insert(all, ('maps/map%d/size is "no size at all", not a number'):format(i))
      table.insert(all, ('maps/map%d/addr is "no address at all", not a number'):format(i))
    end
    assert.equal(table.concat(all, "; "):sub(1, 252) .. "...", problem)
    check(wrecked, problem, function(info) info.maps = {} end)
  end)

  -- ---- The parent ----

  local orphan = "uio500"
  table.insert(trees, udev.device("/devices/virtual/uio/uio500", "uio", { name = "orphan", event = "0" }))
  it("needs no parent", function()
    assert.same(udev.capable {
      address = orphan, uio = orphan, uio_name = "orphan", event = 0, bus = "",
      sysfs = "/sys/devices/virtual/uio/uio500", compatible = {}, maps = {}, ports = {}, bars = {},
    }, devices[orphan])
  end)

  local unreal = "uio" .. ("9"):rep(100)
  table.insert(trees, udev.device("/devices/virtual/uio/" .. unreal, "uio", { name = "widget", event = "0" }))
  it("may have a number that no address can have", function()
    local info = devices[unreal:sub(1, 31)]
    assert.equal("the UIO name is longer than 31 bytes", info.problem)
    assert.equal("widget", info.uio_name)
  end)

  local deep = "/devices/platform" .. ("/" .. ("b"):rep(60)):rep(4)
  table.insert(trees, udev.device(deep, "platform", { ["of_node/compatible"] = ("acme,\27[widget\0"):rep(40) })
    .. udev.device(deep .. "/uio/uio501", "uio", { name = "widget", event = "0" }))
  it("may be too deep in the tree, and compatible with too much", function()
    local info = devices.uio501
    -- No path rather than a part of one, which would be another device's.
    assert.equal(nil, info.sysfs)
    assert.equal("the sysfs path is longer than 255 bytes; of_node/compatible is longer than 255 bytes", info.problem)
    assert.equal("acme,?[widget", info.compatible[1])
    assert.equal(19, #info.compatible)
  end)

  it("leaves no memory behind, however malformed #plain", function()
    local grown = udev.run(table.concat(trees), [[
      local function round()
        assert(luio.list())
        assert(not luio.open "uio77")
      end
      round()
      local before = allocated()
      for _ = 1, 5 do round() end
      return allocated() - before]])
    assert.is_true(grown < 5 * 16, grown) -- the least that malloc gives is 16 bytes
  end)
end)
