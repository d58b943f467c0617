--- Imports CMSIS-SVD, the chip vendors' register descriptions, as a register map in Lua.
---
---     local svd = require "luio.registers.import"
---     local text, notes = svd.import("STM32F103.svd", { peripherals = { "SPI1" } })
---     for _, note in ipairs(notes) do print(note) end
---
--- The file goes through four steps: parse.lua reads the XML into a tree, derive.lua and expand.lua
--- follow what derives, inherits and repeats (names.lua, access.lua, fields.lua: a part each),
--- layout.lua meets a map's stricter rules, and write.lua writes it.
---
--- A property for which a map has no word, and every decision about a file that contradicts itself,
--- is a note; a note that matters to a reader of the map is also a remark in it, in brackets. The
--- file is not trusted: with any contents an import ends in bounded time and memory, with a map
--- that loads or with `nil, message, code`.

local beside = require "luio.registers.import.beside"
local expand = require "luio.registers.import.expand"
local layout = require "luio.registers.import.layout"
local names = require "luio.registers.import.names"
local notes_of = require "luio.registers.import.notes"
local numbers = require "luio.registers.import.numbers"
local parse = require "luio.registers.import.parse"
local texts = require "luio.registers.import.text"
local write = require "luio.registers.import.write"
local near = require "luio.registers.near"
local failing = require "luio.registers.import.fail"

local M = {}

local codes = { [2] = "ENOENT", [13] = "EACCES", [20] = "ENOTDIR", [21] = "EISDIR", [40] = "ELOOP" }

-- A reader of pieces, what messages call it, and what closes it.
local function open(file)
  if type(file) == "function" then return file, "SVD" end
  if type(file) == "string" then
    local handle, message, number = io.open(file, "rb")
    if not handle then return nil, message, codes[number] or "EIO" end
    return function()
      local piece, why, errno = handle:read(65536)
      if why then failing.fail(codes[errno] or "EIO", nil, "%s", why) end
      return piece
    end, file, function() handle:close() end
  end
  return function() return file:read(65536) end, "SVD"
end

-- Names asked for, each with whether it was met.
local function wanted_names(list)
  if not list then return nil end
  local met = {}
  for _, name in ipairs(list) do met[name] = false end
  return met
end

local function check_wanted(met, device)
  local known = {}
  for _, kid in ipairs(device.kids or {}) do
    if kid.tag == "peripheral" and kid.name then known[#known + 1] = kid.name end
  end
  for name, found in pairs(met) do
    if not found then failing.fail("ENOENT", nil, "there is no peripheral %s%s", name, near.hint(name, known)) end
  end
end

local function paragraphs(device, name)
  local list = {}
  local title = device.name or "?"
  if device.description then title = title .. ": " .. texts.flat(device.description) end
  table.insert(list, title)
  local from = { "Imported from CMSIS-SVD" .. (name and " (" .. name .. ")" or "") }
  if device.vendor then table.insert(from, "vendor: " .. device.vendor) end
  if device.version then table.insert(from, "version: " .. device.version) end
  table.insert(list, table.concat(from, "; ") .. ".")
  if device.protection then table.insert(list, "Protection, unless stated otherwise: " .. device.protection) end
  if device.licenseText then table.insert(list, (device.licenseText:gsub("\\n", "\n"))) end
  return list
end

-- Registers wider than the bus are read in halves; SVD does not say which goes first.
local function halve(children, notes)
  for _, item in ipairs(children) do
    if item.children then
      halve(item.children, notes)
    elseif item.width == 64 and not item.halves then
      item.halves = "low"
      notes:add("size", item.path, "64 bits on a bus of 32: low half first is a guess, SVD does not say")
    end
  end
end

local function map_options(import, blocks, name)
  local device, notes = import.device, import.notes
  local options = { ("name = %q,"):format(names.clean(name)) }
  local bus = numbers.count(device.width)
  if bus == 8 or bus == 16 or bus == 32 then
    if import.widest <= bus then
      table.insert(options, ("max_width = %d,"):format(bus))
    elseif bus == 32 then
      halve(blocks, notes)
      table.insert(options, "max_width = 32,")
    else
      notes:add("contradiction", "device", "a bus of %d bits, but registers of %d: max_width is left out", bus, import.widest)
    end
  end
  if numbers.count(device.addressUnitBits) ~= 8 and device.addressUnitBits then
    notes:add("contradiction", "device", "addressUnitBits is %s: offsets are taken as bytes", device.addressUnitBits)
  end
  for _, kid in ipairs(device.kids or {}) do
    local endian = kid.tag == "cpu" and kid.endian and kid.endian:lower()
    if endian == "big" then
      table.insert(options, 'endian = "big",')
    elseif endian and endian ~= "little" then
      notes:add("unsupported", "device", "endian is %s: little is taken", endian)
    end
  end
  return options
end

local function import(read, source, options, notes)
  local device = parse.read(read, notes)
  local work = expand.new(device, notes)
  local met = wanted_names(options.peripherals)
  local blocks = work:peripherals(met and function(name)
    if met[name] == nil then return false end
    met[name] = true
    return true
  end)
  if met then check_wanted(met, device) end
  local others = met and beside.find(device, work, blocks) or {}
  blocks = layout.place(work, blocks)
  local head = { comments = paragraphs(device, source), as_data = options.descriptions ~= "comments" }
  local name = options.name or device.name or "device"
  local one = met and #options.peripherals == 1 and #blocks == 1 and blocks[1]
  if one then
    name = options.name or one.name
    local where = ("%s at 0x%x"):format(one.stated or one.name, one.offset)
    if one.count then where = where .. (", %d of them every 0x%x bytes"):format(one.count, one.stride) end
    if one.text then where = where .. ": " .. texts.flat(one.text) end
    for _, remark in ipairs(one.remarks) do where = where .. " [" .. remark .. "]" end
    table.insert(head.comments, 2, where)
    blocks = one.children
  end
  beside.add(blocks, others, one and one.offset or 0)
  head.options = map_options(work, blocks, name)
  if (options.region or 0) ~= 0 then table.insert(head.options, ("region = %d,"):format(options.region)) end
  if options.overlay then table.insert(head.options, ("overlay = %q,"):format(options.overlay)) end
  return write.write(blocks, head), notes.list
end

---@class luio.SvdOptions
---@field peripherals? string[]   only these; a single one becomes a map of its own registers, from offset 0
---@field name? string            of the map; else the peripheral's or the device's
---@field region? integer       of the device that its registers are in; 0
---@field overlay? string        name of the file with corrections, beside the map
---@field descriptions? "data"|"comments"  where they go: `description = "..."` (default), which prompt and editor show, or comments

--- Imports an SVD file.
---@param file string|(fun(): string?)|file*  its path, a function that returns it piece by piece, or an open file
---@param options? luio.SvdOptions
---@return string? map                     Lua text, to be loaded with luio.registers
---@return luio.SvdNote[]|string notes     what it could not carry over; the message when map is nil
---@return string? code                    "ENOENT" "EACCES" "EINVAL" malformed, "E2BIG" over a limit
function M.import(file, options)
  if type(file) ~= "string" and type(file) ~= "function" and not pcall(function() return file.read end) then
    error("svd.import wants a path, a function or an open file, not " .. type(file), 2)
  end
  local read, source, close = open(file)
  if not read then return nil, source, close end
  local text, notes, code = failing.catch(source, function()
    return import(read, source:match "[^/]*$", options or {}, notes_of.new())
  end)
  if close then close() end
  return text, notes, code
end

return M
