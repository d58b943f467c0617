--- Completion at the prompt: completions of the word before the cursor.
---
---     complete.line(env, 'regs.CHANNEL[2].C')      14, { "CTRL" }
---     complete.line(env, 'STATUS:get "RA')         13, { "RAISE_IRQ" }
---
--- Nothing is evaluated and no device is touched. The line is cut into tokens (luio.tool.explore.syntax). The
--- candidates depend on the cursor's place among them: behind a separator, in a string, in a table or call, or
--- at the beginning of a name: members of the value of the expression before it (luio.tool.explore.meaning),
--- fields and values of the register whose verb is called, or places (luio.tool.explore.candidates) for a
--- command of the prompt.

local candidates = require "luio.tool.explore.candidates"
local meaning = require "luio.tool.explore.meaning"
local paths = require "luio.driver.paths"
local syntax = require "luio.tool.explore.syntax"

local M = {}

local collector, sorted = candidates.collector, candidates.sorted
local literal = syntax.literal

-- The value of the expression that ends at token i.
local function thing_at(env, list, i)
  return meaning.of(env, syntax.steps(list, i))
end

-- ---- Arguments of verbs --------------------------------------------------------------------------

-- The method call whose arguments begin at token i, with "(", "{" or a string: the thing and the verb.
local function call_at(env, list, i)
  if list[i] and list[i].text == "{" and list[i - 1] and list[i - 1].text == "(" then i = i - 1 end
  local method, colon = list[i - 1], list[i - 2]
  if not method or method.kind ~= "name" or not colon or colon.text ~= ":" then return nil end
  local thing = thing_at(env, list, i - 3)
  return thing, thing and method.text
end

local TAKES = { get = "readable", wait = "readable", update = "writable", write = "writable", encode = "writable" }

local function field_names(def, verb, prefix, given)
  local list, add = collector(prefix)
  for _, field in ipairs(def.fields) do
    if field[TAKES[verb]] and not given[field.name] then add(field.name) end
  end
  return sorted(list)
end

local function value_names(field, prefix, quote)
  local list, add = collector(prefix)
  for name in pairs(field and field.values or {}) do add(quote and ('"%s"'):format(name) or name) end
  return sorted(list)
end

-- The token behind token n, or behind the closing bracket if n opens one.
local function after(list, n)
  local partner = list[n].partner
  return (partner and partner > n and partner or n) + 1
end

-- Names that a table constructor, open at token i, has fields for already.
local function given_fields(list, i)
  local given, n = {}, i + 1
  while n < #list do
    if list[n].kind == "name" and list[n + 1].text == "=" then given[list[n].text] = true end
    n = after(list, n)
  end
  return given
end

-- The arguments between token i, "(", and the end of the list: tokens at which each begins.
local function arguments(list, i)
  local starts, n = { i + 1 }, i + 1
  while n <= #list do
    if list[n].text == "," then starts[#starts + 1] = n + 1 end
    n = after(list, n)
  end
  return starts
end

-- Candidates in a table that is a verb's argument, open at token i.
local function in_table(env, list, i, prefix, quoted)
  local thing, verb = call_at(env, list, i)
  if not thing or thing.kind ~= "register" or not TAKES[verb] or verb == "get" then return nil end
  local last = list[#list]
  local name = list[#list - 1]
  if last.text == "=" and name and name.kind == "name" then
    local field = thing.def.field[name.text]
    if quoted then return value_names(field, prefix) end
    return prefix == "" and field and field.values and value_names(field, prefix, true) or nil
  end
  if not quoted and (#list == i or last.text == "," or last.text == ";") then
    return field_names(thing.def, verb, prefix, given_fields(list, i))
  end
end

-- A string that is a verb's argument: get "RA, update("MODE", "F. `list` ends before the string.
local function in_call(env, list, i, prefix)
  local thing, verb = call_at(env, list, i)
  if not thing then return nil end
  if thing.kind == "map" and verb == "find" then return candidates.place(thing.def, prefix, { registers = true }) end
  if thing.kind ~= "register" or verb ~= "get" and verb ~= "update" then return nil end
  local starts = arguments(list, i)
  local n = #starts
  if starts[n] ~= #list + 1 or verb == "get" and n > 1 then return nil end
  if n % 2 == 1 then
    local given = {}
    for k = 1, n - 1, 2 do given[literal(list[starts[k]]) or 1] = true end
    return field_names(thing.def, verb, prefix, given)
  end
  local name = literal(list[starts[n - 1]])
  return name and value_names(thing.def.field[name], prefix) or nil
end

-- ---- Commands of the prompt ----------------------------------------------------------------------

-- How a command of the prompt is called: "dump([PLACE, ...])"; nil: it is none.
local function command(env, name)
  local commands = meaning.own(env, "help")
  local text = type(commands) == "table" and rawget(commands, name) or nil
  return type(text) == "string" and (text:match "^(.-)  " or text) or nil
end

-- The kind of its strings, as the function states it: places, or words.
local function command_strings(env, name, prefix)
  local takes = command(env, name)
  if not takes then return nil end
  local assign = takes:find("PLACE=", 1, true) or takes:find "[%(%[ ]ASSIGNMENT"
  if assign or takes:find("PLACE", 1, true) then return candidates.place(meaning.map(env), prefix, { assign = assign ~= nil }) end
  local list, add = collector(prefix)
  for word in takes:gmatch '"([%w_]+)"' do add(word) end
  for _, driver in ipairs(takes:find("DRIVER", 1, true) and paths.names "init" or {}) do add(driver) end
  return list
end

-- ---- Where the cursor is -------------------------------------------------------------------------

-- A name as an index: regs["CH.
local function as_index(env, list, prefix)
  local thing = thing_at(env, list, #list - 1)
  local found = thing and meaning.members(thing, ".", prefix)
  for i, name in ipairs(found or {}) do found[i] = name:gsub("[%[(.]$", "") end
  return found
end

-- The only argument of a call without brackets: dump "CH, STATUS:get "RA.
local function behind_name(env, list, prefix)
  local before = list[#list - 1]
  if not before or before.text ~= ":" then return command_strings(env, list[#list].text, prefix) end
  local thing, verb = call_at(env, list, #list + 1)
  if not thing then return nil end
  if thing.kind == "register" and verb == "get" then return field_names(thing.def, verb, prefix, {}) end
  if thing.kind == "map" and verb == "find" then return candidates.place(thing.def, prefix, { registers = true }) end
end

-- An argument in brackets that opened at token i: of a verb, or of a command.
local function in_brackets(env, list, i, prefix)
  local found = in_call(env, list, i, prefix)
  if found then return found end
  local callee, before = list[i - 1], list[i - 2]
  if callee and callee.kind == "name" and not (before and (before.text == "." or before.text == ":")) then
    return command_strings(env, callee.text, prefix)
  end
end

-- Candidates in an open string. `list` ends before it; `open` is the innermost bracket that is open.
local function in_string(env, list, open, token)
  local prefix = token.text:match "^%[=*%[(.*)$" or token.text:sub(2)
  local start = token.stop - #prefix + 1
  local last, bracket = list[#list], open and list[open].text
  local found
  if not last or prefix:find("\\", 1, true) then
    found = nil
  elseif last.text == "[" and open == #list then
    found = as_index(env, list, prefix)
  elseif last.kind == "name" then
    found = behind_name(env, list, prefix)
  elseif bracket == "{" then
    found = in_table(env, list, open, prefix, true)
  elseif bracket == "(" then
    found = in_brackets(env, list, open, prefix)
  end
  return start, found or {}
end

local function indices(def)
  local list = {}
  for i = 0, math.min(def.count, candidates.MAX_ELEMENTS) - 1 do list[#list + 1] = i .. "]" end
  return list
end

-- A name that stands by itself: names of the environment, registers, Lua's words.
local function bare(env, prefix)
  local list, add = collector(prefix)
  local map = meaning.map(env)
  if map then candidates.children(map, prefix, add) end
  for _, name in ipairs { "regs", "dev", "driver" } do
    if meaning.own(env, name) then add(name) end
  end
  local commands = meaning.own(env, "help")
  for name in pairs(type(commands) == "table" and commands or {}) do add(name, "(") end
  for _, t in ipairs { env, meaning.globals(env) } do
    meaning.each_name(t, function(name, value) add(name, type(value) == "function" and "(" or nil) end)
  end
  if prefix ~= "" then
    for _, word in ipairs(syntax.KEYWORDS) do add(word) end
  end
  return sorted(list)
end

-- Behind "?": registers and their fields, and what else there is help for.
local function help(env, start, word)
  local map = meaning.map(env)
  local list = candidates.place(map, word)
  for _, t in ipairs { meaning.own(env, "help") or {}, require("luio.tool.explore.explain").topics } do
    for name in pairs(type(t) == "table" and t or {}) do
      if type(name) == "string" and name:sub(1, #word) == word then list[#list + 1] = name end
    end
  end
  return start, sorted(list)
end

--- Completions of the word before the cursor, at a prompt that takes Lua, `?NAME` and `??WORD`.
--- Touches no device and runs none of the user's code.
---@param env table    the environment of chunks; env.regs a luio.Registers or nil, env.dev the device,
---                    env.help a table of the prompt's commands or nil: name -> "dump(PLACE)  what it does"
---@param text string  the line up to the cursor
---@return integer start        the byte where that word begins; #text + 1: it has not begun
---@return string[] candidates  whole words, by the alphabet; one that is called ends in "(", an array
---                             in "[", a block in "."
function M.line(env, text)
  local marks, word = text:match "^(%s*%??%?%s*)([%w_.%[%]]*)$"
  if marks and marks:find("?", 1, true) then return help(env, #marks + 1, word) end
  local list, stack = syntax.tokens(text)
  local last = list[#list]
  if last and last.kind == "comment" then return #text + 1, {} end
  if last and last.open then
    table.remove(list)
    return in_string(env, list, stack[#stack], last)
  end
  local prefix, start = "", #text + 1
  if last and last.stop == #text and (last.kind == "name" or last.kind == "number") then
    if last.kind == "number" then return start, {} end
    prefix, start = last.text, last.start
    table.remove(list)
    last = list[#list]
  end
  if last and (last.text == "." or last.text == ":") then
    local thing = thing_at(env, list, #list - 1)
    return start, thing and meaning.members(thing, last.text, prefix) or {}
  end
  local open = stack[#stack]
  if last and last.text == "[" and prefix == "" then
    local thing = thing_at(env, list, #list - 1)
    if thing and thing.kind == "array" then return start, indices(thing.def) end
  end
  local found = open and list[open].text == "{" and in_table(env, list, open, prefix, false)
  return start, found or bare(env, prefix)
end

return M
