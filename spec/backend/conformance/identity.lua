--- Conformance: which device it is, and that opening it leaves no trace.

local busted = require "busted"
local assert = require "luassert"
local inspect = require "luio.host.inspect"
local luio = require "luio"
local support = require "spec.backend.conformance.support"

local it = busted.it
local numbers = support.numbers

---@param subject luio.BackendConformance
return function(subject)
  it("is the same device each time, under each of its names", function()
    local first
    for _, address in ipairs { subject.address, subject.address, unpack(subject.aliases or {}) } do
      local dev = assert(luio.open(address))
      first = first or dev.address
      assert.equal(first, dev.address)
      assert.equal(dev.address, dev.info.address)
      assert.is_truthy(tostring(dev):find(dev.address, 1, true), tostring(dev))
      assert(dev:close())
    end
    local info = assert(inspect.find(subject.address)) -- not opened
    assert.equal(first, info.address)
    for _, i in ipairs(numbers(subject)) do
      local part = info.bars[i] or info.maps[i] or info.ports[i]
      assert.is_true(part.size >= subject.regions[i].size, "what discovery says of region " .. i)
    end
  end)

  it("says what it is on its bus", function()
    local dev = subject.take()
    if subject.pci then
      assert.same(subject.pci, { dev.info.vendor, dev.info.device })
      assert.equal(subject.pci[1], assert(dev.config:read16(0)))
      assert.equal(subject.pci[2], assert(dev.config:read16(2)))
      assert.is_false(assert(dev.config:command()).bus_master)
      assert(dev:bus_master(true))
      assert.is_true(assert(dev.config:command()).bus_master)
      assert(dev:bus_master(false))
      assert.is_false(assert(dev.config:command()).bus_master)
    else
      for what, result in pairs { bus_master = { dev:bus_master(true) }, config = { dev.config:read16(0) } } do
        assert.is_nil(result[1], what)
        assert.matches(subject.pattern, result[2])
        assert.equal("ENOTSUP", result[3])
      end
    end
  end)

  it("is opened and closed without a trace", function()
    local before = subject.unchanged and subject.unchanged()
    local dev = subject.take()
    for _, i in ipairs(numbers(subject)) do assert.is_truthy(dev.regions[i]) end
    local between = subject.unchanged and subject.unchanged()
    local seen = subject.accesses and subject.accesses(dev)
    assert(dev:close())
    assert.same({ before, before, subject.accesses and 0 }, { between, subject.unchanged and subject.unchanged(), seen })
  end)
end
