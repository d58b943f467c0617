--- QEMU's ARM board `virt` without a guest: its devices are found in the device tree that QEMU writes, and interrupt by the lines of
--- its interrupt controller.

local arm_board = require "spec.support.arm_board"
local luio = require "luio"
local match = require "luio.driver.match"

arm_board.describe("QEMU's board virt", function()
  after_each(function() assert(luio.close_all()) end)

  it("has the devices of its device tree", function()
    local info = assert(luio.open "qemu:virt/pl031").info
    assert.same({ "arm,pl031", "arm,primecell" }, info.compatible)
    assert.same({ "platform", "pl031" }, { info.bus, info.uio_name })
    assert.same({ 0x9010000, 0x1000, 0 }, { info.maps[0].addr, info.maps[0].size, info.maps[0].offset })
    assert.equal("pl031", (match.driver_of(info)))
    assert.is_true(match.fits({ of = "arm,pl031" }, info))
    assert.is_false(match.fits({ of = "arm,pl061" }, info))
  end)

  it("names a device by its node, by its node's place, and by what it is compatible with", function()
    for _, name in ipairs { "pl031", "pl031@9010000", "arm,pl031" } do
      local dev = assert(luio.open("qemu:virt/" .. name))
      assert.equal(0x31, dev.regions[0]:read32(0xfe0), name)
    end
    local dev = assert(luio.open "qemu:virt/virtio_mmio@a000200")
    assert.same({ 0xa000000, 0x1000, 0x200, 0x200 },
      { dev.info.maps[0].addr, dev.info.maps[0].size, dev.info.maps[0].offset, dev.info.maps[0].length })
    assert.same({ 0xa000200, 0x200 }, { dev.regions[0].addr, dev.regions[0].size })
    assert.equal(0x74726976, dev.regions[0]:read32(0)) -- "virt": Virtual I/O Device (VIRTIO) 1.1, 4.2.2: MagicValue
    assert.has_error(function() dev.regions[0]:read32(0x200) end) -- the next one's
  end)

  it("says which devices it has, where a name means none, or several", function()
    local dev, message, code = luio.open "qemu:virt/nosuch"
    assert.is_nil(dev)
    assert.equal("EINVAL", code)
    assert.truthy(message:find("its device tree has no nosuch, only flash, fw-cfg, ", 1, true), message)
    assert.truthy(message:find("virtio_mmio (32: virtio_mmio@a000000, ...)", 1, true), message)
    assert.truthy(message:find("'nosuch' is not a valid device model name", 1, true), message)
    dev, message, code = luio.open "qemu:virt/virtio_mmio"
    assert.is_nil(dev)
    assert.equal("EINVAL", code)
    assert.truthy(message:find("its device tree has 32 of that name: virtio_mmio@a000000, virtio_mmio@a000200, ", 1, true), message)
  end)

  it("has no config space, and says so", function()
    local dev = assert(luio.open "qemu:virt/pl031")
    local ok, message, code = dev:bus_master(true)
    assert.is_nil(ok)
    assert.equal("ENOTSUP", code)
    assert.truthy(message:find("it is not a PCI device", 1, true), message)
  end)

  it("takes PCI devices, too", function()
    local dev = assert(luio.start("edu", "qemu:virt/edu"))
    for n = 1, 200 do assert.equal(120, (assert(dev.driver.factorial(dev, 5))), n) end
    assert.equal(200, dev.irqs[0]:stats().interrupts)
  end)
end)
