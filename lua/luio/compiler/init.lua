--- Keeps LuaJIT's compiler from code that the installed build compiles wrongly. Debian 12's LuaJIT (March 2022) silently computes
--- wrong values in ordinary code; README.md lists the faults and their causes.
---
--- Loaded before any other Lua: by the program (runtime/main.c), by `luio env` for plain luajit (LUA_INIT), by busted's helper, and
--- in each thread that luv starts (threads.lua). Requiring it is enough. It does nothing for healthy builds and for any other Lua.

local M = {}

--- The faults of a build.
---@param version string  jit.version
---@param arch string     jit.arch
---@return luio.CompilerFault[]
function M.faults(version, arch)
  local built = tonumber(version:match "^LuaJIT 2%.%d%.(%d%d%d%d%d%d%d%d%d+)") or 0
  local list = {}
  for _, fault in ipairs(require "luio.compiler.faults") do
    if built < fault.mended and (fault.arch or arch) == arch then list[#list + 1] = fault end
  end
  return list
end

-- jit.attach has one handler an event; "record" is ours, and passes it on to the one that others attach.
local function share(record)
  local attach = jit.attach
  local theirs
  local function both(...)
    record(...)
    if theirs then theirs(...) end
  end
  jit.off(both)
  attach(record, "record")
  jit.attach = function(fn, event) -- luacheck: ignore 122
    if event == "record" and type(fn) == "function" then
      theirs = fn
      attach(both, "record")
    elseif event == nil and fn ~= nil then
      if fn == theirs then
        theirs = nil
        attach(record, "record")
      end
      if fn ~= record and fn ~= both then attach(fn) end
    else
      attach(fn, event)
    end
  end
end

local function begin()
  local faults = M.faults(jit.version, jit.arch)
  if not faults[1] then return end
  local on = jit.status()
  jit.off() -- until the watch is on
  -- Without the instruction numbers a trace can't be examined, so the compiler stays off.
  if not require("luio.compiler.numbers").get() then return end
  local watch = require "luio.compiler.watch"
  share(watch.begin(faults))
  jit.opt.start = watch.start -- luacheck: ignore 122
  require("luio.compiler.threads").begin("luio.compiler")
  if on then jit.on() end
end

if jit then begin() end

return M
