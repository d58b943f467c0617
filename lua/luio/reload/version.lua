--- A version of a driver's code: its files, loaded afresh, apart from every other version's.
---
--- A driver's project modules (drivers.NAME.*, files beside its own, modules below the folder that holds
--- drivers/) are loaded anew for each version, with an environment of their own. So a module's locals and
--- globals belong to the version, and two versions can coexist. Everything else (luio, libraries) is shared; the
--- version has its own tables that lead to it (luio.reload.environment). `require "luio"` gives a driver luio
--- with its own `spawn`, so that its tasks belong to the version.
---
--- Staging is loading with every device out of reach (luio.reload.staging).
---
--- A file is not loaded while it is being saved. A program that writes a file in place has it open meanwhile, which the kernel
--- reports (runtime/files.c). So luio reads the file after it is closed, and prevents an open for writing during the read. Without
--- that report (another user's file, some network file systems) luio waits while the file is empty, and until a quarter of a second
--- after its last change.

local bit = require "bit"
local ffi = require "ffi"
local device = require "luio.device"
local runtime = require "luio.ffi"
local environment = require "luio.reload.environment"
local errors = require "luio.errors"
local loaded_code = require "luio.reload.loaded_code"
local paths = require "luio.driver.paths"
local loading = require "luio.loop.loading"
local staging = require "luio.reload.staging"
local task = require "luio.loop.task"
local trust = require "luio.host.trust"
local uv = require "luv"
local C, err, now = runtime.C, runtime.err, runtime.now

local M = {}

---@class luio.Version
---@field id integer             1, 2, ...: of this driver on this device
---@field path string            the driver's file
---@field dir string             the folder of its file
---@field real string            its file, without links
---@field package writers luio.Writers?  who can change its file
---@field names table<string, string>  where the files were found -> where they are
---@field driver table           the result of its file
---@field files table<string, string|false>  path -> text, of every file it loaded; false: it looked for it in vain
---@field group luio.TaskGroup
---@field environment luio.Environment?  of one that has a file
---@field package loaded luio.LoadedCode?
---@field view luio.Device?      once it is started
---@field phase "loading"|"migrate"|"start"|"probation"|nil  nil: it is at work
---@field exited string?         it called os.exit meanwhile: the function that did
---@field on_exited fun()?       told then
---@field package given { files: table<string, string>, names: table<string, string> }  to load in place of what the files hold
local Version = {}
Version.__index = Version

local VERSION = {} -- where a driver's table has its version: a table of both would keep each for the other

local FRESH = 0.25 -- seconds after the last change of a file that may be written, where the kernel does not tell
local PATIENCE = 1 -- seconds that a load, for which all else stands still, waits for files that are being written
local LARGEST = 2 ^ 24 -- bytes of a file
local POLL = 0.01 -- seconds between looks

local buffer, size, leased = nil, 64 * 1024, ffi.new "int[1]"

-- A file's text, and true if certainly no process was writing. "EAGAIN": a process has it open for writing; `as_it_is`: read it anyway.
local function read_saved(path, as_it_is)
  buffer = buffer or ffi.new("char[?]", size)
  local n = tonumber(C.luio_read_leased(path, buffer, size, not as_it_is and leased or nil, err))
  if n < 0 then return runtime.failure() end
  if n < size then return ffi.string(buffer, n), leased[0] == 1 end
  if n > LARGEST then return nil, ("read %s: it has %.0f bytes, more than a driver's file may have"):format(path, n), "EFBIG" end
  size, buffer = 2 * math.max(n, size), nil
  return read_saved(path, as_it_is)
end

local function read_file(path)
  local text, message, code = read_saved(path)
  if text or code ~= "EAGAIN" then return text, message end
  return read_saved(path, true)
end

-- Why a file is not to be read now: "EAGAIN" is written, "ENOENT"; nil: it may be.
local function being_saved(path)
  local text, known, code = read_saved(path)
  if not text then return (code == "EAGAIN" or code == "ENOENT") and code or nil end
  if known then return nil end
  local stat = uv.fs_stat(path)
  if not stat or stat.type ~= "file" then return nil end
  local seconds, us = uv.gettimeofday()
  local age = seconds + us / 1e6 - stat.mtime.sec - stat.mtime.nsec / 1e9
  return (age >= 0 and age < FRESH or stat.size == 0) and "EAGAIN" or nil
end

--- Which of these files is being written in some process, or has been taken away, maybe to put another in its place.
---@param files table<string, any>  by path; false: it was not there
---@return string? path  nil: none
---@return "EAGAIN"|"ENOENT"|nil code
function M.being_saved(files)
  for path, text in pairs(files) do
    local code = being_saved(path)
    if code and (text or code ~= "ENOENT") then return path, code end
  end
end

-- Where a file is: where it was when it was kept, whatever a link leads to now.
local function real_path(self, path)
  return self.given.names[path] or uv.fs_realpath(path) or path
end

-- The folders whose files belong to the driver: its own, and the one that holds drivers/.
local function own_folders(real)
  local dir = real:match "^(.*)/[^/]*$" or "."
  local project = real:match "^(.*)/drivers/[^/]+/[^/]+$"
  return dir, project
end

-- Where a module's file may be.
local function places(self, name)
  local list, relative = {}, name:gsub("%.", "/")
  for _, folder in ipairs { self.dir, self.project } do
    for _, suffix in ipairs { ".lua", "/init.lua" } do table.insert(list, ("%s/%s%s"):format(folder, relative, suffix)) end
  end
  return list
end

-- The file of a module, if it is the driver's: beside its file, or in its project; and in the same hands as its file
-- (luio.host.trust). Else nil, and why one that is there is not taken.
local function find(self, name)
  local refused
  for _, path in ipairs(places(self, name)) do
    if self.given.names[path] then return path end
    if uv.fs_access(path, "R") then
      self.writers = self.writers or trust.writers(self.real)
      local safe, reason = trust.file(path, self.writers)
      if safe then return path end
      refused = refused or ("%s is not taken: %s"):format(path, reason)
    end
  end
  return nil, refused
end

-- luio itself is in the project when that is its source tree; it is never the driver's.
local function is_ours(name)
  return name:match "^luio$" or name:match "^luio%."
end

-- A syntax error as an error value: it says where by itself.
local SYNTAX = { __tostring = function(e) return e.message end }

local function run_file(self, path, ...)
  local real = real_path(self, path)
  local text, message = self.given.files[real], nil
  while not text and being_saved(path) == "EAGAIN" and now() < self.patient do uv.sleep(POLL * 1e3) end
  if not text then text, message = read_file(path) end
  if not text then error(message, 0) end
  local shown = paths.shown(path)
  self.files[real], self.names[path] = text, real
  local chunk
  chunk, message = loadstring(text:gsub("^#[^\n]*", ""), "@" .. shown)
  if not chunk then error(setmetatable({ message = message }, SYNTAX), 0) end
  setfenv(chunk, self.environment.globals)
  return paths.run(shown, chunk, ...)
end

local LOADING = {}

-- The module's function, as a driver has put it into package.preload, or its file.
local function run_module(self, name)
  local given = self.environment.globals.package
  given = type(given) == "table" and type(given.preload) == "table" and rawget(given.preload, name)
  if type(given) == "function" then return true, pcall(given, name) end
  local path, refused = find(self, name)
  if not path then return nil, refused end
  return true, pcall(run_file, self, path, name)
end

--- luio as a driver sees it. Settings of the whole process raise an error while the version may still be refused,
--- because it could not undo them.
---@param luio table  the library, as Lua's `require` gives it
---@return table
function Version:library(luio)
  local own = {
    spawn = function(fn, ...)
      loading.refuse("luio.spawn", 2)
      return task.spawn_in(self.group, fn, ...)
    end,
  }
  for _, name in ipairs { "on_warning", "on_task_failure", "close_all" } do
    own[name] = function(...)
      loading.refuse("luio." .. name, 2)
      if self.phase and self.id > 1 then
        error(("luio.%s in %s: it is for the whole process, and this version may yet be refused"):format(name, self.phase), 2)
      end
      return luio[name](...)
    end
  end
  return setmetatable(own, { __index = luio, __metatable = false })
end

local function new_require(self)
  return function(name)
    if type(name) == "string" and is_ours(name) then return self.environment:module(name, require(name)) end
    local have = rawget(self.modules, name)
    if have == LOADING then error(("%s requires itself"):format(name), 2) end
    if have ~= nil then return have end
    if type(name) ~= "string" then return require(name) end -- require raises the error
    self.modules[name] = LOADING
    local its, ok, result = run_module(self, name)
    if not its then
      self.modules[name] = nil
      local refused
      refused, ok, result = ok, pcall(self.environment.require, self.environment, name)
      if not ok then
        for _, path in ipairs(places(self, name)) do
          if not uv.fs_access(path, "R") then self.files[path] = false end
        end
      end
      if not ok then error(refused and ("%s\n%s"):format(refused, tostring(result)) or result, 0) end
      return result
    end
    if not ok then
      self.modules[name] = nil
      error(result, 0)
    end
    if result == nil then result = true end
    self.modules[name] = result
    return result
  end
end

--- Loads a driver's file as a version. Touches no hardware, and lets it touch none.
---@param path string
---@param given? { files: table<string, string>, names: table<string, string> }  of a version: the texts to use for its files
---@return luio.Version?
---@return string? message  a syntax error, or an error that it threw; with file and line
---@return string? code     "EINVAL"
---@return table<string, string>? files  the files that it loaded until then
function M.stage(path, given)
  local self = setmetatable({ id = 1, path = path, files = {}, names = {}, modules = {} }, Version)
  self.patient = now() + PATIENCE
  self.given = given or { files = {}, names = {} }
  self.group = task.group("driver " .. path)
  self.real = real_path(self, path)
  self.dir, self.project = own_folders(self.real)
  self.environment = environment.new(self, new_require(self))
  self.phase = "loading"
  local ok, result = staging.run(path, device.open_devices, run_file, self, path)
  self.phase = nil
  if self.exited then ok, result = false, self.exited end
  if not ok then
    local message = errors.text(result)
    local stated = getmetatable(result) == SYNTAX
    return nil, stated and message or ("%s threw when it was loaded: %s"):format(paths.shown(path), message), "EINVAL", self.files
  end
  self.driver, self.loaded = result, loaded_code.of(result)
  if type(result) == "table" then rawset(result, VERSION, self) end
  return self
end

--- The version that a driver's table is of. One that was made by hand has no file, and can't be reloaded.
---@param driver table
---@return luio.Version
function M.of(driver)
  return rawget(driver, VERSION) or setmetatable({ id = 1, driver = driver, files = {}, names = {},
    group = task.group("driver " .. tostring(driver.name)) }, Version)
end

--- A version to start on a device: this one, or, if it runs on another already, one more of its code.
---@return luio.Version?
---@return string? message
---@return string? code
function Version:fresh()
  if self.view and not self.view.closed and self.path then return M.stage(self.path, self.given) end
  if self.group.ended then self.group = task.group(self.group.name) end
  self.view = nil
  return self
end

--- Whether one of these files has another text now, or is not there.
---@param files table<string, string|false>  path -> text; false: was not there
---@return boolean
function M.differ(files)
  for path, text in pairs(files) do
    if (read_file(path) or false) ~= text then return true end
  end
  return false
end

-- FNV-1a, twice: tells texts apart; it is no protection against forgery.
local function hash(text)
  local a, b = 0x811c9dc5, 0x01000193
  for i = 1, #text do
    local byte = text:byte(i)
    a = bit.tobit(bit.bxor(a, byte) * 0x193) + bit.lshift(bit.bxor(a, byte), 24)
    b = bit.tobit(bit.bxor(b, byte + 1) * 0x1b3)
    a, b = bit.tobit(a), bit.rol(b, 5)
  end
  return ("%d-%s-%s"):format(#text, bit.tohex(a), bit.tohex(b))
end

--- A digest of files' contents: to tell one save from another.
---@param files table<string, string|boolean>  path -> text; else what it holds now
---@return string
function M.fingerprint(files)
  local names, parts = {}, {}
  for path in pairs(files) do table.insert(names, path) end
  table.sort(names)
  for i, path in ipairs(names) do parts[i] = hash(type(files[path]) == "string" and files[path] or read_file(path) or "") end
  return table.concat(parts, " ")
end

-- ---- Differences --------------------------------------------------------------------------------

-- The code of a file, without where it stands in it.
local function code_of(text)
  local chunk = text and loadstring((text:gsub("^#[^\n]*", "")))
  return chunk and string.dump(chunk, true) or text
end

-- Compares the names of two tables: in one only, or in both; `same` compares the values of names in both.
local function compare(before, after, wanted, same)
  local result = { added = {}, changed = {}, removed = {} }
  for name, value in pairs(after) do
    if wanted(value) then
      if not wanted(before[name]) then table.insert(result.added, name)
      elseif not same(before[name], value) then table.insert(result.changed, name) end
    end
  end
  for name, value in pairs(before) do
    if wanted(value) and not wanted(after[name]) then table.insert(result.removed, name) end
  end
  for _, list in pairs(result) do table.sort(list) end
  return result
end

--- The differences between the functions of two versions, as loaded.
---@param before luio.Version
---@return { added: string[], changed: string[], removed: string[] }
function Version:functions(before)
  return compare(before.driver, self.driver, function(v) return type(v) == "function" end,
    loaded_code.comparer(before.loaded, self.loaded))
end

--- The files whose code is another than in another version.
---@param before luio.Version
---@return string[]  as messages have them
function Version:changed_files(before)
  local list = {}
  for _, files in ipairs { self.files, before.files } do
    for path in pairs(files) do
      local a, b = before.files[path], self.files[path]
      if not list[path] and a ~= b and code_of(a) ~= code_of(b) then
        list[path] = true
        table.insert(list, paths.shown(path))
      end
    end
  end
  table.sort(list)
  return { unpack(list) }
end

-- Whether two definitions say the same.
local function same_definition(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, value in pairs(a) do
    if key ~= "prepared" and not same_definition(value, b[key]) then return false end
  end
  for key in pairs(b) do
    if key ~= "prepared" and a[key] == nil then return false end
  end
  return true
end

--- How a version's register map differs from another's, by what stands in its first level.
---@param before luio.Version
---@return { added: string[], changed: string[], removed: string[] }
function Version:registers(before)
  local a, b = before.driver.registers, self.driver.registers
  return compare(a and a.child or {}, b and b.child or {}, function(v) return v ~= nil end, same_definition)
end

return M
