--- A simulated device that is plain memory with a few registers that behave, and that logs every
--- access to region 0. The log is read back through region 1, so it is what the bus saw.
---
---     local bus = buslog.open()
---     bus:log()       -> { "w32 0x4 0x1", "r32 0x4 0x0", ... } since the last call

local ffi = require "ffi"
local luio = require "luio"
local files = require "spec.support.files"

local M = {}

local MODEL = [[
local ffi = require "ffi"
local bit = require "bit"
local model = { regions = { [0] = { size = 0x1000 }, [1] = { size = 0x100000 } } }
function model.reset(dev)
  dev.mem = ffi.new "uint8_t[0x1000]"
  dev.log = {}
end
local function get(dev, offset, width)
  local v = 0ULL
  for i = width / 8 - 1, 0, -1 do v = v * 256 + dev.mem[offset + i] end
  return v
end
local function set(dev, offset, width, value)
  for i = 0, width / 8 - 1 do
    dev.mem[offset + i] = tonumber(value % 256ULL)
    value = value / 256ULL
  end
end
function model.read(dev, offset, width, region)
  if region == 1 then
    if offset == 0 then
      local n = #dev.log
      return width == 64 and n + 0ULL or n
    end
    local entry = dev.log[math.floor((offset - 8) / 16) + 1]
    return (offset - 8) % 16 == 0 and entry.head or entry.value
  end
  local v = get(dev, offset, width)
  table.insert(dev.log, { head = width * 0x100000000ULL + offset, value = v })
  if offset == 0x100 then set(dev, offset, width, 0ULL) end -- read clears
  return width == 64 and v or tonumber(v)
end
function model.write(dev, offset, width, value, region)
  if region == 1 then dev.log = {} return end
  value = ffi.cast("uint64_t", value)
  table.insert(dev.log, { head = 0x100000000000000ULL + width * 0x100000000ULL + offset, value = value })
  if offset == 0x104 then value = bit.band(get(dev, offset, width), bit.bnot(value)) end -- write 1 clears
  set(dev, offset, width, value)
end
return model
]]

local Bus = {}
Bus.__index = Bus

--- Opens the device.
function M.open()
  local path = files.write("buslog.lua", MODEL)
  return setmetatable({ dev = assert(luio.open("sim:" .. path)) }, Bus)
end

--- The bus accesses to region 0 since the last call.
---@return string[]
function Bus:log()
  local log, list = self.dev.regions[1], {}
  for i = 0, tonumber(log:read64(0)) - 1 do
    local head, value = log:read64(8 + i * 16), log:read64(16 + i * 16)
    local verb = head >= 0x100000000000000ULL and "w" or "r"
    list[i + 1] = ("%s%d 0x%x %s"):format(verb, tonumber(head / 0x100000000ULL % 256), tonumber(head % 0x100000000ULL),
      "0x" .. (require("bit").tohex(value, 16):gsub("^0+(%x)", "%1")))
  end
  log:write8(0, 0)
  return list
end

--- Sets memory without a trace of it in the log.
function Bus:poke(offset, width, value)
  self.dev.regions[0]["write" .. width](self.dev.regions[0], offset, value)
  self:log()
end

--- Binds a map.
function Bus:bind(spec)
  return assert(luio.bind(luio.registers(spec), self.dev))
end

function Bus:close()
  assert(self.dev:close())
  files.clean()
end

M.u64 = ffi.typeof "uint64_t"

return M
