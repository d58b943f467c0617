--- Raises an interrupt a moment after the last was acknowledged, on the model's thread: nothing that Lua
--- does on the driver's side holds it up.
local model = { pci = { vendor = 0x1234, device = 0x4712 }, vectors = 1, regions = { [0] = { size = 0x1000 } } }

local PAUSE = 50e-6

function model.reset(dev) dev.sequence, dev.run, dev.high = 0, 0, false end

local function fire(dev)
  if dev.run == 0 or dev.high then return end
  dev.sequence, dev.high = dev.sequence + 1, true
  dev:raise()
end

function model.read(dev, offset)
  return offset == 0 and dev.sequence or offset == 8 and dev.run or 0
end

function model.write(dev, offset, _, value)
  if offset == 8 then
    dev.run = value
    fire(dev)
  elseif offset == 4 and value == dev.sequence and dev.high then
    dev.high = false
    dev:lower()
    dev:after(PAUSE, fire)
  end
end

return model
