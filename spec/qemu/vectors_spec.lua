--- Interrupts on vectors, by messages: MSI of QEMU's edu, which sends one at every raise, acknowledged or not.

local files = require "spec.support.files"
local luio = require "luio"
local wait = require "spec.support.wait"

local RAISE, STATUS, ACK = 0x60, 0x24, 0x64
local TOP_HALF = { capture = { { "cause", STATUS } }, ack = { { ACK, "cause" } } }

local function shell(command)
  local out, status = files.shell("timeout 200 build/luio " .. command)
  return out, status
end

local function taken(irq) return irq:stats().interrupts end

describe("a device's vectors", function()
  after_each(function() assert(luio.close_all()) end)

  it("are INTx unless others are asked for", function()
    local dev = assert(luio.open "qemu:edu")
    assert.same({ kind = "intx", count = 1, intx = 1, msi = 1, msix = 0, messages = false }, dev:vectors())
    assert.same({ "intx", 1 }, { dev.irqs.kind, dev.irqs.count })
    for _, bus in ipairs(assert(dev.qemu:command "query-pci")) do
      for _, at in ipairs(bus.devices) do assert.not_equal("luio-doorbell", at.qdev_id) end
    end
    local ok, message, code = dev.irqs[1]:start()
    assert.is_nil(ok)
    assert.equal("ENOENT", code)
    assert.matches("no vector 1: INTx is one interrupt, vector 0. By MSI it has 1, by MSI%-X 0: open it with `vectors`", message)
  end)

  it("are what is asked for, or there is an error", function()
    local dev = assert(luio.open("qemu:edu", { vectors = "msi" }))
    assert.same({ kind = "msi", count = 1, intx = 1, msi = 1, msix = 0, messages = true }, dev:vectors())
    dev = assert(luio.open("qemu:edu", { vectors = 1 }))
    assert.equal("intx", dev.irqs.kind)
    for wanted, said in pairs {
      [2] = { "qemu:edu has no 2 vectors: it has INTx 1, MSI 1", "ENOENT" },
      msix = { "qemu:edu has no MSI-X: its config space has no such capability", "ENOENT" },
    } do
      local none, message, code = luio.open("qemu:edu", { vectors = wanted })
      assert.is_nil(none)
      assert.same(said, { message, code })
    end
    local _, message, code = luio.open("sim:edu", { vectors = 2 })
    assert.same({ "2 vectors are asked for: MSI-X of sim:edu: a model has the one interrupt", "ENOTSUP" }, { message, code })
    assert.has_error(function() luio.open("sim:edu", { vectors = 0 }) end,
      'luio.open: vectors is "intx", "msi", "msix", or 1 to 2048 vectors, not 0')
  end)

  it("count every message, acknowledged or not", function()
    local dev = assert(luio.open("qemu:edu", { vectors = "msi" }))
    local irq = dev.irqs[0]:setup { capture = { { "cause", STATUS } } } -- no ack
    assert(irq:start())
    for _ = 1, 1000 do dev.regions[0]:write32(RAISE, 1) end
    luio.run(function() wait.till(10, "all are there", function() return irq:stats().delivered >= 1000 end) end)
    local stats = irq:stats()
    assert.same({ 1000, 1000, 0 }, { stats.interrupts, stats.delivered, stats.overflow })
    assert.is_nil(irq:storm())
  end)

  it("wait while they are masked, and come when they are unmasked", function()
    local dev = assert(luio.open("qemu:edu", { vectors = "msi" }))
    local irq = dev.irqs[0]:setup(TOP_HALF)
    assert(irq:start())
    luio.run(function()
      for _, mask in ipairs { { irq.mask, irq.unmask, irq }, { dev.mask, dev.unmask, dev } } do
        assert(mask[1](mask[3]))
        for _ = 1, 5 do dev.regions[0]:write32(RAISE, 1) end
        local event, _, code = irq:wait(0.1)
        assert.is_nil(event)
        assert.equal("ETIMEDOUT", code)
        assert(mask[2](mask[3]))
        assert.equal(5, assert(irq:wait(10)).count)
      end
    end)
  end)

  it("are masked after each where the top half does not unmask, as INTx is", function()
    local dev = assert(luio.open("qemu:edu", { vectors = "msi" }))
    local irq = dev.irqs[0]:setup { capture = { { "cause", STATUS } }, ack = { { ACK, "cause" } }, unmask = false }
    assert(irq:start())
    luio.run(function()
      dev.regions[0]:write32(RAISE, 1)
      assert.is_nil(irq:wait(0.1)) -- from the start
      assert(irq:unmask())
      assert.equal(1, assert(irq:wait(10)).count)
      for _ = 1, 3 do dev.regions[0]:write32(RAISE, 1) end
      assert.is_nil(irq:wait(0.1))
      assert(irq:unmask())
      assert.equal(3, assert(irq:wait(10)).count)
    end)
    assert.equal(4, taken(irq))
  end)

  it("wait while nobody has the vector", function()
    local dev = assert(luio.open("qemu:edu", { vectors = "msi" }))
    local irq = dev.irqs[0]:setup(TOP_HALF)
    assert(irq:start())
    assert(irq:close())
    for _ = 1, 3 do dev.regions[0]:write32(RAISE, 1) end
    assert(irq:setup(TOP_HALF):start())
    luio.run(function() assert.equal(3, assert(irq:wait(10)).count) end)
  end)

  it("switch bus master on, and say so when it is off", function()
    local dev = assert(luio.open("qemu:edu", { vectors = "msi" }))
    assert.is_false(dev.config:command().bus_master)
    local irq = dev.irqs[0]:setup(TOP_HALF)
    assert(irq:start())
    assert.same({ bus_master = true, intx_disable = true }, dev.config:command())
    assert(dev:bus_master(false))
    dev.regions[0]:write32(RAISE, 1)
    luio.run(function()
      local event, message, code = irq:wait(0.1)
      assert.is_nil(event)
      assert.equal("ETIMEDOUT", code)
      assert.matches("its bus master is off, and a message is a memory write: dev:bus_master%(true%)", message)
    end)
  end)

  it("come while the device is closed, again and again", function()
    for _ = 1, 5 do
      local dev = assert(luio.open("qemu:edu", { vectors = "msi" }))
      assert(dev.irqs[0]:setup { capture = { { "cause", STATUS } } }:start())
      for _ = 1, 50 do dev.regions[0]:write32(RAISE, 1) end
      assert(dev:close())
    end
  end)
end)

describe("the commands", function()
  teardown(files.clean)

  it("say what vectors a device has", function()
    assert.matches("\nvectors       INTx 1, MSI 1, MSI%-X 5: %-%-vectors asks for them\n", (shell "info qemu:e1000e"))
    assert.matches("\nvectors       INTx 1, MSI 1: %-%-vectors asks for them\n", (shell "info qemu:edu"))
    local plain = require("dkjson").decode((shell "info qemu:e1000e --json"))
    assert.same({ intx = 1, msi = 1, msix = 5 }, plain.kinds)
    assert.is_nil((shell "info qemu:AC97"):match "\nvectors")
  end)

  it("say whether they are enough for its driver", function()
    for needs, said in pairs {
      ["5"] = "ok       vectors: its luio driver wants 5 vectors, and it has INTx 1, MSI 1, MSI-X 5\n",
      ["6"] = "problem  vectors: its luio driver wants 6 vectors, and it has INTx 1, MSI 1, MSI-X 5\n",
      ["'msi'"] = "ok       vectors: its luio driver wants msi, and it has INTx 1, MSI 1, MSI-X 5\n",
    } do
      local _, dir = files.write("x", "")
      files.put(dir .. "/drivers/card/init.lua", ('return { name = "card", match = { pci = "8086:10d3" }, vectors = %s }'):format(needs))
      local out = files.shell(("LUIO_DRIVERS='%s' timeout 200 build/luio doctor qemu:e1000e"):format(dir))
      assert.matches(said, out, 1, true)
    end
  end)

  it("wait for one vector, and count the others", function()
    local out, status = shell "irq qemu:edu --vectors msi --trigger IRQ_RAISE=1 --count 5"
    assert.equal(0, status, out)
    assert.matches("^interrupts of qemu:edu, vector 0 of 1 by MSI; each: ", out)
    assert.matches("\n5 interrupts, 5 events, ", out)
    out = shell "irq qemu:e1000e --vectors 5 --vector 4 --for 0.2 --json"
    local plain = require("dkjson").decode(out:match "{.*}")
    assert.same({ "msix", 4, 0 }, { plain.kind, plain.vector, plain.interrupts })
    out, status = shell "irq qemu:e1000e --vectors 5 --vector 5 --for 0.2"
    assert.equal(1, status)
    assert.matches("qemu:e1000e has no vector 5: it has 5 by MSI%-X", out)
  end)

  it("refuse what is no kind", function()
    local out, status = shell "irq qemu:edu --vectors some"
    assert.equal(2, status)
    assert.matches('%-%-vectors is intx, msi, msix, or 1 to 2048 vectors, not "some"', out)
  end)

  it("run a driver by messages", function()
    local out, status = shell "explore qemu:edu --vectors msi -e 'start()' -e 'driver.factorial(dev, 5)' -e 'dev.irqs.kind'"
    assert.equal(0, status, out)
    assert.matches("120", out)
    assert.matches('"msi"', out, 1, true)
  end)
end)
