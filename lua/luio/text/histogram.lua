--- Histograms of times: interrupt latencies and the like.
---
--- A time goes into one of 32 buckets per power of two, so that a run of hours needs no more memory
--- than one of seconds, and a median or a percentile is right to 2 %. The least and the greatest are
--- kept exactly. Shown are powers of two in microseconds, because latencies spread over
--- several of them: a tail that a linear scale would hide in its last bucket has rows of its own here.
---
---     local h = histogram.new()
---     h:add(seconds)
---     for _, line in ipairs(h:lines(80)) do print(line) end

local M = {}

--- Counts of durations in buckets.
---@class luio.Histogram
---@field count integer
---@field min number?  seconds
---@field max number?  seconds
---@field package counts table<integer, integer>  by bucket
---@field package low integer?   the lowest bucket in use
---@field package high integer?  the highest
local Histogram = {}
Histogram.__index = Histogram

local FINE = 32 -- buckets per power of two
local LEAST = 1e-9 -- seconds: below the clock's resolution
local SCALE = FINE / math.log(2)
local EPSILON = 1e-6 -- so that a power of two opens its bucket, whatever the logarithm rounds to

local function index_of(seconds)
  return math.floor(math.log(math.max(seconds, LEAST) * 1e6) * SCALE + EPSILON)
end

--- An empty histogram.
---@return luio.Histogram
function M.new()
  return setmetatable({ count = 0, counts = {} }, Histogram)
end

--- Adds one time. Compiled: it has nothing in it that stops a trace.
---@param seconds number
function Histogram:add(seconds)
  local i = index_of(seconds)
  self.counts[i] = (self.counts[i] or 0) + 1
  if self.count == 0 then
    self.min, self.max, self.low, self.high = seconds, seconds, i, i
  end
  self.count = self.count + 1
  if seconds < self.min then self.min, self.low = seconds, i end
  if seconds > self.max then self.max, self.high = seconds, i end
end

--- The time that a share of all does not exceed: 0.5 is the median.
---@param share number  0 to 1
---@return number? seconds  nil: the histogram is empty
function Histogram:percentile(share)
  local rank, seen = math.max(1, math.ceil(share * self.count)), 0
  for i = self.low or 0, self.high or -1 do
    seen = seen + (self.counts[i] or 0)
    if seen >= rank then
      local middle = 2 ^ ((i + 0.5) / FINE) / 1e6
      return math.min(math.max(middle, self.min), self.max)
    end
  end
end

--- A bucket of a histogram that holds at least one value.
---@class luio.HistogramBucket
---@field from integer  microseconds, a power of two; 0 for the first
---@field to integer    microseconds: less than this
---@field count integer

--- Powers of two, from the first that has something to the last, empty ones between them included.
---@return luio.HistogramBucket[]
function Histogram:buckets()
  local list = {}
  if self.count == 0 then return list end
  for i = self.low, self.high do
    local power = math.max(-1, math.floor(i / FINE)) -- below a microsecond it is one bucket
    local last = list[#list]
    if not last or last.power ~= power then
      last = { power = power, from = power < 0 and 0 or 2 ^ power, to = 2 ^ (power + 1), count = 0 }
      table.insert(list, last)
    end
    last.count = last.count + (self.counts[i] or 0)
  end
  for _, bucket in ipairs(list) do bucket.power = nil end
  return list
end

--- Plain data: counts, and microseconds.
---@return table
function Histogram:plain()
  local function us(seconds) return seconds and math.floor(seconds * 1e9 + 0.5) / 1e3 end
  return {
    count = self.count, min_us = us(self.min), median_us = us(self:percentile(0.5)), p99_us = us(self:percentile(0.99)),
    max_us = us(self.max), buckets_us = setmetatable(self:buckets(), { __jsontype = "array" }),
  }
end

--- A time with three digits and its unit.
---@param seconds number
---@return string
function M.time(seconds)
  local value, unit = seconds * 1e6, "µs"
  if value >= 999.5e3 then
    value, unit = value / 1e6, "s"
  elseif value >= 999.5 then
    value, unit = value / 1e3, "ms"
  end
  local digits = value >= 99.95 and 0 or value >= 9.995 and 1 or 2
  return ("%." .. digits .. "f %s"):format(value, unit)
end

-- Columns that a text takes: µ is two bytes.
local function width_of(text)
  return #text:gsub("[\128-\191]", "")
end

-- Words on as many lines as it takes.
local function flow(words, columns)
  local lines = {}
  for _, word in ipairs(words) do
    local last = lines[#lines]
    if last and width_of(last) + 3 + width_of(word) <= columns then
      lines[#lines] = last .. "   " .. word
    else
      table.insert(lines, "  " .. word)
    end
  end
  return lines
end

local function row(bucket, most, room)
  local from = bucket.from == 0 and "< 1 µs" or bucket.from < 1000 and ("%d µs"):format(bucket.from) or M.time(bucket.from / 1e6)
  local bar = ("#"):rep(math.max(bucket.count > 0 and 1 or 0, math.floor(bucket.count / most * room + 0.5)))
  return ("%s%s %8d  %s"):format((" "):rep(10 - width_of(from)), from, bucket.count, bar):gsub("%s+$", "")
end

--- The text: least, median, 99 %, greatest; then a row for each power of two, with a bar. One time
--- alone has no rows. Longer runs of empty buckets become one line.
---@param columns integer  of the terminal
---@return string[]
function Histogram:lines(columns)
  if self.count == 0 then return {} end
  if self.count == 1 then return { "  " .. M.time(self.min) } end
  local lines = flow({
    "min " .. M.time(self.min), "median " .. M.time(self:percentile(0.5)), "p99 " .. M.time(self:percentile(0.99)),
    "max " .. M.time(self.max),
  }, columns)
  local buckets, most = self:buckets(), 0
  for _, bucket in ipairs(buckets) do most = math.max(most, bucket.count) end
  local room = math.max(4, columns - 10 - 1 - 8 - 2 - 1) -- what stands before a bar, and a free column behind it
  local i = 1
  while i <= #buckets do
    local past = i
    while buckets[past].count == 0 do past = past + 1 end
    if past - i > 2 then
      table.insert(lines, ("%10s"):format "...")
      i = past
    else
      table.insert(lines, (row(buckets[i], most, room)))
      i = i + 1
    end
  end
  return lines
end

return M
