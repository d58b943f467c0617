--- What examples/pktgen.lua and examples/capture.lua print of a stream of frames.

local assert = require "luassert"
local program = require "spec.support.program"

local M = {}

--- Runs the program to its end: pktgen's last line.
---@param args string
---@return integer given
---@return integer sent  by the device's count
---@return string text  all that it printed
function M.sent(args)
  local text, status = program.run(args)
  assert.equal(0, status, text)
  local given, sent = text:match "given (%d+), sent (%d+) by the device's count, 0 errors"
  return tonumber(given) or error(text), tonumber(sent), text
end

--- Waits for the last line of a running capture.
---@param p Program
---@return integer[] totals  packets, matched, written, dropped
function M.totals(p)
  local n, matched, written, dropped = p:wait("packets (%d+), matched (%d+), written (%d+), dropped (%d+)\n", 30)
  return { tonumber(n), tonumber(matched), tonumber(written), tonumber(dropped) }
end

return M
