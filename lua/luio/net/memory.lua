--- Pools of packets without a device: plain memory of this process, for ports that no DMA reaches (a client of
--- another process's port, luio.net.memif; a switch between clients alone, luio.net.share).
---
---     local pool = require("luio.net.memory").pool { count = 1024 }
---
--- It is luio.pool over an object with the parts of a device that a pool needs: an address, for messages, and
--- memory.

local ffi = require "ffi"
local pool = require "luio.pool"

local M = {}

local Memory, Buffer = {}, {}
Memory.__index, Buffer.__index = Memory, Buffer

-- A pool wants its slots at a multiple of 64.
function Memory.alloc(_, size, options)
  local raw = ffi.new("uint8_t[?]", size + options.align)
  local address = tonumber(ffi.cast("uintptr_t", raw))
  local skip = -address % options.align
  return setmetatable({ raw = raw, first = raw + skip, iova = address + skip, size = size }, Buffer)
end

function Buffer:pointer(ctype, offset) return ffi.cast(ctype, self.first + offset) end

function Buffer:free() self.raw, self.first = nil, nil end

--- Makes a pool. It is the caller's to close.
---@param options luio.PoolOptions
---@param name? string  for messages: "memory"
---@return luio.Pool
function M.pool(options, name)
  local device = { address = name or "memory", dma = setmetatable({ pool = { closing = {} } }, Memory) }
  function device:root_device() return self end
  return (assert(pool.new(device, options)))
end

return M
