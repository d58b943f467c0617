--- The 82574L's register map: offsets, arrays, kinds of access, and the effects of reading.

local map = require "drivers.e1000e.registers"

describe("drivers/e1000e's registers", function()
  local at = {} -- path -> { offset, width, access }
  map:each(function(path, def, offset) at[path] = { offset, def.width, def.access } end)

  local expected = {
    { "CTRL", 0x00000, 32, "rw" },
    { "STATUS", 0x00008, 32, "ro" },
    { "EEC", 0x00010, 32, "rw" },
    { "EERD", 0x00014, 32, "rw" },
    { "EERD_82540EM", 0x00014, 32, "rw" },
    { "CTRL_EXT", 0x00018, 32, "rw" },
    { "MDIC", 0x00020, 32, "rw" },
    { "VET", 0x00038, 32, "rw" },
    { "ICR", 0x000c0, 32, "w1c" },
    { "ITR", 0x000c4, 32, "rw" },
    { "ICS", 0x000c8, 32, "wo" },
    { "IMS", 0x000d0, 32, "w1s" },
    { "IMC", 0x000d8, 32, "wo" },
    { "EIAC", 0x000dc, 32, "rw" },
    { "IAM", 0x000e0, 32, "rw" },
    { "IVAR", 0x000e4, 32, "rw" },
    { "EITR[0]", 0x000e8, 32, "rw" },
    { "EITR[4]", 0x000f8, 32, "rw" },
    { "RCTL", 0x00100, 32, "rw" },
    { "TCTL", 0x00400, 32, "rw" },
    { "TIPG", 0x00410, 32, "rw" },
    { "PBA", 0x01000, 32, "rw" },
    { "PSRCTL", 0x02170, 32, "rw" },
    { "RDBAL[0]", 0x02800, 32, "rw" },
    { "RDBAL[1]", 0x02900, 32, "rw" },
    { "RDBAH[1]", 0x02904, 32, "rw" },
    { "RDLEN[1]", 0x02908, 32, "rw" },
    { "RDH[1]", 0x02910, 32, "rw" },
    { "RDT[0]", 0x02818, 32, "rw" },
    { "RDT[1]", 0x02918, 32, "rw" },
    { "RDTR", 0x02820, 32, "rw" },
    { "RXDCTL[1]", 0x02928, 32, "rw" },
    { "TDBAL[1]", 0x03900, 32, "rw" },
    { "TDH[0]", 0x03810, 32, "rw" },
    { "TDT[1]", 0x03918, 32, "rw" },
    { "TXDCTL[0]", 0x03828, 32, "rw" },
    { "TARC[1]", 0x03940, 32, "rw" },
    { "CRCERRS", 0x04000, 32, "rc" },
    { "GPRC", 0x04074, 32, "rc" },
    { "GPTC", 0x04080, 32, "rc" },
    { "GORC", 0x04088, 64, "rc" },
    { "GOTC", 0x04090, 64, "rc" },
    { "TOT", 0x040c8, 64, "rc" },
    { "IAC", 0x04100, 32, "rc" },
    { "RXCSUM", 0x05000, 32, "rw" },
    { "MTA[0]", 0x05200, 32, "rw" },
    { "MTA[127]", 0x053fc, 32, "rw" },
    { "RAL[0]", 0x05400, 32, "rw" },
    { "RAH[0]", 0x05404, 32, "rw" },
    { "RAL[15]", 0x05478, 32, "rw" },
    { "RAH[15]", 0x0547c, 32, "rw" },
    { "VFTA[127]", 0x057fc, 32, "rw" },
    { "MRQC", 0x05818, 32, "rw" },
    { "SWSM", 0x05b50, 32, "rw" },
    { "RETA[31]", 0x05c7c, 32, "rw" },
    { "RSSRK[0]", 0x05c80, 32, "rw" },
    { "RSSRK[9]", 0x05ca4, 32, "rw" },
  }

  for _, e in ipairs(expected) do
    it(("have %s at 0x%05x, %d bits, %s"):format(e[1], e[2], e[3], e[4]), function()
      assert.same({ e[2], e[3], e[4] }, at[e[1]])
    end)
  end

  it("have as many elements as the datasheet", function()
    local counts = {}
    for _, def in ipairs(map.children) do counts[def.name] = def.count end
    assert.same({
      EITR = 5, RDBAL = 2, RDBAH = 2, RDLEN = 2, RDH = 2, RDT = 2, RXDCTL = 2, TDBAL = 2, TDBAH = 2, TDLEN = 2, TDH = 2, TDT = 2,
      TXDCTL = 2, TARC = 2, MTA = 128, RAL = 16, RAH = 16, VFTA = 128, RETA = 32, RSSRK = 10,
    }, counts)
    assert.is_nil(at["RDBAL[2]"])
    assert.is_nil(at["RAL[16]"])
  end)

  it("end before the BAR's 128 KiB do, and none is in the place of another, but for EERD", function()
    local owner, shared = {}, {}
    for path, where in pairs(at) do
      for byte = where[1], where[1] + where[2] / 8 - 1, 4 do
        assert.is_true(byte < 0x20000, path)
        if owner[byte] then shared[#shared + 1] = byte end
        owner[byte] = path
      end
    end
    assert.same({ 0x14 }, shared)
  end)

  -- Inspection leaves these registers alone, so the list must be complete.
  it("say what reading does where it does something, and only there", function()
    local effect, statistics = {}, 0
    map:each(function(path, def, offset)
      if offset >= 0x4000 and offset <= 0x4124 then
        statistics = statistics + 1
        assert.equal("rc", def.access, path)
        assert.is_string(def.read_effect, path)
      elseif def.read_effect then
        effect[path] = true
      end
    end)
    assert.same({ ICR = true, SWSM = true }, effect)
    assert.equal(53, statistics)
  end)

  it("do not read what is written only", function()
    for _, name in ipairs { "ICS", "IMC" } do
      assert.same({ false, true }, { map[name].readable, map[name].writable })
    end
    assert.is_false(map.RDTR.field.FPD.readable)
  end)

  it("read counters of 64 bits low half first, since the high half's read clears both", function()
    for _, name in ipairs { "GORC", "GOTC", "TOR", "TOT" } do assert.equal("low", map[name].halves) end
    assert.equal(32, map.max_width)
  end)

  it("have the same causes in ICR, ICS, IMS, IMC and IAM", function()
    local function causes(name)
      local list = {}
      for field, def in pairs(map[name].field) do list[field] = def.low end
      return list
    end
    local icr = causes "ICR"
    assert.same({ 0, 2, 7, 24, 31 }, { icr.TXDW, icr.LSC, icr.RXT0, icr.OTHER, icr.INT_ASSERTED })
    assert.is_false(map.ICR.field.INT_ASSERTED.writable)
    icr.INT_ASSERTED = nil
    for _, name in ipairs { "ICS", "IMS", "IMC", "IAM" } do assert.same(icr, causes(name)) end
    assert.equal("w1s", map.IMS.field.LSC.access)
    assert.equal("w1c", map.ICR.field.LSC.access)
    assert.equal("w0c", map.STATUS.field.PHYRA.access)
  end)

  it("have fields and values as the datasheet", function()
    local function span(path)
      local name, field = path:match "(.*)%.(.*)"
      local def = map[name].field[field]
      return { def.high, def.low }
    end
    for path, bits in pairs {
      ["RCTL.EN"] = { 1, 1 }, ["RCTL.LBM"] = { 7, 6 }, ["RCTL.BSIZE"] = { 17, 16 }, ["RCTL.SECRC"] = { 26, 26 },
      ["RCTL.FLXBUF"] = { 30, 27 }, ["TCTL.CT"] = { 11, 4 }, ["TCTL.COLD"] = { 21, 12 }, ["TCTL.RRTHRESH"] = { 30, 29 },
      ["CTRL.SLU"] = { 6, 6 }, ["CTRL.RST"] = { 26, 26 }, ["STATUS.SPEED"] = { 7, 6 }, ["MDIC.PHYADD"] = { 25, 21 },
      ["EERD.ADDR"] = { 15, 2 }, ["EERD.DONE"] = { 1, 1 }, ["EERD_82540EM.ADDR"] = { 15, 8 }, ["EERD_82540EM.DONE"] = { 4, 4 },
      ["IVAR.INT_ALLOC4"] = { 18, 16 }, ["IVAR.INT_ALLOC_VAL4"] = { 19, 19 }, ["RETA.QUEUE3"] = { 31, 31 },
      ["RAH.AV"] = { 31, 31 }, ["TXDCTL.WTHRESH"] = { 21, 16 }, ["LEDCTL.LED2_BLINK"] = { 23, 23 },
    } do
      assert.same(bits, span(path), path)
    end
    assert.same({ [0] = "SIZE_2048", "SIZE_1024", "SIZE_512", "SIZE_256" }, map.RCTL.field.BSIZE.names)
    assert.equal(3, map.RCTL.field.BSIZE.values.SIZE_4096_WITH_BSEX)
    assert.same({ WRITE = 1, READ = 2 }, map.MDIC.field.OP.values)
    assert.equal(1, map.RCTL.field.LBM.values.MAC)
  end)

  -- Read from QEMU's e1000e after a reset.
  it("have reset values", function()
    for name, value in pairs {
      EERD = 0x2, VET = 0x8100, LEDCTL = 0x00068302, PBA = 0x00140014, PSRCTL = 0x00040402, RXDCTL = 0x00010000, RXCSUM = 0x300,
      TIPG = 0x00602008, TARC = 0x403, ICR = 0, IMS = 0, RCTL = 0, GPRC = 0,
    } do
      assert.equal(value, map[name].reset, name)
    end
    assert.is_nil(map.STATUS.reset)
  end)

  it("cite the datasheet", function()
    map:each(function(path, def)
      if path ~= "EERD_82540EM" then assert.matches("^10%.2%.[2-7]", def.section, 1, false, path) end
    end)
  end)
end)
