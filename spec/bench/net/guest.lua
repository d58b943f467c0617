--- In the guest: luio and DPDK's testpmd take turns on the same cards, bound to uio_pci_generic.
---
---     luio guest.lua ROUNDS CARD CARD      prints rows as spec/bench/child.lua does
---
--- The cards are on one wire (QEMU's hub). Each turn is a process of its own, for testpmd must have the card to itself.

local quote = function(s) return "'" .. s:gsub("'", "'\\''") .. "'" end
local here = arg[0]:match "^(.*)/[^/]*$" or "."
local rounds, a, b = tonumber(arg[1]), arg[2], arg[3]
local program = quote(here .. "/../../../build/luio")

local SECONDS = 3
local FRAMES = 128 -- that go around, each way

local function output(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read "*a"
  pipe:close()
  return text
end

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

-- Packets/s: what testpmd says it sent in the seconds between start and stop.
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

local rows = {
  {
    name = "transmit, burst 128", aim = "1.5",
    note = "60-byte frames, a header written into each; testpmd txonly at burst 32, where it is fastest",
    luio = function() return ours("transmit", ("%s 128 %d"):format(a, SECONDS)) end,
    peer = function() return rate({ a }, "", "txonly", "start") end,
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
  local peer = type(row.peer) == "string" and samples[row.peer].peer or mine.peer
  print(table.concat({ "row", row.name, "Mpps", table.concat(mine.luio, ","), table.concat(peer, ","), row.aim or "", row.note }, "\t"))
end
