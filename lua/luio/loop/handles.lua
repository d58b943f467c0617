--- libuv's handles: functions that are called after a turn of the loop, and how a handle is closed.
---
--- luv 1.44 frees a handle that is still closing when the Lua state ends, and crashes (luvit/luv#437, #654). So a handle that
--- is needed again is reused, not closed; `dispose` closes the others.

local uv = require "luv"

local M = {}

-- luv's own: luio.reload.callbacks has a look at what others start.
local start_idle, start_check = uv.idle_start, uv.check_start

-- ---- After a turn of the loop --------------------------------------------------------------------

---@class luio.AfterTurn  a function that is called once the loop has turned
---@field package fn fun()
---@field package wanted boolean?
---@field package queued boolean?
local AfterTurn = {}
AfterTurn.__index = AfterTurn

local queue, spare = {}, nil ---@type luio.AfterTurn[], luio.AfterTurn[]?
local idle, check

local function nothing() end

-- Those that are wanted meanwhile have their turn after the next one.
local function turned()
  local due = queue
  queue, spare = spare or {}, nil
  for i = 1, #due do
    local one = due[i]
    due[i], one.queued = nil, nil
    if one.wanted then
      one.wanted = nil
      one.fn()
    end
  end
  spare = due
  if not queue[1] then
    idle:stop()
    check:stop()
  end
end

--- For functions that are to be called when the loop has looked at all descriptors and signals, in the order in which they are
--- wanted. A timer of 0 ms would not do: libuv runs timers until none is due, so a task that sets one again and again would keep
--- the loop from everything else.
---@param fn fun()  must not raise
---@return luio.AfterTurn
function M.after_turn(fn)
  return setmetatable({ fn = fn }, AfterTurn)
end

--- Has the function called once, after this turn.
function AfterTurn:want()
  self.wanted = true
  if self.queued then return end
  self.queued = true
  table.insert(queue, self)
  if queue[2] then return end
  idle, check = idle or assert(uv.new_idle()), check or assert(uv.new_check())
  start_idle(idle, nothing) -- so that the loop does not sleep
  start_check(check, turned)
end

--- Has it not called after all.
function AfterTurn:cancel()
  self.wanted = nil
end

-- ---- Closing -------------------------------------------------------------------------------------

local guards = {} -- luacheck: ignore 241 (kept from the collector, that is all)

--- Closes a handle. If the Lua state ends before the loop turns again, a finalizer lets libuv finish; it is newer than the
--- handle's own finalizer, and so runs before it.
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

return M
