--- A model of the kernel module uio_timer (examples/kernel/uio_timer/uio_timer.c): it behaves as a driver can see the module
--- behave. Two things are otherwise, because a model stands for a device and not for its kernel driver. It does not see whether
--- its interrupt is masked: the timer runs from when PERIOD_NS is written, until that is 0. And the interrupt is masked after
--- each, as uio_pci_generic does it: the driver unmasks before it sleeps.

local bit = require "bit"
local ffi = require "ffi"

-- Stated again, not taken from the driver's map: a shared mistake would not be seen.
local ID, VERSION, PERIOD_NS, MIN_PERIOD_NS, NOTIFY, RECORDS, RECORD_SIZE, STATUS = 0x00, 0x04, 0x08, 0x0c, 0x10, 0x14, 0x18, 0x1c
local HEAD, DROPPED, MISSED, NOTIFIED, TAIL, WAKE_AT = 0x00, 0x04, 0x08, 0x0c, 0x80, 0x84
local ASKED = 1
local PAGE, COUNT, SIZE = 4096, 1024, 32
local LEAST = 100000 -- ns: Lua on a thread of its own is no faster than this
local WRAP = 2 ^ 32

local model = {
  vectors = 1,
  regions = { [0] = { size = PAGE }, { size = PAGE }, { size = COUNT * SIZE } },
}

local kinds = {}
for _, width in ipairs { 8, 16, 32, 64 } do kinds[width] = ffi.typeof(("uint%d_t *"):format(width)) end

local function word(dev, region, offset, width)
  return ffi.cast(kinds[width or 32], dev.memory[region] + offset)
end

function model.reset(dev)
  dev.memory = {}
  for i = 0, 2 do dev.memory[i] = ffi.new("uint8_t[?]", model.regions[i].size) end
  dev.number, dev.counts, dev.run = 0, { [HEAD] = 0, [DROPPED] = 0, [MISSED] = 0, [NOTIFIED] = 0 }, 0
  for offset, value in pairs { [ID] = 0x726d6974, [VERSION] = 1, [MIN_PERIOD_NS] = LEAST, [RECORDS] = COUNT, [RECORD_SIZE] = SIZE } do
    word(dev, 0, offset)[0] = value
  end
end

-- The model's own counter, and the part of it that software sees.
local function count(dev, which, by)
  dev.counts[which] = (dev.counts[which] + by) % WRAP
  word(dev, 1, which)[0] = dev.counts[which]
end

local function put(dev, record)
  if (dev.counts[HEAD] - word(dev, 1, TAIL)[0]) % WRAP >= COUNT then
    count(dev, DROPPED, 1)
    return false
  end
  local at = bit.band(dev.counts[HEAD], COUNT - 1) * SIZE
  for i, value in ipairs(record) do word(dev, 2, at + (i - 1) * 8, 64)[0] = value end
  count(dev, HEAD, 1)
  return true
end

local function now_ns(dev)
  return math.floor(dev.now() * 1e9)
end

local function schedule(dev, fn)
  dev:after(math.max(0, dev.due - now_ns(dev)) / 1e9, fn)
end

-- `run` tells a timer that was stopped meanwhile.
local function interrupt(dev, run)
  if run ~= dev.run then return end
  local now, period = now_ns(dev), math.max(word(dev, 0, PERIOD_NS)[0], LEAST)
  local due, periods = dev.due, math.floor((now - dev.due) / period) + 1
  dev.due = due + periods * period
  schedule(dev, function() interrupt(dev, run) end)
  local there = put(dev, { dev.number, now, due, periods })
  dev.number = dev.number + 1
  if periods > 1 then count(dev, MISSED, periods - 1) end
  local asked = word(dev, 0, NOTIFY)[0] == ASKED
  if asked and not (there and word(dev, 1, WAKE_AT)[0] == dev.counts[HEAD]) then return end
  count(dev, NOTIFIED, 1)
  dev:pulse() -- the kernel has acknowledged by the time that anybody is woken
end

function model.read(dev, offset, width, region)
  local value = word(dev, region, offset, width)[0]
  return width == 64 and value or tonumber(value)
end

function model.write(dev, offset, width, value, region)
  word(dev, region, offset, width)[0] = value
  if region ~= 0 or offset ~= PERIOD_NS then return end
  local running = word(dev, 0, STATUS)
  if value == 0 then
    dev.run, running[0] = dev.run + 1, 0
  elseif running[0] == 0 then
    running[0] = 1
    dev.due = now_ns(dev) + math.max(value, LEAST)
    local run = dev.run
    schedule(dev, function() interrupt(dev, run) end)
  end
end

return model
