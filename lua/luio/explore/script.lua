--- What was done in a session, as Lua: a script, a spec that expects what was read, or a driver that does
--- it when it starts.
---
--- Made from the journal: writes, the undoing of some of them, reads that were asked for, and interrupts that came
--- while they were shown, with the top half they were taken by. How long a person waited is not in it: what
--- takes a device time is waited for where an interrupt told of its end.

local bits = require "luio.registers.bits"
local paths = require "luio.paths"
local half = require "luio.top_half"
local show = require "luio.registers.show"

local M = {}

local function literal(value, width)
  local text = show.hex(value, width)
  return width == 64 and text .. "ULL" or text
end

-- What the value means, for a comment.
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

local function line_of(entry, expect)
  if entry.kind == "irq" then
    local wait = "assert(dev.irqs[0]:wait(1))"
    return entry.times > 1 and ("for _ = 1, %d do %s end"):format(entry.times, wait) or wait
  end
  local value = literal(entry.value, entry.reg.def.width)
  if entry.kind == "write" then return call(entry, "write", value) .. meaning(entry) end
  local note = entry.times > 1 and ("  -- %d times"):format(entry.times) or meaning(entry)
  if expect then return ("assert.equal(%s, %s)%s"):format(value, call(entry, "read"), note) end
  -- A call alone is a statement, too, but not one that says it was a read.
  return ("_ = %s -- %s%s"):format(call(entry, "read"), value, (note:gsub("^  %-%-", ",")))
end

local function body(journal, indent, expect)
  local lines, reads = {}, false
  if journal.dropped > 0 then
    table.insert(lines, ("%s-- %d accesses before these are not kept"):format(indent, journal.dropped))
  end
  for _, entry in ipairs(journal.entries) do
    reads = reads or entry.kind == "read"
    table.insert(lines, indent .. line_of(entry, expect))
  end
  if reads and not expect then table.insert(lines, 1, indent .. "local _") end
  if not lines[1] then table.insert(lines, indent .. "-- nothing was done yet") end
  return table.concat(lines, "\n")
end

-- ---- What stands around them ---------------------------------------------------------------------

-- The top half that interrupts were taken by, as a table; nil where none was.
local function top_half(journal)
  for _, entry in ipairs(journal.entries) do
    if entry.kind == "irq" then
      return half.source(entry.setup)
    end
  end
end

local function map_of(target)
  if not target.map_name then return nil end
  local driver = target.map_name:match "^drivers/([%w_%-]+)$" or not target.map_name:find "[/.]" and target.map_name
  if driver and paths.find(driver, "registers") then return ('require "drivers.%s.registers"'):format(driver) end
  if driver then return ("assert(luio.load %q).registers"):format(driver) end -- a map within the driver's file
  return ('assert(require("luio.maps").load %q)'):format(target.map_name)
end

-- Opening the device, by a script or a spec.
local function opening(target, irq, indent)
  local map = map_of(target)
  local lines = {
    ("dev = assert(luio.open %q)"):format(target.dev.address), map and ("regs = assert(luio.bind(%s, dev))"):format(map),
    irq and ("dev.irqs[0]:setup %s"):format(irq), irq and "assert(dev.irqs[0]:start())",
  }
  local present = {}
  for i = 1, 4 do
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

dev:close()]]):format(opening(journal.target, top_half(journal), ""), body(journal, ""))
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
end)]]):format(journal.target.dev.address, opening(journal.target, top_half(journal), "    "), body(journal, "    ", true))
end

local function driver(journal)
  local target = journal.target
  local info, map, irq = target.dev.info, map_of(target), top_half(journal)
  local name = target.driver and target.driver.name or "device"
  local parts = {
    ("name = %q"):format(name), info.vendor and ('match = { pci = "%04x:%04x" }'):format(info.vendor, info.device),
    map and "registers = " .. map, irq and "irq = " .. irq,
  }
  local lines = {}
  for i = 1, 4 do
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

return %s]]):format(variable, table.concat(lines, "\n"), variable, map and "  local regs = dev.regs\n" or "", body(journal, "  "), variable)
end

local FORMS = { script = script, spec = spec, driver = driver }

--- What was done, as Lua.
---@param journal luio.Journal
---@param form? "script"|"spec"|"driver"  script
---@return string
function M.write(journal, form)
  return FORMS[form or "script"](journal)
end

--- Whether there is such a form.
---@param form string
---@return boolean
function M.has(form)
  return FORMS[form] ~= nil
end

return M
