--- examples/pktgen.lua on two cards of one machine, the one receiving what the other sends. Everything else of it is shown without a
--- guest: spec/qemu/pktgen_spec.lua.

local program = require "spec.support.program"
local wait = require "spec.support.wait"

local A, B = "0000:00:05.0", "0000:00:09.0" -- 82574L, 82540EM

local running

before_each(function() running = {} end)
after_each(function()
  for _, p in ipairs(running) do p:close() end
end)

local function start(...)
  local p = program.start { ... }
  table.insert(running, p)
  return p
end

local RESULT = "received (%d+)[^,]*,?[^,]*, lost between (%d+), doubled (%d+), late (%d+), damaged (%d+), others (%d+); missed by the device (%d+)"

local function result(p)
  local list = { p:wait(RESULT, 30) }
  for i, n in ipairs(list) do list[i] = tonumber(n) end
  return list
end

describe("examples/pktgen.lua", function()
  it("finds what was lost", function()
    local p = start("examples/pktgen.lua", B, "--receive", "--seconds", "600")
    p:wait("  1%.%d s", 30) -- QEMU's 82540EM takes nothing in the second after RCTL was written (hw/net/e1000.c)
    -- More than the ring holds while the receiver stands still, and less than QEMU keeps back for it.
    local sender = start("examples/pktgen.lua", A, "--rate", "2000", "--count", "8000")
    p:wait("  [1-9][%d.]* k?packets/s", 30)
    p:kill "sigstop"
    local lines = sender:count "packets/s"
    wait.till(30, "more than a second of the sender", function() return sender:count "packets/s" >= lines + 2 end)
    p:kill "sigcont"
    assert.equal("8000", (sender:wait("given (%d+), sent 8000", 30)))
    p:wait("lost [1-9].*  0.0 packets/s", 30)
    p:kill "sigint"
    local r = result(p)
    assert.equal(1, p:status())
    assert.same({ 0, 0, 0, 0 }, { r[3], r[4], r[5], r[6] })
    assert.equal(8000, r[1] + r[7])
    assert.is_true(r[2] > 0 and r[2] <= r[7], "what was lost before the last that came")
  end)
end)
