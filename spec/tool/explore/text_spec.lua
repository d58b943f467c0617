--- Text as the prompt's line editor needs it: valid UTF-8, and its width in columns.

local text = require "luio.tool.explore.text"

describe("text on a terminal", function()
  it("is known by where it ends on the screen", function()
    assert.same({ 0, 9 }, { text.extent("STATUS", 80, 3) })
    assert.same({ 1, 5 }, { text.extent(("x"):rep(82), 80, 3) })
    assert.same({ 1, 0 }, { text.extent(("x"):rep(77), 80, 3) })
    assert.same({ 2, 3 }, { text.extent("for\n  x\nend", 80, 3) })
  end)

  it("is only what is UTF-8", function()
    assert.equal("aé€😀b", text.valid "aé€😀b")
    assert.equal("a\239\191\189b", text.valid "a\255b")
    assert.equal("\239\191\189x\239\191\189", text.valid "\195x\237\160\128")
    assert.equal("x", text.valid "x\195")
    assert.equal(4, text.characters "aé€😀")
  end)

  it("is shown in columns, with how many were left out", function()
    assert.equal("a   c\nbb", text.columns({ "a", "bb", "c" }, 8, 10))
    assert.equal("a   bb\n... and 3 more", text.columns({ "a", "bb", "c", "d", "e" }, 8, 1))
  end)

  it("has a common beginning, not cut within a character", function()
    assert.equal("IRQ_", text.common_prefix { "IRQ_ACK", "IRQ_RAISE" })
    assert.equal("n", text.common_prefix { "né", "nè" })
    assert.equal("né", text.common_prefix { "né" })
  end)
end)
