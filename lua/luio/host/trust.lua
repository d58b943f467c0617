--- Checks that only trusted users can change a file or a folder, for Lua files that luio finds by itself.
---
--- A loaded file runs with all rights of the user who calls luio, mostly root's. A named file is the user's choice. A file
--- that luio finds by itself (the current folder's drivers/, a module or an overlay beside a named file) is loaded only if no
--- untrusted user could have created or changed it:
---
--- * for the current folder, root and the calling user are trusted. They own each folder of the path, from / down, and the
---   file, and neither the group nor others may write to them;
--- * for a file beside a named file, the users who can change the named file are trusted, too, because they already
---   control the code that runs. So a driver in another user's checkout finds its modules when root names it, and one
---   in /tmp does not find /tmp/bit.lua of another user.
---
--- A folder with the sticky bit (/tmp) may be in the path, because other users can't rename a trusted user's entry there.
--- It can't be the searched folder, because others can add files to it. Symbolic links are followed here, one by one, and
--- their folders are checked, too. An access control list needs no check of its own, because the group bits show the most
--- that any of its entries grants. A group counts as others, even a user's own group of one, because a group's members
--- can't be known for certain (NSS need not enumerate), and `chmod g-w` is one command.
---
--- There is no gap between the check and the use. The check goes from / downwards, and reads an entry only after it has shown
--- that others can't write to the entry's folder. So others can't replace a checked entry, then or later, and a later open
--- reaches the same file.

local bit = require "bit"
local posix = require "luio.posix"
local term = require "luio.text.term"
local uv = require "luv"

local M = {}

local TYPE, DIRECTORY, REGULAR, LINK, SOCKET = 0xf000, 0x4000, 0x8000, 0xa000, 0xc000 -- S_IFMT and its values, stat(2)
local STICKY, GROUP_WRITES, OTHERS_WRITE = 0x200, 0x10, 0x2
local MAX_LINKS = 40 -- as the kernel's

---@class luio.Writers  the users who may change a file
---@field uids table<integer, boolean>
---@field gids table<integer, boolean>
---@field all boolean?  anybody

---@return luio.Writers
local function trusted()
  return { uids = { [0] = true, [posix.geteuid()] = true }, gids = {} }
end

local function whose(uid)
  return uid == 0 and "root's" or ("user %d's"):format(uid)
end

local function has(mode, bits) return bit.band(mode, bits) ~= 0 end

--- The reason why untrusted users could change a file; nil: they can't. It uses only its arguments, and reads no file.
---@param stat { uid: integer, gid: integer, mode: integer }
---@param writers luio.Writers  the trusted users
---@param passing boolean?      a folder of the path: a sticky one protects its entries
---@return string? reason
---@return string? remedy       "chmod g-w", where that is one
function M.fault(stat, writers, passing)
  if writers.all then return nil end
  if not writers.uids[stat.uid] then return "is " .. whose(stat.uid) end
  local sticky = has(stat.mode, STICKY)
  if passing and sticky then return nil end
  if has(stat.mode, OTHERS_WRITE) then return "may be written by anybody", not sticky and "chmod go-w" or nil end
  if has(stat.mode, GROUP_WRITES) and not writers.gids[stat.gid] then
    return ("may be written by group %d"):format(stat.gid), not sticky and "chmod g-w" or nil
  end
end

-- Walks a path from /, through symbolic links. Calls `check(path, stat, passing)` for each entry, for the last one with
-- `passing` false; a result of check ends the walk and is returned. Otherwise returns the path without links, and its stat.
local function walk(path, check)
  if path:sub(1, 1) ~= "/" then path = (uv.cwd() or "") .. "/" .. path end
  if path:sub(1, 1) ~= "/" then return nil, "the current folder can't be reached from /" end
  local rest, at, links = {}, "", 0
  local function push(names) -- those of a path, before the remaining ones
    local list = {}
    for name in names:gmatch "[^/]+" do table.insert(list, name) end
    for i = #list, 1, -1 do table.insert(rest, list[i]) end
  end
  push(path)
  local stat, message = uv.fs_lstat "/"
  if not stat then return nil, message end
  local fault, remedy = check("/", stat, true)
  while not fault and rest[1] do
    local name = table.remove(rest)
    if name == ".." then
      at = at:gsub("/[^/]*$", "")
    elseif name ~= "." then
      local here = at .. "/" .. name
      stat, message = uv.fs_lstat(here)
      if not stat then return nil, message end
      if bit.band(stat.mode, TYPE) == LINK then
        links = links + 1
        local target = links <= MAX_LINKS and uv.fs_readlink(here)
        if not target then return nil, here .. ": too many symbolic links" end
        -- Its mode says nothing; its owner counts, for in a sticky folder anybody may have made it.
        fault, remedy = check(here, { uid = stat.uid, gid = stat.gid, mode = LINK }, true)
        if target:sub(1, 1) == "/" then at = "" end
        push(target)
      else
        at = here
        fault, remedy = check(here, stat, bit.band(stat.mode, TYPE) == DIRECTORY)
      end
    end
  end
  if at == "" then at = "/" end
  if not fault then
    stat, message = uv.fs_lstat(at) -- behind ".." it is another than the last one
    if not stat then return nil, message end
    fault, remedy = check(at, stat, false)
  end
  if fault then return nil, fault, remedy end
  return at, stat
end

local KINDS = { [REGULAR] = "file", [DIRECTORY] = "folder", [SOCKET] = "socket" }

local function check(path, writers, kind)
  local real, stat, remedy = walk(path, function(here, stat, passing)
    local reason, command = M.fault(stat, writers, passing)
    if not reason then return nil end
    return ("%s %s"):format(here, reason), command and ("%s %s"):format(command, term.quoted(here))
  end)
  if not real then return nil, stat, remedy end
  if bit.band(stat.mode, TYPE) ~= kind then return nil, ("%s is no %s"):format(real, KINDS[kind]) end
  return real
end

--- True if only root and this user can change a folder's entries.
---@param path string
---@return string? real   the path without links
---@return string? reason "/srv/x may be written by anybody"; or why it can't be read
---@return string? remedy a command
function M.folder(path)
  return check(path, trusted(), DIRECTORY)
end

--- True if only root, this user and `writers` can change a file or replace it.
---@param path string
---@param writers? luio.Writers
---@return string? real
---@return string? reason
---@return string? remedy
function M.file(path, writers)
  return check(path, writers or trusted(), REGULAR)
end

--- True if only root and this user can connect to a socket or replace it.
---@param path string
---@return string? real
---@return string? reason
---@return string? remedy
function M.socket(path)
  return check(path, trusted(), SOCKET)
end

--- The users who could change or replace a file, including root and this user.
---@param path string
---@return luio.Writers
function M.writers(path)
  local w = trusted()
  walk(path, function(_, stat, passing)
    w.uids[stat.uid] = true
    if passing and has(stat.mode, STICKY) then return end
    if has(stat.mode, OTHERS_WRITE) then w.all = true end
    if has(stat.mode, GROUP_WRITES) then w.gids[stat.gid] = true end
  end)
  return w
end

return M
