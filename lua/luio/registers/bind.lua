--- A map bound to a device: registers that can be read and written.
---
---     local regs = assert(luio.bind(map, dev))      -- a driver's map is bound for it: dev.regs
---     regs.STATUS:get "COMPUTING"
---     regs.CHANNEL[2].CTRL:update { ENABLE = 1 }    -- blocks and arrays, from 0
---     regs:find "CHANNEL[2].CTRL"
---     regs:on_access(print)                         -- every access through the map, a started driver's too; nil ends it
---
--- Binding touches no register. It checks what only the device can tell: that every register lies in
--- its region, and that the region takes its width. A map of a whole chip is bound by addresses (luio.registers.absolute).
--- Registers are made when they are first named and kept, so that naming one again is a table lookup.

local absolute = require "luio.registers.absolute"
local effects = require "luio.registers.effects"
local listeners = require "luio.registers.listeners"
local near = require "luio.registers.near"
local selectors = require "luio.registers.selectors"
local verbs = require "luio.registers.verbs"
local show = require "luio.registers.show"
local when = require "luio.registers.when"

local M = {}

--- Options of a register's wait.
---@class luio.WaitOptions
---@field interval number?  seconds between two loads; 0.001
---@field spin boolean?     load without a pause, and let no other task run

--- A register of an open device.
---@class luio.Register
---@field path string        "CHANNEL[2].CTRL"
---@field def luio.RegisterDef
---@field offset integer     bytes, in its region
---@field region luio.Region
---@field root luio.Registers
---@field package prepared table
---@field package guard luio.Guard?  it is behind a selector
---@field package key string?  its bytes, where they are a selector's
---@field read fun(self: luio.Register): integer|ffi.cdata*  one load; a register of 64 bits gives a uint64_t
---@field write fun(self: luio.Register, value: integer|ffi.cdata*|table<string, any>)  one store. Of { FIELD = value } the fields that
---                                are not named are as after a reset
---@field get fun(self: luio.Register, field: string): integer|ffi.cdata*, string?  one load: a field's value, and its name if it has one
---@field update fun(self: luio.Register, fields: table<string, any>)  one load, one store. The same without a table, for hot loops:
---                                reg:update("FIELD", value, "OTHER", value), up to four
---@field wait fun(self: luio.Register, fields: table, seconds: number, opts?: luio.WaitOptions): integer|ffi.cdata*|nil, string?, string?
---                                loads until the fields have these values, and gives the register's value; nil, message and "ETIMEDOUT"
---                                at the deadline, "ENODEV" if the device goes. Other tasks run meanwhile
---@field read_many fun(self: luio.Register, to: ffi.cdata*, n: integer)  loads this register n times, into an array of its width
---@field write_many fun(self: luio.Register, from: ffi.cdata*, n: integer)  stores n values, from an array of its width
---@field decode fun(self: luio.Register, value: integer|ffi.cdata*): table<string, any>  fields by name; touches nothing
---@field encode fun(self: luio.Register, fields: table<string, any>): integer|ffi.cdata*  what write would store; touches nothing

-- To assign is a slip that would access nothing. A name in lower case is software's. One that was used before is a key of its
-- own by now, and is not seen here.
local function refuse_assignment(self, name, value)
  if type(name) == "string" and not name:find "^%u" then return rawset(self, name, value) end
  error(("%s can't be assigned to, which would write nothing: a register is written by :write(value), its fields by "
    .. ":update { FIELD = value }"):format(tostring(name)), 2)
end

-- Which class a register has now: traced while there is a hook.
local function metatable_of(root, def)
  local region = root.regions[def.region]
  local split = def.width == 64 and math.min(root.map.max_width, region.max_width) < 64
  local class = verbs.class(def, split, root.raw or def.selects or false)
  local which = root.listeners.list[1] and class.traced or class.plain
  local mt = root.metatables[which]
  if not mt then
    mt = { __index = which, __newindex = refuse_assignment, __tostring = show.register }
    root.metatables[which] = mt
  end
  return mt
end

-- Registers get the classes that tell who listens, or those that know nothing of it.
local function reclass(root)
  for _, reg in ipairs(root.made) do setmetatable(reg, metatable_of(root, reg.def)) end
end

local function new_register(root, def, path, offset)
  local reg = setmetatable({
    path = path, def = def, offset = offset, region = root.regions[def.region], prepared = verbs.prepare(def), root = root,
    guard = selectors.guard(root, def, path), key = (root.raw or def.selects) and when.key(def, offset) or nil,
  }, metatable_of(root, def))
  table.insert(root.made, reg)
  return reg
end

local new_block

local function new_one(root, def, path, offset)
  if def.kind == "block" then return new_block(root, def, path .. ".", offset) end
  return new_register(root, def, path, offset)
end

local function new_array(root, def, path, offset)
  return setmetatable({ def = def, path = path, count = def.count }, {
    __index = function(array, i)
      if type(i) ~= "number" or i % 1 ~= 0 or i < 0 or i >= def.count then
        error(("%s has elements 0 to %d, not %s"):format(path, def.count - 1, tostring(i)), 2)
      end
      local element = new_one(root, def, ("%s[%d]"):format(path, i), offset + i * def.stride)
      rawset(array, i, element)
      return element
    end,
    __newindex = refuse_assignment,
    __tostring = function(array) return show.array(array, offset) end,
  })
end

-- Makes and keeps `block.NAME`.
local function member(root, block, self, prefix, base, name)
  local def = block.child[name]
  if not def then
    local what = prefix == "" and "the map" or prefix:sub(1, -2)
    local outside = prefix == "" and root.map.whole and root.map.whole.child[name]
    if outside then error(("%s is at 0x%x, which is not in reach of %s"):format(name, outside.offset, root.device.address), 2) end
    -- Level 2: our callers call us in tail position.
    error(("%s has no register %s%s"):format(what, tostring(name), near.hint(tostring(name), block.child)), 2)
  end
  local path = prefix .. name
  local at = base + def.offset
  local made = def.count and new_array(root, def, path, at) or new_one(root, def, path, at)
  rawset(self, name, made)
  return made
end

function new_block(root, def, prefix, base)
  return setmetatable({ def = def, path = prefix:sub(1, -2) }, {
    __index = function(self, name) return member(root, def, self, prefix, base, name) end,
    __newindex = refuse_assignment,
    __tostring = function(self) return show.block(root, self.path) end,
  })
end

-- ---- The root ------------------------------------------------------------------------------------

--- A register map, or a block of one, that is bound to an open device.
---@class luio.Registers
---@field map luio.Map
---@field device luio.Device
local Root = {}
M.Registers = Root -- for completion

--- A register by its path.
---@param path string  "STATUS", "CHANNEL[2].CTRL"
---@return luio.Register? register  or a block or an array
---@return string? message
---@return string? code  "ENOENT"
function Root:find(path)
  local at = self
  for name, index in path:gmatch "([%a_][%w_]*)([%d%[%]]*)" do
    local ok, next_at = pcall(function() return at[name] end)
    if ok then
      for i in index:gmatch "%[(%d+)%]" do
        ok, next_at = pcall(function() return next_at[tonumber(i)] end)
        if not ok then break end
      end
    end
    if not ok then return nil, (tostring(next_at):gsub("^[^:]*:%d+: ", "")), "ENOENT" end
    at = next_at
  end
  if at == self then return nil, ("%q is no register's path"):format(path), "ENOENT" end
  return at
end

--- Calls a function for every access that goes through the map, after it was made; through that of the driver that runs, too.
--- Printed, an access is a line with its value, decoded, and the script's line. Costs nothing while there is none. The function is
--- not called for its own accesses. A function that raises is removed, with a warning of the device's. Accesses of the interrupt
--- thread's top half are not the map's.
---@param fn fun(access: luio.Access)?  nil: no more
function Root:on_access(fn)
  self.listeners:set("on_access", fn)
end

--- Every register, elements of arrays each, by region and offset.
---@return fun(): luio.Register?
function Root:each()
  local list = {}
  self.map:each(function(path) table.insert(list, (assert(self:find(path)))) end)
  local i = 0
  return function()
    i = i + 1
    return list[i]
  end
end

Root.snapshot = show.snapshot
Root.diff = show.diff
Root.restore = show.restore

local NO_REGION = "ENOENT" -- of Device:region: the device has none of that number

-- Faults that only the device can tell. A region that it has, and that can't be opened, is none of the map's: then nil and why.
local function check(map, device)
  local faults, regions = {}, {}
  local closed, closed_code
  local fits = 0
  map:each(function(path, def, offset)
    local region = regions[def.region]
    if region == nil then
      local message, code
      region, message, code = device:region(def.region)
      regions[def.region] = region or false
      if not region and code == NO_REGION then table.insert(faults, ("%s: %s"):format(path, message))
      elseif not region then closed, closed_code = closed or message, closed_code or code end
    end
    if region then
      if offset + def.width / 8 > region.size then
        local outside = "%s: 0x%x is outside region %d of 0x%x bytes (%s)"
        table.insert(faults, outside:format(path, offset, def.region, region.size, region.name))
      else
        fits = fits + 1
      end
      if def.width > region.max_width and not def.halves then
        table.insert(faults, ('%s: 64 bits in I/O ports: state halves = "low" or "high"'):format(path))
      end
    end
  end)
  if closed then return nil, closed, closed_code end
  return faults, regions, fits
end

--- A listener to one map also gets the accesses of another one, now and later. A value that is no map is left alone: a
--- driver or a script may set a device's `regs`.
---@param root luio.Registers
---@param other luio.Registers
function M.share_listeners(root, other)
  if root.listeners == other.listeners or not (root.listeners and other.listeners) then return end
  root.listeners:remove(root)
  rawset(root, "listeners", other.listeners)
  root.listeners:add(root)
  reclass(root)
end

local SHOWN = 20

--- Binds a map to a device.
---@param map luio.Map
---@param device luio.Device
---@param says_nothing? boolean  the map was made for offsets: nothing in it is known of the device
---@return luio.Registers?
---@return string? message  every fault: registers outside their region, widths it can't do; or why a region can't be opened
---@return string? code     "EINVAL", or as of Device:region
function M.bind(map, device, says_nothing)
  local too_large = map:too_large()
  if too_large then return nil, too_large, "EINVAL" end
  local faults, regions, fits = check(map, device)
  if not faults then return nil, regions, fits end
  if faults[1] and not says_nothing then
    local part = absolute.part(map, device)
    if part then return M.bind(part, device) end
    local nowhere = absolute.nowhere(map, device, fits > 0)
    if nowhere then return nil, nowhere, "EINVAL" end
  end
  if faults[1] then
    local more = #faults - SHOWN
    for i = #faults, SHOWN + 1, -1 do faults[i] = nil end
    if more > 0 then table.insert(faults, ("and %d more"):format(more)) end
    return nil, ("register map %s does not fit %s\n  %s"):format(map.source or "", device.address, table.concat(faults, "\n  ")), "EINVAL"
  end
  local root = { map = map, device = device, regions = regions, made = {}, metatables = {},
    listeners = listeners.new(reclass), looking = false, raw = says_nothing or false }
  root.listeners:add(root)
  if not says_nothing then effects.bound(root) end
  return setmetatable(root, {
    __index = function(self, name)
      if Root[name] then return Root[name] end
      return member(self, map, self, "", 0, name)
    end,
    __newindex = refuse_assignment,
    __tostring = function(self) return show.block(self, "") end,
  })
end

return M
