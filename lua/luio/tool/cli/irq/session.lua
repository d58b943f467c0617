--- `luio irq`: waits for interrupts, counts them, measures their latency.
---
--- The top half is the matching driver's; --ack replaces its acknowledgement, --capture adds to its
--- captures. Where nothing acknowledges, a level-triggered line would fire again at once and for
--- ever, so the source stays masked after its first interrupt (`unmask = false` of luio.irq).
---
--- With --trigger the command raises the interrupts itself: it writes, waits, and writes again. Then
--- the way from the write to the interrupt thread is measured, too.
---
--- Waits are cut in slices, in which the loop turns: so Ctrl-C is heard, during a storm as well as
--- when nothing comes.

local errors = require "luio.errors"
local change = require "luio.tool.explore.change"
local common = require "luio.tool.cli.common"
local driver = require "luio.driver"
local histogram = require "luio.text.histogram"
local luio = require "luio"
local numbers = require "luio.tool.cli.numbers"
local output = require "luio.tool.output"
local place = require "luio.tool.explore.place"
local record = require "luio.tool.explore.record"
local show = require "luio.registers.show"
local term = require "luio.text.term"
local top_half = require "luio.top_half"
local uv = require "luv"
local verbs = require "luio.registers.verbs"

local PATIENCE = 10 -- seconds for each interrupt when --count says how many, and nothing how long
local TRIGGERS = 100 -- of --trigger without --count
local SLICE = 0.2 -- seconds: the longest wait without a look at Ctrl-C
local PENDING_S = 0.02 -- seconds: interrupts that were pending before the first trigger come meanwhile
local SKEW = 1e-3 -- seconds: more than the clocks of two processors differ, see Session:fire
local REDRAW, TURN = 0.25, 0.05 -- seconds between live lines; between turns of the loop in a storm
local FEW, REFILL = 20, 5 -- lines of events that are shown at once; and again for each second
local KEPT = 100 -- events in the JSON
local INTX_DISABLE = 0x400 -- of the PCI command register

-- ---- The top half: from places to steps ---------------------------------------------------------

-- The one register that a place names.
local function register_of(t, p, option)
  local list, message, code = t:find(p)
  if not list then return nil, message, code end
  local reg = list[1].reg
  if list[2] then return nil, ("%s %s names several registers"):format(option, p.text), "USAGE" end
  if reg.def.endian == "big" and reg.def.width > 8 then
    return nil, ("%s %s: it is big-endian; a top half is not"):format(option, p.text), "ENOTSUP"
  end
  return reg
end

local function step_of(reg, ...)
  local step = { ... }
  step.width, step.region = reg.def.width, reg.def.region
  return step
end

-- The value of a planned write, from the values that were read.
local function value_of(plan, old)
  if not plan.whole then return verbs.merged(plan.reg, old, plan.mask, plan.bits) end
  return plan.reg.def.width < 64 and tonumber(plan.bits) or plan.bits
end

local function add_captures(t, setup, places)
  for _, p in ipairs(places) do
    local reg, message, code = register_of(t, p, "--capture")
    if not reg then return nil, message, code end
    if not reg.def.readable then return nil, ("--capture %s: it is write-only"):format(p.text), "EACCES" end
    local known
    for _, step in ipairs(setup.capture) do known = known or step[1] == reg.path end
    if not known then table.insert(setup.capture, step_of(reg, reg.path, reg.offset)) end
  end
  return true
end

-- The name of the capture that a text means, if it does.
local function capture_of(t, setup, text)
  local p = place.parse(text)
  local list = p and not place.number(text) and t:find(p)
  for _, step in ipairs(setup.capture) do
    if step[1] == text then return step[1] end
    if list and list[1].reg.path == step[1] then
      if list[1].high then
        return nil, ("--ack: %s is a part of a captured register: name its bits by a mask: '%s & 0x1'"):format(text, step[1]), "USAGE"
      end
      return step[1]
    end
  end
end

-- The value that an ack writes: "CAPTURE", "CAPTURE & MASK", or a value of the register.
local function what_of(t, setup, a)
  local text, mask_text = a.value, nil
  if text then
    local head, tail = text:match "^(.-)%s*&%s*(.*)$"
    text, mask_text = head or text, tail
  end
  local name, message, code
  if text then name, message, code = capture_of(t, setup, text) end
  if message then return nil, message, code end
  if name and t:find(a.place)[1].high then
    return nil, ("--ack %s: a capture is written to all of a register; %s is a part"):format(a.text, a.place.text), "USAGE"
  end
  if mask_text then
    local mask = place.number(mask_text)
    if not name then return nil, ("--ack: %s is not captured: --capture %s"):format(text, text), "USAGE" end
    if not mask then return nil, ("--ack: %s is no mask: a number"):format(mask_text), "USAGE" end
    return name, mask
  end
  if name then return name end
  local plan
  plan, message, code = change.plan(t, a)
  if not plan then return nil, message, code end
  -- A top half does not read first: fields that are not named come from the reset value, as in a
  -- write.
  return value_of(plan, nil)
end

local function add_acks(t, setup, assignments)
  if assignments[1] then setup.ack = {} end
  for _, a in ipairs(assignments) do
    local reg, message, code = register_of(t, a.place, "--ack")
    if not reg then return nil, message, code end
    local value, mask
    value, mask, code = what_of(t, setup, a)
    if value == nil then return nil, mask, code end
    local step = step_of(reg, reg.offset, value)
    step.mask = mask
    table.insert(setup.ack, step)
  end
  return true
end

-- The matching driver's top half, resolved by its own map, whichever the user names.
local function drivers_own(t)
  if not t.driver then return {} end
  t.dev.regs = t.regs
  if t.driver.registers and not (t.regs and t.regs.map == t.driver.registers) then
    local message, code
    t.dev.regs, message, code = luio.bind(t.driver.registers, t.dev)
    if not t.dev.regs then return nil, message, code end
  end
  local setup, message, code = driver.top_half(t.driver, t.dev, 0)
  if message then return nil, message, code end
  return setup or {}
end

-- Reading it takes the interrupt back, as far as the map knows.
local function clears(t, setup)
  for _, step in ipairs(setup.capture) do
    if t:disturbs(step.region or 0, step[2], (step.width or 32) / 8) then return true end
  end
end

local function top_half_of(t, args)
  local stated, message, code = drivers_own(t)
  if not stated then return nil, message, code end
  local setup = { capture = {}, ack = stated.ack or {} }
  for i, step in ipairs(stated.capture or {}) do setup.capture[i] = step end
  local ok
  ok, message, code = add_captures(t, setup, args.captures)
  if not ok then return nil, message, code end
  ok, message, code = add_acks(t, setup, args.acks)
  if not ok then return nil, message, code end
  setup.unmask = args.unmask or setup.ack[1] ~= nil or clears(t, setup) or false
  local fault = top_half.fault(setup)
  if fault then return nil, "top half: " .. fault, "EINVAL" end
  return setup
end

-- The register at a step's place, for its name and its fields.
local function found_at(t, step, offset)
  local raw = { kind = "raw", text = "", region = step.region or 0, offset = offset, width = step.width or 32 }
  local list = t:find(raw)
  return list and list[1]
end

-- The register's name in the user's map, which need not be the driver's.
local function describe(t, setup)
  return top_half.describe(setup, function(step, offset)
    local found = found_at(t, step, offset)
    return found and found.label or top_half.place(step, offset)
  end)
end

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

local function new_session(t, setup, args)
  local s = setmetatable({
    t = t, irq = t.dev.irqs[0], setup = setup, args = args, live = not args.json and uv.guess_handle(1) == "tty",
    interrupts = 0, events = 0, lost = 0, triggered = 0, skewed = 0, kept = output.list {}, found = {},
    latency = histogram.new(), interval = histogram.new(), trigger = args.trigger and histogram.new(),
    shown = 0, hidden = 0, allowance = FEW, drawn = 0, turned = 0,
  }, Session)
  for i, step in ipairs(setup.capture) do s.found[i] = found_at(t, step, step[2]) or false end
  s.quiet = args.json or args.trigger and args.count > FEW
  return s
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

---@private
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
  local value = value_of(plan, old)
  local before = luio.now()
  reg:write(value)
  return before
end

-- Which event is a trigger's? The first after the write, since the ring was empty before it. The time
-- stamp alone can't tell: it is another processor's clock, and with emulated ones it was seen to lie
-- 15 µs before the write that raised the interrupt. An interrupt that was stamped long before was
-- pending.
---@private
function Session:fire()
  while self.triggered < self.args.count do
    local ok, message, code = self:drain(self.triggered == 0 and PENDING_S or nil)
    if not ok then return nil, message, code end
    local fine, before = pcall(pull, self.args.trigger)
    if not fine then return nil, ("--trigger: %s"):format(errors.text(before):gsub("^[^%s:]*:%d+: ", "")), "EIO" end
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

-- ---- Before and after ----------------------------------------------------------------------------

-- Masks or unmasks the source, as it was before.
local function restore(dev, before)
  local ok, message = dev.irqs[0]:close()
  local now = ok and before and dev.config:command()
  if now and before.intx_disable and not now.intx_disable then
    ok, message = dev.config:write16(4, dev.config:read16(4) + INTX_DISABLE)
  elseif now and now.intx_disable and not before.intx_disable then
    ok, message = dev:unmask()
  end
  if not ok then common.note(("the interrupt's mask is not as it was: %s"):format(message)) end
end

-- ---- The end -------------------------------------------------------------------------------------

---@private
function Session:summary()
  self:clear_live_line()
  if self.hidden > 0 and not self.live then term.print(("      ...          %d not shown"):format(self.hidden)) end
  local columns = output.columns() or 80
  local lost = ("%d lost to a full ring"):format(self.lost)
  local rate = self:rate()
  say(("%s, %s, in %s, %s%s"):format(term.bold(output.count(self.interrupts, "interrupt")), output.count(self.events, "event"),
    histogram.time(luio.now() - self.started), self.lost > 0 and term.yellow(lost) or lost, rate and ", " .. rate_text(rate) or ""))
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

---@private
function Session:json(ok, message)
  output.json {
    device = self.t.dev.address, top_half = describe(self.t, self.setup), ok = ok, message = message,
    interrupts = self.interrupts, events = self.events, overflow = self.lost, direct = self.direct,
    seconds = luio.now() - self.started, rate = self:rate(), acknowledged = self.setup.unmask,
    storm = self:storm_plain(),
    triggered = self.trigger and self.triggered or nil, skewed = self.trigger and self.skewed or nil, first_events = self.kept,
    latency = self.latency:plain(), interval = self.interval:plain(), trigger = self.trigger and self.trigger:plain(),
  }
end

-- The result at the end: true, or a message for the shell.
---@private
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

-- Waits, with the thread running. The mask is put back in any case.
local function work(s)
  local dev = s.t.dev
  local before = dev.config:command() -- nil where there is no config space: then nothing can be put back
  local release = common.on_signals(function() s.stopped = true end)
  if not s.args.json then -- now Ctrl-C is heard
    local steps = describe(s.t, s.setup)
    say(("interrupts of %s%s%s"):format(dev.address, steps ~= "" and "; each: " or "", steps))
    io.flush()
  end
  local fine, ok, message, code = pcall(luio.run, function()
    s.started = luio.now()
    local started, why, why_code
    if s.setup.unmask then started, why, why_code = s.irq:start()
    else started, why, why_code = s.irq:unmask() end
    if not started then
      s.failed = true
      return nil, why, why_code
    end
    if s.trigger then return s:fire() end
    return s:listen()
  end)
  s.direct, s.storm = s.irq:stats().direct, s.irq:storm()
  restore(dev, before)
  if fine and not s.failed then
    ok, message, code = s:result(ok, message, code)
    if s.args.json then s:json(ok or false, message) else s:summary() end
  end
  release() -- not sooner: a second Ctrl-C must not come between
  if not fine then error(ok, 0) end
  return ok, message, code
end

local function parse(args)
  local message, code
  args.captures, message, code = common.places(args.capture)
  if not args.captures then return nil, message, code end
  args.wanted, args.acks = args.count, {}
  for i, text in ipairs(args.ack) do
    args.acks[i], message, code = place.assignment(text)
    if not args.acks[i] then return nil, "--ack " .. message, code end
  end
  if args.trigger then
    args.pull, message, code = place.assignment(args.trigger)
    if not args.pull then return nil, "--trigger " .. message, code end
  end
  return true
end

local function run(args)
  local ok, message, code = parse(args)
  if not ok then return nil, message, code end
  local t
  t, message, code = common.own(args)
  if not t then return nil, message, code end
  local setup
  setup, message, code = top_half_of(t, args)
  if not setup then return nil, message, code end
  if args.trigger then
    args.trigger, message, code = change.plan(t, args.pull)
    if not args.trigger then return nil, message, code end
    args.count = args.count or setup.unmask and TRIGGERS or 1
  end
  if not setup.unmask then
    common.note("not acknowledged: nothing says how (--ack REG=VALUE; --unmask where the kernel driver does it); "
      .. "the line stays masked after the first")
  end
  t.dev.irqs[0]:setup(setup)
  local s = new_session(t, setup, args)
  ok, message, code = work(s)
  if not ok then return nil, message, code end
  return 0
end

-- ---- Arguments -----------------------------------------------------------------------------------

local function whole(text)
  local n = place.number(text)
  if type(n) ~= "number" or n < 1 then return nil, ("--count %s: a whole number from 1 was expected"):format(text) end
  return n
end

return {
  irq = {
    options = function(p)
      common.device(p)
      p:option("-n --count", "End after N interrupts. Exit with 1 if one does not come within 10 s, or all within --for.")
        :argname("N"):convert(whole)
      p:option("--for", "End after this time. Exit with 1 if no interrupt came. Without it Ctrl-C ends the command.")
        :argname("SECONDS"):convert(numbers.seconds "--for"):target "time"
      p:option("--ack", "Acknowledge by this write instead of the driver's. PLACE is a register, or an offset: 0x64:u32. "
        .. "VALUE may be a captured register, or some bits of it: 'NAME & 0xff'. May be repeated."):argname("PLACE=VALUE"):count "*"
      p:option("--capture", "Read this at each interrupt, beside the driver's captures; at most 4 in all. May be repeated.")
        :argname("PLACE"):count "*"
      p:option("--trigger", "Raise the interrupts by this write, --count times (100), and measure the latency.")
        :argname "PLACE=VALUE"
      p:flag("--unmask", "Unmask after each interrupt without an acknowledgement: for edges, and for lines that a read takes back.")
      p:flag("--json", "Print JSON: counts, histograms, the first 100 events.")
      p:epilog("This command drives the device while it runs, and accesses no other registers than the named ones. "
        .. "At the end the source is masked if it was.\n\nExample: luio irq sim:edu --trigger IRQ_RAISE=1 --count 1000\n"
        .. "         luio irq uio0 --capture 0x24:u32 --ack 0x64:u32=0x24:u32 --for 5")
    end,
    run = run,
  },
}
