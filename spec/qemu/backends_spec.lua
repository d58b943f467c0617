--- The back ends of QEMU's devices: from a driver's qemu.lua, from the user, and the usual ones where QEMU refuses a device without.

local luio = require "luio"
local files = require "spec.support.files"
local folders = require "luio.qemu.folders"
local program = require "spec.support.program"
local settings = require "luio.device.settings"
local uv = require "luv"

local INIT = [[return { name = "disk", match = { pci = "1b36:0010" } }]]

-- A driver's folder with a qemu.lua.
local function driver(text, init)
  local _, dir = files.write("drivers/disk/init.lua", init or INIT)
  files.put(dir .. "/drivers/disk/qemu.lua", text)
  return dir .. "/drivers/disk"
end

-- QEMU's arguments, as one text.
local function arguments(dev) return table.concat(dev.qemu.arguments, " ") end

local function has(dev, words)
  assert.truthy(arguments(dev):find(words, 1, true), arguments(dev))
end

local function lacks(dev, words)
  assert.falsy(arguments(dev):find(words, 1, true), arguments(dev))
end

local function refused(words, ...)
  local dev, message, code = luio.open(...)
  assert.is_nil(dev)
  assert.truthy(message:find(words, 1, true), message)
  return code
end

describe("the back ends of a qemu: device", function()
  local notes
  before_each(function()
    notes = {}
    settings.on_note = function(text) table.insert(notes, text) end
  end)
  after_each(function()
    settings.on_note = nil
    assert(luio.close_all())
  end)
  teardown(files.clean)

  it("come from the folder of the driver that is for it, whatever opens it", function()
    local dev = assert(luio.open "qemu:e1000e")
    has(dev, "-netdev hubport,hubid=0,id=luio-netdev")
    has(dev, "-device e1000e,id=luio-device,netdev=luio-netdev")
    assert.same({}, notes)
    has(assert(luio.start("uart16550", "qemu:pci-serial")), "-chardev null,id=luio-chardev")
  end)

  it("are the user's where he gives the property: by the address, or by -global", function()
    local line = { "-netdev", "hubport,id=n0,hubid=7" }
    lacks(assert(luio.open("qemu:e1000e,netdev=n0", { qemu = line })), "luio-netdev")
    lacks(assert(luio.open("qemu:e1000e", { qemu = { line[1], line[2], "-global", "e1000e.netdev=n0" } })), "luio-netdev")
    has(assert(luio.open("qemu:e1000e", { qemu = { "-global", "e1000.mac=52:54:00:00:00:01" } })), "netdev=luio-netdev")
  end)

  it("have an id of the device's own", function()
    has(assert(luio.open "qemu:e1000e,id=nic"), "-netdev hubport,hubid=0,id=nic-netdev")
  end)

  it("come from the driver that is started, before the others by name", function()
    local dir = driver [[return { edu = { dma_mask = 4095 } }]]
    has(assert(luio.open("qemu:edu", { driver = dir })), "edu,id=luio-device,dma_mask=4095")
    lacks(assert(luio.open("qemu:edu", { driver = "edu" })), "dma_mask")
    local init = [[return { name = "disk", match = { pci = "1234:11e8" } }]]
    has(assert(luio.start(driver("return { edu = { dma_mask = 8191 } }", init), "qemu:edu")), "dma_mask=8191")
    has(assert(luio.open("qemu:e1000e", { driver = dir })), "netdev=luio-netdev") -- that one does not have it
  end)

  it("may be arguments that follow the device, but for a user with arguments of his own", function()
    local dir = driver [[return { ["qemu-xhci"] = { p2 = 2, "-device", "usb-kbd" } }]]
    has(assert(luio.open("qemu:qemu-xhci", { driver = dir })), "-device qemu-xhci,id=luio-device,p2=2 -device usb-kbd")
    lacks(assert(luio.open("qemu:qemu-xhci", { driver = dir, qemu = { "-name", "x" } })), "usb-kbd")
  end)

  it("may be scratch images, which stay, and which no two processes share", function()
    local dir = driver [[return { nvme = { serial = "a,b", drive = { scratch = "3M" } } }]]
    local function image(dev)
      local path = assert(arguments(dev):match "file%.filename=([^ ,]+)", arguments(dev))
      assert.equal(3 * 2 ^ 20, assert(uv.fs_stat(path)).size)
      return path
    end
    local first = assert(luio.open("qemu:nvme", { driver = dir }))
    has(first, "nvme,id=luio-device,drive=luio-drive,serial=a,,b")
    local second = assert(luio.open("qemu:nvme", { driver = dir }))
    local path = image(first)
    assert.truthy(path:match "/build/qemu/nvme%-drive[-%d]*%.img$", path)
    assert.not_equal(path, image(second))
    assert(first:close())
    assert.truthy(uv.fs_stat(path))
    assert.equal(path, image(assert(luio.open("qemu:nvme", { driver = dir }))))
  end)

  it("leave no descriptor open when the device is closed, or can't be opened", function()
    local dir = driver [[return { nvme = { serial = "x", drive = { scratch = "1M" }, logical_block_size = 5 }, edu = { dma_mask = 1 } }]]
    local function descriptors()
      local n = 0
      for _ in uv.fs_scandir_next, (uv.fs_scandir "/proc/self/fd") do n = n + 1 end
      return n
    end
    assert(assert(luio.open("qemu:edu", { driver = dir })):close())
    local before = descriptors()
    for _ = 1, 3 do refused("qemu:nvme", "qemu:nvme", { driver = dir }) end
    local good = driver [[return { nvme = { serial = "x", drive = { scratch = "1M" } } }]]
    for _ = 1, 3 do assert(assert(luio.open("qemu:nvme", { driver = good })):close()) end
    assert.equal(before, descriptors())
  end)

  it("are data: a file that is anything else is refused, with its name, and is not run", function()
    for text, words in pairs {
      ["error 'run'"] = "it is to be `return { ... }`, and nothing else",
      ["return { edu = f() }"] = "it is to return a table of literals",
      ["return { edu = 5 }"] = "edu is a table of properties, not 5",
      ["return { edu = { x = {} } }"] = "edu.x is a string, a number, a boolean",
      ["return { edu = { x = { '-netdev' } } }"] = "edu.x is a string",
      ["return { edu = { x = { 'netdev', 'hubport' } } }"] = "edu.x is a string",
      ["return { edu = { x = { '-netdev', 'hubport', y = 1 } } }"] = "edu.x is a string",
      ["return { edu = { x = { scratch = '64 MB' } } }"] = "edu.x is a string",
      ["return { edu = { x = { scratch = '100' } } }"] = "edu.x is a string",
      ["return { edu = { 5 } }"] = "edu: an argument of QEMU's is a string, not 5",
      ["return { ['e,du'] = {} }"] = "e,du is no name of a device",
      ["return { edu = { ['a,b'] = 1 } }"] = "edu: a,b is no name of a property",
    } do
      local dir = driver(text)
      assert.equal("EINVAL", refused(words, "qemu:edu", { driver = dir }), text)
      refused(dir .. "/qemu.lua: ", "qemu:edu", { driver = dir })
    end
  end)

  it("are not taken from a file that others could have written", function()
    local dir = driver [[return { edu = { dma_mask = 4095 } }]]
    assert(uv.fs_chmod(dir .. "/qemu.lua", tonumber("666", 8)))
    refused("qemu.lua is not taken, because ", "qemu:edu", { driver = dir })
  end)

  it("are the usual ones where QEMU refuses the device without, and that is told", function()
    local dev = assert(luio.open "qemu:virtio-blk-pci")
    has(dev, "-blockdev driver=null-co,read-zeroes=on,size=67108864,node-name=luio-drive")
    assert.equal(1, #notes)
    assert.truthy(notes[1]:find("drive property not set", 1, true), notes[1])
    assert.truthy(notes[1]:find("drive=luio-drive", 1, true), notes[1])
    for _, name in ipairs { "nvme", "ivshmem-plain", "virtio-crypto-pci", "pci-ipmi-kcs", "virtio-9p-pci" } do
      assert(assert(luio.open("qemu:" .. name)):close())
    end
    notes = {}
    lacks(assert(luio.open "qemu:rtl8139"), "hubport") -- it is taken without
    assert.same({}, notes)
  end)

  it("keep the computer's loudspeakers out", function()
    has(assert(luio.open "qemu:edu"), "-audiodev none,id=luio-audiodev")
    lacks(assert(luio.open("qemu:AC97,audiodev=mine", { qemu = { "-audiodev", "none,id=mine" } })), "luio-audiodev")
  end)

  it("that do not help leave QEMU's first words, and those for the second attempt", function()
    refused("QEMU: chardev is mandatory; with chardev=luio-chardev -chardev null,id=luio-chardev: ", "qemu:vhost-user-blk-pci")
    assert.same({}, notes)
  end)
end)

describe("a qemu: device that can't be had", function()
  after_each(function() assert(luio.close_all()) end)
  teardown(files.clean)

  it("has a name near it", function()
    assert.equal("ENOENT", refused("'edux' is not a valid device model name (did you mean edu?); `luio list --qemu` has its devices", "qemu:edux"))
    assert.equal("EINVAL", refused("Property 'edu.dma_mas' not found (did you mean dma_mask?)", "qemu:edu,dma_mas=1"))
  end)

  it("may be none for PCI", function()
    assert.equal("ENODEV", refused("it is on a bus of kind usb-bus, and luio opens devices on PCI", "qemu:usb-kbd"))
  end)

  -- The program with another QEMU before the installed one.
  local function with_qemu(script, args)
    local path, dir = files.write("qemu-system-x86_64", script)
    assert(uv.fs_chmod(path, tonumber("755", 8)))
    return files.shell(("PATH=%s/%s:$PATH timeout 300 %s %s"):format(uv.cwd(), dir, program.PATH, args))
  end

  local REAL = "qemu=$(PATH=${PATH#*:} command -v qemu-system-x86_64)\n"

  it("has a QEMU that is too old", function()
    local out, status = with_qemu("#!/bin/sh\n" .. REAL .. [[
case "$*" in *qtest,*) echo "qemu-system-x86_64: -object qtest,id=luio: invalid object type: qtest" >&2; exit 1;; esac
"$qemu" "$@" | sed 's/"minor": [0-9]*, "major": [0-9]*/"minor": 2, "major": 5/'
]], "info qemu:edu")
    assert.equal(1, status, out)
    assert.truthy(out:match "^luio: start qemu%-system%-x86_64: QEMU 5%.2%.%d+ has no `%-object qtest`, .*: QEMU 6%.0 is the first", out)
  end)

  it("has a QEMU that ends while it is asked about the device", function()
    local out, status = with_qemu("#!/bin/sh\n" .. REAL .. [[
case "$*" in *"-M none"*) exec "$qemu" --version;; esac
exec "$qemu" "$@"
]], "info qemu:edux")
    assert.equal(1, status, out)
    assert.truthy(out:match "^luio: open qemu:edux: QEMU: 'edux' is not a valid device model name", out)
  end)

  it("has a QEMU that names no loudspeaker by itself", function()
    local out, status = with_qemu("#!/bin/sh\n" .. REAL .. [[
case "$*" in *ES1370*audiodev=*) ;; *"-device ES1370"*) echo "qemu-system-x86_64: ES1370: no default audio driver available" >&2; exit 1;; esac
exec "$qemu" "$@"
]], "info qemu:ES1370")
    assert.equal(0, status, out)
    assert.truthy(out:find("note: qemu:ES1370: QEMU refuses it alone (ES1370: no default audio driver available); added: audiodev=luio-audiodev\n",
      1, true), out)
  end)

  it("has no QEMU", function()
    for _, args in ipairs { "info qemu:edu", "list --qemu" } do
      local out, status = files.shell(("PATH=/nonexistent %s %s"):format(program.PATH, args))
      assert.equal(1, status, out)
      assert.equal("luio: start qemu-system-x86_64: there is no such program: apt install qemu-system-x86\n", out)
    end
  end)
end)

describe("luio info and doctor", function()
  it("have QEMU's arguments, and where the back ends come from", function()
    local out = program.run "info qemu:e1000e"
    assert.truthy(out:match "\nQEMU +.*%-netdev hubport,hubid=0,id=luio%-netdev %-device e1000e,.* %(%S*drivers/e1000e/qemu%.lua%)\n", out)
    out = program.run "doctor qemu:e1000e"
    assert.truthy(out:match "\nok +back ends: those of %S*drivers/e1000e/qemu%.lua\n", out)
    out = program.run "doctor qemu:nvme"
    assert.truthy(out:match "\nnote +back ends: QEMU refuses it alone; it gets the usual ones: drive=luio%-drive ", out)
    assert.equal("luio-drive", (program.json "info qemu:nvme").qemu.added[1]:match "=(.*)$")
  end)

  it("name what stops the device", function()
    local out, status = program.run "doctor qemu:edux"
    assert.equal(1, status)
    assert.equal("problem  QEMU: open qemu:edux: QEMU VERSION: 'edux' is not a valid device model name (did you mean edu?)\n"
      .. "         remedy: luio list --qemu\n1 problem\n", (out:gsub("QEMU %d+%.%d+%.%d+", "QEMU VERSION")))
    out, status = files.shell(("PATH=/nonexistent %s doctor qemu:edu"):format(program.PATH))
    assert.equal(1, status)
    assert.equal("problem  QEMU: start qemu-system-x86_64: there is no such program\n         remedy: apt install qemu-system-x86\n1 problem\n", out)
    out, status = program.run "doctor qemu:vfio-pci"
    assert.equal(1, status)
    assert.truthy(out:match "^problem  QEMU: open qemu:vfio%-pci: QEMU: No provided host device", out)
  end)
end)

describe("luio new", function()
  teardown(files.clean)

  it("writes down the back ends that QEMU wants", function()
    local _, dir = files.write("x", "")
    local out, status = program.run_in(dir, "new disk qemu:nvme")
    assert.equal(0, status, out)
    assert.truthy(out:find("drivers/disk: registers.lua, init.lua, qemu.lua, disk_spec.lua\n", 1, true), out)
    local p = program.start({ "run", dir .. "/drivers/disk", "qemu:nvme" })
    p:wait "driver disk runs on device qemu:nvme"
    p:kill "sigterm"
    assert.equal(0, p:status())
    assert.falsy(p:text():find("QEMU refuses", 1, true), p:text())
    out = program.run_in(dir, "doctor qemu:nvme")
    assert.truthy(out:find("back ends: those of drivers/disk/qemu.lua", 1, true), out)
    assert.truthy(program.run("run edu qemu:edu --bind"):find("--bind: qemu:edu has no kernel driver, and needs none", 1, true))
  end)
end)

describe("luio list --qemu", function()
  it("has QEMU's PCI devices, by kind and name, and the drivers for them", function()
    local out, status = program.run "list --qemu"
    assert.equal(0, status, out)
    assert.truthy(out:match "^DEVICE +KIND +LUIO DRIVER +DESCRIPTION\n", out)
    assert.truthy(out:match "\nqemu:e1000e +network +e1000e +Intel 82574L GbE Controller\n", out)
    assert.truthy(out:match "\nqemu:edu +%S+ +edu *\n", out)
    assert.truthy(out:match "\nqemu:nvme +storage +%S+ +Non%-Volatile Memory Express\n", out)
    assert.falsy(out:find("usb-kbd", 1, true))
    assert.falsy(out:find("ICH9-LPC", 1, true)) -- only a board has that
    local kinds = {}
    for kind in out:gmatch "\nqemu:%S+ +(.-)  " do table.insert(kinds, kind) end
    assert.truthy(#kinds > 50)
    for i = 2, #kinds do assert.truthy(kinds[i - 1] <= kinds[i]) end
  end)

  it("is JSON", function()
    local out = program.run "list --qemu --json"
    local list, of = require("dkjson").decode(out), {}
    for _, device in ipairs(list) do of[device.name] = device end
    assert.equal("qemu:edu", of.edu.address)
    assert.equal("edu", of.edu.luio_driver)
    assert.equal("network", of.e1000e.category)
    assert.equal("ahci", of["ich9-ahci"].alias)
  end)

  it("names drivers of the folders that luio looks at, and says what is wrong there", function()
    local _, dir = files.write("drivers/disk/init.lua", INIT)
    files.put(dir .. "/drivers/disk/qemu.lua", "return { nvme = {} }")
    local out = files.shell(("LUIO_DRIVERS=%s/%s %s list --qemu"):format(uv.cwd(), dir, program.PATH))
    assert.truthy(out:match "\nqemu:nvme +storage +disk ", out)
    files.put(dir .. "/drivers/disk/qemu.lua", "return {")
    out = files.shell(("LUIO_DRIVERS=%s/%s %s list --qemu"):format(uv.cwd(), dir, program.PATH))
    assert.truthy(out:match "^note: %S*drivers/disk/qemu%.lua: ", out)
    files.clean()
  end)
end)

describe("luio __complete", function()
  local function offered(words) return (program.run("__complete -- " .. words)) end

  it("has QEMU's devices, and the registers of those that a driver is for", function()
    assert.equal("qemu:\n", offered "get q")
    assert.equal("qemu:e1000\nqemu:e1000-82544gc\nqemu:e1000-82545em\nqemu:e1000e\n", offered "info qemu:e1000")
    assert.equal("", offered "bind qemu:e")
    assert.truthy(offered("get qemu:e1000e STA"):match "^STATUS\n")
    assert.equal("", offered "get qemu:nvme STA")
  end)
end)

describe("a size", function()
  it("is one of whole sectors", function()
    for text, bytes in pairs { ["512"] = 512, ["64M"] = 2 ^ 26, ["1K"] = 1024, ["16384G"] = 2 ^ 44 } do assert.equal(bytes, folders.size(text)) end
    for _, text in ipairs { "", "0", "1", "513", "-512", "64m", "64MB", "1e3", "16385G", "99999999999999999999" } do
      assert.is_nil(folders.size(text), text)
    end
  end)
end)
