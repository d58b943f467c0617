--- Snapshots as files: what the registers held, as JSON that outlives the tool.
---
---     { "luio": "snapshot", "version": 1, "device": "sim:edu", "map": "drivers/edu",
---       "registers": [ { "path": "ID", "value": "0x010000ed" }, { "path": "IRQ_ACK", "skipped": "write-only" } ] }
---
--- A place without a map has its label for a path ("0x20:u32"). Reading and comparing need no device.

local place = require "luio.explore.place"
local show = require "luio.registers.show"

local M = {}

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

--- Reads a snapshot from a file. It is not trusted: everything in it is checked.
---@param path string  "-": standard input
---@return luio.SavedSnapshot?
---@return string? message
---@return string? code
function M.load(path)
  local f, why = io.stdin, nil
  if path ~= "-" then f, why = io.open(path) end
  if not f then return nil, "read snapshot " .. why, "ENOENT" end
  local text, failure = f:read "*a"
  if path ~= "-" then f:close() end
  if not text then return nil, ("read snapshot %s: %s"):format(path, tostring(failure)), "EIO" end
  local json = require "dkjson"
  local s, _, message = json.decode(text, 1, nil, nil, nil)
  if not s then return nil, ("%s is no snapshot: %s"):format(path, tostring(message)), "EINVAL" end
  if type(s) ~= "table" or s.luio ~= "snapshot" or type(s.registers) ~= "table" then
    return nil, ("%s is no snapshot: `luio snapshot DEVICE` makes one"):format(path), "EINVAL"
  elseif s.version ~= 1 then
    return nil, ("%s is a snapshot of version %s; this luio knows 1"):format(path, tostring(s.version)), "EINVAL"
  end
  for i, entry in ipairs(s.registers) do
    local fine = type(entry) == "table" and type(entry.path) == "string"
      and (entry.value == nil and type(entry.skipped) == "string"
        or type(entry.value) == "string" and entry.value:match "^0x%x+$" and #entry.value <= 18)
    if not fine then return nil, ("%s: entry %d of registers is malformed"):format(path, i), "EINVAL" end
  end
  return s
end

---@class luio.SnapshotDifference
---@field path string
---@field before string?  value; nil: only in the other
---@field after string?
---@field fields { name: string, before: string, after: string }[]

-- The definition at a path; nil for places that the map does not name.
local function definition(map, path)
  local def = map
  for name in path:gsub("%[%d+%]", ""):gmatch "[^.]+" do def = def and def.child and def.child[name] end
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
    local at = place.parse(entry.path)
    for _, found in ipairs(at and target:find(at) or {}) do table.insert(list, found) end
  end
  return M.of(target, read(target, list))
end

--- What differs between two snapshots: in the order of the first, then what only the second has.
---@param before luio.SavedSnapshot
---@param after luio.SavedSnapshot
---@param map luio.Map?  to say it by fields
---@return luio.SnapshotDifference[]
---@return integer compared  registers, those of one side only counted
function M.diff(before, after, map)
  local now, was, list, compared = {}, {}, {}, #before.registers
  for _, entry in ipairs(after.registers) do now[entry.path] = entry.value or entry.skipped end
  for _, entry in ipairs(before.registers) do
    local old, new = entry.value or entry.skipped, now[entry.path]
    was[entry.path] = true
    if old ~= new then
      local both = entry.value and new and new:match "^0x%x+$" and #new == #old
      table.insert(list, { path = entry.path, before = old, after = new, fields = both and fields_of(map, entry.path, old, new) or {} })
    end
  end
  for _, entry in ipairs(after.registers) do
    if not was[entry.path] then
      compared = compared + 1
      table.insert(list, { path = entry.path, after = entry.value or entry.skipped, fields = {} })
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
