--- The choice of a device's driver: by the drivers' texts, and, among the candidates, by the tables that they return.

local files = require "spec.support.files"
local uv = require "luv"

local INFO = { address = "0000:09:00.0", vendor = 0x1af4, device = 0x9999, compatible = { "arm,pl999" }, uio_name = "card" }

-- luio.driver.match's answer for a device, with these drivers besides luio's own: name -> text.
local function driver_of(drivers)
  local folder
  for name, text in pairs(drivers) do
    local path = ("drivers/%s/init.lua"):format(name)
    if folder then files.put(folder .. "/" .. path, text) else folder = select(2, files.write(path, text)) end
  end
  uv.os_setenv("LUIO_DRIVERS", uv.cwd() .. "/" .. folder)
  package.loaded["luio.driver.match"] = nil
  local name, driver, message = require("luio.driver.match").driver_of(INFO)
  uv.os_unsetenv "LUIO_DRIVERS"
  package.loaded["luio.driver.match"] = nil
  files.clean()
  return name, driver, message
end

describe("the driver for a device", function()
  it("is found by each way of matching", function()
    for _, match in ipairs {
      "{ pci = '1AF4:9999' }", "{ of = 'arm,pl999' }", "{ uio = 'card' }", "{ { pci = '0001:0002' }, { uio = 'card' } }",
      "require 'drivers.mine.other'", "({ uio = 'card' })", "{ uio = ('CARD'):lower() }",
    } do
      local name, driver, message = driver_of {
        mine = ("return { name = 'mine', match = %s }"):format(match),
        ["mine/other"] = "return { uio = 'card' }",
      }
      assert.equal("mine", name, message)
      assert.equal("mine", driver.name)
    end
    assert.equal("mine", (driver_of { mine = "local M = { name = 'mine' } M['match'] = { uio = 'card' } return M" }))
  end)

  it("is decided by what the driver returns, not by other places of its text", function()
    assert.is_nil((driver_of { mine = "-- match = { uio = 'card' }\nreturn { name = 'mine', match = { uio = 'other' } }" }))
    assert.equal("mine", (driver_of { mine = "-- match = { uio = 'other' }\nreturn { name = 'mine', match = { uio = 'card' } }" }))
    assert.equal("mine", (driver_of {
      mine = "-- match = { a PCI id }\nlocal text = 'match == x'\nif text.match == nil then end\nreturn { name = 'mine', match = { uio = 'card' } }" }))
    assert.is_nil((driver_of { mine = "return { name = 'mine' }" }))
  end)

  it("is found without loading those that can't match", function()
    local name, _, message = driver_of {
      other = "return { name = 'other', match = { uio = 'another' }, nonsense = error 'was loaded' }",
      zmine = "return { name = 'zmine', match = { uio = 'card' } }",
    }
    assert.equal("zmine", name, message)
    _, _, message = driver_of { other = "return { name = 'other', match = { uio = 'another' }, nonsense = error 'was loaded' }" }
    assert.equal("no driver in drivers/ matches", message)
  end)

  it("may be one that does not load, which is named", function()
    local name, driver, message = driver_of { mine = "return { name = 'mine', match = { uio = 'card' }, dmaa = {} }" }
    assert.equal("mine", name)
    assert.is_nil(driver)
    assert.matches("^driver mine does not load: .*/drivers/mine/init.lua: mine.dmaa: did you mean dma%?$", message)
    -- Another that is for it is taken, and the one that was passed over is named.
    name, driver, message = driver_of {
      mine = "return { name = 'mine', match = { uio = 'card' }, dmaa = {} }", other = "return { name = 'other', match = { uio = 'card' } }",
    }
    assert.same({ "other", "other" }, { name, driver.name })
    assert.matches("^driver mine does not load: .*; drivers/other is taken$", message)
    for text, problem in pairs {
      ["return { name = 'mine', match = { pci = 0x1234 } }"] = "mine.match.pci is a number, not a string",
      ["return { name = 'mine', match = { 1 } }"] = "mine.match is a table, or a list of tables, not of a number",
      ["return { name = 'mine', macth = { pci = '0001:0002' } }"] = "did you mean match%?",
      ["return { match = "] = "mine/init.lua:1:",
      ["return { name = 'mine', match = { pci '1' } }"] = "attempt to call global 'pci'",
      ["return { name = 'mine', match = { a b } }"] = "mine/init.lua:1: '}' expected",
    } do
      name, driver, message = driver_of { mine = text }
      assert.same({}, { name, driver })
      assert.matches("^no driver in drivers/ matches; driver mine does not load: .*" .. problem, message)
    end
  end)
end)
