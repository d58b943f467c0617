--- Interrupts: a thread in C per vector, events for Lua.
---
--- The C thread waits for the interrupt, runs the *top half*, and puts an event into a ring; a task
--- takes it with `wait`. If the Lua thread is asleep in its loop, C does all this on the Lua
--- thread, which is quicker; with `priority` or `cpu` always on the C thread. The top half is data,
--- not code, because no Lua runs on the C thread:
---
---     dev.irqs[0]:setup {
---       capture = { { "cause", 0x24 } },   -- read 32 bits at 0x24: event.cause
---       ack     = { { 0x64, "cause" } },   -- write back the value read (or a constant)
---     }
---
--- in that order, then the interrupt is unmasked. A step may say `width` and `region`, too:
--- `{ "cause", 0x24, width = 16, region = 1 }`. Without setup the top half only unmasks. That suits edge-like sources; an
--- unacknowledged level-triggered source becomes a storm. With `unmask = false` it doesn't: the source is masked from the
--- start and after each interrupt, until `irq:unmask()`. This is for sources without a known acknowledgement, and for
--- drivers that acknowledge in Lua.
---
--- Events wait in the ring while Lua is busy. When it is full, lost events are counted in the next
--- event's `overflow` and in `stats().overflow`.
---
--- If the acknowledgement does not clear the line, the same interrupt comes again and again, and keeps two processors busy: a
--- *storm*. A warning (Device:warn) within half a second names the device, the captured values and the acknowledgement;
--- `irq:storm()` is for programs. Then the source is throttled to one interrupt every 5 ms until its line is cleared. Nothing
--- is lost, because a held level waits. With `paced = false` the storm is only reported. runtime/storm.c explains how a storm
--- differs from a fast device, and where it can't be detected.
---
--- By MSI and MSI-X a vector is used in the same way (luio.device.vectors). A message is no level: it is sent when a cause appears, once.
--- So there are no storms, `count` may be above 1, and an event may find no cause where the one before has taken both. A vector that is
--- masked, closed or not started keeps its messages until it is not.
---
--- On a shared line, uio_pci_generic may count more interrupts than a device had: an interrupt of another device counts for both if
--- it comes before ours is acknowledged. A driver that captures its cause finds none then, and goes on waiting.

local runtime = require "luio.ffi"
local ffi = require "ffi"
local now = runtime.now
local sources = require "luio.irq.source"
local loading = require "luio.loop.loading"
local top_half = require "luio.top_half"
local wait_slot = require "luio.loop.wait_slot"
local C = runtime.C

local M = {}

--- An interrupt, or several that came before one wake-up.
---@class luio.Event
---@field time number      seconds on luio.now()'s clock: when it was taken
---@field count integer    interrupts since the event before
---@field overflow integer interrupts lost to a full ring just before this one
---@field [string] any     captured registers, under the names given in `capture`

--- The top half of an interrupt, as a table.
---@class luio.IrqSetup
---@field capture table[]?  { name, offset, width =, region = }, at most 4
---@field ack table[]?      { offset, value or name of a capture, mask =, width =, region = }
---@field unmask boolean?   false: not by the top half; irq:unmask() does
---@field paced boolean?    false: a storm is reported, but not throttled
---@field capacity integer? events the ring holds, a power of two; 1024
---@field priority integer? 1..99: SCHED_FIFO
---@field cpu integer?      run the thread only there

--- A device's interrupt.
---@class luio.Irq
---@field vector integer
---@field package device luio.Device
---@field package source luio.IrqSource
local Irq = {}
Irq.__index = Irq
M.Irq = Irq -- for completion

-- Raises for a handle of a version that was replaced.
local function check_version(self, level)
  local device = self.device
  if device.stale then error(("interrupt %d of %s: %s"):format(self.vector, device.address, device.stale), level + 1) end
end

local function check_open(self, level)
  check_version(self, level + 1)
  local device = self.device
  if device.closed then error(("interrupt %d of %s: the device is closed"):format(self.vector, device.address), level + 1) end
end

local function gone_failure(self)
  return self.device:gone_failure(("interrupt %d"):format(self.vector))
end

--- States the top half and how the thread runs. Before the first wait; or again after close.
---@param options luio.IrqSetup
---@return luio.Irq self
function Irq:setup(options)
  check_open(self, 2)
  if self.source.handle then error("irq setup: the interrupt thread runs already: close it first", 2) end
  local fault = top_half.fault(options)
  if fault then error("irq setup: " .. fault, 2) end
  self.source.setup = options
  return self
end

--- Starts the thread, if it does not run yet. `wait` does so by itself; an early start catches
--- interrupts that come before the first wait.
---@return luio.Irq? self
---@return string? message
---@return string? code
function Irq:start()
  local source = self.source
  if source.handle then return self end
  if self.device.gone then return gone_failure(self) end
  check_open(self, 2)
  loading.refuse(("interrupt %d of %s"):format(self.vector, self.device.address), 2)
  local ok, message, code = source:start(self.device, self.vector)
  if not ok then return nil, message, code end
  return self
end

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, value in pairs(a) do
    if not same(value, b[key]) then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

--- Whether the thread runs with that top half.
---@param self luio.Irq
---@param setup luio.IrqSetup
---@return boolean
function M.has(self, setup)
  local present = self.source.setup
  return same(setup.capture or {}, present.capture or {}) and same(setup.ack or {}, present.ack or {})
    and (setup.unmask ~= false) == (present.unmask ~= false)
end

--- Exchanges the top half while the thread runs: no interrupt is lost, none is taken by half of each.
--- Events that wait keep what the old one captured.
---@param self luio.Irq
---@param setup luio.IrqSetup  checked; capacity, priority and cpu stay as they are
---@return boolean? ok
---@return string? message
---@return string? code
function M.exchange(self, setup)
  return self.source:exchange(self.device, setup)
end

--- The same for a driver, of its own vector: replaces the top half from the next interrupt on. Waiting events keep the
--- values that the old one captured. Before the thread runs it does the same as `setup`.
---@param options luio.IrqSetup  offsets, not names (luio.driver.top_half turns those into offsets)
---@return boolean? ok
---@return string? message
---@return string? code
function Irq:exchange(options)
  check_open(self, 2)
  local fault = top_half.fault(options)
  if fault then error("irq exchange: " .. fault, 2) end
  if M.has(self, options) then return true end
  return M.exchange(self, options)
end

--- Takes the oldest event without waiting. Starts the thread if need be.
---@return luio.Event? event  nil alone: none waits
---@return string? message
---@return string? code
function Irq:poll()
  check_open(self, 2)
  local ok, message, code = self:start()
  if not ok then return nil, message, code end
  local taken, event
  taken, event, message, code = self.source:take(self)
  if not taken then return nil end
  return event, message, code
end

-- Why nothing has come.
local function late(self, seconds)
  local device = self.device
  local failure = device.failure and device.failure()
  if failure then return nil, failure, "EIO" end
  local command = device.irqs.kind ~= "intx" and device.config:command()
  if command and not command.bus_master then
    return nil, ("no interrupt %d of %s within %g s: its bus master is off, and a message is a memory write: dev:bus_master(true)"):format(
      self.vector, device.address, seconds), "ETIMEDOUT"
  end
  return nil, ("no interrupt of %s within %g s"):format(device.address, seconds), "ETIMEDOUT"
end

--- Waits for an event. Starts the thread if need be.
---@param seconds number
---@return luio.Event? event
---@return string? message
---@return string? code  "ETIMEDOUT"; "ENODEV": the device is gone; or why a top-half step failed
function Irq:wait(seconds)
  if type(seconds) ~= "number" or not (seconds >= 0 and seconds < 1e9) then
    error(("irq:wait needs a number of seconds, not %s"):format(tostring(seconds)), 2)
  end
  check_open(self, 2)
  local started, message, code = self:start()
  if not started then return nil, message, code end
  local device, source = self.device, self.source
  if wait_slot.waiter(source.watch) then error("two tasks wait for one interrupt: spawn one that hands events out", 2) end
  local deadline, left, is_late = now() + seconds, seconds, false
  while true do
    local taken, event
    taken, event, message, code = source:take(self)
    if taken then return event, message, code end
    if is_late then return late(self, seconds) end
    if device.gone then return gone_failure(self) end
    source.through = self
    local readable
    readable, message, code = source.watch:readable(left)
    check_version(self, 2)
    if device.gone then return gone_failure(self) end
    if not source.handle then return nil, "the device was closed during the wait", "ECANCELED" end
    is_late = code == "ETIMEDOUT" -- one may have come in the last moment
    if not readable and not is_late then return nil, message, code end
    left = math.max(deadline - now(), 0)
  end
end

--- Lets the next interrupt through, where the top half does not (`unmask = false`). Starts the
--- thread if need be, so that it is not missed.
---@return boolean? ok
---@return string? message
---@return string? code
function Irq:unmask()
  local ok, message, code = self:start()
  if not ok then return nil, message, code end
  return self.device:unmask(self.vector)
end

--- Keeps the next interrupts away, until `unmask`. Messages (MSI, MSI-X) wait meanwhile.
---@return boolean? ok
---@return string? message
---@return string? code  "ENOSYS": the UIO driver can't
function Irq:mask()
  return self.device:mask(self.vector)
end

--- A descriptor that is readable while events may wait, for another event loop; nil while the thread does
--- not run. It is the thread's, and ends with it.
---@return integer?
function Irq:fd()
  local handle = self.source.handle
  return handle and C.luio_irq_fd(handle)
end

--- Whether the thread runs.
---@return boolean
function Irq:started()
  return self.source.handle ~= nil
end

--- Counts of an interrupt since its device was opened.
---@class luio.IrqStats
---@field interrupts integer counted by the source
---@field delivered integer  put into the ring
---@field overflow integer   lost because it was full
---@field events integer     entries put into the ring
---@field direct integer     of the interrupts, taken by the Lua thread itself

--- Counters since the thread was started.
---@return luio.IrqStats
function Irq:stats()
  local s = ffi.new "luio_irq_stats"
  if self.source.handle then C.luio_irq_get_stats(self.source.handle, s) end
  return {
    interrupts = tonumber(s.interrupts), delivered = tonumber(s.delivered),
    overflow = tonumber(s.overflow), events = tonumber(s.events), direct = tonumber(s.direct),
  }
end

--- The last interrupt storm since the thread was started.
---@return luio.Storm?  nil: there was none
function Irq:storm()
  local source = self.source
  return source.handle and source.storms:last(source, self.device) or nil
end

--- Stops the thread, within 3 s. Idempotent.
---@return boolean? ok
---@return string? message
---@return string? code
function Irq:close()
  check_version(self, 2)
  return self.source:close()
end

--- Used by luio.device.
---@param device luio.Device
---@param vector integer
---@param source? luio.IrqSource  of another handle of the same vector
---@return luio.Irq
function M.new(device, vector, source)
  return setmetatable({ device = device, vector = vector, source = source or sources.new() }, Irq)
end

return M
