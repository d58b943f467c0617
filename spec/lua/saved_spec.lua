--- What is saved while a driver runs is loaded when it is whole, however it is saved.

local amount = require "spec.support.amount"
local door = require "luio.ffi"
local ffi = require "ffi"
local files = require "spec.support.files"
local live = require "luio.live"
local luio = require "luio"
local saved = require "luio.saved"
local uv = require "luv"
local version = require "luio.version"
local wait = require "spec.support.wait"

local dev, follower, folder, path, reports, looks
local unsettled = version.unsettled

local function text(answer) -- large enough for several writes
  return ([[
local d = { name = "edu", registers = require "drivers.edu.registers" }
%s
local part = require "part"
function d.answer() return %s, part end
return d
]]):format(("-- a comment\n"):rep(1000), answer)
end

local function follow()
  path, folder = files.write("init.lua", text(1))
  files.save(folder .. "/part.lua", "return 'first'")
  dev = assert(luio.start(path, "sim:edu"))
  dev.warnings = {}
  reports = {}
  follower = saved.follow(dev, { watch = true, tell = function(report) table.insert(reports, report) end })
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
  function version.unsettled(...) -- luacheck: ignore 122
    looks = looks + 1
    return unsettled(...)
  end
end)
after_each(function()
  version.unsettled = unsettled -- luacheck: ignore 122
  live.WRITING, live.MISSING, live.PROBATION = 5, 0.3, 1
  if follower then follower:close() end
  if dev then assert(dev:close()) end
  follower, dev = nil, nil
  luio.on_warning(nil)
end)
teardown(files.clean)

describe("a save", function()
  it_runs("in place is loaded when the writer has closed the file, once, and not before", function()
    follow()
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
    follow()
    local f = assert(io.open(path, "w"))
    looked(5)
    f:write(text(1))
    f:close()
    files.save(folder .. "/part.lua", "return 'second'")
    reloaded(1)
    assert.same({ 2, 1, 1, "second" }, { reports[1].version, #reports, dev.driver.answer() })
  end)

  it_runs("by another file in its place is loaded, also when the old one is taken away before", function()
    follow()
    files.save(path .. "~", text(2))
    assert(os.rename(path, folder .. "/backup"))
    looked(5)
    assert.same({}, reports)
    assert(os.rename(path .. "~", path))
    reloaded(1)
    assert.same({ 2, "first" }, { dev.driver.answer() })
  end)

  it_runs("of several files, one of which is still being written, is loaded when all are whole", function()
    follow()
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
    follow()
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
    follow()
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
      follow()
      -- Read, the second would take all memory.
      assert(os.execute(("cd '%s' && mkfifo a.lua && truncate -s 100G b.lua && chown 65534 a.lua b.lua && chmod 1777 ."):format(folder)) == 0)
      files.save(path, text(2))
      reloaded(1)
      for name in pairs(follower.tried.files) do assert.is_nil(name:match "/[ab]%.lua$") end
    end)
  end

  it_runs("is heard in a folder where something is written all the time", function()
    follow()
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
      local n = tonumber(door.C.luio_read_settled(path, bytes, 65536, leased, door.err))
      if n >= 0 then
        read = read + 1
        assert.same({ #text(1), 1 }, { n, leased[0] })
      else
        refused = refused + 1
        assert.equal("EAGAIN", select(3, door.failure()))
      end
    until uv.fs_access(path .. ".done", "R")
    writers:close()
    assert.is_true(read > 0 and refused > 0)
  end)
end)
