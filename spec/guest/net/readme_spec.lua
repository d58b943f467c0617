--- The documents' transcript of two network cards is true, but for times, rates, and the status line that comes every second.

local assert = require "luassert"
local documents = require "spec.support.documents"
local files = require "spec.support.files"
local program = require "spec.support.program"

local function masked(text)
  return (text:gsub("capture: +[%d.]+ s [^\n]*\n", ""):gsub("[%d.]+ k?packets/s in [%d.]+ s", "N packets/s in N s"):gsub("%d+%.%d%d%d%d+", "N"))
end

describe("the documents", function()
  teardown(files.clean)

  it("have a transcript of a capture that is true", function()
    local block = documents.of("spec/guest/net/readme_spec.lua")[1].text
    local capture_line, pktgen_line, tshark_line = block:match "^%$ ([^\n]*) &\n.-\n%$ ([^\n]*)\n.-\n%$ ([^\n]*)\n"
    local _, dir = files.write("x", "")
    local function at_home(command) return (command:gsub("^luio", "build/luio"):gsub("out%.pcapng", dir .. "/out.pcapng")) end
    local capture = program.start({ "-c", "exec " .. at_home(capture_line) }, { program = "/bin/sh" })
    finally(function() capture:close() end)
    local listening = capture:wait("capture: listening[^\n]*\n", 30)
    local generated, status = files.shell(at_home(pktgen_line))
    assert.equal(0, status, generated)
    assert.equal(0, capture:status(30), capture:text())
    local rest = capture:text():sub(#listening + 1)
    local shown = files.shell(at_home(tshark_line) .. " 2>/dev/null"):gsub("Running as[^\n]*\n", "")
    assert.equal(masked(block), masked(("$ %s &\n%s$ %s\n%s%s$ %s\n%s"):format(capture_line, listening, pktgen_line,
      generated, rest, tshark_line, shown)))
  end)
end)
