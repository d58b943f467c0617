--- Bits of register values, exact to 64: a double would lose the low ones, bit operations on numbers
--- are signed and end at 32.

local bit = require "bit"
local ffi = require "ffi"

local M = {}

local u64 = ffi.typeof "uint64_t"
local EXACT = 2ULL ^ 53

--- 64 bits as a Lua number where that is exact, else as they are.
---@param value ffi.cdata*  uint64_t
---@return integer|ffi.cdata*  a number below 2^53
function M.number(value)
  return value < EXACT and tonumber(value) or value
end

--- A value as 64 bits. A number may be negative, as bit operations give it.
---@param value integer|ffi.cdata*
---@param width? integer  of a number, in bits
---@return ffi.cdata*  uint64_t
function M.wide(value, width)
  return type(value) == "number" and ffi.cast(u64, value % 2 ^ (width or 53)) or value
end

--- Ones from bit `high` down to bit `low`.
---@param high integer
---@param low integer
---@return ffi.cdata*  uint64_t
function M.mask(high, low)
  local ones = high - low == 63 and 0xffffffffffffffffULL or bit.lshift(1ULL, high - low + 1) - 1ULL
  return bit.lshift(ones, low)
end

--- The bits high:low of a value.
---@param value integer|ffi.cdata*
---@param high integer
---@param low integer
---@return integer|ffi.cdata*  a number below 2^53
function M.take(value, high, low)
  return M.number(bit.rshift(bit.band(M.wide(value), M.mask(high, low)), low))
end

return M
