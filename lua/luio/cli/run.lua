--- `luio run`: a driver at work until it is told to stop. Saving one of its files, or SIGHUP, exchanges
--- its code while it works (luio.live).
---
--- This is the worker; the program has started a guardian before (runtime/guardian.c), which hears
--- the signals and passes SIGTERM and SIGHUP on. Without one (--no-guardian) they come here.
---
--- A service manager that wants to know is told when the driver has started; or, where the wait for its
--- device has no end, when that begins: a boot is not to hang on a device that may never come.

local arrival = require "luio.arrival"
local binding = require "luio.binding"
local common = require "luio.cli.common"
local device = require "luio.device"
local guard = require "luio.guard"
local live = require "luio.live"
local luio = require "luio"
local notify = require "luio.notify"
local numbers = require "luio.cli.numbers"
local output = require "luio.output"
local task = require "luio.task"
local saved = require "luio.saved"
local uv = require "luv"

-- What became of a reload, for people or for machines.
local function tell(args, report)
  if args.json then
    io.write(output.line(report), "\n")
  else
    print(live.line(report))
  end
  io.flush()
end

local STOP = 5 -- seconds for the driver's stop and closing; closing alone may wait 3 for a thread
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
  local fd = guard.fd()
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
  local died = guarded and guard.status.died
  local what = ("driver %s runs %son %s"):format(dev.driver.name, died and "again " or "", tostring(dev))
  notify.send("READY=1\nSTATUS=" .. what)
  if args.json then return end
  if died then
    print(("%s, %.0f ms after the worker before it died"):format(what, (luio.now() - died) * 1000))
  else
    print(what .. "; Ctrl-C stops it")
  end
  io.stdout:flush()
end

-- ---- Its device ----------------------------------------------------------------------------------

-- Until it is there. Being told to stop meanwhile is no failure.
local function await(args, driver, ending)
  return arrival.open(driver, args.device, {
    seconds = args.wait ~= "" and tonumber(args.wait) or nil, bind = args.bind,
    stopped = function() return ending.status ~= nil end,
    arm = function(wake)
      ending.wake = wake
      return function() ending.wake = nil end
    end,
    tell = function(text)
      notify.send((args.wait == "" and "READY=1\n" or "") .. "STATUS=" .. text)
      if args.json then return end
      print(text .. "; Ctrl-C ends this")
      io.stdout:flush()
    end,
  })
end

-- The device, with the driver started on it.
local function start(args, driver, ending)
  if args.wait and arrival.can_wait(args.device) then
    local dev, message, code = await(args, driver, ending)
    if not dev then return nil, message, code end
    return require("luio.driver").start(driver, dev)
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

-- Waits until stop is called.
local function serve(dev, ending, follower)
  local said
  while not ending.status do
    task.await(dev.driver.durable and CHECKPOINT or 1, function(wake)
      ending.wake = wake
      return function() ending.wake = nil end
    end)
    if dev.over then -- for good: another worker would find the same
      guard.policy(0, 0, STOP)
      ending.status, ending.why = 1, ("%s was stopped: %s"):format(dev.address, dev.gone_why)
    elseif not dev.closed then
      said = checkpoint(dev, said)
      follower:look()
    end
  end
end

local function run(args)
  local restarts, backoff = tonumber(args.restart), tonumber(args.backoff)
  if not restarts or restarts % 1 ~= 0 or restarts < 0 or restarts > 2 ^ 31 then
    return nil, ("--restart %s: a whole number, 0 for never"):format(args.restart), "USAGE"
  elseif not backoff or not (backoff >= 0 and backoff <= 3600) then
    return nil, ("--backoff %s: seconds, 0 to 3600"):format(args.backoff), "USAGE"
  elseif args.bind and not (args.device or ""):match ":%x+%.%x$" then
    return nil, "--bind: wants the PCI device named that it is to take", "USAGE"
  end
  args.wait = args.wait and args.wait[1] -- what may be left out argparse gives as a list
  local guarded, message, code = guard.attach()
  if guarded == nil then return nil, message, code end
  local ok
  ok, message, code = guard.policy(restarts, backoff, STOP)
  if not ok then return nil, message, code end

  local ending = {}
  listen(guarded, function(status, why)
    ending.status, ending.why = ending.status or status, ending.why or why
    if ending.wake then ending.wake() end
  end)
  -- Root must not run what a process without privileges may have written.
  local driver, kept
  if args.user then driver, message, code = luio.load(args.driver)
  else driver, message, code, kept = saved.load(args.driver) end
  if not driver then return nil, message, code end
  device.driver_user = args.user
  local dev
  dev, message, code = start(args, driver, ending)
  if not dev and code == "ECANCELED" and ending.status then return ending.status end
  if not dev and code == "ESTALE" then guard.policy(0, 0, STOP) end -- nor would another worker
  if not dev then return nil, message, code end
  if args.user then
    ok, message, code = guard.drop_privileges(dev, args.user)
    if not ok then return nil, message, code end
  end
  local follower = saved.follow(dev, {
    keep = guarded and not args.user, watch = not args.no_watch, tell = function(report) tell(args, report) end,
  }, kept)
  ok, message, code = guard.ready()
  if not ok then return nil, message, code end
  announce(args, dev, guarded)
  follower:begin()
  luio.run(function() serve(dev, ending, follower) end)
  follower:close()
  ok, message, code = dev:close()
  if not ok then return nil, message, code end
  if ending.why then return nil, ending.why end
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
      p:argument("device", "Its device; else the first one that it matches."):convert(common.address):args "?"
      p:option("--wait", "Wait for the device, until it is there and a UIO driver has it: so many seconds, or until Ctrl-C.")
        :argname("=SECONDS"):args "?":convert(seconds)
      p:flag("--bind", "Give the device to uio_pci_generic first, as luio bind does.")
      p:flag("--no-watch", "Reload on SIGHUP only, not when a file is saved.")
      p:flag("--json", "Say what becomes of reloads as JSON, an object a line.")
      p:option("--restart", "Start the driver again when its process dies, so many times in a row; 0: never."):argname "N":default "5"
      p:option("--backoff", "The longest pause before that; the first is 0.01, each is twice the one before.")
        :argname "SECONDS":default "2"
      p:option("--user", "Give up root for this user once the driver has started."):argname "NAME"
      p:flag("--no-guardian", "One process: nobody stops the device if that is killed.")
      p:epilog "Example: luio run drivers/edu sim:edu"
    end,
    run = run,
  },
}
