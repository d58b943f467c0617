--- Registers that share addresses, stated as a map wants it.
---
--- Registers at one offset are aliases of the first of them. A narrower one inside a wider one (the
--- bytes of a data register) can be no alias, since that must be at the same offset; it goes into a
--- block PARTS beside it, with what reading does to the whole. Offsets are aligned by now, so two
--- registers are apart, or one is inside the other: a block of parts per width is enough.

local M = {}

local function bytes(item)
  local one = item.children and item.children.size or item.width / 8
  return item.count and (item.count - 1) * item.stride + one or one
end

--- Bytes from an item's start to its end.
M.bytes = bytes

--- The side effect of reading a register, by it or by one of its fields; nil: none is stated.
local function effect_of(item)
  if item.read_effect then return item.read_effect end
  if item.access == "rc" or item.access == "rs" then return "reading has an effect" end
  for _, field in ipairs(item.fields) do
    if field.read_effect or field.access == "rc" or field.access == "rs" then return "reading has an effect" end
  end
end

M.effect_of = effect_of

local BY_ACCESS = { sc = true, w1c = true, w1s = true, w1t = true, w0c = true, w0s = true, w0t = true }

--- Whether writing a register, under whatever name, may set something off that its value does not show.
---@param item table  a register as it is imported
---@return boolean?
function M.sets_off(item)
  if item.write_effect or BY_ACCESS[item.access] then return true end
  for _, field in ipairs(item.fields) do
    if field.write_effect or BY_ACCESS[field.access] then return true end
  end
  return false
end

-- alternateRegister, where the other is at the same offset.
local function state_alternates(self, items)
  local by_name = {}
  for _, item in ipairs(items) do by_name[item.stated] = by_name[item.stated] or item end
  for _, item in ipairs(items) do
    local other = item.alternate and by_name[item.alternate:match "[^.]*$"]
    if item.alternate and (not other or other == item or other.children or item.children
      or other.offset >= item.offset + bytes(item) or item.offset >= other.offset + bytes(other)) then
      self.notes:add("contradiction", item.path, "alternateRegister \"%s\" is not in the same place: skipped", item.alternate)
    elseif other and other.offset == item.offset and not other.of then
      item.of = other
    end
  end
end

-- Of those that are no aliases, the ones that don't touch each other, and the rest.
local function layer(self, order)
  local rest, before = {}, nil
  for _, item in ipairs(order) do
    if not item.of then
      if not before or before.offset + before.width / 8 <= item.offset then
        before = item
      elseif before.offset == item.offset then
        item.of = before
        if not item.alternate then
          self.notes:add("overlap", item.path, "in another register's place, without alternateRegister: an alias")
        end
      else
        table.insert(rest, item)
      end
    end
  end
  return rest
end

-- An alias goes where the register is that it is an alias of.
local function root(item)
  while item.of do item = item.of end
  return item
end

local function take_effects(order)
  local at = {}
  for _, item in ipairs(order) do
    if effect_of(item) then at[item.offset .. " " .. item.width] = item end
  end
  for _, item in ipairs(order) do
    for _, width in ipairs { 16, 32, 64 } do
      local step = width / 8
      local whole = width > item.width and at[item.offset - item.offset % step .. " " .. width]
      if whole and not effect_of(item) then item.read_effect = ("as reading %s"):format(whole.name) end
    end
  end
end

local function parts_block(items, parts, n)
  local name = "PARTS"
  if n > 1 then name = name .. n end
  local children = { size = 0, elements = #parts }
  for _, item in ipairs(parts) do
    children[#children + 1] = item
    children.size = math.max(children.size, item.offset + bytes(item))
  end
  table.insert(items, {
    kind = "block", name = name, stated = name, path = parts[1].path, line = parts[1].line, offset = 0, children = children,
    remarks = { "parts of registers, as registers" },
  })
end

--- States which registers are aliases; moves parts of registers into blocks.
---@param self table     the import
---@param items table[]  of one block, named
---@param unique fun(name: string): string
---@return table[] items
function M.arrange(self, items, unique)
  local order = {}
  for i, item in ipairs(items) do
    item.order = i
    if item.view_of then item.of = item.view_of end
    if not item.children and not item.count then table.insert(order, item) end
  end
  state_alternates(self, items)
  table.sort(order, function(a, b)
    if a.offset ~= b.offset then return a.offset < b.offset end
    if a.width ~= b.width then return a.width > b.width end
    return a.order < b.order
  end)
  local layers, rest = {}, order
  repeat
    rest = layer(self, rest)
    if rest[1] then
      table.insert(layers, rest)
      for _, item in ipairs(rest) do item.layer = #layers end
    end
  until not rest[1]
  if layers[1] then take_effects(order) end

  local kept, parts = {}, {}
  for i = 1, #layers do parts[i] = {} end
  for _, item in ipairs(items) do
    local first = root(item)
    if first ~= item then item.alias = first.name end
    table.insert(first.layer and parts[first.layer] or kept, item)
    if first.layer and first == item then
      self.notes:add("overlap", item.path, "a part of a wider register: in a block of its own, PARTS")
    end
  end
  for n, list in ipairs(parts) do
    if list[1] then parts_block(kept, list, n) end
  end
  for _, item in ipairs(kept) do
    if item.kind == "block" and item.stated == item.name and not item.raw then item.name = unique(item.name) end
  end
  return kept
end

return M
