--- Files that are saved: tells when one of a set has another text.
---
--- Most editors don't write into a file, they put another in its place: so it is folders that are watched, by
--- libuv (inotify), and a change counts when a file's text differs. What comes within a moment is one change, and a folder
--- in which something changes all the time is looked at every second. Whether a file was saved to its end is
--- luio.version's to know.

local task = require "luio.task"
local uv = require "luv"
local now = require("luio.ffi").now

local M = {}

local DEBOUNCE = 0.03 -- seconds: a save is several events, and a formatter may save again at once
local LONGEST = 1 -- seconds of them

---@class luio.Watcher.Files
---@field package folders table<string, userdata>  path -> uv_fs_event_t
local Watcher = {}
Watcher.__index = Watcher

local function folder_of(path)
  return path:match "^(.*)/[^/]*$" or "."
end

local function watch_folder(self, folder)
  local event = assert(uv.new_fs_event())
  local ok, message = event:start(folder, {}, function() self:stirred() end)
  if not ok then
    task.dispose(event)
    return nil, message
  end
  event:unref() -- who waits for a change has a task that does
  self.folders[folder] = event
  return true
end

--- Watches the folders of these files.
---@param files table<string, any>  by path
---@param fn fun()                  called after something in them changed, from a task
---@return luio.Watcher.Files
---@return string? message          the first folder that can't be watched, and why
function M.new(files, fn)
  local self = setmetatable({ folders = {}, fn = fn }, Watcher)
  return self, self:set(files)
end

--- Watches these files from now on.
---@param files table<string, any>
---@return string? message
function Watcher:set(files)
  local wanted, failure = {}, nil
  for path in pairs(files) do wanted[folder_of(path)] = true end
  for folder, event in pairs(self.folders) do
    if not wanted[folder] then
      event:stop()
      task.dispose(event)
      self.folders[folder] = nil
    end
  end
  for folder in pairs(wanted) do
    if not self.folders[folder] then
      local ok, message = watch_folder(self, folder)
      if not ok then failure = failure or ("%s can't be watched: %s"):format(folder, message) end
    end
  end
  return failure
end

-- Something happened in a folder.
function Watcher:stirred()
  if self.waiting then
    self.again = true
    return
  end
  self.waiting = task.spawn(function()
    local deadline = now() + LONGEST
    repeat
      self.again = nil
      task.sleep(DEBOUNCE)
    until not self.again or now() >= deadline
    self.waiting = nil
    if not self.closed then self.fn() end
  end)
end

--- Watches no more. Idempotent.
function Watcher:close()
  if self.closed then return end
  self.closed = true
  self:set {}
  if self.waiting then self.waiting:cancel() end
end

return M
