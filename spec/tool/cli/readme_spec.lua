--- The README's transcripts are true: what stands behind a `$` in them is run, and prints what stands there.

local files = require "spec.support.files"
local program = require "spec.support.program"
local luio = require "luio"
local uv = require "luv"
local wait = require "spec.support.wait"

local function blocks(beginning)
  return files.read("README.md"):gmatch("```text\n(%$ " .. beginning .. ".-)```")
end

describe("README.md", function()
  it("has transcripts that are true", function()
    local n = 0
    for block in blocks "luio " do
      -- `explore` is typed (spec/tool/explore/transcript_spec.lua), `run` goes on (below), the examples need two network cards
      -- (spec/guest/net/readme_spec.lua).
      if not block:find "^%$ luio explore" and not block:find "^%$ luio run" and not block:find "^%$ luio examples" then
        local commands, out = {}, {}
        for command in block:gmatch "%$ (luio [^\n]*)\n" do table.insert(commands, command) end
        for _, command in ipairs(commands) do
          table.insert(out, "$ " .. command .. "\n" .. files.shell("build/" .. command))
          n = n + 1
        end
        assert.equal(block, table.concat(out))
      end
    end
    assert.is_true(n >= 4)
  end)

  it("has a transcript of reloads and a crash that is true, but for times and process numbers", function()
    local function masked(text) return (text:gsub("[%d.]+ ms", "N ms"):gsub("worker %d+", "worker N"):gsub("kill %-9 %d+", "kill -9 N")) end
    local block = assert(blocks "luio run"())
    local _, dir = files.write("x", "")
    assert.equal(0, select(2, files.shell(("cp -r drivers '%s'"):format(dir))))
    local p
    finally(function()
      if p then p:close() end
      files.clean()
    end)
    local steps = {}
    for line in block:gmatch "([^\n]*)\n" do
      local command = line:match "^%$ (.*)$"
      if command then table.insert(steps, { command = command, expected = {} })
      else table.insert(steps[#steps].expected, line) end
    end
    assert.is_true(#steps >= 5)
    local printed = 0
    for _, step in ipairs(steps) do
      if step.command:find "^luio run" then
        local run = step.command:gsub(" &$", "")
        p = program.start({ "-c", ("cd '%s' && exec '%s/build/%s"):format(dir, uv.cwd(), (run:gsub("^luio", "luio'"))) }, { program = "/bin/sh" })
      elseif step.command:find "^kill" then
        luio.sleep(require("luio.reload.live").PROBATION + 0.2) -- as a reader would
        p:kill("sigkill", p:children()[1])
      else
        assert.equal(0, select(2, files.shell(("cd '%s' && %s"):format(dir, step.command))))
      end
      local lines
      wait.poll(10, function()
        lines = {}
        for line in p:text():gmatch "([^\n]*)\n" do table.insert(lines, line) end
        return #lines >= printed + #step.expected
      end)
      local shown = {}
      for i = printed + 1, #lines do table.insert(shown, masked(lines[i])) end
      printed = #lines
      assert.equal(masked(table.concat(step.expected, "\n")), table.concat(shown, "\n"), step.command)
    end
    p:kill "sigterm"
    assert.equal(0, p:status())
  end)
end)
