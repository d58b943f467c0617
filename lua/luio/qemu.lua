--- QEMU's devices without a guest: `qemu:edu` starts a machine that has QEMU's edu, and opens it.
---
--- The runtime starts QEMU and makes the accesses (runtime/qemu.c). This module chooses its arguments, and speaks QMP: it
--- asks for the place of the device that the address names.

local ffi = require "ffi"
local runtime = require "luio.ffi"
local device = require "luio.device"
local handles = require "luio.loop.handles"
local json = require "luio.text.json"
local loading = require "luio.loop.loading"
local settings = require "luio.device.settings"
local posix = require "luio.posix"
local uv = require "luv"
local C, err, now = runtime.C, runtime.err, runtime.now

local M = {}

local PROGRAM, MACHINE = "qemu-system-x86_64", "q35"
local MEMORY = 256 * 1024 * 1024
local START_S, QMP_S = 60, 60

--- Seconds in which QEMU answers an access, or counts as stuck. For specs.
M.ANSWER = 20

-- ---- QMP -----------------------------------------------------------------------------------------

---@class luio.Qmp
---@field fd integer     the machine's
---@field pid integer    of QEMU
---@field input string  read, and not used yet
local Qmp = {}
Qmp.__index = Qmp

-- The next message.
---@private
function Qmp:receive(deadline)
  local buffer = ffi.new "char[4096]"
  while true do
    local line, rest = self.input:match "^([^\n]*)\n(.*)$"
    if line then
      self.input = rest
      return json.decode(line)
    end
    local left = deadline - now()
    local poll = ffi.new(posix.pollfd, { self.fd, posix.POLLIN, 0 })
    if left <= 0 then return nil, "QEMU's monitor does not answer", "ETIMEDOUT" end
    if posix.poll(poll, 1, math.ceil(left * 1000)) > 0 then
      local n = posix.read(self.fd, buffer, 4096)
      if n <= 0 then return nil, "QEMU has ended", "EIO" end
      self.input = self.input .. ffi.string(buffer, n)
    end
  end
end

--- Has QEMU do a command. Events that come before its answer are dropped.
---@param command string
---@param arguments? table
---@return any result
---@return string? message  QEMU's
---@return string? code
function Qmp:command(command, arguments)
  local text = require("dkjson").encode { execute = command, arguments = arguments } .. "\n"
  if posix.write(self.fd, text, #text) ~= #text then return posix.failure(command) end
  local deadline = now() + QMP_S
  while true do
    local message, why, code = self:receive(deadline)
    if not message then return nil, ("%s: %s"):format(command, why), code end
    if message.error then return nil, ("%s: QEMU: %s"):format(command, message.error.desc), "EINVAL" end
    if message["return"] ~= nil then return message["return"] end
  end
end

local function greet(fd, pid)
  local qmp = setmetatable({ fd = fd, pid = pid, input = "" }, Qmp)
  local ok, message, code = qmp:command "qmp_capabilities"
  if not ok then return nil, message, code end
  return qmp
end

-- Notices the machine's end, which closes its monitor's socket, while the loop turns. Events are dropped.
local function watch_end(dev, qmp)
  local poll = assert(uv.new_poll(qmp.fd))
  local buffer = ffi.new "char[4096]"
  poll:start("r", function()
    local n = posix.read(qmp.fd, buffer, 4096)
    if n > 0 then
      qmp.input = (qmp.input .. ffi.string(buffer, n)):match "[^\n]*$"
      return
    end
    poll:stop()
    dev:vanish("its QEMU has ended", "ENODEV")
  end)
  poll:unref()
  return poll
end

-- ---- Machines ------------------------------------------------------------------------------------

-- bus, slot, function of the device with that id.
local function find(buses, id)
  for _, bus in ipairs(buses) do
    for _, at in ipairs(bus.devices) do
      if at.qdev_id == id then return at.bus, at.slot, at["function"] end
      local below = at.pci_bridge and at.pci_bridge.devices
      if below then
        local a, b, c = find({ { devices = below } }, id)
        if a then return a, b, c end
      end
    end
  end
end

local function start(arguments)
  local config = ffi.new "luio_qemu_config"
  local argv = ffi.new("const char *[?]", #arguments + 1)
  for i, text in ipairs(arguments) do argv[i - 1] = text end
  config.argv, config.machine, config.memory = argv, MACHINE, MEMORY
  config.start_ns, config.answer_ns = START_S * 1e9, M.ANSWER * 1e9
  local out = ffi.new "luio_qemu *[1]"
  if C.luio_qemu_open(config, out, err) < 0 then return runtime.failure() end
  return out[0]
end

--- Opens a device of a machine that is started for it.
---@param text string  what follows "qemu:": as -device takes it
---@param options? luio.OpenOptions
---@return luio.Device?
---@return string? message
---@return string? code
function M.open(text, options)
  options = options or {}
  local address = "qemu:" .. text:match "^[^,]*"
  loading.refuse("open " .. address, 3)
  local id = text:match ",id=([^,]+)" or "luio-device"
  local arguments = { PROGRAM }
  for _, argument in ipairs(options.qemu or settings.qemu or {}) do table.insert(arguments, argument) end
  table.insert(arguments, "-device")
  table.insert(arguments, text:find ",id=" and text or text .. ",id=" .. id)
  local machine, message, code = start(arguments)
  if not machine then return nil, message, code end
  local function give_up(...)
    C.luio_qemu_close(machine)
    return nil, ...
  end
  local qmp
  qmp, message, code = greet(C.luio_qemu_qmp_fd(machine), C.luio_qemu_pid(machine))
  if not qmp then return give_up(message, code) end
  local buses
  buses, message, code = qmp:command "query-pci"
  if not buses then return give_up(message, code) end
  local bus, slot, fn = find(buses, id)
  if not bus then return give_up(("open %s: QEMU has it, but not as a PCI device"):format(address), "ENODEV") end
  local handle = ffi.new "luio_device *[1]"
  local flags = options.read_only and C.LUIO_READ_ONLY or 0
  if C.luio_device_open_qemu(machine, bus, slot, fn, address, flags, handle, err) < 0 then
    return give_up(select(2, runtime.failure()))
  end
  local dev = device.wrap(handle[0], options)
  dev.qemu = qmp
  local poll = watch_end(dev, qmp)
  function dev.after_close()
    handles.dispose(poll)
    C.luio_qemu_close(machine)
  end
  return dev
end

return M
