--- One port, several processes: by address and by flow, with clients that stall, die, flood and lie.

local frames = require "spec.net.frames"
local luio = require "luio"
local memif = require "luio.net.memif"
local net = require "luio.net"
local program = require "spec.support.program"
local share = require "luio.net.share"
local stranger = require "spec.support.stranger"
local uv = require "luv"
local wait = require "spec.support.wait"
local wire = require "spec.support.memory_wire"

local FAR = "02:00:00:00:00:0b"
local BROADCAST = "ff:ff:ff:ff:ff:ff"

local function mac(i) return ("02:00:00:00:01:%02x"):format(i) end

local function frame(to, from, text)
  return net.mac_bytes(to) .. net.mac_bytes(from) .. "\x88\xb5" .. text .. (" "):rep(46 - #text)
end

describe("luio.net.share", function()
  local path, near, far, shared, events, open

  -- Turns it, in a task, while the spec waits for something.
  local function begin(options, no_wire)
    options = options or {}
    options.path = path
    function options.changed(event, client, why)
      table.insert(events, { event = event, id = client.id, why = why, client = client })
    end
    local this = assert(share.start(not no_wire and near or nil, options))
    shared = this
    luio.spawn(function()
      local turns = 0
      while not this.closed do
        turns = turns + 1
        if this:turn() == 0 then this:wait(0.1) elseif turns % 10 == 0 then luio.sleep(0) end
      end
    end)
  end

  local function join(id, options)
    options = options or {}
    options.id, options.mac = id, options.mac or mac(id)
    local client = assert(memif.connect(path, options))
    table.insert(open, client)
    return client
  end

  local function send(client, ...)
    for _, bytes in ipairs { ... } do
      local packet = client.pool:alloc()
      packet:write(bytes)
      assert(client.tx[0]:send(packet, 5))
    end
    assert(client.tx[0]:flush(5))
  end

  -- The next n frames of a client; fewer, if they don't come.
  local function receive(client, n, seconds)
    local list = {}
    for i = 1, n do
      local packet = client.rx[0]:receive(seconds or 5)
      if not packet then break end
      list[i] = packet:read()
      packet:free()
    end
    return list
  end

  local function nothing(...)
    for _, client in ipairs { ... } do assert.same({}, receive(client, 1, 0.03)) end
  end

  -- Waits until the far end of the wire has n frames; returns those it has.
  local function arrived(n)
    local list = {}
    wait.poll(5, function()
      for _, bytes in ipairs(far:drain()) do table.insert(list, bytes) end
      return #list >= n
    end)
    return list
  end

  local function stats(id)
    for _, client in ipairs(shared:clients()) do
      if client.id == id then return client.stats, client end
    end
  end

  local function event(kind, id)
    return wait.till(5, ("%s %s"):format(kind, tostring(id)), function()
      for _, one in ipairs(events) do
        if one.event == kind and one.id == id then return one end
      end
    end)
  end

  before_each(function()
    path = os.tmpname()
    os.remove(path)
    near, far = wire.new { debug = true }
    events, open, shared = {}, {}, nil
  end)
  after_each(function()
    for _, one in ipairs(open) do one:close() end
    luio.sleep(0.01) -- a turn of the loop, or several
    if shared then shared:close() end
    wait.poll(10, function() return near.pool.record.free == 512 end)
    assert.equal(512, near.pool.record.free) -- whatever happened, no packet is lost
    near.close()
    far.close()
  end)

  describe("by address", function()
    it("brings frames to whom they are for, from the wire and from the others", function()
      begin { members = { [1] = { mac = mac(1) }, [2] = { mac = mac(2) } } }
      local a, b = join(1), join(2)
      far:send { frame(mac(2), FAR, "for b"), frame(mac(1), FAR, "for a"), frame(mac(3), FAR, "for nobody") }
      assert.same({ frame(mac(1), FAR, "for a") }, receive(a, 1))
      assert.same({ frame(mac(2), FAR, "for b") }, receive(b, 1))
      send(a, frame(mac(2), mac(1), "to b"), frame(FAR, mac(1), "out"))
      assert.same({ frame(mac(2), mac(1), "to b") }, receive(b, 1))
      assert.same({ frame(FAR, mac(1), "out") }, arrived(1))
      nothing(a, b)
      assert.equal(1, shared.unclaimed)
      local s = stats(1)
      assert.same({ 2, 120, 1, 60 }, { s.rx_packets, s.rx_bytes, s.tx_packets, s.tx_bytes })
    end)

    it("copies broadcast and multicast to all but the sender", function()
      begin()
      local a, b, c = join(1), join(2), join(3)
      far:send { frame(BROADCAST, FAR, "all of you"), frame("01:00:5e:00:00:01", FAR, "multicast") }
      for _, client in ipairs { a, b, c } do
        assert.same({ frame(BROADCAST, FAR, "all of you"), frame("01:00:5e:00:00:01", FAR, "multicast") }, receive(client, 2))
      end
      send(b, frame(BROADCAST, mac(2), "who is there"))
      assert.same({ frame(BROADCAST, mac(2), "who is there") }, receive(a, 1))
      assert.same({ frame(BROADCAST, mac(2), "who is there") }, receive(c, 1))
      assert.same({ frame(BROADCAST, mac(2), "who is there") }, arrived(1))
      nothing(b)
    end)

    it("learns an address from a client's first frame, and lets nobody have another's", function()
      begin { members = { [1] = {}, [2] = {}, [3] = { mac = mac(3) } } }
      local a, b = join(1), join(2)
      far:send { frame(mac(1), FAR, "too early") }
      wait.till(5, "nobody's", function() return shared.unclaimed == 1 end)
      send(a, frame(FAR, mac(1), "hello"))
      assert.equal(1, #arrived(1))
      -- b: a's address, one that is written down for another, no address at all; then its own.
      send(b, frame(FAR, mac(1), "I am a"), frame(FAR, mac(3), "I am the third"), frame(FAR, BROADCAST, "I am everybody"), frame(FAR, mac(2), "I am b"),
        frame(FAR, mac(9), "and c"))
      assert.same({ frame(FAR, mac(2), "I am b") }, arrived(1))
      assert.equal(4, stats(2).rx_spoofed)
      assert.equal(mac(2), select(2, stats(2)).mac)
      far:send { frame(mac(1), FAR, "for a") }
      assert.same({ frame(mac(1), FAR, "for a") }, receive(a, 1))
      -- When a has left, its address may be another's.
      a:close()
      event("left", 1)
      local again = join(1)
      send(again, frame(FAR, mac(1), "back"))
      assert.same({ frame(FAR, mac(1), "back") }, arrived(1))
      nothing(b)
    end)

    it("lets in who is expected, with his secret", function()
      begin { members = { [1] = { mac = mac(1), secret = "s3cret" } } }
      local _, message, code = memif.connect(path, { id = 2 })
      assert.equal("ECONNREFUSED", code)
      assert.matches("no client is configured as interface 2", message)
      _, message = memif.connect(path, { id = 1, secret = "guess" })
      assert.matches("the secret is another", message)
      join(1, { secret = "s3cret" })
      assert.same({ "refused", "refused", "joined" }, { events[1].event, events[2].event, events[3].event })
    end)

    it("drops what is too long for the wire, but for a VLAN's tag", function()
      begin()
      local a = join(1)
      local function long(n, tag) return (frame(FAR, mac(1), "x"):sub(1, 12) .. tag .. ("l"):rep(n)):sub(1, n) end
      send(a, long(1514, "\8\0"), long(1515, "\8\0"), long(1518, "\x81\0"), long(1519, "\x81\0"))
      assert.same({ long(1514, "\8\0"), long(1518, "\x81\0") }, arrived(2))
      assert.equal(2, stats(1).rx_long)
    end)

    it("works without a wire", function()
      begin({}, true)
      local a, b = join(1), join(2)
      send(b, frame(BROADCAST, mac(2), "hello"))
      send(a, frame(BROADCAST, mac(1), "hello"), frame(mac(2), mac(1), "to b"), frame(FAR, mac(1), "nowhere"), frame(mac(1), mac(1), "to me"))
      assert.same({ frame(BROADCAST, mac(1), "hello"), frame(mac(2), mac(1), "to b") }, receive(b, 2))
      assert.same({ frame(BROADCAST, mac(2), "hello") }, receive(a, 1))
      assert.equal(2, stats(1).rx_nowhere)
    end)
  end)

  describe("by flow", function()
    local function udp(number)
      local ports = string.char(4, number % 256, 0, 53)
      local ip = "\x45\0\0\46\0\0\0\0\64\17\0\0\10\0\0" .. string.char(number % 7) .. "\10\0\0\99"
      return net.mac_bytes "02:00:00:00:00:0a" .. net.mac_bytes(FAR) .. "\8\0" .. ip .. ports .. ("u"):rep(22)
    end

    local function spread(clients, n)
      local whose, counts = {}, {}
      local list = {}
      for i = 1, n do list[i] = udp(i) end
      far:send(list)
      local total = 0
      wait.till(10, "all frames came", function()
        for i, client in ipairs(clients) do
          for _, bytes in ipairs(receive(client, n, 0)) do
            whose[bytes], counts[i] = i, (counts[i] or 0) + 1
            total = total + 1
          end
        end
        return total == n
      end)
      return whose, counts
    end

    it("gives each flow to one client, and that of one who left to the others", function()
      begin { by = "flow" }
      local a, b, c = join(1), join(2), join(3)
      local first, counts = spread({ a, b, c }, 200)
      for i = 1, 3 do assert.is_true((counts[i] or 0) > 30, ("client %d has %d of 200 flows"):format(i, counts[i] or 0)) end
      assert.same(first, (spread({ a, b, c }, 200)))
      c:close()
      event("left", 3)
      local second = spread({ a, b }, 200)
      for bytes, owner in pairs(first) do
        if owner ~= 3 then assert.equal(owner, second[bytes]) end
      end
    end)

    it("gives ARP to all, and has all send under the port's address", function()
      begin { by = "flow" }
      local a, b = join(1), join(2)
      local arp = net.mac_bytes "02:00:00:00:00:0a" .. net.mac_bytes(FAR) .. "\8\6" .. ("a"):rep(46)
      far:send { arp }
      assert.same({ arp }, receive(a, 1))
      assert.same({ arp }, receive(b, 1))
      send(a, frame(FAR, "02:00:00:00:00:0a", "mine"), frame(FAR, mac(1), "another's"))
      assert.same({ frame(FAR, "02:00:00:00:00:0a", "mine") }, arrived(1))
      assert.equal(1, stats(1).rx_spoofed)
      nothing(b)
    end)
  end)

  for _, by in ipairs { "mac", "flow" } do
    it("is not harmed by malformed frames, by " .. by, function()
      begin { by = by }
      local a = join(1)
      local last = frame(by == "flow" and BROADCAST or mac(1), FAR, "the last")
      send(a, frame(FAR, by == "flow" and "02:00:00:00:00:0a" or mac(1), "known")) -- whose address is whose
      arrived(1)
      local odd, same = frames.make(400, 7), 0
      far:send(odd)
      far:send { last }
      local known = {}
      for _, bytes in ipairs(odd) do known[bytes] = #bytes >= 14 end
      wait.till(10, "the last one", function()
        local bytes = receive(a, 1)[1]
        if bytes and bytes ~= last then
          assert.is_true(known[bytes]) -- whole, and none without a header
          same = same + 1
        end
        return bytes == last
      end)
      assert.is_true(same > 50)
      -- And from a client: those that are not from its address are dropped.
      for i = 1, #odd do
        if #odd[i] >= 14 then send(a, odd[i]) end
      end
      send(a, frame(FAR, by == "flow" and "02:00:00:00:00:0a" or mac(1), "still"))
      wait.till(5, "it is carried", function()
        for _, bytes in ipairs(far:drain()) do
          if bytes:find("still", 15, true) then return true end
        end
      end)
    end)
  end

  describe("is not harmed by a client", function()
    local came, floods
    before_each(function()
      came, floods = { {} }, 0
      far.sink = function(bytes)
        local from = bytes:byte(12)
        if from == 1 then table.insert(came[1], bytes) else floods = floods + 1 end
      end
    end)

    -- n frames from the wire to a client and n back, all of them, in order.
    local function works(client, id, n)
      for at = 1, n, 50 do
        local there, back = {}, {}
        for i = at, math.min(n, at + 49) do
          table.insert(there, frame(mac(id), FAR, "there " .. i))
          table.insert(back, frame(FAR, mac(id), "back " .. i))
        end
        far:send(there)
        assert.same(there, receive(client, #there))
        send(client, unpack(back))
        wait.till(10, "all came back", function() return #came[id] == #back end)
        assert.same(back, came[id])
        came[id] = {}
      end
    end

    local function child(id, what)
      local p = program.start { "spec/support/memif_client.lua", path, tostring(id), mac(id), what }
      table.insert(open, p)
      p:wait "joined"
      return p
    end

    it("that stalls: its frames are dropped and counted, nobody waits", function()
      begin { members = { [1] = { mac = mac(1) }, [2] = { mac = mac(2) } } }
      local a, b = join(1), join(2, { ring = 64 })
      for i = 1, 500 do far:send { frame(mac(2), FAR, "stalled " .. i) } end
      works(a, 1, 200)
      local s = wait.till(5, "all are counted", function()
        local now = stats(2)
        return now.tx_packets + now.tx_full == 500 and now
      end)
      assert.equal(64, s.tx_packets)
      assert.equal(0, stats(1).tx_full)
      assert.equal(64, #receive(b, 500, 0.1)) -- the oldest
      far:send { frame(mac(2), FAR, "again") }
      assert.same({ frame(mac(2), FAR, "again") }, receive(b, 1))
    end)

    it("that is killed, or stopped, in the middle of it", function()
      begin { members = { [1] = { mac = mac(1) }, [2] = { mac = mac(2) }, [3] = { mac = mac(3) } } }
      local a = join(1)
      for round = 1, 5 do
        local p, q = child(2, "flood"), child(3, "echo")
        wait.till(10, "it sends", function() return floods > 0 end)
        floods = 0
        far:send { frame(mac(3), FAR, "echo") }
        if round % 2 == 0 then p:kill "sigstop" end
        works(a, 1, 50)
        p:kill "sigkill"
        q:kill "sigkill"
        assert.equal("it has closed the connection", event("left", 2).why)
        event("left", 3)
        works(a, 1, 50)
        events = {}
        p:close()
        q:close()
      end
    end)

    it("that floods: another one sends as well", function()
      begin { members = { [1] = { mac = mac(1) }, [2] = { mac = mac(2) } } }
      local a = join(1)
      child(2, "flood")
      wait.till(10, "it sends", function() return floods > 0 end)
      works(a, 1, 500)
      assert.equal(0, stats(1).rx_wire_full)
      assert.is_true(stats(2).rx_packets > 1000)
    end)

    it("when the wire is stuck: clients go on talking to each other", function()
      begin { members = { [1] = { mac = mac(1) }, [2] = { mac = mac(2) } } }
      local a, b = join(1), join(2)
      far.sink, far.cut = nil, true
      local out = {}
      for i = 1, 600 do out[i] = frame(FAR, mac(1), "into the cut " .. i) end
      send(a, unpack(out))
      send(a, frame(mac(2), mac(1), "to b"))
      assert.same({ frame(mac(2), mac(1), "to b") }, receive(b, 1))
      assert.equal(600 - 256, stats(1).rx_wire_full)
      far.cut = false
      local all = arrived(256)
      assert.same({ out[1], out[256] }, { all[1], all[256] })
      send(a, frame(FAR, mac(1), "mended"))
      assert.same({ frame(FAR, mac(1), "mended") }, arrived(1))
    end)

    it("that breaks the rules: it is gone, with the reason", function()
      begin { members = { [1] = { mac = mac(1) }, [9] = {} } }
      local a = join(1)
      works(a, 1, 1)
      for _, break_rule in ipairs {
        function(s) s:word(s.to, 6, 99) end,
        function(s) s:word(s.from, 6, 99) end,
        function(s)
          s:descriptor(s.to, 0, { region = 3, length = 60 })
          s:word(s.to, 6, 1)
        end,
      } do
        local s = stranger.new(path, function() end)
        table.insert(open, s)
        assert.equal("CONNECTED", s:join())
        event("joined", 9)
        break_rule(s)
        far:send { frame(BROADCAST, FAR, "to all") }
        local left = event("left", 9)
        assert.is_truthy(left.why:match "ahead" or left.why:match "region")
        assert.same({ frame(BROADCAST, FAR, "to all") }, receive(a, 1))
        works(a, 1, 50)
        events = {}
      end
    end)
  end)

  it("sleeps while nothing happens, and wakes for a client and for the wire", function()
    begin { members = { [1] = { mac = mac(1) } } }
    local a = join(1)
    luio.sleep(0.1)
    local function cpu()
      local u = uv.getrusage()
      return u.utime.sec + u.stime.sec + (u.utime.usec + u.stime.usec) / 1e6
    end
    -- Without the wire of this spec, which is looked at every 2 ms.
    local before = cpu()
    luio.sleep(1)
    assert.is_true(cpu() - before < 0.5)
    for i = 1, 20 do
      send(a, frame(FAR, mac(1), "out " .. i))
      assert.same({ frame(FAR, mac(1), "out " .. i) }, arrived(1))
      far:send { frame(mac(1), FAR, "in " .. i) }
      assert.same({ frame(mac(1), FAR, "in " .. i) }, receive(a, 1))
      luio.sleep(0.005)
    end
  end)

  describe("by examples/share.lua", function()
    it("says who comes and goes, and counts", function()
      local p = program.start { "examples/share.lua", "none", path, "--verbose", "--client", "1=" .. mac(1), "--client", "2=" .. mac(2) .. ",secret" }
      table.insert(open, p)
      p:wait("no port is shared at " .. path:gsub("%p", "%%%0"))
      local a = join(1, { name = "first" })
      local _, message = memif.connect(path, { id = 2, secret = "guess" })
      assert.matches("the secret is another", message)
      local b = join(2, { secret = "secret", name = "second" })
      p:wait(("client 1 %%(first, process %d%%) came, %s"):format(uv.os_getpid(), mac(1)))
      p:wait("client 2 %(luio, process %d+%) was refused: the secret is another")
      send(a, frame(mac(2), mac(1), "to b"), frame(mac(9), mac(1), "nowhere"), frame(mac(2), mac(9), "a lie"))
      assert.same({ frame(mac(2), mac(1), "to b") }, receive(b, 1))
      p:wait(("1   %s  sent 3, dropped 2  received 0, dropped 0"):format(mac(1)))
      p:wait(("2   %s  sent 0, dropped 0  received 1, dropped 0"):format(mac(2)))
      b:close()
      p:wait "client 2 %(second, process %d+%) left: it says: goodbye"
      p:kill "sigint"
      assert.equal(0, p:status())
      assert.is_nil(uv.fs_stat(path))
    end)

    it("ends on a signal, however busy it is", function()
      local p = program.start { "examples/share.lua", "none", path, "--client", "1=" .. mac(1), "--client", "2=" .. mac(2) }
      table.insert(open, p)
      p:wait "is shared"
      for id = 1, 2 do
        local flood = program.start { "spec/support/memif_client.lua", path, tostring(id), mac(id), "flood" }
        table.insert(open, flood)
        flood:wait "joined"
      end
      luio.sleep(0.3)
      p:kill "sigterm"
      assert.equal(0, p:status())
    end)

    it("says what is wrong", function()
      local function fails(args, status, words)
        local out, got = program.run("examples/share.lua " .. args)
        assert.equal(status, got, out)
        assert.is_truthy(out:find(words, 1, true), out)
      end
      fails("none " .. path .. " --client 1=zz", 2, "share: --client 1=zz: not like 1=02:00:00:00:00:01")
      fails("none " .. path .. " --by flow", 2, "that takes a card")
      fails("none " .. path .. " --mode 888", 2, "three octal digits")
      fails("none /nowhere/x", 1, "share: listen at /nowhere/x: ENOENT")
      fails("0000:ff:1f.7 " .. path, 1, "share: ")
    end)
  end)

  it("refuses options that make no sense", function()
    assert.error_matches(function() share.start(near, { path = path, by = "luck" }) end, "by is \"mac\" or \"flow\", not luck")
    assert.error_matches(function() share.start(near, { path = path, members = { { mac = BROADCAST } } }) end, "no address of a station")
    assert.error_matches(function() share.start(near, { path = path, members = { { mac = mac(1) }, { mac = mac(1) } } }) end, "have one address")
    local _, _, code = share.start(near, { path = "/nowhere/x" })
    assert.equal("ENOENT", code)
  end)
end)
