--- Registers at the address of an imported peripheral that are not imported with it.
---
--- `--peripheral SPI1` of a chip that has I2S1 in the same place makes a map of SPI1. But a read of its DATA is a read of I2S1's,
--- which may pop a FIFO, and a write of it may be a command of I2S1's: a side effect belongs to the bytes
--- (luio.registers.effects). So the registers of others at that address come along where reading or writing has a side
--- effect, and only those, in a block of the other's name.

local expand = require "luio.registers.import.expand"
local failing = require "luio.registers.import.fail"
local layout = require "luio.registers.import.layout"
local names = require "luio.registers.import.names"
local notes_of = require "luio.registers.import.notes"
local numbers = require "luio.registers.import.numbers"
local places = require "luio.registers.import.places"

local M = {}

-- Of the definitions of a block those with a side effect, and blocks that have such; nil: none.
local function with_effect(children)
  local kept, names_kept = { size = children.size, elements = 0 }, {}
  for _, item in ipairs(children) do
    if item.children then
      local inner = with_effect(item.children)
      if inner then table.insert(kept, layout.copy(item, { children = inner, remarks = {} })) end
    elseif places.effect_of(item) or places.sets_off(item) then
      table.insert(kept, item)
      names_kept[item.name] = true
    end
  end
  for i, item in ipairs(kept) do
    -- Aliases are left out: an array may overlap others without being one.
    if item.alias and not names_kept[item.alias] then
      item = layout.copy(item, { count = 1, stride = item.width / 8 })
      item.alias = nil
      kept[i] = item
    end
    kept.elements = kept.elements + (item.count or 1) * (item.children and item.children.elements or 1)
  end
  return kept[1] and kept
end

--- The peripherals that begin where imported ones do and were not asked for, as blocks of what they have with side effects.
---@param device luio.SvdNode
---@param import luio.SvdImport
---@param blocks table[]  the imported peripherals
---@return table[] blocks
function M.find(device, import, blocks)
  local imported, others = {}, {}
  for _, block in ipairs(blocks) do imported[block.offset] = block end
  for _, kid in ipairs(device.kids or {}) do
    local base = kid.tag == "peripheral" and kid.name and not import.asked[kid] and numbers.count(kid.baseAddress, 2 ^ 48)
    if base and imported[base] then others[kid.name] = imported[base] end
  end
  if not next(others) then return {} end
  -- Notes about them do not concern the import of another peripheral, and their faults do not fail
  -- it.
  local work = expand.new(device, notes_of.new())
  local found, message = failing.catch("SVD", function()
    return work:peripherals(function(name) return others[name] ~= nil end)
  end)
  if not found then
    import.notes:add("missing", "device", "what else stands at these addresses can't be told: %s", message)
    return {}
  end
  local list = {}
  for _, block in ipairs(found) do
    local kept, place = with_effect(block.children), others[block.name] or imported[block.offset]
    if kept and place then
      import.notes:add("overlap", place.path, "%s has the same address: its registers with side effects come along",
        block.name)
      import.widest = math.max(import.widest, work.widest)
      table.insert(list, layout.copy(block, {
        children = kept, stated = block.name, remarks = { ("in the place of %s; only registers with side effects"):format(place.name) },
      }))
    end
  end
  return list
end

--- Puts such blocks into a list of definitions, with names of their own.
---@param children table[]
---@param blocks table[]
---@param base integer  where the list stands
function M.add(children, blocks, base)
  local used = {}
  for _, item in ipairs(children) do used[item.name] = true end
  for _, block in ipairs(blocks) do
    table.insert(children, layout.copy(block, { offset = block.offset - base, name = names.unique(used, names.clean(block.name)) }))
  end
end

return M
