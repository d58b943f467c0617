--- Two e1000e on one wire (QEMU's hub), both driven by drivers/e1000e.

local luio = require "luio"
local sysfs = require "spec.support.sysfs"
local wait = require "spec.support.wait"

local A, B = "0000:00:05.0", "0000:00:09.0"

describe("drivers/e1000e", function()
  local a, b
  before_each(function()
    a, b = assert(luio.start("e1000e", A)), assert(luio.start("e1000e", B))
  end)
  after_each(function()
    assert(a:close())
    assert(b:close())
  end)

  local function address(mac)
    return (mac:gsub("%x%x:?", function(byte) return string.char(tonumber(byte:sub(1, 2), 16)) end))
  end

  -- To b, from a; a type that nobody has.
  local function frame(number)
    return address(b.driver.mac(b)) .. address(a.driver.mac(a)) .. "\x88\xb5" .. ("%08d"):format(number):rep(8)
  end

  -- Sends n frames from a while b receives; how many came, all in order and whole.
  local function cross(n)
    local sent, got, out, packets, deadline = 0, 0, {}, {}, luio.now() + 60
    while got < n do
      assert(luio.now() < deadline, ("%d of %d after a minute"):format(got, n))
      local waiting = #out
      while sent + waiting < n and waiting < 32 do
        local packet = a.driver.packet(a)
        if not packet then break end
        packet:write(frame(sent + waiting))
        waiting = waiting + 1
        out[waiting] = packet
      end
      -- No more than fit into b's ring: nobody slows a down here.
      local went = sent - got < 256 and a.driver.send(a, out, waiting) or 0
      for i = 1, waiting do out[i] = out[i + went] end
      sent = sent + went
      for i = 1, b.driver.receive(b, packets, 64) do
        if packets[i]:read() ~= frame(got) then error(("frame %d is another"):format(got)) end
        packets[i]:free()
        got = got + 1
      end
    end
    return got
  end

  it("has a MAC address and a link", function()
    for _, dev in ipairs { a, b } do
      assert.matches("^52:54:00:%x%x:%x%x:%x%x$", dev.driver.mac(dev))
      luio.run(function()
        assert(dev.regs.STATUS:wait({ LU = 1 }, 5))
      end)
      assert.is_true(dev.driver.link(dev))
    end
    assert.not_equal(a.driver.mac(a), b.driver.mac(b))
  end)

  it("carries 10,000 frames, whole and in order, by polling", function()
    assert(b.regs.STATUS:wait({ LU = 1 }, 5))
    assert(a.regs.STATUS:wait({ LU = 1 }, 5))
    assert.equal(10000, cross(10000))
    assert.equal(0, b.state.port.rx.state.errors)
    assert.equal(10000, b.state.port.rx.state.received)
  end)

  it("waits for a frame by interrupt, and no longer than it was told", function()
    assert(a.regs.STATUS:wait({ LU = 1 }, 5))
    assert(b.regs.STATUS:wait({ LU = 1 }, 5))
    luio.run(function()
      local packets, start = {}, luio.now()
      local n, _, code = b.driver.receive_wait(b, packets, 8, 0.2)
      assert.same({ nil, "ETIMEDOUT" }, { n, code })
      assert.is_true(luio.now() - start < 2)
      for i = 1, 20 do
        luio.spawn(function()
          luio.sleep(0.01)
          local packet = a.driver.packet(a)
          packet:write(frame(i))
          assert(a.driver.send(a, { packet }, 1) == 1)
        end)
        assert.equal(1, (assert(b.driver.receive_wait(b, packets, 8, 5))))
        assert.equal(frame(i), packets[1]:read())
        packets[1]:free()
      end
    end)
  end)

  it("is reloaded with frames under way: none is lost, none comes twice", function()
    assert(a.regs.STATUS:wait({ LU = 1 }, 5))
    assert(b.regs.STATUS:wait({ LU = 1 }, 5))
    luio.run(function()
      for _ = 1, 5 do
        cross(200)
        local out = {}
        for i = 1, 50 do
          out[i] = assert(a.driver.packet(a))
          out[i]:write(frame(i))
        end
        assert.equal(50, a.driver.send(a, out, 50))
        assert(a:reload())
        assert(b:reload())
        local packets, got = {}, 0
        while got < 50 do
          for i = 1, assert(b.driver.receive_wait(b, packets, 64, 5)) do
            got = got + 1
            assert.equal(frame(got), packets[i]:read())
            packets[i]:free()
          end
        end
      end
    end)
  end)

  it("goes on after an unbind and a bind, with nothing of before", function()
    luio.run(function()
      sysfs.unbind(B)
      wait.till(10, "b gone", function() return b.gone end)
      sysfs.bind(B)
      assert(b:wait_return(10))
      assert(a.regs.STATUS:wait({ LU = 1 }, 5))
      assert(b.regs.STATUS:wait({ LU = 1 }, 5))
      local buffers = b.dma:stats().buffers
      assert.equal(500, cross(500))
      assert(b:reload())
      assert.equal(buffers, b.dma:stats().buffers)
    end)
  end)
end)
