--- The search path of drivers. A folder that holds a drivers/ folder is searched, in this order, if
---
---   1. a path into it was named ("luio run ~/card/drivers/mine"),
---   2. LUIO_DRIVERS names it (colon-separated),
---   3. it is luio's source tree, or the folder of `make install`,
---   4. it is the current folder, and no untrusted user could have put a driver there (luio.host.trust).
---
--- The first three are the user's choice, or as trusted as luio itself. The current folder is no choice, because root may
--- be in another user's home, for example. So it comes last. A relative entry of LUIO_DRIVERS depends on the current
--- folder, so the same rule applies.
---
--- A path is the caller's choice of a file, as with `dofile`: relative to the current folder, and not checked by luio.host.trust. A
--- user who types `luio run drivers/mine` knows the folder. A script may run in any folder, so `luio.load "drivers/edu"` means the
--- driver of that name, as `luio.load "edu"` does; `./drivers/edu` means the one in the current folder.
---
--- Loading this module also lets `require "drivers.edu.registers"` find the same files.

local runtime = require "luio.ffi"
local term = require "luio.text.term"
local trust = require "luio.host.trust"
local uv = require "luv"

local M = {}

-- Whether a file is there; and where that can't be known, or something else is there, that.
local function exists(path)
  local stat, _, code = uv.fs_stat(path) -- not opened: opening a FIFO would wait for its other end
  if stat then return stat.type == "file", stat.type ~= "file" and "no file but a " .. stat.type or nil end
  return false, code ~= "ENOENT" and code ~= "ENOTDIR" and code or nil
end

--- A path as messages have it: relative to the current folder, where it is below that.
---@param path string
---@return string
function M.shown(path)
  local cwd = (uv.cwd() or "?") .. "/" -- a folder that was removed has no name
  return path:sub(1, #cwd) == cwd and path:sub(#cwd + 1) or path
end

local added = {} -- folders that hold a drivers/ folder, from paths that were named

-- "a/b/../c" -> "a/c", for messages.
local function normal(path)
  local before
  repeat
    before = path
    path = path:gsub("[^/]+/%.%./", function(part) return part == "../../" and part or "" end, 1)
  until path == before
  return path
end

local function absolute(path)
  if path:sub(1, 1) ~= "/" then path = (uv.cwd() or ".") .. "/" .. path end
  return (normal(path .. "/"):gsub("/%./", "/"):gsub("(.)/+$", "%1"))
end

-- A source tree, wherever it was built: this file is lua/luio/driver/paths.lua there.
local function source_tree()
  local tree = debug.getinfo(1, "S").source:match "^@(.*)/lua/luio/driver/paths%.lua$"
  return tree and uv.fs_stat(tree .. "/drivers") and tree or nil
end

-- The folder that holds luio's own drivers/; nil: the library is the system's, and has none.
local function own(tree)
  if tree then return tree end
  local lib = runtime.path:match "^(.*)/[^/]*$"
  if not lib then return nil end
  if lib:match "/build/%a+$" then return lib .. "/../.." end -- build/asan/ -> source tree
  if lib:match "/build$" then return lib .. "/.." end -- build/ -> source tree
  -- `make dist`: PREFIX/lib/luio -> PREFIX/share/luio
  if lib:match "/lib/luio$" then return lib .. "/../../share/luio" end
  return lib .. "/../share/luio" -- PREFIX/lib -> PREFIX/share/luio
end
-- The folder that is the current one now: with a relative path in LUA_PATH luio itself was found from there.
local TREE = source_tree()
local OWN = own(TREE)
OWN, TREE = OWN and absolute(OWN), TREE and absolute(TREE)

--- The build folder of the checkout that luio is run from; nil: there is none.
---@return string?
function M.build()
  local stat = TREE and uv.fs_stat(TREE .. "/build")
  return stat and stat.type == "directory" and TREE .. "/build" or nil
end

--- A folder in which drivers are looked for.
---@class luio.DriverRoot
---@field dir string       absolute; its drivers/ is meant
---@field found boolean?   by where we are: each file in it is to pass luio.host.trust
---@field reason string?   why it is not looked at
---@field remedy string?

-- All folders in their order; those that are not looked at as well. The same folder counts once, as what it is first.
---@return luio.DriverRoot[]
local function candidates()
  local list, known = {}, {}
  local function add(dir, found)
    dir = absolute(dir)
    local key = uv.fs_realpath(dir) or dir
    if known[key] then return end
    known[key] = true
    local root = { dir = dir, found = found }
    if found then
      if not uv.fs_stat(dir .. "/drivers") then return end
      local real, reason, remedy = trust.folder(dir .. "/drivers")
      if real then root.dir = real:match "^(.*)/drivers$" or dir
      else root.reason, root.remedy = reason, remedy end
    end
    table.insert(list, root)
  end
  for _, dir in ipairs(added) do add(dir) end
  local relative = {}
  for dir in (os.getenv "LUIO_DRIVERS" or ""):gmatch "[^:]+" do
    if dir:sub(1, 1) == "/" then add(dir) else table.insert(relative, dir) end
  end
  if OWN then add(OWN) end
  if not uv.cwd() then return list end
  for _, dir in ipairs(relative) do add(dir, true) end
  add(".", true)
  return list
end

--- The folders that hold a drivers/ folder which luio came across and does not use, with the reason.
---@return luio.DriverRoot[]
function M.refused()
  local list = {}
  for _, root in ipairs(candidates()) do
    if root.reason then table.insert(list, root) end
  end
  return list
end

--- The current folder, when its drivers/ is looked at only because it is the current one.
---@return string? dir
function M.implicit_folder()
  for _, root in ipairs(candidates()) do
    if root.found and not root.reason and root.dir == uv.cwd() then return root.dir end
  end
end

-- A file below a root, if it is there and may be taken: its path, or why not.
local function file_in(root, name)
  local path = ("%s/drivers/%s"):format(root.dir, name)
  if root.reason then return nil, exists(path) and root.reason or nil end
  if not exists(path) then return nil end
  if not root.found then return path end
  return trust.file(path)
end

--- The driver's name that a script means: "drivers/edu" is "edu".
---@param name string
---@return string
function M.by_name(name)
  return name:match "^drivers/([^/]+)/?$" or name
end

--- Looks for drivers also where a named file lies, if that is .../drivers/NAME/FILE.
---@param path string
function M.named(path)
  local root = absolute(path):match "^(.*)/drivers/[^/]+/[^/]+$"
  if root then table.insert(added, root) end
end

--- The file of a driver or model: a path ("drivers/edu", "my/driver.lua"), or a name ("edu").
--- A path to .../drivers/NAME also makes `require "drivers.NAME.registers"` look there.
---@param name string
---@param file string  "init" or "model"
---@return string? path
---@return string? message  with every place that was looked at
---@return string? code     "ENOENT"; "EPERM": it is there, where others may write; "EMFILE", "EACCES": it can't be known
function M.find(name, file)
  local tried, refused, odd = {}, nil, nil
  local function try(path) -- relative where it may be
    local there, why = exists(path)
    if there then return path end
    odd = odd or why
    local said = M.shown(path) .. (why and (" (%s)"):format(why) or "")
    if said ~= tried[1] then table.insert(tried, said) end
  end
  local given
  if name:match "%.lua$" then
    given = name
  elseif name:match "/" then
    given = name:gsub("/$", "") .. "/" .. file .. ".lua"
  end
  if given and try(given) then
    M.named(given)
    return given
  end
  -- "drivers/edu" is meant from wherever luio was installed, too.
  local bare = name:match "^drivers/([^/]+)/?$" or not name:match "/" and not name:match "%.lua$" and name
  for _, root in ipairs(bare and candidates() or {}) do
    local path, reason = file_in(root, ("%s/%s.lua"):format(bare, file))
    if path then return path end
    if reason then
      refused = refused or { root = root, reason = reason, file = ("%s/drivers/%s/%s.lua"):format(root.dir, bare, file) }
    elseif not root.reason then
      try(("%s/drivers/%s/%s.lua"):format(root.dir, bare, file))
    end
  end
  local room, message, code = runtime.descriptors("look for " .. name)
  if not room then return nil, message, code end
  local what = ({ init = "driver", registers = "register map" })[file] or file
  if refused then
    return nil, ("%s \"%s\": %s is not taken, because %s; if you trust whoever can write there, LUIO_DRIVERS=%s names the folder"):format(
      what, name, refused.file, refused.reason, term.quoted(refused.root.dir)), "EPERM"
  end
  local form = odd and "%s \"%s\" can't be had (looked for %s)"
    or "there is no %s \"%s\" (looked for %s); LUIO_DRIVERS names more folders"
  return nil, form:format(what, name, table.concat(tried, ", ")), odd and odd:match "^E%u+$" or "ENOENT"
end

-- A name that ends in .lua is refused, because M.find would take it for a path; so are characters that are special to a
-- shell, because TAB inserts names into its line.
local function is_name(name)
  return name:match "^[%w_\128-\255][%w_.\128-\255-]*$" and not name:match "%.lua$"
end

--- The names of all drivers that have `file` in their folder, in the order of the alphabet.
---@param file string  "init", "model" or "registers"
---@return string[]
function M.names(file)
  local names, known = {}, {}
  for _, root in ipairs(candidates()) do
    local scan = not root.reason and uv.fs_scandir(root.dir .. "/drivers") or nil
    for name in function() return scan and uv.fs_scandir_next(scan) end do
      if not known[name] and is_name(name) and file_in(root, ("%s/%s.lua"):format(name, file)) then
        known[name] = true
        table.insert(names, name)
      end
    end
  end
  table.sort(names)
  return names
end

-- The files being run, innermost last, by coroutine, so that a coroutine abandoned in the middle does not affect the others.
local running = setmetatable({}, { __mode = "k" })

local function loading()
  local thread = coroutine.running() or running
  running[thread] = running[thread] or {}
  return running[thread]
end

--- The file that is being run by M.run, innermost first: what `return luio.registers { ... }` can't
--- tell from the stack, because a tail call leaves no trace there.
---@return string?
function M.current()
  local list = loading()
  return list[#list]
end

--- Runs a chunk that was loaded from a file. Raises what it raises.
---@param path string
---@param chunk function
---@param ... any  its arguments
---@return any  its first result
function M.run(path, chunk, ...)
  local list = loading()
  table.insert(list, path)
  local ok, result = pcall(chunk, ...)
  table.remove(list)
  if not ok then error(result, 0) end
  return result
end

local function searcher(name)
  local file = name:match "^drivers%.(.*)$"
  if not file then return nil end
  local tried = {}
  for _, root in ipairs(candidates()) do
    for _, suffix in ipairs { ".lua", "/init.lua" } do
      local relative = file:gsub("%.", "/") .. suffix
      local path, reason = file_in(root, relative)
      if path then
        local chunk, message = loadfile(M.shown(path))
        if not chunk then error(message, 0) end
        return function(...) return M.run(M.shown(path), chunk, ...) end
      end
      tried[#tried + 1] = reason and ("\n\tnot '%s/drivers/%s': %s"):format(root.dir, relative, reason)
        or ("\n\tno file '%s/drivers/%s'"):format(root.dir, relative)
    end
  end
  return table.concat(tried)
end
table.insert(package.loaders, 2, searcher)

--- Lets `require` find modules beside a named file (a script): after all other places, and only with the same trusted
--- writers as that file (luio.host.trust). The current folder is not searched.
---@param file string
function M.add_folder_of(file)
  local real = uv.fs_realpath(file)
  local dir = real and real:match "^(.*)/[^/]*$"
  if not dir then return end
  local writers
  table.insert(package.loaders, function(name)
    writers = writers or trust.writers(real)
    local tried = {}
    for _, suffix in ipairs { ".lua", "/init.lua" } do
      local path = ("%s/%s%s"):format(dir, name:gsub("%.", "/"), suffix)
      local safe, reason
      if exists(path) then safe, reason = trust.file(path, writers) end
      if safe then
        local chunk, message = loadfile(M.shown(path))
        if not chunk then error(message, 0) end
        return chunk
      end
      tried[#tried + 1] = reason and ("\n\tnot '%s': %s"):format(path, reason) or ("\n\tno file '%s'"):format(path)
    end
    return table.concat(tried)
  end)
end

return M
