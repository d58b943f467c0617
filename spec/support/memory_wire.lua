--- A wire with two ends in memory, each a port as luio.net.share takes it: rx[0], tx[0], a pool, a MAC address and an MTU. Frames given
--- to one end come out of the other, at most `length` at a time. A wire that is cut takes frames up to that, and moves none.
--- With a function `sink` an end takes frames at once, any number.

local memory = require "luio.net.memory"
local wait = require "spec.support.wait"

local M = {}

local Rx, Tx = {}, {}
Rx.__index, Tx.__index = Rx, Tx

function Rx:burst(packets, n)
  local queue, taken = self.queue, 0
  while taken < n and queue[1] and not self.port.cut do
    local packet = self.port.pool:alloc()
    if not packet then break end
    packet:write(table.remove(queue, 1))
    packets[taken] = packet
    taken = taken + 1
  end
  return taken
end

function Rx:wait(seconds)
  if wait.poll(seconds, function() return self.queue[1] and not self.port.cut end) then return true end
  return nil, "timed out", "ETIMEDOUT"
end

function Tx:reclaim() return self.length - #self.queue end

function Tx:burst(packets, n)
  n = math.min(n, self:reclaim())
  for i = 0, n - 1 do
    local sink = self.port.far.sink
    if sink then sink(packets[i]:read()) else table.insert(self.queue, packets[i]:read()) end
    packets[i]:free()
  end
  self.sent = self.sent + n
  return n
end

--- Frames that came out at this end, as strings.
local function drain(port)
  local list = {}
  while port.rx[0].queue[1] and not port.cut do table.insert(list, table.remove(port.rx[0].queue, 1)) end
  return list
end

--- Puts frames in at this end.
local function send(port, frames)
  for _, frame in ipairs(frames) do table.insert(port.tx[0].queue, frame) end
end

--- Both ends.
---@param options { length: integer?, mtu: integer?, debug: boolean? }?
---@return table near  the port
---@return table far   with drain() and send(frames)
function M.new(options)
  options = options or {}
  local there, back = {}, {}
  local function port(mac, rx, tx)
    local self = { mac = mac, mtu = options.mtu or 1500, rx = {}, tx = {}, drain = drain, send = send }
    self.pool = memory.pool({ count = 512, size = self.mtu + 64, debug = options.debug }, "wire")
    self.rx[0] = setmetatable({ port = self, queue = rx }, Rx)
    self.tx[0] = setmetatable({ port = self, queue = tx, length = options.length or 256, sent = 0 }, Tx)
    function self.close() self.pool:close() end
    return self
  end
  local near, far = port("02:00:00:00:00:0a", back, there), port("02:00:00:00:00:0b", there, back)
  near.far, far.far = far, near
  return near, far
end

return M
