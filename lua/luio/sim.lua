--- Simulated devices: `sim:edu` opens the model drivers/edu/model.lua.
---
--- A model is a Lua file that returns a table: the device's identity, and functions that answer register accesses. It runs in
--- a Lua state of its own on a thread of its own (luio.model), because a device is concurrent with its driver. The driver's
--- side is the same code as for hardware: a real eventfd, the interrupt thread, the DMA allocator. So a driver behaves as on
--- hardware.

local ffi = require "ffi"
local errors = require "luio.errors"
local uv = require "luv"
local runtime = require "luio.ffi"
local device = require "luio.device"
local models = require "luio.model"
local near = require "luio.registers.near"
local paths = require "luio.driver.paths"
local loading = require "luio.loop.loading"
local hotplug = require "luio.hotplug"
local watchdog = require "luio.loop.watchdog"
local C, err = runtime.C, runtime.err

local M = {}

local READY_NS, STOP_NS = 5e9, 3e9
local LOOP = 12 -- descriptors: libuv's loop has 5, beside what the model opens while it is loaded

-- Runs on the model's thread, in a fresh Lua state: no upvalues reach it.
local function thread(sim, path, package_path, package_cpath, library, name)
  package.path, package.cpath = package_path, package_cpath -- luacheck: ignore 122
  package.preload["luio.library"] = function() return library end
  local ok, message = pcall(function()
    require("luio.model").serve(sim, path, name)
  end)
  if not ok then
    local f = require "ffi"
    pcall(f.cdef, "void luio_sim_fail(void *, const char *); void luio_sim_detach(void *);")
    local lib = f.load(library)
    local at = f.cast("void *", f.cast("uintptr_t", sim))
    lib.luio_sim_fail(at, require("luio.errors").text(message))
    lib.luio_sim_detach(at)
  end
end

local function config_of(model)
  local c = ffi.new "luio_sim_config"
  local pci = model.pci or {}
  c.vendor, c.device = pci.vendor or 0, pci.device or 0
  c.subvendor, c.subdevice = pci.subvendor or 0, pci.subdevice or 0
  c.class_code, c.revision = pci.class or 0, pci.revision or 0
  c.n_vectors = model.vectors or 1 -- checked
  for index, region in pairs(model.regions) do
    c.region_size[index] = region.size
  end
  return c
end

local KNOWN = { pci = "table", vectors = "number", regions = "table", reset = "function", read = "function", write = "function" }
local PCI = { vendor = 0xffff, device = 0xffff, subvendor = 0xffff, subdevice = 0xffff, class = 0xffffff, revision = 0xff }

-- A model's table may have fields of its own. A field whose name is close to a missing one of luio's is reported as a misspelling.
local function check_words(model)
  local open = {}
  for key in pairs(KNOWN) do open[key] = model[key] == nil or nil end
  local slips = {}
  for key in pairs(model) do
    local meant = type(key) == "string" and not KNOWN[key] and near.within(key, open, 1)
    if meant then table.insert(slips, ("%s: did you mean %s?"):format(key, meant)) end
  end
  table.sort(slips)
  if slips[1] then return table.concat(slips, "; ") end
  for _, key in ipairs { "read", "write" } do
    if type(model[key]) ~= "function" then return "the model has no function " .. key end
  end
  if type(model.regions) ~= "table" then return "the model has no regions" end
  for key, kind in pairs(KNOWN) do
    if model[key] ~= nil and type(model[key]) ~= kind then return ("%s is a %s, not a %s"):format(key, type(model[key]), kind) end
  end
end

local function check_parts(model)
  for key, value in pairs(model.pci or {}) do
    local most = PCI[key]
    if not most then return ("pci: unknown key %s%s"):format(errors.text(key), near.hint(errors.text(key), PCI)) end
    if type(value) ~= "number" or value < 0 or value > most or value % 1 ~= 0 then
      return ("pci.%s is 0 to 0x%x, not %s"):format(key, most, errors.text(value))
    end
  end
  if model.vectors ~= nil and model.vectors ~= 0 and model.vectors ~= 1 then
    return ("vectors is 0 or 1, not %s"):format(tostring(model.vectors))
  end
  for index, region in pairs(model.regions) do
    local size = type(region) == "table" and region.size
    for key in pairs(type(region) == "table" and region or {}) do
      if key ~= "size" then
        return ("region %s: unknown key %s%s"):format(errors.text(index), errors.text(key), near.hint(errors.text(key), { size = true }))
      end
    end
    if type(index) ~= "number" or index < 0 or index >= C.LUIO_MAX_BARS or index % 1 ~= 0 or type(size) ~= "number" or size <= 0 then
      return ("region %s: { size = BYTES }, numbered from 0 to %d"):format(errors.text(index), C.LUIO_MAX_BARS - 1)
    end
  end
end

local function check(model, path)
  if type(model) ~= "table" then
    return nil, ("%s: a model file returns a table, this one a %s"):format(path, type(model)), "EINVAL"
  end
  local fault = check_words(model) or check_parts(model)
  if fault then return nil, ("%s: %s"):format(path, fault), "EINVAL" end
  return model
end

--- Opens a simulated device.
---@param name string  of a driver folder with a model.lua, or a path to one
---@param options? luio.OpenOptions
---@return luio.Device?
---@return string? message
---@return string? code
function M.open(name, options)
  options = options or {}
  loading.refuse("open sim:" .. name, 3)
  local path, message, code = paths.find(name, "model")
  if not path then return nil, message, code end
  local loaded, chunk = pcall(models.chunk, path)
  if not loaded then return nil, "model: " .. chunk, "EINVAL" end
  local shown = paths.shown(path)
  local ok, model = watchdog.call(path, nil, chunk)
  if not ok then return nil, ("model %s threw when it was loaded: %s"):format(shown, errors.text(model)), "EINVAL" end
  model, message, code = check(model, shown)
  if not model then return nil, message, code end

  -- Its thread's loop aborts without.
  ok, message, code = runtime.descriptors("start the model " .. path, LOOP)
  if not ok then return nil, message, code end
  local out = ffi.new "luio_sim *[1]"
  if C.luio_sim_open(config_of(model), out, err) < 0 then return runtime.failure() end
  local sim = out[0]
  local running = uv.new_thread(thread, tonumber(ffi.cast("uintptr_t", sim)), path, package.path, package.cpath, runtime.path, name)
  if not running then
    C.luio_sim_close(sim)
    return nil, ("model %s: no thread can be started for it: too many, or too little memory (ulimit -u, ulimit -v)"):format(name), "EAGAIN"
  end
  -- Ends the model's thread; only one that has said goodbye is waited for without a limit.
  local function stop()
    if C.luio_sim_stop(sim, STOP_NS, err) < 0 then return runtime.failure() end
    running:join()
    return true
  end
  if C.luio_sim_wait_ready(sim, READY_NS, err) < 0 then
    local _, why, why_code = runtime.failure()
    if stop() then C.luio_sim_close(sim) end
    return nil, why:find(shown, 1, true) and "model: " .. why or ("model %s: %s"):format(shown, why), why_code
  end
  local handle = ffi.new "luio_device *[1]"
  local flags = options.read_only and C.LUIO_READ_ONLY or 0
  if C.luio_device_open_sim(sim, name, flags, handle, err) < 0 then
    local _, why, why_code = runtime.failure()
    if stop() then C.luio_sim_close(sim) end
    return nil, why, why_code
  end
  local dev = device.wrap(handle[0], options)
  dev.before_close = stop
  dev.after_close = function() C.luio_sim_close(sim) end
  dev.sim = {
    --- Counters of the bus, for specs.
    ---@return { reads: integer, writes: integer, dma_bytes: integer, dma_faults: integer, dma_denied: integer, interrupts: integer }
    stats = function()
      local s = ffi.new "luio_sim_stats"
      C.luio_sim_get_stats(sim, s)
      return {
        reads = tonumber(s.reads), writes = tonumber(s.writes), dma_bytes = tonumber(s.dma_bytes),
        dma_faults = tonumber(s.dma_faults), dma_denied = tonumber(s.dma_denied), interrupts = tonumber(s.interrupts),
      }
    end,
  }
  --- Config space, read and written as by another process. For specs.
  ---@param offset integer
  ---@param width integer
  ---@param value integer?  nil: read
  ---@return integer? value
  function dev.sim.config(offset, width, value)
    if value then return C.luio_sim_config_write(sim, offset, width, value) end
    local out_value = ffi.new "uint32_t[1]"
    C.luio_sim_config_read(sim, offset, width, out_value)
    return out_value[0]
  end

  --- Takes the device away, as an unbind does: it is gone, with all that follows. For specs.
  function dev.sim.unplug() dev:vanish "unplugged" end

  --- Plugs it in again; a watched device is reopened (dev:watch_presence()). The model keeps its
  --- state, as after an unbind; bus master is off.
  function dev.sim.plug() hotplug.check_presence(dev) end

  --- Why the model failed, outside of an access, too; nil while it has not.
  ---@return string?
  function dev.failure()
    if C.luio_sim_wait_ready(sim, 0, err) < 0 then return "model: " .. ffi.string(err.message) end
  end

  -- Faults that hardware would pass over in silence.
  local denied = 0
  function dev.on_interrupt()
    local stats = dev.sim.stats()
    if stats.dma_denied > denied then
      denied = stats.dma_denied
      dev:warn(("%s tried DMA while bus master was off: dev:bus_master(true), or say `dma = {}` in the driver"):format(dev.address))
    end
  end
  return dev
end

return M
