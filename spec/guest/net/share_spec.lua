--- A card shared by luio.net.share (the 82574L), with another process as its client; the far side is the 82540EM, which luio drives,
--- too. spec/net/testpmd_spec.lua has DPDK's testpmd as the client: a share does the same with every port.

local luio = require "luio"
local memif = require "luio.net.memif"
local net = require "luio.net"
local program = require "spec.support.program"
local wait = require "spec.support.wait"

local A, B = "0000:00:05.0", "0000:00:09.0"
local OTHER, OURS = "02:00:00:00:01:01", "02:00:00:00:01:02"

describe("examples/share.lua", function()
  local path, far, shared, open, batch

  before_each(function()
    path = os.tmpname()
    os.remove(path)
    open, batch = {}, luio.batch(64)
    far = assert(net.open(B))
    shared = program.start { "examples/share.lua", A, path, "--verbose", "--client", "1=" .. OTHER, "--client", "2=" .. OURS }
    shared:wait("is shared at", 30)
    assert(far:wait_link(true, 10))
  end)
  after_each(function()
    for _, one in ipairs(open) do one:close() end
    shared:close()
    assert(far:close())
  end)

  local function frame(to, from, number)
    return net.mac_bytes(to) .. net.mac_bytes(from) .. "\x88\xb5" .. ("%08d"):format(number):rep(8)
  end

  local function send(frames)
    for _, bytes in ipairs(frames) do
      local packet = assert(far.pool:alloc())
      packet:write(bytes)
      assert(far.tx[0]:send(packet, 10))
    end
  end

  -- n frames to a client that sends them back with addresses exchanged; all of them, in order.
  local function there_and_back(mac, n)
    for at = 0, n - 1, 64 do
      local last, frames, got = math.min(n, at + 64) - 1, {}, 0
      for i = at, last do frames[#frames + 1] = frame(mac, far.mac, i) end
      send(frames)
      wait.till(60, ("%d frames of %s"):format(#frames, mac), function()
        for i = 0, far.rx[0]:burst(batch, 64) - 1 do
          local bytes = batch[i]:read()
          batch[i]:free()
          if bytes:sub(7, 12) == net.mac_bytes(mac) then
            if bytes ~= frame(far.mac, mac, at + got) then
              error(("frame %d is %q\n%s"):format(at + got, bytes:sub(15, 22), shared:text()))
            end
            got = got + 1
          end
        end
        return got == #frames
      end)
    end
  end

  local function start(id, mac)
    local client = program.start { "spec/support/memif_client.lua", path, tostring(id), mac, "echo" }
    table.insert(open, client)
    shared:wait(("client %d %%(luio, process %d%%) came, %s"):format(id, client.pid, mac), 60)
    client:wait("joined", 60)
    return client
  end

  it("brings a client what is for it on the wire, and takes back what it sends; stopped or killed, it harms nobody", function()
    local client = start(1, OTHER)
    there_and_back(OTHER, 1000)
    shared:wait(("  1   %s  sent 1000, dropped 0  received 1000, dropped 0"):format(OTHER), 20)

    -- Another client, of ours, in this process: its frames keep coming.
    local ours = assert(memif.connect(path, { id = 2, mac = OURS, seconds = 20 }))
    table.insert(open, ours)
    luio.spawn(function()
      while not ours.ended do
        local packet = ours.rx[0]:receive(0.2)
        if packet then
          local bytes = packet:read()
          packet:write(bytes:sub(7, 12) .. bytes:sub(1, 6) .. bytes:sub(13))
          assert(ours.tx[0]:send(packet, 10))
        end
      end
    end)
    there_and_back(OURS, 200)
    client:kill "sigstop"
    for _ = 1, 24 do -- in portions that the card's ring has room for
      local stalled = {}
      for i = 1, 128 do stalled[i] = frame(OTHER, far.mac, i) end
      send(stalled)
      there_and_back(OURS, 10)
    end
    shared:wait("  1   [^\n]+received %d+, dropped [1-9]", 20) -- its ring is full
    client:kill "sigkill"
    shared:wait("client 1 %(luio, process %d+%) left: it has closed the connection", 20)
    there_and_back(OURS, 200)

    start(1, OTHER)
    there_and_back(OTHER, 200)
    shared:kill "sigint"
    assert.equal(0, shared:status(20))
    wait.till(10, "ours has heard", function() return ours.ended end)
    assert.equal("the server says: the server ends", ours.ended)
  end)
end)
