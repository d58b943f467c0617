--- Checks that a network driver's offer is complete, before a queue calls a function that is
--- missing.

local check = require("luio.port").fault

local M = {}

local RX = { ring = "any", burst = "function", ready = "function" }
local TX = { ring = "any", burst = "function", reclaim = "function", pending = "function" }
local OFFER = {
  mac = "string", mtu = "number", features = "table", pool = "any", rx = "table", tx = "table", link = "function", stats = "function",
  promiscuous = "function", multicast = "function", arm = "function", interrupted = "function", tick = "function?",
}
local FEATURES = { tx_checksum = "boolean", rx_checksum = "boolean", loopback = "boolean", interrupts = "boolean", max_mtu = "number" }
local COUNTERS = {
  "rx_packets", "rx_bytes", "rx_missed", "rx_errors", "rx_dropped", "rx_starved", "tx_packets", "tx_bytes", "tx_errors",
  "tx_dropped", "resets",
}

local function queues(name, list, known)
  if list[0] == nil then return ("%s lacks [0]: queues are numbered from 0"):format(name) end
  for i = 0, #list do
    local fault = check(("%s[%d]"):format(name, i), list[i], known)
    if fault then return fault end
  end
end

--- The faults of an offer.
---@param offer luio.net.Offer
---@return string?  nil: nothing
function M.fault(offer)
  return check("the offer", offer, OFFER) or check("features", offer.features, FEATURES)
    or queues("rx", offer.rx, RX) or queues("tx", offer.tx, TX)
end

--- A copy of a driver's counters; raises for one that it lacks.
---@param counters luio.net.Stats
---@param name string  the driver's
---@return luio.net.Stats
function M.counters(counters, name)
  local copy = {}
  for _, key in ipairs(COUNTERS) do
    copy[key] = counters[key] or error(("driver %s: its stats lack %s"):format(name, key), 3)
  end
  return copy
end

return M
