--- In the guest: luio and DPDK's testpmd take turns on the same cards, bound to uio_pci_generic.
---
---     luio guest.lua ROUNDS CARD CARD                prints rows as spec/bench/child.lua does
---     luio guest.lua ROUNDS CARD CARD instructions   round trips only, for a guest whose clock counts instructions
---
--- The cards are on one wire (QEMU's hub). Each turn is a process of its own, for testpmd must have the card to itself. For
--- round trips the second card is the kernel's, the first in turn luio's and the kernel's.

local here = arg[0]:match "^(.*)/[^/]*$" or "."
package.path = here .. "/../?.lua;" .. package.path
local tools = require "tools"
local output, quote = tools.output, tools.quote
local rounds, a, b = tonumber(arg[1]), arg[2], arg[3]
local counts_instructions = arg[4] == "instructions"
local program = quote(here .. "/../../../build/luio")

local SECONDS = 3
local FRAMES = 128 -- that go around, each way

local function numbers(list)
  local t = {}
  for n in list:gmatch "[%d.]+" do t[#t + 1] = tonumber(n) end
  return t
end

local function median(t)
  table.sort(t)
  return #t > 0 and t[math.floor(#t / 2) + 1] or nil
end

-- A sample is the median of a turn's seconds.
local function ours(script, arguments)
  local text = output(("%s %s %s"):format(program, quote(("%s/%s.lua"):format(here, script)), arguments))
  return median(numbers(text)) or error(("%s said %s"):format(script, text), 0)
end

-- One core works, one is left to the commands, as testpmd wants it.
local EAL = "dpdk-testpmd -l 0,1 --iova-mode=pa --in-memory --no-telemetry -m 64 --log-level=3"

local function testpmd(cards, options, commands)
  local allow = {}
  for i, card in ipairs(cards) do allow[i] = "-a " .. card end
  return output(("(%s) | %s %s -- -i --no-mlockall --total-num-mbufs=8192 --txpkts=60 %s 2>&1"):format(commands, EAL,
    table.concat(allow, " "), options))
end

-- Packets/s: testpmd's count of sent packets in the seconds between start and stop.
local function rate(cards, options, mode, start)
  local began = "echo 'set fwd %s'; sleep 1; echo '%s'; sleep 1; echo 'show port stats all'; sleep %d; echo 'show port stats all'; echo stop; echo quit"
  local text = testpmd(cards, options, began:format(mode, start, SECONDS))
  local sums = {}
  for block in text:gmatch "NIC statistics for port %d+.-TX%-packets:%s*(%d+)" do sums[#sums + 1] = tonumber(block) end
  if #sums ~= 2 * #cards then error("testpmd: " .. text, 0) end
  local sent = 0
  for i = 1, #cards do sent = sent + sums[#cards + i] - sums[i] end
  return sent / SECONDS
end

-- The same without its prompt, where testpmd says each second how many: it sends faster so. Median of the seconds.
local function steady(card, options)
  local text = output(("timeout -s INT %d %s -a %s -- --no-mlockall --total-num-mbufs=4096 --txpkts=60 --stats-period 1 %s </dev/zero 2>&1")
    :format(SECONDS + 6, EAL, card, options))
  local seconds = {}
  for pps in text:gmatch "Tx%-pps:%s*(%d+)" do seconds[#seconds + 1] = tonumber(pps) end
  if #seconds < SECONDS then error("testpmd: " .. text, 0) end
  for _ = 1, 2 do table.remove(seconds, 1) end -- while it starts
  return median(seconds)
end

local rows = {
  {
    name = "transmit, burst 128", aim = "1.5",
    note = "60-byte frames, a header written into each; testpmd txonly at burst 32, where it is fastest",
    luio = function() return ours("transmit", ("%s 128 %d"):format(a, SECONDS)) end,
    peer = function() return steady(a, "--forward-mode=txonly") end,
  },
  {
    name = "transmit, burst 32", note = "the same, both at burst 32",
    luio = function() return ours("transmit", ("%s 32 %d"):format(a, SECONDS)) end,
    peer = "transmit, burst 128",
  },
  {
    name = "forward, swapping MACs", aim = "1.2",
    note = ("%d frames go around each way between two cards; testpmd macswap"):format(FRAMES),
    luio = function() return ours("forward", ("%s %s %d %d"):format(a, b, FRAMES, SECONDS)) end,
    peer = function() return rate({ a, b }, "", "macswap", ("start tx_first %d"):format(FRAMES / 32)) end,
  },
}

-- ---- Round trips ---------------------------------------------------------------------------------

-- Gives a card to a driver of the kernel.
local function give(card, driver)
  local folder = "/sys/bus/pci/devices/" .. card
  output(("echo %s > %s/driver/unbind; echo %s > %s/driver_override; echo %s > /sys/bus/pci/drivers_probe; echo > %s/driver_override")
    :format(card, folder, driver, folder, card, folder))
end

-- The interface of a card that the kernel drives, up.
local function interface(card)
  for _ = 1, 50 do
    local name = output(("ls /sys/bus/pci/devices/%s/net 2>/dev/null"):format(card)):match "%S+"
    if name and output(("ip link set %s up; sleep 0.2; cat /sys/class/net/%s/carrier 2>/dev/null"):format(name, name)):match "1" then
      return name, output(("cat /sys/class/net/%s/address"):format(name)):match "%S+"
    end
  end
  error("no interface of " .. card, 0)
end

local afpacket = quote(here .. "/../../../build/bench/afpacket")
local PINGS = 2000
local WARM = 1000 -- before: a trace that is compiled is new code for the emulator as well, and costs it milliseconds

-- Starts what sends back, pings it, ends it; median and 99th percentile in us.
local function ping(far, mac, echo)
  local pipe = assert(io.popen(("%s & echo $!; wait"):format(echo)))
  local pid = assert(pipe:read "*l")
  if echo:find "echo.lua" then assert(pipe:read "*l", "echo.lua did not start") end
  output(("%s ping %s %s %d"):format(afpacket, far, mac, WARM))
  local times, lost = {}, 0
  for line in output(("%s ping %s %s %d"):format(afpacket, far, mac, PINGS)):gmatch "[^\n]+" do
    if line == "lost" then lost = lost + 1 else times[#times + 1] = tonumber(line) / 1e3 end
  end
  os.execute("kill " .. pid)
  pipe:close()
  if lost > 0 or #times ~= PINGS then error(("%d of %d lost by %s"):format(lost, PINGS, echo), 0) end
  table.sort(times)
  return { times[PINGS / 2], times[PINGS * 0.99] }
end

-- A round of all three.
local function round_trips(far)
  local turn = {}
  give(a, "uio_pci_generic")
  local mac = "52:54:00:12:34:56" -- QEMU's first
  turn.luio = ping(far, mac, ("%s %s/echo.lua %s auto"):format(program, here, a))
  turn.interrupts = ping(far, mac, ("%s %s/echo.lua %s 0"):format(program, here, a))
  give(a, "e1000e")
  turn.kernel = ping(far, mac, ("%s echo %s"):format(afpacket, (interface(a))))
  return turn
end

-- ---- All of it -----------------------------------------------------------------------------------

local function tell(name, unit, luio, peer, aim, note)
  print(table.concat({ "row", name, unit, table.concat(luio, ","), table.concat(peer, ","), aim, note }, "\t"))
end

local function throughput()
  local samples = {}
  for _, row in ipairs(rows) do samples[row.name] = { luio = {}, peer = {} } end
  for _ = 1, rounds do
    for _, row in ipairs(rows) do
      local mine = samples[row.name]
      table.insert(mine.luio, row.luio() / 1e6)
      if type(row.peer) == "function" then table.insert(mine.peer, row.peer() / 1e6) end
    end
  end
  for _, row in ipairs(rows) do
    local mine = samples[row.name]
    tell(row.name, "Mpps", mine.luio, type(row.peer) == "string" and samples[row.peer].peer or mine.peer, row.aim or "", row.note)
  end
end

if not counts_instructions then throughput() end

output "/run/luio/bin/modprobe e1000; /run/luio/bin/modprobe e1000e"
give(b, "e1000")
local far, turns = interface(b), {}
for i = 1, rounds do turns[i] = round_trips(far) end
local function column(who, index)
  local list = {}
  for i, turn in ipairs(turns) do list[i] = turn[who][index] end
  return list
end
local NAME = counts_instructions and "round trip in instructions" or "round trip"
local NOTE = "60 bytes, from a kernel-driven card and back; peer: the kernel's e1000e and a C program with AF_PACKET; both block"
local SAME = "the same"
if counts_instructions then
  SAME = "the same on one CPU, where a ns is an instruction: no thread of the emulator waits for another"
  NOTE = SAME
end
tell(NAME .. ", median", "us", column("luio", 1), column("kernel", 1), "1", NOTE)
tell(NAME .. ", 99th percentile", "us", column("luio", 2), column("kernel", 2), "1", SAME)
tell(NAME .. " by interrupt alone, median", "us", column("interrupts", 1), column("kernel", 1), "", "luio with poll = 0")
tell(NAME .. " by interrupt alone, 99th percentile", "us", column("interrupts", 2), column("kernel", 2), "", "the same")
