--- QEMU's devices without a guest: `qemu:edu` starts a machine that has QEMU's edu, and opens it.
---
--- `qemu:/path/of/socket` takes a machine that runs: luio.qemu.attach.
---
--- The runtime starts QEMU and makes the accesses (runtime/qemu.c). This module chooses its arguments; luio.qemu.machine is the machine
--- that comes of them, `dev.qemu`. luio.qemu.backends connects the device to what it wants, luio.qemu.refusal does what can be done when
--- QEMU refuses it.

local ffi = require "ffi"
local backends = require "luio.qemu.backends"
local loading = require "luio.loop.loading"
local machine = require "luio.qemu.machine"
local refusal = require "luio.qemu.refusal"
local settings = require "luio.device.settings"
local virt = require "luio.qemu.virt"

local M = {}

local PC = { PROGRAM = "qemu-system-x86_64", MACHINE = "q35" }
local MEMORY = 256 * 1024 * 1024

--- Seconds in which QEMU starts, and in which it answers an access, or counts as stuck. For specs.
M.START, M.ANSWER = 60, 20

-- QEMU's arguments, which are texts.
local function check_arguments(list)
  if list == nil then return end
  if type(list) ~= "table" then error("luio.open: qemu is a list of texts, QEMU's arguments, not a " .. type(list), 3) end
  for key, value in pairs(list) do
    if type(key) ~= "number" or key < 1 or key > #list or key % 1 ~= 0 then
      error(("luio.open: qemu is a list of texts, QEMU's arguments: [%s] has no place in it"):format(tostring(key)), 3)
    end
    if type(value) ~= "string" then error(("luio.open: qemu[%d] is a text, not a %s"):format(key, type(value)), 3) end
    if value:find("\0", 1, true) then error(("luio.open: qemu[%d] has a NUL in it"):format(key), 3) end
  end
end

-- A machine with these arguments, and the device that `id` means.
local function start(board, list, id, address, options)
  local config = ffi.new "luio_qemu_config"
  config.machine, config.memory = board.MACHINE, MEMORY
  config.start_ns, config.answer_ns = M.START * 1e9, M.ANSWER * 1e9
  config.messages = (options.messages or settings.messages) and 1 or 0
  return machine.start({ board.PROGRAM, unpack(list) }, config, board.describe, id, address, options)
end

local function users(options) return options.qemu or settings.qemu or {} end

-- A machine with that -device, and the device.
local function with_device(board, text, address, options)
  local arguments, message, code = backends.arguments(text, users(options), options.driver)
  if not arguments then return nil, ("open %s: %s"):format(address, message), code end
  local dev
  dev, message, code = refusal.try(arguments, board.PROGRAM, address, function(list)
    local one, why, why_code = start(board, list, arguments.id, address, options)
    if why_code == "ENODEV" then why = ("open %s: QEMU has it, but not as a PCI device"):format(address) end
    return one, why, why_code
  end)
  if not dev then
    arguments:close()
    return nil, message, code
  end
  dev.qemu.arguments, dev.qemu.ended = arguments:list(), function() arguments:close() end
  dev.qemu.wired_by, dev.qemu.added, dev.qemu.usual_wiring = arguments.from, arguments.added, arguments.usual_wiring
  if arguments.problem then dev:warn(arguments.problem) end
  return dev
end

-- A device of the board's device tree; what that does not have, as -device takes it.
local function on_board(name, address, options)
  local dev, message, code = start(virt, users(options), name, address, options)
  if dev or code ~= "ENODEV" then return dev, message, code end
  local why
  dev, why, code = with_device(virt, name, address, options)
  if dev then return dev end
  local prefix = ("open %s: "):format(address)
  if why:sub(1, #prefix) == prefix then why = why:sub(#prefix + 1) end
  return nil, ("%s%s; as a -device: %s"):format(prefix, message, why), code
end

--- Opens a device of a machine that is started for it, or of one that somebody else started.
---@param text string  what follows "qemu:": as -device takes it; "virt/pl031": of ARM's board (luio.qemu.virt); the path of a socket, that
---                    begins with a / or a dot (luio.qemu.attach)
---@param options? luio.OpenOptions
---@return luio.Device?
---@return string? message
---@return string? code
function M.open(text, options)
  options = options or {}
  check_arguments(options.qemu)
  if text:find("\0", 1, true) then return nil, "open qemu: its name has a NUL in it", "EINVAL" end
  if text:match "^%.?%.?/" then
    loading.refuse("open qemu:" .. text, 3)
    return require("luio.qemu.attach").open(text, options, M.ANSWER)
  end
  local name = text:match "^virt/(.*)$"
  local properties, id = text:find("=", 1, true), text:match ",id=([^,]+)"
  local plain = name and not properties -- a name may have a comma
  local address = "qemu:" .. (plain and text or text:match "^[^,]*" .. (id and ",id=" .. id or ""))
  loading.refuse("open " .. address, 3)
  if plain then return on_board(name, address, options) end
  return with_device(name and virt or PC, name or text, address, options)
end

return M
