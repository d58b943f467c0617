--- While a driver's files are loaded, their code may not touch a device and may not wait, because every reload would do that
--- again, to a device that another version drives.
---
--- luio.reload.staging sets the name of the version that is being loaded. Functions that open, allocate,
--- spawn or wait check it here.

local M = {}

--- Why it is refused.
M.WHY = "a driver is being loaded, and loading touches no hardware: do it in start"

--- The file that is being loaded; nil: none.
---@type string?
M.active = nil

--- Raises while a file is loaded.
---@param what string
---@param level integer  as of error(), in the caller
function M.refuse(what, level)
  if M.active then error(("%s: %s"):format(what, M.WHY), level + 1) end
end

return M
