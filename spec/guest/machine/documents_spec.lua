--- The documents' commands that start guests: they end well. Run by the host.

local documents = require "spec.support.documents"
local files = require "spec.support.files"

describe("the documents", function()
  teardown(files.clean)

  for _, block in ipairs(documents.of "spec/guest/machine/documents_spec.lua") do
    it(("have commands that start a guest and end well: %s:%d"):format(block.path, block.line), function()
      local script = files.write("commands.sh", block.text)
      local printed, status = files.shell(("timeout 2400 env -u MAKEFLAGS -u LUIO_DEVICE sh -e '%s' </dev/null"):format(script))
      assert.equal(0, status, printed)
    end)
  end
end)
