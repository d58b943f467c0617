--- The check of floors, on small trees of its own; and that it reads luio's own tree.

local files = require "spec.support.files"
local layers = require "spec.lint.layers"

local FLOORS = {
  c = { { "low", "runtime/low.h", "runtime/low.c", "runtime/beside.c" }, { "high", "runtime/high.h", "runtime/high.c" } },
  lua = {
    { "low", "lua/luio/low/" },
    { "high", "lua/luio/high/", "lua/luio/init.lua", "lua/luio/low/above.lua" },
    { "drivers", "drivers/" },
  },
}

-- A tree of these files, and what the check says of it. Its C files are compiled, if it has any.
local function faults(tree, change)
  local _, root = files.write("note", "")
  local floors = { c = {}, lua = {} }
  for k, v in pairs(change or {}) do floors[k] = v end
  for _, language in ipairs { "c", "lua" } do
    for _, floor in ipairs(FLOORS[language]) do
      local some = { floor[1] }
      for i = 2, #floor do
        local is_there = false
        for path in pairs(tree) do is_there = is_there or path:sub(1, #floor[i]) == floor[i] end
        if is_there then table.insert(some, floor[i]) end
      end
      table.insert(floors[language], some)
    end
  end
  local objects = {}
  for path, text in pairs(tree) do files.put(root .. "/" .. path, text) end
  for path in pairs(tree) do
    local name = path:match "^runtime/(.*)%.c$"
    if name then
      local object = ("%s/%s.o"):format(root, name)
      assert(os.execute(("cc -c -o '%s' '%s/%s'"):format(object, root, path)) == 0)
      table.insert(objects, object)
    end
  end
  return layers.check(root, floors, objects).faults
end

describe("the check of floors, in Lua,", function()
  teardown(files.clean)

  it("lets a file use what lies on its floor and below", function()
    assert.same({}, faults {
      ["lua/luio/low/a.lua"] = 'return require "luio.low.b"',
      ["lua/luio/low/b.lua"] = "return {}",
      ["lua/luio/high/c.lua"] = 'return { require "luio.low.a", require("luio.low.b") }',
      ["drivers/edu/init.lua"] = 'return require "luio"',
      ["lua/luio/init.lua"] = 'return require "luv"',
    })
  end)

  it("names an arrow that goes up, its line, and both floors", function()
    assert.same({ "lua/luio/low/a.lua:2 (floor 1, low) requires luio.high.b (floor 2, high)" }, faults {
      ["lua/luio/low/a.lua"] = '-- a comment: require "luio.high.c"\nlocal b = require "luio.high.b"\nreturn b',
      ["lua/luio/high/b.lua"] = "return {}",
      ["lua/luio/high/c.lua"] = "return {}",
    })
  end)

  for how, text in pairs {
    ["inside a function"] = 'return function() return require("luio.high.b") end',
    ["through pcall"] = "return pcall(require, 'luio.high.b')",
    ["as a long string"] = "return require [[luio.high.b]]",
    ["with a name that is put together"] = 'return function(name) return require("luio.high." .. name) end',
    ["as a name that somebody else requires"] = 'return lazy "luio.high.b"',
    ["from package.loaded"] = 'return package.loaded["luio.high.b"]',
  } do
    it("sees a require " .. how, function()
      local got = faults { ["lua/luio/low/a.lua"] = text, ["lua/luio/high/b.lua"] = "return {}" }
      assert.same({ "lua/luio/low/a.lua:1 (floor 1, low) requires luio.high.b (floor 2, high)" }, got)
    end)
  end

  it("does not take a comment, a message or a method for a require", function()
    assert.same({}, faults {
      ["lua/luio/low/a.lua"] = [==[
        --[[ require "luio.high.b" ]] -- require "luio.high.b"
        error("luio.high.b is missing: \"luio.high.b\"")
        return own:require(name)]==],
      ["lua/luio/high/b.lua"] = "return {}",
    })
  end)

  it("complains of a require that can't be read, unless the table says why", function()
    local tree = { ["lua/luio/low/a.lua"] = "return function(name) return require(name) end" }
    assert.matches("^lua/luio/low/a%.lua:1: what this require loads can't be read", faults(tree)[1])
    assert.same({}, faults(tree, { dynamic = { ["lua/luio/low/a.lua"] = "a user's" } }))
  end)

  it("finds the luio that `require \"luio\"` means, and a driver", function()
    assert.same({
      "lua/luio/low/a.lua:1 (floor 1, low) requires luio (floor 2, high)",
      "lua/luio/low/a.lua:2 (floor 1, low) requires drivers.edu (floor 3, drivers)",
    }, faults {
      ["lua/luio/low/a.lua"] = 'local luio = require "luio"\nlocal edu = require "drivers.edu"',
      ["lua/luio/init.lua"] = "return {}",
      ["drivers/edu/init.lua"] = "return {}",
    })
  end)

  it("finds a circle on one floor, and tells the shortest way through each of its files", function()
    assert.same({
      "circle: lua/luio/low/a.lua -> lua/luio/low/b.lua -> lua/luio/low/c.lua -> lua/luio/low/a.lua",
      "circle: lua/luio/low/d.lua -> lua/luio/low/e.lua -> lua/luio/low/c.lua -> lua/luio/low/a.lua -> lua/luio/low/b.lua -> lua/luio/low/d.lua",
    }, faults {
      ["lua/luio/low/a.lua"] = 'return require "luio.low.b"',
      ["lua/luio/low/b.lua"] = 'return { require "luio.low.c", require "luio.low.d" }',
      ["lua/luio/low/c.lua"] = 'return function() return require "luio.low.a" end',
      ["lua/luio/low/d.lua"] = 'return require "luio.low.e"',
      ["lua/luio/low/e.lua"] = 'return require "luio.low.c"',
    })
  end)

  it("takes a file's own line before its folder's", function()
    assert.same({ "lua/luio/low/a.lua:1 (floor 1, low) requires luio.low.above (floor 2, high)" }, faults {
      ["lua/luio/low/a.lua"] = 'return require "luio.low.above"',
      ["lua/luio/low/above.lua"] = "return {}",
    })
  end)

  it("takes a pattern before a folder, and a file's own line before a pattern", function()
    local lua = { { "low", "lua/luio/x/" }, { "middle", "lua/luio/x/part*" }, { "high", "lua/luio/x/part_up.lua" } }
    assert.same({
      "lua/luio/x/a.lua:1 (floor 1, low) requires luio.x.part_one (floor 2, middle)",
      "lua/luio/x/part_one.lua:1 (floor 2, middle) requires luio.x.part_up (floor 3, high)",
    }, faults({
      ["lua/luio/x/a.lua"] = 'return require "luio.x.part_one"',
      ["lua/luio/x/part_one.lua"] = 'return require "luio.x.part_up"',
      ["lua/luio/x/part_up.lua"] = "return {}",
    }, { lua = lua }))
  end)

  it("complains of a file that no floor has, of a line without a file", function()
    assert.same({ "lua/luio/new.lua: on no floor: add it to spec/lint/floors.lua" }, faults { ["lua/luio/new.lua"] = "return {}" })
    assert.same({ "spec/lint/floors.lua: there is no lua/luio/old/" }, faults({}, { lua = { { "old", "lua/luio/old/" } } }))
  end)
end)

describe("the check of floors, in C,", function()
  teardown(files.clean)

  local LOW, HIGH = "int low(void);\n", "int high(void);\n"

  it("lets a file use what lies below", function()
    assert.same({}, faults {
      ["runtime/low.h"] = LOW, ["runtime/low.c"] = '#include "low.h"\nint low(void) { return 1; }',
      ["runtime/high.h"] = HIGH, ["runtime/high.c"] = '#include "high.h"\n#include "low.h"\nint high(void) { return low(); }',
    })
  end)

  it("names a call that goes up, whoever declares it", function()
    assert.same({ "runtime/low.c (floor 1, low) uses high of runtime/high.c (floor 2, high)" }, faults {
      ["runtime/low.h"] = HIGH, ["runtime/low.c"] = '#include "low.h"\nint low(void) { return high(); }',
      ["runtime/high.c"] = '#include "low.h"\nint high(void) { return 1; }',
    })
  end)

  it("sees a function whose address is taken, and a variable", function()
    assert.same({
      "runtime/low.c (floor 1, low) uses high of runtime/high.c (floor 2, high)",
      "runtime/low.c (floor 1, low) uses level of runtime/high.c (floor 2, high)",
    }, faults {
      ["runtime/low.c"] = "int high(void); extern int level; int (*low)(void) = high; int *at = &level;",
      ["runtime/high.c"] = "int level; int high(void) { return 1; }",
    })
  end)

  it("names an #include that goes up", function()
    assert.same({ "runtime/low.c:2 (floor 1, low) includes high.h (floor 2, high)" }, faults {
      ["runtime/high.h"] = HIGH, ["runtime/low.c"] = '#include <stdio.h>\n#include "high.h"\n',
    })
  end)

  it("finds a circle", function()
    assert.same({ "circle: runtime/beside.c -> runtime/low.c -> runtime/beside.c" }, faults {
      ["runtime/low.c"] = "int beside(void); int low(void) { return beside(); }",
      ["runtime/beside.c"] = "int low(void); int beside(void) { return low(); }",
    })
  end)
end)

describe("luio's own floors", function()
  teardown(files.clean)

  local floors = require "spec.lint.floors"

  it("hold", function()
    local result = layers.check(".", floors, {})
    assert.same({}, result.faults)
    assert.is_true(result.files > 200 and result.arrows > 500)
  end)

  it("would not hold with one arrow more", function()
    local _, root = files.write("note", "")
    assert(os.execute(("cp -r lua drivers runtime '%s'"):format(root)) == 0)
    local f = assert(io.open(root .. "/lua/luio/text/json.lua", "a"))
    f:write '\nlocal function up() return require "luio" end'
    f:close()
    local got = layers.check(root, floors, {}).faults
    assert.equal(1, #got)
    assert.matches("^lua/luio/text/json%.lua:%d+ %(floor 1, base%) requires luio %(floor %d+, luio%)$", got[1])
  end)
end)
