--- UIO maps that are not whole pages, and a BAR that a kernel driver has claimed: the error names the kernel's true reason and
--- the way that still works. spec/guest/pages has such maps, over edu's BAR and an SD host's. LUIO_PAGES: its .ko.

local luio = require "luio"
local sysfs = require "spec.support.sysfs"
local system = require "spec.support.system"
local uio_named = require "spec.support.uio_named"

local MODULE, EDU, HOST, CARD = os.getenv "LUIO_PAGES", "0000:00:04.0", "0000:00:0d.0", "0000:00:05.0"

setup(system.start)
teardown(system.stop)

describe("a UIO map that is not whole pages", function()
  if not MODULE then
    it("is there", function() pending "LUIO_PAGES names no module: spec/guest/specs does" end)
    return
  end

  local info, bar

  setup(function()
    sysfs.unbind(EDU)
    system.must("/run/luio/bin/insmod %s slot=4 other=5", MODULE)
    info = assert(uio_named "luio_pages")
    bar = info.maps[0].addr
  end)
  teardown(function()
    system.must "/run/luio/bin/rmmod luio_pages"
    sysfs.bind(EDU)
  end)

  -- The range that a message names reaches the registers, to read and to write.
  local function other_way(message, offset, written)
    local range = assert(message:match "mem:0x%x+%+0x%x+", message)
    assert.matches(("^0x%02x:u32 = 0x%%x+\n$"):format(offset), (system.run(("get %s 0x%x"):format(range, offset))))
    local out, status = system.run(("set %s 0x%x=0x80 --write"):format(range, offset))
    assert.equal(0, status, out)
    assert.is_truthy(out:find(("-> 0x%08x"):format(written), 1, true), out)
  end

  it("and smaller than a page can't be mapped: why, and the other way", function()
    local dev = assert(luio.open(info.address))
    local region, message, code = dev:region(0)
    assert.same({ nil, "EINVAL" }, { region, code })
    assert.equal(("map map0 of %s: mmap /dev/%s: EINVAL: UIO maps whole pages, and this has 0x100 bytes; as root mem:0x%x+0x100 reaches "
      .. "it, by /dev/mem"):format(info.address, info.uio, bar), message)
    assert(dev:close())
    local out = system.run(("get %s 0x0"):format(info.address))
    assert.equal(("luio: %s\n"):format(message), out)
    out = system.run(("get %s ID --map drivers/edu"):format(info.address))
    assert.equal(("luio: %s\n"):format(message), out)
    other_way(message, 4, 0xffffff7f) -- LIVENESS
  end)

  it("and begins within one can't be mapped either; the device is not gone", function()
    local dev = assert(luio.open(info.address))
    local region, message, code = dev:region(1)
    assert.same({ nil, "ENODEV" }, { region, code })
    assert.equal(("map map1 of %s: mmap /dev/%s: ENODEV: UIO maps whole pages, and this begins at 0x%x, within a page; as root "
      .. "mem:0x%x+0x100 reaches it, by /dev/mem"):format(info.address, info.uio, bar + 0x20, bar + 0x20), message)
    assert(dev:close())
    other_way(message, 0, 0x80) -- STATUS, whose bit 7 stays
  end)

  it("is mapped as far as its whole pages go, which is said", function()
    local dev = assert(luio.open(info.address))
    local region = dev.regions[2]
    local card = assert(luio.open(CARD, { read_only = true }))
    local addr = card.regions[0].addr
    assert.same({ 0x1000, addr, "map2, the whole pages of its 0x1800 bytes" }, { region.size, region.addr, region.name })
    local status = region:read32(8)
    assert.equal(card.regions[0]:read32(8), status)
    assert.not_equal(0, status)
    assert(card:close())
    local _, message = luio.bind(luio.registers { region = 2, FAR = { 0x1004, 32, "rw" } }, dev)
    assert.matches("FAR: 0x1004 is outside region 2 of 0x1000 bytes %(map2, the whole pages of its 0x1800 bytes%)", message)
    assert.matches(("map2 .* mem:0x%x%%+0x800"):format(addr + 0x1000), dev.warnings[1])
    assert(dev:close())
  end)

  it("but of the kernel's memory, which UIO rounds to pages, is mapped", function()
    local dev = assert(luio.open(info.address))
    local region = dev.regions[3]
    assert.same({ 0x80, "luio" }, { region.size, string.char(region:read8(0), region:read8(1), region:read8(2), region:read8(3)) })
    assert(dev:close())
  end)

  it("on PCI leaves the BAR to resourceN", function()
    local host = assert(uio_named "luio_host")
    assert.same({ HOST, 0x100, 0x100 }, { host.address, host.maps[0].size, host.bars[0].size })
    assert.is_nil(host.problem)
    local dev = assert(luio.open(HOST))
    assert.same({ "BAR0 by resource0", 0x100 }, { dev.regions[0].name, dev.regions[0].size })
    dev.regions[0]:read32(0x40) -- capabilities
    assert(dev:close())
    assert.matches("region 0 +memory 0x%x+%+0x100 .*by resource0", (system.run("info " .. HOST)))
  end)
end)

describe("a BAR that a kernel driver has claimed", function()
  setup(function()
    sysfs.unbind(CARD)
    system.must "/run/luio/bin/modprobe e1000e"
  end)
  teardown(function()
    system.must "/run/luio/bin/rmmod e1000e"
    sysfs.bind(CARD)
  end)

  it("is the reason, by the driver's name, and `luio bind` the remedy", function()
    local why = ("map BAR0 by resource0 of %s: mmap /sys/%%S+/resource0, 0x20000 bytes: EINVAL: the kernel driver e1000e has claimed it: "
      .. "`luio bind %s` gives the device to uio_pci_generic\n"):format(CARD, CARD)
    for _, args in ipairs { "get %s STATUS", "get %s 0x8", "dump %s", "set -n %s CTRL=0", "snapshot %s" } do
      local out, status = system.run(args:format(CARD))
      assert.equal(1, status)
      assert.matches("^luio: [^\n]*" .. why .. "$", out)
    end
    local out = system.run(("explore --read-only %s -e STATUS"):format(CARD))
    assert.matches("note: the map is not used: " .. why, out)
    assert.matches("there is no STATUS: no register map is loaded: " .. why, out)
  end)
end)
