#!/usr/bin/env luio
--- A serial port on a driver in Lua: as a terminal here, or as a pseudo-terminal that other programs open.
---
---     build/luio examples/serial.lua sim:uart16550                 a terminal; the simulated one echoes
---     build/luio examples/serial.lua 0000:00:06.0 --baud 9600
---     build/luio examples/serial.lua 0000:00:06.0 --pty /tmp/ttyV0  and then: picocom /tmp/ttyV0
---
--- Save drivers/uart16550/init.lua meanwhile, and it goes on over the new code. The parts: lua/luio/serial/init.lua (the port),
--- pty.lua, bridge.lua.

local bridges = require "luio.serial.bridge"
local fd_watch = require "luio.loop.fd_watch"
local ffi = require "ffi"
local handles = require "luio.loop.handles"
local luio = require "luio"
local posix = require "luio.posix"
local ptys = require "luio.serial.pty"
local serial = require "luio.serial"
local settings = require "luio.serial.settings"
local termios = require "luio.serial.termios"
local uv = require "luv"

local parser = require "argparse"("luio examples/serial.lua", "A serial port as a terminal, or as a pseudo-terminal.")
parser:argument("device", "The port: 0000:00:06.0, uio0, sim:uart16550.")
parser:option("--pty", "Make a pseudo-terminal, and this symbolic link to it."):args "?":argname "LINK"
parser:option("--baud", "Bits a second."):argname "N":default "115200":convert(tonumber)
parser:option("--bits", "Of a character: 5 to 8."):argname "N":default "8":convert(tonumber)
parser:option("--parity", "none, odd, even, mark or space."):argname "WHICH":default "none"
parser:option("--stop", "Stop bits: 1, 1.5 or 2."):argname "N":default "1":convert(tonumber)
parser:option("--flow", "Flow control: none, rts/cts or xon/xoff."):argname "WHICH":default "none"
parser:flag("--fixed", "With --pty: keep the line as it is, whatever clients set.")
parser:epilog "Terminal: Ctrl-] and then q quits, b sends a break, d and r switch DTR and RTS, s says how things are, Ctrl-] sends itself."

local function fail(message, status)
  io.stderr:write("serial: ", message, "\n")
  return status or 1
end

local raw -- the terminal's settings of before, while it is raw

local function say(...)
  io.stderr:write(string.format(...), raw and "\r\n" or "\n")
end

local fine, args = parser:pparse(arg)
if not fine then return fail(args .. " (--help lists the options)", 2) end
local line = {}
for _, key in ipairs(settings.KEYS) do line[key] = args[key] end
for _, key in ipairs(settings.KEYS) do
  local fault = settings.fault(key, line[key])
  if fault then return fail("--" .. key .. ": " .. fault, 2) end
end
local fault = settings.merge(settings.DEFAULT, line)
if fault then return fail(fault, 2) end

local port, message = serial.open(args.device, line)
if not port then return fail(message) end
port:follow(function(report) say("%s", report) end)

local taken = 0 -- bytes that were given to us for the port

local function account()
  local s = port:stats()
  say("%s; received %d, dropped %d, sent %d; overruns %d, framing %d, parity %d, breaks %d", tostring(port), s.rx_bytes, s.rx_dropped,
    s.tx_bytes, s.overruns, s.framing, s.parity, s.breaks)
end

-- A signal ends the operation that began last.
local signals, stop = {}, nil
local function stop_with(fn)
  stop = fn
  if signals[1] then return end
  for i, name in ipairs { "sigint", "sigterm", "sighup" } do
    signals[i] = assert(uv.new_signal())
    signals[i]:start(name, function() stop() end)
    signals[i]:unref()
  end
end

-- Waits for a task, however long it takes.
local function await(one)
  repeat local _, _, code = one:join(1) until code ~= "ETIMEDOUT"
end

local PATIENCE = 60 -- seconds that the other end may hold bytes back

-- Sends the written bytes, as long as bytes leave, or until a signal; returns why not.
local function send_rest()
  local seconds = port:unsent() * serial.character_time(port.settings)
  if seconds > 2 then say("%d bytes are still to be sent, %.0f s; Ctrl-C gives them up", port:unsent(), seconds) end
  local sender = luio.spawn(function() return port:drain(nil, PATIENCE) end)
  stop_with(function() sender:cancel() end)
  await(sender)
  if sender.status ~= "done" then return ("%d bytes were given up"):format(port:unsent()) end
  return not sender.results[1] and sender.results[2] or nil
end

-- ---- As a pseudo-terminal ------------------------------------------------------------------------

local function by_pty()
  local pty, why = ptys.open { line = line, link = args.pty[1] }
  if not pty then return why end
  local bridge = bridges.new(port, pty, { fixed = args.fixed, tell = function(text) say("%s", text) end })
  stop_with(function() bridge:stop() end)
  say("%s is %s%s; Ctrl-C ends it", tostring(port), pty.link or pty.path, pty.link and " (" .. pty.path .. ")" or "")
  local ok
  luio.run(function() ok, why = bridge:run() end)
  pty:close()
  taken = port:stats().tx_written + bridge.unsent
  say("from the client %d bytes, to it %d, unheard %d", bridge.from_client, bridge.to_client, bridge.unheard)
  return not ok and why or nil
end

-- ---- As a terminal -------------------------------------------------------------------------------

local ESCAPE = "\29" -- Ctrl-]

local COMMANDS = {
  b = function()
    local ok, why = port:send_break(0.25)
    say("%s", ok and "sent a break" or why)
  end,
  d = function() port:set_lines { dtr = not port:lines().dtr } end,
  r = function()
    local ok, why = pcall(port.set_lines, port, { rts = not port:lines().rts })
    if not ok then say("%s", why) end
  end,
  s = function()
    account()
    local names, lines = {}, port:lines()
    for _, name in ipairs { "dtr", "rts", "out2", "cts", "dsr", "ri", "dcd" } do
      if lines[name] then table.insert(names, name:upper()) end
    end
    say("lines on: %s", table.concat(names, " "))
  end,
}

-- The typed text, without the commands in it; nil: quit.
local function without_commands(state, text)
  local out = {}
  for c in text:gmatch "." do
    if not state.escaped then
      if c == ESCAPE then state.escaped = true else table.insert(out, c) end
    else
      state.escaped = false
      if c == "q" or c == "\17" then return nil end
      if c == ESCAPE then table.insert(out, c)
      elseif COMMANDS[c] then COMMANDS[c]()
      else say("Ctrl-] q quits, b break, d DTR, r RTS, s status") end
    end
  end
  return table.concat(out)
end

-- From the port to standard output, until that takes no more.
local function output()
  while true do
    local text, why, code = port:read_some(4096, 1)
    if text then
      local ok
      ok, why = io.stdout:write(text)
      if ok then ok, why = io.stdout:flush() end
      if not ok then return ("standard output: %s: %d bytes that had come are lost"):format(why, #text + port:available()) end
    elseif code == "ENODEV" then
      say("%s", why)
      if not port.dev:wait_return(3600) then return end
    elseif code ~= "ETIMEDOUT" then
      return
    end
  end
end

-- An answer may take its time: as long as bytes come, ten seconds at most.
local function hear_out()
  local quiet, deadline, heard = 0.2 + 2 * port.fifo * serial.character_time(port.settings), luio.now() + 10, -1
  while port:stats().rx_bytes ~= heard and luio.now() < deadline do
    heard = port:stats().rx_bytes
    luio.sleep(quiet)
  end
end

-- From standard input to the port.
local function input()
  local watch = fd_watch.watch(0) -- nil: a file, which is always ready
  local state, buffer = {}, ffi.new("uint8_t[?]", 4096)
  while true do
    if not watch or watch:readable(1) then
      local n = posix.read(0, buffer, 4096)
      if n <= 0 then break end
      local text = ffi.string(buffer, n)
      if raw then text = without_commands(state, text) end
      if not text then break end
      taken = taken + #text
      local _, why, code = port:write(text, 3600)
      if code then say("%s", why) end
    end
  end
  if watch then watch:close() end
end

local function by_terminal()
  local before = termios.get(0)
  if before then
    termios.set(0, termios.raw(before))
    raw = before
    say("%s; Ctrl-] q quits, Ctrl-] ? says what else there is", tostring(port))
  end
  local why
  luio.run(function()
    local reader = luio.spawn(output)
    local writer = luio.spawn(input)
    stop_with(function() writer:cancel() end)
    await(writer)
    if before then termios.set(0, before) end
    raw = nil
    why = send_rest()
    if not why and not before then hear_out() end
    if reader.status == "done" then why = why or reader.results[1] end
    reader:cancel()
  end)
  return why
end

-- ---- The work ------------------------------------------------------------------------------------

local why = (args.pty and by_pty or by_terminal)()
if args.pty then luio.run(function() why = send_rest() or why end) end
account()
for _, signal in ipairs(signals) do
  signal:stop()
  handles.dispose(signal)
end
local closed, unsent = port:close(0) -- all that could be sent was
if not closed then why = why or unsent end
local lost = taken - port:stats().tx_written
if lost > 0 then why = ("%d bytes were taken and not written to the port%s"):format(lost, why and "; " .. why or "") end
return why and fail(why) or 0
