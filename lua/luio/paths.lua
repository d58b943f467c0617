--- Where drivers are: ./drivers, the folders named in LUIO_DRIVERS (colon-separated; each holds a
--- drivers/ folder), the source tree, and where `make install` puts them. Loading this module also
--- lets `require "drivers.edu.registers"` find the same files.

local door = require "luio.ffi"

local M = {}

local function exists(path)
  local f = io.open(path, "r")
  if not f then return false end
  local is_file = f:read(0) ~= nil or f:seek "end" == 0 -- a folder opens, too, but can't be read
  f:close()
  return is_file
end

local function roots()
  local list = { "." }
  for dir in (os.getenv "LUIO_DRIVERS" or ""):gmatch "[^:]+" do table.insert(list, dir) end
  local lib = door.path:match "^(.*)/[^/]*$"
  if lib then
    table.insert(list, lib .. "/..") -- build/ -> source tree
    table.insert(list, lib .. "/../..") -- build/asan/ -> source tree
    table.insert(list, lib .. "/../share/luio") -- PREFIX/lib -> PREFIX/share/luio
  end
  return list
end

--- The file of a driver or model: a path ("drivers/edu", "my/driver.lua"), or a name ("edu").
---@param name string
---@param file string  "init" or "model"
---@return string? path
---@return string? message  with every place that was looked at
---@return string? code     "ENOENT"
function M.find(name, file)
  local tried = {}
  if name:match "%.lua$" then
    tried[1] = name
  elseif name:match "/" then
    tried[1] = name .. "/" .. file .. ".lua"
  else
    for _, root in ipairs(roots()) do
      table.insert(tried, ("%s/drivers/%s/%s.lua"):format(root, name, file))
    end
  end
  for _, path in ipairs(tried) do
    if exists(path) then return path end
  end
  local what = file == "init" and "driver" or file
  return nil, ("there is no %s \"%s\"; looked for %s"):format(what, name, table.concat(tried, ", ")), "ENOENT"
end

local function searcher(name)
  if not name:match "^drivers%." then return nil end
  local tried = {}
  for _, root in ipairs(roots()) do
    for _, suffix in ipairs { ".lua", "/init.lua" } do
      local path = root .. "/" .. name:gsub("%.", "/") .. suffix
      if exists(path) then
        local chunk, message = loadfile(path)
        return chunk or error(message, 0)
      end
      tried[#tried + 1] = ("\n\tno file '%s'"):format(path)
    end
  end
  return table.concat(tried)
end
table.insert(package.loaders, searcher)

return M
