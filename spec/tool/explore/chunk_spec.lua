--- The prompt's classification of a text.

local chunk = require "luio.tool.explore.chunk"

local function kinds(texts)
  local list = {}
  for i, text in ipairs(texts) do list[i] = chunk.read(text, "prompt").kind end
  return list
end

describe("a text at the prompt", function()
  it("is an expression, statements, or unfinished", function()
    assert.same({ "expression", "expression", "expression", "expression" },
      kinds { "1 + 1", "f(), 2", "= x", 'print "a" -- said' })
    assert.same({ "statement", "statement", "statement", "statement" },
      kinds { "x = 5", "return 1, 2", "print 'a' ; print 'b'", "for i = 1, 3 do print(i) end" })
    assert.same({ "incomplete", "incomplete", "incomplete", "incomplete", "incomplete", "incomplete" },
      kinds { "for i = 1, 3 do", "function f()\n  return 1", "1 +", "f(", "[[a\nb", "x =" })
    assert.same({ "empty", "empty" }, kinds { "", " \n " })
  end)

  it("is an error where more lines can't help, with its line", function()
    assert.same({ "error", "error", "error" }, kinds { "foo bar", "end", "'abc" })
    assert.equal("prompt:2: '=' expected near 'z'", chunk.read("x = 1\ny z", "prompt").message)
    assert.equal("incomplete", chunk.read("'abc\\", "prompt").kind)
  end)

  it("is a word to the prompt", function()
    assert.same({ "leave", "leave", "leave", "help", "help" }, kinds { "exit", " quit ", "exit()", "?", "??" })
    assert.same({ kind = "explain", word = "STATUS" }, chunk.read("?STATUS ", "prompt"))
    assert.same({ kind = "search", word = "irq line" }, chunk.read("?? irq line", "prompt"))
  end)

  it("runs in its environment, and gives all of its results", function()
    local env = setmetatable({ a = 5 }, { __index = _G })
    assert.same({ 5, nil, "x" }, { chunk.read("a, nil, 'x'", "prompt", env).code() })
    chunk.read("b = a + 1", "prompt", env).code()
    assert.equal(6, env.b)
  end)

  it("says where it went wrong, also when the last thing it does is the call that fails", function()
    local ok, message = pcall(chunk.read("\n error 'boo'", "prompt").code)
    assert.same({ false, "prompt:2: boo" }, { ok, message })
  end)

  it("tells a lone local, which nobody will see", function()
    assert.equal("x", chunk.read("local x = 5", "prompt").name)
    assert.is_nil(chunk.read("local x = 5; print(x)", "prompt").name)
  end)
end)
