--- The number of rounds of a spec: a few in an ordinary run, all of them with `make test LONG=1` (LUIO_LONG), and a quarter of the few
--- in `make check` (LUIO_BRIEF).
---
---     local RELOADS = amount(200, 1000)
---     local EVENTS = amount(1000000, 1000000, 100000)
---
--- A third number is for the stages of sanitizers: they find an error in the first of many rounds that are the same, and take long.

local LONG = os.getenv "LUIO_LONG" ~= nil
local BRIEF = os.getenv "LUIO_BRIEF" ~= nil
local SANITIZED = os.getenv "LUIO_PROGRAM" ~= nil -- spec/run

---@generic T
---@param each_run T
---@param all T
---@param sanitized? T  each_run
---@return T
return function(each_run, all, sanitized)
  if LONG then return all end
  if SANITIZED and sanitized then return sanitized end
  if BRIEF and type(each_run) == "number" then return math.ceil(each_run / 4) end
  return each_run
end
