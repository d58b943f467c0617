--- Which bits a field has, in SVD's three spellings: lsb and msb; bitOffset and bitWidth; bitRange, which counts where there
--- are two.

local numbers = require "luio.registers.import.numbers"

local M = {}

M.MAX_BIT = 65535 -- a register may be long, and is cut into words later

local function nothing() end

--- The bits of a field.
---@param node luio.SvdNode
---@param say? fun(kind: string, format: string, ...)  reports faults of the statement: a kind of note, its text
---@return integer? high  nil: none are stated
---@return integer? low
function M.of(node, say)
  say = say or nothing
  local high, low
  local n = function(key) return numbers.count(node[key], M.MAX_BIT) end
  if node.bitRange then
    high, low = node.bitRange:match "^%[?%s*(%d+)%s*:%s*(%d+)%s*%]?$"
    high, low = numbers.count(high, M.MAX_BIT), numbers.count(low, M.MAX_BIT)
  end
  local other_low = n "lsb" or n "bitOffset"
  local other_high = n "msb"
  if other_low and not other_high then
    local width = n "bitWidth"
    if not width and not high then say("missing", "a field without a width: taken as one bit") end
    other_high = width ~= 0 and other_low + (width or 1) - 1 or nil
  end
  if not (high and low) then
    high, low = other_high, other_low
  elseif other_high and other_low and (other_high ~= high or other_low ~= low) then
    say("contradiction", "two bit ranges: bitRange counts")
  end
  if not (high and low) or high > M.MAX_BIT then return nil end
  if high < low then
    say("contradiction", "bits %d:%d: taken as %d:%d", high, low, low, high)
    high, low = low, high
  end
  return high, low
end

return M
