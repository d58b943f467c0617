--- Runs random programs (program.lua) interpreted and compiled, and says where they differ: luajit run.lua FIRST LAST [SHOW]
---
--- A line for each that does: `SEED WHAT`. A crash ends the process; the last seed that was begun is the last line that begins
--- with "at".

local program = require "spec.support.compiler.program"
local first, last = tonumber(arg[1]), tonumber(arg[2])
local jit_on = jit.on
io.stdout:setvbuf "no"

local function outcome(text)
  -- A chunk of its own each time: bytecode that was patched or blacklisted stays with the other.
  local ok, result = pcall(assert(loadstring(text, "=program")))
  return tostring(ok) .. " " .. tostring(result)
end

for seed = first, last do
  local text = program.text(seed)
  if arg[3] then io.write(text) end
  jit.off()
  local want = outcome(text)
  jit_on()
  print("at " .. seed)
  collectgarbage("setpause", seed % 3 == 0 and 100 or 200)
  collectgarbage("setstepmul", seed % 3 == 0 and 100 or 200)
  if seed % 2 == 0 then jit.opt.start("hotloop=2", "hotexit=1") else jit.opt.start("hotloop=5", "hotexit=2") end
  local got = outcome(text)
  if got ~= want then print(("%d: interpreted %s, compiled %s"):format(seed, want, got)) end
  jit.flush()
end
print "done"
