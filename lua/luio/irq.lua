--- Interrupts: a thread in C per vector, events for Lua.
---
--- The C thread waits for the interrupt, runs the *top half*, and puts an event into a ring; a task
--- takes it with `wait`. If the Lua thread is asleep in its loop, C does all this there, which is
--- quicker; `priority` or `cpu` leave it to the thread always. The top half is data, not code,
--- because no Lua runs on that thread:
---
---     dev.irqs[0]:setup {
---       capture = { { "cause", 0x24 } },   -- read 32 bits at 0x24: event.cause
---       ack     = { { 0x64, "cause" } },   -- write back what was read (or a constant)
---     }
---
--- in that order, then the interrupt is unmasked. A step may say `width` and `region`, too:
--- `{ "cause", 0x24, width = 16, region = 1 }`. Without setup the top half only unmasks, which is
--- right for edge-like sources and a storm for level-triggered ones that nobody acknowledges. With
--- `unmask = false` it doesn't: the source stays masked after each interrupt, and from the start,
--- until `unmask` lets the next one through. For a source of which nobody knows yet how to
--- acknowledge it, and for drivers that do that themselves, in Lua.
---
--- Events wait in the ring while Lua is busy. When it is full, interrupts are counted, not lost
--- silently: the next event's `overflow`, and `stats().overflow`.
---
--- An acknowledgement that does not take the line back is a *storm*: the same interrupt comes again at once, and again, and
--- keeps two processors busy. It is told (Device:warn) within half a second, with the device, what was captured and how it
--- was acknowledged; `irq:storm()` tells a program. Then one is let through every 5 ms until the line is taken back; nothing
--- is lost by that, for a level that is held waits. `paced = false` leaves such a source alone, and only tells. How a storm is
--- told from a fast device, and where it can't be: runtime/storm.c.
---
--- On a line that devices share, uio_pci_generic may tell of more interrupts than a device had: one of another device
--- that comes before ours is acknowledged counts for both. A driver that captures its cause finds nothing there, and goes on waiting.

local bit = require "bit"
local descriptor = require "luio.loop.fd_watch"
local errors = require "luio.errors"
local ffi = require "ffi"
local uv = require "luv"
local door = require "luio.ffi"
local loading = require "luio.loop.loading"
local task = require "luio.loop.task"
local top_half = require "luio.top_half"
local C, err = door.C, door.err

local M = {}

---@class luio.Event
---@field time number      seconds on luio.now()'s clock: when it was taken
---@field count integer    interrupts since the event before
---@field overflow integer interrupts lost to a full ring just before this one
---@field [string] any     captured registers, under the names given in `capture`

---@class luio.IrqSetup
---@field capture table[]?  { name, offset, width =, region = }, at most 4
---@field ack table[]?      { offset, value or name of a capture, mask =, width =, region = }
---@field unmask boolean?   false: not by the top half; irq:unmask() does
---@field paced boolean?    false: a storm is told of, and not held up
---@field capacity integer? events the ring holds, a power of two; 1024
---@field priority integer? 1..99: SCHED_FIFO
---@field cpu integer?      run the thread only there

---@class luio.Irq
---@field vector integer
---@field package device luio.Device
---@field package source luio.IrqSource
local Irq = {}
Irq.__index = Irq
M.Irq = Irq -- for completion

--- What the handles of one vector share: a device has one, and each version of its driver. The thread
--- and its ring outlive them.
---@class luio.IrqSource
---@field handle ffi.cdata*?   luio_irq; nil while the thread does not run
---@field watch luio.Watch?
---@field names table<integer, table>  by epoch: what the events' values are called
---@field epoch integer
---@field setup luio.IrqSetup  of the thread
---@field news integer          of storms (luio_irq_storm), as far as they were told
---@field storm integer         storms until then
---@field storm_base integer    and until this top half
---@field storm_over integer?   the last one whose end was told
---@field back luio.Event[]    events that were given back: first to be delivered
---@field holders table<luio.Task, luio.Event>  the event that a task took and has not come back from
---@field waiter { irq: luio.Irq, task: luio.Task? }?  who waits now
local Source = {}
Source.__index = Source

local STOP_NS = 3e9
local EPOCHS = 64 -- top halves ago whose events are still known by name

-- ---- Top half: from data to steps ---------------------------------------------------------------

local function step(self, config, op, spec, offset)
  local region, message, code = self.device:region(spec.region or 0)
  if not region then return nil, message, code end
  local o = config.ops[config.n_ops]
  o.op, o.width, o.region, o.offset = op, spec.width or 32, region.handle, offset
  config.n_ops = config.n_ops + 1
  return o
end

-- Fills the steps of a checked setup; what the values will be called.
local function build(self, config, setup)
  local slots, names = {}, {}
  for i, spec in ipairs(setup.capture or {}) do
    local o, message, code = step(self, config, C.LUIO_OP_READ, spec, spec[2])
    if not o then return nil, message, code end
    o.slot = i - 1
    slots[spec[1]], names[i] = i - 1, { name = spec[1], wide = spec.width == 64 }
  end
  for _, spec in ipairs(setup.ack or {}) do
    local slot = slots[spec[2]]
    local o, message, code = step(self, config, slot and C.LUIO_OP_COPY or C.LUIO_OP_WRITE, spec, spec[1])
    if not o then return nil, message, code end
    if slot then
      o.slot, o.mask, o.value = slot, top_half.mask(spec), 0
    else
      o.value = top_half.unsigned(spec[2], spec.width or 32)
    end
  end
  if setup.unmask ~= false then
    config.ops[config.n_ops].op = C.LUIO_OP_UNMASK
    config.n_ops = config.n_ops + 1
  end
  config.capacity = setup.capacity or 0
  config.priority = setup.priority or 0
  config.cpu = setup.cpu or -1
  config.unpaced = setup.paced == false and 1 or 0
  return names
end

-- ---- Life ---------------------------------------------------------------------------------------

-- Weak: who has ended, and was not asked after, has nothing in hand.
local function new_holders() return setmetatable({}, { __mode = "k" }) end

local function live(self, level)
  local device = self.device
  if device.stale then error(("interrupt %d of %s: %s"):format(self.vector, device.address, device.stale), level + 1) end
  if device.closed then error(("interrupt %d of %s: the device is closed"):format(self.vector, device.address), level + 1) end
end

--- States the top half and how the thread runs. Before the first wait; or again after close.
---@param options luio.IrqSetup
---@return luio.Irq self
function Irq:setup(options)
  live(self, 2)
  if self.source.handle then error("irq setup: the interrupt thread runs already: close it first", 2) end
  local fault = top_half.fault(options)
  if fault then error("irq setup: " .. fault, 2) end
  self.source.setup = options
  return self
end

-- Bits of a storm's story that depend on the top half.
local function blame(setup, seen)
  local acks = top_half.acks(setup)
  if not setup.ack or not acks[1] then
    return "nothing acknowledges it, so its line is never taken back: `ack` in the driver's irq says what does"
  end
  local text = ("its acknowledgement (%s)"):format(table.concat(acks, ", "))
  return seen and text .. " does not take the line back" or ("does %s take the line back?"):format(text)
end

local function captured(source, raw)
  local list = {}
  for i, one in ipairs(source.names[raw.epoch] or {}) do
    local value = raw.value[i - 1]
    list[i] = { name = one.name, value = one.wide and value + 0ULL or tonumber(value) }
  end
  return list
end

local function with_values(source, storm)
  local values, parts = require "luio.registers.values", {} -- loaded only for those who have a storm
  for i, one in ipairs(captured(source, storm)) do parts[i] = ("%s=%s"):format(one.name, values.value(one.value)) end
  return parts[1] and (", each with %s"):format(table.concat(parts, " ")) or ""
end

local function is_power_of_two(n) return bit.band(n, n - 1) == 0 end

-- Says that a storm has begun, or is over: of many the first, second, fourth, eighth.
local function tell_storm(self)
  local source, storm = self.source, ffi.new "luio_irq_storm"
  C.luio_irq_get_storm(source.handle, storm)
  source.news = storm.news
  local number, new = tonumber(storm.number), tonumber(storm.number) ~= source.storm
  source.storm = number
  local nth = number - source.storm_base
  if nth == 0 or not is_power_of_two(nth) then return end
  if new then
    self.device:warn(("interrupt storm of %s: %d interrupts/s%s: %s%s"):format(self.device.address, tonumber(storm.rate),
      with_values(source, storm), blame(source.setup, storm.seen == 1), storm.pause_ns == 0 and ""
        or (". One is let through every %g ms until it does"):format(tonumber(storm.pause_ns) / 1e6)))
  end
  if storm.ended_ns > 0 and source.storm_over ~= number then
    source.storm_over = number
    self.device:warn(("the interrupt storm of %s is over, after %.2g s and %d interrupts"):format(self.device.address,
      tonumber(storm.ended_ns - storm.begun_ns) / 1e9, tonumber(storm.interrupts)))
  end
end

-- Has storms told as they begin, also while no task waits for an interrupt.
local function watch_storms(self)
  local source = self.source
  local watch, message, code = descriptor.watch(C.luio_irq_storm_fd(source.handle))
  if not watch then return nil, message, code end
  function watch.wake() -- for good, not for one wait. libuv's callbacks must not raise
    local ok, fault = pcall(tell_storm, self)
    if not ok then pcall(self.device.warn, self.device, errors.text(fault)) end
  end
  source.storm_watch = watch
  return watch:start()
end

--- Starts the thread, if it does not run yet. `wait` does so by itself; an early start catches
--- interrupts that come before the first wait.
---@return luio.Irq? self
---@return string? message
---@return string? code
function Irq:start()
  local source = self.source
  if source.handle then return self end
  if self.device.gone then return self.device:gone_failure(("interrupt %d"):format(self.vector)) end
  live(self, 2)
  loading.refuse(("interrupt %d of %s"):format(self.vector, self.device.address), 2)
  local config = ffi.new "luio_irq_config"
  if C.luio_device_irq(self.device.handle, self.vector, config, err) < 0 then return door.failure() end
  local names, why, why_code = build(self, config, source.setup)
  if not names then return nil, why, why_code end
  local out = ffi.new "luio_irq *[1]"
  if C.luio_irq_open(config, out, err) < 0 then return door.failure() end
  source.handle, source.epoch, source.names = out[0], 0, { [0] = names }
  source.raw = ffi.new "luio_irq_event"
  local watch, message, code = descriptor.watch(C.luio_irq_fd(source.handle), source.handle, source.raw)
  if not watch then
    self:close()
    return nil, message, code
  end
  source.watch, source.news, source.storm, source.storm_over = watch, 0, 0, 0
  source.storm_base = 0
  local watched
  watched, message, code = watch_storms(self)
  if not watched then
    self:close()
    return nil, message, code
  end
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
  local now = self.source.setup
  return same(setup.capture or {}, now.capture or {}) and same(setup.ack or {}, now.ack or {})
    and (setup.unmask ~= false) == (now.unmask ~= false)
end

--- Exchanges the top half while the thread runs: no interrupt is lost, none is taken by half of each.
--- Events that wait keep what the old one captured.
---@param self luio.Irq
---@param setup luio.IrqSetup  checked; capacity, priority and cpu stay as they are
---@return boolean? ok
---@return string? message
---@return string? code
function M.exchange(self, setup)
  local source = self.source
  if not source.handle then
    source.setup = setup
    return true
  end
  local config = ffi.new "luio_irq_config"
  local names, message, code = build(self, config, setup)
  if not names then return nil, message, code end
  local epoch = ffi.new "uint32_t[1]"
  -- Named before the first event of that epoch can be taken.
  source.names[source.epoch + 1] = names
  if C.luio_irq_set_top_half(source.handle, config, epoch, err) < 0 then return door.failure() end
  source.names[source.epoch - EPOCHS] = nil
  source.epoch, source.setup = epoch[0], setup
  source.storm_base = source.storm -- of its storms each is told again
  return true
end

--- The same for a driver, of its own vector: another top half from the next interrupt on. What waits keeps what the old one
--- captured. Before the thread runs it is what `setup` does.
---@param options luio.IrqSetup  offsets, not names (luio.driver.top_half turns those into offsets)
---@return boolean? ok
---@return string? message
---@return string? code
function Irq:exchange(options)
  live(self, 2)
  local fault = top_half.fault(options)
  if fault then error("irq exchange: " .. fault, 2) end
  if M.has(self, options) then return true end
  return M.exchange(self, options)
end

local function convert(self, raw)
  local source = self.source
  if raw.flags ~= 0 then
    local gone = raw.flags % 2 == 1 -- LUIO_EVENT_GONE
    local message, code = ffi.string(C.luio_irq_error(source.handle)), door.errno_name(raw.code)
    if not gone and C.luio_device_present(self.device.handle) == 1 then return nil, message, code end
    self.device:vanish(gone and "removed or unbound" or message)
    return self.device:gone_failure(("interrupt %d"):format(self.vector))
  end
  if self.device.on_interrupt then self.device.on_interrupt() end
  local event = {
    time = tonumber(raw.time_ns) / 1e9,
    count = tonumber(raw.count),
    overflow = tonumber(raw.overflow),
  }
  if event.overflow > 0 and not source.overflow_said then
    source.overflow_said = true
    self.device:warn(("%d interrupts of %s were lost to a full ring%s"):format(event.overflow, self.device.address,
      source.storm > 0 and " in a storm" or source.setup.ack and ": is the handler too slow, or does `ack` not take the line back?"
        or ": no `ack` in the top half, so a level-triggered line fires for ever"))
  end
  local names = source.names[raw.epoch] or {}
  for i = 1, #names do
    local value = raw.value[i - 1]
    event[names[i].name] = names[i].wide and value or tonumber(value)
  end
  return event
end

-- The next event for this handle, and who has it now; nil when none waits.
local function take(self)
  local source = self.source
  local event, message, code = table.remove(source.back, 1)
  if not event then
    local watch = source.watch
    if watch.taken then
      watch.taken = nil
    elseif C.luio_irq_next(source.handle, source.raw) == 0 then
      return false
    end
    if source.raw.news ~= source.news then tell_storm(self) end -- the loop may not turn for long
    event, message, code = convert(self, source.raw)
  end
  local who = task.current()
  if event and who and who.group then source.holders[who] = event end
  return true, event, message, code
end

-- Who asks for the next event is done with the last.
local function came_back(self)
  local who = task.current()
  if who then self.source.holders[who] = nil end
end

--- Takes the oldest event without waiting. Starts the thread if need be.
---@return luio.Event? event  nil alone: none waits
---@return string? message
---@return string? code
function Irq:poll()
  live(self, 2)
  local ok, message, code = self:start()
  if not ok then return nil, message, code end
  came_back(self)
  local taken, event
  taken, event, message, code = take(self)
  if not taken then return nil end
  return event, message, code
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
  live(self, 2)
  local ok, message, code = self:start()
  if not ok then return nil, message, code end
  local source = self.source
  if source.waiter then error("two tasks wait for one interrupt: spawn one that hands events out", 2) end
  came_back(self)
  local deadline = uv.hrtime() + seconds * 1e9
  while true do
    local taken, event
    taken, event, message, code = take(self)
    if taken then return event, message, code end
    if self.device.gone then return self.device:gone_failure(("interrupt %d"):format(self.vector)) end
    local left = (deadline - uv.hrtime()) / 1e9
    local waiter = { irq = self, task = task.current() }
    source.waiter = waiter
    local readable
    ok, readable, message, code = pcall(source.watch.readable, source.watch, seconds == 0 and 0 or math.max(left, 0))
    if source.waiter == waiter then source.waiter = nil end
    if not ok then error(readable, 2) end
    if self.device.stale then error(("interrupt %d of %s: %s"):format(self.vector, self.device.address, self.device.stale), 2) end
    if self.device.gone then return self.device:gone_failure(("interrupt %d"):format(self.vector)) end
    if not source.handle then return nil, "the device was closed during the wait", "ECANCELED" end
    if not readable then
      if code == "ETIMEDOUT" then
        -- One may have come in the last moment.
        taken, event, message, code = take(self)
        if taken then return event, message, code end
        local failure = self.device.failure and self.device.failure()
        if failure then return nil, failure, "EIO" end
        message, code = ("no interrupt of %s within %g s"):format(self.device.address, seconds), "ETIMEDOUT"
      end
      return nil, message, code
    end
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
  return self.device:unmask()
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

-- ---- For a reload --------------------------------------------------------------------------------

--- Takes the place of who waits now: another may wait. The wait goes on when it is woken, which `resume`
--- does.
---@return { irq: luio.Irq, task: luio.Task?, wake: fun(...) }?  who waited
function Source:displace()
  local waiter = self.waiter
  if not waiter then return nil end
  self.waiter = nil
  waiter.wake = self.watch:displace()
  return waiter
end

--- Events that nobody has taken yet.
---@return integer
function Source:waiting()
  if not self.handle then return #self.back end
  return #self.back + (self.watch.taken and 1 or 0) + tonumber(C.luio_irq_waiting(self.handle))
end

--- Gives back what tasks of a group have in hand: it is delivered again, first of all, in the order in
--- which it came.
---@param group luio.TaskGroup
---@return integer n
function Source:give_back(group)
  local list = {}
  for who, event in pairs(self.holders) do
    if who.group == group then
      table.insert(list, event)
      self.holders[who] = nil
    end
  end
  table.sort(list, function(a, b) return a.time > b.time end)
  for _, event in ipairs(list) do table.insert(self.back, 1, event) end
  return #list
end

---@class luio.IrqStats
---@field interrupts integer counted by the source
---@field delivered integer  put into the ring
---@field overflow integer   lost because it was full
---@field events integer     entries put into the ring
---@field direct integer     of the interrupts, taken by the Lua thread, which slept in its loop

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

---@class luio.Storm
---@field number integer        the first, the second since the thread was started
---@field rate number           interrupts a second, until it was named
---@field interrupts integer    that came in it, until it was named; or until its end
---@field begun number          seconds on luio.now()'s clock
---@field ended number?         nil: it goes on
---@field pause number?         seconds for which the source stays masked after each; nil: it does not
---@field captured table<string, any>  what each has read

--- The last interrupt storm since the thread was started.
---@return luio.Storm?  nil: there was none
function Irq:storm()
  local source, storm = self.source, ffi.new "luio_irq_storm"
  if not source.handle then return nil end
  C.luio_irq_get_storm(source.handle, storm)
  if storm.news ~= source.news then tell_storm(self) end -- reading takes the news from the loop
  if storm.number == 0 then return nil end
  local plain = {}
  for _, one in ipairs(captured(source, storm)) do plain[one.name] = one.value end
  return {
    number = tonumber(storm.number), rate = tonumber(storm.rate), interrupts = tonumber(storm.interrupts), captured = plain,
    begun = tonumber(storm.begun_ns) / 1e9, ended = storm.ended_ns > 0 and tonumber(storm.ended_ns) / 1e9 or nil,
    pause = storm.pause_ns > 0 and tonumber(storm.pause_ns) / 1e9 or nil,
  }
end

--- Stops the thread, within 3 s. Idempotent.
---@return boolean? ok
---@return string? message
---@return string? code
function Irq:close()
  local stale = self.device.stale
  if stale then error(("interrupt %d of %s: %s"):format(self.vector, self.device.address, stale), 2) end
  local source = self.source
  if not source.handle then return true end
  local watch = source.watch
  local storms = source.storm_watch
  if watch then watch:stop() end -- libuv forgets the descriptors here, before C closes them
  if storms then
    storms.wake = nil -- it wakes nobody, for it is no wait
    storms:stop()
  end
  if C.luio_irq_close(source.handle, STOP_NS, err) < 0 then return door.failure() end
  source.handle, source.watch, source.storm_watch, source.back, source.holders = nil, nil, nil, {}, new_holders()
  if storms then storms:close() end
  if watch then watch:close() end -- wakes who waits
  return true
end

--- Used by luio.device.
---@param device luio.Device
---@param vector integer
---@param source? luio.IrqSource  of another handle of the same vector
---@return luio.Irq
function M.new(device, vector, source)
  source = source or setmetatable({ setup = {}, names = {}, epoch = 0, back = {}, holders = new_holders() }, Source)
  return setmetatable({ device = device, vector = vector, source = source }, Irq)
end

return M
