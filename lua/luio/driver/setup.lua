--- Sets up the interrupts and DMA of a driver's table on a device, before the driver's own `start`.

local irq = require "luio.irq"
local vectors = require "luio.device.vectors"
local top_half = require "luio.top_half"

local M = {}

--- The top halves that a driver states, by vector number.
---@param driver table
---@return table<integer, table>
function M.top_halves(driver)
  if not driver.irq then return {} end
  for key in pairs(driver.irq) do
    if type(key) == "number" then return driver.irq end
  end
  return { [0] = driver.irq }
end

--- The interrupts that a driver needs: what it says, or one for each of its top halves.
---@param driver table
---@return luio.VectorsWanted?  nil: any
function M.needs(driver)
  local most = 0
  for vector in pairs(M.top_halves(driver)) do
    if type(vector) == "number" then most = math.max(most, vector + 1) end
  end
  return driver.vectors or most > 1 and most or nil
end

-- The error of a top half, before any is started; otherwise nil, and the resolved top half.
local function top_half_fault(dev, stated)
  local ok, setup = pcall(top_half.resolve, dev, stated)
  if not ok then return setup end
  return top_half.fault(setup), setup
end

--- The top half that a driver states for a vector, as Irq:setup takes it. dev.regs is bound, where it
--- names registers. Touches no register.
---@param driver table
---@param dev luio.Device
---@param vector integer
---@return luio.IrqSetup? setup  nil alone: it states none
---@return string? message
---@return string? code
function M.top_half(driver, dev, vector)
  local stated = M.top_halves(driver)[vector]
  if not stated then return nil end
  local fault, setup = top_half_fault(dev, stated)
  if fault then return nil, ("irq of driver %s: %s"):format(driver.name, fault), "EINVAL" end
  return setup
end

--- Everything that a version needs of its device before its own start: the map, the top halves, DMA. On a
--- reload the threads run on, with their top halves exchanged, and DMA is on already.
---@param driver table
---@param view luio.Device
---@param reason "fresh"|"reload"|"crash"|"returned"
---@return boolean? ok
---@return string? message
---@return string? code
function M.prepare(driver, view, reason)
  local enough, why, why_code = vectors.ensure(view, driver.name, M.needs(driver), reason == "reload")
  if not enough then return nil, why, why_code end
  for vector, stated in pairs(M.top_halves(driver)) do
    local fault, setup = top_half_fault(view, stated)
    if fault then return nil, "irq: " .. fault, "EINVAL" end
    local irq_of = view.irqs[vector]
    local started, m, c
    if irq_of:started() and reason == "reload" then
      started, m, c = true, nil, nil
      if not irq.has(irq_of, setup) then started, m, c = irq.exchange(irq_of, setup) end
    else
      started, m, c = irq_of:setup(setup):start()
    end
    if not started then return nil, m, c end
  end
  -- The previous version may have had more vectors; this one may set up the others itself.
  for vector, one in pairs(view:root_device().irqs) do
    if reason == "reload" and not M.top_halves(driver)[vector] and one:started() then
      local closed, m, c = one:close()
      if not closed then return nil, m, c end
    end
  end
  if driver.dma then
    -- Numbers are exact up to 2^53, and no machine has more memory.
    view.dma.mask = driver.dma.bits and driver.dma.bits <= 53 and 2 ^ driver.dma.bits - 1 or nil
    local on, m, c = view:bus_master(true)
    if not on and c ~= "ENOTSUP" then return nil, m, c end -- platform devices have no such switch
  end
  return true
end

return M
