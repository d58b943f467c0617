--- Models: their abilities, and that their bugs are errors which name them.

local luio = require "luio"
local files = require "spec.support.files"
local wait = require "spec.support.wait"

local HEAD = "local model = { regions = { [0] = { size = 0x100 } }, pci = { vendor = 0x1234, device = 1 } }\n"

-- Opens a model with these functions.
local function open(body, head)
  local path = files.write("model.lua", (head or HEAD) .. body .. "\nreturn model")
  local dev, message, code = luio.open("sim:" .. path)
  return dev, message, code, path
end

describe("a model", function()
  local dev
  after_each(function()
    if dev then assert(dev:close()) end
    dev = nil
  end)
  teardown(files.clean)

  it("answers accesses of every width, on a thread of its own", function()
    dev = assert(open [[
      function model.reset(dev) dev.log = 0; dev.mem = {} end
      function model.read(dev, offset, width) return dev.mem[offset] or (width == 64 and 0x1122334455667788ULL or 0x11) end
      function model.write(dev, offset, width, value) dev.mem[offset] = value end
    ]])
    local regs = dev.regions[0]
    assert.equal(0x11, regs:read8(3))
    assert.equal(0x1122334455667788ULL, regs:read64(8))
    regs:write16(2, 0xfffe)
    assert.equal(0xfffe, regs:read16(2))
    regs:write64(16, 0xffffffffffffffffULL)
    assert.equal(0xffffffffffffffffULL, regs:read64(16))
    assert.equal(0x1234, dev.config:read16(0))
  end)

  it("has time of its own, and may interrupt while the driver does something else", function()
    dev = assert(open [[
      function model.read() return 0 end
      function model.write(dev, offset, width, value)
        if offset == 4 then dev:lower() return end
        dev:after(0.03, function() dev:raise() end)
      end
    ]])
    dev.irqs[0]:setup { ack = { { 4, 1 } } }
    assert(dev.irqs[0]:start())
    local tries = 0
    repeat -- a busy machine may take longer for the write than the device for its interrupt
      tries = tries + 1
      assert(tries < 100, "each write took longer than the time until its interrupt")
      local before = luio.now()
      dev.regions[0]:write32(0, 1)
      local quick = luio.now() - before < 0.025
      assert(dev.irqs[0]:wait(10))
      assert.is_true(luio.now() - before >= 0.03)
    until quick
  end)

  it("may interrupt by edges: each once, whoever unmasks meanwhile, and none behind the mask", function()
    dev = assert(open [[
      function model.read() return 0 end
      function model.write(dev, offset, width, value)
        for _ = 1, value do dev:pulse() end
      end
    ]])
    local regs, irq = dev.regions[0], dev.irqs[0]:setup { unmask = false }
    assert(irq:start())
    for i = 1, 50 do
      regs:write32(0, 2) -- the second meets the mask
      assert.equal(1, assert(irq:wait(10)).count)
      assert(irq:unmask())
      assert.is_nil((irq:poll()))
      assert.equal(i, irq:stats().interrupts)
    end
    assert.equal(0, bit.band(dev.config:read16(6), 8)) -- the status register's level
  end)

  it("may have no interrupt", function()
    dev = assert(open("function model.read() return 0 end function model.write() end", HEAD .. "model.vectors = 0\n"))
    local event, message, code = dev.irqs[0]:wait(0.1)
    assert.is_nil(event)
    assert.equal("ENOTSUP", code)
    assert.matches("has no interrupt", message)
    assert.is_false(dev.info.has_interrupts)
  end)

  it("offers all but what the kernel has of a device", function()
    dev = assert(open("function model.read() return 0 end function model.write() end"))
    local info = dev.info
    assert.same({ true, true, true, true }, { info.has_config, info.has_bars, info.has_dma, info.has_interrupts })
    assert.same({ false, false, false }, { info.has_sysfs, info.can_leave, info.can_bind })
    assert.is_nil(info.node)
  end)

  it("may have several regions, and holes between them", function()
    dev = assert(open("function model.read(_, offset, _, region) return region * 16 + offset end function model.write() end",
      "local model = { regions = { [0] = { size = 8 }, [2] = { size = 16 } } }\n"))
    assert.equal(4, dev.regions[0]:read8(4))
    assert.equal(40, dev.regions[2]:read8(8))
    assert.matches("has no region 1; it has: 0 2", select(2, dev:region(1)))
  end)

  it("moves data only while bus master is on, and only where a buffer is", function()
    dev = assert(open [[
      function model.read(dev) return dev.result end
      function model.write(dev, offset, width, value) dev.result = dev:dma_write(value, "hello") and 1 or 2 end
    ]])
    local buffer = assert(dev.dma:alloc(64))
    dev.regions[0]:write32(0, buffer.iova)
    assert.equal(2, dev.regions[0]:read32(0))
    assert.equal("\0", buffer:read(0, 1))
    assert.equal(1, dev.sim.stats().dma_denied)
    dev.on_interrupt()
    assert.matches("tried DMA while bus master was off: dev:bus_master%(true%)", dev.warnings[#dev.warnings])
    assert(dev:bus_master(true))
    dev.regions[0]:write32(0, buffer.iova)
    assert.equal(1, dev.regions[0]:read32(0))
    assert.equal("hello", buffer:read(0, 5))
    assert.same({ 5, 0 }, { dev.sim.stats().dma_bytes, dev.sim.stats().dma_faults })
    local iova = buffer.iova
    buffer:free()
    local ok, message = pcall(function() dev.regions[0]:write32(0, iova) end) -- the device uses it after free
    assert.is_false(ok)
    assert.matches("DMA write of 5 bytes at IOVA 0x%x+: no buffer of the driver is there", message)
    assert.equal(1, dev.sim.stats().dma_faults)
  end)

  it("that throws is an error at the access, with the model's name and line, and stays one", function()
    local opened, _, _, path = open [[
      function model.read(dev, offset) if offset == 4 then error "no such thing" end return 0 end
      function model.write() end
    ]]
    dev = assert(opened)
    assert.equal(0, dev.regions[0]:read32(0))
    for _ = 1, 2 do
      local ok, message = pcall(function() return dev.regions[0]:read32(4) end)
      assert.is_false(ok)
      assert.is_truthy(message:find("read32 sim:" .. path .. " region0 at 0x4: model: ", 1, true), message)
      assert.is_truthy(message:find("model.lua:2: no such thing", 1, true), message)
    end
    assert.is_false((pcall(function() return dev.regions[0]:read32(0) end)))
  end)

  it("that answers nonsense is an error that says what", function()
    for _, case in ipairs {
      { "nil", "returned nil, not a number" }, { "2^32", "is not a value of 32 bits" }, { "-1", "is not a value" },
      { "'x'", "returned string" }, { "0/0", "is not a value" },
    } do
      local d = assert(open(("function model.read() return %s end function model.write() end"):format(case[1])))
      local ok, message = pcall(function() return d.regions[0]:read32(0) end)
      assert.is_false(ok)
      assert.is_truthy(message:find(case[2], 1, true), message)
      assert(d:close())
    end
  end)

  it("whose timer throws is an error at the next access", function()
    dev = assert(open [[
      function model.read() return 0 end
      function model.write(dev) dev:after(0, function() error "late" end) end
    ]])
    dev.regions[0]:write32(0, 1)
    local event, said, code
    wait.till(2, "the timer has thrown", function()
      event, said, code = dev.irqs[0]:wait(0.01)
      return code ~= "ETIMEDOUT"
    end)
    assert.is_nil(event)
    assert.matches("model: .*late", said)
    assert.equal("EIO", code)
    local ok, message = pcall(function() return dev.regions[0]:read32(0) end)
    assert.is_false(ok)
    assert.matches("late", message)
  end)

  it("that throws in the top half gives an event that says so, and the device stays masked", function()
    dev = assert(open [[
      function model.read() error "dead" end
      function model.write(dev) dev:raise() end
    ]])
    dev.irqs[0]:setup { capture = { { "cause", 0 } } }
    assert(dev.irqs[0]:start())
    dev.regions[0]:write32(0, 1)
    local event, message, code = dev.irqs[0]:wait(1)
    assert.is_nil(event)
    assert.equal("EIO", code)
    assert.matches("dead", message)
    assert.is_true(dev.config:command().intx_disable)
  end)

  it("that never answers times out; closing stops it all the same", function()
    dev = assert(open [[
      function model.read() while true do end end
      function model.write() end
    ]])
    local ok, message = pcall(function() return dev.regions[0]:read32(0) end)
    assert.is_false(ok)
    assert.matches("did not answer within 2 s", message)
    assert(dev:close())
  end)

  it("that is malformed does not open: each with its reason, nothing left behind", function()
    for _, case in ipairs {
      { "return 5", "returns a table, this one a number" },
      { "local model = {", "model: .*model.lua:1:" },
      { "error 'at load'", "threw when it was loaded: .*at load" },
      { "return {}", "has no function read" },
      { "return { read = print, write = print }", "has no regions" },
      { "return { read = print, write = print, regoins = {}, vector = 0, rest = print }",
        "^%S+/model.lua: regoins: did you mean regions%?; rest: did you mean reset%?; vector: did you mean vectors%?$" },
      { "return { read = print, write = print, regions = { [0] = { size = 8, sise = 9 } } }", "region 0: unknown key sise %(did you mean size%?%)" },
      { "return { read = print, write = print, regions = {}, pci = { vendr = 1 } }", "pci: unknown key vendr %(did you mean vendor%?%)" },
      { "return { read = print, write = print, regions = {}, pci = { vendor = 0x10000 } }", "pci.vendor is 0 to 0xffff, not 65536" },
      { "return { read = print, write = print, regions = {}, pci = { vendor = '8086' } }", "pci.vendor is 0 to 0xffff, not 8086" },
      { "return { read = print, write = print, regions = {}, reset = true }", "reset is a boolean, not a function" },
      { "return { read = print, write = print, regions = {}, vectors = 2 }", "vectors is 0 or 1, not 2" },
      { "return { read = print, write = print, regions = { bar = {} } }", "region bar: { size = BYTES }" },
      { "return { read = print, write = print, regions = { [9] = { size = 1 } } }", "region 9" },
      { "return { read = print, write = print, regions = { [0] = { size = 2^50 } } }", "region 0 of 0x%x+ bytes is too large" },
      { "return { read = print, write = print, regions = {}, reset = function() error 'at reset' end }", "at reset" },
    } do
      local path = files.write("model.lua", case[1])
      local d, message, code = luio.open("sim:" .. path)
      assert.is_nil(d)
      assert.matches(case[2], message)
      assert.is_truthy(code == "EINVAL" or code == "EIO")
    end
    local d, message, code = luio.open "sim:nothing"
    assert.is_nil(d)
    assert.equal("ENOENT", code)
    assert.matches('there is no model "nothing" %(looked for', message)
  end)

  it("may have words of its own that are near to ours", function()
    local path = files.write("model.lua", [[return { read = function() return 1 end, write = print, regions = { [0] = { size = 8 } }, reset = function() end,
      writer = print, reads = 0, vectors = 0, vector = 5 }]])
    local d = assert(luio.open("sim:" .. path))
    assert.equal(1, d.regions[0]:read32(0))
    assert(d:close())
  end)

  it("may be opened twice: two devices", function()
    local a, b = assert(luio.open "sim:edu"), assert(luio.open "sim:edu")
    a.regions[0]:write32(4, 1)
    b.regions[0]:write32(4, 2)
    assert.equal(0xfffffffe, a.regions[0]:read32(4))
    assert.equal(0xfffffffd, b.regions[0]:read32(4))
    assert(a:close())
    assert(b:close())
  end)

  it("is closed by the collector, too, when a script forgets", function()
    do
      local d = assert(luio.open "sim:edu")
      d.regions[0]:read32(0)
      d:close()
    end
    local script = files.write("forgets.lua", 'local dev = require("luio").open "sim:edu" dev.regions[0]:read32(0) dev.irqs[0]:start()')
    local out, status = files.shell("LUA_PATH='./lua/?.lua;./lua/?/init.lua;;' luajit " .. script)
    assert.equal("", out)
    assert.equal(0, status)
  end)
end)
