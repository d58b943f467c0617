--- DMA memory: buffers that the device can reach, with the address it sees.
---
---     local buffer = assert(dev.dma:alloc(4096, { align = 4096 }))
---     buffer:write(0, "hello")
---     dev.regions[0]:write64(0x80, buffer.iova)
---
--- The memory is the runtime's and lives as long as the device is open; `free` gives a buffer back
--- to the pool. `read` and `write` copy and check bounds. For descriptor rings there is `pointer`:
--- plain memory, as fast as C, but then the order of accesses is yours to state with
--- `luio.fence_doorbell()` and `luio.fence_flag()`, for LuaJIT keeps none (ARCHITECTURE.md).

local ffi = require "ffi"
local door = require "luio.ffi"
local C, err = door.C, door.err

local M = {}

---@class luio.Buffer
---@field iova integer  what to tell the device; a whole number below 2^53
---@field size integer  bytes
---@field page_size integer
---@field package handle ffi.cdata*?
local Buffer = {}
Buffer.__index = Buffer

local function check(buffer, verb, offset, length)
  if not buffer.handle then error(("%s a DMA buffer that was freed"):format(verb), 3) end
  if
    type(offset) ~= "number" or type(length) ~= "number" or offset < 0 or length < 0 or offset % 1 ~= 0
    or length % 1 ~= 0 or offset + length > buffer.size
  then
    error(("%s %s bytes at offset %s of a DMA buffer of %d bytes"):format(verb, tostring(length), tostring(offset), buffer.size), 3)
  end
end

--- Copies a string into the buffer.
---@param offset integer
---@param bytes string
function Buffer:write(offset, bytes)
  check(self, "write", offset, #bytes)
  ffi.copy(self.addr + offset, bytes, #bytes)
end

--- Copies bytes out of it.
---@param offset integer
---@param length integer
---@return string
function Buffer:read(offset, length)
  check(self, "read", offset, length)
  return ffi.string(self.addr + offset, length)
end

--- Sets bytes to a value.
---@param value integer   0..255
---@param offset? integer 0
---@param length? integer to the end
function Buffer:fill(value, offset, length)
  offset = offset or 0
  length = length or self.size - offset
  check(self, "fill", offset, length)
  ffi.fill(self.addr + offset, length, value)
end

--- A typed pointer into the buffer, e.g. `buffer:pointer("struct descriptor *")`. Unchecked plain
--- memory: bounds, lifetime and the order of accesses are the caller's.
---@param ctype string
---@param offset? integer 0
---@return ffi.cdata*
function Buffer:pointer(ctype, offset)
  check(self, "point into", offset or 0, 0)
  return ffi.cast(ctype, self.addr + (offset or 0))
end

--- Looks the address up again: mlock is not a pin, and only an IOMMU really holds pages in place.
---@return boolean? ok
---@return string? message
---@return string? code  "ESTALE": it moved; stop the device
function Buffer:verify()
  check(self, "verify", 0, 0)
  if C.luio_dma_verify(self.handle, err) < 0 then return door.failure() end
  return true
end

--- Gives the buffer back. The device must not use it any more. Idempotent.
function Buffer:free()
  if not self.handle then return end
  C.luio_dma_free(self.handle)
  self.handle, self.addr = nil, nil
  self.pool.buffers[self] = nil
end

function Buffer:__tostring()
  if not self.handle then return "DMA buffer, freed" end
  return ("DMA buffer: %d bytes at IOVA 0x%x"):format(self.size, self.iova)
end

---@class luio.Dma
---@field mask integer?  highest address the device can drive; default for alloc
local Dma = {}
Dma.__index = Dma

---@return ffi.cdata*? handle
---@return string? message
---@return string? code
local function open(self)
  if self.device.closed then error(("DMA memory for %s: the device is closed"):format(self.device.address), 3) end
  if not self.handle then
    local out = ffi.new "luio_dma *[1]"
    if C.luio_device_dma(self.device.handle, out, err) < 0 then return door.failure() end
    self.handle = out[0]
  end
  return self.handle
end

---@class luio.DmaOptions
---@field align integer?  bytes, a power of two; 64
---@field mask integer?   highest address, 2^n - 1; the pool's mask, else none

--- Allocates zeroed memory, contiguous as the device sees it.
---@param size integer  bytes, 1 to 2^30
---@param options? luio.DmaOptions
---@return luio.Buffer? buffer
---@return string? message
---@return string? code  "ENOMEM" "ERANGE" (mask) "EPERM" (addresses hidden) "ENOTSUP" (IOMMU) "EINVAL"
function Dma:alloc(size, options)
  options = options or {}
  local align, mask = options.align or 0, options.mask or self.mask or 0
  for name, value in pairs { size = size or "nil", align = align, mask = mask } do
    if type(value) ~= "number" or value % 1 ~= 0 or value < 0 or value > 0x20000000000000 then
      error(("alloc: %s is a whole number, not %s"):format(name, tostring(value)), 2)
    end
  end
  local handle, message, code = open(self)
  if not handle then return nil, message, code end
  local out = ffi.new "luio_dma_buffer *[1]"
  if C.luio_dma_alloc(handle, size, align, mask, out, err) < 0 then return door.failure() end
  local warning = C.luio_dma_warning(handle)
  if warning ~= nil then self.device:warn(ffi.string(warning)) end
  local buffer = setmetatable({
    handle = out[0],
    addr = ffi.cast("uint8_t *", out[0].addr),
    iova = tonumber(out[0].iova),
    size = tonumber(out[0].size),
    page_size = tonumber(out[0].page_size),
    pool = self,
  }, Buffer)
  self.buffers[buffer] = true
  return buffer
end

--- What is in use.
---@return { buffers: integer, bytes: integer, pages: integer, mapped_bytes: integer }
function Dma:stats()
  local s = ffi.new "luio_dma_stats"
  if self.handle then C.luio_dma_get_stats(self.handle, s) end
  return {
    buffers = tonumber(s.buffers), bytes = tonumber(s.bytes),
    pages = tonumber(s.pages), mapped_bytes = tonumber(s.mapped_bytes),
  }
end

--- Used by luio.device.
---@param device luio.Device
---@return luio.Dma
function M.new(device)
  -- Weak: a buffer that Lua has forgotten stays allocated until the device is closed, because the
  -- device may still know its address.
  return setmetatable({ device = device, buffers = setmetatable({}, { __mode = "k" }) }, Dma)
end

--- Makes every buffer stale; the memory goes with the device.
---@param pool luio.Dma
function M.close(pool)
  for buffer in pairs(pool.buffers) do
    buffer.handle, buffer.addr = nil, nil
  end
  pool.handle = nil
end

return M
