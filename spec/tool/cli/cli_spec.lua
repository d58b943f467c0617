--- The program, as a shell sees it: output, exit status, and that it works from anywhere.

local luio = require "luio"
local files = require "spec.support.files"
local interrupted = require "spec.support.interrupted"
local program = require "spec.support.program"
local shell = files.shell

local ROOT = require("luv").cwd()
local LUIO = program.PATH

describe("luio", function()
  teardown(files.clean)

  it("shows its version and its use", function()
    assert.same({ "luio " .. luio.version .. "\n", 0 }, { shell(LUIO .. " --version") })
    local out, status = shell(LUIO .. " --help")
    assert.equal(0, status)
    assert.matches("list", out)
  end)

  it("exits with 2 on misuse, in one line that says what was expected", function()
    for args, expected in pairs {
      [""] = "which command? luio --help lists them", bogus = 'there is no command "bogus"', lst = "did you mean list?",
      run = "missing argument 'driver' (luio run --help)", ["list extra"] = "too many arguments", ["--nope"] = "there is no command",
      ["list --jsn"] = "unknown option '--jsn'; Did you mean '--json'?",
      ["get sim:edu 0x20:u33"] = "u8, u16, u32 or u64, not u33", ["set sim:edu STATUS"] = "REGISTER=VALUE",
      ["watch sim:edu --for ever"] = "--for ever: a number of seconds above 0 was expected",
      ["info board7"] = '"board7" is not a device address',
    } do
      program.refuses(args, 2, expected)
    end
  end)

  it("has an example in the help of every command", function()
    for _, row in ipairs(require("luio.tool.cli").commands) do
      local out, status = shell(LUIO .. " help " .. row[1])
      assert.equal(0, status)
      assert.matches("Example: [eval \"$(]*luio " .. row[1], out)
    end
  end)

  it("lists devices, one a line", function()
    local out, status = shell(LUIO .. " list")
    assert.equal(0, status)
    assert.matches("^ADDRESS +UIO +ID +KERNEL DRIVER +LUIO DRIVER +DEVICE\n", out)
    local _, lines = out:gsub("\n", "")
    assert.equal(#assert(luio.list()) + 1, lines)
  end)

  it("runs a script with its arguments, from any folder", function()
    local path = files.write("script.lua", "local luio = require 'luio' print(arg[0]:match '[^/]*$', #arg, arg[1], ...) return 3")
    local out, status = shell(("cd / && %s '%s/%s' a b"):format(LUIO, ROOT, path))
    assert.equal("script.lua\t2\ta\ta\tb\n", out)
    assert.equal(3, status)
  end)

  it("says where a script is wrong, closes what it opened, and exits with 1", function()
    local bad = files.write("bad.lua", "local x = = 5")
    assert.same({ ("luio: %s:1: unexpected symbol near '='\n"):format(bad), 1 }, { shell(LUIO .. " " .. bad) })
    local throws = files.write("throws.lua", "local dev = require('luio').open 'sim:edu' dev.irqs[0]:start() error 'boo'")
    local out, status = shell(LUIO .. " " .. throws)
    assert.equal(1, status)
    assert.matches("^luio: .*throws.lua:1: boo\n  stack traceback", out)
    out, status = shell(LUIO .. " nothing.lua")
    assert.equal(1, status)
    assert.matches("^luio: cannot open nothing.lua", out)
  end)

  it("runs a driver until it is told to stop", function()
    for _, signal in ipairs { "INT", "TERM" } do
      local out, status = interrupted(LUIO .. " run edu sim:edu", "driver edu runs", signal)
      assert.equal(0, status, out)
      assert.matches("^driver edu runs on device sim:edu 1234:11e8; Ctrl%-C stops it\n$", out)
    end
    local out, status = shell(LUIO .. " run nope")
    assert.equal(1, status)
    assert.matches('^luio: there is no driver "nope"', out)
  end)

  it("lints a map: 0 when there is nothing to say, 1 with findings", function()
    assert.same({ "11 registers, 0 findings\n", 0 }, { shell(LUIO .. " lint drivers/edu") })
    local map = files.write("map.lua", "return require('luio').registers { RX_FIFO = { 0, 32 } }")
    local out, status = shell(LUIO .. " lint " .. map)
    assert.equal(1, status)
    assert.matches("RX_FIFO: FIFO: does reading it take data out%?.*\n1 register, 1 finding\n", out)
    local bad = files.write("bad.lua", "return require('luio').registers { A = { 0, 33 } }")
    local report
    report, status = program.json("lint " .. map)
    assert.same({ map, 1 }, { report.map, status })
    assert.is_true(#report.findings > 0 and report.findings[1].path ~= nil and report.findings[1].text ~= nil)
    out, status = shell(LUIO .. " lint " .. bad)
    assert.equal(1, status)
    assert.matches("bad.lua:1: A: the width", out)
    local none = files.write("none.lua", "return 5")
    assert.same({ ("luio: %s: that file returns no register map: return luio.registers { ... }\n"):format(none), 1 },
      { shell(LUIO .. " lint " .. none) })
  end)

  it("imports a vendor's description; corrections beside the map outlive the next import", function()
    local svd, dir = files.write("chip.svd", [[<device><name>CHIP</name><peripherals><peripheral><name>UART</name>
      <baseAddress>0x4000</baseAddress><registers><register><name>DATA</name><addressOffset>0</addressOffset><size>32</size>
      <access>read-write</access></register><register><name>ISR</name><addressOffset>4</addressOffset><size>32</size>
      <fields><field><name>RX</name><bitRange>[0:0]</bitRange></field></fields></register></registers></peripheral></peripherals></device>]])
    local map = dir .. "/uart.lua"
    local import = ("%s import svd %s --peripheral UART -o %s"):format(LUIO, svd, map)
    assert.equal(0, select(2, shell(import)))
    files.save(dir .. "/uart.overlay.lua", 'return { DATA = { read_effect = "pops the FIFO" }, ISR = { RX = { access = "w1c" } } }')
    assert.equal(0, select(2, shell(import)))
    local loaded = dofile(map)
    assert.same({ 0, "pops the FIFO", "w1c" }, { loaded.DATA.offset, loaded.DATA.read_effect, loaded.ISR.field.RX.access })
    local out, status = shell(LUIO .. " import svd " .. svd .. " -p UARTS")
    assert.equal(1, status)
    assert.matches("^luio: .*UARTS.*UART", out)
    out, status = shell(LUIO .. " import svd " .. files.write("bad.svd", "<device><name>"))
    assert.equal(1, status)
    assert.matches("^luio: .*bad.svd", out)
    assert.equal(1, select(2, shell(LUIO .. " import svd nowhere.svd")))
  end)

  it("writes types for an editor", function()
    local out, status = shell(LUIO .. " types drivers/edu")
    assert.equal(0, status)
    assert.matches("%-%-%-@class edu.Registers\n", out)
    assert.matches("%-%-%-@alias edu.Registers.DMA_CMD.Fields", out)
  end)

  it("demonstrates, and says so in its exit status", function()
    local out, status = shell(LUIO .. " examples/demo.lua")
    assert.equal(0, status)
    assert.matches("10!%s+3628800, by interrupt", out)
    assert.matches("4095 bytes there and back, 0 differ", out)
    assert.matches("5, delivered 5, lost 0", out)
    assert.matches("version 2: %+twice; kept 1 buffer; ", out)
    assert.matches("reload refused in stage, version 2 goes on: ", out)
    assert.is_nil(out:find "\27")
    out, status = shell("CLICOLOR_FORCE=1 " .. LUIO .. " examples/demo.lua uio4711")
    assert.equal(1, status)
    assert.matches("\27%[31m", out)
    assert.matches("there is no device uio4711", out)
  end)
end)

describe('require "luio"', function()
  it("works from plain luajit with what `luio env` prints", function()
    local out, status = shell(("cd / && eval \"$(%s env)\" && luajit -e 'print(require(\"luio\").version)'"):format(LUIO))
    assert.equal(luio.version .. "\n", out)
    assert.equal(0, status)
  end)

  it("works when installed, from the program and from luajit; uninstall leaves nothing", function()
    local prefix = ROOT .. "/" .. select(2, files.write("beside", "")) .. "/prefix"
    assert.equal(0, select(2, shell(("make -s install PREFIX='%s'"):format(prefix))))
    local script = files.write("use.lua", [[
      local luio = require "luio"
      local dev = assert(luio.start("edu", "sim:edu"))
      print(dev.driver.factorial_polled(dev, 5))
      assert(dev:close())
    ]])
    local out, status = shell(("cd / && '%s/bin/luio' list && eval \"$('%s/bin/luio' env)\" && luajit '%s/%s'"):format(
      prefix, prefix, ROOT, script))
    assert.equal(0, status, out)
    assert.matches("\n120\n$", out)
    local flags = shell(("PKG_CONFIG_PATH='%s/lib/pkgconfig' pkg-config --cflags --libs luio"):format(prefix))
    assert.is_truthy(flags:find("-lluio", 1, true))
    assert.equal(0, select(2, shell(("make -s uninstall PREFIX='%s'"):format(prefix))))
    assert.equal("", (shell(("find '%s' -type f -o -type l"):format(prefix))))
  end)

  it("refuses a library of another ABI, and names LUIO_LIBRARY when there is none", function()
    local function load_with(library)
      return shell(("LUIO_LIBRARY=%s LUA_PATH='./lua/?.lua;./lua/?/init.lua;;' luajit -e 'require \"luio\"'"):format(library))
    end
    local out, status = load_with "/nowhere.so"
    assert.equal(1, status)
    assert.matches("no libluio.so: run `make`, or name it in LUIO_LIBRARY", out)
    local source, dir = files.write("other.c", 'const char *luio_cdef(void) { return ""; } unsigned luio_abi(void) { return 99; }')
    assert.same({ "", 0 }, { shell(("${CC:-cc} -shared -fPIC -o %s/other.so %s"):format(dir, source)) })
    out, status = load_with(dir .. "/other.so")
    assert.equal(1, status)
    assert.matches("other.so has ABI 99, these Lua files need %d+: run `make`", out)
  end)
end)
