--- Several vectors of one device, by MSI-X: QEMU's 82574L (five, by IVAR) and NVMe (one for each completion queue).
---
--- Of the 82574L each cause of a queue, set by ICS, is a message to the vector that IVAR names. EIAC clears the cause with the
--- message; CTRL_EXT.IAME keeps it from clearing IMS, too, so that each write of ICS is one message (QEMU 7.2, hw/net/e1000e_core.c).
---
--- QEMU throttles a vector (EITR, 128 µs at least). A second message within that time is put off; and from then on, for good, each
--- message to that vector is followed by one more. So the specs wait until the throttle is over, where they count. NVMe has none.

local files = require "spec.support.files"
local luio = require "luio"
local program = require "spec.support.program"
local uv = require "luv"
local wait = require "spec.support.wait"

local NVME = { "-blockdev", "driver=null-co,node-name=d0,size=1048576,read-zeroes=on" }

-- The registers of the driver that the specs start.
local DRIVER = [[
local luio = require "luio"
local d = { name = "card", registers = require "drivers.e1000e.registers" }
%s
function d.start(dev)
  local regs = dev.regs
  regs.IVAR:write(0x000cba98) -- queues 0 and 1, in and out, and all else: vectors 0 to 4
  regs.CTRL_EXT:update { IAME = 1 }
  regs.EIAC:write(0x01f00000)
  regs.IMS:write(0x01f00000)
  dev.state.seen = dev.state.seen or {}
  %s
  return true
end
function d.raise(dev, vector)
  dev.regs.ICS:write(2 ^ (20 + vector))
  luio.sleep(0.001)
  dev.regs.STATUS:read()
end
return d
]]

-- A task for each of the vectors, which counts.
local TASKS = [[
  for vector, _ in pairs(d.irq) do
    dev.state.seen[vector] = dev.state.seen[vector] or 0
    luio.spawn(function()
      while true do
        local event = dev.irqs[vector]:wait(60)
        if event then dev.state.seen[vector] = dev.state.seen[vector] + event.count end
      end
    end)
  end
]]

local function text(table_parts, start) return DRIVER:format(table_parts, start or TASKS) end

local function counts(dev, most)
  local list = {}
  for vector = 0, most do list[vector + 1] = dev.irqs[vector]:stats().interrupts end
  return list
end

-- A card with vectors 0 to 4 that do nothing but count.
local function card(options)
  local dev = assert(luio.open("qemu:e1000e", options or { vectors = 5 }))
  local regs = assert(luio.bind(require "drivers.e1000e.registers", dev))
  regs.IVAR:write(0x000cba98)
  regs.CTRL_EXT:update { IAME = 1 }
  regs.EIAC:write(0x01f00000)
  regs.IMS:write(0x01f00000)
  local function raise(vector, at_once)
    regs.ICS:write(2 ^ (20 + vector))
    if at_once then return end
    -- QEMU's loop comes to its timers after this read, at the latest.
    luio.sleep(0.001)
    regs.STATUS:read()
  end
  return dev, raise, regs
end

-- ---- NVMe ----------------------------------------------------------------------------------------

local ENTRIES = 8

-- An NVMe controller with its admin queues (NVM Express 1.4, 3.5.1, 7.6.1), each with 8 entries.
local function controller(options)
  local all = { qemu = NVME }
  for key, value in pairs(options) do all[key] = value end
  local dev = assert(luio.open("qemu:nvme,drive=d0,serial=x", all))
  local r = dev.regions[0]
  assert(dev:bus_master(true))
  local nvme = { dev = dev, tails = {}, identifier = 0 }
  local function queue()
    local buffer = assert(dev.dma:alloc(4096, { align = 4096 }))
    buffer:fill(0)
    return buffer
  end
  nvme.submission, nvme.completion = { [0] = queue() }, { [0] = queue() }
  --- Has it begin anew.
  function nvme.enable()
    nvme.tails = {}
    nvme.completion[0]:fill(0)
    r:write32(0x14, 0) -- CC
    wait.till(10, "the controller is off", function() return r:read32(0x1c) % 2 == 0 end)
    r:write32(0x24, (ENTRIES - 1) * 0x10001)
    r:write64(0x28, nvme.submission[0].iova)
    r:write64(0x30, nvme.completion[0].iova)
    r:write32(0x14, 0x460001)
    wait.till(10, "the controller is ready", function() return r:read32(0x1c) % 2 == 1 end)
  end
  nvme.enable()

  --- Submits a command of 16 words, given by their numbers.
  function nvme.submit(q, words)
    local tail = nvme.tails[q] or 0
    for i = 0, 15 do nvme.submission[q]:write(tail * 64 + i * 4, string.char(0, 0, 0, 0)) end
    nvme.identifier = nvme.identifier + 1
    words[0] = words[0] + nvme.identifier * 0x10000
    for i, word in pairs(words) do
      nvme.submission[q]:write(tail * 64 + i * 4, string.char(word % 256, math.floor(word / 0x100) % 256, math.floor(word / 0x10000) % 256,
        math.floor(word / 0x1000000)))
    end
    nvme.tails[q] = (tail + 1) % ENTRIES
    luio.fence_doorbell()
    r:write32(0x1000 + q * 8, nvme.tails[q])
  end

  --- Takes a completion back, so that its queue does not fill.
  function nvme.done(q, head) r:write32(0x1004 + q * 8, head % ENTRIES) end

  --- Makes queue q, whose completions interrupt by a vector.
  function nvme.queue(q, vector)
    nvme.submission[q], nvme.completion[q] = queue(), queue()
    nvme.submit(0, { [0] = 0x05, [6] = nvme.completion[q].iova, [10] = (ENTRIES - 1) * 0x10000 + q, [11] = vector * 0x10000 + 3 })
    nvme.submit(0, { [0] = 0x01, [6] = nvme.submission[q].iova, [10] = (ENTRIES - 1) * 0x10000 + q, [11] = q * 0x10000 + 1 })
    local last = (nvme.tails[0] - 1) * 16 -- of the completion queue's first turn
    wait.till(10, "the queue is there", function() return nvme.completion[0]:read(last + 14, 1):byte() % 2 == 1 end)
    assert.equal("\1\0", nvme.completion[0]:read(last + 14, 2)) -- no error
  end

  --- Flush: the smallest command.
  function nvme.flush(q) nvme.submit(q, { [0] = 0x00, [1] = 1 }) end
  return nvme
end

-- ---- Specs ---------------------------------------------------------------------------------------

describe("several vectors of one device", function()
  after_each(function() assert(luio.close_all()) end)
  teardown(files.clean)

  it("are the 82574L's five, each with interrupts of its own", function()
    local dev, raise = card()
    assert.same({ kind = "msix", count = 5, intx = 1, msi = 1, msix = 5, messages = true }, dev:vectors())
    for vector = 0, 4 do assert(dev.irqs[vector]:start()) end
    luio.run(function()
      local expected = { 0, 0, 0, 0, 0 }
      for round = 1, 3 do
        for vector = 0, 4 do
          raise(vector)
          assert.equal(1, assert(dev.irqs[vector]:wait(30)).count, round)
          expected[vector + 1] = round
          assert.same(expected, counts(dev, 4))
        end
      end
    end)
    local ok, message, code = dev.irqs[5]:start()
    assert.is_nil(ok)
    assert.same({ "qemu:e1000e has no vector 5: it has 5 by MSI-X", "ENOENT" }, { message, code })
  end)

  it("have top halves of their own", function()
    local dev, raise, regs = card()
    assert(dev.irqs[0]:setup { capture = { { "status", 0x8 } } }:start())
    assert(dev.irqs[3]:setup { capture = { { "ims", 0xd0 }, { "ivar", 0xe4 } }, ack = { { 0xd8, 0x800000 } } }:start()) -- IMC
    luio.run(function()
      raise(0)
      local event = assert(dev.irqs[0]:wait(30))
      assert.equal(regs.STATUS:read(), event.status)
      assert.is_nil(event.ims)
      raise(3)
      event = assert(dev.irqs[3]:wait(30))
      assert.same({ 0x01f00000, 0x000cba98 }, { event.ims, event.ivar })
    end)
    assert.equal(0x01700000, regs.IMS:read())
  end)

  it("count 1,000 messages on three of them, all of them", function()
    local nvme = controller { vectors = 65 }
    local dev = nvme.dev
    luio.run(function()
      assert(dev.irqs[0]:start())
      for q = 1, 3 do nvme.queue(q, q * 20) end
      for q = 1, 3 do assert(dev.irqs[q * 20]:start()) end
      local sent = { 0, 0, 0 }
      for i = 1, 1000 do
        local q = i % 3 + 1
        local irq = dev.irqs[q * 20]
        -- One command at a time: the controller sends a message for each, or one for several that end at once.
        wait.till(10, "the one before is done", function() return irq:stats().delivered >= sent[q] end)
        nvme.done(q, sent[q])
        nvme.flush(q)
        sent[q] = sent[q] + 1
      end
      for q = 1, 3 do
        local irq = dev.irqs[q * 20]
        wait.till(10, "all are there", function() return irq:stats().delivered >= sent[q] end)
        local stats = irq:stats()
        assert.same({ sent[q], sent[q], 0 }, { stats.interrupts, stats.delivered, stats.overflow })
      end
    end)
  end)

  it("don't starve each other: a flood on one leaves another's events whole and in time", function()
    local dev, raise = card()
    assert(dev.irqs[0]:setup { capacity = 2 }:start())
    assert(dev.irqs[4]:start())
    luio.run(function()
      local taken = 0
      local flood = luio.spawn(function()
        while true do
          for _ = 1, 20 do raise(0, true) end
          luio.sleep(0)
        end
      end)
      for i = 1, 20 do
        raise(4)
        taken = taken + assert(dev.irqs[4]:wait(30)).count
        assert.equal(i, taken)
      end
      flood:cancel()
    end)
    assert.is_true(dev.irqs[0]:stats().interrupts > 20)
    assert.equal(0, dev.irqs[4]:stats().overflow)
  end)

  it("wait in the device while they are masked, as one, and the others go on", function()
    local dev, raise = card()
    for vector = 0, 4 do assert(dev.irqs[vector]:start()) end
    luio.run(function()
      assert(dev.irqs[1]:mask())
      for _ = 1, 3 do raise(1) end
      raise(2)
      assert(dev.irqs[2]:wait(30))
      assert.is_nil(dev.irqs[1]:wait(0.1))
      assert.equal(2, dev.regions[3]:read32(0x2000)) -- the pending bits
      assert(dev.irqs[1]:unmask())
      assert.equal(1, assert(dev.irqs[1]:wait(30)).count)
      assert.equal(0, dev.regions[3]:read32(0x2000))
      raise(1)
      assert(dev.irqs[1]:wait(30))
    end)
  end)

  it("wait in the device until they are first opened, and while they are closed", function()
    local dev, raise = card()
    assert(dev:bus_master(true))
    raise(3)
    luio.run(function()
      for _ = 1, 2 do
        local irq = dev.irqs[3]
        assert.equal(1, assert(irq:wait(30)).count)
        assert(irq:close())
        raise(3)
      end
    end)
  end)

  it("go off when the device is closed: it has INTx again, as it was, for the next to open it", function()
    local machine = card().qemu
    local keeper = assert(luio.open("qemu:edu,id=keeper", { messages = true, qemu = { "-device", "e1000e,id=card" } }))
    assert(machine)
    for _, wanted in ipairs { "msix", "msi", "msix" } do
      local dev = assert(keeper.qemu:open("card", { vectors = wanted }))
      assert(dev.irqs[0]:start())
      assert.is_true(dev.config:command().intx_disable)
      assert(dev:close())
      dev = assert(keeper.qemu:open "card")
      assert.same({ bus_master = false, intx_disable = false }, dev.config:command())
      assert.same({ kind = "intx", count = 1, intx = 1, msi = 1, msix = 5, messages = true }, dev:vectors())
      local regs = assert(luio.bind(require "drivers.e1000e.registers", dev))
      assert(dev.irqs[0]:setup { capture = { { "ICR", 0xc0 } }, ack = { { 0xc0, "ICR" } } }:start())
      regs.IMS:write(4)
      luio.run(function()
        regs.ICS:write(4)
        assert(dev.irqs[0]:wait(30))
      end)
      regs.IMC:write(0xffffffff)
      assert(dev:close())
    end
  end)

  it("of a second device of the machine need a machine with messages", function()
    local first = assert(luio.open("qemu:edu,id=a", { qemu = { "-device", "e1000e,id=b" } }))
    local dev, message, code = first.qemu:open("b", { vectors = 5 })
    assert.is_nil(dev)
    assert.equal("ENOTSUP", code)
    assert.matches("its QEMU machine was started without what brings them here: .*`messages = true`", message)
  end)

  it("are used by two devices at once, each with its own", function()
    local a, raise_a = card { vectors = "msix", qemu = { "-device", "edu,id=b" } }
    local b = assert(a.qemu:open("b", { vectors = "msi" }))
    assert(a.irqs[2]:start())
    assert(b.irqs[0]:setup({ capture = { { "cause", 0x24 } }, ack = { { 0x64, "cause" } } }):start())
    luio.run(function()
      for i = 1, 5 do
        raise_a(2)
        assert(a.irqs[2]:wait(30))
        b.regions[0]:write32(0x60, i)
        assert.equal(i, assert(b.irqs[0]:wait(30)).cause)
      end
    end)
    assert.same({ 5, 5 }, { a.irqs[2]:stats().interrupts, b.irqs[0]:stats().interrupts })
  end)

  it("are by MSI a block of numbers, aligned to its size, whatever else the machine has", function()
    local a = assert(luio.open("qemu:edu", { vectors = "msi", qemu = { "-device", "nec-usb-xhci,id=b,msi=on,msix=off" } }))
    assert(a.irqs[0]:start()) -- has number 0
    for _ = 1, 2 do -- the block is free again after a close
      local b = assert(a.qemu:open("b", { vectors = 9 }))
      assert.same({ "msi", 16 }, { b.irqs.kind, b.irqs.count })
      local at = b.config:read8(0x34)
      while b.config:read8(at) ~= 0x05 do at = b.config:read8(at + 1) end
      local control = b.config:read16(at + 2)
      assert.same({ 1, 4 }, { control % 2, math.floor(control / 16) % 8 }) -- on, with 2^4 vectors
      assert.equal(16, b.config:read16(at + (math.floor(control / 128) % 2 == 1 and 12 or 8)))
      for vector = 0, 15 do assert(b.irqs[vector]:start()) end
      assert(b:close())
    end
  end)

  it("of a device whose bus master was on already are had, too", function()
    local dev = assert(luio.open("qemu:pcie-root-port,chassis=1", { vectors = "msix" }))
    assert.is_true(dev.config:command().bus_master)
    assert(dev.irqs[0]:start())
  end)

  it("are NVMe's, one for each queue of 65", function()
    local nvme = controller { vectors = "msix" }
    local dev = nvme.dev
    assert.equal(65, dev.irqs.count)
    luio.run(function()
      assert(dev.irqs[0]:start())
      nvme.queue(1, 64)
      assert(dev.irqs[0]:wait(30))
      assert(dev.irqs[64]:start())
      for i = 1, 5 do
        nvme.flush(1)
        assert(dev.irqs[64]:wait(30))
        nvme.done(1, i)
      end
    end)
    assert.is_true(dev.irqs[0]:stats().interrupts <= 2) -- for two that end at once there may be one
    assert.equal(5, dev.irqs[64]:stats().interrupts)
  end)

  it("are as they were after a reset of the function, once config space was looked at", function()
    local nvme = controller { vectors = "msix" }
    local dev = nvme.dev
    assert(dev.irqs[0]:start())
    assert(dev.irqs[7]:start())
    assert(dev.irqs[7]:mask())
    local at = dev.config:read8(0x34)
    while dev.config:read8(at) ~= 0x10 do at = dev.config:read8(at + 1) end
    assert(dev.config:write16(at + 8, dev.config:read16(at + 8) + 0x8000)) -- PCI Express 5.0, 7.5.3.4: function level reset
    luio.run(function()
      local _, wrong = dev:check_config()
      assert.matches("vectors", wrong)
      assert.equal(1, dev.repairs.vectors)
      assert.same({ bus_master = true, intx_disable = true }, dev.config:command())
      nvme.enable()
      assert(dev.irqs[0]:poll() == nil)
      nvme.queue(1, 7)
      assert(dev.irqs[0]:wait(30))
      nvme.flush(1)
      assert.is_nil(dev.irqs[7]:wait(0.1)) -- still masked
      assert(dev.irqs[7]:unmask())
      assert(dev.irqs[7]:wait(30))
    end)
  end)

  it("can all be open: 65 threads, 65 eventfds, each its own", function()
    local nvme = controller { vectors = 65 }
    local dev = nvme.dev
    for vector = 0, 64 do assert(dev.irqs[vector]:start()) end
    luio.run(function()
      for _, pair in ipairs { { 1, 63 }, { 2, 1 } } do
        nvme.queue(pair[1], pair[2])
        nvme.flush(pair[1])
        assert(dev.irqs[pair[2]]:wait(30))
      end
      for vector = 1, 64 do
        assert.equal((vector == 63 or vector == 1) and 1 or 0, dev.irqs[vector]:stats().interrupts, vector)
      end
    end)
  end)

  it("come while the device is closed, on all of them, again and again", function()
    for _ = 1, 3 do
      local dev, raise = card()
      for vector = 0, 4 do assert(dev.irqs[vector]:start()) end
      for i = 1, 60 do raise(i % 5) end
      assert(dev:close())
    end
  end)
end)

describe("a driver with top halves for several vectors", function()
  local IRQ = 'd.irq = { [0] = {}, [4] = { capture = "IMS" } }'
  local path
  before_each(function() path = files.write("init.lua", text(IRQ)) end)
  after_each(function() assert(luio.close_all()) end)
  teardown(files.clean)

  it("gets as many as it names, by whatever kind has them", function()
    local dev = assert(luio.start(path, "qemu:e1000e"))
    assert.same({ "msix", 5 }, { dev.irqs.kind, dev.irqs.count })
    luio.run(function()
      for i = 1, 5 do
        dev.driver.raise(dev, 4)
        wait.till(10, "it came", function() return dev.state.seen[4] == i end)
      end
    end)
    assert.equal(0, dev.state.seen[0])
  end)

  it("is not started on a device that has fewer, and the error says what it has", function()
    local dev, message, code = luio.start(path, "qemu:edu")
    assert.is_nil(dev)
    assert.equal("ENOENT", code)
    assert.matches("driver card wants 5 vectors: qemu:edu has no 5 vectors: it has INTx 1, MSI 1", message)
    dev, message, code = luio.start(path, "qemu:e1000e", { vectors = "intx" })
    assert.is_nil(dev)
    assert.equal("ENOENT", code)
    assert.matches("driver card wants 5 vectors, and qemu:e1000e was opened with 1 by INTX %(`vectors`%)", message)
    dev, message, code = luio.start(path, "sim:e1000e")
    assert.is_nil(dev)
    assert.equal("ENOTSUP", code)
    assert.matches("driver card wants 5 vectors: .*a model has the one interrupt", message)
  end)

  it("gets them under luio run, also after a crash #plain", function()
    files.save(path, text(IRQ, TASKS .. [[
      luio.spawn(function()
        d.raise(dev, 4)
        while dev.state.seen[4] == 0 do luio.sleep(0.01) end
        print(("pid %d: %d by %s"):format(require("luv").os_getpid(), dev.state.seen[4], dev.irqs.kind))
        io.flush()
      end)
    ]]))
    local p = program.start { "run", path, "qemu:e1000e" }
    finally(function() p:close() end)
    local first = p:wait "pid (%d+): 1 by msix\n"
    uv.kill(tonumber(first), "sigkill")
    local second
    wait.till(30, "another worker", function()
      for pid in p:text():gmatch "pid (%d+): 1 by msix\n" do second = pid ~= first and pid or second end
      return second
    end)
    p:kill "sigint"
    assert.equal(0, p:status())
  end)

  it("may ask by `vectors`", function()
    files.save(path, text 'd.irq = {} d.vectors = "msi"')
    local dev = assert(luio.start(path, "qemu:e1000e"))
    assert.same({ "msi", 1 }, { dev.irqs.kind, dev.irqs.count })
    files.save(path, text "d.irq = {} d.vectors = 0")
    local _, message, code = luio.start(path, "qemu:e1000e")
    assert.equal("EINVAL", code)
    assert.matches('card.vectors is "intx", "msi", "msix", or 1 to 2048 vectors, not 0', message)
  end)

  it("keeps its vectors over a reload: waiting messages go to the new version, vector by vector", function()
    local dev = assert(luio.start(path, "qemu:e1000e"))
    luio.run(function()
      for _, vector in ipairs { 0, 4, 4 } do dev.driver.raise(dev, vector) end
      wait.till(10, "they came", function() return dev.state.seen[0] == 1 and dev.state.seen[4] == 2 end)
      local threads = { dev.irqs[0].source.handle, dev.irqs[4].source.handle }
      files.save(path, text('d.irq = { [0] = { capture = "IVAR" }, [4] = {} }', [[
        for _, vector in ipairs { 0, 4 } do -- before its tasks wait
          for _ = 1, 3 do d.raise(dev, vector) end
        end
      ]] .. TASKS))
      assert(dev:reload())
      wait.till(10, "they came", function() return dev.state.seen[0] == 4 and dev.state.seen[4] == 5 end)
      assert.same(threads, { dev.irqs[0].source.handle, dev.irqs[4].source.handle })
      -- A version with fewer: the others end.
      files.save(path, text "d.irq = { [0] = {}, [1] = {} }")
      assert(dev:reload())
      dev.driver.raise(dev, 1)
      wait.till(10, "it came", function() return dev.state.seen[1] == 1 end)
      assert.is_false(dev.irqs[4]:started())
    end)
  end)

  it("is not replaced by a version that needs more than there are", function()
    files.save(path, text "d.irq = {}")
    local dev = assert(luio.start(path, "qemu:e1000e"))
    luio.run(function()
      files.save(path, text(IRQ))
      local ok, message = dev:reload()
      assert.is_nil(ok)
      assert.matches("driver card wants 5 vectors, and qemu:e1000e runs with 1 by INTX: that can't be changed under a driver", message)
    end)
    assert.is_true(dev.irqs[0]:started()) -- the one before goes on
  end)
end)
