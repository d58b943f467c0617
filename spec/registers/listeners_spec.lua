--- Registers:on_access: its listeners and its events, and that listening changes nothing.

local buslog = require "spec.support.buslog"
local files = require "spec.support.files"
local luio = require "luio"
local task = require "luio.loop.task"

describe("on_access", function()
  local bus, regs, warnings
  setup(function() bus = buslog.open() end)
  teardown(function() bus:close() end)
  before_each(function()
    bus:poke(0, 64, 0)
    regs = bus:bind { A = { 0, 32, EN = 31, MODE = { 1, 0, values = { OFF = 0, FAST = 2 } } }, B = { 4, 32 }, POPS = { 0x100, 32, read_effect = "pops" } }
    warnings = {}
    bus.dev.on_warning = function(message) table.insert(warnings, message) end
  end)

  it("gives what prints as a line: the value, decoded, and the script's line", function()
    local lines = {}
    regs:on_access(function(...) -- as print takes it
      assert(select("#", ...) == 1)
      table.insert(lines, tostring((...)))
    end)
    regs.A:write { EN = 1, MODE = "FAST" }
    regs.B:read()
    tostring(regs.B)
    assert.matches("^write A = 0x80000002  EN=1 MODE=FAST  %(.*listeners_spec%.lua:%d+%)$", lines[1])
    assert.matches("^read  B = 0x00000000  %(.*listeners_spec%.lua:%d+%)$", lines[2])
    assert.matches("^read  B = 0x00000000  %(to show it%)", lines[3])
  end)

  it("names a line also in a folder that is called luio", function()
    local path = files.write("luio/driver.lua", "local regs = ...\nregs.A:read()")
    local seen
    regs:on_access(function(access) seen = access.source end)
    assert(loadfile(path))(regs)
    assert.matches("luio/driver%.lua:2$", seen)
  end)

  it("does not tell a function of its own accesses, whatever it touches, and tells the others", function()
    local told = {}
    regs:on_access(function(access)
      table.insert(told, access.register)
      tostring(access.reg)
      regs.B:read()
      tostring(regs)
    end)
    bus:log()
    regs.A:read()
    regs:on_access(nil)
    assert.same({ "A" }, told)
    assert.same({ "r32 0x0 0x0", "r32 0x0 0x0", "r32 0x4 0x0", "r32 0x0 0x0", "r32 0x4 0x0" }, bus:log())
  end)

  it("tells of another task's accesses while the function waits", function()
    local told = {}
    luio.run(function()
      regs:on_access(function(access)
        table.insert(told, access.register)
        if access.register == "A" then luio.sleep(0.02) end
      end)
      local one = luio.spawn(function() regs.A:read() end)
      regs.B:read()
      assert(one:join(5))
    end)
    assert.same({ "A", "B" }, told)
  end)

  it("takes a function away that raises, says so, and loses no value", function()
    bus:poke(0x100, 32, 0x55)
    regs:on_access(function() error "boo" end)
    assert.equal(0x55, regs.POPS:read())
    assert.equal(1, #warnings)
    assert.matches("^on_access: the function raised, and is not called any more: .*listeners_spec%.lua:%d+: boo$", warnings[1])
    regs.A:update { EN = 1 }
    assert.equal(1, #warnings)
  end)

  it("takes away the function that raised, not the one that it has put in its place", function()
    local told = {}
    regs:on_access(function()
      regs:on_access(function(access) table.insert(told, access.register) end)
      error "boo"
    end)
    regs.A:read()
    regs.B:read()
    assert.same({ "B" }, told)
    assert.equal(1, #warnings)
  end)

  it("says of another listener that raised which one that is", function()
    regs.listeners:set("journal", function() error "boo" end)
    regs.A:read()
    assert.matches("^journal: the function raised, and is not called any more: ", warnings[1])
  end)

  it("lets a task be cancelled that waits in the function", function()
    luio.run(function()
      regs:on_access(function() luio.sleep(60) end)
      local one = luio.spawn(function() regs.A:read() end)
      one:cancel()
      assert.equal("cancelled", one.status)
    end)
    assert.same({}, warnings)
  end)

  it("lets a function end itself, or put another in its place, at any access", function()
    local told = {}
    regs:on_access(function(access)
      table.insert(told, "first " .. access.register)
      regs:on_access(function(later)
        table.insert(told, "second " .. later.register)
        regs:on_access(nil)
      end)
    end)
    regs.A:read()
    regs.B:read()
    regs.A:read()
    assert.same({ "first A", "second B" }, told)
  end)
end)

describe("on_access of a started driver's device", function()
  local DRIVER = [[
local d = { name = "edu", registers = require "drivers.edu.registers" }
function d.twice(dev, n) dev.regs.LIVENESS:write(%d * n) return dev.regs.LIVENESS:read() end
return d
]]
  after_each(files.clean)

  it("hears what the driver does, also after a reload, and through registers of the script's", function()
    local path = files.write("init.lua", DRIVER:format(2))
    local dev = assert(luio.start(path, "sim:edu"))
    local lines, regs = {}, dev.regs
    local function seen()
      local list = lines
      lines = {}
      return list
    end
    regs:on_access(function(access) table.insert(lines, ("%s %s %#x"):format(access.direction, access.register, access.value)) end)
    dev.driver.twice(dev, 3)
    assert.same({ "write LIVENESS 0x6", "read LIVENESS 0xfffffff9" }, seen())
    files.save(path, DRIVER:format(4))
    luio.run(function() assert(dev:reload()) end)
    dev.driver.twice(dev, 3)
    dev.regs.ID:read()
    assert.same({ "write LIVENESS 0xc", "read LIVENESS 0xfffffff3", "read ID 0x10000ed" }, seen())
    regs:on_access(nil)
    dev.driver.twice(dev, 3)
    assert.same({}, seen())
    assert(dev:close())
  end)
end)

describe("a driver's tasks", function()
  it("go on when the function that listens raises", function()
    local dev = assert(luio.start("edu", "sim:edu"))
    local shown, failures, warned = task.on_failure, {}, {}
    luio.on_task_failure(function(_, traceback) table.insert(failures, traceback) end)
    dev.on_warning = function(message) table.insert(warned, message) end
    dev.regs:on_access(function(access) return access.nothing.nothing end)
    assert.equal(120, (dev.driver.factorial(dev, 5)))
    luio.on_task_failure(shown)
    assert.same({ 0, 1 }, { #failures, #warned })
    assert(dev:close())
  end)
end)
