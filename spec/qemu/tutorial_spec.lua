--- drivers/TUTORIAL.md as a reader does it: its files are written and its commands are typed, in order, in one folder. The
--- commands print what stands there.

local documents = require "spec.support.documents"
local files = require "spec.support.files"
local run_transcript = require "spec.support.run_transcript"
local tmux = require "spec.support.tmux"
local uv = require "luv"

local PATH = "drivers/TUTORIAL.md"

local function there(program) return select(2, files.shell("command -v " .. program)) == 0 end

-- Without spaces at the ends of lines, as the screen has it.
local function plain(text) return (text:gsub("%s+\n", "\n"):gsub("%s*$", "")) end

-- A session at the prompt. Each line is typed when the output of the one before is there, also what comes by itself.
local function explore(dir, block, place)
  local command, session = block.text:match "^%$ (luio explore (%S+))\n"
  local prompt = session .. ">"
  local t = tmux.start(("cd '%s' && '%s/build/'%s"):format(dir, uv.cwd(), command), { columns = 120, rows = 60, env = { XDG_STATE_HOME = dir } })
  finally(function() t:close() end)
  local expected = ""
  for line in block.text:match "^[^\n]*\n(.*)$":gmatch "[^\n]*\n" do
    local typed = line:match("^" .. prompt:gsub("%p", "%%%0") .. " (.*\n)$")
    if typed then
      t:wait(plain(expected .. prompt))
      t:type(typed)
    end
    expected = expected .. line
  end
  local screen = t:wait_last(prompt)
  assert.equal(plain(expected), plain((screen:gsub(prompt:gsub("%p", "%%%0") .. "$", ""))), place)
end

-- The lines that prepare the shell: its reader finds luio after them.
local function prepare(block, place)
  local printed, status = files.shell(block.text .. "luio --version && luajit -e 'require \"luio\"'")
  assert.equal(0, status, place .. ": " .. printed)
end

local function transcript(dir, block, place)
  for _, step in ipairs(documents.steps(block)) do
    assert.equal(documents.masked(step.expected), documents.masked((documents.run(dir, step.command))), place .. ": " .. step.command)
  end
end

describe("the tutorial", function()
  local _, dir = files.write("x", "")
  teardown(files.clean)

  for _, block in ipairs(documents.blocks(PATH)) do
    local place = ("%s:%d"):format(PATH, block.line)
    if documents.file(block) then
      it("has a file: " .. place, function() files.put(dir .. "/" .. documents.file(block), block.text) end)
    elseif documents.elsewhere(block) == "spec/qemu/tutorial_spec.lua" then
      it("has commands that are true: " .. place, function()
        if not there "qemu-system-x86_64" then return pending "qemu-system-x86_64 is not installed (Debian: qemu-system-x86)" end
        if block.language == "sh" then return prepare(block, place) end
        if block.text:find "^%$ luio explore %S+\n" then return explore(dir, block, place) end
        if block.text:find "^%$ luio run " then return run_transcript.follow(dir, block, place) end
        transcript(dir, block, place)
      end)
    end
  end

  it("records a sound file that is whole", function()
    if not there "qemu-system-x86_64" then return pending "qemu-system-x86_64 is not installed (Debian: qemu-system-x86)" end
    local bytes = files.read(dir .. "/tone.wav")
    local length = bytes:byte(5) + 256 * bytes:byte(6) + 65536 * bytes:byte(7)
    assert.equal(#bytes - 8, length)
  end)
end)
