--- One version of a driver in place of another (steps 2 and 4 of a reload, luio.reload.live), and back.
---
--- The old version's tasks are held where they wait, not ended: tasks that are held can go on when the new version fails.

local bring_up = require "luio.reload.bring_up"
local device = require "luio.device"
local dma = require "luio.dma"
local irq = require "luio.irq"
local migration = require "luio.reload.migration"
local wait_slot = require "luio.loop.wait_slot"
local now = require("luio.ffi").now

local M = {}

-- ---- Quiesce -------------------------------------------------------------------------------------

--- The sources of the device's interrupts, by vector.
---@param self luio.Live
---@return table<integer, luio.IrqSource>
function M.sources(self)
  local list = {}
  for vector, one in pairs(self.dev.irqs) do list[vector] = one.source end
  return list
end

-- Why the version can't be held now: a task has an interrupt in hand, or a call from outside waits for one.
local function busy(self, v)
  for _, source in pairs(M.sources(self)) do
    local waiter, through = source:waiter()
    for who in pairs(source.holders) do
      if v.group.tasks[who] and waiter ~= who then return ("task %s handles an interrupt"):format(who.name) end
    end
    if waiter and through.device == v.view and not v.group.tasks[waiter] then return "a call from outside waits for an interrupt" end
  end
end

-- Makes room where tasks wait through a version's handles. Those go on waiting.
local function displace_waiters(self, v)
  local list = {}
  for _, source in pairs(M.sources(self)) do
    local waiter, through = source:waiter()
    if waiter and through.device == v.view then table.insert(list, source:displace()) end
  end
  return list
end

--- Waits until no task of a version has an interrupt in hand, then holds its tasks where they wait.
---@param self luio.Live
---@param v luio.Version
---@param seconds number
---@return boolean? ok
---@return string? message
---@return string? code  "ETIMEDOUT"
function M.quiesce(self, v, seconds)
  local deadline = now() + seconds
  local reason = busy(self, v)
  while reason do
    if now() >= deadline then return nil, ("%s, and did not come back within %g s"):format(reason, seconds), "ETIMEDOUT" end
    wait_slot.sleep(0.001)
    reason = busy(self, v)
  end
  v.group:hold()
  -- The new version may wait at the same sources. The old one's waiters are woken if it goes on.
  v.displaced = displace_waiters(self, v)
  return true
end

--- Lets the held version go on as if nothing had happened.
---@param v luio.Version
function M.go_on(v)
  device.set_stale(v.view, nil)
  for _, waiter in ipairs(v.displaced or {}) do wait_slot.wake_waiter(waiter) end -- it looks, and waits again if there is nothing
  v.displaced = nil
  v.group:let_go()
end

-- ---- Swap, and back ------------------------------------------------------------------------------

-- How the interrupts of a device are set up, by vector; false: its thread does not run.
local function taken_by(self)
  local list = {}
  for vector, one in pairs(self.dev.irqs) do list[vector] = one:started() and one.source.setup or false end
  return list
end

local function put_back(one, setup)
  if not setup then return one:close() end
  if not one:started() then return one:setup(setup):start() end
  return irq.has(one, setup) or irq.exchange(one, setup)
end

local function stale_words(v)
  return ("it belongs to version %d of driver %s, which was replaced"):format(v.id, v.name)
end

--- Puts the old version back in place of one that failed.
---@param self luio.Live
---@param old luio.Version
---@param v luio.Version
---@param before table<integer, luio.IrqSetup|false>  of M.run
---@return integer given_back  interrupts that the one that failed had in hand
function M.back(self, old, v, before)
  local given_back = 0
  bring_up.restore_parts(v)
  v.group.on_failure = function() end
  for _, source in pairs(M.sources(self)) do given_back = given_back + source:give_back(v.group) end
  displace_waiters(self, v)
  device.set_stale(v.view, ("it belongs to version %d of driver %s, which failed"):format(v.id, v.name))
  v.group:finish(stale_words(v))
  dma.release_frees(self.dev.dma, true)
  device.set_stale(old.view, nil)
  for vector, one in pairs(self.dev.irqs) do
    local ok, message = put_back(one, before[vector])
    if not ok then self.dev:warn(("vector %d is not taken as it was before: %s"):format(vector, message)) end
  end
  bring_up.install(self, old)
  self.before = nil
  M.go_on(old)
  return given_back
end

--- Ends the rest of a version that was replaced for good.
---@param self luio.Live
---@param old luio.Version
function M.retire(self, old)
  bring_up.restore_parts(old)
  local heir = self.version
  local stubborn = old.group:finish(stale_words(old), heir.group, migration.objects(heir.view.state))
  for _, t in ipairs(stubborn) do
    self.dev:warn(("task %s of version %d goes on after it was cancelled; it can't reach the device"):format(t.name, old.id))
  end
end

--- Events that were lost to full rings.
---@param self luio.Live
---@return integer
function M.overflow(self)
  local n = 0
  for _, one in pairs(self.dev.irqs) do n = n + one:stats().overflow end
  return n
end

--- Puts a new version in place of the old one, and starts it. When that fails the old one is back.
---@param self luio.Live
---@param old luio.Version  held
---@param v luio.Version
---@param seconds number      for its `start`
---@return table<integer, luio.IrqSetup|false>? before  how interrupts were taken, for M.back
---@return string? message
---@return string? code
function M.run(self, old, v, seconds)
  local before = taken_by(self)
  device.set_stale(old.view, stale_words(old))
  dma.hold_frees(self.dev.dma)
  self.before = old
  bring_up.install(self, v)
  -- A task that start spawns runs until its first wait: it may fail before start has returned.
  local failed, why
  v.group.on_failure = function(t, traceback) failed, why = failed or t, why or traceback end
  local ok, message, code = bring_up.run(self, v, "reload", seconds)
  if ok and failed then
    ok, message, code = nil, ("task %s failed: %s"):format(failed.name, why), "EFAULT"
  end
  if not ok and (self.dev.closed or self.dev.closing) then -- meanwhile: there is nothing to go on with
    M.retire(self, old)
    self.before = nil
    return nil, message, code
  elseif not ok then
    M.back(self, old, v, before)
    return nil, message, code
  end
  bring_up.install(self, v) -- start may have made a state of its own
  return before
end

return M
