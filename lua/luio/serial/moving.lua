--- How a serial port's bytes move: between the rings of luio.serial's port and the functions of the driver at work. Also here: flow
--- control, and waking. `service` is what an interrupt, a write and a read that made room come to.

local bit = require "bit"
local now = require("luio.ffi").now
local rings = require "luio.serial.ring"
local task = require "luio.loop.task"
local wait_slot = require "luio.loop.wait_slot"

local band, bor = bit.band, bit.bor

local M = {}

local SLICE = 0.002 -- seconds that bytes are moved in one go: others want to live, too
local XON, XOFF = 0x11, 0x13

--- Bytes that are taken from the device in one go, as many as the deepest FIFO has: a device that always has one more must not
--- keep us beyond SLICE.
M.PIECE = 256

-- Bits of what `lines` of an offer returns.
local CTS = 1
local INPUTS = { cts = CTS, dsr = 2, ri = 4, dcd = 8 }

--- Sets our lines as they are to be now.
---@param port luio.serial.Port
---@param offer luio.serial.Offer
function M.set_lines(port, offer)
  local out = port.outputs
  offer.set_lines(out.dtr, out.rts and not (port.withheld and port.settings.flow == "rts/cts"), out.out2)
end

--- Asks the sender to stop, or lets it go on.
---@param port luio.serial.Port
---@param offer luio.serial.Offer
---@param on boolean
function M.withhold(port, offer, on)
  if port.withheld == on then return end
  port.withheld = on
  if on then port.times_withheld = port.times_withheld + 1 end
  if port.settings.flow == "rts/cts" then M.set_lines(port, offer) end
  if port.settings.flow == "xon/xoff" then
    port.urgent:clear()
    port.urgent:put(string.char(on and XOFF or XON), 0)
  end
end

-- Takes XON and XOFF out of the last n bytes of a ring; whether the last of them was an XOFF, nil without one.
local function filter(ring, n)
  local bytes, mask, to, last = ring.bytes, ring.mask, ring.head - n, nil
  for i = ring.head - n, ring.head - 1 do
    local byte = bytes[band(i, mask)]
    if byte == XON or byte == XOFF then
      last = byte == XOFF
    else
      bytes[band(to, mask)] = byte
      to = to + 1
    end
  end
  ring.head = band(to, rings.COUNT)
  return last
end

local function receive(port, offer)
  local rx, flow = port.rx, port.settings.flow
  local room = rx:room()
  if room == 0 and flow ~= "none" then return 0 end
  if room == 0 then
    local n = offer.receive(port.spill, M.PIECE)
    port.spill:clear()
    port.received, port.dropped = port.received + n, port.dropped + n
    return n
  end
  local n = offer.receive(rx, math.min(room, M.PIECE))
  port.received = port.received + n
  if n > 0 and flow ~= "none" then
    if flow == "xon/xoff" then
      local stop = filter(rx, n)
      if stop ~= nil then port.stopped = stop end
    end
    if rx:used() >= port.high then M.withhold(port, offer, true) end
  end
  return n
end

--- Reads the inputs that the other side drives. Changes are kept until a listener is called.
---@param port luio.serial.Port
---@param offer luio.serial.Offer
function M.read_modem_lines(port, offer)
  local inputs, changed = offer.lines()
  port.inputs, port.changed = inputs, bor(port.changed, changed)
  if changed ~= 0 then port.line_changes = port.line_changes + 1 end
end

-- Whether there is something to send, and flow control allows it.
local function may_send(port)
  if port.tx:used() == 0 or port.stopped or port.paused then return false end
  return port.settings.flow ~= "rts/cts" or port.auto_flow or band(port.inputs, CTS) ~= 0
end

local function send(port, offer)
  local n = 0
  if port.urgent:used() > 0 then n = offer.send(port.urgent) end
  if port.tx:used() > 0 and port.settings.flow == "rts/cts" and not port.auto_flow then M.read_modem_lines(port, offer) end
  if may_send(port) then n = n + offer.send(port.tx) end
  port.sent = port.sent + n
  return n
end

-- Moves as many bytes as possible, and lets the device interrupt when more can be moved.
local function pass(port, offer)
  local stop = now() + SLICE
  M.read_modem_lines(port, offer)
  repeat local moved = receive(port, offer) + send(port, offer) until moved == 0 or now() >= stop
  offer.arm(port.rx:room() > 0 or port.settings.flow == "none", port.urgent:used() > 0 or may_send(port), port.rearm or false)
  port.rearm = nil
end

--- CTS, DSR, RI and DCD by name.
---@param bits integer  as an offer's `lines` has them
---@return table<string, boolean>
function M.lines_of(bits)
  local out = {}
  for _, name in ipairs { "cts", "dsr", "ri", "dcd" } do out[name] = band(bits, INPUTS[name]) ~= 0 end
  return out
end

local function tell(listeners, ...)
  for i = #listeners, 1, -1 do
    if listeners[i] then task.spawn_in(nil, listeners[i], ...) end
  end
end

-- Wakes the tasks whose condition is met, and calls listeners.
local function wake_ready(port)
  for _, place in ipairs(port.places) do
    if wait_slot.waiter(place) and place.awaited(port, place) then wait_slot.wake(place, true) end
  end
  local changed, breaks = port.changed, port.offer and port.offer.counts.breaks or port.breaks
  port.changed = 0
  if changed ~= 0 then tell(port.line_listeners, port:lines(), M.lines_of(changed)) end
  while port.breaks < breaks do
    port.breaks = port.breaks + 1
    tell(port.break_listeners)
  end
end

--- Moves as many bytes as possible, and wakes the tasks that waited for them. A woken task may read and write at once,
--- which comes here again.
---@param port luio.serial.Port
function M.service(port)
  if port.serving then
    port.again = true
    return
  end
  port.serving = true
  repeat
    port.again = false
    local offer = port.offer
    local ok, message = true, nil
    if offer then ok, message = pcall(pass, port, offer) end
    if not ok and not port.dev.gone then
      port.serving = false
      error(message, 0)
    end
    wake_ready(port)
  until not port.again
  port.serving = false
end

return M
