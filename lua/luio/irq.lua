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
--- right for edge-like sources and a storm for level-triggered ones that nobody acknowledges.
---
--- Events wait in the ring while Lua is busy. When it is full, interrupts are counted, not lost
--- silently: the next event's `overflow`, and `stats().overflow`.

local ffi = require "ffi"
local uv = require "luv"
local door = require "luio.ffi"
local near = require "luio.registers.near"
local task = require "luio.task"
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
---@field capacity integer? events the ring holds, a power of two; 1024
---@field priority integer? 1..99: SCHED_FIFO
---@field cpu integer?      run the thread only there

---@class luio.Irq
---@field vector integer
---@field package device luio.Device
local Irq = {}
Irq.__index = Irq

local STOP_NS = 3e9

-- ---- Top half: from data to steps ---------------------------------------------------------------

local SETUP = { capture = "table", ack = "table", capacity = "number", priority = "number", cpu = "number" }
local STEP = { width = "number", region = "number", mask = "value" }
local OURS = { time = true, count = true, overflow = true } -- in every event

local function check_keys(where, t, known, positions)
  for key, value in pairs(t) do
    local in_place = type(key) == "number" and key >= 1 and key <= positions
    if not in_place and not known[key] then
      return ("%s: unknown key %s%s"):format(where, tostring(key), near.hint(tostring(key), known))
    elseif not in_place and known[key] ~= "value" and type(value) ~= known[key] then
      return ("%s: %s is a %s, not a %s"):format(where, key, type(value), known[key])
    end
  end
end

local function check_offset(where, offset)
  if type(offset) ~= "number" then
    return ("%s: the offset is %s, not a number%s"):format(where, tostring(offset), offset == nil and " (a misspelt register?)" or "")
  end
end

--- What is wrong with the shape of a top half; nil: nothing.
---@param setup luio.IrqSetup
---@return string?
function M.fault(setup)
  local fault = check_keys("setup", setup, SETUP, 0)
  if fault then return fault end
  local captures, acks = setup.capture or {}, setup.ack or {}
  if #captures > C.LUIO_IRQ_CAPTURES then return ("at most %d captures"):format(C.LUIO_IRQ_CAPTURES) end
  if #captures + #acks > C.LUIO_IRQ_OPS - 1 then return ("at most %d steps"):format(C.LUIO_IRQ_OPS - 1) end
  local names = {}
  for i, spec in ipairs(captures) do
    local where = ("capture[%d]"):format(i)
    if type(spec) ~= "table" or type(spec[1]) ~= "string" then return where .. ': a capture is { "name", offset }' end
    where = ("%s %q"):format(where, spec[1])
    if OURS[spec[1]] then return where .. ": that name every event has already" end
    if names[spec[1]] then return where .. ": captured twice" end
    names[spec[1]] = true
    fault = check_offset(where, spec[2]) or check_keys(where, spec, STEP, 2)
    if fault then return fault end
  end
  for i, spec in ipairs(acks) do
    local where = ("ack[%d]"):format(i)
    if type(spec) ~= "table" then return where .. ": an ack is { offset, value or name of a capture }" end
    fault = check_offset(where, spec[1]) or check_keys(where, spec, STEP, 2)
    if fault then return fault end
    if type(spec[2]) == "string" and not names[spec[2]] then
      return ('%s names "%s", which is no capture%s'):format(where, spec[2], near.hint(spec[2], names))
    elseif type(spec[2]) ~= "string" and type(spec[2]) ~= "number" and type(spec[2]) ~= "cdata" then
      return ("%s: with what? A value, or the name of a capture, not %s"):format(where, tostring(spec[2]))
    end
  end
end

jit.off(check_keys) -- compiled pairs() can crash in Debian 12's LuaJIT (ARCHITECTURE.md)

local function step(self, config, op, spec, offset)
  local region, message, code = self.device:region(spec.region or 0)
  if not region then return nil, message, code end
  local o = config.ops[config.n_ops]
  o.op, o.width, o.region, o.offset = op, spec.width or 32, region.handle, offset
  config.n_ops = config.n_ops + 1
  return o
end

-- Fills the steps of a checked setup.
local function build(self, config)
  local setup = self.options
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
      o.slot, o.mask, o.value = slot, spec.mask or 0xffffffffffffffffULL, 0
    else
      o.value = spec[2]
    end
  end
  config.ops[config.n_ops].op = C.LUIO_OP_UNMASK
  config.n_ops = config.n_ops + 1
  config.capacity = setup.capacity or 0
  config.priority = setup.priority or 0
  config.cpu = setup.cpu or -1
  self.names = names
  return true
end

-- ---- Life ---------------------------------------------------------------------------------------

--- States the top half and how the thread runs. Before the first wait; or again after close.
---@param options luio.IrqSetup
---@return luio.Irq self
function Irq:setup(options)
  if self.handle then error("irq setup: the interrupt thread runs already: close it first", 2) end
  local fault = M.fault(options)
  if fault then error("irq setup: " .. fault, 2) end
  self.options = options
  return self
end

--- Starts the thread, if it does not run yet. `wait` does so by itself; an early start catches
--- interrupts that come before the first wait.
---@return luio.Irq? self
---@return string? message
---@return string? code
function Irq:start()
  if self.handle then return self end
  if self.device.closed then error(("interrupt %d of %s: the device is closed"):format(self.vector, self.device.address), 2) end
  local config = ffi.new "luio_irq_config"
  if C.luio_device_irq(self.device.handle, self.vector, config, err) < 0 then return door.failure() end
  local built, why, why_code = build(self, config)
  if not built then return nil, why, why_code end
  local out = ffi.new "luio_irq *[1]"
  if C.luio_irq_open(config, out, err) < 0 then return door.failure() end
  self.handle = out[0]
  self.fd = C.luio_irq_fd(self.handle)
  self.raw = ffi.new "luio_irq_event"
  local watch, message, code = task.watch(self.fd, self.handle)
  if not watch then
    self:close()
    return nil, message, code
  end
  self.watch = watch
  return self
end

local function convert(self, raw)
  if raw.flags ~= 0 then
    local gone = raw.flags % 2 == 1 -- LUIO_EVENT_GONE
    self.gone = gone or nil
    return nil, ffi.string(C.luio_irq_error(self.handle)), gone and "ENODEV" or door.errno_name(raw.code)
  end
  if self.device.sim then self.device.sim.notice() end
  local event = {
    time = tonumber(raw.time_ns) / 1e9,
    count = tonumber(raw.count),
    overflow = tonumber(raw.overflow),
  }
  if event.overflow > 0 and not self.overflow_said then
    self.overflow_said = true
    self.device:warn(("%d interrupts of %s were lost to a full ring%s"):format(event.overflow, self.device.address,
      self.options.ack and ": is the handler too slow?" or ": no `ack` in the top half, so a level-triggered line fires for ever"))
  end
  for i, capture in ipairs(self.names) do
    local value = raw.value[i - 1]
    event[capture.name] = capture.wide and value or tonumber(value)
  end
  return event
end

--- Takes the oldest event without waiting. Starts the thread if need be.
---@return luio.Event? event  nil alone: none waits
---@return string? message
---@return string? code
function Irq:poll()
  local ok, message, code = self:start()
  if not ok then return nil, message, code end
  if C.luio_irq_next(self.handle, self.raw) == 0 then return nil end
  return convert(self, self.raw)
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
  if self.device.closed then error(("interrupt %d of %s: the device is closed"):format(self.vector, self.device.address), 2) end
  local ok, message, code = self:start()
  if not ok then return nil, message, code end
  if self.waiting then error("two tasks wait for one interrupt: spawn one that hands events out", 2) end
  local deadline = uv.hrtime() + seconds * 1e9
  while true do
    if C.luio_irq_next(self.handle, self.raw) ~= 0 then return convert(self, self.raw) end
    if self.gone then return nil, ffi.string(C.luio_irq_error(self.handle)), "ENODEV" end
    local left = (deadline - uv.hrtime()) / 1e9
    self.waiting = true
    local readable
    ok, readable, message, code = pcall(self.watch.readable, self.watch, seconds == 0 and 0 or math.max(left, 0))
    self.waiting = nil
    if not ok then error(readable, 2) end
    if not self.handle then return nil, "the device was closed during the wait", "ECANCELED" end
    if not readable then
      if code == "ETIMEDOUT" then
        -- One may have come in the last moment.
        if C.luio_irq_next(self.handle, self.raw) ~= 0 then return convert(self, self.raw) end
        local sim = self.device.sim
        local failure = sim and sim.failure()
        if failure then return nil, failure, "EIO" end
        message = ("no interrupt of %s within %g s"):format(self.device.address, seconds)
      end
      return nil, message, code
    end
  end
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
  if self.handle then C.luio_irq_get_stats(self.handle, s) end
  return {
    interrupts = tonumber(s.interrupts), delivered = tonumber(s.delivered),
    overflow = tonumber(s.overflow), events = tonumber(s.events), direct = tonumber(s.direct),
  }
end

--- Stops the thread, within 3 s. Idempotent.
---@return boolean? ok
---@return string? message
---@return string? code
function Irq:close()
  if not self.handle then return true end
  local watch = self.watch
  if watch then watch:stop() end -- libuv forgets the descriptor here, before C closes it
  if C.luio_irq_close(self.handle, STOP_NS, err) < 0 then return door.failure() end
  self.handle, self.fd, self.gone, self.watch = nil, nil, nil, nil
  if watch then watch:close() end -- wakes who waits
  return true
end

--- Used by luio.device.
---@param device luio.Device
---@param vector integer
---@return luio.Irq
function M.new(device, vector)
  return setmetatable({ device = device, vector = vector, options = {}, names = {} }, Irq)
end

return M
