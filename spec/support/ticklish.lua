--- A simulated device that counts the reads of bytes which a spec says must not be read.
---
---     local dev = luio.open(ticklish.address())   regions 0 and 2 are memory, 0x100 bytes each
---     local bus = ticklish.watch(dev)
---     bus:mark { [0] = { [0x10] = true } }
---     bus:disturbed()                        -> 2, "0:0x10": how many reads met a marked byte, and where the last was
---     bus:reads()                            -> how many there were at all

local files = require "spec.support.files"

local M = {}

M.SIZE = 0x100
M.SELECTOR = 0xf8 -- a byte: which further bytes must not be read now

local MODEL = [[
local ffi = require "ffi"
local SIZE = 0x100
local model = { regions = { [0] = { size = SIZE }, [1] = { size = 0x1000 }, [2] = { size = SIZE } } }
function model.reset(dev)
  dev.mem = { [0] = ffi.new("uint8_t[?]", SIZE), [2] = ffi.new("uint8_t[?]", SIZE) }
  dev.marked, dev.pages = { [0] = {}, [2] = {} }, {}
  dev.met, dev.last, dev.reads = 0, 0, 0
end
function model.read(dev, offset, width, region)
  if region == 1 then return offset == 0 and dev.met or offset == 4 and dev.last or dev.reads end
  local v = 0ULL
  local page = region == 0 and dev.pages[tonumber(dev.mem[0][0xf8]) ] or {}
  for i = width / 8 - 1, 0, -1 do
    v = v * 256 + dev.mem[region][offset + i]
    if dev.marked[region][offset + i] or page[offset + i] then dev.met, dev.last = dev.met + 1, region * 0x1000 + offset + i end
  end
  dev.reads = dev.reads + 1
  return width == 64 and v or tonumber(v)
end
function model.write(dev, offset, width, value, region)
  if region == 1 then
    if offset == 0 then
      dev.marked, dev.pages = { [0] = {}, [2] = {} }, {}
      dev.met, dev.reads = 0, 0
    elseif offset >= 0xc00 then
      dev.pages[value] = dev.pages[value] or {}
      dev.pages[value][offset % 0x400] = true
    else
      dev.marked[offset >= 0x800 and 2 or 0][offset % 0x400] = true
    end
    return
  end
  value = ffi.cast("uint64_t", value)
  for i = 0, width / 8 - 1 do
    dev.mem[region][offset + i] = tonumber(value % 256ULL)
    value = value / 256ULL
  end
end
return model
]]

---@class spec.Ticklish
---@field bus luio.Region  by which the model is told, and tells
local Bus = {}
Bus.__index = Bus

--- The model's address.
---@return string
function M.address()
  return "sim:" .. files.write("ticklish.lua", MODEL)
end

--- Watches over a device that is open.
---@param dev luio.Device  of that address
---@return spec.Ticklish
function M.watch(dev)
  return setmetatable({ bus = dev.regions[1] }, Bus)
end

--- Says which bytes must not be read; counts from 0.
---@param bytes table  region -> offset -> true; pages = value of the selector's byte -> region 0 -> offset -> true
function Bus:mark(bytes)
  self.bus:write32(0, 0)
  for page, list in pairs(bytes.pages or {}) do
    for offset in pairs(list[0]) do self.bus:write8(0xc00 + offset, page) end
  end
  for region, list in pairs { [0] = bytes[0], [2] = bytes[2] } do
    for offset in pairs(list) do self.bus:write8((region == 2 and 0x800 or 0x400) + offset, 1) end
  end
end

--- How many marked bytes were read, and which was the last.
---@return integer
---@return string
function Bus:disturbed()
  local last = self.bus:read32(4)
  return self.bus:read32(0), ("%d:0x%x"):format(math.floor(last / 0x1000), last % 0x1000)
end

--- How many reads there were.
---@return integer
function Bus:reads()
  return self.bus:read32(8)
end

return M
