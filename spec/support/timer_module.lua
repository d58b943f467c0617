--- The kernel module uio_timer in the guest: loaded and unloaded. spec/guest/specs has built it.

local files = require "spec.support.files"
local sysfs = require "spec.support.sysfs"
local uio_named = require "spec.support.uio_named"
local wait = require "spec.support.wait"

local M = {}

local INSMOD, RMMOD = "/run/luio/bin/insmod", "/run/luio/bin/rmmod"

--- luio's information on its device; nil: there is none.
---@return luio.Info?
function M.find() return uio_named "uio_timer" end

--- Whether it is in the kernel.
---@return boolean
function M.loaded() return sysfs.exists "module/uio_timer" end

--- Loads it, afresh when it is there with other parameters.
---@param parameters string  "records=1024"
---@return luio.Info
function M.load(parameters)
  if M.loaded() then M.unload() end
  local version = files.read "/proc/sys/kernel/osrelease":gsub("%s+$", "")
  local out, status = files.shell(("%s build/modules/%s/uio_timer/uio_timer.ko %s"):format(INSMOD, version, parameters))
  assert(status == 0, out)
  return wait.till(5, "the module's device", M.find)
end

--- Asks the kernel to remove it.
---@return boolean removed
---@return string said
function M.remove()
  local out, status = files.shell(RMMOD .. " uio_timer")
  return status == 0, out
end

--- Removes it.
function M.unload()
  local removed, said = M.remove()
  assert(removed, said)
end

return M
