--- Follows a driver's files: tries each save as a reload, and chooses the code after a crash.
---
--- Under a guardian, the worker after a crash goes on with the code that worked, which the guardian
--- keeps, not with the files. The files may hold a refused save, or the one that crashed, which would
--- use up the restarts. A version has worked if it has passed its probation, or was the first. The
--- files' code is tried if it has not been tried yet; tried code is not tried again before the next
--- save. The guardian is informed before each attempt.
---
--- If the code that worked does not survive its own start after the crash, a save that is yet untried is
--- started in its place.

local driver = require "luio.driver"
local guardian = require "luio.reload.guardian"
local handles = require "luio.loop.handles"
local task = require "luio.loop.task"
local wait_slot = require "luio.loop.wait_slot"
local trust = require "luio.host.trust"
local uv = require "luv"
local version = require "luio.reload.version"
local file_watch = require "luio.reload.file_watch"

local M = {}

local PATIENCE = 0.25 -- seconds until a reload is tried again that came at a bad time

-- ---- Tried versions ------------------------------------------------------------------------------

local function try_of(files)
  local names = {}
  for path in pairs(files) do names[path] = true end
  return { files = names, print = version.fingerprint(files) }
end

-- Whether the files hold something else than a version, which was not tried.
local function untried(files, tried)
  return version.differ(files) and not (tried and tried.print == version.fingerprint(tried.files))
end

--- The driver to start: the code that worked before a crash, or what its files hold.
---@param name string     as of luio.load
---@return table? driver
---@return string? message
---@return string? code
---@return luio.KeptCode? kept  when that is what it was loaded from
function M.load(name)
  local kept, why = guardian.kept_code()
  if kept and kept.starting and untried(kept.files, kept.tried) then
    local fresh = driver.load(name)
    kept.tried = try_of(kept.files)
    guardian.keep_code(kept)
    if fresh then return fresh end
  end
  if kept then
    kept.starting = true
    guardian.keep_code(kept)
    local loaded, message = driver.load(kept.path, kept)
    if loaded then return loaded, nil, nil, kept end
    why = message
  end
  local loaded, message, code = driver.load(name)
  if not loaded then return nil, why and ("%s; %s"):format(why, message) or message, code end
  return loaded
end

-- ---- Following -----------------------------------------------------------------------------------

---@class luio.HangupSignal
---@field signal userdata
---@field heard boolean?            while there was no follower
---@field follower luio.Follower?

---@class luio.Follower
---@field dev luio.Device
---@field options { keep: boolean?, watch: boolean?, tell: fun(report: luio.ReloadReport) }
---@field good luio.Version   the one that worked
---@field tried { files: table<string, true>, print: string }?
---@field package failed boolean?   the last version was refused or undone
---@field package asked boolean?    a reload was requested
---@field package stirred boolean?  something happened in the folders
---@field package working boolean?
local Follower = {}
Follower.__index = Follower

local function count(t)
  local n = 0
  for _ in pairs(t) do n = n + 1 end
  return n
end

-- Makes the guardian keep the working version, and the fingerprint of the version tried after it.
local function keep(self)
  if not self.options.keep then return end
  local good = self.good
  self.kept_files = count(good.files)
  local ok, message = guardian.keep_code { path = good.path, files = good.files, names = good.names, tried = self.tried }
  if not ok then self.dev:warn(("after a crash the driver starts from its files: %s"):format(message)) end
end

-- The files of the running version and of the last one tried, because a fix may be in either. Also the files beside the
-- driver's file, because a version that ended the process while it was loaded could not report what it required. Files of
-- untrusted owners are left out, because no version would load them.
local function files_of(self)
  local all, dir = {}, self.good.dir
  local writers = trust.writers(self.good.real)
  local scan = uv.fs_scandir(dir)
  local name = scan and uv.fs_scandir_next(scan)
  while name do
    local path = ("%s/%s"):format(dir, name)
    if name:match "%.lua$" and trust.file(path, writers) then all[path] = true end
    name = uv.fs_scandir_next(scan)
  end
  for path in pairs(self.tried and self.tried.files or {}) do all[path] = true end
  for path in pairs(self.dev.live.version.files) do all[path] = true end
  return all
end

local function tell(self, report)
  if not report.later then self.failed = not report.ok end
  self.options.tell(report)
end

local function watch(self)
  local message = self.files and self.files:set(files_of(self))
  if message then self.dev:warn(message .. "; SIGHUP reloads") end
end

-- Exchanges the driver's code for what its files hold now; after what stands in the way: a start, or a device that is gone.
local function reload(self)
  local dev, told = self.dev, false
  repeat
    local before = self.tried
    self.tried = try_of(files_of(self)) -- loading alone may end the process
    keep(self)
    local report = dev.live:reload()
    if report.later then -- it was not looked at
      self.tried = before
      keep(self)
    end
    if not report.later or not told then tell(self, report) end
    told = true
    while report.later and not dev.closing and (dev.gone or dev.live.reloading) do wait_slot.sleep(PATIENCE) end
  until not report.later or dev.closing
end

-- The running version does not know all loaded files.
local function staged(self, files)
  local all = files_of(self)
  for path, text in pairs(files) do all[path] = text end
  self.tried = try_of(all)
  watch(self)
  keep(self)
end

-- True if the files hold code that was not tried yet.
local function is_new(self)
  local files = self.dev.live.version.files
  if untried(files, self.tried) then return true end
  -- When the running code is saved again, a version refused before is tried again at its next save.
  if self.tried and not version.differ(files) then
    local all = {}
    for path in pairs(self.tried.files) do all[path] = true end
    for path, text in pairs(files) do all[path] = text end -- not what the disk holds by now: that may be the next save
    self.tried = try_of(all)
    if self.failed then tell(self, { ok = true, again = true, version = self.dev.live.version.id }) end
  end
  return false
end

-- Handles requests one after the other: a file may be saved at any moment, and the last save must run or be refused. A save between
-- the reading of a file and the first watch of its folder gives no event, so the files are compared once more.
local function work(self)
  if self.working then return end
  self.working = true
  local dev = self.dev
  local ok, why = pcall(function()
    while self.asked or self.stirred do
      local asked = self.asked
      self.asked, self.stirred = nil, nil
      watch(self)
      if not asked then dev.live:await_save() end -- half of a save is no save
      if dev.closing then return end
      if asked or is_new(self) then
        reload(self)
        if dev.closing then return end
        self.stirred = self.options.watch and is_new(self) or self.stirred
      end
    end
  end)
  self.working = nil
  if not ok then error(why, 0) end
end

local function saved(self)
  self.stirred = true
  work(self)
end

--- Exchanges the driver's code on request.
function Follower:reload()
  self.asked = true
  work(self)
end

--- Hears SIGHUP from now on: before a driver is loaded, for its default would end the process.
---@return luio.HangupSignal
function M.catch_hangup()
  local hearing = { signal = assert(uv.new_signal()) }
  hearing.signal:start("sighup", function()
    if hearing.follower then task.spawn(hearing.follower.reload, hearing.follower) else hearing.heard = true end
  end)
  hearing.signal:unref()
  return hearing
end

--- Follows a running driver's files: handles SIGHUP and watches the files.
---@param dev luio.Device
---@param options { keep: boolean?, watch: boolean?, tell: fun(report: luio.ReloadReport) }
---@param kept luio.KeptCode?  of M.load
---@param hearing luio.HangupSignal?  of M.catch_hangup
---@return luio.Follower
function M.follow(dev, options, kept, hearing)
  local self = setmetatable({ dev = dev, options = options, good = dev.live.version, tried = kept and kept.tried }, Follower)
  keep(self)
  function dev.live.on_report(report) tell(self, report) end
  function dev.live.on_staged(files) staged(self, files) end
  function dev.live.on_accept(accepted)
    self.good = accepted
    keep(self)
  end
  if options.watch then
    self.files = file_watch.new({}, function() saved(self) end)
    watch(self)
  end
  self.hearing = hearing or M.catch_hangup()
  self.hearing.follower = self
  return self
end

--- Tries files that were saved since the driver was loaded, because its device may have come late, and its start may take long.
--- After a crash: tries saved files that were never tried, or reports that they were.
function Follower:begin()
  if self.hearing.heard then return task.spawn(self.reload, self) end
  if not version.differ(self.good.files) then return end
  if not untried(self.good.files, self.tried) then
    self.dev:warn(("driver %s: its files hold a version that did not last; the one before goes on, and the next save is tried"):format(
      self.dev.driver.name))
  elseif self.options.watch then
    task.spawn(saved, self)
  end
end

--- To be called now and then: a driver may require files late.
function Follower:check_files()
  if self.kept_files ~= count(self.good.files) then keep(self) end
  local files = self.dev.live.version.files
  if not self.options.watch or self.watched_files == count(files) then return end
  self.watched_files = count(files)
  task.spawn(saved, self)
end

--- Follows no more.
function Follower:close()
  if self.files then self.files:close() end
  self.hearing.signal:stop()
  handles.dispose(self.hearing.signal)
end

return M
