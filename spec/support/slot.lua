--- A hot-plug slot of the guest's, and its operator: the root port is QEMU's `bus`, the slot the kernel's. It works for
--- the PCIe ports' own hot-plug (pciehp) and for the firmware's (acpiphp).
---
---     local slot = slots.below("0000:01:00.0", { driver = "edu", id = "edu2", bus = "rp" })
---     slot:power_off()      -- orderly, by the kernel; QEMU ejects the device of a slot without power
---     slot:plug()
---     slot:press()          -- the attention button: PCIe waits 5 s in case that it is pressed again

local json = require "dkjson"
local qmp = require "spec.support.qmp"
local sysfs = require "spec.support.sysfs"
local wait = require "spec.support.wait"

local M = {}

---@class Slot
---@field address string  of the device
---@field name string     of the slot in sysfs
local Slot = {}
Slot.__index = Slot

local function name_of(address)
  local where = address:match "^(.*)%."
  for _, name in ipairs(require("luio.host.sysfs").entries "/sys/bus/pci/slots") do
    if sysfs.read(("bus/pci/slots/%s/address"):format(name)) == where then return name end
  end
  error("no slot for " .. address)
end

---@param address string
---@param device table  what QEMU's device_add takes
---@return Slot
function M.below(address, device)
  return setmetatable({ address = address, device = device, name = name_of(address) }, Slot)
end

---@return boolean
function Slot:taken() return sysfs.exists("bus/pci/devices/" .. self.address) end

--- Takes the device out, through the kernel.
function Slot:power_off()
  sysfs.write(("bus/pci/slots/%s/power"):format(self.name), "0")
  wait.till(20, "the slot is empty", function() return not self:taken() end)
end

--- Takes the device out, as somebody does who presses the slot's button.
function Slot:press()
  qmp.tell(json.encode { execute = "device_del", arguments = { id = self.device.id } })
  wait.till(30, "the slot is empty", function() return not self:taken() end)
end

--- Puts the device in. QEMU refuses while it has not heard that the slot is empty, which the kernel knows earlier.
function Slot:plug()
  for _ = 1, 100 do
    qmp.tell(json.encode { execute = "device_add", arguments = self.device })
    if wait.poll(2, function() return self:taken() end) then return end
  end
  error(("%s was not plugged in within 200 s"):format(self.address))
end

return M
