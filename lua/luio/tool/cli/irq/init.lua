--- `luio irq`: waits for interrupts, counts them, measures their latency.
---
--- Its top half: luio.tool.cli.irq.top_half. Waiting, and the result: luio.tool.cli.irq.session. Here are the
--- arguments, and the interrupt's mask, which is put back at the end.

local change = require "luio.tool.explore.change"
local common = require "luio.tool.cli.common"
local luio = require "luio"
local numbers = require "luio.tool.cli.numbers"
local place = require "luio.tool.explore.place"
local session = require "luio.tool.cli.irq.session"
local top_half = require "luio.tool.cli.irq.top_half"

local TRIGGERS = 100 -- of --trigger without --count
local INTX_DISABLE = 0x400 -- of the PCI command register

-- Masks or unmasks the source, as it was before.
local function restore(s, before)
  local dev, ok, message = s.t.dev, s.irq:close(), nil
  for _, other in pairs(s.others) do
    if ok then ok, message = other:close() end
  end
  local now = ok and before and dev.config:command()
  if now and before.intx_disable and not now.intx_disable then
    ok, message = dev.config:write16(4, dev.config:read16(4) + INTX_DISABLE)
  elseif now and now.intx_disable and not before.intx_disable then
    ok, message = dev:unmask()
  end
  if not ok then common.note(("the interrupt's mask is not as it was: %s"):format(message)) end
end

-- Waits, with the thread running. The mask is put back in any case.
local function work(s)
  local dev = s.t.dev
  local before = dev.config:command() -- nil where there is no config space: then nothing can be put back
  local release = common.on_signals(function() s.stopped = true end)
  s:announce()
  local fine, ok, message, code = pcall(luio.run, function()
    s.started = luio.now()
    local started, why, why_code
    if s.setup.unmask then started, why, why_code = s.irq:start()
    else started, why, why_code = s.irq:unmask() end
    if started and not s.args.vector_named then started, why, why_code = s:start_others() end
    if not started then
      s.failed = true
      return nil, why, why_code
    end
    if s.trigger then return s:fire() end
    return s:listen()
  end)
  s.direct, s.storm = s.irq:stats().direct, s.irq:storm()
  s:count_others()
  restore(s, before)
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
  args.vector_named, args.vector = args.vector ~= nil, args.vector or 0
  local setup
  setup, message, code = top_half.of(t, args)
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
  t.dev.irqs[args.vector]:setup(setup)
  ok, message, code = work(session.new(t, setup, args))
  if not ok then return nil, message, code end
  return 0
end

-- ---- Arguments -----------------------------------------------------------------------------------

return {
  irq = {
    options = function(p)
      common.device(p)
      p:option("-n --count", "End after N interrupts. Exit with 1 if one does not come within 10 s, or all within --for.")
        :argname("N"):convert(numbers.whole("--count", 1, 2 ^ 53))
      p:option("--for", "End after this time. Exit with 1 if no interrupt came. Without it Ctrl-C ends the command.")
        :argname("SECONDS"):convert(numbers.seconds "--for"):target "time"
      p:option("--ack", "Acknowledge by this write instead of the driver's. PLACE is a register, or an offset: 0x64:u32. "
        .. "VALUE may be a captured register, or some bits of it: 'NAME & 0xff'. May be repeated."):argname("PLACE=VALUE"):count "*"
      p:option("--capture", "Read this at each interrupt, beside the driver's captures; at most 4 in all. May be repeated.")
        :argname("PLACE"):count "*"
      p:option("--trigger", "Raise the interrupts by this write, --count times (100), and measure the latency.")
        :argname "PLACE=VALUE"
      p:option("--vector", "Wait for this vector, where --vectors gave the device several. Without it: for vector 0, and the others are "
        .. "counted."):argname("N"):convert(numbers.whole("--vector", 0, 2047))
      p:flag("--unmask", "Unmask after each interrupt without an acknowledgement: for edges, and for lines that a read takes back.")
      p:flag("--json", "Print JSON: counts, histograms, the first 100 events.")
      p:epilog("This command drives the device while it runs, and accesses no other registers than the named ones. "
        .. "At the end the source is masked if it was.\n\nExample: luio irq sim:edu --trigger IRQ_RAISE=1 --count 1000\n"
        .. "         luio irq uio0 --capture 0x24:u32 --ack 0x64:u32=0x24:u32 --for 5")
    end,
    run = run,
  },
}
