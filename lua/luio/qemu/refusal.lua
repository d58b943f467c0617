--- A device that QEMU refuses. QEMU itself is asked why: whether it has such a device at all, whether that is one for PCI, and whether it
--- wants a back end. A device that does gets the usual one (luio.qemu.backends) and is tried once more; else the message says what to add.
---
--- Nothing is read out of the words of a refusal: they differ from one QEMU to the next, and are only passed on.

local backends = require "luio.qemu.backends"
local catalog = require "luio.qemu.catalog"
local near = require "luio.registers.near"
local settings = require "luio.device.settings"

local M = {}

-- QEMU's own words: without luio's "start qemu-system-x86_64: ", and the argument that it repeats.
local function words(message, arguments)
  message = message:gsub("^start [%w_-]+: ", "")
  local from, to = message:find(arguments.text .. ": ", 1, true)
  if from and message:sub(1, from - 1) == "-device " then message = message:sub(to + 1) end
  return message
end

-- Where a device goes that is not for PCI.
local function elsewhere(found, name)
  local bus = found.known.bus
  local on = bus and ("on a bus of kind %s"):format(bus) or "without a bus"
  local hint = bus == "usb-bus" and "; its controller may have it behind itself: qemu:qemu-xhci --qemu -device --qemu " .. name or ""
  return ("it is %s, and luio opens devices on PCI%s"):format(on, hint)
end

-- A misspelt property's neighbour.
local function property_hint(found, arguments)
  for key in pairs(arguments.given) do
    if found.properties and not found.properties[key] and key ~= "id" and key ~= "bus" then
      return near.hint(key, found.properties)
    end
  end
  return ""
end

local function too_old(program, version)
  return ("start %s: QEMU %s has no `-object qtest`, by which luio reaches its devices: QEMU %s is the first that has it"):format(program,
    version, catalog.OLDEST)
end

-- "6.0" and "7.2.22" as numbers that compare.
local function number(version)
  local major, minor = version:match "^(%d+)%.(%d+)"
  return tonumber(major) * 1000 + tonumber(minor)
end

-- Why QEMU has refused a device, and what to do.
local function explain(found, name, address, said, arguments, program)
  if number(found.version) < number(catalog.OLDEST) then return too_old(program, found.version), "ENOTSUP" end
  if not found.known then
    return ("open %s: QEMU %s: %s%s%s"):format(address, found.version, said,
      found.nearest and (" (did you mean %s?)"):format(found.nearest) or "",
      program == catalog.PROGRAM and "; `luio list --qemu` has its devices" or ""), "ENOENT"
  elseif found.known.bus ~= catalog.PCI then
    return ("open %s: QEMU: %s; %s"):format(address, said, elsewhere(found, name)), "ENODEV"
  end
  return ("open %s: QEMU: %s%s"):format(address, said, property_hint(found, arguments)), "EINVAL"
end

--- Opens a device, a second time with the usual back ends if it is refused without. What was added then is told to
--- settings.on_note.
---@param arguments luio.QemuArguments
---@param program string
---@param address string    for messages
---@param open fun(list: string[]): luio.Device?, string?, string?
---@return luio.Device?
---@return string? message
---@return string? code
function M.try(arguments, program, address, open)
  local dev, message, code = open(arguments:list())
  if dev or code ~= "EINVAL" then return dev, message, code end
  local name = backends.name(arguments.text)
  local found, why, failed = catalog.look_up(name, program)
  if not found then
    if failed == "ENOENT" then return nil, why, failed end
    return nil, ("open %s: QEMU: %s"):format(address, words(message, arguments)), code
  end
  local said = words(message, arguments)
  if found.known and found.known.bus == catalog.PCI and found.properties and arguments:usual(found.properties) then
    dev, message = open(arguments:list())
    if dev then
      if settings.on_note then
        settings.on_note(("%s: QEMU refuses it alone (%s); added: %s"):format(address, said, table.concat(arguments.added, " ")))
      end
      return dev
    end
    local again = words(message, arguments)
    if again ~= said then said = ("%s; with %s: %s"):format(said, table.concat(arguments.added, " "), again) end
  end
  return nil, explain(found, name, address, said, arguments, program)
end

return M
