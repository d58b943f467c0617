--- Memory, but for the registers that do something. Reading CAUSE or FIFO counts up what LOST (0x3c, in no
--- map) says, so that a spec sees whether somebody looked.
local ffi = require "ffi"

local model = { pci = { vendor = 0x1234, device = 0x4711 }, vectors = 0, regions = { [0] = { size = 0x200 }, [2] = { size = 0x10 } } }

function model.reset(dev)
  dev.memory = { [0] = ffi.new("uint8_t[?]", 0x200), [2] = ffi.new("uint8_t[?]", 0x10) }
  dev.memory[0][0], dev.memory[0][4] = 0x10, 0x03
  dev.lost, dev.start = 0, dev.now()
end

local function at(dev, region, offset, width)
  return ffi.cast(("uint%d_t *"):format(width), dev.memory[region] + offset)
end

function model.read(dev, offset, width, region)
  if region == 0 and (offset == 0x08 or offset == 0x0c) then dev.lost = dev.lost + 1 end
  if region == 0 and offset == 0x3c then return dev.lost end
  if region == 0 and offset == 0x14 then return math.floor((dev.now() - dev.start) * 100) % 16 end -- each value again and again
  return at(dev, region, offset, width)[0]
end

function model.write(dev, offset, width, value, region)
  local p = at(dev, region, offset, width)
  if region == 0 and offset == 0x04 then -- bits 0 and 1 are write-1-to-clear
    local bits = require "bit"
    p[0] = bits.bor(bits.band(p[0], bits.band(3, bits.bnot(value))), bits.band(value, 0xf00))
  else
    p[0] = value
  end
end

return model
