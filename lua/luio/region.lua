--- Regions: spans of device memory, read and written exactly.
---
--- One `read32` is one 32-bit load and one `write32` one 32-bit store, in program order, in the
--- interpreter and in compiled traces. That is why every access is a call of a C function:
--- LuaJIT's compiler ignores `volatile`, and would merge, hoist and drop plain accesses through a
--- pointer. In a trace such a call costs a few nanoseconds; a device read costs hundreds.
---
--- Memory regions check the offset here, where the compiler can fold it away, and then call the
--- bare accessor. I/O ports and simulated registers go through luio_region_read, which checks
--- again and can fail. Offsets are in bytes; widths in bits.
---
--- When a device goes away, its regions are made stale as by closing, without an additional check per
--- access. An access to a missing device reads all ones (runtime/sigbus.c). So a read of memory that
--- gives all ones checks that the device is present before it returns.

local ffi = require "ffi"
local bit = require "bit"
local bits = require "luio.registers.bits"
local runtime = require "luio.ffi"
local raise = require("luio.errors").raise
local C, err = runtime.C, runtime.err
local tobit = bit.tobit

local M = {}

--- A device's memory or I/O ports: every access is checked and exact.
---@class luio.Region
---@field index integer  as the hardware numbers it: BAR, or UIO map
---@field size integer   bytes
---@field addr integer|ffi.cdata*  bus address (a uint64_t from 2^53 on), or first port
---@field name string    how it is reached, e.g. "BAR0 by uio0 map0"
---@field kind "memory"|"port"|"sim"|"qemu"  for people; code asks for base and max_width
---@field max_width integer  bits of its widest access: 32 or 64
---@field writable boolean
---@field closed true?     every access is an error, as with the next two
---@field stale string?    why this handle must not be used now
---@field gone string?     why the device is gone; nil: it is there
---@field package owner luio.Device?  is notified when an access finds it gone
---@field package handle ffi.cdata*
---@field package base ffi.cdata*?  its first byte, where it is mapped
---@field read8 fun(self: luio.Region, offset: integer): integer  one load, as wide as the name says. Offsets are in bytes, multiples of
---                                the width. Raises outside of the region, and when the device is gone
---@field read16 fun(self: luio.Region, offset: integer): integer
---@field read32 fun(self: luio.Region, offset: integer): integer
---@field read64 fun(self: luio.Region, offset: integer): ffi.cdata*  one load of 64 bits, as a uint64_t
---@field write8 fun(self: luio.Region, offset: integer, value: integer)  one store, as wide as the name says. Raises for a value that
---                                does not fit, for a region that is read-only, and as a load does
---@field write16 fun(self: luio.Region, offset: integer, value: integer)
---@field write32 fun(self: luio.Region, offset: integer, value: integer)
---@field write64 fun(self: luio.Region, offset: integer, value: integer|ffi.cdata*)  one store of 64 bits: a number below 2^53, or a
---                                uint64_t
---@field read16_swapped fun(self: luio.Region, offset: integer): integer  the same with the bytes reversed, for a device of the other
---                                endianness
---@field read32_swapped fun(self: luio.Region, offset: integer): integer
---@field read64_swapped fun(self: luio.Region, offset: integer): ffi.cdata*
---@field write16_swapped fun(self: luio.Region, offset: integer, value: integer)
---@field write32_swapped fun(self: luio.Region, offset: integer, value: integer)
---@field write64_swapped fun(self: luio.Region, offset: integer, value: integer|ffi.cdata*)
---@field read8_many fun(self: luio.Region, offset: integer, to: ffi.cdata*, n: integer)  loads the one register n times, into an array
---                                of its width: empties a FIFO
---@field read16_many fun(self: luio.Region, offset: integer, to: ffi.cdata*, n: integer)
---@field read32_many fun(self: luio.Region, offset: integer, to: ffi.cdata*, n: integer)
---@field write8_many fun(self: luio.Region, offset: integer, from: ffi.cdata*, n: integer)  stores n values of an array: fills a FIFO
---@field write16_many fun(self: luio.Region, offset: integer, from: ffi.cdata*, n: integer)
---@field write32_many fun(self: luio.Region, offset: integer, from: ffi.cdata*, n: integer)
local Region = {}

local uint64 = ffi.typeof "uint64_t"
local value64 = ffi.typeof "uint64_t[1]"
-- For arithmetic only: a load through it would not be exact.
local bytes_at = ffi.typeof "volatile uint8_t *"
local largest = { [8] = 0xff, [16] = 0xffff, [32] = 0xffffffff }
local smallest = { [8] = -0x80, [16] = -0x8000, [32] = -0x80000000 } -- bit.bnot and friends are signed

local function where(region)
  return ("%s %s"):format(region.device, region.name)
end

-- "STATUS, ": the register's name, where the driver's map has one. The top of a message that names it.
local function register_name(region, offset)
  local regs = region.owner and region.owner.regs
  local found
  if regs and type(offset) == "number" then
    regs.map:each(function(path, def, at)
      if def.region == region.index and offset >= at and offset < at + def.width / 8 then found = found or path end
    end)
  end
  return found and found .. ", " or ""
end

--- The error of an access to a device that is gone: "read32 STATUS, BAR0 by uio0 map0 of 0000:00:04.0
--- at 0x20: the device is gone: ...".
local function gone_message(region, verb, width, offset)
  return ("%s%d %s%s of %s at %s: the device is gone: %s"):format(verb, width, register_name(region, offset),
    region.name, region.device, type(offset) == "number" and ("0x%x"):format(offset) or tostring(offset), region.gone)
end

-- Raises the error of an access (the slow path).
local function refuse(region, verb, width, offset, value)
  if type(region) ~= "table" then raise(("call it with a colon: region:%s%d(offset)"):format(verb, width)) end
  local what = ("%s%d %s"):format(verb, width, where(region))
  if region.closed then raise(what .. ": the device is closed") end
  if region.stale then raise(("%s: %s"):format(what, region.stale)) end
  if region.gone then raise(gone_message(region, verb, width, offset)) end
  if type(offset) ~= "number" then raise(("%s: an offset is a number, not %s"):format(what, tostring(offset))) end
  if offset % 1 ~= 0 then raise(("%s: %g is not a whole offset"):format(what, offset)) end
  if offset < 0 or offset + width / 8 > region.size then
    raise(("%s: offset %s is outside its 0x%x bytes"):format(what, offset < 0 and offset or ("0x%x"):format(offset), region.size))
  end
  if offset % (width / 8) ~= 0 then
    raise(("%s: offset 0x%x is not aligned to %d bytes"):format(what, offset, width / 8))
  end
  if verb == "write" and not region.writable then raise(what .. ": the device was opened read-only") end
  raise(("%s at 0x%x: %s is not a value of %d bits"):format(what, offset, tostring(value), width))
end

-- A failed access of a checked region: raised, because a read has no room for nil, message.
local function failed(region)
  local _, message, code = runtime.failure()
  if code == "ENODEV" and region.owner then region.owner:vanish(region.owner.removed) end
  raise(message)
end

-- A read gave all ones. That may be the register's value, or no device. Raises if it is gone.
local function all_ones(region, width, offset)
  local handle = region.handle
  if handle == nil or C.luio_region_gone(handle) == 0 then return end
  local fault = C.luio_region_fault(handle)
  local why = "reads give all ones"
  if fault ~= 0xffffffffffffffffULL then
    why = ("SIGBUS at 0x%x, where nothing answers (on a board: has it clock and power?)"):format(tonumber(fault))
  end
  if region.owner then region.owner:vanish(why) else M.gone(region, why) end
  raise(gone_message(region, "read", width, offset))
end

local Memory, Checked = { __index = {} }, { __index = {} }

for _, width in ipairs { 8, 16, 32 } do
  local bytes, max, min = width / 8, largest[width], smallest[width]
  local ones = max
  for _, suffix in ipairs(width == 8 and { "" } or { "", "_swapped" }) do
    local c_read, c_write = C["luio_read" .. width .. suffix], C["luio_write" .. width .. suffix]

    Memory.__index["read" .. width .. suffix] = function(region, offset)
      if type(offset) ~= "number" or not (offset >= 0 and offset <= region.size - bytes) or offset % bytes ~= 0 then
        refuse(region, "read", width, offset)
      end
      local value = c_read(region.base + offset)
      if value == ones then all_ones(region, width, offset) end
      return value
    end

    Memory.__index["write" .. width .. suffix] = function(region, offset, value)
      if
        type(offset) ~= "number" or not (offset >= 0 and offset <= region.size - bytes) or offset % bytes ~= 0
        or not region.writable
        or type(value) ~= "number" or not (value >= min and value <= max) or value % 1 ~= 0
      then
        refuse(region, "write", width, offset, value)
      end
      c_write(region.base + offset, tobit(value))
    end
  end

  local swap = width == 16 and function(v) return bit.rshift(bit.bswap(v), 16) end
    or function(v) return bit.bswap(v) % 0x100000000 end

  Checked.__index["read" .. width] = function(region, offset)
    if type(offset) ~= "number" or region.size < 0 or offset < 0 or offset % 1 ~= 0 then
      refuse(region, "read", width, offset)
    end
    local out = value64()
    if C.luio_region_read(region.handle, offset, width, out, err) < 0 then failed(region) end
    return tonumber(out[0])
  end

  Checked.__index["write" .. width] = function(region, offset, value)
    if
      type(offset) ~= "number" or region.size < 0 or offset < 0 or offset % 1 ~= 0 or not region.writable
      or type(value) ~= "number" or not (value >= min and value <= max) or value % 1 ~= 0
    then
      refuse(region, "write", width, offset, value)
    end
    if C.luio_region_write(region.handle, offset, width, value % (max + 1), err) < 0 then failed(region) end
  end

  -- Many accesses of one register: they empty and fill a FIFO.
  local c_number = ffi.typeof("uint" .. width .. "_t *")
  local function check_many(region, verb, offset, n)
    if type(offset) ~= "number" or not (offset >= 0 and offset <= region.size - bytes) or offset % bytes ~= 0
      or verb == "write" and not region.writable then
      refuse(region, verb, width, offset, 0)
    end
    if type(n) ~= "number" or n < 0 or n % 1 ~= 0 then
      error(("%s%d_many %s: %s is no number of accesses"):format(verb, width, where(region), tostring(n)), 3)
    end
  end

  Memory.__index["read" .. width .. "_many"] = function(region, offset, to, n)
    check_many(region, "read", offset, n)
    to = ffi.cast(c_number, to)
    for i = 0, n - 1 do to[i] = region["read" .. width](region, offset) end
  end
  Memory.__index["write" .. width .. "_many"] = function(region, offset, from, n)
    check_many(region, "write", offset, n)
    from = ffi.cast(c_number, from)
    for i = 0, n - 1 do region["write" .. width](region, offset, from[i]) end
  end
  Checked.__index["read" .. width .. "_many"] = function(region, offset, to, n)
    check_many(region, "read", offset, n)
    if C.luio_region_read_many(region.handle, offset, width, ffi.cast(c_number, to), n, err) < 0 then failed(region) end
  end
  Checked.__index["write" .. width .. "_many"] = function(region, offset, from, n)
    check_many(region, "write", offset, n)
    if C.luio_region_write_many(region.handle, offset, width, ffi.cast(c_number, from), n, err) < 0 then failed(region) end
  end

  if width > 8 then
    Checked.__index["read" .. width .. "_swapped"] = function(region, offset)
      return swap(region["read" .. width](region, offset))
    end
    Checked.__index["write" .. width .. "_swapped"] = function(region, offset, value)
      region["write" .. width](region, offset, swap(tobit(value)))
    end
  end
end

-- 64 bits: read as uint64_t; written from one, or from a whole number below 2^53.
local function whole64(value)
  if type(value) == "number" then return value >= 0 and value <= 0x20000000000000 and value % 1 == 0 end
  return ffi.istype(uint64, value) or ffi.istype("int64_t", value)
end

for _, suffix in ipairs { "", "_swapped" } do
  local c_read, c_write = C["luio_read64" .. suffix], C["luio_write64" .. suffix]
  Memory.__index["read64" .. suffix] = function(region, offset)
    if type(offset) ~= "number" or not (offset >= 0 and offset <= region.size - 8) or offset % 8 ~= 0 then
      refuse(region, "read", 64, offset)
    end
    local value = c_read(region.base + offset)
    if value == 0xffffffffffffffffULL then all_ones(region, 64, offset) end
    return value
  end
  Memory.__index["write64" .. suffix] = function(region, offset, value)
    if
      type(offset) ~= "number" or not (offset >= 0 and offset <= region.size - 8) or offset % 8 ~= 0
      or not region.writable or not whole64(value)
    then
      refuse(region, "write", 64, offset, value)
    end
    c_write(region.base + offset, value)
  end
end

function Checked.__index.read64(region, offset)
  if type(offset) ~= "number" or region.size < 0 or offset < 0 or offset % 1 ~= 0 then
    refuse(region, "read", 64, offset)
  end
  local out = value64()
  if C.luio_region_read(region.handle, offset, 64, out, err) < 0 then failed(region) end
  return out[0]
end

function Checked.__index.write64(region, offset, value)
  if
    type(offset) ~= "number" or region.size < 0 or offset < 0 or offset % 1 ~= 0 or not region.writable
    or not whole64(value)
  then
    refuse(region, "write", 64, offset, value)
  end
  if C.luio_region_write(region.handle, offset, 64, value, err) < 0 then failed(region) end
end

function Checked.__index.read64_swapped(region, offset) return bit.bswap(region:read64(offset)) end
function Checked.__index.write64_swapped(region, offset, value)
  region:write64(offset, bit.bswap(ffi.cast(uint64, value)))
end

function Region:__tostring()
  if self.closed then return ("region %d of %s, closed"):format(self.index, self.device) end
  if self.gone then return ("region %d of %s, gone: %s"):format(self.index, self.device, self.gone) end
  return ("region %d of %s: %s, 0x%x bytes at 0x%x%s"):format(
    self.index, self.device, self.name, self.size, self.addr, self.writable and "" or ", read-only")
end
Memory.__tostring, Checked.__tostring = Region.__tostring, Region.__tostring
M.Region = Memory.__index -- its methods' names, for completion; Checked has the same

local kinds = { [0] = "memory", "port", "sim", "qemu" }

-- Copies the fields of the C region, which may have moved after the device came back.
local function describe(region)
  local handle = region.handle
  region.size = tonumber(C.luio_region_size(handle))
  region.addr = bits.number(C.luio_region_addr(handle))
  region.name = ffi.string(C.luio_region_name(handle))
  local base = C.luio_region_base(handle)
  if base ~= nil then region.base = ffi.cast(bytes_at, base) end
end

--- Wraps a luio_region. Used by luio.device; the device owns the handle.
---@param handle ffi.cdata*  luio_region *
---@param device string  its address, for messages
---@param index integer
---@param owner luio.Device?
---@return luio.Region
function M.wrap(handle, device, index, owner)
  local region = {
    handle = handle,
    device = device,
    index = index,
    kind = kinds[C.luio_region_kind(handle)],
    writable = C.luio_region_writable(handle) ~= 0,
    owner = owner,
  }
  describe(region)
  region.max_width = region.kind == "port" and 32 or 64 -- `in` and `out` have no more
  return setmetatable(region, region.base and Memory or Checked)
end

--- A region over memory that is there already, for exact access to it: shared memory that a device
--- or another process writes, or the pages of a test. The caller keeps it mapped.
---@param pointer ffi.cdata*  first byte, aligned to 8
---@param size integer        bytes
---@param name string         for messages
---@return luio.Region
function M.over(pointer, size, name)
  local base = ffi.cast(bytes_at, pointer)
  local addr = tonumber(ffi.cast("uintptr_t", base))
  if addr == 0 or addr % 8 ~= 0 then error("region.over: the memory is not aligned to 8 bytes", 2) end
  return setmetatable({
    device = "memory", index = 0, kind = "memory", max_width = 64, size = size, addr = addr, name = name, writable = true,
    base = base, keep = pointer,
  }, Memory)
end

-- The faults of a handle. Each sets the size so that the bounds check fails, so an access needs no
-- further check.
local function refresh(region)
  if region.closed or region.stale or region.gone then region.size = -1
  elseif region.handle then describe(region) end
end

--- Ends a handle: its device is closed.
---@param region luio.Region
function M.close(region)
  region.closed = true
  refresh(region)
end

--- Makes every access an error with these words, until `resume`.
---@param region luio.Region
---@param why string
function M.suspend(region, why)
  region.stale = why
  refresh(region)
end

--- Undoes `suspend`.
---@param region luio.Region
function M.resume(region)
  if not region.stale then return end
  region.stale = nil
  refresh(region)
end

--- The device is gone: every access is an error that says so, until `back`.
---@param region luio.Region
---@param why string  "removed or unbound"
function M.gone(region, why)
  region.gone = region.gone or why
  refresh(region)
end

--- The device came back.
---@param region luio.Region
---@param device string  its address now
function M.back(region, device)
  region.device, region.gone = device, nil
  refresh(region)
end

return M
