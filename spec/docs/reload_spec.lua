--- The documents' transcripts of `luio run`: saves and a crash, each followed by what the program then prints.

local documents = require "spec.support.documents"
local files = require "spec.support.files"
local program = require "spec.support.program"
local uv = require "luv"
local wait = require "spec.support.wait"

-- Waits until the guardian keeps code with these words: a version that has passed its probation.
local function await_kept(guardian, words)
  local folder = ("/proc/%d/fd/"):format(guardian)
  wait.till(10, "the guardian keeps code with " .. words, function()
    for fd in uv.fs_scandir_next, assert(uv.fs_scandir(folder)) do
      local is_state = (uv.fs_readlink(folder .. fd) or ""):match "^/memfd:luio%-state"
      local kept = is_state and io.open(folder .. fd, "rb") -- nil: it is closed by now
      local text = kept and kept:read "*a"
      if kept then kept:close() end
      if text and text:find(words, 1, true) then return true end
    end
  end)
end

describe("the documents' transcripts of luio run", function()
  teardown(files.clean)

  for _, block in ipairs(documents.of "spec/docs/reload_spec.lua") do
    it(("are true: %s:%d"):format(block.path, block.line), function()
      local _, dir = files.write("x", "")
      assert.equal(0, select(2, files.shell(("cp -r drivers '%s'"):format(dir))))
      local p
      finally(function() if p then p:close() end end)
      local printed = 0
      for _, step in ipairs(documents.steps(block)) do
        if step.command:find "^luio run" then
          local run = step.command:gsub(" &$", ""):gsub("^luio", "")
          p = program.start({ "-c", ("cd '%s' && exec '%s/build/luio' %s"):format(dir, uv.cwd(), run) }, { program = "/bin/sh" })
        elseif step.command:find "^kill" then
          await_kept(p.pid, "return 3") -- a reader takes longer than probation
          p:kill("sigkill", p:children()[1])
        else
          assert.equal(0, select(2, files.shell(("cd '%s' && %s"):format(dir, step.command))))
        end
        local _, wanted = step.expected:gsub("\n", "")
        local lines
        wait.poll(60, function()
          lines = {}
          for line in p:text():gmatch "[^\n]*\n" do table.insert(lines, line) end
          return #lines >= printed + wanted
        end)
        assert.equal(documents.masked(step.expected), documents.masked(table.concat(lines, "", printed + 1)), step.command)
        printed = #lines
      end
      p:kill "sigterm"
      assert.equal(0, p:status())
    end)
  end
end)
