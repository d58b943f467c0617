--- A port's queues: bursts, which never wait, and waits, which end in one.
---
--- A queue is an object of the port and outlives versions of the driver. `serve` gives it the functions and the ring of a
--- driver's offer; `withdraw` takes them away while no version is at work. luio.net describes waiting; it is done here. A queue is a
--- wait slot (luio.loop.wait_slot), and the port asks `awaited` after every interrupt.

local now = require("luio.ffi").now
local pool = require "luio.pool"
local ports = require "luio.port"
local wait_slot = require "luio.loop.wait_slot"

local closed, check_seconds = ports.closed, ports.check_seconds

local M = {}

-- Polling before waiting, in seconds: see "Waiting is adaptive".
local WAKES, LEAST, MOST = 3, 20e-6, 1e-3
local PROBE = 32

local function nothing() return 0 end
local function never() return false end

local function outside(n, packets, level)
  if not pool.is_batch(packets) then error(("a burst needs a batch (luio.batch), not %s"):format(tostring(packets)), level + 1) end
  error(("a burst of %s packets in a batch of %d"):format(tostring(n), packets.capacity), level + 1)
end

-- The first of some queues that is ready. Each queue states its condition in `awaited`.
local function first_ready(queues)
  for i = 1, #queues do
    if queues[i]:awaited() then return queues[i] end
  end
end

-- Learns from a wake what waking costs. One sample at most doubles its weight: a task that polls, on a processor that another
-- process wants, is woken late for having polled, and would poll longer for being woken late.
local function learn(port, slept)
  local taken = port.taken
  port.taken = nil
  if not taken or taken < slept then return end -- the interrupt is older than the wait
  local cost = port.wake_cost
  port.wake_cost = cost * 0.875 + math.min(now() - taken, 2 * cost, MOST) * 0.125
end

-- Waits for the interrupts of queues; each port asks `awaited` at each.
local function wait_until(queues, seconds, what)
  for i = 1, #queues do
    local port = queues[i].port
    if port.closed then closed(port, what, 4) end
    if port.dev.gone then return port.dev:gone_failure(what) end
  end
  for i = 1, #queues do
    local offer = queues[i].port.offer
    if offer then offer.arm(queues[i].receives, not queues[i].receives) end
  end
  local found = first_ready(queues) -- it came before the interrupt was on
  if found then return found end
  local slept = now()
  local ok, message, code = wait_slot.wait_any(queues, seconds)
  if ok then learn(queues[1].port, slept) end
  found = (ok or code == "ETIMEDOUT") and first_ready(queues)
  if found then return found end
  if ok then message, code = "woken by mistake", "EAGAIN" end
  return nil, ("%s of %s: %s"):format(what, queues[1].port.dev.address, message), code
end

-- How long it is worth to poll: about what it costs to sleep and to be woken. With one processor the sender would have to wait.
local function patience(port)
  return port.options.poll or port.one_processor and 0 or math.min(math.max(WAKES * port.wake_cost, LEAST), MOST)
end

-- Polls where the event is likely to come sooner than its interrupt, then waits.
local function adaptive(queues, seconds, what)
  local queue, found, message, code = queues[1], first_ready(queues), nil, nil
  if found then
    queue.gap = queue.gap * 0.75
    return found
  end
  local began, limit = now(), patience(queue.port)
  queue.waits = queue.waits + 1
  if limit > 0 and (queue.gap < limit or queue.waits % PROBE == 0) then
    local stop = began + math.min(limit, seconds)
    repeat found = first_ready(queues) until found or now() >= stop
  end
  if not found then found, message, code = wait_until(queues, math.max(seconds - (now() - began), 0), what) end
  queue.gap = queue.gap * 0.75 + math.min(now() - began, 2 * MOST) * 0.25
  return found, message, code
end

-- Notes the purpose of a wait for a queue; raises while another task waits for it.
local function await(queue, awaited, level)
  if wait_slot.waiter(queue) then error(("two tasks wait for one queue of %s"):format(queue.port.dev.address), level + 1) end
  queue.awaited = awaited
end

-- The same for one queue.
local function wait_for(queue, awaited, seconds, what)
  await(queue, awaited, 2)
  local found, message, code = adaptive(queue.alone, seconds, what)
  return found and true, message, code
end

--- A port's receive queue.
---@class luio.net.Rx : luio.WaitSlot
---@field port luio.net.Port
---@field number integer
---@field package offer luio.net.RxOffer  of the version at work
---@field package awaited fun(queue: luio.net.Rx): boolean  what it is waited for
---@field package gap number               seconds that waits lasted lately
---@field package waits integer
local Rx = { receives = true }
Rx.__index = Rx

--- Takes received packets, without waiting. The packets are yours.
---@param packets luio.Batch  filled from 0
---@param n integer           at most so many; at most packets.capacity
---@return integer taken
function Rx:burst(packets, n)
  local capacity = packets.capacity
  if not (capacity and n <= capacity and n >= 0 and n % 1 == 0) then outside(n, packets, 2) end
  local offer = self.offer
  return offer.burst(offer.ring, packets, n)
end

local function has_packet(queue) return queue.offer.ready(queue.offer.ring) end

--- Waits until there is something to receive.
---@param seconds number
---@return true? ok
---@return string? message
---@return string? code  "ETIMEDOUT"; "ENODEV": the device is gone
function Rx:wait(seconds)
  check_seconds(seconds, "rx:wait", 2)
  return wait_for(self, has_packet, seconds, "receive")
end

--- Waits for a packet. It is yours.
---@param seconds number
---@return luio.Packet? packet
---@return string? message
---@return string? code  "ETIMEDOUT"; "ENODEV": the device is gone; "ENOBUFS": one is there, but the pool is empty
function Rx:receive(seconds)
  check_seconds(seconds, "rx:receive", 2)
  local one, deadline = self.one, nil
  while true do
    if self:burst(one, 1) == 1 then return one.at[0] end
    deadline = deadline or now() + seconds
    local left = deadline - now()
    local ok, message, code = wait_for(self, has_packet, math.max(left, 0), "receive")
    if not ok then return nil, message, code end
    if self:burst(one, 1) == 1 then return one.at[0] end
    -- There was one, and now there is none: a damaged frame, dropped; or there is no empty packet.
    local from = self.port.pool
    if from:used() == from.count and has_packet(self) then
      return nil, ("receive of %s: all %d packets of its pool are in use"):format(self.port.dev.address, from.count), "ENOBUFS"
    end
    if left <= 0 then
      local address = self.port.dev.address
      return nil, ("receive of %s: all frames within %g s were damaged (rx_dropped counts them)"):format(address, seconds), "ETIMEDOUT"
    end
  end
end

--- A port's transmit queue.
---@class luio.net.Tx : luio.WaitSlot
---@field port luio.net.Port
---@field number integer
---@field package offer luio.net.TxOffer  of the version at work
---@field package lacking integer  so much room was not enough for who waits to send
local Tx = { receives = false, lacking = 0 }
Tx.__index = Tx

--- Gives packets to the device, in order, as many as there is room for, without waiting. Those are freed when they were
--- sent; the others stay yours (batch:shift moves them to the front).
---@param packets luio.Batch  from 0
---@param n integer
---@return integer given
function Tx:burst(packets, n)
  local capacity = packets.capacity
  if not (capacity and n <= capacity and n >= 0 and n % 1 == 0) then outside(n, packets, 2) end
  local offer = self.offer
  return offer.burst(offer.ring, packets, n)
end

--- Frees packets that were sent. `burst` does so when it needs room.
---@return integer room  descriptors that are free
function Tx:reclaim()
  return self.offer.reclaim(self.offer.ring)
end

--- Descriptors that the device has not reported as sent: packets, and others that it needs beside
--- them.
---@return integer  descriptors; 0: all were sent
function Tx:pending()
  local offer = self.offer
  offer.reclaim(offer.ring)
  return offer.pending(offer.ring)
end

local function has_room(queue) return queue:reclaim() > queue.lacking end
local function is_empty(queue) return queue:pending() == 0 end

--- Waits until there is room for a packet.
---@param seconds number
---@return true? ok
---@return string? message
---@return string? code  "ETIMEDOUT" "ENODEV"
function Tx:wait(seconds)
  check_seconds(seconds, "tx:wait", 2)
  self.lacking = 0
  return wait_for(self, has_room, seconds, "send")
end

--- Sends a packet, waiting for room. It is the device's then; else it stays yours.
---@param packet luio.Packet
---@param seconds number
---@return true? ok
---@return string? message
---@return string? code  "ETIMEDOUT" "ENODEV"
function Tx:send(packet, seconds)
  check_seconds(seconds, "tx:send", 2)
  if packet == nil or packet.owner ~= pool.YOURS then error(pool.fault(packet, "send"), 2) end
  local one, deadline = self.one, nil
  while true do
    one.at[0] = packet
    if self:burst(one, 1) == 1 then return true end
    deadline = deadline or now() + seconds
    -- A packet may need more than one descriptor: room that is not enough is no room.
    local room = self:reclaim()
    if room > 0 and self:burst(one, 1) == 1 then return true end
    self.lacking = room
    local ok, message, code = wait_for(self, has_room, math.max(deadline - now(), 0), "send")
    self.lacking = 0
    if not ok then return nil, message, code end
  end
end

--- Waits until everything was sent.
---@param seconds number
---@return true? ok
---@return string? message
---@return string? code  "ETIMEDOUT" "ENODEV"
function Tx:flush(seconds)
  check_seconds(seconds, "tx:flush", 2)
  if self:pending() == 0 then return true end
  return wait_for(self, is_empty, seconds, "send")
end

--- Waits until the packets that were given to a queue have gone, as long as any of them goes: before it is closed. Of any kind of
--- transmit queue.
---@param tx { pending: fun(self): integer }  flush(seconds), too
---@return integer left  what has not, when none had for a second
function M.send_rest(tx)
  local left
  repeat
    left = tx:pending()
    local ok, _, code = tx:flush(1)
  until ok or code ~= "ETIMEDOUT" or tx:pending() >= left
  return tx:pending()
end

--- Waits for the first of several queues, also of several ports: for a packet of a receive queue, for room in a transmit
--- queue. How long it polls before, the first of them says.
---@param queues (luio.net.Rx|luio.net.Tx)[]
---@param seconds number
---@return (luio.net.Rx|luio.net.Tx)? queue  one that is ready
---@return string? message
---@return string? code  "ETIMEDOUT"; "ENODEV": the device of one of them is gone
function M.wait(queues, seconds)
  check_seconds(seconds, "net.wait", 2)
  for i = 1, #queues do
    queues[i].lacking = 0
    await(queues[i], queues[i].receives and has_packet or has_room, 2)
  end
  local found, message, code = adaptive(queues, seconds, "wait")
  return found, message, code
end

-- ---- For luio.net --------------------------------------------------------------------------------

local function new_queue(class, port, number)
  local queue = setmetatable({ port = port, number = number, one = pool.batch(1), gap = 0, waits = 0 }, class)
  queue.alone = { queue }
  return queue
end

--- A receive queue.
---@param port luio.net.Port
---@param number integer
---@return luio.net.Rx
function M.rx(port, number) return new_queue(Rx, port, number) end

--- A transmit queue.
---@param port luio.net.Port
---@param number integer
---@return luio.net.Tx
function M.tx(port, number) return new_queue(Tx, port, number) end

-- Of a queue whose device is gone, or whose driver does not run: it takes and gives nothing.
local NO_OFFER = { burst = nothing, ready = never, reclaim = nothing, pending = nothing }

--- It takes and gives nothing from now on.
---@param queue luio.net.Rx|luio.net.Tx
function M.withdraw(queue) queue.offer = NO_OFFER end

--- It calls a version's offer.
---@param queue luio.net.Rx|luio.net.Tx
---@param offer luio.net.RxOffer|luio.net.TxOffer
function M.serve(queue, offer) queue.offer = offer end

--- The cost of waking before it was measured, in seconds.
M.WAKE_COST = LEAST / WAKES

return M
