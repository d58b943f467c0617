--- The top half of `luio irq`: from the places on the command line to the steps of luio.irq.
---
--- The top half is the matching driver's; --ack replaces its acknowledgement, --capture adds to its
--- captures. Where nothing acknowledges, a level-triggered line would fire again at once and for
--- ever, so the source stays masked after its first interrupt (`unmask = false` of luio.irq).

local change = require "luio.tool.explore.change"
local driver = require "luio.driver"
local luio = require "luio"
local place = require "luio.tool.explore.place"
local top_half = require "luio.top_half"

local M = {}

-- The one register that a place names.
local function register_of(t, p, option)
  local list, message, code = t:find(p)
  if not list then return nil, message, code end
  local reg = list[1].reg
  if list[2] then return nil, ("%s %s names several registers"):format(option, p.text), "USAGE" end
  if reg.def.endian == "big" and reg.def.width > 8 then
    return nil, ("%s %s: it is big-endian; a top half is not"):format(option, p.text), "ENOTSUP"
  end
  return reg
end

local function step_of(reg, ...)
  local step = { ... }
  step.width, step.region = reg.def.width, reg.def.region
  return step
end

local function add_captures(t, setup, places)
  for _, p in ipairs(places) do
    local reg, message, code = register_of(t, p, "--capture")
    if not reg then return nil, message, code end
    if not reg.def.readable then return nil, ("--capture %s: it is write-only"):format(p.text), "EACCES" end
    local known
    for _, step in ipairs(setup.capture) do known = known or step[1] == reg.path end
    if not known then table.insert(setup.capture, step_of(reg, reg.path, reg.offset)) end
  end
  return true
end

-- The name of the capture that a text means, if it does.
local function capture_of(t, setup, text)
  local p = place.parse(text)
  local list = p and not place.number(text) and t:find(p)
  for _, step in ipairs(setup.capture) do
    if step[1] == text then return step[1] end
    if list and list[1].reg.path == step[1] then
      if list[1].high then
        return nil, ("--ack: %s is a part of a captured register: name its bits by a mask: '%s & 0x1'"):format(text, step[1]), "USAGE"
      end
      return step[1]
    end
  end
end

-- The value that an ack writes: "CAPTURE", "CAPTURE & MASK", or a value of the register.
local function what_of(t, setup, a)
  local text, mask_text = a.value, nil
  if text then
    local head, tail = text:match "^(.-)%s*&%s*(.*)$"
    text, mask_text = head or text, tail
  end
  local name, message, code
  if text then name, message, code = capture_of(t, setup, text) end
  if message then return nil, message, code end
  if name and t:find(a.place)[1].high then
    return nil, ("--ack %s: a capture is written to all of a register; %s is a part"):format(a.text, a.place.text), "USAGE"
  end
  if mask_text then
    local mask = place.number(mask_text)
    if not name then return nil, ("--ack: %s is not captured: --capture %s"):format(text, text), "USAGE" end
    if not mask then return nil, ("--ack: %s is no mask: a number"):format(mask_text), "USAGE" end
    return name, mask
  end
  if name then return name end
  local plan
  plan, message, code = change.plan(t, a)
  if not plan then return nil, message, code end
  -- A top half does not read first: fields that are not named come from the reset value, as in a
  -- write.
  return change.stored(plan, nil)
end

local function add_acks(t, setup, assignments)
  if assignments[1] then setup.ack = {} end
  for _, a in ipairs(assignments) do
    local reg, message, code = register_of(t, a.place, "--ack")
    if not reg then return nil, message, code end
    local value, mask
    value, mask, code = what_of(t, setup, a)
    if value == nil then return nil, mask, code end
    local step = step_of(reg, reg.offset, value)
    step.mask = mask
    table.insert(setup.ack, step)
  end
  return true
end

-- The matching driver's top half, resolved by its own map, whichever the user names.
local function drivers_own(t, vector)
  if not t.driver then return {} end
  t.dev.regs = t.regs
  if t.driver.registers and not (t.regs and t.regs.map == t.driver.registers) then
    local message, code
    t.dev.regs, message, code = luio.bind(t.driver.registers, t.dev)
    if not t.dev.regs then return nil, message, code end
  end
  local setup, message, code = driver.top_half(t.driver, t.dev, vector)
  if message then return nil, message, code end
  return setup or {}
end

-- Reading it takes the interrupt back, as far as the map knows.
local function clears(t, setup)
  for _, step in ipairs(setup.capture) do
    if t:disturbs(step.region or 0, step[2], (step.width or 32) / 8) then return true end
  end
end

--- The steps for a device: its driver's, with those of the command line.
---@param t luio.Target
---@param args table  captures, acks, unmask, vector
---@return luio.IrqSetup?
---@return string? message
---@return string? code
function M.of(t, args)
  local stated, message, code = drivers_own(t, args.vector)
  if not stated then return nil, message, code end
  local setup = { capture = {}, ack = stated.ack or {} }
  for i, step in ipairs(stated.capture or {}) do setup.capture[i] = step end
  local ok
  ok, message, code = add_captures(t, setup, args.captures)
  if not ok then return nil, message, code end
  ok, message, code = add_acks(t, setup, args.acks)
  if not ok then return nil, message, code end
  -- A message does not come again by itself.
  setup.unmask = args.unmask or setup.ack[1] ~= nil or clears(t, setup) or t.dev.irqs.kind ~= "intx" or false
  local fault = top_half.fault(setup)
  if fault then return nil, "top half: " .. fault, "EINVAL" end
  return setup
end

--- The register at a step's place, for its name and its fields.
---@param t luio.Target
---@param step table
---@param offset integer
---@return luio.Found?
function M.register_at(t, step, offset)
  local raw = { kind = "raw", text = "", region = step.region or 0, offset = offset, width = step.width or 32 }
  local list = t:find(raw)
  return list and list[1]
end

--- Its steps in words. Registers have their names in the user's map, which need not be the driver's.
---@param t luio.Target
---@param setup luio.IrqSetup
---@return string
function M.describe(t, setup)
  return top_half.describe(setup, function(step, offset)
    local found = M.register_at(t, step, offset)
    return found and found.label or top_half.place(step, offset)
  end)
end

return M
