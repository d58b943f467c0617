--- In the guest: puts it to sleep, so many times, in the middle of a transfer. The host wakes it.

package.path = package.path .. ";./?.lua" -- started from the checkout
local files = require "spec.support.files"
local luio = require "luio"
local sysfs = require "spec.support.sysfs"
local work = require "spec.guest.machine.work"

local TIMES = tonumber(arg[1])

-- The button that wakes it may have been pressed a moment too early.
local function sleep()
  for _ = 1, 20 do
    if pcall(files.save, "/sys/power/state", "freeze") then return end
  end
  error "the guest does not go to sleep"
end

work.run(function()
  local w = work.start()
  local dev, losses, came = w.dev, 0, 0
  local buffer = assert(dev.dma:alloc(64))
  for i = 1, TIMES do
    w:works()
    local before = dev.repairs.bus_master
    -- It takes 100 ms, so it ends in the sleep or after it: its interrupt comes in any case.
    local transfer = luio.spawn(function() return dev.driver.from_device(dev, buffer, 14) end)
    luio.sleep(i % 4 * 0.03)
    print(("[sleep %d]"):format(i))
    sleep()
    print(("[awake %d]"):format(i))
    if not sysfs.has(work.EDU, sysfs.BUS_MASTER) then losses = losses + 1 end
    local _, ended = assert(transfer:join(200))
    if ended then came = came + 1 end
    w:works()
    assert(dev.repairs.bus_master > before, "bus master was not lost, or that was not noticed")
  end
  local _, lost = w:counted()
  local text = table.concat(w.said, "\n") .. "\n" .. w.program:text()
  local _, asleep = text:gsub("the machine was asleep", "")
  local _, others = text:gsub("by another process", "")
  print(("[losses %d, transfers ended %d, not whole elsewhere %d, asleep %d, others %d]"):format(losses, came, lost, asleep, others))
  w:close()
end)
