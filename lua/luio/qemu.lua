--- QEMU's devices without a guest: `qemu:edu` starts a machine that has QEMU's edu, and opens it.
---
--- `qemu:/path/of/socket` takes a machine that runs: luio.qemu.attach.
---
--- The runtime starts QEMU and makes the accesses (runtime/qemu.c). This module chooses its arguments; luio.qemu.machine is the machine
--- that comes of them, `dev.qemu`.

local ffi = require "ffi"
local loading = require "luio.loop.loading"
local machine = require "luio.qemu.machine"
local settings = require "luio.device.settings"
local virt = require "luio.qemu.virt"

local M = {}

local PC = { PROGRAM = "qemu-system-x86_64", MACHINE = "q35" }
local MEMORY = 256 * 1024 * 1024
local START_S = 60

--- Seconds in which QEMU answers an access, or counts as stuck. For specs.
M.ANSWER = 20

-- A machine with that -device, and the device that `id` means.
local function start(board, device, id, address, options)
  local arguments, config = { board.PROGRAM }, ffi.new "luio_qemu_config"
  for _, argument in ipairs(options.qemu or settings.qemu or {}) do table.insert(arguments, argument) end
  if device then
    table.insert(arguments, "-device")
    table.insert(arguments, device)
  end
  config.machine, config.memory = board.MACHINE, MEMORY
  config.start_ns, config.answer_ns = START_S * 1e9, M.ANSWER * 1e9
  config.messages = (options.messages or settings.messages) and 1 or 0
  return machine.start(arguments, config, board.describe, id, address, options)
end

-- A device of the board's device tree; what that does not have, as -device takes it.
local function on_board(name, address, options)
  local dev, message, code = start(virt, nil, name, address, options)
  if dev or code ~= "ENODEV" then return dev, message, code end
  local why
  dev, why, code = start(virt, name .. ",id=luio-device", "luio-device", address, options)
  return dev, why and ("open %s: %s; as a -device: %s"):format(address, message, why), code
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
  local device = name or text
  local dev, message, code = start(name and virt or PC, id and device or device .. ",id=luio-device", id or "luio-device", address, options)
  if not dev and code == "ENODEV" then message = ("open %s: QEMU has it, but not as a PCI device"):format(address) end
  return dev, message, code
end

return M
