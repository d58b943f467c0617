--- Pieces of Lua text: names as keys, strings, comments that wrap, a field's values.

local numbers = require "luio.registers.import.numbers"

local M = {}

--- The lines of a map are no longer, comments behind them included.
M.COLUMNS = 120

local keywords = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
  until while]]):gmatch "%a+" do keywords[word] = true end

local escapes = { ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\127"] = "\\127" }

--- A string literal.
---@param text string
---@return string
function M.quote(text)
  return '"' .. text:gsub('[\\"%c]', function(c) return escapes[c] or ("\\%03d"):format(c:byte()) end) .. '"'
end

--- A name as a key of a table: NAME, or ["end"].
---@param name string
---@return string
function M.key(name)
  return name:match "^[%a_][%w_]*$" and not keywords[name] and name or "[" .. M.quote(name) .. "]"
end

--- The text, with spaces behind it up to a width.
---@param text string
---@param width integer
---@return string
function M.pad(text, width) return text .. (" "):rep(width - #text) end

--- The text in one line, its words apart by single spaces. Control characters are spaces, too, and so
--- is "\n" in two characters, as which SVD writes a new line.
---@param text string
---@return string
function M.flat(text)
  return (text:gsub("\\n", " "):gsub("[%s%c]+", " "):gsub("^ ", ""):gsub(" $", ""))
end

--- Adds "-- " lines of at most so many columns, broken at spaces.
---@param text string  flat
---@param columns integer
---@param lines string[]
---@return string[] lines
function M.wrap(text, columns, lines)
  local from = 1
  while from <= #text do
    -- The last space that leaves the line short enough; else the first one there is.
    local last = #text
    if last - from + 4 > columns then
      last = text:sub(from, from + columns - 3):match "^.*() "
      last = last and from + last - 2 or (text:find(" ", from, true) or #text + 1) - 1
    end
    lines[#lines + 1] = "-- " .. text:sub(from, last)
    from = last + 2
  end
  return lines
end

--- A string literal of at most so many columns a line, broken at spaces. "\z" skips the end of a line and what indents the next.
---@param head string  before its quote, in the first line
---@param text string
---@param columns integer
---@return string[] lines
function M.long(head, text, columns)
  local lines, from, before = {}, 1, head .. '"'
  text = M.quote(text):sub(2, -2) -- no escape has a space in it
  repeat
    local room, last = columns - #before - 3, #text
    if last - from + 1 > room then
      local space = text:sub(from, from + room - 1):match "^.*() "
      last = space and from + space - 1 or text:find(" ", from, true) or #text
    end
    lines[#lines + 1] = before .. text:sub(from, last) .. (last < #text and "\\z" or '"')
    from, before = last + 1, "  "
  until from > #text
  return lines
end

--- Length of the longest text(item).
---@param items table[]
---@param text fun(item: table): string
---@return integer
function M.widest(items, text)
  local most = 0
  for _, item in ipairs(items) do most = math.max(most, #text(item)) end
  return most
end

--- Lines of a field with its values. `head` is the text before them.
---@param field luio.SvdField
---@param head string
---@return string[]
function M.values(field, head)
  local inline, plain = {}, true
  for _, value in ipairs(field.values) do
    table.insert(inline, ("%s = %s"):format(M.key(value.name), numbers.literal(value.value)))
    plain = plain and (not value.text or M.flat(value.text):lower() == value.name:lower())
  end
  local text = head .. "values = { " .. table.concat(inline, ", ") .. " } },"
  if plain and #text <= M.COLUMNS - 10 then return { text } end
  local lines = { head .. "values = {" }
  local width = math.min(32, M.widest(field.values, function(v) return M.key(v.name) end))
  for _, value in ipairs(field.values) do
    local line = ("  %s = %s,"):format(M.pad(M.key(value.name), width), numbers.literal(value.value))
    local described = { line }
    local said = value.text and M.flat(value.text) or ""
    if said ~= "" and said:lower() ~= value.name:lower() then
      if #line + #said + 4 <= M.COLUMNS - 10 then
        described[1] = line .. " -- " .. said
      else
        described = {}
        for _, comment in ipairs(M.wrap(said, M.COLUMNS - 18, {})) do table.insert(described, "  " .. comment) end
        table.insert(described, line)
      end
    end
    for _, one in ipairs(described) do table.insert(lines, one) end
  end
  table.insert(lines, "} },")
  return lines
end

return M
