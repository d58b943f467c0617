--- `luio run`: a driver at work until a signal stops it. Saving one of its files, or SIGHUP, exchanges
--- its code while it works (luio.reload.live).
---
--- This is the worker; the program has started a guardian before (runtime/guardian.c), which hears
--- the signals and passes SIGTERM and SIGHUP on. Without one (--no-guardian) they come here.
---
--- A service manager gets a message when the driver has started; or, where the wait for its device has
--- no end, when that begins: a boot is not to hang on a device that may never come.

local wait_device = require "luio.hotplug.wait_device"
local addresses = require "luio.host.address"
local binding = require "luio.host.binding"
local common = require "luio.tool.cli.common"
local device = require "luio.device"
local errors = require "luio.errors"
local guardian = require "luio.reload.guardian"
local exit = require "luio.reload.exit"
local luio = require "luio"
local luio_driver = require "luio.driver"
local notify = require "luio.tool.notify"
local numbers = require "luio.tool.cli.numbers"
local output = require "luio.tool.output"
local reload_report = require "luio.reload.report"
local wait_slot = require "luio.loop.wait_slot"
local term = require "luio.text.term"
local follow = require "luio.reload.follow"
local uv = require "luv"
local watchdog = require "luio.loop.watchdog"

local lost -- a line could not be printed

-- Prints a line. A full disk does not stop a driver; it is reported once, on standard error. Not by print: the C library
-- forgets a failure that a line's end meets.
local function say(line)
  io.stdout:flush()
  line = term.message(line) .. "\n" -- it may have a traceback in it
  local n, message = uv.fs_write(1, line)
  if n == #line or lost then return end
  lost = true
  term.tell(("luio: standard output: %s; the driver goes on, and its output is lost"):format(
    message or "the file system is full"))
end

-- The result of a reload, for people or for machines.
local function tell(args, report)
  say(args.json and output.line(report) or reload_report.line(report))
end

local STOP = 5 -- seconds for the driver's stop and closing; closing alone may wait 3 for a thread
local SILENCE = 10 -- seconds of a driver that lets nothing else run, until that is said
local CHECKPOINT = 0.1 -- seconds between looks at whether durable state has changed

-- Calls wake when the process is to end, with the status and why.
local function listen(guarded, stop)
  local signals = {}
  for _, name in ipairs(guarded and { "sigterm" } or { "sigint", "sigterm" }) do
    local signal = assert(uv.new_signal())
    signals[#signals + 1] = signal
    signal:start(name, function()
      -- A second one ends it at once; of a worker the guardian decides that, and SIGTERM to the whole group (systemd's
      -- way) comes twice.
      for _, one in ipairs(guarded and {} or signals) do one:stop() end
      stop(0)
    end)
    signal:unref() -- a wait of the driver's start, which turns the loop itself, is for its timer alone
  end
  local fd = guardian.fd()
  if fd then
    local poll = assert(uv.new_poll(fd))
    poll:start("r", function()
      poll:stop()
      stop(1, "the guardian died; the device is stopped")
    end)
    poll:unref()
  end
end

local function announce(args, dev, guarded)
  local died = guarded and guardian.status.died
  local what = ("driver %s runs %son %s"):format(dev.driver.name, died and "again " or "", tostring(dev))
  notify.send("READY=1", what)
  if args.json then return end
  if died then
    say(("%s, %.0f ms after the worker before it died"):format(what, (luio.now() - died) * 1000))
  else
    say(what .. "; Ctrl-C stops it")
  end
end

-- ---- Its device ----------------------------------------------------------------------------------

-- Until it is there. Being told to stop meanwhile is no failure.
local function await(args, driver, ending)
  return wait_device.open(driver, args.device, {
    seconds = tonumber(args.wait or ""), bind = args.bind, bare = not args.wait, -- the one before had it without a UIO driver
    stopped = function() return ending.status ~= nil end,
    arm = function(wake)
      ending.wake = wake
      return function() ending.wake = nil end
    end,
    tell = function(text)
      notify.send(args.wait == "" and "READY=1" or nil, text)
      if args.json then return end
      say(text .. "; Ctrl-C ends this")
    end,
  })
end

-- The device, with the driver started on it. After a crash it is waited for: it may have been pulled out meanwhile. Had the worker
-- lived, it would have waited.
local function start(args, driver, ending)
  if (args.wait or guardian.reason() == "crash") and wait_device.can_wait(args.device) then
    local dev, message, code = await(args, driver, ending)
    if not dev then return nil, message, code end
    return luio_driver.start(driver, dev)
  end
  if args.bind then
    local bound, message, code = binding.bind(args.device)
    if not bound then return nil, message, code end
  end
  return luio.start(driver, args.device)
end

local function checkpoint(dev, said)
  local ok, message = dev:checkpoint()
  if not ok and message ~= said then dev:warn(message) end
  return message
end

-- A device that went away may be root's when it is back, or its registers may have been given to others, and this process is
-- another user's. A new one, which begins as root, takes it. Why, if so.
local function needs_root(args, dev)
  if not args.user then return nil end
  if dev.needs_root then
    return ("the registers of %s were given to others, and %s may not take them back"):format(dev.address, args.user)
  end
  local refused = dev.gone and (dev.return_code == "EACCES" or dev.return_code == "EPERM")
  return refused and ("%s is there again, and %s may not take it"):format(dev.address, args.user)
end

-- Waits until stop is called.
local function serve(args, dev, ending, follower)
  local said
  watchdog.expect(("driver %s, and with it the loop that hears signals and saved files,"):format(dev.driver.name), SILENCE)
  while not ending.status do
    watchdog.alive()
    local why = needs_root(args, dev)
    if why then
      ending.status, ending.why = 1, why .. ": a new worker does, as root"
      break
    end
    wait_slot.await(dev.driver.durable and CHECKPOINT or 1, function(wake)
      ending.wake = wake
      return function() ending.wake = nil end
    end)
    if dev.over then -- for good: another worker would find the same
      guardian.policy(0, 0, STOP)
      ending.status, ending.why = 1, ("%s was stopped: %s"):format(dev.address, dev.gone_why)
    elseif not dev.closed then
      said = checkpoint(dev, said)
      follower:check_files()
    end
  end
  watchdog.expect(nil)
end

local function run(args)
  local restarts, backoff = tonumber(args.restart), tonumber(args.backoff)
  if not restarts or restarts % 1 ~= 0 or restarts < 0 or restarts > 2 ^ 31 then
    return nil, ("--restart %s: a whole number, 0 for never"):format(args.restart), "USAGE"
  elseif not backoff or not (backoff >= 0 and backoff <= 3600) then
    return nil, ("--backoff %s: seconds, 0 to 3600"):format(args.backoff), "USAGE"
  elseif args.bind and args.device and addresses.made(args.device) then
    return nil, ("--bind: %s has no kernel driver, and needs none"):format(args.device), "USAGE"
  elseif args.bind and not (args.device or ""):match ":%x+%.%x$" then
    return nil, "--bind: wants the PCI device named that it is to take", "USAGE"
  end
  if args.user and (args.device or ""):match "^qemu:" then
    local why = "--user %s: a qemu: device needs no root, and its QEMU would stay root's: run luio as that user"
    return nil, why:format(args.user), "USAGE"
  end
  args.wait = args.wait and args.wait[1] -- what may be left out argparse gives as a list
  local guarded, message, code = guardian.attach()
  if guarded == nil then return nil, message, code end
  local ok
  ok, message, code = guardian.policy(restarts, backoff, STOP)
  if not ok then return nil, message, code end

  function exit.on_exit(version, what)
    term.tell(("luio: driver %s ends this process: %s"):format(errors.text(version.driver.name), what))
  end
  local ending = {}
  listen(guarded, function(status, why)
    ending.status, ending.why = ending.status or status, ending.why or why
    if ending.wake then ending.wake() end
  end)
  local hearing = follow.catch_hangup()
  -- Root must not run what a process without privileges may have written.
  local driver, kept
  if args.user then driver, message, code = luio_driver.load(args.driver)
  else driver, message, code, kept = follow.load(args.driver) end
  if not driver then return nil, message, code end
  device.settings.driver_user = args.user
  local dev
  dev, message, code = start(args, driver, ending)
  if not dev and code == "ECANCELED" and ending.status then
    guardian.leave()
    return ending.status
  end
  if not dev and code == "ESTALE" then guardian.policy(0, 0, STOP) end -- nor would another worker
  if not dev then return nil, message, code end
  if args.user then
    ok, message, code = guardian.drop_privileges(dev, args.user)
    if not ok then return nil, message, code end
  end
  local follower = follow.follow(dev, {
    keep = guarded and not args.user, watch = not args.no_watch, tell = function(report) tell(args, report) end,
  }, kept, hearing)
  ok, message, code = guardian.ready()
  if not ok then return nil, message, code end
  announce(args, dev, guarded)
  follower:begin()
  luio.run(function() serve(args, dev, ending, follower) end)
  follower:close()
  ok, message, code = dev:close()
  if not ok and not dev.closed then return nil, message, code end
  if ending.why then return nil, ending.why end
  guardian.leave() -- without a guardian there is no process to report to
  if not ok then return nil, message, code end -- it is closed, and something that was given to it is lost
  return ending.status
end

local above_0 = numbers.seconds "--wait"

local function seconds(text)
  if text == "" then return "" end -- cli.init: no number
  return above_0(text)
end

return {
  run = {
    optional = { ["--wait"] = true },
    options = function(p)
      p:argument("driver", "A driver's folder, file or name.")
      p:argument("device", "The driver's device. Without it: the first one that matches."):convert(common.address):args "?"
      common.machine(p)
      p:option("--wait", "Wait until the device is there and a UIO driver has it: for this time, or until Ctrl-C.")
        :argname("=SECONDS"):args "?":convert(seconds)
      p:flag("--bind", "Give the device to uio_pci_generic first, as `luio bind` does.")
      p:flag("--no-watch", "Reload on SIGHUP only, not when a file is saved.")
      p:flag("--json", "Print the result of each reload as a JSON object on a line.")
      p:option("--restart", "Restart the driver when its process dies, at most N times in a row. 0: never."):argname "N":default "5"
      p:option("--backoff", "The longest pause before a restart. The first is 0.01, each is twice the one before.")
        :argname "SECONDS":default "2"
      p:option("--user", "Give up root for this user once the driver has started."):argname "NAME"
      p:flag("--no-guardian", "Run one process. Nothing stops the device if that process is killed.")
      p:epilog "Example: luio run drivers/edu sim:edu"
    end,
    run = run,
  },
}
