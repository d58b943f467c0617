--- examples/capture.lua on one card, examples/pktgen.lua on the other, each a process. tcpdump reads the file. (tshark and
--- capinfos read such files in spec/net/pcapng_spec.lua; here tshark would take ten seconds to start.)

local files = require "spec.support.files"
local pcapng = require "spec.support.pcapng"
local program = require "spec.support.program"
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
  local text, status = program.run("examples/pktgen.lua " .. args)
  assert.equal(0, status, text)
  local given, sent = text:match "given (%d+), sent (%d+) by the device's count, 0 errors"
  return tonumber(given) or error(text), tonumber(sent)
end

local function totals(p)
  local n, matched, written, dropped = p:wait("packets (%d+), matched (%d+), written (%d+), dropped (%d+)\n", 30)
  return { tonumber(n), tonumber(matched), tonumber(written), tonumber(dropped) }
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
    assert.same({ 1000, 1000, 1000, 0 }, totals(p))
    assert.equal(0, p:status())
    local list, lengths = numbers(out)
    assert.same({ "90 90" }, lengths)
    assert.equal(1000, #list)
    for i, n in ipairs(list) do assert(n == i - 1, ("frame %d is number %d"):format(i, n)) end
    local count, text = whole(out)
    assert.equal(1000, count)
    assert.matches("Name = " .. A, text)
  end)

  it("writes only what the filter lets through, and of that no more than --snaplen", function()
    local expression = "udp dst port 7777 and udp[17] & 3 = 1 and not vlan"
    local p = capture(B, out, "--filter", expression, "--snaplen", "64", "--seconds", "600")
    pktgen(A .. " --rate 2000 --size 120 --count 1000 --port 7777")
    pktgen(A .. " --rate 1000 --size 120 --count 200 --port 7778")
    p:wait("packets 1200, matched 250", 30)
    p:kill "sigint"
    assert.same({ 1200, 250, 250, 0 }, totals(p))
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
    local result = os.tmpname()
    local shell = program.start({
      "-c", ("build/luio examples/capture.lua %s - --seconds 600 | tcpdump -r - -c 20 -nn >%s"):format(B, result),
    }, { program = "/bin/sh" })
    table.insert(running, shell)
    shell:wait("  1%.%d s", 30)
    table.insert(running, program.start { "examples/pktgen.lua", A, "--rate", "500", "--port", "4321" }) -- until the end
    shell:wait("it has no reader any more", 30)
    assert.equal(0, shell:status(30))
    assert.equal(20, select(2, files.read(result):gsub("> 198%.18%.0%.2%.4321: UDP", "")))
    os.remove(result)
  end)

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
    local t = totals(p)
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
    assert.same({ 100, 100, 100, 0 }, totals(p))
    assert.matches("capture: [^\n]*receive of " .. B:gsub("%p", "%%%0") .. "[^\n]*gone", p:text())
    assert.equal(100, (whole(out)))
  end)
end)
