--- A disk of QEMU's whose back end fails on command: what a driver of disks is tried against. The driver is the measurement's
--- (spec/bench/qemu/nvme.lua), which polls.

local luio = require "luio"

local EIO = 5

-- The disk is on `switch`, which passes everything to one of two others.
local OPTIONS = { qemu = {
  "-blockdev", "driver=null-co,node-name=good,read-zeroes=on",
  "-blockdev", "driver=null-co,node-name=under,read-zeroes=on",
  "-blockdev", ("driver=blkdebug,node-name=bad,image=under,inject-error.0.event=none,inject-error.0.iotype=read,inject-error.0.errno=%d"):format(EIO),
  "-blockdev", "driver=raw,node-name=switch,file=good",
} }

describe("a disk of QEMU's", function()
  it("reads, fails to read as its back end is told by blockdev-reopen, and reads again", function()
    local dev = assert(luio.open("qemu:nvme,serial=1,drive=switch", OPTIONS))
    finally(function() dev:close() end)
    local read = dofile "spec/bench/qemu/nvme.lua"(dev, 128 * 1024)
    local function on(node)
      assert(dev.qemu:command("blockdev-reopen", { options = { { driver = "raw", ["node-name"] = "switch", file = node } } }))
    end
    read()
    on "bad"
    assert.error_matches(read, "completed a command with status 0x281") -- Unrecovered Read Error
    on "good"
    read()
  end)
end)
