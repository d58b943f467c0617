--- Hot-plug: UIO and PCI devices that are added, removed, bound and unbound, as events.

local fd_watch = require "luio.loop.fd_watch"
local ffi = require "ffi"
local uv = require "luv"
local runtime = require "luio.ffi"
local C, err = runtime.C, runtime.err

local M = {}

--- A device that has come or gone.
---@class luio.HotplugEvent
---@field action "add"|"remove"|"bind"|"unbind"|"change"
---@field subsystem "uio"|"pci"
---@field address string  "uio0", "0000:00:04.0"
---@field driver string?
---@field time number     seconds on luio.now()'s clock

--- Watches for devices that come and go.
---@class luio.Monitor
local Monitor = {}
Monitor.__index = Monitor

--- Starts to listen. Events from now on are kept until they are taken.
---@return luio.Monitor?
---@return string? message
---@return string? code
function M.open()
  local out = ffi.new "luio_monitor *[1]"
  if C.luio_monitor_open(out, err) < 0 then return runtime.failure() end
  local handle = ffi.gc(out[0], C.luio_monitor_close)
  local watch, message, code = fd_watch.watch(C.luio_monitor_fd(handle))
  if not watch then return nil, message, code end
  return setmetatable({ handle = handle, watch = watch, raw = ffi.new "luio_hotplug" }, Monitor)
end

--- Waits for an event.
---@param seconds number
---@return luio.HotplugEvent?
---@return string? message
---@return string? code  "ETIMEDOUT"; "ENOBUFS": some were lost, list again; "ECANCELED": closed meanwhile
function Monitor:wait(seconds)
  if not self.handle then error("the monitor is closed", 2) end
  local deadline = uv.hrtime() + seconds * 1e9
  while true do
    local raw = self.raw
    local n = C.luio_monitor_next(self.handle, raw, err)
    if n < 0 then return runtime.failure() end
    if n > 0 then
      local driver = ffi.string(raw.driver)
      return {
        action = ffi.string(raw.action), subsystem = ffi.string(raw.subsystem), address = ffi.string(raw.address),
        driver = driver ~= "" and driver or nil, time = tonumber(raw.time_ns) / 1e9,
      }
    end
    local ok, message, code = self.watch:readable(math.max(0, (deadline - uv.hrtime()) / 1e9))
    if code == "ETIMEDOUT" then return nil, ("no device came or went within %g s"):format(seconds), code end
    if not ok and code ~= "EBADF" then return nil, message, code end -- of EBADF the next call says more
  end
end

--- Stops listening. Idempotent.
function Monitor:close()
  if not self.handle then return end
  self.watch:close()
  C.luio_monitor_close(ffi.gc(self.handle, nil))
  self.handle = nil
end

return M
