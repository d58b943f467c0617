--- Values as the prompt shows them.
---
---     128 = 0x80          an integer, as engineers read it
---     "text\n"            a string, quoted
---     { count = 1, cause = 1 }
---     STATUS 0x20 = ...   what has a text of its own: registers, blocks, devices
---     nil  message  (ETIMEDOUT)
---
--- A table is shown in one line where that fits, else with an entry a line; its entries, one line each.
--- A value of any size is shown in at most MAX_LINES lines, with the number of lines that are left out.
--- Showing a value calls no code but `__tostring`.

local bit = require "bit"
local ffi = require "ffi"
local is_keyword = require("luio.tool.explore.syntax").is_keyword
local errors = require "luio.errors"
local term = require "luio.text.term"

local M = {}

M.MAX_LINES = 50
local MAX_LINE = 1000 -- bytes of one: a terminal wraps it into a few
local MAX_TEXT, MAX_INSIDE = 2000, 60 -- bytes of a string, alone and in a table
local MAX_KEYS = 500 -- that are put in order
local MAX_DEPTH = 4

local NAMED = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ['"'] = '\\"', ["\\"] = "\\\\" }

-- The first bytes of a text, not cut within a character.
local function head(text, bytes)
  local cut = text:sub(1, bytes)
  if #cut == #text then return text, 0 end
  if text:byte(bytes + 1) >= 0x80 and text:byte(bytes + 1) < 0xc0 then cut = cut:gsub("[\192-\255]?[\128-\191]*$", "") end
  return cut, #text - #cut
end

local function quoted(text, max)
  local shown, left = head(text, max)
  -- Three digits where a digit follows: it would be one of the number's. luio.text.term handles invalid UTF-8 and invisible
  -- characters.
  shown = shown:gsub('([%c"\\])(%d?)', function(c, digit)
    return (NAMED[c] or (digit == "" and "\\%d" or "\\%03d"):format(c:byte())) .. digit
  end)
  return ('"%s"%s'):format(shown, left > 0 and (" ... %d bytes more"):format(left) or "")
end

-- A number, and beside it in hexadecimal: `128 = 0x80`; in a table, where "=" has another meaning, `128 (0x80)`.
local function with_hex(decimal, hex, inside)
  return (inside and "%s (0x%s)" or "%s = 0x%s"):format(decimal, hex)
end

local function number(n, inside)
  if n ~= n or n >= 2 ^ 63 or n <= -2 ^ 63 or n % 1 ~= 0 then return ("%.14g"):format(n) end
  if n < 10 or n >= 2 ^ 53 then return ("%.0f"):format(n) end
  local digits = n < 2 ^ 32 and ("%x"):format(n) or ("%x%08x"):format(math.floor(n / 2 ^ 32), n % 2 ^ 32)
  return with_hex(("%.0f"):format(n), digits, inside)
end

local function wide(n, inside)
  local text = tostring(n):gsub("U?LL$", "")
  return n < 10 and text or with_hex(text, bit.tohex(n):gsub("^0+", ""), inside)
end

-- A value's own text; nil: it has none.
local function own_text(value)
  local mt = debug.getmetatable(value)
  if type(mt) ~= "table" or rawget(mt, "__tostring") == nil then return nil end
  return (errors.tostring(value):gsub("\n$", ""))
end

local function scalar(value, inside)
  local kind = type(value)
  if kind == "number" then return number(value, inside) end
  if kind == "string" then return quoted(value, inside and MAX_INSIDE or MAX_TEXT) end
  if kind == "cdata" and (ffi.istype("uint64_t", value) or ffi.istype("int64_t", value)) then return wide(value, inside) end
  if kind == "function" then
    local info = debug.getinfo(value, "S")
    return info.what == "C" and tostring(value) or ("function: %s:%d"):format(info.short_src, info.linedefined)
  end
  return own_text(value) or tostring(value)
end

local ORDER = { number = 1, string = 2, boolean = 3 }

local function before(a, b)
  local x, y = type(a), type(b)
  if x ~= y then return (ORDER[x] or 9) < (ORDER[y] or 9) end
  if x == "number" or x == "string" then return a < b end
  return tostring(a) < tostring(b)
end

-- Keys beside 1..n, in order, and how many more there are than are worth sorting.
local function other_keys(t, n)
  local keys, more = {}, 0
  for key in next, t do
    if not (type(key) == "number" and key >= 1 and key <= n and key % 1 == 0) then
      if #keys < MAX_KEYS then keys[#keys + 1] = key else more = more + 1 end
    end
  end
  table.sort(keys, before)
  return keys, more
end

local function label(key)
  if type(key) == "string" and key:match "^[%a_][%w_]*$" and not is_keyword[key] then return key end
  return ("[%s]"):format(type(key) == "number" and ("%.14g"):format(key) or scalar(key, true))
end

-- In one line, cut where it would be longer than `max`; and whether it is all there.
local function inline(value, depth, seen, max)
  if type(value) ~= "table" then return scalar(value, true) end
  local text = own_text(value)
  if text then
    local first, more = text:match "^([^\n]*)(\n?)"
    return more == "" and first or first .. " ..."
  end
  if next(value) == nil then return "{}" end
  if seen[value] then return "{ itself }" end
  if depth == 0 then return "{ ... }" end
  seen[value] = true
  local n = #value
  local keys, hidden = other_keys(value, n)
  local parts, length, total, whole = {}, 4, n + #keys + hidden, hidden == 0
  for i = 1, n + #keys do
    local key = keys[i - n]
    local part = inline(rawget(value, i <= n and i or key), depth - 1, seen, max)
    if i > n then part = ("%s = %s"):format(label(key), part) end
    if length + #part + 2 > max then
      parts[#parts + 1] = ("... %d more"):format(total - i + 1)
      whole = false
      break
    end
    parts[#parts + 1], length = part, length + #part + 2
  end
  seen[value] = nil
  return ("{ %s }"):format(table.concat(parts, ", ")), whole
end

local function lines_of(text, max)
  local lines, left = {}, 0
  for line in (text .. "\n"):gmatch "(.-)\n" do
    if #lines < max then
      local shown, cut = head(line, MAX_LINE)
      lines[#lines + 1] = cut > 0 and ("%s ... %d bytes more"):format(shown, cut) or shown
    else
      left = left + 1
    end
  end
  if left > 0 then lines[#lines + 1] = ("... %d more line%s"):format(left, left == 1 and "" or "s") end
  return table.concat(lines, "\n")
end

-- A list of plain values, as many a line as fit; nil: there are tables in it.
local function packed(t, n, columns)
  local lines, line, i = { "{" }, " ", 1
  while i <= n and #lines < M.MAX_LINES - 1 do
    if type(rawget(t, i)) == "table" then return nil end
    local part = scalar(rawget(t, i), true) .. ","
    if #line + #part + 1 > columns and line ~= " " then
      lines[#lines + 1], line = line, " "
    else
      line, i = line .. " " .. part, i + 1
    end
  end
  if line ~= " " then lines[#lines + 1] = line end
  if i <= n then lines[#lines + 1] = ("  ... %d more"):format(n - i + 1) end
  lines[#lines + 1] = "}"
  return table.concat(lines, "\n")
end

--- A value, in a line or in several.
---@param value any
---@param columns? integer  of the terminal; 80
---@return string
function M.text(value, columns)
  local terminal = columns
  columns = columns or 80
  if type(value) == "string" then return scalar(value) end
  if type(value) ~= "table" then return lines_of(scalar(value), M.MAX_LINES) end
  local text = own_text(value)
  if text then
    return lines_of(text:gsub("[^\n]+", function(line)
      if not terminal or term.columns(line) <= terminal then return end
      return table.concat(term.wrap(line, terminal, line:match "^ *" .. "  ", line:match "^ *"), "\n")
    end), M.MAX_LINES)
  end
  local line, whole = inline(value, MAX_DEPTH, {}, columns)
  if next(value) == nil or whole and #line <= columns then return line end
  local n = #value
  local keys, hidden = other_keys(value, n)
  local list = #keys == 0 and packed(value, n, columns)
  if list then return list end
  local lines = { "{" }
  for i = 1, n + #keys do
    if #lines == M.MAX_LINES - 1 then
      hidden = hidden + n + #keys - i + 1
      break
    end
    local key = i <= n and i or keys[i - n]
    local room = math.max(columns - #label(key) - 6, 20)
    local inner = inline(rawget(value, key), MAX_DEPTH - 1, { [value] = true }, room)
    lines[#lines + 1] = i <= n and ("  %s,"):format(inner) or ("  %s = %s,"):format(label(key), inner)
  end
  if hidden > 0 then lines[#lines + 1] = ("  ... %d more"):format(hidden) end
  lines[#lines + 1] = "}"
  return table.concat(lines, "\n")
end

--- Whether results say that something failed as expected: nil, message, and maybe a code.
---@param results { n: integer, [integer]: any }
---@return boolean
function M.is_failure(results)
  return results.n >= 2 and results.n <= 3 and results[1] == nil and type(results[2]) == "string"
    and (results[3] == nil or type(results[3]) == "string")
end

--- The results of an expression. nil: there are none.
---@param results { n: integer, [integer]: any }
---@param columns? integer
---@return string?
function M.results(results, columns)
  if results.n == 0 then return nil end
  if M.is_failure(results) then
    return ("nil  %s%s"):format(lines_of(results[2], M.MAX_LINES), results[3] and ("  (%s)"):format(results[3]) or "")
  end
  local texts, several = {}, false
  for i = 1, results.n do
    texts[i] = M.text(results[i], columns)
    several = several or texts[i]:find "\n" ~= nil
  end
  return table.concat(texts, several and "\n" or "  ")
end

return M
