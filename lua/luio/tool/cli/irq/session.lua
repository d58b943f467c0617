--- A session of `luio irq`: takes interrupts, prints and counts them, measures their latency.
---
--- With --trigger it raises the interrupts itself: it writes, waits, and writes again. Then the way
--- from the write to the interrupt thread is measured, too.
---
--- Waits are cut in slices, in which the loop turns: so Ctrl-C is heard, during a storm as well as
--- when nothing comes.

local change = require "luio.tool.explore.change"
local errors = require "luio.errors"
local histogram = require "luio.text.histogram"
local luio = require "luio"
local output = require "luio.tool.output"
local record = require "luio.tool.explore.record"
local show = require "luio.registers.show"
local term = require "luio.text.term"
local top_half = require "luio.tool.cli.irq.top_half"
local uv = require "luv"

local M = {}

local PATIENCE = 10 -- seconds for each interrupt when --count says how many, and nothing how long
local SLICE = 0.2 -- seconds: the longest wait without a look at Ctrl-C
local PENDING_S = 0.02 -- seconds: interrupts that were pending before the first trigger come meanwhile
local SKEW = 1e-3 -- seconds: more than the clocks of two processors differ, see Session:fire
local REDRAW, TURN = 0.25, 0.05 -- seconds between live lines; between turns of the loop in a storm
local FEW, REFILL = 20, 5 -- lines of events that are shown at once; and again for each second
local KEPT = 100 -- events in the JSON
local OTHERS = 64 -- vectors that are counted beside the one that is waited for
local KINDS = { msi = "MSI", msix = "MSI-X" }

-- Prints a sentence, broken between words on a terminal.
local function say(text)
  term.print_all(term.wrap(text, output.columns()))
end

-- ---- Events --------------------------------------------------------------------------------------

---@class luio.tool.cli.irq.Session
---@field t luio.Target
---@field irq luio.Irq
---@field args table
---@field events integer
---@field interrupts integer
local Session = {}
Session.__index = Session

--- A session of a device with a top half.
---@param t luio.Target
---@param setup luio.IrqSetup
---@param args table  count, time, json; trigger: a luio.Change
---@return luio.tool.cli.irq.Session
function M.new(t, setup, args)
  local s = setmetatable({
    t = t, irq = t.dev.irqs[args.vector], others = {}, other_counts = output.list {},
    setup = setup, args = args, live = not args.json and uv.guess_handle(1) == "tty",
    interrupts = 0, events = 0, lost = 0, triggered = 0, skewed = 0, kept = output.list {}, found = {},
    latency = histogram.new(), interval = histogram.new(), trigger = args.trigger and histogram.new(),
    shown = 0, hidden = 0, allowance = FEW, drawn = 0, turned = 0,
  }, Session)
  for i, step in ipairs(setup.capture) do s.found[i] = top_half.register_at(t, step, step[2]) or false end
  s.quiet = args.json or args.trigger and args.count > FEW
  return s
end

--- Prints what is waited for. Call it when Ctrl-C is handled.
function Session:announce()
  if self.args.json then return end
  local steps = top_half.describe(self.t, self.setup)
  local irqs = self.t.dev.irqs
  local vector = irqs.kind ~= "intx" and (", vector %d of %d by %s"):format(self.irq.vector, irqs.count, KINDS[irqs.kind]) or ""
  say(("interrupts of %s%s%s%s"):format(self.t.dev.address, vector, steps ~= "" and "; each: " or "", steps))
  io.flush()
end

-- "IRQ_STATUS 0x00000001 FACTORIAL=1": values of 0 without a name are left out.
local function capture_text(found, name, value, width)
  local parts = { name, show.hex(value, width) }
  for _, f in ipairs(found and record.of(found, value).fields or {}) do
    if f.value ~= 0 then table.insert(parts, f.name .. "=" .. f.text) end
  end
  return table.concat(parts, " ")
end

local function capture_plain(found, value, width)
  local plain = { value = show.hex(value, width) }
  local fields = found and record.of(found, value).fields or {}
  if fields[1] then plain.fields = {} end
  for _, f in ipairs(fields) do plain.fields[f.name] = f.value end
  return plain
end

---@private
function Session:rate()
  local span = self.last and self.last - self.first or 0
  return span > 0 and (self.interrupts - self.first_count) / span or nil
end

local function rate_text(rate)
  return (rate < 100 and "%.1f/s" or "%.0f/s"):format(rate)
end

-- The live line is wiped before anything else is printed, and drawn again behind it.
---@private
function Session:clear_live_line()
  if self.lined then term.write(term.sequence "\r" .. term.sequence "K") end
  self.lined = false
end

---@private
function Session:draw(now)
  self.drawn = now
  if not self.live then return end
  local rate = self:rate()
  local text = ("%.1f s  %d%s interrupts%s  Ctrl-C ends"):format(now - self.started, self.interrupts,
    self.args.count and " of " .. self.args.count or "", rate and "  " .. rate_text(rate) or "")
  term.write(term.sequence "\r" .. term.dim(text:sub(1, (output.columns() or 80) - 1)) .. term.sequence "K")
  io.flush()
  self.lined = true
end

---@private
function Session:print_event(event)
  local parts = {}
  for i, step in ipairs(self.setup.capture) do
    parts[i] = capture_text(self.found[i], step[1], event[step[1]], step.width or 32)
  end
  if event.count > 1 then table.insert(parts, 1, ("+%d"):format(event.count)) end
  if event.overflow > 0 then table.insert(parts, term.yellow(("%d lost before it"):format(event.overflow))) end
  self:clear_live_line()
  if self.shown == 0 then term.print(term.bold "     TIME   COUNT  CAPTURED") end
  if self.hidden > 0 then term.print(term.dim(("      ...          %d not shown"):format(self.hidden))) end
  self.shown, self.hidden = self.shown + 1, 0
  term.print((("%9.4f  %6d  %s"):format(event.time - self.started, self.interrupts, table.concat(parts, "  ")):gsub("%s+$", "")))
  if not self.live then io.flush() end
end

-- A line for an event while there are few; of many only those that there is time to read.
---@private
function Session:maybe_print(event, now)
  if self.quiet then return end
  self.allowance = math.min(FEW, self.allowance + (now - (self.allowed or now)) * REFILL)
  self.allowed = now
  if self.allowance < 1 then
    self.hidden = self.hidden + 1
    return
  end
  self.allowance = self.allowance - 1
  self:print_event(event)
end

-- Everything that is to be known of an event; `now` is when the handler had it.
---@private
function Session:take(event, now)
  self.events = self.events + 1
  self.interrupts = self.interrupts + event.count + event.overflow
  self.lost = self.lost + event.overflow
  self.latency:add(math.max(0, now - event.time))
  if self.last then
    self.interval:add(math.max(0, event.time - self.last))
  else
    self.first, self.first_count = event.time, self.interrupts
  end
  self.last = event.time
  if #self.kept < KEPT then
    local plain = { time = event.time - self.started, count = event.count, overflow = event.overflow, captured = {} }
    for i, step in ipairs(self.setup.capture) do
      plain.captured[step[1]] = capture_plain(self.found[i], event[step[1]], step.width or 32)
    end
    table.insert(self.kept, plain)
  end
  self:maybe_print(event, now)
end

-- Lets the loop turn now and then, for signals: a wait that finds an event in the ring does not.
---@private
function Session:turn_loop()
  local now = luio.now()
  if now - self.drawn >= REDRAW then self:draw(now) end
  if now - self.turned >= TURN then
    luio.sleep(0)
    self.turned = luio.now()
  end
end

-- ---- Waiting -------------------------------------------------------------------------------------

--- The next event and when it was here; nil, message, code, "ECANCELED" after Ctrl-C.
---@private
function Session:next(deadline)
  while true do
    self:turn_loop()
    if self.stopped then return nil, "Ctrl-C", "ECANCELED" end
    local left = deadline - luio.now()
    local event, message, code = self.irq:wait(math.max(0, math.min(left, SLICE)))
    if event then return event, luio.now() end
    if code ~= "ETIMEDOUT" or left <= SLICE then return nil, message, code end
  end
end

---@private
function Session:wait_deadline()
  local patience = self.args.count and not self.args.time and luio.now() + PATIENCE or math.huge
  return math.min(patience, self.args.time and self.started + self.args.time or math.huge)
end

--- Waits for interrupts that come by themselves.
---@return boolean? ok  as many as were asked for; or one, and nothing acknowledges it
---@return string? message
---@return string? code
function Session:listen()
  local count = self.args.count or math.huge
  repeat
    local event, now, code = self:next(self:wait_deadline())
    if not event then return nil, now, code end
    self:take(event, now)
  until self.interrupts >= count or not self.setup.unmask
  return true
end

-- An event that is there already was not triggered: it is counted, not measured. In a storm there
-- is no end of it, so a thousand are enough.
---@private
function Session:drain(seconds)
  for _ = 1, 1000 do
    local event, message, code
    if seconds then event, message, code = self.irq:wait(seconds)
    else event, message, code = self.irq:poll() end
    if not event and (message == nil or code == "ETIMEDOUT") then return true end
    if not event then return nil, message, code end
    self:take(event, luio.now())
  end
  return true
end

-- Writes, and says when. Reads first where only a part of the register was named.
local function pull(plan)
  local reg = plan.reg
  local old = not plan.whole and not plan.why_unread and reg:read() or nil
  local value = change.stored(plan, old)
  local before = luio.now()
  reg:write(value)
  return before
end

--- Raises the interrupts, and waits for each.
---@return boolean? ok
---@return string? message
---@return string? code
function Session:fire()
  while self.triggered < self.args.count do
    local ok, message, code = self:drain(self.triggered == 0 and PENDING_S or nil)
    if not ok then return nil, message, code end
    local fine, before = pcall(pull, self.args.trigger)
    if not fine then return nil, ("--trigger: %s"):format(errors.text(before):gsub("^[^%s:]*:%d+: ", "")), "EIO" end
    -- Which event is a trigger's? The first after the write, since the ring was empty before it. The time
    -- stamp alone can't tell: it is another processor's clock, and with emulated ones it was seen to lie
    -- 15 µs before the write that raised the interrupt. An interrupt that was stamped long before was
    -- pending.
    local deadline = self:wait_deadline()
    local event, now
    repeat
      event, now, code = self:next(deadline)
      if not event then return nil, now, code end
      self:take(event, now)
    until event.time >= before - SKEW
    self.triggered = self.triggered + 1
    self.trigger:add(math.max(0, event.time - before))
    if event.time < before then self.skewed = self.skewed + 1 end
    if not self.setup.unmask then return true end
  end
  return true
end

-- ---- Other vectors -------------------------------------------------------------------------------

--- Takes the interrupts of the device's other vectors, too, for their number alone.
---@return boolean? ok
---@return string? message
---@return string? code
function Session:start_others()
  local irqs = self.t.dev.irqs
  for vector = 0, irqs.kind == "intx" and -1 or math.min(irqs.count, OTHERS) - 1 do
    if vector ~= self.irq.vector then
      local other, message, code = irqs[vector]:start()
      if not other then return nil, message, code end
      table.insert(self.others, other)
    end
  end
  return true
end

--- Notes how many came there, before they are closed.
function Session:count_others()
  for _, other in ipairs(self.others) do
    local n = other:stats().interrupts
    if n > 0 then table.insert(self.other_counts, { vector = other.vector, interrupts = n }) end
  end
end

-- ---- The end -------------------------------------------------------------------------------------

--- Prints the result: counts and histograms.
function Session:summary()
  self:clear_live_line()
  if self.hidden > 0 and not self.live then term.print(("      ...          %d not shown"):format(self.hidden)) end
  local columns = output.columns() or 80
  local lost = ("%d lost to a full ring"):format(self.lost)
  local rate = self:rate()
  say(("%s, %s, in %s, %s%s"):format(term.bold(output.count(self.interrupts, "interrupt")), output.count(self.events, "event"),
    histogram.time(luio.now() - self.started), self.lost > 0 and term.yellow(lost) or lost, rate and ", " .. rate_text(rate) or ""))
  for _, other in ipairs(self.other_counts) do
    say(("vector %d: %s"):format(other.vector, output.count(other.interrupts, "interrupt")))
  end
  if self.trigger and self.interrupts > self.triggered then
    say(term.yellow(("%d of them no trigger raised: was one pending, or does the acknowledgement not take the line back?"):format(
      self.interrupts - self.triggered)))
  end
  if self.skewed > 0 then
    say(term.yellow(("%s before the write: the processors' clocks differ (see < 1 µs)"):format(output.count(self.skewed, "time stamp"))))
  end
  local parts = {
    { "latency: C's time stamp to Lua's handler", self.latency },
    { "interval between interrupts", self.interval },
    { "trigger: register write to time stamp", self.trigger },
  }
  for _, part in ipairs(parts) do
    if part[2] and part[2].count > 0 then
      term.print(part[1])
      term.print_all(part[2]:lines(columns))
    end
  end
end

-- As in the rest of the document: seconds from the start on, registers as hex.
---@private
function Session:storm_plain()
  local storm = self.storm
  if not storm then return nil end
  local plain = { number = storm.number, rate = storm.rate, interrupts = storm.interrupts, pause = storm.pause,
    begun = storm.begun - self.started, ended = storm.ended and storm.ended - self.started, captured = {} }
  for _, step in ipairs(self.setup.capture) do plain.captured[step[1]] = show.hex(storm.captured[step[1]], step.width or 32) end
  return plain
end

--- Prints the result as JSON.
---@param ok boolean
---@param message string?
function Session:json(ok, message)
  output.json {
    device = self.t.dev.address, top_half = top_half.describe(self.t, self.setup), ok = ok, message = message,
    interrupts = self.interrupts, events = self.events, overflow = self.lost, direct = self.direct,
    seconds = luio.now() - self.started, rate = self:rate(), acknowledged = self.setup.unmask,
    storm = self:storm_plain(), kind = self.t.dev.irqs.kind, vector = self.irq.vector, other_vectors = self.other_counts,
    triggered = self.trigger and self.triggered or nil, skewed = self.trigger and self.skewed or nil, first_events = self.kept,
    latency = self.latency:plain(), interval = self.interval:plain(), trigger = self.trigger and self.trigger:plain(),
  }
end

--- The result at the end, from that of `listen` or `fire`: true, or a message for the shell.
---@param ok boolean?
---@param message string?
---@param code string?
---@return boolean? ok
---@return string? message
---@return string? code
function Session:result(ok, message, code)
  local args, address = self.args, self.t.dev.address
  local wanted, got = args.count or 1, self.trigger and self.triggered or self.interrupts
  if code == "ECANCELED" and got < (args.wanted or 0) then
    return nil, ("%d of %s came before it was ended"):format(got, output.count(wanted, "interrupt")), code -- who said --count relies on it
  elseif code == "ECANCELED" then
    return true
  end
  if not ok and code ~= "ETIMEDOUT" then return nil, message, code end
  if got >= wanted then return true end
  if ok then
    return nil, ("%d of %s came: it is not acknowledged, so the line stays masked after the first (--ack REG=VALUE)"):format(got,
      output.count(wanted, "interrupt")), "EIO"
  end
  local within = args.time and ("%g s"):format(args.time) or ("%g s%s"):format(PATIENCE, got > 0 and " after the last" or "")
  local what = self.interrupts == 0 and "no interrupt" or ("%d of %s"):format(got, output.count(wanted, "interrupt"))
  return nil, ("%s of %s within %s%s: luio doctor %s says what may be in the way"):format(what, address, within,
    args.trigger and " of the trigger" or "", address), "ETIMEDOUT"
end

return M
