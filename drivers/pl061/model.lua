--- A model of ARM's GPIO PL061 (ARM DDI 0190). Region 1 is no part of the device. It is the circuit at its pins, for specs: the
--- levels that others drive (0x0), and the levels of the pins (0x4).

local bit = require "bit"
local band, bnot, bor, bxor = bit.band, bit.bnot, bit.bor, bit.bxor

-- Stated again, not taken from the driver's map: a shared mistake would not be seen.
local DIR, IS, IBE, IEV, IE, RIS, MIS, IC, AFSEL = 0x400, 0x404, 0x408, 0x40c, 0x410, 0x414, 0x418, 0x41c, 0x420
local ID, IDS = 0xfe0, { [0] = 0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1 } -- PeriphID 0 to 3, PCellID 0 to 3
local OUTSIDE, PINS = 0x0, 0x4 -- of region 1

local model = {
  vectors = 1,
  regions = { [0] = { size = 0x1000 }, [1] = { size = 0x8 } },
}

function model.reset(dev)
  dev.data, dev.outside = 0, 0 -- the levels that we drive, and that others drive
  dev.seen, dev.edges = 0, 0 -- inputs as they were, and the edges that were seen
  dev.regs = { [DIR] = 0, [IS] = 0, [IBE] = 0, [IEV] = 0, [IE] = 0, [AFSEL] = 0 }
end

local function pins(dev)
  local out = dev.regs[DIR]
  return bor(band(dev.data, out), band(dev.outside, bnot(out), 0xff))
end

local function raw(dev)
  local r = dev.regs
  local right = band(bnot(bxor(pins(dev), r[IEV])), 0xff) -- lines at the level that IEV names
  return bor(band(dev.edges, bnot(r[IS])), band(right, r[IS]))
end

local function update(dev)
  local r, now = dev.regs, pins(dev)
  local changed = band(bxor(now, dev.seen), bnot(r[DIR]), bnot(r[IS]), 0xff)
  dev.seen = now
  dev.edges = bor(dev.edges, band(changed, bor(r[IBE], band(bnot(bxor(now, r[IEV])), 0xff))))
  if band(raw(dev), r[IE]) ~= 0 then dev:raise() else dev:lower() end
end

function model.read(dev, offset, width, region)
  if width ~= 32 then return 0 end
  if region == 1 then return offset == PINS and pins(dev) or dev.outside end
  if offset < 0x400 then return band(pins(dev), offset / 4) end
  if offset == RIS then return raw(dev) end
  if offset == MIS then return band(raw(dev), dev.regs[IE]) end
  return dev.regs[offset] or IDS[(offset - ID) / 4] or 0
end

function model.write(dev, offset, width, value, region)
  if width ~= 32 then return end
  value = band(value, 0xff)
  if region == 1 then
    if offset == OUTSIDE then dev.outside = value end
  elseif offset < 0x400 then
    local mask = band(offset / 4, dev.regs[DIR]) -- outputs take a level, inputs don't
    dev.data = bor(band(dev.data, bnot(mask)), band(value, mask))
  elseif offset == IC then
    dev.edges = band(dev.edges, bnot(value))
  elseif dev.regs[offset] then
    dev.regs[offset] = value
  end
  update(dev)
end

return model
