--- For argparse: converters of numbers. An error names the option and the expected range.

local M = {}

local function range(low, high)
  return high < 1e15 and ("from %.15g to %.15g"):format(low, high) or ("from %.15g"):format(low)
end

--- A number.
---@param option string  its name, for the message
---@param low number
---@param high number
---@return fun(text: string): number?, string?
function M.number(option, low, high)
  return function(text)
    local n = tonumber(text)
    if n and n >= low and n <= high then return n end
    return nil, ("%s %s: a number %s was expected"):format(option, text, range(low, high))
  end
end

--- A whole number; from 1e15 on `high` is no limit to speak of.
---@param option string
---@param low integer
---@param high integer  2^53 at most
---@return fun(text: string): integer?, string?
function M.whole(option, low, high)
  return function(text)
    local n = tonumber(text)
    if n and n >= low and n <= high and n % 1 == 0 then return n end
    return nil, ("%s %s: a whole number %s was expected"):format(option, text, range(low, high))
  end
end

--- Seconds above 0.
---@param option string
---@return fun(text: string): number?, string?
function M.seconds(option)
  return function(text)
    local n = tonumber(text)
    if n and n > 0 and n < 1e9 then return n end
    return nil, ("%s %s: a number of seconds above 0 was expected"):format(option, text)
  end
end

return M
