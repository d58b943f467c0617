--- Memory: the resident memory of an idle runtime.
---
--- The luio program with one simulated device open and its interrupt thread waiting (idle.lua)
--- reads its own /proc/self/status: VmRSS is everything resident, file pages shared with other
--- processes included; RssAnon is the process's private part. The peer is an idle python3 that has
--- loaded nothing.

local amount = require("tools").amount

local SAMPLES = amount(5)
local FIELDS = { "VmRSS", "RssAnon" }

local M = { name = "memory" }

local function mib(status, field)
  local kib = status:match(field .. ":%s*(%d+) kB")
  if not kib then error(("memory: no %s in what should be /proc/self/status: %s"):format(field, status), 0) end
  return tonumber(kib) / 1024
end

function M.run(tools)
  local ours = ("%s %s"):format(tools.quote(tools.program), tools.quote(tools.here .. "/idle.lua"))
  local theirs = tools.python() .. [[ -c 'print(open("/proc/self/status").read())']]
  local luio, peer = { {}, {} }, { {}, {} }
  for i = 1, SAMPLES do
    local our_status, their_status = tools.output(ours), tools.output(theirs)
    for k, field in ipairs(FIELDS) do
      luio[k][i], peer[k][i] = mib(our_status, field), mib(their_status, field)
    end
  end
  return {
    { name = "memory, resident", unit = "MiB", luio = luio[1], peer = peer[1], aim = "< 16 MiB", note = "peer: an idle python3" },
    { name = "memory, its own", unit = "MiB", luio = luio[2], peer = peer[2] },
  }
end

return M
