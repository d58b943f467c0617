--- drivers/uart16550 on QEMU's pci-serial, without a guest. What a kernel has to do with it is shown in a guest:
--- spec/guest/serial_spec.lua. Statements about the chip are about QEMU's model, from its source (7.2, hw/char/serial.c).
---
--- QEMU gives the chip nothing that its FIFO has no room for, so it never overruns from outside: this is a flow control of its own
--- that ignores the chip's RTS. Bytes that are lost without the port's flow control are lost, and counted, in the port's ring. In
--- the loop a character goes in by force, so there the overrun is the chip's. Lines of a modem end at QEMU's socket.

local amount = require "spec.support.amount"
local conformance = require "spec.serial.conformance"
local files = require "spec.support.files"
local line_end = require "spec.support.line_end"
local luio = require "luio"
local serial = require "luio.serial"
local wait = require "spec.support.wait"

local BYTES, text_of = amount(16384, 1048576), line_end.text_of

conformance {
  address = "qemu:pci-serial,bus=rp", qemu = { "-device", "pcie-root-port,id=rp,chassis=1" }, kind = "16550A", fifo = 16,
  leave = function(port)
    assert(port.dev.qemu:command("device_del", { id = "luio-device" }))
    assert(port.dev.qemu:wait("DEVICE_DELETED", 100, { device = "luio-device" }))
  end,
  back = function(port) assert(port.dev.qemu:command("device_add", { driver = "pci-serial", bus = "rp", id = "luio-device" })) end,
  quiet_lines = "QEMU tells of no line that changes in loopback",
  no_break = "QEMU loops no break back",
}

describe("a serial line between QEMU's 16550 and a socket", function()
  local port, far, came

  -- The socket is the other end of the cable: what came out of it is in `came`.
  local function open(options)
    came = {}
    port, far = line_end.take(function(chardev)
      return assert(serial.open(assert(luio.open("qemu:pci-serial,chardev=wire", { qemu = { "-chardev", chardev } })), options))
    end)
    far:read_start(function(_, part) table.insert(came, part) end)
  end

  after_each(function()
    if far and not far:is_closing() then far:close() end
    if port then assert(port:close()) end
    port, far = nil, nil
  end)
  teardown(files.clean)

  it(("receives %d bytes, and loses none with flow control, though it is read slowly"):format(BYTES), function()
    open { flow = "rts/cts", rx = 4096 }
    local sent, parts, left = text_of(BYTES), {}, BYTES
    luio.run(function()
      far:write(sent)
      wait.till(60, "the ring is so full that no more is taken", function() return port:stats().withheld == 1 end)
      while left > 0 do
        if left % 4 == 0 then luio.sleep(0.001) end
        local part = assert(port:read_some(4096, 300))
        parts[#parts + 1], left = part, left - #part
      end
    end)
    assert.is_true(sent == table.concat(parts))
    local stats = port:stats()
    assert.same({ BYTES, 0, 0 }, { stats.rx_bytes, stats.rx_dropped, stats.overruns })
  end)

  it(("sends %d bytes, and none is lost"):format(BYTES), function()
    open { flow = "rts/cts" }
    local text = text_of(BYTES)
    luio.run(function()
      assert(port:write(text, 600))
      assert(port:drain(60))
      wait.till(60, "all has arrived", function() return #table.concat(came) >= BYTES end)
    end)
    assert.is_true(text == table.concat(came))
    assert.equal(BYTES, port:stats().tx_bytes)
  end)

  it("counts what it drops without flow control, to the byte", function()
    open { rx = 1024 }
    local sent = text_of(8192)
    far:write(sent)
    wait.till(60, "all has come", function() return port:stats().rx_bytes == 8192 end)
    assert.equal(8192 - 1024, port:stats().rx_dropped)
    assert.equal(sent:sub(1, 1024), port:read(2000, 0.05))
  end)

  it("hears a break", function()
    open {}
    luio.run(function()
      local heard = luio.spawn(function() return port:wait_break(100) end)
      assert(port.dev.qemu:command("chardev-send-break", { id = "wire" }))
      assert(heard:join(100))
      assert.is_true(heard.results[1])
    end)
    assert.equal(1, port:stats().breaks)
    assert.is_nil(port:read(1, 0.02))
  end)
end)
