--- Pings of which each must be answered, however long that takes.
---
---     local statistics = ping(wire.must, 5, "-i 0.1", wire.THERE)
---
--- After its last packet ping waits for two round trips only, unless it has a deadline (-w). With one it goes on until it has had as
--- many answers as were asked for: one that was lost is then missing among their numbers.

local assert = require "luassert"

local SECONDS = 300 -- against a hang

---@param run fun(command: string): string  runs a command; its output
---@param n integer
---@param options string
---@param address string
---@return string statistics  the last line: round-trip times
return function(run, n, options, address)
  local out = run(("ping -n -c %d -w %d %s %s"):format(n, SECONDS, options, address))
  local numbers, missing = {}, {}
  for number in out:gmatch "icmp_seq=(%d+)" do numbers[tonumber(number)] = true end
  for i = 1, n do
    if not numbers[i] then missing[#missing + 1] = i end
  end
  assert.same({}, missing, out:match "[^\n]*packets transmitted[^\n]*" or out)
  return out:match "rtt ([^\n]*)"
end
