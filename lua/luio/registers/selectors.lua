--- A device's selectors: they decide at each access which registers are visible (luio.registers.when).
---
--- Inspection (printing, dump, watch, a snapshot) reads the device each time: one load of each selector, just before. An access (a
--- driver's, mostly) reads it, too, until this process has written the selector through the map. From then on the last written value
--- counts, and an access costs one comparison: a driver that switches the page itself never pays a load for it. A load of the
--- selector through the map corrects the known value. Before an access is refused the device is always asked, so knowledge that
--- is out of date never refuses one. It is forgotten when the device goes away and when another name of these bytes is written.
--- Bits that do not hold the written value (read-only ones, that follow something) are read each time. A write that is none of
--- the map's, by region:write8() or another process, is not seen: code that does that, or resets the device, writes or reads the
--- selector afterwards.

local bits = require "luio.registers.bits"
local effects = require "luio.registers.effects"
local listeners = require "luio.registers.listeners"
local when = require "luio.registers.when"

local M = {}

---@class luio.Selectors        of one device
---@field generation integer    changes with each change of `known`
---@field known table<string, integer|ffi.cdata*>  bytes of a register (when.key) -> its value
---@field places { key: string, region: integer, first: integer, last: integer }[]  all registers that ever were in `known`

---@class luio.Guard            of one register
---@field conditions luio.Condition[]
---@field of luio.Selectors
---@field fine integer|false    the generation in which all was known and met

local function of(device)
  device = device:root_device()
  local self = rawget(device, "selectors")
  if not self then
    self = { generation = 0, known = {}, places = {} }
    rawset(device, "selectors", self)
  end
  return self
end

--- The state of a register behind a selector; nil: the register is always visible.
---@param root luio.Registers
---@param def luio.RegisterDef
---@param path string
---@return luio.Guard?
function M.guard(root, def, path)
  local conditions = when.of(root.map, def, path)
  return conditions and { conditions = conditions, of = of(root.device), fine = false }
end

--- Nothing that was written counts any more: the device was away.
---@param device luio.Device
function M.forget(device)
  local self = rawget(device:root_device(), "selectors")
  if self then self.known, self.generation = {}, self.generation + 1 end
end

--- One load for inspection. It is marked as such for a hook (Root:on_access). It has no guard, because the caller has
--- checked before that the read is harmless.
---@param reg luio.Register
---@param shown boolean?  the user asked for this register, not for many
---@return integer|ffi.cdata*
function M.look(reg, shown)
  local root = reg.root
  local before = root.looking
  root.looking = shown and "shown" or true
  local ok, value = pcall(reg.read, reg)
  root.looking = before
  if not ok then error(value, 0) end
  return value
end

-- The value of a selector's register; nil: it must not be read.
local function read(root, c)
  if c.missing then return nil, ("%s, which says whether it is visible, is not in reach: another device's"):format(c.path) end
  local why = effects.of(root.device):why("read", c.def.region, c.offset, c.def.width / 8, c.behind)
  if why then return nil, ("%s, which says whether it is visible, is not read: %s"):format(c.path, (why:gsub("%s+", " "))) end
  return M.look(assert(root:find(c.path)))
end

-- Why a condition is not met; nil: it is.
local function unmet(root, c)
  local value, why = read(root, c)
  if not value then return why end
  local met, is = when.met(c, value)
  if met then return nil end
  local ones = bits.wide(value, c.def.width) == bits.mask(c.def.width - 1, 0)
  return ("not visible: %s is %s, not %s%s"):format(c.label, when.text(c, is), c.wanted,
    ones and ("; %s reads as all ones, as where no device answers"):format(c.path) or "")
end

--- Why a register is not visible now; nil: it is. Reads its selectors.
---@param reg luio.Register
---@return string?
function M.hidden(reg)
  for _, c in ipairs(reg.guard and reg.guard.conditions or {}) do
    local why = unmet(reg.root, c)
    if why then return why end
  end
end

-- How to make it visible, as a line of Lua.
local function remedy(c)
  local value = c.wanted:match "^(.-) or " or c.wanted
  if value:match "^%a" then value = ("%q"):format(value) end
  if not c.def.writable or c.field and not c.field.writable then return "" end
  if c.field then return ("; %s:update { %s = %s } makes it so"):format(c.path, c.field.name, value) end
  return ("; %s:write(%s) makes it so"):format(c.path, value)
end

--- Raises unless a register is visible.
---@param reg luio.Register
local function ask(reg, guard)
  local selectors, sure = guard.of, true
  for _, c in ipairs(guard.conditions) do
    local value = c.holds and selectors.known[c.key]
    if not value or not when.met(c, value) then
      local why = unmet(reg.root, c)
      if why then
        local line = listeners.caller()
        local is = why:find "^not visible" and " is " or ": "
        error(("%s%s%s%s%s"):format(line and line .. ": " or "", reg.path, is, why, is == " is " and remedy(c) or ""), 0)
      end
      sure = sure and c.holds and selectors.known[c.key] ~= nil
    end
  end
  guard.fine = sure and selectors.generation
end

-- A store was made, or a load: its effect on selectors.
local function note(selectors, reg, value)
  if reg.def.width < 64 then value = value % 2 ^ reg.def.width end -- bit operations are signed
  selectors.known[reg.key], selectors.generation = value, selectors.generation + 1
end

-- A store is about to be made: the selectors that it may change, by all names of these bytes, are unknown
-- until then.
local function forget_overlapping(selectors, reg)
  local region, first, last, listed = reg.def.region, reg.offset, reg.offset + reg.def.width / 8, false
  for _, place in ipairs(selectors.places) do
    if place.region == region and place.first < last and first < place.last then
      selectors.known[place.key] = nil
      listed = listed or place.key == reg.key
    end
  end
  if not listed and reg.def.selects then table.insert(selectors.places, { key = reg.key, region = region, first = first, last = last }) end
  selectors.generation = selectors.generation + 1
end

--- Loads and stores that ask first.
---@param load function
---@param store function
---@return fun(reg: luio.Register): integer|ffi.cdata* load
---@return fun(reg: luio.Register, value: integer|ffi.cdata*) store
function M.guarded(load, store)
  return function(reg)
    local guard = reg.guard
    if guard.fine ~= guard.of.generation and not reg.root.looking then ask(reg, guard) end
    return load(reg)
  end, function(reg, value)
    local guard = reg.guard
    if guard.fine ~= guard.of.generation then ask(reg, guard) end
    store(reg, value)
  end
end

--- Loads and stores of a register that has bytes of a selector.
---@param load function
---@param store function
---@return fun(reg: luio.Register): integer|ffi.cdata* load
---@return fun(reg: luio.Register, value: integer|ffi.cdata*) store
function M.selecting(load, store)
  return function(reg)
    local value = load(reg)
    local selectors = of(reg.root.device)
    local known = selectors.known[reg.key]
    if known and known ~= value then note(selectors, reg, value) end
    return value
  end, function(reg, value)
    local selectors = of(reg.root.device)
    forget_overlapping(selectors, reg)
    store(reg, value)
    if reg.def.selects then note(selectors, reg, value) end -- at a raw offset it is only unknown
  end
end

--- Many loads or stores at once: asked once.
---@param many { read: function, write: function }
---@return { read: function, write: function }
function M.guarded_many(many)
  local function guarded(fn)
    return function(reg, array, n)
      local guard = reg.guard
      if guard.fine ~= guard.of.generation then ask(reg, guard) end
      fn(reg, array, n)
    end
  end
  return many and { read = guarded(many.read), write = guarded(many.write) }
end

return M
