--- `luio run --wait` for a device that comes: plugged in, or bound to a UIO driver, while luio waits. In the guest of
--- spec/guest/gone_spec.lua; edu alone does.

local files = require "spec.support.files"
local program = require "spec.support.program"
local sysfs = require "spec.support.sysfs"
local wait = require "spec.support.wait"

local EDU = "0000:00:04.0"
local DEVICE = "bus/pci/devices/" .. EDU

local p
local function run(...)
  p = program.start { "run", ... }
end

local function remove()
  sysfs.write(DEVICE .. "/remove", "1")
  assert.is_false(sysfs.exists(DEVICE))
end

local function rescan()
  sysfs.write("bus/pci/rescan", "1")
  wait.till(10, "edu is there", function() return sysfs.exists(DEVICE) end)
end

local function others_leave()
  for _, name in ipairs { "0000:01:00.0" } do
    if sysfs.exists("bus/pci/devices/" .. name) and sysfs.driver(name) then sysfs.unbind(name) end
  end
end

describe("luio run --wait", function()
  before_each(function()
    if not sysfs.exists(DEVICE) then rescan() end
    if sysfs.driver(EDU) then sysfs.unbind(EDU) end
  end)
  after_each(function()
    if p then p:close() end
    p = nil
  end)
  teardown(function()
    files.clean()
    if not sysfs.exists(DEVICE) then rescan() end
    if not sysfs.driver(EDU) then sysfs.bind(EDU) end
  end)

  it("starts the driver when its device is plugged in and bound", function()
    remove()
    run("--wait=120", "drivers/edu", EDU)
    p:wait("^waiting for " .. EDU .. ": there is no such device; Ctrl%-C ends this\n", 30)
    rescan()
    p:wait("waiting for " .. EDU .. ": no UIO driver has it: `luio bind " .. EDU .. "`; Ctrl%-C", 30)
    sysfs.bind(EDU)
    p:wait("driver edu runs on device " .. EDU .. " 1234:11e8 %(uio%d%)", 30)
    p:kill "sigterm"
    assert.equal(0, p:status(10))
  end)

  it("--bind binds it as soon as it is there", function()
    remove()
    run("--wait", "--bind", "drivers/edu", EDU)
    p:wait("^waiting for", 30)
    rescan()
    p:wait("driver edu runs on device " .. EDU .. " 1234:11e8 %(uio%d%)", 30)
    assert.equal("uio_pci_generic", sysfs.driver(EDU))
  end)

  it("takes the first that the driver matches, or the UIO device of a name", function()
    others_leave()
    run("--wait", "drivers/edu")
    p:wait("^waiting for a device for driver edu: no UIO driver has it", 30)
    sysfs.bind(EDU)
    local uio = p:wait("driver edu runs on device 0000:%x+:%x+%.0 1234:11e8 %((uio%d)%)", 30)
    p:close()
    sysfs.unbind(EDU)
    run("--wait", "drivers/edu", uio)
    p:wait("^waiting for " .. uio .. ": there is no such device", 30)
    sysfs.bind(EDU) -- it gets the number again
    p:wait("driver edu runs on device " .. EDU .. " 1234:11e8 %(" .. uio .. "%)", 30)
  end)

  it("says at its deadline that the device is there, but has no UIO driver", function()
    local out, status = program.run("run --wait=0.5 drivers/edu " .. EDU)
    assert.equal(1, status)
    assert.matches("luio: " .. EDU .. " did not come within 0.5 s: no UIO driver has it: `luio bind " .. EDU .. "`\n$", out)
  end)

  it("does not wait long for what another process has, and names that", function()
    sysfs.bind(EDU)
    run("drivers/edu", EDU)
    p:wait("runs on", 30)
    local out, status = program.run("run --wait drivers/edu " .. EDU)
    assert.equal(1, status)
    assert.matches("EBUSY: process %d+ drives it", out)
  end)
end)
