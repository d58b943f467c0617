--- How a serial line is set: the values, the meaning of a part of them, and their text.

local near = require "luio.registers.near"

local M = {}

--- The settings of a serial line.
---@class luio.serial.Settings
---@field baud integer   bits a second
---@field bits integer   of a character, 5 to 8
---@field parity "none"|"odd"|"even"|"mark"|"space"
---@field stop number    bits: 1, 2, or 1.5 (with 5 bits only, where there is no 2)
---@field flow "none"|"rts/cts"|"xon/xoff"

--- The settings that a port starts with.
---@type luio.serial.Settings
M.DEFAULT = { baud = 115200, bits = 8, parity = "none", stop = 1, flow = "none" }

M.KEYS = { "baud", "bits", "parity", "stop", "flow" }

local VALUES = {
  bits = { [5] = true, [6] = true, [7] = true, [8] = true },
  parity = { none = true, odd = true, even = true, mark = true, space = true },
  stop = { [1] = true, [1.5] = true, [2] = true },
  flow = { none = true, ["rts/cts"] = true, ["xon/xoff"] = true },
}
local WORDS = {
  baud = "a whole number of bits a second",
  bits = "5 to 8", parity = "none, odd, even, mark or space", stop = "1, 1.5 or 2", flow = "none, rts/cts or xon/xoff",
}

--- The values that a setting can have, in words.
---@param key string
---@return string
function M.words(key) return WORDS[key] end

--- Whether a value is one that a setting can have.
---@param key string
---@param value any
---@return string? fault  "bits is 5 to 8, not 9"
function M.fault(key, value)
  if key == "baud" then
    if type(value) == "number" and value >= 1 and value <= 2 ^ 31 and value % 1 == 0 then return nil end
    return ("baud is %s, not %s"):format(WORDS.baud, tostring(value))
  end
  if not VALUES[key] then
    return ("there is no setting %s%s"):format(tostring(key), near.hint(tostring(key), M.DEFAULT))
  end
  if value == nil or not VALUES[key][value] then return ("%s is %s, not %s"):format(key, WORDS[key], tostring(value)) end
end

--- The fault of a part of the settings; the settings with that part.
---@param now luio.serial.Settings
---@param changes table
---@return string? fault
---@return luio.serial.Settings changed  a table of its own
function M.merge(now, changes)
  local out = {}
  for _, key in ipairs(M.KEYS) do out[key] = now[key] end
  for key, value in pairs(changes) do
    local fault = M.fault(key, value)
    if fault then return fault, out end
    out[key] = value
  end
  if out.stop == 1.5 and out.bits ~= 5 then return "1.5 stop bits go with 5 bits only", out end
  if out.stop == 2 and out.bits == 5 then return "with 5 bits there are 1.5 stop bits, not 2", out end
  return nil, out
end

--- Seconds that a character takes.
---@param s luio.serial.Settings
---@return number
function M.character_time(s)
  return (1 + s.bits + (s.parity == "none" and 0 or 1) + s.stop) / s.baud
end

--- "115200 8N1", and the flow control where there is one.
---@param s luio.serial.Settings
---@return string
function M.text(s)
  return ("%d %d%s%g%s"):format(s.baud, s.bits, s.parity:sub(1, 1):upper(), s.stop, s.flow == "none" and "" or " " .. s.flow)
end

return M
