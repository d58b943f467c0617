--- Finds mistakes in a driver's Lua: arithmetic of 64 bits with a negative number.
---
--- The `bit` functions, +, - and comparisons convert all arguments to uint64_t if one is a uint64_t. On amd64 the LuaJIT
--- of Debian 12 then makes 2^63 of a negative number, on arm64 the expected value: `bit.band(base, bit.bnot(0xf))` is 0
--- or 2^63 on the one, the base without its low bits on the other. `bit.bnot(0xfULL)` is right on both.
---
--- Types are not known here, so only visible cases are reported: a call of band, bor or bxor that has a negative number or
--- bnot of a plain one among its arguments, and beside it a sign of 64 bits: a ULL literal, a cast, read64, the value of a
--- register that the map calls 64 bits wide.

local syntax = require "luio.tool.explore.syntax"
local sysfs = require "luio.host.sysfs"

local M = {}

local COMBINES = { band = true, bor = true, bxor = true }
local WIDE = { read64 = true, read64_swapped = true, uint64_t = true, int64_t = true }
local LITERAL = "[uU]?[lL][lL]$"

-- The arguments of the call whose bracket opens at i: { first, last } of the tokens.
local function arguments(tokens, i)
  local list, first = {}, i + 1
  local k = first
  while k < tokens[i].partner do
    local t = tokens[k]
    if t.text == "," then
      list[#list + 1] = { first, k - 1 }
      first = k + 1
    elseif t.partner and t.partner > k then
      k = t.partner
    end
    k = k + 1
  end
  list[#list + 1] = { first, k - 1 }
  return list
end

local function any(tokens, span, is)
  for k = span[1], span[2] do
    if is(tokens[k], k) then return true end
  end
  return false
end

-- -1, bnot(0xf), bit.bnot(MASK): if the argument is visibly a number.
local function negative(tokens, span)
  local first = tokens[span[1]]
  local last = tokens[span[2]]
  if first and first.text == "-" then return span[2] == span[1] + 1 and last.kind == "number" and not last.text:find(LITERAL) end
  local k = span[1]
  if first and first.text == "bit" then k = k + 2 end
  local name, bracket = tokens[k], tokens[k + 1]
  if not (name and name.text == "bnot" and bracket and bracket.partner == span[2]) then return false end
  local inside = tokens[k + 2]
  return k + 3 == span[2] and inside.kind == "number" and not inside.text:find(LITERAL)
end

--- Looks through a driver's text.
---@param text string
---@param wide table<string, boolean>  names of registers of 64 bits
---@return { line: integer, text: string }[]
function M.check(text, wide)
  local tokens = syntax.tokens(text)
  local function is_wide(t)
    if t.kind == "number" then return t.text:find(LITERAL) ~= nil end
    if t.kind == "string" then return WIDE[t.text:sub(2, -2)] or wide[t.text:sub(2, -2)] or false end
    return t.kind == "name" and (WIDE[t.text] or wide[t.text]) or false
  end
  local findings = {}
  for i, t in ipairs(tokens) do
    local bracket = tokens[i + 1]
    if t.kind == "name" and COMBINES[t.text] and bracket and bracket.text == "(" and bracket.partner then
      local list, found = arguments(tokens, i + 1), nil
      for _, span in ipairs(list) do found = found or negative(tokens, span) and span end
      for _, span in ipairs(found and list or {}) do
        if span ~= found and any(tokens, span, is_wide) then
          local shown = text:sub(tokens[found[1]].start, tokens[found[2]].stop)
          findings[#findings + 1] = {
            line = select(2, text:sub(1, t.start):gsub("\n", "\n")) + 1,
            text = ("%s(..., %s) with 64 bits: a negative number becomes 2^63 there on amd64; write %s"):format(t.text, shown,
              shown:gsub("0[xX]%x+", "%0ULL"):gsub("^%-%d+$", "%0LL"):gsub("%((%d+)%)", "(%1ULL)")),
          }
          break
        end
      end
    end
  end
  return findings
end

--- Looks through the Lua files of a driver's folder.
---@param dir string
---@param map luio.Map
---@return { path: string, line: integer, text: string }[]
function M.folder(dir, map)
  local wide, findings = {}, {}
  local function walk(block)
    for _, def in ipairs(block.children) do
      if def.width == 64 then wide[def.name] = true end
      if def.children then walk(def) end
    end
  end
  walk(map)
  for _, name in ipairs(sysfs.entries(dir)) do
    local text = name:match "%.lua$" and sysfs.read(dir .. "/" .. name)
    for _, finding in ipairs(text and M.check(text, wide) or {}) do
      finding.path = dir .. "/" .. name
      findings[#findings + 1] = finding
    end
  end
  return findings
end

return M
