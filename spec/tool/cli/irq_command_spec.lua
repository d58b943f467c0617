--- `luio irq`, as a shell sees it, on a simulated device; and its top half when neither the user nor a driver
--- states how to acknowledge.

local luio = require "luio"
local files = require "spec.support.files"
local interrupted = require "spec.support.interrupted"
local program = require "spec.support.program"

local R = { IRQ_STATUS = 0x24, IRQ_RAISE = 0x60, IRQ_ACK = 0x64 } -- edu's

local function command(args) return program.run("irq " .. args) end
local function as_json(args) return program.json("irq " .. args) end

-- The same model where no driver is beside it, so that no map and no top half is known.
local function bare()
  return "sim:" .. files.write("model.lua", files.read "drivers/edu/model.lua")
end

describe("a top half with unmask = false", function()
  local dev, regs, irq
  before_each(function()
    dev = assert(luio.open "sim:edu")
    regs, irq = dev.regions[0], dev.irqs[0]
  end)
  after_each(function() assert(dev:close()) end)

  it("leaves the source masked, after each interrupt and from the start", function()
    assert(dev.config:write16(4, 0x402))
    irq:setup { capture = { { "cause", R.IRQ_STATUS } }, unmask = false }
    assert(irq:start())
    assert.is_true(dev.config:command().intx_disable)
    regs:write32(R.IRQ_RAISE, 1)
    assert.is_nil(irq:wait(0.05))
    assert(irq:unmask())
    assert.equal(1, assert(irq:wait(10)).cause)
    assert.is_true(dev.config:command().intx_disable)
    assert.is_nil(irq:wait(0.05)) -- the line is still up, and nothing comes
    assert.equal(1, irq:stats().interrupts)
  end)

  it("lets one through for each unmask", function()
    assert(dev.config:write16(4, 0x402)) -- else the kernel's part would take the first one now, and mask
    irq:setup { unmask = false }
    regs:write32(R.IRQ_RAISE, 1)
    for i = 1, 5 do
      assert(irq:unmask()) -- starts the thread, the first time
      assert(irq:wait(10))
      assert.equal(i, irq:stats().interrupts)
    end
    assert.is_nil(irq:poll())
  end)

  it("is masked by hand, too, until it is unmasked", function()
    irq:setup { unmask = false }
    assert(irq:start())
    assert(dev:mask())
    assert.is_true(dev.config:command().intx_disable)
    regs:write32(R.IRQ_RAISE, 1)
    assert.is_nil(irq:wait(0.05))
    assert(irq:unmask())
    assert(irq:wait(10))
  end)

  it("takes a boolean", function()
    assert.has_error(function() irq:setup { unmask = 0 } end, "irq setup: setup: unmask is a number, not a boolean")
    irq:setup { unmask = true }
    regs:write32(R.IRQ_RAISE, 1)
    for _ = 1, 3 do assert(irq:wait(10)) end
    regs:write32(R.IRQ_ACK, 1)
  end)
end)

describe("luio irq", function()
  teardown(files.clean)

  it("raises interrupts and measures their way, by the driver's top half", function()
    local out, status = command "sim:edu --trigger IRQ_RAISE=1 --count 1000"
    assert.equal(0, status, out)
    assert.matches("^interrupts of sim:edu; each: reads IRQ_STATUS, writes IRQ_ACK := IRQ_STATUS, unmasks\n1000 interrupts, 1000 events, ", out)
    assert.matches(", 0 lost to a full ring, %d+/s\n", out)
    for _, part in ipairs { "latency", "interval", "trigger" } do
      assert.matches("\n" .. part .. "[^\n]*\n  min [%d.]+ %S+   median [%d.]+ %S+   p99 [%d.]+ %S+   max [%d.]+ %S+\n +[%d.<]+ %S+ +%d+", out)
    end
    assert.is_nil(out:find "\27")
  end)

  it("says the same as JSON", function()
    local doc, status, out = as_json "sim:edu --trigger IRQ_RAISE=0x101 --count 300"
    assert.equal(0, status, out)
    assert.same({ true, true, 300, 300, 300, 0 }, { doc.ok, doc.acknowledged, doc.triggered, doc.interrupts, doc.events, doc.overflow })
    assert.same({ 300, 299, 300 }, { doc.latency.count, doc.interval.count, doc.trigger.count })
    local sum = 0
    for _, bucket in ipairs(doc.trigger.buckets_us) do sum = sum + bucket.count end
    assert.equal(300, sum)
    assert.equal(100, #doc.first_events)
    assert.same({ IRQ_STATUS = { value = "0x00000101", fields = { DMA = 1, FACTORIAL = 1 } } }, doc.first_events[1].captured)
  end)

  it("triggers 100 times where no count is given", function()
    assert.equal(100, (as_json "sim:edu --trigger IRQ_RAISE=1").triggered)
  end)

  it("prints a line for each event while there are few, decoded", function()
    local out, status = command "sim:edu --trigger IRQ_RAISE=0x100 --count 3 --capture ID"
    assert.equal(0, status)
    assert.matches("\n +TIME +COUNT  CAPTURED\n", out)
    for i = 1, 3 do
      assert.matches(("\n +%%d+%%.%%d+ +%d  IRQ_STATUS 0x00000100 DMA=1  ID 0x010000ed MAJOR=1 MAGIC=0xed\n"):format(i), out)
    end
  end)

  it("needs no map and no driver: offsets do", function()
    local doc, status, out = as_json(bare() .. " --trigger 0x60:u32=5 --count 20 --capture 0x24:u32 --ack 0x64:u32=0x24:u32")
    assert.equal(0, status, out)
    assert.equal("reads 0x24:u32, writes 0x64:u32 := 0x24:u32, unmasks", doc.top_half)
    assert.same({ 20, "0x00000005" }, { doc.interrupts, doc.first_events[20].captured["0x24:u32"].value })
  end)

  it("takes names from a map that is given", function()
    local doc, status, out = as_json(bare() .. " --map edu --trigger IRQ_RAISE=2 --count 5 --ack IRQ_ACK=0xff")
    assert.equal(0, status, out)
    assert.equal("writes IRQ_ACK := 0x000000ff, unmasks", doc.top_half)
    assert.equal(5, doc.interrupts)
  end)

  it("prints the mask of an acknowledgement, its own and the driver's, and takes what it prints", function()
    local doc, status, out = as_json "sim:edu --trigger IRQ_RAISE=3 --count 5 --ack 'IRQ_ACK=IRQ_STATUS & 0xff' --ack 'IRQ_ACK=IRQ_STATUS&1'"
    assert.equal(0, status, out)
    assert.equal("reads IRQ_STATUS, writes IRQ_ACK := IRQ_STATUS & 0x000000ff, writes IRQ_ACK := IRQ_STATUS & 0x00000001, unmasks", doc.top_half)
    assert.equal(5, doc.interrupts)
    doc = as_json "sim:spec/support/drivers/two_status --trigger RAISE_P=1 --count 3"
    assert.equal("reads A, reads B, reads P, reads SERIAL, writes A := A, writes B := B, "
      .. "writes SERIAL := SERIAL & 0xfffffdff, writes SERIAL := SERIAL, unmasks", doc.top_half)
    assert.equal(3, doc.interrupts)
  end)

  it("leaves the line masked after the first, and says so, where nothing acknowledges", function()
    local out, status = command(bare() .. " --trigger 0x60:u32=1")
    assert.equal(0, status, out)
    assert.matches("note: not acknowledged: nothing says how %(%-%-ack REG=VALUE; %-%-unmask where the kernel driver does it%); "
      .. "the line stays masked after the first\n", out)
    assert.matches("\n1 interrupt, 1 event, ", out)
    out, status = command(bare() .. " --trigger 0x60:u32=1 --count 3")
    assert.equal(1, status)
    assert.matches("luio: 1 of 3 interrupts came: it is not acknowledged, so the line stays masked after the first", out)
  end)

  it("unmasks on request where nothing acknowledges", function()
    local doc, status = as_json(bare() .. " --trigger 0x60:u32=1 --count 50 --unmask")
    assert.equal(0, status)
    assert.is_true(doc.interrupts >= 50) -- the line stays up: it fires again and again
  end)

  it("says that an acknowledgement does not take the line back", function()
    local out, status = command "sim:edu --trigger IRQ_RAISE=1 --count 50 --ack IRQ_ACK=2"
    assert.equal(0, status)
    assert.matches("%d+ of them no trigger raised: .*does the acknowledgement not take the line back%?", out)
  end)

  it("fails when nothing comes, and says who may know why", function()
    local out, status = command "sim:edu --for 0.1"
    assert.equal(1, status)
    assert.matches("\n0 interrupts, 0 events, ", out)
    assert.matches("luio: no interrupt of sim:edu within 0%.1 s: luio doctor sim:edu says what may be in the way\n$", out)
    local doc
    doc, status, out = as_json "sim:edu --trigger LIVENESS=1 --for 0.1"
    assert.equal(1, status)
    assert.is_false(doc.ok)
    assert.matches("no interrupt of sim:edu within 0%.1 s of the trigger", out)
  end)

  it("counts what comes by itself, and ends when time is over", function()
    local script = files.write("script.lua", [[
      local luio = require "luio"
      luio.spawn(function()
        local dev
        repeat
          luio.sleep(0.02)
          dev = next(require("luio.device").open_devices)
        until dev and dev.irqs[0]:started()
        for i = 1, 3 do
          dev.regions[0]:write32(0x60, i)
          luio.sleep(0.02)
        end
      end)
      return require("luio.tool.cli").main { "irq", "sim:edu", unpack(arg) }
    ]])
    for args, wanted in pairs { ["--for 0.7"] = 0, ["--count 3"] = 0, ["--count 4 --for 0.7"] = 1 } do
      local out, status = program.run(script .. " " .. args)
      assert.equal(wanted, status, out)
      assert.matches("\n3 interrupts, 3 events, ", out)
      assert.matches(" 3  IRQ_STATUS 0x00000003 FACTORIAL=1\n", out)
      if wanted == 1 then assert.matches("luio: 3 of 4 interrupts of sim:edu within 0.7 s", out) end
    end
  end)

  it("ends with the sum at Ctrl-C, be it quiet or a storm", function()
    for args, wanted in pairs { [""] = 0, ["--trigger IRQ_RAISE=1 --count 1000000 --ack IRQ_ACK=2"] = 1 } do
      for _, signal in ipairs { "INT", "TERM" } do
        local out, status = interrupted(("%s irq sim:edu %s"):format(program.PATH, args), "interrupts of sim:edu", signal)
        assert.equal(wanted, status, out)
        assert.matches("\n%d+ interrupts?, %d+ events?, in ", out)
        -- A caller that asked for a number must be told that fewer came.
        if wanted == 1 then assert.matches("\nluio: %d+ of 1000000 interrupts came before it was ended\n$", out) end
      end
    end
  end)

  it("takes a slip for what it is, before it waits", function()
    for args, case in pairs {
      [""] = { 2, "missing argument" },
      ["sim:edu --count 0"] = { 2, "--count 0: a whole number from 1 was expected" },
      ["sim:edu --for soon"] = { 2, "--for soon: a number of seconds above 0 was expected" },
      ["sim:edu --ack IRQ_ACK"] = { 2, "--ack \"IRQ_ACK\": not an assignment" },
      ["sim:edu --trigger IRQ_RAISE"] = { 2, "--trigger \"IRQ_RAISE\": not an assignment" },
      ["sim:edu --capture 0x24:u33"] = { 2, "a width is u8, u16, u32 or u64, not u33" },
      ["sim:edu --capture 'IRQ_*'"] = { 2, "names several registers" },
      ["sim:edu --capture NOPE"] = { 1, "NOPE" },
      ["sim:edu --capture IRQ_ACK"] = { 1, "--capture IRQ_ACK: it is write-only" },
      ["sim:edu --ack IRQ_ACK=IRQ_STATUS.DMA"] = { 2, "IRQ_STATUS.DMA is a part of a captured register: name its bits by a mask: 'IRQ_STATUS & 0x1'" },
      ["sim:edu --ack STATUS.RAISE_IRQ=IRQ_STATUS"] = { 2, "a capture is written to all of a register; STATUS.RAISE_IRQ is a part" },
      ["sim:edu --ack 'IRQ_ACK=ID & 1'"] = { 2, "ID is not captured: --capture ID" },
      ["sim:edu --ack 'IRQ_ACK=IRQ_STATUS & x'"] = { 2, "x is no mask: a number" },
      ["sim:edu --ack 'IRQ_ACK=IRQ_STATUS & 0x100000000'"] = { 1, "the mask 4294967296 is not one of 32 bits" },
      ["sim:edu --ack ID=1"] = { 1, "ID can't be written: it is read-only" },
      ["sim:edu --trigger IRQ_RAISE=0x100000000"] = { 1, "does not fit in 32 bits" },
      ["sim:edu --capture ID --capture STATUS --capture LIVENESS --capture FACTORIAL"] = { 1, "at most 4 captures" },
      ["sim:edu --capture 0x100000:u32"] = { 1, "region 0 of sim:edu has 0x100000 bytes" },
      ["uio4711"] = { 1, "there is no device uio4711" },
    } do program.refuses("irq " .. args, case[1], case[2]) end
  end)

  it("shows an example in its help", function()
    local out, status = command "--help"
    assert.equal(0, status)
    assert.matches("Example: luio irq sim:edu %-%-trigger IRQ_RAISE=1 %-%-count 1000\n", out)
  end)
end)
