--- Values of registers and fields as text, and back. Touches nothing.

local bit = require "bit"

local M = {}

--- A register's value, all its digits.
---@param value integer|ffi.cdata*
---@param width integer  bits
---@return string
function M.hex(value, width)
  if type(value) == "cdata" then return "0x" .. bit.tohex(value, 16) end
  return ("0x%0" .. width / 4 .. "x"):format(value % 2 ^ width)
end

--- A field's value: its name where it has one, one digit as it is, else hexadecimal.
---@param x integer|string|ffi.cdata*
---@return string
function M.value(x)
  if type(x) == "cdata" then return "0x" .. bit.tohex(x) end
  return type(x) == "number" and x > 9 and ("0x%x"):format(x) or tostring(x)
end

--- The fields of a value in words: "RAISE_IRQ=1 COMPUTING=0". Touches nothing.
---@param reg luio.Register
---@param value integer|ffi.cdata*
---@return string  "" where it has none
function M.fields(reg, value)
  local decoded, parts = reg:decode(value), {}
  for _, f in ipairs(reg.def.fields) do table.insert(parts, f.name .. "=" .. M.value(decoded[f.name])) end
  return table.concat(parts, " ")
end

--- The value that `hex` made a text of.
---@param text string
---@param width integer
---@return integer|ffi.cdata*
function M.number(text, width)
  if width < 64 then return tonumber(text) end
  local high, low = text:match "^0x(%x%x%x%x%x%x%x%x)(%x%x%x%x%x%x%x%x)$"
  return tonumber(high, 16) * 0x100000000ULL + tonumber(low, 16)
end

return M
