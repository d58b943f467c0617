--- A token bucket: so many things a second, by the monotonic clock.
---
---     local bucket = pace.new(1000)
---     local n = bucket:take(32, luio.now())     -- may be sent now: 0 to 32
---
--- It begins with one token, and gains `rate` of them a second. Tokens that are not taken are kept for a second. So a
--- process that had to wait makes up for it, and never with more than that. Within it the rate is exact: tokens are
--- counted in fractions, and none is lost between two looks at the clock.

local ffi = require "ffi"

local M = {}

local DEPTH = 1 -- seconds

-- In C: a field that is stored to in a hot loop, and no object.
local state_t = ffi.typeof "struct { double rate, depth, tokens, last; }"

--- A rate limit for packets.
---@class luio.net.Pace
---@field package s ffi.cdata*
local Pace = {}
Pace.__index = Pace

--- A bucket, which begins at the first `take`.
---@param rate number  a second, above 0
---@return luio.net.Pace
function M.new(rate)
  if not (type(rate) == "number" and rate > 0 and rate < 1e12) then error("a rate is above 0 a second, not " .. tostring(rate), 2) end
  return setmetatable({ s = state_t(rate, math.max(1, rate * DEPTH), 1, -1) }, Pace)
end

--- Takes tokens.
---@param most integer
---@param now number  seconds, of luio.now
---@return integer tokens  0 to `most`
function Pace:take(most, now)
  local s = self.s
  if s.last < 0 then s.last = now end
  local tokens = s.tokens + (now - s.last) * s.rate
  if tokens > s.depth then tokens = s.depth end
  local n = math.floor(tokens)
  if n > most then n = most end
  s.tokens, s.last = tokens - n, now
  return n
end

--- Seconds from the last `take` until there is a token.
---@return number
function Pace:due()
  return math.max(0, (1 - self.s.tokens) / self.s.rate)
end

return M
