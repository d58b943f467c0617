--- Options: a function's table of named arguments, checked before the function does anything.
---
---     local OPTIONS = {
---       rx = options.power_of_two(8, 4096, "descriptors"), by = options.one_of { "mac", "flow" }, loopback = "boolean",
---       mac = { words = "a MAC address", fits = net.mac_bytes },
---     }
---     function M.open(address, given)
---       given = options.check("net.open", given, OPTIONS)
---
--- A wrong option is misuse, so it raises, in the caller of the function that checks: "net.open: unknown option lopback (did you
--- mean loopback?)", "net.open: rx is 8 to 4096 descriptors, a power of two, not 100". An option is missing where it is nil; all
--- may be, but those that are `needed`.

local errors = require "luio.errors"
local near = require "luio.registers.near"

local M = {}

--- A kind of values: the name of a Lua type, or words for it and a test.
---@alias luio.OptionKind string|luio.OptionTest

---@class luio.OptionTest
---@field words string              behind "is": "8 to 64", "a MAC address"
---@field fits fun(value: any): any  false or nil: it is none
---@field needed boolean?           it may not be missing

local function is_whole(value, least, most)
  return type(value) == "number" and value % 1 == 0 and value >= least and value <= most
end

local function shown(value) return value == nil and "nil" or errors.text(value) end

-- The article of a type's name.
local function an(kind) return (kind:match "^[aeiou]" and "an " or "a ") .. kind end

--- Whole numbers.
---@param least integer
---@param most integer
---@param unit? string  "bytes"
---@param words? string  for the range, where numbers would say less: "1 to 2 MiB"
---@return luio.OptionTest
function M.whole(least, most, unit, words)
  words = words or (most >= 2 ^ 53 and "%.0f or more" or "%.0f to %.0f"):format(least, most)
  return { words = words .. (unit and " " .. unit or ""), fits = function(value) return is_whole(value, least, most) end }
end

--- Powers of two.
---@param least integer
---@param most integer
---@param unit? string
---@return luio.OptionTest
function M.power_of_two(least, most, unit)
  local range = M.whole(least, most, unit)
  return {
    words = range.words .. ", a power of two",
    fits = function(value) return range.fits(value) and math.frexp(value) == 0.5 end,
  }
end

--- One of some texts.
---@param list string[]
---@return luio.OptionTest
function M.one_of(list)
  local quoted, known = {}, {}
  for i, text in ipairs(list) do
    quoted[i], known[text] = ('"%s"'):format(text), true
  end
  local last = table.remove(quoted)
  local words = quoted[1] and table.concat(quoted, ", ") .. " or " .. last or last
  return { words = words, fits = function(value) return known[value] end }
end

--- The same, when it may not be missing.
---@param kind luio.OptionKind
---@return luio.OptionTest
function M.needed(kind)
  if type(kind) == "string" then
    local name = kind
    kind = { words = an(name), fits = function(value) return type(value) == name end }
  end
  return { words = kind.words, fits = kind.fits, needed = true }
end

--- The first fault of a table of options.
---@param given any  nil: none are given
---@param known table<string, luio.OptionKind>
---@return string? fault  "rx is 8 to 64, not 5"
function M.fault(given, known)
  if given == nil then given = {} end
  if type(given) ~= "table" then return ("the options are a table, not %s"):format(shown(given)) end
  for key in pairs(given) do
    if not known[key] then
      local hint = near.hint(shown(key), known)
      if hint == "" then hint = (" (%s)"):format(near.among(shown(key), known)) end
      return ("unknown option %s%s"):format(shown(key), hint)
    end
  end
  for key, kind in pairs(known) do
    local value = given[key]
    if type(kind) == "string" then
      if value ~= nil and type(value) ~= kind then return ("%s is %s, not %s"):format(key, an(kind), shown(value)) end
    elseif (value ~= nil or kind.needed) and not kind.fits(value) then
      return ("%s is %s, not %s"):format(key, kind.words, shown(value))
    end
  end
end

--- Raises for a table of options that has a fault, in the caller of the function that asks.
---@param what string  the function: "net.open"
---@param given table?
---@param known table<string, luio.OptionKind>
---@return table given  an empty one for nil
function M.check(what, given, known)
  local fault = M.fault(given, known)
  if fault then error(("%s: %s"):format(what, fault), 3) end
  return given or {}
end

return M
