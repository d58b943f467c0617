--- Functions that the parts of the conformance spec share.

local assert = require "luassert"
local runtime = require "luio.ffi"
local ffi = require "ffi"
local C, err = runtime.C, runtime.err

local M = {}

M.WIDTHS = { 8, 16, 32, 64 }

--- That a call raises, with these words.
---@param pattern string
---@param fn function
function M.refused(pattern, fn, ...)
  local ok, message = pcall(fn, ...)
  assert.is_false(ok, "it was not refused: " .. pattern)
  assert.matches(pattern, message)
end

--- The numbers of the regions, in order.
---@param subject luio.BackendConformance
---@return integer[]
function M.numbers(subject)
  local list = {}
  for i = 0, 5 do
    if subject.regions[i] then table.insert(list, i) end
  end
  return list
end

--- The widths that its kind has.
---@param region luio.BackendRegion
---@return table<integer, boolean>
function M.widths_of(region)
  local has = {}
  for _, width in ipairs(region.widths or M.WIDTHS) do has[width] = region.widths or region.kind ~= "port" or width < 64 end
  return has
end

--- An access by luio_region_read and luio_region_write, which serve every kind of region: 0 or the error's name.
---@param r luio.Region
---@param verb "read"|"write"
---@return string|integer
function M.checked(r, verb, offset, width, value)
  local rc
  if verb == "read" then rc = C.luio_region_read(r.handle, offset, width, ffi.new "uint64_t[1]", err)
  else rc = C.luio_region_write(r.handle, offset, width, value, err) end
  return rc < 0 and runtime.errno_name(-rc) or 0
end

return M
