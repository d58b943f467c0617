--- DMA memory: buffers that the device can reach, with the address it sees.
---
---     local buffer = assert(dev.dma:alloc(4096, { align = 4096 }))
---     buffer:write(0, "hello")
---     dev.regions[0]:write64(0x80, buffer.iova)
---
--- The memory is the runtime's and lives as long as the device is open; `free` gives a buffer back
--- to the pool. `read` and `write` copy and check bounds. For descriptor rings `pointer` gives
--- plain memory, as fast as C. The caller must then order accesses with `luio.fence_doorbell()` and
--- `luio.fence_flag()`, because LuaJIT keeps no order (runtime/README.md).

local checks = require "luio.options"
local ffi = require "ffi"
local runtime = require "luio.ffi"
local loading = require "luio.loop.loading"
local C, err = runtime.C, runtime.err

local M = {}

--- Memory that a device and its driver share.
---@class luio.Buffer
---@field dma luio.Dma  the owner of this handle; a version's handle ends with the version
---@field iova integer  the device address; a whole number below 2^53
---@field size integer  bytes
---@field page_size integer
---@field kept boolean  left by a process that died: contents and IOVA are unchanged
---@field uncached boolean it is memory that a UIO driver brings (luio.h): through `pointer` aligned accesses only
---@field package handle ffi.cdata*?
local Buffer = {}
Buffer.__index = Buffer

local function check(buffer, verb, offset, length)
  if not buffer.handle then error(("%s a DMA buffer that was freed"):format(verb), 3) end
  local stale = buffer.dma.device.stale
  if stale then error(("%s a DMA buffer of %s: %s"):format(verb, buffer.dma.device.address, stale), 3) end
  if
    type(offset) ~= "number" or type(length) ~= "number" or offset < 0 or length < 0 or offset % 1 ~= 0
    or length % 1 ~= 0 or offset + length > buffer.size
  then
    error(("%s %s bytes at offset %s of a DMA buffer of %d bytes"):format(verb, tostring(length), tostring(offset), buffer.size), 3)
  end
end

-- Reports changes of the memory to the session's record (luio.tool.explore.journal).
local function tell(buffer, what, ...)
  local told = buffer.dma.pool.told
  if told then told(what, buffer, ...) end
end

--- Copies a string into the buffer.
---@param offset integer
---@param bytes string
function Buffer:write(offset, bytes)
  check(self, "write", offset, #bytes)
  tell(self, "write", offset, bytes)
  if self.uncached then C.luio_copy_in(self.addr + offset, bytes, #bytes) else ffi.copy(self.addr + offset, bytes, #bytes) end
end

--- Copies bytes out of it.
---@param offset integer
---@param length integer
---@return string
function Buffer:read(offset, length)
  check(self, "read", offset, length)
  if not self.uncached then return ffi.string(self.addr + offset, length) end
  local bytes = ffi.new("uint8_t[?]", length)
  C.luio_copy_out(bytes, self.addr + offset, length)
  return ffi.string(bytes, length)
end

--- Sets bytes to a value.
---@param value integer   0..255
---@param offset? integer 0
---@param length? integer to the end
function Buffer:fill(value, offset, length)
  offset = offset or 0
  length = length or self.size - offset
  check(self, "fill", offset, length)
  tell(self, "fill", value, offset, length)
  if self.uncached then C.luio_fill(self.addr + offset, value, length) else ffi.fill(self.addr + offset, length, value) end
end

--- A typed pointer into the buffer, e.g. `buffer:pointer("struct descriptor *")`. Unchecked plain
--- memory: bounds, lifetime and the order of accesses are the caller's.
---@param ctype string
---@param offset? integer 0
---@return ffi.cdata*
function Buffer:pointer(ctype, offset)
  check(self, "point into", offset or 0, 0)
  tell(self, "pointer")
  return ffi.cast(ctype, self.addr + (offset or 0))
end

--- Looks the address up again. Pages are pinned where the kernel lets us (dma:stats().pinned), and then they stay;
--- for those that are not, a device at work is looked at every second (luio.hotplug).
---@return boolean? ok
---@return string? message
---@return string? code  "ESTALE": it moved; stop the device
function Buffer:verify()
  check(self, "verify", 0, 0)
  if C.luio_dma_verify(self.handle, err) < 0 then return runtime.failure() end
  return true
end

-- Every handle of that memory is one of a freed buffer from now on.
local function release(pool, buffer)
  local handle = buffer.handle
  if not handle then return end
  for other in pairs(pool.buffers) do
    if other.handle == handle then other.handle, other.addr = nil, nil end
  end
  if buffer.name then pool.named[buffer.name] = nil end
  C.luio_dma_free(handle)
end

--- Gives the buffer back. The device must not use it any more. Idempotent. While a version of the driver
--- is on probation, buffers of the previous version are freed at its end, because that version may
--- return.
function Buffer:free()
  if not self.handle then return end
  check(self, "free", 0, 0)
  tell(self, "free")
  local pool, keep = self.dma.pool, self.dma.pool.keep
  if keep and keep.had[tostring(self.handle)] then
    table.insert(keep.freed, setmetatable({ handle = self.handle, name = self.name }, Buffer))
    if self.name then pool.named[self.name] = nil end
    self.handle, self.addr = nil, nil
    return
  end
  release(pool, self)
end

function Buffer:__tostring()
  if not self.handle then return "DMA buffer, freed" end
  return ("DMA buffer: %d bytes at IOVA 0x%x"):format(self.size, self.iova)
end

--- The part that all handles of one device share.
---@class luio.DmaPool
---@field handle ffi.cdata*?              luio_dma; nil until it is needed
---@field buffers table<luio.Buffer, true>  weak: one that Lua has forgotten stays allocated until the device
---                                       is closed, because the device may still know its address
---@field named table<string, luio.Buffer>
---@field offered table<string, luio.Buffer>  to a driver that is starting on memory that is there
---@field closing table<any, fun(object: any)>  to be called when the memory is gone
---@field warned boolean?                 that memory is in small pages
---@field told fun(what: "alloc"|"write"|"fill"|"pointer"|"free", buffer: luio.Buffer, ...)?  keeps a record
---@field keep { had: table<string, true>, freed: luio.Buffer[] }?  during probation

--- A device's DMA memory: allocates buffers.
---@class luio.Dma
---@field pool luio.DmaPool
---@field mask integer?  highest address the device can drive; default for alloc
local Dma = {}
Dma.__index = Dma

---@return ffi.cdata*? handle
---@return string? message
---@return string? code
local function open(self)
  local device, pool = self.device, self.pool
  if device.stale then error(("DMA memory for %s: %s"):format(device.address, device.stale), 3) end
  if device.closed then error(("DMA memory for %s: the device is closed"):format(device.address), 3) end
  if not pool.handle then
    local out = ffi.new "luio_dma *[1]"
    if C.luio_device_dma(device.handle, out, err) < 0 then return require("luio.host.holders").failure(device.info, true) end
    pool.handle = out[0]
  end
  return pool.handle
end

-- One more handle of a buffer.
local function handle_of(self, buffer)
  local copy = {}
  for key, value in pairs(buffer) do copy[key] = value end
  copy.dma = self
  self.pool.buffers[copy] = true
  return setmetatable(copy, Buffer)
end

--- Options of `dev.dma:alloc`.
---@class luio.DmaOptions
---@field align integer?  bytes, a power of two; 64
---@field mask integer?   highest address, 2^n - 1; the pool's mask, else none
---@field name string?    it outlives a reload, and under `luio run` a crash: the next alloc of this name gets
---                       it back

local WHOLE = checks.whole(0, 2 ^ 53, nil, "a whole number")
local OPTIONS = { align = WHOLE, mask = WHOLE, name = "string" }

--- Allocates zeroed memory, contiguous for the device; by name, returns the previous process's
--- buffer with its contents (buffer.kept).
---@param size integer  bytes, 1 to 2^30
---@param options? luio.DmaOptions
---@return luio.Buffer? buffer
---@return string? message
---@return string? code  "ENOMEM" "ERANGE" (mask) "EPERM" (addresses hidden) "ENOTSUP" (IOMMU) "EINVAL" "EEXIST" (name)
function Dma:alloc(size, options)
  options = checks.check("alloc", options, OPTIONS)
  if not WHOLE.fits(size) then error(("alloc: size is a whole number, not %s"):format(tostring(size)), 2) end
  local align, mask = options.align or 0, options.mask or self.mask or 0
  loading.refuse(("DMA memory for %s"):format(self.device.address), 2)
  local label = options.name
  local offered = label and self.pool.offered[label]
  if offered and offered.handle and offered.size == size then
    self.pool.offered[label] = nil
    local buffer = handle_of(self, offered)
    buffer.kept, self.pool.named[label] = true, buffer
    return buffer
  end
  local handle, message, code = open(self)
  if not handle then return nil, message, code end
  local out = ffi.new "luio_dma_buffer *[1]"
  if C.luio_dma_alloc_named(handle, label, size, align, mask, out, err) < 0 then return runtime.failure() end
  local warning = C.luio_dma_warning(handle)
  if warning ~= nil and not self.pool.warned then -- of a pool of packets there would be dozens
    self.pool.warned = true
    self.device:warn(ffi.string(warning))
  end
  local buffer = setmetatable({
    handle = out[0],
    addr = ffi.cast("uint8_t *", out[0].addr),
    iova = tonumber(out[0].iova),
    size = tonumber(out[0].size),
    page_size = tonumber(out[0].page_size),
    kept = out[0].kept ~= 0,
    uncached = out[0].uncached ~= 0,
    dma = self,
    name = label,
  }, Buffer)
  self.pool.buffers[buffer] = true
  if label then self.pool.named[label] = buffer end
  tell(buffer, "alloc", options, mask)
  return buffer
end

--- A driver is about to start on memory that is there: alloc of a name gives the buffer that has it.
---@param dma luio.Dma
---@param on boolean  false: that is over
function M.offer(dma, on)
  local pool = dma.pool
  pool.offered = {}
  for name, buffer in pairs(on and pool.named or {}) do pool.offered[name] = buffer end
end

--- Defers the freeing of existing buffers until `release_frees`.
---@param dma luio.Dma
function M.hold_frees(dma)
  local had = {}
  for buffer in pairs(dma.pool.buffers) do
    if buffer.handle then had[tostring(buffer.handle)] = true end
  end
  dma.pool.keep = { had = had, freed = {} }
end

--- Ends `hold_frees`: frees the deferred buffers, or keeps them with `undo`.
---@param dma luio.Dma
---@param undo boolean?
function M.release_frees(dma, undo)
  local pool = dma.pool
  local keep = pool.keep
  pool.keep = nil
  for _, buffer in ipairs(keep and keep.freed or {}) do
    if undo and buffer.name then
      for other in pairs(pool.buffers) do
        if other.handle == buffer.handle then pool.named[buffer.name] = other end
      end
    elseif not undo then
      release(pool, buffer)
    end
  end
end

--- A version's own handle of a buffer that another version's state has.
---@param dma luio.Dma
---@param value any
---@return luio.Buffer?  nil: it is no buffer of this device
function M.adopt(dma, value)
  return getmetatable(value) == Buffer and value.dma.pool == dma.pool and handle_of(dma, value) or nil
end

--- The memory that is in use.
---@return { buffers: integer, bytes: integer, pages: integer, mapped_bytes: integer, pinned: integer }
function Dma:stats()
  local s = ffi.new "luio_dma_stats"
  if self.pool.handle then C.luio_dma_get_stats(self.pool.handle, s) end
  return {
    buffers = tonumber(s.buffers), bytes = tonumber(s.bytes),
    pages = tonumber(s.pages), mapped_bytes = tonumber(s.mapped_bytes), pinned = tonumber(s.pinned),
  }
end

--- Used by luio.device.
---@param device luio.Device
---@return luio.Dma
function M.new(device)
  local pool = { buffers = setmetatable({}, { __mode = "k" }), named = {}, offered = {}, closing = {} }
  return setmetatable({ device = device, pool = pool }, Dma)
end

--- The handle of a view of the device.
---@param dma luio.Dma
---@param view luio.Device
---@return luio.Dma
function M.view(dma, view)
  return setmetatable({ device = view, pool = dma.pool }, Dma)
end

--- Has a function called when the memory has gone, with the device.
---@generic T
---@param dma luio.Dma
---@param object T
---@param fn fun(object: T)?  nil: no more
function M.on_close(dma, object, fn)
  dma.pool.closing[object] = fn
end

--- Makes every buffer stale; the memory goes with the device.
---@param dma luio.Dma
function M.close(dma)
  local pool = dma.pool
  for buffer in pairs(pool.buffers) do
    buffer.handle, buffer.addr = nil, nil
  end
  pool.handle, pool.named, pool.offered = nil, {}, {}
  for object, fn in pairs(pool.closing) do fn(object) end
end

return M
