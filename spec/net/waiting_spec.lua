--- How long a wait of a queue polls, by the processors that a process has. The rest of waiting is in spec/net/conformance/waits.lua.

local files = require "spec.support.files"
local program = require "spec.support.program"

-- Prints how often a receive queue without packets was asked whether it has one, in five waits.
local SCRIPT = [[
local net = require "luio.net"
local port = assert(net.open("sim:e1000e", { poll = tonumber(arg[1]) }))
local offer, asked = port.rx[0].offer, 0
local ready = offer.ready
offer.ready = function(...)
  asked = asked + 1
  return ready(...)
end
require("luio").run(function()
  for _ = 1, 5 do port.rx[0]:receive(0.03) end
end)
print("asked " .. asked)
assert(port:close())
]]

describe("a wait of a queue", function()
  it("does not poll in a process that has one processor, unless told to", function()
    local script = files.write("asked.lua", SCRIPT)
    local function asked(poll)
      local text = files.shell(("taskset -c $(taskset -pc $$ | grep -o '[0-9]*$') %s %s %s"):format(program.PATH, script, poll))
      return tonumber(text:match "asked (%d+)") or error(text)
    end
    local untold = asked ""
    assert.is_true(untold <= 5 * 4, untold .. " times: before, after the interrupt is on, and at the end")
    assert.is_true(asked "0.02" > 10 * untold)
  end)
end)
