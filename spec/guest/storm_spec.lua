--- Acknowledging on real hardware, as far as QEMU is that: an SD host controller, which has two status registers, and an audio card
--- (ES1370), whose interrupt only its enable bit takes back. Also the results of wrong acknowledgements.

local luio = require "luio"
local program = require "spec.support.program"
local wait = require "spec.support.wait"

local SD, AUDIO, EDU = os.getenv "LUIO_SD", os.getenv "LUIO_AUDIO", "0000:00:04.0"
local LONG = 60

-- SD Host Controller Simplified Specification, 2.2; FEERR forces bits of ERRINTSTS.
local sd = luio.registers {
  NORINTSTS = { 0x30, 16, "w1c" },
  ERRINTSTS = { 0x32, 16, "w1c" },
  NORINTSTSEN = { 0x34, 16, "rw" },
  ERRINTSTSEN = { 0x36, 16, "rw" },
  NORINTSIGEN = { 0x38, 16, "rw" },
  ERRINTSIGEN = { 0x3a, 16, "rw" },
  FEERR = { 0x52, 16, "wo" },
}

describe("an SD host with two status registers", function()
  local dev

  local function start(irq)
    dev = assert(luio.start({ name = "sd", match = { pci = "1b36:0007" }, registers = sd, irq = irq }, SD))
    dev.regs.ERRINTSTSEN:write(0x1ff)
    dev.regs.ERRINTSIGEN:write(0x1ff)
    dev.regs.ERRINTSTS:write(0xffff)
    while dev.irqs[0]:wait(0.02) do end
  end

  after_each(function()
    dev.regs.ERRINTSIGEN:write(0)
    dev.regs.ERRINTSTS:write(0xffff)
    assert(dev:close())
  end)

  it("interrupts once for each trigger, each register acknowledged with its own bits", function()
    start { capture = { "NORINTSTS", "ERRINTSTS" }, ack = { "NORINTSTS", "ERRINTSTS" } }
    local before = dev.irqs[0]:stats().interrupts
    for bit_number = 0, 6 do
      dev.regs.FEERR:write(2 ^ bit_number)
      assert.equal(2 ^ bit_number, assert(dev.irqs[0]:wait(LONG)).ERRINTSTS)
      assert.equal(0, dev.regs.ERRINTSTS:read())
    end
    assert.is_nil(dev.irqs[0]:wait(0.1))
    assert.equal(7, dev.irqs[0]:stats().interrupts - before)
    assert.is_nil(dev.irqs[0]:storm())
  end)

  it("is a storm with the bits of the other register: named, and held up", function()
    start { capture = { "NORINTSTS", "ERRINTSTS" }, ack = { { "ERRINTSTS", "NORINTSTS" } } }
    dev.regs.FEERR:write(2)
    wait.till(LONG, "a storm", function() return dev.warnings[1] end)
    assert.matches(("^interrupt storm of %s: %%d+ interrupts/s, each with NORINTSTS=0x8000 ERRINTSTS=2: its acknowledgement "
      .. "%%(writes ERRINTSTS := NORINTSTS%%) does not take the line back%%. One is let through every 5 ms"):format(SD), dev.warnings[1])
    local storm, last = assert(dev.irqs[0]:storm()), nil
    while dev.irqs[0]:poll() do end
    for _ = 1, 20 do
      local event = assert(dev.irqs[0]:wait(LONG))
      if last then assert.is_true(event.time - last >= storm.pause) end
      last = event.time
    end
    dev.regs.ERRINTSTS:write(2)
    wait.till(LONG, "its end", function() return dev.irqs[0]:storm().ended end)
    local stats = dev.irqs[0]:stats()
    assert.equal(stats.interrupts, stats.delivered + stats.overflow)
  end)
end)

-- AudioPCI ES1370, Rev 1.3: registers from 0x30 on lie behind MEMPAGE.
local audio = luio.registers {
  CONTROL = { 0x00, 32, "rw", DAC2_EN = 5, PCLKDIV = { 28, 16 } },
  STATUS = { 0x04, 32, "ro", DAC2 = 1, INTR = 31 },
  MEMPAGE = { 0x0c, 32, "rw" },
  SERIAL = { 0x20, 32, "rw", P2_INTR_EN = 9, P2_END_INC = { 21, 19 }, P2_S_EB = 3, P2_S_MB = 2 },
  DAC2_SCOUNT = { 0x28, 32, "rw" },
  DAC2_FRAME = { 0x38, 32, "rw" },
  DAC2_SIZE = { 0x3c, 32, "rw" },
}

describe("an audio card whose interrupt its enable bit takes back", function()
  local dev
  after_each(function() assert(dev:close()) end)

  it("interrupts once for each period, with two acknowledgements in a row", function()
    dev = assert(luio.start({
      name = "audio", match = { pci = "1274:5000" }, registers = audio, dma = {},
      irq = { capture = { "STATUS", "SERIAL" }, ack = { { "SERIAL", "SERIAL", mask = 0xfffff8ff }, { "SERIAL", "SERIAL" } } },
    }, AUDIO))
    local regs, buffer = dev.regs, assert(dev.dma:alloc(4096))
    regs.MEMPAGE:write(0xc)
    regs.DAC2_FRAME:write(buffer.iova)
    regs.DAC2_SIZE:write(4096 / 4 - 1)
    regs.DAC2_SCOUNT:write(255)
    local serial = regs.SERIAL:encode { P2_INTR_EN = 1, P2_S_EB = 1, P2_S_MB = 1, P2_END_INC = 2 }
    regs.SERIAL:write(serial)
    regs.CONTROL:write { DAC2_EN = 1, PCLKDIV = 30 }
    for _ = 1, 10 do
      local event = assert(dev.irqs[0]:wait(LONG))
      assert.equal(1, regs.STATUS:decode(event.STATUS).DAC2)
      assert.equal(serial, event.SERIAL)
    end
    regs.CONTROL:write { DAC2_EN = 0 }
    assert.equal(serial, regs.SERIAL:read())
    assert.is_nil(dev.irqs[0]:storm())
  end)
end)

describe("a storm of luio run's", function()
  it("is named there and by luio doctor, and no more once it is over", function()
    local running = program.start { "run", "spec/support/drivers/stuck", EDU }
    finally(function() running:close() end)
    running:wait(("luio: interrupt storm of %s: %%d+ interrupts/s, each with IRQ_STATUS=1: its acknowledgement %%(writes IRQ_ACK := "
      .. "IRQ_STATUS & 0xfffffffe%%) does not take the line back"):format(EDU), LONG)
    local out = program.run("doctor " .. EDU)
    assert.matches("problem  storm: an interrupt storm: %d+ interrupts/s, and at each of 20 looks it held its line: what is done about "
      .. "them does not take it back; process %d+ %(.*run .*%) drives it", (out:gsub("\n +", " ")))
    assert.matches("luio's driver edu reads IRQ_STATUS, writes IRQ_ACK := IRQ_STATUS, unmasks", (out:gsub("\n +", " ")))
    running:kill "sigterm"
    assert.equal(0, running:status(LONG))
    out = program.run("doctor " .. EDU)
    assert.is_nil(out:find("storm", 1, true))
  end)
end)
