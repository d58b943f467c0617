--- examples/capture.lua on one card, examples/pktgen.lua on the other card of the machine, each a process: frames that are missed, a
--- reader that takes nothing, a card that goes. What is written is shown without a guest: spec/qemu/capture_spec.lua.

local files = require "spec.support.files"
local pcapng = require "spec.support.pcapng"
local program = require "spec.support.program"
local streams = require "spec.support.streams"
local sysfs = require "spec.support.sysfs"

local A, B = "0000:00:05.0", "0000:00:09.0" -- 82574L, 82540EM

local out, running

before_each(function()
  out, running = os.tmpname(), {}
end)
after_each(function()
  for _, p in ipairs(running) do p:close() end
  os.remove(out)
end)

-- capture, once it listens.
local function capture(...)
  local p = program.start { "examples/capture.lua", ... }
  table.insert(running, p)
  p:wait("  1%.%d s", 30) -- QEMU's 82540EM takes nothing in the second after RCTL was written (hw/net/e1000.c)
  return p
end

-- pktgen to its end: given, and sent by the device's count.
local function pktgen(args)
  local given, sent = streams.sent("examples/pktgen.lua " .. args)
  return given, sent
end

local function whole(path)
  local text = files.shell(("capinfos %s 2>&1"):format(path))
  assert.is_nil(text:find("cut short", 1, true), text)
  return tonumber(text:match "Number of packets = (%d+)"), text
end

describe("examples/capture.lua", function()
  it("tells what it missed while it could not keep up: all are accounted for", function()
    local p = capture(B, out, "--seconds", "600")
    p:wait "packets 0, matched 0" -- compiled and at rest
    p:kill "sigstop"
    -- More than its ring holds, and less than QEMU keeps back for a card that takes nothing.
    local given = pktgen(A .. " --rate 5000 --count 6000")
    p:kill "sigcont"
    pktgen(A .. " --rate 1000 --count 100")
    p:wait("packets %d+, matched %d+, dropped [1-9]", 30)
    p:kill "sigterm"
    local t = streams.totals(p)
    assert.equal(0, p:status())
    assert.is_true(t[4] > 0)
    assert.equal(given + 100, t[3] + t[4])
    assert.equal(t[3], (whole(out)))
    local counted = pcapng.statistics(out)
    assert.same({ given + 100, t[4] }, { counted.received, counted.missed })
  end)

  it("ends in time though the reader of its pipe takes nothing", function()
    local fifo = os.tmpname()
    os.remove(fifo)
    assert(os.execute("mkfifo " .. fifo) == 0)
    local reader = program.start({ "-c", "exec 3<>" .. fifo .. "; echo ready; exec sleep 600" }, { program = "/bin/sh" })
    table.insert(running, reader)
    reader:wait "ready"
    local p = capture(B, fifo)
    pktgen(A .. " --rate 5000 --count 3000") -- more than a pipe holds
    p:wait("packets ([1-9]%d%d+), [^\n]*\n[^\n]* packets %1,", 30) -- it stands still
    p:kill "sigint"
    p:wait("took nothing for 2 s", 40)
    assert.equal(1, p:status())
    os.remove(fifo)
  end)

  it("ends with a whole file when the device goes away", function()
    local p = capture(B, out, "--seconds", "600")
    pktgen(A .. " --rate 1000 --count 100")
    p:wait("packets 100, ", 20)
    sysfs.unbind(B)
    assert.equal(1, p:status(20))
    sysfs.bind(B)
    assert.same({ 100, 100, 100, 0 }, streams.totals(p))
    assert.matches("capture: [^\n]*receive of " .. B:gsub("%p", "%%%0") .. "[^\n]*gone", p:text())
    assert.equal(100, (whole(out)))
  end)
end)
