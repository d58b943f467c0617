--- Holds a device to what its driver expects, whichever way leads to it: the same of a model, a UIO device, a BAR by sysfs, I/O ports
--- and /dev/mem.
---
---     require "spec.backend.conformance" {
---       address = "0000:00:04.0",                       -- for luio.open
---       regions = { [0] = { size = 0x100000, kind = "memory", id = { 0x00, 32, 0x010000ed } } },
---     }
---
--- states the least. Each of these is more of it:
---
---     name = "edu by UIO"      in the specs' names; else the address
---     aliases = { "uio0" }     other names of the same device
---     pci = { vendor, device } it has a config space and a bus master; else both are refused
---     private = true           each opening is another device (models); else a second owner is refused
---     open = function(options) instead of luio.open(address, options)
---     unchanged = function()   what opening and closing must not change: any plain data
---     accesses = function(dev) how many accesses the device has seen: what is refused must be none
---     interrupt = {            it has interrupts; else a wait says at once that there is none
---       setup = {},            the top half (irq:setup)
---       raise = function(dev)  makes one come
---       quiet = function(dev)  nothing comes from now on; the device is left so
---       many = 20,             how many are tried in a row
---       names = { "cause" },   what each event has captured, not 0
---     }
---     only = "life"            just one of the parts: the way has been stated by another device
---     leave = function(dev)    takes the device away ...
---     back = function(dev)     ... and gives it back
---
--- and of a region:
---
---     name = "^map0$"          a pattern for region.name
---     id = { offset, width, value }           a register that never changes; reading it disturbs nothing
---     widths = { 32 }          those its kind has: unless said 8, 16, 32 and, but for ports, 64. Others are errors
---     last = 8                 width of the read that is tried at its very end; false: none is harmless
---     scratch = { { offset = 0x80, widths = { 32, 64 }, back = function(value, width) } }
---                              registers that give back what was written, or what `back` makes of it; left at 0
---     ram = { offset, bytes }  a span that is memory: any width, little-endian here, and no byte beside it
---
--- Each case opens the device anew, and closes it.

local busted = require "busted"
local assert = require "luassert"
local luio = require "luio"

local PARTS = { "identity", "regions", "values", "interrupts", "owners", "life" }

---@class luio.BackendRegion
---@field size integer
---@field kind "memory"|"port"|"sim"|"qemu"
---@field name string?
---@field id { [1]: integer, [2]: integer, [3]: integer }?
---@field widths integer[]?
---@field last integer|false|nil
---@field scratch { offset: integer, widths: integer[], back: (fun(value: any, width: integer): any)? }[]?
---@field ram integer[]?

---@class luio.BackendConformance
---@field address string
---@field name string?
---@field aliases string[]?
---@field regions table<integer, luio.BackendRegion>
---@field pci integer[]?
---@field private boolean?
---@field open (fun(options: luio.OpenOptions?): luio.Device?, string?, string?)?
---@field unchanged (fun(): any)?
---@field accesses (fun(dev: luio.Device): integer)?
---@field interrupt table?
---@field only string?
---@field leave fun(dev: luio.Device)?
---@field back fun(dev: luio.Device)?

---@param subject luio.BackendConformance
return function(subject)
  local open = {}

  --- Opens it, or not.
  function subject.opened(options)
    if subject.open then return subject.open(options) end
    return luio.open(subject.address, options)
  end

  --- Opens it for this case.
  function subject.take(options)
    local dev = assert(subject.opened(options))
    table.insert(open, dev)
    subject.pattern = dev.address:gsub("%p", "%%%0") -- in messages
    return dev
  end

  busted.describe(("a device by its driver's eyes, %s:"):format(subject.name or subject.address), function()
    busted.before_each(function() open = {} end)
    busted.after_each(function()
      for _, dev in ipairs(open) do assert(dev:close()) end
    end)
    for _, part in ipairs(PARTS) do
      if subject.only == nil or subject.only == part then require("spec.backend.conformance." .. part)(subject) end
    end
  end)
end
