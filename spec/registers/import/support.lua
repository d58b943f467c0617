--- Importing a text and loading what comes of it.

local svd = require "luio.registers.import"
local fixtures = require "spec.registers.import.fixtures"

local M = {}

--- A reader of a text.
---@param text string
---@param size? integer  bytes of a piece
function M.reader(text, size)
  local at = 1
  return function()
    if at > #text then return nil end
    local piece = text:sub(at, size and at + size - 1)
    at = at + #piece
    return piece
  end
end

--- Imports a whole file's text: map, notes, Lua text; or nil, message, code.
---@param xml string
---@param options? luio.SvdOptions
function M.file(xml, options)
  local text, notes, code = svd.import(M.reader(xml), options)
  if not text then return nil, notes, code end
  return assert(loadstring(text, "=map"))(), notes, text
end

--- Imports peripherals.
---@param peripherals string
---@param options? luio.SvdOptions
function M.import(peripherals, options)
  return M.file(fixtures.HEAD .. peripherals .. fixtures.TAIL, options)
end

--- Imports the registers of one peripheral as a map of its own; fails when that fails.
---@param registers string
---@param descriptions? "data"|"comments"
function M.registers(registers, descriptions)
  local map, notes, text = M.import(fixtures.peripheral(registers), { peripherals = { "P" }, descriptions = descriptions })
  assert(map, notes)
  return map, notes, text
end

--- The first note with this in its text.
---@param notes luio.SvdNote[]
---@param pattern string
function M.note(notes, pattern)
  for _, note in ipairs(notes) do
    if note.text:find(pattern) then return note end
  end
  local all = {}
  for i, note in ipairs(notes) do all[i] = tostring(note) end
  error(("no note says %q:\n%s"):format(pattern, table.concat(all, "\n")), 2)
end

--- { name, offset } of what is in a block, by offset.
function M.places(block)
  local list = {}
  for i, def in ipairs(block.children) do list[i] = { def.name, def.offset } end
  return list
end

return M
