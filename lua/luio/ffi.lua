--- Loads the C runtime. Only this module does: it finds libluio.so, reads its declarations from it, checks the ABI, and turns
--- C errors into Lua's `nil, message, code`.
---
--- Modules require it as `runtime`: `runtime.C`, `runtime.err`, `runtime.failure()`.
---
--- The declarations are not repeated here. The library contains its header as text (luio_cdef), so
--- Lua always uses the library's own declarations. The library is found relative to this file:
--- build/ of the source tree, or lib/ of the prefix it was installed in. LUIO_LIBRARY names
--- another, e.g. one built with a sanitizer.

local ffi = require "ffi"

local M = {}

local ABI = 14 -- of this Lua code: LUIO_ABI in runtime/luio.h

local function here()
  local source = debug.getinfo(1, "S").source
  return source:match "^@(.*/)[^/]*$" or "./"
end

local function candidates()
  -- A model's thread has a state of its own, but must use the very library of its device.
  local given = package.preload["luio.library"]
  local named = given and given() or os.getenv "LUIO_LIBRARY"
  if named then return { named } end
  local dir = here()
  return {
    dir .. "../../build/libluio.so", -- source tree: lua/luio/
    dir .. "../../../../lib/libluio.so.0", -- PREFIX/share/lua/5.1/luio/
    "libluio.so.0", -- wherever the dynamic linker looks
  }
end

local function load()
  local tried = {}
  for _, path in ipairs(candidates()) do
    local ok, lib = pcall(ffi.load, path)
    if ok then return lib, path end
    tried[#tried + 1] = "  " .. tostring(lib)
  end
  error("luio: no libluio.so: run `make`, or name it in LUIO_LIBRARY. Tried:\n" .. table.concat(tried, "\n"), 0)
end

local C, path = load()
ffi.cdef "const char *luio_cdef(void); unsigned luio_abi(void);"
if C.luio_abi() ~= ABI then
  error(("luio: %s has ABI %d, these Lua files need %d: run `make`"):format(path, C.luio_abi(), ABI), 0)
end
ffi.cdef(ffi.string(C.luio_cdef()))

--- The C functions of runtime/luio.h, under their own names.
M.C = C

--- Path the library was loaded from.
M.path = path

--- Out-parameter for messages. One is enough: a state has one thread, and a message is taken
--- before the next call can write another.
M.err = ffi.new "luio_error"

--- The message and symbolic code of the last failed call.
---@return nil
---@return string message
---@return string code  e.g. "EBUSY"
function M.failure()
  return nil, ffi.string(M.err.message), ffi.string(C.luio_errno_name(M.err.code))
end

--- Whether there are descriptors left. A function asks this before it reports that a file is missing, because a process without
--- descriptors can't tell the difference.
---@param what string  the operation that fails without it
---@param n? integer   1
---@return boolean? ok
---@return string? message
---@return string? code  "EMFILE", "ENFILE"
function M.descriptors(what, n)
  if C.luio_need_descriptors(n or 1, what, M.err) < 0 then return M.failure() end
  return true
end

-- `require` looks here last.
table.insert(package.loaders, function(name)
  local ok, message = M.descriptors("load the module " .. name)
  if not ok then error(message, 0) end
end)

--- Seconds on the monotonic clock: the one events are stamped with.
---@return number
function M.now()
  return tonumber(C.luio_now()) / 1e9
end

--- Symbolic name of an errno value.
---@param code integer
---@return string
function M.errno_name(code)
  return ffi.string(C.luio_errno_name(code))
end

return M
