--- The documents' commands for a real device, as they stand there. In the guest of spec/guest/specs.

local documents = require "spec.support.documents"
local files = require "spec.support.files"
local program = require "spec.support.program"
local sysfs = require "spec.support.sysfs"
local uv = require "luv"

local EDU, HUGEPAGES = "0000:00:04.0", "/proc/sys/vm/nr_hugepages"

describe("the documents", function()
  teardown(files.clean)

  for _, block in ipairs(documents.of "spec/guest/documents_spec.lua") do
    it(("have commands for a device that work: %s:%d"):format(block.path, block.line), function()
      local _, dir = files.write("x", "")
      assert.equal(0, select(2, files.shell(("cp -r drivers '%s'"):format(dir))))
      if block.language == "text" then
        documents.write(block.path, dir)
        for _, step in ipairs(documents.steps(block)) do
          local printed = documents.run(dir, (step.command:gsub("^spec/guest/run .-%-%- ", "")))
          assert.equal(documents.masked(step.expected), documents.masked(printed), step.command)
        end
        return
      end
      local pages, had, p = files.read(HUGEPAGES), sysfs.driver(EDU), nil
      finally(function()
        if p then p:close() end
        files.save(HUGEPAGES, pages)
        if had and sysfs.driver(EDU) ~= had then sysfs.bind(EDU) end
      end)
      if had then assert.equal(0, select(2, documents.run(dir, "luio unbind " .. EDU))) end
      for line in block.text:gmatch "[^\n]+" do
        local command = line:gsub("%s+#.*$", "")
        local rest = command:match "^luio (run .*)$"
        if rest then
          local words = {}
          for word in rest:gmatch "%S+" do words[#words + 1] = word end
          p = program.start(words)
          p:wait("driver %w+ runs", 60)
          p:kill "sigint"
          assert.equal(0, p:status(60), p:text())
        else
          local printed, status = files.shell(("export PATH='%s/build':\"$PATH\"; %s"):format(uv.cwd(), command))
          assert.equal(0, status, command .. ": " .. printed)
        end
      end
    end)
  end
end)
