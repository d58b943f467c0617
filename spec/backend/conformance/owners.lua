--- Conformance: who has it, and what is left of a device that was closed.

local busted = require "busted"
local assert = require "luassert"
local support = require "spec.backend.conformance.support"

local it = busted.it
local refused, numbers, WIDTHS = support.refused, support.numbers, support.WIDTHS

---@param subject luio.BackendConformance
return function(subject)
  it("can be closed twice; what is left of it is an error", function()
    local dev = subject.take()
    local r, irq = dev.regions[numbers(subject)[1]], dev.irqs[0]
    assert.is_true(dev:close())
    assert.is_true(dev:close())
    assert.is_true(dev.closed)
    for _, width in ipairs(WIDTHS) do
      refused("the device is closed", r["read" .. width], r, 0)
      refused("the device is closed", r["write" .. width], r, 0, 0)
    end
    refused("the device is closed", function() return dev:region(0) end)
    refused("the device is closed", function() return dev:bus_master(true) end)
    refused("closed", function() return irq:wait(1) end)
    assert.matches("closed", tostring(dev))
    assert.matches("closed", tostring(r))
  end)

  it(subject.private and "is another device for each who opens it" or "has one owner; to look is free", function()
    local dev = subject.take()
    local i = numbers(subject)[1]
    local id = subject.regions[i].id
    local second, message, code = subject.opened()
    if subject.private then
      assert(second, message)
      assert.are_not.equal(dev.regions[i], second.regions[i])
      assert(second:close())
    else
      assert.is_nil(second)
      assert.equal("EBUSY", code)
      assert.matches(subject.pattern, message)
    end
    local beside = subject.take { read_only = true }
    if id then assert.equal(id[3], tonumber(beside.regions[i]["read" .. id[2]](beside.regions[i], id[1]))) end
    assert(beside:close())
    if id then assert.equal(id[3], tonumber(dev.regions[i]["read" .. id[2]](dev.regions[i], id[1]))) end -- undisturbed
    assert(dev:close())
    local third = subject.take() -- free again
    assert(third:close())
  end)
end
