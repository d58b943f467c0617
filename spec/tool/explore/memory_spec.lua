--- A session's knowledge of DMA memory above 4 GiB, whose addresses are written to 32-bit registers by halves.

local ffi = require "ffi"
local memory = require "luio.tool.explore.memory"

local IOVA = 0x712345000

describe("the memory of a session", function()
  local m, entries

  local function write(name, offset, value)
    local reg = { path = name, offset = offset, def = { region = 0, width = 32 } }
    table.insert(entries, { kind = "write", path = name, reg = reg, value = value, address = m:address(value, 32, name) })
  end

  before_each(function()
    m, entries = memory.new(), {}
    m:alloc({ iova = IOVA, size = 0x1000, handle = 1 }, {}, 0)
  end)

  for order, list in pairs {
    ["lower first"] = { { "LOW", 0x10, (IOVA + 0x40) % 2 ^ 32 }, { "HIGH", 0x14, 7 } },
    ["upper first"] = { { "HIGH", 0x14, 7 }, { "LOW", 0x10, (IOVA + 0x40) % 2 ^ 32 } },
  } do
    it("puts both halves of an address by the buffer, " .. order, function()
      write("COUNT", 0x40, 7) -- is none, though it is as much
      for _, one in ipairs(list) do write(unpack(one)) end
      for _ = 1, 2 do assert.is_nil(m:fault(entries)) end -- session() may be asked for again
      local texts = {}
      for _, entry in ipairs(entries) do texts[entry.path] = entry.address and memory.expression(entry.address) end
      assert.same({ LOW = "(b1.iova + 0x40) % 2 ^ 32", HIGH = "math.floor((b1.iova + 0x40) / 2 ^ 32)" }, texts)
    end)
  end

  local function le(width, value) return ffi.string(ffi.new(("uint%d_t[1]"):format(width), value), width / 8) end

  -- The pieces of a write into memory, each as a string: "le64 b1+0x40".
  local function pieces(bytes)
    local entry = m:took({ handle = 1 }, "write", 0, bytes)
    table.insert(entries, entry)
    local list = {}
    for i, piece in ipairs(entry.pieces) do
      list[i] = type(piece) == "string" and piece or ("le%d %s+0x%x"):format(piece.width, piece.address.buffer.name, piece.address.offset)
    end
    return list
  end

  it("finds an address in memory at any multiple of four bytes, and has the others as they are", function()
    m:alloc({ iova = 0x20000, size = 0x1000, handle = 2 }, {}, 0)
    assert.same({ "abcd", "le64 b1+0x40", "\1\0\0\0", "le64 b1+0x1000", "le32 b2+0x8", "efgh", "le64 b2+0x0", "ij" },
      pieces("abcd" .. le(64, IOVA + 0x40) .. "\1\0\0\0" .. le(64, IOVA + 0x1000) .. le(32, 0x20008) .. "efgh" .. le(64, 0x20000) .. "ij"))
    assert.is_nil(m:fault(entries))
    assert.same({ "\0\0\0\0abc" }, pieces "\0\0\0\0abc")
    assert.same({}, pieces "")
  end)

  it("has no script for halves in memory", function()
    pieces(le(32, 0x12345040) .. le(32, 7)) -- written at once they are an address
    assert.is_nil(m:fault(entries))
    for _, bytes in ipairs { le(32, 0x12345040), le(32, 7) .. le(32, 0x12345040) } do
      entries = {}
      pieces(bytes)
      assert.equal("memory was given 0x12345040, which may be the lower half of 0x712345040, an address in a buffer; "
        .. "the place of the upper half is not known", m:fault(entries))
    end
  end)

  it("sees halves in a buffer that goes beyond a multiple of 4 GiB, where any small number may be one", function()
    m:alloc({ iova = 0x8fffff000, size = 0x2000, handle = 2 }, {}, 0)
    write("LOW", 0x10, 0x10)
    assert.matches("^LOW was given the lower half of 0x900000010", m:fault(entries))
  end)

  it("has no script for what may be a shifted address, also where the buffer is used", function()
    write("LOW", 0x10, IOVA % 2 ^ 32)
    write("HIGH", 0x14, 7)
    assert.is_nil(m:fault(entries))
    write("PAGE", 0x20, IOVA / 4096)
    assert.equal("PAGE := 0x712345 may be a part of the address of a buffer, 0x712345000 shifted by 12 bits, or may not", m:fault(entries))
    write("PAGE", 0x20, 7)
    assert.matches("^PAGE := 0x712345 may be", m:fault(entries))
  end)

  it("takes the upper half for that of one address, however often that is told, and of no other", function()
    write("LOW", 0x10, IOVA % 2 ^ 32)
    write("HIGH", 0x14, 7)
    write("LOW", 0x10, IOVA % 2 ^ 32)
    assert.is_nil(m:fault(entries))
    write("LOW", 0x10, (IOVA + 0x40) % 2 ^ 32)
    assert.matches("^LOW was given the lower half of 0x712345040", m:fault(entries))
  end)

  it("forgets freed buffers, the oldest first, also behind one that is kept", function()
    for i = 2, 1500 do
      m:alloc({ iova = 0x800000000 + i * 0x1000, size = 0x1000, handle = i }, {}, 0)
      m:took({ handle = i }, "write", 0, "x")
      m:took({ handle = i }, "free")
    end
    assert.equal(1000, #m.buffers)
    assert.same({ "b1", "b502" }, { m.buffers[1].name, m.buffers[2].name })
  end)

  it("has no script for a half whose other nobody saw", function()
    write("LOW", 0x10, IOVA % 2 ^ 32)
    write("OTHER", 0x20, 7)
    assert.equal("LOW was given the lower half of 0x712345000, an address in a buffer; the place of the upper half is not known", m:fault(entries))
  end)
end)
