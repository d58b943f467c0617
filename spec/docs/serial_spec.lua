--- The documents' transcripts of a pseudo-terminal: picocom opens it, and the example prints what stands there.

local documents = require "spec.support.documents"
local files = require "spec.support.files"
local program = require "spec.support.program"
local tmux = require "spec.support.tmux"
local wait = require "spec.support.wait"

local function masked(text) return (text:gsub("/dev/pts/%d+", "/dev/pts/N")) end

describe("the documents' transcripts of examples/serial.lua #tmux", function()
  teardown(files.clean)

  for _, block in ipairs(documents.of "spec/docs/serial_spec.lua") do
    it(("are true: %s:%d"):format(block.path, block.line), function()
      if os.execute "command -v picocom >/dev/null" ~= 0 then return pending "picocom is not installed" end
      local _, dir = files.write("x", "")
      local link = dir .. "/ttyV0"
      local steps = documents.steps(block)
      local function at_home(text) return (text:gsub("/tmp/ttyV0", (link:gsub("%%", "%%%%")))) end
      local p = program.start({ "-c", "exec build/" .. at_home(steps[1].command:gsub(" &$", "")) }, { program = "/bin/sh" })
      local screen
      finally(function()
        if screen then screen:close() end
        p:close()
      end)
      p:wait "Ctrl%-C ends it\n"
      screen = tmux.start(at_home(steps[2].command))
      local expected = masked(at_home(steps[1].expected .. steps[2].expected))
      wait.poll(60, function() return #masked(p:text()) >= #expected end)
      assert.equal(expected, masked(p:text()))
    end)
  end
end)
