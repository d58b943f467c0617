--- `luio run --wait` for a device that does not come, and its messages to a service manager. Devices that come are in
--- spec/guest/wait_spec.lua.

local uv = require "luv"
local files = require "spec.support.files"
local notified = require "spec.support.notified"
local program = require "spec.support.program"
local wait = require "spec.support.wait"

local NOBODY = "0000:77:1f.7"

local p
local function run(...)
  p = program.start { "run", ... }
  return p
end

after_each(function()
  if p then p:close() end
  p = nil
end)
teardown(files.clean)

describe("luio run --wait", function()
  it("gives up at its deadline, says what did not come, and fails", function()
    local out, status = program.run("run --wait=0.2 drivers/edu " .. NOBODY)
    assert.equal(1, status)
    assert.equal(("waiting for %s: there is no such device; Ctrl-C ends this\n"):format(NOBODY)
      .. ("luio: %s did not come within 0.2 s: there is no such device\n"):format(NOBODY), out)
    out, status = program.run "run drivers/edu uio4711 --wait=0.2"
    assert.equal(1, status)
    assert.matches("luio: uio4711 did not come within 0.2 s", out)
  end)

  it("without a number waits until it is told to stop, and ends at once then", function()
    for _, how in ipairs { { "sigint" }, { "sigterm" }, { "sigint", "--no-guardian" }, { "sigterm", "--no-guardian" } } do
      run(how[2] or "--json", "--wait", "drivers/edu", NOBODY)
      if how[2] then p:wait "waiting for"
      else
        local child = wait.till(5, "a worker", function() return p:children()[1] end)
        -- Its handler is there once it asks for events: before that the signal would just kill it.
        wait.till(5, "the worker listens", function()
          return (files.read(("/proc/%d/net/netlink"):format(child)):match "\n%x+ 15 ") and not p.exit
        end)
      end
      local told = uv.hrtime()
      p:kill(how[1])
      assert.equal(0, p:status())
      assert.is_true(p.ended - told < 4e9) -- the guardian would kill it after 5 s
      assert.is_nil(p:text():match "luio: ")
      p:close()
    end
  end)

  it("takes no other word for its number, and does not wait for a simulated device", function()
    program.refuses("run --wait=soon drivers/edu", 2, "--wait soon: a number of seconds above 0 was expected")
    program.refuses("run --wait=0 drivers/edu", 2, "--wait 0: a number")
    run("--wait", "drivers/edu", "sim:edu")
    p:wait "^driver edu runs on device sim:edu"
  end)

  it("--bind wants a PCI device that is named", function()
    program.refuses("run --bind drivers/edu", 2, "--bind: wants the PCI device named")
    program.refuses("run --bind drivers/edu uio0", 2, "--bind: wants the PCI device named")
  end)
end)

describe("a service manager", function()
  local socket
  after_each(function() socket:close() end)

  local function start(...)
    p = program.start({ "run", ... }, { environment = { "NOTIFY_SOCKET=" .. socket.name } })
  end

  for _, kind in ipairs { "a path", "an abstract name" } do
    it("is told, at " .. kind .. ", when the driver has started, and when it has again", function()
      socket = notified.listen(kind ~= "a path")
      start("drivers/edu", "sim:edu")
      assert.equal("READY=1\nSTATUS=driver edu runs on device sim:edu 1234:11e8", socket:next(10))
      p:kill("sigkill", p:children()[1])
      assert.equal("READY=1\nSTATUS=driver edu runs again on device sim:edu 1234:11e8", socket:next(10))
    end)
  end

  it("is told that it is ready when a wait without an end begins; else what is waited for", function()
    socket = notified.listen()
    start("--wait", "drivers/edu", NOBODY)
    assert.equal(("READY=1\nSTATUS=waiting for %s: there is no such device"):format(NOBODY), socket:next(10))
    p:close()
    start("--wait=30", "drivers/edu", NOBODY)
    assert.equal(("STATUS=waiting for %s: there is no such device"):format(NOBODY), socket:next(10))
  end)

  it("that is not there, or has no such socket, disturbs nobody", function()
    socket = { name = "/nowhere/notify", close = function() end }
    start("drivers/edu", "sim:edu")
    p:wait "driver edu runs on"
  end)
end)
