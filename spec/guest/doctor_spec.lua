--- info and doctor against a real kernel: their reports on its devices, on processes that hold them, and on
--- obstacles to a driver. Neither command changes anything.
---
--- In the guest of spec/guest/specs. In another one, specs without their device are skipped (spec/guest/bind_spec.lua
--- says how to start one that has all). With --qemu -device --qemu intel-iommu --append
--- "intel_iommu=on iommu=nopt", or --append lockdown=integrity, this file shows what doctor says there.

local json = require "dkjson"
local luio = require "luio"
local uv = require "luv"
local files = require "spec.support.files"
local memory = require "spec.support.memory"
local sysfs = require "spec.support.sysfs"
local system = require "spec.support.system"

local EDU, SERIAL, NVME = system.EDU, system.SERIAL, system.NVME
local run, as_user, info = system.run, system.as_user, system.info
local there, lockdown, translates = system.there, system.lockdown, system.translates

setup(system.start)
teardown(system.stop)

-- ---- info ----------------------------------------------------------------------------------------

describe("luio info", function()
  it("tells all about a device on uio_pci_generic, by either name", function()
    local all = info(EDU)
    assert.same({ "uio_pci_generic", "edu", "pci", "INTA" }, { all.driver, all.luio_driver, all.bus, all.config.pin })
    assert.same({ { addr = all.regions[1].addr, by = all.uio .. " map0", index = 0, is64 = false, kind = "memory", map = 0,
      prefetchable = false, size = 0x100000 } }, { all.regions[1] })
    assert.same({}, all.holders)
    assert.same(all, info(all.uio))
    local out = run("info %s", EDU)
    assert.matches("\nregion 0 +memory 0x%x+%+0x100000 %(1 MiB%), by uio%d+ map0\n", out)
    assert.matches("\nIOMMU +" .. (translates() and "group %d+, " .. translates():gsub("%-", "%%-") .. ": it translates" or "none"), out)
    assert.matches("\nheld by +nobody\n", out)
  end)

  it("knows which BARs go by sysfs: ports, and 64-bit ones", function()
    assert.same({ "port", "resource0" }, { info(SERIAL).regions[1].kind, info(SERIAL).regions[1].by })
    if not there(NVME) then return pending("no nvme at " .. NVME .. " in this guest") end
    assert.same({ true, "resource0" }, { info(NVME).regions[1].is64, info(NVME).regions[1].by })
  end)

  it("names who drives the device, and leaves that one's bus master on; so does doctor", function()
    if lockdown() then return pending "lockdown: bus master can't be set" end
    local dev = assert(luio.open(EDU))
    assert(dev:bus_master(true))
    assert.equal(0x010000ed, dev.regions[0]:read32(0))
    local holder = info(EDU).holders[1]
    assert.same({ uv.os_getpid(), true, true }, { holder.pid, holder.lock, holder.drives })
    assert.same({ "/dev/" .. dev.info.uio, "config" }, holder.files)
    local out, status = run("doctor %s", EDU)
    assert.equal(1, status)
    assert.matches(("problem  holder: process %d %%(.*%%) drives it: /dev/uio%%d+, config, luio's lock\n +remedy: kill %d\n"):format(
      uv.os_getpid(), uv.os_getpid()), out)
    assert.is_true(dev.config:command().bus_master)
    assert(dev:close())
  end)

  it("tells an ordinary user, too, and who has the lock", function()
    if lockdown() then return pending "lockdown" end
    local dev = assert(luio.open(EDU))
    local out, status = as_user("info %s", EDU)
    assert(dev:close())
    assert.equal(0, status, out)
    assert.matches(("held by +process %d %%(.*%%) drives it: config, luio's lock\n"):format(uv.os_getpid()), out)
    out = as_user("info %s", EDU)
    assert.matches("held by +nobody that this user can see", out)
  end)

  it("says that there is no such device", function()
    assert.same({ "luio: there is no device uio77: `luio list` shows what there is\n", 1 }, { files.shell "build/luio info uio77" })
  end)
end)

-- ---- doctor --------------------------------------------------------------------------------------

describe("luio doctor", function()
  -- The findings, and those of one check and status as text.
  local function findings(args)
    local out, status = run("doctor %s --json", args or "")
    local list = assert(json.decode(out), out)
    return function(check, kind)
      local texts = {}
      for _, f in ipairs(list) do
        if f.check == check and f.status == kind then table.insert(texts, f.text) end
      end
      return table.concat(texts, "\n")
    end, status
  end

  it("finds nothing that stops a driver here, or says what", function()
    local says, status = findings()
    assert.equal((lockdown() or translates()) and 1 or 0, status)
    assert.equal("uio is loaded\nuio_pci_generic is loaded", says("module", "ok"))
    assert.matches("of 2 MiB free", says("hugepages", "ok") .. says("hugepages", "note"))
    if lockdown() then
      assert.matches("the kernel is locked down %(" .. lockdown() .. "%)", says("lockdown", "problem"))
    else
      assert.equal("the kernel is not locked down", says("lockdown", "ok"))
    end
    if translates() then
      assert.matches("%d+ of %d+ groups translate %(.*%) %(booted with .*iommu=nopt.*%)", says("iommu", "problem"))
    else
      assert.is_truthy(says("iommu", "ok") ~= "")
    end
  end)

  it("says of a device whether a driver will work, and writes nothing", function()
    local before = sysfs.command(EDU)
    local says, status = findings(EDU)
    assert.equal(before, sysfs.command(EDU))
    assert.equal((lockdown() or translates()) and 1 or 0, status)
    assert.matches("uio_pci_generic has it, as uio%d+", says("kernel driver", "ok"))
    assert.matches("region 0 is reached by uio%d+ map0", says("regions", "ok")) -- under lockdown, too
    if translates() then assert.matches("the IOMMU translates for it %(group %d+, DMA", says("iommu", "problem")) end
    if lockdown() then
      assert.matches("interrupts can't be unmasked", says("interrupt", "problem"))
      assert.matches("region 0 %(I/O ports%) has no UIO map, and lockdown forbids resource0", findings(SERIAL)("regions", "problem"))
    end
  end)

  it("notes that there are no hugepages", function()
    local out = memory.without_hugepages(function() return run "doctor" end)
    assert.matches("note     hugepages: 0 of 0 pages of 2 MiB free.*: DMA buffers of at most 4096 bytes\n"
      .. " +remedy: echo 32 > /proc/sys/vm/nr_hugepages\n", out)
  end)

  it("tells an ordinary user what is root's", function()
    local out, status = as_user("doctor %s", EDU)
    assert.equal(1, status)
    assert.matches("problem  node: /dev/uio%d+ can't be opened: EACCES\n +remedy: make install%-system, in luio's source, ", out)
    assert.matches("problem  permission: user nobody has no CAP_SYS_ADMIN", out)
    assert.matches(lockdown() and "problem  interrupt: lockdown" or "problem  interrupt: .*/config can't be written %(EACCES%)", out)
    assert.matches("note     holder: nobody that this user can see has it", out)
  end)

  it("sees a bus master that was left on, and its remedy helps", function()
    if lockdown() then return pending "lockdown: bus master can't be set" end
    -- As another program would leave it: luio switches it off.
    sysfs.change_command(EDU, 0, sysfs.BUS_MASTER)
    local out = run("doctor %s", EDU)
    sysfs.change_command(EDU, sysfs.BUS_MASTER, 0)
    assert.matches("note     bus master: bus master is on, though nobody drives it", out)
    assert.matches("ok       bus master: bus master is off", (run("doctor %s", EDU)))
  end)
end)
