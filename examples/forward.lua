--- Two ports, both directions: frames that come in at one go out at the other.
---
---     build/luio examples/forward.lua 0000:00:05.0 0000:00:09.0
---     build/luio examples/forward.lua 0000:00:05.0 0000:00:09.0 --swap    # with MAC addresses exchanged
---
--- No byte is copied: a packet of the one port's pool is lent to the other's transmit ring, and goes back to its pool when it
--- was sent. Under load it polls; when nothing comes it waits for an interrupt. Frames for which the other side has no room
--- are dropped, and counted.

local ffi = require "ffi"
local luio = require "luio"
local net = require "luio.net"
local numbers = require "luio.tool.cli.numbers"

local parser = require "argparse"("luio examples/forward.lua", "Forwards frames between two ports, both ways.")
parser:argument("a", "The one port's device.")
parser:argument("b", "The other's.")
parser:flag("--swap", "Exchange source and destination address.")
parser:flag("--no-promiscuous", "Only frames that are for the ports themselves.")
parser:option("--seconds", "End after so long; else Ctrl-C does."):argname("N"):convert(numbers.seconds "--seconds")
parser:option("--burst", "At most so many frames at once."):argname("N"):convert(numbers.whole("--burst", 1, 4096)):default "64"
parser:epilog "Example: luio examples/forward.lua 0000:00:05.0 0000:00:09.0"

local function fail(message, status)
  io.stderr:write("forward: ", message, "\n")
  return status or 1
end

local MAC = ffi.typeof "struct { uint32_t low; uint16_t high; } __attribute__((packed)) *"

-- Exchanges the two addresses at the start of a frame.
local function swap_addresses(packet)
  local start = packet:pointer()
  local destination, source = ffi.cast(MAC, start), ffi.cast(MAC, start + 6)
  local low, high = destination.low, destination.high
  destination.low, destination.high = source.low, source.high
  source.low, source.high = low, high
end

-- Moves the packets that have come; how many came, and how many of them went.
local function pump(from, to, batch, swap)
  local n = from:burst(batch, batch.capacity)
  if n == 0 then return 0, 0 end
  if swap then
    for i = 0, n - 1 do swap_addresses(batch[i]) end
  end
  local sent = to:burst(batch, n)
  for i = sent, n - 1 do batch[i]:free() end
  return n, sent
end

local function report(way)
  print(("%s: %d came, %d went, %d dropped"):format(way.name, way.came, way.went, way.came - way.went))
end

local function forward(a, b, options)
  local rx_a, tx_a, rx_b, tx_b = a.rx[0], a.tx[0], b.rx[0], b.tx[0]
  local batch, swap, stopping = luio.batch(options.burst), options.swap, luio.stopping()
  local there = { name = ("%s -> %s"):format(a.dev.address, b.dev.address), came = 0, went = 0 }
  local back = { name = ("%s -> %s"):format(b.dev.address, a.dev.address), came = 0, went = 0 }
  local queues, deadline = { rx_a, rx_b }, luio.now() + (options.seconds or 1e9)
  while not stopping() and luio.now() < deadline do
    local n, sent = pump(rx_a, tx_b, batch, swap)
    there.came, there.went = there.came + n, there.went + sent
    local m, back_sent = pump(rx_b, tx_a, batch, swap)
    back.came, back.went = back.came + m, back.went + back_sent
    if n + m == 0 then
      local _, message, code = net.wait(queues, 0.1)
      if code and code ~= "ETIMEDOUT" then return nil, message end
    end
  end
  report(there)
  report(back)
  return true
end

local ok, options = parser:pparse(arg)
if not ok then return fail(options .. " (--help lists the options)", 2) end
local ports = {}
for i, address in ipairs { options.a, options.b } do
  local message
  ports[i], message = net.open(address)
  if not ports[i] then return fail(message) end
  if i == 2 and options.a:find "^sim:" and address:find "^sim:" then
    return fail "two simulated cards have neither a wire nor memory in common: one of them at least is to be real"
  end
  ports[i]:promiscuous(not options.no_promiscuous)
  ports[i]:follow(print)
end
print(("forwarding between %s and %s; Ctrl-C ends it"):format(tostring(ports[1]), tostring(ports[2])))
io.stdout:flush()
local fine, message = forward(ports[1], ports[2], options)
for i = 1, 2 do ports[i].tx[0]:flush(1) end -- each has packets of the other
for i = 1, 2 do
  local closed, why = ports[i]:close()
  if not closed then fine, message = nil, message or why end
end
return fine and 0 or fail(message)
