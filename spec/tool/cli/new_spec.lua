--- luio new: its files load, run, pass their spec, and read no register that has not been looked up.

local files = require "spec.support.files"
local fixtures = require "spec.registers.import.fixtures"
local program = require "spec.support.program"
local udev = require "spec.support.umockdev"

-- A folder of one's own, and shell(...) in it, with what `luio env` sets.
local function workshop()
  local _, dir = files.write("chip.svd", fixtures.HEAD .. fixtures.peripheral(
    fixtures.register("FIFO", 0, "<readAction>modify</readAction>") .. fixtures.register("END", 8, "<resetValue>0x21</resetValue>")
      .. fixtures.register("WIDE", 16, "<size>64</size>")) .. fixtures.TAIL)
  return dir, function(command, ...)
    return files.shell(("cd '%s' && eval \"$(%s env)\" && %s"):format(dir, program.PATH, command:format(...)))
  end
end

describe("luio new", function()
  teardown(files.clean)

  it("writes a driver that loads, passes its spec and runs", function()
    local dir, shell = workshop()
    local p
    finally(function() if p then p:close() end end)
    for name, args in pairs {
      adc = "1234:5678", dac = "1234:5678 8086:10D3", rtc = "arm,pl031", fabric = "uio:fabric", chip = "1234:0001 --svd chip.svd -p P",
    } do
      local out, status = shell("%s new %s %s", program.PATH, name, args)
      assert.equal(0, status, out)
      assert.matches(("drivers/%s: registers%%.lua, init%%.lua, model%%.lua, %s_spec%%.lua\n"):format(name, name), out)
      out, status = shell("busted --lua=luajit drivers/%s 2>&1", name)
      assert.equal(0, status, out)
      assert.matches("1 success / 0 failures / 0 errors", out)
      out, status = shell("%s lint drivers/%s", program.PATH, name)
      if name ~= "chip" then assert.same({ "1 register, 0 findings\n", 0 }, { out, status }) end
      p = program.start { "run", dir .. "/drivers/" .. name, ("sim:%s/drivers/%s"):format(dir, name) }
      p:wait(("driver %s runs"):format(name))
      p:kill "sigint"
      assert.equal(0, p:status())
      p:close()
    end
    assert.matches('match = { { pci = "1234:5678" }, { pci = "8086:10d3" } }', files.read(dir .. "/drivers/dac/init.lua"), 1, true)
    assert.matches('match = { of = "arm,pl031" }', files.read(dir .. "/drivers/rtc/init.lua"), 1, true)
    assert.matches("function chip.read_end", files.read(dir .. "/drivers/chip/init.lua"), 1, true)
  end)

  it("has an example that nothing which only looks reads", function()
    local _, shell = workshop()
    assert.equal(0, select(2, shell("%s new adc 1234:5678", program.PATH)))
    local out, status = shell("%s dump sim:drivers/adc", program.PATH)
    assert.same({ "ID 0x0   (not read: nobody has looked it up yet)\n", 0 }, { out, status })
  end)

  it("takes ids, regions and class from a device that is here, and says who else is for it", function()
    local text = udev.run(udev.pci(4, { class = "0x078000" }), [[
      local uv = require "luv"
      local dir = os.getenv "UMOCKDEV_DIR" .. "/work"
      uv.fs_mkdir(dir, 493)
      local root = uv.cwd()
      uv.os_setenv("LUIO_DRIVERS", root)
      package.path = package.path:gsub("%./", root .. "/")
      uv.chdir(dir)
      local said, status = command("new", "serial", "0000:00:04.0")
      local function text(name)
        local f = assert(io.open("drivers/serial/" .. name))
        return f:read "*a", f:close()
      end
      local all = { status, (text "registers.lua"), (text "model.lua"), (text "init.lua"), said }
      uv.chdir(root)
      return all ]])
    assert.equal(0, text[1], text[5])
    assert.matches("\n  -- region 0: memory, 0x10000 bytes\n", text[2], 1, true)
    assert.matches("\n  pci = { vendor = 0x1234, device = 0x11e8, class = 0x078000, revision = 0x%x+ },\n", text[3])
    assert.matches("\n  regions = { [0] = { size = 0x10000 } },\n", text[3], 1, true)
    assert.matches('match = { pci = "1234:11e8" }', text[4], 1, true)
    assert.matches("note: drivers/edu fits it, too: of several the first by name is taken", text[5], 1, true)
  end)

  it("begins nothing where others may write", function()
    local dir, shell = workshop()
    assert(os.execute(("mkdir '%s/drivers' && chmod a+w '%s/drivers'"):format(dir, dir)) == 0)
    local out, status = shell("%s new adc 1234:5678", program.PATH)
    assert.equal(1, status)
    assert.matches("^luio: drivers/adc is not begun here, because [^\n]*/drivers may be written by anybody: chmod [^\n]*\n$", out)
    assert.equal("", (shell "ls -A drivers"))
  end)

  it("begins where the device's registers are, by its first id", function()
    local text = udev.run(udev.pci(4, { resource = udev.NO_BAR .. "\n" .. udev.NO_BAR .. "\n0x00000000feb00000 0x00000000feb0ffff 0x0000000000040200\n" }), [[
      local uv = require "luv"
      local root, dir = uv.cwd(), assert(uv.fs_mkdtemp "/tmp/luio-XXXXXX") -- not in umockdev's tree, whose name a real path lacks
      package.path = package.path:gsub("%./", root .. "/")
      uv.chdir(dir)
      local said, status = command("new", "far", "0000:00:04.0")
      assert(status == 0, said)
      said, status = command("new", "other", "1234:5678", "0000:00:04.0")
      assert(status == 0, said)
      local function text(name)
        local f = assert(io.open(dir .. "/" .. name))
        return f:read "*a", f:close()
      end
      local driver = assert(require("luio.driver").load(dir .. "/drivers/far"))
      local dev = assert(require("luio").open("sim:" .. dir .. "/drivers/far"))
      local regs = assert(require("luio").bind(driver.registers, dev))
      local all = { (text "drivers/far/registers.lua"), (text "drivers/far/model.lua"), (text "drivers/other/model.lua"), regs.ID:read() }
      assert(dev:close())
      uv.chdir(root)
      os.execute("rm -r " .. dir)
      return all ]])
    assert.matches("\n  region = 2,\n", text[1])
    assert.matches("regions = { [2] = { size = 0x10000 } }", text[2], 1, true)
    assert.matches("vendor = 0x1234, device = 0x5678, class = 0xff0000", text[3])
    assert.matches("regions = { [0] = { size = 0x1000 } }", text[3], 1, true)
    assert.equal(0x10, text[4])
  end)

  it("refuses what it can't begin, and leaves nothing behind", function()
    local dir, shell = workshop()
    for args, words in pairs {
      ["Adc 1234:5678"] = '"Adc" is no name for a driver', ["end 1234:5678"] = '"end" is a word of Lua\'s', ["adc nonsense"] = '"nonsense" is no id',
      ["adc uio77"] = "uio77", ["adc 1:2 --svd nowhere.svd"] = '"1:2" is no id', ["adc a,b --svd nowhere.svd"] = "nowhere.svd",
      ["adc a,b --svd chip.svd -p Q"] = "Q",
    } do
      local out, status = shell("%s new %s", program.PATH, args)
      assert.is_true(status > 0, args)
      assert.is_truthy(out:find(words, 1, true), out)
      assert.equal("chip.svd\n", (shell "ls -A"))
    end
    assert.equal(0, select(2, shell("%s new adc 1234:5678", program.PATH)))
    local before = files.read(dir .. "/drivers/adc/init.lua")
    local out, status = shell("%s new adc 1234:9999", program.PATH)
    assert.same({ "luio: drivers/adc is there already; nothing was changed\n", 1 }, { out, status })
    assert.equal(before, files.read(dir .. "/drivers/adc/init.lua"))
    assert.equal("adc\n", (shell "ls -A drivers"))
  end)
end)
