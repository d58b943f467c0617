--- Two cards on one wire (QEMU's hub), an 82574L and an 82540EM, both driven by drivers/e1000e.

local luio = require "luio"
local net = require "luio.net"
local sysfs = require "spec.support.sysfs"
local system = require "spec.support.system"
local wait = require "spec.support.wait"

local A, B = "0000:00:05.0", "0000:00:09.0"

describe("drivers/e1000e", function()
  local a, b
  before_each(function()
    a, b = assert(net.open(A)), assert(net.open(B))
    assert(a:wait_link(true, 5))
    assert(b:wait_link(true, 5))
  end)
  after_each(function()
    assert(a:close())
    assert(b:close())
  end)

  -- From one to the other; an unused type.
  local function frame(from, to, number)
    return net.mac_bytes(to.mac) .. net.mac_bytes(from.mac) .. "\x88\xb5" .. ("%08d"):format(number):rep(8)
  end

  -- Sends n frames while the other receives; how many came, all in order and whole.
  local function cross(from, to, n)
    local sent, got, have, deadline = 0, 0, 0, luio.now() + 60 * wait.HANG
    local out, packets = luio.batch(32), luio.batch(64)
    while got < n do
      assert(luio.now() < deadline, ("%d of %d came"):format(got, n))
      local before = have
      have = from.pool:fill(out, have, math.min(32, n - sent))
      for i = before, have - 1 do out[i]:write(frame(from, to, sent + i)) end
      -- No more than fit into the ring, because there is no flow control here.
      local went = sent - got < 256 and from.tx[0]:burst(out, have) or 0
      have, sent = out:shift(went, have), sent + went
      for i = 0, to.rx[0]:burst(packets, 64) - 1 do
        if packets[i]:read() ~= frame(from, to, got) then error(("frame %d is another"):format(got)) end
        packets[i]:free()
        got = got + 1
      end
    end
    return got
  end

  it("carries 10,000 frames each way, whole and in order, by polling", function()
    for _, way in ipairs { { a, b }, { b, a } } do
      local from, to = way[1], way[2]
      assert.equal(10000, cross(from, to, 10000))
      local sender, receiver = from:stats(), to:stats()
      assert.same({ 10000, 10000, 0, 0 }, { sender.tx_packets, receiver.rx_packets, receiver.rx_dropped, receiver.rx_missed })
      assert.equal(10000 * 82, receiver.rx_bytes)
      assert.is_true(sender.tx_bytes == 10000 * 82 or sender.tx_bytes == 10000 * 78) -- QEMU's 82574L sends no CRC
    end
  end)

  it("waits for a frame by interrupt, and no longer than it was told", function()
    luio.run(function()
      for _, way in ipairs { { a, b }, { b, a } } do
        local from, to = way[1], way[2]
        local start = luio.now()
        local packet, _, code = to.rx[0]:receive(0.2)
        assert.same({ nil, "ETIMEDOUT" }, { packet, code })
        assert.is_true(luio.now() - start < 2)
        for i = 1, 20 do
          luio.spawn(function()
            luio.sleep(0.01)
            local out = from.pool:alloc()
            out:write(frame(from, to, i))
            assert(from.tx[0]:send(out, 1))
          end)
          packet = assert(to.rx[0]:receive(5))
          assert.equal(frame(from, to, i), packet:read())
          packet:free()
        end
        assert(from.tx[0]:flush(1))
        assert.equal(512, from.pool:used()) -- the receive ring's
      end
    end)
  end)

  it("is reloaded with frames under way: none is lost, none comes twice", function()
    luio.run(function()
      for _ = 1, 5 do
        cross(a, b, 200)
        local out = luio.batch(50)
        assert(a.pool:fill(out, 0, 50) == 50)
        for i = 0, 49 do out[i]:write(frame(a, b, i)) end
        assert.equal(50, a.tx[0]:burst(out, 50))
        assert(a.dev:reload())
        assert(b.dev:reload())
        for i = 0, 49 do
          local packet = assert(b.rx[0]:receive(5))
          assert.equal(frame(a, b, i), packet:read())
          packet:free()
        end
      end
    end)
  end)

  it("goes on after an unbind and a bind, with nothing of before", function()
    luio.run(function()
      sysfs.unbind(B)
      wait.till(10, "b gone", function() return b.dev.gone end)
      assert.equal(0, b.rx[0]:burst(luio.batch(8), 8))
      local _, _, code = b.rx[0]:receive(0.1)
      assert.equal("ENODEV", code)
      sysfs.bind(B)
      assert(b.dev:wait_return(10))
      assert(a:wait_link(true, 5))
      assert(b:wait_link(true, 5))
      local buffers = b.dev.dma:stats().buffers
      assert.equal(500, cross(a, b, 500))
      assert(b.dev:reload())
      assert.equal(buffers, b.dev.dma:stats().buffers)
    end)
  end)

  it("takes the card over from the kernel's driver, whatever that had set", function()
    assert(a:close())
    for _, driver in ipairs { "e1000e", "uio_pci_generic" } do
      system.must("/run/luio/bin/modprobe %s", driver)
      system.must("echo %s > /sys/bus/pci/devices/%s/driver/unbind", A, A)
      system.must("echo %s > /sys/bus/pci/devices/%s/driver_override; echo %s > /sys/bus/pci/drivers_probe", driver, A, A)
      system.must("echo > /sys/bus/pci/devices/%s/driver_override", A)
      if driver == "e1000e" then system.must("ip link set $(ls /sys/bus/pci/devices/%s/net) up; sleep 1", A) end
    end
    a = assert(net.open(A))
    assert(a:wait_link(true, 5))
    assert.equal(500, cross(b, a, 500))
    assert.equal(500, cross(a, b, 500))
    local tagged = net.mac_bytes(a.mac) .. net.mac_bytes(b.mac) .. "\x81\0\0\5\x88\xb5" .. ("tagged"):rep(10)
    local packet = assert(b.pool:alloc())
    packet:write(tagged)
    assert(b.tx[0]:send(packet, 5))
    packet = assert(a.rx[0]:receive(10))
    local came = packet:read()
    packet:free()
    assert.equal(tagged, came)
  end)
end)
