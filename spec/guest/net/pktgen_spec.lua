--- examples/pktgen.lua on two cards: each receives the other's frames.

local files = require "spec.support.files"
local luio = require "luio"
local program = require "spec.support.program"

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

local function receiver(device, ...)
  local p = start("examples/pktgen.lua", device, "--receive", ...)
  p:wait("  1%.%d s", 30) -- QEMU's 82540EM takes nothing in the second after RCTL was written (hw/net/e1000.c)
  return p
end

local function pktgen(args)
  local text, status = program.run("examples/pktgen.lua " .. args)
  assert.equal(0, status, text)
  local given, sent = text:match "given (%d+), sent (%d+) by the device's count, 0 errors"
  return tonumber(given) or error(text), tonumber(sent), text
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
      local given, sent, text = pktgen(device .. " --seconds 3")
      assert.equal(given, sent)
      assert.is_true(given > 10000, text)
      assert.matches("\n +%d+%.%d s  [%d.]+ %a*packets/s  [%d.]+ %a*bit/s", "\n" .. text)
      assert.matches("packets/s min, [%d.]+ %a*packets/s median, [%d.]+ %a*packets/s max of %d seconds\n$", text)
    end
  end)

  it("sends at the rate it was given", function()
    for _, one in ipairs { { 5, 2 }, { 20000, 2 } } do
      local rate, seconds = one[1], one[2]
      local given, sent = pktgen(("%s --rate %d --seconds %d"):format(A, rate, seconds))
      assert.equal(given, sent)
      -- Never more; less where a guest on a busy host stood still. By an undisturbed clock: spec/net/stream_spec.lua.
      local due = rate * seconds
      assert.is_true(given <= due * 1.02 + 1 and given >= due * 0.5 - 1, ("%d a second: %d in %d s"):format(rate, given, seconds))
    end
    assert.equal(777, (pktgen(A .. " --count 777 --burst 50")))
  end)

  it("is received whole and in order, with the time that it took", function()
    for _, way in ipairs { { A, B }, { B, A } } do
      local p = receiver(way[2], "--count", "1500", "--seconds", "60")
      pktgen(way[1] .. " --rate 1000 --count 1500 --size 300")
      assert.same({ 1500, 0, 0, 0, 0, 0, 0 }, result(p))
      assert.equal(0, p:status())
      assert.matches("one way [%d.]+ [^ ]*s min, [%d.]+ [^ ]*s median, [%d.]+ [^ ]*s 99 %%, [%d.]+ [^ ]*s max", p:text())
    end
  end)

  it("finds what was lost", function()
    local p = receiver(B, "--seconds", "90")
    -- More than the ring holds while the receiver stands still, and less than QEMU keeps back for it.
    local sender = start("examples/pktgen.lua", A, "--rate", "2000", "--count", "8000")
    p:wait("  [1-9][%d.]* k?packets/s", 30)
    p:kill "sigstop"
    luio.sleep(1.5)
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

  it("compiles no more, and nothing is given up by the compiler, once it runs", function()
    local path = os.tmpname()
    local p = start("spec/support/jitv.lua", path, "examples/pktgen.lua", A, "--seconds", "6")
    p:wait("\n +3%.%d s", 40)
    local before = #files.read(path)
    assert.equal(0, p:status(30))
    local text = files.read(path)
    assert.is_truthy(text:find("stream.lua", 1, true), "it is compiled at all")
    assert.is_nil(text:sub(before + 1):find("abort", 1, true), text:sub(before + 1))
    os.remove(path)
  end)
end)
