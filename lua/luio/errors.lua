--- Error values as text, and the recognition of luio's own code.
---
--- Anything can be an error value: nil, a text of megabytes, a table with a __tostring that throws, returns no string
--- or never ends. Code that prints an error from users' code uses this module, so that the report does not fail itself.

jit.off(true, true) -- the count of instructions below holds for interpreted code

local M = {}

local LONGEST = 16 * 1024 -- bytes of a message
local STEPS = 1e7 -- instructions of a __tostring: a tenth of a second at most

local HERE = debug.getinfo(1, "S").source:match "^(.*)errors%.lua$"

--- Whether a function is luio's own, by the source that debug.getinfo names.
---@param source string
---@return boolean
function M.is_ours(source)
  return source:sub(1, #HERE) == HERE
end

--- The Lua function that runs, or that calls what runs: a hook may find itself at the beginning of one of C's, or of those
--- that LuaJIT has in bytecode of its own.
---@param level integer  as of debug.getinfo, in the caller
---@return table? frame  of debug.getinfo
function M.running(level)
  local frame
  repeat
    level = level + 1
    frame = debug.getinfo(level, "Sln")
  until not frame or frame.what ~= "C" and frame.short_src:sub(1, 9) ~= "[builtin:"
  return frame
end

--- How a function is called in messages.
---@param frame table  of debug.getinfo: what, name, linedefined
---@return string  "function start", "the file"
function M.name(frame)
  if frame.what == "main" then return "the file" end
  local name = frame.name
  return name and name ~= "" and "function " .. name or ("the function at line %d"):format(frame.linedefined)
end

-- Runs an object's own function, for so many instructions. Compiled code sees no hook, so nothing is compiled meanwhile.
local function in_steps(fn, value)
  local compiles = jit.status()
  local hook, mask, count = debug.gethook()
  jit.off()
  debug.sethook(function()
    local frame = M.running(2)
    if not frame or M.is_ours(frame.source) then return end
    debug.sethook(debug.gethook(), "", 1) -- it may catch the error, and go on; not for ever
    error("it does not end", 0)
  end, "", STEPS)
  local ok, text = pcall(fn, value)
  debug.sethook(hook, mask, count)
  if compiles then jit.on() end
  return ok, text
end

local function own_text(value)
  local meta = debug.getmetatable(value)
  local has = type(meta) == "table" and rawget(meta, "__tostring") ~= nil or type(value) == "cdata"
  if not has then return tostring(value) end
  local ok, text = in_steps(tostring, value)
  if ok and type(text) == "string" then return text end
  local ours = type(text) == "string" and type(meta) == "table" and rawget(meta, "__tostring")
  if type(ours) == "function" and M.is_ours(debug.getinfo(ours, "S").source) then return ("(%s)"):format(text) end
  local why = type(text) == "string" and text or ("it %s a %s"):format(ok and "gives back" or "throws", type(text))
  return ("a %s whose text can't be had (__tostring: %s)"):format(type(value), why)
end

-- Control characters would do something to a terminal; lines and tabs stay.
local function printable(text)
  return (text:gsub("[%z\1-\8\11-\31\127]", function(c) return ("\\x%02x"):format(c:byte()) end))
end

--- A value as text, as tostring has it, but never raises, and takes no more than a moment.
---@param value any
---@return string
function M.tostring(value)
  local ok, text = pcall(own_text, value)
  return ok and text or "an object that can't be shown"
end

-- Of a file in drivers/ that is not there `require` lists twenty places. One sentence is enough, unless one was there and not taken.
local function one_place(text)
  if not text:find("' not found:\n\tno ", 1, true) then return text end
  local before, name, rest = text:match "^(.-module '(drivers%.[%w_.-]+)' not found):(\n\tno.*)$"
  if not before or rest:find("\n\tnot '", 1, true) then return text end
  rest = rest:gsub("\n\tno [^\n]*", "")
  return ("%s: there is no %s.lua%s"):format(before, (name:gsub("%.", "/")), rest)
end

--- An error value as text, whatever it is: printable, and at most 16 KiB.
---@param value any
---@return string
function M.text(value)
  if value == nil then return "nil was thrown, no message" end
  local text = one_place(M.tostring(value))
  if #text > LONGEST then
    text = ("%s ... (%d bytes left out) ... %s"):format(text:sub(1, LONGEST - 2048), #text - LONGEST + 1024, text:sub(-1024))
  end
  return printable(text)
end

--- Raises an error as `error` does, with the place of the innermost function that is not luio's own, if there is one: of a
--- failed access that is the driver's or the script's line, however many of luio's functions it went through.
---@param message string
function M.raise(message)
  for level = 2, 20 do
    local frame = debug.getinfo(level, "Sl")
    if not frame then break end
    if frame.what ~= "C" and frame.currentline > 0 and not M.is_ours(frame.source) then
      error(("%s:%d: %s"):format(frame.short_src, frame.currentline, message), 0)
    end
  end
  error(message, 0)
end

-- A frame as debug.traceback shows it.
local function call_line(frame)
  local where = frame.currentline > 0 and ("%s:%d:"):format(frame.short_src, frame.currentline) or frame.short_src .. ":"
  if frame.what == "main" then return ("\t%s in main chunk"):format(where) end
  if frame.name and frame.name ~= "" then return ("\t%s in function '%s'"):format(where, frame.name) end
  return ("\t%s in function <%s:%d>"):format(where, frame.short_src, frame.linedefined)
end

--- A text with the calls below it that led there: users' functions, none of luio's own, nor C's that those called.
---@param text string
---@param thread thread?  nil: the running one
---@param level integer   as of debug.getinfo, in the caller
---@return string
function M.with_calls(text, thread, level)
  local lines = { text, "stack traceback:" }
  for i = thread and level or level + 1, level + 100 do
    local frame
    if thread then frame = debug.getinfo(thread, i, "Sln") else frame = debug.getinfo(i, "Sln") end
    if not frame then break end
    if frame.what ~= "C" and not M.is_ours(frame.source) then table.insert(lines, call_line(frame)) end
  end
  return lines[3] and table.concat(lines, "\n") or text
end

--- The handler of xpcall for users' code: the error as text, and the calls that led there.
---@param value any
---@return string
function M.traceback(value)
  return M.with_calls(M.text(value), nil, 2)
end

return M
