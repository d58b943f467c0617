--- luio: Linux device drivers as Lua scripts. This module is what a program requires; the others are reached from it.
---
---     local luio = require "luio"
---     local dev = assert(luio.open "uio0")              -- or "0000:00:04.0", or "sim:edu"
---     print(("id 0x%08x"):format(dev.regions[0]:read32(0)))
---     dev:close()
---
--- Expected failures return `nil, message, code`; misuse raises. Nothing here prints or exits,
--- except that a task which fails is reported on standard error (luio.on_task_failure).

require "luio.compiler" -- first: plain luajit may not have it yet
local runtime = require "luio.ffi"
local task = require "luio.loop.task"
local wait_slot = require "luio.loop.wait_slot"
local checks = require "luio.options"
local addresses = require "luio.host.address"
local discovery = require "luio.host.discovery"
local loading = require "luio.loop.loading"
local settings = require "luio.device.settings"
local vectors = require "luio.device.vectors"
require "luio.driver.paths" -- `require "drivers.edu.registers"` finds drivers
local ffi = require "ffi"
local C = runtime.C

local luio = {}

--- "0.1.0"
luio.version = ffi.string(C.luio_version())

luio.now = runtime.now

-- ---- Devices -------------------------------------------------------------------------------------

luio.list = discovery.list

local OPEN_OPTIONS = { qemu = "table", driver = "string", read_only = "boolean", shared = "boolean", quiet = "boolean",
  vectors = vectors.option, messages = "boolean" }

local function open_by_kind(address, options)
  local kind, rest = addresses.made(address)
  if kind == "sim" then return require("luio.sim").open(rest, options) end
  if kind == "qemu" then return require("luio.qemu").open(rest, options) end
  -- Loaded with the first device: a program that only lists devices has no use for it.
  local dev, message, code = require("luio.device").open(address, options)
  if code == "EINVAL" and message:match "^\"" then message = message .. require("luio.host.sysfs").address_hint(address) end
  return dev, message, code
end

--- Opens a device by address: "uio0", "0000:00:04.0", "sim:NAME" for a simulated one, "qemu:NAME" for one of QEMU's without a guest
--- (luio.qemu), or "mem:0xADDR+0xLEN" for a range of physical addresses by /dev/mem. Touches no register, unmasks
--- nothing, enables nothing.
---@param address string
---@param options? luio.OpenOptions
---@return luio.Device?
---@return string? message
---@return string? code  "ENODEV" "EBUSY" "EACCES" "EPERM" "EINVAL" "ENOENT"
function luio.open(address, options)
  if type(address) ~= "string" then error("luio.open wants an address, not " .. type(address), 2) end
  options = checks.check("luio.open", options, OPEN_OPTIONS)
  loading.refuse("open " .. address, 2)
  local wanted = options.vectors or settings.vectors
  settings.messages = settings.messages or vectors.wants_messages(wanted)
  local dev, message, code = open_by_kind(address, options)
  settings.messages = false
  if not dev then return nil, message, code end
  if addresses.made(address) == "qemu" then
    dev.opened_as = { address = address, qemu = options.qemu or settings.qemu, vectors = wanted }
  end
  if not wanted then return dev end
  local ok
  ok, message, code = vectors.choose(dev, wanted)
  if ok then return dev end
  dev:close()
  return nil, message, code
end

-- The data of an open device that is made when it is opened, with what only that device can tell.
function addresses.info_of(dev)
  local info = dev.info
  local has = dev:vectors() or { intx = 0, msi = 0, msix = 0 } -- it has ended
  if dev.qemu and dev.qemu.arguments then
    info.qemu = { arguments = dev.qemu.arguments, wired_by = dev.qemu.wired_by, added = dev.qemu.added,
      usual_wiring = dev.qemu.usual_wiring }
  end
  info.vectors, info.kinds = info.has_interrupts and 1 or 0, { intx = has.intx, msi = has.msi, msix = has.msix }
  return info
end

-- Such a device is opened for its identity, and closed again.
function addresses.find_made(address)
  local dev, message, code = luio.open(address)
  if not dev then return nil, message, code end
  local info = addresses.info_of(dev)
  local ok
  ok, message, code = dev:close()
  if not ok then return nil, message, code end
  return info
end

--- Listens for devices that come and go.
---@return luio.Monitor?
---@return string? message
---@return string? code
function luio.monitor()
  return require("luio.hotplug.monitor").open()
end

-- ---- Drivers -------------------------------------------------------------------------------------

-- luio.driver and luio.registers are loaded when they are needed: a command such as `luio list` has no use for them.

--- Loads a driver without touching hardware. luio.driver.paths has the search path.
---@param name string  "edu" or "drivers/edu"; a path, relative to the current folder: "./drivers/edu", "path/to/driver.lua"
---@return table? driver
---@return string? message  a syntax error, an error that it threw, or a fault in its table; with file and line
---@return string? code
function luio.load(name)
  if type(name) ~= "string" then error("luio.load wants a driver's name or path, not " .. type(name), 2) end
  return require("luio.driver").load(require("luio.driver.paths").by_name(name))
end

--- States a register map: luio.registers (lua/luio/registers/init.lua) has the format. Checked here;
--- every fault is in one message. Touches no hardware.
---@param map table
---@return luio.Map
function luio.registers(map)
  local made = require("luio.registers").new(map) -- no tail call: the level of its errors is ours
  return made
end

--- Loads a driver, opens its device, starts it.
---@param name string|table  as of luio.load; or what that returned
---@param address? string|luio.Device  or one that is open and has no driver, which is closed when this fails; nil: the first device
---                                    that it matches; a warning says that there are others
---@param options? luio.OpenOptions  as of luio.open
---@return luio.Device? dev  dev.driver is the driver's table
---@return string? message
---@return string? code
function luio.start(name, address, options)
  options = checks.check("luio.start", options, OPEN_OPTIONS)
  loading.refuse("start driver " .. tostring(name), 2)
  local d, message, code = name, nil, nil
  if type(name) ~= "table" then d, message, code = luio.load(name) end
  if type(address) == "table" then
    if d then return require("luio.driver").start(d, address) end
    address:close()
  end
  if not d then return nil, message, code end
  local note
  if not address then
    local found
    found, note, code = require("luio.driver.match").choose(d)
    if not found and note then return nil, note, code end
    if not found then
      local model = require("luio.driver.paths").find(d.name, "model")
      return nil, ("no device for driver %s here%s"):format(d.name, model
        and ("; there is its simulated one: sim:%s, named beside the driver"):format(d.name) or ""), "ENODEV"
    end
    address = require("luio.host.inspect").opens(found)
  end
  local dev
  settings.messages = vectors.wants_messages(require("luio.driver.setup").needs(d))
  local given = { driver = require("luio.reload.version").of(d).path }
  for key, value in pairs(options or {}) do given[key] = value end
  dev, message, code = luio.open(address, given)
  if not dev then return nil, note and ("%s; %s"):format(message, note) or message, code end
  if note then dev:warn(note) end
  return require("luio.driver").start(d, dev)
end

--- Binds a register map to a device. A driver's own map is bound when it starts: dev.regs.
---@param map luio.Map
---@param dev luio.Device
---@return luio.Registers?
---@return string? message
---@return string? code
function luio.bind(map, dev)
  return require("luio.registers.bind").bind(map, dev)
end

--- Closes every open device: for programs, at their end.
---@return true? ok
---@return string? message  the part that could not be closed, or was lost
---@return string? code
function luio.close_all()
  local open, failed = {}, nil
  local device = package.loaded["luio.device"] -- where it is not loaded, none is open
  for dev in pairs(device and device.open_devices or {}) do table.insert(open, dev) end
  for _, dev in ipairs(open) do
    local ok, message, code = dev:close()
    if not ok then failed = failed or { message, code } end
  end
  if failed then return nil, failed[1], failed[2] end
  return true
end

--- Makes a pool of packets for a device: luio.pool.
---@param dev luio.Device
---@param options luio.PoolOptions
---@return luio.Pool?
---@return string? message
---@return string? code
function luio.pool(dev, options)
  return require("luio.pool").new(dev, options) -- a tail call: its errors are our caller's
end

--- Makes room for packets on their way, numbered from 0: luio.pool.
---@param capacity integer
---@return luio.Batch
function luio.batch(capacity)
  return require("luio.pool").batch(capacity)
end

-- ---- Tasks ---------------------------------------------------------------------------------------

luio.spawn = task.spawn
luio.sleep = wait_slot.sleep
luio.run = task.run

--- For loops that poll until SIGINT or SIGTERM: luio.loop.stop_signal.
---@return fun(): boolean stopping
---@return fun() forget
function luio.stopping()
  return require "luio.loop.stop_signal"()
end

--- Sets the function that is called with each warning: something works, but not as it should. Without it warnings are kept in
--- dev.warnings.
---@param fn fun(message: string, dev: luio.Device)?
function luio.on_warning(fn)
  settings.on_warning = fn
end

--- Replaces the handler of failed tasks (default: a report on standard error).
---@param fn fun(task: luio.Task, traceback: string)
function luio.on_task_failure(fn)
  task.on_failure = fn
end

-- ---- Order ---------------------------------------------------------------------------------------

--- For use between writes to DMA memory and the doorbell register write: makes the writes visible
--- to the device first. Also keeps LuaJIT from moving memory accesses across.
luio.fence_doorbell = C.luio_fence_doorbell

--- For use between reading a flag that the device wrote to memory and reading the data that it announces.
luio.fence_flag = C.luio_fence_flag

--- Between writing a word in memory that another processor works on and reading one that it writes.
luio.fence_full = C.luio_fence_full

return luio
