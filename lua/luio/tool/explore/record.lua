--- The value that was read from a register, as a line and as JSON.

local bits = require "luio.registers.bits"
local show = require "luio.registers.show"
local term = require "luio.text.term"

local M = {}

---@class luio.RecordField
---@field name string
---@field value integer|ffi.cdata*
---@field text string   its name where it has one, else the number

---@class luio.Record
---@field label string       the place
---@field reg luio.Register
---@field value integer|ffi.cdata*|nil  of the register; nil: it was left out
---@field skipped string?    why
---@field hidden boolean?    because it is not visible now
---@field disturbed string?  what a forced read has done
---@field part integer|ffi.cdata*|nil  of the field or the bits that were named
---@field part_text string?
---@field fields luio.RecordField[]

--- A record of a value.
---@param found luio.Found
---@param value integer|ffi.cdata*
---@return luio.Record
function M.of(found, value)
  local reg = found.reg
  local record = { label = found.label, reg = reg, value = value, fields = {} }
  for _, f in ipairs(reg.def.fields) do
    local x = bits.take(value, f.high, f.low)
    table.insert(record.fields, { name = f.name, value = x, text = f.names and f.names[x] or show.value(x) })
  end
  if found.high then
    local x = bits.take(value, found.high, found.low)
    record.part = x
    record.part_text = found.field and found.field.names and found.field.names[x] or show.value(x)
  end
  return record
end

--- Reads a place: one load, or none where that would do something.
---@param target luio.Target
---@param found luio.Found
---@param force boolean?  read whatever it does
---@return luio.Record
function M.read(target, found, force)
  local reason, disturbed, hidden = target:left_out(found.reg, force)
  if reason then return { label = found.label, reg = found.reg, skipped = reason, hidden = hidden, fields = {} } end
  local record = M.of(found, show.look(found.reg))
  record.disturbed = disturbed
  return record
end

-- ---- As a line -----------------------------------------------------------------------------------

---@class luio.LineOptions
---@field path_width integer?    columns of the names
---@field offset_width integer?
---@field columns integer?       of the terminal: longer lines go on below
---@field changed table<string, boolean>?  fields to highlight

--- A record as a line: name, offset, value, fields.
---@param record luio.Record
---@param options? luio.LineOptions
---@return string
function M.line(record, options)
  options = options or {}
  local reg = record.reg
  if record.part then
    local number = show.value(record.part)
    local text = record.part_text == number and number or ("%s (%s)"):format(record.part_text, number)
    return ("%s = %s"):format(record.label, text)
  end
  local head = record.label
  if not reg.raw then
    head = ("%-" .. math.min(99, options.path_width or 1) .. "s %" .. math.min(99, options.offset_width or 1) .. "s"):format(
      head, ("0x%x"):format(reg.offset))
  end
  if record.skipped then
    return head .. term.dim(("   (%s)"):format(record.skipped))
  end
  head = ("%s = %s"):format(head, show.hex(record.value, reg.def.width))
  local words = {}
  for i, f in ipairs(record.fields) do
    local word = ("%s=%s"):format(f.name, f.text)
    words[i] = options.changed and options.changed[f.name] and term.yellow(word) or word
  end
  if not words[1] then return head end
  local columns = options.columns
  local indent = columns and (" "):rep(math.min(#head + 2, math.max(2, math.floor(columns / 3)))) or ""
  return table.concat(term.wrap(words, columns, indent, head .. "  "), "\n")
end

--- Several records, lined up.
---@param records luio.Record[]
---@param options? luio.LineOptions
---@return string[]
function M.lines(records, options)
  local o = { columns = options and options.columns, path_width = 1, offset_width = 1 }
  for _, r in ipairs(records) do
    if not r.part and not r.reg.raw then
      o.path_width = math.max(o.path_width, #r.label)
      o.offset_width = math.max(o.offset_width, #("0x%x"):format(r.reg.offset))
    end
  end
  -- Names that fill a narrow terminal are not padded to the longest.
  if o.columns and o.path_width > o.columns / 2 then o.path_width = 1 end
  local lines = {}
  for _, r in ipairs(records) do
    o.changed = options and options.changed and options.changed[r]
    for line in M.line(r, o):gmatch "[^\n]+" do table.insert(lines, line) end
  end
  return lines
end

-- ---- As a dump ----------------------------------------------------------------------------------

-- Whether several words were read, and each was all ones, as where no device answers.
local function all_ones(records)
  for _, r in ipairs(records) do
    if r.skipped or show.hex(r.value, r.reg.def.width):find("[^f]", 3) then return false end
  end
  return records[2] ~= nil
end

-- Words of a range: as many to a line as fit, a power of two. Those that were left out are dashes.
local function words(records, columns)
  local width = records[1].reg.def.width
  local digits = width / 4
  columns = columns or 80
  local last = records[#records].reg.offset
  local head = #("%x"):format(last)
  local per_line = 128 / width
  while per_line > 1 and head + 4 + per_line * (digits + 1) > columns do per_line = per_line / 2 end
  local lines, left_out = {}, {}
  for i = 1, #records, per_line do
    local cells = {}
    for j = i, math.min(i + per_line - 1, #records) do
      local r = records[j]
      if r.skipped then
        table.insert(left_out, ("0x%x (%s)"):format(r.reg.offset, r.skipped:gsub("^not read: ", "")))
        table.insert(cells, term.dim(("-"):rep(digits)))
      else
        table.insert(cells, (show.hex(r.value, width):sub(3)))
      end
    end
    table.insert(lines, ("0x%0" .. head .. "x: %s"):format(records[i].reg.offset, table.concat(cells, " ")))
  end
  for _, reason in ipairs(left_out) do table.insert(lines, term.dim("not read: " .. reason)) end
  if width > 8 and all_ones(records) then
    table.insert(lines, term.dim(("all ones: nothing is there, or it takes no accesses of %d bits (0x0+0x10:u8)"):format(width)))
  end
  return lines
end

local function slice(list, first, last)
  local part = {}
  for i = first, last do part[#part + 1] = list[i] end
  return part
end

--- The lines of a dump: records of a range as words, others a line each, and those that are not visible now named
--- at the end.
---@param records luio.Record[]
---@param ranges { first: integer, last: integer }[]  which of them belong to a range
---@param columns integer?  of the terminal
---@return string[]
function M.dump(records, ranges, columns)
  local lines, at = {}, 1
  local function add(list)
    for _, line in ipairs(list) do table.insert(lines, line) end
  end
  local hidden = {}
  local function others(last)
    local visible = {}
    for _, r in ipairs(slice(records, at, last)) do
      if r.hidden then table.insert(hidden, { reason = r.skipped, path = r.label }) else table.insert(visible, r) end
    end
    add(M.lines(visible, { columns = columns }))
  end
  for _, range in ipairs(ranges) do
    others(range.first - 1)
    add(words(slice(records, range.first, range.last), columns))
    at = range.last + 1
  end
  others(#records)
  for _, text in ipairs(show.hidden(hidden)) do
    local parts = {}
    for word in text:gmatch "%S+" do table.insert(parts, word) end
    add(term.wrap(parts, columns, "  ", ""))
  end
  return lines
end

-- ---- As JSON -------------------------------------------------------------------------------------

--- A record as plain data. A register's value is hexadecimal text, exact for 64 bits.
---@param record luio.Record
---@return table
function M.plain(record)
  local reg = record.reg
  local t = {
    path = record.label, region = reg.def.region, offset = reg.offset, width = reg.def.width, skipped = record.skipped,
    disturbed = record.disturbed, value = record.value and show.hex(record.value, reg.def.width),
  }
  if record.part then
    t.field, t.name = record.part, record.part_text ~= show.value(record.part) and record.part_text or nil
  elseif record.value and record.fields[1] then
    t.fields, t.names = {}, nil
    for _, f in ipairs(record.fields) do
      t.fields[f.name] = f.value
      if f.text ~= show.value(f.value) then
        t.names = t.names or {}
        t.names[f.name] = f.text
      end
    end
  end
  return t
end

return M
