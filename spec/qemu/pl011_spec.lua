--- drivers/pl011 on the UART of QEMU's board virt, with a socket at the other end of the line. Its model keeps to all that luio.serial
--- promises (spec/serial/models_spec.lua). Statements about QEMU's UART are from its source (7.2, hw/char/pl011.c): it has no loop before 8.2,
--- takes from the socket only what its FIFO has room for, and sends at once: the whole machine waits until the other end has taken the
--- character. So what this process itself would have to read goes into a file.

local amount = require "spec.support.amount"
local arm_board = require "spec.support.arm_board"
local files = require "spec.support.files"
local line_end = require "spec.support.line_end"
local luio = require "luio"
local serial = require "luio.serial"
local wait = require "spec.support.wait"

local BYTES, text_of = amount(8192, 262144), line_end.text_of

arm_board.describe("a serial line between QEMU's PL011 and a socket", function()
  local port, far

  local function start(chardev, options)
    port = assert(serial.open(assert(luio.open("qemu:virt/pl011", { qemu = { "-chardev", chardev, "-serial", "chardev:wire" } })), options))
  end

  local function open(options)
    far = select(2, line_end.take(function(chardev) start(chardev, options) end))
  end

  after_each(function()
    if far and not far:is_closing() then far:close() end
    if port then assert(port:close()) end
    assert(luio.close_all())
    port, far = nil, nil
  end)
  teardown(files.clean)

  it("says what it is", function()
    open { baud = 9600 }
    assert.same({ "PL011", 16, true }, { port.kind, port.fifo, port.auto_flow })
    assert.equal(16 * 9600, math.floor(24000000 * 64 / (64 * port.dev.regs.UARTIBRD:read() + port.dev.regs.UARTFBRD:read()) + 0.5))
  end)

  it(("receives %d bytes, by interrupt, and loses none with flow control, though it is read slowly"):format(BYTES), function()
    open { flow = "rts/cts", rx = 1024 }
    local sent, parts, left = text_of(BYTES), {}, BYTES
    luio.run(function()
      far:write(sent)
      wait.till(60, "the ring is so full that no more is taken", function() return port:stats().withheld == 1 end)
      while left > 0 do
        local part = assert(port:read_some(1024, 300))
        parts[#parts + 1], left = part, left - #part
      end
    end)
    assert.is_true(sent == table.concat(parts))
    local stats = port:stats()
    assert.same({ BYTES, 0, 0 }, { stats.rx_bytes, stats.rx_dropped, stats.overruns })
    assert.is_true(stats.interrupts > 0)
  end)

  it(("sends %d bytes, and none is lost"):format(BYTES), function()
    local path, text = files.write("came", ""), text_of(BYTES)
    start("file,id=wire,path=" .. path)
    luio.run(function()
      assert(port:write(text, 600))
      assert(port:drain(60))
    end)
    assert.is_true(text == files.read(path))
    assert.equal(BYTES, port:stats().tx_bytes)
  end)

  it("wakes a task by interrupt, also after its code was exchanged", function()
    open()
    luio.run(function()
      for round = 1, 3 do
        local reader = luio.spawn(function() return port:read(5, 100) end)
        luio.sleep(0.01)
        far:write "hello"
        assert(reader:join(100))
        assert.equal("hello", reader.results[1])
        if round < 3 then assert(port.dev:reload()) end
      end
    end)
  end)

  it("hears a break", function()
    open()
    luio.run(function()
      local heard = luio.spawn(function() return port:wait_break(100) end)
      assert(port.dev.qemu:command("chardev-send-break", { id = "wire" }))
      assert(heard:join(100))
      assert.is_true(heard.results[1])
    end)
    assert.equal(1, port:stats().breaks)
    assert.is_nil(port:read(1, 0.02))
  end)

  it("loops back where the UART does, and says so where it does not", function()
    local looped, message, code = serial.open("qemu:virt/pl011", { loopback = true })
    if looped then
      port = looped
      assert(port:write("again", 1))
      assert.equal("again", port:read(5, 100))
    else
      assert.equal("ENOTSUP", code)
      assert.truthy(message:find("loopback: no character comes back: this UART has none", 1, true), message)
    end
  end)

  it("is refused by other silicon", function()
    local dev, message, code = luio.start("pl011", assert(luio.open "qemu:virt/pl031"))
    assert.is_nil(dev)
    assert.equal("ENODEV", code)
    assert.truthy(message:find("pl011", 1, true), message)
  end)
end)
