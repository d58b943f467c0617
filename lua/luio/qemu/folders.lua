--- `qemu.lua` of a driver's folder: how each of QEMU's devices that the driver drives is wired up, so that `luio run DRIVER qemu:X` needs
--- no `--qemu`.
---
---     return {
---       nvme = {
---         serial = "luio",                                -- a property of the device
---         drive = { scratch = "64M" },                    -- a property that names a disk: an image (luio.qemu.scratch)
---       },
---       e1000e = {
---         netdev = { "-netdev", "hubport,hubid=0" },      -- a property that names another back end: QEMU's option for it, without its id
---       },
---       ["qemu-xhci"] = { "-device", "usb-kbd" },         -- arguments that follow the device
---       edu = {},                                         -- nothing: the driver is for it
---     }
---
--- The file is data: it is read as text, and consists of literals (luio.text.literal). QEMU's arguments can write files and start
--- programs, so it is taken only where the driver itself would be: from the folders of luio.driver.paths, or beside a driver's file that
--- the user named, if nobody else could have written it (luio.host.trust).
---
--- The driver that is to be started comes first, if its file has the device; else the drivers in the order of their names do.

local errors = require "luio.errors"
local literal = require "luio.text.literal"
local paths = require "luio.driver.paths"
local trust = require "luio.host.trust"
local uv = require "luv"

local M = {}

--- What a device gets. Keys are properties: a plain value, { OPTION, TEXT } of a back end, or { scratch = SIZE }. The strings without
--- keys are arguments that follow the device.
---@alias luio.QemuWiring table<string|integer, string|number|boolean|table>

local LARGEST_DISK = 2 ^ 44
local UNITS = { [""] = 1, K = 2 ^ 10, M = 2 ^ 20, G = 2 ^ 30 }

--- The bytes of "64M"; nil: it is no size of whole sectors.
---@param text any
---@return integer?
function M.size(text)
  local number, unit = tostring(text):match "^(%d+)([KMG]?)$"
  local bytes = number and #number <= 14 and tonumber(number) * UNITS[unit]
  return bytes and bytes > 0 and bytes % 512 == 0 and bytes <= LARGEST_DISK and bytes or nil
end

-- ---- One file ------------------------------------------------------------------------------------

local FORMS = "a string, a number, a boolean, { \"-netdev\", \"hubport,hubid=0\" }, or { scratch = \"64M\" }"

-- Whether a property's value has one of the forms.
local function fits(value)
  if type(value) ~= "table" then return true end
  if value.scratch ~= nil then return M.size(value.scratch) ~= nil and next(value, next(value)) == nil end
  local option, text = value[1], value[2]
  return type(option) == "string" and option:match "^%-%l" and type(text) == "string" and not value[3] and next(value, 2) == nil
end

local function fault(devices)
  for device, wiring in pairs(devices) do
    if type(device) ~= "string" or not device:match "^[%w_.%-]+$" then
      return ("%s is no name of a device of QEMU's"):format(errors.text(device))
    elseif type(wiring) ~= "table" then
      return ("%s is a table of properties, not %s"):format(device, errors.text(wiring))
    end
    for key, value in pairs(wiring) do
      if type(key) == "number" and type(value) ~= "string" or type(key) ~= "number" and type(key) ~= "string" then
        return ("%s: an argument of QEMU's is a string, not %s"):format(device, errors.text(value))
      elseif type(key) == "string" and not key:match "^[%w_.%-]+$" then
        return ("%s: %s is no name of a property"):format(device, errors.text(key))
      elseif type(key) == "string" and not fits(value) then
        return ("%s.%s is %s"):format(device, key, FORMS)
      end
    end
  end
end

-- The devices of a file; nil and why not; nil alone: there is none.
local function read(path)
  local stat = uv.fs_stat(path) -- opening a FIFO would wait for its other end
  local f = stat and stat.type == "file" and io.open(path)
  if not f then return nil, stat and ("%s can't be read"):format(paths.shown(path)) or nil end
  local text = f:read "*a"
  f:close()
  local devices, why = literal.returned(text or "")
  why = why or fault(devices)
  if why then return nil, ("%s: %s"):format(paths.shown(path), why) end
  return devices
end

-- Beside a driver's file that was named. One that others could have written is none, and that is said.
local function beside(file)
  local path = file:match "^(.*/)[^/]*$" or ""
  path = path .. "qemu.lua"
  if not uv.fs_stat(path) then return nil end
  local ours, reason = trust.file(path, trust.writers(uv.fs_realpath(file) or file))
  if not ours then return nil, ("%s is not taken, because %s"):format(paths.shown(path), reason) end
  return path
end

-- ---- All of them ---------------------------------------------------------------------------------

--- The wiring of a device.
---@param device string   QEMU's name for it
---@param driver string?  the driver that is to be started: its name, its folder or its file; its own file comes first
---@return luio.QemuWiring?
---@return string? from    the file; without a wiring: what is wrong with a file that may have it
function M.of(device, driver)
  local problem
  if driver then
    local file = paths.find(driver, "init")
    local path, why = nil, nil
    if file then path, why = beside(file) end
    local devices
    if path then devices, why = read(path) end
    if why then return nil, why end
    if devices and devices[device] then return devices[device], paths.shown(path) end
  end
  for _, name in ipairs(paths.names "qemu") do
    local path = paths.find(name, "qemu")
    local devices, why = nil, nil
    if path then devices, why = read(path) end
    if devices and devices[device] then return devices[device], paths.shown(path) end
    problem = problem or why
  end
  return nil, problem
end

--- The drivers for QEMU's devices, by the devices' names: the first by name for each.
---@return table<string, string> drivers
---@return string[] problems  files that can't be read
function M.drivers()
  local drivers, problems = {}, {}
  for _, name in ipairs(paths.names "qemu") do
    local path = paths.find(name, "qemu")
    local devices, why = nil, nil
    if path then devices, why = read(path) end
    if why then table.insert(problems, why) end
    for device in pairs(devices or {}) do drivers[device] = drivers[device] or name end
  end
  return drivers, problems
end

return M
