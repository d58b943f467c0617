--- In a guest whose IOMMU translates (iommu=nopt).

local luio = require "luio"

describe("behind a translating IOMMU", function()
  it("refuses DMA memory by physical address, and says what to boot with", function()
    local dev = assert(luio.open "0000:00:04.0")
    local buffer, message, code = dev.dma:alloc(4096)
    assert.is_nil(buffer)
    assert.equal("ENOTSUP", code)
    assert.matches("the IOMMU translates for it %(DMA[%w%-]*%), so physical addresses would fault: boot with iommu=pt", message)
    assert.equal(0x010000ed, dev.regions[0]:read32(0)) -- registers need no IOMMU
    assert(dev:close())
  end)
end)
