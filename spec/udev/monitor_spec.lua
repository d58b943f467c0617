--- Hot-plug events that umockdev sends in the kernel's place. A real removal is for the guest. This
--- file tests which events arrive, in which order, and which do not.

local udev = require "spec.support.umockdev"

describe("a monitor", function()
  local tree = udev.pci(4, {}, {}):gsub("E: SUBSYSTEM=pci\n", "%0E: DRIVER=uio_pci_generic\n")
    .. udev.device("/devices/platform/other", "platform", {})

  it("tells of UIO and PCI devices in order, and of no others", function()
    local got = udev.run(tree, [[
      local bed, pci = testbed(), "/sys/devices/pci0000:00/0000:00:04.0"
      local monitor = assert(luio.monitor())
      local before = luio.now()
      bed.uevent(pci .. "/uio/uio4", "add")
      bed.uevent("/sys/devices/platform/other", "add")
      bed.uevent(pci, "unbind")
      bed.uevent(pci .. "/uio/uio4", "remove")
      local events = {}
      luio.run(function()
        for i = 1, 3 do
          events[i] = assert(monitor:wait(5))
          local time = events[i].time
          events[i].time = time >= before and time <= luio.now()
        end
        local _, message, code = monitor:wait(0.01)
        events.message, events.code = message, code
      end)
      monitor:close()
      bed.close()
      return events]])
    assert.same({
      { action = "add", subsystem = "uio", address = "uio4", time = true },
      { action = "unbind", subsystem = "pci", address = "0000:00:04.0", driver = "uio_pci_generic", time = true },
      { action = "remove", subsystem = "uio", address = "uio4", time = true },
      message = "no device came or went within 0.01 s", code = "ETIMEDOUT",
    }, got)
  end)

  it("says why a wait ends early: it was closed, or its socket has an error, as when events are lost", function()
    local got = udev.run(tree, [[
      local ffi, posix, uv = require "ffi", require "luio.posix", require "luv"
      local function wait(meanwhile)
        local monitor = assert(luio.monitor())
        local _, message, code
        luio.run(function()
          local waiting = luio.spawn(function() _, message, code = monitor:wait(5) end)
          meanwhile(monitor)
          assert(waiting:join(5))
        end)
        monitor:close()
        return { message, code }
      end
      -- In the place of its socket one whose error the next read takes: nobody has that port.
      local function fail(monitor)
        local there = uv.new_udp()
        there:bind("127.0.0.1", 0)
        local port, socket = there:getsockname().port, posix.socket(posix.AF_INET, posix.SOCK_DGRAM + posix.SOCK_NONBLOCK, 0)
        there:close()
        local bytes = string.char(posix.AF_INET, 0, math.floor(port / 256), port % 256, 127, 0, 0, 1) .. ("\0"):rep(8)
        assert(posix.connect(socket, bytes, #bytes) == 0)
        monitor.watch:stop()
        assert(posix.dup2(socket, require("luio.ffi").C.luio_monitor_fd(monitor.handle)) >= 0)
        assert(monitor.watch:start())
        posix.write(socket, "x", 1)
        posix.close(socket)
      end
      return { closed = wait(function(monitor) monitor:close() end), failed = wait(fail) }]])
    assert.same({
      closed = { "closed during the wait", "ECANCELED" }, failed = { "watch for devices: ECONNREFUSED", "ECONNREFUSED" },
    }, got)
  end)

  it("wakes a task that waits, which then finds the device gone", function()
    local got = udev.run(tree, [[
      local bed, pci = testbed(), "/sys/devices/pci0000:00/0000:00:04.0"
      local monitor = assert(luio.monitor())
      local result = { before = #assert(luio.list()) }
      luio.run(function()
        luio.spawn(function()
          luio.sleep(0.02)
          bed.uevent(pci, "remove")
          bed.remove(pci)
        end)
        result.event = assert(monitor:wait(5)).action
        luio.sleep(0.05)
      end)
      result.after = attempt "0000:00:04.0"
      monitor:close()
      bed.close()
      return result]])
    assert.equal(1, got.before)
    assert.equal("remove", got.event)
    assert.equal("ENODEV", got.after.code)
  end)
end)
