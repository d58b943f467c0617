--- Reads a pcapng file's blocks and the counts of its statistics block. For everything else specs use tshark, capinfos and
--- tcpdump.

local assert = require "luassert"
local files = require "spec.support.files"

local M = {}

--- Four bytes, the lowest first.
---@param text string
---@param at integer  from 1
---@return integer
function M.number(text, at)
  local a, b, c, d = text:byte(at, at + 3)
  return a + b * 256 + c * 65536 + d * 16777216
end

--- The blocks of a file, and how many bytes at its end are none.
---@param text string
---@return { kind: integer, body: string }[] blocks
---@return integer rest
function M.blocks(text)
  local list, at = {}, 1
  while at + 11 <= #text do
    local total = M.number(text, at + 4)
    if at + total - 1 > #text then break end
    assert.equal(0, total % 4)
    assert.equal(total, M.number(text, at + total - 4), "the length stands at both ends of a block")
    table.insert(list, { kind = M.number(text, at), body = text:sub(at + 8, at + total - 5) })
    at = at + total
  end
  return list, #text - at + 1
end

-- Options of an Interface Statistics Block, whose kind is 5 (the pcapng draft, section 4.6).
local COUNTS = { [4] = "received", [5] = "missed", [6] = "accepted" }

--- The values of the statistics block at the end: received, missed, accepted.
---@param path string
---@return table<string, number>
function M.statistics(path)
  local list = M.blocks(files.read(path))
  local last = list[#list]
  assert.equal(5, last.kind)
  local counts, at = {}, 13 -- behind the interface and the time
  while at + 11 <= #last.body do
    local head = M.number(last.body, at)
    local code, length = head % 65536, math.floor(head / 65536)
    if COUNTS[code] then
      assert.equal(8, length)
      counts[COUNTS[code]] = M.number(last.body, at + 4) + M.number(last.body, at + 8) * 2 ^ 32
    end
    at = at + 4 + math.ceil(length / 4) * 4
  end
  return counts
end

return M
