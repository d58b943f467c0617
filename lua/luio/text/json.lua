--- Reading JSON that comes from anywhere: RFC 8259 to the letter, to a depth, within a size, and where it is wrong the line
--- and column. dkjson's reader takes missing commas, doubled keys and text after the end for right, and a deep document for as many
--- C frames as it has brackets.
---
--- Writing is for machines that must get exactly the value that was meant; an error names the place of one that JSON doesn't have.
--- luio.tool.output writes for people and pipes, and finds a form for everything.

local ffi = require "ffi"

local M = {}

--- Brackets within brackets, at most.
M.DEPTH = 64
--- Bytes, at most: some 700,000 registers.
M.LIMIT = 64 * 2 ^ 20

local ESCAPES = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }
local WORDS = { { "true", true }, { "false", false }, { "null", nil } }

-- The error that decode catches: a table, so that no other error is taken for one of these.
local function fail(at, format, ...)
  error({ at = at, text = format:format(...) }, 0)
end

local function utf8(code)
  local function tail(shift) return math.floor(code / 2 ^ shift) % 64 + 0x80 end
  if code < 0x80 then return string.char(code) end
  if code < 0x800 then return string.char(0xc0 + math.floor(code / 64), tail(0)) end
  if code < 0x10000 then return string.char(0xe0 + math.floor(code / 4096), tail(6), tail(0)) end
  return string.char(0xf0 + math.floor(code / 2 ^ 18), tail(12), tail(6), tail(0))
end

-- \uXXXX, or two of them for a character beyond 16 bits: the text, and the position of its end.
local function escaped_code(text, at)
  local code = tonumber(text:match("^u(%x%x%x%x)", at) or fail(at, "\\u without four hexadecimal digits"), 16)
  if code < 0xd800 or code > 0xdfff then return utf8(code), at + 5 end
  local low = code < 0xdc00 and tonumber(text:match("^\\u(%x%x%x%x)", at + 5) or "0", 16) or 0
  if low < 0xdc00 or low > 0xdfff then fail(at, "half of a surrogate pair") end
  return utf8((code - 0xd800) * 1024 + low - 0xdc00 + 0x10000), at + 11
end

-- From behind the opening quote.
local function read_string(text, at)
  local first, after = text:match('^([^"\\%c]*)"()', at)
  if first then return first, after end
  local parts, start = {}, at
  while true do
    local plain, stop
    plain, stop = text:match('^([^"\\%c]*)()', at)
    table.insert(parts, plain)
    local char = text:sub(stop, stop)
    if char == '"' then return table.concat(parts), stop + 1 end
    if char == "" then fail(start - 1, "text without an end") end
    if char == "\127" then
      at = stop + 1
      table.insert(parts, char)
    elseif char ~= "\\" then
      fail(stop, "a control character in text")
    else
      local next_char = text:sub(stop + 1, stop + 1)
      if ESCAPES[next_char] then
        at = stop + 2
        table.insert(parts, ESCAPES[next_char])
      elseif next_char == "u" then
        local code
        code, at = escaped_code(text, stop + 1)
        table.insert(parts, code)
      else
        fail(stop, "an unknown escape")
      end
    end
  end
end

local function read_number(text, at)
  local after = text:match("^%-?0()", at) or text:match("^%-?[1-9]%d*()", at)
  if not after then return nil end
  after = text:match("^%.%d+()", after) or after
  after = text:match("^[eE][+-]?%d+()", after) or after
  local number = tonumber(text:sub(at, after - 1))
  if number == math.huge or number == -math.huge then fail(at, "a number too large") end
  return number, after
end

local read_value

local function skip(text, at) return (text:match("^[ \t\r\n]*()", at)) end

local function expect(text, at, char, what)
  if text:sub(at, at) ~= char then fail(at, "expected %s", what) end
  return skip(text, at + 1)
end

local function read_object(text, at, depth)
  local object = {}
  if text:sub(at, at) == "}" then return object, at + 1 end
  while true do
    if text:sub(at, at) ~= '"' then fail(at, "expected a key in quotes") end
    local key, after = read_string(text, at + 1)
    if object[key] ~= nil then fail(at, "the key %q is there twice", key) end
    at = expect(text, skip(text, after), ":", "a colon")
    object[key], at = read_value(text, at, depth)
    at = skip(text, at)
    if text:sub(at, at) == "}" then return object, at + 1 end
    at = expect(text, at, ",", "a comma or }")
  end
end

local function read_array(text, at, depth)
  local array = setmetatable({}, M.ARRAY)
  if text:sub(at, at) == "]" then return array, at + 1 end
  local n = 0
  while true do
    n = n + 1
    array[n], at = read_value(text, at, depth)
    at = skip(text, at)
    if text:sub(at, at) == "]" then return array, at + 1 end
    at = expect(text, at, ",", "a comma or ]")
  end
end

--- The metatable of arrays. It distinguishes an empty array from an empty object.
M.ARRAY = { __jsontype = "array" }

function read_value(text, at, depth)
  local char = text:sub(at, at)
  if char == '"' then return read_string(text, at + 1) end
  if char == "{" or char == "[" then
    if depth >= M.DEPTH then fail(at, "more than %d brackets within each other", M.DEPTH) end
    return (char == "{" and read_object or read_array)(text, skip(text, at + 1), depth + 1)
  end
  local number, after = read_number(text, at)
  if number then return number, after end
  for _, word in ipairs(WORDS) do
    if text:sub(at, at + #word[1] - 1) == word[1] then return word[2], at + #word[1] end
  end
  fail(at, at > #text and "it ends here" or "expected a value")
end

local function place(text, at)
  local line, start = 1, 1
  for newline in text:sub(1, at - 1):gmatch "\n()" do
    line, start = line + 1, newline
  end
  return ("line %d, column %d"):format(line, at - start + 1)
end

--- A document's value: objects and arrays as tables, arrays with M.ARRAY; null is nil.
---@param text string
---@return any value
---@return string? message  "line 3, column 7: expected a colon"
---@return string? code  "EINVAL"
function M.decode(text)
  local ok, value, after = pcall(read_value, text, skip(text, 1), 0)
  if ok then
    after = skip(text, after)
    if after > #text then return value end
    value = { at = after, text = "something behind the end" }
  elseif type(value) ~= "table" then
    error(value, 0)
  end
  return nil, ("%s: %s"):format(place(text, value.at), value.text), "EINVAL"
end

--- Whether a value of a document is an array.
---@param value any
---@return boolean
function M.is_array(value) return getmetatable(value) == M.ARRAY end

-- ---- Writing -------------------------------------------------------------------------------------

local SHORT = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

-- The position of a byte that is no part of UTF-8.
local function not_utf8(text)
  local at = text:find "[\128-\255]"
  while at do
    local lead, second = text:byte(at, at + 1)
    local tail = lead < 0xe0 and 1 or lead < 0xf0 and 2 or 3
    second = second or 0
    if lead < 0xc2 or lead > 0xf4 or not text:find("^" .. ("[\128-\191]"):rep(tail), at + 1) or lead == 0xe0 and second < 0xa0
      or lead == 0xed and second > 0x9f or lead == 0xf0 and second < 0x90 or lead == 0xf4 and second > 0x8f then
      return at
    end
    at = text:find("[\128-\255]", at + tail + 1)
  end
end

local function quoted(text, path)
  local at = not_utf8(text)
  if at then fail(path, "text that is no UTF-8, at byte %d", at) end
  return '"' .. text:gsub('[%c"\\]', function(char) return SHORT[char] or ("\\u%04x"):format(char:byte()) end) .. '"'
end

local write_value

local function write_table(value, path, open)
  if open[value] then fail(path, "a table within itself") end
  open[value] = true
  local parts = {}
  if value[1] ~= nil or M.is_array(value) then
    for key in pairs(value) do
      if type(key) ~= "number" or key % 1 ~= 0 or key < 1 or key > #value then fail(path, "a list with the key %s", tostring(key)) end
    end
    for i = 1, #value do parts[i] = write_value(value[i], ("%s[%d]"):format(path, i), open) end
  else
    local keys = {}
    for key in pairs(value) do
      if type(key) ~= "string" then fail(path, "a key that is a %s", type(key)) end
      table.insert(keys, key)
    end
    table.sort(keys)
    for i, key in ipairs(keys) do
      parts[i] = quoted(key, path) .. ":" .. write_value(value[key], path == "" and key or path .. "." .. key, open)
    end
  end
  open[value] = nil
  local text = table.concat(parts, ",")
  return (value[1] ~= nil or M.is_array(value)) and "[" .. text .. "]" or "{" .. text .. "}"
end

function write_value(value, path, open)
  local kind = type(value)
  if kind == "string" then return quoted(value, path) end
  if kind == "boolean" then return tostring(value) end
  if kind == "table" then return write_table(value, path, open) end
  if kind == "number" then
    if value ~= value or value == math.huge or value == -math.huge then fail(path, "the number %s", tostring(value)) end
    return (value % 1 == 0 and math.abs(value) <= 2 ^ 53 and "%.0f" or "%.17g"):format(value)
  end
  if ffi.istype("uint64_t", value) or ffi.istype("int64_t", value) then return (tostring(value):gsub("U?LL$", "")) end
  fail(path, "a %s", kind)
end

--- A value as one line of JSON, keys in order: tables, text in UTF-8, numbers, uint64_t and int64_t, booleans. A table with [1], or
--- with the metatable M.ARRAY, is an array, and any other one an object.
---@param value any
---@return string? text
---@return string? message  "arguments.size: a function"
---@return string? code  "EINVAL"
function M.encode(value)
  local ok, text = pcall(write_value, value, "", {})
  if ok then return text end
  if type(text) ~= "table" then error(text, 0) end
  return nil, (text.at == "" and "%s%s" or "%s: %s"):format(text.at, text.text), "EINVAL"
end

-- ---- Files ---------------------------------------------------------------------------------------

--- Reads a file to its end, M.LIMIT bytes at most.
---@param path string  "-": standard input
---@return string? text
---@return string? message
---@return string? code  "ENOENT", "EFBIG"
function M.read(path)
  local f, message, number = io.stdin, nil, nil
  if path ~= "-" then f, message, number = io.open(path) end
  if not f then return nil, message, require("luio.ffi").errno_name(number) end
  local parts, size = {}, 0
  local part
  repeat
    part, message, number = f:read(2 ^ 20)
    table.insert(parts, part)
    size = size + #(part or "")
  until not part or size > M.LIMIT
  if path ~= "-" then f:close() end
  if number then return nil, ("%s: %s"):format(path, message), require("luio.ffi").errno_name(number) end
  if size > M.LIMIT then return nil, ("%s has more than %d MiB"):format(path, M.LIMIT / 2 ^ 20), "EFBIG" end
  return table.concat(parts)
end

return M
