--- A page of memory without a page behind it: a read beyond data at its end ends the process.

local ffi = require "ffi"

ffi.cdef [[
void *luio_page_mmap(void *, size_t, int, int, int, int64_t) __asm__("mmap64");
int luio_page_mprotect(void *, size_t, int) __asm__("mprotect");
int luio_page_munmap(void *, size_t) __asm__("munmap");
]]
local C = ffi.C
local PAGE, READ_WRITE, PRIVATE_ANONYMOUS = 4096, 3, 0x22

local Page = {}
Page.__index = Page

--- Bytes at the page's end, until the next.
---@param bytes string
---@return ffi.cdata*  uint8_t *
function Page:place(bytes)
  local at = self.base + (PAGE - #bytes)
  ffi.copy(at, bytes, #bytes)
  return at
end

function Page:close() C.luio_page_munmap(self.base, 2 * PAGE) end

local M = {}

function M.new()
  local base = ffi.cast("uint8_t *", C.luio_page_mmap(nil, 2 * PAGE, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0))
  assert(C.luio_page_mprotect(base + PAGE, PAGE, 0) == 0)
  return setmetatable({ base = base }, Page)
end

return M
