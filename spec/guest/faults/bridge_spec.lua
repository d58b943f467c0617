--- A bridge above a device that is switched off under the driver: its command register is written, or its kernel driver
--- unbound. In the guest `faults`, whose second edu is below a root port.

local amount = require "spec.support.amount"
local files = require "spec.support.files"
local luio = require "luio"
local program = require "spec.support.program"
local sysfs = require "spec.support.sysfs"
local wait = require "spec.support.wait"

local EDU, PORT = "0000:01:00.0", "0000:00:08.0"
local MEMORY, BUS_MASTER = 2, 4
local TIMES = amount(2, 100)

describe("a bridge above a device", function()
  local said
  local function open()
    said = {}
    local dev = assert(luio.start("edu", EDU))
    dev.on_warning = function(message) table.insert(said, message) end
    finally(function() dev:close() end)
    return dev
  end
  teardown(files.clean)

  local function says(pattern)
    return wait.till(20, pattern, function() return table.concat(said, "\n"):match(pattern) end)
  end

  local function works(dev)
    local buffer = assert(dev.dma:alloc(64))
    buffer:write(0, "there and back")
    assert(dev.driver.to_device(dev, buffer, 14))
    buffer:fill(0)
    assert(dev.driver.from_device(dev, buffer, 14))
    assert.equal("there and back", buffer:read(0, 14))
    buffer:free()
  end

  it("has its bus master on again within a second or so, and the loss is told", function()
    luio.run(function()
      local dev = open()
      for i = 1, TIMES do
        sysfs.change_command(PORT, BUS_MASTER, 0)
        wait.till(20, "the look of every second", function() return dev.repairs.bridge == i end)
        assert.is_true(sysfs.has(PORT, BUS_MASTER))
        works(dev)
      end
      says("bridge " .. PORT .. ", above " .. EDU .. ", was switched off by another process: bus master was off: transfers meanwhile did "
        .. "not reach memory%. It is as it was again %(1 so far%)")
      assert.equal(0, dev.repairs.bus_master)
    end)
  end)

  it("passes accesses on again, and what was read meanwhile is said to be wrong", function()
    luio.run(function()
      local dev = open()
      for i = 1, TIMES do
        sysfs.change_command(PORT, MEMORY, 0)
        assert.is_true(dev.regs.ID:read() ~= 0x010000ed) -- all ones on hardware
        assert.same({ false, "bridge" }, { dev:check_config() })
        assert.equal(0x010000ed, dev.regs.ID:read())
        assert.equal(i, dev.repairs.bridge)
        works(dev)
      end
      says "memory space was off: what was read of it meanwhile is wrong, what was written lost"
    end)
  end)

  it("that has lost its kernel driver is on all the same", function()
    luio.run(function()
      local dev = open()
      sysfs.unbind(PORT)
      finally(function()
        dev:close()
        if not sysfs.driver(PORT) then sysfs.write("bus/pci/drivers/pcieport/bind", PORT) end
      end)
      -- The kernel may leave it on, for it has counted the device below.
      if not sysfs.has(PORT, BUS_MASTER) then wait.till(20, "bus master of the bridge", function() return sysfs.has(PORT, BUS_MASTER) end) end
      works(dev)
    end)
  end)

  it("is switched on by hand where the driver has given root up: it says how, once", function()
    local p = program.start { "run", "drivers/edu", EDU, "--user", "nobody" }
    finally(function()
      p:close()
      sysfs.change_command(PORT, 0, BUS_MASTER)
    end)
    p:wait("runs on", 30)
    sysfs.change_command(PORT, BUS_MASTER, 0)
    p:wait("bus master was off: transfers meanwhile did not reach memory%. That stays so: config space of the bridge can't be written: "
      .. "EACCES; as root: setpci %-s " .. PORT .. " COMMAND=4:4", 20)
    sysfs.change_command(EDU, BUS_MASTER, 0) -- a later look has seen the bridge, too
    p:wait("config space of " .. EDU .. " was changed by another process: [^\n]*bus master was off", 20)
    assert.equal(1, p:count "That stays so")
    assert.is_false(sysfs.has(PORT, BUS_MASTER))
    p:kill "sigterm"
    assert.equal(0, p:status(20))
  end)
end)
