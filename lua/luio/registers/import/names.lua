--- Names: names that SVD allows and a register map does not, and the names of an array's elements.
---
--- `dim` repeats an element. Its name has a "%s" somewhere: "CH[%s]" is an array, "CH%s_CTRL" a list of
--- separate names, and dimIndex says what stands for the "%s": "A,B,C", "A-D", "3-6", or by default
--- 0, 1, 2, ... A map's arrays are indexed from 0, so what counts 0, 1, 2, ... becomes one, however it
--- is written; the rest becomes elements with names of their own.

local numbers = require "luio.registers.import.numbers"
local fail = require("luio.registers.import.fail").fail

local M = {}

M.MAX_COUNT = 65536 -- luio.registers takes no larger array

--- A name that a map takes: letters, digits and _, not starting with a digit.
---@param name string
---@return string
function M.clean(name)
  local clean = name:gsub("[^%w_]", "_")
  return clean:match "^%d" and "_" .. clean or clean
end

--- A name that is not used yet; takes it.
---@param used table<string, boolean>
---@param name string
---@return string
function M.unique(used, name)
  local free, n = name, 1
  while used[free] do
    n = math.max(n, used[name] ~= true and used[name] or 1) + 1
    free = ("%s_%d"):format(name, n)
  end
  if n > 1 then used[name] = n end -- where to go on looking: a thousand of one name stay quick
  used[free] = used[free] or true
  return free
end

--- The name without its "%s": "CH%s_CTRL" is the array CH_CTRL.
---@param name string
---@return string
function M.of_array(name)
  local short = name:gsub("%[%%s%]", "%%s"):gsub("_%%s_", "_"):gsub("_?%%s$", ""):gsub("%%s", "")
  return short ~= "" and short or name
end

--- The name of one element of an array: "CH%s" and "2" give "CH2".
---@param name string
---@param index string
---@return string
function M.of_element(name, index)
  if not name:find("%s", 1, true) then return name .. "_" .. index end
  return (name:gsub("%[%%s%]", "%%s"):gsub("%%s", function() return index end))
end

--- The text about an array, for one element of it.
---@param text string
---@param index string
---@return string
function M.of_text(text, index)
  return text:find("%s", 1, true) and text:gsub("%%s", function() return index end) or text
end

-- "A,B,C" "A-D" "0-3,8": nil when it isn't `count` names.
local function indices(text, count)
  local list = {}
  for part in (text .. ","):gmatch "([^,]*)," do
    part = part:gsub("%s+", "")
    local first, last = part:match "^(%d+)%-(%d+)$"
    local letter = not first
    if letter then first, last = part:match "^(%a)%-(%a)$" end
    if first then
      local from, to = letter and first:byte() or tonumber(first), letter and last:byte() or tonumber(last)
      local step = from <= to and 1 or -1
      if math.abs(to - from) + 1 + #list > count then return nil end
      for i = from, to, step do table.insert(list, letter and string.char(i) or ("%d"):format(i)) end
    elseif part ~= "" then
      table.insert(list, part)
    end
    if #list > count then return nil end
  end
  return #list == count and list or nil
end

---@class luio.SvdDim
---@field count integer
---@field increment integer?
---@field list string[]?  what stands for "%s"; nil: 0, 1, 2, ...

-- The same text again and again is what derivedFrom makes: it is read once.
local function known_indices(self, text, count)
  local key = text .. "\0" .. count
  local list = self.indices[key]
  if list == nil then
    list = indices(text, count) or false
    local counts_up = true
    for i, index in ipairs(list or {}) do counts_up = counts_up and tonumber(index, 10) == i - 1 end
    self.indices[key] = { list = list, counts_up = counts_up }
    list = self.indices[key]
  end
  return list.list, list.counts_up
end

--- How often a node is repeated; nil when it isn't.
---@param self luio.SvdImport
---@param node luio.SvdNode
---@param path string
---@return luio.SvdDim?
function M.dim(self, node, path)
  local notes = self.notes
  if not node.dim then
    if (node.name or ""):find("%s", 1, true) then notes:add("name", path, "a name with %%s, but no dim") end
    return nil
  end
  local count = numbers.parse(node.dim)
  if not count then
    notes:add("contradiction", path, "dim \"%s\" is no number: imported once", node.dim)
    return nil
  end
  if count > M.MAX_COUNT then
    fail("E2BIG", node.line, "dim of %s is %s: at most %d", path, node.dim, M.MAX_COUNT)
  end
  local dim = { count = count, increment = numbers.count(node.dimIncrement, 2 ^ 40) }
  if node.dimIncrement and not dim.increment then
    notes:add("contradiction", path, "dimIncrement \"%s\" is no number", node.dimIncrement)
  end
  if node.dimIndex then
    local list, counts_up = known_indices(self, node.dimIndex, count)
    if not list then
      notes:add("contradiction", path, "dimIndex \"%s\" is not the %d indices that dim says: 0 to %d are used",
        node.dimIndex:sub(1, 60), count, count - 1)
    end
    if list and not counts_up then dim.list = list end
  end
  return dim
end

--- Names of a node's elements, for finding one of them.
---@param node luio.SvdNode
---@return string[]
function M.elements(node)
  local list, count = {}, numbers.count(node.dim, M.MAX_COUNT) or 0
  local given = node.dimIndex and indices(node.dimIndex, count)
  for i = 1, count do list[i] = M.of_element(node.name, given and given[i] or tostring(i - 1)) end
  return list
end

return M
