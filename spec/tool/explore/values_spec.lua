--- How values look at the prompt.

local term = require "luio.text.term"
local values = require "luio.tool.explore.values"

local function lines(text)
  return select(2, text:gsub("\n", "\n")) + 1
end

describe("a value", function()
  it("shows integers in both bases", function()
    assert.equal("128 = 0x80", values.text(128))
    assert.equal("7", values.text(7))
    assert.equal("-3", values.text(-3))
    assert.equal("1.5", values.text(1.5))
    assert.equal("1099511627777 = 0x10000000001", values.text(2 ^ 40 + 1))
    assert.equal("18446744073709551615 = 0xffffffffffffffff", values.text(-1ULL))
    assert.equal("nan", values.text(0 / 0):gsub("^-", ""))
  end)

  it("quotes strings, and cuts long ones between characters", function()
    assert.equal('"a\\n\\"b\\"\\27[1m"', values.text('a\n"b"\27[1m'))
    local text = values.text(("é"):rep(3000))
    assert.matches('^"[\195\169]+" %.%.%. %d+ bytes more$', text)
    assert.is_true(#text < 2100)
  end)

  it("shows bytes so that they can be typed again", function()
    math.randomseed(1)
    for _ = 1, 2000 do
      local bytes = {}
      for i = 1, math.random(12) do bytes[i] = string.char(math.random(3) == 1 and 48 + math.random(9) or math.random(0, 255)) end
      local text = table.concat(bytes)
      local shown = term.clean(values.text(text))
      assert.is_nil(shown:find "[%z\1-\31\127]")
      assert.equal(text, loadstring("return " .. shown)())
      assert.equal(text, next(loadstring("return " .. term.clean(values.text { [text .. "!"] = 1 }))()):sub(1, -2))
    end
  end)

  it("shows a table in one line where it fits, else an entry a line", function()
    assert.equal("{}", values.text {})
    assert.equal('{ 1, 2, [0] = 0, a = "x", ["b c"] = { true } }', values.text { [0] = 0, 1, 2, a = "x", ["b c"] = { true } })
    assert.equal('{\n  count = 18 (0x12),\n  message = "a rather long message",\n}',
      values.text({ count = 18, message = "a rather long message" }, 40))
  end)

  it("is bounded, whatever it is", function()
    local wide, long, itself = {}, {}, {}
    for i = 1, 1e5 do wide["key" .. i] = i end
    for i = 1, 1e5 do long[i] = { i } end
    itself.itself = itself
    assert.is_true(lines(values.text(wide)) <= values.MAX_LINES + 1)
    assert.matches("%.%.%. %d+ more\n}$", values.text(wide))
    assert.is_true(lines(values.text(long)) <= values.MAX_LINES + 1)
    assert.equal("{ itself = { itself } }", values.text(itself))
    local many = setmetatable({}, { __tostring = function() return ("line\n"):rep(80) end })
    assert.matches("line\n%.%.%. 30 more lines$", values.text(many))
  end)

  it("uses a text of its own, and survives one that fails", function()
    assert.equal("me", values.text(setmetatable({}, { __tostring = function() return "me" end })))
    assert.matches("^a table whose text can't be had %(__tostring: .*no%)$",
      values.text(setmetatable({}, { __tostring = function() error "no" end })))
  end)
end)

describe("results", function()
  it("are in one line, a failure as what it is", function()
    assert.is_nil(values.results { n = 0 })
    assert.equal("nil", values.results { n = 1 })
    assert.equal('1  "x"  nil', values.results { n = 3, 1, "x" })
    assert.equal("nil  no interrupt within 1 s  (ETIMEDOUT)", values.results { n = 3, nil, "no interrupt within 1 s", "ETIMEDOUT" })
  end)
end)
