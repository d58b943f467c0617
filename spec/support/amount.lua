--- The number of rounds of a spec: a few in an ordinary run, all of them with `make test LONG=1` (LUIO_LONG).
---
---     local RELOADS = amount(200, 1000)

local LONG = os.getenv "LUIO_LONG" ~= nil

---@generic T
---@param each_run T
---@param all T
---@return T
return function(each_run, all)
  if LONG then return all end
  return each_run
end
