--- The machine's memory, past the runtime's reading of it: physical addresses and hugepages.

local ffi = require "ffi"
local files = require "spec.support.files"

local M = {}

local POOL = "/proc/sys/vm/nr_hugepages"

--- The physical address of a byte of this process.
---@param pointer ffi.cdata*
---@return integer
function M.physical(pointer)
  local at = tonumber(ffi.cast("uintptr_t", pointer))
  local f = assert(io.open("/proc/self/pagemap", "rb"))
  f:setvbuf "no"
  assert(f:seek("set", math.floor(at / 4096) * 8))
  local entry = ffi.cast("const uint64_t *", f:read(8))[0]
  f:close()
  return tonumber(entry % 2 ^ 55) * 4096 + at % 4096 -- bits 54:0 are the frame
end

--- How many hugepages of the default size are free.
---@return integer
function M.free_pages()
  return tonumber(files.read("/proc/meminfo"):match "HugePages_Free:%s+(%d+)")
end

--- Runs a function while there are no hugepages; what it returned.
---@generic T
---@param fn fun(): T...
---@return T ...
function M.without_hugepages(fn)
  local before = files.read(POOL)
  files.save(POOL, "0")
  local function done(ok, ...)
    files.save(POOL, before)
    if not ok then error(..., 0) end
    return ...
  end
  return done(pcall(fn))
end

return M
