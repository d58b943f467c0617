--- Watches a set of files: reports when the text of one has changed.
---
--- Most editors replace a file instead of writing into it. So libuv (inotify) watches folders, and a change counts when a
--- file's text differs. Events within a moment are one change; a folder with constant changes is checked every second.
--- luio.reload.version checks that a file has been saved completely.

local handles = require "luio.loop.handles"
local task = require "luio.loop.task"
local wait_slot = require "luio.loop.wait_slot"
local uv = require "luv"
local now = require("luio.ffi").now

local M = {}

local DEBOUNCE = 0.03 -- seconds: a save is several events, and a formatter may save again at once
local LONGEST = 1 -- seconds of them

---@class luio.FileWatch
---@field package folders table<string, { event: userdata, inode: integer? }>  path -> uv_fs_event_t, of that folder
local Watcher = {}
Watcher.__index = Watcher

-- The folder of a file; where that is not there, the next one above, in which it would come to be.
local function folder_of(path)
  local folder = path
  repeat
    folder = folder:match "^(.+)/[^/]*$" or folder:match "^/" or "."
    local stat = uv.fs_stat(folder)
    if stat and stat.type == "directory" then return folder, stat.ino end
  until folder == "/" or folder == "."
  return folder
end

local function watch_folder(self, folder, inode)
  local event = assert(uv.new_fs_event())
  local ok, message = event:start(folder, {}, function() self:folder_changed() end)
  if not ok then
    handles.dispose(event)
    return nil, message
  end
  event:unref() -- a caller that waits for a change has a task that waits
  self.folders[folder] = { event = event, inode = inode }
  return true
end

--- Watches the folders of these files.
---@param files table<string, any>  by path
---@param fn fun()                  called after something in them changed, from a task
---@return luio.FileWatch
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
  for path in pairs(files) do
    local folder, inode = folder_of(path)
    wanted[folder] = inode or 0
  end
  for folder, watched in pairs(self.folders) do
    if wanted[folder] ~= watched.inode then -- another one may be in its place
      watched.event:stop()
      handles.dispose(watched.event)
      self.folders[folder] = nil
    end
  end
  for folder, inode in pairs(wanted) do
    if not self.folders[folder] then
      local ok, message = watch_folder(self, folder, inode)
      if not ok then failure = failure or ("%s can't be watched: %s"):format(folder, message) end
    end
  end
  return failure
end

-- Something happened in a folder.
---@private
function Watcher:folder_changed()
  if self.waiting then
    self.again = true
    return
  end
  self.waiting = task.spawn(function()
    local deadline = now() + LONGEST
    repeat
      self.again = nil
      wait_slot.sleep(DEBOUNCE)
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
