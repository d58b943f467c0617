--- Frames that were given to a port to send go out before it is closed, or are reported as lost.

local files = require "spec.support.files"
local luio = require "luio"
local memif = require "luio.net.memif"
local net = require "luio.net"
local task = require "luio.loop.task"
local uv = require "luv"

local FRAME = "\2\0\0\0\0\2\2\0\0\0\0\1\8\0" .. ("x"):rep(50)

local function frames(pool, n)
  local packets = luio.batch(n)
  assert.equal(n, pool:fill(packets, 0, n))
  for i = 0, n - 1 do packets.at[i]:write(FRAME) end
  return packets
end

describe("a port that is closed", function()
  local port
  before_each(function()
    port = assert(net.open("sim:e1000e", { loopback = true }))
    assert(port:wait_link(true, 5))
  end)

  it("has sent all that it was given", function()
    local dev, sent = port.dev, nil
    local close = dev.close
    function dev:close()
      sent = port.offer.stats().tx_packets
      return close(self)
    end
    luio.run(function()
      dev.regs.TCTL:update { EN = 0 }
      assert.equal(100, port.tx[0]:burst(frames(port.pool, 100), 100))
      local closing = luio.spawn(function() return port:close() end)
      dev.regs.TCTL:update { EN = 1 }
      assert(closing:join(20))
      assert.is_true(closing.results[1])
    end)
    assert.equal(100, sent)
    assert(port:close())
  end)

  it("may be closed by a task that has waited for its packet", function()
    local failed
    local shown = task.on_failure
    finally(function() luio.on_task_failure(shown) end)
    luio.on_task_failure(function(_, traceback) failed = traceback end)
    port:promiscuous(true)
    luio.run(function()
      local receives = luio.spawn(function() return port.rx[0]:wait(20) and port:close() end)
      assert.equal(1, port.tx[0]:burst(frames(port.pool, 1), 1))
      assert(receives:join(20))
      assert.is_true(receives.results[1])
    end)
    assert.is_nil(failed)
  end)

  it("says how much it could not send, and is closed all the same", function()
    port.dev.regs.TCTL:update { EN = 0 }
    assert.equal(3, port.tx[0]:burst(frames(port.pool, 3), 3))
    local ok, message, code, lost = port:close()
    assert.same({ nil, "EIO", 3 }, { ok, code, lost })
    assert.equal("close sim:e1000e: 3 packets given to send did not go: none has for a second, though the link is up", message)
    assert.is_true(port.closed)
    assert(port:close())
  end)
end)

describe("a memif client that leaves", function()
  local path, server, stop
  setup(function() path = uv.cwd() .. "/" .. files.write("m.sock", "") os.remove(path) end)
  teardown(files.clean)

  -- Runs with a server that takes what came after `taken` is set.
  local function with_server(fn)
    luio.run(function()
      local joined
      server = assert(memif.listen(path, { joined = function(client) joined = client end }))
      stop = false
      local turns = {}
      luio.spawn(function()
        while not stop do
          server:poll()
          if turns.taken and joined then turns.taken(joined) end
          luio.sleep(0.001)
        end
      end)
      local port = assert(memif.connect(path, {}))
      fn(port, turns)
      stop = true
      server:close()
    end)
  end

  it("waits until the server has taken what it sent", function()
    with_server(function(port, turns)
      local pool = require("luio.net.memory").pool({ count = 64, size = 2048 }, "taken")
      local batch, got = luio.batch(32), 0
      turns.taken = function(client)
        local n = client.state == "up" and client:take(pool, batch, 2) or 0
        got = got + n
        batch:free(n)
      end
      assert.equal(20, port.tx[0]:burst(frames(port.pool, 20), 20))
      assert(port:close())
      assert.equal(20, got)
      turns.taken = nil
      pool:close()
    end)
  end)

  it("says how much the server did not take", function()
    with_server(function(port)
      assert.equal(5, port.tx[0]:burst(frames(port.pool, 5), 5))
      local ok, message, code, lost = port:close()
      assert.same({ nil, "EAGAIN", 5 }, { ok, code, lost })
      assert.equal("close memif: 5 frames were sent and not taken by the server", message)
      assert(port:close())
    end)
  end)
end)
