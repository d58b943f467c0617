--- Memory that two processes share, when one of them is not trusted.
---
--- A region is a file that the client made and may go on changing. A process that maps a file dies of SIGBUS when the file
--- gets shorter. So a region must be a memfd that is sealed against shrinking. DPDK and libmemif seal theirs; others are
--- sealed here, where their maker allowed that. The size is read afterwards. Files of file systems have no seals, and their
--- pages may come arbitrarily late, so they are refused. Hugepages are refused, too: holes can be punched into sealed ones, and
--- a page that is missing afterwards is a SIGBUS when no hugepage is free. In a memfd of ordinary pages a hole is zeros.
---
--- A page counts as memory of the process that touches it first: hence the limit to a region's size.
---
--- A client's eventfd is checked, too: it is never read or written (runtime/waker.c, and Poller:add's `edge`).

local ffi = require "ffi"
local posix = require "luio.posix"
local uv = require "luv"

local M = {}

local ADD_SEALS, GET_SEALS, SEAL_SHRINK, SEAL_GROW, SEAL_SEAL = 1033, 1034, 2, 4, 1
local TMPFS = 0x01021994
local READ_WRITE, SHARED, DONTFORK = 3, 1, 10

---@class luio.memif.Region
---@field base ffi.cdata*  uint8_t *
---@field size integer
---@field fd integer?      of one that is ours
local Region = {}
Region.__index = Region

--- Unmaps it. Idempotent.
function Region:close()
  if self.base then posix.munmap(self.base, self.size) end
  if self.fd then posix.close(self.fd) end
  self.base, self.fd = nil, nil
end

local function map(fd, size)
  local base = posix.mmap(nil, size, READ_WRITE, SHARED, fd, 0)
  if base == ffi.cast("void *", -1) then return posix.failure "mmap" end
  posix.madvise(base, size, DONTFORK) -- a porter is not to keep a client's memory
  return setmetatable({ base = ffi.cast("uint8_t *", base), size = size }, Region)
end

-- The fault of a descriptor for a region of that size.
local function fault_of(fd, size)
  local seals = posix.fcntl(fd, GET_SEALS, 0)
  if seals < 0 then return "it is no memfd" end
  local stat = uv.fs_statfs("/proc/self/fd/" .. fd)
  if not stat or stat.type ~= TMPFS then return "it is not of ordinary pages: hugepages can be taken away" end
  if bit.band(seals, SEAL_SHRINK) == 0 and posix.fcntl(fd, ADD_SEALS, SEAL_SHRINK) < 0 then
    return "its memfd is not sealed against shrinking (F_SEAL_SHRINK)"
  end
  local is = uv.fs_fstat(fd)
  if not is or is.size < size then return ("its memfd has %d bytes, not %d"):format(is and is.size or 0, size) end
end

--- Maps what another process offers as a region.
---@param fd integer    of a porter; closed here, whatever becomes of it
---@param size integer  as that process says
---@return luio.memif.Region?
---@return string? why
function M.accept(fd, size)
  local why, region = fault_of(fd, size)
  if not why then region, why = map(fd, size) end
  posix.close(fd)
  if not region then return nil, why end
  return region
end

--- Makes a region of our own, sealed.
---@param size integer
---@return luio.memif.Region?
---@return string? message
---@return string? code
function M.create(size)
  local fd = posix.memfd_create("luio-memif", 3) -- close-on-exec, may be sealed
  if fd < 0 then return posix.failure "memfd_create" end
  local region, message, code
  if posix.ftruncate(fd, size) < 0 or posix.fcntl(fd, ADD_SEALS, SEAL_SHRINK + SEAL_GROW + SEAL_SEAL) < 0 then
    region, message, code = posix.failure "memfd"
  else
    region, message, code = map(fd, size)
  end
  if not region then
    posix.close(fd)
    return nil, message, code
  end
  region.fd = fd
  return region
end

--- Whether a descriptor is an eventfd: by its name, which no other kind of file can have; asking touches nothing.
---@param fd integer
---@return boolean
function M.is_eventfd(fd)
  return uv.fs_readlink("/proc/self/fd/" .. fd) == "anon_inode:[eventfd]"
end

--- Makes an eventfd.
---@return integer? fd
---@return string? message
---@return string? code
function M.eventfd()
  local fd = posix.eventfd(0, 0x80800)
  if fd < 0 then return posix.failure "eventfd" end
  return fd
end

return M
