--- A session of the prompt without a terminal: chunks, what they print, and what the session says by itself.
---
---     local prompt = require "spec.support.prompt"
---     local run = prompt.run
---     prompt.open { device = "sim:edu" }
---     run "IRQ_RAISE:write(5)"
---     prompt.hears(1)

local files = require "spec.support.files"
local luio = require "luio"
local sessions = require "luio.tool.explore.session"
local wait = require "spec.support.wait"

local M = {}

M.session = nil ---@type luio.Session?  the one that is open
M.said = {} ---@type string[]  by itself, since it was opened
M.printed = {} ---@type string[]  by the last chunk

--- Opens one; close ends it.
---@param args? table  of luio.tool.explore.session; the device is sim:probe unless it names another
---@return luio.Session
function M.open(args)
  args = args or {}
  args.device = args.device or "sim:probe"
  M.session = assert(sessions.open(args))
  M.said = {}
  M.session:notify(function(text) table.insert(M.said, text) end)
  return M.session
end

--- Closes the one that is open, if any.
function M.close()
  local session = M.session
  M.session = nil
  if session then assert(session:close()) end
end

--- Runs a chunk as the prompt does, in a task; its results.
---@param code string
---@return any ...
function M.run(code)
  local chunk = assert(loadstring("return " .. code, "=prompt") or loadstring(code, "=prompt"))
  setfenv(chunk, M.session.env)
  M.printed = {}
  local real = print
  _G.print = function(...)
    local parts = {}
    for i = 1, select("#", ...) do parts[i] = tostring((select(i, ...))) end
    table.insert(M.printed, table.concat(parts, "\t"))
  end
  local function done(ok, ...)
    _G.print = real
    if not ok then error(..., 0) end
    return ...
  end
  return done(pcall(luio.run, chunk))
end

--- Waits until so many lines were said.
---@param n integer
function M.hears(n)
  wait.till(5, n .. " lines", function() return #M.said >= n end)
end

--- Runs a spec's text as a spec of its own.
---@param text string
---@return string output
---@return integer status
function M.busted(text)
  local path = files.write("kept_spec.lua", text)
  local out, status = files.shell(("luajit $(command -v busted) --ignore-lua --lpath './lua/?.lua;./lua/?/init.lua;./?.lua' -o TAP '%s'")
    :format(path))
  files.clean()
  return out, status
end

return M
