--- Processes that did not run for a while: stopped by a signal here; a virtual machine that was paused and whose clock has gone on
--- looks the same to them. Deadlines have passed meanwhile, and the awaited events have come: the events count first.

local files = require "spec.support.files"
local luio = require "luio"
local program = require "spec.support.program"
local uv = require "luv"

-- Waits at a pipe, twice: for `ms`, in a task or outside of one; prints how that ended.
local WAITER = [[
local fd_watch = require "luio.loop.fd_watch"
local luio = require "luio"
local uv = require "luv"
local watch = assert(fd_watch.watch(assert(uv.fs_open(arg[1], "r+", 0))))
local function wait()
  print "waiting"
  io.stdout:flush()
  local ok, message = watch:readable(1)
  print(ok and "[it came]" or ("[%s]"):format(message))
  io.stdout:flush()
end
if arg[2] == "task" then luio.run(wait) else wait() end
]]

describe("a process that was stopped", function()
  local p
  after_each(function()
    if p then p:close() end
    p = nil
  end)
  teardown(files.clean)

  for _, case in ipairs { { "in a task", "task" }, { "outside of one", "none" } } do
    it("takes what came meanwhile, though the wait's deadline has passed: " .. case[1], function()
      local script, folder = files.write("waiter.lua", WAITER)
      assert.equal(0, os.execute(("mkfifo %s/pipe"):format(folder)))
      local taken, tried = 0, 0
      local pipe = assert(uv.fs_open(folder .. "/pipe", "r+", 0))
      finally(function() uv.fs_close(pipe) end)
      while taken < 2 do
        tried = tried + 1
        p = program.start { script, folder .. "/pipe", case[2] }
        p:wait "waiting"
        luio.sleep(0.1) -- asleep in its loop, or about to be
        uv.kill(p.pid, "sigstop")
        local late = p:text():find "%b[]" -- this machine is slow
        assert(not late or tried < 10, "the process was never stopped within its wait")
        assert(uv.fs_write(pipe, "x", -1))
        luio.sleep(1.1)
        uv.kill(p.pid, "sigcont")
        if not late then
          assert.equal("[it came]", (p:wait "%b[]"))
          taken = taken + 1
        end
        p:close()
        assert.equal("x", uv.fs_read(pipe, 1, -1))
      end
    end)
  end

  it("is not counted as one that does not stop: the guardian was stopped, too", function()
    local folder = files.driver [[
      local luio = require "luio"
      return { name = "slow", start = function() return true end, stop = function()
        print "stopping"
        io.stdout:flush()
        luio.sleep(3)
        print "stopped in order"
      end }
    ]]
    p = program.start { "run", folder, "sim:edu" }
    p:wait "runs on"
    p:kill "sigterm"
    p:wait "stopping"
    local worker = p:children()[1]
    for _, pid in ipairs { p.pid, worker } do uv.kill(pid, "sigstop") end
    luio.sleep(5.2) -- the driver has 5 s
    for _, pid in ipairs { p.pid, worker } do uv.kill(pid, "sigcont") end
    assert.equal(0, p:status())
    assert.matches("stopped in order", p:text())
  end)
end)
