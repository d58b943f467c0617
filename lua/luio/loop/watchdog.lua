--- Deadlines for a driver's functions that must return: the main chunks of its files, `check`, `migrate`, `quiesce`, `start`.
---
--- They run on the only thread, and the old version can't go on before they return. So each may compute or block for 5 s
--- without a turn of the loop; a wait turns the loop, so it does not count. After that, an error with the function's name
--- and line is raised in it, and raised again at each of its instructions until it has returned, so that a pcall can't
--- catch it for good. The error acts as any other error there: the reload is refused, and the version that worked goes on.
---
--- The error comes from a hook. Compiled code does not check hooks (unless LuaJIT is built with LUAJIT_ENABLE_CHECKHOOK;
--- Debian's is not), so the compiler is off meanwhile. A blocking call into C is interrupted. The hook does not reach code
--- that computes in C, or compiled code (the tasks of a version in its first second). For these the second step of
--- runtime/watchdog.c acts at twice the time: under a guardian the process ends, and the next one goes on with the version
--- that worked; without a guardian only a line is printed.
---
--- luio's own functions are never interrupted, because they do return, and an error in the middle
--- could leave them inconsistent.

local runtime = require "luio.ffi"
local errors = require "luio.errors"
local task = require "luio.loop.task"
local uv = require "luv"
local C, err = runtime.C, runtime.err

jit.off(true, true) -- it is the hook that must be called

local M = {}

--- Seconds in which it runs or blocks: runtime/watchdog.c.
M.LIMIT = 5

local EVERY = 1000 -- instructions between two looks; they cost a tenth of the time
local PLACES = 10 -- looks between two notes of the place

---@class luio.Watch
---@field what string                 "start of driver edu (drivers/edu/init.lua:12)"
---@field task luio.Task|"main"|nil     that runs the function
---@field group luio.TaskGroup?       its tasks are watched, too
---@field compiles boolean?           the compiler stays on
---@field failure string?             the error that was raised

local watches = {} ---@type luio.Watch[]  the newest last
local base ---@type { what: string, seconds: number }?
local turns ---@type userdata?  uv_prepare_t: the loop has turned
local drivers = {} ---@type table<table, true>  that run
local saved ---@type { hook: function?, mask: string?, count: integer?, compiles: boolean }?

-- ---- The hook ------------------------------------------------------------------------------------

-- The watch that is meant by what runs now.
local function meant()
  local running = task.running()
  for i = #watches, 1, -1 do
    local watch = watches[i]
    if watch.task == (running or "main") or running and watch.group and running.group == watch.group then return watch end
  end
end

local looks = 0
local hook

local function check_time()
  local ns = C.luio_watchdog_expired()
  if ns == 0 then
    looks = looks + 1
    if looks % PLACES == 0 then
      local frame = errors.running(3)
      if frame then C.luio_watchdog_place(("%s:%d"):format(frame.short_src, frame.currentline)) end
    end
    return
  end
  local watch = meant()
  if not watch then return end
  debug.sethook(hook, "", 1)
  local frame = errors.running(3)
  if not frame or errors.is_ours(frame.source) then return end
  watch.failure = watch.failure or ("%s:%d: %s has not come back for %.1f s"):format(
    frame.short_src, frame.currentline, errors.name(frame), tonumber(ns) / 1e9)
  error(watch.failure, 0)
end

function hook(...)
  check_time()
  local before = saved and saved.hook
  if before then return before(...) end -- a tail call: it finds what runs where it looks for it
end

-- ---- On and off ----------------------------------------------------------------------------------

local function set_hook(on)
  if on and not saved then
    saved = { compiles = jit.status() }
    saved.hook, saved.mask, saved.count = debug.gethook()
  end
  if on then
    debug.sethook(hook, "", EVERY)
  elseif saved then
    if debug.gethook() == hook then debug.sethook(saved.hook, saved.mask, saved.count) end
    if saved.compiles then jit.on() end
    saved = nil
  end
end

local function beat() C.luio_watchdog_beat() end

-- Compiled code meets no hook that notes its place, but the task that it is in has one.
local function note(one)
  local watch = watches[#watches]
  if watch.compiles and one.group == watch.group then C.luio_watchdog_place("task " .. one.name) end
end

-- The watches now. The process goes on unwatched where no thread can be had.
local function apply()
  local watch = watches[#watches]
  if watch then
    local ns = M.LIMIT * 1e9
    C.luio_watchdog_set(ns, 2 * ns, watch.what, 1, err)
  elseif base then
    C.luio_watchdog_set(0, base.seconds * 1e9, base.what, 0, err)
  else
    -- To end the thread is to wait until it has a processor: not in the middle of a reload.
    if next(drivers) then C.luio_watchdog_set(0, 0, "", 0, err) else C.luio_watchdog_stop() end
  end
  set_hook(watch ~= nil)
  if not saved or not saved.compiles then return end
  local off = false
  for _, one in ipairs(watches) do off = off or not one.compiles end
  if off then jit.off() else jit.on() end
end

--- Begins to watch, until M.done.
---@param watch luio.Watch
---@return luio.Watch
function M.begin(watch)
  table.insert(watches, watch)
  if not watches[2] then
    turns = turns or assert(uv.new_prepare())
    turns:start(beat)
    turns:unref()
    task.observe(note)
  end
  beat()
  apply()
  return watch
end

--- Watches no more. Idempotent.
---@param watch luio.Watch
function M.done(watch)
  for i, one in ipairs(watches) do
    if one == watch then
      table.remove(watches, i)
      if not watches[1] then
        turns:stop()
        task.observe(nil)
      end
      beat()
      return apply()
    end
  end
end

--- Calls a driver's function, as pcall does, and sees to it that it comes back.
---@param what string  for a message, as luio.Watch has it
---@param group luio.TaskGroup?  tasks of it may run meanwhile, and are meant, too
---@param fn function
---@param ... any
---@return boolean ok
---@return any ...  its results, or what it threw
function M.call(what, group, fn, ...)
  local inner = meant()
  if inner and not inner.compiles then return pcall(fn, ...) end -- a driver's function that loads another
  local watch = M.begin { what = what, task = task.running() or "main", group = group }
  local function leave(ok, ...)
    local late = C.luio_watchdog_expired() -- it came back before a hook had its turn
    M.done(watch)
    if late > 0 and not watch.failure then watch.failure = ("%s came back after %.1f s only"):format(what, tonumber(late) / 1e9) end
    if watch.failure then return false, watch.failure end
    return ok, ...
  end
  return leave(pcall(fn, ...))
end

--- A driver runs on a device, and will be watched again when it is exchanged; or no more.
---@param dev luio.Device
---@param runs boolean
function M.runs(dev, runs)
  drivers[dev] = runs or nil
  if not runs then apply() end
end

--- Says on standard error when M.alive is not called for so long. nil: no more.
---@param what string?
---@param seconds number?
function M.expect(what, seconds)
  base = what and { what = what, seconds = seconds } or nil
  apply()
end

--- Restarts the time limit, because the loop has turned.
M.alive = beat

--- How a driver's function is called in messages.
---@param driver table
---@param name string  of the function
---@return string
function M.name(driver, name)
  local fn = driver[name]
  local info = type(fn) == "function" and debug.getinfo(fn, "S")
  local of = ("%s of driver %s"):format(name, tostring(driver.name))
  return info and info.what ~= "C" and ("%s (%s:%d)"):format(of, info.short_src, info.linedefined) or of
end

return M
