--- Places: the names of registers, fields and bytes, on the command line and at the prompt.
---
---     STATUS                      a register of the map         CHANNEL[2].CTRL, RXD[3].HEAD
---     STATUS.RAISE_IRQ            a field of it
---     STATUS[7:4]                 bits of it, high:low, inclusive; one bit is [7:7]
---     CHANNEL[2]   CH*.CTRL       a block, an array, a pattern: several registers
---     0x20:u32                    32 bits at offset 0x20 of region 0, map or not; u8 u16 u32 u64
---     1:0x20:u16                  of region 1
---     0x20:u32[7:7]               bits of that
---     0x0+0x40   0x0+0x40:u8      a range, start+length; read as 32 bits unless it says otherwise
---
---     STATUS=0x80   STATUS.RAISE_IRQ=1   CTRL.MODE=FAST,ENABLE=1   0x20:u32[7:7]=1      assignments
---
--- Here they are only parsed; luio.tool.explore.target finds their meaning on a device.

local bits = require "luio.registers.bits"

local M = {}

---@class luio.Place
---@field text string       as it was written
---@field kind "raw"|"name"|"range"
---@field region integer?   raw, range
---@field offset integer?   bytes; raw, range
---@field width integer?    bits; nil when it does not say
---@field length integer?   bytes; range
---@field path string?      name: without bits; may end in a field, may be a pattern
---@field pattern boolean?  name: has * or ?
---@field high integer?     bits, inclusive
---@field low integer?

local WIDTHS = { u8 = 8, u16 = 16, u32 = 32, u64 = 64 }

--- A number as people write one: 123, 0x7b, 0b1111011, with _ between digits. Up to 64 bits.
---@param text string
---@return integer|ffi.cdata*?  a uint64_t from 2^53 on
function M.number(text)
  text = text:gsub("(%x)_(%x)", "%1%2"):gsub("(%x)_(%x)", "%1%2")
  local digits, base = text:match "^0[xX](%x+)$", 16
  if not digits then digits, base = text:match "^0[bB]([01]+)$", 2 end
  if not digits then digits, base = text:match "^(%d+)$", 10 end
  if not digits then return nil end
  local value = 0ULL
  for c in digits:gmatch "." do
    local digit = tonumber(c, 16)
    if value > (0xffffffffffffffffULL - digit) / base then return nil end
    value = value * base + digit
  end
  return bits.number(value)
end

local function offset_of(text)
  local n = M.number(text)
  return type(n) == "number" and n or nil
end

local function fault(text, format, ...)
  return nil, ("%q: %s"):format(text, format:format(...)), "USAGE"
end

-- "NAME[7:4]" -> "NAME", 7, 4. An index has no colon in it.
local function take_bits(text)
  local rest, high, low = text:match "^(.*)%[(%d+):(%d+)%]$"
  if not rest then return text end
  return rest, tonumber(high), tonumber(low)
end

local function parse_raw(text, place, rest)
  local region, after = rest:match "^(%d+):(%d.*)$"
  if region then place.region, rest = tonumber(region), after end
  local body, width = rest:match "^(.-):(%a%w*)$"
  if body then
    place.width = WIDTHS[width]
    if not place.width then return fault(text, "a width is u8, u16, u32 or u64, not %s", width) end
    rest = body
  end
  local start, length = rest:match "^([%w_]+)%+([%w_]+)$"
  place.kind, place.offset = start and "range" or "raw", offset_of(start or rest)
  if not place.offset then return fault(text, "%s is not an offset: 0x20, or 0x20:u32", start or rest) end
  if start then
    place.length = offset_of(length)
    if not place.length or place.length == 0 then return fault(text, "%s is not a length: start+length, as in 0x0+0x40", length) end
    if place.high then return fault(text, "a range has no bits") end
  end
  return place
end

--- Parses a place.
---@param text string
---@return luio.Place?
---@return string? message
---@return string? code  "USAGE"
function M.parse(text)
  local place = { text = text, region = 0 }
  local rest
  rest, place.high, place.low = take_bits(text)
  if place.high and place.high < place.low then
    return fault(text, "bits are high:low, so [%d:%d]", place.low, place.high)
  elseif place.high and place.high > 63 then
    return fault(text, "a register has at most 64 bits: 63:0")
  end
  if rest:match "^%d" then return parse_raw(text, place, rest) end
  place.kind, place.region = "name", nil
  place.pattern = rest:find "[*?]" ~= nil
  place.path = rest
  local name = "[%a_*?][%w_*?]*"
  local at = rest
  repeat
    local head, tail = at:match("^(" .. name .. ")(.*)$")
    if not head then
      return fault(text, "not a register: NAME, NAME.FIELD, NAME[3].FIELD, or an offset as 0x20:u32")
    end
    local index
    repeat
      index, tail = tail:match "^%[([%d*?]+)%](.*)$", tail:gsub("^%[[%d*?]+%]", "", 1)
    until not index
    at = tail:match "^%.(.+)$"
    if not at and tail ~= "" then
      return fault(text, "not a register at %q: NAME, NAME.FIELD, NAME[3].FIELD, or an offset as 0x20:u32", tail)
    end
  until not at
  return place
end

--- A pattern for paths as a Lua pattern: * and ? stay within a name; names below a match match, too. The path needs
--- something behind its last letter: a dot.
---@param glob string  "CH*.CTRL"
---@return string
function M.matcher(glob)
  local pattern = glob:gsub("[%[%]%.*?]", { ["["] = "%[", ["]"] = "%]", ["."] = "%.", ["*"] = "[%w_]*", ["?"] = "[%w_]" })
  -- A pattern that ends in a name ends there: CTRL is not CTRL2.
  return "^" .. pattern .. (glob:match "%]$" and "" or "%f[^%w_]")
end

---@class luio.Assignment
---@field text string
---@field place luio.Place
---@field value string                           as written, of the place itself; nil when it is all fields
---@field fields { name: string, value: string }[]  further fields of the same register: A.X=1,Y=2

--- Parses PLACE=VALUE, or REGISTER.FIELD=VALUE,FIELD=VALUE.
---@param text string
---@return luio.Assignment?
---@return string? message
---@return string? code  "USAGE"
function M.assignment(text)
  local left, right = text:match "^(.-)=(.+)$"
  if not left then return fault(text, "not an assignment: REGISTER=VALUE, REGISTER.FIELD=VALUE or OFFSET:u32=VALUE") end
  local place, message, code = M.parse(left)
  if not place then return nil, message, code end
  if place.pattern or place.kind == "range" then return fault(text, "names several registers: one is written at a time") end
  local first, more = right:match "^([^,]+),(.+)$"
  local assignment = { text = text, place = place, value = first or right, fields = {} }
  for part in (more or ""):gmatch "[^,]+" do
    local name, value = part:match "^([%a_][%w_]*)=(.+)$"
    if not name then return fault(text, "%q is not FIELD=VALUE", part) end
    table.insert(assignment.fields, { name = name, value = value })
  end
  return assignment
end

return M
