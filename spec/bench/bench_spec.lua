--- Runs each benchmark that needs no guest, with little work. The spec does not check their figures.

local files = require "spec.support.files"

local function run(command)
  local pipe = assert(io.popen(command .. " 2>&1; echo status $?"))
  local text = pipe:read "*a"
  pipe:close()
  return text:match "^(.-)status (%d+)\n$"
end

local LIST = run "spec/bench/run --list"

describe("the benchmark", function()
  for name in LIST:gmatch "%S+" do
    it(name .. " runs and gives figures", function()
      local text, status = run("spec/bench/run --smoke " .. name)
      assert.equal("0", status, text)
      assert.matches("ratio +aim\n.-%d+%.%d%d", text)
    end)
  end
end)

describe("spec/bench/run", function()
  it("runs every benchmark of its folder", function()
    local source = assert(files.read "spec/bench/run")
    for name in run("grep -l '^function M.run(' spec/bench/*.lua"):gmatch "([%w_]+)%.lua" do
      assert.is_truthy(source:find('"' .. name .. '"', 1, true), name)
    end
  end)

  it("refuses a name that it does not know", function()
    local text, status = run "spec/bench/run --smoke nonsense"
    assert.equal("1", status)
    assert.matches('there is no benchmark "nonsense"; there are: mmio, registers', text)
  end)
end)
