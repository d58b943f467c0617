--- Numbers as SVD files write them, exact up to 64 bits.
---
--- A value is a Lua number below 2^53 and a uint64_t from there on, which is what a register map
--- takes, too. Masks and shifts are done on uint64_t throughout: a double would lose the low bits of
--- a 64-bit reset value.

local ffi = require "ffi"
local bit = require "bit"

local M = {}

local u64 = ffi.typeof "uint64_t"
local ALL = 0xffffffffffffffffULL
local scale = { k = 10, m = 20, g = 30, t = 40 }

M.plain = require("luio.registers.bits").number

--- A number as uint64_t.
---@param value integer|ffi.cdata*
---@return ffi.cdata*
function M.wide(value)
  return u64(value)
end

-- Digits to uint64_t; nil when they don't fit.
local function digits(text, base)
  text = text:gsub("^0+", "")
  local value, most = 0ULL, ALL
  if #text > 64 then return nil end
  for i = 1, #text do
    local digit = u64(tonumber(text:sub(i, i), base))
    if value > (most - digit) / u64(base) then return nil end
    value = value * u64(base) + digit
  end
  return value
end

--- The number a text states: decimal, 0x, "#" and 0b for binary, a scale of k, m, g or t behind it.
---@param text string
---@return integer|ffi.cdata*?  nil: not a number, or of more than 64 bits
function M.parse(text)
  text = text:gsub("%s+", ""):gsub("^%+", ""):lower()
  local body, suffix = text:match "^(.-)([kmgt]?)$"
  local value
  if body:match "^0x%x+$" then value = digits(body:sub(3), 16)
  elseif body:match "^#[01]+$" then value = digits(body:sub(2), 2)
  elseif body:match "^0b[01]+$" then value = digits(body:sub(3), 2)
  elseif body:match "^%d+$" then value = digits(body, 10) end
  if value and suffix ~= "" then
    local by = scale[suffix]
    value = bit.rshift(value, 64 - by) == 0ULL and bit.lshift(value, by) or nil
  end
  return value and M.plain(value)
end

--- The values a text with don't-care bits stands for ("#1x0", "0b1x0"): every "x" as 0, then how
--- many values there are in all.
---@param text string
---@return integer|ffi.cdata*?
---@return integer? count
function M.parse_pattern(text)
  local bits = text:gsub("%s+", ""):lower()
  bits = bits:match "^#([01x]+)$" or bits:match "^0b([01x]+)$"
  if not bits then return M.parse(text), 1 end
  local _, open = bits:gsub("x", "")
  local value = digits((bits:gsub("x", "0")), 2)
  return value and M.plain(value), 2 ^ open
end

--- A whole number from 0 to `most` (2^53 unless told).
---@param text string?
---@param most? number
---@return integer?
function M.count(text, most)
  local value = text and M.parse(text)
  if type(value) == "number" and value <= (most or 2 ^ 53) then return value end
end

--- `bits` ones.
---@param bits integer
---@return ffi.cdata*
function M.ones(bits)
  return bits >= 64 and ALL or bit.lshift(1ULL, bits) - 1ULL
end

--- Bits high:low of a value; high is at most 63.
---@param value integer|ffi.cdata*
---@param high integer
---@param low integer
---@return integer|ffi.cdata*
function M.slice(value, high, low)
  return M.plain(bit.band(bit.rshift(u64(value), low), M.ones(high - low + 1)))
end

--- Whether a value has no more bits than that.
---@param value integer|ffi.cdata*
---@param bits integer
---@return boolean
function M.fits(value, bits)
  return bits >= 64 or u64(value) <= M.ones(bits)
end

--- "0x001f": a Lua literal of at least so many digits, exact whatever its size.
---@param value integer|ffi.cdata*
---@param width? integer
---@return string
function M.hex(value, width)
  local text = bit.tohex(u64(value), 16):gsub("^0+", "")
  text = ("0"):rep((width or 1) - #text) .. text
  return "0x" .. (text == "" and "0" or text) .. (type(value) == "cdata" and "ULL" or "")
end

--- A Lua literal as one would write it: small numbers in decimal.
---@param value integer|ffi.cdata*
---@return string
function M.literal(value)
  return type(value) == "number" and value < 10 and tostring(value) or M.hex(value)
end

return M
