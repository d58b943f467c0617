--- Detects a current interrupt storm of a device: the acknowledgement does not clear its line.
---
--- Two files in sysfs are read, and nothing of the device is opened: UIO's count of interrupts, and the status register in config
--- space, which shows the line. A served device releases its line again and again. In a storm the line is held at each of many
--- looks while interrupts are counted. The count alone does not show a storm, because luio throttles one (runtime/storm.c). Off PCI
--- there is only the count, and a high one is only a suspicion.

local holders = require "luio.host.holders"
local inspect = require "luio.host.inspect"
local now = require("luio.ffi").now
local output = require "luio.tool.output"
local sysfs = require "luio.host.sysfs"
local uv = require "luv"

local M = {}

local LOOKS, PAUSE = 20, 20 -- and milliseconds between them: 0.4 s
local FEW = 5 -- looks, after which at least one interrupt was counted
local RATE = 2000 -- interrupts a second that are worth a question

local function events(info)
  return sysfs.whole(sysfs.word(("/sys/class/uio/%s/event"):format(info.uio)))
end

-- Interrupts a second over all looks; nil when one says that it is no storm.
local function watch(info, goes_on)
  local first, began = events(info), now()
  for i = 1, LOOKS do
    if not first or not goes_on(first, began) or i > FEW and events(info) == first then return nil end
    uv.sleep(PAUSE)
  end
  local last = events(info)
  return last and (last - first) % 2 ^ 32 / (now() - began)
end

-- The acknowledgement by luio's driver, and the driver's process.
local function responsible(at)
  local words = {}
  for _, holder in ipairs((holders.of(at.info))) do
    if holder.drives then table.insert(words, holders.describe(holder)) end
  end
  local driver = at.driver
  if driver and driver.top_half then table.insert(words, ("luio's driver %s %s"):format(driver.name, driver.top_half)) end
  return words[1] and "; " .. table.concat(words, "; ") or ""
end

--- Adds a finding where there is a storm.
---@param say fun(check: string, status: string, text: string, remedy: string?)
---@param at luio.DoctorContext
function M.check(say, at)
  local info = at.info
  if not info.uio then return end
  if at.config and info.driver == "uio_pci_generic" then
    local rate = watch(info, function()
      local config = inspect.config(info)
      return config and config.answers and config.interrupts
    end)
    if not rate then return end
    return say("storm", "problem", ("an interrupt storm: %d interrupts/s, and at each of %s it held its line: what is done about them "
      .. "does not take it back%s"):format(rate, output.count(LOOKS, "look"), responsible(at)))
  end
  local rate = watch(info, function(first, began)
    local seconds = now() - began
    return seconds == 0 or seconds < 2 * PAUSE / 1000 or (events(info) or 0) - first >= RATE * seconds
  end)
  if rate and rate >= RATE then
    say("storm", "note", ("%d interrupts/s: is that its way, or a storm, because what is done about them does not take its line back?%s")
      :format(rate, responsible(at)))
  end
end

return M
