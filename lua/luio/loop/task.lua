--- Tasks and the event loop.
---
--- A task is a coroutine; the loop is libuv's, through luv. Everything that waits goes through one
--- function, `await`: it arms something (a timer, a descriptor), gives up the processor, and comes
--- back with what was delivered or with "timed out". In a task that means yielding; outside of one
--- (a plain script, a spec, the REPL) it means turning the loop right there until it is done. So
--- the same driver function works in both. Every wait has a deadline.

local uv = require "luv"
local errors = require "luio.errors"
local loading = require "luio.loop.loading"
local term = require "luio.text.term"

local M = {}

-- luv's own: luio.reload.callbacks has a look at what others start.
local start_timer, start_idle, start_check = uv.timer_start, uv.idle_start, uv.check_start

---@class luio.Task
---@field name string
---@field status "ready"|"waiting"|"done"|"failed"|"cancelled"
---@field results any[]?  what its function returned
---@field error string?   traceback, when it failed
---@field package quiet boolean  whoever started it reports its failure
---@field package detached boolean?
---@field package waiters fun()[]?  in join
---@field package thread thread
---@field package wake fun(...)?  resumes it from its wait
---@field package group luio.TaskGroup?
local Task = {}
Task.__index = Task

--- Tasks that are held and ended together: those of one version of a driver. What a task of a group
--- spawns belongs to it, too.
---@class luio.TaskGroup
---@field name string
---@field tasks table<luio.Task, true>  that are alive
---@field held luio.Task[]?    while it is held: whose waits have ended, in that order
---@field handles table<userdata, string>  of libuv, that end with it (luio.reload.callbacks): when they were made; weak
---@field ended string?        why nothing can be spawned in it any more
---@field on_failure fun(task: luio.Task, traceback: string)?  in place of M.on_failure
local Group = {}
Group.__index = Group

local tasks = {} ---@type table<thread, luio.Task>  those that are alive
local alive = 0
local looping = false

local CANCELLED = setmetatable({}, { __tostring = function() return "the task was cancelled" end })

local function finish(task, status)
  task.status = status
  tasks[task.thread] = nil
  if not task.detached then alive = alive - 1 end
  if task.group then task.group.tasks[task] = nil end
  if looping then uv.stop() end -- the end of a timer's callback would else be followed by a sleep
  local waiters = task.waiters
  task.waiters = nil
  for i = 1, waiters and #waiters or 0 do waiters[i]() end
end

--- Called with a task that failed. It prints the traceback to standard error; a program replaces
--- it to show failures elsewhere. The other tasks and the loop go on.
---@param task luio.Task
---@param traceback string
function M.on_failure(task, traceback)
  term.tell(("luio: task %s failed: %s"):format(task.name, traceback))
end

local function settle(task, ok, ...)
  if coroutine.status(task.thread) ~= "dead" then return end
  if ok then
    task.results = { n = select("#", ...), ... }
    return finish(task, "done")
  end
  local err = ...
  if err == CANCELLED then return finish(task, "cancelled") end
  task.error = errors.with_calls(errors.text(err), task.thread, 0)
  finish(task, "failed")
  local report = task.group and task.group.on_failure or M.on_failure
  if task.quiet then return end
  local told, why = pcall(report, task, task.error)
  if not told then term.tell(("luio: the report of a failed task failed: %s\n%s"):format(errors.text(why), task.error)) end
end

local running ---@type luio.Task?  that was resumed last and has not given up the processor
local observer ---@type fun(task: luio.Task)?

local function resume(task, ...)
  local before = running
  running = task
  if observer then observer(task) end
  settle(task, coroutine.resume(task.thread, ...))
  running = before
end

local function make(fn, quiet, group, info)
  info = info or debug.getinfo(fn, "S")
  local task = setmetatable({
    name = ("%s:%d"):format(info.short_src, info.linedefined),
    status = "ready",
    thread = coroutine.create(fn),
    quiet = quiet,
    group = group,
  }, Task)
  tasks[task.thread] = task
  alive = alive + 1
  if group then group.tasks[task] = true end
  return task
end

local function start(fn, quiet, group, ...)
  if group and group.ended then error(("%s: %s"):format(group.name, group.ended), 3) end
  local task = make(fn, quiet, group)
  resume(task, ...)
  return task
end

-- A task whose wait has ended goes on, at once or when its group is let go.
local function ready(task)
  local held = task.group and task.group.held
  if held then table.insert(held, task) else resume(task) end
end

--- Starts a task. It runs until its first wait before spawn returns.
---@param fn fun(...)
---@param ... any  its arguments
---@return luio.Task
function M.spawn(fn, ...)
  if type(fn) ~= "function" then error("luio.spawn wants a function, not " .. type(fn), 2) end
  local current = M.current()
  return start(fn, false, current and current.group, ...)
end

--- Starts a task of a group; of none, whichever the running task is of.
---@param group luio.TaskGroup?
---@param fn fun(...)
---@param ... any
---@return luio.Task
function M.spawn_in(group, fn, ...)
  if type(fn) ~= "function" then error("luio.spawn wants a function, not " .. type(fn), 2) end
  return start(fn, false, group, ...)
end

--- Runs a function of a group that C calls: now, or when the group is let go; not when that was ended. As a task, so it may wait, and
--- may fail.
---@param group luio.TaskGroup
---@param fn fun(...)
---@param ... any
function M.call_back(group, fn, ...)
  if group.ended then return end
  if not group.held then return start(fn, false, group, ...) end
  local n, arguments = select("#", ...), { ... }
  table.insert(group.held, make(function(cancelled)
    if cancelled == CANCELLED then error(CANCELLED, 0) end
    return fn(unpack(arguments, 1, n))
  end, false, group, debug.getinfo(fn, "S")))
end

--- Has a group fail, as a task of it would whose function was this: it could not run as one.
---@param group luio.TaskGroup
---@param fn function
---@param message string
function M.fail(group, fn, message)
  if group.ended then return end
  local failing = make(function(cancelled)
    error(cancelled == CANCELLED and CANCELLED or message, 0)
  end, false, group, debug.getinfo(fn, "S"))
  if group.held then table.insert(group.held, failing) else resume(failing) end
end

--- The running task, or nil outside of one.
---@return luio.Task?
function M.current()
  local thread = coroutine.running()
  return thread and tasks[thread]
end

--- Calls a function whenever a task begins or goes on; nil: no more.
---@param fn fun(task: luio.Task)?
function M.observe(fn)
  observer = fn
end

--- The task that runs, also from a coroutine of its own; nil outside of one.
---@return luio.Task?
function M.running()
  return running
end

local function timed_out(seconds)
  return nil, ("timed out after %g s"):format(seconds), "ETIMEDOUT"
end

-- Turns the loop until finished() or nothing is left that could wake anybody.
local function turn(finished)
  if looping then error("a wait outside of a task, while the loop runs: use luio.spawn", 3) end
  looping = true
  local ok, err = pcall(function()
    while not finished() do
      if not uv.run "once" and not finished() then error "every task waits, and nothing can wake one" end
    end
  end)
  looping = false
  if not ok then error(err, 0) end
end

function Task:__tostring()
  return ("task %s, %s"):format(self.name, self.status)
end

-- luv 1.44 frees a handle that is still closing when the Lua state ends, and crashes (luvit/luv#437,
-- #654). So timers are not closed but used again, and what must be closed is seen to by dispose.
local idle_timers = {}

--- For luio.loop.wait_slot: a timer that is not set.
---@return userdata  uv_timer_t
function M.take_timer()
  return table.remove(idle_timers) or assert(uv.new_timer())
end

-- luv runs callbacks under its own pcall, and exits on what they raise: ours don't raise.
local function timer_after(seconds, fn)
  local timer = M.take_timer()
  uv.update_time() -- the loop's clock stands still while Lua is busy
  start_timer(timer, math.ceil(seconds * 1000), 0, fn)
  return timer
end

--- Gives a timer back.
---@param timer userdata
function M.put_away(timer)
  timer:stop()
  table.insert(idle_timers, timer)
end

-- A wait of no time ends after the loop has looked at descriptors and signals once. A timer of 0 ms would not do: libuv runs
-- those that are due until there are none, so a task that does this again and again would keep the loop from everything else.
local Next = {}
Next.__index = Next
local idle_nexts = {}

local function nothing() end

local function next_turn(fn)
  local one = table.remove(idle_nexts) or setmetatable({ idle = assert(uv.new_idle()), check = assert(uv.new_check()) }, Next)
  start_idle(one.idle, nothing) -- so that the loop does not sleep
  start_check(one.check, fn)
  return one
end

--- For luio.loop.wait_slot: calls fn once the loop has looked at what is there now. When a deadline has passed the loop may have looked
--- at nothing since long before: the process was stopped, or busy. libuv calls timers first; what came in time is to count first.
--- What is returned has `put_away`, which is to be called in any case.
---@param fn fun()
M.after_a_look = next_turn

function Next:put_away()
  self.idle:stop()
  self.check:stop()
  table.insert(idle_nexts, self)
end

local guards = {} -- luacheck: ignore 241 (kept from the collector, that is all)

--- Closes a libuv handle. Should the state end before the loop turns again, a finalizer, newer than
--- the handle and so run before its own, lets libuv finish.
---@param handle userdata
function M.dispose(handle)
  local guard = newproxy(true)
  local pending = true
  getmetatable(guard).__gc = function()
    if pending then uv.run "nowait" end
  end
  guards[guard] = handle
  handle:close(function()
    pending = false
    guards[guard] = nil
  end)
end

--- Waits until woken, at most `seconds`. `arm` is called with a function `wake`; what is passed to
--- the first call of wake is what await returns. arm may return a function that disarms; it is
--- called however the wait ends.
---@param seconds number
---@param arm fun(wake: fun(...)): fun()?
---@return any ...  what wake was given, or nil, message, "ETIMEDOUT"
function M.await(seconds, arm)
  if type(seconds) ~= "number" or not (seconds >= 0 and seconds < 1e9) then
    error("a wait needs a number of seconds, from 0 to 1e9, not " .. tostring(seconds), 3)
  end
  loading.refuse("a wait", 3)
  local task = M.current()
  local woken, results = false, nil
  local function wake(...)
    if woken then return end
    woken = true
    results = { n = select("#", ...), ... }
    if task and task.wake then
      task.wake = nil
      ready(task)
    elseif looping then
      uv.stop()
    end
  end
  local disarm = arm(wake)
  local function give_up() wake(timed_out(seconds)) end
  local following = not woken and seconds == 0 and next_turn(give_up)
  local timer = not woken and seconds > 0 and timer_after(seconds, function() following = following or next_turn(give_up) end)
  local cancelled
  if not woken and task then
    task.wake, task.status = wake, "waiting"
    cancelled = coroutine.yield() == CANCELLED
    task.status = "ready"
  elseif not woken then
    local ok, err = pcall(turn, function() return woken end)
    cancelled = not ok and err
  end
  woken = true
  if timer then M.put_away(timer) end
  if following then following:put_away() end
  if disarm then disarm() end
  if cancelled then error(cancelled == true and CANCELLED or cancelled, 0) end
  return unpack(results, 1, results.n)
end

--- For luio.loop.wait_slot: gives up the processor until go_on is called for the task, which runs now.
---@param task luio.Task
---@param wake function  that is going to call it: task.wake meanwhile
---@return boolean cancelled  then raise_cancelled is to be called
function M.pause(task, wake)
  task.wake, task.status = wake, "waiting"
  local cancelled = coroutine.yield() == CANCELLED
  task.status = "ready"
  return cancelled
end

--- Ends the running task, which was cancelled.
function M.raise_cancelled()
  error(CANCELLED, 0)
end

--- Ends a pause.
---@param task luio.Task
function M.go_on(task)
  task.wake = nil
  ready(task)
end

--- Waits `seconds`.
---@param seconds number
function M.sleep(seconds)
  M.await(seconds, function() end)
end

--- Ends a task at its wait, as if an error were raised there. Nothing happens to one that is done.
function Task:cancel()
  local held = self.group and self.group.held
  for i, task in ipairs(held or {}) do
    if task == self then
      table.remove(held, i)
      return resume(self, CANCELLED)
    end
  end
  if not self.wake then return end
  self.wake = nil
  resume(self, CANCELLED)
end

--- Lets luio.run end without it: for a task that serves others as long as they are there.
function Task:detach()
  if self.detached or not tasks[self.thread] then return end
  self.detached = true
  alive = alive - 1
end

--- Waits until the task has ended.
---@param seconds number
---@return boolean? done  true, or nil, message, code: timed out, or how the task failed
---@return any ...  what its function returned
function Task:join(seconds)
  if tasks[self.thread] then
    local ok, message, code = M.await(seconds, function(wake)
      self.waiters = self.waiters or {}
      local function ended() wake(true) end
      table.insert(self.waiters, ended)
      return function() -- it may end much later, or be joined again and again
        for i, waiter in ipairs(self.waiters or {}) do
          if waiter == ended then return table.remove(self.waiters, i) end
        end
      end
    end)
    if not ok then return nil, message, code end
  end
  if self.status == "done" then return true, unpack(self.results, 1, self.results.n) end
  return nil, self.error or "the task was cancelled", self.status == "failed" and "EFAULT" or "ECANCELED"
end

-- ---- Groups --------------------------------------------------------------------------------------

--- A group without tasks.
---@param name string  for messages
---@return luio.TaskGroup
function M.group(name)
  return setmetatable({ name = name, tasks = {}, handles = setmetatable({}, { __mode = "k" }) }, Group)
end

--- A libuv handle is the group's: it is closed with it.
---@param handle userdata
---@param made string?  when it was made: a version's phase
function Group:owns(handle, made)
  if self.ended then return M.dispose(handle) end -- by a task that does not end
  self.handles[handle] = made or "at work"
end

-- Closes the handles, but for those that another group is to have.
local function close_handles(self, heir, inherited)
  for handle, made in pairs(self.handles) do
    if heir and inherited[handle] then heir:owns(handle, made)
    else
      local known, closing = pcall(uv.is_closing, handle) -- one that is being collected is no handle any more
      if known and not closing then M.dispose(handle) end
    end
  end
  self.handles = {}
end

--- Holds its tasks where they wait: those whose waits end go on when the group is let go.
function Group:hold()
  self.held = self.held or {}
end

--- Lets them go on.
function Group:let_go()
  local held = self.held or {}
  self.held = nil
  for _, task in ipairs(held) do resume(task) end
end

--- Ends its tasks at their waits, and lets none be spawned in it. A task that does not end (it catches
--- the error and waits again) is told of, and no longer waited for.
---@param why string  what who still uses it is told
---@param heir luio.TaskGroup?  that goes on with some of its libuv handles
---@param inherited table<userdata, boolean>?  these
---@return luio.Task[] stubborn
function Group:finish(why, heir, inherited)
  self.ended = why
  local list, stubborn = {}, {}
  for task in pairs(self.tasks) do table.insert(list, task) end
  for _, task in ipairs(list) do
    task:cancel()
    if self.tasks[task] then table.insert(stubborn, task) end
  end
  self.held = nil -- who goes on all the same is not to sleep for ever
  close_handles(self, heir, inherited)
  return stubborn
end

--- Runs the loop until every task has ended, but for detached ones. Given a function, runs it as a task and returns when
--- that one has ended: with its results, or raising its error.
---@param fn? fun(...)
---@param ... any
---@return any ...
function M.run(fn, ...)
  if not fn then return turn(function() return alive == 0 end) end
  local task = start(fn, true, nil, ...)
  turn(function() return not tasks[task.thread] end)
  if task.status ~= "done" then error(task.error or tostring(CANCELLED), 0) end
  return unpack(task.results, 1, task.results.n)
end

return M
