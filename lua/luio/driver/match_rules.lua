--- The rules of a driver's `match`, whether it fits a device, and the driver's name, which is its folder's.
---
--- luio.driver.match finds the driver for a device.

local errors = require "luio.errors"
local near = require "luio.registers.near"

local M = {}

--- Whether `match`, or one of a list of them, fits the device.
---@param match table
---@param info luio.Info
---@return boolean
function M.fits(match, info)
  if match[1] then
    for _, m in ipairs(match) do
      if M.fits(m, info) then return true end
    end
    return false
  end
  if match.pci then
    return info.vendor ~= nil and ("%04x:%04x"):format(info.vendor, info.device) == match.pci:lower()
  end
  if match.of then
    for _, name in ipairs(info.compatible) do
      if name == match.of then return true end
    end
  end
  return match.uio ~= nil and match.uio == info.uio_name
end

local MATCH = { pci = "string", of = "string", uio = "string" }

--- The fault of a `match`; nil: none.
---@param match table  or what stands in its place
---@return string? fault  ".pci is ...", to be put behind "NAME.match"
function M.misstated(match)
  for _, one in ipairs(match[1] ~= nil and match or { match }) do
    if type(one) ~= "table" then return (" is a table, or a list of tables, not of a %s"):format(type(one)) end
    for key, value in pairs(one) do
      local name = errors.text(key)
      if not MATCH[key] then return (": unknown key %s%s"):format(name, near.hint(name, MATCH)) end
      if type(value) ~= MATCH[key] then return (".%s is a %s, not a %s"):format(name, type(value), MATCH[key]) end
    end
    if one.pci and not one.pci:match "^%x%x%x%x:%x%x%x%x$" then
      return (".pci is four digits of the vendor and four of the device, as in \"1234:11e8\", not %q"):format(one.pci)
    end
  end
end

--- The folder that a driver's name has to be.
---@param path string  of its file
---@return string?
function M.folder(path) return path:match "drivers/([^/]+)/init%.lua$" end

--- The message for a driver whose name is not its folder's.
---@param path string  as shown
---@param called string
---@param folder string
---@return string
function M.misnamed(path, called, folder)
  return ("%s: the driver calls itself %q, its folder %q: one name for one thing"):format(path, called, folder)
end

return M
