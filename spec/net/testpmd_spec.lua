--- luio.net.share with clients that are not ours: DPDK's testpmd, which speaks memif by its net_memif.

local luio = require "luio"
local memif = require "luio.net.memif"
local net = require "luio.net"
local share = require "luio.net.share"
local testpmd = require "spec.support.testpmd"
local wait = require "spec.support.wait"
local wire = require "spec.support.memory_wire"

local FAR = "02:00:00:00:00:0b"
local PMD, PMD2, OURS = "02:00:00:00:01:01", "02:00:00:00:01:02", "02:00:00:00:01:03"

describe("luio.net.share with testpmd", function()
  local missing = testpmd.missing()
  local path, near, far, shared, open, left, came

  local function begin(options)
    options.path = path
    function options.changed(event, client, why)
      if event == "left" then left[client.id] = why end
    end
    local this = assert(share.start(near, options))
    shared = this
    luio.spawn(function()
      local turns = 0
      while not this.closed do
        turns = turns + 1
        if this:turn() == 0 then this:wait(0.1) elseif turns % 10 == 0 then luio.sleep(0) end
      end
    end)
  end

  local function start(id, mac, mode, more)
    more = more or {}
    more.socket, more.id, more.mac, more.mode, more.prefix = path, id, mac, mode, path:match "%w+$" .. id
    local pmd = testpmd.start(more)
    table.insert(open, pmd)
    return pmd
  end

  local function stats(id)
    for _, client in ipairs(shared:clients()) do
      if client.id == id then return client.stats, client end
    end
  end

  local function up(id)
    return wait.till(30, "client " .. id, function() return stats(id) end)
  end

  local function frame(to, from, number, length)
    return (net.mac_bytes(to) .. net.mac_bytes(from) .. "\8\0" .. ("%08d"):format(number):rep(200)):sub(1, length)
  end

  before_each(function()
    path = os.tmpname()
    os.remove(path)
    near, far = wire.new { debug = true }
    open, left, came = {}, {}, {}
    function far.sink(bytes) table.insert(came, bytes) end
  end)
  after_each(function()
    for _, one in ipairs(open) do one:close() end
    luio.sleep(0.01) -- a turn of the loop, or several
    if shared then shared:close() end
    wait.poll(10, function() return near.pool.record.free == 512 end)
    assert.equal(512, near.pool.record.free)
    near.close()
    far.close()
  end)

  -- n frames to testpmd at `mac`, each of which comes back with addresses exchanged; in portions that its ring has room for.
  local function there_and_back(mac, n)
    for at = 0, n - 1, 128 do
      local last, frames = math.min(n, at + 128) - 1, {}
      came = {}
      for i = at, last do frames[#frames + 1] = frame(mac, FAR, i, 60 + i * 13 % 1455) end
      far:send(frames)
      wait.till(30, "all came back", function() return #came == #frames end)
      for i = at, last do
        if came[i - at + 1] ~= frame(FAR, mac, i, 60 + i * 13 % 1455) then error(("frame %d is another"):format(i)) end
      end
    end
  end

  local function spec(name, fn)
    it(name, function()
      if missing then return pending(missing) end
      fn()
    end)
  end

  spec("brings it 5,000 frames and takes them back, whole and in order; both count the same", function()
    begin { members = { [1] = { mac = PMD, secret = "between us" } } }
    local pmd = start(1, PMD, "macswap", { vdev = ",secret=between us" })
    up(1)
    pmd:wait "Press enter"
    there_and_back(PMD, 5000)
    local s = stats(1)
    assert.same({ 5000, 5000, 0, 0 }, { s.rx_packets, s.tx_packets, s.rx_spoofed, s.tx_full })
    assert.same({ 5000, 5000 }, { pmd:finish() })
    wait.till(10, "it left", function() return left[1] end)
  end)

  spec("takes frames in pieces, when its buffers are small", function()
    begin { members = { [1] = { mac = PMD } } }
    local pmd = start(1, PMD, "macswap", { vdev = ",bsize=256,rsize=11" })
    up(1)
    pmd:wait "Press enter"
    -- Once around its ring at most: DPDK 22.11 leaves "goes on" (NEXT) in the descriptors of frames that were in pieces.
    there_and_back(PMD, 384)
  end)

  spec("lets it be found: it answers ARP and pings, and its address is learned from that", function()
    begin {}
    local pmd = start(1, nil, "icmpecho")
    up(1)
    pmd:wait "Press enter"
    local function ip(last) return "\10\0\0" .. string.char(last) end
    local ask = net.mac_bytes "ff:ff:ff:ff:ff:ff" .. net.mac_bytes(FAR) .. "\8\6\0\1\8\0\6\4\0\1" .. net.mac_bytes(FAR) .. ip(1)
      .. ("\0"):rep(6) .. ip(2) .. ("\0"):rep(18)
    wait.till(20, "an answer", function()
      far:send { ask }
      return wait.poll(0.5, function() return came[1] end)
    end)
    local answer = came[1]
    assert.equal("\8\6\0\1\8\0\6\4\0\2", answer:sub(13, 22))
    local its = net.mac_text(answer:sub(7, 12))
    assert.equal(its, select(2, stats(1)).mac)
    local echo = net.mac_bytes(its) .. net.mac_bytes(FAR) .. "\8\0\x45\0\0\46\0\0\0\0\64\1\x66\xcd" .. ip(1) .. ip(2) .. "\8\0\xf7\xff\0\0\0\0"
      .. ("\0"):rep(18)
    wait.till(5, "quiet", function()
      local n = #came
      return wait.poll(0.2, function() return #came > n end) == nil
    end)
    came = {}
    far:send { echo }
    wait.till(10, "a reply", function() return came[1] end)
    assert.equal(0, came[1]:byte(35)) -- echo reply
    assert.same({ FAR, its }, { net.mac_text(came[1]:sub(1, 6)), net.mac_text(came[1]:sub(7, 12)) })
  end)

  spec("has two of them talk to each other, past the wire, beside a client of ours", function()
    begin { members = { [1] = { mac = PMD }, [2] = { mac = PMD2 }, [3] = { mac = OURS } } }
    local ours = assert(memif.connect(path, { id = 3, mac = OURS }))
    table.insert(open, ours)
    local echo = start(1, PMD, "macswap")
    up(1)
    echo:wait "Press enter"
    local other = start(2, PMD2, "macswap")
    up(2)
    other:wait "Press enter"
    local packet = ours.pool:alloc()
    packet:write(frame(PMD, OURS, 1, 100))
    assert(ours.tx[0]:send(packet, 5))
    local back = assert(ours.rx[0]:receive(10))
    assert.equal(frame(OURS, PMD, 1, 100), back:read())
    back:free()
    -- Frames that come from the wire in the name of the second go round between the two for ever.
    for i = 1, 64 do far:send { frame(PMD, PMD2, i, 100) } end
    wait.till(60, "5,000 each way", function()
      local a, b = stats(1), stats(2)
      return a.tx_packets > 5000 and b.tx_packets > 5000 and a.rx_packets > 5000 and b.rx_packets > 5000
    end)
    assert.equal(0, #came)
    packet = ours.pool:alloc()
    packet:write(frame(PMD2, OURS, 3, 100))
    assert(ours.tx[0]:send(packet, 5))
    back = assert(ours.rx[0]:receive(10))
    assert.equal(frame(OURS, PMD2, 3, 100), back:read())
    back:free()
  end)

  spec("goes on when it is stopped, and when it is killed", function()
    begin { members = { [1] = { mac = PMD }, [2] = { mac = PMD2 } } }
    local victim, other = start(1, PMD, "macswap"), start(2, PMD2, "macswap")
    up(1)
    up(2)
    victim:wait "Press enter"
    other:wait "Press enter"
    there_and_back(PMD, 300)
    victim:kill "sigstop"
    for i = 1, 3000 do far:send { frame(PMD, FAR, i, 60) } end
    there_and_back(PMD2, 1000)
    local s = stats(1)
    assert.is_true(s.tx_full > 0)
    victim:kill "sigcont"
    wait.till(20, "the wire is empty", function() return stats(1).rx_packets == stats(1).tx_packets end)
    there_and_back(PMD, 300)
    victim:kill "sigkill"
    wait.till(10, "it left", function() return left[1] end)
    assert.equal("it has closed the connection", left[1])
    there_and_back(PMD2, 1000)
    local again = start(1, PMD, "macswap")
    up(1)
    again:wait "Press enter"
    there_and_back(PMD, 300)
  end)
end)
