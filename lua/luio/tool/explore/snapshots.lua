--- Snapshots as files: register values as JSON that outlives the tool.
---
---     { "luio": "snapshot", "version": 1, "device": "sim:edu", "map": "drivers/edu",
---       "registers": [ { "path": "ID", "value": "0x010000ed" }, { "path": "IRQ_ACK", "skipped": "write-only" } ] }
---
--- A place without a map has its label for a path ("0x20:u32"). Reading and comparing need no device.

local json = require "luio.text.json"
local place = require "luio.tool.explore.place"
local show = require "luio.registers.show"

local M = {}

local WIDTHS = { [8] = true, [16] = true, [32] = true, [64] = true }

---@class luio.SavedSnapshot: luio.Snapshot
---@field map string?
---@field time string?   UTC

--- A snapshot of records.
---@param target luio.Target
---@param records luio.Record[]
---@return luio.SavedSnapshot
function M.of(target, records)
  local s = { luio = "snapshot", version = 1, device = target.dev.address, map = target.map_name, registers = {},
    time = os.date "!%Y-%m-%dT%H:%M:%SZ" }
  for i, r in ipairs(records) do
    s.registers[i] = { path = r.label, value = r.value and show.hex(r.value, r.reg.def.width), skipped = r.skipped }
  end
  return s
end

-- The fault of an entry; nil: none.
local function fault(entry, first)
  if type(entry) ~= "table" or json.is_array(entry) then return "is no object" end
  local path, value, skipped = entry.path, entry.value, entry.skipped
  if type(path) ~= "string" then return "has no path" end
  local at = place.parse(path)
  if not at or at.pattern or at.kind == "range" then return "has a path that is no register's" end
  if first[path] then return ("is %s, as entry %d"):format(path, first[path]) end
  if (value == nil) == (skipped == nil) then return ("(%s) has neither, or both, of value and skipped"):format(path) end
  if skipped ~= nil then return type(skipped) ~= "string" and ("(%s): skipped is no text"):format(path) or nil end
  local digits = type(value) == "string" and value:match "^0x(%x+)$"
  if not digits or not WIDTHS[#digits * 4] then
    return ("(%s): value is not 0x and the digits of 8, 16, 32 or 64 bits"):format(path)
  end
end

local OPTIONAL = { "device", "map", "time" }

-- The fault of a document; nil: none.
local function fault_of_all(s)
  if type(s) ~= "table" or s.luio ~= "snapshot" then return "`luio snapshot DEVICE` makes one" end
  if type(s.version) ~= "number" then return "it has no version" end
  if s.version ~= 1 then return ("it is of version %g; this luio knows 1"):format(s.version) end
  for _, key in ipairs(OPTIONAL) do
    if s[key] ~= nil and type(s[key]) ~= "string" then return key .. " is no text" end
  end
  if not json.is_array(s.registers) then return "registers is no list" end
  local first, n = {}, 0
  for i, entry in ipairs(s.registers) do
    local what = fault(entry, first)
    if what then return ("entry %d of registers %s"):format(i, what) end
    first[entry.path], n = i, i
  end
  if next(s.registers, n > 0 and n or nil) then return ("entry %d of registers is no object"):format(n + 1) end -- a null
end

--- Reads a snapshot from a file. It is not trusted: everything in it is checked.
---@param path string  "-": standard input
---@return luio.SavedSnapshot?
---@return string? message  with the place
---@return string? code
function M.load(path)
  local text, message, code = json.read(path)
  if not text then return nil, "read snapshot " .. message, code end
  local s
  s, message, code = json.decode(text)
  if message then return nil, ("%s is no snapshot: %s"):format(path, message), code end
  local what = fault_of_all(s)
  if what then return nil, ("%s is no snapshot: %s"):format(path, what), "EINVAL" end
  return s
end

---@class luio.SnapshotDifference
---@field path string
---@field before string?  value; nil: only in the other
---@field after string?
---@field fields { name: string, before: string, after: string }[]

-- The map's definition at a path: a register, a block, a field; nil: none.
local function named(map, path)
  local def = map
  for name in path:gsub("%[%d+%]", ""):gmatch "[^.]+" do def = def and (def.child and def.child[name] or def.field and def.field[name]) end
  return def
end

-- The compared value, or the reason why there is none. Another value of a selector is no difference of the registers
-- behind it.
local function content(entry)
  return entry.value or entry.skipped:match "^not visible" or entry.skipped
end

-- The register at a path; nil for places that the map does not name.
local function definition(map, path)
  local def = named(map, path)
  return def and def.kind == "register" and def or nil
end

-- The fields that differ, where the map is at hand.
local function fields_of(map, path, before, after)
  local def, list = map and definition(map, path), {}
  if not def or #before ~= def.width / 4 + 2 then return list end
  for _, f in ipairs(show.changes(def, show.number(before, def.width), show.number(after, def.width))) do
    table.insert(list, { name = f.name, before = show.value(f.before), after = show.value(f.after) })
  end
  return list
end

--- A snapshot of the same places, now. Those that are not there any more are not in it.
---@param before luio.SavedSnapshot
---@param target luio.Target
---@param read fun(target: luio.Target, list: luio.Found[]): luio.Record[]
---@return luio.SavedSnapshot
function M.again(before, target, read)
  local list = {}
  for _, entry in ipairs(before.registers) do
    local at = assert(place.parse(entry.path))
    -- A search for similar names would take longer than all the rest.
    local there = at.kind ~= "name" or target.regs and named(target.regs.map, at.path)
    local found = there and target:find(at) or {}
    if #found == 1 then table.insert(list, found[1]) end
  end
  return M.of(target, read(target, list))
end

--- The differences between two snapshots: in the order of the first, then the entries that only the
--- second has.
---@param before luio.SavedSnapshot
---@param after luio.SavedSnapshot
---@param map luio.Map?  to say it by fields
---@return luio.SnapshotDifference[]
---@return integer compared  registers, those of one side only counted
function M.diff(before, after, map)
  local now, was, list, compared = {}, {}, {}, #before.registers
  for _, entry in ipairs(after.registers) do now[entry.path] = content(entry) end
  for _, entry in ipairs(before.registers) do
    local old, new = content(entry), now[entry.path]
    was[entry.path] = true
    if old ~= new then
      local both = entry.value and new and new:match "^0x%x+$" and #new == #old
      table.insert(list, { path = entry.path, before = old, after = new, fields = both and fields_of(map, entry.path, old, new) or {} })
    end
  end
  for _, entry in ipairs(after.registers) do
    if not was[entry.path] then
      compared = compared + 1
      table.insert(list, { path = entry.path, after = content(entry), fields = {} })
    end
  end
  return list, compared
end

--- A difference as lines.
---@param d luio.SnapshotDifference
---@return string[]
function M.lines(d)
  if not d.after then return { ("%s %s -> (not in the other)"):format(d.path, d.before) } end
  if not d.before then return { ("%s (not in the first) -> %s"):format(d.path, d.after) } end
  local lines = { ("%s %s -> %s"):format(d.path, d.before, d.after) }
  for _, f in ipairs(d.fields) do table.insert(lines, ("  %s %s -> %s"):format(f.name, f.before, f.after)) end
  return lines
end

return M
