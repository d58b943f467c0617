--- "Did you mean": the known name that is nearest to a wrong one.

local M = {}

-- Optimal string alignment: insertions, deletions, substitutions, swaps of neighbours.
local function distance(a, b, limit)
  if math.abs(#a - #b) > limit then return limit + 1 end
  local before, last, row = {}, {}, {}
  for j = 0, #b do last[j] = j end
  for i = 1, #a do
    row[0] = i
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      local d = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (same and 0 or 1))
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        d = math.min(d, before[j - 2] + 1)
      end
      row[j] = d
    end
    before, last, row = last, row, before
  end
  return last[#b]
end

--- The name in `names` that is nearest to `wrong`, whatever its case; nil when none is near.
---@param wrong string
---@param names table<string, any>|string[]  keys when it is a table of names, else a list
---@return string?
function M.name(wrong, names)
  local best, least = nil, math.max(2, math.floor(#wrong / 3)) + 1
  local upper = tostring(wrong):upper()
  local function try(name)
    if type(name) ~= "string" then return end
    local d = distance(upper, name:upper(), least)
    if d < least or (d == least and best and name < best) then
      best, least = name, d
    end
  end
  for key, value in pairs(names) do
    if type(key) == "number" then try(value) else try(key) end
  end
  return best
end

--- The known name that differs from `wrong` in at most `limit` places; nil when none does.
---@param wrong string
---@param names table<string, any>
---@param limit integer
---@return string?
function M.within(wrong, names, limit)
  for name in pairs(names) do
    if distance(wrong, name, limit) <= limit then return name end
  end
end

local FEW = 8

--- The hint about a wrong name: all names where they are few, else the nearest.
---@param wrong string
---@param names table<string, any>
---@return string
function M.among(wrong, names)
  local name = M.name(wrong, names)
  local list = {}
  for known in pairs(names) do table.insert(list, known) end
  table.sort(list)
  local more = #list - FEW
  -- Of few, the nearest by letters may be the opposite: TO_DEVICE for FROM_DEVICE.
  if name and more > 0 then return ("did you mean %s?"):format(name) end
  for i = #list, FEW + 1, -1 do list[i] = nil end
  return ("there is %s%s"):format(table.concat(list, ", "), more > 0 and (" and %d more"):format(more) or "")
end

--- " (did you mean NAME?)", or nothing.
---@param wrong string
---@param names table
---@return string
function M.hint(wrong, names)
  local name = M.name(wrong, names)
  return name and (" (did you mean %s?)"):format(name) or ""
end

return M
