--- The history file.

local files = require "spec.support.files"
local history = require "luio.tool.explore.history"
local uv = require "luv"

local function mode(path)
  return ("%o"):format(uv.fs_stat(path).mode % 512)
end

describe("the history", function()
  local dir

  before_each(function()
    dir = uv.cwd() .. "/" .. select(2, files.write("x", ""))
  end)

  teardown(files.clean)

  it("is kept for the user alone, across sessions", function()
    local path = dir .. "/state/luio/history"
    local h = history.open(path)
    assert.is_nil(h.note)
    h:add "STATUS"
    h:add "for i = 1, 2 do\n\n\tprint(i)\nend"
    h:add "x = 1"
    assert.same({ "700", "600" }, { mode(dir .. "/state/luio"), mode(path) })
    assert.same({ "STATUS", "for i = 1, 2 do\n\n\tprint(i)\nend", "x = 1" }, history.open(path).entries)
  end)

  it("keeps no entry twice in a row, and none that is empty", function()
    local path = dir .. "/history"
    local h = history.open(path)
    assert.equal("a", (h:add "a"))
    assert.is_nil(h:add "a")
    assert.is_nil(h:add "  \n")
    h:add "b"
    h:add "a"
    assert.equal("a\nb\na\n", files.read(path))
  end)

  it("takes what two sessions enter at the same time", function()
    local path = dir .. "/history"
    local one, two = history.open(path), history.open(path)
    one:add "one"
    two:add "two"
    one:add "three"
    assert.same({ "one", "two", "three" }, history.open(path).entries)
  end)

  it("is bounded", function()
    local path = dir .. "/history"
    local f = assert(io.open(path, "w"))
    for i = 1, history.BOUND + 5 do f:write("line ", i, "\n") end
    f:close()
    local h = history.open(path)
    assert.same({ history.BOUND, "line 6" }, { #h.entries, h.entries[1] })
    assert.equal("line 6\n", files.read(path):sub(1, 7))
    assert.equal("600", mode(path))
    local names = {}
    for name in uv.fs_scandir_next, (assert(uv.fs_scandir(dir))) do table.insert(names, name) end
    table.sort(names)
    assert.same({ "history", "x" }, names) -- and nothing beside it
  end)

  it("is not kept in what is no file, nor by root where somebody else could put a link", function()
    local target, path = dir .. "/target", dir .. "/others/history"
    files.save(target, "a\n")
    assert(os.execute(("mkdir '%s/others' && mkfifo '%s'"):format(dir, path)) == 0)
    assert.matches("is no file$", history.open(path).note)
    if uv.getuid() ~= 0 then return end
    local reason = ("^the history is not kept: %s/others is user 65534's$"):format((uv.fs_realpath(dir):gsub("%p", "%%%0")))
    assert(os.execute(("cd '%s/others' && rm history && ln -s ../target history && chown 65534 ."):format(dir)) == 0)
    for _, name in ipairs { path, dir .. "/others/new/luio/history" } do
      local h = history.open(name)
      assert.matches(reason, h.note)
      h:add "b"
    end
    assert.equal("a\n", files.read(target))
    assert.is_nil(uv.fs_stat(dir .. "/others/new"))
  end)

  it("says once that it can't be kept, and goes on", function()
    local h = history.open(dir .. "/x/history") -- x is a file
    assert.matches("^the history is not kept: .*Not a directory", h.note)
    assert.same({ "a" }, { h:add "a" })
    local path = dir .. "/full"
    h = history.open(path)
    h.path = "/dev/full"
    local entry, note = h:add "a"
    assert.equal("a", entry)
    assert.matches("no longer kept: ENOSPC", note)
    assert.same({ "b" }, { h:add "b" })
  end)
end)
