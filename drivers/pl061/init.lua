--- ARM's GPIO PL061 (ARM DDI 0190): eight lines, in and out, that can interrupt by edges and by levels.
---
--- An edge is latched by the device, and acknowledged in C right away: each interrupt is an event in the ring, however busy
--- Lua is. A level lasts, and can't be acknowledged: while a line is watched for one, the interrupt stays masked from when it
--- comes until `wait` has masked that line, which `watch` unmasks.

local bit = require "bit"
local driver = require "luio.driver"
local luio = require "luio"

local band, bnot, bor, lshift, rshift = bit.band, bit.bnot, bit.bor, bit.lshift, bit.rshift

local pl061 = { name = "pl061", match = { of = "arm,pl061" }, registers = require "drivers.pl061.registers" }

pl061.irq = { capture = { "GPIOMIS", "GPIODATA" }, ack = { { "GPIOIC", "GPIOMIS" } } }
local with_levels = { name = "pl061", irq = { capture = { "GPIOMIS", "GPIODATA" }, ack = { { "GPIOIC", "GPIOMIS" } }, unmask = false } }

local PART, DESIGNER = 0x061, 0x41 -- in GPIOPeriphID; 0x41 is ARM

local function identify(regs)
  local low, middle, high = regs.GPIOPeriphID0:read(), regs.GPIOPeriphID1:read(), regs.GPIOPeriphID2:read()
  local id1, id2 = regs.GPIOPeriphID1:decode(middle), regs.GPIOPeriphID2:decode(high)
  return regs.GPIOPeriphID0:decode(low).PARTNUMBER0 + id1.PARTNUMBER1 * 0x100, id1.DESIGNER0 + id2.DESIGNER1 * 0x10
end

-- Which of the two top halves the lines that are watched need.
local function choose_top_half(dev)
  local stated = dev.state.levels ~= 0 and with_levels or pl061
  local setup, message, code = driver.top_half(stated, dev, 0)
  if not setup then return nil, message, code end
  return dev.irqs[0]:exchange(setup)
end

function pl061.start(dev, reason)
  local part, designer = identify(dev.regs)
  if part ~= PART or designer ~= DESIGNER then
    return nil, ("GPIOPeriphID says part 0x%03x of designer 0x%02x, not 0x%03x of 0x%02x"):format(part, designer, PART, DESIGNER), "ENODEV"
  end
  if reason ~= "reload" then
    dev.regs.GPIOIE:write(0)
    dev.state.levels = 0 -- lines that are watched for a level
  end
  return choose_top_half(dev)
end

function pl061.stop(dev)
  dev.regs.GPIOIE:write(0)
end

local function mask_of(what, line)
  if type(line) ~= "number" or line % 1 ~= 0 or line < 0 or line > 7 then
    error(("%s: lines are 0 to 7, not %s"):format(what, tostring(line)), 3)
  end
  return lshift(1, line)
end

local function change(reg, clear, set)
  reg:write(bor(band(reg:read(), bnot(clear)), set))
end

-- ---- Lines ---------------------------------------------------------------------------------------

--- Makes a line an input.
---@param line integer  0 to 7
function pl061.input(dev, line)
  change(dev.regs.GPIODIR, mask_of("input", line), 0)
end

--- Makes a line an output with that level. The device takes a level for outputs only, so the line has its last one before.
---@param line integer
---@param level boolean
function pl061.output(dev, line, level)
  change(dev.regs.GPIODIR, 0, mask_of("output", line))
  pl061.set(dev, line, level)
end

--- A line's level, by one load.
---@param line integer
---@return boolean high
function pl061.get(dev, line)
  mask_of("get", line)
  return dev.regs["LINE" .. line]:read() ~= 0
end

--- An output's level, by one store. Inputs take none.
---@param line integer
---@param level boolean
function pl061.set(dev, line, level)
  local mask = mask_of("set", line)
  dev.regs["LINE" .. line]:write(level and mask or 0)
end

--- All levels at once.
---@return integer levels  a bit for each line
function pl061.read(dev)
  return dev.regs.GPIODATA:read()
end

--- Some outputs at the same moment, by one store.
---@param mask integer    a bit for each line that is meant
---@param levels integer
function pl061.write(dev, mask, levels)
  if mask % 1 ~= 0 or mask < 0 or mask > 0xff then error("write: the mask has eight bits, not " .. tostring(mask), 2) end
  dev.regions[0]:write32(4 * mask, levels) -- the address is the mask
end

-- ---- Interrupts ----------------------------------------------------------------------------------

-- bits of GPIOIS, GPIOIBE, GPIOIEV
local WAYS = {
  falling = { 0, 0, 0 }, rising = { 0, 0, 1 }, both = { 0, 1, 0 },
  low = { 1, 0, 0 }, high = { 1, 0, 1 },
}

--- Lets a line interrupt, an input. Old edges are forgotten. By "low" and "high" it does so once, then `watch` lets it again.
---@param line integer
---@param way "rising"|"falling"|"both"|"low"|"high"
---@return boolean? ok
---@return string? message
---@return string? code
function pl061.watch(dev, line, way)
  local mask, bits, regs = mask_of("watch", line), WAYS[way], dev.regs
  if not bits then error(("watch: rising, falling, both, low or high, not %s"):format(tostring(way)), 2) end
  -- A change of these registers may look like an edge, so the line is masked meanwhile and the edge
  -- cleared.
  change(regs.GPIOIE, mask, 0)
  change(regs.GPIOIS, mask, bits[1] * mask)
  change(regs.GPIOIBE, mask, bits[2] * mask)
  change(regs.GPIOIEV, mask, bits[3] * mask)
  regs.GPIOIC:write(mask)
  dev.state.levels = bor(band(dev.state.levels, bnot(mask)), bits[1] * mask)
  local ok, message, code = choose_top_half(dev)
  if not ok then return nil, message, code end
  change(regs.GPIOIE, 0, mask)
  return true
end

--- Lets a line interrupt no more.
---@param line integer
---@return boolean? ok
---@return string? message
---@return string? code
function pl061.unwatch(dev, line)
  local mask = mask_of("unwatch", line)
  change(dev.regs.GPIOIE, mask, 0)
  dev.state.levels = band(dev.state.levels, bnot(mask))
  return choose_top_half(dev)
end

---@class luio.Pl061Event: luio.Event
---@field lines integer[]   that interrupted
---@field levels integer    of all lines, read at the interrupt
---@field GPIOMIS integer   `lines` as bits

--- Waits for an interrupt of the lines that are watched. One task at a time.
---@param seconds number
---@return luio.Pl061Event?
---@return string? message
---@return string? code  "ETIMEDOUT"
function pl061.wait(dev, seconds)
  local irq, deadline = dev.irqs[0], luio.now() + seconds
  while true do
    local event, message, code = irq:wait(math.max(0, deadline - luio.now()))
    if not event then return nil, message, code end
    local levels = dev.state.levels
    if levels ~= 0 then
      change(dev.regs.GPIOIE, band(event.GPIOMIS, levels), 0)
      local ok
      ok, message, code = irq:unmask()
      if not ok then return nil, message, code end
    end
    if event.GPIOMIS ~= 0 then -- else a level that was gone when it was looked at
      event.levels, event.lines = event.GPIODATA, {}
      for line = 0, 7 do
        if band(rshift(event.GPIOMIS, line), 1) == 1 then table.insert(event.lines, line) end
      end
      return event
    end
  end
end

--- Event after event, until none comes for so long: `for event in pl061.events(dev, 5) do`.
---@param seconds number
---@return fun(): luio.Pl061Event?
function pl061.events(dev, seconds)
  return function() return (pl061.wait(dev, seconds)) end
end

return pl061
