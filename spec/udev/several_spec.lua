--- A name that fits several: UIO devices below one PCI device (one for each vector, from a UIO driver of one's own),
--- devices that fit a driver's match, drivers whose match fits a device. One is taken, a message names it, and the others can be chosen.

local files = require "spec.support.files"
local udev = require "spec.support.umockdev"

-- A PCI device with these UIO devices, in this order in the tree; each maps its BAR.
local function vectors(slot, numbers)
  local tree = udev.pci(slot, { config = udev.config(2) })
  local path = ("/devices/pci0000:00/0000:00:%02x.0"):format(slot)
  for _, n in ipairs(numbers) do
    tree = tree .. udev.device(("%s/uio/uio%d"):format(path, n), "uio", {
      name = "vector" .. n, version = "1", event = "0", ["maps/map0/name"] = "bar", ["maps/map0/addr"] = "0x00000000feb00000",
      ["maps/map0/size"] = "0x0000000000010000", ["maps/map0/offset"] = "0x0",
    })
  end
  return (tree:gsub("(uio%d+)\nE: SUBSYSTEM=uio\n", "%0N: %1=00\n"))
end

-- Runs before the code of a spec.
local PRELUDE = [[
  local sysfs = require "luio.host.sysfs"
  local root = os.getenv "UMOCKDEV_DIR"
  sysfs.proc = root .. "/proc"
  put("/proc/1/comm", "init\n")
  assert(require("luv").fs_symlink("/proc/locks", root .. "/proc/locks"))
  sysfs.root = root
  put("/proc/self/status", "Name:\tluajit\nCapEff:\t000001ffffffffff\n")
  local A, FOLDER = "0000:00:04.0", "/sys/devices/pci0000:00/0000:00:04.0"
  local function try(address, options)
    local dev, message, code = luio.open(address, options)
    return dev, { message, code }
  end
]]

local function run(tree, code)
  return udev.run(tree, PRELUDE .. code)
end

describe("several UIO devices of one PCI device", function()
  local TREE = vectors(4, { 10, 9, 11 })

  it("are listed by number, and the PCI address means the lowest, which is said", function()
    local got = run(TREE, [[
      local order, dev = {}, assert(luio.open(A))
      for i, info in ipairs(assert(luio.list())) do order[i] = info.uio end
      local got = { order, dev.info.uio, dev.warnings, (command("info", A)), (command("info", "uio11")), (command("doctor", "uio10")) }
      dev:close()
      dev = assert(luio.open "uio10")
      got[7], got[8] = dev.info.uio, #dev.warnings
      dev:close()
      return got]])
    local several = "one of 3 UIO devices of 0000:00:04.0: uio9 uio10 uio11"
    assert.same({ "uio9", "uio10", "uio11" }, got[1])
    assert.equal("uio9", got[2])
    assert.same({ "uio9 is " .. several .. ", and the first that its address means" }, got[3])
    assert.matches("\nuio           uio9, vector9, version 1, 0 interrupts so far; " .. several .. "\n", got[4], 1, true)
    assert.matches("\nuio           uio11, vector11, ", got[5], 1, true)
    assert.matches("has it, as uio10, " .. several .. "\n", got[6], 1, true)
    assert.same({ "uio10", 0 }, { got[7], got[8] })
  end)

  it("are opened each for itself, and what they share belongs to the first", function()
    local got = run(TREE, [[
      local first, second = assert(luio.open "uio10"), assert(luio.open "uio9")
      local function fails(fn, ...)
        local _, message, code = fn(...)
        return { message, code }
      end
      local _, again = try "uio9"
      local _, lowest = try(A)
      local config = { first.config:read16(4), second.config:read16(4) }
      local got = {
        again, lowest, fails(second.bus_master, second, true), fails(second.bus_master, second, false), fails(second.dma.alloc, second.dma, 64),
        fails(second.config.write16, second.config, 4, 0), config, { first:bus_master(true) }, second:close(), first.config:read16(4),
      }
      local third = assert(luio.open "uio9")
      first:close()
      local left = { third.config:read16(4) }
      third:close()
      local owner = assert(luio.open "uio9")
      got[11], got[12] = left, { owner:bus_master(true) }
      owner:close()
      return got]])
    local pid = got[1][1]:match "%((%d+)%)"
    assert.same({ ("open uio9: EBUSY: this process (%s) drives it already"):format(pid), "EBUSY" }, got[1])
    assert.same(got[1], got[2])
    local shared = "of uio9: EBUSY: it is one of several UIO devices of 0000:00:04.0, whose config space, bus master and DMA memory belong to the one "
      .. "that was opened first, by this process: use that one's"
    assert.same({ "bus master " .. shared, "EBUSY" }, got[3])
    assert.same({ "bus master " .. shared, "EBUSY" }, got[4])
    assert.same({ "DMA memory " .. shared, "EBUSY" }, got[5])
    assert.same({ "write config space " .. shared, "EBUSY" }, got[6])
    assert.same({ 2, 2 }, got[7])
    assert.same({ { true }, true, 6 }, { got[8], got[9], got[10] }) -- the second one's end has not switched the first one's bus master off
    assert.same({ { 2 }, { true } }, { got[11], got[12] }) -- and the first one's own has
  end)

  it("are taken from their UIO driver only when nobody has any of them", function()
    local got = run(TREE, [[
      local link = require("luv").fs_symlink
      put("/proc/812/cmdline", "card\0")
      put("/proc/812/fd/x", "")
      put("/proc/812/fdinfo/7", "pos:\t0\n")
      put("/proc/812/maps", "")
      assert(link("/dev/uio10", root .. "/proc/812/fd/7"))
      put("/sys/bus/pci/drivers/card/unbind", "")
      put("/sys/bus/pci/drivers_probe", "")
      put(FOLDER .. "/driver_override", "(null)\n")
      assert(link("../../../bus/pci/drivers/card", root .. FOLDER .. "/driver"))
      return { { command("unbind", "uio9") }, (command("info", "uio9")), (command("info", "uio10")) }]])
    assert.equal(1, got[1][2])
    assert.matches("unbind 0000:00:04.0: refused: process 812 %(card%) drives it: /dev/uio10 ", got[1][1])
    assert.matches("\nheld by       nobody\n", got[2]) -- of this vector
    assert.matches("\nheld by       process 812 %(card%) drives it: /dev/uio10\n", got[3])
  end)

  it("are started one by one, by the name that match says", function()
    local got = run(TREE, [[
      local got = {}
      for n = 9, 11 do
        local driver = { name = "one", match = { uio = "vector" .. n }, start = function() return true end }
        local dev = assert(luio.start(driver))
        table.insert(got, { dev.info.uio, #dev.warnings })
        dev:close()
      end
      return got]])
    assert.same({ { "uio9", 0 }, { "uio10", 0 }, { "uio11", 0 } }, got)
  end)
end)

describe("several devices that fit a driver", function()
  local DRIVER = [[
    local function start(match)
      local driver = { name = "fabric", match = match, start = function() return true end }
      local dev, message, code = luio.start(driver)
      if not dev then return { message = message, code = code } end
      local result = { uio = dev.info.uio, warnings = dev.warnings }
      dev:close()
      return result
    end
  ]]
  local function fabric(numbers)
    local parts = {}
    for i, n in ipairs(numbers) do parts[i] = udev.uio(n, { name = "fabric" }):gsub("E: SUBSYSTEM=uio\n", "%0N: uio" .. n .. "=00\n") end
    return table.concat(parts)
  end

  it("are told of when the first is taken, by number, however they match", function()
    local tree = fabric { 10, 2, 3 } .. vectors(4, { 7 }) .. vectors(5, { 6 })
      .. udev.pci(6, { config = udev.config(2) }) -- that no UIO driver has is no choice
    local got = run(tree, DRIVER .. [[return { start { uio = "fabric" }, start { pci = "1234:11e8" }, start { uio = "vector6" },
      start { { uio = "vector6" }, { uio = "fabric" } } }]])
    local text = "%s devices fit driver fabric, and %s is taken, the first; name another to have that: %s"
    assert.same({ uio = "uio2", warnings = { text:format(3, "uio2", "uio3, uio10") } }, got[1])
    assert.same({ uio = "uio7", warnings = { text:format(2, "0000:00:04.0 (uio7)", "0000:00:05.0 (uio6)") } }, got[2])
    assert.same({ uio = "uio6", warnings = {} }, got[3])
    assert.same({ uio = "uio6", warnings = { text:format(4, "0000:00:05.0 (uio6)", "uio2, uio3, uio10") } }, got[4])
  end)

  it("are named when the first can't be had", function()
    local got = run(fabric { 2, 3 }, DRIVER .. [[
      local dev = assert(luio.open "uio2")
      local result = start { uio = "fabric" }
      dev:close()
      return result]])
    assert.equal("EBUSY", got.code)
    assert.matches("^open uio2: EBUSY: .*; 2 devices fit driver fabric, and uio2 is taken, the first; name another to have that: uio3$", got.message)
  end)

  it("are told of by luio run, which says no more where one is named, and by a wait for them", function()
    local _, dir = files.write("fabric/init.lua", [[return { name = "fabric", match = { uio = "fabric" },
      start = function() return nil, "it went no further", "ENODEV" end }]])
    finally(files.clean)
    local got = run(fabric { 2, 3 }, ([[
      local driver = "%s/fabric"
      return { { command("run", driver) }, { command("run", driver, "uio3") }, { command("run", driver, "--wait=5") } }]]):format(dir))
    local told = "luio: 2 devices fit driver fabric, and uio2 is taken, the first; name another to have that: uio3\n"
    for _, i in ipairs { 1, 3 } do
      assert.equal(told, got[i][1]:match "^[^\n]*\n")
      assert.matches("driver fabric did not start on uio2: it went no further", got[i][1], 1, true)
    end
    assert.is_nil(got[2][1]:find("fit driver", 1, true))
    assert.matches("driver fabric did not start on uio3: it went no further", got[2][1], 1, true)
  end)
end)

describe("several drivers that fit a device", function()
  it("are named beside the one that is taken", function()
    local path, dir = files.write("drivers/aaa/init.lua", "return { name = 'aaa', match = { uio = 'widget' } }")
    files.put(dir .. "/drivers/bbb/init.lua", "return { name = 'bbb', match = { { of = 'x' }, { uio = 'widget' } } }")
    finally(files.clean)
    assert.is_string(path)
    local tree = udev.uio(3):gsub("E: SUBSYSTEM=uio\n", "%0N: uio3=00\n")
    local got = run(tree, ([[
      require("luv").os_setenv("LUIO_DRIVERS", "%s")
      return { (command("info", "uio3")), (command("doctor", "uio3")), (command("get", "uio3", "0x0")), (command("get", "uio3", "0x0", "--map", "edu")) }]]):format(dir))
    assert.matches("\nluio driver   aaa; drivers/bbb fits it, too\n", got[1])
    assert.matches("luio driver: aaa matches; drivers/bbb fits it, too\n", got[2])
    assert.matches("^note: drivers/aaa is used; drivers/bbb fits it, too: %-%-map names another\n", got[3])
    assert.is_nil(got[4]:find("bbb", 1, true))
  end)
end)
