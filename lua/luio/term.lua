--- Colour for a terminal, plain text for a pipe. NO_COLOR (no-color.org) turns it off,
--- CLICOLOR_FORCE on.

local uv = require "luv"

local M = {}

local codes = { bold = 1, dim = 2, red = 31, green = 32, yellow = 33, cyan = 36 }

local function wanted()
  if (os.getenv "NO_COLOR" or "") ~= "" then return false end
  local force = os.getenv "CLICOLOR_FORCE" or ""
  if force ~= "" and force ~= "0" then return true end
  return uv.guess_handle(1) == "tty"
end

--- Whether standard output takes colour.
M.colour = wanted()

for name, code in pairs(codes) do
  M[name] = function(s)
    return M.colour and ("\27[%dm%s\27[0m"):format(code, s) or tostring(s)
  end
end

return M
