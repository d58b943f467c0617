--- Watching registers: reading them again and again, and telling what changed.
---
--- Each sample is one load of each register that may be read; none while the device sleeps or does not decode its memory, which
--- is looked up before each. A register that was left out once stays left out, also when only a later map states the effect. A
--- register behind a selector is asked for each time. A change between two samples is not seen: this is looking, not tracing.

local luio = require "luio"
local record = require "luio.tool.explore.record"
local regions = require("luio.tool.explore.target").regions
local show = require "luio.registers.show"

local M = {}

---@class luio.RegisterWatch
---@field target luio.Target
---@field rows luio.WatchRow[]
---@field samples integer
---@field regions table<integer, boolean>  that are read
---@field silent string?   why nothing was read the last time
---@field started number   seconds, luio.now()
local Watcher = {}
Watcher.__index = Watcher

---@class luio.WatchRow
---@field found luio.Found
---@field record luio.Record   the last one
---@field changes integer      samples that differed from the one before
---@field changed table<string, boolean>  fields that differ in the last sample; "" the register or the bits
---@field at number            when it changed last

--- Starts to watch: takes the first sample.
---@param target luio.Target
---@param list luio.Found[]
---@param force boolean?  read whatever it does, every time
---@return luio.RegisterWatch
function M.new(target, list, force)
  local self = setmetatable({ target = target, rows = {}, samples = 0, force = force, started = luio.now() }, Watcher)
  for i, found in ipairs(list) do
    self.rows[i] = { found = found, record = record.read(target, found, force), changes = 0, changed = {}, at = self.started }
  end
  self.samples = 1
  self.regions = regions(list)
  return self
end

---@class luio.WatchChange
---@field row luio.WatchRow
---@field time number  seconds since the start
---@field before luio.Record
---@field after luio.Record
---@field fields { name: string, before: any, after: any }[]  those that changed, when the whole register is watched

local function differ(a, b)
  if a.part then return a.part ~= b.part end
  return a.value ~= b.value
end

--- Takes a sample.
---@return luio.WatchChange[]  in the order of the rows
---@return string? note  since the sample before the device has stopped to answer, or answers again
function Watcher:sample()
  local list, was = {}, self.silent
  self.silent = not self.force and self.target:silent(self.regions) or nil
  if self.silent then
    for _, row in ipairs(self.rows) do row.changed = {} end
    return list, not was and self.silent .. "; until then nothing is read" or nil
  end
  self.samples = self.samples + 1
  for _, row in ipairs(self.rows) do
    row.changed = {}
    if not row.record.skipped or row.record.hidden then
      local before, after = row.record, record.read(self.target, row.found, self.force)
      row.record = after
      if not after.skipped and not before.skipped and differ(before, after) then
        row.changes, row.at, row.changed[""] = row.changes + 1, luio.now(), true
        local fields = after.part and {} or show.changes(after.reg.def, before.value, after.value)
        for _, f in ipairs(fields) do row.changed[f.name] = true end
        table.insert(list, { row = row, time = row.at - self.started, before = before, after = after, fields = fields })
      end
    end
  end
  return list, was and self.target.dev.address .. " answers again" or nil
end

local function text_of(r)
  return r.part and r.part_text or show.hex(r.value, r.reg.def.width)
end

--- A change as a line: when, what, from, to, and the fields in it.
---@param c luio.WatchChange
---@return string
function M.text(c)
  local parts = {}
  for _, f in ipairs(c.fields) do
    table.insert(parts, ("%s=%s->%s"):format(f.name, show.value(f.before), show.value(f.after)))
  end
  return ("%.3f %s %s -> %s%s"):format(c.time, c.after.label, text_of(c.before), text_of(c.after),
    parts[1] and "  " .. table.concat(parts, " ") or "")
end

--- The same as plain data.
---@param c luio.WatchChange
---@return table
function M.plain(c)
  local fields = {}
  for _, f in ipairs(c.fields) do fields[f.name] = f.after end
  return {
    time = c.time, path = c.after.label, before = text_of(c.before), after = text_of(c.after),
    fields = next(fields) and fields or nil,
  }
end

return M
