--- Network ports: the interface of every network driver, and the way of packets from one port to
--- another.
---
---     local net = require "luio.net"
---     local port = assert(net.open "0000:00:05.0")       -- or "sim:e1000e"
---     local packets = luio.batch(32)
---     while true do                                       -- polling: never waits
---       local n = port.rx[0]:burst(packets, 32)
---       local sent = port.tx[0]:burst(packets, n)
---       ...
---
--- or blocking, in a task: port.rx[0]:receive(1), port.tx[0]:send(packet, 1).
---
--- Owners of packets. `pool:alloc` and `rx:burst` give packets to you. `tx:burst` gives those that it takes to the device,
--- and the ring frees them after sending; the others stay yours. A packet that you neither send nor free is lost to its
--- pool. Packets of one port's pool may be sent by another (that is how `forward` works without a copy) when both are real
--- devices; two simulated ones have no memory in common. Close the sender first.
---
--- Waiting is adaptive: under load nothing is interrupted, and idle nothing is polled. A wait first polls, for as long as sleeping
--- and waking costs, if the last few waits ended sooner than that on average (one wait in 32 polls in any case, to find out). Then
--- it is left to the interrupt. The cost of waking is measured: three times the mean time from an interrupt's stamp to the waiting
--- task, at least 20 us and at most 1 ms; the option `poll` sets it, 0 never polls. A process that has one processor does not poll
--- unless `poll` says so. The device's interrupts for packets are off except while a task waits; taking one switches them off again
--- (the driver's top half).
---
--- A port outlives the versions of its driver's code: queues are the same objects, and after a reload they call the new
--- version's functions. While no version is at work (a reload, a device that is gone) a burst takes nothing, and waits go
--- on until their deadline, or end with "ENODEV".
---
--- The driver's side. A network driver's `start` ends in `return net.serve(dev, offer)`; luio.net.Offer lists the
--- functions and values that it needs. The conformance spec (spec/net/conformance.lua) holds every driver to
--- this.

local checks = require "luio.options"
local now = require("luio.ffi").now
local offers = require "luio.net.offer"
local ports = require "luio.port"
local queue = require "luio.net.queue"
local task = require "luio.loop.task"
local uv = require "luv"
local wait_slot = require "luio.loop.wait_slot"

local M = {}

local TICK = 1 -- seconds between looks at counters and the device's health, without interrupts
local FRUITLESS = 1000 -- interrupts in a row without a cause before a warning

--- The state of a port's link.
---@class luio.net.Link
---@field up boolean
---@field speed integer?    Mbit/s, while up
---@field full_duplex boolean?

--- Counters since the port was opened; they only grow, also over reloads and resets. Whole numbers below 2^53.
---@class luio.net.Stats
---@field rx_packets integer   good frames that the device received
---@field rx_bytes integer     of those, as the device counts: with the CRC (QEMU's 82574L sends without)
---@field rx_missed integer    lost because the ring was full
---@field rx_errors integer    damaged, too short, too long
---@field rx_dropped integer   received but thrown away by the driver: in pieces, marked as damaged, of a length that no frame has
---@field rx_starved integer   bursts that took less than there was because the pool was empty
---@field tx_packets integer
---@field tx_bytes integer
---@field tx_errors integer
---@field tx_dropped integer   given to the ring, and taken out again unsent or not known to be sent (a reset)
---@field resets integer       somebody else reset the device, or it hung, and the driver set it up again

--- The abilities of a port's device and driver.
---@class luio.net.Features
---@field tx_checksum boolean   packet.checksum_start and _offset are heeded
---@field rx_checksum boolean   packet.flags says what the device found
---@field loopback boolean      the option `loopback` is heeded
---@field interrupts boolean    waits block; without, they poll
---@field max_mtu integer

--- Options of `open`.
---@class luio.net.Options
---@field mtu integer?        largest payload, 1500; a frame may have 14 bytes more, 18 with a VLAN tag
---@field rx integer?         descriptors of a receive ring, a power of two; 512
---@field tx integer?         of a transmit ring; 512
---@field packets integer?    in the pool; enough for both rings and 1024 more
---@field debug boolean?      pool.debug
---@field poll number?        seconds that a wait may poll; nil: the cost of an interrupt here, 0: never
---@field interrupts integer? at most so many a second; nil: the driver's choice, 0: no limit
---@field rx_checksum boolean? have the device check TCP's and UDP's checksums
---@field loopback boolean?   sent frames come back, and no others do
---@field driver string?      its name; nil: the one that matches

--- A receive queue of a driver: functions that are called with `ring`, as Rx:burst and so on say. A frame that is handed out has
--- its header, 14 bytes, and fits into its packet, whatever the device says.
---@class luio.net.RxOffer
---@field ring any
---@field burst fun(ring: any, packets: luio.Batch, n: integer): integer
---@field ready fun(ring: any): boolean  there is something to receive

--- A driver's functions that send packets.
---@class luio.net.TxOffer
---@field ring any
---@field burst fun(ring: any, packets: luio.Batch, n: integer): integer
---@field reclaim fun(ring: any): integer
---@field pending fun(ring: any): integer

--- A driver's `start` hands this to `serve`. The functions are called with the port's options in force; none of them
--- waits, except as stated.
---@class luio.net.Offer
---@field mac string
---@field mtu integer
---@field features luio.net.Features
---@field pool luio.Pool
---@field rx table<integer, luio.net.RxOffer>  from 0
---@field tx table<integer, luio.net.TxOffer>
---@field link fun(): luio.net.Link
---@field stats fun(): luio.net.Stats       reads the device's counters; all of them
---@field promiscuous fun(on: boolean)
---@field multicast fun(list: string[]|"all")  addresses as 6 bytes
---@field arm fun(receive: boolean, send: boolean)  lets the device interrupt once: when packets come, or were sent, from now on
---@field interrupted fun(event: luio.Event): boolean  whether the link may have changed
---@field tick (fun(): string?)?            about once a second; the text of a warning

--- An open network port.
---@class luio.net.Port : luio.Port
---@field mac string       "52:54:00:12:34:56"
---@field mtu integer
---@field features luio.net.Features
---@field pool luio.Pool
---@field options luio.net.Options
---@field rx table<integer, luio.net.Rx>  from 0
---@field tx table<integer, luio.net.Tx>
---@field package last_link boolean?
---@field package wake_cost number  seconds from an interrupt to the task that waited, mean
---@field package one_processor boolean  when it was opened
---@field package taken number?     when the last interrupt was taken, until a task has run because of it
---@field package link_listeners fun(link: luio.net.Link)[]
---@field package wanted { promiscuous: boolean, multicast: string[]|"all" }
local Port = { what = "network" }
Port.__index = Port

local closed = ports.closed

M.wait = queue.wait

-- ---- The port ------------------------------------------------------------------------------------

local function each_queue(port)
  local i, n = -1, 0
  while port.rx[n] do n = n + 1 end
  return function()
    i = i + 1
    if i < n then return port.rx[i] end
    return port.tx[i - n]
  end
end

-- Queues call a version's offer from now on; nil: nothing.
local function use(port, offer)
  port.offer = offer
  for one in each_queue(port) do queue.withdraw(one) end
  if not offer then return end
  port.mac, port.mtu, port.features, port.pool = offer.mac, offer.mtu, offer.features, offer.pool
  for i = 0, #offer.rx do
    port.rx[i] = port.rx[i] or queue.rx(port, i)
    queue.serve(port.rx[i], offer.rx[i])
  end
  for i = 0, #offer.tx do
    port.tx[i] = port.tx[i] or queue.tx(port, i)
    queue.serve(port.tx[i], offer.tx[i])
  end
end

-- Wakes the tasks whose condition is met; returns which of the others wait, and whether a task was
-- woken.
local function wake_ready(port)
  local receive, send, woken = false, false, false
  for one in each_queue(port) do
    local waits = wait_slot.waiter(one) ~= nil
    if waits and one:awaited() then
      wait_slot.wake(one, true)
      woken = true
    elseif waits then
      receive, send = receive or one.receives, send or not one.receives
    end
  end
  return receive, send, woken
end

-- After an interrupt. A task that still waits needs another one, and an interrupt for packets that came before it was armed is not
-- sent. Returns whether a task was woken.
local function serve_waits(port)
  local receive, send, woken = wake_ready(port)
  if not (receive or send) or not port.offer then return woken end
  port.offer.arm(receive, send)
  local _, _, more = wake_ready(port)
  return woken or more
end

local function wake_all(port, ...)
  for one in each_queue(port) do wait_slot.wake(one, ...) end
end

-- The link may have changed: tells who listens, if it has. Whether it has.
local function check_link(port)
  if not port.offer then return false end
  local link = port.offer.link()
  if link.up == port.last_link then return false end
  port.last_link = link.up
  for i = #port.link_listeners, 1, -1 do
    local listener = port.link_listeners[i]
    if listener then task.spawn_in(nil, listener, link) end
  end
  return true
end

-- A version's own task: takes the device's interrupts.
local function listen(port, view, offer)
  local due, fruitless, said = now() + TICK, 0, false
  while not view.closed do -- those who are woken here may close the port
    local event, message, code = view.irqs[0]:wait(math.max(0, due - now()))
    if event then
      port.taken = event.time
      local changed = offer.interrupted(event) and check_link(port)
      local woken = port.offer == offer and serve_waits(port)
      fruitless = (changed or woken) and 0 or fruitless + 1
      if fruitless > FRUITLESS and not said then -- others live, but it keeps a processor busy
        said = true
        view:warn(("%s interrupts without a reason that it tells: %d times in a row, and no packet and no link had come or gone; is the "
          .. "line shared with a device that nobody drives?"):format(view.address, FRUITLESS))
      end
    elseif code == "ENODEV" or code == "ECANCELED" then -- gone, or closed
      return
    elseif code ~= "ETIMEDOUT" then
      view:warn(("interrupts of %s: %s"):format(view.address, message))
      wait_slot.sleep(TICK)
    end
    if now() >= due and not view.closed then
      due = now() + TICK
      local warning = offer.tick and offer.tick()
      if warning then view:warn(warning) end
      if port.offer == offer then serve_waits(port) end -- should an interrupt ever be lost, a wait is late, not stuck
    end
  end
end

-- Another offer is in place, or none; without a view the device is gone.
local function replace(port, offer, view)
  use(port, offer)
  if not offer then
    if not view then wake_all(port, nil, "the device is gone", "ENODEV") end
    return
  end
  if port.wanted.promiscuous then offer.promiscuous(true) end
  if port.wanted.multicast then offer.multicast(port.wanted.multicast) end
  check_link(port)
  serve_waits(port)
end

local function new_port(dev)
  return setmetatable({
    dev = dev, rx = {}, tx = {}, options = ports.options(dev), link_listeners = {}, wanted = { promiscuous = false },
    wake_cost = queue.WAKE_COST, one_processor = uv.available_parallelism() == 1,
  }, Port)
end

--- For drivers, at the end of `start`: makes the device a port, or hands an old port what this version has to offer.
---@param dev luio.Device  the version's
---@param offer luio.net.Offer
---@return true? ok
---@return string? message  what the offer lacks
---@return string? code  "EINVAL"
function M.serve(dev, offer)
  local fault = offers.fault(offer)
  if fault then return nil, "net.serve: " .. fault, "EINVAL" end
  return ports.serve(dev, offer, new_port, replace, offer.features.interrupts and listen or nil)
end

--- For drivers: the options that the port was opened with. They are checked.
---@param dev luio.Device
---@return luio.net.Options
M.options = ports.options

local RING = checks.power_of_two(8, 4096, "descriptors")
local OPTIONS = {
  mtu = "number", rx = RING, tx = RING, packets = "number", debug = "boolean", poll = "number", interrupts = "number",
  rx_checksum = "boolean", loopback = "boolean", driver = "string",
}

--- Opens a network device and starts its driver.
---@param address string|luio.Device  or one that is open and has no driver; it is closed when this fails
---@param options? luio.net.Options
---@return luio.net.Port?
---@return string? message
---@return string? code  as luio.open; "ENODEV": no network driver is for it
function M.open(address, options)
  return ports.open(address, Port, checks.check("net.open", options, OPTIONS))
end

--- The port of a device whose driver was started by other means (luio.start).
---@param dev luio.Device
---@return luio.net.Port?
function M.port(dev)
  return ports.of(dev, Port)
end

--- The link as it is now.
---@return luio.net.Link
function Port:link()
  if self.closed then closed(self, "link", 2) end
  if not self.offer then return { up = false } end
  return self.offer.link()
end

--- Calls fn(link), in a task of its own, whenever the link has come or gone.
---@param fn fun(link: luio.net.Link)
---@return fun()  call it to hear no more
function Port:on_link(fn)
  self.last_link = self:link().up
  table.insert(self.link_listeners, fn)
  return function()
    for i, listener in ipairs(self.link_listeners) do
      if listener == fn then return table.remove(self.link_listeners, i) end
    end
  end
end

--- Waits until the link is up, or down.
---@param up boolean
---@param seconds number
---@return true? ok
---@return string? message
---@return string? code  "ETIMEDOUT"
function Port:wait_link(up, seconds)
  ports.check_seconds(seconds, "port:wait_link", 2)
  local deadline = now() + seconds
  while self:link().up ~= up do
    if now() >= deadline then
      return nil, ("the link of %s is %s after %g s"):format(self.dev.address, up and "down" or "up", seconds), "ETIMEDOUT"
    end
    -- The interrupt may be on its way, or the driver have none: a look now and then.
    wait_slot.await(math.min(0.1, math.max(0, deadline - now())), function(wake)
      return self:on_link(function() wake(true) end)
    end)
  end
  return true
end

--- The port's counters. Reading them reads the device's counters.
---@return luio.net.Stats
function Port:stats()
  if self.closed then closed(self, "stats", 2) end
  if self.offer then self.last_stats = self.offer.stats() end
  return offers.counters(self.last_stats, self.dev.driver.name)
end

--- Receives all frames, not only those for this port.
---@param on boolean
function Port:promiscuous(on)
  if self.closed then closed(self, "promiscuous", 2) end
  self.wanted.promiscuous = on and true or false
  if self.offer then self.offer.promiscuous(self.wanted.promiscuous) end
end

--- A MAC address as 6 bytes.
---@param text string "52:54:00:12:34:56"
---@return string?  nil: that is none
function M.mac_bytes(text)
  local a, b, c, d, e, f = tostring(text):match "^(%x%x):(%x%x):(%x%x):(%x%x):(%x%x):(%x%x)$"
  if not a then return nil end
  return string.char(tonumber(a, 16), tonumber(b, 16), tonumber(c, 16), tonumber(d, 16), tonumber(e, 16), tonumber(f, 16))
end

--- The reverse of mac_bytes.
---@param bytes string
---@return string
function M.mac_text(bytes)
  return ("%02x:%02x:%02x:%02x:%02x:%02x"):format(bytes:byte(1, 6))
end

--- Which multicast frames are received. The device may let others through, too: it looks at a hash.
---@param list string[]|"all"  MAC addresses, "01:00:5e:00:00:01"; none: {}
function Port:multicast(list)
  if self.closed then closed(self, "multicast", 2) end
  local wanted = list
  if list ~= "all" then
    wanted = {}
    for i, text in ipairs(list) do
      local bytes = M.mac_bytes(text)
      if not bytes or bytes:byte() % 2 == 0 then error(("port:multicast: %s is no multicast address"):format(tostring(text)), 2) end
      wanted[i] = bytes
    end
  end
  self.wanted.multicast = wanted
  if self.offer then self.offer.multicast(wanted) end
end

--- Follows the driver's files, as `luio run` does: when one is saved, or on SIGHUP, the code is exchanged while the port
--- works. A version that does not load, or fails soon, changes nothing. Ends when the port is closed; calling it again
--- changes `tell`.
---@param tell? fun(line: string, report: luio.ReloadReport)  what became of a reload
function Port:follow(tell) ports.follow(self, tell) end

--- Closes the port and its device. Packets that were given to send go out first, until none has gone for a second. An error names
--- the number of those that did not go; the port is closed in any case. Idempotent.
---@return boolean? ok
---@return string? message
---@return string? code    "ENETDOWN": packets were not sent, and the link is down; "EIO": though it is up
---@return integer? lost   those packets, as descriptors of the device
function Port:close()
  if self.closed then return true end
  local lost, up = 0, self:link().up
  for i = 0, #self.tx do lost = lost + queue.send_rest(self.tx[i]) end
  local ok, message, code = ports.close(self)
  if not ok then return nil, message, code end
  use(self, nil)
  wake_all(self, nil, "the port was closed", "ECANCELED")
  if lost == 0 then return true end
  return nil, ("close %s: %d packet%s given to send did not go: %s"):format(self.dev.address, lost, lost == 1 and "" or "s",
    up and "none has for a second, though the link is up" or "the link is down"), up and "EIO" or "ENETDOWN", lost
end

function Port:__tostring()
  return ("port %s %s%s"):format(self.dev.address, self.mac, self.closed and ", closed" or "")
end

return M
