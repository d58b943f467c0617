--- Numbered streams: their frames as tshark reads them, the receiver's figures of loss, and the pace.

local documents = require "spec.support.documents"
local files = require "spec.support.files"
local luio = require "luio"
local pace = require "luio.net.pace"
local pcapng = require "luio.net.pcapng"
local stream = require "luio.net.stream"

local dev, pool, packets

before_each(function()
  dev = assert(luio.open "sim:edu")
  pool = assert(luio.pool(dev, { count = 300, size = 2048 }))
  packets = luio.batch(256)
end)
after_each(function() assert(dev:close()) end)
teardown(files.clean)

-- Puts the packets of a batch in this order (indices from 0; one may come twice) into another.
local function order(indices)
  local other = luio.batch(#indices)
  for i, k in ipairs(indices) do other[i - 1] = packets[k] end
  return other, #indices
end

local function result(check)
  local r = check:result()
  return { r.received, r.lost, r.doubled, r.late, r.damaged, r.other }
end

describe("a stream's frames", function()
  it("are UDP as tshark knows it, numbered and stamped, of any size", function()
    local path = files.write("stream.pcapng", "")
    local file = assert(pcapng.create(path))
    local before = luio.now()
    for _, size in ipairs { 60, 61, 64, 1514 } do
      local out = stream.sender(pool, {
        size = size, src = "02:00:00:00:00:0a", dst = "02:00:00:00:00:0b", ip_src = "10.1.2.3", ip_dst = "10.255.0.4", port_src = 4000, port_dst = 5000,
      })
      assert.equal(5, out:fill(packets, 0, 5))
      assert.equal(5, out:made())
      file:select(packets, 5)
      assert(file:write())
      packets:free(5)
    end
    assert(file:close())
    local text = files.shell(("tshark -r '%s' -o ip.check_checksum:TRUE -T fields -E separator=, -e frame.len -e eth.src -e eth.dst -e ip.src -e ip.dst -e ip.len "
      .. "-e ip.checksum.status -e udp.srcport -e udp.dstport -e udp.length -e _ws.malformed -e data.data 2>/dev/null"):format(path))
    local n = 0
    for line in text:gmatch "[^\n]+" do
      local size = ({ 60, 61, 64, 1514 })[math.floor(n / 5) + 1]
      local head, data = line:match "^(.*),(%x+)$"
      assert.equal(("%d,02:00:00:00:00:0a,02:00:00:00:00:0b,10.1.2.3,10.255.0.4,%d,1,4000,5000,%d,"):format(size, size - 14, size - 34), head)
      assert.equal(("6c75%016x"):format(n % 5), data:sub(1, 20))
      local made = (tonumber(data:sub(21, 28), 16) * 2 ^ 32 + tonumber(data:sub(29, 36), 16)) / 1e9
      assert.is_true(made >= before - 1e-6 and made <= luio.now(), "the time of its making")
      if size == 1514 then assert.equal("000102", data:sub(37, 42)) end
      n = n + 1
    end
    assert.equal(20, n)
  end)

  it("are shown by tshark as the documents' transcript of a capture shows them", function()
    local command, expected = documents.of("spec/guest/net/readme_spec.lua")[1].text:match "%$ (tshark [^\n]*)\n(.-\n)$"
    local path = files.write("stream.pcapng", "")
    local file = assert(pcapng.create(path))
    assert.equal(5, stream.sender(pool):fill(packets, 0, 5))
    file:select(packets, 5)
    assert(file:write())
    packets:free(5)
    assert(file:close())
    local shown = files.shell((command:gsub("out%.pcapng", path):gsub(" |", " 2>/dev/null |")))
    local function masked(text) return (text:gsub("%d+%.%d%d%d%d+", "N")) end
    assert.equal(masked(expected), masked(shown))
  end)

  it("are as many as the pool has, and options that are none are refused", function()
    local out, big = stream.sender(pool), luio.batch(400)
    assert.equal(300, out:fill(big, 0, 400))
    assert.equal(300, out:fill(big, 300, 400))
    assert.equal(300, out:made())
    big:free(300)
    for _, options in ipairs { { size = 59 }, { size = 2049 }, { size = 60.5 }, { dst = "x" }, { ip_src = "1.2.3" }, { ip_dst = "1.2.3.256" }, { port_dst = 65536 } } do
      assert.has_error(function() stream.sender(pool, options) end)
    end
    assert.has_error(function() pace.new(0) end)
  end)
end)

describe("a stream's receiver", function()
  it("finds all there, across the half of its numbers", function()
    local out, check = stream.sender(pool), stream.receiver()
    out.s.made = 2 ^ 32 - 10
    local got = 0
    while got < 30 do
      local n = out:fill(packets, 0, 30 - got)
      check:count(packets, n)
      packets:free(n)
      got = got + n
    end
    assert.same({ 30, 0, 0, 0, 0, 0 }, result(check))
    assert.equal(30, check.latency.count)
    assert.is_true(check.latency.min >= 0 and check.latency.max < 1)
  end)

  it("tells lost, doubled and late ones apart", function()
    local out, check = stream.sender(pool), stream.receiver()
    out:fill(packets, 0, 100)
    check:count(order { 3, 4, 5 }) -- it begins there
    assert.same({ 3, 0, 0, 0, 0, 0 }, result(check))
    check:count(order { 8, 9 })
    assert.same({ 5, 2, 0, 0, 0, 0 }, result(check))
    check:count(order { 7 })
    assert.same({ 6, 1, 0, 1, 0, 0 }, result(check))
    check:count(order { 7, 9, 8, 3 })
    assert.same({ 10, 1, 4, 1, 0, 0 }, result(check))
    check:count(order { 10, 99 })
    assert.same({ 12, 89, 4, 1, 0, 0 }, result(check))
    for i = 11, 98 do check:count(order { i }) end
    assert.same({ 100, 1, 4, 89, 0, 0 }, result(check))
  end)

  it("remembers as far back as it can, and then takes them for late", function()
    local out, check = stream.sender(pool), stream.receiver()
    out:fill(packets, 0, 2)
    out.s.made = 70000
    out:fill(packets, 2, 4)
    check:count(order { 0, 2, 3 })
    assert.same({ 3, 69999, 0, 0, 0, 0 }, result(check))
    check:count(order { 2, 1, 1 }) -- 1 is out of its sight: late, and late again
    assert.same({ 6, 69997, 1, 2, 0, 0 }, result(check))
  end)

  it("knows what is not of it, and what is damaged", function()
    local out, check = stream.sender(pool, { size = 100 }), stream.receiver()
    out:fill(packets, 0, 6)
    packets[0]:pointer()[70] = 0 -- the filling
    packets[1].length = 99
    packets[2]:pointer()[42] = 0 -- the mark
    packets[3]:pointer()[23] = 6 -- TCP
    packets[4].length = 10
    check:count(packets, 6)
    assert.same({ 1, 0, 0, 0, 2, 3 }, result(check))
  end)

  it("makes no garbage, nor does the sender #jit", function()
    -- Anew: what other specs did may have made the compiler give parts of them up.
    for _, name in ipairs { "luio.pool", "luio.net.stream" } do package.loaded[name] = nil end
    stream, pool, packets = require "luio.net.stream", assert(luio.pool(dev, { count = 300, size = 2048 })), luio.batch(256)
    local out, check = stream.sender(pool, { size = 100 }), stream.receiver()
    local function rounds(n)
      for _ = 1, n do
        local have = out:fill(packets, 0, 256)
        check:count(packets, have)
        packets:free(have)
      end
    end
    rounds(300)
    collectgarbage()
    collectgarbage "stop"
    local before = collectgarbage "count"
    rounds(1000)
    local grown = collectgarbage "count" - before
    collectgarbage "restart"
    assert.is_true(grown < 64, grown .. " KiB for 256,000 packets")
    assert.same({ 1300 * 256, 0, 0, 0, 0, 0 }, result(check))
  end)
end)

describe("a pace", function()
  -- So many seconds, by a clock that is looked at as irregularly as a loop does.
  local function run(rate, seconds, most, step)
    local bucket, t, sent, i = pace.new(rate), 1000, 0, 0
    while t < 1000 + seconds do
      local n = bucket:take(most, t)
      if not (n >= 0 and n <= most and n % 1 == 0) then error("so many tokens: " .. n) end
      sent, i = sent + n, i + 1
      t = t + step * (0.2 + i * 7 % 16 / 10)
    end
    return sent
  end

  it("is right to 1 % from 1 a second to 10 million", function()
    for _, one in ipairs { { 1, 200, 1e-3 }, { 7.5, 100, 1e-3 }, { 1000, 10, 1e-4 }, { 333333, 3, 5e-5 }, { 1e6, 2, 2e-5 }, { 1e7, 1, 5e-6 } } do
      local rate, seconds, step = one[1], one[2], one[3]
      local sent = run(rate, seconds, 128, step)
      assert.is_true(math.abs(sent / (rate * seconds) - 1) < 0.01, ("%g a second: %d in %g s"):format(rate, sent, seconds))
    end
  end)

  it("makes up for a pause of a second, and for no longer one", function()
    local bucket = pace.new(1000)
    assert.equal(1, bucket:take(500, 0))
    assert.equal(50, bucket:take(500, 0.05))
    assert.equal(900, bucket:take(5000, 0.9505))
    assert.equal(1000, bucket:take(5000, 9))
    assert.equal(0, bucket:take(5000, 9))
    assert.is_true(math.abs(bucket:due() - 0.001) < 1e-9)
    assert.equal(1, bucket:take(1, 9.01))
    assert.equal(0, bucket:due())
  end)
end)
