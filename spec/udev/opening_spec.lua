--- luio.open under a recorded sysfs, with malformed addresses, absent devices, unavailable ones, and one that was
--- there a moment ago. Each error names the cause and the remedy, and leaves no descriptor behind.

local udev = require "spec.support.umockdev"

local recorded = udev.tree "spec/udev/recorded.umockdev"

describe("opening", function()
  it("refuses what is no address, and says what is", function()
    local addresses = { "", "uio", "uio-1", "uio 0", "uio99999999999999", "0000:00:04", "0000:00:04.0 ", "-1:00:04.0",
      "0000:00:0x4.0", "00000000000000:00:04.0", "../../etc/passwd", "\27[2J", ("x"):rep(10240) }
    local got = udev.run(recorded, ([[
      local results = {}
      for _, address in ipairs { %s } do table.insert(results, attempt(address)) end
      return results]]):format(("%q,"):rep(#addresses):format(unpack(addresses))))
    for i, address in ipairs(addresses) do
      local shown = address:sub(1, 60):gsub("%c", "?")
      assert.same({
        opened = false, code = "EINVAL", left = 0,
        message = ('"%s" is not a device address: uio0 or 0000:00:04.0; a simulated one is sim:NAME'):format(shown),
      }, got[i])
    end
  end)

  it("says that there is no such device, and how to see which there are", function()
    local got = udev.run(recorded, [[return { attempt "uio7", attempt "0000:00:09.0", attempt "09.0:0", attempt "0:9.1" }]])
    local function absent(address)
      return {
        opened = false, code = "ENODEV", left = 0,
        message = ("there is no device %s: `luio list` shows what there is"):format(address),
      }
    end
    assert.same(absent "uio7", got[1])
    assert.same(absent "0000:00:09.0", got[2])
    assert.equal("EINVAL", got[3].code)
    assert.same(absent "0000:00:09.1", got[4])
  end)

  it("finds a device in a PCI domain beyond ffff, where VMD puts its own", function()
    local got = udev.run(recorded, [[return attempt "10000:e1:00.0"]])
    assert.equal("open /sys/devices/pci10000:e0/10000:e1:00.0/config: ENOENT: this kernel offers no such file for the device", got.message)
  end)

  it("takes a BAR that UIO can't map whole by resourceN, however its map is stated", function()
    local small = "0x00000000feb00100 0x00000000feb001ff 0x0000000000040200" .. ("\n" .. udev.NO_BAR):rep(5)
    local large = "0x00000000feb00000 0x00000000feb01fff 0x0000000000040200" .. ("\n" .. udev.NO_BAR):rep(5)
    for _, case in ipairs {
      -- resource, addr, offset, size, whether UIO maps it
      { small, "0xfeb00100", "0x0", "0x100", false }, -- within a page: ENODEV
      { small, "0xfeb00100", "0x100", "0x100", false },
      { small, "0xfeb00000", "0x100", "0x100", false }, -- less than a page: EINVAL
      { small, "0xfeb00000", "0x100", "0x1000", true }, -- as uio_pci_generic states it
      { large, "0xfeb00000", "0x0", "0x1800", false },
      { large, "0xfeb00000", "0x0", "0x2000", true },
    } do
      local map = { ["maps/map0/addr"] = case[2], ["maps/map0/offset"] = case[3], ["maps/map0/size"] = case[4] }
      local info = udev.list(udev.pci(4, { resource = case[1] }, map))[1]
      local what = table.concat(case, " ", 2, 4)
      assert.is_nil(info.problem, what)
      assert.equal(case[5] and 0 or nil, info.bars[0].map, what)
    end
  end)

  -- A FIFO answers mmap as UIO does a map that begins within a page: ENODEV.
  it("says of a map that begins within a page why it can't be had, and what else reaches it; of another what is known", function()
    local node = "E: SUBSYSTEM=uio\n"
    local function region(addr)
      local tree = udev.uio(3, { ["maps/map0/addr"] = addr, ["maps/map0/size"] = "0x100" }):gsub(node, "%0N: uio3=00\n")
      return udev.run(tree, [[
        local path = os.getenv "UMOCKDEV_DIR" .. "/dev/uio3"
        os.remove(path)
        assert(os.execute("mkfifo " .. path) == 0)
        local dev = assert(luio.open "uio3")
        local region, message, code = dev:region(0)
        assert(region == nil)
        return { message, code }]])
    end
    assert.same({ "map map0 of uio3: mmap /dev/uio3: ENODEV: UIO maps whole pages, and this begins at 0x10000044, within a page; as root "
      .. "mem:0x10000040+0x104 reaches it, by /dev/mem", "ENODEV" }, region "0x10000044")
    assert.same({ "map map0 of uio3: mmap /dev/uio3, 0x1000 bytes: ENODEV: the kernel has no mapping of it to give", "ENODEV" },
      region "0x10000000")
  end)

  it("refuses a device that a kernel driver has, and says how to take it", function()
    assert.same({
      opened = false, code = "EBUSY", left = 0,
      message = "open 0000:00:02.0: EBUSY: the kernel driver e1000e has it: `luio bind 0000:00:02.0` "
        .. "gives it to uio_pci_generic; or open read-only to look",
    }, udev.run(recorded, [[return attempt "0000:00:02.0"]]))
  end)

  it("says what may be wrong when there is no node", function()
    assert.same({
      opened = false, code = "ENOENT", left = 0,
      message = "open /dev/uio10: ENOENT: no such node: is udev running, is /dev a devtmpfs?",
    }, udev.run(recorded, [[return attempt "uio10"]]))
  end)

  it("lets go of the config file when the node is missing", function()
    local got = udev.run(udev.pci(4, { config = ("\0"):rep(63) }, {}), [[return attempt "0000:00:04.0"]])
    assert.same({
      opened = false, code = "ENOENT", left = 0,
      message = "open /dev/uio4: ENOENT: no such node: is udev running, is /dev a devtmpfs?",
    }, got)
  end)

  it("says so when a device that was listed has gone", function()
    local got = udev.run(recorded, [[
      local before = assert(luio.list())
      vanish "/devices/platform/9010000.pl031" -- leaves /sys/class/uio/uio10 pointing to nowhere
      vanish "/devices/pci0000:00/0000:00:04.0"
      return { before = #before, after = #assert(luio.list()), attempt "uio10", attempt "uio0", attempt "0000:00:04.0" }]])
    assert.equal(9, got.before)
    assert.equal(7, got.after)
    for i, address in ipairs { "uio10", "uio0", "0000:00:04.0" } do
      assert.same({
        opened = false, code = "ENODEV", left = 0,
        message = ("there is no device %s: `luio list` shows what there is"):format(address),
      }, got[i])
    end
  end)

  it("opens by either name of a device", function()
    local tree = udev.pci(4, { config = ("\0"):rep(63) }, {}):gsub("E: SUBSYSTEM=uio\n", "%0N: uio4=00\n")
    local got = udev.run(tree, [[return { attempt "uio4", attempt "0000:00:04.0", attempt "00:04.0" }]])
    for i = 1, 3 do assert.same({ opened = true, left = 0 }, got[i]) end
  end)
end)
