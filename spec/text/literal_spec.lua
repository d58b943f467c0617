--- Tables of literals in Lua text, read without running it: as Lua itself reads them, or not at all.

local literal = require "luio.text.literal"

-- Texts that stand for a table, and what Lua makes of them.
local TABLES = {
  "{}", "{ pci = '1234:11e8' }", '{ pci = "1234:11e8", }', "{ { pci = 'a' }, { of = 'b' }; { uio = [[c]] } }",
  "{ [1] = 'x', ['key'] = true, [2.5] = false, [true] = 1 }", "{ 1, -2, 0x10, 1e3, 1e-3, .5, 3., nil, 5 }",
  [[{ "\65\066\x43\n\t\\\"\'", 'a\
b' }]], "{ [==[a]]b]==], [[\n\nx]] }", "{ -- comment, with { and '\n a = 1, --[[ another\n } ]] b = 2 --[==[ ]] ]==] }",
  "{ a = { b = { c = { 'deep' } } } }",
}

-- Texts whose value only a run tells.
local OTHERS = {
  "f()", "{ f() }", "{ pci = f() }", "{ pci = (function() while true do end end)() }", "{ 'a' .. 'b' }", "{ 1 + 1 }", "{ x }", "{ ('x'):rep(3) }",
  "{ 'x' } .. y", "{} or x", "'text'", "5", "nil", "{ a = }", "{ = 1 }", "{ [nil] = 1 }", "{ 'a' 'b' }", "{ 1LL }", "{ 1x }", "{ '\\u{41}' }",
  "{ '\\z x' }", "{ function() end }", "{ not true }", "{ - x }", "{ #'x' }", "require 'x'", "({ 'x' })", "setmetatable({}, x)",
  "{ match = 1 }", "{ '", "{ 'x\n' }", "{ [[x }", "{ --[[ }", ("{"):rep(200000), ("-"):rep(200000), ("{ - "):rep(1000),
}

describe("a table of literals", function()
  it("is what Lua makes of it", function()
    for _, text in ipairs(TABLES) do
      local expected = assert(loadstring("return " .. text))()
      for _, around in ipairs { "local M = { name = 'x', match = %s }", "M.match = %s return M", 'M["match"]=%s\nlocal x', "match = %s" } do
        local code = around:gsub("%%s", function() return text end)
        local got, why = literal.assigned(code, "match")
        assert.is_truthy(got, code .. ": " .. tostring(why))
        assert.same(expected, got[1], code)
      end
    end
  end)

  it("is nothing else", function()
    for _, text in ipairs(OTHERS) do
      local got, why = literal.assigned("return { name = 'x', match = " .. text .. " }", "match")
      assert.is_nil(got, text:sub(1, 60))
      assert.is_truthy(why == "match is not stated as a table of literals" or why:match "^line %d+ is no Lua$", why)
    end
    assert.is_nil(literal.assigned("rawset(M, 'match', {})", "match"))
  end)

  it("is not looked for in comments and strings, nor taken from comparisons and methods", function()
    for _, text in ipairs { "", "-- match = { 'x' }", "--[[ match = { 'x' } ]]", "x = 'match = {}'", "if x.match == {} then end",
      "x = s:match '^a' y = string.match(s, 'b')", "rematch = { 'x' } match2 = { 'y' }", "#!/usr/bin/luio match = {}\nreturn {}" } do
      assert.same({}, literal.assigned(text, "match"), text)
    end
    assert.same({ { "a" }, { "b" } }, literal.assigned("match = { 'a' } M.match = { 'b' }", "match"))
  end)

  it("is not looked for in a text that is too large, and found in one that is not in no time", function()
    local text = ("x = { 'a', 1 } -- y\n"):rep(40000) .. "match = { 'z' }"
    assert.same({ { "z" } }, literal.assigned(text, "match"))
    assert.same({ nil, "it has more than 1048576 bytes" }, { literal.assigned(text .. (" "):rep(2 ^ 20), "match") })
  end)
end)

describe("a text that is one table of literals", function()
  it("is what Lua makes of it", function()
    for _, text in ipairs(TABLES) do
      for _, around in ipairs { "return %s", "-- a comment\n\nreturn %s;\n", "return%s --[[ more ]]" } do
        local code = around:gsub("%%s", function() return text end)
        assert.same(assert(loadstring(code))(), literal.returned(code), code)
      end
    end
  end)

  it("is nothing else", function()
    for _, text in ipairs(OTHERS) do
      if text ~= "{ match = 1 }" then assert.is_nil((literal.returned("return " .. text)), text:sub(1, 60)) end
    end
    for _, text in ipairs { "", "{}", "local x = {} return x", "return {}, {}", "return {} return {}", "return {};;", "return {} '", "returned {}", "return" } do
      local value, why = literal.returned(text)
      assert.is_nil(value, text)
      assert.is_string(why)
    end
    assert.truthy(select(2, literal.returned("return {}" .. (" "):rep(2 ^ 20))):match "more than")
  end)
end)
