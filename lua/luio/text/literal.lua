--- Reads tables of literals out of Lua text, without running any of it.
---
---     literal.assigned(text, "match")     { { pci = "1234:11e8" } }    of `match = { pci = "1234:11e8" }`
---     literal.returned(text)              { nvme = { serial = "1" } }  of `return { nvme = { serial = "1" } }`
---
--- Each driver's `match` is needed by commands that only look (`luio list`, a shell's completion),
--- so the driver's code is not run for it. Here the text is cut into tokens as Lua cuts it, comments and strings
--- included; where `NAME = {` or `["NAME"] = {` stands, the table is read if it consists of strings, numbers, booleans,
--- nil and such tables. Anything else (a call, a name, a sum) is known only by running the code.
---
--- The time it takes is proportional to the text, nesting has a limit, and text that is no Lua gives an error, not a
--- guess.

local M = {}

local MAX_DEPTH = 20
local MAX_BYTES = 2 ^ 20

-- ---- Tokens --------------------------------------------------------------------------------------

local ESCAPES = { a = "\a", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", v = "\v", ["\\"] = "\\", ['"'] = '"', ["'"] = "'",
  ["\n"] = "\n" }

-- The end of a long bracket that opens at `at`, and its content; nil: none opens there, or it does not close.
local function long(text, at)
  local level = text:match("^%[(=*)%[", at)
  if not level then return nil end
  local from = at + #level + 2
  local first, last = text:find("]" .. level .. "]", from, true)
  if not first then return nil end
  return last + 1, (text:sub(from, first - 1):gsub("^\r?\n", ""))
end

-- A quoted string that opens at `at`: the position behind it, and its value; the value is nil when it has an escape that
-- is not read here (\u{...}, \z).
local function quoted(text, at)
  local quote, parts, plain = text:sub(at, at), {}, true
  at = at + 1
  while true do
    local stop = text:find("[\\\n" .. quote .. "]", at)
    if not stop then return nil end
    table.insert(parts, text:sub(at, stop - 1))
    local c = text:sub(stop, stop)
    if c == quote then return stop + 1, plain and table.concat(parts) or nil end
    if c == "\n" then return nil end
    local hex, decimal = text:match("^x(%x%x)", stop + 1), text:match("^%d%d?%d?", stop + 1)
    local one = text:sub(stop + 1, stop + 1)
    if hex then
      table.insert(parts, string.char(tonumber(hex, 16)))
      at = stop + 4
    elseif decimal and tonumber(decimal) < 256 then
      table.insert(parts, string.char(tonumber(decimal)))
      at = stop + 1 + #decimal
    else
      plain = plain and ESCAPES[one] ~= nil
      table.insert(parts, ESCAPES[one] or "")
      at = stop + 2
    end
  end
end

-- The position behind a comment that begins at `at`; nil: the comment does not end.
local function behind_comment(text, at)
  return long(text, at + 2) or not text:find("^%-%-%[=*%[", at) and text:match("^[^\n]*()", at) or nil
end

-- Calls found(kind, at) for each place in a text where `name` stands as a name or as a string, outside comments. All else is
-- passed over without being cut into tokens, which would take ten times as long. Nil and where, when a string or a comment does
-- not end.
local function places(text, name, found)
  local at = text:match "^#[^\n]*()" or 1
  local next_name = text:find(name, at, true)
  while true do
    local stop, c = text:match("()([\"'%-%[])", at)
    while next_name and next_name < (stop or #text + 1) do
      local inside = text:find("^[%w_]", next_name + #name) or next_name > 1 and text:find("^[%w_]", next_name - 1)
      if not inside then found("name", next_name) end
      next_name = text:find(name, next_name + #name, true)
    end
    if not stop then return true end
    local after, value
    if c == "-" then
      after = text:byte(stop + 1) == 45 and behind_comment(text, stop) or text:byte(stop + 1) ~= 45 and stop + 1
    elseif c == "[" then
      if text:find("^%[=*%[", stop) then after, value = long(text, stop) else after = stop + 1 end
    else
      after, value = quoted(text, stop)
    end
    if not after then return nil, stop end
    if value == name then found("string", stop) end
    at = after
    if next_name and next_name < at then next_name = text:find(name, at, true) end
  end
end

-- Calls take(kind, value) for each token from `at` on: "name", "string", "number", or "sign" of one character; until that returns
-- true, the text ends, or it can't be cut. True: the text has ended.
local function tokens(text, at, take)
  local enough
  while not enough do
    at = text:match("^%s*()", at)
    if at > #text then return true end
    local c = text:sub(at, at)
    local after, value
    if text:find("^%-%-", at) then
      at = behind_comment(text, at)
      if not at then return end
    elseif c:find "[%a_]" then
      value, after = text:match("^([%w_]+)()", at)
      enough = take("name", value)
      at = after
    elseif c:find "%d" or text:find("^%.%d", at) then
      -- As much as a number could have; whether it is one is seen when it is wanted.
      value, after = text:match("^([%w_.]+)()", at)
      while value:find "^%d[%d.]*[eE]$" and text:find("^[+-]", after) do
        local more
        more, after = text:match("^([+-][%w_.]*)()", after)
        value = value .. more
      end
      enough = take("number", value)
      at = after
    elseif c == '"' or c == "'" then
      after, value = quoted(text, at)
      if not after then return end
      enough = take("string", value)
      at = after
    elseif c == "[" and text:find("^%[=*%[", at) then
      after, value = long(text, at)
      if not after then return end
      enough = take("string", value)
      at = after
    else
      -- "==" is one token, which distinguishes a comparison from an assignment.
      local sign = text:match("^[=~<>]=", at) or c
      enough = take("sign", sign)
      at = at + #sign
    end
  end
end

-- ---- Values --------------------------------------------------------------------------------------

local CONSTANT = { ["true"] = true, ["false"] = false }

local read_table

-- The value at token i: the token behind it, and the value. Nil: it is no literal.
local function read(list, i, depth)
  local t = list[i]
  if not t then return nil end
  if t.kind == "string" and t.value then return i + 1, t.value end
  if t.kind == "number" then
    local number = tonumber(t.value)
    if number then return i + 1, number end
  elseif t.kind == "name" and CONSTANT[t.value] ~= nil then
    return i + 1, CONSTANT[t.value]
  elseif t.kind == "name" and t.value == "nil" then
    return i + 1, nil
  elseif t.kind == "sign" and t.value == "-" and list[i + 1] and list[i + 1].kind == "number" then
    local after, value = read(list, i + 1, depth)
    if after then return after, -value end
  elseif t.kind == "sign" and t.value == "{" then
    return read_table(list, i, depth + 1)
  end
  return nil
end

local function is(t, sign) return t ~= nil and t.kind == "sign" and t.value == sign end

function read_table(list, i, depth)
  if depth > MAX_DEPTH then return nil end
  local result, n = {}, 0
  i = i + 1
  while not is(list[i], "}") do
    local key, value, after
    if list[i] and list[i].kind == "name" and is(list[i + 1], "=") then
      key, i = list[i].value, i + 2
    elseif is(list[i], "[") then
      after, key = read(list, i + 1, depth)
      if not after or key == nil or not is(list[after], "]") or not is(list[after + 1], "=") then return nil end
      i = after + 2
    else
      n = n + 1
      key = n
    end
    after, value = read(list, i, depth)
    -- Behind a literal more may come: "a" .. b, 2 ^ x, ("x"):rep().
    if not after or not (is(list[after], ",") or is(list[after], ";") or is(list[after], "}")) then return nil end
    result[key] = value
    i = is(list[after], "}") and after or after + 1
  end
  return i + 1, result
end

-- The tokens from a name on, up to the one behind the table that is assigned to it; the place of "=", nil if nothing is
-- assigned; and how many brackets are open at the end.
local function read_ahead(text, at)
  local list, eq, depth = {}, nil, 0
  tokens(text, at, function(kind, value)
    list[#list + 1] = { kind = kind, value = value }
    local n, t = #list, list[#list]
    if not eq then
      if n > 1 and is(t, "=") then eq = n
      elseif n > 2 or n == 2 and not is(t, "]") then return true end
      return false
    end
    if n > eq + 1 and depth == 0 then return true end -- the one behind
    if is(t, "{") then depth = depth + 1 elseif is(t, "}") then depth = depth - 1 end
    return n == eq + 1 and depth == 0 -- no table
  end)
  return list, eq, depth
end

--- Every table of literals that a text assigns to a name, in a table or to a variable.
---@param text string
---@param name string
---@return table[]? tables   an empty list: nothing is assigned to it
---@return string? message   it is given something that is no table of literals, or the text can't be read
function M.assigned(text, name)
  if #text > MAX_BYTES then return nil, ("it has more than %d bytes"):format(MAX_BYTES) end
  local found, named, unknown = {}, false, false
  local ok, where = places(text, name, function(kind, at)
    named = named or kind == "string" -- rawset(driver, "match", ...); the name alone is string.match, too
    local list, eq, depth = read_ahead(text, at)
    if not eq then return end
    local after, value = read(list, eq + 1, 0)
    -- The text behind a whole expression: the next entry, or statement; not an operator or a call.
    local next_one = after and list[after]
    local whole = depth == 0 and (not next_one or next_one.kind == "name" and next_one.value ~= "or" and next_one.value ~= "and"
      or is(next_one, ",") or is(next_one, ";") or is(next_one, "}"))
    if type(value) ~= "table" or not whole then unknown = true end
    table.insert(found, value)
  end)
  if not ok then
    local _, lines = text:sub(1, where):gsub("\n", "")
    return nil, ("line %d is no Lua"):format(lines + 1)
  end
  if unknown then return nil, name .. " is not stated as a table of literals" end
  if named and not found[1] then return nil, name .. " is not stated as a table of literals" end
  return found
end

--- The table of literals that is all a text returns, beside comments.
---@param text string
---@return table? value
---@return string? message  it is something else
function M.returned(text)
  if #text > MAX_BYTES then return nil, ("it has more than %d bytes"):format(MAX_BYTES) end
  local list = {}
  local whole = tokens(text, 1, function(kind, value)
    list[#list + 1] = { kind = kind, value = value }
  end)
  local first = list[1]
  if not first or first.kind ~= "name" or first.value ~= "return" then return nil, "it is to be `return { ... }`, and nothing else" end
  local after, value = read(list, 2, 0)
  if is(list[after or 0], ";") then after = after + 1 end
  if not whole or type(value) ~= "table" or list[after] then
    return nil, "it is to return a table of literals, and to hold nothing else"
  end
  return value
end

return M
