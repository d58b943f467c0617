--- An interrupt's source, shared by the handles of one vector. A device has a handle, and each version of its driver; the
--- thread in C and its ring outlive them.
---
--- The way of an event to the waiting task: the thread puts it into the ring, and the ring's descriptor becomes readable. Or, if
--- the Lua thread sleeps in its loop, the Lua thread takes the interrupt itself (luio_irq_share), because the source's own
--- descriptor is in libuv's epoll set, too. libuv finds the uv_poll_t by the descriptor that an epoll event names, and the event of
--- the source names the ring's. So an interrupt that finds the loop asleep takes one wake-up, and one call into C, which returns
--- the event. The source must leave libuv's set whenever the uv_poll_t does, because its events would have no handler.

local runtime = require "luio.ffi"
local fd_watch = require "luio.loop.fd_watch"
local ffi = require "ffi"
local task = require "luio.loop.task"
local top_half = require "luio.top_half"
local uv = require "luv"
local wait_slot = require "luio.loop.wait_slot"
local C, err = runtime.C, runtime.err

local M = {}

---@class luio.IrqSource
---@field handle ffi.cdata*?   luio_irq; nil while the thread does not run
---@field watch luio.FdWatch?  where a task waits
---@field through luio.Irq?    the handle by which that one waits, or the last did
---@field raw ffi.cdata*       luio_irq_event: the last that was taken
---@field taken boolean?       that event was not delivered yet
---@field names table<integer, table>  by epoch: the names of the events' values
---@field epoch integer
---@field setup luio.IrqSetup  of the thread
---@field storms luio.IrqStorms?
---@field overflow_said boolean?
---@field back luio.Event[]    events that were given back: first to be delivered
---@field holders table<luio.Task, luio.Event>  the event that a task took and has not come back from
local Source = {}
Source.__index = Source

local STOP_NS = 3e9
local EPOCHS = 64 -- top halves ago whose events are still known by name

-- Weak: a task that has ended without being asked for has no event in hand.
local function new_holders() return setmetatable({}, { __mode = "k" }) end

--- One whose thread does not run.
---@return luio.IrqSource
function M.new()
  return setmetatable({ setup = {}, names = {}, epoch = 0, back = {}, holders = new_holders(), raw = ffi.new "luio_irq_event" }, Source)
end

-- ---- Top half: from data to steps ----------------------------------------------------------------

local function step(device, config, op, spec, offset)
  local region, message, code = device:region(spec.region or 0)
  if not region then return nil, message, code end
  local o = config.ops[config.n_ops]
  o.op, o.width, o.region, o.offset = op, spec.width or 32, region.handle, offset
  config.n_ops = config.n_ops + 1
  return o
end

-- Fills the steps of a checked setup; returns the names of the values.
local function build(device, config, setup)
  local slots, names = {}, {}
  for i, spec in ipairs(setup.capture or {}) do
    local o, message, code = step(device, config, C.LUIO_OP_READ, spec, spec[2])
    if not o then return nil, message, code end
    o.slot = i - 1
    slots[spec[1]], names[i] = i - 1, { name = spec[1], wide = spec.width == 64 }
  end
  for _, spec in ipairs(setup.ack or {}) do
    local slot = slots[spec[2]]
    local o, message, code = step(device, config, slot and C.LUIO_OP_COPY or C.LUIO_OP_WRITE, spec, spec[1])
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

-- ---- Life ----------------------------------------------------------------------------------------

-- A task waits, and the ring has something, or the source has.
local function take(self, failure)
  local watch, handle, n = self.watch, self.handle, 0
  if failure then return end -- the source's, more likely than our descriptor's: the thread will say
  if not self.taken then
    n = C.luio_irq_take(handle, self.raw)
    self.taken = n > 0
  end
  if self.taken then wait_slot.wake(watch, true) end
  if n > 1 and self.handle == handle then C.luio_irq_publish(handle) end
end

--- Starts the thread.
---@param config ffi.cdata*   luio_irq_config, complete
---@param names table[]       the names of the events' values
---@param device luio.Device  for reports of storms
---@return true? ok
---@return string? message
---@return string? code
function Source:open(config, names, device)
  local out = ffi.new "luio_irq *[1]"
  if C.luio_irq_open(config, out, err) < 0 then return runtime.failure() end
  local handle = out[0]
  self.handle, self.epoch, self.names, self.taken = handle, 0, { [0] = names }, false
  local message, code
  self.watch, message, code = fd_watch.watch(C.luio_irq_fd(handle), "r", {
    started = function() C.luio_irq_share(handle, uv.backend_fd()) end, -- where it can't be, the thread does all
    stopping = function() C.luio_irq_unshare(handle) end,
    ready = function(failure) take(self, failure) end,
  })
  if self.watch then self.storms, message, code = require("luio.irq.storms").watch(self, device) end
  if self.storms then return true end
  self:close()
  return nil, message, code
end

--- Starts the thread for a device, with the top half that `setup` states.
---@param device luio.Device
---@param vector integer
---@return true? ok
---@return string? message
---@return string? code
function Source:start(device, vector)
  local config = ffi.new "luio_irq_config"
  if device.irqs.kind ~= "intx" then -- a message is a memory write; before the vector is unmasked
    local command, message, code = device.config:command()
    if not command then return nil, message, code end
    if not command.bus_master then
      local on
      on, message, code = device:bus_master(true)
      if not on then return nil, message, code end
    end
  end
  if C.luio_device_irq(device.handle, vector, config, err) < 0 then return runtime.failure() end
  local names, message, code = build(device, config, self.setup)
  if not names then return nil, message, code end
  return self:open(config, names, device)
end

--- Exchanges the top half while the thread runs.
---@param device luio.Device
---@param setup luio.IrqSetup  checked
---@return true? ok
---@return string? message
---@return string? code
function Source:exchange(device, setup)
  if not self.handle then
    self.setup = setup
    return true
  end
  local config = ffi.new "luio_irq_config"
  local names, message, code = build(device, config, setup)
  if not names then return nil, message, code end
  local epoch = ffi.new "uint32_t[1]"
  -- Named before the first event of that epoch can be taken.
  self.names[self.epoch + 1] = names
  if C.luio_irq_set_top_half(self.handle, config, epoch, err) < 0 then return runtime.failure() end
  self.names[self.epoch - EPOCHS] = nil
  self.epoch, self.setup = epoch[0], setup
  self.storms:begin_again()
  return true
end

--- Stops the thread. Idempotent. A task that waits is woken.
---@return true? ok
---@return string? message
---@return string? code
function Source:close()
  if not self.handle then return true end
  local watch, told = self.watch, self.storms
  -- libuv forgets the descriptors here, before C closes them.
  if watch then watch:stop() end
  if told then told:stop() end
  if C.luio_irq_close(self.handle, STOP_NS, err) < 0 then return runtime.failure() end
  self.handle, self.watch, self.storms, self.taken, self.back, self.holders = nil, nil, nil, false, {}, new_holders()
  if told then told:close() end
  if watch then watch:close() end
  return true
end

-- ---- Events --------------------------------------------------------------------------------------

local function convert(self, irq)
  local raw, device = self.raw, irq.device
  if raw.flags ~= 0 then
    local gone = raw.flags % 2 == 1 -- LUIO_EVENT_GONE
    local message, code = ffi.string(C.luio_irq_error(self.handle)), runtime.errno_name(raw.code)
    if not gone and C.luio_device_present(device.handle) == 1 then return nil, message, code end
    device:vanish(gone and device.removed or message)
    return device:gone_failure(("interrupt %d"):format(irq.vector))
  end
  if device.on_interrupt then device.on_interrupt() end
  local event = {
    time = tonumber(raw.time_ns) / 1e9,
    count = tonumber(raw.count),
    overflow = tonumber(raw.overflow),
  }
  if event.overflow > 0 and not self.overflow_said then
    self.overflow_said = true
    device:warn(("%d interrupts of %s were lost to a full ring%s"):format(event.overflow, device.address,
      self.storms.number > 0 and " in a storm" or self.setup.ack and ": is the handler too slow, or does `ack` not take the line back?"
        or ": no `ack` in the top half, so a level-triggered line fires for ever"))
  end
  local names = self.names[raw.epoch] or {}
  for i = 1, #names do
    local value = raw.value[i - 1]
    event[names[i].name] = names[i].wide and value or tonumber(value)
  end
  return event
end

--- Takes the next event for a handle, without waiting. The running task has it in hand until it asks for another.
---@param irq luio.Irq
---@return boolean taken
---@return luio.Event? event  nil: the reason follows
---@return string? message
---@return string? code
function Source:take(irq)
  local who = task.current()
  if who then self.holders[who] = nil end -- a task that asks for the next event is done with the last
  local event, message, code = self.back[1], nil, nil
  if event then
    table.remove(self.back, 1)
  else
    if self.taken then
      self.taken = false
    elseif C.luio_irq_next(self.handle, self.raw) == 0 then
      return false
    end
    if self.raw.news ~= self.storms.news then self.storms:tell(self, irq.device) end
    event, message, code = convert(self, irq)
  end
  if event and who and who.group then self.holders[who] = event end
  return true, event, message, code
end

-- ---- For a reload --------------------------------------------------------------------------------

--- The task that waits now, and its handle.
---@return luio.Waiter?
---@return luio.Irq? through
function Source:waiter()
  local who = self.watch and wait_slot.waiter(self.watch)
  if who then return who, self.through end
end

--- Makes room for another task to wait. The previous waiter goes on waiting, until luio.loop.wait_slot's `wake_waiter` or the deadline.
---@return luio.Waiter? who
function Source:displace()
  return self.watch and wait_slot.displace(self.watch)
end

--- The number of events that were not taken yet.
---@return integer
function Source:waiting()
  if not self.handle then return #self.back end
  return #self.back + (self.taken and 1 or 0) + tonumber(C.luio_irq_waiting(self.handle))
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

return M
