--- Explanation: the map's facts about a register, a block, an array or a field, as text for a
--- person.
---
---     print(explain.name(session, "STATUS"))            session.regs is a luio.Registers
---     print(explain.name(session, "CTRL.SPEED", { width = 60 }))
---     print(explain.search(session, "parity"))          names, values and descriptions with that word
---
--- All of it comes from definitions; the device is not touched. Where the table of fields leaves too
--- little room for descriptions (a terminal of 40 columns) they stand below their field.

local bit = require "bit"
local bits = require "luio.registers.bits"
local effects = require "luio.registers.effects"
local near = require "luio.registers.near"
local show = require "luio.registers.show"
local when = require "luio.registers.when"
local term = require "luio.text.term"

local M = {}

--- Further names that there is help for, with the text: a prompt adds its commands. Entries of an
--- environment's `help` count, too.
---@type table<string, string>
M.topics = {}

local WIDTH, LEAST = 80, 40 -- columns: unless it is said, and at least
local MIN_TEXT = 24 -- columns a description needs beside its field
local MAX_FOUND = 40
local MAX_NEAR = 20000 -- names that a wrong one is compared with: half a second

-- Access kinds in a few words.
local ACCESS = {
  ro = "read-only", rw = "read and write", wo = "write-only",
  w1c = "writing 1 clears, 0 leaves", w1s = "writing 1 sets, 0 leaves", w1t = "writing 1 toggles, 0 leaves",
  w0c = "writing 0 clears, 1 leaves", w0s = "writing 0 sets, 1 leaves", w0t = "writing 0 toggles, 1 leaves",
  sc = "self-clearing: writing 1 starts something, 0 leaves, and the hardware makes it 0 again",
  rc = "read-only, and reading clears it", rs = "read-only, and reading sets it",
  wonce = "can be written once", preserve = "reserved: keep the value that was read", zero = "reserved: write 0",
  one = "reserved: write 1",
}

local function access_text(access)
  return ("%s: %s"):format(access, ACCESS[access] or "?")
end

-- ---- Text ----------------------------------------------------------------------------------------

local columns, pad = term.columns, term.pad

-- Appends text to lines, wrapped at words, each line behind `indent`. Nothing for no text.
local function wrap(lines, text, width, indent, first)
  if not first and not text:find "%S" then return end
  for _, line in ipairs(term.wrap(text, width, indent, first)) do lines[#lines + 1] = line end
end

local function sentence(text)
  return (text:gsub("%s+", " "):gsub("^%s", ""):gsub("%s$", ""))
end

-- ---- Values --------------------------------------------------------------------------------------

local function value_text(f, value)
  return type(value) == "number" and f.names and f.names[value] or show.value(value)
end

-- The value of a field after a reset; nil: the map has none.
local function field_reset(def, f)
  if f.reset ~= nil then return f.reset end
  return def.reset ~= nil and bits.take(def.reset, f.high, f.low) or nil
end

-- "0x010000ed  MAGIC=0xed MAJOR=1", or the fields that have one of their own.
local function reset_text(def)
  local value, parts = def.reset ~= nil and bits.wide(def.reset) or nil, {}
  for _, f in ipairs(def.fields) do
    local x = field_reset(def, f)
    if x and f.reset ~= nil and value then
      value = bit.bor(bit.band(value, bit.bnot(bits.mask(f.high, f.low))), bit.lshift(bits.wide(x), f.low))
    end
    -- Zeros without a name say nothing beside the whole value.
    if x and (value == nil or x ~= 0 or f.names and f.names[0]) then parts[#parts + 1] = f.name .. "=" .. value_text(f, x) end
  end
  if value then table.insert(parts, 1, show.hex(def.width < 64 and tonumber(value) or value, def.width) .. (parts[1] and " " or "")) end
  return parts[1] and table.concat(parts, " ")
end

local function values_text(f)
  local list = {}
  for name, value in pairs(f.values) do list[#list + 1] = { name, value } end
  table.sort(list, function(a, b) return bits.wide(a[2]) < bits.wide(b[2]) or bits.wide(a[2]) == bits.wide(b[2]) and a[1] < b[1] end)
  for i, row in ipairs(list) do list[i] = show.value(row[2]) .. "=" .. row[1] end
  return table.concat(list, ", ")
end

local function bits_text(f)
  return f.high == f.low and tostring(f.low) or ("%d:%d"):format(f.high, f.low)
end

-- ---- Finding -------------------------------------------------------------------------------------

---@class luio.Explained
---@field path string
---@field def luio.Def
---@field field luio.FieldDef?
---@field offset integer    of the first element, where no index was given
---@field element boolean   an index was given
---@field reading string?   the effect of reading it
---@field strides string[]  the indices left open: "+ 0x20 * i"

-- The definition of a path. An index may be left out: then it is the array that is explained.
local function find(map, path)
  local at = { path = "", offset = 0, strides = {} }
  local def, rest = map, path
  while rest ~= "" do
    local name, index, after = rest:match "^([%a_][%w_]*)%[([%d*]+)%](.*)$"
    if not name then name, after = rest:match "^([%a_][%w_]*)(.*)$" end
    if not name or after ~= "" and not after:match "^%.[%a_]" then return nil, ("%q is no register's name"):format(path) end
    if def.kind == "register" then
      local field = def.field[name]
      if not field or index or after ~= "" then
        return nil, ("%s has no field %s%s"):format(at.path, name, near.hint(name, def.field))
      end
      at.field = field
      return at
    end
    local child = def.child[name]
    if not child then
      local where = at.path ~= "" and at.path .. " has no register " or "no register "
      return nil, where .. name, name, def
    end
    def = child
    at.path, at.def, at.offset, at.element = at.path .. (at.path ~= "" and "." or "") .. name, def, at.offset + def.offset, false
    local i = tonumber(index)
    if index and not def.count then return nil, ("%s is no array"):format(at.path) end
    if i and i >= def.count then return nil, ("%s has elements 0 to %d, not %d"):format(at.path, def.count - 1, i) end
    if i then
      at.offset, at.element = at.offset + i * def.stride, true
      at.path = ("%s[%d]"):format(at.path, i)
    elseif def.count then
      at.strides[#at.strides + 1] = (" + 0x%x * %s"):format(def.stride, ("ijklmnop"):sub(#at.strides + 1, #at.strides + 1))
      at.path = index and at.path .. "[*]" or at.path
    end
    rest = after:sub(2)
  end
  return at.def and at or nil, at.def == nil and "which register?" or nil
end

local function map_of(env)
  return env.regs and env.regs.map
end

local of_maps = setmetatable({}, { __mode = "k" }) -- env.regs that has no device -> luio.Effects

local function effects_of(regs)
  if regs.device then return effects.of(regs.device) end
  of_maps[regs] = of_maps[regs] or effects.of_map(regs.map)
  return of_maps[regs]
end

-- The effect of reading ("read") or writing ("write"): by the definition, or by other definitions at its bytes. Of an array
-- the first element that has an effect.
local function effect_of(at, env, kind)
  local def = at.def
  local own = kind == "read" and def.read_effect or kind == "write" and def.write_effect
  if own or kind == "write" and not def.writable then return own or nil end
  local known, conditions = effects_of(env.regs), when.of(env.regs.map, def, at.path)
  for i = 0, not at.element and def.count and def.count - 1 or 0 do
    local why = known:why(kind, def.region, at.offset + i * (def.stride or 0), def.width / 8, conditions)
    if why then return why end
  end
end

-- ---- The parts of an explanation -----------------------------------------------------------------

local function offset_text(at)
  return ("0x%x%s"):format(at.offset, table.concat(at.strides))
end

local function where(at, map)
  local text = offset_text(at)
  return at.def.region ~= map.region and ("%s of region %d"):format(text, at.def.region) or text
end

-- "  reset    0x..." lines: a label, and what belongs to it.
local function entry(lines, label, text, width)
  wrap(lines, sentence(text), width, (" "):rep(12), "  " .. pad(label, 10))
end

local function heading(lines, name, text, width)
  local from = #lines
  wrap(lines, text, width, "  ", name .. "  ")
  lines[from + 1] = term.bold(name) .. lines[from + 1]:sub(#name + 1)
end

local function effect(lines, verb, text, consequence, width)
  if not text then return end
  local from = #lines
  entry(lines, verb, ("%s; %s"):format(text:gsub("^" .. verb .. " ", ""), consequence), width)
  for i = from + 1, #lines do lines[i] = term.yellow(lines[i]) end
end

local function effects_at(lines, reading, writing, width)
  effect(lines, "reading", reading, "left out when registers are only looked at", width)
  effect(lines, "writing", writing, "not done by undo() and restore()", width)
end

local function origin(lines, def, width)
  local visible = when.stated(def)
  if visible then entry(lines, "visible", "while " .. visible, width) end
  if def.alias then entry(lines, "alias", "the same address as " .. def.alias, width) end
  if def.section then entry(lines, "datasheet", "section " .. def.section, width) end
end

-- The text beside a field in the table.
local function field_words(def, f)
  local parts = {}
  if f.description then parts[#parts + 1] = sentence(f.description) end
  if f.read_effect and f.access ~= "rc" and f.access ~= "rs" then parts[#parts + 1] = "reading " .. f.read_effect:gsub("^reading ", "") end
  if f.write_effect then parts[#parts + 1] = "writing " .. f.write_effect:gsub("^writing ", "") end
  if f.section and f.section ~= def.section then parts[#parts + 1] = "section " .. f.section end
  return table.concat(parts, "; ")
end

local function field_table(lines, def, width)
  local rows, size = { { "BITS", "FIELD", "ACCESS" } }, {}
  for _, f in ipairs(def.fields) do
    rows[#rows + 1] = { bits_text(f), f.name, f.access, field_words(def, f), f.values and values_text(f) or "" }
  end
  for i = 1, 3 do
    size[i] = 0
    for _, row in ipairs(rows) do size[i] = math.max(size[i], #row[i]) end
  end
  local indent = 2 + size[1] + 2 + size[2] + 2 + size[3] + 2
  local below = width - indent < MIN_TEXT
  lines[#lines + 1] = ""
  for n, row in ipairs(rows) do
    local line = ("  %s  %s  %s"):format(pad(row[1], size[1]), pad(row[2], size[2]), pad(row[3], size[3]))
    if n == 1 then
      lines[#lines + 1] = term.bold((line:gsub("%s+$", "")))
    elseif below then
      lines[#lines + 1] = (line:gsub("%s+$", ""))
      for part = 4, 5 do wrap(lines, row[part], width, (" "):rep(2 + size[1] + 4)) end
    else
      local first = row[4] ~= "" and 4 or 5
      wrap(lines, row[first], width, (" "):rep(indent), line .. "  ")
      if first == 4 then wrap(lines, row[5], width, (" "):rep(indent)) end
    end
  end
end

-- Explains the less common access kinds of the table.
local function legend(lines, def, width)
  local known, list = { ro = true, rw = true, wo = true, [def.access] = true }, {}
  for _, f in ipairs(def.fields) do
    if not known[f.access] then list[#list + 1] = f.access end
    known[f.access] = true
  end
  if not list[1] then return end
  lines[#lines + 1] = ""
  for _, access in ipairs(list) do entry(lines, access, ACCESS[access] or "?", width) end
end

local function explain_register(lines, at, map, width)
  local def = at.def
  local array = def.count and not at.element
  local what = ("%s%s, %d bits, %s"):format(array and ("%d registers at "):format(def.count) or "", where(at, map), def.width,
    access_text(def.access))
  heading(lines, at.path, what, width)
  if def.description then wrap(lines, sentence(def.description), width, "  ") end
  effects_at(lines, at.reading, at.writing, width)
  local reset = reset_text(def)
  if reset then entry(lines, "reset", reset, width) end
  if def.endian ~= "little" then entry(lines, "bytes", "big-endian", width) end
  if def.halves then entry(lines, "halves", ("on a narrower bus two accesses, the %s half first"):format(def.halves), width) end
  origin(lines, def, width)
  if not def.fields[1] then return end
  field_table(lines, def, width)
  legend(lines, def, width)
end

local function explain_field(lines, at, map, width)
  local def, f = at.def, at.field
  local place = ("bit%s %s of %s (%s)"):format(f.bits > 1 and "s" or "", bits_text(f), at.path, where(at, map))
  heading(lines, at.path .. "." .. f.name, place .. ", " .. access_text(f.access), width)
  if f.description then wrap(lines, sentence(f.description), width, "  ") end
  effects_at(lines, f.read_effect or at.reading, f.write_effect or at.writing, width)
  local reset = field_reset(def, f)
  if reset ~= nil then entry(lines, "reset", value_text(f, reset), width) end
  if f.values then entry(lines, "values", values_text(f), width) end
  if f.section or def.section then entry(lines, "datasheet", "section " .. (f.section or def.section), width) end
end

local MAX_CHILDREN = 200 -- of a block that are listed

local function explain_block(lines, at, map, width)
  local def = at.def
  local array = def.count and not at.element
  local total = def.total == 1 and "1 register" or ("%d registers"):format(def.total)
  local what = ("%s, %s"):format(where(at, map), total)
  if array then
    what = ("%d blocks at %s, one 0x%x bytes after the other, each of %s"):format(def.count, where(at, map), def.stride, total)
  end
  heading(lines, at.path, what, width)
  if def.description then wrap(lines, sentence(def.description), width, "  ") end
  origin(lines, def, width)
  local rows, size = {}, { 0, 0 }
  for i = 1, math.min(#def.children, MAX_CHILDREN) do
    local child = def.children[i]
    local name = child.count and ("%s[0..%d]"):format(child.name, child.count - 1) or child.name
    local row = { ("0x%x"):format(at.offset + child.offset), name, sentence(child.description or child.kind == "block" and "block" or "") }
    rows[i] = row
    for k = 1, 2 do size[k] = math.max(size[k], #row[k]) end
  end
  lines[#lines + 1] = ""
  local indent = 2 + size[1] + 2 + size[2] + 2
  for _, row in ipairs(rows) do
    local line = ("  %s  %s"):format(pad(row[1], size[1]), pad(row[2], size[2]))
    if width - indent < MIN_TEXT then
      lines[#lines + 1] = (line:gsub("%s+$", ""))
      wrap(lines, row[3], width, (" "):rep(2 + size[1] + 4))
    else
      wrap(lines, row[3], width, (" "):rep(indent), line .. "  ")
    end
  end
  if #def.children > MAX_CHILDREN then lines[#lines + 1] = ("  and %d more"):format(#def.children - MAX_CHILDREN) end
end

-- The names with help: in `help` of the session, or of its environment. An environment may raise for
-- a name that it does not have.
local function commands(env)
  for _, t in ipairs { env, rawget(env, "env") } do
    local ok, help = pcall(function() return t.help end)
    if ok and type(help) == "table" then return help end
  end
  return {}
end

local function topic(env, name)
  local text = rawget(commands(env), name) or M.topics[name]
  return type(text) == "string" and text or nil
end

-- Names that a wrong one may have meant: of one block, and of topics where they count.
local function candidates(env, block, top)
  local names = {}
  local children = block and block.children or {}
  for _, def in ipairs(#children <= MAX_NEAR and children or {}) do names[def.name] = true end
  for _, t in ipairs(top and { commands(env), M.topics } or {}) do
    for name in pairs(t) do names[name] = true end
  end
  return names
end

---@class luio.ExplainOptions
---@field width integer?  columns; 80

--- Explains a register, a block, an array or a field; else a topic, by `env.help` or M.topics.
---@param env table     a session or its environment: env.regs, env.help
---@param name string   "STATUS", "STATUS.RAISE_IRQ", "CHANNEL", "CHANNEL[2].CTRL"
---@param options? luio.ExplainOptions
---@return string? text
---@return string? message
---@return string? code  "ENOENT"
function M.name(env, name, options)
  local width = math.max(LEAST, options and options.width or WIDTH)
  local map = map_of(env)
  local at, message, wrong, block
  if map then at, message, wrong, block = find(map, name) end
  if at then
    local lines = {}
    local explain = at.field and explain_field or at.def.kind == "block" and explain_block or explain_register
    if at.def.kind == "register" then at.reading, at.writing = effect_of(at, env, "read"), effect_of(at, env, "write") end
    explain(lines, at, map, width)
    return table.concat(lines, "\n")
  end
  local text = topic(env, name)
  if text then return text end
  if not map then
    return nil, ("no register map, so no %s%s"):format(name, near.hint(name, candidates(env, nil, true))), "ENOENT"
  end
  return nil, message .. (wrong and near.hint(wrong, candidates(env, block, block == map)) or ""), "ENOENT"
end

-- ---- Searching -----------------------------------------------------------------------------------

--- Calls fn for every definition of a map or in a block, not for every element, until it returns false.
---@param block luio.Map|luio.Def
---@param fn fun(path: string, offset: integer, def: luio.Def): false?  an array's path ends in [*], its offset is the first's
---@param prefix? string  of the paths
function M.each(block, fn, prefix)
  local function walk(outer, before, base)
    for _, def in ipairs(outer.children) do
      local path = before .. def.name .. (def.count and "[*]" or "")
      if fn(path, base + def.offset, def) == false then return false end
      if def.kind == "block" and walk(def, path .. ".", base + def.offset) == false then return false end
    end
  end
  walk(block, prefix or "", 0)
end

local function has(text, word)
  return text ~= nil and text:lower():find(word, 1, true) ~= nil
end

-- The names of a field's values that contain the word: "MODE: 2 FAST".
local function value_matches(f, word)
  local names = {}
  for name, value in pairs(f.values or {}) do
    if has(name, word) then names[#names + 1] = ("%s = %s"):format(name, show.value(value)) end
  end
  table.sort(names)
  return names[1] and table.concat(names, ", ")
end

-- Cuts a line to the width, and says that it did.
local function cut(text, width)
  if columns(text) <= width then return text end
  local out, n = {}, 0
  for char in text:gmatch "[%z\1-\127\192-\255][\128-\191]*" do
    if n == width - 1 then break end
    n = n + 1
    out[n] = char
  end
  return table.concat(out) .. "…"
end

--- Finds a word, in any case, in names and descriptions of registers, blocks and fields, and in
--- names of values. One line each, in order of offset; at most 40.
---@param env table
---@param word string
---@param options? luio.ExplainOptions
---@return string text
function M.search(env, word, options)
  local width = math.max(LEAST, options and options.width or WIDTH)
  local map = map_of(env)
  if not map then return "there is no register map" end
  local wanted = word:lower()
  local rows, more = {}, 0
  local function found(path, offset, text)
    if #rows == MAX_FOUND then more = more + 1 return end
    rows[#rows + 1] = { path, ("0x%x"):format(offset), sentence(text or "") }
  end
  if wanted:match "^%s*$" then return "search for which word?" end
  M.each(map, function(path, offset, def)
    if has(def.name, wanted) or has(def.description, wanted) or has(def.read_effect, wanted) or has(def.write_effect, wanted) then
      found(path, offset, def.description or def.read_effect or def.write_effect)
    end
    for _, f in ipairs(def.fields or {}) do
      local values = value_matches(f, wanted)
      if has(f.name, wanted) or has(f.description, wanted) or has(f.write_effect, wanted) then
        found(path .. "." .. f.name, offset, f.description or f.write_effect)
      elseif values then
        found(path .. "." .. f.name, offset, values)
      end
    end
  end)
  if not rows[1] then return ("nothing in the map contains %q"):format(word) end
  local size = { 0, 0 }
  for _, row in ipairs(rows) do
    for i = 1, 2 do size[i] = math.max(size[i], #row[i]) end
  end
  size[1] = math.min(size[1], math.max(16, width - size[2] - 2 - MIN_TEXT))
  local lines = {}
  for _, row in ipairs(rows) do
    lines[#lines + 1] = (cut(("%s  %s  %s"):format(pad(row[1], math.max(size[1], #row[1])), pad(row[2], size[2]), row[3]), width)
      :gsub("%s+$", ""))
  end
  if more > 0 then lines[#lines + 1] = ("and %d more"):format(more) end
  return table.concat(lines, "\n")
end

return M
