--- examples/pktgen.lua on QEMU's cards, without a guest: sending alone, and from one to another's. What is lost where a receiver stands
--- still is shown in a guest: spec/guest/net/pktgen_spec.lua.

local files = require "spec.support.files"
local program = require "spec.support.program"
local streams = require "spec.support.streams"
local wait = require "spec.support.wait"

local A, B = "qemu:e1000e,netdev=n0", "qemu:e1000,netdev=n0" -- 82574L, 82540EM

local running, dir

before_each(function()
  running = {}
  dir = select(2, files.write("x", ""))
end)
after_each(function()
  for _, p in ipairs(running) do p:close() end
end)
teardown(files.clean)

-- At one end of a cable: "a" or "b".
local function start(place, ...)
  local p = program.start { "spec/support/wired.lua", dir .. "/" .. place, ... }
  table.insert(running, p)
  return p
end

local function pktgen(place, args)
  return streams.sent(("spec/support/wired.lua %s/%s examples/pktgen.lua %s"):format(dir, place, args))
end

local RESULT = "received (%d+)[^,]*,?[^,]*, lost between (%d+), doubled (%d+), late (%d+), damaged (%d+), others (%d+); missed by the device (%d+)"

local function result(p)
  local list = { p:wait(RESULT, 30) }
  for i, n in ipairs(list) do list[i] = tonumber(n) end
  return list
end

describe("examples/pktgen.lua", function()
  it("sends at full speed, and says how fast", function()
    for _, device in ipairs { A, B } do
      local given, sent, text = pktgen("a", device .. " --seconds 3")
      assert.equal(given, sent)
      assert.is_true(given > 1000, text)
      assert.matches("\n +%d+%.%d s  [%d.]+ %a*packets/s  [%d.]+ %a*bit/s", "\n" .. text)
      assert.matches("packets/s min, [%d.]+ %a*packets/s median, [%d.]+ %a*packets/s max of %d seconds\n$", text)
    end
  end)

  it("sends at the rate it was given", function()
    local given, sent = pktgen("a", A .. " --rate 20000 --seconds 1")
    assert.equal(given, sent)
    -- Never more; less where a busy machine stood still. By an undisturbed clock: spec/net/stream_spec.lua.
    assert.is_true(given <= 20000 * 1.02 + 1 and given > 0, given)
    assert.equal(777, (pktgen("a", A .. " --count 777 --burst 50")))
  end)

  it("is received whole and in order, with the time that it took", function()
    for _, case in ipairs { { A, B }, { B, A } } do
      local p = start("a", "examples/pktgen.lua", case[1], "--receive", "--count", "1500", "--seconds", "600")
      p:wait("  1%.%d s", 30) -- QEMU's 82540EM takes nothing in the second after RCTL was written (hw/net/e1000.c)
      pktgen("b", case[2] .. " --rate 1500 --count 1500 --size 300")
      assert.same({ 1500, 0, 0, 0, 0, 0, 0 }, result(p))
      assert.equal(0, p:status())
      assert.matches("one way [%d.]+ [^ ]*s min, [%d.]+ [^ ]*s median, [%d.]+ [^ ]*s 99 %%, [%d.]+ [^ ]*s max", p:text())
    end
  end)

  it("compiles no more, and nothing is given up by the compiler, once it runs", function()
    local path = dir .. "/jit"
    local p = start("a", "spec/support/jitv.lua", path, "examples/pktgen.lua", A, "--seconds", "600")
    local lines, read = 0, 0
    -- What the compiler says during so many seconds of the sender.
    local function said(seconds)
      lines = lines + seconds
      wait.till(60, "the sender's seconds", function() return p:count "packets/s  " >= lines end)
      local text = files.read(path):sub(read + 1)
      read = read + #text
      return text
    end
    assert.is_truthy(said(1):find("stream.lua", 1, true), "it is compiled at all")
    for _ = 1, 100 do -- until it is at rest; how soon depends on the machine
      if not said(2):find("abort", 1, true) then break end
    end
    local late = said(2)
    assert.is_nil(late:find("abort", 1, true), late)
    p:kill "sigint"
    assert.equal(0, p:status())
  end)
end)
