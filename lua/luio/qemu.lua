--- QEMU's devices without a guest: `qemu:edu` starts a machine that has QEMU's edu, and opens it.
---
--- The runtime starts QEMU and makes the accesses (runtime/qemu.c). This module chooses its arguments; luio.qemu.machine is the machine
--- that comes of them, `dev.qemu`.

local ffi = require "ffi"
local loading = require "luio.loop.loading"
local machine = require "luio.qemu.machine"
local settings = require "luio.device.settings"

local M = {}

local PROGRAM, MACHINE = "qemu-system-x86_64", "q35"
local MEMORY = 256 * 1024 * 1024
local START_S = 60

--- Seconds in which QEMU answers an access, or counts as stuck. For specs.
M.ANSWER = 20

--- Opens a device of a machine that is started for it.
---@param text string  what follows "qemu:": as -device takes it
---@param options? luio.OpenOptions
---@return luio.Device?
---@return string? message
---@return string? code
function M.open(text, options)
  options = options or {}
  local id = text:match ",id=([^,]+)"
  local address = "qemu:" .. text:match "^[^,]*" .. (id and ",id=" .. id or "")
  loading.refuse("open " .. address, 3)
  local arguments = { PROGRAM }
  for _, argument in ipairs(options.qemu or settings.qemu or {}) do table.insert(arguments, argument) end
  table.insert(arguments, "-device")
  table.insert(arguments, id and text or text .. ",id=luio-device")
  local config = ffi.new "luio_qemu_config"
  config.machine, config.memory = MACHINE, MEMORY
  config.start_ns, config.answer_ns = START_S * 1e9, M.ANSWER * 1e9
  config.messages = (options.messages or settings.messages) and 1 or 0
  local dev, message, code = machine.start(arguments, config, id or "luio-device", address, options)
  if not dev and code == "ENODEV" then message = ("open %s: QEMU has it, but not as a PCI device"):format(address) end
  return dev, message, code
end

return M
