--- The commands and the prompt on a device of QEMU's that no driver is for.

local files = require "spec.support.files"
local luio = require "luio"
local program = require "spec.support.program"
local uv = require "luv"

-- A folder of one's own, and shell(...) in it.
local function workshop()
  local _, dir = files.write("x", "")
  return dir, function(command)
    return files.shell(("cd '%s' && export PATH='%s/build':\"$PATH\" && eval \"$(luio env)\" && timeout 200 %s"):format(dir, uv.cwd(), command))
  end
end

describe("a device of QEMU's without a driver", function()
  teardown(files.clean)

  it("gets one from luio new, with its ids and regions, whose spec passes on it", function()
    local dir, shell = workshop()
    local out, status = shell "luio new sound qemu:AC97"
    assert.equal(0, status, out)
    assert.matches("drivers/sound: registers.lua, init.lua, sound_spec.lua\n", out, 1, true)
    assert.matches("luio explore qemu:AC97; luio run drivers/sound qemu:AC97", out, 1, true)
    assert.matches('match = { pci = "8086:2415" }', files.read(dir .. "/drivers/sound/init.lua"), 1, true)
    assert.matches("  -- region 0: I/O ports, 0x400 bytes\n  -- region 1: I/O ports, 0x100 bytes; its registers say region = 1\n",
      files.read(dir .. "/drivers/sound/registers.lua"), 1, true)
    out, status = shell "busted --lua=luajit drivers/sound"
    assert.equal(0, status, out)
    assert.matches("1 success / 0 failures / 0 errors", out)
    local p = program.start { "run", dir .. "/drivers/sound", "qemu:AC97" }
    finally(function() p:close() end)
    p:wait "driver sound runs"
    p:kill "sigint"
    assert.equal(0, p:status())
  end)

  it("gets a spec that has the arguments of its QEMU", function()
    local dir, shell = workshop()
    local out, status = shell "luio new nic qemu:e1000e,netdev=n0 --qemu '-netdev hubport,id=n0,hubid=0'"
    assert.equal(0, status, out)
    assert.matches("luio explore qemu:e1000e,netdev=n0 --qemu '-netdev hubport,id=n0,hubid=0';", out, 1, true)
    assert.matches('qemu = { "-netdev", "hubport,id=n0,hubid=0" }', files.read(dir .. "/drivers/nic/nic_spec.lua"), 1, true)
    out, status = shell "busted --lua=luajit drivers/nic"
    assert.equal(0, status, out)
    for _, words in ipairs { "--qemu -netdev --qemu hubport,id=n0,hubid=0", "--qemu=-netdev --qemu 'hubport,id=n0,hubid=0'" } do
      assert.matches("^region 0 .*", (shell("luio info qemu:e1000e,netdev=n0 " .. words .. " | grep 'region 0'")))
    end
  end)

  it("is refused by a driver for another", function()
    local dev, message, code = luio.start("edu", "qemu:AC97")
    assert.is_nil(dev)
    assert.same({ "driver edu is not for device qemu:AC97 8086:2415", "ENODEV" }, { message, code })
  end)

  it("shows that a range gives all ones, where the device wants narrower accesses", function()
    local _, shell = workshop()
    local ones = "0x0: ffffffff ffffffff ffffffff ffffffff\nall ones: nothing is there, or it takes no accesses of 32 bits (0x0+0x10:u8)\n"
    assert.equal(ones, (shell "luio dump qemu:AC97 0x0+0x10"))
    assert.equal("0x7c: 8384 7600\n", (shell "luio dump qemu:AC97 0x7c+4:u16"))
  end)

  it("is told of by doctor, with the command that begins a driver", function()
    local _, shell = workshop()
    local out = shell "luio doctor qemu:AC97"
    assert.matches("ok       QEMU: it runs: qemu:AC97\n", out, 1, true)
    assert.matches("remedy: `luio new NAME qemu:AC97` begins one, or put match = { pci = \"8086:2415\" } into", out, 1, true)
    assert.matches("region 1      I/O ports 0x1400+0x100 (256 bytes), by QEMU\ninterrupt     by QEMU\n", (shell "luio info qemu:AC97"), 1, true)
  end)

  it("says at the prompt that it reaches no memory while bus master is off, once", function()
    local _, shell = workshop()
    local note = "note: bus master is off, so the device reaches no memory: dev:bus_master(true)\n"
    local alloc = "-e 'b = dev.dma:alloc(64)' "
    assert.equal(note, (shell("luio explore qemu:AC97 " .. alloc:rep(2) .. "2>&1")))
    assert.equal("true\n", (shell("luio explore qemu:AC97 -e 'dev:bus_master(true)' " .. alloc .. "2>&1")))
  end)

  it("has its back ends complete their files when it is closed", function()
    local path, dir = files.write("played.wav", "")
    local dev = assert(luio.open("qemu:AC97,audiodev=a", { qemu = { "-audiodev", "wav,id=a,path=" .. path } }))
    assert.is_truthy(dir)
    assert(dev:close())
    assert.equal("RIFF\36\0\0\0WAVE", files.read(path):sub(1, 12)) -- its length, which QEMU writes last
  end)
end)
