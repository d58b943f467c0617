--- Waiting.
---
--- A *wait slot* is any table that a task waits at. Its field `waiter` is that task, and the only record of the wait.
---
---     local ok, message, code = wait_slot.wait(slot, 1)   -- in a task, or outside of one
---     wait_slot.wake(slot, true)                          -- elsewhere: wait returns true
---
--- In a task (luio.loop.task) a wait yields. Outside of one (a plain script, a spec, the REPL) it turns the loop until the wait
--- has ended. So the same driver function works in both. Every wait has a deadline.
---
--- A wait allocates nothing. A task has one timer for its deadlines, which is not set for each wait: if it already runs for an
--- earlier deadline, it goes on, and is set for the remaining time when it expires. So a task that waits a second at a time
--- costs one timer a second.

local handles = require "luio.loop.handles"
local now = require("luio.ffi").now
local loading = require "luio.loop.loading"
local uv = require "luv"

local M = {}

local start_timer = uv.timer_start -- luv's own: luio.reload.callbacks has a look at what others start

---@class luio.WaitSlot
---@field waiter luio.Waiter?  that waits here, or has been woken and did not go on yet

---@class luio.Waiter  a task, or the code outside of tasks
---@field status string             "waiting" in a wait
---@field package pause fun(self): any  yields until go_on; returns the error to raise
---@field package go_on fun(self)
---@field package deadline number   of its wait, or of the last
---@field package seconds number    that the wait lasts at most
---@field package alarm luio.Alarm? wakes it at the deadline
---@field package a any             the results of the wait
---@field package b any
---@field package c any

--- Tasks that are alive, by coroutine. luio.loop.task keeps it.
---@type table<thread, luio.Task>
M.tasks = {}

-- ---- The loop ------------------------------------------------------------------------------------

local turning = false

local function check_turn()
  if turning then error("a wait outside of a task, while the loop runs: use luio.spawn", 0) end
end

--- Turns the loop until finished(). Raises when nothing is left that could wake anybody, and where the loop turns already.
---@param finished fun(): boolean
function M.turn(finished)
  check_turn()
  turning = true
  local ok, err = pcall(function()
    while not finished() do
      if not uv.run "once" and not finished() then error("every task waits, and nothing can wake one", 0) end
    end
  end)
  turning = false
  if not ok then error(err, 0) end
end

--- Ends this turn of the loop, so that its caller checks at once whether its wait is over. Otherwise a sleep would follow a timer's
--- callback.
function M.end_turn()
  if turning then uv.stop() end
end

-- The waiter for code outside of tasks. It has one wait at a time, because that wait turns the loop.
local outside = { status = "ready" } ---@type luio.Waiter

function outside.pause()
  local ok, err = pcall(M.turn, function() return outside.status ~= "waiting" end)
  return not ok and err or nil
end

function outside.go_on() uv.stop() end

local function current()
  local thread = coroutine.running()
  local task = thread and M.tasks[thread]
  if not task then check_turn() end
  return task or outside
end

-- ---- Deadlines -----------------------------------------------------------------------------------

local function end_wait(who, a, b, c)
  who.status, who.a, who.b, who.c = "ready", a, b, c
  who:go_on()
end

---@class luio.Alarm
---@field package timer userdata  uv_timer_t
---@field package at number?      when the timer is up; nil: it is not set
---@field package who luio.Waiter?
---@field package last_turn luio.AfterTurn  of the loop, before a deadline counts
local Alarm = {}
Alarm.__index = Alarm

local unused = {} ---@type luio.Alarm[]

local function set_timer(alarm, seconds)
  uv.update_time() -- the loop's clock stands still while Lua is busy
  local ms = math.ceil(seconds * 1000)
  alarm.at = now() + ms / 1000
  start_timer(alarm.timer, ms, 0, alarm.up)
end

local function new_alarm()
  local alarm = setmetatable({ timer = assert(uv.new_timer()) }, Alarm)
  alarm.last_turn = handles.after_turn(function()
    local who = alarm.who
    if who.status == "waiting" then end_wait(who, nil, ("timed out after %g s"):format(who.seconds), "ETIMEDOUT") end
  end)
  function alarm.up()
    alarm.at = nil
    local who = alarm.who
    if who.status ~= "waiting" then return end
    local left = who.deadline - now()
    -- The loop may not have polled since long before the deadline, because the process was stopped or busy. libuv calls timers
    -- first, but events that came in time must count first.
    if left > 0 then set_timer(alarm, left) else alarm.last_turn:want() end
  end
  return alarm
end

-- Ends the wait at its deadline.
local function set_alarm(who, seconds)
  local alarm = who.alarm
  if not alarm then
    alarm = table.remove(unused) or new_alarm()
    alarm.who, who.alarm = who, alarm
  end
  who.seconds, who.deadline = seconds, now() + seconds
  if seconds == 0 then
    alarm.last_turn:want()
  elseif not (alarm.at and alarm.at <= who.deadline + 0.001) then
    set_timer(alarm, seconds)
  end
end

--- For a task that has ended: gives its timer back.
---@param who luio.Waiter
function M.release(who)
  local alarm = who.alarm
  if not alarm then return end
  if alarm.at then alarm.timer:stop() end
  alarm.at, alarm.who, who.alarm = nil, nil, nil
  table.insert(unused, alarm)
end

-- ---- Waits ---------------------------------------------------------------------------------------

-- Waits until end_wait, which the deadline calls at the latest. Returns the error to raise; the results are in who.a, b, c.
local function pause(who, seconds)
  set_alarm(who, seconds)
  who.status = "waiting"
  local failure = who:pause()
  who.status = "ready"
  who.alarm.last_turn:cancel()
  if who == outside then M.release(who) end -- a timer that is set keeps the loop turning
  return failure
end

--- The task that waits at a slot now.
---@param slot luio.WaitSlot
---@return luio.Waiter?
function M.waiter(slot)
  local who = slot.waiter
  return who and who.status == "waiting" and who or nil
end

local function check_free(slot)
  if M.waiter(slot) then error("two tasks wait for the same thing at once", 0) end
end

local function check_seconds(seconds)
  if type(seconds) ~= "number" or not (seconds >= 0 and seconds < 1e9) then
    error("a wait needs a number of seconds, from 0 to 1e9, not " .. tostring(seconds), 3)
  end
  loading.refuse("a wait", 3)
end

--- Waits at a slot until woken. One at a time.
---@param slot luio.WaitSlot
---@param seconds number
---@return any ...  the arguments of wake, three at most; or nil, message, "ETIMEDOUT"
function M.wait(slot, seconds)
  check_seconds(seconds)
  check_free(slot)
  local who = current()
  slot.waiter = who
  local failure = pause(who, seconds)
  if slot.waiter == who then slot.waiter = nil end
  if failure then error(failure, 0) end
  return who.a, who.b, who.c
end

--- Waits at several slots until woken at one of them.
---@param slots luio.WaitSlot[]
---@param seconds number
---@return any ...  as M.wait
function M.wait_any(slots, seconds)
  check_seconds(seconds)
  local who = current()
  for i = 1, #slots do check_free(slots[i]) end
  for i = 1, #slots do slots[i].waiter = who end
  local failure = pause(who, seconds)
  for i = 1, #slots do
    if slots[i].waiter == who then slots[i].waiter = nil end
  end
  if failure then error(failure, 0) end
  return who.a, who.b, who.c
end

--- Ends the wait at a slot.
---@param slot luio.WaitSlot
---@param a any  the results of the wait
---@param b any
---@param c any
---@return boolean woken  false: no task waits there
function M.wake(slot, a, b, c)
  local who = slot.waiter
  if not who or who.status ~= "waiting" then return false end
  slot.waiter = nil
  end_wait(who, a, b, c)
  return true
end

--- Frees a slot for another task. The previous waiter goes on waiting, until `wake_waiter` or the deadline.
---@param slot luio.WaitSlot
---@return luio.Waiter?  the previous waiter
function M.displace(slot)
  local who = M.waiter(slot)
  slot.waiter = nil
  return who
end

--- Ends the wait of one that was displaced, if it still waits: it returns true.
---@param who luio.Waiter
function M.wake_waiter(who)
  if who.status == "waiting" then end_wait(who, true) end
end

--- Waits `seconds`.
---@param seconds number
function M.sleep(seconds)
  check_seconds(seconds)
  local failure = pause(current(), seconds)
  if failure then error(failure, 0) end
end

--- Waits for a callback. `arm` is called with `wake`; await returns the arguments of the first call of wake. arm may return a
--- function that disarms; it is called at the end of the wait in every case. For infrequent waits, because each makes some garbage.
---@param seconds number
---@param arm fun(wake: fun(...)): fun()?
---@return any ...  the arguments of wake, or nil, message, "ETIMEDOUT"
function M.await(seconds, arm)
  check_seconds(seconds)
  local slot, who, results, failure = {}, current(), nil, nil
  local function wake(...)
    results = results or { n = select("#", ...), ... }
    M.wake(slot)
  end
  local disarm = arm(wake)
  if not results then
    slot.waiter = who
    failure = pause(who, seconds)
    slot.waiter = nil
  end
  if disarm then disarm() end
  if failure then error(failure, 0) end
  if not results then return who.a, who.b, who.c end
  return unpack(results, 1, results.n)
end

return M
