--- Which code `luio run` goes on with after a crash: a driver whose versions say their names, on a simulated device.

local uv = require "luv"
local files = require "spec.support.files"
local program = require "spec.support.program"

local p

describe("luio run after a crash", function()
  local VERSION = [[
    local luio = require "luio"
    local uv = require "luv"
    local d = { name = "named", durable = { "n" }, state_version = 1 }
    function d.start(dev, reason)
      dev.state.n = (dev.state.n or 0) + 1
      print(("[NAME %s %s pid %d]"):format(reason, tostring(dev.state.n), uv.os_getpid()))
      io.stdout:flush()
      EXTRA
      return true
    end
    return d
  ]]
  -- A version says when it stands: its probation is over, and its state is kept.
  local STANDS = [[luio.spawn(function()
        repeat luio.sleep(0.01) until not (dev.live.reloading or dev.live.probation)
        assert(dev:checkpoint())
        print "[NAME stands]"
        io.stdout:flush()
      end)]]
  local folder

  local function text(name, extra)
    return (VERSION:gsub("EXTRA", extra or ""):gsub("NAME", name))
  end

  -- As editors do: another file in its place.
  local function save(content)
    files.save(folder .. "/init.lua~", content)
    assert(os.rename(folder .. "/init.lua~", folder .. "/init.lua"))
  end

  local function starts(name, reason)
    return tonumber((p:wait(("%%[%s %s %%d+ pid (%%d+)%%]%%s.-%s"):format(name, reason, reason == "reload" and "version %d: " or "runs "))))
  end

  before_each(function()
    folder = files.driver(text("first", STANDS))
    p = program.start { "run", folder, "sim:edu", "--backoff", "0.01", "--restart", "3" }
  end)
  after_each(function() p:close() end)
  teardown(files.clean)

  it("goes on with the version that worked when the last save was refused; the next save is tried", function()
    local pid = starts("first", "fresh")
    save "this is no Lua"
    p:wait "reload refused in stage, version 1 goes on"
    p:kill("sigkill", pid)
    pid = starts("first", "crash")
    p:wait "luio: driver named: its files hold a version that did not last; the one before goes on, and the next save is tried\n"
    assert.equal(1, p:count "refused in stage") -- it is not tried again
    save(text("second", STANDS))
    assert.equal(pid, starts("second", "reload"))
    p:wait "%[second stands%]"
    p:kill("sigkill", pid)
    starts("second", "crash")
    p:kill "sigterm"
    assert.equal(0, p:status())
    assert.equal(1, p:count "its files hold")
  end)

  it("tells of a task that failed on probation with the calls that led there, a line each", function()
    starts("first", "fresh")
    save(text("hasty", "luio.spawn(function() luio.sleep(0.05) error 'too soon' end)"))
    p:wait "reload undone in probation, version 1 goes on: task .-: too soon\n  stack traceback:\n\t.-init%.lua:8: in function"
  end)

  it("goes back to the version before when one on probation takes the process with it", function()
    starts("first", "fresh")
    save(text("deadly", "luio.spawn(function() luio.sleep(0.05) require('ffi').cast('int *', 8)[0] = 1 end)"))
    starts("deadly", "reload")
    local pid = starts("first", "crash")
    p:wait "its files hold a version that did not last"
    assert.equal(1, p:count "%[deadly")
    save(text "third")
    assert.equal(pid, starts("third", "reload"))
  end)

  describe("does so when nothing can interrupt a new version", function()
    -- Those that a hook reaches are refused in place: watchdog_spec.lua.
    local LIMIT = "package.path = './?.lua;' .. package.path require 'spec.support.impatient' "
    local EXIT = "pcall(require('ffi').cdef, 'void _exit(int);') require('ffi').C._exit(0) "
    local CASES = {
      { "computes in C in start", "local _ = (('a'):rep(40)):find(('a-'):rep(30) .. 'b')",
        "luio: start of driver named %(.*init%.lua:4%) has not come back for %d+%.%d s, and can't be interrupted\nluio: worker %d+ left with status 1" },
      { "loops, compiled, in a task", "luio.spawn(function() luio.sleep(0.01) local x = 0 while true do x = x + 1 end end)",
        "luio: a task of version 2 of driver named has not come back for %d+%.%d s, and can't be interrupted "
          .. "%(last seen at task .*init%.lua:8%)\nluio: worker %d+ left with status 1" },
      { "calls C's exit in start", EXIT, "luio: worker %d+ left with status 0, and nobody asked: it counts as a crash; restart 1" },
      { "calls C's exit in a task", "luio.spawn(function() luio.sleep(0.01) " .. EXIT .. " end)", "left with status 0, and nobody asked: it counts as a crash" },
    }
    for _, case in ipairs(CASES) do
      it("but the end of the process: it " .. case[1], function()
        local pid = starts("first", "fresh")
        save(LIMIT .. text("deadly", case[2]))
        local after = starts("first", "crash")
        assert.are_not.equal(pid, after)
        assert.matches(case[3], p:text())
        p:wait "its files hold a version that did not last"
        save(text "third")
        assert.equal(after, starts("third", "reload"))
      end)
    end
  end)

  it("tries what was saved while there was no worker", function()
    p:kill("sigkill", (starts("first", "fresh")))
    save(text "second")
    local pid = starts("first", "crash")
    assert.equal(pid, starts("second", "reload"))
    assert.equal(0, p:count "its files hold")
  end)

  it("goes on even when the driver's files are no longer what they were, a module missing", function()
    starts("first", "fresh")
    files.save(folder .. "/part.lua", "return 'whole'")
    save((text("parts", STANDS):gsub("return d", "d.part = require 'part' return d")))
    local pid = starts("parts", "reload")
    p:wait "%[parts stands%]"
    os.remove(folder .. "/part.lua")
    p:wait "reload refused in stage, version 2 goes on"
    p:kill("sigkill", pid)
    starts("parts", "crash")
  end)

  it("keeps no state of a shape that the version before can't read, while the new one starts", function()
    starts("first", "fresh")
    p:wait "%[first stands%]"
    local slow = text("slow", "dev.state.n = 'other' luio.sleep(0.5) require('ffi').cast('int *', 8)[0] = 1")
    save((slow:gsub("state_version = 1", "state_version = 2"):gsub("dev.state.n or 0%) %+ 1", "dev.state.n or 0) + 0")))
    assert.is_truthy(p:wait "%[first crash 2 pid")
  end)

  it("goes on with what it had loaded though a link leads elsewhere now", function()
    p:close()
    local here = files.driver(text "here")
    folder = files.driver(text "there")
    local link = here .. "-link"
    finally(function() os.remove(link) end)
    assert(uv.fs_symlink(here:match "[^/]+$", link))
    p = program.start { "run", link, "sim:edu", "--backoff", "0.01" }
    local pid = starts("here", "fresh")
    assert(os.remove(link))
    assert(uv.fs_symlink(folder:match "[^/]+$", link))
    p:kill("sigkill", pid)
    starts("here", "crash")
  end)

  it("starts from the files when the code is too large to be kept, and says so", function()
    starts("first", "fresh")
    save(text("large", STANDS) .. "\n--" .. ("x"):rep(5e6))
    local pid = starts("large", "reload")
    p:wait "luio: after a crash the driver starts from its files: state of process: %d+ bytes are too many"
    p:wait "%[large stands%]"
    p:kill("sigkill", pid)
    starts("large", "crash")
    assert.equal(0, p:count "its files hold")
  end)

  it("does not forget a save that came while another version started", function()
    local pid = starts("first", "fresh")
    save(text("slow", "luio.sleep(60)"))
    p:wait "%[slow reload"
    save(text "third")
    p:kill("sigkill", pid)
    pid = starts("first", "crash")
    assert.equal(pid, starts("third", "reload"))
  end)

  it("loads what was saved while the first version started; hears SIGHUP then, too", function()
    p:close()
    save(text("sleepy", "if reason == 'fresh' then luio.sleep(0.5) end"))
    p = program.start { "run", folder, "sim:edu" }
    p:wait "%[sleepy fresh"
    save(text "second")
    assert.equal(p:children()[1], starts("second", "reload"))
    p:close()
    save(text("sleepy", "if reason == 'fresh' then luio.sleep(0.5) end"))
    p = program.start { "run", folder, "sim:edu", "--no-watch" }
    p:wait "%[sleepy fresh"
    save(text "third")
    p:kill "sighup"
    assert.equal(p:children()[1], starts("third", "reload"))
    p:kill "sigterm"
    assert.equal(0, p:status())
  end)

  it("starts a save that is untried when the code that worked can't start after a crash", function()
    save(text("fragile", "if reason == 'crash' then uv.sleep(300) require('ffi').cast('int *', 8)[0] = 1 end"))
    p:close()
    p = program.start { "run", folder, "sim:edu", "--backoff", "0.01", "--restart", "50" }
    p:kill("sigkill", (starts("fragile", "fresh")))
    p:wait "%[fragile crash"
    save(text "mended")
    starts("mended", "crash")
  end)

  it("tries again when a file is mended that only the version which failed requires", function()
    local pid = starts("first", "fresh")
    files.save(folder .. "/part.lua", "require('ffi').cast('int *', 8)[0] = 1")
    save((text("parts"):gsub("return d%s*$", "d.part = require 'part' return d")))
    p:wait "its files hold a version that did not last"
    files.save(folder .. "/part.lua", "error 'still not'")
    p:wait "reload refused in stage, version 1 goes on: .*still not"
    files.save(folder .. "/part.lua", "return 'mended'")
    assert.not_equal(pid, starts("parts", "reload"))
  end)

  it("comes back from a kill at any moment of a save, whatever was saved", function()
    p:close()
    p = program.start { "run", folder, "sim:edu", "--backoff", "0.01", "--restart", "100" }
    local pid = starts("first", "fresh")
    local kinds = {
      function(i) return text("good" .. i) end,
      function() return "return {" end,
      function(i) return (text("good" .. i):gsub("return true", "return nil, 'not this one'")) end,
      function(i) return (text("good" .. i):gsub("return true", "error 'thrown'")) end,
    }
    for i = 1, 24 do
      save(kinds[i % #kinds + 1](i))
      uv.sleep(i * 7 % 40 + 20) -- a save is seen 30 ms after it
      p:kill("sigkill", pid)
      pid = tonumber((p:wait(("died of SIGKILL; restart %d of.*%%[first crash %%d+ pid (%%d+)%%].-runs "):format(i))))
    end
    save(text "last")
    assert.equal(pid, starts("last", "reload"))
    p:kill "sigterm"
    assert.equal(0, p:status())
  end)

  it("changes durable state of another shape by migrate; on probation none is saved", function()
    starts("first", "fresh")
    p:wait "%[first stands%]"
    local migrate = "function d.migrate(s, v) s.n = s.n .. ' from ' .. v return s end return d"
    local wanted = text("second", STANDS):gsub("state_version = 1", "state_version = 2"):gsub("dev.state.n = [^\n]*", "")
    save((wanted:gsub("return d", migrate)))
    local pid = tonumber((p:wait "%[second reload 1 from 1 pid (%d+)%]"))
    p:kill("sigkill", pid)
    assert.is_truthy(p:wait "%[first crash 2 pid")
    save((wanted:gsub("return d", migrate) .. " -- saved once more"))
    pid = tonumber((p:wait "%[second reload 2 from 1 pid (%d+)%]"))
    p:wait "%[second stands%]"
    p:kill("sigkill", pid)
    assert.is_truthy(p:wait "%[second crash 2 from 1 pid")
  end)
end)
