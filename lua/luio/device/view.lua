--- A view: another handle of an open device, for one version of its driver.
---
--- It has regions, interrupts, registers, config space and state of its own, so that they can be made stale when the version is
--- replaced. The memory, the rings and the warnings are the device's. A view passes operations of the whole device on to it
--- (closing, going away, warnings). `dev:root_device()` is the device for a device and for a view alike.

local config = require "luio.config"
local core = require "luio.device.core"
local dma = require "luio.dma"
local region = require "luio.region"

local M = {}

--- A device as one version of its driver has it: stale after that version was replaced.
---@class luio.DeviceView: luio.Device
---@field package root luio.Device
local View = setmetatable({}, { __index = core.Device })
View.__index, View.__tostring = View, core.Device.__tostring

--- The device that was opened, of which this is a view.
---@return luio.Device
function View:root_device() return self.root end

-- The device's own: a view has none of it.
for _, name in ipairs { "warn", "vanish", "retake" } do
  View[name] = function(self, ...) return self.root[name](self.root, ...) end
end

--- As of a device; an error in a version's `start`, and of a version that was replaced.
---@return boolean? ok
---@return string? message
---@return string? code
function View:close()
  if self.stale then error(("close %s: %s"):format(self.address, self.stale), 2) end
  local root = self.root
  if root.live and root.live.reloading and self.version and self.version.phase == "start" then
    error(("close %s in start, which is called on a device that is in use: return nil and a message if it can't go on"):format(
      self.address), 2)
  end
  return root:close()
end

--- Another handle of the same device, for one version of its driver: with regions, interrupts, registers
--- and state of its own, so that they can be made stale; the memory, the rings and the warnings are the
--- device's.
---@param dev luio.Device
---@return luio.Device
function M.new(dev)
  local root = dev:root_device()
  local self = setmetatable({
    address = root.address, info = core.own_info(root.info), read_only = root.read_only, state = {}, warnings = root.warnings,
    handle = root.handle, gone = root.gone, gone_why = root.gone_why, gone_code = root.gone_code, root = root,
    sim = root.sim, qemu = root.qemu,
    repairs = root.repairs, on_interrupt = root.on_interrupt, failure = root.failure,
  }, View)
  core.add_parts(self, function(vector) return root.irqs[vector].source end)
  self.dma, self.config = dma.view(root.dma, self), config.new(self)
  root.views[self] = true
  return self
end

--- Makes a view useless, or usable again (nil).
---@param view luio.Device
---@param why string?
function M.set_stale(view, why)
  view.stale = why
  for _, r in pairs(view.regions or {}) do -- its driver may have taken it away
    if why then region.suspend(r, why) else region.resume(r) end
  end
end

return M
