--- The documents' commands for QEMU's devices, as they stand there.

local arm_board = require "spec.support.arm_board"
local documents = require "spec.support.documents"
local files = require "spec.support.files"

describe("the documents", function()
  teardown(files.clean)

  for _, block in ipairs(documents.of "spec/qemu/documents_spec.lua") do
    it(("have commands for a device of QEMU's that work: %s:%d"):format(block.path, block.line), function()
      if not arm_board.there then
        for _, step in ipairs(documents.steps(block)) do
          if step.command:find("qemu:virt/", 1, true) then return pending(arm_board.MISSING) end
        end
      end
      local _, dir = files.write("x", "")
      documents.write(block.path, dir)
      for _, step in ipairs(documents.steps(block)) do
        assert.equal(documents.masked(step.expected), documents.masked((documents.run(dir, step.command))), step.command)
      end
    end)
  end
end)
