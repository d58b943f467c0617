--- luio.compiler: code that LuaJIT builds compile wrongly runs right with it, and all other code stays unchanged.
---
--- Each program runs in a process of its own, with the watch and without: without it most must be wrong on the build that they were
--- found on, or they show nothing.

local amount = require "spec.support.amount"
local files = require "spec.support.files"
local program = require "spec.support.program"
local compiler = require "luio.compiler"
local cases = require "spec.support.compiler.cases"

local PATH = "LUA_PATH='./?.lua;./lua/?.lua;./lua/?/init.lua;;'"
local WITH, WITHOUT = PATH .. [[ LUA_INIT="require 'luio.compiler'"]], PATH .. " LUA_INIT="

-- LuaJIT's own settings, and two with which it compiles almost everything.
local SETTINGS = { "", "-Ohotloop=5", "-Ohotloop=2 -Ohotexit=1" }

-- Debian 12's; that it is this one is told by a fault that was mended two months later.
local faulty = jit.version == "LuaJIT 2.1.0-beta3"

local function names(faults)
  local list = {}
  for i, fault in ipairs(faults) do list[i] = fault.name end
  return table.concat(list, " ")
end

describe("luio.compiler #jit", function()
  it("knows the faults of a build by its version", function()
    local all = compiler.faults("LuaJIT 2.1.0-beta3", "x64")
    local here = 0
    for _, fault in ipairs(require "luio.compiler.faults") do here = here + (fault.arch == "arm64" and 0 or 1) end
    assert.equal(here, #all)
    assert.equal("variadic bounds product sign", names(compiler.faults("LuaJIT 2.1.1703358377", "x64")))
    assert.equal("sign", names(compiler.faults("LuaJIT 2.1.1753364495", "arm64")))
    assert.equal("", names(compiler.faults("LuaJIT 2.1.1785005726", "x64")))
    assert.is_nil(names(compiler.faults("LuaJIT 2.1.0-beta3", "arm64")):find "fusion")
    assert.equal(#all, #compiler.faults("LuaJIT 2.1.ROLLING", "x64")) -- does not say
  end)

  it("knows the numbers of Debian 12's LuaJIT where that does not say them", function()
    if not faulty then return end
    local numbers = require "luio.compiler.numbers"
    local installed = numbers.of(require "jit.vmdef")
    for kind, known in pairs(numbers.march_2022) do
      if type(known) ~= "table" then assert.equal(installed[kind], known) end
      for name, number in pairs(type(known) == "table" and known or {}) do assert.equal(installed[kind][name], number, name) end
    end
  end)

  for _, case in ipairs(cases) do
    if not case.arch or case.arch == jit.arch then
      it(("has %s right (%s)"):format(case.what, case.fault), function()
        local file = files.write("case.lua", "local wrong = 0\n" .. case.code .. "\nprint(wrong)\n")
        local found = 0
        for _, setting in ipairs(SETTINGS) do
          local luajit = ("luajit %s %s"):format(setting, file)
          assert.same({ "0\n", 0 }, { files.shell(WITH .. " " .. luajit) }, luajit)
          local out, status = files.shell(WITHOUT .. " " .. luajit)
          if out ~= "0\n" or status ~= 0 then found = found + 1 end
        end
        if faulty then assert.is_true(found > 0, "it is right without the watch, too") end
      end)
    end
  end

  it("has random programs right, of which several are wrong without it", function()
    local SEEDS, BATCH = amount(800, 40000), 100
    local wrong = 0
    for first = 1, SEEDS, BATCH do
      local luajit = ("luajit spec/support/compiler/run.lua %d %d"):format(first, first + BATCH - 1)
      local out, status = files.shell(WITH .. " " .. luajit)
      assert.equal("done", out:match "([^\n]*)\n$", ("status %s after %s"):format(status, out:match ".*at (%d+)" or "nothing"))
      assert.is_nil(out:match "%d+: [^\n]*")
      if first < 1000 then
        out, status = files.shell(WITHOUT .. " " .. luajit)
        if status ~= 0 or out:match "%d+: " then wrong = wrong + 1 end
      end
    end
    if faulty then assert.is_true(wrong > 0) end
  end)

  it("leaves stack overflows what they are, while a trace is recorded", function()
    local file = files.write("deep.lua", [[
      local function deep(n, ...) return 1 + deep(n + 1, n, ...) end
      local function wide(t) local a, b, c, d = t, t, t, t return wide_again { t, a, b, c, d } + 1 end
      wide_again = wide
      for _ = 1, 30 do
        for _, fn in ipairs { deep, wide } do
          local ok, message = coroutine.wrap(function() return pcall(fn, 1) end)()
          assert(not ok and message:find "stack overflow", message)
        end
      end
      print "as ever"]])
    for _, setting in ipairs(SETTINGS) do assert.same({ "as ever\n", 0 }, { files.shell(("%s luajit %s %s"):format(WITH, setting, file)) }) end
  end)

  it("goes on compiling after code that must not be", function()
    local file = files.write("after.lua", [[
      local t, n = { a = 1, b = 2 }, 0
      for _ = 1, 2000 do for _, v in pairs(t) do n = n + v end end
      local done = 0
      jit.attach(function(what) if what == "stop" then done = done + 1 end end, "trace")
      for k = 1, 20 do
        local g = loadstring "local n = 0 for i = 1, 300 do n = n + i end return n"
        g()
      end
      print(done)]])
    assert.same({ "20\n", 0 }, { files.shell(WITH .. " luajit " .. file) })
  end)

  it("leaves the user's settings of the compiler and handlers of its events alone", function()
    local file = files.write("settings.lua", [[
      local function options() return table.concat({ select(2, jit.status()) }, " ") end
      local function loops() local state, n = { on = true }, 0 for _ = 1, 300 do state = { on = not state.on } n = n + 1 end return n end
      local all = options()
      loops()
      local function flat() local n = 0 for i = 1, 300 do n = n + i end return n end
      flat()
      assert(options() == all, options()) -- what a trace was compiled without is back
      jit.opt.start "-loop"
      jit.flush()
      loops() flat()
      assert(options() == (all:gsub(" loop", "")), options())
      jit.opt.start(3, "maxrecord=3000")
      assert(options() == all, options())
      assert(select(2, pcall(jit.opt.start, "nonsense")):find "nonsense")
      local seen = 0
      local function on_record() seen = seen + 1 end
      jit.attach(on_record, "record")
      jit.flush()
      flat()
      assert(seen > 0)
      jit.attach(on_record)
      local before = seen
      jit.flush()
      local function other() local n = 0 for i = 1, 300 do n = n + i * 2 end return n end
      other() flat()
      assert(seen == before)
      local state, wrong = { on = true }, 0 -- and ours is still there
      for i = 1, 1000 do
        if state.on ~= (i % 2 == 1) then wrong = wrong + 1 end
        if state.on then state = { on = false } else state = { on = true } end
      end
      assert(wrong == 0)
      print "fine"]])
    assert.same({ "fine\n", 0 }, { files.shell(WITH .. " luajit " .. file) })
    local out = files.shell(WITH .. " luajit -jv " .. file)
    assert.matches("%[TRACE +1 ", out)
    assert.matches("fine\n$", out)
  end)

  it("is there in each thread that luv starts, given a function, bytecode or options", function()
    local file = files.write("threads.lua", [[
      local uv = require "luv"
      local function count(a, b)
        assert(package.loaded["luio.compiler"] and jit.status() and a == 5 and b == "x")
        local state, on = { on = true }, 0
        for _ = 1, 1000 do if state.on then on = on + 1 state = { on = false } else state = { on = true } end end
        assert(on == 500, on)
        io.write "right\n"
      end
      uv.new_thread(count, 5, "x"):join()
      uv.new_thread(string.dump(count), 5, "x"):join()
      uv.new_thread({ stack_size = 1048576 }, count, 5, "x"):join()
      uv.new_work(count, function() io.write "worked\n" end):queue(5, "x")
      uv.run()]])
    local out, status = files.shell(WITH .. " luajit " .. file)
    assert.equal("right\nright\nright\nright\nworked\n", out)
    assert.equal(0, status)
    file = files.write("error.lua", [[require("luv").new_thread(function() error "mine" end):join()]])
    assert.matches("error.lua:1: mine", (files.shell(WITH .. " luajit " .. file)))
  end)

  it("is there in the program, and where `luio env` was heeded", function()
    local file = files.write("where.lua", [[print(package.loaded["luio.compiler"] and (...) or "nowhere", BEFORE)]])
    assert.equal("here\tnil\n", files.shell(("LUA_INIT= %s %s here"):format(program.PATH, file)))
    assert.equal("here\t5\n", files.shell(([[LUA_INIT='BEFORE = 5'; export LUA_INIT; eval "$(%s env)"; eval "$(%s env)"; luajit %s here]])
      :format(program.PATH, program.PATH, file)))
    local before = files.write("before.lua", "BEFORE = 6")
    assert.equal("here\t6\n", files.shell(([[LUA_INIT=@%s; export LUA_INIT; eval "$(%s env)"; luajit %s here]]):format(before, program.PATH, file)))
  end)
end)
