--- Conformance: interrupts, or that there are none.

local busted = require "busted"
local assert = require "luassert"
local luio = require "luio"

local it = busted.it

---@param subject luio.BackendConformance
return function(subject)
  local wanted = subject.interrupt
  if not wanted then
    it("says at once that it has no interrupt", function()
      local dev = subject.take()
      local start = luio.now()
      for _, result in ipairs { { dev.irqs[0]:wait(30) }, { dev.irqs[0]:poll() }, { dev.irqs[0]:start() } } do
        assert.is_nil(result[1])
        assert.matches(subject.pattern, result[2])
        assert.matches("interrupt", result[2])
        assert.equal("ENOTSUP", result[3])
      end
      assert.is_true(luio.now() - start < 10)
    end)
    return
  end

  local function taken(dev)
    return dev.irqs[0]:setup(wanted.setup or {})
  end
  local function quiet(dev)
    if wanted.quiet then wanted.quiet(dev) end
  end

  it("wakes who waits, once for each interrupt", function()
    local dev = subject.take()
    local irq, many = taken(dev), wanted.many or 20
    luio.run(function()
      for i = 1, many do
        local event, message
        local waiter = luio.spawn(function() event, message = irq:wait(10) end)
        if i % 2 == 0 then luio.sleep(0.001) end -- asleep, or not yet
        wanted.raise(dev)
        assert(waiter:join(10))
        assert(event, message)
        assert.is_true(event.count >= 1)
        for _, name in ipairs(wanted.names or {}) do assert.is_true(event[name] ~= 0, name) end
      end
    end)
    quiet(dev)
    local stats = irq:stats()
    assert.is_true(stats.interrupts >= many)
    assert.equal(stats.interrupts, stats.delivered + stats.overflow)
    assert.equal(0, stats.overflow)
  end)

  it("comes to nobody when nothing raises it, and to the next owner when it does", function()
    for _ = 1, 2 do
      local dev = subject.take()
      local irq = taken(dev)
      quiet(dev)
      while irq:wait(0.05) do end -- what was on its way
      local event, message, code = irq:wait(0.05)
      assert.is_nil(event)
      assert.equal("ETIMEDOUT", code)
      assert.matches(subject.pattern, message)
      wanted.raise(dev)
      assert(irq:wait(10))
      quiet(dev)
      assert(dev:close())
    end
  end)

  it("has the one vector", function()
    local dev = subject.take()
    local event, message, code = dev.irqs[1]:wait(5)
    assert.is_nil(event)
    assert.matches("no vector 1", message)
    assert.equal("ENOENT", code)
  end)
end
