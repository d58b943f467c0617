--- One port, several processes: each is a memif client (luio.net.memif.server) with a queue pair of its own.
---
---     local shared = assert(share.start(port, { path = "/run/share.sock" }))
---     while not stopping() do
---       if shared:turn() == 0 then shared:wait(0.1) end
---     end
---     shared:close()
---
--- port is anything with rx[0]:burst and :wait, tx[0]:burst and :reclaim, pool, mtu and mac: a card's (luio.net), a memif connection; or
--- nil, then clients talk to each other alone.
---
--- **By address** (the default). A client has one MAC address: the one that was written down for it (members), or that of its first
--- frame. A frame for an address goes to its owner; broadcast and multicast frames go to all; a frame for no known address is
--- dropped. From client to client frames pass here, and do not see the wire. A frame with another source address than the client's
--- is dropped, so a client cannot take another's address. An address is free again when its owner leaves.
---
--- **By flow.** All clients have the port's address, and share its frames by addresses and ports (share/flow.lua); frames other
--- than IP go to all. Frames from clients go to the wire.
---
--- **Nobody waits for a client.** A frame that does not fit into a client's ring is dropped, and counted for that client. In a turn
--- each client may send 32 frames, beginning with another client each time; its other frames stay in its ring. While the port's
--- transmit ring is full, so do all; after 10 ms without room (the link is down) frames for the wire are dropped, so that clients
--- can go on talking to each other.
---
--- **Copies.** A frame is copied once between a client's memory and a packet. Clients must not see the port's memory. A client
--- that sees a ring or a packet of a card sees the frames of others, and one that can write there lets the card write
--- anywhere. And a frame must not change after a decision about it, as a client's memory may. So a frame from client to client
--- is copied twice.

local fd_watch = require "luio.loop.fd_watch"
local bit = require "bit"
local checks = require "luio.options"
local ffi = require "ffi"
local addresses = require "luio.net.share.addresses"
local flow = require "luio.net.share.flow"
local luio = require "luio"
local memif_server = require "luio.net.memif.server"
local net = require "luio.net"
local pool = require "luio.pool"
local ring = require "luio.net.memif.ring"
local task = require "luio.loop.task"
local wait_slot = require "luio.loop.wait_slot"
local now = luio.now

local band = bit.band
local find, bucket_of = addresses.find, flow.bucket

local M = {}

local BURST = 32 -- frames of a client, a turn; and of the port
local LOOK = 1e-3 -- seconds between looks at the sockets, under load
local POLL = 50e-6 -- how long an empty turn is repeated before wait sleeps
local STUCK = 10e-3 -- how long a full transmit ring holds clients up

--- Options of `share.start`.
---@class luio.share.Options
---@field path string       of the socket
---@field mode integer?     its permissions: tonumber("660", 8); 0600
---@field clients integer?  at most so many, 1 to 64; 16
---@field per_user integer? of these, of one user other than root and our own; three quarters of them
---@field region integer?   the most memory of a client that is mapped, in bytes a region; 256 MiB
---@field by "mac"|"flow"?  "mac"
---@field members table<integer, { mac: string?, secret: string? }>?  admitted clients by interface id; nil: any client
---@field changed fun(event: "joined"|"left"|"refused", client: luio.share.Client, why: string?)?

--- A client, as it is shown.
---@class luio.share.Client
---@field id integer?
---@field name string?
---@field interface string?
---@field pid integer
---@field uid integer
---@field mac string?      nil: not known yet
---@field stats luio.share.Stats?  nil: it never joined

--- Counters of a client.
---@class luio.share.Stats
---@field rx_packets integer   taken from it; of these, all that were not dropped below went to where they should
---@field rx_bytes integer
---@field rx_short integer     never taken: under 14 bytes
---@field rx_long integer      dropped: longer than the port's MTU and a header
---@field rx_spoofed integer   dropped: another source address than its own
---@field rx_nowhere integer   dropped: there is no wire, or it was for itself
---@field rx_wire_full integer dropped: the port's transmit ring was full for too long
---@field tx_packets integer   given to it
---@field tx_bytes integer
---@field tx_full integer      dropped: its ring was full

-- The state of each place; doubles are for Lua.
local record_t = ffi.typeof [[struct {
  int32_t low, high, known;
  double rx_long, rx_spoofed, rx_nowhere, rx_wire_full, tx_full;
}]]

--- A port that several clients share.
---@class luio.share.Shared
---@field port any
---@field package server luio.memif.Server
---@field unclaimed integer  frames from the wire that belong to no client
local Shared = {}
Shared.__index = Shared

-- ---- Clients -------------------------------------------------------------------------------------

local function add_client(self, client)
  local members = self.options.members
  if not members then return true end
  local member = members[client.id]
  if not member then return nil, ("no client is configured as interface %d"):format(client.id) end
  if member.secret and member.secret ~= client.secret then return nil, "the secret is another" end
  return true
end

local function show(self, client)
  local shown = { id = client.id, name = client.name, interface = client.interface, pid = client.pid, uid = client.uid }
  local q, r = client.queue or client.last_queue, self.records[client.number]
  if not q or client.state ~= "up" and not client.joined then return shown end
  if r.known ~= 0 then shown.mac = net.mac_text(addresses.bytes(r.low, r.high)) end
  shown.stats = {
    rx_packets = q.rx_packets, rx_bytes = q.rx_bytes, rx_short = q.rx_short, rx_long = q.rx_long + r.rx_long, tx_packets = q.tx_packets,
    tx_bytes = q.tx_bytes, rx_spoofed = r.rx_spoofed, rx_nowhere = r.rx_nowhere, rx_wire_full = r.rx_wire_full, tx_full = r.tx_full,
  }
  return shown
end

local function own(record, low, high)
  record.low, record.high, record.known = low, high, 1
end

local function joined(self, client)
  client.joined = true
  local record = record_t()
  self.records[client.number] = record
  local member = self.options.members and self.options.members[client.id]
  if self.by_flow then own(record, addresses.halves(net.mac_bytes(self.port.mac)))
  elseif member and member.mac then own(record, addresses.halves(net.mac_bytes(member.mac))) end
  self.changed = true
  if self.options.changed then self.options.changed("joined", show(self, client)) end
end

local function left(self, client, why)
  self.changed = true
  if self.options.changed then self.options.changed("left", show(self, client), why) end
end

-- Makes the lists for bursts, after a client came or went.
local function arrange(self)
  self.changed = false
  local order, server = {}, self.server
  addresses.clear(self.owners)
  for number = 1, server.places do
    local client = server.clients[number]
    if client and client.state == "up" then
      table.insert(order, client)
      ring.listen(client.queue, false)
      local record = self.records[number]
      if record.known ~= 0 and not self.by_flow then addresses.add(self.owners, record.low, record.high, number) end
    end
  end
  self.order = order
  local numbers = {}
  for i, client in ipairs(order) do numbers[i] = client.number end
  if self.by_flow then flow.spread(self.buckets, numbers) end
end

-- The first frame of a client without a configured address. Returns whether the address is the client's now. Not one that
-- is kept for a member.
local function learn_address(self, number, low, high)
  if band(low, 1) ~= 0 or low == 0 and high == 0 then return false end
  if find(self.owners, low, high) ~= 0 or find(self.kept, low, high) ~= 0 then return false end
  own(self.records[number], low, high)
  return addresses.add(self.owners, low, high, number)
end

-- ---- Where frames go -----------------------------------------------------------------------------

local int32_p, uint16_p = ffi.typeof "const int32_t *", ffi.typeof "const uint16_t *"

-- Into everybody's box, but not of who sent it.
local function to_all(self, packet, from)
  local order, boxes, filled = self.order, self.boxes, self.filled
  for i = 1, #order do
    local number = order[i].number
    if number ~= from then
      boxes[number].at[filled[number]] = packet
      filled[number] = filled[number] + 1
    end
  end
end

-- Sorts frames from the wire into boxes.
local function sort_wire(self, batch, n)
  local boxes, filled, owners, by_flow = self.boxes, self.filled, self.owners, self.by_flow
  for k = 0, n - 1 do
    local packet = batch.at[k]
    local p = packet.base + packet.offset
    local low = ffi.cast(int32_p, p)[0]
    if packet.length < 14 then
      self.unclaimed = self.unclaimed + 1
    elseif band(low, 1) ~= 0 then
      to_all(self, packet, 0)
    else
      local owner
      if by_flow then
        local bucket = bucket_of(p, packet.length)
        owner = bucket >= 0 and self.buckets[bucket] or -1
      else
        owner = find(owners, low, ffi.cast(uint16_p, p + 4)[0])
      end
      if owner > 0 then
        boxes[owner].at[filled[owner]] = packet
        filled[owner] = filled[owner] + 1
      elseif owner < 0 then
        to_all(self, packet, 0)
      else
        self.unclaimed = self.unclaimed + 1
      end
    end
  end
end

-- Sorts a client's frames: into boxes, onto the list for the wire, and onto that of packets that do not go
-- there.
local function sort_client(self, batch, n, from)
  local record, boxes, filled, owners, by_flow = self.records[from], self.boxes, self.filled, self.owners, self.by_flow
  local wire, rest, has_wire, longest = self.wire, self.rest, self.port ~= nil, self.longest
  local w, r = 0, 0
  for k = 0, n - 1 do
    local packet = batch.at[k]
    local p = packet.base + packet.offset
    local low, high = ffi.cast(int32_p, p + 6)[0], ffi.cast(uint16_p, p + 10)[0]
    local out = false
    local its_own = record.known ~= 0 and record.low == low and record.high == high
    if not its_own and not (record.known == 0 and learn_address(self, from, low, high)) then
      record.rx_spoofed = record.rx_spoofed + 1
    elseif packet.length > longest and not (p[12] == 0x81 and p[13] == 0) then -- 4 bytes more are for a VLAN's tag
      record.rx_long = record.rx_long + 1
    elseif by_flow then
      out = true
    else
      low = ffi.cast(int32_p, p)[0]
      if band(low, 1) ~= 0 then
        to_all(self, packet, from)
        out = has_wire
      else
        local owner = find(owners, low, ffi.cast(uint16_p, p + 4)[0])
        if owner ~= 0 and owner ~= from then
          boxes[owner].at[filled[owner]] = packet
          filled[owner] = filled[owner] + 1
        elseif owner == 0 and has_wire then
          out = true
        else
          record.rx_nowhere = record.rx_nowhere + 1
        end
      end
    end
    if out then
      wire.at[w] = packet
      w = w + 1
    else
      rest.at[r] = packet
      r = r + 1
    end
  end
  return w, r
end

-- Empties the boxes into the clients' rings.
local function deliver(self)
  local order, filled = self.order, self.filled
  for i = 1, #order do
    local client = order[i]
    local number = client.number
    local n = filled[number]
    if n > 0 then
      filled[number] = 0
      local given = client:give(self.boxes[number], n)
      if given < n then
        local record = self.records[number]
        record.tx_full = record.tx_full + (n - given)
      end
    end
  end
end

-- How many frames may go to the wire now.
local function room(self, t)
  local port = self.port
  if not port then return BURST end
  local free = port.tx[0]:reclaim()
  if free > 0 then
    self.full_since = math.huge
  elseif self.full_since == math.huge then
    self.full_since = t
  elseif t - self.full_since > STUCK then
    return BURST -- they will be dropped
  end
  return free
end

--- Moves the waiting frames, once around, without blocking.
---@return integer n  frames that were moved; 0: none waited
function Shared:turn()
  local t, batch = now(), self.batch
  if t >= self.due then
    self.due = t + LOOK
    self.server:poll()
  end
  if self.changed then arrange(self) end
  local port, moved = self.port, 0
  if port then
    local n = port.rx[0]:burst(batch, BURST)
    if n > 0 then
      sort_wire(self, batch, n)
      deliver(self)
      batch:free(n)
      moved = n
    end
  end
  local order = self.order
  local count, free, first = #order, room(self, t), self.first
  for i = 0, count - 1 do
    local client = order[(first + i) % count + 1]
    local n = math.min(BURST, free)
    if n > 0 then n = client:take(self.pool, batch, n) end
    if n > 0 then
      local w, r = sort_client(self, batch, n, client.number)
      deliver(self)
      if w > 0 then
        local went = port.tx[0]:burst(self.wire, w)
        free = free - went
        if went < w then
          local record = self.records[client.number]
          record.rx_wire_full = record.rx_wire_full + (w - went)
          self.wire:free(self.wire:shift(went, w))
        end
      end
      self.rest:free(r)
      moved = moved + n
    end
  end
  self.first = count > 0 and (first + 1) % count or 0
  return moved
end

-- ---- Waiting -------------------------------------------------------------------------------------

local function wake_waiter(self)
  local wake = self.asleep
  self.asleep = nil
  if wake then wake(true) end
end

-- A task that waits for one of the things that can happen, while the one that turns is asleep.
local function sentinel(self, wait)
  local mine = { parked = nil }
  mine.task = task.spawn(function()
    while not self.closed do
      if not self.asleep then
        wait_slot.await(1e6, function(wake) mine.parked = wake end)
        mine.parked = nil
      else
        local ok, _, code = wait(1)
        if ok then
          wake_waiter(self)
        elseif code ~= "ETIMEDOUT" then
          wait_slot.sleep(0.1) -- the device is gone, for now or for good
        end
      end
    end
  end)
  table.insert(self.sentinels, mine)
end

local function anything(self)
  local order = self.order
  for i = 1, #order do
    local queue = order[i].queue
    if queue ~= nil and ring.ready(queue) then return true end
  end
  return false
end

local function listen(self, on)
  for _, client in ipairs(self.order) do
    if client.queue then ring.listen(client.queue, on) end
  end
end

--- Waits until there may be something to move: polls for 50 us, then sleeps until a client or the port wakes it.
---@param seconds number  at most
function Shared:wait(seconds)
  local stop = now() + POLL
  repeat
    if self:turn() > 0 then return end
  until now() >= stop
  listen(self, true)
  luio.fence_full()
  if not anything(self) then
    wait_slot.await(seconds, function(wake)
      self.asleep = wake
      for _, mine in ipairs(self.sentinels) do
        if mine.parked then mine.parked() end
      end
      return function() self.asleep = nil end
    end)
  end
  listen(self, false)
  self.due = 0 -- sockets, too
end

-- ---- Beginning and end ---------------------------------------------------------------------------

--- All clients.
---@return luio.share.Client[]
function Shared:clients()
  local list = {}
  for _, client in ipairs(self.order) do
    if client.queue then table.insert(list, show(self, client)) end
  end
  return list
end

--- Sends everybody away. The port stays open. Idempotent.
function Shared:close()
  if self.closed then return end
  self.closed = true
  for _, mine in ipairs(self.sentinels) do mine.task:cancel() end
  self.watch:close()
  self.server:close()
  if self.own_pool then self.pool:close() end
end

local OPTIONS = {
  path = checks.needed "string", by = checks.one_of { "mac", "flow" }, members = "table", changed = "function",
}
for _, key in ipairs { "mode", "clients", "per_user", "region" } do OPTIONS[key] = memif_server.OPTIONS[key] end

local function check(port, options)
  if options.by == "flow" and not port then
    error("share.start: by flow there must be a port, whose flows they are", 3)
  end
  local seen, n = {}, 0
  for id, member in pairs(options.members or {}) do
    local bytes = member.mac and net.mac_bytes(member.mac)
    if member.mac and (not bytes or bytes:byte() % 2 == 1) then
      error(("share.start: member %s: %s is no address of a station"):format(tostring(id), tostring(member.mac)), 3)
    elseif bytes and seen[bytes] then
      error(("share.start: members %s and %s have one address"):format(tostring(seen[bytes]), tostring(id)), 3)
    end
    if bytes then seen[bytes] = id end
    n = n + 1
  end
  if n > 64 then error("share.start: at most 64 members", 3) end
end

-- The addresses that are written down.
local function keep(kept, members)
  for _, member in pairs(members) do
    if member.mac then
      local low, high = addresses.halves(net.mac_bytes(member.mac))
      addresses.add(kept, low, high, 1)
    end
  end
end

--- Shares a port. By address it is switched to promiscuous, because its clients' addresses are not its
--- own.
---@param port luio.net.Port?
---@param options luio.share.Options
---@return luio.share.Shared?
---@return string? message
---@return string? code  as memif.listen
function M.start(port, options)
  options = checks.check("share.start", options, OPTIONS)
  check(port, options)
  local self = setmetatable({
    port = port, options = options, by_flow = options.by == "flow", records = {}, order = {}, boxes = {}, owners = addresses.new(),
    buckets = flow.new(), batch = pool.batch(BURST), wire = pool.batch(BURST), rest = pool.batch(BURST), first = 0, due = 0,
    full_since = math.huge, unclaimed = 0, sentinels = {}, kept = addresses.new(), longest = (port and port.mtu or 1500) + 14,
  }, Shared)
  keep(self.kept, options.members or {})
  self.pool = port and port.pool
  if not port then self.pool, self.own_pool = require("luio.net.memory").pool { count = 1024 }, true end
  local message, code
  self.server, message, code = memif_server.listen(options.path, {
    mode = options.mode, clients = options.clients, per_user = options.per_user, region = options.region, name = "luio share",
    most = math.min(self.longest + 4, self.pool.size - self.pool.headroom),
    admit = function(client) return add_client(self, client) end,
    joined = function(client) joined(self, client) end,
    left = function(client, why) left(self, client, why) end,
    refused = function(client, why)
      if options.changed then options.changed("refused", show(self, client), why) end
    end,
  })
  if not self.server then
    if self.own_pool then self.pool:close() end
    return nil, message, code
  end
  self.watch, message, code = fd_watch.watch(self.server.fd)
  if not self.watch then
    self.server:close()
    if self.own_pool then self.pool:close() end
    return nil, message, code
  end
  self.filled = ffi.new("int32_t[?]", self.server.places + 1)
  for number = 1, self.server.places do self.boxes[number] = pool.batch(BURST) end
  if port and port.promiscuous and not self.by_flow then port:promiscuous(true) end
  if port and port.multicast then port:multicast "all" end
  sentinel(self, function(seconds) return self.watch:readable(seconds) end)
  if port then sentinel(self, function(seconds) return port.rx[0]:wait(seconds) end) end
  return self
end

return M
