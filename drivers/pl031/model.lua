--- A model of ARM's real-time clock PL031 (ARM DDI 0224): a free-running counter, an offset, a comparator.

local bit = require "bit"

-- Stated again, not taken from the driver's map: a shared mistake would not be seen.
local DR, MR, LR, CR, IMSC, RIS, MIS, ICR = 0x00, 0x04, 0x08, 0x0c, 0x10, 0x14, 0x18, 0x1c
local ID, IDS = 0xfe0, { [0] = 0x31, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1 } -- PeriphID 0 to 3, PCellID 0 to 3

local model = {
  vectors = 1,
  regions = { [0] = { size = 0x1000 } },
}

function model.reset(dev)
  dev.mr, dev.lr, dev.imsc, dev.ris = 0, 0, 0, 0
  dev.running = false
  dev.zero = dev.now() -- when the counter was 0
  dev.offset = 0
end

local function counter(dev)
  return dev.running and math.floor(dev.now() - dev.zero) or 0
end

local function time(dev)
  return (counter(dev) + dev.offset) % 2 ^ 32
end

local function level(dev)
  if bit.band(dev.ris, dev.imsc) ~= 0 then dev:raise() else dev:lower() end
end

-- Looks again when the counter has gone on to where the comparator finds both equal.
local function compare(dev)
  dev.armed = (dev.armed or 0) + 1 -- timers of before are void
  local armed = dev.armed
  local ahead = (dev.mr - time(dev)) % 2 ^ 32
  if not dev.running then return end
  if ahead == 0 then
    dev.ris = 1
    level(dev)
  else
    local at = dev.zero + counter(dev) + ahead
    dev:after(at - dev.now(), function()
      if armed == dev.armed then compare(dev) end
    end)
  end
end

function model.read(dev, offset, width)
  if width ~= 32 then return 0 end
  if offset == DR then return time(dev) end
  if offset == MR then return dev.mr end
  if offset == LR then return dev.lr end
  if offset == CR then return dev.running and 1 or 0 end
  if offset == IMSC then return dev.imsc end
  if offset == RIS then return dev.ris end
  if offset == MIS then return bit.band(dev.ris, dev.imsc) end
  return IDS[(offset - ID) / 4] or 0
end

function model.write(dev, offset, width, value)
  if width ~= 32 then return end
  if offset == MR then
    dev.mr = value
    compare(dev)
  elseif offset == LR then
    dev.lr = value
    dev.offset = (value - counter(dev)) % 2 ^ 32
    compare(dev)
  elseif offset == CR then
    -- Once it counts only a reset stops it.
    if not dev.running and value % 2 == 1 then
      dev.running, dev.zero = true, dev.now()
      compare(dev)
    end
  elseif offset == IMSC then
    dev.imsc = value % 2
    level(dev)
  elseif offset == ICR then
    dev.ris = 0 -- whatever is written
    level(dev)
  end
end

return model
