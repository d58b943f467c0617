--- The thread a model runs on: takes accesses from the bus, asks the model, answers.
---
--- A model file returns a table with:
---
---     pci = { vendor =, device =, class =, revision = }    its identity
---     vectors = 1                                          interrupts it has: 0 or 1
---     regions = { [0] = { size = 0x1000 } }
---     reset(dev)                                           optional: power-on state
---     read(dev, offset, width, region)   -> value          width in bits
---     write(dev, offset, width, value, region)
---
--- Values of 64 bits are uint64_t. `dev` is the model's own table, with:
---
---     dev:raise() dev:lower()           the INTx level; set until lowered
---     dev:pulse()                       an edge: lost where the interrupt is masked, and never seen twice
---     dev.now()                         seconds
---     dev:after(seconds, fn)            calls fn(dev) later, between accesses
---     dev:dma_read(iova, size)          bytes, or nil, message: bus master is off
---     dev:dma_write(iova, bytes)        true, or nil, message
---
--- An IOVA that no buffer of the driver holds is the driver's bug or the model's: an error either
--- way. An error in a model makes every later access to it fail with the model's file and line.
---
--- Compilation is off on this thread, so that a model that never returns can be interrupted.

local ffi = require "ffi"
local errors = require "luio.errors"
local runtime = require "luio.ffi"
local paths = require "luio.driver.paths" -- models require their registers
local C = runtime.C

local M = {}

local IDLE_NS = 1e9 -- how long to wait for an access when no timer is due
local HOOK_EVERY = 100000 -- VM instructions between looks at whether to stop

--- The device as its model sees it: the argument of each of the model's functions.
---@class luio.ModelDevice
---@field package sim ffi.cdata*
---@field package timers { at: number, fn: fun(dev) }[]
local Dev = {}
Dev.__index = Dev

-- The arguments of these calls are checked, so that an error names the model's line.
local function check(self, name, fine, wants)
  if type(self) ~= "table" or not self.sim then errors.raise(("call it with a colon: dev:%s()"):format(name)) end
  if not fine then errors.raise(("dev:%s wants %s"):format(name, wants)) end
end

local function is_count(value) return type(value) == "number" and value >= 0 and value % 1 == 0 end

local function is_iova(value) return is_count(value) or ffi.istype("uint64_t", value) end

--- Raises the INTx level: it stays raised until `lower`.
function Dev:raise()
  check(self, "raise", true)
  C.luio_sim_irq(self.sim, 1)
end

--- Lowers the INTx level.
function Dev:lower()
  check(self, "lower", true)
  C.luio_sim_irq(self.sim, 0)
end

--- Raises an edge: it is lost where the interrupt is masked, and never seen twice.
function Dev:pulse()
  check(self, "pulse", true)
  C.luio_sim_irq(self.sim, C.LUIO_SIM_EDGE)
end

Dev.now = runtime.now

--- Calls a function later, between accesses.
---@param seconds number
---@param fn fun(dev: luio.ModelDevice)
function Dev:after(seconds, fn)
  check(self, "after", type(seconds) == "number" and type(fn) == "function", "seconds and a function")
  table.insert(self.timers, { at = self.now() + seconds, fn = fn })
end

local function dma_failed(rc, verb, iova, size)
  if runtime.errno_name(-rc) == "EACCES" then return nil, "bus master is off" end
  error(("DMA %s of %d bytes at IOVA 0x%x: no buffer of the driver is there"):format(verb, size, tonumber(iova)), 3)
end

--- Reads memory as the device does. Raises for an IOVA that no buffer of the driver holds.
---@param iova integer|ffi.cdata*
---@param size integer  bytes
---@return string? bytes
---@return string? message  bus master is off
function Dev:dma_read(iova, size)
  check(self, "dma_read", is_iova(iova) and is_count(size), "an IOVA and a number of bytes")
  local bytes = ffi.new("uint8_t[?]", size)
  local rc = C.luio_sim_dma_read(self.sim, iova, bytes, size)
  if rc < 0 then return dma_failed(rc, "read", iova, size) end
  return ffi.string(bytes, size)
end

--- Writes memory as the device does. Raises for an IOVA that no buffer of the driver holds.
---@param iova integer|ffi.cdata*
---@param bytes string
---@return true? ok
---@return string? message  bus master is off
function Dev:dma_write(iova, bytes)
  check(self, "dma_write", is_iova(iova) and type(bytes) == "string", "an IOVA and a string")
  local rc = C.luio_sim_dma_write(self.sim, iova, bytes, #bytes)
  if rc < 0 then return dma_failed(rc, "write", iova, #bytes) end
  return true
end

-- Runs the timers that are due, returns ns until the next.
local function run_timers(dev)
  while true do
    local now, first = dev.now(), nil
    for i, t in ipairs(dev.timers) do
      if not first or t.at < dev.timers[first].at then first = i end
    end
    if not first then return IDLE_NS end
    local wait = dev.timers[first].at - now
    if wait > 0 then return math.min(wait * 1e9, IDLE_NS) end
    table.remove(dev.timers, first).fn(dev)
  end
end

local mask = { [8] = 0xff, [16] = 0xffff, [32] = 0xffffffff }

local function answer(model, dev, request)
  local width, offset = request.width, tonumber(request.offset)
  if request.kind == C.LUIO_SIM_READ then
    local value = model.read(dev, offset, width, request.region)
    if type(value) == "number" then
      if value % 1 ~= 0 or value < 0 or (mask[width] and value > mask[width]) then
        error(("read of 0x%x returned %s, which is not a value of %d bits"):format(offset, tostring(value), width), 0)
      end
    elseif type(value) ~= "cdata" then
      error(("read of 0x%x returned %s, not a number"):format(offset, type(value)), 0)
    end
    return value
  end
  local value = request.value
  model.write(dev, offset, width, width == 64 and value + 0 or tonumber(value), request.region)
  return 0
end

--- A model's file, ready to be run; errors in it have its path as messages show paths.
---@param path string
---@return function chunk
function M.chunk(path)
  local f = assert(io.open(path))
  local text = f:read "*a"
  f:close()
  local chunk, message = loadstring(text:gsub("^#[^\n]*", ""), "@" .. paths.shown(path))
  if not chunk then error(message, 0) end
  return chunk
end

--- Serves a simulated device until it is closed. Called on the model's thread.
---@param address integer  of the luio_sim
---@param path string      the model's file
---@param name string
function M.serve(address, path, name)
  jit.off()
  jit.flush()
  local sim = ffi.cast("luio_sim *", ffi.cast("uintptr_t", address))
  debug.sethook(function()
    if C.luio_sim_stopping(sim) ~= 0 then error("stopped in the middle", 0) end
  end, "", HOOK_EVERY)
  -- The message has file and line where the error has them, else the model's path.
  local shown = paths.shown(path)
  local function told(message) return message:find(shown, 1, true) and message or ("%s: %s"):format(shown, message) end
  local function guard(fn, ...)
    local ok, result = xpcall(fn, function(e) return told(errors.text(e)) end, ...)
    if not ok then C.luio_sim_fail(sim, result) end
    return ok, result
  end
  local dev = setmetatable({ sim = sim, timers = {} }, Dev)
  if name:match "/" then paths.named(path) end -- this Lua state does not know the paths named in the other
  local ok, model = guard(function()
    local model = M.chunk(path)()
    if model.reset then model.reset(dev) end
    return model
  end)
  if ok then C.luio_sim_attach(sim) end
  local request = ffi.new "luio_sim_request"
  while true do
    local _, wait = guard(run_timers, dev)
    if type(wait) ~= "number" then wait = IDLE_NS end
    if C.luio_sim_next(sim, wait, request) ~= 0 then
      if request.kind == C.LUIO_SIM_STOP then break end
      local fine, value = guard(answer, model, dev, request)
      C.luio_sim_reply(sim, fine and value or 0, not fine and value or nil)
    end
  end
  debug.sethook()
  C.luio_sim_detach(sim)
end

return M
