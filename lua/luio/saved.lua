--- What is saved while a driver runs: tried, as a reload; and which code goes on after a crash.
---
--- Under a guardian a worker that follows a crash goes on with the code that worked, which the guardian
--- has, not with what the files hold: that may be a save that was refused, or the one that took the
--- process with it, and would use the restarts up one by one. A version has worked when it has stood its
--- probation, or was the first. What the files hold is tried when it never was; what was tried is not
--- tried again before something is saved. Of both the guardian is told before it happens.
---
--- If the code that worked does not survive its own start after the crash, a save that is yet untried is
--- started in its place.

local driver = require "luio.driver"
local guard = require "luio.guard"
local task = require "luio.task"
local trust = require "luio.trust"
local uv = require "luv"
local version = require "luio.version"
local watcher = require "luio.watcher"

local M = {}

local PATIENCE = 0.25 -- seconds until a reload is tried again that came at a bad time

-- ---- What was tried ------------------------------------------------------------------------------

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
  local kept, why = guard.kept_code()
  if kept and kept.starting and untried(kept.files, kept.tried) then
    local fresh = driver.load(name)
    kept.tried = try_of(kept.files)
    guard.keep_code(kept)
    if fresh then return fresh end
  end
  if kept then
    kept.starting = true
    guard.keep_code(kept)
    local loaded, message = driver.load(kept.path, kept)
    if loaded then return loaded, nil, nil, kept end
    why = message
  end
  local loaded, message, code = driver.load(name)
  if not loaded then return nil, why and ("%s; %s"):format(why, message) or message, code end
  return loaded
end

-- ---- Following -----------------------------------------------------------------------------------

---@class luio.Follower
---@field dev luio.Device
---@field options { keep: boolean?, watch: boolean?, tell: fun(report: luio.ReloadReport) }
---@field good luio.Version   the one that worked
---@field tried { files: table<string, true>, print: string }?
local Follower = {}
Follower.__index = Follower

local function count(t)
  local n = 0
  for _ in pairs(t) do n = n + 1 end
  return n
end

-- Has the guardian keep the version that works, and what was tried after it.
local function keep(self)
  if not self.options.keep then return end
  local good = self.good
  self.kept_files = count(good.files)
  local ok, message = guard.keep_code { path = good.path, files = good.files, names = good.names, tried = self.tried }
  if not ok then self.dev:warn(("after a crash the driver starts from its files: %s"):format(message)) end
end

-- Of what runs and of what was last tried: a mend may be in either. And what lies beside the driver's file, for a version
-- that ended the process when it was loaded had no time to say what it required. Not what somebody else has put there: no
-- version would take it, and it is not to be read all the time.
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

local function watch(self)
  local message = self.files and self.files:set(files_of(self))
  if message then self.dev:warn(message .. "; SIGHUP reloads") end
end

--- Exchanges the driver's code for what its files hold.
---@return string? code  of a refusal
function Follower:reload()
  local before = self.tried
  self.tried = try_of(files_of(self)) -- loading alone may end the process
  keep(self)
  local report = self.dev.live:reload()
  self.options.tell(report)
  if report.code == "EBUSY" or report.code == "ENODEV" then -- it was not looked at
    self.tried = before
    keep(self)
  end
  return report.code
end

-- What was loaded, the running version knows not all of.
local function staged(self, files)
  local all = files_of(self)
  for path, text in pairs(files) do all[path] = text end
  self.tried = try_of(all)
  watch(self)
  keep(self)
end

-- Something was saved. A device that is gone, or a version that is just starting, is no reason to forget it.
local function saved(self)
  local dev = self.dev
  dev.live:await_save() -- half of a save is no save
  while not dev.closing and untried(dev.live.version.files, self.tried) do
    local code = self:reload()
    if code ~= "EBUSY" and code ~= "ENODEV" then return end
    repeat task.sleep(PATIENCE) until dev.closing or not dev.gone
  end
end

--- Follows what is saved of a driver that runs: SIGHUP is heard from now on, files are watched.
---@param dev luio.Device
---@param options { keep: boolean?, watch: boolean?, tell: fun(report: luio.ReloadReport) }
---@param kept luio.KeptCode?  of M.load
---@return luio.Follower
function M.follow(dev, options, kept)
  local self = setmetatable({ dev = dev, options = options, good = dev.live.version, tried = kept and kept.tried }, Follower)
  self.from_kept = kept ~= nil
  keep(self)
  dev.live.on_report = options.tell
  function dev.live.on_staged(files) staged(self, files) end
  function dev.live.on_accept(accepted)
    self.good = accepted
    keep(self)
  end
  if options.watch then
    self.files = watcher.new({}, function() saved(self) end)
    watch(self)
  end
  self.signal = assert(uv.new_signal())
  self.signal:start("sighup", function() task.spawn(self.reload, self) end)
  self.signal:unref()
  return self
end

--- After a crash: tries what was saved and never tried, or says that it was.
function Follower:begin()
  if not self.from_kept or not version.differ(self.good.files) then return end
  if not untried(self.good.files, self.tried) then
    self.dev:warn(("driver %s: its files hold a version that did not last; the one before goes on, and the next save is tried"):format(
      self.dev.driver.name))
  elseif self.options.watch then
    task.spawn(saved, self)
  end
end

--- To be called now and then: a driver may require files late.
function Follower:look()
  if self.kept_files ~= count(self.good.files) then keep(self) end
end

--- Follows no more.
function Follower:close()
  if self.files then self.files:close() end
  self.signal:stop()
  task.dispose(self.signal)
end

return M
