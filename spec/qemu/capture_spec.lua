--- examples/capture.lua on one of QEMU's cards, examples/pktgen.lua on another's, with a cable between the two machines. tcpdump reads
--- the file. (tshark and capinfos read such files in spec/net/pcapng_spec.lua.) What is missed, and a card that goes: in a guest,
--- spec/guest/net/capture_spec.lua.

local files = require "spec.support.files"
local pcapng = require "spec.support.pcapng"
local program = require "spec.support.program"
local streams = require "spec.support.streams"

local A, B = "qemu:e1000e,netdev=n0", "qemu:e1000,netdev=n0" -- 82574L, 82540EM

local dir, out, running

before_each(function()
  out, dir = files.write("out", "")
  running = {}
end)
after_each(function()
  for _, p in ipairs(running) do p:close() end
end)
teardown(files.clean)

-- capture at the cable's end "a", once it listens.
local function capture(...)
  local p = program.start { "spec/support/wired.lua", dir .. "/a", "examples/capture.lua", ... }
  table.insert(running, p)
  p:wait("  1%.%d s", 30) -- QEMU's 82540EM takes nothing in the second after RCTL was written (hw/net/e1000.c)
  return p
end

-- pktgen at the other to its end: given, and sent by the device's count.
local function pktgen(args)
  local given, sent = streams.sent(("spec/support/wired.lua %s/b examples/pktgen.lua %s"):format(dir, args))
  return given, sent
end

-- Numbers of a stream's frames in the file, their length and their captured length, which are always the same.
local function numbers(path)
  local list, lengths = {}, {}
  local length, bytes
  local function complete()
    local number = bytes:match("^6c75(" .. ("%x"):rep(16) .. ")", 2 * 42 + 1) or error("another frame: " .. bytes)
    table.insert(list, tonumber(number, 16))
    lengths[length .. " " .. #bytes / 2] = true
  end
  for line in files.shell(("tcpdump -r %s -e -nn -xx 2>/dev/null"):format(path)):gmatch "[^\n]+" do
    local more = line:match "^\t0x%x+:  (.*)"
    if more then
      bytes = bytes .. more:gsub(" ", "")
    else
      if bytes then complete() end
      bytes, length = "", line:match ", length (%d+): "
    end
  end
  if bytes then complete() end
  local all = {}
  for one in pairs(lengths) do table.insert(all, one) end
  return list, all
end

local function whole(path)
  local text = files.shell(("capinfos %s 2>&1"):format(path))
  assert.is_nil(text:find("cut short", 1, true), text)
  return tonumber(text:match "Number of packets = (%d+)"), text
end

describe("examples/capture.lua", function()
  it("writes what another process sends, frame by frame", function()
    local p = capture(A, out, "--count", "1000", "--seconds", "600")
    assert.same({ 1000, 1000 }, { pktgen(B .. " --rate 1500 --size 90 --count 1000") })
    assert.same({ 1000, 1000, 1000, 0 }, streams.totals(p))
    assert.equal(0, p:status())
    local list, lengths = numbers(out)
    assert.same({ "90 90" }, lengths)
    assert.equal(1000, #list)
    for i, n in ipairs(list) do assert(n == i - 1, ("frame %d is number %d"):format(i, n)) end
    local count, text = whole(out)
    assert.equal(1000, count)
    assert.is_truthy(text:find("Name = " .. A, 1, true), text)
  end)

  it("writes only what the filter lets through, and of that no more than --snaplen", function()
    local expression = "udp dst port 7777 and udp[17] & 3 = 1 and not vlan"
    local p = capture(B, out, "--filter", expression, "--snaplen", "64", "--seconds", "600")
    pktgen(A .. " --rate 2000 --size 120 --count 1000 --port 7777")
    pktgen(A .. " --rate 1000 --size 120 --count 200 --port 7778")
    p:wait("packets 1200, matched 250", 30)
    p:kill "sigint"
    assert.same({ 1200, 250, 250, 0 }, streams.totals(p))
    assert.equal(0, p:status())
    local list, lengths = numbers(out)
    assert.same({ "120 64" }, lengths)
    assert.equal(250, #list)
    for i, n in ipairs(list) do assert.equal(4 * i - 3, n) end
    assert.equal(250, (whole(out)))
    -- libpcap's view of the contents, and the statistics.
    local text = files.shell(("tcpdump -r %s -w - '%s' 2>/dev/null | capinfos -c -M - 2>&1"):format(out, expression))
    assert.matches("Number of packets:%s+250\n", text)
    assert.same({ received = 1200, missed = 0, accepted = 250 }, pcapng.statistics(out))
  end)

  it("goes into tcpdump by a pipe, and ends when that has seen enough", function()
    local result = dir .. "/printed"
    local shell = program.start({
      "-c", ("build/luio spec/support/wired.lua %s/a examples/capture.lua %s - --seconds 600 | tcpdump -r - -c 20 -nn >%s"):format(dir, B, result),
    }, { program = "/bin/sh" })
    table.insert(running, shell)
    shell:wait("  1%.%d s", 30)
    table.insert(running, program.start {
      "spec/support/wired.lua", dir .. "/b", "examples/pktgen.lua", A, "--rate", "500", "--port", "4321",
    }) -- until the end
    shell:wait("it has no reader any more", 30)
    assert.equal(0, shell:status(30))
    assert.equal(20, select(2, files.read(result):gsub("> 198%.18%.0%.2%.4321: UDP", "")))
  end)
end)
