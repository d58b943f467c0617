--- Text on a terminal: characters are UTF-8, and each takes so many columns.
---
---     text.characters "né"                2
---     text.extent("a long line", 8, 3)    1, 6    rows down and the column behind it, from column 3 of 8
---     text.columns({ "a", "bb" }, 80, 10)  "a   bb"
---
--- Lines wrap where libedit and the terminal wrap them; otherwise the prompt would be drawn in the wrong place.
--- Nothing here writes.

local bit = require "bit"
local posix = require "luio.posix"

local M = {}

local BROKEN = 0xfffd -- replaces bytes that are no UTF-8: libedit converts it back, and does not check

--- The character at a byte.
---@param text string
---@param at integer
---@return integer? code  its code point; nil: it goes on behind the text
---@return integer after  the byte behind it
function M.decode(text, at)
  local b = text:byte(at)
  if b < 0x80 then return b, at + 1 end
  local n = b < 0xc2 and 0 or b < 0xe0 and 1 or b < 0xf0 and 2 or b < 0xf5 and 3 or 0
  if n == 0 then return BROKEN, at + 1 end
  local code = bit.band(b, bit.rshift(0x3f, n))
  for i = 1, n do
    local c = text:byte(at + i)
    if not c then return nil, at end
    if c < 0x80 or c > 0xbf then return BROKEN, at + i end
    code = bit.bor(bit.lshift(code, 6), bit.band(c, 0x3f))
  end
  local least = n == 1 and 0x80 or n == 2 and 0x800 or 0x10000
  if code < least or code > 0x10ffff or code >= 0xd800 and code < 0xe000 then code = BROKEN end
  return code, at + n + 1
end
local decode = M.decode

local LEAD = { 0xc0, 0xe0, 0xf0 }

--- A character as UTF-8.
---@param code integer
---@return string
function M.encode(code)
  local n = code < 0x80 and 0 or code < 0x800 and 1 or code < 0x10000 and 2 or 3
  if n == 0 then return string.char(code) end
  local text = ""
  for _ = 1, n do
    text = string.char(bit.bor(0x80, bit.band(code, 0x3f))) .. text
    code = bit.rshift(code, 6)
  end
  return string.char(LEAD[n] + code) .. text
end

--- A text without invalid UTF-8.
---@param text string
---@return string
function M.valid(text)
  if not text:find "[\128-\255]" then return text end
  local parts, at = {}, 1
  while at <= #text do
    local code, after = decode(text, at)
    parts[#parts + 1] = code and M.encode(code)
    at = code and after or #text + 1
  end
  return table.concat(parts)
end

--- How many characters, not bytes.
---@param text string
---@return integer
function M.characters(text)
  local _, continuation = text:gsub("[\128-\191]", "")
  return #text - continuation
end
local characters = M.characters

--- Where a text ends on the screen.
---@param text string
---@param columns integer  of the terminal
---@param column integer   where the text begins
---@return integer rows    below that
---@return integer column
function M.extent(text, columns, column)
  local row, at = 0, 1
  while at <= #text do
    local code
    code, at = decode(text, at)
    if not code then break end
    if code == 10 then
      row, column = row + 1, 0
    else
      local width = (code < 32 or code == 127) and 2 or posix.wcwidth(code)
      if width < 0 then width = #("\\U+%x"):format(code) end
      if column + width > columns then row, column = row + 1, 0 end
      column = column + width
      if column == columns then row, column = row + 1, 0 end
    end
  end
  return row, column
end

--- The common beginning of texts, not cut within a character.
---@param list string[]  at least one
---@return string
function M.common_prefix(list)
  local common = list[1]
  for i = 2, #list do
    local n = 0
    while n < #common and common:byte(n + 1) == list[i]:byte(n + 1) do n = n + 1 end
    common = common:sub(1, n)
  end
  return (common:gsub("[\192-\255][\128-\191]*$", function(last) return decode(last, 1) and last or "" end))
end

local MEASURED = 500 -- the rest of a longer list is not shown

--- Words in columns, read downwards; cut, what comes first is shown, read across.
---@param list string[]
---@param columns integer    of the terminal
---@param max_lines integer  beside one that says how many more there are
---@return string
function M.columns(list, columns, max_lines)
  local width = 0
  for i = 1, math.min(#list, MEASURED) do width = math.max(width, characters(list[i])) end
  width = math.min(width + 2, columns)
  local across = math.max(1, math.floor(columns / width))
  local down = math.ceil(#list / across)
  local shown = math.min(down, max_lines)
  local lines, left = {}, #list
  for row = 1, shown do
    local cells = {}
    for column = 0, across - 1 do
      local word = list[shown < down and (row - 1) * across + column + 1 or column * down + row]
      if word then
        cells[#cells + 1] = word .. (" "):rep(width - characters(word))
        left = left - 1
      end
    end
    lines[row] = table.concat(cells):gsub("%s+$", "")
  end
  if left > 0 then lines[#lines + 1] = ("... and %d more"):format(left) end
  return table.concat(lines, "\n")
end

return M
