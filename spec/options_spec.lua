local options = require "luio.options"

local KNOWN = {
  rx = options.power_of_two(8, 4096, "descriptors"), count = options.needed(options.whole(1, 64)), by = options.one_of { "mac", "flow" },
  loopback = "boolean", changed = "function", region = options.whole(4096, 2 ^ 31 - 1, nil, "4096 bytes to 2 GiB"),
  address = { words = "one like 10.0.0.1/24", fits = function(value) return value == "10.0.0.1/24" end }, one = options.one_of { "a" },
  most = options.whole(1, 2 ^ 53),
}

local ALL = "(there is address, by, changed, count, loopback, most, one, region and 1 more)"

describe("options", function()
  it("are fine when each is known, of its kind, and none that is needed is missing", function()
    for _, given in ipairs {
      { count = 1 }, { count = 64, rx = 8, by = "flow", loopback = false, changed = print, region = 4096, address = "10.0.0.1/24", one = "a" },
      { count = 2, rx = 4096, most = 2 ^ 53 },
    } do
      assert.is_nil(options.fault(given, KNOWN))
    end
    assert.is_nil(options.fault(nil, { rx = "number" }))
  end)

  it("have a fault in words, with the value, and for an unknown name the nearest", function()
    for text, given in pairs {
      ["unknown option lopback (did you mean loopback?)"] = { count = 1, lopback = true }, ["unknown option 12345 " .. ALL] = { [12345] = "rx", count = 1 },
      ["unknown option zzzzzzzz " .. ALL] = { count = 1, zzzzzzzz = 5 }, ["rx is 8 to 4096 descriptors, a power of two, not 100"] = { count = 1, rx = 100 },
      ["rx is 8 to 4096 descriptors, a power of two, not 8192"] = { count = 1, rx = 8192 }, ["count is 1 to 64, not nil"] = {},
      ["count is 1 to 64, not 1.5"] = { count = 1.5 }, ["count is 1 to 64, not nan"] = { count = 0 / 0 }, ["count is 1 to 64, not 5 a"] = { count = "5 a" },
      ['by is "mac" or "flow", not luck'] = { count = 1, by = "luck" }, ['one is "a", not b'] = { count = 1, one = "b" },
      ["loopback is a boolean, not 1"] = { count = 1, loopback = 1 }, ["region is 4096 bytes to 2 GiB, not 5"] = { count = 1, region = 5 },
      ["address is one like 10.0.0.1/24, not x"] = { count = 1, address = "x" }, ["most is 1 or more, not 0"] = { count = 1, most = 0 },
      ["the options are a table, not 5"] = 5,
    } do
      assert.equal(text, (options.fault(given, KNOWN):gsub("%-nan", "nan")))
    end
    assert.equal("path is a string, not nil", options.fault({}, { path = options.needed "string" }))
    assert.equal("map is an array, not 5", options.fault({ map = 5 }, { map = "array" }))
  end)

  it("of luio's functions are checked, each with its name", function()
    local luio = require "luio"
    local dev = assert(luio.open "sim:edu")
    finally(function() dev:close() end)
    for text, call in pairs {
      ["luio.open: unknown option readonly (did you mean read_only?)"] = function() luio.open("sim:edu", { readonly = true }) end,
      ["luio.open: read_only is a boolean, not 1"] = function() luio.open("sim:edu", { read_only = 1 }) end,
      ["alloc: unknown option alignment (there is align, mask, name)"] = function() dev.dma:alloc(64, { alignment = 128 }) end,
      ["alloc: align is a whole number, not 1.5"] = function() dev.dma:alloc(64, { align = 1.5 }) end,
      ["luio.pool: unknown option cuont (did you mean count?)"] = function() luio.pool(dev, { cuont = 5 }) end,
      ["net.open: unknown option loopbck (did you mean loopback?)"] = function() require("luio.net").open("sim:e1000e", { loopbck = true }) end,
      ["serial.open: unknown option buad (did you mean baud?)"] = function() require("luio.serial").open("sim:uart16550", { buad = 9600 }) end,
      ["serial.open: bits is 5 to 8, not 9"] = function() require("luio.serial").open("sim:uart16550", { bits = 9 }) end,
      ["tap.open: pool is a pool whose packets have 12 bytes of headroom, not nil"] = function() require("luio.net.tap").open {} end,
      ["pcapng.create: unknown option snaplength (did you mean snaplen?)"] = function() require("luio.net.pcapng").create("x", { snaplength = 60 }) end,
      ["pcapng.to: capacity is 1 to 511 packets, not 512"] = function() require("luio.net.pcapng").to(1, { capacity = 512 }) end,
      ["memif.listen: clients is 1 to 64, not 65"] = function() require("luio.net.memif.server").listen("x", { clients = 65 }) end,
      ["memif.connect: ring is 8 to 16384, a power of two, not 100"] = function() require("luio.net.memif").connect("x", { ring = 100 }) end,
      ["share.start: clients is 1 to 64, not 65"] = function() require("luio.net.share").start(nil, { path = "x", clients = 65 }) end,
      ["share.start: path is a string, not nil"] = function() require("luio.net.share").start(nil, {}) end,
      ["stream.sender: dst is a MAC address, not 1:2"] = function() require("luio.net.stream").sender({}, { dst = "1:2" }) end,
    } do
      local ok, message = pcall(call)
      assert.is_false(ok, text)
      assert.equal(text, message:match ": (.*)")
      assert.matches("options_spec.lua:%d+: ", message)
    end
  end)

  it("raise in the caller of the function that they are for, with its name", function()
    local function open(given) return { options.check("x.open", given, { rx = "number" }) } end
    assert.same({ {} }, open())
    assert.same({ { rx = 5 } }, open { rx = 5 })
    local ok, message = pcall(function() open { tx = 5 } end)
    local line = debug.getinfo(1, "l").currentline - 1
    assert.is_false(ok)
    assert.matches(("options_spec.lua:%d: x.open: unknown option tx %%(did you mean rx%%?%%)$"):format(line), message)
  end)
end)
