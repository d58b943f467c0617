--- Takes a filter's text apart: words, numbers, addresses, operators, each with its column.
---
--- As in pcap-filter, a hyphen belongs to the word it is in: `80-90` is a range and `len-1` a name; in arithmetic leave
--- spaces, `len - 1`.

local M = {}

---@class luio.net.FilterToken
---@field kind "word"|"number"|"ipv4"|"ipv6"|"mac"|"range"|"escaped"|"symbol"|"end"
---@field text string
---@field at integer    its column, from 1
---@field value any     number: itself; ipv4: its parts, one to four; ipv6: four words of 32 bits; mac: 6 bytes

local Failure = {}
Failure.__index = Failure

--- Raises what M.catch takes: what is wrong with a token.
---@param token luio.net.FilterToken
---@param message string
function M.fail(token, message)
  local what = token.kind == "end" and "at its end" or ("column %d, %q"):format(token.at, token.text)
  error(setmetatable({ message = ("%s: %s"):format(what, message) }, Failure), 0)
end

--- Calls a function; what `fail` raises in it becomes nil, message.
---@param fn fun(...): any
---@param ... any
---@return any
---@return string? message
function M.catch(fn, ...)
  local ok, result = pcall(fn, ...)
  if ok then return result end
  if getmetatable(result) == Failure then return nil, result.message end
  error(result, 0)
end

local function decimal(text) return text:match "^%d+$" and tonumber(text, 10) end

local function number(token)
  local text = token.text
  local digits = text:match "^0[xX](%x+)$"
  local value
  if digits then
    value = #digits:gsub("^0+", "") <= 8 and tonumber(digits, 16) or 2 ^ 32
  elseif text:match "^0%d+$" then
    if text:match "[89]" then M.fail(token, "a number with a leading 0 is octal, and this one has an 8 or 9") end
    value = #text:gsub("^0+", "") <= 11 and tonumber(text, 8) or 2 ^ 32
  else
    value = tonumber(text, 10)
  end
  if value >= 2 ^ 32 then M.fail(token, "a number below 4294967296 was expected") end
  return value
end

local function ipv4(token)
  local parts = {}
  for part in token.text:gmatch "%d+" do
    local value = decimal(part)
    if value > 255 then M.fail(token, "in an IPv4 address, numbers up to 255 were expected") end
    table.insert(parts, value)
  end
  return parts
end

-- The 16-bit groups of one side of "::"; the last may be an IPv4 address.
local function groups(text, last)
  local list = {}
  if text == "" then return list end
  for part in (text .. ":"):gmatch "([^:]*):" do
    local a, b, c, d = part:match "^(%d+)%.(%d+)%.(%d+)%.(%d+)$"
    if a and last and #list * 5 < #text then
      a, b, c, d = tonumber(a), tonumber(b), tonumber(c), tonumber(d)
      if a > 255 or b > 255 or c > 255 or d > 255 then return nil end
      table.insert(list, a * 256 + b)
      table.insert(list, c * 256 + d)
    elseif part:match "^%x%x?%x?%x?$" then
      table.insert(list, tonumber(part, 16))
    else
      return nil
    end
  end
  return list
end

-- Four words, or nil.
local function ipv6(text)
  local before, after = text:match "^(.-)::(.*)$"
  local list
  if before then
    if after:find("::", 1, true) then return nil end
    local left, right = groups(before, false), groups(after, true)
    if not left or not right or #left + #right > 7 then return nil end
    list = left
    for _ = 1, 8 - #left - #right do table.insert(list, 0) end
    for _, group in ipairs(right) do table.insert(list, group) end
  else
    list = groups(text, true)
  end
  if not list or #list ~= 8 then return nil end
  local words = {}
  for i = 0, 3 do words[i + 1] = list[2 * i + 1] * 65536 + list[2 * i + 2] end
  return words
end

local function mac(text)
  local bytes = {}
  for part in text:gmatch "%x+" do table.insert(bytes, tonumber(part, 16)) end
  return bytes
end

local B = "%x%x?"
local MAC = { "^" .. B .. (":" .. B):rep(5), "^" .. B .. ("%-" .. B):rep(5) }
local SYMBOLS = { ["&&"] = "and", ["||"] = "or", ["=="] = "=", [">="] = ">=", ["<="] = "<=", ["!="] = "!=", ["<<"] = "<<", [">>"] = ">>" }

-- What begins at `at` with a letter, a digit or a colon: the longest of what it can be.
local function long(text, at)
  local colons = text:match("^[%x:.]+", at)
  for _, pattern in ipairs(MAC) do
    local found = text:match(pattern, at)
    if found and not text:match("^[%w:]", at + #found) then return { kind = "mac", text = found, at = at, value = mac(found) } end
  end
  if colons and select(2, colons:gsub(":", "")) >= 2 then
    local token = { kind = "ipv6", text = colons, at = at, value = ipv6(colons) }
    if not token.value then M.fail(token, "it is neither an IPv6 nor a MAC address") end
    return token
  end
  local word = text:match("^%w[-_.%w]*", at)
  word = word and word:match "^(.*[.%w])"
  if not word then return nil end
  local token = { kind = "word", text = word, at = at }
  if word:match "^%d+$" or word:match "^0[xX]%x+$" then
    token.kind, token.value = "number", number(token)
  elseif word:match "^%d+%.%d+$" or word:match "^%d+%.%d+%.%d+$" or word:match "^%d+%.%d+%.%d+%.%d+$" then
    token.kind, token.value = "ipv4", ipv4(token)
  elseif word:match "^%d+%-%d+$" then
    token.kind = "range"
  end
  return token
end

--- The tokens of a text, the last one of kind "end". Raises a failure.
---@param text string
---@return luio.net.FilterToken[]
function M.scan(text)
  local list, at = {}, 1
  while true do
    at = text:match("^[ \r\n\t]*()", at)
    local token
    if at > #text then
      table.insert(list, { kind = "end", text = "", at = at })
      return list
    end
    local two = SYMBOLS[text:sub(at, at + 1)]
    if two then
      token = { kind = (two == "and" or two == "or") and "word" or "symbol", text = two, at = at }
      at = at + 2
    elseif text:match("^[%w:]", at) and long(text, at) then
      token = long(text, at)
      at = at + #token.text
    elseif text:match("^\\[^ !()\n\t]", at) then
      local name = text:match("^\\([^ !()\n\t]+)", at)
      token = { kind = "escaped", text = name, at = at }
      at = at + #name + 1
    else
      token = { kind = "symbol", text = text:sub(at, at), at = at }
      if not token.text:match "[-+*/%%:%[%]!<>()&|^=]" then M.fail(token, "no filter has such a character") end
      at = at + 1
    end
    table.insert(list, token)
  end
end

return M
