--- Conformance: opened again, reloaded, reset behind its driver's back.

local busted = require "busted"
local assert = require "luassert"
local files = require "spec.support.files"
local luio = require "luio"
local net = require "luio.net"
local support = require "spec.net.conformance.support"
local wait = require "spec.support.wait"

local it = busted.it

return function(subject)
  it("can be closed and opened again, with nothing of before", function()
    local mac
    for _ = 1, 4 do
      local port = subject.open()
      assert.equal(mac or port.mac, port.mac)
      mac = port.mac
      assert.equal(100, support.exchange(port, 100))
      for i = 1, 20 do assert(port.tx[0]:send(support.packet(port, support.frame(port, i)), 1)) end
      assert(port:close()) -- with these in its ring
    end
    local port = subject.open()
    assert.equal(100, support.exchange(port, 100)) -- none of those
  end)

  it("keeps to itself what it sends when it is opened without loopback", function()
    local port = subject.open()
    assert(port:close())
    port = assert(net.open(subject.address))
    assert(port:wait_link(true, 5))
    for i = 1, 3 do
      assert(port.tx[0]:send(support.packet(port, support.frame(port, i)), 1))
      local packet, _, code = port.rx[0]:receive(0.1)
      assert.same({ nil, "ETIMEDOUT" }, { packet, code })
    end
    assert(port:close())
  end)

  it("is reloaded with frames under way: none is lost, none comes twice, none changes places", function()
    local port = subject.open()
    luio.run(function()
      port:promiscuous(true) -- what was asked for is set again by each version
      port:multicast { "01:00:5e:00:00:01" }
      support.wait_for_loopback(port)
      local reloads, n, before = 0, subject.packets, port:stats()
      local buffers = port.dev.dma:stats().buffers
      support.exchange(port, n, {
        beside = function(got)
          if reloads < 5 and got >= (reloads + 1) * n / 6 then
            reloads = reloads + 1
            assert(port.dev:reload())
          end
        end,
      })
      assert.equal(5, reloads)
      local stats = port:stats()
      assert.same({ 0, 0, 0, 0 }, { stats.rx_missed, stats.rx_dropped, stats.tx_dropped, stats.resets })
      assert.same({ n, n }, { stats.tx_packets - before.tx_packets, stats.rx_packets - before.rx_packets })
      assert.equal(buffers, port.dev.dma:stats().buffers)
    end)
  end)

  it("is reloaded while tasks wait for it: they wait on", function()
    local port = subject.open()
    luio.run(function()
      local got, n = 0, 60
      local receiver = luio.spawn(function()
        while got < n do
          local packet = assert(port.rx[0]:receive(20))
          assert.equal(support.frame(port, got), packet:read())
          packet:free()
          got = got + 1
        end
      end)
      for i = 0, n - 1 do
        if i % 10 == 5 then
          luio.sleep(0.005) -- the receiver waits for an interrupt
          assert(port.dev:reload())
        end
        assert(port.tx[0]:send(support.packet(port, support.frame(port, i)), 5))
      end
      assert(receiver:join(20))
      assert.equal(n, got)
    end)
  end)

  if subject.driver then
    -- A copy of the driver, to be changed.
    local function copied()
      local name = subject.driver:match "([^/]+)$"
      local _, dir = files.write("empty", "")
      assert(os.execute(("mkdir -p %s/drivers && cp -r %s %s/drivers/"):format(dir, subject.driver, dir)) == 0)
      local path = ("%s/drivers/%s/init.lua"):format(dir, name)
      local text = files.read(path)
      local head, returned = text:match "^(.*\n)return ([%w_]+)%s*$"
      return path, function(more) files.save(path, more and head .. more:gsub("DRIVER", returned) .. "\nreturn " .. returned .. "\n" or text) end
    end

    it("goes on as it was when a reload is refused, with frames under way", function()
      local path, change = copied()
      local port = subject.open { driver = path }
      local before = port:stats()
      luio.run(function()
        for _, case in ipairs {
          { "this is no Lua", "refused in stage" },
          { "function DRIVER.check() return nil, 'not today' end", "not today" },
          { "function DRIVER.start() return nil, 'it will not', 'EIO' end", "it will not" },
          { "function DRIVER.start() error 'it threw' end", "it threw" },
          { "local start = DRIVER.start function DRIVER.start(...) assert(start(...)) return nil, 'after all', 'EIO' end", "after all" },
        } do
          local done, message
          change(case[1])
          support.exchange(port, 300, {
            beside = function(got)
              if got < 150 or done then return end
              done = true
              local report, why = port.dev:reload()
              assert.is_nil(report)
              message = why
            end,
          })
          assert.matches(case[2], message)
          assert.equal(100, support.exchange(port, 100))
        end
        change()
        assert(port.dev:reload())
        assert.equal(100, support.exchange(port, 100))
        local stats = port:stats()
        assert.same({ stats.tx_packets - before.tx_packets, 0, 0 }, {
          stats.rx_packets - before.rx_packets, stats.rx_dropped, stats.tx_dropped,
        })
      end)
      files.clean()
    end)

    it("goes back to the version before, when a new one fails in its first second", function()
      local path, change = copied()
      local port = subject.open { driver = path }
      local before = port:stats()
      luio.run(function()
        change [[
          local start = DRIVER.start
          function DRIVER.new() return true end
          function DRIVER.start(dev, ...)
            require "luio".spawn(function()
              require "luio".sleep(0.1)
              error "it did not work out"
            end)
            return start(dev, ...)
          end]]
        local first = 0
        support.exchange(port, 300, { beside = function(got)
          if got < 150 or first > 0 then return end
          first = got
          assert(port.dev:reload())
        end })
        assert.is_true(port.dev.driver.new(port.dev))
        local passed, deadline = 300, luio.now() + 10 * wait.HANG
        while port.dev.driver.new do
          assert(luio.now() < deadline, "it does not go back")
          passed = passed + support.exchange(port, 50, { first = passed })
          luio.sleep(0.005)
        end
        assert.equal(200, support.exchange(port, 200, { first = passed }))
        local stats = port:stats()
        assert.same({ stats.tx_packets - before.tx_packets, 0, 0 }, {
          stats.rx_packets - before.rx_packets, stats.rx_dropped, stats.tx_dropped,
        })
      end)
      files.clean()
    end)
  end

  if subject.reset then
    it("finds out that somebody has reset the device, and goes on", function()
      local port = subject.open()
      luio.run(function()
        assert.equal(100, support.exchange(port, 100))
        local used = port.pool:used()
        subject.reset(port)
        wait.till(10, "it was found out", function() return port:stats().resets == 1 end)
        assert(port:wait_link(true, 10))
        support.wait_for_loopback(port)
        assert.equal(200, support.exchange(port, 200))
        assert.matches("somebody reset [^ ]+: %d+ received and %d+ given to be sent were lost; it was set up again",
          table.concat(subject.warnings(port), "\n"))
        assert.same({ 1, used }, { port:stats().resets, port.pool:used() })
      end)
    end)

    it("counts what a reset has cost, and frees it", function()
      local port = subject.open()
      luio.run(function()
        local before = port:stats()
        subject.reset(port)
        local packets = luio.batch(10)
        for i = 0, 9 do packets[i] = support.packet(port, support.frame(port, i)) end
        assert.equal(10, port.tx[0]:burst(packets, 10)) -- into a ring that the device has forgotten
        assert(port.tx[0]:flush(10))
        wait.till(5, "it was found out", function() return port:stats().resets == 1 end)
        assert.equal(before.tx_dropped + 10, port:stats().tx_dropped)
        assert(port:wait_link(true, 10))
        support.wait_for_loopback(port)
        assert.equal(100, support.exchange(port, 100))
      end)
    end)

    it("is reset while tasks send and receive: they go on", function()
      local port = subject.open()
      luio.run(function()
        local received, last, stop = 0, -1, false
        local receiver = luio.spawn(function()
          while not stop do
            local packet = port.rx[0]:receive(0.2)
            if packet then
              local number = tonumber(packet:read():sub(15, 22))
              if number then
                assert(number > last, "one came twice, or late")
                last, received = number, received + 1
              end
              packet:free()
            end
          end
        end)
        local sent = 0
        local function send(seconds)
          local over = luio.now() + seconds
          while luio.now() < over do
            assert(port.tx[0]:send(support.packet(port, support.frame(port, sent)), 10))
            sent = sent + 1
            luio.sleep(0.001)
          end
        end
        send(0.1)
        subject.reset(port)
        local deadline = luio.now() + 200
        repeat send(0.1) until port:stats().resets == 1 or luio.now() > deadline
        local before = received
        repeat send(0.2) until received > before + 20 or luio.now() > deadline
        assert.is_true(luio.now() < deadline, "nothing came any more")
        assert(port.tx[0]:flush(10))
        wait.till(5, "the last one came", function() return last == sent - 1 end)
        stop = true
        assert(receiver:join(10))
        assert.is_true(received <= sent)
      end)
    end)
  end
end
