--- The documents' transcripts of `luio run`.

local documents = require "spec.support.documents"
local files = require "spec.support.files"
local run_transcript = require "spec.support.run_transcript"

describe("the documents' transcripts of luio run", function()
  teardown(files.clean)

  for _, block in ipairs(documents.of "spec/docs/reload_spec.lua") do
    local place = ("%s:%d"):format(block.path, block.line)
    it("are true: " .. place, function()
      local _, dir = files.write("x", "")
      assert.equal(0, select(2, files.shell(("cp -r drivers '%s'"):format(dir))))
      run_transcript.follow(dir, block, place)
    end)
  end
end)
