--- `pending "reason"` for an `it` in a module. Only functions of a spec file find busted's `pending`: busted gives it to the spec that
--- runs. busted.pending is another one, for use outside of an `it`; within one it lets the spec pass.

local busted = require "busted"

local running

busted.subscribe({ "test", "start" }, function(element)
  running = element
  return nil, true
end)

---@param reason string
return function(reason) return running.env.pending(reason) end
