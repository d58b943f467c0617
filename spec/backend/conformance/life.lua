--- Conformance: a device that goes away, and comes back.

local busted = require "busted"
local assert = require "luassert"
local luio = require "luio"
local support = require "spec.backend.conformance.support"
local wait = require "spec.support.wait"

local it = busted.it
local refused, numbers, WIDTHS = support.refused, support.numbers, support.WIDTHS

---@param subject luio.BackendConformance
return function(subject)
  if not subject.leave then return end
  it("goes away: errors, not stray accesses; and it can come back", function()
    local dev = subject.take()
    dev.on_warning = function() end
    dev:watch_presence()
    local i = numbers(subject)[1]
    local r, id = dev.regions[i], subject.regions[i].id
    local waited, message, code
    luio.run(function()
      local waiter
      if subject.interrupt then
        dev.irqs[0]:setup(subject.interrupt.setup or {})
        waiter = luio.spawn(function() waited, message, code = dev.irqs[0]:wait(60) end)
        luio.sleep(0.01)
      end
      subject.leave(dev)
      wait.till(20, "its going is noticed", function() return dev.gone end)
      if waiter then
        assert(waiter:join(10))
        assert.same({ nil, "ENODEV" }, { waited, code })
        assert.matches("^device gone", message)
      end
    end)
    for _, width in ipairs(WIDTHS) do
      refused("the device is gone", r["read" .. width], r, 0)
      refused("the device is gone", r["write" .. width], r, 0, 0)
    end
    assert.equal("ENODEV", select(3, dev:bus_master(true)))
    assert.equal("ENODEV", select(3, dev.config:read16(0)))
    assert.equal("ENODEV", select(3, dev.irqs[0]:wait(1)))
    assert.matches("gone", tostring(dev))
    subject.back(dev)
    wait.till(20, "it is back", function() return not dev.gone or dev:retake() end)
    assert.equal(r, dev.regions[i])
    if id then assert.equal(id[3], tonumber(r["read" .. id[2]](r, id[1]))) end
    assert(dev:close())
  end)
end
