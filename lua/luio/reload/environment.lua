--- The globals and libraries of a version of a driver.
---
--- All Lua of a process shares the tables of its libraries, and all strings share one metatable. A new version that removes
--- `table.insert` would remove it for the running version, and for luio, which must refuse the new one. So each version has tables
--- of its own: for globals, each standard library, LuaJIT's libraries, luv, and luio's modules, where reads of missing fields fall
--- through to luio's tables. A version's changes in them affect only that version, and end with it. The functions in them are the
--- shared ones.
---
--- Metatables of strings and other types, and of luio's objects, can be read (as far as `getmetatable` shows them), but not
--- changed; nor can the environment of a function that is not the driver's. Code that the version loads from text has the version's
--- globals. The version's `package.path` and similar settings apply to its own `require`.
---
--- Not separated, because that would cost more than it is worth:
---
---   - libraries of others (dkjson, lpeg): a table that several programs' parts require is one by intention; luio itself uses dkjson,
---     argparse and lxp.
---   - methods of strings: `("x"):trim()` is looked for in the shared `string`, so a driver that adds `trim` to its own calls
---     `string.trim("x")`.
---   - the tables within luio's modules (classes, constants), what debug.getupvalue and debug.getlocal lead to, FFI: `ffi.cdef`,
---     `ffi.C`, memory. A script that means harm needs no help: it can write to any address.
---   - settings of the process: jit.off(), collectgarbage, io.output, os.setlocale, the current folder, signals.
---   - `dev`: if a driver empties it, luio restores its fields when start has returned, and refuses the version (luio.reload.live).
---     Deeper changes are not detected.

local callbacks = require "luio.reload.callbacks"
local errors = require "luio.errors"
local exit = require "luio.reload.exit"
local task = require "luio.loop.task"

local M = {}

-- The libraries that a version has copies of, as `require` names them.
local LIBRARIES = { "bit", "coroutine", "debug", "ffi", "io", "jit", "jit.opt", "jit.util", "luv", "math", "os", "package", "string",
  "string.buffer", "table" }
-- Those of them that are globals.
local GLOBALS = { "bit", "coroutine", "debug", "io", "jit", "math", "os", "package", "string", "table" }
-- Lua's own functions. Other globals are a script's or a spec's, and a version finds them there.
local FUNCTIONS = { "assert", "collectgarbage", "error", "gcinfo", "ipairs", "next", "pairs", "pcall", "print", "rawequal", "rawget",
  "rawlen", "rawset", "select", "tonumber", "tostring", "type", "unpack", "xpcall" }
-- The fields of `package` that `require` uses.
local SEARCH = { "path", "cpath", "preload", "loaders", "searchers" }

---@class luio.Environment
---@field globals table               what the version's functions have as _G
---@field package version luio.Version
---@field package own table<table, table>     a shared table -> the version's own
---@field package library table?              luio, as the version sees it
---@field package views table<table, table>   a metatable -> the visible copy
---@field package proxies table<table, table> the same, of proxies that it has made
local Environment = {}
Environment.__index = Environment

local function refuse(what)
  error(("%s: luio and other drivers share it, so a driver can't change it"):format(what), 3)
end

local function copy(t)
  local made = {}
  for key, value in pairs(t) do made[key] = value end
  return made
end

-- ---- Metatables ----------------------------------------------------------------------------------

-- Whether all Lua functions of a table are luio's own, and there are some.
local function is_ours(t)
  local found = false
  for _, value in pairs(t) do
    local source = type(value) == "function" and debug.getinfo(value, "S").source
    if source and source ~= "=[C]" then
      if not errors.is_ours(source) then return false end
      found = true
    end
  end
  return found
end

--- Whether a metatable is one of luio's objects'.
---@param meta table
---@return boolean
function M.is_luios(meta)
  local index = rawget(meta, "__index")
  return is_ours(meta) or type(index) == "table" and is_ours(index)
end

-- Whether a metatable is shared: of all values of a type, of C's objects, of luio's.
local function is_shared(self, value, meta)
  local kind = type(value)
  if kind == "userdata" then return not self.proxies[meta] end
  return kind ~= "table" or M.is_luios(meta)
end

-- A version's view of something shared.
local function view(self, shared, name)
  local made = self.views[shared]
  if not made then
    made = setmetatable({}, {
      __index = function(_, key)
        local value = rawget(shared, key)
        if type(value) ~= "table" then return value end
        return self.own[value] or view(self, value, name)
      end,
      __newindex = function() refuse(name) end,
      __metatable = false,
    })
    self.views[shared] = made
  end
  return made
end

local function metatables(self)
  local real = debug.getmetatable
  local function get(value)
    local meta = getmetatable(value)
    if self.proxies[meta or false] then return self.proxies[meta] end
    if type(meta) ~= "table" or not is_shared(self, value, meta) then return meta end
    return view(self, meta, ("the metatable of a %s"):format(type(value)))
  end
  local function set(t, meta)
    local have = real(t)
    if have and type(t) == "table" and is_shared(self, t, have) then refuse "the metatable of one of luio's objects" end
    return setmetatable(t, meta)
  end
  local function set_any(value, meta)
    local kind = type(value)
    if kind ~= "table" and not (kind == "userdata" and self.proxies[real(value) or false]) then
      refuse(("debug.setmetatable of a %s"):format(kind))
    end
    local have = kind == "table" and real(value)
    if have and (is_shared(self, value, have) or rawget(have, "__metatable") == false) then
      refuse "the metatable of one of luio's objects"
    end
    return debug.setmetatable(value, meta)
  end
  local function new_proxy(of)
    local proxy = newproxy(of)
    local meta = real(proxy)
    if meta then
      self.proxies[meta] = setmetatable({}, { __index = meta, __newindex = function(_, key, value)
        meta[key] = key == "__gc" and callbacks.finalizer(value) or value
      end })
    end
    return proxy
  end
  return get, set, set_any, new_proxy
end

-- ---- Functions' environments, and text that becomes functions ------------------------------------

local function environments(self)
  local globals = self.globals
  local function get(f)
    f = f == nil and 1 or f
    local of = getfenv(type(f) == "number" and f > 0 and f + 1 or f)
    return of == _G and globals or of
  end
  local function set(f, env)
    if type(f) == "number" and f > 0 then f = f + 1 end
    if f == 0 or getfenv(f) == _G then refuse "the environment of a function that is not the driver's" end
    return setfenv(f, env)
  end
  return get, set
end

local function loaders(self)
  local globals = self.globals
  local function owned(fn, ...)
    if fn and getfenv(fn) == _G then setfenv(fn, globals) end
    return fn, ...
  end
  local function from_text(text, name) return owned(loadstring(text, name)) end
  local function from(source, ...) return owned(load(source, ...)) end
  local function from_file(...) return owned(loadfile(...)) end
  local function do_file(...)
    local fn, message = from_file(...)
    if not fn then error(message, 0) end
    return fn()
  end
  return from, from_text, from_file, do_file
end

-- ---- Libraries -----------------------------------------------------------------------------------

local function own_coroutine(self)
  local own, yield = copy(coroutine), coroutine.yield
  local version = self.version
  -- luio's waits yield by themselves. Nobody goes on with a task that yields by hand, and its start would never end.
  function own.yield(...)
    local phase = version.phase
    if (phase == "start" or phase == "migrate") and (not coroutine.running() or task.current()) then
      error(("coroutine.yield: there is nobody to go on with it in %s"):format(phase), 2)
    end
    return yield(...)
  end
  return own
end

local function own_debug(self, get, set, get_env, set_env)
  local own = copy(debug)
  local version = self.version
  own.getmetatable, own.setmetatable, own.getfenv, own.setfenv = get, set, get_env, set_env
  local function theirs(fn)
    return type(fn) == "function" and errors.is_ours(debug.getinfo(fn, "S").source)
  end
  for _, name in ipairs { "setupvalue", "upvaluejoin" } do
    own[name] = function(fn, ...)
      if theirs(fn) then refuse("debug." .. name .. " of one of luio's functions") end
      return debug[name](fn, ...)
    end
  end
  function own.getregistry() refuse "debug.getregistry: the registry" end
  function own.sethook(...)
    local phase = version.phase
    if phase then refuse(("debug.sethook: the hook that sees to it that a new version comes back (it is in %s)"):format(phase)) end
    return debug.sethook(...)
  end
  return own
end

-- `package.loaded` shows what the version's own `require` has.
local function own_package(self)
  local own = copy(package)
  local shared = self
  own.loaded = setmetatable(self.version.modules, { __metatable = false, __index = function(_, name)
    local value = package.loaded[name]
    if value ~= nil then return shared:module(name, value) end
  end })
  own.preload = setmetatable({}, { __index = package.preload, __metatable = false })
  own.loaders = copy(package.loaders)
  return own
end

--- A module that is not the version's own, as its `require` gives it.
---@param name string
---@param module any  what Lua's `require` gives
---@return any
function Environment:module(name, module)
  if name:match "^luio$" then
    self.library = self.library or self.version:library(module)
    return self.library
  end
  if type(module) ~= "table" then return module end
  local own = self.own[module]
  if not own and name:match "^luio%." then
    own = setmetatable({}, { __index = module, __metatable = false })
    self.own[module] = own
  end
  return own or module
end

--- Lua's `require`, for a module that is not the version's own. Raises what that raises.
---@param name string
---@return any
function Environment:require(name)
  local own, before = self.globals.package, {}
  if type(own) ~= "table" then own = package end
  for _, key in ipairs(SEARCH) do before[key], package[key] = package[key], own[key] end -- luacheck: ignore 122
  local ok, result = pcall(require, name)
  for _, key in ipairs(SEARCH) do package[key] = before[key] end -- luacheck: ignore 122
  if not ok then error(result, 0) end
  return self:module(name, result)
end

--- Makes the globals of a version. It has its `luio`, `modules` and `group`.
---@param version luio.Version
---@param own_require fun(name: string): any
---@return luio.Environment
function M.new(version, own_require)
  local globals = {}
  local self = setmetatable({
    version = version, globals = globals, own = { [_G] = globals }, views = setmetatable({}, { __mode = "k" }),
    proxies = setmetatable({}, { __mode = "k" }),
  }, Environment)
  local get, set, set_any, new_proxy = metatables(self)
  local get_env, set_env = environments(self)
  local makers = {
    coroutine = function() return own_coroutine(self) end,
    debug = function() return own_debug(self, get, set_any, get_env, set_env) end,
    ffi = callbacks.ffi,
    jit = function(shared)
      local own = copy(shared)
      own.opt = self.own[shared.opt]
      return own
    end,
    luv = function() return callbacks.luv(version) end,
    package = function() return own_package(self) end,
  }
  setmetatable(self.own, { __index = function(own, shared) -- made when it is first asked for
    local name = M.names[shared]
    local made = name and (makers[name] or copy)(shared)
    rawset(own, shared, made)
    return made
  end })
  for _, name in ipairs(FUNCTIONS) do globals[name] = _G[name] end
  for _, name in ipairs(GLOBALS) do globals[name] = self.own[_G[name]] end
  local load_own, load_text, load_file, do_file = loaders(self)
  for name, fn in pairs {
    require = own_require, getmetatable = get, setmetatable = set, newproxy = new_proxy, getfenv = get_env, setfenv = set_env,
    load = load_own, loadstring = load_text, loadfile = load_file, dofile = do_file,
  } do
    globals[name] = fn
    rawset(self.own, _G[name], fn)
  end
  globals._G = globals
  setmetatable(globals, { __metatable = false, __index = function(_, name)
    local value = _G[name]
    return value ~= nil and self.own[value] or value -- a field that it removed from its own table is not found in the shared one
  end })
  exit.register(globals, version)
  return self
end

--- The libraries' names, by their tables.
---@type table<table, string>
M.names = setmetatable({}, { __index = function(names, shared)
  for _, name in ipairs(LIBRARIES) do
    if package.loaded[name] == shared then
      rawset(names, shared, name)
      return name
    end
  end
end })

return M
