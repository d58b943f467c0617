--- The table of faults: the specs that it names are there.

local files = require "spec.support.files"
local uv = require "luv"

describe("spec/FAULTS.md", function()
  it("names specs that exist, in each row", function()
    local rows = 0
    for line in files.read "spec/FAULTS.md":gmatch "[^\n]+" do
      local last = line:match "^|.*| ([^|]+) |$"
      if last and last ~= "spec" then
        rows = rows + 1
        for path in last:gmatch "[^%s,]+" do assert(uv.fs_stat(path), line .. "\nthere is no " .. path) end
        assert.matches("^spec/", last)
      end
    end
    assert.is_true(rows > 30)
  end)
end)
