--- The back ends of a QEMU device: what a network card is plugged into, the disk behind a controller. Many devices want one, and QEMU
--- refuses some without it.
---
--- A property that the user gave is the user's, by the address ("qemu:nvme,drive=d0") or by -global among QEMU's arguments. The
--- others come from a driver's folder (luio.qemu.folders), which also gives arguments that follow the device, unless the user gave any of
--- his own. When QEMU refuses the device then, what its properties ask for is made for it (`usual`): a disk that reads as zeros, an end
--- of a line that hears nothing.

local folders = require "luio.qemu.folders"
local scratch = require "luio.qemu.scratch"

local M = {}

--- Of every machine: no sound reaches the computer's loudspeakers. It is there unless the user gives an -audiodev of his own.
M.SILENCE = { "-audiodev", "none,id=luio-audiodev" }

-- QEMU's option for a back end, and what stands before its id.
local ID = { ["-blockdev"] = "node-name=" }

-- By the names of properties, of which several may be numbered (chardev1). A text is a value.
local USUAL = {
  drive = { "-blockdev", "driver=null-co,read-zeroes=on,size=67108864" }, -- 64 MiB
  serial = "luio",
  netdev = { "-netdev", "hubport,hubid=0" },
  chardev = { "-chardev", "null" },
  audiodev = "luio-audiodev",
  memdev = { "-object", "memory-backend-ram,size=1048576" },
  cryptodev = { "-object", "cryptodev-backend-builtin" },
  canbus = { "-object", "can-bus" },
  bmc = { "-device", "ipmi-bmc-sim" },
  fsdev = { "-fsdev", "synth" },
  mount_tag = "luio",
}

-- ---- What the user gave --------------------------------------------------------------------------

--- The name and the id that a text has, as -device takes it.
---@param text string
---@return string device
---@return string? id
function M.name(text)
  return text:match "^[^,]*", ("," .. text):match ",id=([^,]+)"
end

-- The properties that a user gave for a device, as keys.
local function given(text, arguments)
  local keys = {}
  local device = text:match "^[^,]*"
  for key in text:gsub(",,", ""):gmatch ",([^,=]+)" do keys[key] = true end
  for i, argument in ipairs(arguments) do
    local owner, key = argument:match "^([^.=]+)%.([^=]+)="
    if arguments[i - 1] == "-global" and owner == device then keys[key] = true end
  end
  return keys
end

local function has_sound(arguments)
  for _, argument in ipairs(arguments) do
    if argument == "-audiodev" or argument == "-audio" then return true end
  end
  return false
end

-- ---- A machine's arguments -----------------------------------------------------------------------

--- The arguments of a machine for one device.
---@class luio.QemuArguments
---@field text string        the device, as -device takes it
---@field id string
---@field before string[]    arguments before it
---@field after string[]     and behind it
---@field added string[]     what `usual` added, as the user would have written it
---@field usual_wiring luio.QemuWiring  the same, as a qemu.lua would have it
---@field images luio.Scratch[]  to be closed when the machine has ended
---@field from string?       the qemu.lua that counted
---@field problem string?    what is wrong with one that might have had the device
---@field package given table<string, boolean>
---@field package prefix string
local Arguments = {}
Arguments.__index = Arguments

-- A comma in a value is written twice.
local function escaped(value)
  if value == true then return "on" elseif value == false then return "off" end
  return (tostring(value):gsub(",", ",,"))
end

local function set(self, key, value)
  self.text = ("%s,%s=%s"):format(self.text, key, escaped(value))
  self.given[key] = true
end

local function back_end(self, key, option, text)
  local id = self.prefix .. "-" .. key
  table.insert(self.before, option)
  table.insert(self.before, ("%s,%s%s"):format(text, ID[option] or "id=", id))
  set(self, key, id)
end

local function disk(self, key, size)
  local image, why = scratch.open(("%s-%s"):format(self.text:match "^[^,]*", key), assert(folders.size(size)))
  if not image then return nil, why, "EIO" end
  table.insert(self.images, image)
  -- The lock on the image is luio's. QEMU's own would stand in the way of a driver that is started again at once.
  back_end(self, key, "-blockdev", ("driver=raw,file.driver=file,file.locking=off,file.filename=%s"):format(escaped(image.path)))
  return true
end

-- The keys of a table that are strings, in order: QEMU's arguments do not depend on chance.
local function sorted_keys(t)
  local keys = {}
  for key in pairs(t) do
    if type(key) == "string" then table.insert(keys, key) end
  end
  table.sort(keys)
  return keys
end

local function wire(self, wiring, users)
  for _, key in ipairs(sorted_keys(wiring)) do
    local value = wiring[key]
    local ok, message, code = true, nil, nil
    if self.given[key] then ok = true
    elseif type(value) ~= "table" then set(self, key, value)
    elseif value.scratch then ok, message, code = disk(self, key, value.scratch)
    else back_end(self, key, value[1], value[2]) end
    if not ok then return nil, message, code end
  end
  for _, argument in ipairs(users[1] and {} or wiring) do table.insert(self.after, argument) end
  return true
end

--- The arguments for a device, by what the user said and a driver's qemu.lua has.
---@param text string      as -device takes it
---@param users string[]   the user's arguments
---@param driver string?   the driver that is to be started
---@return luio.QemuArguments?
---@return string? message
---@return string? code
function M.arguments(text, users, driver)
  local device, id = M.name(text)
  local self = setmetatable({ text = id and text or text .. ",id=luio-device", before = {}, after = {}, added = {},
    usual_wiring = {}, images = {} }, Arguments)
  self.id = id or "luio-device"
  self.given, self.prefix = given(text, users), id or "luio"
  for _, argument in ipairs(has_sound(users) and {} or M.SILENCE) do table.insert(self.before, argument) end
  for _, argument in ipairs(users) do table.insert(self.before, argument) end
  local wiring, from = folders.of(device, driver)
  self.from = wiring and next(wiring) ~= nil and from or nil
  if not wiring then
    if from and driver then return nil, from, "EINVAL" end
    self.problem = from
    return self
  end
  local ok, message, code = wire(self, wiring, users)
  if ok then return self end
  self:close()
  return nil, message, code
end

--- Adds what a device's properties ask for, beyond what it has.
---@param properties table<string, boolean>  the device's, as keys
---@return boolean any  something was added
function Arguments:usual(properties)
  local first = #self.before
  for _, key in ipairs(sorted_keys(properties)) do
    local usual = USUAL[key] or USUAL[key:gsub("%d$", "")]
    if usual and not self.given[key] then
      self.usual_wiring[key] = usual
      if type(usual) == "string" then set(self, key, usual) else back_end(self, key, usual[1], usual[2]) end
      table.insert(self.added, ("%s=%s"):format(key, type(usual) == "string" and usual or self.prefix .. "-" .. key))
    end
  end
  for i = first + 1, #self.before, 2 do table.insert(self.added, ("%s %s"):format(self.before[i], self.before[i + 1])) end
  return self.added[1] ~= nil
end

--- All arguments, the device among them.
---@return string[]
function Arguments:list()
  local list = { unpack(self.before) }
  table.insert(list, "-device")
  table.insert(list, self.text)
  for _, argument in ipairs(self.after) do table.insert(list, argument) end
  return list
end

--- Gives the images back.
function Arguments:close()
  for _, image in ipairs(self.images) do scratch.close(image) end
  self.images = {}
end

return M
