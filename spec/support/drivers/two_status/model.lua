--- An interrupt line that two kinds of causes hold: A and B, each cleared by writing ones (an SD host's two status registers);
--- and P, which only its enable bit in SERIAL takes back (ES1370). RAISE_x sets causes.
local bit = require "bit"

local model = { pci = { vendor = 0x1234, device = 0x4713 }, vectors = 1, regions = { [0] = { size = 0x1000 } } }

local A, B, RAISE_A, RAISE_B, SERIAL, P, RAISE_P = 0, 4, 8, 12, 16, 20, 24
local ENABLE = 0x200

function model.reset(dev) dev.value = { [A] = 0, [B] = 0, [SERIAL] = 0x42ff, [P] = 0 } end

local function line(dev)
  if dev.value[A] ~= 0 or dev.value[B] ~= 0 or dev.value[P] ~= 0 then dev:raise() else dev:lower() end
end

function model.read(dev, offset) return dev.value[offset] or 0 end

function model.write(dev, offset, _, value)
  if offset == A or offset == B then
    dev.value[offset] = bit.band(dev.value[offset], bit.bnot(value)) % 2 ^ 32
  elseif offset == RAISE_A or offset == RAISE_B then
    dev.value[offset - RAISE_A] = bit.bor(dev.value[offset - RAISE_A], value) % 2 ^ 32
  elseif offset == SERIAL then
    dev.value[SERIAL] = value
    if bit.band(value, ENABLE) == 0 then dev.value[P] = 0 end
  elseif offset == RAISE_P then
    if bit.band(dev.value[SERIAL], ENABLE) ~= 0 then dev.value[P] = value end
  end
  line(dev)
end

return model
