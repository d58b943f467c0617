--- The machine's memory, past the runtime's reading of it: physical addresses and hugepages.

local ffi = require "ffi"
local files = require "spec.support.files"
local wait = require "spec.support.wait"

local M = {}

local POOL = "/proc/sys/vm/nr_hugepages"

ffi.cdef "long syscall(long, ...);"
local MOVE_PAGES, MOVE_ALL = 279, 4 -- x86-64's number; MPOL_MF_MOVE_ALL: shared ones, too

-- move_pages(2) for one page; without a node it only asks.
local function move_pages(pid, address, node)
  local at, to, status = ffi.new("uint64_t[1]", address), ffi.new("int[1]", node or 0), ffi.new("int[1]", -1)
  ffi.C.syscall(MOVE_PAGES, ffi.cast("long", pid), 1ULL, at, node and to or nil, status, ffi.cast("long", MOVE_ALL))
  return status[0]
end

--- The NUMA node that a page of a process is on.
---@param pid integer  0: this one
---@param address integer
---@return integer  negative: none
function M.node(pid, address) return move_pages(pid, address) end

--- Asks the kernel to move a page to another node, as an administrator's tool would.
---@param pid integer
---@param address integer
---@param node integer
---@return boolean moved
function M.move(pid, address, node)
  move_pages(pid, address, node)
  return move_pages(pid, address) == node
end

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

--- Waits until so many hugepages are free. The kernel unpins a killed process's memory (runtime/dma_pin.c) a moment
--- after the process is gone. The loop stands still meanwhile.
---@param n integer
function M.wait_free(n)
  local left
  if not wait.still(5 * wait.HANG, function()
    left = M.free_pages()
    return left == n
  end) then error(("%d hugepages are free, not %d, after %d s"):format(left, n, 5 * wait.HANG), 2) end
end

--- Runs a function while there are no hugepages, and returns its results.
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
