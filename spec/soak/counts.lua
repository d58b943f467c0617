--- Counters of a member of the long run, in a file that the conductor reads; and how a member hears that it is to end.

local uv = require "luv"

local M = {}

local Counts = {}
Counts.__index = Counts

--- Counters that begin at 0, or where the file has them.
---@param path string
---@param names string[]
---@return table  counters by name, and save()
function M.new(path, names)
  local self = setmetatable({}, Counts)
  local before = M.read(path)
  for _, name in ipairs(names) do self[name] = before[name] or 0 end
  rawset(self, "_path", path)
  return self
end

--- Writes them, in one piece.
function Counts:save()
  local parts = {}
  for name, value in pairs(self) do
    if name ~= "_path" then table.insert(parts, ("%s %d\n"):format(name, value)) end
  end
  local f = assert(io.open(self._path .. ".new", "w"))
  f:write(table.concat(parts))
  f:close()
  assert(os.rename(self._path .. ".new", self._path))
end

--- A file's counts; empty when it does not exist yet.
---@param path string
---@return table<string, integer>
function M.read(path)
  local list, f = {}, io.open(path)
  for name, value in (f and f:read "*a" or ""):gmatch "(%S+) (%d+)" do list[name] = tonumber(value) end
  if f then f:close() end
  return list
end

--- Whether SIGTERM has come.
---@return fun(): boolean
function M.until_told()
  local told, signal = false, assert(uv.new_signal())
  signal:start("sigterm", function()
    told = true
    signal:stop()
  end)
  signal:unref()
  return function() return told end
end

return M
