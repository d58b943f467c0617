--- A version of a driver cannot damage objects that it shares with luio and with the version at work. Each of these versions is
--- refused in process, with the driver's line, and the version at work goes on.

local files = require "spec.support.files"
local live = require "luio.reload.live"
local luio = require "luio"
local wait = require "spec.support.wait"

local dev, path, dir

-- A driver of edu: what stands on line 1 runs when it is loaded, on line 4 in start, on line 7 when somebody calls f.
local function text(head, start, f)
  return ([[
%s
local d = { name = "edu", registers = require "drivers.edu.registers", irq = { capture = "IRQ_STATUS", ack = "IRQ_ACK" } }
function d.start(dev)
  dev.state.starts = (dev.state.starts or 0) + 1 %s
  return true
end
function d.f(dev) %s end
return d
]]):format(head or "", start or "", f or "return table.concat({ ('x'):rep(2), tostring(math.floor(1.5)) }, ' ')")
end

local function start(...)
  path, dir = files.write("init.lua", text(...))
  dev = assert(luio.start(path, "sim:edu"))
end

local function reload(...)
  files.save(path, text(...))
  return dev.live:reload()
end

before_each(function() live.PROBATION = 0.05 end)
after_each(function()
  live.PROBATION = 1
  if dev then assert(dev:close()) end
  dev = nil
  files.clean()
end)

local function it_runs(name, fn)
  it(name, function() luio.run(fn) end)
end

-- The version at work, the device, and the next save.
local function goes_on()
  assert.same({ "xx 1", 1 }, { dev.driver.f(dev), dev.state.starts })
  dev.regs.IRQ_RAISE:write(4)
  assert.equal(4, dev.irqs[0]:wait(5).IRQ_STATUS)
  local report = reload()
  assert.is_true(report.ok, report.message)
  assert.same({ "xx 1", 2 }, { dev.driver.f(dev), dev.state.starts })
end

-- Loaded, each of these is refused at this line, for this reason.
local LOADED = {
  ["a library's function"] = { "table.insert = nil error 'mine'", "mine" },
  ["a whole library"] = { "for k in pairs(string) do string[k] = nil end error 'mine'", "mine" },
  ["the libraries"] = { "table, string, math, os = nil error 'mine'", "mine" },
  ["a required library"] = { "require('table').concat = nil require('bit').band = nil error 'mine'", "mine" },
  ["luv"] = { "for k in pairs(require 'luv') do require('luv')[k] = nil end error 'mine'", "mine" },
  ["FFI's functions"] = { "for k in pairs(require 'ffi') do require('ffi')[k] = nil end error 'mine'", "mine" },
  ["globals"] = { "for k in pairs(getmetatable(_G) or _G) do _G[k] = nil end pcall = error error 'mine'", "mine" },
  ["globals behind its own"] = { "getmetatable(_G).__index.pairs = nil", "attempt to index a boolean value" },
  ["globals of a thread"] = { "getfenv(0).pairs = nil getfenv(print).pairs = nil error 'mine'", "mine" },
  ["a thread's environment"] = { "setfenv(0, {})", "the environment of a function that is not the driver's: luio and other drivers share it" },
  ["a function's environment"] = { "setfenv(require('luio').sleep, {})", "the environment of a function that is not the driver's" },
  ["an environment, by debug"] = { "debug.setfenv(pairs, {})", "the environment of a function that is not the driver's" },
  ["globals, from text"] = { "loadstring('pairs = nil table.insert = nil')() error 'mine'", "mine" },
  ["loaded modules"] = { "for k in pairs(package.loaded) do package.loaded[k] = nil end package.loaded['luio.loop.task'] = nil error 'mine'", "mine" },
  ["a loaded library"] = { "package.loaded.table.insert = nil package.loaded._G.pairs = nil error 'mine'", "mine" },
  ["how modules are found"] = { "package.path, package.loaders, package.preload = 5, nil, nil error 'mine'", "mine" },
  ["luio"] = { "local l = require 'luio' for k in pairs(l) do l[k] = nil end l.sleep = nil error 'mine'", "mine" },
  ["what is behind luio"] = { "getmetatable(require 'luio').__index.open = nil", "attempt to index a boolean value" },
  ["a module of luio"] = { "require('luio.loop.task').sleep = nil require('luio.device').view = nil error 'mine'", "mine" },
  ["the registry"] = { "debug.getregistry()._LOADED = nil", "debug.getregistry: the registry: luio and other drivers share it" },
  ["a variable of luio's"] = { "debug.setupvalue(require('luio').open, 1, nil)", "debug.setupvalue of one of luio's functions: luio and other" },
  ["the hook"] = { "debug.sethook()", "debug.sethook: the hook that sees to it that a new version comes back (it is in loading): luio and other" },
  ["who hears of warnings"] = { "require('luio').on_warning(print)", "luio.on_warning: a driver is being loaded" },
  ["strings' methods"] = { "getmetatable('').__index = nil", "the metatable of a string: luio and other drivers share it, so a driver can't change it" },
  ["the strings behind strings"] = { "getmetatable('').__index.rep = nil error 'mine'", "mine" },
  ["strings' metatable"] = { "debug.setmetatable('', nil)", "debug.setmetatable of a string: luio and other drivers share it" },
  ["numbers' metatable"] = { "debug.setmetatable(1, { __index = math })", "debug.setmetatable of a number: luio and other drivers share it" },
  ["files' methods"] = { "getmetatable(io.stdout).__index.write = nil", "the metatable of a userdata: luio and other drivers share it" },
  ["timers' methods"] = { "getmetatable(require('luv').new_timer()).__index.start = nil", "the metatable of a userdata: luio and other" },
  ["a map's methods"] = { "getmetatable(require 'drivers.edu.registers').__index = nil", "the metatable of a table: luio and other" },
}

-- In start, likewise.
local STARTED = {
  ["empties dev, and fails"] = { "for k in pairs(dev) do dev[k] = nil end error 'mine'", "init%.lua:4: mine$" },
  ["empties dev"] = { "for k in pairs(dev) do dev[k] = nil end dev.state = {}", "start has changed dev%.address, .*dev%.regs, dev%.repairs, .*which luio goes by" },
  ["puts another in dev's place"] = { "dev.regions = {}", "start has changed dev%.regions, which luio goes by$" },
  ["empties what is known of the device"] = { "for k in pairs(dev.info) do dev.info[k] = nil end error 'mine'", "init%.lua:4: mine$" },
  ["forgets its name"] = { "d.name = nil error 'mine'", "init%.lua:4: mine$" },
  ["takes dev's methods away"] = { "setmetatable(dev, nil)", "init%.lua:4: the metatable of one of luio's objects: luio and other" },
  ["takes dev's methods away, by debug"] = { "debug.setmetatable(dev, nil)", "init%.lua:4: the metatable of one of luio's objects" },
  ["takes a method of dev's away"] = { "getmetatable(dev).__index.close = nil", "init%.lua:4: the metatable of a table: luio and other" },
  ["takes registers' methods away"] = { "getmetatable(dev.regs.ID).__index = nil", "init%.lua:4: the metatable of a table: luio and other" },
  ["closes the device"] = { "dev:close()", "init%.lua:4: close sim:edu in start, which is called on a device that is in use" },
  ["takes the reports of failures"] = { "require('luio').on_task_failure(print)", "init%.lua:4: luio%.on_task_failure in start: it is for the whole" },
  ["closes all devices"] = { "require('luio').close_all()", "init%.lua:4: luio%.close_all in start: it is for the whole process" },
  ["yields by hand"] = { "coroutine.yield()", "init%.lua:4: coroutine%.yield: there is nobody to go on with it in start" },
  ["yields by hand, and catches that"] = { "pcall(coroutine.yield) error 'mine'", "init%.lua:4: mine" },
}

describe("a new version", function()
  for what, case in pairs(LOADED) do
    it_runs(("that changes %s changes it for itself"):format(what), function()
      start()
      local report = reload(case[1])
      assert.same({ false, "stage" }, { report.ok, report.step })
      assert.is_truthy(report.message:find("init.lua:1: " .. case[2], 1, true), report.message)
      goes_on()
    end)
  end

  for what, case in pairs(STARTED) do
    it_runs(("that %s in start is refused"):format(what), function()
      start()
      local report = reload(nil, case[1])
      assert.same({ false, "swap" }, { report.ok, report.step })
      assert.matches(case[2], report.message)
      goes_on()
    end)
  end

  it_runs("that empties dev on probation, and fails, is undone", function()
    start()
    local undone
    dev.live.on_report = function(report) undone = report end
    assert.is_true(reload(nil, "require('luio').spawn(function() require('luio').sleep(0.001) for k in pairs(dev) do dev[k] = nil end error 'mine' end)").ok)
    wait.till(5, "undone", function() return undone end)
    assert.matches("init%.lua:4: mine", undone.message)
    goes_on()
  end)

  it_runs("that yields by hand in migrate is refused at once", function()
    start()
    files.save(path, (text():gsub("return d", "function d.migrate() coroutine.yield() end return d")))
    local report = dev.live:reload()
    assert.equal("migrate", report.step)
    assert.matches("init%.lua:8: coroutine%.yield: there is nobody to go on with it in migrate", report.message)
    goes_on()
  end)

  it_runs("that is taken keeps what it has changed to itself, too", function()
    start()
    local report = reload("table.insert, string.format, pairs = nil, nil, 5", nil, "return type(table.insert), type(pairs), type(ipairs)")
    assert.is_true(report.ok, report.message)
    assert.same({ "nil", "number", "function" }, { dev.driver.f(dev) })
    assert.equal("function", type(table.insert))
    assert.is_true(reload().ok)
    assert.equal("xx 1", dev.driver.f(dev))
  end)
end)

describe("a first version", function()
  it("that closes the device in start has not started", function()
    path = files.write("init.lua", text(nil, "dev:close()"))
    local started, message, code = luio.start(path, "sim:edu")
    assert.same({ nil, "driver edu did not start on sim:edu: start has closed the device", "EINVAL" }, { started, message, code })
  end)

  for where, run in pairs { ["outside of a task"] = function(fn) return fn() end, ["in a task"] = luio.run } do
    it("that yields by hand in start is an error with its line, " .. where, function()
      path = files.write("init.lua", text(nil, "coroutine.yield()"))
      local started, message
      run(function() started, message = luio.start(path, "sim:edu") end)
      assert.is_nil(started)
      assert.matches("^driver edu threw in start: .*init%.lua:4: coroutine%.yield: there is nobody to go on with it in start$", message)
    end)
  end
end)

describe("a driver", function()
  it_runs("has coroutines of its own, modules, metatables, and what it loads from text", function()
    start([[package.path = package.path .. ";%s/elsewhere/?.lua" package.preload.given = function(name) return name .. "!" end]],
      nil, [[
        local co = coroutine.wrap(function() coroutine.yield(1) end)
        local mine = setmetatable({}, { __index = { n = 2 } })
        getmetatable(mine).__index.n = 3
        x = 4
        return co(), mine.n, loadstring("return x")(), getfenv(1) == _G, require "given", package.loaded.given, require "table" == table,
          getmetatable("").__index == string]])
    assert.same({ 1, 3, 4, true, "given!", "given!", true, true }, { dev.driver.f(dev) })
    assert.is_nil(rawget(_G, "x"))
    assert.is_nil(package.preload.given)
  end)

  it_runs("requires libraries by a path of its own", function()
    path, dir = files.write("init.lua", "")
    files.put(dir .. "/elsewhere/far_library.lua", "return { from = ... }")
    files.save(path, text(("package.path = package.path .. ';%s/elsewhere/?.lua'"):format(dir), nil, "return require('far_library').from"))
    dev = assert(luio.start(path, "sim:edu"))
    local before = package.path
    assert.equal("far_library", dev.driver.f(dev))
    assert.equal(before, package.path)
    package.loaded.far_library = nil
  end)
end)
