--- examples/forward.lua between two wires, with a card of the kernel's at the other end of each, in a namespace of its own.
--- Their traffic passes through two drivers in Lua, without a copy.

local amount = require "spec.support.amount"
local ping = require "spec.support.ping"
local program = require "spec.support.program"
local system = require "spec.support.system"
local wire = require "spec.support.wire"

local A, B = "0000:00:05.0", "0000:00:09.0"
local LEFT, RIGHT = "0000:00:0a.0", "0000:00:0b.0"
local BYTES = amount(4, 16) * 2 ^ 20
local PINGS = amount(150, 500)

local function left(command, ...)
  return system.must("ip netns exec left " .. command, ...)
end

local function take_over(name, card, address)
  system.must("ip netns add %s", name)
  local interface = assert(wire.interface(card), card .. " has no interface")
  system.must("ip link set %s netns %s", interface, name)
  system.must("ip -n %s addr add %s dev %s", name, address, interface)
  system.must("ip -n %s link set %s up", name, interface)
  system.must("ip -n %s link set lo up", name)
end

-- forward's report: by the first device of a way, { came, went, dropped }.
local function sums(text)
  local found = {}
  for from, came, went, dropped in text:gmatch "(%S+) %-> %S+: (%d+) came, (%d+) went, (%d+) dropped" do
    found[from] = { tonumber(came), tonumber(went), tonumber(dropped) }
  end
  return found
end

describe("examples/forward.lua", function()
  local forward
  setup(function()
    take_over("left", LEFT, "10.1.0.1/24")
    take_over("right", RIGHT, "10.1.0.2/24")
  end)
  before_each(function()
    forward = program.start { "examples/forward.lua", A, B }
    forward:wait("^forwarding", 30)
  end)
  after_each(function() forward:close() end)

  local function stop()
    forward:kill "sigint"
    assert.equal(0, forward:status(30))
    return sums(forward:text())
  end

  it(("carries %d pings, and its counts add up"):format(PINGS), function()
    ping(left, PINGS, "-i 0.01", "10.1.0.2")
    local counts = stop()
    for _, from in ipairs { A, B } do
      local came, went, dropped = unpack(counts[from])
      assert.is_true(came >= PINGS)
      assert.same({ came, 0 }, { went + dropped, dropped })
    end
  end)

  it("carries TCP, whole", function()
    local sender = "head -c " .. BYTES .. " /dev/urandom | tee /run/sent | timeout 120 socat -u - TCP-LISTEN:5000,reuseaddr"
    local there = wire.beside("ip netns exec right sh -c '" .. sender .. "'")
    left "sh -c 'timeout 120 socat -u TCP:10.1.0.2:5000,retry=50,interval=0.2 - > /run/received'"
    assert.equal(0, there.status(30))
    local sent, received = system.must "sha256sum < /run/sent", system.must "sha256sum < /run/received"
    assert.equal(sent, received)
    assert.equal(tostring(BYTES), system.must "stat -c %%s /run/received":match "%d+")
  end)
end)
