--- Earlier input, across sessions: ${XDG_STATE_HOME:-~/.local/state}/luio/history.
---
--- A text file, an entry a line. An entry of several lines has a tab before each but its first, and no
--- entry begins with one. Sessions that run at the same time append their entries, one write per entry,
--- so no line is lost. A file that has grown beyond its bound is cut when it is next opened. Only the
--- user can read it (0600, its folder 0700). Root keeps none where another user could put a link (HOME
--- is another's after `su`).

local runtime = require "luio.ffi"
local output = require "luio.tool.output"
local trust = require "luio.host.trust"
local uv = require "luv"

local M = {}

M.BOUND = 10000 -- entries

local OWN = tonumber("600", 8) -- the user's alone

---@class luio.History
---@field entries string[]  oldest first
---@field note string?      why nothing will be kept
---@field package path string?
local History = {}
History.__index = History

local function default_path()
  local state = os.getenv "XDG_STATE_HOME" or ""
  if state:sub(1, 1) ~= "/" then -- relative ones are to be ignored, says the XDG specification
    local home = os.getenv "HOME" or uv.os_homedir() or ""
    if home == "" then return nil end
    state = home .. "/.local/state"
  end
  return state .. "/luio/history"
end

local function make_folders(path)
  local at = ""
  for part in path:gmatch "/([^/]+)" do
    at = at .. "/" .. part
    if not uv.fs_stat(at) then
      local ok, message = uv.fs_mkdir(at, tonumber("700", 8))
      if not ok then return nil, message end
    end
  end
  return true
end

local function encode(entry)
  return (entry:gsub("\n", "\n\t")) .. "\n"
end

local function decode(text)
  local entries = {}
  for line in text:gmatch "[^\n]+" do
    local more = line:match "^\t(.*)$"
    if more and entries[1] then
      entries[#entries] = entries[#entries] .. "\n" .. more
    else
      table.insert(entries, more or line)
    end
  end
  return entries
end

local function read_all(path)
  local f, message, code = io.open(path, "r")
  if not f then return code == 2 and "" or nil, message end -- ENOENT
  local text
  text, message = f:read "*a"
  f:close()
  return text, message
end

-- libuv has no name for some, EDQUOT above all.
local function cause(message)
  return (message:gsub("Unknown system error %-(%d+)", function(number) return runtime.errno_name(tonumber(number)) end))
end

-- Why that file is not to be opened.
local function fault_of(path)
  local dir, stat = path, uv.fs_stat(path)
  if stat and stat.type ~= "file" then return path .. " is no file" end -- opening a FIFO would wait for its other end
  if uv.getuid() ~= 0 then return nil end
  repeat dir = dir:match "^(.+)/[^/]*$" or "/" until uv.fs_lstat(dir)
  local here = uv.fs_stat(dir)
  if not here or here.type ~= "directory" then return nil end -- make_folders says so
  local real, reason = trust.folder(dir)
  if real and uv.fs_lstat(path) then real, reason = trust.file(path) end
  return not real and reason or nil
end

--- Opens the history. Where it can't be kept, `note` says why, and entries live as long as the session.
---@param path? string  of the file; nil: the user's own
---@return luio.History
function M.open(path)
  path = path or default_path()
  local self = setmetatable({ entries = {}, path = path }, History)
  local function give_up(message)
    self.note = ("the history is not kept: %s"):format(message)
    self.path = nil
    return self
  end
  if not path then return give_up "there is no HOME" end
  local fault = fault_of(path)
  if fault then return give_up(fault) end
  local ok, message = make_folders(path:match "^(.*)/[^/]*$")
  if not ok then return give_up(message) end
  local text
  text, message = read_all(path)
  if not text then return give_up(message) end
  local all = decode(text)
  local too_many, lines = math.max(0, #all - M.BOUND), {}
  for i = too_many + 1, #all do
    table.insert(self.entries, all[i])
    table.insert(lines, encode(all[i]))
  end
  if too_many > 0 then
    ok, message = output.file(path, table.concat(lines), OWN)
    if not ok then return give_up(message) end
  end
  local fd
  fd, message = uv.fs_open(path, "a", OWN)
  if not fd then return give_up(message) end
  uv.fs_close(fd)
  return self
end

--- Keeps an entry, unless it equals the one before.
---@param text string
---@return string? entry  as kept; nil: not new
---@return string? note   when it could not be written; once
function History:add(text)
  local entry = text:gsub("%s+$", ""):gsub("^%s+", ""):gsub("%z", "")
  if entry == "" or entry == self.entries[#self.entries] then return nil end
  table.insert(self.entries, entry)
  if not self.path then return entry end
  local line = encode(entry)
  local fd, message = uv.fs_open(self.path, "a", OWN)
  local n
  if fd then
    n, message = uv.fs_write(fd, line)
    local stat = n and n < #line and uv.fs_fstat(fd)
    if stat then uv.fs_ftruncate(fd, stat.size - n) end -- else the next entry would be of this one
    uv.fs_close(fd)
  end
  if n == #line then return entry end
  self.path = nil
  return entry, ("the history is no longer kept: %s"):format(message and cause(message) or "the file system is full")
end

return M
