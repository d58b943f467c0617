--- LuaCATS annotations, read from a Lua file: its opening paragraph, classes, aliases, functions and values.
---
--- luacheck's parser (Debian's lua-check) reads the Lua; what is here reads the comments. A comment belongs to the statement on
--- the line below it. `make lint` asks for what is missing (spec/lint/documented.lua); `make doc` writes the reference
--- (reference.lua).
---
--- A function is public if it is a field of the table that the file returns, or of a class (`---@class` above `local Name = {}`),
--- and is marked neither `---@package` nor `---@private`.

local decoder = require "luacheck.decoder"
local parser = require "luacheck.parser"

local M = {}

---@class luio.doc.Param
---@field name string
---@field optional boolean  "name?" or a type that ends in "?"
---@field type string
---@field text string

---@class luio.doc.Comment
---@field text string[]            lines before the first tag, without "--- "
---@field params luio.doc.Param[]
---@field returns luio.doc.Param[]  name: "" where it has none
---@field fields luio.doc.Param[]
---@field class string?
---@field parent string?
---@field alias string?
---@field alias_type string?
---@field internal boolean         ---@package or ---@private

---@class luio.doc.Item
---@field kind "function"|"value"
---@field name string              "open"
---@field owner string?            nil: the file's table; else the class: "luio.Device"
---@field method boolean           it is called with a colon
---@field args string[]            "..." for those that have no name
---@field results integer          how many values it returns at most; nothing is known of what a tail call returns
---@field line integer
---@field comment luio.doc.Comment?
---@field same_as string[]?        { "luio.device", "list" }: it is that module's

---@class luio.doc.File
---@field path string
---@field module string            "luio.device"
---@field text string[]            its opening comment
---@field items luio.doc.Item[]
---@field classes luio.doc.Comment[]
---@field aliases luio.doc.Comment[]

-- ---- Types -----------------------------------------------------------------------------------------

local CLOSES = { ["("] = ")", ["<"] = ">", ["{"] = "}", ["["] = "]" }

-- Where the bracket that opens at `at` closes.
local function closing(text, at)
  local close = CLOSES[text:sub(at, at)]
  at = at + 1
  while at <= #text do
    local c = text:sub(at, at)
    if c == close then return at end
    if c == '"' then at = text:find('"', at + 1, true) or #text
    elseif CLOSES[c] then at = closing(text, at) end
    at = at + 1
  end
  return #text
end

-- Where the type that begins at `at` ends: one past it. It has blanks within brackets only, after the colon of a function's
-- result, and behind the comma of several results.
local function type_end(text, at)
  while at <= #text do
    local c = text:sub(at, at)
    if CLOSES[c] then
      local is_function = c == "(" and text:sub(1, at - 1):match "fun$"
      at = closing(text, at) + 1
      if is_function and text:match("^: ", at) then
        at = type_end(text, at + 2)
        while text:match("^, %S", at) do at = type_end(text, at + 2) end
      end
    elseif c == '"' then at = (text:find('"', at + 1, true) or #text) + 1
    elseif c:match "%s" then break
    elseif c == "," then break
    else at = at + 1 end
  end
  return at
end

--- Parts a type from the text behind it.
---@param text string  "table<string, integer>  by name"
---@return string type
---@return string rest
function M.split_type(text)
  local stop = type_end(text, 1)
  return text:sub(1, stop - 1), (text:sub(stop):gsub("^%s+", ""))
end

-- ---- Comments --------------------------------------------------------------------------------------

local tags = {}

local function named(list, rest, hidden)
  local name, after = rest:match "^(%b[])%s*(.*)$" -- [string]: any such key
  if not name then name, after = rest:match "^(%S+)%s*(.*)$" end
  if not name or hidden then return nil end
  local kind, text = M.split_type(after)
  local optional = name:sub(-1) == "?" or kind:sub(-1) == "?"
  local param = { name = name:gsub("%?$", ""), optional = optional, type = kind, text = text }
  table.insert(list, param)
  return param
end

function tags.param(c, rest) return named(c.params, rest) end

function tags.field(c, rest)
  local level, after = rest:match "^(%l+) (.*)$"
  local hidden = level == "package" or level == "private" or level == "protected"
  return named(c.fields, hidden and after or rest, hidden)
end

tags["return"] = function(c, rest)
  local kind, after = M.split_type(rest)
  local name, text = after:match "^([%a_][%w_]*)%s%s*(.*)$"
  if not name and after:match "^[%a_][%w_]*$" then name, text = after, "" end
  -- "integer  bytes that were read": two blanks begin a text.
  if rest:sub(#kind + 1):match "^%s%s" then name, text = nil, nil end
  local result = { name = name or "", optional = kind:sub(-1) == "?", type = kind, text = text or after }
  table.insert(c.returns, result)
  return result
end

function tags.class(c, rest)
  c.class = rest:match "^[%w_.]+"
  local after = rest:sub(#c.class + 1)
  local parent, text = after:match "^%s*:%s*([%w_.]+)%s*(.*)$"
  c.parent = parent
  text = text or after:match "^%s*(.*)$"
  if text ~= "" then table.insert(c.text, text) end
end

function tags.alias(c, rest)
  local name, after = rest:match "^([%w_.]+)%s*(.*)$"
  c.alias = name
  local kind, text = M.split_type(after)
  c.alias_type = kind
  if text ~= "" then table.insert(c.text, text) end
end

function tags.type(c, rest)
  local _, text = M.split_type(rest)
  if text ~= "" then table.insert(c.text, text) end
end

tags["package"] = function(c) c.internal = true end
tags.private = tags["package"]
function tags.generic() end
function tags.meta() end

--- Reads a comment's lines.
---@param lines string[]  without the "---"
---@param path string
---@return luio.doc.Comment
function M.comment(lines, path)
  local c = { text = {}, params = {}, returns = {}, fields = {}, internal = false }
  local last
  for _, line in ipairs(lines) do
    local tag, rest = line:match "^@(%l+)%s*(.*)$"
    if tag then
      assert(tags[tag], ("%s: there is no tag @%s here: %s"):format(path, tag, line))
      last = tags[tag](c, rest) or { text = "" }
    elseif last then
      last.text = last.text .. " " .. line:match "^%s*(.*)$"
    else
      table.insert(c.text, (line:gsub("^ ", "")))
    end
  end
  while c.text[1] == "" do table.remove(c.text, 1) end
  while c.text[#c.text] == "" do table.remove(c.text) end
  return c
end

-- ---- Statements ------------------------------------------------------------------------------------

-- How many values a function's own returns give at most. `return f()` in the middle of a function ends it, and says nothing of
-- a result.
local function results(node, most, last)
  for _, child in ipairs(node) do
    if type(child) == "table" and child.tag ~= "Function" then
      if child.tag == "Return" then
        local exit = #child == 1 and (child[1].tag == "Call" or child[1].tag == "Invoke") and child ~= last
        most = math.max(most, exit and 0 or #child)
      end
      most = results(child, most, last)
    end
  end
  return most
end

local function name_of(node)
  if node.tag == "Id" then return node[1] end
  if node.tag == "Index" and node[1].tag == "Id" and node[2].tag == "String" then return node[2][1], node[1][1] end
end

-- require "luio.device" -> "luio.device"
local function required(node)
  if node and node.tag == "Call" and node[1].tag == "Id" and node[1][1] == "require" and node[2] and node[2].tag == "String" then
    return node[2][1]
  end
end

local function item_of(owner, name, value, line, comment)
  local item = { name = name, owner = owner, line = line, comment = comment, kind = "value", method = false, args = {}, results = 0 }
  if value and value.tag == "Function" then
    item.kind = "function"
    for _, arg in ipairs(value[1]) do
      if arg.implicit then item.method = true
      else table.insert(item.args, arg.tag == "Dots" and "..." or arg[1]) end
    end
    item.results = results(value[2], 0, value[2][#value[2]])
  end
  return item
end

-- The name of the local table that the file returns.
local function returned(ast)
  local last = ast[#ast]
  return last and last.tag == "Return" and last[1] and last[1].tag == "Id" and last[1][1] or nil
end

--- Reads a file.
---@param path string    "lua/luio/device.lua"
---@param module string  "luio.device"
---@return luio.doc.File
function M.read(path, module)
  local f = assert(io.open(path, "rb"))
  local source = f:read "*a"
  f:close()
  local ast, short = parser.parse(decoder.decode(source), {}, {})
  local by_line, blocks = {}, {}
  for _, comment in ipairs(short) do
    if comment.contents:sub(1, 1) == "-" and not comment.contents:match "^%-%-" then by_line[comment.line] = comment.contents:sub(2) end
  end
  -- A block is known by the line below its last one.
  local lines = {}
  for line in pairs(by_line) do table.insert(lines, line) end
  table.sort(lines)
  local open
  for _, line in ipairs(lines) do
    if open and open.below == line then
      table.insert(open.lines, by_line[line])
      open.below = line + 1
    else
      open = { lines = { by_line[line] }, below = line + 1, first = line }
      table.insert(blocks, open)
    end
  end
  local file = { path = path, module = module, text = {}, items = {}, classes = {}, aliases = {} }
  local at = {}
  for i, block in ipairs(blocks) do
    local c = M.comment(block.lines, path .. ":" .. block.first)
    if i == 1 and block.first == 1 then file.text = c.text end
    at[block.below] = c
    if c.class then table.insert(file.classes, c) end
    if c.alias then table.insert(file.aliases, c) end
  end
  local main, tables, modules = returned(ast), {}, {}
  for _, node in ipairs(ast) do
    local comment = at[node.line]
    if node.tag == "Local" then
      local name, value = node[1][1][1], node[2] and node[2][1]
      modules[name] = required(value)
      if comment and comment.class then tables[name] = comment.class end
    elseif node.tag == "Set" and node[1][1] then
      local name, owner = name_of(node[1][1])
      local value = node[2][1]
      if owner and (owner == main or tables[owner]) and not name:match "^__" then
        local item = item_of(tables[owner], name, value, node.line, comment)
        if value.tag == "Index" then
          local field, from = name_of(value)
          if modules[from or ""] then item.same_as = { modules[from], field } end
          if from == "C" then item.kind, item.bare = "function", true end -- one of luio.h's, without parameters
        end
        table.insert(file.items, item)
      end
    end
  end
  return file
end

return M
