--- Interrupts at the prompt: `irqs`, `unmask`, and what the session keeps of them.

local luio = require "luio"
local prompt = require "spec.support.prompt"
local wait = require "spec.support.wait"

local open, run, hears, busted = prompt.open, prompt.run, prompt.hears, prompt.busted

describe("interrupts at the prompt", function()
  after_each(prompt.close)

  it("are taken as is prompt.said, by names of registers, also from now on; the session has it", function()
    open { device = "sim:edu" }
    run 'irqs { capture = { "IRQ_STATUS", "ID" }, ack = { { "IRQ_ACK", "IRQ_STATUS" } } }'
    run "IRQ_RAISE:write(5)"
    hears(1)
    assert.equal("interrupt 1  ID=0x10000ed IRQ_STATUS=5", prompt.said[1])
    run 'irqs { capture = { { "why", 0x24 } }, ack = { { 0x64, "why" } } }'
    run "IRQ_RAISE:write(6)"
    hears(2)
    assert.equal("interrupt 2  why=6", prompt.said[2])
    run "session 'driver'"
    assert.is_truthy(prompt.printed[1]:find('irq = { capture = { { "IRQ_STATUS", 0x24 }, { "ID", 0x0 } }', 1, true), prompt.printed[1])
  end)

  it("are taken as was set up by hand, and the session has it before one has come", function()
    open { device = "sim:edu" }
    run 'dev.irqs[0]:setup { capture = { { "why", 0x24 } }, ack = { { 0x64, "why" } }, capacity = 64 }'
    run "irqs()"
    for _, form in ipairs { "script", "spec", "driver" } do
      run(("session '%s'"):format(form))
      assert.is_truthy(prompt.printed[1]:find('{ capture = { { "why", 0x24 } }, ack = { { 0x64, "why" } }, capacity = 64 }', 1, true), prompt.printed[1])
    end
    run "IRQ_RAISE:write(5)"
    hears(1)
    assert.same({ "interrupt 1  why=5" }, prompt.said)
  end)

  it("that are said wrongly, or are a driver's, change nothing", function()
    open { device = "sim:edu" }
    for code, expected in pairs {
      ["irqs { capture = 'IRQ_STATSU' }"] = "^irqs: the map has no register IRQ_STATSU %(did you mean IRQ_STATUS%?%)",
      ["irqs { captur = 'IRQ_STATUS' }"] = "^irqs: setup: unknown key captur %(did you mean capture%?%)",
      ["irqs 'IRQ_STATUS'"] = "^irqs%(%), irqs {",
    } do assert.matches(expected, select(2, pcall(run, code))) end
    assert.is_false(prompt.session.dev.irqs[0]:started())
    run "start()"
    assert.matches("^driver edu runs, and states what takes its interrupts", select(2, pcall(run, "irqs { capture = 'ID' }")))
    run "irqs()"
    run "IRQ_RAISE:write(3)"
    hears(1)
    assert.same({ "interrupt 1  IRQ_STATUS=3" }, prompt.said)
  end)

  it("that are left masked by hand are let through by hand, in the script, too", function()
    open { device = "sim:edu" }
    run 'irqs { capture = "IRQ_STATUS", unmask = false }'
    run "IRQ_RAISE:write(1)"
    hears(1)
    run "IRQ_ACK:write(1) unmask() IRQ_RAISE:write(2)"
    hears(2)
    run "IRQ_ACK:write(2)"
    run "session 'spec'"
    run "IRQ_RAISE:write(1)" -- it is left masked by this one, and lets others through when told how
    run "IRQ_ACK:write(1)"
    local before = #prompt.said
    run 'irqs { capture = "IRQ_STATUS", ack = "IRQ_ACK" }'
    run "IRQ_RAISE:write(4)"
    hears(before + 1)
    run "session 'spec'"
    assert.is_truthy(prompt.printed[1]:find("{ { \"IRQ_STATUS\", 0x24 } }, unmask = false }", 1, true), prompt.printed[1])
    local out, status = busted(prompt.printed[1])
    assert.equal(0, status, out)
  end)

  it("are shown as they come, with the driver's top half, until they are not wanted", function()
    open { device = "sim:edu" }
    run "irqs()"
    run "IRQ_RAISE:write(5)"
    hears(1)
    assert.same({ "interrupt 1  IRQ_STATUS=5" }, prompt.said)
    assert.equal(0, run "IRQ_STATUS:read()")
    run "irqs(false)"
    run "IRQ_RAISE:write(1) luio.sleep(0.1)"
    assert.equal(1, #prompt.said)
  end)

  it("are few lines when they are many, and all are counted", function()
    open { device = "sim:edu" }
    run "irqs()"
    local total, quick = 0
    repeat -- a busy machine may take seconds for them: then they are not many at once
      for i = #prompt.said, 1, -1 do prompt.said[i] = nil end
      local began = luio.now()
      run "for i = 1, 50 do IRQ_RAISE:write(1) repeat luio.sleep(0.001) until IRQ_STATUS:read() == 0 end"
      quick = luio.now() - began < 1
      run "luio.sleep(1.3) IRQ_RAISE:write(1)"
      total = total + 51
      wait.till(5, "the last one", function() return prompt.said[1] and prompt.said[#prompt.said]:find(("^interrupt %d "):format(total)) end)
    until quick or total > 1000
    assert.is_true(#prompt.said <= 8, table.concat(prompt.said, "\n"))
    local found
    for _, line in ipairs(prompt.said) do found = found or line:match "^%.%.%. and %d+ more interrupts, %d+ in all" end
    assert.is_string(found)
  end)

  it("are left masked when nothing says how to acknowledge", function()
    open { device = "sim:edu" }
    prompt.session.target.driver = nil
    run "irqs()"
    assert.matches("nothing says how to acknowledge", prompt.printed[1])
    run "IRQ_RAISE:write(1)"
    hears(1)
    assert.matches("^interrupt 1 .*left masked: acknowledge it, then unmask", prompt.said[1])
    run "luio.sleep(0.1)"
    assert.equal(1, #prompt.said)
    run "IRQ_ACK:write(1) unmask() IRQ_RAISE:write(2)"
    hears(2)
    assert.equal(2, #prompt.said)
  end)

  it("are waited for in the session's script, so that it does what was done", function()
    open { device = "sim:edu" }
    run "irqs()"
    run "STATUS:write { RAISE_IRQ = 1 }"
    run "FACTORIAL:write(10)"
    hears(1)
    run "FACTORIAL:read()"
    run "session 'spec'"
    local text = prompt.printed[1]
    assert.is_truthy(text:find("assert(dev.irqs[0]:wait(1))\n    assert.equal(0x00375f00, regs.FACTORIAL:read())", 1, true), text)
    run "session()"
    for _ = 1, 5 do assert(loadstring(prompt.printed[1]))() end
    local out, status = busted(text)
    assert.equal(0, status, out)
  end)

  it("go to a driver once that is started", function()
    open { device = "sim:edu" }
    run "irqs()"
    run "start()"
    assert.same({ "driver edu runs" }, prompt.printed)
    local names = {}
    for name in pairs(prompt.session.env.driver) do names[name] = true end
    assert.is_true(names.factorial and names.from_device)
    assert.equal(120, (run "driver.factorial(dev, 5)"))
    assert.matches("runs already", select(2, pcall(run, "start()")))
    function prompt.session.dev.live.reload() return { ok = false, step = "stage", version = 1, message = "two faults:\nfirst\nsecond" } end
    run "reload()"
    assert.same({ "reload refused in stage, version 1 goes on: two faults:\nfirst\nsecond" }, prompt.printed)
    prompt.session.dev.live.reload = nil
    run "undo()"
    assert.matches("FACTORIAL", prompt.printed[1])
  end)
end)
