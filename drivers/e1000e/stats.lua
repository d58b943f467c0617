--- Statistics of the 82574L and the 82540EM: 32-bit counters that reading clears and that stop when they are full
--- (10.2.7), added up here. To be called at least every 2^32 packets.

local ffi = require "ffi"

local M = {}

-- The device's counters, and the statistics that they belong to. TPR and TPT, TOR and TOT are read for
-- the sake of `whole`.
local ERRORS = { "CRCERRS", "ALGNERRC", "RXERRC", "RLEC", "RUC", "RFC", "ROC", "RJC" }
local TX_ERRORS = { "ECOL", "LATECOL" }

local NAMES = { "rx_packets", "rx_bytes", "rx_missed", "rx_errors", "tx_packets", "tx_bytes", "tx_errors", "resets" }

-- C, not a table: on a reload state is copied, and counts of the new version must not be lost if the old one comes back.
local totals_t = ffi.typeof(("struct { double %s, kept; }"):format(table.concat(NAMES, ", "))) -- kept: see missed()

--- As a table.
---@param totals ffi.cdata*
---@return table<string, number>
function M.copy(totals)
  local copy = {}
  for _, name in ipairs(NAMES) do copy[name] = totals[name] end
  return copy
end

-- A counter of good packets. QEMU makes it a copy of the counter of all packets at each packet, so that has to be cleared
-- with it; and if a packet comes between the two reads the copy stands again, with all that was counted already.
local function whole(good, all)
  local first, total = good:read(), all:read()
  if first == total then return tonumber(first) end
  local second = good:read()
  if second == total then return tonumber(total) end
  return tonumber(first) + tonumber(second)
end

-- QEMU's 82540EM does not clear MPC, neither when it is read nor by a reset. So it is read twice: one that keeps its value
-- is a total, of which only the growth counts.
local function missed(regs, totals)
  local first = regs.MPC:read()
  if first == 0 then
    totals.kept = 0
    return 0
  end
  local second = regs.MPC:read()
  if second < first then
    totals.kept = 0
    return tonumber(first) + tonumber(second)
  end
  local new = tonumber(second) - totals.kept
  totals.kept = tonumber(second)
  return new >= 0 and new or totals.kept -- it began anew: counters only grow
end

local function sum(regs, names)
  local n = 0
  for _, name in ipairs(names) do n = n + regs[name]:read() end
  return n
end

--- The value of STATUS when nothing answers: it has bits that are always 0.
M.SILENT = 0xffffffff

--- Adds the device's counts since the last time.
---@param regs luio.Registers
---@param totals ffi.cdata*  of `new`
---@return boolean ok  false: the device does not answer, and nothing was added
function M.fold(regs, totals)
  if regs.STATUS:read() == M.SILENT then return false end
  totals.rx_packets = totals.rx_packets + whole(regs.GPRC, regs.TPR)
  totals.rx_bytes = totals.rx_bytes + whole(regs.GORC, regs.TOR)
  totals.tx_packets = totals.tx_packets + whole(regs.GPTC, regs.TPT)
  totals.tx_bytes = totals.tx_bytes + whole(regs.GOTC, regs.TOT)
  totals.rx_missed = totals.rx_missed + missed(regs, totals)
  totals.rx_errors = totals.rx_errors + sum(regs, ERRORS)
  totals.tx_errors = totals.tx_errors + sum(regs, TX_ERRORS)
  return true
end

--- All zero; and the device's counters, which QEMU's reset leaves as they were.
---@param regs luio.Registers
---@return ffi.cdata*
function M.new(regs)
  local totals = totals_t()
  M.fold(regs, totals)
  for _, name in ipairs(NAMES) do totals[name] = 0 end
  return totals
end

return M
