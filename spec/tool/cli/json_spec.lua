--- Numbers in JSON, exact for those who read them, and the documents that only come while a driver runs. That each command's
--- JSON is some is spec/udev/hostile_spec.lua's.

local files = require "spec.support.files"
local output = require "luio.tool.output"
local program = require "spec.support.program"
local udev = require "spec.support.umockdev"

local function jq(text, filter)
  return files.shell(("jq -r '%s' '%s'"):format(filter, files.write("in.json", text)))
end

teardown(files.clean)

describe("a number in JSON", function()
  it("has all its digits up to 2^53, and is hexadecimal text from there on", function()
    for value, want in pairs {
      [0] = "0", [-1] = "-1", [0.25] = "0.25", [99999999999999] = "99999999999999", [100000000000000] = "100000000000000",
      [112218924597248] = "112218924597248", [-112218924597249] = "-112218924597249", [2 ^ 53 - 1] = "9007199254740991",
      [2 ^ 53] = "9007199254740992", [2 ^ 53 + 2] = '"0x0020000000000002"', [2 ^ 63] = '"0x8000000000000000"',
    } do
      assert.equal(want, output.line(value))
      assert.equal('{"at":' .. want .. "}", (output.line { at = value }))
    end
    assert.equal('["0xffff888012345678","0x0000000000000005"]', output.line { 0xffff888012345678ULL, 5ULL })
  end)

  it("is the address of a map where the kernel put it", function()
    local tree = udev.uio(0, { ["maps/map0/addr"] = "0x0000661025600000", ["maps/map1/addr"] = "0xffff888012345000" })
    local texts = udev.run(tree, [[
      return { (command("info", "uio0", "--json")), (command("list", "--json")), (command("info", "uio0")) } ]])
    assert.same({ "112219532558336\n0xffff888012345000\n", 0 }, { jq(texts[1], ".maps[].addr") })
    assert.same({ "112219532558336\n0xffff888012345000\n", 0 }, { jq(texts[2], ".[0].maps[].addr") })
    assert.matches("\nregion 1      memory 0xffff888012345000%+0x4000 ", texts[3])
  end)
end)

describe("luio run --json", function()
  it("says what becomes of a reload in lines that jq reads", function()
    local text = "return { name = 'one', start = function() print 'up' return true end, count = %d }"
    local path, dir = files.write("init.lua", text:format(1))
    local p = program.start { "run", dir, "sim:edu", "--json" }
    finally(function() p:close() end)
    p:wait "up"
    files.save(path, text:format(2))
    local line = p:wait "(%b{})\n"
    assert.same({ "2\n", 0 }, { jq(line, ".version") })
  end)
end)
