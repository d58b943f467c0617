--- os.exit, called by a driver.
---
--- A driver does not own the process it runs in. While a version is loaded, started or on probation, os.exit does not
--- end the process. It raises an error; the version is refused for it, even if it catches the error, and the version
--- that worked goes on. In a driver that is past probation os.exit ends the process, and `luio run` reports the
--- function that called it. The guardian treats an exit without a request as a crash, with any status.
---
--- The calling version is found on the stack, because a version's functions have its environment. Scripts, and functions
--- that they call themselves, exit as usual. C's own exit (by ffi) can't be intercepted; the guardian detects it.

local errors = require "luio.errors"

local M = {}

local real = os.exit
local versions = setmetatable({}, { __mode = "kv" }) ---@type table<table, luio.Version>  by environment

--- Called before a driver at work ends the process.
---@type fun(version: luio.Version, message: string)?
M.on_exit = nil

--- Records the version whose functions have this environment.
---@param env table
---@param version luio.Version
function M.register(env, version)
  versions[env] = version
end

--- The version whose function this is; nil: no driver's.
---@param fn function
---@return luio.Version?
function M.version_of(fn)
  return versions[getfenv(fn)]
end

-- The version whose function is on the stack, and who in it, or in a library that it uses, called.
local function caller()
  local first
  for level = 3, 100 do
    local frame = debug.getinfo(level, "fSln")
    if not frame then break end
    if frame.what ~= "C" and not errors.is_ours(frame.source) then
      first = first or frame
      local version = versions[getfenv(frame.func)]
      if version then return version, first end
    end
  end
end

function os.exit(...) -- luacheck: ignore 122
  local version, frame = caller()
  if not version then return real(...) end
  local message = ("%s:%d: %s called os.exit(%s)"):format(frame.short_src, frame.currentline, errors.name(frame),
    select("#", ...) > 0 and errors.text((...)) or "")
  if version.phase then
    version.exited = message
    if version.on_exited then version.on_exited() end
    error(message, 0)
  end
  if M.on_exit then M.on_exit(version, message) end
  return real(...)
end

return M
