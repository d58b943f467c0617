--- Lua as far as it has been typed: tokens, and the expression that ends at one of them.
---
---     tokens [[print(regs.CHANNEL[2].CTRL:get "RA]]    names, numbers, strings, operators; the last one open
---     steps(list, i)                                  { "base", "regs" }, { ".", "CHANNEL" }, { "[", 2 }, { ".", "CTRL" }
---
--- A line that is being typed has no syntax tree: it is not finished, and the text before its last
--- expression is of no interest. So the line is read backwards from its end, over names, indices and calls
--- of methods, for which brackets know their partners. Nothing is looked up here.

local M = {}

--- Words that are no names, by the alphabet.
M.KEYWORDS = {
  "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in", "local", "nil", "not", "or",
  "repeat", "return", "then", "true", "until", "while",
}
M.is_keyword = {}
for _, word in ipairs(M.KEYWORDS) do M.is_keyword[word] = true end

local OPERATORS = { "...", "..", "==", "~=", "<=", ">=", "::" }
local OPENS = { ["("] = true, ["["] = true, ["{"] = true }
local CLOSES = { [")"] = "(", ["]"] = "[", ["}"] = "{" }

-- One string from its quote: where it ends, and whether it does.
local function string_end(text, at)
  local quote = text:sub(at, at)
  local i = at + 1
  while i <= #text do
    local c = text:sub(i, i)
    if c == quote then return i, true end
    i = i + (c == "\\" and 2 or 1)
  end
  return #text, false
end

-- A long bracket at `at`: where it ends, and whether it does; nil: there is none.
local function long_end(text, at)
  local level = text:match("^%[(=*)%[", at)
  if not level then return nil end
  local _, stop = text:find("]" .. level .. "]", at, true)
  return stop or #text, stop ~= nil
end

---@class luio.Token
---@field kind "name"|"number"|"string"|"op"|"comment"
---@field text string
---@field start integer     bytes
---@field stop integer
---@field open boolean?     a string or comment that does not end; a comment is only kept when it does not
---@field partner integer?  of a bracket, once both are there

--- Cuts text into tokens.
---@param text string
---@return luio.Token[] list
---@return integer[] stack  the brackets that are open, innermost last
function M.tokens(text)
  local list, stack = {}, {}
  local at = 1
  local function token(kind, stop, open)
    list[#list + 1] = { kind = kind, text = text:sub(at, stop), start = at, stop = stop, open = open }
    at = stop + 1
  end
  while at <= #text do
    local c = text:sub(at, at)
    local long, closed = long_end(text, at)
    if c:match "%s" then
      at = at + 1
    elseif text:sub(at, at + 1) == "--" then
      local stop, ended = long_end(text, at + 2)
      if not stop then
        stop = text:find("\n", at, true)
        ended, stop = stop ~= nil, stop or #text
      end
      if not ended then token("comment", stop, true) else at = stop + 1 end
    elseif c == '"' or c == "'" then
      local stop, ended = string_end(text, at)
      token("string", stop, not ended)
    elseif long then
      token("string", long, not closed)
    elseif c:match "[%a_]" then
      token("name", select(2, text:find("^[%w_]+", at)))
    elseif c:match "%d" or text:match("^%.%d", at) then
      token("number", select(2, text:find("^[%w_.]+", at)))
    else
      local stop = at
      for _, op in ipairs(OPERATORS) do
        if text:sub(at, at + #op - 1) == op then
          stop = at + #op - 1
          break
        end
      end
      token("op", stop)
      local last = list[#list]
      if OPENS[last.text] then
        stack[#stack + 1] = #list
      elseif CLOSES[last.text] and stack[1] and list[stack[#stack]].text == CLOSES[last.text] then
        last.partner = table.remove(stack)
        list[last.partner].partner = #list
      end
    end
  end
  return list, stack
end
-- ---- Expressions, read backwards -----------------------------------------------------------------

--- The text of a finished string token; nil when it is none, or has escapes.
---@param token luio.Token?
---@return string?
function M.literal(token)
  if not token or token.kind ~= "string" or token.open then return nil end
  local inner = token.text:match "^%[=*%[(.*)%]=*%]$" or token.text:sub(2, -2)
  return not inner:find("\\", 1, true) and inner or nil
end
local literal = M.literal

--- The steps of the postfix expression that ends at token i: { { "base", name }, { ".", name },
--- { "[", key or nil }, { ":", method, argument } }.
---@param list luio.Token[]
---@param i integer
---@return table[]? steps  nil: none that can be followed
---@return integer? first  its first token
local function steps_to(list, i)
  local token, before = list[i], list[i - 1]
  if not token then return nil end
  if token.kind == "name" and before and before.text == "." then
    local steps, first = steps_to(list, i - 2)
    if steps then steps[#steps + 1] = { ".", token.text } end
    return steps, first
  elseif token.kind == "name" then
    if M.is_keyword[token.text] or before and before.text == ":" then return nil end
    return { { "base", token.text } }, i
  end
  local open, inner = token.partner, nil
  if open and open == i - 2 then inner = literal(before) or before.kind == "number" and tonumber(before.text) or nil end
  if token.text == "]" and open then
    local steps, first = steps_to(list, open - 1)
    if steps then steps[#steps + 1] = { "[", inner } end
    return steps, first
  elseif token.text == ")" and open then
    local callee = list[open - 1]
    if not callee or callee.kind == "op" and not CLOSES[callee.text] or M.is_keyword[callee.text] then -- only brackets
      local steps, first = steps_to(list, i - 1)
      return first == open + 1 and steps or nil, open
    end
    i = open
  elseif token.kind == "string" then
    inner = literal(token)
  else
    return nil
  end
  -- A call: only of a method, by its name, is there something to say.
  local method, colon = list[i - 1], list[i - 2]
  if not method or method.kind ~= "name" or not colon or colon.text ~= ":" then return nil end
  local steps, first = steps_to(list, i - 3)
  if steps then steps[#steps + 1] = { ":", method.text, inner } end
  return steps, first
end
M.steps = steps_to

return M
