--- Loading and starting drivers: the good one, and every bad one with its message.

local luio = require "luio"
local files = require "spec.support.files"

local function driver(text)
  return (files.write("init.lua", text):gsub("/init.lua$", ""))
end

describe("a driver", function()
  teardown(files.clean)

  it("is loaded by name, folder or file, without touching hardware", function()
    for _, name in ipairs { "edu", "drivers/edu", "drivers/edu/init.lua" } do
      assert.equal("edu", assert(luio.load(name)).name)
    end
  end)

  it("that is not there: says where it was looked for", function()
    local d, message, code = luio.load "nope"
    assert.is_nil(d)
    assert.equal("ENOENT", code)
    assert.matches('there is no driver "nope" %(looked for .*drivers/nope/init.lua.*LUIO_DRIVERS names more folders', message)
    assert.equal("ENOENT", select(3, luio.load "some/where"))
    assert.equal("ENOENT", select(3, luio.load "lua")) -- a folder, but not a driver's
  end)

  it("with a fault at load: says which, with file and line, and loses nothing", function()
    for _, case in ipairs {
      { "return {", "init.lua:1: unexpected symbol" },
      { "local x = nil\nreturn x.y", "threw when it was loaded: .*init.lua:2: attempt to index" },
      { "error {}", "threw when it was loaded: table" },
      { "return 5", "returns a table, this one a number" },
      { "return {}", "the driver has no name" },
      { "return { name = 'x', start = 5 }", "x.start is a number, not a function" },
      { "return { name = 'x', irq = 'fast' }", "x.irq is a string, not a table" },
      { "return { name = 'x', irqs = {} }", "x.irqs: did you mean irq%?" },
      { "return { name = 'x', match = { pci = '0x1234:0x11e8' } }", "x.match.pci is four digits of the vendor and four of the device" },
      { "return { name = 'x', match = { pci = 0x1234 } }", "x.match.pci is a number, not a string" },
      { "return { name = 'x', match = { { pic = '1:2' } } }", "x.match: unknown key pic %(did you mean pci%?%)" },
      { "return { name = 'x', dma = { bit = 28 } }", "x.dma: unknown key bit %(did you mean bits%?%)" },
      { "return { name = 'x', dma = { bits = '28' } }", "x.dma.bits is a string, not a number" },
      { "return { name = 'x', durable = { n = 1 } }", "x.durable is a list of names of dev.state's fields" },
      { "return { name = 'x', reset = 'no' }", "x.reset is a string, not a boolean" },
      { "return { name = 'x', dma = { bits = 8 } }", "x.dma.bits is 12 to 64, not 8" },
    } do
      local d, message, code = luio.load(driver(case[1]))
      assert.is_nil(d)
      assert.equal("EINVAL", code)
      assert.matches(case[1] == "return {" and "init.lua:1:" or case[2], message)
    end
  end)

  it("that does not start: says why, and the device is closed again", function()
    for _, case in ipairs {
      { "start = function() return nil, 'not today', 'EAGAIN' end", "driver x did not start on sim:edu: not today", "EAGAIN" },
      { "start = function() end", "start returned nothing", "EIO" },
      { "start = function() error 'boo' end", "driver x threw in start: .*boo", "EFAULT" },
      { "start = function(dev) dev.dma.alloc(4096) end", "^driver x threw in start: [^\n]*init.lua:1: alloc: size is a whole number, not nil$", "EFAULT" },
      { "irq = { ack = { { 0, 'cause' } } }", "driver x did not start on sim:edu: irq: ack%[1%] names \"cause\", which is no capture", "EINVAL" },
      { "irq = { capture = { { 'cause' } } }", "irq: capture%[1%] \"cause\": the offset is nil", "EINVAL" },
      { "irq = { ack = 5 }", "irq: a register's name, or a list, not 5", "EINVAL" },
      { "irq = { capture = { { 'cause', 0x200000 } } }", "no 32%-bit register at 0x200000", "EINVAL" },
      { "irq = { [1] = { capture = {} } }", "driver x wants 2 vectors: .*sim:edu: a model has the one interrupt", "ENOTSUP" },
    } do
      local name = driver(("return { name = 'x', %s }"):format(case[1]))
      local dev, message, code = luio.start(name, "sim:edu")
      assert.is_nil(dev)
      assert.matches(case[2], message)
      assert.equal(case[3], code)
    end
    assert.is_nil(next(require("luio.device").open_devices))
  end)

  it("is for the devices it names, and for no other", function()
    local d, message, code = luio.start "edu"
    if d then return d:close() end -- there is one
    assert.equal("ENODEV", code)
    assert.matches("no device for driver edu here; there is its simulated one: sim:edu", message)
    assert.is_nil(d)
  end)

  it("that fails to stop is reported, and the device is closed all the same", function()
    local dev = assert(luio.start(driver "return { name = 'x', stop = function() error 'stuck' end }", "sim:edu"))
    assert(dev:close())
    assert.matches("stop of driver x failed: .*stuck", dev.warnings[#dev.warnings])
  end)
end)

describe("luio.open", function()
  it("refuses what is no address", function()
    for _, address in ipairs { "", "uio", "uio-1", "uio9999999999999", "0000:00:04", "../../etc/passwd", ("x"):rep(10000), "sim" } do
      local dev, message, code = luio.open(address)
      assert.is_nil(dev)
      assert.equal("EINVAL", code)
      assert.matches("is not a device address: uio0 or 0000:00:04.0; a simulated one is sim:NAME", message)
    end
    assert.same({ nil, "a device address has no NUL byte in it", "EINVAL" }, { luio.open "uio0\0uio1" })
    assert.has_error(function() luio.open() end)
  end)

  it("says that a device is not there", function()
    local dev, message, code = luio.open "uio4711"
    assert.is_nil(dev)
    assert.equal("there is no device uio4711: `luio list` shows what there is", message)
    assert.equal("ENODEV", code)
  end)
end)
