--- Ctrl-R: the matches in the history while parts of them are typed, and the keys that end the search.

local search = require "luio.tool.explore.search"

local ENTRIES = { "STATUS:read()", "x = 1", "né", "STATUS", "x = 2" }
local CTRL_G, BACKSPACE, ENTER, CTRL_R = 7, 127, 13, 18

-- Types keys (a string: each of its characters): line and key that come of it, and what was shown last.
local function typed(...)
  local keys = {}
  for _, part in ipairs { ... } do
    if type(part) == "number" then table.insert(keys, part) end
    for c in (type(part) == "string" and part or ""):gmatch "." do table.insert(keys, c:byte()) end
  end
  local prompt, shown
  local line, key = search.run(ENTRIES, "half", {
    key = function() return table.remove(keys, 1) end,
    show = function(p, l) prompt, shown = p, l end,
  })
  return { line, key, prompt .. shown }
end

describe("searching the history", function()
  it("finds the newest, and with Ctrl-R older ones", function()
    assert.same({ "x = 2", ENTER, "search 'x': x = 2" }, typed("x", ENTER))
    assert.same({ "x = 1", ENTER, "search 'x': x = 1" }, typed("x", CTRL_R, ENTER))
    assert.same({ "x = 1", ENTER, "not found: 'x': x = 1" }, typed("x", CTRL_R, CTRL_R, ENTER))
    assert.same({ "STATUS:read()", ENTER, "search 'ST': STATUS:read()" }, typed("S", CTRL_R, "T", ENTER))
  end)

  it("takes what is typed as it is", function()
    assert.same({ "STATUS:read()", ENTER, "search '()': STATUS:read()" }, typed("()", ENTER))
    assert.same({ "né", ENTER, "search 'é': né" }, typed(0xe9, ENTER))
    assert.same({ "x = 2", ENTER, "search 'x': x = 2" }, typed("x", 0xe9, BACKSPACE, ENTER))
  end)

  it("gives back the line by Ctrl-G, and shows what nothing has", function()
    assert.same({ "half", nil, "search 'x': x = 2" }, typed("x", CTRL_G))
    assert.same({ "half", ENTER, "not found: 'Q': half" }, typed("Q", ENTER))
    assert.same({ "x = 2", nil, "search 'x': x = 2" }, typed "x") -- an event
  end)
end)
