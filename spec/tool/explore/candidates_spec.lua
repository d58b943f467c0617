--- Completion of what names something of a register map: on the command line, and in the prompt's strings.

local luio = require "luio"
local candidates = require "luio.tool.explore.candidates"
local MAP = require "spec.support.every_kind"

describe("completing a place", function()
  local map = luio.registers(MAP)
  local function place(text, options) return candidates.place(map, text, options) end

  it("completes registers; one that is left comes with its fields", function()
    assert.same({ "CHANNEL[", "CMD", "CTRL" }, place "C")
    assert.same({ "CTRL", "CTRL.ENABLE", "CTRL.MODE" }, place "CT")
    assert.same({ "CTRL.MODE" }, place "CTRL.M")
    assert.same({ "PHY." }, place "PH")
    assert.same({ "PHY.BMCR", "PHY.BMSR" }, place "PHY.")
    assert.same({ "CHANNEL[", "CMD", "CTRL", "FIFO", "ID", "PHY.", "STATUS", "TABLE[" }, place "")
  end)

  it("completes elements of arrays, the first sixteen", function()
    assert.same({ "TABLE[0]", "TABLE[1]", "TABLE[2]", "TABLE[3]" }, place "TA")
    assert.same({ "TABLE[3]", "TABLE[3].LOW" }, place "TABLE[3]")
    assert.equal("CHANNEL[15].", place("CHANNEL[")[16])
    assert.equal(16, #place "CHANNEL[")
    assert.same({ "CHANNEL[3].", "CHANNEL[30].", "CHANNEL[31]." }, { unpack(place "CHANNEL[3", 1, 3) })
    assert.same({ "CHANNEL[2].COUNT", "CHANNEL[2].CTRL" }, place "CHANNEL[2].C")
    assert.same({ "CHANNEL[2].QUEUE[0]", "CHANNEL[2].QUEUE[1]" }, place "CHANNEL[2].Q")
    assert.same({ "CHANNEL[*].CTRL.KIND" }, place "CHANNEL[*].CTRL.K")
    assert.same({ "CHANNEL[3]." }, place "CHANNEL[3]")
    assert.same({}, place "CHANNEL[99].C")
    assert.same({}, place "CHANNEL.C")
  end)

  it("completes assignments: what can be written, names of values, further fields", function()
    local assign = { assign = true }
    assert.same({ "STATUS", "STATUS.RAISE_IRQ=" }, place("ST", assign))
    assert.same({ "CHANNEL[", "CMD=", "CTRL" }, place("C", assign))
    assert.same({}, place("ID", assign))
    assert.same({ "CTRL.MODE=FAST", "CTRL.MODE=FASTEST" }, place("CTRL.MODE=F", assign))
    assert.same({ "CTRL.MODE=FAST,ENABLE=" }, place("CTRL.MODE=FAST,", assign))
    assert.same({ "CTRL.ENABLE=1,MODE=SLOW" }, place("CTRL.ENABLE=1,MODE=S", assign))
    assert.same({ "CHANNEL[2].CTRL.KIND=OUT" }, place("CHANNEL[2].CTRL.KIND=O", assign))
    assert.same({}, place("CTRL=", assign))
    assert.same({}, place("STATUS.COMPUTING=", assign))
    assert.same({}, place("=", assign))
  end)

  it("completes what is compared: what can be read", function()
    local compare = { compare = true }
    assert.same({ "ID", "ID.MAGIC=", "ID.MINOR=" }, place("ID", compare))
    assert.same({}, place("CM", compare))
    assert.same({ "CTRL.MODE=SLOW" }, place("CTRL.MODE=S", compare))
    assert.same({}, place("CTRL.MODE=FAST,", compare))
  end)

  it("completes the width of a place that no map has", function()
    assert.same({ "0x20:u8", "0x20:u16", "0x20:u32", "0x20:u64" }, place "0x20:")
    assert.same({ "0x20:u32" }, place "0x20:u3")
    assert.same({ "1:0x20:u16" }, place "1:0x20:u1")
    assert.same({ "0x0+0x40:u64" }, candidates.place(nil, "0x0+0x40:u6"))
    assert.same({}, place "0x20:u32[7")
    assert.same({}, place "0x2")
    assert.same({}, candidates.place(nil, "ST"))
  end)

  it("is at once there, however large the map is", function()
    local flat = {}
    for i = 0, 99999 do flat[("R%05d"):format(i)] = { i * 4, 32 } end
    local large = {
      luio.registers { A = { 0, count = 1024, stride = 0x10000, block = { B = { 0, count = 1024, block = { C = { 0, 32, F = 0 } } } } } },
      luio.registers(flat),
    }
    local start = os.clock() -- the process's own time: other processes don't count. All of the map in turn takes minutes
    assert.same({ "A[7].B[9].C", "A[7].B[9].C.F" }, candidates.place(large[1], "A[7].B[9].C"))
    assert.same({ "R00042" }, candidates.place(large[2], "R00042"))
    assert.equal(100000, #candidates.place(large[2], "R"))
    assert.is_true(os.clock() - start < 5)
  end)
end)
