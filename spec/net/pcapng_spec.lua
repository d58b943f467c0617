--- Written files are read by tshark and capinfos, and by a few lines that know blocks (spec/support/pcapng.lua).

local files = require "spec.support.files"
local luio = require "luio"
local pcapng = require "luio.net.pcapng"
local reader = require "spec.support.pcapng"
local uv = require "luv"

local dev, pool, packets, path

before_each(function()
  dev = assert(luio.open "sim:edu")
  pool = assert(luio.pool(dev, { count = 600, size = 2048 }))
  packets = luio.batch(256)
  path = files.write("out.pcapng", "")
end)
after_each(function() assert(dev:close()) end)
teardown(files.clean)

local function frame(i, length) return ("\2\0\0\0\0\2\2\0\0\0\0\1\x88\xb5" .. string.char(i % 256):rep(4096)):sub(1, length) end

-- n packets in the batch; packet i has length(i) bytes.
local function make(n, length)
  assert.equal(n, pool:fill(packets, 0, n))
  for i = 0, n - 1 do packets[i]:write(frame(i, length(i))) end
end

local function kinds(text)
  local list, rest = reader.blocks(text)
  local counts = {}
  for _, one in ipairs(list) do counts[one.kind] = (counts[one.kind] or 0) + 1 end
  return counts, rest, list
end

local function tshark(args) return (files.shell(("tshark -r '%s' %s 2>/dev/null"):format(path, args))) end

-- System calls that write, of this process.
local function writes() return tonumber(files.read("/proc/self/io"):match "syscw: (%d+)") end

describe("a pcapng file", function()
  it("has what was put in line, byte for byte, as tshark reads it", function()
    local file = assert(pcapng.create(path, { name = "sim:edu", mac = "\2\0\0\0\0\9", filter = "ether proto 0x88b5", description = "a test" }))
    local expected = {}
    for round = 1, 4 do
      make(60, function(i) return 14 + i * round end)
      assert.equal(60, file:select(packets, 60))
      for i = 0, 59 do table.insert(expected, (frame(i, 14 + i * round):gsub(".", function(c) return ("%02x"):format(c:byte()) end))) end
      assert(file:write())
      packets:free(60)
    end
    assert(file:close { received = 250, missed = 7, accepted = 240, dropped = 3 })
    local lines = tshark "-T fields -e frame.len -e frame.cap_len -e eth.type -e data.data -E separator=,"
    local n = 0
    for line in lines:gmatch "[^\n]+" do
      n = n + 1
      local length, captured, kind, data = line:match "^(%d+),(%d+),(%w+),(%w*)$"
      assert.same({ #expected[n] / 2, #expected[n] / 2, "0x88b5", expected[n]:sub(29) }, { tonumber(length), tonumber(captured), kind, data })
    end
    assert.equal(240, n)
    local info = files.shell(("capinfos '%s'"):format(path))
    for _, words in ipairs {
      "pcapng", "Number of packets:   240", "nanoseconds %(9%)", "Name = sim:edu", "Filter string = ether proto 0x88b5", "Strict time order:   True",
    } do
      assert.matches(words, info)
    end
  end)

  it("ends with what was counted", function()
    local file = assert(pcapng.create(path))
    make(5, function() return 60 end)
    file:select(packets, 5)
    assert(file:close { received = 2 ^ 33 + 5, missed = 7, accepted = 6, dropped = 1 })
    assert.same({ 5, 300 }, { file:written() })
    local text = files.shell(("tshark -r '%s' -X 'read_format:MIME Files Format' -V 2>/dev/null"):format(path))
    assert.matches("Interface Statistics Block", text)
    for _, words in ipairs {
      "Received Packets = 8589934597", "Dropped Packets = 7", "Accepted Packets = 6", "Packets Dropped by OS = 1", "Packets Delivered to the User = 5",
    } do
      assert.matches("Number of " .. words .. "\n", text)
    end
    assert.same({ received = 2 ^ 33 + 5, missed = 7, accepted = 6 }, reader.statistics(path))
    local counts, rest = kinds(files.read(path))
    assert.same({ [0x0a0d0d0a] = 1, [1] = 1, [6] = 5, [5] = 1 }, counts)
    assert.equal(0, rest)
  end)

  it("keeps a packet's first bytes only, where it is told to, and how long it was", function()
    local file = assert(pcapng.create(path, { snaplen = 61 }))
    make(4, function(i) return 59 + i end)
    file:select(packets, 4)
    assert(file:close())
    assert.equal("59 59\n60 60\n61 61\n62 61\n", tshark "-T fields -e frame.len -e frame.cap_len -E separator=' '")
    assert.matches("Capture length = 61", files.shell(("capinfos '%s'"):format(path)))
  end)

  it("is written with one system call a burst, from the packets' memory", function()
    local file = assert(pcapng.create(path, { capacity = 511 }))
    for _, n in ipairs { 1, 2, 256 } do
      make(n, function(i) return 60 + i end)
      file:select(packets, n)
      packets[n - 1]:pointer()[20] = 0xab -- nothing was copied yet
      local before = writes()
      assert(file:write())
      assert.equal(before + 1, writes())
      packets:free(n)
    end
    assert(file:close())
    local _, _, list = kinds(files.read(path))
    assert.equal(0xab, list[3].body:byte(20 + 21))
    assert.equal(3 + 259, #list)
  end)

  it("has the time of the burst on each packet, in nanoseconds", function()
    local file = assert(pcapng.create(path))
    local before = os.time()
    for _ = 1, 2 do
      make(2, function() return 60 end)
      file:stamp()
      file:select(packets, 2)
      assert(file:write())
      packets:free(2)
      luio.sleep(0.01)
    end
    assert(file:close())
    local times = {}
    for seconds, fraction in tshark("-T fields -e frame.time_epoch"):gmatch "(%d+)%.(%d+)" do
      assert.equal(9, #fraction)
      assert.is_true(tonumber(seconds) >= before and tonumber(seconds) <= os.time())
      table.insert(times, tonumber(seconds) % 1000 * 1e9 + tonumber(fraction))
    end
    assert.same({ times[1], times[3] }, { times[2], times[4] })
    assert.is_true(times[3] - times[1] >= 10e6)
  end)

  it("takes those that a filter lets through, and no more than it is to", function()
    local match = assert(require("luio.net.filter").compile "ether[14] & 1 = 1").match
    local file = assert(pcapng.create(path))
    make(20, function() return 60 end)
    assert.equal(10, file:select(packets, 20, match))
    assert(file:write())
    assert.equal(3, file:select(packets, 20, match, 3))
    assert.equal(3, file:select(packets, 20, nil, 3))
    assert.equal(0, file:select(packets, 20, nil, 0))
    assert(file:close())
    assert.equal(16, kinds(files.read(path))[6])
  end)

  it("is refused by misuse that would tear it", function()
    local file = assert(pcapng.create(path, { capacity = 2 }))
    make(3, function() return 60 end)
    file:add(packets[0])
    file:add(packets[1])
    assert.has_error(function() file:add(packets[2]) end, "2 packets are in line, there is no room for more: write() first")
    assert(file:write())
    packets:free(3)
    assert.has_error(function() file:add(packets[0]) end)
    assert(file:close())
    assert(file:close())
    for _, options in ipairs { { snaplen = 0 }, { snaplen = 1.5 }, { capacity = 512 }, { capacity = 0 } } do
      assert.has_error(function() pcapng.create(path, options) end)
    end
    local none, message, code = pcapng.create("/nowhere/x.pcapng")
    assert.same({ nil, "ENOENT" }, { none, code })
    assert.matches("^write .*nowhere/x.pcapng", message)
  end)

  it("makes no garbage #jit", function()
    local file = assert(pcapng.create "/dev/null")
    make(256, function(i) return 60 + i end)
    local function rounds(n)
      for _ = 1, n do
        file:stamp()
        file:select(packets, 256)
        assert(file:write())
      end
    end
    rounds(200)
    collectgarbage()
    collectgarbage "stop"
    local before = collectgarbage "count"
    rounds(1000)
    local grown = collectgarbage "count" - before
    collectgarbage "restart"
    assert(file:close())
    assert.is_true(grown < 512, grown .. " KiB for 256,000 packets") -- per burst a few bytes may be, per packet not one
  end)
end)

describe("written into a pipe", function()
  local ends
  before_each(function() ends = uv.pipe() end)
  after_each(function()
    pcall(uv.fs_close, ends.read)
    pcall(uv.fs_close, ends.write)
  end)

  it("comes whole though the reader is slow, and the writer never waits longer than it was told", function()
    local file = assert(pcapng.to(ends.write, { patience = 0.05 }))
    local parts, sent, again = {}, 0, 0
    for _ = 1, 10 do
      make(100, function(i) return 60 + i * 13 end)
      sent = sent + file:select(packets, 100)
      while true do
        local start = luio.now()
        local ok, message, code = file:write()
        if ok then break end
        assert.equal("EAGAIN", code, message)
        assert.is_true(luio.now() - start >= 0.05)
        assert.has_error(function() file:add(packets[0]) end)
        again = again + 1
        table.insert(parts, (assert(uv.fs_read(ends.read, 30001))))
      end
      packets:free(100)
    end
    assert.is_true(again > 5)
    table.insert(parts, (assert(uv.fs_read(ends.read, 65536)))) -- room for the end
    assert(file:close { received = sent })
    uv.fs_close(ends.write)
    while true do
      local part = assert(uv.fs_read(ends.read, 65536))
      if part == "" then break end
      table.insert(parts, part)
    end
    local counts, rest = kinds(table.concat(parts))
    assert.equal(sent, counts[6])
    assert.equal(0, rest)
  end)

  it("leaves the descriptor as it was for others", function()
    local function flags() return tonumber(files.read("/proc/self/fdinfo/" .. ends.write):match "flags:%s*(%d+)", 8) end
    local before = flags()
    local file = assert(pcapng.to(ends.write))
    assert.equal(before, flags())
    assert(file:close())
    assert.equal(before, flags())
    assert.is_number((uv.fs_write(ends.write, "still open")))
  end)

  it("says when nobody reads it any more", function()
    local file = assert(pcapng.to(ends.write))
    uv.fs_close(ends.read)
    make(1, function() return 60 end)
    file:add(packets[0])
    for _, again in ipairs { file.write, file.write, file.close } do
      local ok, message, code = again(file)
      assert.same({ nil, "EPIPE" }, { ok, code })
      assert.matches("EPIPE", message)
    end
  end)

  it("does not wait for the reader of a named pipe", function()
    os.remove(path)
    assert(os.execute(("mkfifo '%s'"):format(path)) == 0)
    local file, message, code = pcapng.create(path)
    assert.same({ nil, "ENXIO" }, { file, code })
    assert.matches("the pipe has no reader", message)
  end)
end)

describe("on a full disk", function()
  it("fails, at the first byte or later", function()
    local file, message, code = pcapng.create "/dev/full"
    assert.same({ nil, "ENOSPC" }, { file, code })
    assert.matches("^write /dev/full: ENOSPC", message)
  end)

  it("a file ends with its last whole packet and the statistics", function()
    -- A limit on the file's size acts as a full disk does: the write before the last is a part of what was asked for.
    local script = files.write("full.lua", [[
local ffi, luio, pcapng = require "ffi", require "luio", require "luio.net.pcapng"
local dev = assert(luio.open "sim:edu")
local pool, packets = assert(luio.pool(dev, { count = 64, size = 2048 })), luio.batch(64)
local file = assert(pcapng.create(arg[1]))
pool:fill(packets, 0, 64)
for i = 0, 63 do packets[i]:write(("x"):rep(60 + i)) end
ffi.cdef "int setrlimit(int, const uint64_t *);"
assert(ffi.C.setrlimit(1, ffi.new("uint64_t[2]", 60000, 60000)) == 0) -- RLIMIT_FSIZE
local rounds, ok, message, code = 0, true, nil, nil
while ok do
  file:select(packets, 64)
  ok, message, code = file:write()
  rounds = rounds + 1
end
print(rounds, code, message, (file:written()))
print(file:close { received = 5 })
]])
    local out = files.shell(("timeout 30 build/luio %s '%s' 2>/dev/null | cat"):format(script, path))
    local rounds, code, message, written = out:match "^(%d+)\t(%w+)\t(.-)\t(%d+)\n"
    assert.equal("EFBIG", code, out)
    assert.matches("ends with its last whole packet", message)
    local text = files.read(path)
    local counts, rest, list = kinds(text)
    assert.equal(0, rest)
    assert.equal(tonumber(written), counts[6])
    assert.is_true(counts[6] > (rounds - 1) * 64 - 1 and counts[6] < rounds * 64)
    assert.is_true(#text <= 60000 and #text > 59000)
    for i = 3, 2 + counts[6] do
      local length = 60 + (i - 3) % 64
      assert.same({ length, ("x"):rep(length) }, { reader.number(list[i].body, 13), list[i].body:sub(21, 20 + length) })
    end
  end)
end)
