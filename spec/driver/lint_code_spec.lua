--- luio.driver.lint_code: negative numbers among 64 bits, as far as a text shows them.

local bit = require "bit"
local files = require "spec.support.files"
local lint_code = require "luio.driver.lint_code"
local program = require "spec.support.program"

local function found(text, wide)
  local list = {}
  for i, f in ipairs(lint_code.check(text, wide or {})) do list[i] = ("%d: %s"):format(f.line, f.text:match "write (.*)$") end
  return list
end

teardown(files.clean)

describe("lint of a driver's Lua", function()
  it("sees bnot of a number and a negative number beside 64 bits", function()
    assert.same({ "1: bit.bnot(0xfULL)" }, found "return bit.band(region:read64(0), bit.bnot(0xf))")
    assert.same({ "3: bnot(15ULL)" }, found "local a\n-- band(x, -1)\nlocal b = band(bnot(15), ffi.cast('uint64_t', a))")
    assert.same({ "1: -1LL" }, found "x = bxor(0ULL, -1)")
    assert.same({ "1: bit.bnot(0xffULL)" }, found("return bit.bor(bit.band(dev.regs.BASE:read(), bit.bnot(0xff)), 1)", { BASE = true }))
    assert.same({ "1: bit.bnot(0xffULL)" }, found("return bit.band(dev.regs:get 'BASE', bit.bnot(0xff))", { BASE = true }))
  end)

  it("leaves alone what is right, and what can't be told", function()
    for _, text in ipairs {
      "return bit.band(region:read64(0), bit.bnot(0xfULL))", "return bit.band(region:read32(0), bit.bnot(0xf))",
      "return bit.band(x64, bit.bnot(mask))", "return bit.band(0ULL, -1LL)", "return bit.band(1, -1)", "bit.band(", "band(1ULL, x -1)",
      "return band(f(-1, 0ULL), 2)", "-- bit.band(0ULL, -1)", "s = 'bit.band(0ULL, -1)'", "return bit.bnot(0xf)",
    } do
      assert.same({}, found(text), text)
    end
  end)

  it("what it advises is right where what it finds is wrong", function()
    local value = 0x123456789abcdef5ULL
    assert.equal(0x123456789abcdef0ULL, bit.band(value, bit.bnot(0xfULL)))
    assert.equal(0xffffffffffffffffULL, bit.bor(value, -1LL))
  end)

  it("is part of `luio lint DRIVER`, and has nothing on those there are", function()
    local _, dir = files.write("registers.lua", [[return require("luio").registers { BASE = { 0, 64, "rw", description = "of the ring" } }]])
    files.put(dir .. "/init.lua", "local M = {}\nfunction M.start(dev)\n  M.at = bit.band(dev.regs.BASE:read(), bit.bnot(0xfff))\nend\nreturn M\n")
    local out, status = program.run("lint " .. dir)
    assert.equal(1, status)
    assert.matches("/init%.lua:3: band%(%.%.%., bit%.bnot%(0xfff%)%) with 64 bits: .*write bit%.bnot%(0xfffULL%)\n", out)
    for _, name in ipairs { "e1000e", "edu", "pl031", "pl061", "uart16550", "uio_timer" } do
      assert.is_nil((program.run("lint drivers/" .. name)):find "with 64 bits", name)
    end
  end)
end)
