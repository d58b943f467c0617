--- A driver at work on a device, and how its code is exchanged while it works.
---
--- Each version of a driver has a view of the device (luio.device): regions, registers and interrupts of
--- its own, which become useless when it is replaced. The device, its memory, its interrupt threads and
--- their rings stay. A reload goes
---
---   1. stage     load the files anew, check table and map, run the driver's `check`. No device access.
---   2. quiesce   wait until no task has an interrupt in its hands, then hold all tasks of the old version
---                where they wait. By a deadline; a task that does not come back is named.
---   3. migrate   a copy of the state; the new version's `migrate` may change it
---   4. swap      the old view is useless from here on; top halves are exchanged in place; `start` of the
---                new version with "reload"
---   5. probation for a while the old version is kept as it was held
---
--- Whatever fails in 1 to 5, the old version goes on where it was held, with its own state, which the new one
--- had only a copy of. An interrupt that the new version had in hand when it failed is given back. A task that
--- is held can go on, one that was ended can't: hence the old version's tasks are ended after probation, not before.
---
--- Scripts and the prompt hold the device's own handle, which stays good. Its `dev.driver` (luio.reload.driver_proxy) leads to the version
--- at work.
---
--- The steps are here, but for 3, which is luio.reload.migration. What is said of a reload is luio.reload.report.

local bind = require "luio.registers.bind"
local check = require "luio.driver.check"
local device = require "luio.device"
local dma = require "luio.dma"
local effects = require "luio.registers.effects"
local errors = require "luio.errors"
local driver_proxy = require "luio.reload.driver_proxy"
local driver_setup = require "luio.driver.setup"
local guardian = require "luio.reload.guardian"
local irq = require "luio.irq"
local migration = require "luio.reload.migration"
local reload_report = require "luio.reload.report"
local selectors = require "luio.registers.selectors"
local loading = require "luio.loop.loading"
local staging = require "luio.reload.staging"
local task = require "luio.loop.task"
local version = require "luio.reload.version"
local wait_slot = require "luio.loop.wait_slot"
local watchdog = require "luio.loop.watchdog"
local now = require("luio.ffi").now

local M = {}

M.QUIET = 1 -- seconds for tasks to come back from an interrupt
M.WRITING = 5 -- seconds for a process that writes into one of its files to close it
M.MISSING = 0.3 -- seconds for a file that was taken away to be there again
M.START = 5 -- seconds for `start` of a new version
M.PROBATION = 1 -- seconds

---@class luio.Live
---@field dev luio.Device
---@field version luio.Version
---@field probation { before: luio.Version, timer: luio.Task, report: luio.ReloadReport }?
---@field never_saved string?      a file that stayed open for writing: it is waited for no more
---@field coming luio.Version?     the version that was loaded last
---@field on_report fun(report: luio.ReloadReport)?  called when a version fails on probation
---@field on_accept fun(version: luio.Version)?       called when a version has stood its probation
---@field before luio.Version?     the version that comes back if the new one fails: while that starts, and on probation
---@field on_staged fun(files: table<string, string>)?  called with what was loaded, path -> text, also when it is refused
local Live = {}
Live.__index = Live

--- A report as one line.
Live.line = reload_report.line

local accept -- probation, below

-- ---- Bringing a version up -----------------------------------------------------------------------

-- What luio goes by of a version's view of the device: "same" is what nobody else exchanges, either.
local PARTS = {
  address = "kind", info = "kind", regs = "kind", driver = "kind", regions = "same", irqs = "same", dma = "same", config = "same",
  root = "same", live = "same", version = "same", warnings = "same", repairs = "same",
}

-- Makes a version's view; its map is bound, no register is touched.
local function make_view(self, v)
  local view = device.view(self.dev)
  view.driver, view.live, view.version = v.driver, self, v
  if v.driver.registers then
    local regs, message, code = bind.bind(v.driver.registers, view)
    if not regs then return nil, message, code end
    view.regs = regs
  end
  v.view, v.name, v.parts = view, v.driver.name, {}
  for key in pairs(PARTS) do v.parts[key] = rawget(view, key) end
  return view
end

-- Gives a view back what its driver has taken from it or put in its place, so that luio can go on with it.
local function restore_parts(v)
  local changed = {}
  for key, part in pairs(v.parts) do
    local has = rawget(v.view, key)
    if type(has) ~= type(part) or has ~= part and PARTS[key] == "same" then
      rawset(v.view, key, part)
      table.insert(changed, "dev." .. key)
    end
  end
  if type(v.driver.name) ~= "string" then
    rawset(v.driver, "name", v.name)
    table.insert(changed, "the driver's name")
  end
  table.sort(changed)
  return changed
end

local SOURCE = debug.getinfo(1, "S").source

-- Adds to an error that luio raised the place in the driver that it came from.
local function with_place(e)
  if type(e) ~= "string" then e = errors.text(e) end
  for level = 2, 40 do
    local frame = debug.getinfo(level, "Sl")
    if not frame or frame.source == SOURCE then break end -- own_start, which called the driver
    if frame.currentline > 0 and not errors.is_ours(frame.source) then
      local place = ("%s:%d"):format(frame.short_src, frame.currentline)
      return e:find(place .. ":", 1, true) and e or ("%s (at %s)"):format(e, place)
    end
  end
  return e
end

-- Runs a driver's `start`. On a device that is open already it runs as a task of its version: so the interrupts
-- that it takes count as in its hands, and it can be ended.
local function own_start(v, reason)
  local driver, view = v.driver, v.view
  if not driver.start then return true end
  local ok, results
  local function start()
    ok, results = xpcall(function() return { driver.start(view, reason) } end, with_place)
  end
  if reason == "fresh" or reason == "crash" then
    start()
    if not ok then error(results, 0) end
    return results[1], results[2], results[3]
  end
  local starter = task.spawn_in(v.group, start)
  starter.refused = true -- until `start` has succeeded: the interrupts that it took are given back
  local ended, message = starter:join(M.START)
  if not ended and results == nil then return nil, message:gsub("^timed out after", "it did not end within"), "ETIMEDOUT" end
  if not ok then error(results, 0) end
  starter.refused = not results[1]
  return results[1], results[2], results[3]
end

local function bring_up(self, v, reason)
  local view, driver = v.view, v.driver
  v.phase = "start"
  if reason ~= "reload" then selectors.forget(self.dev) end -- it may have been reset since
  local ok, result, message, code = watchdog.call(watchdog.name(driver, "start"), v.group, function()
    local done, m, c = true, nil, nil
    if reason == "fresh" or reason == "crash" then done, m, c = guardian.prepare(driver, view, device.settings.driver_user) end
    if done then done, m, c = driver_setup.prepare(driver, view, reason) end
    if not done then return nil, m, c end
    dma.offer(view.dma, reason == "reload" or reason == "returned")
    return own_start(v, reason)
  end)
  v.phase = nil
  local changed = restore_parts(v)
  dma.offer(view.dma, false)
  if v.exited then ok, result = false, v.exited end
  if not ok then return nil, ("driver %s threw in start: %s"):format(driver.name, errors.text(result)), "EFAULT" end
  if not result then
    message = message == nil and "start returned nothing" or errors.text(message)
  elseif changed[1] then
    result, message, code = nil, ("start has changed %s, which luio goes by"):format(table.concat(changed, ", ")), "EINVAL"
  elseif type(view.state) ~= "table" then
    result, message, code = nil, ("dev.state is a %s after it; it is to be a table"):format(type(view.state)), "EINVAL"
  elseif self.dev.closed or self.dev.closing then
    result, message, code = nil, "start has closed the device", "EINVAL"
  end
  if not result then
    return nil, ("driver %s did not start on %s: %s"):format(driver.name, self.dev.address, message), code or "EIO"
  end
  return true
end

-- Makes a version the one that scripts and the prompt meet.
local function install(self, v)
  self.version = v
  driver_proxy.name_functions(self)
  self.dev.state, self.dev.dma.mask = v.view.state, v.view.dma.mask
  local map = v.driver.registers
  if map and (not self.dev.regs or self.dev.regs.map ~= map) then
    local before = self.dev.regs
    if before then effects.replaced(before) end
    self.dev.regs = bind.bind(map, self.dev) -- it fitted the view
    if before then bind.share_listeners(self.dev.regs, before) end
  end
  if map then bind.share_listeners(v.view.regs, self.dev.regs) end
  effects.state(self.dev, "driver", map)
  device.tell_users(self.dev, v.view)
end

--- Starts a driver on an open device. When that fails the device is closed again.
---@param driver table
---@param dev luio.Device
---@param reason? "fresh"|"crash"  what the guardian says
---@return luio.Device? dev  dev.driver is the driver
---@return string? message
---@return string? code
function M.start(driver, dev, reason)
  local v, message, code = version.of(driver):fresh()
  local self = v and setmetatable({ dev = dev }, Live)
  local ok = v
  if ok then ok, message, code = make_view(self, v) end
  if ok then
    v.id = 1
    if dev.state and next(dev.state) then v.view.state = dev.state end
    install(self, v)
    dev.live, dev.driver = self, driver_proxy.new(self)
    driver_proxy.name_functions(self)
    ok, message, code = bring_up(self, v, reason or guardian.reason())
    install(self, v) -- start may have made a state of its own
  end
  if ok and device.settings.driver_user and guardian.reason() == "crash" then guardian.save(dev) end -- what it began with is good
  if not ok then
    dev.driver = nil -- it did not start, so there is nothing to stop
    dev:close()
    return nil, message, code
  end
  watchdog.runs(dev, true)
  if dev.info.can_leave then dev:watch_presence() end
  return dev
end

--- Starts the driver once more, because its device came back. The tasks that it had before are ended.
---@param reason "returned"
---@return boolean? ok  the device stays open when it fails
---@return string? message
---@return string? code
function Live:restart(reason)
  local deadline = now() + 2 * M.START
  while self.reloading and now() < deadline do task.sleep(0.01) end
  if self.reloading or self.dev.closing then return nil, "the driver is being exchanged, or ended", "EBUSY" end
  self.reloading = true
  accept(self)
  local v = self.version
  local group, kept = task.group(v.group.name), migration.objects(v.view.state)
  for handle, made in pairs(v.group.handles) do kept[handle] = kept[handle] or made == "loading" end
  v.group:finish("its device went away", group, kept)
  v.group = group
  local ok, message, code = bring_up(self, v, reason)
  self.reloading = nil
  install(self, v)
  return ok, message, code
end

-- ---- 1. Stage ------------------------------------------------------------------------------------

local function stage(self)
  local old = self.version
  if not old.path then return nil, "the driver was not loaded from a file", "ENOTSUP" end
  local v, message, code, files = version.stage(old.path)
  if self.on_staged then self.on_staged(v and v.files or files) end
  if not v then return nil, message, code end
  local ok
  ok, message, code = check.driver(v.driver, old.path)
  if not ok then return nil, message, code end
  if v.driver.name ~= old.driver.name then
    return nil, ("%s: this is driver %s now, not %s"):format(old.path, v.driver.name, old.driver.name), "EINVAL"
  end
  if v.driver.check then
    v.phase = "loading"
    local fine, passed, why = staging.run(watchdog.name(v.driver, "check"), device.open_devices, function()
      local p, w = v.driver.check()
      return { p, w }
    end)
    v.phase = nil
    if v.exited then fine, passed = false, v.exited end
    if fine then passed, why = passed[1], passed[2] end
    if not fine then return nil, ("check of driver %s threw: %s"):format(v.driver.name, errors.text(passed)), "EINVAL" end
    if not passed then
      why = why == nil and "it returned nothing" or errors.text(why)
      return nil, ("check of driver %s: %s"):format(v.driver.name, why), "EINVAL"
    end
  end
  ok, message, code = make_view(self, v)
  if ok then ok, message, code = check.top_halves(v.driver, v.view, old.path) end
  if not ok then return nil, message, code end
  return v
end

-- ---- 2. Quiesce ----------------------------------------------------------------------------------

local function sources(self)
  local list = {}
  for vector, one in pairs(self.dev.irqs) do list[vector] = one.source end
  return list
end

-- Why the version can't be held now: a task has an interrupt in hand, or a call from outside waits for one.
local function busy(self, v)
  for _, source in pairs(sources(self)) do
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
  for _, source in pairs(sources(self)) do
    local waiter, through = source:waiter()
    if waiter and through.device == v.view then table.insert(list, source:displace()) end
  end
  return list
end

local function quiesce(self, v)
  local deadline = now() + M.QUIET
  local reason = busy(self, v)
  while reason do
    if now() >= deadline then return nil, ("%s, and did not come back within %g s"):format(reason, M.QUIET), "ETIMEDOUT" end
    task.sleep(0.001)
    reason = busy(self, v)
  end
  v.group:hold()
  -- The new version may wait at the same sources. The old one's waiters are woken if it goes on.
  v.displaced = displace_waiters(self, v)
  return true
end

-- Lets the held version go on as if nothing had happened.
local function go_on(v)
  device.set_stale(v.view, nil)
  for _, waiter in ipairs(v.displaced or {}) do wait_slot.wake_waiter(waiter) end -- it looks, and waits again if there is nothing
  v.displaced = nil
  v.group:let_go()
end

-- ---- 4. Swap, and back ---------------------------------------------------------------------------

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

-- Puts the old version back in place of one that failed. Returns how many interrupts that one had in hand.
local function swap_back(self, old, v, before)
  local given_back = 0
  restore_parts(v)
  v.group.on_failure = function() end
  for _, source in pairs(sources(self)) do given_back = given_back + source:give_back(v.group) end
  displace_waiters(self, v)
  device.set_stale(v.view, ("it belongs to version %d of driver %s, which failed"):format(v.id, v.name))
  v.group:finish(stale_words(v))
  dma.release_frees(self.dev.dma, true)
  device.set_stale(old.view, nil)
  for vector, one in pairs(self.dev.irqs) do
    local ok, message = put_back(one, before[vector])
    if not ok then self.dev:warn(("vector %d is not taken as it was before: %s"):format(vector, message)) end
  end
  install(self, old)
  self.before = nil
  go_on(old)
  return given_back
end

-- Ends what is left of a version that was replaced for good.
local function retire(self, old)
  restore_parts(old)
  local heir = self.version
  local stubborn = old.group:finish(stale_words(old), heir.group, migration.objects(heir.view.state))
  for _, t in ipairs(stubborn) do
    self.dev:warn(("task %s of version %d goes on after it was cancelled; it can't reach the device"):format(t.name, old.id))
  end
end

local function overflow(self)
  local n = 0
  for _, one in pairs(self.dev.irqs) do n = n + one:stats().overflow end
  return n
end

local function swap(self, old, v)
  local before = taken_by(self)
  device.set_stale(old.view, stale_words(old))
  dma.hold_frees(self.dev.dma)
  self.before = old
  install(self, v)
  -- A task that start spawns runs until its first wait: it may fail before start has returned.
  local failed, why
  v.group.on_failure = function(t, traceback) failed, why = failed or t, why or traceback end
  local ok, message, code = bring_up(self, v, "reload")
  if ok and failed then
    ok, message, code = nil, ("task %s failed: %s"):format(failed.name, why), "EFAULT"
  end
  if not ok and (self.dev.closed or self.dev.closing) then -- meanwhile: there is nothing to go on with
    retire(self, old)
    self.before = nil
    return nil, message, code
  elseif not ok then
    swap_back(self, old, v, before)
    return nil, message, code
  end
  install(self, v) -- start may have made a state of its own
  return before
end

-- ---- 5. Probation --------------------------------------------------------------------------------

-- Ends what was set up to watch a new version.
local function end_watch(v)
  v.phase, v.on_exited = nil, nil
  watchdog.done(v.watch)
end

-- Ends the probation, if there is one: the new version stays.
function accept(self)
  local p = self.probation
  if not p then return end
  self.probation = nil
  p.timer:cancel()
  end_watch(p.v)
  p.v.group.on_failure = nil
  retire(self, p.before)
  self.before = nil
  dma.release_frees(self.dev.dma)
end

local function report_on(self, report)
  if self.on_report then self.on_report(report) end
end

local function begin_probation(self, old, v, before)
  local p = { before = old, v = v }
  self.probation, v.phase = p, "probation"
  local function undo(message)
    self.probation = nil
    p.timer:cancel()
    end_watch(v)
    local given_back = swap_back(self, old, v, before)
    report_on(self, { ok = false, step = "probation", version = old.id, waited = given_back, message = message })
  end
  v.group.on_failure = function(failed, traceback)
    if self.probation ~= p then return task.on_failure(failed, traceback) end
    undo(("task %s failed: %s"):format(failed.name, traceback))
  end
  function v.on_exited() -- the function that called os.exit still runs, and may have caught the error
    task.spawn_in(nil, function()
      task.sleep(0)
      if self.probation == p then undo(v.exited) end
    end)
  end
  p.timer = task.spawn_in(nil, function()
    task.sleep(M.PROBATION)
    if self.probation == p then
      p.timer = { cancel = function() end } -- it is us
      accept(self)
      if self.on_accept then self.on_accept(v) end
    end
  end)
end

-- ---- Reload --------------------------------------------------------------------------------------

local function count(t)
  local n = 0
  for _ in pairs(t) do n = n + 1 end
  return n
end

local function refused(self, step, message, code)
  return { ok = false, step = step, version = self.version.id, message = message, code = code }
end

-- At a bad time: the files were not looked at.
local function put_off(self, message, code)
  local report = refused(self, "stage", message, code)
  report.later = true
  return report
end

local function exchange(self)
  local began = now()
  local v, message, code = stage(self)
  if not v then return refused(self, "stage", message, code) end
  accept(self) -- the version before: only one is kept
  local old = self.version
  v.id = old.id + 1
  local loaded = now()
  local ok
  ok, message, code = quiesce(self, old)
  if not ok then return refused(self, "quiesce", message, code) end
  self.coming = v
  v.watch = watchdog.begin { what = ("a task of version %d of driver %s"):format(v.id, v.driver.name), group = v.group, compiles = true }
  local held, lost = now(), overflow(self)
  ok, message, code = migration.run(old, v, M.START)
  if not ok then
    end_watch(v)
    go_on(old)
    return refused(self, "migrate", message, code)
  end
  local waited = 0
  for _, source in pairs(sources(self)) do waited = waited + source:waiting() end
  local before
  before, message, code = swap(self, old, v)
  if not before then
    end_watch(v)
    return refused(self, "swap", message, code)
  end
  local report = {
    ok = true, step = "swap", version = v.id, waited = waited, lost = overflow(self) - lost, loading = loaded - began, pause = now() - held,
    functions = v:functions(old), registers = v:registers(old), files = v:changed_files(old),
    kept = { state = count(v.view.state), buffers = self.dev.dma:stats().buffers, interrupts = count(self.dev.irqs) },
  }
  begin_probation(self, old, v, before)
  return report
end

--- Waits while one of the version's files is being saved. A file that stays open for writing is loaded as it is, and not waited
--- for again.
function Live:await_save()
  local began = now()
  while not self.dev.closing do
    local path, code = version.being_saved(self.version.files)
    if path ~= self.never_saved then self.never_saved = nil end
    if not path or path == self.never_saved then return end
    if now() - began >= (code == "EAGAIN" and M.WRITING or M.MISSING) then
      if code == "ENOENT" then return end
      self.never_saved = path
      self.dev:warn(("%s has been open for writing for %g s (`fuser -v` says in which process); it is loaded as it is now"):format(
        path, M.WRITING))
      return
    end
    task.sleep(0.01)
  end
end

local LONGEST = 600 -- seconds; never reached, for every step of a reload has a deadline of its own

--- Exchanges the driver's code for what its files hold now. A task of the driver may ask for it: it ends
--- with its version, or goes on with the answer when the new one is refused.
---@return luio.ReloadReport report
function Live:reload()
  if self.dev.closed then error(("reload the driver of %s: the device is closed"):format(self.dev.address), 2) end
  loading.refuse("a reload", 2)
  if self.dev.closing then return refused(self, "stage", "the device is being closed", "EBUSY") end
  if self.dev.gone then return put_off(self, "the device is gone", "ENODEV") end
  if self.reloading then return put_off(self, "the driver is being exchanged or started already", "EBUSY") end
  self.reloading = true
  -- A task of no group: one of the driver's would be held with its version.
  local ok, report
  local worker = task.spawn_in(nil, function()
    ok, report = pcall(function()
      self:await_save()
      return exchange(self)
    end)
    self.reloading = nil
    if not ok and self.coming then end_watch(self.coming) end
  end)
  worker:join(LONGEST)
  if not ok then error(report or "the reload was ended", 0) end
  return report
end

--- Copies the driver's durable state to where it outlives this process (luio.reload.guardian).
---@return boolean? ok
---@return string? message
---@return string? code
function Live:checkpoint()
  return guardian.save(self.dev)
end

--- Ends the driver's tasks: the device is being closed.
function Live:finish()
  if self.probation then
    local p = self.probation
    self.probation = nil
    p.timer:cancel()
    end_watch(p.v)
    retire(self, p.before)
  end
  restore_parts(self.version)
  self.version.group:finish(("the device of driver %s was closed"):format(self.version.name))
end

return M
