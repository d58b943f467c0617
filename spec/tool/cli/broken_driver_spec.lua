--- A driver that does not load, as each command meets it: the reason is the driver's, with file and line, and nowhere "there is no map".
---
--- The driver's folder has a model, so that sim:NAME is its device; on PCI the same goes by `match`, in a written sysfs tree.

local amount = require "spec.support.amount"
local files = require "spec.support.files"
local program = require "spec.support.program"
local udev = require "spec.support.umockdev"
local uv = require "luv"

local MAP = "return require('luio').registers { ID = { 0, 32, 'ro' } }\n"
local MODEL = [[return {
  pci = { vendor = 0x1234, device = 0x5678 }, regions = { [0] = { size = 0x1000 } },
  read = function() return 0x10 end, write = function() end,
}]]
local GOOD = "return { name = 'mine', match = { pci = '1234:5678' }, registers = require 'drivers.mine.registers' }\n"

-- Faults: the driver's files, the message of every command, and whether it is known without running the driver.
local FAULTS = {
  ["a syntax error"] = { "return { name = 'mine',\n  match = { pci = '1234:5678' }, start = function( }", MAP,
    "drivers/mine/init.lua:2: ", true },
  ["a name unlike the folder"] = { GOOD:gsub("'mine'", "'yours'", 1), MAP,
    [[drivers/mine/init.lua: the driver calls itself "yours", its folder "mine"]], true },
  ["a misspelt way to match"] = { GOOD:gsub("pci", "pcie", 1), MAP,
    "drivers/mine/init.lua: mine.match: unknown key pcie (did you mean pci?)", true },
  ["a misspelt match"] = { GOOD:gsub("match", "mach", 1), MAP, "drivers/mine/init.lua: mine.mach: did you mean match?", true },
  ["a syntax error in its map"] = { GOOD, "return {\n  }}", "drivers/mine/registers.lua:2: ", true },
  ["a misspelt key"] = { GOOD:gsub("registers =", "register =", 1), MAP, "drivers/mine/init.lua: mine.register: did you mean registers?" },
  ["a fault in its map"] = { GOOD, MAP:gsub("'ro'", "'rx'"), "drivers/mine/registers.lua:1: ID: unknown access rx" },
  ["a map that is not there"] = { GOOD, nil, "module 'drivers.mine.registers' not found: there is no drivers/mine/registers.lua" },
  ["an error of its own"] = { "error 'boo'", MAP, "drivers/mine/init.lua:1: boo" },
}

-- Commands, and how they end. Each run has all of them meet two of the faults, and few of them the others.
local COMMANDS = {
  ["get sim:mine ID"] = 1, ["get sim:mine 0x0"] = 0, ["set sim:mine ID=1"] = 1, ["dump sim:mine"] = 1, ["watch sim:mine ID"] = 1,
  ["snapshot sim:mine"] = 1, ["explore sim:mine -e 'dev.address'"] = 0, ["explore sim:mine -e ID"] = 1,
  ["explore sim:mine -e 'start()'"] = 1, ["doctor sim:mine"] = 1, ["__complete get sim:mine I"] = 0,
}
local FEW = { ["get sim:mine ID"] = 1, ["doctor sim:mine"] = 1, ["__complete get sim:mine I"] = 0 }
local EVERYWHERE = { ["a syntax error"] = COMMANDS, ["a fault in its map"] = COMMANDS }

local folder

local function luio(args) return program.run_in(folder, args) end

local function write(fault)
  folder = uv.cwd() .. "/" .. select(2, files.write("drivers/mine/init.lua", fault[1]))
  files.put(folder .. "/drivers/mine/model.lua", MODEL)
  if fault[2] then files.put(folder .. "/drivers/mine/registers.lua", fault[2]) end
end

-- The command says it, in these words, and nothing else that would be a wrong reason.
local function says(args, status, words)
  local out, got = luio(args)
  assert.equal(status, got, args .. "\n" .. out)
  assert.is_truthy(out:find(words, 1, true), ("%s: %q is not in\n%s"):format(args, words, out))
  for _, wrong in ipairs { "--map FILE", "no driver in drivers/ matches", "put match =", "traceback" } do
    assert.is_nil(out:find(wrong, 1, true), args .. "\n" .. out)
  end
  return out
end

describe("a driver with", function()
  after_each(files.clean)

  for name, fault in pairs(FAULTS) do
    it(name .. " is the reason that every command gives", function()
      write(fault)
      local told = "driver mine does not load: "
      for args, status in pairs(EVERYWHERE[name] or amount(FEW, COMMANDS)) do
        local out = says(args, status, fault[3])
        assert.is_truthy(out:find(told, 1, true), args .. "\n" .. out)
      end
      says("run drivers/mine sim:mine", 1, fault[3])
      says("lint drivers/mine", 1, fault[3])
      says("types drivers/mine", fault[2] == MAP and 0 or 1, fault[3])
      says("doctor", 1, fault[3])
      if not fault[4] then return end
      says("list", 0, told .. fault[3])
      says("info sim:mine", 0, told .. fault[3])
    end)
  end

  it("nothing wrong is not accused", function()
    write { GOOD, MAP }
    assert.same({ "ID 0x0 = 0x00000010\n", 0 }, { luio "get sim:mine ID" })
    assert.is_nil(luio("list"):find("mine", 1, true))
    assert.matches("luio driver   mine\n", (luio "info sim:mine"))
    assert.equal("1 register, 0 findings\n", (luio "lint drivers/mine"))
    -- Nor one whose text has such words elsewhere.
    write { "--- { name = 'other', match = { pci = 1 } }, macth = { pci = '1:2' }\n" .. GOOD, MAP }
    assert.is_nil(luio("list"):find("mine", 1, true))
  end)

  it("its map in its own file has one for every command", function()
    write { "return { name = 'mine', match = {}, registers = require('luio').registers { ID = { 0, 32, 'ro' } } }" }
    assert.equal("1 register, 0 findings\n", (luio "lint drivers/mine"))
    assert.equal("ID 0x0 = 0x00000010\n", (luio "get sim:mine ID --map drivers/mine"))
    assert.equal("ID\n", (luio "__complete get sim:mine I"))
  end)

  it("no map at all is told from one that does not load", function()
    write { "return { name = 'mine', match = {} }" }
    local out, status = luio "get sim:mine ID"
    assert.equal("luio: ID: there is no register map for sim:mine (1234:5678): driver mine states no registers; name one with --map FILE, "
      .. "or an offset: 0x20:u32\n", out)
    assert.equal(1, status)
  end)

  it("a file that can't be read is not said to be missing", function()
    write { GOOD, MAP }
    os.remove(folder .. "/drivers/mine/init.lua")
    assert(uv.fs_mkdir(folder .. "/drivers/mine/init.lua", 493))
    local out, status = luio "run drivers/mine sim:mine"
    assert.equal(1, status)
    assert.matches("^luio: driver \"drivers/mine\" can't be had %(looked for drivers/mine/init.lua %(no file but a directory%)", out)
    assert.equal("luio: cannot read drivers/mine/init.lua: Is a directory\n", (luio "get sim:mine ID --map drivers/mine/init.lua"))
  end)

  it("a fault that is mended can be started at the same prompt", function()
    write(FAULTS["a misspelt key"])
    files.save(folder .. "/good.lua", GOOD)
    local out, status = luio "explore sim:mine -e 'start()' -e ID"
    assert.equal(1, status, out)
    out, status = luio "explore sim:mine -e 'return pcall(start)' -e 'os.execute \"cp good.lua drivers/mine/init.lua\"' -e 'start()' -e ID"
    assert.equal(0, status, out)
    assert.matches("did you mean registers%?.*ID 0x0 = 0x00000010\n$", out)
  end)
end)

describe("on PCI, by its match, a driver that does not load", function()
  it("is named by list, info and doctor, and one with another's match is not", function()
    local got = udev.run(udev.pci(4, { vendor = "0x1234", device = "0x5678" }, nil), [[
      local uv, about, match = require "luv", require "luio.host.report", require "luio.driver.match"
      local root = os.getenv "UMOCKDEV_DIR"
      put("/drivers/mine/init.lua", "return { name = 'yours', match = { pci = '1234:5678' } }")
      put("/drivers/other/init.lua", "return { name = 'another', match = { pci = '9999:9999' } }")
      uv.os_setenv("LUIO_DRIVERS", root)
      local rows = about.rows(about.devices())
      local info = require("luio.host.inspect").find "0000:00:04.0"
      local all = about.of(info)
      return { row = rows[2][5], name = all.luio_driver, problem = all.luio_driver_problem,
        lines = about.lines(all), tried = { match.driver_of(info) } }]])
    assert.equal("mine (does not load)", got.row)
    assert.matches('^driver mine does not load: .*/drivers/mine/init.lua: the driver calls itself "yours"', got.problem)
    assert.equal("mine", got.name)
    assert.is_truthy(table.concat(got.lines, "\n"):find("luio driver   " .. got.problem, 1, true))
    assert.equal("mine", got.tried[1])
  end)
end)
