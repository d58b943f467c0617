--- spec/lint/documented finds missing documentation. `make lint` runs it on this tree.

local documented = require "spec.lint.documented"
local files = require "spec.support.files"

describe("spec/lint/documented", function()
  teardown(files.clean)

  it("names each function, parameter and result of a module or a class that has no documentation", function()
    local path = files.write("m.lua", [[
      local M = {}
      ---@class luio.Thing
      local Thing = {}
      local function inner(x) return x end
      --- Adds.
      ---@param a integer
      ---@return integer
      function M.add(a, b) return inner(a + b) end
      function M.none() end
      ---@private
      function Thing:hidden(x) return x end
      --- Two of them.
      ---@return integer
      function Thing:two() return 1, 2 end
      --- Ends early.
      function M.early(_) if M.x then return M.none() end M.none() end
      --- Any number.
      ---@return any ...
      function M.any() return 1, 2, 3 end
      --- Was renamed.
      ---@param old integer
      function Thing:renamed() end
      return M
    ]])
    assert.same({
      path .. ":8: add: no @param b", path .. ":9: none: no description",
      path .. ":14: luio.Thing:two: 1 @return, 2 results", path .. ":22: luio.Thing:renamed: no parameter old",
    }, documented.lua(path))
  end)

  it("names each C function that no comment is about", function()
    local path = files.write("x.h", table.concat({
      "/* ---- Group ---------", " * About all of it. */", "LUIO_API int luio_a(void);", "", "/* Said of both. */", "LUIO_API int luio_b(int x,",
      "                    int y);", "LUIO_API int luio_c(void);", "", "LUIO_API int luio_d(void);", "LUIO_API int luio_e(void); /* behind it */", "",
    }, "\n"))
    assert.same({ path .. ":3: luio_a: no comment", path .. ":10: luio_d: no comment" }, documented.header(path))
  end)
end)
