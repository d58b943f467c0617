--- Errors on the bus below a network card at work, injected by the kernel's aer_inject, with the kernel's own recovery: it counts
--- correctable and non-fatal ones, and resets the link after a fatal one. And resets by hand, through sysfs, behind the
--- driver's back.

local amount = require "spec.support.amount"
local ffi = require "ffi"
local files = require "spec.support.files"
local frames = require "spec.net.conformance.support"
local luio = require "luio"
local net = require "luio.net"
local program = require "spec.support.program"
local sysfs = require "spec.support.sysfs"
local wait = require "spec.support.wait"

local NIC, EDU, NVME = "0000:02:00.0", "0000:01:00.0", "0000:00:0a.0"
local BAD_TLP, POISONED, DATA_LINK = 0x40, 0x1000, 0x10 -- PCI Express Base Specification 3.0, 7.10

-- As struct aer_error_inj of drivers/pci/pcie/aer_inject.c.
local function inject(correctable, uncorrectable)
  local e = ffi.new "struct { uint8_t bus, dev, fn; uint32_t uncorrectable, correctable, header[4], domain; }"
  e.bus, e.dev, e.fn = 2, 0, 0
  e.correctable, e.uncorrectable = correctable, uncorrectable
  files.save("/dev/aer_inject", ffi.string(e, ffi.sizeof(e)))
end

describe("a device on PCI Express", function()
  local port, said
  setup(function() assert.equal(0, os.execute "/run/luio/bin/modprobe aer_inject") end)
  before_each(function()
    port, said = assert(net.open(NIC, { loopback = true })), {}
    port.dev.on_warning = function(message) table.insert(said, message) end
    frames.wait_for_loopback(port)
  end)
  after_each(function()
    if port then assert(port:close()) end
    port = nil
  end)
  teardown(files.clean)

  local function says(pattern)
    return wait.till(20, pattern, function() return table.concat(said, "\n"):match(pattern) end)
  end

  local function works()
    frames.drain(port)
    frames.wait_for_loopback(port)
    frames.exchange(port, 200)
  end

  it("says what errors the bus has seen, and goes on", function()
    luio.run(function()
      inject(BAD_TLP, 0)
      says(NIC .. " had errors that the bus corrected: BadTLP 1%. dmesg has the details")
      inject(BAD_TLP, 0)
      says("BadTLP 1.*BadTLP 1") -- the new errors
      inject(0, POISONED)
      says(NIC .. " had errors that the bus could not correct, whose transfers are lost: TLP 1%.")
      works()
      assert.equal(3, #said)
    end)
  end)

  local FATAL = amount(3, 100)
  it(("is set up again after a fatal error, which resets its link, %d times"):format(FATAL), function()
    luio.run(function()
      for i = 1, FATAL do
        said = {}
        inject(0, DATA_LINK)
        says "is gone: it was reset, and lost its configuration: a fatal error of its link%? %(dmesg: AER%)"
        assert(port.dev:wait_return(200))
        says "is there again after .*driver e1000e was started again"
        assert.is_nil(table.concat(said, "\n"):find("bus master", 1, true), i)
        works()
      end
    end)
  end)

  it("may be reset by hand under a driver: what looks at its registers sets them up again", function()
    luio.run(function()
      for _, method in ipairs { "pm", "bus" } do -- QEMU's card keeps its registers over the first
        sysfs.write(("bus/pci/devices/%s/reset_method"):format(NIC), method)
        sysfs.write(("bus/pci/devices/%s/reset"):format(NIC), "1")
        if method == "bus" then says("somebody reset " .. NIC .. ": %d+ received and %d+ given to be sent were lost; it was set up again") end
        works()
        assert.is_true(sysfs.has(NIC, sysfs.BUS_MASTER))
      end
      assert.equal(1, #said)
    end)
  end)

  it("keeps interrupts and DMA over a reset by hand: what it was at is lost, and a wait says so by its deadline", function()
    luio.run(function()
      for _, address in ipairs { EDU, NVME } do
        local dev = assert(luio.open(address))
        assert(dev:bus_master(true))
        sysfs.write(("bus/pci/devices/%s/reset"):format(address), "1")
        assert.is_true(sysfs.has(address, sysfs.BUS_MASTER))
        assert.is_true((dev:check_config()))
        assert(dev:close())
      end
      local p = program.start { "run", files.driver [[
        local luio = require "luio"
        local edu = assert(luio.load "drivers/edu")
        local d = { name = "resets", registers = edu.registers, irq = edu.irq, dma = edu.dma, quiesce = edu.quiesce }
        function d.start(dev)
          luio.spawn(function()
            local right = 0
            while true do
              local result, _, code = edu.factorial(dev, 5)
              -- 0: read within the reset, where nothing decodes. No result: the reset has forgotten it; an interrupt that comes
              -- late is nobody's.
              assert(result == 120 or result == 0 or code == "ETIMEDOUT", tostring(result or code))
              if result ~= 120 then
                while dev.irqs[0]:wait(0.05) do end
              else
                right = right + 1
              end
              if result and right % 50 == 0 then print(("[%d]"):format(right)) io.stdout:flush() end
            end
          end)
          return true
        end
        return d
      ]], EDU }
      finally(function() p:close() end)
      p:wait "%[50%]"
      for i = 1, amount(3, 100) do
        sysfs.write(("bus/pci/devices/%s/reset"):format(EDU), "1")
        p:wait(("%%[%d%%]"):format((i + 1) * 50), 30)
      end
      assert.is_nil(p:text():find "failed")
      p:kill "sigterm"
      assert.equal(0, p:status())
    end)
  end)
end)
