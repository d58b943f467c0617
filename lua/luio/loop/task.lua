--- Tasks. A task is a coroutine that may wait (luio.loop.wait_slot).

local uv = require "luv"
local errors = require "luio.errors"
local handles = require "luio.loop.handles"
local term = require "luio.text.term"
local wait_slot = require "luio.loop.wait_slot"

local M = {}

--- A coroutine that `luio.spawn` started.
---@class luio.Task : luio.Waiter
---@field name string
---@field status "ready"|"waiting"|"done"|"failed"|"cancelled"
---@field results any[]?  the results of its function
---@field error string?   traceback, when it failed
---@field package quiet boolean  its starter reports its failure
---@field package detached boolean?
---@field package joins fun(...)[]?  wake the tasks that join it
---@field package thread thread
---@field package group luio.TaskGroup?
local Task = {}
Task.__index = Task

--- Tasks that are held and ended together: those of one version of a driver. A task that a task of
--- the group spawns belongs to the group, too.
---@class luio.TaskGroup
---@field name string
---@field tasks table<luio.Task, true>  that are alive
---@field held luio.Task[]?    while it is held: whose waits have ended, in that order
---@field handles table<userdata, string>  of libuv, that end with it (luio.reload.callbacks): when they were made; weak
---@field ended string?        why nothing can be spawned in it any more
---@field on_failure fun(task: luio.Task, traceback: string)?  in place of M.on_failure
local Group = {}
Group.__index = Group

local tasks = wait_slot.tasks
local alive = 0

local CANCELLED = setmetatable({}, { __tostring = function() return "the task was cancelled" end })

local function finish(task, status)
  task.status = status
  tasks[task.thread] = nil
  if not task.detached then alive = alive - 1 end
  if task.group then task.group.tasks[task] = nil end
  wait_slot.release(task)
  wait_slot.end_turn()
  local joins = task.joins
  task.joins = nil
  for i = 1, joins and #joins or 0 do joins[i](true) end
end

--- Called with a task that failed. It prints the traceback to standard error; a program replaces
--- it to show failures elsewhere. The other tasks and the loop go on.
---@param task luio.Task
---@param traceback string
function M.on_failure(task, traceback)
  term.tell(("luio: task %s failed: %s"):format(task.name, traceback))
end

local function after_resume(task, ok, ...)
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
  after_resume(task, coroutine.resume(task.thread, ...))
  running = before
end

local function name_of(fn)
  local info = debug.getinfo(fn, "S")
  return ("%s:%d"):format(info.short_src, info.linedefined)
end

local function make(fn, quiet, group, name)
  local task = setmetatable({
    name = name or name_of(fn),
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

local callback_names = setmetatable({}, { __mode = "k" }) ---@type table<function, string>  of tasks, by function

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
  local name = callback_names[fn]
  if not name then
    name = name_of(fn)
    callback_names[fn] = name
  end
  if not group.held then return resume(make(fn, false, group, name), ...) end
  local n, arguments = select("#", ...), { ... }
  table.insert(group.held, make(function(cancelled)
    if cancelled == CANCELLED then error(CANCELLED, 0) end
    return fn(unpack(arguments, 1, n))
  end, false, group, name))
end

--- Has a group fail, as a task of it would whose function was this: it could not run as one.
---@param group luio.TaskGroup
---@param fn function
---@param message string
function M.fail(group, fn, message)
  if group.ended then return end
  local failing = make(function(cancelled)
    error(cancelled == CANCELLED and CANCELLED or message, 0)
  end, false, group, name_of(fn))
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

function Task:__tostring()
  return ("task %s, %s"):format(self.name, self.status)
end

--- Used by luio.loop.wait_slot: gives up the processor until go_on, or until the task is cancelled.
---@package
---@return any failure  to be raised: the task was cancelled
function Task.pause()
  local given = coroutine.yield()
  return given == CANCELLED and CANCELLED or nil
end

--- Used by luio.loop.wait_slot, when the wait has ended: goes on, at once or when the task's group is let go.
---@package
function Task:go_on()
  local held = self.group and self.group.held
  if held then table.insert(held, self) else resume(self) end
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
  if self.status ~= "waiting" then return end
  self.status = "ready"
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
---@return any ...  the results of its function
function Task:join(seconds)
  if tasks[self.thread] then
    local ok, message, code = wait_slot.await(seconds, function(wake)
      self.joins = self.joins or {}
      table.insert(self.joins, wake)
      return function() -- it may end much later, or be joined again and again
        for i, one in ipairs(self.joins or {}) do
          if one == wake then return table.remove(self.joins, i) end
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
  if self.ended then return handles.dispose(handle) end -- by a task that does not end
  self.handles[handle] = made or "at work"
end

-- Closes the handles, but for those that another group is to have.
local function close_handles(self, heir, inherited)
  for handle, made in pairs(self.handles) do
    if heir and inherited[handle] then heir:owns(handle, made)
    else
      local known, closing = pcall(uv.is_closing, handle) -- one that is being collected is no handle any more
      if known and not closing then handles.dispose(handle) end
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

--- Ends its tasks at their waits, and prevents new ones. A task that does not end (it catches the
--- error and waits again) is reported, and no longer waited for.
---@param why string  the reason in errors of later uses
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
  self.held = nil -- a task that goes on anyway must not sleep for ever
  close_handles(self, heir, inherited)
  return stubborn
end

--- Runs the loop until every task has ended, but for detached ones. Given a function, runs it as a task and returns when
--- that one has ended: with its results, or raising its error.
---@param fn? fun(...)
---@param ... any
---@return any ...
function M.run(fn, ...)
  if not fn then return wait_slot.turn(function() return alive == 0 end) end
  local task = start(fn, true, nil, ...)
  wait_slot.turn(function() return not tasks[task.thread] end)
  if task.status ~= "done" then error(task.error or tostring(CANCELLED), 0) end
  return unpack(task.results, 1, task.results.n)
end

return M
