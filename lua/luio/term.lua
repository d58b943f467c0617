--- Colour for a terminal, plain text for a pipe. NO_COLOR (no-color.org) turns it off,
--- CLICOLOR_FORCE on.

local uv = require "luv"

local M = {}

local codes = { bold = 1, dim = 2, red = 31, green = 32, yellow = 33, cyan = 36 }

local function wanted()
  if (os.getenv "NO_COLOR" or "") ~= "" then return false end
  local force = os.getenv "CLICOLOR_FORCE" or ""
  if force ~= "" and force ~= "0" then return true end
  return uv.guess_handle(1) == "tty"
end

--- Whether standard output takes colour.
M.colour = wanted()

for name, code in pairs(codes) do
  M[name] = function(s)
    return M.colour and ("\27[%dm%s\27[0m"):format(code, s) or tostring(s)
  end
end

--- Columns that a text takes on a screen: characters, not bytes; colour takes none.
---@param text string
---@return integer
function M.columns(text)
  text = text:gsub("\27%[[%d;]*m", "")
  local _, continuation = text:gsub("[\128-\191]", "")
  return #text - continuation
end

--- A text with spaces behind it.
---@param text string
---@param width integer
---@return string
function M.pad(text, width)
  return text .. (" "):rep(width - M.columns(text))
end

--- Words as lines that fit: broken between words, never within one.
---@param words string|string[]
---@param width integer?   of the terminal; nil: one line
---@param indent? string   of the lines after the first
---@param first? string    what the first line begins with; else the indentation
---@return string[]
function M.wrap(words, width, indent, first)
  if type(words) == "string" then
    local list = {}
    for word in words:gmatch "%S+" do table.insert(list, word) end
    words = list
  end
  indent = indent or ""
  local lines, line, bare = {}, first or indent, true
  local margin, at = M.columns(indent), M.columns(first or indent)
  for _, word in ipairs(words) do
    local n = M.columns(word)
    local gap = bare and 0 or 1
    -- A word that fits nowhere stays where it is.
    if width and at + gap + n > width and at > margin then
      table.insert(lines, (line:gsub(" +$", "")))
      line, at, gap = indent, margin, 0
    end
    line, at, bare = line .. (" "):rep(gap) .. word, at + gap + n, false
  end
  table.insert(lines, (line:gsub(" +$", "")))
  return lines
end

return M
