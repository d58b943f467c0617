--- The process that spec/support/umockdev.lua starts under umockdev:
---
---     luajit umockdev_child.lua CODE TREE_FILE
---
--- runs CODE and prints its results, as a Lua chunk. CODE sees, besides Lua's own globals:
---
---     luio               the library
---     attempt(address)   luio.open(address) as { opened, message, code, left = descriptors left open }
---     put(path, text)    writes `path` of the tree, /proc and /drivers too, with the folders above it
---     command(...)       the output of `luio ...`, in this process: on both streams; its status; on standard output
---     vanish(path)       takes /sys`path` away, as the kernel does when a device goes
---     allocated()        bytes of C memory in use (0 under a sanitizer, which has its own malloc)
---     testbed()          a tree of its own that can send uevents, from TREE_FILE

local ffi = require "ffi"
local uv = require "luv"
local luio = require "luio"
local files = require "spec.support.files"

ffi.cdef [[
  struct luio_mallinfo2 {
    size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
  };
  struct luio_mallinfo2 mallinfo2(void);
]]

local function dump(value)
  if type(value) == "string" then return (("%q"):format(value):gsub("\n", "n"):gsub("\r", "\\r")) end
  if type(value) == "number" then return ("%.17g"):format(value) end -- whole ones exactly
  if type(value) ~= "table" then return tostring(value) end
  local parts = {}
  for k, v in pairs(value) do table.insert(parts, ("[%s]=%s"):format(dump(k), dump(v))) end
  return "{" .. table.concat(parts, ",") .. "}"
end

-- Not sockets: umockdev's open() keeps one of its own for each node that is not there, and opening
-- a device makes none.
local function descriptors()
  local n = 0
  local scan = assert(uv.fs_scandir "/proc/self/fd")
  for fd in function() return uv.fs_scandir_next(scan) end do
    local target = uv.fs_readlink("/proc/self/fd/" .. fd)
    if not (target and target:match "^socket:") then n = n + 1 end
  end
  return n
end

local env = setmetatable({ luio = luio }, { __index = _G })

function env.attempt(address)
  collectgarbage() -- what a spec has left open is not to be closed in between
  collectgarbage()
  local before = descriptors()
  local dev, message, code = luio.open(address)
  if dev then dev:close() end
  return { opened = dev ~= nil, message = message, code = code, left = descriptors() - before }
end

local function tree()
  return (assert(os.getenv "UMOCKDEV_DIR", "not under umockdev-run"))
end

function env.put(path, text)
  files.put(tree() .. path, text)
end

function env.command(...)
  local both, out = {}, {}
  local print, write, stderr = _G.print, io.write, io.stderr
  local function stdout(...)
    for _, text in ipairs { ... } do
      table.insert(both, tostring(text))
      table.insert(out, tostring(text))
    end
  end
  _G.print = function(...) stdout(...) stdout "\n" end
  io.write = stdout -- luacheck: ignore 122
  io.stderr = { write = function(_, ...) table.insert(both, table.concat { ... }) end } -- luacheck: ignore 122
  local ran, status = pcall(require("luio.tool.cli").main, { ... })
  _G.print, io.write, io.stderr = print, write, stderr -- luacheck: ignore 122
  if not ran then error(status, 0) end
  return table.concat(both), status, table.concat(out)
end

function env.vanish(path)
  local root = tree()
  assert(os.execute(("rm -r '%s/sys%s'"):format(root, path)) == 0)
end

function env.allocated()
  return tonumber(ffi.C.mallinfo2().uordblks)
end

function env.testbed()
  ffi.cdef [[
    typedef struct UMockdevTestbed UMockdevTestbed;
    UMockdevTestbed *umockdev_testbed_new(void);
    int umockdev_testbed_add_from_file(UMockdevTestbed *, const char *path, void **error);
    void umockdev_testbed_uevent(UMockdevTestbed *, const char *syspath, const char *action);
    void umockdev_testbed_remove_device(UMockdevTestbed *, const char *syspath);
    void g_object_unref(void *);
    void *dlopen(const char *path, int flags);
  ]]
  -- Its threads outlive the state, which would unload it: one more reference, never given back.
  local RTLD_LAZY = 1
  assert(ffi.C.dlopen("libumockdev.so.0", RTLD_LAZY) ~= nil, "there is no libumockdev.so.0")
  local U = ffi.load "umockdev.so.0"
  local bed = U.umockdev_testbed_new()
  assert(U.umockdev_testbed_add_from_file(bed, arg[2], nil) ~= 0, "the tree can't be read")
  return {
    uevent = function(syspath, action) U.umockdev_testbed_uevent(bed, syspath, action) end,
    remove = function(syspath) U.umockdev_testbed_remove_device(bed, syspath) end,
    close = function() U.g_object_unref(bed) end, -- deletes its files
  }
end

io.write("return ", dump(setfenv(assert(loadstring(arg[1], "=code")), env)()), "\n")
