--- A device to look at or to work with: opened so that no other process is disturbed, with its
--- register map.
---
--- How it is opened:
---   read    mapped read-only. Of a PCI device only the BARs: /dev/uioX stays closed, because closing it
---           again would stop the DMA of the process that drives the device
---   write   the same, writable, beside an owner: refused while there is one, unless forced
---   own     as its driver does, with interrupts; while another process drives it: as read, with a note
---
--- A range of physical addresses (mem:0xADDR+0xLEN) is mapped read-only unless the user asked to write, because no
--- driver's match confirms that it is the intended device.
---
--- The map is the one that is named, else that of the driver in drivers/ whose `match` fits, else there is
--- none. Places without a map, 0x20:u32, become registers of a map made for them, so that every function
--- for registers works on them. The read effects that maps state of these bytes count (luio.registers.effects), those of
--- the driver's map, too, where another map is named or it does not fit.

local addresses = require "luio.host.address"
local inspect = require "luio.host.inspect"
local luio = require "luio"
local effects = require "luio.registers.effects"
local maps = require "luio.driver.maps"
local match = require "luio.driver.match"
local near = require "luio.registers.near"
local places = require "luio.tool.explore.place"
local registers = require "luio.registers"
local bind = require("luio.registers.bind").bind
local show = require "luio.registers.show"

local M = {}

---@class luio.Target
---@field dev luio.Device
---@field how "read"|"write"|"own"  as it came to be
---@field regs luio.Registers?
---@field map_name string?     the map's origin: "drivers/edu", a file
---@field driver table?        the driver that matches
---@field driver_fault string? the fault of its driver, or of one that was skipped
---@field no_map string?       why regs is nil
---@field no_map_code string?  where the map could not be used
---@field notes string[]       remarks to the user on how it was opened
---@field package addresses table<string, { path: string, def: luio.RegisterDef }[]>?  "region:offset" -> registers that begin there
---@field package addresses_of luio.Registers?  of which map that is
---@field touched table<integer, boolean>  regions that were accessed since it was emptied, while accesses are told
---@field package after fun(access: luio.Access)?  of the journal
local Target = {}
Target.__index = Target

---@class luio.Found
---@field reg luio.Register
---@field field luio.FieldDef?
---@field high integer?  bits, where a field or bits were named
---@field low integer?
---@field label string

-- ---- Opening -------------------------------------------------------------------------------------

local function who(list)
  local names = {}
  for _, h in ipairs(list) do table.insert(names, ("process %d (%s)"):format(h.pid, h.command or "?")) end
  return table.concat(names, ", ")
end

-- The way to open a device, by its owner: how, and what to say about it.
local function way(address, info, options)
  local how = options.how or "read"
  if info.is_private then return how end
  local others = {}
  for _, h in ipairs((require("luio.host.holders").of(info))) do
    if h.drives then table.insert(others, h) end -- read-only users do not disturb it
  end
  if not others[1] then return how end
  if not info.has_bars and not info.is_range then
    return nil, ("%s is driven by %s, and can't be reached without opening /dev/%s beside it"):format(
      address, who(others), info.uio), "EBUSY"
  elseif how == "own" then
    return "read", ("%s is driven by %s: opened read-only%s"):format(address, who(others),
      info.has_bars and " through its BARs, without interrupts" or "")
  elseif how == "write" and not options.force then
    return nil, ("%s is driven by %s; --force writes beside it"):format(address, who(others)), "EBUSY"
  elseif how == "write" then
    return how, ("%s is driven by %s; written beside it"):format(address, who(others))
  end
  return how
end

local function info_of(address)
  if addresses.made(address) then return { address = address, is_private = true } end
  if address:match "^mem:" then return inspect.find(address) end
  local list, message, code = luio.list()
  if not list then return nil, message, code end
  for _, info in ipairs(list) do
    if info.address == address or info.uio == address then return info end
  end
  return nil, ("there is no device %s (luio list)"):format(address), "ENODEV"
end

-- A driver of the kernel's, and not one that leaves the device to user space.
local function kernel_drives(info)
  return info.can_bind and info.driver ~= nil and not info.uio and not info.driver:find "vfio"
end

local PAGE = 4096

-- Where the memory of a device's regions begins, by their numbers, if one of them meets a range.
local function windows_of(info, range)
  local windows, meets = {}, false
  local function add(i, addr, size)
    if type(addr) ~= "number" then return end -- from 2^53 on
    windows[i] = addr
    meets = meets or addr < range.addr + range.size and range.addr < addr + size
  end
  if info.has_bars then
    for i, bar in pairs(info.bars) do
      if bar.kind == "memory" then add(i, bar.addr, bar.size) end
    end
  else
    for i, map in pairs(info.maps) do
      -- Some UIO drivers give the page and the offset in it, others both in one.
      add(i, type(map.addr) == "number" and map.addr % PAGE == 0 and map.addr + map.offset or map.addr, map.size)
    end
  end
  return meets and windows or nil
end

-- A range of physical addresses is another name for the registers of the device that is there: the map of that
-- device's driver counts.
local function state_neighbours(dev)
  local range = dev.info.maps[0]
  if not range or type(range.addr) ~= "number" then return end
  for _, info in ipairs(luio.list() or {}) do
    local windows, _, driver = windows_of(info, range), nil, nil
    if windows then _, driver = match.driver_of(info) end
    if driver then effects.state(dev, info.address, driver.registers, windows) end
  end
end

-- The map that is to be used: the one named, else the matching driver's.
local function map_of(self, named)
  local name, driver, message = match.driver_of(self.dev.info)
  local others = driver and match.others(self.dev.info, name)
  self.driver, self.driver_fault = driver, name and message
  effects.state(self.dev, "driver", driver and driver.registers)
  if self.dev.info.is_range then state_neighbours(self.dev) end
  if others and not named then table.insert(self.notes, ("drivers/%s is used; %s: --map names another"):format(name, others)) end
  if named then
    local map, code
    map, message, code = maps.load(named)
    if not map then return nil, message, code end
    return map, named
  end
  if driver and driver.registers then return driver.registers, "drivers/" .. name end
  self.no_map = driver and ("driver %s states no registers"):format(name) or message
end

---@class luio.TargetOptions
---@field how "read"|"write"|"own"|nil  "read"
---@field map string?     a map's file, or a driver's name
---@field force boolean?  write although another process drives it
---@field write boolean?  of a range of physical addresses: anything but to look is meant

--- Opens a device and finds its map. Touches no register.
---@param address string
---@param options? luio.TargetOptions
---@return luio.Target?
---@return string? message
---@return string? code
function M.open(address, options)
  options = options or {}
  local info, message, code = info_of(address)
  -- luio.open explains a word that is no address.
  if not info and code ~= "ENODEV" then return nil, message, code end
  if info and info.is_range and options.how ~= "read" and not options.write then
    return nil, ("%s is not written without --write"):format(address), "USAGE"
  end
  local how, note = options.how or "read", nil
  if info then
    how, note, code = way(address, info, options)
    if not how then return nil, note, code end
  end
  local dev
  dev, message, code = luio.open(address, { read_only = how == "read", shared = how == "write", quiet = how ~= "own" })
  if not dev then return nil, message, code end
  -- The owner of a range of physical addresses is unknown.
  dev.driven_elsewhere = info ~= nil and (note ~= nil or info.is_range or kernel_drives(info)) or nil
  local self = setmetatable({ dev = dev, how = how, notes = { note }, raw_roots = {}, touched = {} }, Target)
  local several = how ~= "own" and address ~= dev.info.uio and inspect.one_of(dev.info)
  if several then table.insert(self.notes, ("%s is %s, and the first that its address means"):format(dev.info.uio, several)) end
  local map, from, from_code = map_of(self, options.map)
  if map then
    self.regs, message, code = bind(map, dev)
    self.map_name = from
    if not self.regs and options.map then
      dev:close()
      return nil, message, code
    elseif self.regs then
      table.insert(self.notes, self.regs.map.reach)
    else
      self.no_map, self.no_map_code, self.map_name = message, code, nil
    end
  elseif options.map then
    dev:close()
    return nil, from, from_code
  end
  return self
end

--- Notes for work without the driver, or without its map.
---@return string?
function Target:missing()
  if self.no_map_code then return "the map is not used: " .. self.no_map end
  return not (self.regs and self.how == "read" and not self.driver) and self.driver_fault or nil
end

--- Closes the device.
---@return true? ok
---@return string? message
---@return string? code
function Target:close()
  return self.dev:close()
end

--- Calls functions around every register access from now on, beside listeners of Registers:on_access.
---@param after fun(access: luio.Access)
---@param before_write fun(reg: luio.Register, value: any)
function Target:journal_by(after, before_write)
  local function told(access)
    self.touched[access.reg.def.region] = true
    after(access)
  end
  self.after, self.before_write = told, before_write
  if self.regs then self.regs.listeners:set("journal", told, before_write) end
  for _, root in ipairs(self.raw_roots) do root.listeners:set("journal", told, before_write) end
end

--- The regions that registers are in, as keys.
---@param list { reg: luio.Register }[]
---@return table<integer, boolean>
function M.regions(list)
  local regions = {}
  for _, found in ipairs(list) do regions[found.reg.def.region] = true end
  return regions
end

--- Why reads of these regions do not give their registers now (luio.host.inspect.unanswered).
---@param regions table<integer, any>  keys: numbers of regions
---@return string?  a sentence with the remedy
function Target:silent(regions)
  if self.dev.gone or not next(regions) then return nil end
  return inspect.unanswered(self.dev.info, regions)
end

-- ---- Places --------------------------------------------------------------------------------------

local function fail(format, ...)
  return nil, format:format(...), "ENOENT"
end

--- Whether a register is this target's: of its map, or made for a place.
---@param reg luio.Register
---@return boolean
function Target:owns(reg)
  return reg.root.device == self.dev
end

-- The map's registers that begin at an offset, in no order.
local function beginning_at(self, region, offset)
  if self.addresses_of ~= self.regs then -- a driver has started: its map counts
    self.addresses, self.addresses_of = {}, self.regs
    self.regs.map:each(function(path, def, at)
      local key = def.region .. ":" .. at
      self.addresses[key] = self.addresses[key] or {}
      table.insert(self.addresses[key], { path = path, def = def })
    end)
  end
  return self.addresses and self.addresses[region .. ":" .. offset] or {}
end

--- The effect of reading these bytes, as far as the maps know.
---@param region integer
---@param offset integer
---@param bytes integer
---@return luio.Effect?
function Target:disturbs(region, offset, bytes)
  return effects.of(self.dev):find("read", region, offset, bytes)
end

-- The map's register at exactly that address, of that width unless none was said. None that is behind a selector: which of
-- several is there is not known, and an offset is not the name of one of them.
local function mapped(self, place)
  local first
  for _, entry in ipairs(beginning_at(self, place.region, place.offset)) do
    local def = entry.def
    local fits = not def.alias and not def.conditions and (place.width == nil or place.width == def.width)
    if fits and (not first or entry.path < first) then
      first = entry.path
    end
  end
  return first and assert(self.regs:find(first))
end

local function label_of(region, offset, width)
  return ("%s0x%02x:u%d"):format(region ~= 0 and region .. ":" or "", offset, width)
end

-- `count` registers that no map has.
local function raw(self, place, width, count)
  local region, message, code = self.dev:region(place.region)
  if not region then return nil, message, code end
  local bytes = width / 8
  if place.offset % bytes ~= 0 then return fail("%s: 0x%x is not aligned to %d bytes", place.text, place.offset, bytes) end
  if place.offset + bytes * count > region.size then
    return fail("%s: region %d of %s has 0x%x bytes", place.text, place.region, self.dev.address, region.size)
  end
  local root
  root, message, code = bind(registers.new({
    region = place.region,
    RAW = { place.offset, width, "rw", count = count, halves = width == 64 and "low" or nil },
  }, "raw"), self.dev, true)
  if not root then return nil, message, code end
  root.listeners:set("journal", self.after, self.before_write)
  table.insert(self.raw_roots, root)
  local list = {}
  for i = 0, count - 1 do
    local reg = root.RAW[i]
    local offset = place.offset + i * bytes
    reg.path, reg.raw = label_of(place.region, offset, width), true
    list[i + 1] = reg
  end
  return list
end

local MAX_RANGE = 65536 -- registers: the limit of an array in a map

local function bits_of(place, reg)
  if place.high and place.high >= reg.def.width then
    return fail("%s: %s has %d bits, [%d:0]", place.text, reg.path, reg.def.width, reg.def.width - 1)
  end
  return { { reg = reg, high = place.high, low = place.low, label = place.high and ("%s[%d:%d]"):format(reg.path, place.high, place.low)
    or reg.path } }
end

local function find_raw(self, place)
  local default = math.min(32, self.regs and self.regs.map.max_width or 32)
  if place.kind == "range" then
    local width = place.width or default
    local count = place.length / (width / 8)
    if count % 1 ~= 0 then return fail("%s: 0x%x bytes are not whole u%d", place.text, place.length, width) end
    if count > MAX_RANGE then return fail("%s: more than %d registers", place.text, MAX_RANGE) end
    local list, message, code = raw(self, place, width, count)
    if not list then return nil, message, code end
    for i, reg in ipairs(list) do list[i] = { reg = reg, label = reg.path } end
    return list
  end
  local reg = mapped(self, place)
  if reg then return bits_of(place, reg) end
  local list, message, code = raw(self, place, place.width or default, 1)
  if not list then return nil, message, code end
  return bits_of(place, list[1])
end

-- A map that is there and can't be used is not "no map"; nor is a driver that does not load.
local function no_map(self, what, instead)
  local info = self.dev.info
  if self.no_map_code then return nil, what .. self.no_map, self.no_map_code end
  return fail("%sthere is no register map for %s%s: %s", what, info.address,
    info.vendor and (" (%04x:%04x)"):format(info.vendor, info.device) or "",
    self.driver_fault or ("%s; name one with --map FILE, or %s"):format(self.no_map, instead))
end

local function find_several(self, place, glob)
  local list, pattern = {}, places.matcher(glob)
  self.regs.map:each(function(path)
    if (path .. "."):find(pattern) then table.insert(list, { reg = assert(self.regs:find(path)), label = path }) end
  end)
  if not list[1] then return fail("%s: no register of %s is called so", place.text, self.map_name) end
  return list
end

local function find_named(self, place)
  if not self.regs then return no_map(self, place.text .. ": ", "an offset: 0x20:u32") end
  if place.pattern then
    if place.high then return fail("%s: bits of one register only", place.text) end
    return find_several(self, place, place.path)
  end
  local reg, message, code = self.regs:find(place.path)
  if reg and (not reg.def or reg.def.kind ~= "register" or reg.count) then
    if place.high then return fail("%s: %s is no register but several", place.text, place.path) end
    return find_several(self, place, place.path)
  elseif reg then
    return bits_of(place, reg)
  end
  local outer, name = place.path:match "^(.*)%.([%a_][%w_]*)$"
  local parent = outer and self.regs:find(outer)
  if not parent or not parent.def or parent.def.kind ~= "register" or parent.count then return nil, message, code end
  local field = parent.def.field[name]
  if not field then
    return fail("%s has no field %s%s", parent.path, name, near.hint(name, parent.def.field))
  elseif place.high then
    return fail("%s: bits of a register, or a field, not of a field", place.text)
  end
  return { { reg = parent, field = field, high = field.high, low = field.low, label = parent.path .. "." .. name } }
end

--- The registers of a place on this device. Touches nothing.
---@param place luio.Place
---@return luio.Found[]?
---@return string? message
---@return string? code  "ENOENT"
function Target:find(place)
  if place.kind == "name" then return find_named(self, place) end
  return find_raw(self, place)
end

--- All registers of the map.
---@return luio.Found[]?
---@return string? message
---@return string? code
function Target:all()
  if not self.regs then return no_map(self, "", "a range: 0x0+0x40") end
  local list = {}
  for reg in self.regs:each() do table.insert(list, { reg = reg, label = reg.path }) end
  return list
end

--- The reason not to read a register for inspection; nil: it may be read. With `force` only registers that can't be
--- read at all (invisible or write-only) are left out, and the second result names the disturbance.
---@param reg luio.Register
---@param force boolean?
---@return string? reason
---@return string? disturbed
---@return boolean? hidden  it is behind a selector, and not visible now
function Target:left_out(reg, force) -- luacheck: ignore 212
  local reason, hidden = show.left_out(reg)
  if reason and force and reg.def.readable and not hidden then
    return nil, ("%s was read: %s"):format(reg.path, (reason:gsub("^not read: ", "")))
  end
  return reason, nil, hidden
end

--- That an offset may be anything: no map says of all its bytes that they can be read; nil: it is no such offset.
---@param reg luio.Register
---@return string? reason
function Target:undescribed(reg)
  if reg.raw and not effects.of(self.dev):described(reg.def.region, reg.offset, reg.def.width / 8) then
    return "not read: no map describes it"
  end
end

--- Why a register is not read beside a write, when the user did not ask for it; nil: it may be.
---@param reg luio.Register
---@return string? reason
function Target:unasked(reg)
  return self:left_out(reg) or self:undescribed(reg)
end

return M
