--- Prints text to a terminal, safely and with colour. All of luio prints through this file.
---
---     term.print(line)        a line on standard output
---     term.write(text)        text with lines in it, such as a file
---     term.tell(text)         a message on standard error
---
--- Much of luio's output was written by others: names in sysfs and /proc, file names, a snapshot, a map's descriptions, a
--- driver's messages. A terminal obeys some of that: escape sequences set its title, change its colours or answer as if typed;
--- other characters hide or reorder text. So such characters are shown instead of sent: \x1b for ESC and other control
--- characters, \u{202e} for characters by which Unicode formats or hides text, \xff for a byte that is no UTF-8.
--- spec/udev/hostile_spec.lua checks this for every command, and no other file of luio prints.
---
--- Our own sequences are made by the functions below, in an inner form: it begins with a number that is drawn when the
--- program starts, so no text from elsewhere can contain it, and only `print`, `write` and `tell` turn it into a terminal's sequence.
---
--- NO_COLOR (no-color.org) turns colour off, CLICOLOR_FORCE on. A script or a driver that prints by itself goes past
--- it.

local uv = require "luv"

local M = {}

-- ---- Cleaning ------------------------------------------------------------------------------------

-- Code points that format or hide text instead of being seen: of Unicode 15 those with the property Default_Ignorable_Code_Point
-- or the category Cf, the separators of lines and paragraphs, interlinear annotations, and all of C1.
local HIDDEN = {
  0x80, 0x9f, 0xad, 0xad, 0x34f, 0x34f, 0x600, 0x605, 0x61c, 0x61c, 0x6dd, 0x6dd, 0x70f, 0x70f, 0x890, 0x891, 0x8e2, 0x8e2,
  0x115f, 0x1160, 0x17b4, 0x17b5, 0x180b, 0x180f, 0x200b, 0x200f, 0x2028, 0x202e, 0x2060, 0x206f, 0x3164, 0x3164, 0xfe00, 0xfe0f,
  0xfeff, 0xfeff, 0xffa0, 0xffa0, 0xfff0, 0xfffb, 0xfffe, 0xffff, 0x110bd, 0x110bd, 0x110cd, 0x110cd, 0x13430, 0x1345f,
  0x1bca0, 0x1bca3, 0x1d173, 0x1d17a, 0xe0000, 0xe0fff,
}

local function hidden(code)
  for i = 1, #HIDDEN, 2 do
    if code < HIDDEN[i] then return false end
    if code <= HIDDEN[i + 1] then return true end
  end
  return false
end

-- The code point that a character of several bytes begins with, and how many bytes it has; nil: it is no UTF-8.
local function decode(s)
  local b = s:byte()
  local n = b < 0xc2 and 0 or b < 0xe0 and 2 or b < 0xf0 and 3 or b < 0xf5 and 4 or 0
  if n == 0 or #s < n then return nil end
  local code = b % 2 ^ (7 - n)
  for i = 2, n do code = code * 64 + s:byte(i) % 64 end
  if code < (n == 2 and 0x80 or n == 3 and 0x800 or 0x10000) or code > 0x10ffff or code >= 0xd800 and code < 0xe000 then return nil end
  return code, n
end

-- Replaces characters that must not be sent: control(byte) and format(code) say by what; nil leaves
-- it.
local function replace(text, control, format)
  if not text:find "[%c\127-\255]" then return text end
  return (text:gsub("[%c\127-\255][\128-\191]*", function(s)
    local b = s:byte()
    local code, n = b, 1
    if b >= 0x80 then code, n = decode(s) end
    local out
    if not code then out, n = control(b, true), 1
    elseif b < 0x80 then out = control(b)
    elseif hidden(code) then out = format(code) end
    out = out or s:sub(1, n)
    -- Behind the character there may be further bytes, which begin none.
    return out .. s:sub(n + 1):gsub(".", function(c) return control(c:byte(), true) end)
  end))
end

local function control_text(b) return ("\\x%02x"):format(b) end
local function format_text(code) return ("\\u{%x}"):format(code) end
local function control_of_lines(b)
  if b ~= 10 and b ~= 9 then return control_text(b) end
end

--- A text of one line as a terminal may have it.
---@param text string
---@param limit? integer  bytes at most
---@return string
function M.clean(text, limit)
  text = replace(text, control_text, format_text)
  return limit and #text > limit and text:sub(1, limit - 3):gsub("[\192-\255][\128-\191]*$", "") .. "..." or text
end

--- JSON as a terminal and a parser may have it: all other characters than ASCII are within strings.
---@param text string
---@return string
function M.clean_json(text)
  return (replace(text, function(b, broken)
    return broken and "\\ufffd" or b ~= 10 and ("\\u%04x"):format(b) or nil
  end, function(code)
    if code < 0x10000 then return ("\\u%04x"):format(code) end
    code = code - 0x10000
    return ("\\u%04x\\u%04x"):format(0xd800 + math.floor(code / 1024), 0xdc00 + code % 1024)
  end))
end

--- A word of a shell, for a command that is to be copied.
---@param text string
---@return string
function M.quoted(text)
  return text:match "^[%w_./:@%%+-]+$" or "'" .. text:gsub("'", "'\\''") .. "'"
end

-- ---- Our own sequences ---------------------------------------------------------------------------

local MARK = "\27" .. uv.random(8):gsub(".", function(c) return ("%02x"):format(c:byte()) end) .. "["

--- A sequence of ours, CSI and its end: "2A" up two lines, "K" wipes the rest of the line; "\r" is a carriage return.
---@param text string
---@return string
function M.sequence(text) return MARK .. text end

--- A pattern that finds colour in a text.
M.COLOUR = MARK:gsub("%[", "%%[") .. "[%d;]*m"

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
    return M.colour and ("%s%dm%s%s0m"):format(MARK, code, s, MARK) or tostring(s)
  end
end

-- ---- Text for a terminal -------------------------------------------------------------------------

--- A text as it is sent to a terminal.
---@param text string
---@param one_line boolean?  what would begin another is shown
---@return string
function M.ready(text, one_line)
  local control = one_line and control_text or control_of_lines
  if not text:find(MARK, 1, true) then return replace(text, control, format_text) end
  local parts, at = {}, 1
  while true do
    local first, last = text:find(MARK, at, true)
    parts[#parts + 1] = replace(text:sub(at, (first or 0) - 1), control, format_text)
    if not first then return table.concat(parts) end
    at = last + 1
    if text:sub(at, at) == "\r" then
      parts[#parts + 1], at = "\r", at + 1
    else
      parts[#parts + 1] = "\27["
    end
  end
end

--- Where lines go instead of standard output, ready to be shown: a prompt has them above it.
---@type fun(text: string)?
M.sink = nil

--- Prints a line.
---@param line string
function M.print(line)
  (M.sink or print)(M.ready(tostring(line), true))
end

--- Prints lines.
---@param text string|string[]  with line ends in it, or one each
function M.print_all(text)
  if type(text) == "table" then
    for _, line in ipairs(text) do M.print(line) end
  else
    (M.sink or print)(M.ready(text))
  end
end

--- Writes a text with lines in it to standard output.
---@param text string
function M.write(text)
  io.write(M.ready(text))
end

--- A message as it is sent to a terminal. Its further lines are indented, so that none of them can pass for a message of its own.
---@param text string
---@return string
function M.message(text)
  return (M.ready(text):gsub("%s+$", ""):gsub("\n(%S)", "\n  %1"))
end

--- Writes a message to standard error, after the output so far.
---@param text string
function M.tell(text)
  io.stdout:flush()
  io.stderr:write(M.message(text), "\n")
end

-- ---- Columns -------------------------------------------------------------------------------------

--- Columns that a text takes on a screen: characters, not bytes; colour takes none.
---@param text string
---@return integer
function M.columns(text)
  text = text:gsub(M.COLOUR, "")
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
