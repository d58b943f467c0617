--- A session as Lua: a script, a spec that expects the values that were read, or a driver that does
--- it when it starts.
---
--- Made from the journal: writes, the undoing of some of them, reads that were asked for, and interrupts that came while they were
--- shown, with the top half they were taken by. Reads that only looked (get(), a register shown) are in a script and a spec, not in
--- a driver. How long a person waited is not in it: an operation that takes time is waited for where an interrupt told of its end.
---
--- DMA memory is allocated anew, and registers that got its address get the new one; other uses are
--- refused (luio.tool.explore.memory).

local bits = require "luio.registers.bits"
local memory = require "luio.tool.explore.memory"
local paths = require "luio.driver.paths"
local top_half = require "luio.top_half"
local show = require "luio.registers.show"

local M = {}

local function literal(value, width)
  local text = show.hex(value, width)
  return width == 64 and text .. "ULL" or text
end

-- The value's meaning, for a comment.
local function meaning(entry)
  local parts = {}
  for _, f in ipairs(entry.reg.def.fields) do
    local x = bits.take(entry.value, f.high, f.low)
    if x ~= 0 then table.insert(parts, ("%s=%s"):format(f.name, f.names and f.names[x] or show.value(x))) end
  end
  return parts[1] and "  -- " .. table.concat(parts, " ") or ""
end

-- ---- Accesses ------------------------------------------------------------------------------------

-- The call that makes an access: by the register's name, or by its offset where no map has it.
local function call(entry, verb, ...)
  local reg = entry.reg
  local args = { ... }
  if not reg.raw then return ("regs.%s:%s(%s)"):format(entry.path, verb, table.concat(args, ", ")) end
  table.insert(args, 1, ("0x%x"):format(reg.offset))
  return ("dev.regions[%d]:%s%d(%s)"):format(reg.def.region, verb, reg.def.width, table.concat(args, ", "))
end

-- Written memory as an expression.
local function text_of(pieces)
  local parts = {}
  for i, piece in ipairs(pieces) do
    if type(piece) == "string" then
      parts[i] = '"' .. piece:gsub('[%z\1-\31\127-\255"\\]', function(c) return ("\\%03d"):format(c:byte()) end) .. '"'
    else
      parts[i] = ("le%d(%s)"):format(piece.width, memory.expression(piece.address))
    end
  end
  return parts[1] and table.concat(parts, " .. ") or '""'
end

-- A top half as a table.
local function setup_text(setup)
  local parts = {}
  for _, key in ipairs { "capacity", "priority", "cpu" } do
    if setup[key] ~= nil then table.insert(parts, ("%s = %s"):format(key, tostring(setup[key]))) end
  end
  local text = top_half.source(setup)
  if not parts[1] then return text end
  return ("%s%s }"):format(text == "{}" and "{ " or text:sub(1, -3) .. ", ", table.concat(parts, ", "))
end

-- The steps that are no register accesses.
local other = {
  exchange = function(entry) return ("assert(dev.irqs[0]:exchange %s)"):format(setup_text(entry.setup)) end,
  master = function(entry) return ("assert(dev:bus_master(%s))"):format(tostring(entry.on)) end,
  unmask = function() return "assert(dev:unmask())" end,
  fill = function(entry) return ("%s:fill(0x%02x, %d, %d)"):format(entry.buffer.name, entry.value, entry.offset, entry.length) end,
  memory = function(entry) return ("%s:write(%d, %s)"):format(entry.buffer.name, entry.offset, text_of(entry.pieces)) end,
}

local function line_of(entry, expect)
  if other[entry.kind] then return other[entry.kind](entry) end
  if entry.kind == "irq" then
    local wait = "assert(dev.irqs[0]:wait(1))"
    return entry.times > 1 and ("for _ = 1, %d do %s end"):format(entry.times, wait) or wait
  end
  if entry.address then return call(entry, "write", memory.expression(entry.address)) end
  if entry.field then
    local read = ("regs.%s:get %q"):format(entry.path, entry.field)
    local value = type(entry.value) == "cdata" and literal(entry.value, 64) or ("0x%x"):format(entry.value)
    return expect and ("assert.equal(%s, (%s))"):format(value, read) or ("_ = %s -- %s"):format(read, value)
  end
  local value = literal(entry.value, entry.reg.def.width)
  if entry.kind == "write" then return call(entry, "write", value) .. meaning(entry) end
  local note = entry.times > 1 and ("  -- %d times"):format(entry.times) or meaning(entry)
  if expect then return ("assert.equal(%s, %s)%s"):format(value, call(entry, "read"), note) end
  -- A call alone is a statement, too, but not one that says it was a read.
  return ("_ = %s -- %s%s"):format(call(entry, "read"), value, (note:gsub("^  %-%-", ",")))
end

-- The buffers whose address was given to the device or its memory, or that were written into.
local function allocations(indent, entries)
  local lines, put, helpers = {}, {}, {}
  local function need(b)
    if put[b] then return end
    put[b] = true
    local o, options = b.options, {}
    if o.align then table.insert(options, ("align = %d"):format(o.align)) end
    if o.mask then table.insert(options, ("mask = 0x%x"):format(o.mask)) end
    if o.name then table.insert(options, ("name = %q"):format(o.name)) end
    table.insert(lines, ("%slocal %s = assert(dev.dma:alloc(%d%s))"):format(indent, b.name, b.size,
      options[1] and (", { %s }"):format(table.concat(options, ", ")) or ""))
  end
  for _, entry in ipairs(entries) do
    if entry.buffer then need(entry.buffer) end
    for _, place in ipairs(memory.places(entry)) do need(place.buffer) end
    for _, piece in ipairs(entry.pieces or {}) do
      if type(piece) == "table" then helpers[piece.width] = true end
    end
  end
  for _, width in ipairs { 64, 32 } do
    if helpers[width] then
      local text = 'local function le%d(n) return require("ffi").string(require("ffi").new("uint%d_t[1]", n), %d) end'
      table.insert(lines, 1, indent .. text:format(width, width, width / 8))
    end
  end
  return lines
end

local function body(journal, indent, expect, without_looks)
  local entries = {}
  for _, entry in ipairs(journal.entries) do
    if not (without_looks and entry.looked) then table.insert(entries, entry) end
  end
  local lines, reads = allocations(indent, entries), false
  if journal.dropped > 0 then
    table.insert(lines, ("%s-- %d accesses before these are not kept"):format(indent, journal.dropped))
  end
  for _, entry in ipairs(entries) do
    reads = reads or entry.kind == "read"
    table.insert(lines, indent .. line_of(entry, expect))
  end
  if reads and not expect then table.insert(lines, 1, indent .. "local _") end
  if not lines[1] then table.insert(lines, indent .. "-- nothing was done yet") end
  return table.concat(lines, "\n")
end

-- ---- The driver around the lines -----------------------------------------------------------------

-- The top half that interrupts were taken by, or would be; nil where none was stated.
local function setup_of(journal)
  for _, entry in ipairs(journal.entries) do
    if entry.kind == "irq" then return entry.setup end
  end
  local irq = rawget(journal.target.dev.irqs, 0)
  return irq and next(irq.source.setup) ~= nil and irq.source.setup or nil
end

-- That, as a table.
local function stated_top_half(journal)
  local setup = setup_of(journal)
  if setup then return setup_text(setup), setup.unmask == false end
end

local function map_of(target)
  if not target.map_name then return nil end
  local driver = target.map_name:match "^drivers/([%w_%-]+)$" or not target.map_name:find "[/.]" and target.map_name
  if driver and paths.find(driver, "registers") then return ('require "drivers.%s.registers"'):format(driver) end
  if driver then return ("assert(luio.load %q).registers"):format(driver) end -- a map within the driver's file
  return ('assert(require("luio.driver.maps").load %q)'):format(target.map_name)
end

-- `luio.open` with the words that the session was begun with.
local function open_call(dev)
  local as, options = dev:root_device().opened_as, {}
  if not as then return ("luio.open %q"):format(dev.address) end
  if as.qemu and as.qemu[1] then
    local list = {}
    for i, argument in ipairs(as.qemu) do list[i] = ("%q"):format(argument) end
    table.insert(options, ("qemu = { %s }"):format(table.concat(list, ", ")))
  end
  local kind = as.vectors
  if kind then table.insert(options, (type(kind) == "string" and "vectors = %q" or "vectors = %s"):format(kind)) end
  if not options[1] then return ("luio.open %q"):format(as.address) end
  return ("luio.open(%q, { %s })"):format(as.address, table.concat(options, ", "))
end

-- Opening the device, by a script or a spec.
local function opening(journal, indent)
  local target, irq, masked = journal.target, stated_top_half(journal)
  local map = map_of(target)
  local lines = {
    ("dev = assert(%s)"):format(open_call(target.dev)), map and ("regs = assert(luio.bind(%s, dev))"):format(map),
    irq and ("dev.irqs[0]:setup %s"):format(irq), irq and "assert(dev.irqs[0]:start())", masked and "assert(dev:unmask())",
  }
  local present = {}
  for i = 1, 5 do
    if lines[i] then table.insert(present, indent .. lines[i]) end
  end
  return table.concat(present, "\n")
end

local function script(journal)
  return ([[
local luio = require "luio"

local dev, regs -- luacheck: ignore
%s

%s

dev:close()]]):format(opening(journal, ""), body(journal, ""))
end

local function spec(journal)
  return ([[
local luio = require "luio"

describe(%q, function()
  local dev, regs -- luacheck: ignore

  setup(function()
%s
  end)

  teardown(function() dev:close() end)

  it("does what it did", function()
%s
  end)
end)]]):format(journal.target.dev.address, opening(journal, "    "), body(journal, "    ", true))
end

local function driver(journal)
  local target = journal.target
  local info, map, irq = target.dev.info, map_of(target), stated_top_half(journal)
  local name = target.driver and target.driver.name or "device"
  local dma = journal.memory.made > 0 and target.driver and target.driver.dma and target.driver.dma.bits
  local parts = {
    ("name = %q"):format(name), info.vendor and ('match = { pci = "%04x:%04x" }'):format(info.vendor, info.device),
    map and "registers = " .. map, irq and "irq = " .. irq, dma and ("dma = { bits = %d }"):format(dma),
  }
  local lines = {}
  for i = 1, 5 do
    if parts[i] then table.insert(lines, "  " .. parts[i] .. ",") end
  end
  local variable = name:match "^[%a_][%w_]*$" or "driver"
  return ([[
local %s = {
%s
}

function %s.start(dev)
%s%s
  return true
end

return %s]]):format(variable, table.concat(lines, "\n"), variable, map and "  local regs = dev.regs\n" or "",
    body(journal, "  ", false, true), variable)
end

local FORMS = { script = script, spec = spec, driver = driver }

--- The session as Lua.
---@param journal luio.Journal
---@param form? "script"|"spec"|"driver"  script
---@return string? text
---@return string? message  why there is none: it would point the device at memory that is not its own
---@return string? code     "EFAULT"
function M.write(journal, form)
  local fault = journal.memory:fault(journal.entries)
  if fault then
    return nil, "no script is written, because it could point the device at another program's memory: " .. fault, "EFAULT"
  end
  return FORMS[form or "script"](journal)
end

--- Whether there is such a form.
---@param form string
---@return boolean
function M.has(form)
  return FORMS[form] ~= nil
end

return M
