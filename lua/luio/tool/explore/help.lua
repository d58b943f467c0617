--- Help by name, for `help 'irqs'`, `help(STATUS)`, `help luio.sleep` and `?NAME` at the prompt: a register's explanation from the
--- map, a command's line, and the comment above a function in its file. No register is read.

local errors = require "luio.errors"
local explain = require "luio.tool.explore.explain"
local paths = require "luio.driver.paths"
local term = require "luio.text.term"

local M = {}

local MAX_COMMENT = 40 -- lines

-- Names that are no command's.
local NAMES = {
  dev = "dev  the device: dev.address, dev.regs, dev.irqs, dev.dma, dev.regions",
  regs = "regs  the device's registers; each is there under its own name, too",
  driver = "driver  the driver that matches the device, or runs",
  luio = "luio  luio's functions, as a script's require \"luio\"; help \"luio.sleep\" explains one",
  _ = "_  the last value that was shown",
  exit = "exit  leaves, as Ctrl-D does", quit = "quit  leaves, as Ctrl-D does",
}

-- The comment above a function, and where it is.
local function of_function(name, fn)
  local info = debug.getinfo(fn, "S")
  local path = info.source:match "^@(.*)"
  local f = path and io.open(path)
  if not f then
    return name .. (info.what == "C" and "  a function of Lua's" or ("  a function, %s:%d"):format(info.short_src, info.linedefined))
  end
  local comment, n = {}, 0
  for line in f:lines() do
    n = n + 1
    if n == info.linedefined then break end
    local text = line:match "^%s*%-%-%-? ?(.*)$"
    if text and #comment < MAX_COMMENT then comment[#comment + 1] = text elseif not text then comment = {} end
  end
  f:close()
  table.insert(comment, 1, ("%s  a function, %s:%d"):format(name, paths.shown(path), info.linedefined))
  return table.concat(comment, "\n  ")
end

-- The value of a dotted name, by looking; registers are explained before this.
local function value_of(env, name)
  local value = env
  for part in name:gmatch "[^.:]+" do
    local ok, found = pcall(function() return value[part] end)
    if not ok then return nil end
    value = found
  end
  return value
end

--- The object of a name.
---@param session luio.ReplSession
---@param name string
---@param options luio.ExplainOptions
---@return string? text
---@return string? message
---@return string? code  "ENOENT"
function M.name(session, name, options)
  name = name:gsub("[%[.]$", "") -- as completion leaves an array or a block
  local text, message, code = explain.name(session, name, options)
  if not text then text = NAMES[name] end
  if not text and name:match "^[%a_][%w_.:]*$" then
    local value = value_of(session.env or session, name)
    if type(value) == "function" then
      text = of_function(name, value)
    elseif value ~= nil then
      text = ("%s  a %s%s"):format(name, type(value), type(value) == "table" and "" or ": " .. errors.tostring(value))
    end
  end
  if not text then return nil, message, code end
  local lines = {}
  for line in (text .. "\n"):gmatch "(.-)\n" do
    local head, rest = line:match "^(.-%S  )(%S.*)$"
    if not options.width or term.columns(line) <= options.width then
      table.insert(lines, line)
    else
      if not head then head, rest = line:match "^( *)(.*)$" end
      for _, part in ipairs(term.wrap(rest, options.width, line:match "^ *" .. "  ", head)) do table.insert(lines, part) end
    end
  end
  return table.concat(lines, "\n")
end

--- The name of what `help(VALUE)` was called with; nil: it has none.
---@param session luio.ReplSession
---@param value any
---@return string?
function M.name_of(session, value)
  if value == nil then return nil end
  if type(value) == "string" then return value end
  if type(value) == "table" and rawget(value, "path") and rawget(value, "def") then return rawget(value, "path") end
  local env = session.env
  for _, names in ipairs { env, env.help, NAMES, _G } do
    for name in pairs(names) do
      if type(name) == "string" and rawequal(value_of(env, name), value) then return name end
    end
  end
  local function within(name, t)
    for key, found in pairs(t) do
      if rawequal(found, value) then return ("%s.%s"):format(name, tostring(key)) end
    end
  end
  local found = within("luio", env.luio)
  for name, t in pairs(_G) do found = found or type(t) == "table" and t ~= _G and within(name, t) or nil end
  return found
end

return M
