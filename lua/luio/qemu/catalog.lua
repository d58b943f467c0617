--- What the installed QEMU offers: its version, its devices, the properties of one. A QEMU without a machine is asked by QMP, and ends.
---
--- Names come from QMP. Descriptions, categories and buses are in no answer of QMP's but the text that QEMU prints for `device_add help`;
--- a line of it that is not as expected costs its device these, no more.

local json = require "luio.text.json"
local near = require "luio.registers.near"
local process = require "luio.host.process"
local term = require "luio.text.term"

local M = {}

--- QEMU's program for devices on PCI.
M.PROGRAM = "qemu-system-x86_64"

local ANSWER_S = 60
local PACKAGES = { ["qemu-system-x86_64"] = "qemu-system-x86", ["qemu-system-aarch64"] = "qemu-system-arm" }
--- The first QEMU that has luio's way to devices, `-object qtest`.
M.OLDEST = "6.0"

--- What QEMU calls the bus of PCI devices.
M.PCI = "PCI"

--- The message for a QEMU that is not there; the C runtime's is the same.
---@param program string
---@return string
function M.missing(program)
  return ("start %s: there is no such program: apt install %s"):format(program, PACKAGES[program] or "qemu-system")
end

-- ---- Questions -----------------------------------------------------------------------------------

---@class luio.QemuAnswers
---@field version string  "7.2.22"
---@field [integer] table  `{ ["return"] = ... }` or `{ error = ... }`, for each question

-- QMP's answers to some commands. QEMU may end in the midst of them; then there are fewer.
local function ask(program, questions)
  local lines = { { execute = "qmp_capabilities" } }
  for _, question in ipairs(questions) do table.insert(lines, question) end
  table.insert(lines, { execute = "quit" })
  for i, line in ipairs(lines) do lines[i] = require("dkjson").encode(line) .. "\n" end
  local argv = { program, "-nodefaults", "-no-user-config", "-display", "none", "-M", "none", "-qmp", "stdio" }
  local status, output, code = process.run(argv, ANSWER_S, table.concat(lines), "stdout")
  if not status and code == "ENOENT" then return nil, M.missing(program), "ENOENT" end
  if not status then return nil, output, code end
  local messages = {}
  for line in output:gmatch "[^\n]+" do
    local message = json.decode(line)
    if type(message) == "table" and (message.QMP or message["return"] ~= nil or message.error) then table.insert(messages, message) end
  end
  local version = messages[1] and messages[1].QMP and messages[1].QMP.version.qemu
  if not version or not messages[2] then return nil, ("ask %s for its devices: it ended with status %d"):format(program, status), "EIO" end
  local answers = { version = ("%d.%d.%d"):format(version.major, version.minor, version.micro) }
  for i = 1, #questions do answers[i] = messages[i + 2] end
  return answers
end

local HELP = { execute = "human-monitor-command", arguments = { ["command-line"] = "device_add help" } }

--- A device that QEMU offers.
---@class luio.QemuOffer
---@field name string
---@field alias string?
---@field category string?     "network", as QEMU sorts it: the first of several
---@field description string?
---@field bus string?          "PCI", "usb-bus"
---@field compatible string[]? of a device tree's
---@field several integer?     how many of a device tree's have the name before the "@"

-- "Controller/Bridge/Hub devices:" and lines like `name "ich9-ahci", bus PCI, alias "ahci", desc "..."`, by name.
local function parse(text)
  local devices, category = {}, nil
  for line in text:gmatch "[^\r\n]+" do
    line = term.clean(line)
    local heading, name = line:match "^(%u[^\"]-) devices:$", line:match '^name "([^"]+)"'
    if heading then category = heading:lower() end
    if name and not devices[name] then
      devices[name] = {
        name = name, category = category, bus = line:match '", bus ([^,]+)', alias = line:match ', alias "([^"]+)"',
        description = line:match ', desc "(.*)"$',
      }
    end
  end
  return devices
end

local function text_of(answer)
  local text = answer and answer["return"]
  return type(text) == "string" and text or ""
end

-- ---- The list ------------------------------------------------------------------------------------

--- The PCI devices that the installed QEMU offers, by category and name.
---@return luio.QemuOffer[]?
---@return string message_or_version  of that QEMU
---@return string? code  "ENOENT": there is no QEMU
function M.devices()
  local answers, message, code = ask(M.PROGRAM, {
    { execute = "qom-list-types", arguments = { implements = "pci-device", abstract = false } }, HELP,
  })
  if not answers then return nil, message, code end
  local types = answers[1] and answers[1]["return"]
  if type(types) ~= "table" then return nil, ("ask %s for its devices: it does not list them"):format(M.PROGRAM), "EIO" end
  local known, list = parse(text_of(answers[2])), {}
  local any = next(known) ~= nil -- else all that are there, also those that only a board has
  for _, type_of in ipairs(types) do
    local name = term.clean(tostring(type_of.name))
    if known[name] or not any then table.insert(list, known[name] or { name = name }) end
  end
  table.sort(list, function(a, b)
    if a.category ~= b.category then return (a.category or "~") < (b.category or "~") end
    local x, y = a.name:lower(), b.name:lower()
    if x ~= y then return x < y end
    return a.name < b.name
  end)
  return list, answers.version
end

-- ---- One device ----------------------------------------------------------------------------------

--- What QEMU says of a name that it was given as a device.
---@class luio.QemuName
---@field version string
---@field known luio.QemuOffer?   nil: it has no such device
---@field nearest string?          a device on PCI whose name is near, or the one it is an alias for
---@field properties table<string, string>?  their kinds; nil: it does not tell

--- Asks for a device by name, or by its other name.
---@param name string
---@param program? string
---@return luio.QemuName?
---@return string? message
---@return string? code
function M.look_up(name, program)
  local answers, message, code = ask(program or M.PROGRAM, {
    HELP, { execute = "device-list-properties", arguments = { typename = name } },
  })
  if not answers then return nil, message, code end
  local devices, names = parse(text_of(answers[1])), {}
  local found = { version = answers.version, known = devices[name] }
  for _, device in pairs(devices) do
    if device.alias == name then found.known = device end
    if device.bus == M.PCI then table.insert(names, device.name) end
    if device.bus == M.PCI and device.alias then table.insert(names, device.alias) end
  end
  table.sort(names)
  found.nearest = near.name(name, names)
  local properties = answers[2] and answers[2]["return"]
  if type(properties) ~= "table" then return found end
  found.properties = {}
  for _, property in ipairs(properties) do found.properties[tostring(property.name)] = tostring(property.type) end
  return found
end

return M
