--- The documents' transcript of two network cards is true, but for times, rates, and the status line that comes every second.
--- tshark takes ten seconds to start in a guest: what it prints of such frames is compared in spec/net/stream_spec.lua.

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
    local above = block:sub(1, block:find("$ " .. tshark_line, 1, true) - 1)
    assert.equal(masked(above), masked(("$ %s &\n%s$ %s\n%s%s"):format(capture_line, listening, pktgen_line, generated, rest)))
    local shown = files.shell(("tcpdump -nn -r %s/out.pcapng 2>/dev/null"):format(dir))
    local _, n = shown:gsub("IP 198%.18%.0%.1%.9 > 198%.18%.0%.2%.9: UDP, length 18\n", "")
    assert.equal(1000, n, shown:sub(1, 500))
  end)
end)
