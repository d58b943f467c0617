--- ARM's real-time clock PL031 (ARM DDI 0224): the time in seconds, and an alarm.
---
--- The counter itself can't be stopped or loaded; a read returns the counter plus an offset, which a write to RTCLR changes.
--- The comparator tells equality: a match value that has gone by interrupts when 32 bits have come round, in 136 years. So an
--- alarm in the past is refused, and one whose second came while it was being set is found by looking once more.

local luio = require "luio"

local pl031 = { name = "pl031", match = { of = "arm,pl031" }, registers = require "drivers.pl031.registers" }

pl031.irq = { capture = "RTCMIS", ack = "RTCICR" }

local PART, DESIGNER = 0x031, 0x41 -- in RTCPeriphID; 0x41 is ARM
local GRACE = 2 -- seconds: how late a device may be before we give up on it
local LARGEST = 2 ^ 32 - 1

local function identify(regs)
  local low, middle, high = regs.RTCPeriphID0:read(), regs.RTCPeriphID1:read(), regs.RTCPeriphID2:read()
  local id1, id2 = regs.RTCPeriphID1:decode(middle), regs.RTCPeriphID2:decode(high)
  return regs.RTCPeriphID0:decode(low).PARTNUMBER0 + id1.PARTNUMBER1 * 0x100, id1.DESIGNER0 + id2.DESIGNER1 * 0x10
end

function pl031.start(dev)
  local part, designer = identify(dev.regs)
  if part ~= PART or designer ~= DESIGNER then
    return nil, ("RTCPeriphID says part 0x%03x of designer 0x%02x, not 0x%03x of 0x%02x"):format(part, designer, PART, DESIGNER), "ENODEV"
  end
  dev.regs.RTCCR:write { START = 1 }
  return true
end

function pl031.stop(dev)
  dev.regs.RTCIMSC:write { RTCINTR = 0 }
end

--- The time.
---@return integer seconds  since 1970, as the clock was set
function pl031.time(dev)
  return dev.regs.RTCDR:read()
end

local function check(what, seconds)
  if type(seconds) ~= "number" or not (seconds >= 0 and seconds <= LARGEST) or seconds % 1 ~= 0 then
    error(("%s: the clock counts whole seconds from 0 to 0x%x, not %s"):format(what, LARGEST, tostring(seconds)), 3)
  end
end

--- Sets the time. An alarm that is set stays at its time of day, so setting the clock forward over it loses it.
---@param seconds integer
function pl031.set_time(dev, seconds)
  check("set_time", seconds)
  dev.regs.RTCLR:write(seconds)
end

--- Waits in a task until the clock says `at`, by interrupt. There is one match register: one alarm at a time.
---@param at integer         seconds, as `time` has them
---@param timeout? number    seconds; else until then and 2 more
---@return luio.Event? event its `time` says when it was taken
---@return string? message
---@return string? code  "ERANGE": that is past; "EBUSY": another alarm waits; "ETIMEDOUT": the time was set back, or it stands
function pl031.alarm(dev, at, timeout)
  check("alarm", at)
  local regs, irq = dev.regs, dev.irqs[0]
  local now = pl031.time(dev)
  if at <= now then return nil, ("alarm at %d: the clock of %s says %d already"):format(at, dev.address, now), "ERANGE" end
  if dev.alarm then return nil, ("alarm at %d: %s has one, at %d"):format(at, dev.address, dev.alarm), "EBUSY" end
  dev.alarm = at
  regs.RTCICR:write { RTCINTR = 1 } -- one that was given up
  while irq:poll() do end
  regs.RTCMR:write(at)
  regs.RTCIMSC:write { RTCINTR = 1 }
  -- A task that is cancelled leaves the wait by an error.
  local fine, event, message, code = pcall(function()
    if pl031.time(dev) >= at then return { time = luio.now(), count = 0, overflow = 0, RTCMIS = 0 } end
    return irq:wait(timeout or at - now + GRACE)
  end)
  dev.alarm = nil
  if not dev.gone and not dev.closed and not dev.stale then regs.RTCIMSC:write { RTCINTR = 0 } end
  if not fine then error(event, 0) end
  return event, message, code
end

return pl031
