--- Versions of a driver beside each other: the limits of a replaced or refused one, the state that is kept between
--- them, and events at a bad time for a reload.

local driver = require "luio.driver"
local files = require "spec.support.files"
local live = require "luio.reload.live"
local luio = require "luio"
local task = require "luio.loop.task"
local wait = require "spec.support.wait"

local HEAD = [[
local luio = require "luio"
local d = { name = "edu", registers = require "drivers.edu.registers", irq = { capture = "IRQ_STATUS", ack = "IRQ_ACK" } }
]]

local dev, path, warnings, failures
local shown = task.on_failure

local function save(text)
  local f = assert(io.open(path, "w"))
  f:write(HEAD, text, "\nreturn d\n")
  f:close()
end

local function start(text)
  path = files.write("init.lua", "")
  save(text)
  dev = assert(luio.start(path, "sim:edu"))
  dev.on_warning = function(message) table.insert(warnings, message) end
end

-- An interrupt that is in the ring, and that nobody has seen.
local function pending(cause)
  local before = dev.irqs[0]:stats().events
  dev.regs.IRQ_RAISE:write(cause)
  wait.still(2, function() return dev.irqs[0]:stats().events > before end)
end

before_each(function()
  live.QUIET, live.PROBATION, live.START, warnings, failures = 10, 0.1, 60, {}, {}
  luio.on_task_failure(function(t, traceback) table.insert(failures, { t, traceback }) end)
end)

after_each(function()
  live.QUIET, live.PROBATION, live.START = 1, 1, 5
  luio.on_task_failure(shown)
  if dev then assert(dev:close()) end
  dev = nil
  files.clean()
end)

local function it_runs(name, fn)
  it(name, function() luio.run(fn) end)
end

describe("a replaced version", function()
  local VIEW = "d.dma = { bits = 28 } function d.start(dev) view = dev return true end function d.view() return view end"

  it_runs("reaches neither config space, memory, interrupts nor the device's life", function()
    start(VIEW)
    local old = dev.driver.view()
    local buffer = assert(old.dma:alloc(64))
    save(VIEW .. " -- 2")
    assert(dev:reload())
    for what, fn in pairs {
      config = function() old.config:write16(4, 0) end, command = function() old.config:command() end,
      alloc = function() old.dma:alloc(64) end, write = function() buffer:write(0, "x") end, free = function() buffer:free() end,
      close = function() old.irqs[0]:close() end, setup = function() old.irqs[0]:setup {} end, device = function() old:close() end,
      master = function() old:bus_master(false) end, unmask = function() old.irqs[0]:unmask() end,
    } do
      local ok, message = pcall(fn)
      assert.is_false(ok, what)
      assert.matches("belongs to version 1 of driver edu, which was replaced", message, 1, false)
    end
    assert.is_true(dev.config:command().bus_master)
    assert.is_true(dev.irqs[0]:started())
  end)

  it_runs("does not free the memory that the new one goes on with, when its tasks end", function()
    local text = [[d.dma = { bits = 28 }
      function d.start(dev)
        local ring = assert(dev.dma:alloc(4096, { name = "ring" }))
        dev.state.ring = ring
        luio.spawn(function()
          pcall(luio.sleep, 100)
          ring:free()
        end)
        return true
      end
      function d.ring(dev) return dev.state.ring end]]
    start(text)
    dev.driver.ring(dev):write(0, "kept")
    local iova = dev.driver.ring(dev).iova
    save(text .. " -- 2")
    assert(dev:reload())
    wait.till(2, "probation is over", function() return not dev.live.probation end) -- the old task has ended
    local ring = dev.driver.ring(dev)
    assert.same({ iova, true, "kept" }, { ring.iova, ring.kept, ring:read(0, 4) })
    assert.equal(1, dev.dma:stats().buffers)
    assert.matches("free a DMA buffer of sim:edu: it belongs to version 1", failures[1][2])
  end)

  it_runs("leaves the new one the memory and the timers that are in objects of the driver's own", function()
    local text = [[d.dma = { bits = 28 }
      local Ring = {}
      Ring.__index = Ring
      function Ring:text() return self.buffer:read(0, 4) end
      function Ring:rename(text) self.buffer:write(0, text) end
      function d.start(dev, reason)
        if reason ~= "fresh" then return true end
        local timer = require("luv").new_timer()
        timer:start(60000, 60000, function() end)
        dev.state.ring = setmetatable({ buffer = assert(dev.dma:alloc(4096)), timer = timer }, Ring)
        dev.state.ring:rename "kept"
        return true
      end
      function d.ring(dev) return dev.state.ring end]]
    start(text)
    local before = dev.driver.ring(dev)
    save(text .. " -- 2")
    assert(dev:reload())
    wait.till(5, "the old version has ended", function() return dev.live.probation == nil end)
    local ring = dev.driver.ring(dev)
    assert.same({ "kept", true }, { ring:text(), ring.timer:is_active() })
    ring:rename "new!"
    assert.equal("new!", ring:text())
    assert.equal(1, dev.dma:stats().buffers)
    assert.has_error(function() before:text() end) -- the old version's object has the old version's handle
  end)

  it_runs("is forgotten: a thousand cost no more than two", function()
    live.PROBATION = 0.001
    start "function d.big() return 1 end"
    local function memory()
      collectgarbage()
      collectgarbage()
      local views = 0
      for _ in pairs(dev.views) do views = views + 1 end
      return collectgarbage "count", views
    end
    local function reloads(n)
      for i = 1, n do
        save(("local big = ('x'):rep(100000) .. %d function d.big() return big end"):format(i))
        assert(dev:reload())
        luio.sleep(0.002)
      end
    end
    reloads(20)
    local before = memory()
    reloads(100)
    local after, views = memory()
    assert.is_true(after - before < 1000, ("%d KiB more"):format(after - before)) -- 100 of them would be 10,000
    assert.is_true(views <= 3)
  end)

  it_runs("may have a task that does not end: it is not left asleep for ever", function()
    local text = "function d.start() luio.spawn(function() for _ = 1, 3 do pcall(luio.sleep, 0.05) end end) return true end"
    start(text)
    save(text .. " -- 2")
    assert(dev:reload())
    local group = dev.live.version.group
    wait.till(5, "it is told of", function() return warnings[1] end)
    assert.matches("goes on after it was cancelled; it can't reach the device", warnings[1])
    wait.till(5, "it has ended", function() return not next(group.tasks) end)
  end)
end)

describe("a refused version", function()
  it_runs("leaves the old one's address mask", function()
    start "d.dma = { bits = 28 }"
    save "d.dma = { bits = 40 } function d.start() return nil, 'no' end"
    assert.is_nil((dev:reload()))
    assert.equal(2 ^ 28 - 1, dev.dma.mask)
  end)

  it_runs("leaves no interrupt thread behind that was not there", function()
    path = files.write("init.lua", 'return { name = "edu", registers = require "drivers.edu.registers" }')
    dev = assert(luio.start(path, "sim:edu"))
    save "function d.start() return nil, 'no' end"
    assert.is_nil((dev:reload()))
    assert.is_false(dev.irqs[0]:started())
  end)

  it_runs("gives back an interrupt that its start took", function()
    start [[function d.start(dev, reason)
      if reason ~= "fresh" then return nil, "took " .. dev.irqs[0]:wait(10).IRQ_STATUS end
      dev.state.seen = {}
      luio.spawn(function()
        while true do
          local event = dev.irqs[0]:wait(10)
          if event then table.insert(dev.state.seen, event.IRQ_STATUS) end
        end
      end)
      return true
    end]]
    luio.sleep(0.01)
    pending(7)
    local _, message = dev:reload()
    assert.matches("in swap, version 1 goes on: driver edu did not start on sim:edu: took 7", message)
    wait.poll(2, function() return dev.state.seen[1] end)
    assert.same({ 7 }, dev.state.seen)
  end)

  it_runs("whose start does not end is ended", function()
    live.START = 0.3
    start "function d.start(dev, reason) if reason == 'reload' then luio.sleep(60) end return true end"
    local _, message, code = dev:reload()
    assert.matches("driver edu did not start on sim:edu: it did not end within 0.3 s", message)
    assert.equal("ETIMEDOUT", code)
    assert.equal(1, dev.live.version.id)
  end)

  it_runs("gives back what several tasks had in hand, in the order in which it came", function()
    live.PROBATION = 60
    start [[function d.start(dev, reason)
      dev.state.seen = dev.state.seen or {}
      if reason == "fresh" then
        luio.spawn(function()
          while true do
            local event = dev.irqs[0]:wait(10)
            if event then table.insert(dev.state.seen, event.IRQ_STATUS) end
          end
        end)
        return true
      end
      local taken = 0
      for i = 1, 4 do
        luio.spawn(function()
          dev.irqs[0]:wait(10)
          taken = i
          luio.sleep(0.03)
          if i == 4 then error "can not" end
          luio.sleep(10)
        end)
        dev.regs.IRQ_RAISE:write(i)
        while taken < i do luio.sleep(0.001) end
      end
      return true
    end]]
    local told
    dev.live.on_report = function(report) told = report end
    assert(dev:reload())
    wait.till(2, "all given back", function() return told and #dev.state.seen == 4 end)
    assert.same({ 4, { 1, 2, 3, 4 } }, { told.waited, dev.state.seen })
  end)

  it_runs("keeps what it freed for the old one", function()
    live.PROBATION = 60
    start [[d.dma = { bits = 28 }
      function d.start(dev, reason)
        dev.state.ring = dev.dma:alloc(4096, { name = "ring" })
        if reason == "reload" then
          dev.state.ring:free()
          luio.spawn(function() luio.sleep(0.02) error "no" end)
        end
        return true
      end
      function d.ring(dev) return dev.state.ring end]]
    dev.driver.ring(dev):write(0, "mine")
    local told
    dev.live.on_report = function(report) told = report end
    assert(dev:reload())
    wait.till(2, "undone", function() return told end)
    assert.same({ 1, "mine" }, { dev.live.version.id, dev.driver.ring(dev):read(0, 4) })
    assert.equal(1, dev.dma:stats().buffers)
  end)

  it_runs("by a check that waits: nobody meets a device that is out of reach meanwhile", function()
    start "function d.start(dev) luio.spawn(function() while true do luio.sleep(0.005) dev.regs.ID:read() end end) return true end"
    save "function d.check() luio.sleep(0.05) end"
    local _, message = dev:reload()
    assert.matches("check of driver edu threw: .*init.lua:3: a wait: a driver is being loaded", message)
    luio.sleep(0.03)
    assert.same({}, failures)
  end)
end)

describe("a reload", function()
  it_runs("may be asked for by the driver's own task", function()
    for _, wait_in_start in ipairs { "", "luio.sleep(0.01)" } do
      local text = ([[function d.start(dev, reason)
          if reason == "reload" then %s end
          luio.spawn(function()
            luio.sleep(0.02)
            if dev.state.asked then return end
            dev.state.asked = true
            dev:reload()
          end)
          return true
        end]]):format(wait_in_start)
      start(text)
      save(text .. " -- 2")
      wait.till(2, "version 2 stands", function()
        local is = dev.live
        return is.version.id == 2 and not is.reloading and not is.probation
      end)
      assert(dev:reload())
      assert(dev:close())
    end
    dev = nil
  end)

  it_runs("is refused while the device is being closed, or is gone", function()
    start "function d.start() return true end function d.stop() luio.sleep(0.1) end"
    local closing = luio.spawn(function() assert(dev:close()) end)
    assert.matches("the device is being closed", (select(2, dev:reload())))
    assert(closing:join(20))
    start "function d.start() return true end"
    dev.sim.unplug()
    assert.matches("the device is gone", (select(2, dev:reload())))
  end)

  it_runs("and a device that returns don't get into each other's way", function()
    local text = [[function d.start(dev, reason) if reason == "returned" then luio.sleep(0.1) dev.regs.ID:read() end return true end
      function d.gone(dev) dev.state.gone = true end]]
    start(text)
    dev:watch_presence()
    dev.sim.unplug()
    wait.till(2, "told that it is gone", function() return dev.state.gone end)
    dev.sim.plug()
    wait.till(2, "it is back", function() return not dev.gone end)
    assert.matches("started already", (select(2, dev:reload()))) -- start has not ended
    assert(dev:wait_return(20))
    save(text .. " -- 2")
    assert(dev:reload())
    assert.same({ 2, true }, { dev.live.version.id, not dev.gone })
  end)

  it_runs("whose version notices that the device is gone, and fails of it, lets it come back", function()
    live.PROBATION = 60
    start "function d.start() return true end"
    dev:watch_presence()
    save "function d.start(dev) luio.spawn(function() luio.sleep(0.02) dev:vanish 'reads give all ones' error 'gone' end) return true end"
    assert(dev:reload())
    wait.till(2, "it is gone", function() return dev.gone end)
    dev.sim.plug()
    assert(dev:wait_return(20))
    assert.equal(1, dev.live.version.id)
  end)

  it_runs("to a version without interrupts ends their thread", function()
    start "function d.start() return true end"
    path = dev.live.version.path
    local f = assert(io.open(path, "w"))
    f:write 'return { name = "edu", registers = require "drivers.edu.registers", start = function() return true end }'
    f:close()
    assert(dev:reload())
    assert.is_false(dev.irqs[0]:started())
  end)

  it_runs("tells what it loads, and only of a version that has stood its probation that it stays", function()
    live.PROBATION = 60
    start ""
    local accepted, staged = {}, {}
    function dev.live.on_accept(v) table.insert(accepted, v.id) end
    function dev.live.on_staged(texts) table.insert(staged, (next(texts) and texts[next(texts)]:match "%-%- (%w+)")) end
    save "-- two"
    assert(dev:reload())
    assert.equal(dev.live.before.id, 1)
    save "-- three"
    assert(dev:reload())
    save "-- broken\nd.x = ="
    assert.is_nil((dev:reload()))
    assert.same({}, accepted)
    assert.same({ "two", "three", "broken" }, staged)
    live.PROBATION = 0.01
    save "-- five"
    assert(dev:reload())
    wait.till(2, "the end of probation", function() return accepted[1] end)
    assert.same({ 4 }, accepted)
    assert.is_nil(dev.live.before)
  end)
end)

describe("what a version keeps", function()
  it_runs("of interrupts in hand goes with the tasks that had them", function()
    start [[function d.start() return true end
      function d.one(dev)
        local t = luio.spawn(function() return dev.irqs[0]:wait(2) end)
        dev.regs.IRQ_RAISE:write(1)
        return t:join(3)
      end]]
    for _ = 1, 50 do assert(dev.driver.one(dev)) end
    collectgarbage()
    collectgarbage()
    local n = 0
    for _ in pairs(dev.irqs[0].source.holders) do n = n + 1 end
    assert.is_true(n <= 2)
  end)

  it_runs("is what it put into dev.state, also if that is another table", function()
    start "function d.start(dev) dev.state = { packets = 7 } return true end function d.packets(dev) return dev.state.packets end"
    assert.equal(7, dev.state.packets)
    save "function d.packets(dev) return dev.state.packets + 1 end"
    assert(dev:reload())
    assert.equal(8, dev.driver.packets(dev))
  end)

  it("is its own, also of a driver that was written by hand and runs on two devices", function()
    local mine = { name = "mine", start = function() return true end, who = function(d) return d.root end }
    local a, b = assert(driver.start(mine, assert(luio.open "sim:edu"))), assert(driver.start(mine, assert(luio.open "sim:edu")))
    assert.is_true(a.driver.who(a) == a and b.driver.who(b) == b)
    assert(a:close())
    assert(b:close())
  end)

  it("has honest names", function()
    path = files.write("init.lua", "")
    save "function d.step() end function d.one() end function d.done() end function d.check1() end function d.stat() end"
    assert.is_table((assert(luio.load(path))))
    save "function d.strat() end"
    local _, message = luio.load(path)
    assert.matches("d?edu.strat: did you mean start%?", message)
  end)
end)
