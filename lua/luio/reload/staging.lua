--- Loads a driver's files and runs its `check` with every device out of reach.
---
--- Functions that open, allocate, spawn or wait check luio.loop.loading. Testing a flag in each register access would cost too
--- much, so the regions of open devices are suspended meanwhile.

local loading = require "luio.loop.loading"
local region = require "luio.region"
local watchdog = require "luio.loop.watchdog"

local M = {}

local WHY = loading.WHY

local function each_region(devices, fn)
  for dev in pairs(devices) do
    for _, r in pairs(dev.regions) do fn(r, WHY) end
    for view in pairs(dev.views or {}) do
      for _, r in pairs(view.regions or {}) do fn(r, WHY) end -- its driver may have taken it away
    end
  end
end

-- Calls a function in a coroutine of its own. A yield in it would else be the caller's: the loop went on, with every device
-- out of reach for good.
local function unyielding(fn, ...)
  local thread = coroutine.create(fn)
  local function leave(ok, ...)
    if coroutine.status(thread) == "suspended" then
      local frame = debug.getinfo(thread, 1, "Sl") or { short_src = "?", currentline = 0 }
      error(("%s:%d: coroutine.yield: there is nobody to go on with it"):format(frame.short_src, frame.currentline), 0)
    end
    if not ok then error((...), 0) end
    return ...
  end
  return leave(coroutine.resume(thread, ...))
end

--- Runs a function as the loading of a file.
---@param path string  or what else is run, for messages
---@param devices table<luio.Device, true>  those that are open
---@param fn fun(...): any
---@param ... any
---@return boolean ok
---@return any result  or the error
function M.run(path, devices, fn, ...)
  local before = loading.active
  loading.active = path
  if not before then each_region(devices, function(r, why)
    if not r.stale then region.suspend(r, why) end
  end) end
  local ok, result = watchdog.call(path, nil, unyielding, fn, ...)
  loading.active = before
  if not before then each_region(devices, function(r)
    if r.stale == WHY then region.resume(r) end
  end) end
  return ok, result
end

return M
