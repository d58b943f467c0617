--- Flattened device trees: luio.qemu.device_tree reads what a board has, and says no to what is no tree.

local bit = require "bit"
local tree = require "luio.qemu.device_tree"

local function u32(n)
  return string.char(bit.band(bit.rshift(n, 24), 255), bit.band(bit.rshift(n, 16), 255), bit.band(bit.rshift(n, 8), 255), bit.band(n, 255))
end

local function words(...)
  local out = {}
  for i, n in ipairs { ... } do out[i] = u32(n) end
  return table.concat(out)
end

local function padded(text) return text .. ("\0"):rep(-#text % 4) end

-- The flattened form of { "name", property = bytes, { child } }.
local function flatten(root)
  local strings, structure = "", {}
  local function node(n)
    table.insert(structure, words(1) .. padded(n[1] .. "\0"))
    for key, value in pairs(n) do
      if type(key) == "string" then
        table.insert(structure, words(3, #value, #strings) .. padded(value))
        strings = strings .. key .. "\0"
      end
    end
    for i = 2, #n do node(n[i]) end
    table.insert(structure, words(2))
  end
  node(root)
  local body = table.concat(structure) .. words(9)
  local total = 40 + 16 + #body + #strings
  return words(0xd00dfeed, total, 56, 56 + #body, 40, 17, 16, 0, #strings, #body) .. ("\0"):rep(16) .. body .. strings
end

-- A board with a controller of three words, and those nodes.
local function board(...)
  return { "", ["#address-cells"] = words(2), ["#size-cells"] = words(2), ["interrupt-parent"] = words(7),
    { "intc@0", phandle = words(7), ["#interrupt-cells"] = words(3) }, ... }
end

local function devices(root) return tree.devices(assert(tree.parse(flatten(root)))) end

describe("a device tree", function()
  it("has devices: nodes with a name of hardware, and registers", function()
    local found = devices(board(
      { "rtc@1000", compatible = "arm,pl031\0arm,primecell\0", reg = words(0, 0x1000, 0, 0x100), interrupts = words(0, 2, 4) },
      { "flash@0", compatible = "cfi-flash\0", reg = words(0, 0, 0, 0x4000, 1, 0, 0, 0x8000) },
      { "psci", compatible = "arm,psci\0" },
      { "memory@0", reg = words(0, 0, 0, 0x1000) }))
    assert.equal(2, #found)
    assert.same({ "flash@0", { "cfi-flash" }, { { addr = 0, size = 0x4000 }, { addr = 2 ^ 32, size = 0x8000 } } },
      { found[1].name, found[1].compatible, found[1].registers })
    assert.same({ "rtc@1000", { "arm,pl031", "arm,primecell" }, { { addr = 0x1000, size = 0x100 } }, 2, false },
      { found[2].name, found[2].compatible, found[2].registers, found[2].line, found[2].edge })
  end)

  it("leaves out what is not enabled", function()
    local found = devices(board(
      { "a@0", compatible = "x,a\0", reg = words(0, 0, 0, 4), status = "disabled\0" },
      { "b@4", compatible = "x,b\0", reg = words(0, 4, 0, 4), status = "okay\0" }))
    assert.same({ 1, "b@4" }, { #found, found[1].name })
  end)

  it("has addresses as the processor sees them, through the buses between", function()
    local function under(ranges)
      return devices(board({ "soc", ["#address-cells"] = words(1), ["#size-cells"] = words(1), ranges = ranges,
        { "uart@20", compatible = "x,uart\0", reg = words(0x20, 0x10) } }))
    end
    assert.same({ { addr = 0x20, size = 0x10 } }, under("")[1].registers) -- as they are
    assert.same({ { addr = 0x9000020, size = 0x10 } }, under(words(0, 0, 0x9000000, 0x1000))[1].registers)
    assert.same({ { addr = 0x9000010, size = 0x10 } }, under(words(0x40, 0, 0, 0x10, 0x10, 0, 0x9000000, 0x1000))[1].registers)
    assert.same({}, under(words(0x40, 0, 0x9000000, 0x1000))) -- another place
    assert.same({}, under(nil)) -- no way there
  end)

  it("has interrupts that are the controller's, of the whole machine", function()
    local function line(interrupts, more)
      local node = { "a@0", compatible = "x,a\0", reg = words(0, 0, 0, 4), interrupts = interrupts }
      for key, value in pairs(more or {}) do node[key] = value end
      local found = devices(board(node, { "gpio", phandle = words(8), ["#interrupt-cells"] = words(2) }))[1]
      return { found.line, found.edge }
    end
    assert.same({ 16, true }, line(words(0, 16, 1)))
    assert.same({ 17, false }, line(words(0, 17, 4, 0, 18, 4))) -- the first
    assert.same({}, line(words(1, 13, 4))) -- a processor's own
    assert.same({}, line(nil))
    assert.same({}, line(words(3, 1), { ["interrupt-parent"] = words(8) })) -- another controller's
    assert.same({}, line(words(0, 16, 1), { ["interrupt-parent"] = words(99) })) -- nobody's
  end)

  it("names devices by their node, their node's first part, and their hardware", function()
    local found = devices(board(
      { "uart@0", compatible = "arm,pl011\0arm,primecell\0", reg = words(0, 0, 0, 4) },
      { "uart@8", compatible = "ns16550a\0", reg = words(0, 8, 0, 4) },
      { "pl011", compatible = "x,decoy\0", reg = words(0, 16, 0, 4) }))
    local function named(name)
      local names = {}
      for i, one in ipairs(tree.named(found, name)) do names[i] = one.name end
      return names
    end
    assert.same({ "uart@8" }, named "uart@8")
    assert.same({ "uart@0", "uart@8" }, named "uart")
    assert.same({ "uart@0" }, named "arm,pl011")
    assert.same({ "uart@0" }, named "primecell")
    assert.same({ "uart@8" }, named "ns16550a")
    assert.same({ "pl011" }, named "pl011") -- a node's name before hardware's
    assert.same({}, named "nosuch")
  end)

  it("is refused where it is none: cut short, or changed anywhere", function()
    local text = flatten(board(
      { "soc", ["#address-cells"] = words(1), ["#size-cells"] = words(1), ranges = words(0, 0, 0x9000000, 0x1000),
        { "uart@20", compatible = "x,uart\0", reg = words(0x20, 0x10), interrupts = words(0, 3, 4) } }))
    assert.equal(1, #tree.devices(assert(tree.parse(text))))
    for size = 0, #text - 1 do
      local root, message, code = tree.parse(text:sub(1, size))
      -- The last string may be whole all the same.
      if not root then assert.same({ "EINVAL", "device tree: " }, { code, message:sub(1, 13) }) end
      assert.is_true(root == nil or size > 56)
    end
    for at = 1, #text do
      for _, byte in ipairs { "\0", "\1", "\3", "\127", "\255" } do
        local root, message, code = tree.parse(text:sub(1, at - 1) .. byte .. text:sub(at + 1))
        if root then tree.devices(root) else assert.same({ "EINVAL", "device tree: " }, { code, message:sub(1, 13) }) end
      end
    end
    local deep = {}
    for i = 1, 70 do deep[i] = words(1, 0) end
    local _, message = tree.parse(words(0xd00dfeed, 0, 40, 40) .. ("\0"):rep(24) .. table.concat(deep))
    assert.equal("device tree: its nodes are not one tree", message)
  end)
end)
