--- Functions of a driver that C calls: libuv's callbacks, and finalizers.
---
--- luv ends the process on an error in a callback ("Uncaught Error"). LuaJIT raises a finalizer's error in the code that happened
--- to allocate. So a driver's function that is passed to either is wrapped: it runs as a task of its version. Its errors are
--- handled as in any task of the driver: a new version is refused or undone; os.exit is handled the same way. It may also wait. It
--- does not run while its version is held, nor after its version was replaced: the version's libuv handles are closed, except those
--- that were passed to the next version in dev.state.
---
--- A function's environment identifies its version (luio.reload.exit). A library's function that a driver's task
--- hands over counts as the driver's. The methods of handles (`timer:start`) are luv's, and the same for all, so
--- they are wrapped for all; functions of luio and of scripts pass through them as they are.
---
--- A function that runs on another thread (uv.new_thread, the first of uv.new_work) runs in another Lua state. Its errors come
--- back through a pipe, or in place of its results.
---
--- Not wrapped: FFI callbacks, whose errors are raised in the function that called into C, which is the driver's own; and hooks.

local errors = require "luio.errors"
local exit = require "luio.reload.exit"
local handles = require "luio.loop.handles"
local task = require "luio.loop.task"
local uv = require "luv"

local M = {}

-- The group of a function's calls; nil: no driver's. And the version, if it is being loaded: objects that it makes then
-- last as long as the version; the version's group changes when its device has been away.
local function group_of(fn)
  local version = exit.version_of(fn)
  if version then return version.group, version.phase == "loading" and version or nil end
  local running = task.running()
  local group = running and running.group
  if group and not errors.is_ours(debug.getinfo(fn, "S").source) then return group end
end

local guards = setmetatable({}, { __mode = "k" }) ---@type table<function, true>  that were made here

-- Wraps a driver's callable value for C; returns any other value unchanged.
local function guarded(value)
  local fn = value
  if type(value) == "table" then -- luv takes objects that can be called, too
    local meta = debug.getmetatable(value)
    fn = type(meta) == "table" and rawget(meta, "__call")
  end
  if type(fn) ~= "function" or guards[fn] then return value end
  local group, version = group_of(fn)
  if not group then return value end
  local function guard(...)
    if version then group = version.group end
    if fn == value then task.call_back(group, fn, ...) else task.call_back(group, fn, value, ...) end
  end
  guards[guard] = true
  return guard
end

-- Calls fn with its arguments guarded, from the n-th on.
local function call_guarded(fn, from, ...)
  local n, arguments = select("#", ...), { ... }
  for i = from, n do arguments[i] = guarded(arguments[i]) end
  return fn(unpack(arguments, 1, n))
end

local function wrap(fn, from)
  return function(...)
    for i = from, select("#", ...) do
      local kind = type((select(i, ...)))
      if kind == "function" or kind == "table" then return call_guarded(fn, from, ...) end
    end
    return fn(...)
  end
end

-- ---- luv -----------------------------------------------------------------------------------------

local METHODS = {}
for name in ([[start start_oneshot close listen shutdown read_start write write2 connect connect2 close_reset send recv_start readdir
  closedir]]):gmatch "%S+" do
  METHODS[name] = true
end

local FUNCTIONS = [[check_start close fs_event_start fs_poll_start getaddrinfo getnameinfo idle_start listen new_async pipe_connect
  pipe_connect2 poll_start prepare_start random read_start shutdown signal_start signal_start_oneshot spawn tcp_close_reset tcp_connect
  timer_start udp_recv_start udp_send walk write write2]]

for name, meta in pairs(debug.getregistry()) do
  local methods = type(name) == "string" and name:match "^uv_" and type(meta) == "table" and rawget(meta, "__index")
  for method, fn in pairs(type(methods) == "table" and methods or {}) do
    if METHODS[method] then methods[method] = wrap(fn, 2) end
  end
end
for name in FUNCTIONS:gmatch "%S+" do uv[name] = uv[name] and wrap(uv[name], 1) end

-- ---- Other threads -------------------------------------------------------------------------------

local LONGEST = 4000 -- bytes of a message, which goes through a pipe in one piece

local THREAD = [[
local fd = %d
local ok, message = pcall(loadstring(%q, "=thread"), ...)
local uv = require "luv"
if not ok then uv.fs_write(fd, tostring(message):sub(1, ]] .. LONGEST .. [[), -1) end
uv.fs_close(fd)
]]
local WORK = 'return pcall(loadstring(%q, "=thread"), ...)'

local function code_of(fn)
  local code = type(fn) == "function" and string.dump(fn) or fn
  return type(code) == "string" and loadstring(code) and code or nil -- otherwise luv reports the error
end

-- Waits for a thread's last message.
local function hear(version, fn, fd)
  local poll = assert(uv.new_poll(fd))
  poll:start("r", function()
    local message = uv.fs_read(fd, LONGEST, -1)
    poll:stop()
    handles.dispose(poll)
    uv.fs_close(fd)
    if message and message ~= "" then task.fail(version.group, fn, errors.text(message)) end
  end)
  poll:unref()
end

local function threads(version, own)
  function own.new_thread(...)
    local arguments, n = { ... }, select("#", ...)
    local at = type(arguments[1]) == "table" and 2 or 1
    local fn = arguments[at]
    local code = code_of(fn)
    local ends = code and uv.pipe()
    if not ends then return uv.new_thread(...) end
    arguments[at] = loadstring(THREAD:format(ends.write, code), "=thread")
    local ok, thread, message, errno = pcall(uv.new_thread, unpack(arguments, 1, n))
    if ok and thread then
      hear(version, type(fn) == "function" and fn or loadstring(code), ends.read)
      return thread
    end
    uv.fs_close(ends.read)
    uv.fs_close(ends.write)
    if not ok then error(thread, 2) end
    return nil, message, errno
  end

  function own.new_work(work, after, ...)
    local code = code_of(work)
    if not code or type(after) ~= "function" then return uv.new_work(work, after, ...) end
    local go_on = guarded(after)
    local function ended(ok, ...)
      if ok then return go_on(...) end
      task.fail(version.group, type(work) == "function" and work or after, errors.text((...)))
    end
    return uv.new_work(loadstring(WORK:format(code), "=thread"), ended, ...)
  end
end

--- luv as a version of a driver has it: the table is its own.
---@param version luio.Version
---@return table
function M.luv(version)
  local own = {}
  for name, fn in pairs(uv) do
    -- Without a function these block and return, so luio's own go past this.
    own[name] = name:match "^fs_" and not name:match "^fs_%a+_start$" and type(fn) == "function" and wrap(fn, 1) or fn
  end
  for name, fn in pairs(own) do
    if name == "spawn" or name:match "^new_" and name ~= "new_thread" and name ~= "new_work" then
      own[name] = function(...)
        local handle, second, third = fn(...)
        if handle then version.group:owns(handle, version.phase) end
        return handle, second, third
      end
    end
  end
  threads(version, own)
  return own
end

-- ---- Finalizers ----------------------------------------------------------------------------------

-- A finalizer runs at once, in any code, where no task can begin. A task raises its error again.
local function finalizer(fn)
  if type(fn) ~= "function" or not group_of(fn) then return fn end
  local group = group_of(fn)
  return function(object)
    local ok, message = pcall(fn, object)
    if ok then return end
    message = errors.text(message)
    handles.after_turn(function() task.fail(group, fn, message) end):want()
  end
end

--- FFI's table as a version of a driver has it.
---@param ffi table
---@return table
function M.ffi(ffi)
  local own = {}
  for name, value in pairs(ffi) do own[name] = value end
  local gc, metatype = ffi.gc, ffi.metatype
  function own.gc(object, fn) return gc(object, finalizer(fn)) end
  function own.metatype(ct, meta)
    if type(meta) == "table" then meta.__gc = finalizer(meta.__gc) end
    return metatype(ct, meta)
  end
  return own
end

M.finalizer = finalizer

return M
