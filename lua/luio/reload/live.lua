--- A driver at work on a device, and how its code is exchanged while it works.
---
--- Each version of a driver has a view of the device (luio.device): regions, registers and interrupts of
--- its own, which become useless when it is replaced. The device, its memory, its interrupt threads and
--- their rings stay. A reload goes
---
---   1. stage     load the files anew, check table and map, run the driver's `check`. No device access.
---   2. quiesce   wait until no task is handling an interrupt, then hold all tasks of the old version
---                where they wait. With a deadline; the error names a task that does not return.
---   3. migrate   a copy of the state; the new version's `migrate` may change it
---   4. swap      the old view is useless from here on; top halves are exchanged in place; `start` of the
---                new version with "reload"
---   5. probation for a while the old version is kept, with its tasks held
---
--- If a step from 1 to 5 fails, the old version goes on where it was held, with its own state; the new version had
--- only a copy. An interrupt that the new version was handling is given back. The old version's tasks are ended
--- after probation, because a held task can go on and an ended one can't.
---
--- Scripts and the prompt hold the device's own handle, which stays valid. Its `dev.driver` (luio.reload.driver_proxy) forwards to
--- the running version.
---
--- Step 3 is luio.reload.migration, steps 2 and 4 luio.reload.swap. luio.reload.bring_up starts a version; luio.reload.report has
--- the reports.

local bring_up = require "luio.reload.bring_up"
local check = require "luio.driver.check"
local device = require "luio.device"
local dma = require "luio.dma"
local errors = require "luio.errors"
local driver_proxy = require "luio.reload.driver_proxy"
local guardian = require "luio.reload.guardian"
local migration = require "luio.reload.migration"
local reload_report = require "luio.reload.report"
local loading = require "luio.loop.loading"
local staging = require "luio.reload.staging"
local swap = require "luio.reload.swap"
local task = require "luio.loop.task"
local wait_slot = require "luio.loop.wait_slot"
local version = require "luio.reload.version"
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
---@field on_staged fun(files: table<string, string>)?  called with the loaded files, path -> text, also when it is refused
local Live = {}
Live.__index = Live

--- A report as one line.
Live.line = reload_report.line

local accept -- probation, below

--- Starts a driver on an open device. When that fails the device is closed again.
---@param driver table
---@param dev luio.Device
---@param reason? "fresh"|"crash"  from the guardian
---@return luio.Device? dev  dev.driver is the driver
---@return string? message
---@return string? code
function M.start(driver, dev, reason)
  local v, message, code = version.of(driver):fresh()
  local self = v and setmetatable({ dev = dev }, Live)
  local ok = v
  if ok then ok, message, code = bring_up.make_view(self, v) end
  if ok then
    v.id = 1
    if dev.state and next(dev.state) then v.view.state = dev.state end
    bring_up.install(self, v)
    dev.live, dev.driver = self, driver_proxy.new(self)
    driver_proxy.name_functions(self)
    ok, message, code = bring_up.run(self, v, reason or guardian.reason(), M.START)
    bring_up.install(self, v) -- start may have made a state of its own
  end
  if ok and device.settings.driver_user and guardian.reason() == "crash" then guardian.save(dev) end -- its first state is valid
  if not ok then
    dev.driver = nil -- it did not start, so there is nothing to stop
    dev:close()
    return nil, message, code
  end
  watchdog.runs(dev, true)
  if dev.info.can_leave or dev.qemu then dev:watch_presence() end
  return dev
end

--- Starts the driver once more, because its device came back. The tasks that it had before are ended.
---@param reason "returned"
---@return boolean? ok  the device stays open when it fails
---@return string? message
---@return string? code
function Live:restart(reason)
  local deadline = now() + 2 * M.START
  while self.reloading and now() < deadline do wait_slot.sleep(0.01) end
  if self.reloading or self.dev.closing then return nil, "the driver is being exchanged, or ended", "EBUSY" end
  self.reloading = true
  accept(self)
  local v = self.version
  local group, kept = task.group(v.group.name), migration.objects(v.view.state)
  for handle, made in pairs(v.group.handles) do kept[handle] = kept[handle] or made == "loading" end
  v.group:finish("its device went away", group, kept)
  v.group = group
  local ok, message, code = bring_up.run(self, v, reason, M.START)
  self.reloading = nil
  bring_up.install(self, v)
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
  ok, message, code = bring_up.make_view(self, v)
  if ok then ok, message, code = check.top_halves(v.driver, v.view, old.path) end
  if not ok then return nil, message, code end
  return v
end

-- ---- 5. Probation --------------------------------------------------------------------------------

-- Ends the watch over a new version.
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
  swap.retire(self, p.before)
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
    local given_back = swap.back(self, old, v, before)
    report_on(self, { ok = false, step = "probation", version = old.id, waited = given_back, message = message })
  end
  v.group.on_failure = function(failed, traceback)
    if self.probation ~= p then return task.on_failure(failed, traceback) end
    undo(("task %s failed: %s"):format(failed.name, traceback))
  end
  function v.on_exited() -- the function that called os.exit still runs, and may have caught the error
    task.spawn_in(nil, function()
      wait_slot.sleep(0)
      if self.probation == p then undo(v.exited) end
    end)
  end
  p.timer = task.spawn_in(nil, function()
    wait_slot.sleep(M.PROBATION)
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
  ok, message, code = swap.quiesce(self, old, M.QUIET)
  if not ok then return refused(self, "quiesce", message, code) end
  self.coming = v
  v.watch = watchdog.begin { what = ("a task of version %d of driver %s"):format(v.id, v.driver.name), group = v.group, compiles = true }
  local held, lost = now(), swap.overflow(self)
  ok, message, code = migration.run(old, v, M.START)
  if not ok then
    end_watch(v)
    swap.go_on(old)
    return refused(self, "migrate", message, code)
  end
  local waited = 0
  for _, source in pairs(swap.sources(self)) do waited = waited + source:waiting() end
  local before
  before, message, code = swap.run(self, old, v, M.START)
  if not before then
    end_watch(v)
    return refused(self, "swap", message, code)
  end
  local report = {
    ok = true, step = "swap", version = v.id, waited = waited, lost = swap.overflow(self) - lost,
    loading = loaded - began, pause = now() - held,
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
    wait_slot.sleep(0.01)
  end
end

local LONGEST = 600 -- seconds; never reached, for every step of a reload has a deadline of its own

--- Replaces the driver's code by that of its files. A task of the driver may ask for it: it ends
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
    swap.retire(self, p.before)
  end
  bring_up.restore_parts(self.version)
  self.version.group:finish(("the device of driver %s was closed"):format(self.version.name))
end

return M
