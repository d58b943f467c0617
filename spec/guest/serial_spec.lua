--- A real 16550 by I/O ports: QEMU's pci-serial. Statements about it here are about QEMU's model, from its source (7.2,
--- hw/char/serial.c). LUIO_WIRE is one with a cable to /dev/virtio-ports/luio.wire, where the spec is the other side.
---
--- QEMU gives the chip nothing that its FIFO has no room for, so it never overruns from outside: this is a flow
--- control of its own that ignores the chip's RTS. Bytes that are lost without the port's flow control are lost, and counted, in
--- the port's ring. In the loop a character goes in by force, so there the overrun is the chip's.

local amount = require "spec.support.amount"
local conformance = require "spec.serial.conformance"
local files = require "spec.support.files"
local luio = require "luio"
local qmp = require "spec.support.qmp"
local serial = require "luio.serial"
local sysfs = require "spec.support.sysfs"
local wait = require "spec.support.wait"

local SERIAL, WIRE = "0000:00:06.0", os.getenv "LUIO_WIRE"
local FAR = "/dev/virtio-ports/luio.wire"
local BYTES = amount(16384, 1048576)

teardown(qmp.close)

conformance {
  address = SERIAL, kind = "16550A", fifo = 16,
  quiet_lines = "QEMU tells of no line that changes in loopback",
  no_break = "QEMU loops no break back",
  leave = function() sysfs.unbind(SERIAL) end,
  back = function() sysfs.bind(SERIAL) end,
}

describe("a serial line between the guest's 16550 and QEMU", function()
  local port, sent

  before_each(function()
    if not WIRE then return end
    sent = files.write("sent", "")
    assert.equal(0, os.execute(("head -c %d /dev/urandom > %s"):format(BYTES, sent)))
  end)
  after_each(function()
    if port then assert(port:close()) end
    port = nil
  end)

  local function checksum(path) return (files.shell(("sha256sum < %s"):format(path))) end

  -- Whether the other side has taken or sent all: a program of its own, so that both ends work at the same time.
  local function in_background(command, done) os.execute(("{ %s; echo > %s; } &"):format(command, done)) end

  it(("receives %d bytes, and loses none with flow control, though it is read slowly"):format(BYTES), function()
    if not WIRE then return pending "LUIO_WIRE names no line" end
    port = assert(serial.open(WIRE, { flow = "rts/cts", rx = 4096 }))
    local done, began = files.write("done", ""), luio.now()
    in_background(("cat %s > %s"):format(sent, FAR), done)
    local parts, left = {}, BYTES
    luio.run(function()
      while left > 0 do
        if left % 4 == 0 then luio.sleep(0.001) end
        local part = assert(port:read_some(4096, 300))
        parts[#parts + 1], left = part, left - #part
      end
    end)
    local got = files.write("got", table.concat(parts))
    assert.equal(checksum(sent), checksum(got))
    local stats = port:stats()
    assert.same({ BYTES, 0, 0 }, { stats.rx_bytes, stats.rx_dropped, stats.overruns })
    print(("received: %.0f bytes/s"):format(BYTES / (luio.now() - began)))
  end)

  it(("sends %d bytes, and none is lost"):format(BYTES), function()
    if not WIRE then return pending "LUIO_WIRE names no line" end
    port = assert(serial.open(WIRE, { flow = "rts/cts" }))
    local done, got, open, began = files.write("done", ""), files.write("got", ""), files.write("open", ""), luio.now()
    in_background(("exec 4<%s; echo > %s; head -c %d <&4 > %s"):format(FAR, open, BYTES, got), done)
    local f = assert(io.open(sent, "rb"))
    local text = f:read "*a"
    f:close()
    luio.run(function()
      wait.till(60, "the other side is open", function() return files.read(open) ~= "" end)
      assert(port:write(text, 600))
      assert(port:drain(60))
    end)
    wait.till(60, "all has arrived", function() return files.read(done) ~= "" end)
    assert.equal(checksum(sent), checksum(got))
    assert.equal(BYTES, port:stats().tx_bytes)
    print(("sent: %.0f bytes/s"):format(BYTES / (luio.now() - began)))
  end)

  it("counts what it drops without flow control, to the byte", function()
    if not WIRE then return pending "LUIO_WIRE names no line" end
    port = assert(serial.open(WIRE, { rx = 1024 }))
    local done = files.write("done", "")
    in_background(("head -c 8192 %s > %s"):format(sent, FAR), done)
    wait.till(60, "all has come", function() return port:stats().rx_bytes == 8192 end)
    assert.equal(8192 - 1024, port:stats().rx_dropped)
    local f = assert(io.open(sent, "rb"))
    local first = f:read(1024)
    f:close()
    assert.equal(first, port:read(2000, 0.05))
  end)

  it("hears a break", function()
    if not WIRE then return pending "LUIO_WIRE names no line" end
    port = assert(serial.open(WIRE))
    luio.run(function()
      local heard = luio.spawn(function() return port:wait_break(100) end)
      qmp.tell '{"execute":"chardev-send-break","arguments":{"id":"wire"}}'
      assert(heard:join(100))
      assert.is_true(heard.results[1])
    end)
    assert.equal(1, port:stats().breaks)
    assert.is_nil(port:read(1, 0.02))
  end)
end)
