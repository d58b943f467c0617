--- Carries frames between two ends, both ways: two ports, or a port and a TAP device (luio.net.tap).
---
---     local bridge = require("luio.net.bridge").new(port, tap)
---     luio.run(function() assert(bridge:run()) end)     -- until bridge:stop() is called
---
--- Packets go from queue 0 of the one to queue 0 of the other unchanged, in bursts, without a copy. None is dropped here:
--- when an end has no room, the packets that were taken wait, no more are taken in that direction, and the other end's own
--- queue fills. Its owner drops packets that do not fit, and counts them (rx_missed of a port, rx_dropped of a TAP device). The
--- other way goes on.
---
--- While there are packets, both ways are served in turn, without a wait; every 10 ms the loop turns once, so that
--- link events, reloads and signals come through. Otherwise two tasks wait, one for each end, and no time is used.

local relay = require "luio.port.relay"
local luio = require "luio"

local M = {}

local BURST = 64 -- packets: writing the tail of a ring is dear, so few and long bursts
local TURN = 0.01 -- seconds between turns of the loop
local PATIENCE = 1 -- seconds of a wait
local STARVED = 0.001 -- seconds until a pool without packets is looked at again
local ABSENT = 0.1 -- seconds between looks at an end that is gone, and may return

--- One direction of a bridge.
---@class luio.net.Way
---@field from table    a port or a TAP device
---@field to table
---@field rx table      from.rx[0]
---@field tx table      to.tx[0]
---@field packets luio.Batch
---@field carried number   packets given to `to`
---@field bytes number
---@field full number      times that `to` had no room
---@field starved number   times that nothing could be taken because a pool was empty
---@field package have integer  packets taken and not yet given

--- A bridge between two ports.
---@class luio.net.Bridge
---@field there luio.net.Way  from the first end to the second
---@field back luio.net.Way
---@field on_packets fun(packets: luio.Batch, n: integer, way: luio.net.Way)?  sees the first n packets that were taken, before they
--- are given on; to look at only
---@field package stopped boolean?
local Bridge = {}
Bridge.__index = Bridge

local function new_way(from, to)
  return {
    from = from, to = to, rx = from.rx[0], tx = to.tx[0], packets = luio.batch(BURST), have = 0,
    carried = 0, bytes = 0, full = 0, starved = 0,
  }
end

--- A bridge; it carries nothing before `run`. Stop it before you close the ends.
---@param a table  luio.net.Port or luio.net.Tap
---@param b table
---@return luio.net.Bridge
function M.new(a, b)
  return setmetatable({ there = new_way(a, b), back = new_way(b, a) }, Bridge)
end

-- One burst; how many packets moved.
local function carry(bridge, way)
  local packets, have = way.packets, way.have
  if have == 0 then
    have = way.rx:burst(packets, BURST)
    if have == 0 then return 0 end
    local on_packets = bridge.on_packets
    if on_packets then on_packets(packets, have, way) end
    local bytes = 0
    for i = 0, have - 1 do bytes = bytes + packets.at[i].length end
    way.bytes = way.bytes + bytes
  end
  local gone = way.tx:burst(packets, have)
  way.carried = way.carried + gone
  if gone < have then
    way.full = way.full + 1
    have = packets:shift(gone, have)
  else
    have = 0
  end
  way.have = have
  return gone
end

-- Both ways, until there is nothing to carry (false) or others must have their turn (true).
local function serve(bridge)
  local stop = luio.now() + TURN
  while not bridge.stopped do
    if carry(bridge, bridge.there) + carry(bridge, bridge.back) == 0 then return false end
    if luio.now() >= stop then return true end
  end
  return true
end

-- A way can't go on, though its wait said so: there is a frame, but no packet to take it with.
local function out_of_packets(way)
  local pool = way.from.pool
  if way.have > 0 or pool:used() < pool.count then return false end
  way.starved = way.starved + 1
  way.tx:reclaim()
  return pool:used() == pool.count
end

-- The task of a way: why it ended, if it was not told to.
local function attend(bridge, way)
  while not bridge.stopped do
    if serve(bridge) then
      luio.sleep(0)
    elseif out_of_packets(way) then
      luio.sleep(STARVED)
    else
      local queue = way.have > 0 and way.tx or way.rx
      local ok, message, code = queue:wait(PATIENCE)
      if not ok and code == "ENODEV" then -- as of a port, which may return
        luio.sleep(ABSENT)
      elseif not ok and code ~= "ETIMEDOUT" and code ~= "EAGAIN" and not bridge.stopped then
        bridge.why = bridge.why or { message, code }
        bridge:stop()
      end
    end
  end
end

--- Carries frames until it is stopped, or an end fails for good. In a task.
---@return true? ok  it was stopped
---@return string? message
---@return string? code
function Bridge:run()
  local ok, message, code = relay.run(self, { { attend, self.there }, { attend, self.back } })
  for _, way in ipairs { self.there, self.back } do -- packets that were taken and have nowhere to go
    way.packets:free(way.have)
    way.left, way.have = way.have, 0
  end
  return ok, message, code
end

--- Ends `run`, at once. Idempotent.
function Bridge:stop() relay.stop(self) end

return M
