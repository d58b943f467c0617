--- What a session knows of DMA memory above 4 GiB, whose addresses 32-bit registers are given by halves.

local memory = require "luio.explore.memory"

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
      assert.is_nil(m:fault(entries))
      local texts = {}
      for _, entry in ipairs(entries) do texts[entry.path] = entry.address and memory.expression(entry.address) end
      assert.same({ LOW = "(b1.iova + 0x40) % 2 ^ 32", HIGH = "math.floor((b1.iova + 0x40) / 2 ^ 32)" }, texts)
    end)
  end

  it("has no script for a half whose other nobody saw", function()
    write("LOW", 0x10, IOVA % 2 ^ 32)
    write("OTHER", 0x20, 7)
    assert.equal("LOW was given the lower half of 0x712345000, an address in a buffer; what was given the upper is not known", m:fault(entries))
  end)
end)
