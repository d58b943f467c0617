--- Where drivers are: ./drivers, the folders named in LUIO_DRIVERS (colon-separated; each holds a
--- drivers/ folder), the source tree, and where `make install` puts them. Loading this module also
--- lets `require "drivers.edu.registers"` find the same files.

local door = require "luio.ffi"
local uv = require "luv"

local M = {}

local function exists(path)
  local f = io.open(path, "r")
  if not f then return false end
  local is_file = f:read(0) ~= nil or f:seek "end" == 0 -- a folder opens, too, but can't be read
  f:close()
  return is_file
end

--- A path as messages have it: relative to the current folder, where it is below that.
---@param path string
---@return string
function M.shown(path)
  local cwd = uv.cwd() .. "/"
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

local function roots()
  local list, known = {}, {}
  local function add(dir)
    dir = normal(dir .. "/"):gsub("/$", "")
    if dir == "" then dir = "." end
    if not known[dir] then
      known[dir] = true
      table.insert(list, dir)
    end
  end
  add "."
  for _, dir in ipairs(added) do add(dir) end
  for dir in (os.getenv "LUIO_DRIVERS" or ""):gmatch "[^:]+" do add(dir) end
  local lib = door.path:match "^(.*)/[^/]*$"
  if lib then
    if lib:match "/build/%a+$" then
      add(lib .. "/../..") -- build/asan/ -> source tree
    elseif lib:match "/build$" then
      add(lib .. "/..") -- build/ -> source tree
    elseif lib:match "/lib/luio$" then
      add(lib .. "/../../share/luio") -- `make dist`: PREFIX/lib/luio -> PREFIX/share/luio
    else
      add(lib .. "/../share/luio") -- PREFIX/lib -> PREFIX/share/luio
    end
  end
  return list
end

--- The file of a driver or model: a path ("drivers/edu", "my/driver.lua"), or a name ("edu").
--- A path to .../drivers/NAME also makes `require "drivers.NAME.registers"` look there.
---@param name string
---@param file string  "init" or "model"
---@return string? path
---@return string? message  with every place that was looked at
---@return string? code     "ENOENT"; "EMFILE": it can't be known
function M.find(name, file)
  local tried = {}
  if name:match "%.lua$" then
    tried[1] = name
  elseif name:match "/" then
    tried[1] = name:gsub("/$", "") .. "/" .. file .. ".lua"
  end
  -- "drivers/edu" is meant from wherever luio was installed, too.
  local bare = name:match "^drivers/([^/]+)/?$" or not name:match "/" and not name:match "%.lua$" and name
  for _, root in ipairs(bare and roots() or {}) do
    table.insert(tried, ("%s/drivers/%s/%s.lua"):format(root, bare, file))
  end
  for _, path in ipairs(tried) do
    if exists(path) then
      local root = path:match "^(.*)/drivers/[^/]+/[^/]+$"
      if root and root ~= "." then table.insert(added, root) end
      return path
    end
  end
  local room, message, code = door.descriptors("look for " .. name)
  if not room then return nil, message, code end
  local what = ({ init = "driver", registers = "register map" })[file] or file
  return nil, ("there is no %s \"%s\" (looked for %s); LUIO_DRIVERS names more folders"):format(
    what, name, table.concat(tried, ", ")), "ENOENT"
end

--- The names of all drivers that have `file` in their folder, in the order of the alphabet.
---@param file string  "init", "model" or "registers"
---@return string[]
function M.names(file)
  local names, known = {}, {}
  for _, root in ipairs(roots()) do
    local scan = uv.fs_scandir(root .. "/drivers")
    for name in function() return scan and uv.fs_scandir_next(scan) end do
      if not known[name] and exists(("%s/drivers/%s/%s.lua"):format(root, name, file)) then
        known[name] = true
        table.insert(names, name)
      end
    end
  end
  table.sort(names)
  return names
end

local loading = {}

--- The file that is being run by M.run, innermost first: what `return luio.registers { ... }` can't
--- tell from the stack, because a tail call leaves no trace there.
---@return string?
function M.current()
  return loading[#loading]
end

--- Runs a chunk that was loaded from a file. Raises what it raises.
---@param path string
---@param chunk function
---@param ... any  its arguments
---@return any  its first result
function M.run(path, chunk, ...)
  table.insert(loading, path)
  local ok, result = pcall(chunk, ...)
  table.remove(loading)
  if not ok then error(result, 0) end
  return result
end

local function searcher(name)
  if not name:match "^drivers%." then return nil end
  local tried = {}
  for _, root in ipairs(roots()) do
    for _, suffix in ipairs { ".lua", "/init.lua" } do
      local path = root .. "/" .. name:gsub("%.", "/") .. suffix
      if exists(path) then
        local chunk, message = loadfile(path)
        if not chunk then error(message, 0) end
        return function(...) return M.run(path, chunk, ...) end
      end
      tried[#tried + 1] = ("\n\tno file '%s'"):format(path)
    end
  end
  return table.concat(tried)
end
-- Before "./?.lua", which would find ./drivers, too.
table.insert(package.loaders, 2, searcher)

return M
