--- The documents' session at the prompt, typed as it stands there: the screen shows what the document shows.

local documents = require "spec.support.documents"
local files = require "spec.support.files"
local tmux = require "spec.support.tmux"

describe("the documents #tmux", function()
  it("have a session at the prompt that is true", function()
    local block = documents.of("spec/tool/explore/transcript_spec.lua")[1].text:match "^%$ luio explore sim:edu\n(.*)$"
    local _, dir = files.write("x", "")
    local t = tmux.start("build/luio explore sim:edu", { columns = 120, rows = 60, env = { XDG_STATE_HOME = dir } })
    finally(function()
      t:close()
      files.clean()
    end)
    local n = 0
    for typed in ("\n" .. block):gmatch "\nsim:edu> ([^\n]*)" do
      n = n + 1
      t:wait_last "sim:edu>"
      t:type(typed .. "\n")
      t:wait("sim:edu> " .. typed)
      -- Waits for output that comes by itself before the next line is typed, as a person would.
      if typed:find "FACTORIAL:write" then t:wait "interrupt 1" end
    end
    t:wait "return edu"
    local screen = t:wait_last "sim:edu>"
    local function plain(text) return (text:gsub("%s+\n", "\n"):gsub("%s*$", "")) end -- as the screen has it
    assert.equal(plain(block), plain((screen:gsub("sim:edu>$", ""))))
    assert.is_true(n >= 5)
  end)
end)
