--- Plain data from bytes that are not trusted: data that a process without privileges kept for one with
--- them.
---
--- The bytes are those of LuaJIT's string.buffer, in the format of its documentation ("Serialization Format Specification").
--- string.buffer's own decoder is for data that one wrote oneself: it makes tables as large as ten bytes say, and pointers. This one
--- makes nil, booleans, numbers, strings, 64-bit integers, and tables of these, and of tables no larger than the bytes that fill them.
--- No pointers, complex numbers, metatables, dictionaries.
---
--- A number is looked at before it is loaded: LuaJIT tells pointers from numbers by the bits of a NaN, and FFI loads a double as it
--- is. So a NaN from elsewhere could be a pointer to anything; each becomes the one NaN that is none.

local bit = require "bit"
local ffi = require "ffi"
local band, lshift = bit.band, bit.lshift

local M = {}

local DEPTH = 100 -- of tables in tables, as string.buffer's encoder has it

local TAG = { NIL = 0x00, FALSE = 0x01, TRUE = 0x02, INT = 0x06, NUM = 0x07, TAB = 0x08, INT64 = 0x10, UINT64 = 0x11, STR = 0x20 }
-- Where a table's array part begins, and whether it has a hash part: by its tag less TAB.
local ARRAY = { [2] = 0, [3] = 0, [4] = 1, [5] = 1 }
local HASH = { [1] = true, [3] = true, [5] = true }

local word = ffi.new "union { uint8_t byte[8]; uint32_t half[2]; int32_t i32; int64_t i64; uint64_t u64; double num; }"

-- The next n bytes, in `word`.
local function take(r, n)
  if r.size - r.at < n then error("it is cut short", 0) end
  ffi.copy(word.byte, r.bytes + r.at, n)
  r.at = r.at + n
end

local function byte(r)
  take(r, 1)
  return word.byte[0]
end

-- An unsigned number of one, two or five bytes.
local function unsigned(r)
  local first = byte(r)
  if first < 0xe0 then return first end
  if first < 0xff then return lshift(band(first, 0x1f), 8) + byte(r) + 0xe0 end
  take(r, 4)
  return tonumber(word.half[0])
end

local function number(r)
  take(r, 8)
  local high = word.half[1]
  local is_nan = band(high, 0x7ff00000) == 0x7ff00000 and (band(high, 0xfffff) ~= 0 or word.half[0] ~= 0)
  return is_nan and 0 / 0 or word.num
end

local object

local function table_of(r, kind, depth)
  if depth >= DEPTH then error("tables lie too deep in each other", 0) end
  local t, first = {}, ARRAY[kind]
  local array = first and unsigned(r) or 0
  local hash = HASH[kind] and unsigned(r) or 0
  for i = first or 0, array - 1 do t[i] = object(r, depth + 1) end
  for _ = 1, hash do
    local key = object(r, depth + 1)
    if key == nil or key ~= key or type(key) == "table" or type(key) == "cdata" then error("a key that is none", 0) end
    t[key] = object(r, depth + 1)
  end
  return t
end

function object(r, depth)
  local tag = unsigned(r)
  if tag >= TAG.STR then
    local length = tag - TAG.STR
    if r.size - r.at < length then error("it is cut short", 0) end
    r.at = r.at + length
    return ffi.string(r.bytes + r.at - length, length)
  elseif tag == TAG.NIL then return nil
  elseif tag == TAG.FALSE then return false
  elseif tag == TAG.TRUE then return true
  elseif tag == TAG.NUM then return number(r)
  elseif tag == TAG.INT then
    take(r, 4)
    return word.i32
  elseif tag == TAG.INT64 then
    take(r, 8)
    return word.i64
  elseif tag == TAG.UINT64 then
    take(r, 8)
    return word.u64
  elseif tag >= TAG.TAB and tag <= TAG.TAB + 5 then return table_of(r, tag - TAG.TAB, depth)
  end
  error(("no plain data: tag 0x%02x"):format(tag), 0)
end

--- The value in bytes of string.buffer's encode, if it is plain data.
---@param data ffi.cdata*  const uint8_t *, or anything that can be one
---@param size integer     bytes
---@return any value
---@return string? why  it is not
function M.decode(data, size)
  local r = { bytes = ffi.cast("const uint8_t *", data), size = size, at = 0 }
  local ok, value = pcall(object, r, 0)
  if not ok then return nil, tostring(value) end
  if r.at ~= size then return nil, ("%d bytes are left over"):format(size - r.at) end
  return value
end

return M
