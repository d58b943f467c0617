--- Work and use of resources of a long run: a line a minute, bounds, a table at the end.
---
--- Three kinds of figures. Figures of *done* only grow, and must have grown over the last few samples. Figures of *wrong* stay 0.
--- Figures of *used* may not grow: the least of the last samples is compared with the most of the first half of all, so that neither a
--- garbage collector's ups and downs nor unlucky moments count (a worker that is killed every few seconds is often met half
--- started), and a leak does, however slow, once it is above its allowance.

local M = {}

local SAMPLES = 3 -- at the end, that are compared with the first half: as many at least

---@class Ledger
---@field failures string[]
local Ledger = {}
Ledger.__index = Ledger

--- Begins one.
---@return Ledger
function M.new()
  return setmetatable({ names = {}, figures = {}, samples = 0, failures = {}, told = {} }, Ledger)
end

local function fail(self, text)
  if self.told[text] then return end
  self.told[text] = true
  table.insert(self.failures, text)
end

--- Something went wrong that is no figure.
---@param text string
function Ledger:fail(text)
  fail(self, text)
end

local function note(self, kind, name, value, more)
  local figure = self.figures[name]
  if not figure then
    figure = { kind = kind, name = name, values = {} }
    self.figures[name] = figure
    table.insert(self.names, name)
  end
  figure.now, figure.allowance, figure.unit = value, more.allowance, more.unit
end

--- A counter of work.
---@param name string
---@param value integer
function Ledger:done(name, value) note(self, "done", name, value, {}) end

--- A counter of faults.
---@param name string
---@param value integer
function Ledger:wrong(name, value) note(self, "wrong", name, value, {}) end

--- A resource.
---@param name string
---@param value number
---@param allowance number  by which it may grow
---@param unit? string
function Ledger:used(name, value, allowance, unit) note(self, "used", name, value, { allowance = allowance, unit = unit }) end

local function extreme(fn, values, first, last)
  local best = values[first]
  for i = first + 1, last do best = fn(best, values[i]) end
  return best
end

-- By how much a resource has grown; nil: too few samples to tell.
local function growth(figure)
  local values = figure.values
  local n = #values
  if n < 2 * SAMPLES then return nil end
  return extreme(math.min, values, n - SAMPLES + 1, n) - extreme(math.max, values, 1, math.floor(n / 2))
end

local function check(self, figure)
  local values, n = figure.values, #figure.values
  if figure.kind == "wrong" and (values[n] or 0) > 0 then
    fail(self, figure.name .. " is not 0")
  elseif figure.kind == "done" and n > SAMPLES and values[n] <= values[n - SAMPLES] then
    fail(self, ("%s stood still at %d over %d samples"):format(figure.name, values[n], SAMPLES))
  elseif figure.kind == "used" and (growth(figure) or 0) > figure.allowance then
    fail(self, ("%s grew by %g%s, which is more than %g: the most before was %g"):format(figure.name, growth(figure), figure.unit or "",
      figure.allowance, extreme(math.max, values, 1, math.floor(n / 2))))
  end
end

--- Closes a sample: its figures are those since the last one. Figures of use are for the table; the line gets them as the text `usage`.
---@param seconds number  since the beginning
---@param usage string
---@return string line
function Ledger:sample(seconds, usage)
  self.samples = self.samples + 1
  local parts = {}
  for _, name in ipairs(self.names) do
    local figure = self.figures[name]
    if figure.now then
      table.insert(figure.values, figure.now)
      if figure.kind == "done" or figure.now > 0 and figure.kind == "wrong" then
        table.insert(parts, ("%s %d"):format(name, figure.now))
      end
      figure.now = nil
    end
  end
  for _, name in ipairs(self.names) do check(self, self.figures[name]) end
  return ("%5.0f s  %s; %s%s"):format(seconds, table.concat(parts, ", "), usage,
    #self.failures > 0 and ("  FAILURES %d: %s"):format(#self.failures, self.failures[#self.failures]) or "")
end

--- The table at the end.
---@return string
function Ledger:table()
  local lines = { ("%-34s %12s %12s %12s  %s"):format("", "first", "most", "last", "") }
  for _, name in ipairs(self.names) do
    local figure, values = self.figures[name], self.figures[name].values
    if values[1] then
      local grown = figure.kind == "used" and growth(figure)
      table.insert(lines, ("%-34s %12g %12g %12g  %s"):format(name, values[1], extreme(math.max, values, 1, #values), values[#values],
        figure.kind == "used" and (grown and ("grown by %g of %g%s"):format(math.max(0, grown), figure.allowance, figure.unit or "")
          or ("too few samples to tell: %d, not %d"):format(#values, 2 * SAMPLES)) or figure.kind))
    end
  end
  return table.concat(lines, "\n")
end

return M
