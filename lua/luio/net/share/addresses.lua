--- The owner of a MAC address: a small hash table in C, looked into for every frame. Numbers of owners are 1 to
--- 255.

local bit = require "bit"
local ffi = require "ffi"

local band, bxor, rshift = bit.band, bit.bxor, bit.rshift

local M = {}

local SLOTS = 256 -- at most half of them are used

M.table_t = ffi.typeof(("struct { int32_t count; struct { int32_t low, high, owner, gap; } slot[%d]; }"):format(SLOTS))

local function place(low, high)
  local h = bxor(low, rshift(low, 13), high, rshift(high, 5))
  return band(bxor(h, rshift(h, 16), rshift(h, 8)), SLOTS - 1)
end

--- An empty table.
---@return ffi.cdata*
function M.new() return M.table_t() end

--- The owner.
---@param t ffi.cdata*
---@param low integer   its first four bytes, as int32_t
---@param high integer  the other two, as uint16_t
---@return integer owner  0: none
function M.find(t, low, high)
  local at = place(low, high)
  for i = 0, SLOTS - 1 do
    local slot = band(at + i, SLOTS - 1)
    local owner = t.slot[slot].owner
    if owner == 0 then return 0 end
    if t.slot[slot].low == low and t.slot[slot].high == high then return owner end
  end
  return 0
end

--- Notes an owner. The address has no owner yet.
---@param t ffi.cdata*
---@param low integer
---@param high integer
---@param owner integer
---@return boolean  false: the table is full
function M.add(t, low, high, owner)
  if t.count >= SLOTS / 2 then return false end
  local slot = place(low, high)
  while t.slot[slot].owner ~= 0 do slot = band(slot + 1, SLOTS - 1) end
  t.slot[slot].low, t.slot[slot].high, t.slot[slot].owner = low, high, owner
  t.count = t.count + 1
  return true
end

--- Forgets all.
---@param t ffi.cdata*
function M.clear(t) ffi.fill(t, ffi.sizeof(t)) end

--- Both halves of an address in text.
---@param bytes string  six
---@return integer low
---@return integer high
function M.halves(bytes)
  local six = ffi.new("uint8_t[6]", bytes)
  return ffi.cast("int32_t *", six)[0], ffi.cast("uint16_t *", six + 4)[0]
end

--- And back.
---@param low integer
---@param high integer
---@return string  six bytes
function M.bytes(low, high)
  return ffi.string(ffi.new("int32_t[1]", low), 4) .. ffi.string(ffi.new("uint16_t[1]", high), 2)
end

return M
