--- A file saved while a driver runs is loaded when it is complete, by any way of saving.

local amount = require "spec.support.amount"
local runtime = require "luio.ffi"
local ffi = require "ffi"
local files = require "spec.support.files"
local live = require "luio.reload.live"
local luio = require "luio"
local follow = require "luio.reload.follow"
local uv = require "luv"
local version = require "luio.reload.version"
local wait = require "spec.support.wait"

local dev, follower, folder, path, reports, looks
local being_saved = version.being_saved

local function text(answer) -- large enough for several writes
  return ([[
local d = { name = "edu", registers = require "drivers.edu.registers" }
%s
local part = require "part"
function d.answer() return %s, part end
return d
]]):format(("-- a comment\n"):rep(1000), answer)
end

local function start_following()
  path, folder = files.write("init.lua", text(1))
  files.save(folder .. "/part.lua", "return 'first'")
  dev = assert(luio.start(path, "sim:edu"))
  dev.warnings = {}
  reports = {}
  follower = follow.follow(dev, { watch = true, tell = function(report) table.insert(reports, report) end })
end

-- Waits until somebody has looked n more times whether a file is being written.
local function looked(n)
  local from = looks
  wait.till(10, "they look whether it is being written", function() return looks >= from + n end)
end

local function reloaded(n)
  wait.till(10, "reloaded", function() return reports[n] end)
  assert.is_true(reports[n].ok, reports[n].message)
end

local function it_runs(name, fn)
  it(name, function() luio.run(fn) end)
end

before_each(function()
  looks = 0
  function version.being_saved(...) -- luacheck: ignore 122
    looks = looks + 1
    return being_saved(...)
  end
end)
after_each(function()
  version.being_saved = being_saved -- luacheck: ignore 122
  live.WRITING, live.MISSING, live.PROBATION = 5, 0.3, 1
  if follower then follower:close() end
  if dev then assert(dev:close()) end
  follower, dev = nil, nil
  luio.on_warning(nil)
end)
teardown(files.clean)

describe("a save", function()
  it_runs("that comes while the one before is compared with its file is tried, too", function()
    start_following()
    files.save(path, text(2))
    reloaded(1)
    local differ, equal = version.differ, 0
    finally(function() version.differ = differ end) -- luacheck: ignore 122
    function version.differ(...) -- luacheck: ignore 122
      local other = differ(...)
      equal = other and equal or equal + 1
      if equal == 2 then -- the first is whether it is new at all
        equal = 3
        files.save(path, text(3))
      end
      return other
    end
    files.save(path, text(2)) -- again: nothing new, so it is compared
    reloaded(2)
    assert.equal(3, (dev.driver.answer()))
  end)

  it_runs("in place is loaded when the writer has closed the file, once, and not before", function()
    start_following()
    local f = assert(io.open(path, "w")) -- empty from now on
    looked(5)
    local whole = text(2)
    f:write(whole:sub(1, #whole / 2))
    f:flush()
    looked(5)
    assert.same({}, reports)
    assert.equal(1, dev.driver.answer())
    f:write(whole:sub(#whole / 2 + 1))
    f:close()
    reloaded(1)
    assert.equal(2, dev.driver.answer())
    assert.equal(1, #reports)
  end)

  it_runs("that changes nothing in the end is none", function()
    start_following()
    local f = assert(io.open(path, "w"))
    looked(5)
    f:write(text(1))
    f:close()
    files.save(folder .. "/part.lua", "return 'second'")
    reloaded(1)
    assert.same({ 2, 1, 1, "second" }, { reports[1].version, #reports, dev.driver.answer() })
  end)

  it_runs("by another file in its place is loaded, also when the old one is taken away before", function()
    start_following()
    files.save(path .. "~", text(2))
    assert(os.rename(path, folder .. "/backup"))
    looked(5)
    assert.same({}, reports)
    assert(os.rename(path .. "~", path))
    reloaded(1)
    assert.same({ 2, "first" }, { dev.driver.answer() })
  end)

  it_runs("of several files, one of which is still being written, is loaded when all are whole", function()
    start_following()
    local f = assert(io.open(folder .. "/part.lua", "w"))
    files.save(path, text(2))
    looked(5)
    assert.same({}, reports)
    f:write "return 'second'"
    f:close()
    reloaded(1)
    assert.same({ 2, "second" }, { dev.driver.answer() })
    assert.equal(1, #reports)
  end)

  it_runs("that never ends is loaded as it is, and said", function()
    live.WRITING = 0.2
    local warnings = {}
    luio.on_warning(function(message) table.insert(warnings, message) end)
    start_following()
    local f = assert(io.open(path, "w"))
    f:write(text(2))
    f:flush()
    reloaded(1)
    assert.equal(2, dev.driver.answer())
    assert.equal(1, #warnings)
    assert.matches("init%.lua has been open for writing for 0%.2 s %(`fuser %-v` says in which process%); it is loaded as it is now$", warnings[1])
    f:close()
  end)

  it_runs("is waited for by dev:reload(), too", function()
    path = files.write("init.lua", text(1):gsub('require "part"', "'first'"))
    dev = assert(luio.start(path, "sim:edu"))
    local f = assert(io.open(path, "w"))
    local report
    luio.spawn(function() report = dev:reload() end)
    looked(5)
    assert.is_nil(report)
    f:write((text(2):gsub('require "part"', "'first'")))
    f:close()
    wait.till(10, "reloaded", function() return report end)
    assert.equal(2, dev.driver.answer())
  end)

  it_runs("by what is no file, or endless, is refused without being opened for long, and the next one loaded", function()
    start_following()
    for i, put in ipairs { "mkfifo", "mkdir", "ln -s /dev/zero", "truncate -s 100G" } do
      os.remove(path)
      assert(os.execute(("%s '%s'"):format(put, path)) == 0)
      wait.till(10, put, function() return reports[2 * i - 1] end)
      assert.is_false(reports[2 * i - 1].ok)
      assert.matches("it is no file$", reports[1].message)
      assert.equal(2 * i - 1, dev.driver.answer())
      assert(os.execute(("rm -r '%s'"):format(path)) == 0)
      files.save(path, text(2 * i + 1))
      reloaded(2 * i)
      assert.equal(2 * i + 1, dev.driver.answer())
    end
  end)

  if uv.getuid() == 0 then
    it_runs("does not look into what somebody else has put beside it", function()
      start_following()
      -- Read, the second would take all memory.
      assert(os.execute(("cd '%s' && mkfifo a.lua && truncate -s 100G b.lua && chown 65534 a.lua b.lua && chmod 1777 ."):format(folder)) == 0)
      files.save(path, text(2))
      reloaded(1)
      for name in pairs(follower.tried.files) do assert.is_nil(name:match "/[ab]%.lua$") end
    end)
  end

  it_runs("is heard in a folder where something is written all the time", function()
    start_following()
    local log = assert(io.open(folder .. "/log", "w"))
    files.save(path, text(2))
    wait.till(10, "reloaded", function()
      log:write "more\n"
      log:flush()
      return reports[1]
    end)
    log:close()
    assert.equal(2, dev.driver.answer())
  end)

  it("is read whole or not at all while others write the file again and again: who opens it waits", function()
    path = files.write("init.lua", text(1))
    files.save(path .. ".new", text(1))
    local writers = io.popen(("for i in $(seq %d); do cat '%s.new' > '%s'; done; : > '%s.done'"):format(amount(100, 2000), path, path, path))
    local read, refused = 0, 0
    local bytes, leased = ffi.new "char[65536]", ffi.new "int[1]"
    repeat
      local n = tonumber(runtime.C.luio_read_leased(path, bytes, 65536, leased, runtime.err))
      if n >= 0 then
        read = read + 1
        assert.same({ #text(1), 1 }, { n, leased[0] })
      else
        refused = refused + 1
        assert.equal("EAGAIN", select(3, runtime.failure()))
      end
    until uv.fs_access(path .. ".done", "R")
    writers:close()
    assert.is_true(read > 0 and refused > 0)
  end)
end)

-- A driver whose version n says so, and does these things when it is loaded, in check, migrate, start, and after that.
local function version_of(n, parts)
  return ([[
local luio = require "luio"
local d = { name = "edu", registers = require "drivers.edu.registers" }
%s
function d.check() %s return true end
function d.migrate(state) %s return state end
function d.start(dev) %s return true end
function d.answer() return %d end
return d
]]):format(parts.load or "", parts.check or "", parts.migrate or "", parts.start or "", n)
end

describe("a save at any moment", function()
  local function begin(source)
    path, folder = files.write("init.lua", source)
    reports = {}
    dev = assert(luio.start(path, "sim:edu"))
    follower = follow.follow(dev, { watch = true, tell = function(report) table.insert(reports, report) end })
    follower:begin()
  end

  -- Waits until the version with this answer runs and no other is being loaded.
  local function ends_with(answer)
    wait.till(20, ("version that answers %d runs"):format(answer), function()
      return dev.driver.answer() == answer and not dev.live.reloading and not follower.working
    end)
  end

  it_runs("of the first start is loaded after it", function()
    local source = version_of(1, { start = "luio.sleep(0.1)" })
    path = files.write("init.lua", source)
    luio.spawn(function()
      luio.sleep(0.02)
      files.save(path, version_of(2, {}))
    end)
    reports = {}
    dev = assert(luio.start(path, "sim:edu"))
    assert.equal(1, dev.driver.answer())
    follower = follow.follow(dev, { watch = true, tell = function(report) table.insert(reports, report) end })
    follower:begin()
    ends_with(2)
  end)

  -- The second version saves the third at this moment of its own life, which then is loaded.
  local SAVE = "local f = io.open(%q, 'w') f:write(%q) f:close() "
  for _, moment in ipairs { "load", "check", "migrate", "start" } do
    for how, after in pairs { ["succeeds"] = "", ["fails"] = "error 'mine'" } do
      for when, pause in pairs { ["at once"] = "", ["after a wait"] = (moment == "start" or moment == "migrate") and "luio.sleep(0.1) " or false } do
        if pause then
          it_runs(("of %s is loaded, when that %s %s"):format(moment, how, when), function()
            live.PROBATION = 0.2
            begin(version_of(1, {}))
            local write = SAVE:format(path, version_of(3, {}))
            files.save(path, version_of(2, { [moment] = write .. pause .. after }))
            ends_with(3)
            assert.equal(after == "", reports[1].ok)
          end)
        end
      end
    end
  end

  it_runs("of probation, whatever comes of that, is loaded", function()
    live.PROBATION = 1 -- a hundred times what the task sleeps
    for _, after in ipairs { "", "error 'mine'" } do
      begin(version_of(1, {}))
      local write = SAVE:format(path, version_of(3, {}))
      files.save(path, version_of(2, { start = ("luio.spawn(function() luio.sleep(0.01) %s %s end)"):format(write, after) }))
      ends_with(3)
      follower:close()
      assert(dev:close())
    end
    follower, dev = nil, nil
  end)

  it_runs("of a report is loaded", function()
    begin(version_of(1, {}))
    follower.options.tell = function(report)
      if report.version == 2 then files.save(path, version_of(3, {})) end
    end
    files.save(path, version_of(2, {}))
    ends_with(3)
  end)

  it_runs("is loaded, one of many that come as fast as they can", function()
    local n = amount(60, 2000)
    begin(version_of(1, {}))
    for i = 2, n do
      files.save(path, i % 3 == 0 and "no Lua" or version_of(i, { start = i % 5 == 0 and "luio.sleep(0.01)" or i % 7 == 0 and "error 'no'" or "" }))
      luio.sleep(i * 13 % 40 / 1000)
    end
    files.save(path, version_of(n + 1, {}))
    ends_with(n + 1)
  end)

  it_runs("while the device is away is loaded when it is back, and that is said once", function()
    begin(version_of(1, {}))
    dev:vanish "it was pulled out"
    files.save(path, version_of(2, {}))
    wait.till(5, "it is said", function() return reports[1] end)
    assert.same({ false, true, "ENODEV" }, { reports[1].ok, reports[1].later, reports[1].code })
    dev.gone = nil -- a simulated one does not come back
    ends_with(2)
    assert.equal(2, #reports)
  end)

  it_runs("is refused once when its start says that it is busy", function()
    begin(version_of(1, {}))
    files.save(path, version_of(2, { start = "do return nil, 'busy', 'EBUSY' end" }))
    wait.till(5, "refused", function() return reports[1] end)
    luio.sleep(0.4) -- in which it would be tried again
    assert.same({ 1, "EBUSY", "swap" }, { #reports, reports[1].code, reports[1].step })
  end)

  it_runs("of what was refused before is tried again, when the running code came between, and that is said", function()
    begin(version_of(1, {}))
    for i = 1, 5, 2 do
      files.save(path, "no Lua")
      wait.till(5, "refused", function() return reports[i] end)
      assert.is_false(reports[i].ok)
      files.save(path, version_of(1, {}))
      wait.till(5, "it is said", function() return reports[i + 1] end)
      assert.same({ ok = true, again = true, version = 1 }, reports[i + 1])
      assert.equal("version 1: its files hold its code again", dev.live.line(reports[i + 1]))
    end
    files.save(path, version_of(1, {}))
    luio.sleep(0.2) -- in which nothing is said
    assert.equal(6, #reports)
  end)

  it_runs("of a module that was missing, in a folder that was not there, is loaded", function()
    path = files.write("drivers/edu/init.lua", version_of(1, {}))
    reports = {}
    dev = assert(luio.start(path, "sim:edu"))
    follower = follow.follow(dev, { watch = true, tell = function(report) table.insert(reports, report) end })
    files.save(path, version_of(2, { load = "d.part = require 'missing.parts.part'" }))
    wait.till(5, "refused", function() return reports[1] end)
    assert.matches("missing%.parts%.part", reports[1].message)
    files.put(path:gsub("drivers/edu/init.lua", "missing/parts/part.lua"), "return 1")
    ends_with(2)
  end)

  it_runs("of another folder in its folder's place is loaded, and the next save, too", function()
    begin(version_of(1, {}))
    files.put(folder .. "-new/init.lua", version_of(2, {}))
    assert(os.rename(folder, folder .. "-old"))
    assert(os.rename(folder .. "-new", folder))
    ends_with(2)
    files.save(path, version_of(3, {}))
    ends_with(3)
  end)
end)
