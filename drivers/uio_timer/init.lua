--- The other half of the kernel module uio_timer (examples/kernel/uio_timer): interrupts come as records in a ring that the
--- module's handler fills, many of them behind one wake-up.
---
---     local batch = uio_timer.batch(256)
---     uio_timer.run(dev, 20000)                              -- interrupts per second
---     local n = assert(uio_timer.receive(dev, batch, 1, 64)) -- in a task: when 64 are there, or after 1 s what there is
---     for k = 0, n - 1 do print(batch.at[k].number, batch.at[k].time) end
---
--- The ring has one producer, the handler, and one consumer, us. HEAD counts the records that were put in, TAIL those that
--- were taken out; both run freely, modulo 2^32. Their order:
---   HEAD is loaded, fence_flag, records are loaded: so those are complete that HEAD counts (the handler stores HEAD with
---   release). Records are loaded, fence_flag, TAIL is stored: so the handler writes over none that is still being read.
---   WAKE_AT is stored, fence_full, HEAD is loaded again before we sleep. The handler stores HEAD, and has a full barrier
---   before it loads WAKE_AT. The side that comes second sees the other's store, so no wake-up is lost.
--- Every load and store is one of the region's exact accessors, because LuaJIT keeps no order among plain ones
--- (runtime/README.md), and because on a simulated device there is no memory behind it.
---
--- The interrupt has been acknowledged in the kernel, so there is no top half. The runtime need not unmask either: that is
--- irqcontrol here, which starts the timer. We do it, for that and because a simulated device masks at each interrupt.

local bit = require "bit"
local ffi = require "ffi"
local luio = require "luio"

local band = bit.band
local fence_flag, fence_full = luio.fence_flag, luio.fence_full

local uio_timer = { name = "uio_timer", match = { uio = "uio_timer" }, registers = require "drivers.uio_timer.registers" }

uio_timer.irq = { unmask = false }
uio_timer.durable = { "period" }

local WRAP = 2 ^ 32
local RECORD_SIZE = 32
local HEAD, TAIL = 0x00, 0x80 -- of the control page, for the hot paths

local records_t = ffi.typeof "struct { double number, time, due; int32_t periods; } [?]"

-- Drops the records in the ring.
local function discard(dev)
  local head = dev.regs.HEAD:read()
  dev.regs.TAIL:write(head)
  local ring = dev.state.ring
  ring.tail, ring.expected = head, nil
end

local function check(dev)
  local regs = dev.regs
  local id, version, size, count = regs.ID:read(), regs.VERSION:read(), regs.RECORD_SIZE:read(), regs.RECORDS:read()
  if id ~= regs.ID.def.reset then return nil, ("ID is 0x%08x, not 0x%08x"):format(id, regs.ID.def.reset), "ENODEV" end
  if version ~= 1 or size ~= RECORD_SIZE then
    return nil, ("the module shares version %d with records of %d bytes, not version 1 with %d: build and load the one beside this driver")
      :format(version, size, RECORD_SIZE), "ENODEV"
  end
  if count < 1 or band(count, count - 1) ~= 0 or count * size > dev.regions[2].size then
    return nil, ("RECORDS is %d, but the ring has 0x%x bytes"):format(count, dev.regions[2].size), "ENODEV"
  end
  return count
end

--- Of dev.state.
---@class uio_timer.Ring
---@field count integer      records it holds
---@field tail number        modulo 2^32
---@field expected number?   number of the next record when none is lost
---@field received number
---@field lost number        interrupts whose record is missing

function uio_timer.start(dev, reason)
  local count, message, code = check(dev)
  if not count then return nil, message, code end
  if reason == "reload" then return true end
  dev.state.ring = { count = count, tail = dev.regs.TAIL:read(), received = 0, lost = 0 }
  -- After a crash the unread records are still there. The module stopped the timer when the process died.
  if reason ~= "crash" then discard(dev) end
  dev.regs.NOTIFY:write { WHEN = "ASKED" }
  local period = dev.state.period
  if period then return uio_timer.run(dev, 1e9 / period) end
  dev.regs.PERIOD_NS:write(0) -- to wait for records is not to start the timer
  return true
end

function uio_timer.stop(dev)
  uio_timer.halt(dev)
  dev.regs.NOTIFY:write { WHEN = "EVERY" }
end

--- Starts the timer, or changes its rate.
---@param hertz number  interrupts per second; at most 1e9 / MIN_PERIOD_NS
---@return boolean? ok
---@return string? message
---@return string? code  "ERANGE": faster than the module allows
function uio_timer.run(dev, hertz)
  local period = math.floor(1e9 / hertz + 0.5)
  local least = dev.regs.MIN_PERIOD_NS:read()
  if not (period >= least and period < WRAP) then
    return nil, ("%g interrupts per second: %s allows %.4g to %g (module parameter min_period_ns)"):format(hertz, dev.address,
      1e9 / WRAP, 1e9 / least), "ERANGE"
  end
  dev.regs.PERIOD_NS:write(period)
  local ok, message, code = dev:unmask()
  if ok then dev.state.period = period end
  return ok, message, code
end

--- Stops the timer. Records stay.
---@return boolean? ok
---@return string? message
---@return string? code
function uio_timer.halt(dev)
  dev.state.period = nil
  dev.regs.PERIOD_NS:write(0)
  return dev:mask()
end

---@class uio_timer.Batch
---@field capacity integer
---@field at ffi.cdata*  from 0: number; time and due in seconds on luio.now()'s clock; periods

--- Room for records, to be used again and again.
---@param capacity integer
---@return uio_timer.Batch
function uio_timer.batch(capacity)
  return { capacity = capacity, at = records_t(capacity) }
end

-- Loads n records, which are complete. It has only the loop, for the compiler.
local function load_records(region, at, tail, mask, n)
  for k = 0, n - 1 do
    local offset = band(tail + k, mask) * RECORD_SIZE
    local record = at[k]
    record.number = tonumber(region:read64(offset))
    record.time = tonumber(region:read64(offset + 8)) * 1e-9
    record.due = tonumber(region:read64(offset + 16)) * 1e-9
    record.periods = region:read32(offset + 24)
  end
end

-- Missing numbers are interrupts that found the ring full. Numbers that go back, or so far on as the module would not in
-- days, are somebody else's, who writes to the map: they do not count losses.
local function count_lost(ring, at, n)
  local expected, lost = ring.expected or at[0].number, 0
  for k = 0, n - 1 do
    local number = at[k].number
    local gap = number - expected
    if gap > 0 and gap < WRAP then lost = lost + gap end
    expected = number + 1
  end
  ring.expected, ring.lost, ring.received = expected, ring.lost + lost, ring.received + n
end

--- Takes the records in the ring, without waiting.
---@param batch uio_timer.Batch  filled from 0
---@return integer n
---@return string? message  HEAD makes no sense: another process writes to the maps; the ring's records are discarded
---@return string? code  "EPROTO"
function uio_timer.take(dev, batch)
  local ring, control = dev.state.ring, dev.regions[1]
  local n = (control:read32(HEAD) - ring.tail) % WRAP
  if n == 0 then return 0 end
  if n > ring.count then
    discard(dev)
    return 0, ("%s has %d records in a ring of %d: does another process write to its maps?"):format(dev.address, n, ring.count), "EPROTO"
  end
  fence_flag()
  if n > batch.capacity then n = batch.capacity end
  load_records(dev.regions[2], batch.at, ring.tail, ring.count - 1, n)
  fence_flag()
  ring.tail = (ring.tail + n) % WRAP
  control:write32(TAIL, ring.tail)
  count_lost(ring, batch.at, n)
  return n
end

--- Waits for records, by interrupt. One task at a time.
---@param batch uio_timer.Batch
---@param seconds number   at most
---@param least? integer   this many are worth a wake-up; 1. When time is up, fewer are taken
---@return integer? n      at least 1
---@return string? message
---@return string? code    "ETIMEDOUT": none came; "ENODEV": the device is gone; "EPROTO"
function uio_timer.receive(dev, batch, seconds, least)
  if dev.gone then return dev:gone_failure "receive" end
  local ring, regs = dev.state.ring, dev.regs
  least = least or 1
  if not (least >= 1 and least <= ring.count / 2) then
    error(("receive: a wake-up is for 1 to %d records, half the ring, not %s"):format(ring.count / 2, tostring(least)), 2)
  end
  local deadline = luio.now() + seconds
  local enough = least
  while true do
    if (regs.HEAD:read() - ring.tail) % WRAP >= enough then
      local n, message, code = uio_timer.take(dev, batch)
      if message then return nil, message, code end
      if n > 0 then return n end
    end
    if enough == 0 then return nil, ("no record of %s within %g s"):format(dev.address, seconds), "ETIMEDOUT" end
    regs.WAKE_AT:write((ring.tail + least) % WRAP)
    local ok, message, code = dev:unmask()
    if not ok then return nil, message, code end
    fence_full()
    if (regs.HEAD:read() - ring.tail) % WRAP < least then
      local event
      event, message, code = dev.irqs[0]:wait(math.max(0, deadline - luio.now()))
      if code == "ETIMEDOUT" or event and luio.now() >= deadline then
        enough = 0 -- what there is; also while interrupts come behind which there is none
      elseif not event then
        return nil, message, code
      end
    end
  end
end

---@class uio_timer.Stats
---@field received number  records
---@field lost number      interrupts whose record is missing, seen by their numbers
---@field dropped integer  the same as the module counts it, since it was loaded, modulo 2^32
---@field missed integer   periods that passed without an interrupt, also since then
---@field notified integer wake-ups, also

--- The counters.
---@return uio_timer.Stats
function uio_timer.stats(dev)
  local regs, ring = dev.regs, dev.state.ring
  return {
    received = ring.received, lost = ring.lost, dropped = regs.DROPPED:read(), missed = regs.MISSED:read(),
    notified = regs.NOTIFIED:read(),
  }
end

return uio_timer
