--- Writes the blocks of a map as Lua that reads like the datasheet's table.
---
--- Columns are aligned within a block: name, offset, width, access, reset. SVD's description is a
--- `description`, at the end of the row where it fits, on lines of its own where it does not, so that the
--- prompt and the editor can show it; or, where that is wanted, a comment. Remarks are comments: behind
--- the line, or wrapped above it. Nothing is shortened. Blocks with the same registers (copies of a
--- peripheral, elements of a list) are written once, as a local. LuaJIT takes 65,536 constants in one
--- function, so a very large table is joined from parts.

local numbers = require "luio.registers.import.numbers"
local texts = require "luio.registers.import.text"
local fail = require("luio.registers.import.fail").fail

local quote, key, pad, flat, wrap = texts.quote, texts.key, texts.pad, texts.flat, texts.wrap
local COLUMNS = texts.COLUMNS

local M = {}

M.MAX_BYTES = 16 * 2 ^ 20 -- of the text
local PART = 40000 -- constants in one function, counted generously
local MAX_LOCALS = 40 -- a function sees 60 from outside of it

---@class luio.SvdWriter
local Writer = {}
Writer.__index = Writer

---@private
function Writer:count(lines)
  for _, line in ipairs(lines) do self.bytes = self.bytes + #line + 1 end
  if self.bytes > M.MAX_BYTES then fail("E2BIG", nil, "the map has more than %d MiB", M.MAX_BYTES / 2 ^ 20) end
end

-- The description of an item; nil: only its name.
local function description(item)
  local text = item.text and flat(item.text) or ""
  return text ~= "" and text:lower() ~= (item.stated or item.name):lower() and text or nil
end

-- A first line that its description makes too long: that stands below it then.
---@private
function Writer:unfold(lines, item)
  local text = self.as_data and description(item)
  local said = text and "description = " .. quote(text)
  local from = said and #lines[1] > COLUMNS - 8 and lines[1]:find(said, 1, true)
  if not from then return lines end
  local behind = lines[1]:sub(from + #said)
  local unfolded = { (lines[1]:sub(1, from - 1):gsub(" $", "")) }
  for i, line in ipairs(texts.long("description = ", text, COLUMNS - 12)) do unfolded[i + 1] = "  " .. line end
  unfolded[#unfolded] = unfolded[#unfolded] .. behind
  for i = 2, #lines do table.insert(unfolded, lines[i]) end
  return unfolded
end

-- Puts the description of an item behind its first line, or above it.
---@private
function Writer:describe(lines, item)
  lines = self:unfold(lines, item)
  local parts = { not self.as_data and description(item) or nil }
  for _, remark in ipairs(item.remarks or {}) do
    table.insert(parts, "[" .. flat(remark) .. "]")
  end
  local said = table.concat(parts, " ")
  if said ~= "" then
    if #lines[1] + #said + 4 <= COLUMNS - 8 then
      lines[1] = lines[1] .. " -- " .. said
    else
      local above = wrap(said, COLUMNS - 16, {})
      for _, line in ipairs(lines) do table.insert(above, line) end
      lines = above
    end
  end
  self:count(lines)
  return lines
end

-- A table of entries { lines, weight }: lines of its text, the first and last being its braces.
---@private
function Writer:table_of(entries)
  local total = 0
  for _, entry in ipairs(entries) do total = total + entry.weight end
  local lines = {}
  local function put(indent, from)
    for _, line in ipairs(from) do lines[#lines + 1] = indent .. line end
  end
  if total <= PART then
    lines[1] = "{"
    for _, entry in ipairs(entries) do put("  ", entry.lines) end
    lines[#lines + 1] = "}"
    return lines, total + 1
  end
  self.joins = true
  lines[1] = "join {"
  local i, parts = 1, 0
  while entries[i] do
    local weight = 0
    put("  ", { "function() return {" })
    repeat
      put("    ", entries[i].lines)
      weight = weight + entries[i].weight
      i = i + 1
    until not entries[i] or weight + entries[i].weight > PART
    put("  ", { "} end," })
    parts = parts + 1
  end
  lines[#lines + 1] = "}"
  return lines, parts + 1
end

-- Lines of a table behind "NAME = { ..., " and before " },".
local function embed(head, table_lines, tail)
  local lines = { head .. table_lines[1] }
  for i = 2, #table_lines do lines[i] = table_lines[i] end
  lines[#lines] = lines[#lines] .. tail
  return lines
end

-- ---- Fields --------------------------------------------------------------------------------------

---@private
function Writer:add_options(parts, item)
  if item.count then table.insert(parts, "count = " .. item.count) end
  if item.stride and item.kind then table.insert(parts, ("stride = 0x%x"):format(item.stride)) end
  if item.stride and not item.kind then table.insert(parts, "stride = " .. item.stride) end
  if item.alias then table.insert(parts, "alias = " .. quote(item.alias)) end
  if item.halves then table.insert(parts, "halves = " .. quote(item.halves)) end
  if item.read_effect then table.insert(parts, "read_effect = " .. quote(item.read_effect)) end
  if item.write_effect then table.insert(parts, "write_effect = " .. quote(item.write_effect)) end
  if self.as_data and description(item) then table.insert(parts, "description = " .. quote(description(item))) end
end

---@private
function Writer:field(field, register, width)
  local parts = {}
  table.insert(parts, tostring(field.high))
  if field.low ~= field.high then table.insert(parts, tostring(field.low)) end
  if field.access ~= register.access then table.insert(parts, "access = " .. quote(field.access)) end
  if field.reset then table.insert(parts, "reset = " .. numbers.hex(field.reset)) end
  self:add_options(parts, field)
  local name = field.count and "[" .. quote(field.name) .. "]" or key(field.name)
  local head = pad(name, width) .. " = "
  local lines
  if field.values then
    lines = texts.values(field, head .. "{ " .. table.concat(parts, ", ") .. ", ")
  elseif #parts == 1 then
    lines = { head .. parts[1] .. "," }
  else
    lines = { head .. "{ " .. table.concat(parts, ", ") .. " }," }
  end
  return self:describe(lines, field)
end

-- Lines of a register's fields; those in lowercase go into fields = { ... }, as options are lowercase.
---@private
function Writer:fields(register)
  local sets, weight = { upper = {}, lower = {} }, 0
  for _, field in ipairs(register.fields) do
    table.insert(field.name:match "^%l" and sets.lower or sets.upper, field)
    weight = weight + 5
  end
  local lines = {}
  for _, set in ipairs { "upper", "lower" } do
    local width = math.min(32, texts.widest(sets[set], function(f) return f.count and f.name .. "[]\"\"" or key(f.name) end))
    if set == "lower" and sets.lower[1] then table.insert(lines, "fields = {") end
    for _, field in ipairs(sets[set]) do
      for _, line in ipairs(self:field(field, register, width)) do
        table.insert(lines, set == "lower" and "  " .. line or line)
      end
    end
    if set == "lower" and sets.lower[1] then table.insert(lines, "},") end
  end
  return lines, weight
end

-- ---- Registers and blocks ------------------------------------------------------------------------

---@private
function Writer:register(item, columns)
  local parts = { ("0x%%0%dx"):format(columns.offset):format(item.offset), ("%2d"):format(item.width) }
  local rest = {}
  if item.reset then table.insert(rest, "reset = " .. numbers.hex(item.reset, item.width / 4)) end
  self:add_options(rest, item)
  local fields, weight = self:fields(item)
  local head = pad(key(item.name), columns.name) .. " = { "
  local more = rest[1] or fields[1]
  table.insert(parts, more and pad(quote(item.access) .. ",", columns.access + 1) or quote(item.access))
  local line = head .. table.concat(parts, ", ") .. (rest[1] and " " .. table.concat(rest, ", ") or "")
  local lines = { line .. " }," }
  if fields[1] then
    local inner = table.concat(fields, " "):gsub("%s+", " "):gsub(", }", " }"):gsub(",$", "")
    local compact = (rest[1] and line .. ", " or line .. " ") .. inner .. " },"
    if #compact <= COLUMNS - 8 and not inner:find("--", 1, true) and #self:describe({ compact }, item) == 1 then
      lines = { compact }
    else
      lines = { rest[1] and line .. "," or (line:gsub(" +$", "")) }
      for _, field in ipairs(fields) do table.insert(lines, "  " .. field) end
      table.insert(lines, "},")
    end
  end
  return { lines = self:describe(lines, item), weight = weight + 9, name = item.name }
end

-- The table with a block's registers; the name of the local where several blocks have it.
---@private
function Writer:body(item)
  local children = item.children
  if (self.uses[children] or 0) < 2 or not children[1] then return self:table_of(self:entries(children)) end
  local name = self.locals[children]
  if not name then
    local lines, weight = self:table_of(self:entries(children))
    name = (item.stated or item.name):gsub("%[?%%s%]?", ""):gsub("[^%w_]", "_")
    if not name:match "^%u" then name = "B_" .. name end
    name = self.unique(name)
    self.locals[children] = name
    table.insert(self.shared, { name = name, lines = lines, weight = weight })
  end
  return { "\0" .. name }, 1
end

---@private
function Writer:block(item, columns)
  local parts = { ("0x%%0%dx"):format(columns.offset):format(item.offset) }
  self:add_options(parts, item)
  local body, weight = self:body(item)
  local head = pad(key(item.name), columns.name) .. " = { " .. table.concat(parts, ", ") .. ", block = "
  local lines = self:describe(embed(head, body, " },"), item)
  return { lines = lines, weight = weight + 8, name = item.name }
end

---@private
function Writer:entries(children)
  local columns = {
    name = math.min(40, texts.widest(children, function(item) return key(item.name) end)),
    offset = math.max(2, texts.widest(children, function(item) return ("%x"):format(item.offset) end)),
    access = texts.widest(children, function(item) return item.access and quote(item.access) or "" end),
  }
  local entries = {}
  for i, item in ipairs(children) do
    entries[i] = item.children and self:block(item, columns) or self:register(item, columns)
  end
  return entries
end

-- ---- The map -------------------------------------------------------------------------------------

-- How many blocks have the same registers: the same list, or, of peripherals, the same text.
---@private
function Writer:find_shared(blocks)
  local function visit(item)
    if not item.children then return end
    self.uses[item.children] = (self.uses[item.children] or 0) + 1
    if self.uses[item.children] == 1 then
      for _, child in ipairs(item.children) do visit(child) end
    end
  end
  for _, item in ipairs(blocks) do visit(item) end
end

-- Peripherals that are copies in the file, not derived: the later ones take the first one's children.
local function fold_copies(blocks, as_data)
  local known, of, bytes = {}, {}, 0
  for _, block in ipairs(blocks) do
    local list = block.children
    if list and list[1] and not of[list] then
      local probe = setmetatable({ as_data = as_data, bytes = bytes, uses = {}, locals = {}, shared = {} }, Writer)
      local text = table.concat((probe:table_of(probe:entries(list))), "\n")
      bytes = probe.bytes
      known[text] = known[text] or list
      of[list] = known[text]
    end
    block.children = of[list] or list
  end
end

---@class luio.SvdMapHead
---@field comments string[]          paragraphs at the top
---@field options string[]           lines of the map's own options
---@field as_data boolean            descriptions as data, not as comments

--- The text of a map.
---@param blocks table[]  its top level
---@param head luio.SvdMapHead
---@return string
function M.write(blocks, head)
  local used = { luio = true, join = true, shared = true }
  local self = setmetatable({
    as_data = head.as_data, bytes = 0, uses = {}, locals = {}, shared = {},
    unique = function(name)
      local free, n = name, 1
      while used[free] do
        n = n + 1
        free = name .. "_" .. n
      end
      used[free] = true
      return free
    end,
  }, Writer)
  fold_copies(blocks, head.as_data)
  self:find_shared(blocks)
  local upper, lower = {}, {}
  for _, entry in ipairs(self:entries(blocks)) do
    table.insert(entry.name:match "^%l" and lower or upper, entry)
  end
  if lower[1] then
    local body, weight = self:table_of(lower)
    table.insert(upper, { lines = embed("registers = ", body, ","), weight = weight })
  end
  local first = { lines = head.options, weight = 2 * #head.options }
  table.insert(upper, 1, first)
  local body = self:table_of(upper)

  local out = {}
  for _, paragraph in ipairs(head.comments) do
    for part in paragraph:gmatch "[^\n]+" do
      for _, line in ipairs(wrap(flat(part), 100, {})) do table.insert(out, "-" .. line) end
    end
    table.insert(out, "---")
  end
  out[#out] = #head.comments > 0 and "" or nil
  table.insert(out, 'local luio = require "luio"')
  table.insert(out, "")
  if self.joins then
    table.insert(out, [[
-- LuaJIT takes 65,536 constants in one function: large tables come in parts.
local function join(parts)
  local whole = {}
  for _, part in ipairs(parts) do
    for name, value in pairs(part()) do whole[name] = value end
  end
  return whole
end
]])
  end
  self:put_shared(out)
  -- In parentheses it is no tail call, so that the map's own file is known: its overlay is beside it.
  local join = body[1]:match "^join"
  local call = embed("return (luio.registers" .. (join and "(" or " "), body, join and "))" or ")")
  for _, line in ipairs(call) do
    table.insert(out, self:refer(line))
  end
  return (table.concat(out, "\n"):gsub("[ \t]+\n", "\n")) .. "\n"
end

-- A shared block's name, as it is reached.
---@private
function Writer:refer(line)
  return (line:gsub("%z", self.many and "shared." or ""))
end

---@private
function Writer:put_shared(out)
  self.many = #self.shared > MAX_LOCALS
  local total = 0
  for _, block in ipairs(self.shared) do total = total + block.weight end
  if self.many then table.insert(out, "local shared = {}\n") end
  for _, block in ipairs(self.shared) do
    local head = (self.many and "shared." or "local ") .. block.name .. " = "
    local lines = embed(head, block.lines, "")
    if total > PART then lines = embed(head .. "(function() return ", block.lines, " end)()") end
    for _, line in ipairs(lines) do table.insert(out, self:refer(line)) end
    table.insert(out, "")
  end
end

return M
