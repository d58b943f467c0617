--- A simulated device with a paged window: PAGE (0x0) selects the registers at 0x40 to 0x7f. Page 3 begins with a FIFO, and
--- each read of it is counted.
---
---     local dev = assert(luio.open(paged.address()))
---     local regs = assert(luio.bind(luio.registers(paged.map()), dev))
---     paged.pops(dev), paged.asked(dev)      -> reads of the FIFO, reads of PAGE

local files = require "spec.support.files"

local M = {}

local MODEL = [[
local model = { regions = { [0] = { size = 0x100 }, [1] = { size = 0x1000 } } }
function model.reset(dev)
  dev.page, dev.pops, dev.asked, dev.mem = 0, 0, 0, {}
end
function model.read(dev, offset, _, region)
  if region == 1 then return offset == 0 and dev.pops or dev.asked end
  if offset == 0 then
    dev.asked = dev.asked + 1
    return dev.page
  end
  if offset < 0x40 then return offset end
  if dev.page == 3 and offset == 0x40 then
    dev.pops = dev.pops + 1
    return dev.pops
  end
  return dev.mem[dev.page * 0x100 + offset] or dev.page * 0x100 + offset
end
function model.write(dev, offset, _, value, region)
  if region == 1 then
    dev.page = value -- behind everybody's back
  elseif offset == 0 then
    dev.page = value % 16
  else
    dev.mem[dev.page * 0x100 + offset] = value
  end
end
return model
]]

--- The model's address.
---@return string
function M.address()
  return "sim:" .. files.write("paged.lua", MODEL)
end

--- The argument of luio.registers.
---@return table
function M.map()
  return {
    PAGE = { 0x0, 32, SELECT = { 3, 0, values = { MAIN = 0, FIFO = 3, EEPROM = 0xc } } },
    ID = { 0x4, 32, "ro" },
    CTRL = { 0x40, 32, when = { ["PAGE.SELECT"] = "MAIN" }, EN = 0, MODE = { 3, 1 } },
    DATA = { 0x40, 32, "ro", read_effect = "pops the FIFO", when = { PAGE = 3 } },
    LEVEL = { 0x44, 32, "ro", when = { PAGE = 3 } },
    EEPROM = { 0x40, when = { ["PAGE.SELECT"] = { "EEPROM", 0xd } }, block = { WORD = { 0, 32, count = 4 }, SIZE = { 0x10, 32 } } },
  }
end

--- How often the FIFO was read.
---@param dev luio.Device
---@return integer
function M.pops(dev)
  return dev.regions[1]:read32(0)
end

--- How often PAGE was read.
---@param dev luio.Device
---@return integer
function M.asked(dev)
  return dev.regions[1]:read32(4)
end

--- Changes the page as another process would.
---@param dev luio.Device
---@param page integer
function M.switch(dev, page)
  dev.regions[1]:write32(0, page)
end

return M
