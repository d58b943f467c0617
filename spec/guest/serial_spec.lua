--- A real 16550 by I/O ports and a kernel's interrupts: QEMU's pci-serial. LUIO_WIRE is one with a cable to /dev/virtio-ports/luio.wire,
--- where the spec is the other side. Everything else that luio.serial promises is shown without a guest: spec/qemu/serial_spec.lua,
--- which says what this chip can't do.

local amount = require "spec.support.amount"
local conformance = require "spec.serial.conformance"
local files = require "spec.support.files"
local luio = require "luio"
local serial = require "luio.serial"
local sysfs = require "spec.support.sysfs"
local wait = require "spec.support.wait"

local SERIAL, WIRE = "0000:00:06.0", os.getenv "LUIO_WIRE"
local FAR = "/dev/virtio-ports/luio.wire"
local BYTES = amount(4096, 1048576)

conformance {
  address = SERIAL, kind = "16550A", fifo = 16,
  only = {
    "carries every value of a byte, in a task and outside of one", "waits by interrupt",
    "tells who waits that the device is gone, keeps what had come, and works again when it is back",
  },
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
    port = assert(serial.open(WIRE, { flow = "rts/cts", rx = 1024 }))
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
end)
