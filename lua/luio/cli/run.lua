--- `luio run`: a driver at work until it is told to stop. Saving one of its files, or SIGHUP, exchanges
--- its code while it works (luio.live).
---
--- This is the worker; the program has started a guardian before (runtime/guardian.c), which hears
--- the signals and passes SIGTERM and SIGHUP on. Without one (--no-guardian) they come here.
---
--- After a crash the worker goes on with the code that worked, which the guardian has, not with what
--- the files hold: that may be a save that was refused, or the one that crashed it. It is tried, as a
--- reload, if it never was. Not with --user: root must not run what one without privileges wrote.

local common = require "luio.cli.common"
local guard = require "luio.guard"
local live = require "luio.live"
local luio = require "luio"
local output = require "luio.output"
local task = require "luio.task"
local uv = require "luv"
local watcher = require "luio.watcher"

-- What became of a reload, for people or for machines.
local function tell(args, report)
  if args.json then
    io.write(output.line(report), "\n")
  else
    print(live.line(report))
  end
  io.flush()
end

local PATIENCE = 0.25 -- seconds until a reload is tried again that came at a bad time

-- Has the guardian keep the version that works, and what was tried after it.
local function keep(dev, args, version, tried)
  if args.user then return end
  local ok, message = guard.keep_code { path = version.path, files = version.files, tried = tried }
  if not ok then dev:warn(("after a crash the driver starts from its files: %s"):format(message)) end
end

-- kept: the code that a worker before had, when that is what runs.
local function start_watching(dev, args, kept)
  local self = {}
  local seen = kept and kept.tried -- what the files held when they were last tried: a refused save is not tried again
  local good = dev.live.version
  keep(dev, args, good, seen)
  function dev.live.on_accept(version)
    good = version
    keep(dev, args, good, seen)
  end
  local function reload()
    local version = dev.live.version
    seen = version:texts()
    keep(dev, args, good, seen)
    local report = dev.live:reload()
    tell(args, report)
    -- Also after a failure: what the new files require is not known, but the old ones' folders are.
    if dev.live.version ~= version and self.files then self.files:set(dev.live.version.files) end
    return report.code
  end
  -- A device that is gone, or a version that is just starting, is no reason to forget what was saved.
  local function saved()
    while not dev.closing and seen ~= dev.live.version:texts() and dev.live.version:changed() do
      local code = reload()
      if code ~= "EBUSY" and code ~= "ENODEV" then return end
      repeat task.sleep(PATIENCE) until dev.closing or not dev.gone
      seen = nil
    end
  end
  dev.live.on_report = function(report) tell(args, report) end
  if not args.no_watch then
    local message
    self.files, message = watcher.new(dev.live.version.files, saved)
    if message then io.stderr:write("luio: ", message, "; SIGHUP reloads\n") end
  end
  if kept and good:changed() then
    if seen == good:texts() then
      dev:warn(("driver %s: its files hold a version that did not last; the one before goes on, and the next save is tried"):format(
        dev.driver.name))
    elseif not args.no_watch then
      task.spawn(saved)
    end
  end
  local signal = assert(uv.new_signal())
  signal:start("sighup", function() task.spawn(reload) end)
  signal:unref()
  function self.close()
    if self.files then self.files:close() end
    signal:stop()
    task.dispose(signal)
  end
  return self
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

local function announce(dev, guarded)
  local died = guarded and guard.status.died
  local what = ("driver %s runs %son %s"):format(dev.driver.name, died and "again " or "", tostring(dev))
  if died then
    print(("%s, %.0f ms after the worker before it died"):format(what, (luio.now() - died) * 1000))
  else
    print(what .. "; Ctrl-C stops it")
  end
  io.stdout:flush()
end

local function checkpoint(dev, said)
  local ok, message = dev:checkpoint()
  if not ok and message ~= said then dev:warn(message) end
  return message
end

-- Waits until stop is called.
local function serve(dev, ending)
  local said
  while not ending.status do
    task.await(dev.driver.durable and CHECKPOINT or 1, function(wake)
      ending.wake = wake
      return function() ending.wake = nil end
    end)
    if not dev.closed then said = checkpoint(dev, said) end
  end
end

-- The driver to start, and the kept code that it was loaded from.
local function load(args)
  local kept, message
  if not args.user then kept, message = guard.kept_code() end
  if kept then
    local driver
    driver, message = luio.load(kept.path, kept.files)
    if driver then return driver, kept end
  end
  if message then io.stderr:write("luio: ", message, "; starting from the files\n") end
  return args.driver
end

local function run(args)
  local restarts, backoff = tonumber(args.restart), tonumber(args.backoff)
  if not restarts or restarts % 1 ~= 0 or restarts < 0 or restarts > 2 ^ 31 then
    return nil, ("--restart %s: a whole number, 0 for never"):format(args.restart), "USAGE"
  elseif not backoff or not (backoff >= 0 and backoff <= 3600) then
    return nil, ("--backoff %s: seconds, 0 to 3600"):format(args.backoff), "USAGE"
  end
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
  local dev
  local driver, kept = load(args)
  dev, message, code = luio.start(driver, args.device)
  if not dev then return nil, message, code end
  if args.user then
    ok, message, code = guard.drop_privileges(dev, args.user)
    if not ok then return nil, message, code end
  end
  ok, message, code = guard.ready()
  if not ok then return nil, message, code end
  if not args.json then announce(dev, guarded) end
  local watching = start_watching(dev, args, kept)
  luio.run(function() serve(dev, ending) end)
  watching.close()
  ok, message, code = dev:close()
  if not ok then return nil, message, code end
  if ending.why then return nil, ending.why end
  return ending.status
end

return {
  run = {
    options = function(p)
      p:argument("driver", "A driver's folder, file or name.")
      p:argument("device", "Its device; else the first one that it matches."):convert(common.address):args "?"
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
