--- Register maps: tables that read like the datasheet's, checked when they are loaded.
---
---     return luio.registers {
---       --           offset width access   fields: bit | { high, low }
---       ID         = { 0x00, 32, "ro",  MAGIC = { 7, 0 }, MINOR = { 23, 16 }, MAJOR = { 31, 24 } },
---       STATUS     = { 0x20, 32, "rw",  COMPUTING = { 0, access = "ro" }, RAISE_IRQ = 7 },
---       IRQ_ACK    = { 0x64, 32, "wo" },
---       CHANNEL    = { 0x100, count = 4, stride = 0x20, block = { CTRL = { 0x0, 32 }, LENGTH = { 0x4, 32 } } },
---       TABLE      = { 0x200, 16, "rw", count = 64 },
---     }
---
--- UPPERCASE names are the datasheet's: registers, blocks, fields. Lowercase keys are options:
---
---   of the map       name, description, region (0), endian ("little"), max_width (64: the widest
---                    access the bus takes), overlay (a file beside the map's: luio.registers.overlay);
---                    `registers = {}` holds names in lowercase
---   of a register    reset, description, section (of the datasheet), count and stride (an array,
---                    indexed from 0), region, endian, read_effect (of reading, e.g. "pops
---                    the FIFO"), write_effect (of every write, besides storing, e.g. "sends the
---                    command"), alias (name of the register at the same offset), halves ("low" or
---                    "high": which half of 64 bits goes first where the bus takes 32),
---                    when (of what selector it is visible), `fields = {}` for names in lowercase
---   of a block       count, stride, region, endian, description, section, when; `block = {}`
---   of a field       access, reset, values (names for values), description, section, read_effect,
---                    write_effect (of writing anything but 0 here, e.g. "resets the device");
---                    a name with "%d" and count, stride (bits) is a row of fields
---
--- Access, of a register and of a field (which has its register's unless it says otherwise):
---
---   ro rw wo         read-only, read-write, write-only
---   w1c w1s w1t      writing 1 clears, sets, toggles, and 0 leaves; can be read
---   w0c w0s w0t      writing 0 clears, sets, toggles, and 1 leaves; can be read
---   sc               self-clearing: 1 starts something, and the hardware makes it 0 again (R/W SC in datasheets;
---                    SystemRDL's singlepulse, or hwclr of a trigger); can be read
---   rc rs            read-only, and reading clears or sets: a side effect
---   wonce            can be written once; can be read
---   preserve zero one   reserved: keep the value that was read, write 0, write 1
---
--- A write_effect is for what storing does not explain: a command that is sent, a doorbell, a counter that starts
--- anew. A bit that holds the written value and works by it, as an enable, has none. `read_effect = false` and
--- `write_effect = false` state that there is none, and answer `luio lint`. undo() and regs:restore() never write
--- such bytes, by any of their names, and `luio set` names the effect.
---
--- Registers behind a selector (a paged window, a bank, the divisor latch of a 16550) say when they are there:
---
---       DLL        = { 0x0, 8, "rw", when = { ["LCR.DLAB"] = 1 } },            -- a field; or a whole register
---       EEPROM     = { 0x80, when = { MEM_PAGE = { 0xc, 0xd } }, block = { ... } },  -- any of these
---
--- The selector is a path from the block in which `when` stands, or from one around it up to the map: in an array of blocks each
--- element has its own; in another array it has an index ("BANK[2].SEL"). A value is a number or one of the field's names. Several
--- conditions must all be met, and those of the blocks around a register, too. Looking at a selector is harmless, or it is none: it
--- can be read and reading has no effect. It may be behind another selector, which is then asked first. Registers that are never
--- visible at the same time may share bytes without alias, and one's effects are not the other's; by a raw offset, whose register
--- is unknown, all count. Code that only looks leaves a hidden register out. An access to it is an error that names the selector.
--- The cost: luio.registers.selectors. A register without `when` costs nothing. An interrupt's top half runs in C and asks no
--- selector.
---
--- A map holds definitions only. Bound to a device (luio.registers.bind) they become registers that
--- can be read and written.

local checks = require "luio.registers.check"
local lines = require "luio.registers.lines"
local overlays = require "luio.registers.overlay"
local paths = require "luio.driver.paths"
local whens = require "luio.registers.when"

local M = {}

--- A field of a register, as checked.
---@class luio.FieldDef
---@field name string
---@field high integer
---@field low integer
---@field bits integer
---@field access string
---@field readable boolean
---@field writable boolean
---@field read_effect string?  what reading does
---@field write_effect string?  what writing it does, unless its neutral value is written
---@field answered { read: boolean, write: boolean }  that there is no effect is known, not only not said
---@field reset integer|ffi.cdata*?
---@field values table<string, integer>?   name -> value
---@field names table<integer, string>?    value -> name
---@field description string?
---@field section string?

--- A register of a map, as checked.
---@class luio.RegisterDef
---@field kind "register"
---@field name string
---@field offset integer   bytes, from the start of what it is in
---@field width integer    bits
---@field access string
---@field readable boolean
---@field writable boolean
---@field read_effect string?  why reading is no mere looking; of the register or any of its fields
---@field write_effect string?  what every write does; its fields have their own
---@field answered { read: boolean, write: boolean }  as of a field
---@field reset integer|ffi.cdata*?
---@field count integer?   an array of so many
---@field stride integer?
---@field fields luio.FieldDef[]   from the highest bit down
---@field field table<string, luio.FieldDef>
---@field region integer
---@field endian "little"|"big"
---@field halves "low"|"high"|nil
---@field alias string?
---@field when table<string, any>?  as it is stated
---@field conditions luio.WhenDef[]?  of the blocks around it and its own; nil: always visible
---@field selects boolean?  it has bytes of a selector
---@field description string?
---@field section string?

--- A block of a map, as checked: registers and blocks at a common offset.
---@class luio.BlockDef
---@field kind "block"
---@field name string
---@field offset integer
---@field count integer?
---@field stride integer?
---@field children luio.Def[]      by offset
---@field total integer             registers in one element of it
---@field child table<string, luio.Def>
---@field when table<string, any>?  as it is stated
---@field conditions luio.WhenDef[]?  of the blocks around it and its own; nil: always visible

---@alias luio.Def luio.RegisterDef|luio.BlockDef

--- A checked register map.
---@class luio.Map: luio.BlockDef
---@field max_width integer
---@field source string?  file it was stated in
---@field whole luio.Map?   the one that this is a part of (luio.registers.absolute)
---@field reach string?     how much of it

local MAX_REGISTERS = 2 ^ 20 -- that are gone through one by one: arrays of arrays multiply

-- ---- The map -------------------------------------------------------------------------------------

---@class luio.Map
local Map = {}

-- Definitions are found by name: map.STATUS. The map's own words are lowercase.
function Map:__index(name)
  return Map[name] or rawget(self, "child") and self.child[name]
end

-- Makes a map's definitions; the faults that it has.
local function define(spec, source)
  local check = checks.new(spec.max_width or 64)
  local map = {
    kind = "block", name = spec.name or "map", offset = 0, description = spec.description, source = source,
    max_width = check.max_width,
  }
  if check.max_width ~= 8 and check.max_width ~= 16 and check.max_width ~= 32 and check.max_width ~= 64 then
    check:fault("max_width", "is 8, 16, 32 or 64, not %s", tostring(spec.max_width))
    check.max_width = 64
  end
  local own = {}
  for name, def in pairs(spec) do
    if not check:option("the map", checks.OPTIONS.map, name, def) then own[name] = def end
  end
  for name, def in pairs(type(spec.registers) == "table" and spec.registers or {}) do
    if own[name] then check:fault(tostring(name), "stated twice") end
    own[name] = def
  end
  map.region, map.endian = check:inherited("the map", spec, { region = 0, endian = "little" })
  check:children("", map, own, 1)
  local guarded, circular = whens.resolve(map, function(...) check:fault(...) end)
  if not check.faults[1] then
    setmetatable(map, Map)
    if guarded and not map:too_large() then check:selectors(map) end
  end
  if not circular then check:overlaps(map, "", map) end
  return map, check
end

-- The part of an overlay that a fault of the corrected map came from: its path there.
local function in_overlay(touched, fault)
  local at = fault.name:gsub("%b[]", "")
  while at do
    if touched[at] then return touched[at] .. fault.name:gsub("%b[]", ""):sub(#at + 1) end
    at = at:match "^(.*)%.[^%.]*$"
  end
  for word in fault.text:gmatch "[%a_][%w_]*" do -- of one that got a new neighbour
    if touched[word] then return touched[word] end
  end
end

-- Where each fault stands: those that the map has without its overlay are the map's own.
local function place_faults(faults, source, overlay, spec)
  local in_map, own = lines.of_file(source), {}
  for _, fault in ipairs(overlay and select(2, define(spec, source)).faults or {}) do own[fault.text] = true end
  local in_file = overlay and lines.of_file(overlay.path)
  for _, fault in ipairs(faults) do
    fault.file, fault.line = source or "map", not fault.of_overlay and in_map(fault.name) or nil
    if overlay and not own[fault.text] then
      local at = fault.of_overlay or in_overlay(overlay.touched, fault)
      fault.file, fault.line = overlay.path, at and in_file(at)
    end
  end
  table.sort(faults, function(a, b)
    local line_a, line_b = a.line or 0, b.line or 0
    if a.file ~= b.file then return a.file < b.file end
    return line_a < line_b or (line_a == line_b and a.text < b.text)
  end)
end

-- The map as its overlay corrects it; nil: it has none, or that can't be used. Faults go into the list.
local function with_overlay(spec, source, faults)
  local function of_map(format, ...) table.insert(faults, { name = "overlay", text = "overlay: " .. format:format(...) }) end
  if type(spec.overlay) ~= "string" then return nil end
  if not source then
    return of_map("%s stands beside the map, whose file is not known here: write return (luio.registers { ... })", spec.overlay)
  end
  local patches, message = overlays.load(source, spec.overlay)
  if message then of_map("%s", message) end
  if not patches then return nil end
  local overlay = { path = overlays.path(source, spec.overlay), touched = {} }
  local function fault(path, format, ...)
    table.insert(faults, { name = path, of_overlay = path, text = ("%s: %s"):format(path, format:format(...)) })
  end
  return overlays.apply(spec, patches, { fault = fault, options = checks.OPTIONS, touched = overlay.touched }), overlay
end

--- Checks a map and makes it into definitions. Raises one message with every fault, each with its file and
--- line where the source is at hand.
---@param spec table
---@param source? string  the file, when it is not the caller's
---@return luio.Map
function M.new(spec, source)
  if type(spec) ~= "table" then error("luio.registers wants a table, not " .. type(spec), 3) end
  if not source then
    local info = debug.getinfo(3, "S") -- a C function: the map's file called in tail position
    source = paths.current() or info and info.source:match "^@(.*)$"
  end
  local faults = {}
  local changed, overlay = with_overlay(spec, source, faults)
  local map, check = define(changed or spec, source)
  for _, fault in ipairs(check.faults) do table.insert(faults, fault) end
  if faults[1] then
    place_faults(faults, source, overlay, spec)
    local n = #faults + (check.more or 0)
    local text = { ("register map: %d fault%s"):format(n, n > 1 and "s" or "") }
    for _, fault in ipairs(faults) do
      table.insert(text, ("  %s:%s %s"):format(fault.file, fault.line and fault.line .. ":" or "", fault.text))
    end
    if check.more then table.insert(text, ("  and %d more"):format(check.more)) end
    error(table.concat(text, "\n"), 3)
  end
  return map
end

--- Why the map is too large to go through register by register; nil: it is not.
---@return string?
function Map:too_large()
  if self.total > MAX_REGISTERS then
    return ("the map has %.0f registers, counting elements of arrays: more than %d"):format(self.total, MAX_REGISTERS)
  end
end

--- Calls fn for every register: elements of arrays each, in order of region and offset. Raises for a
--- map that is too large for that.
---@param fn fun(path: string, def: luio.RegisterDef, offset: integer)
function Map:each(fn)
  local too_large = self:too_large()
  if too_large then error(too_large, 2) end
  local function walk(block, prefix, base)
    for _, def in ipairs(block.children) do
      for i = 0, (def.count or 1) - 1 do
        local path = prefix .. def.name .. (def.count and ("[%d]"):format(i) or "")
        local offset = base + def.offset + i * (def.stride or 0)
        if def.kind == "block" then walk(def, path .. ".", offset) else fn(path, def, offset) end
      end
    end
  end
  walk(self, "", 0)
end

M.Map = Map

return M
