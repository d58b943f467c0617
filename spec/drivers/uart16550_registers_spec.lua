--- The 16550's register map: registers that share an address, and the effects of reading.

local map = require "drivers.uart16550.registers"
local when = require "luio.registers.when"

describe("drivers/uart16550's registers", function()
  -- name, offset, access, alias, reading has an effect
  local expected = {
    { "RBR", 0, "ro", nil, true },
    { "THR", 0, "wo", "RBR", false },
    { "DLL", 0, "rw", "RBR", false },
    { "IER", 1, "rw", nil, false },
    { "DLM", 1, "rw", "IER", false },
    { "IIR", 2, "ro", nil, true },
    { "FCR", 2, "wo", "IIR", false },
    { "LCR", 3, "rw", nil, false },
    { "MCR", 4, "rw", nil, false },
    { "LSR", 5, "ro", nil, true },
    { "MSR", 6, "ro", nil, true },
    { "SCR", 7, "rw", nil, false },
  }

  it("are twelve in eight bytes", function()
    local n = 0
    map:each(function(_, def, offset)
      n = n + 1
      assert.equal(8, def.width, def.name)
      assert.is_true(offset <= 7, def.name)
      assert.is_string(def.section, def.name)
    end)
    assert.equal(12, n)
  end)

  for _, e in ipairs(expected) do
    local name, offset, access, alias, effect = e[1], e[2], e[3], e[4], e[5]
    it(("have %s at %d, %s"):format(name, offset, access), function()
      local def = assert(map[name])
      assert.same({ offset, access, alias }, { def.offset, def.access, def.alias })
      assert.equal(effect, def.read_effect ~= nil)
      assert.equal(access ~= "wo", def.readable)
      assert.equal(access ~= "ro", def.writable)
    end)
  end

  it("say which of them need LCR.DLAB", function()
    local needs = {}
    map:each(function(path, def) needs[path] = when.stated(def) end)
    local data, divisor = "LCR.DLAB is DATA", "LCR.DLAB is DIVISOR"
    assert.same({ RBR = data, THR = data, IER = data, DLL = divisor, DLM = divisor }, needs)
  end)

  it("say which bits a read clears", function()
    local cleared = {}
    for _, name in ipairs { "LSR", "MSR" } do
      for _, field in ipairs(map[name].fields) do
        if field.access == "rc" then cleared[name .. "." .. field.name] = field.low end
      end
    end
    assert.same({
      ["LSR.OE"] = 1, ["LSR.PE"] = 2, ["LSR.FE"] = 3, ["LSR.BI"] = 4,
      ["MSR.DCTS"] = 0, ["MSR.DDSR"] = 1, ["MSR.TERI"] = 2, ["MSR.DDCD"] = 3,
    }, cleared)
  end)

  it("name the values of IIR, FCR and LCR", function()
    local iir, fcr, lcr = map.IIR.field, map.FCR.field, map.LCR.field
    assert.same({ 3, 1 }, { iir.ID.high, iir.ID.low })
    assert.same({ [0] = "MODEM_STATUS", "THR_EMPTY", "RECEIVED_DATA", "LINE_STATUS", [6] = "CHARACTER_TIMEOUT" }, iir.ID.names)
    assert.equal(0, iir.PENDING.values.PENDING)
    assert.same({ 7, 6 }, { fcr.RCVR_TRIGGER.high, fcr.RCVR_TRIGGER.low })
    assert.same({ [0] = "BYTES_1", "BYTES_4", "BYTES_8", "BYTES_14" }, fcr.RCVR_TRIGGER.names)
    assert.same({ [0] = "BITS_5", "BITS_6", "BITS_7", "BITS_8" }, lcr.WLS.names)
    assert.equal(7, lcr.DLAB.low)
  end)

  it("have the datasheet's reset values, and none where it has none", function()
    local resets = {}
    map:each(function(path, def) resets[path] = def.reset end)
    assert.same({ IER = 0, IIR = 1, FCR = 0, LCR = 0, MCR = 0, LSR = 0x60 }, resets)
  end)
end)
