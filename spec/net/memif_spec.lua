--- memif: our server with our client, and with strangers who break every rule there is.

local amount = require "spec.support.amount"
local ffi = require "ffi"
local luio = require "luio"
local memif = require "luio.net.memif"
local memory = require "luio.net.memory"
local posix = require "luio.posix"
local protocol = require "luio.net.memif.protocol"
local socket = require "luio.net.memif.socket"
local stranger = require "spec.support.stranger"
local uv = require "luv"
local wait = require "spec.support.wait"

ffi.cdef [[
int pipe2(int *, int);
int dup(int);
int socketpair(int, int, int, int *);
]]

describe("luio.net.memif", function()
  local path, server, clients, refused, gone, pool, stop, guests

  local function poll() server:poll() end

  -- The server lives in a task, for clients that wait for its answers.
  local function serve(options)
    options = options or {}
    options.joined = function(client) table.insert(clients, client) end
    options.left = function(client, why)
      gone[client.id] = why
      for i, one in ipairs(clients) do
        if one == client then table.remove(clients, i) end
      end
    end
    options.refused = function(_, why) table.insert(refused, why) end
    server = assert(memif.listen(path, options))
    stop = false
    luio.spawn(function()
      while not stop do
        server:poll()
        luio.sleep(0.001)
      end
    end)
  end

  local function guest(options)
    local port = assert(memif.connect(path, options))
    table.insert(guests, port)
    return port
  end

  local function visitor()
    local s = stranger.new(path, poll)
    table.insert(guests, s)
    return s
  end

  before_each(function()
    path = os.tmpname()
    os.remove(path)
    clients, refused, gone, guests = {}, {}, {}, {}
    pool = memory.pool { count = 256, size = 10240 }
  end)
  after_each(function()
    for _, one in ipairs(guests) do one:close() end
    stop = true
    if server then server:close() end
    server = nil
    pool:close()
    wait.till(5, "its socket is gone", function() return not uv.fs_stat(path) end)
  end)

  local function frame(number, length)
    local head = ("%s%s\x88\xb5%08d"):format("\2\0\0\0\0\1", "\2\0\0\0\0\2", number)
    return (head .. ("%d,"):format(number):rep(math.ceil(length / 2))):sub(1, length)
  end

  -- All of n frames there and back again, whole and in order; length(i) bytes each.
  local function circle(client, port, n, length)
    local out, turned, back = luio.batch(64), luio.batch(64), luio.batch(64)
    local sent, have, held, got, deadline = 0, 0, 0, 0, luio.now() + 30 * wait.HANG
    while got < n do
      if luio.now() > deadline then error(("%d of %d came"):format(got, n)) end
      local before = have
      have = port.pool:fill(out, have, math.min(64, n - sent))
      for i = before, have - 1 do out[i]:write(frame(sent + i, length(sent + i))) end
      local went = port.tx[0]:burst(out, have)
      have, sent = out:shift(went, have), sent + went
      if held == 0 then held = client:take(pool, turned, 64) end
      local given = client:give(turned, held)
      for i = 0, given - 1 do turned[i]:free() end
      held = turned:shift(given, held)
      for i = 0, port.rx[0]:burst(back, 64) - 1 do
        if back[i]:read() ~= frame(got, length(got)) then error(("frame %d is another"):format(got)) end
        back[i]:free()
        got = got + 1
      end
    end
    assert.equal(256, pool.record.free)
    assert.equal(port.pool.count, port.pool.record.free)
  end

  it("carries frames both ways, whole and in order, through rings that wrap and indices that overflow", function()
    serve()
    local port = guest { id = 4, name = "a guest", ring = 64 }
    assert.equal(1, #clients)
    assert.same({ 4, "a guest", "luio-4", uv.os_getpid() }, { clients[1].id, clients[1].name, clients[1].interface, clients[1].pid })
    circle(clients[1], port, 70000, function(i) return 14 + i * 7 % 1501 end)
    assert.same({ 70000, 70000 }, { port:stats().rx_packets, port:stats().tx_packets })
    assert.same({ 70000, 70000 }, { clients[1].queue.rx_packets, clients[1].queue.tx_packets })
    port:close()
    wait.till(5, "it left", function() return gone[4] end)
    assert.equal("it says: goodbye", gone[4])
  end)

  it("carries frames that are longer than a buffer in pieces", function()
    serve { most = 9018 }
    local port = guest { ring = 256, buffer = 512, mtu = 9000 }
    circle(clients[1], port, 2000, function(i) return 14 + i * 97 % 9000 end)
  end)

  it("gives as many frames as the ring has room for, in however many pieces", function()
    serve()
    local port = guest { ring = 256, buffer = 64 }
    local batch, back = luio.batch(64), luio.batch(64)
    pool:fill(batch, 0, 64)
    for i = 0, 63 do batch[i]:write(frame(i, 400)) end -- 7 pieces each
    assert.equal(36, clients[1]:give(batch, 64))
    for at = 0, 35, 9 do -- a burst of the client looks at 64 buffers
      assert.equal(9, port.rx[0]:burst(back, 9))
      assert.equal(frame(at, 400), back[0]:read())
      back:free(9)
    end
    batch:free(64)
  end)

  it("leaves frames out that are too short or too long, and counts them", function()
    serve { most = 100 }
    local port = guest()
    local out, batch = luio.batch(4), luio.batch(4)
    assert.equal(4, port.pool:fill(out, 0, 4))
    for i, length in ipairs { 13, 100, 101, 14 } do out[i - 1]:write(("x"):rep(length)) end
    assert.equal(4, port.tx[0]:burst(out, 4))
    assert.equal(2, clients[1]:take(pool, batch, 4))
    assert.same({ 100, 14 }, { batch[0].length, batch[1].length })
    batch:free(2)
    assert.same({ 1, 1, 2 }, { clients[1].queue.rx_short, clients[1].queue.rx_long, clients[1].queue.rx_packets })
  end)

  it("takes nothing when the pool is empty, and all of it later", function()
    serve()
    local port = guest()
    local out, batch, kept = luio.batch(8), luio.batch(8), luio.batch(256)
    port.pool:fill(out, 0, 8)
    for i = 0, 7 do out[i]:write(frame(i, 60)) end
    port.tx[0]:burst(out, 8)
    assert.equal(253, pool:fill(kept, 0, 253))
    assert.equal(3, clients[1]:take(pool, batch, 8))
    assert.equal(0, clients[1]:take(pool, luio.batch(8), 8))
    batch:free(3)
    kept:free(253)
    assert.equal(5, clients[1]:take(pool, batch, 8))
    assert.equal(frame(7, 60), batch[4]:read())
    batch:free(5)
  end)

  it("wakes a client that waits, and only then", function()
    serve()
    local port = guest()
    local batch = luio.batch(1)
    pool:fill(batch, 0, 1)
    batch[0]:write(frame(1, 60))
    luio.run(function()
      local start = luio.now()
      local packet, _, code = port.rx[0]:receive(0.05)
      assert.same({ nil, "ETIMEDOUT" }, { packet, code })
      for _ = 1, 20 do
        luio.spawn(function()
          luio.sleep(0.005)
          assert.equal(1, clients[1]:give(batch, 1))
        end)
        packet = assert(port.rx[0]:receive(5))
        assert.equal(frame(1, 60), packet:read())
        packet:free()
      end
      assert.is_true(luio.now() - start < 15) -- not by looks once a second
      clients[1]:disconnect "for a spec"
      packet, _, code = port.rx[0]:receive(5)
      assert.same({ nil, "ENODEV" }, { packet, code })
      assert.equal("the server says: for a spec", port.ended)
    end)
    batch:free(1)
  end)

  it("says why there is no connection", function()
    local _, message, code = memif.connect(path)
    assert.equal("ENOENT", code)
    assert.matches("connect to", message)
    serve { admit = function(client) return client.secret == "open" or nil, "the secret is another" end }
    _, message, code = memif.connect(path)
    assert.equal("ECONNREFUSED", code)
    assert.matches("the server says: the secret is another", message)
    guest { id = 1, secret = "open" }
    _, message = memif.connect(path, { id = 1, secret = "open" })
    assert.matches("interface 1 is in use", message)
    assert.same({ "the secret is another", "interface 1 is in use" }, refused)
    local other
    other, message, code = memif.listen(path)
    assert.same({ nil, "EADDRINUSE" }, { other, code })
    assert.matches("another server is there", message)
  end)

  it("takes the place of a server that died, and of nothing else", function()
    local fd = assert(socket.listen(path, 384))
    socket.close(fd) -- and its file stays
    serve()
    guest()
    stop = true
    server:close()
    local file = assert(io.open(path, "w"))
    file:close()
    local _, _, code = memif.listen(path)
    assert.equal("EADDRINUSE", code)
    assert.equal("file", uv.fs_stat(path).type)
    os.remove(path)
  end)

  it("has its socket's permissions from the first moment on", function()
    serve { mode = 432 } -- 0660
    assert.equal(432, bit.band(uv.fs_stat(path).mode, 511))
  end)

  it("has room for so many clients, and again when they have gone", function()
    serve { clients = 2 }
    for _ = 1, amount(20, 200) do
      local a, b = guest { id = 1, ring = 8, pool = pool }, guest { id = 2, ring = 8, pool = pool }
      local _, message = memif.connect(path, { id = 3, ring = 8, pool = pool })
      assert.matches("2 clients are there", message)
      a:close()
      b:close()
      wait.till(5, "both left", function() return #clients == 0 end)
    end
  end)

  describe("disconnects a stranger", function()
    local function rejects(over, words)
      serve { region = 2 ^ 20 }
      local s = visitor()
      local answer = s:join(over)
      assert.matches(words, answer, 1, true)
      assert.equal("CLOSED", s:hear())
      assert.equal(0, #clients)
      local port = guest { ring = 64 }
      circle(clients[1], port, 100, function() return 60 end) -- others go on
    end

    local null = function() return assert(uv.fs_open("/dev/null", "r", 0)) end
    for name, case in pairs {
      ["of another version"] = { { init = { version = 0x300 } }, "memif version 0x300" },
      ["that speaks IP"] = { { init = { mode = 1 } }, "only Ethernet" },
      ["without a region's descriptor"] = { { region = { fd = false } }, "a region without a descriptor" },
      ["whose region is no memory"] = { { region = { fd = null } }, "it is no memfd" },
      ["whose region is a file of a file system"] = { { region = { fd = function() return assert(uv.fs_open("/proc/self/exe", "r", 0)) end } },
        "it is no memfd" },
      ["whose region may shrink, come what may"] = { { region = { fd = function()
        local fd = posix.memfd_create("stranger", 0)
        posix.ftruncate(fd, 65536)
        return fd
      end } }, "not sealed against shrinking" },
      ["whose region is larger than its file"] = { { region = { size = 65537 } }, "its memfd has 65536 bytes, not 65537" },
      ["whose region is too large"] = { { region = { size = 2 ^ 20 + 1 } }, "at most 1048576" },
      ["whose region is 2^64 - 1 bytes"] = { { region = { size = 0xffffffffffffffffULL } }, "at most 1048576" },
      ["whose region has no bytes"] = { { region = { size = 0 } }, "a region of 0 bytes" },
      ["whose region has another number"] = { { region = { index = 1 } }, "region 1, when 0 are there" },
      ["without a ring's descriptor"] = { { to = { fd = false } }, "a ring without a descriptor" },
      ["whose interrupt is a file"] = { { to = { fd = null } }, "no eventfd" },
      ["with a ring of 2^15"] = { { to = { log2_ring_size = 15 } }, "2^15 descriptors" },
      ["with a ring of 2^255"] = { { to = { log2_ring_size = 255 } }, "2^255 descriptors" },
      ["whose ring ends outside of its region"] = { { to = { offset = 65536 - 128 - 240 } }, "it does not fit" },
      ["whose ring begins outside of its region"] = { { from = { offset = 0xfffffff0 } }, "it does not fit" },
      ["whose ring is at an odd place"] = { { to = { offset = 8 } }, "no multiple of 16" },
      ["whose ring is in no region"] = { { to = { region = 1 } }, "its region is not there" },
      ["with a second ring"] = { { to = { index = 1 } }, "one ring each way" },
      ["with headers of its own"] = { { to = { private_hdr_size = 8 } }, "private headers" },
      ["with two rings one way"] = { { from = { flags = 1 } }, "one ring each way" },
      ["whose ring is none"] = { { to = { offset = 32768 } }, "the cookie is another" },
    } do
      it(name, function()
        local opened
        for _, step in pairs(case[1]) do
          if type(step.fd) == "function" then
            opened = step.fd()
            step.fd = opened
          end
        end
        rejects(case[1], case[2])
        if opened then uv.fs_close(opened) end
      end)
    end

    it("who says things out of turn", function()
      serve()
      local CONNECTED = { "CONNECT", "ADD_REGION", "ADD_RING", "INIT", "HELLO", "CONNECTED", "ACK" }
      for _, name in ipairs(CONNECTED) do
        local s = visitor()
        assert.equal("CONNECTED", s:join())
        s:say(protocol.message(protocol[name]))
        assert.matches(name .. " is out of place", s:reason())
      end
      local early = visitor()
      early:hear()
      early:connect()
      assert.matches("CONNECT is out of place", early:reason())
      local unknown = visitor()
      unknown:hear()
      unknown:say(protocol.message(999))
      assert.matches("message 999 is out of place", unknown:reason())
      local ringless = visitor()
      ringless:hear()
      ringless:init()
      ringless:hear()
      ringless:connect()
      assert.matches("not a ring each way", ringless:reason())
    end)

    it("whose messages have another size, or more descriptors than one", function()
      serve()
      for _, size in ipairs { 1, 127, 129, 4096 } do
        local s = visitor()
        s:hear()
        posix.write(s.socket, ffi.new("uint8_t[?]", size), size)
        assert.matches("not of 128 bytes", s:reason())
      end
      local s = visitor()
      s:hear()
      s:say(protocol.message(protocol.INIT), 0)
      assert.matches("a descriptor with INIT", s:reason())
    end)

    it("who is silent, after 3 s", function()
      serve()
      local start, s = luio.now(), visitor()
      assert.matches("not done with its introduction after 3 s", s:reason())
      assert.is_true(luio.now() - start >= 3)
    end)

    it("who is silent, the oldest first, for one who comes when there are too many", function()
      serve { clients = 16 }
      local quiet = {}
      for i = 1, 8 do
        quiet[i] = visitor()
        assert.equal("HELLO", quiet[i]:hear())
      end
      local busy = visitor()
      assert.matches("7 others are still introducing themselves, and one more came", quiet[1]:reason())
      busy:hear()
      busy:init()
      assert.equal("ACK", busy:hear())
      -- As many again: who has said something stays longest.
      for i = 9, 15 do
        quiet[i] = visitor()
        assert.equal("HELLO", quiet[i]:hear())
        assert.matches("one more came", quiet[i - 7]:reason())
      end
      busy:region()
      assert.equal("ACK", busy:hear())
      guest()
    end)

    it("who does not listen to what it is told", function()
      serve()
      local s = visitor()
      s:hear()
      s:init()
      s:memory()
      for i = 0, 7 do s:region { index = i } end
      for _ = 1, 500 do
        if not s:say(protocol.message(protocol.ADD_REGION), s.fd) then break end
        poll()
      end
      wait.till(5, "it is refused", function() return refused[1] end)
    end)
  end)

  describe("does not trust what is in a ring:", function()
    local s, batch
    before_each(function()
      serve()
      s = visitor()
      assert.equal("CONNECTED", s:join())
      batch = luio.batch(64)
    end)

    local function ends(words)
      local n = clients[1]:take(pool, batch, 64)
      batch:free(n)
      if gone[9] == nil then
        pool:fill(batch, 0, 4)
        for i = 0, 3 do batch[i]:write(("x"):rep(200)) end
        clients[1]:give(batch, 4)
        batch:free(4)
      end
      assert.matches(words, gone[9] or "nothing happened", 1, true)
      assert.equal(256, pool.record.free)
      assert.matches(words, s:reason(), 1, true)
    end

    it("a head that is too far ahead", function()
      s:word(s.to, 6, 17)
      ends "head is further ahead"
    end)
    it("a head that went back", function()
      s:word(s.to, 6, 65535)
      ends "head is further ahead"
    end)
    it("a head of the other ring that is too far ahead", function()
      s:word(s.from, 6, 17)
      ends "head is further ahead"
    end)
    it("a tail, which is never read", function()
      s:word(s.to, 64, 7)
      s:word(s.from, 64, 7)
      s:word(s.from, 6, 16)
      s:send(frame(1, 60))
      assert.equal(1, clients[1]:take(pool, batch, 64))
      assert.equal(1, clients[1]:give(batch, 1))
      batch:free(1)
      assert.same({ 1, 1 }, { s:word(s.to, 64), s:word(s.from, 64) })
    end)
    for name, case in pairs {
      ["a region that there is not"] = { { region = 1, length = 60, offset = 0 }, "a region that there is not" },
      ["a region far out"] = { { region = 65535, length = 60, offset = 0 }, "a region that there is not" },
      ["an offset outside"] = { { length = 60, offset = 65536 }, "outside of its region" },
      ["an end outside"] = { { length = 61, offset = 65536 - 60 }, "outside of its region" },
      ["a length of 2^32 - 1"] = { { length = 0xffffffff, offset = 64 }, "outside of its region" },
      ["an offset of 2^32 - 1"] = { { length = 64, offset = 0xffffffff }, "outside of its region" },
      ["both"] = { { length = 0x80000000, offset = 0x80000000 }, "outside of its region" },
      ["a frame without an end"] = { { flags = 1, length = 60, offset = 0 }, "has no end" },
    } do
      it(name .. ", in what it sends", function()
        s:descriptor(s.to, 0, case[1])
        s:word(s.to, 6, 1)
        ends(case[2])
      end)
      if not case[1].flags then
        it(name .. ", in what it wants to receive", function()
          s:descriptor(s.from, 0, case[1])
          s:word(s.from, 6, 8)
          ends(case[2])
        end)
      end
    end
    it("a buffer of no bytes", function()
      s:descriptor(s.from, 0, { length = 0, offset = 0 })
      s:word(s.from, 6, 8)
      ends "a buffer of no bytes"
    end)

    it("a file that would get shorter", function()
      assert.equal(-1, posix.ftruncate(s.fd, 0))
      -- Nor does a hole hurt: zeros.
      assert.is_true(os.execute(("fallocate --punch-hole --offset 0 --length 65536 /proc/%d/fd/%d"):format(uv.os_getpid(), s.fd)) == 0)
      assert.equal(0, clients[1]:take(pool, batch, 64))
      assert.is_nil(gone[9])
    end)

    it("an eventfd that blocks whoever writes to it", function()
      local full = ffi.new("uint64_t[1]", 0xfffffffffffffffeULL)
      posix.fcntl(s.from_fd, posix.F_SETFL, 0) -- no O_NONBLOCK any more
      assert.equal(8, posix.write(s.from_fd, full, 8))
      s:word(s.from, 6, 16)
      s:word(s.from, 4, 0) -- wake me
      pool:fill(batch, 0, 1)
      batch[0]:write(frame(1, 60))
      local start = luio.now()
      assert.equal(1, clients[1]:give(batch, 1))
      assert.is_true(luio.now() - start < 20)
      batch:free(1)
    end)

    it("a bell that rings on after its client was thrown out", function()
      local one = ffi.new("uint64_t[1]", 1)
      posix.write(s.to_fd, one, 8)
      wait.till(5, "it is heard", function() return server:poll() > 0 or nil end)
      clients[1]:disconnect "for a spec"
      luio.sleep(0.05)
      stop = true
      luio.sleep(0.01)
      posix.write(s.to_fd, one, 8)
      assert.equal(0, server:poll())
    end)

    it("memory that another thread of the client changes all the time #jit", function()
      -- A thread of its own, with the same memory: it writes noise over descriptors and indices while the server works.
      local thread = uv.new_thread(function(address, size)
        local f = require "ffi"
        local p = f.cast("uint8_t *", f.cast("uintptr_t", address))
        local seed = 12345
        for _ = 1, 3000000 do
          seed = (seed * 1103515245 + 12345) % 2147483648
          local at = seed % 2048
          if at % 1024 >= 4 then p[at] = math.floor(seed / 4096) % 256 end -- the cookie stays
          if seed % 5 == 0 then f.cast("uint16_t *", p + 6)[0] = f.cast("uint16_t *", p + 64)[0] + 3 end
          if seed % 7 == 0 then f.cast("uint16_t *", p + 1030)[0] = f.cast("uint16_t *", p + 1088)[0] + 3 end
          assert(size > 0)
        end
      end, tonumber(ffi.cast("uintptr_t", s.base)), s.size)
      local other = guest { id = 1 }
      local function with(id)
        for _, client in ipairs(clients) do
          if client.id == id then return client end
        end
      end
      local faults, deadline, took = 0, luio.now() + 3, luio.batch(64)
      pool:fill(batch, 0, 4)
      for i = 0, 3 do batch[i]:write(frame(i, 60)) end
      while luio.now() < deadline do
        local victim = with(9)
        took:free(victim:take(pool, took, 64))
        victim:give(batch, 4)
        if gone[9] then -- once more, with the same memory
          faults, gone[9] = faults + 1, nil
          s:word(s.to, 6, 0)
          s:word(s.from, 6, 0)
          local again = visitor()
          again.fd, again.size = s.fd, s.size
          assert.equal("CONNECTED", again:join())
        end
      end
      uv.thread_join(thread)
      batch:free(4)
      assert.is_true(faults > 0)
      assert.equal(256, pool.record.free)
      circle(with(1), other, 1000, function() return 60 end)
    end)
  end)

  it("accepts again after the process that accepts has died when no other could be made", function()
    serve()
    local head = io.open(("/proc/self/task/%d/children"):format(uv.os_getpid())):read "*n"
    local held = {}
    uv.kill(head, "sigkill")
    repeat held[#held + 1] = ffi.C.dup(0) until held[#held] < 0
    local ok, why = pcall(wait.till, 5, "its end was noticed", function() return uv.kill(head, 0) ~= 0 end)
    for _, fd in ipairs(held) do posix.close(fd) end
    assert(ok, why)
    wait.till(5, "somebody joined", function()
      local port = memif.connect(path, { id = 1 })
      return port and table.insert(guests, port) == nil
    end)
  end)

  it("stands random conversations", function()
    math.randomseed(20)
    serve { clients = 4 }
    local port = guest { id = 77 }
    for _ = 1, 400 do
      local s = stranger.new(path, poll)
      poll()
      s:memory()
      for _ = 1, math.random(1, 8) do
        local message = protocol.message(math.random(0, 9))
        if math.random() < 0.5 then
          for i = 0, 125 do message.bytes[i] = math.random() < 0.3 and math.random(0, 255) or 0 end
        end
        if math.random() < 0.5 then message.init.version = protocol.VERSION end
        s:say(message, ({ s.fd, s.socket, 0, false })[math.random(4)] or nil)
        poll()
      end
      s:close()
      poll()
    end
    circle(clients[1], port, 1000, function() return 60 end)
  end)
end)
