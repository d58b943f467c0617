--- Malformed frames from the far side through examples/tap.lua into the kernel, and the other way: the bridge carries them or
--- counts them, and goes on. Cards and parsers of frames are tested with them in spec/guest/net/malformed_spec.lua.

local amount = require "spec.support.amount"
local frames = require "spec.net.frames"
local luio = require "luio"
local wire = require "spec.support.wire"

local TYPE = string.char(math.floor(wire.TYPE / 256), wire.TYPE % 256)
local OURS = "52:54:00:12:34:56"
local SEED = tonumber(os.getenv "LUIO_SEED") or os.time()

describe("malformed frames on a wire", function()
  setup(wire.setup)
  teardown(wire.release)

  it("pass a bridge to the kernel, both ways, and numbered ones among them all arrive", function()
    local bridge = wire.bridge()
    local near, far = wire.socket(wire.TAP), wire.socket(wire.FAR, wire.there)
    local up, down = wire.stream(far, near, wire.far_mac(), OURS), wire.stream(near, far, OURS, wire.far_mac())
    finally(function()
      bridge:close()
      near:close()
      far:close()
    end)
    local sent = 0
    luio.run(function()
      for round = 1, amount(5, 100) do
        for _, frame in ipairs(frames.make(60, SEED + round)) do
          -- The kernel does not send frames without a header; and frames of TYPE come from the streams alone.
          if #frame >= 14 and not frame:find(TYPE, 13, true) then
            sent = sent + (far:send(frame) and 1 or 0) + (near:send(frame) and 1 or 0)
          end
        end
        wire.flow_more({ up, down }, 100)
      end
      wire.drain { up, down }
    end)
    local sums, text = wire.stop(bridge)
    assert.is_true(sent > 100)
    assert.same({ up.sent, down.sent, 0, 0 }, { up.got, down.got, up:missing(), down:missing() })
    assert.same({ 0, 0, 0 }, { sums.from_wire.dropped, sums.from_wire.refused, sums.to_wire.reset }, text)
    wire.measured("%d malformed frames through the bridge, seed %d; %d and %d numbered ones among them all came", sent, SEED, up.got, down.got)
  end)
end)
