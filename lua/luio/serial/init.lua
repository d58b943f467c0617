--- Serial ports: the interface of every UART driver.
---
---     local serial = require "luio.serial"
---     local port = assert(serial.open("0000:00:06.0", { baud = 9600 }))   -- or "sim:uart16550"
---     assert(port:write("AT\r\n", 1))                    -- waits for room, at most a second
---     local text, message, code = port:read(4, 1)        -- 4 bytes; fewer when the second is over
---     local some = port:read_some(100, 1)                -- the bytes that have come, as soon as one has
---     assert(port:configure { baud = 115200, flow = "rts/cts" })
---     assert(port:close())                               -- when all bytes have left; nil, and the number of lost ones
---
--- Waits end by interrupts, and by their deadline at the latest.
---
--- Two rings of bytes lie between a port's users and its driver, and nothing else waits anywhere. When the receive ring is full,
--- flow control decides: with "none" received bytes are dropped, and counted (rx_dropped). When it is three quarters full, RTS
--- goes off ("rts/cts") or an XOFF goes out ("xon/xoff"). When it is full, the device is no longer emptied. The sender may
--- go on again when half of it is free. The last quarter is for bytes under way: a few FIFOs with XOFF, so no ring of 64 bytes.
--- The device's own losses, when it was not emptied in time, are another count (overruns). It counts the events, not the bytes.
--- Characters with a parity or framing error are counted and handed on.
---
--- With "rts/cts" nothing is sent while CTS is off; a device that does both by itself does so (port.auto_flow). A chip without
--- it still sends its FIFO when CTS goes off, and RTS protects the ring, not the FIFO: a sender that is on while Lua is busy
--- for longer than the FIFO lasts (16 characters: 1.4 ms at 115200) overruns it. With "xon/xoff" these two characters are
--- taken out of the received bytes, so it is for text.
---
--- A port outlives the versions of its driver's code: the rings, the settings and waiting tasks stay. While no version is at
--- work (a reload, a device that is gone) no bytes move. Waits go on until their deadline, or end with "ENODEV".
---
--- The driver's side. A serial driver's `start` ends in `return serial.serve(dev, offer)`; luio.serial.Offer lists the functions
--- and values that it needs. The conformance spec (spec/serial/conformance.lua) holds every driver to this.

local checks = require "luio.options"
local now = require("luio.ffi").now
local draining = require "luio.serial.draining"
local guardian = require "luio.reload.guardian"
local line = require "luio.serial.line"
local moving = require "luio.serial.moving"
local ports = require "luio.port"
local rings = require "luio.serial.ring"
local settings = require "luio.serial.settings"
local wait_slot = require "luio.loop.wait_slot"

local closed, check_seconds = ports.closed, ports.check_seconds
local service, set_lines, withhold = moving.service, moving.set_lines, moving.withhold

local M = {}

local TICK = 1 -- seconds between looks at the device, without interrupts
local FRUITLESS, REST = 1000, 0.01 -- interrupts in a row with nothing behind them; seconds between two of those from then on
local RING = 65536
local GUARDED = 3 -- seconds to send remaining bytes, in a process that `luio run` kills five seconds after asking it to end

--- luio.serial.ring's, for drivers.
M.COUNT = rings.COUNT
M.character_time = settings.character_time

--- For drivers, before they change the line's settings: waits for the characters that are in the FIFO, as long as they take.
---@param dev luio.Device
---@param fifo integer           how many that may be
---@param idle fun(): boolean    whether all have been sent
function M.wait_idle(dev, fifo, idle)
  local character = settings.character_time(M.settings(dev))
  local deadline = now() + (fifo + 2) * character
  while not idle() and now() < deadline do wait_slot.sleep(math.max(0.001, character)) end
end

--- The modem lines of a serial port.
---@class luio.serial.Lines
---@field dtr boolean   ours
---@field rts boolean
---@field out2 boolean
---@field cts boolean   the other's
---@field dsr boolean
---@field ri boolean
---@field dcd boolean

--- Counters since the port was opened; they only grow. Whole numbers below 2^53.
---@class luio.serial.Stats
---@field rx_bytes integer    taken from the device, XON and XOFF among them
---@field rx_dropped integer  of those, dropped because the receive ring was full (flow "none")
---@field tx_written integer  given to `write`
---@field tx_bytes integer    given to the device, our XON and XOFF among them
---@field tx_lost integer     written, and not sent when the port was closed
---@field overruns integer    times that the device reported a loss
---@field framing integer     characters with that error
---@field parity integer
---@field breaks integer
---@field withheld integer    times that the sender was asked to stop
---@field interrupts integer

--- Options of `open`: luio.serial.Settings, and
---@class luio.serial.Options : luio.serial.Settings
---@field rx integer?        bytes of the receive ring, a power of two; 65536
---@field tx integer?        of the transmit ring
---@field loopback boolean?  sent bytes come back, and none go out; DTR, RTS and OUT2 are DSR, CTS and DCD
---@field clock integer?     the chip's clock in Hz; nil: the usual one
---@field driver string?     its name; nil: the one that matches

--- A driver's `start` hands this to `serve`. None of the functions waits, except as stated.
---@class luio.serial.Offer
---@field kind string        "16550A"
---@field fifo integer       characters that the device holds, each way; 1: it has no FIFO
---@field auto_flow boolean  with flow "rts/cts" the device does both by itself
---@field receive fun(into: luio.serial.Ring, most: integer): integer  puts what has come into the ring; how much
---@field send fun(from: luio.serial.Ring): integer  takes from the ring what the device has room for
---@field idle fun(): boolean   nothing is left in the device to be sent
---@field arm fun(receive: boolean, send: boolean, again: boolean)  which interrupts there are, besides lines that change; again:
---                         the device may be set otherwise than it was left
---@field lines fun(): integer, integer  CTS, DSR, RI, DCD as they are, and which changed since the last call
---@field set_lines fun(dtr: boolean, rts: boolean, out2: boolean)
---@field set_break fun(on: boolean)
---@field configure fun(settings: luio.serial.Settings): true?, string?, string?  may wait for characters under way
---@field counts table          overruns, framing, parity, breaks: the driver's, which keeps them over reloads

---@class luio.serial.Port : luio.Port
---@field kind string
---@field fifo integer
---@field auto_flow boolean
---@field settings luio.serial.Settings  in force; changed by `configure`
---@field package rx luio.serial.Ring
---@field package tx luio.serial.Ring
local Port = { what = "serial" }
Port.__index = Port

-- ---- Versions of the driver ----------------------------------------------------------------------

local function wake_all(port, ...)
  for _, place in ipairs(port.places) do wait_slot.wake(place, ...) end
end

-- A version's own task: takes the device's interrupts. Between an interrupt and `unmask` there are no others, so that what
-- holds the line is dealt with first. An unknown cause that holds the line would interrupt for ever, so such a line is looked
-- at now and then only.
local function listen(port, view, offer)
  local fruitless, before, said = 0, -1, false
  local function progress() return port.received + port.sent + port.line_changes + offer.counts.breaks end
  while not view.closed do -- those who are woken here may close the port
    local event, message, code = view.irqs[0]:wait(TICK)
    if event then
      port.interrupts = port.interrupts + 1
      local now_at = progress()
      fruitless = now_at == before and fruitless + 1 or 0
      before = now_at
      if fruitless > FRUITLESS then
        if not said then
          view:warn(("%s interrupts without a reason that it tells: %d times in a row, and nothing had come, gone or changed. It is "
            .. "heard %g times a second from now on; is the line shared with a device that nobody drives?"):format(
            view.address, FRUITLESS, 1 / REST))
        end
        said = true
        wait_slot.sleep(REST)
      end
    elseif code == "ENODEV" or code == "ECANCELED" then -- gone, or closed
      return
    elseif code ~= "ETIMEDOUT" then
      view:warn(("interrupts of %s: %s"):format(view.address, message))
      wait_slot.sleep(TICK)
    end
    if port.offer == offer then
      service(port) -- also without an interrupt: should one ever be lost, a wait is late, not stuck
      if view.closed then return end
      local ok, why, why_code = view:unmask()
      if not ok and why_code ~= "ENODEV" then view:warn(why) end
    end
  end
end

-- The port calls a version's offer from now on; nil: nothing, and without a view the device is gone.
local function use(port, offer, view)
  port.offer = offer
  if not offer then
    if not view then wake_all(port, nil, "the device is gone", "ENODEV") end
    return
  end
  port.kind, port.fifo, port.auto_flow = offer.kind, offer.fifo, offer.auto_flow
  port.rearm = true -- another version may have left the device otherwise
  set_lines(port, offer)
  service(port)
  local ok, message, code = view:unmask()
  if not ok and code ~= "ENODEV" then view:warn(message) end
end

local function new_port(dev)
  local options = ports.options(dev)
  local port = setmetatable({
    dev = dev, rx = rings.new(options.rx or RING), tx = rings.new(options.tx or RING),
    urgent = rings.new(2), spill = rings.new(moving.PIECE),
    outputs = { dtr = true, rts = true, out2 = true },
    inputs = 0, changed = 0, line_changes = 0, breaks = 0, withheld = false, stopped = false,
    received = 0, dropped = 0, sent = 0, interrupts = 0, times_withheld = 0, line_listeners = {}, break_listeners = {},
    reading = {}, writing = {}, written = 0, lost = 0,
  }, Port)
  port.settings = M.settings(dev)
  port.high, port.low = port.rx.size * 3 / 4, port.rx.size / 2
  port.places = { port.reading, port.writing }
  function dev.before_stop() -- the device is closed, and not by port:close()
    return draining.finish(port, guardian.fd() and GUARDED or nil)
  end
  return port
end

local KIND = {
  kind = "string", fifo = "number", auto_flow = "boolean", receive = "function", send = "function", idle = "function", arm = "function",
  lines = "function", set_lines = "function", set_break = "function", configure = "function", counts = "table",
}

--- For drivers, at the end of `start`: makes the device a port, or hands an old port what this version has to offer.
---@param dev luio.Device  the version's
---@param offer luio.serial.Offer
---@return true? ok
---@return string? message  what the offer lacks
---@return string? code  "EINVAL"
function M.serve(dev, offer)
  local fault = ports.fault("the offer", offer, KIND)
  if fault then return nil, "serial.serve: " .. fault, "EINVAL" end
  return ports.serve(dev, offer, new_port, use, listen)
end

--- For drivers: how the line is to be set when they start.
---@param dev luio.Device
---@return luio.serial.Settings
function M.settings(dev)
  local port = M.port(dev)
  if port then return port.settings end
  local _, out = settings.merge(settings.DEFAULT, ports.options(dev).line or {})
  return out
end

--- For drivers: the options that the port was opened with. They are checked.
---@param dev luio.Device
---@return luio.serial.Options
M.options = ports.options

-- ---- Opening -------------------------------------------------------------------------------------

local RING_SIZE = checks.power_of_two(16, 2 ^ 24, "bytes")
local OPTIONS = { rx = RING_SIZE, tx = RING_SIZE, loopback = "boolean", clock = "number", driver = "string" }
for key in pairs(settings.DEFAULT) do
  OPTIONS[key] = { fits = function(value) return not settings.fault(key, value) end, words = settings.words(key) }
end

-- Splits options from settings; raises for other values.
local function split(options)
  local out = { line = {} }
  for key, value in pairs(options) do (settings.DEFAULT[key] and out.line or out)[key] = value end
  local fault = settings.merge(settings.DEFAULT, out.line)
  if fault then error("serial.open: " .. fault, 3) end
  return out
end

--- Opens a serial device and starts its driver.
---@param address string|luio.Device  or one that is open and has no driver; it is closed when this fails
---@param options? luio.serial.Options
---@return luio.serial.Port?
---@return string? message
---@return string? code  as luio.open; "ENODEV": no serial driver is for it; "EINVAL": it has no such speed
function M.open(address, options)
  return ports.open(address, Port, split(checks.check("serial.open", options, OPTIONS)))
end

--- The port of a device whose driver was started by other means (luio.start).
---@param dev luio.Device
---@return luio.serial.Port?
function M.port(dev)
  return ports.of(dev, Port)
end

-- ---- Reading and writing -------------------------------------------------------------------------

-- Waits at one of a port's two places until awaited(port, place).
local function wait_at(port, place, awaited, deadline, what)
  if wait_slot.waiter(place) then error(("two tasks %s %s at once"):format(what, port.dev.address), 3) end
  while not awaited(port, place) do
    if port.dev.gone then return port.dev:gone_failure(what) end
    local left = deadline - now()
    place.awaited = awaited
    local ok, message, code = wait_slot.wait(place, math.max(left, 0))
    if port.closed then return nil, ("%s %s: the port was closed"):format(what, port.dev.address), "ECANCELED" end
    if not ok and not awaited(port, place) then
      if code ~= "ETIMEDOUT" then return nil, message, code end
      return nil, ("%s %s: not within the time"):format(what, port.dev.address), code
    end
  end
  return true
end

local function has_bytes(port, place) return port.rx:used() >= place.wanted end
local function has_room(port) return port.tx:room() > 0 end

-- After something was taken out of the receive ring.
local function taken(port)
  if port.withheld and port.offer and port.rx:used() <= port.low then
    withhold(port, port.offer, false)
    service(port)
  end
end

local function check_read(port, n, seconds, what)
  if port.closed then closed(port, what, 3) end
  if type(n) ~= "number" or n < 1 or n % 1 ~= 0 then
    error(("%s: how many bytes? A whole number above 0, not %s"):format(what, tostring(n)), 3)
  end
  check_seconds(seconds, what, 3)
end

--- Reads n bytes, or fewer if the deadline comes first.
---@param n integer
---@param seconds number
---@return string? text  not empty
---@return string? message
---@return string? code  "ETIMEDOUT": nothing came; "ENODEV": the device is gone, and its received bytes have been read
function Port:read(n, seconds)
  check_read(self, n, seconds, "read")
  local deadline, parts, have = now() + seconds, {}, 0
  local message, code, ok
  repeat
    -- Not more than the sender may send before it is asked to stop.
    self.reading.wanted = math.min(n - have, self.low)
    ok, message, code = wait_at(self, self.reading, has_bytes, deadline, "read")
    local part = self.rx:take(n - have)
    taken(self)
    if part ~= "" then table.insert(parts, part) end
    have = have + #part
  until not ok or have >= n
  if have > 0 then return table.concat(parts) end
  return nil, message, code
end

--- Reads the bytes that are there, as soon as there is one.
---@param most integer
---@param seconds number
---@return string? text  not empty
---@return string? message
---@return string? code  "ETIMEDOUT" "ENODEV"
function Port:read_some(most, seconds)
  check_read(self, most, seconds, "read_some")
  self.reading.wanted = 1
  local ok, message, code = wait_at(self, self.reading, has_bytes, now() + seconds, "read")
  if not ok then return nil, message, code end
  local text = self.rx:take(most)
  taken(self)
  return text
end

--- Bytes that can be read without waiting.
---@return integer
function Port:available() return self.rx:used() end

--- Writes a text. It has all gone into the transmit ring when this returns, from where it is sent; `drain` waits for that.
---@param text string
---@param seconds number
---@return integer? n  its bytes
---@return string? message
---@return string? code      "ETIMEDOUT" "ENODEV"
---@return integer? written  that went all the same
function Port:write(text, seconds)
  if self.closed or self.finishing or self.finished then closed(self, "write", 2) end
  if type(text) ~= "string" then error("write wants a string, not " .. type(text), 2) end
  check_seconds(seconds, "write", 2)
  local deadline, done = now() + seconds, 0
  while done < #text do
    local ok, message, code = wait_at(self, self.writing, has_room, deadline, "write")
    if not ok then return nil, message, code, done end
    local n = self.tx:put(text, done)
    done, self.written = done + n, self.written + n
    service(self)
  end
  return done
end

--- Drops bytes that were received and not read, or written and not sent yet.
---@param which? "rx"|"tx"  nil: both
function Port:discard(which)
  if self.closed then closed(self, "discard", 2) end
  if which ~= "tx" then
    self.rx:clear()
    taken(self)
  end
  if which ~= "rx" then
    self.tx:clear()
    service(self)
  end
end

for _, part in ipairs { draining, line } do
  for name, method in pairs(part.methods) do Port[name] = method end
end

-- ---- The rest ------------------------------------------------------------------------------------

--- The port's counters.
---@return luio.serial.Stats
function Port:stats()
  if self.offer then self.last_counts = self.offer.counts end
  local c = self.last_counts or {}
  return {
    rx_bytes = self.received, rx_dropped = self.dropped, withheld = self.times_withheld, interrupts = self.interrupts,
    tx_written = self.written, tx_bytes = self.sent, tx_lost = self.lost,
    overruns = c.overruns or 0, framing = c.framing or 0, parity = c.parity or 0, breaks = c.breaks or 0,
  }
end

--- Follows the driver's files, as `luio run` does: when one is saved, or on SIGHUP, the code is exchanged while the port
--- works. A version that does not load, or fails soon, changes nothing. Ends when the port is closed; calling it again
--- changes `tell`.
---@param tell? fun(line: string, report: luio.ReloadReport)  what became of a reload
function Port:follow(tell) ports.follow(self, tell) end

--- Closes the port and its device. Written bytes go out first, as long as bytes leave (`drain`). The others are counted
--- (tx_lost), and an error names their number; the port is closed in any case. Idempotent.
---@param seconds? number  at most so long for the written bytes
---@return boolean? ok
---@return string? message
---@return string? code    as drain's, where bytes were lost
---@return integer? lost
function Port:close(seconds)
  if self.closed then return true end
  if seconds ~= nil then check_seconds(seconds, "close", 2) end
  local left, why, why_code, lost = draining.finish(self, seconds)
  if self.closed then return true end -- by another task, which was told
  local ok, message, code = ports.close(self)
  if not ok then return nil, message, code end
  self.offer = nil
  wake_all(self, nil, "the port was closed", "ECANCELED")
  if not left then return nil, why, why_code, lost end
  return true
end

function Port:__tostring()
  return ("port %s %s %s%s"):format(self.dev.address, self.kind, settings.text(self.settings), self.closed and ", closed" or "")
end

return M
