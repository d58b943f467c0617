--- The UIO device of a name, as its UIO driver gave it.

local luio = require "luio"

---@param name string  "uio_timer"
---@return luio.Info?  the first of luio.list()'s; nil: there is none
return function(name)
  for _, info in ipairs(assert(luio.list())) do
    if info.uio_name == name then return info end
  end
end
