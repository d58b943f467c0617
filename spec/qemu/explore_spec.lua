--- Exploring QEMU's edu, 82574L and 16550: the program's commands on real devices, each on a machine of its own. Behind a kernel:
--- spec/guest/explore_spec.lua.

local json = require "dkjson"
local program = require "spec.support.program"

local EDU, NIC, SERIAL, TESTDEV = "qemu:edu", "qemu:e1000e", "qemu:pci-serial", "qemu:pci-testdev"

-- Output and status.
local function run(command, ...) return program.run(command:format(...)) end

-- Statements at one prompt, and so on one machine.
local function explore(device, ...)
  local words = {}
  for _, statement in ipairs { ... } do table.insert(words, ("-e '%s'"):format(statement)) end
  return run("explore %s %s", device, table.concat(words, " "))
end

describe("the program on QEMU's devices", function()
  it("reads and writes registers of edu", function()
    assert.same({ "ID.MAGIC = 0xed\n", 0 }, { run("get %s ID.MAGIC", EDU) })
    local out, status = run("set %s LIVENESS=0x12345678", EDU)
    assert.equal(0, status)
    assert.matches("^LIVENESS 0x%x+ %(%+0x4%) 0x%x+ := 0x12345678 %-> 0xedcba987\n  triggered LIVENESS: stores the complement\n$", out)
    assert.same({ "0x010000ed\n", 0 }, { run("get -v %s 0x0:u32", EDU) })
    assert.matches("0x0: 010000ed", (run("dump %s 0x0+0x10", EDU)))
  end)

  it("tries, undoes and restores without computing or sending", function()
    local out = run("set -n %s FACTORIAL=5 FACTORIAL=6", EDU)
    assert.matches("^would write FACTORIAL .*\n  would trigger FACTORIAL: starts the computation\nwould write", out)
    out = explore(EDU, "s = snapshot() FACTORIAL:write(5) STATUS:wait({ COMPUTING = 0 }, 30)", "undo()", "FACTORIAL:read()",
      "regs:restore(s):apply()", "FACTORIAL:read()")
    assert.matches("FACTORIAL := 0x00000005 can't be undone: writing FACTORIAL starts the computation\n", out)
    local n = select(2, out:gsub("120 = 0x78", ""))
    assert.equal(2, n, out)
    -- The tail of a ring: a write of it gives the card descriptors, also through an offset.
    assert.matches("would trigger TDT%[0%]: starts sending\n$", (run("set -n %s 0x3818:u32=0", NIC)))
  end)

  it("decodes e1000e, and does not take its interrupt causes away", function()
    assert.matches("SPEED=MBPS_1000", (run("get %s STATUS", NIC)))
    local out, status = run("dump " .. NIC)
    assert.equal(0, status)
    assert.matches("\nICR +0xc0   %(not read: ", out)
    assert.equal(0, select(2, run("snapshot " .. NIC)))
    assert.equal(0, select(2, run("watch %s 'I*' --for 0.3", NIC)))
    assert.equal(1, select(2, run("get %s ICR", NIC)))
    out, status = run("get --force-read %s ICR.LSC", NIC)
    assert.equal(0, status, out)
    assert.matches("ICR.LSC = 0", out)
    assert.matches("note: ICR was read: ", out)
    -- Whatever looks at all registers leaves the cause to the one that reads it.
    out, status = explore(NIC, "IMS:write(4) ICS:write(4)", "regs", "snapshot()", "ICR:get [[LSC]]", "ICR:get [[LSC]]")
    assert.equal(0, status, out)
    assert.matches("\nsnapshot of [^\n]+\n[^\n]+\n1\n0\n", out)
  end)

  it("reaches I/O ports of pci-serial, and what has neither driver nor map", function()
    assert.matches("0x%x+ %(%+0x7%) 0x%x%x := 0x5a %-> 0x5a\n$", (run("set %s SCR=0x5a", SERIAL)))
    assert.matches("LSR +0x5   %(not read: ", (run("dump " .. SERIAL)))
    assert.equal(0, select(2, run("dump %s 0x0+0x20", TESTDEV)))
    local out, status = run("get %s STATUS", TESTDEV)
    assert.equal(1, status)
    assert.matches("no register map for qemu:pci%-testdev %(1b36:0005%): no driver in drivers/ matches; name one with %-%-map FILE, or an offset", out)
  end)

  it("prints JSON that is a document with all registers of a card", function()
    local out, status = run("dump %s --json", NIC)
    assert.equal(0, status, out)
    local t = assert(json.decode(out))
    assert.equal(NIC, t.device)
    local lines = select(2, run("dump " .. NIC):gsub("\n", "")) -- one for each
    assert.equal(lines, #t.registers)
    assert.is_true(lines > 100)
  end)
end)
