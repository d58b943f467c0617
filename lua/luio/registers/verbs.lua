--- The verbs of a register: one class for each way to reach a register.
---
---     reg:read()               one load
---     reg:write(v)             one store; reg:write { FIELD = .. }: unnamed fields from the reset value
---     reg:get "FIELD"          one load; the value, and its name where it has one
---     reg:update { FIELD = .. }   the only read-modify-write: one load, one store. The same without a
---                              table, for hot loops: reg:update("FIELD", v, "OTHER", w), up to four
---     reg:read_many(to, n)     n loads of the one register, into an array of its width, to empty a FIFO;
---     reg:write_many(from, n)  n stores, to fill one. Up to 32 bits
---     reg:wait({ FIELD = .. }, seconds)   loads until it is so, or the deadline
---     reg:decode(v), reg:encode { .. }    touch nothing
---
--- Every argument is checked before the first access. A class is made once per width, byte order and
--- so on, so that a verb has nothing left to decide: in a trace a read is the accessor's call and a
--- few guards. The traced variant of a class, which calls a hook at every access, is another class;
--- a map without a hook never meets it. The same holds for registers behind a selector, and for selectors
--- (luio.registers.selectors).

local ffi = require "ffi"
local bit = require "bit"
local bits_of = require "luio.registers.bits"
local runtime = require "luio.ffi"
local wait_slot = require "luio.loop.wait_slot"
local near = require "luio.registers.near"
local selectors = require "luio.registers.selectors"
local C = runtime.C
local band, bor, bnot, lshift, rshift = bit.band, bit.bor, bit.bnot, bit.lshift, bit.rshift

local M = {}

local u64 = ffi.typeof "uint64_t"

-- ---- Masks ---------------------------------------------------------------------------------------

-- A run of ones, as bit operations of that width take it: int32 numbers, or uint64_t.
local function ones(high, low, wide)
  local mask = bits_of.mask(high, low)
  return wide and mask or bit.tobit(tonumber(mask))
end

-- The value for a bit that an update or a partial write does not name, by access kind.
local keep = { rw = true, ro = true, preserve = true, rc = true, rs = true, wonce = true } -- as it was read
local as_one = { w0c = true, w0s = true, w0t = true, one = true } -- 1: neutral, or reserved so; all others: 0
local from_reset = { wo = true } -- its contents are unknown

--- Everything the verbs need of a definition, worked out once and kept on it.
---@param def luio.RegisterDef
---@return table prepared
function M.prepare(def)
  if def.prepared then return def.prepared end
  local wide = def.width == 64
  local zero = wide and 0ULL or 0
  local p = { keep = zero, fixed = zero, start = zero, field = {}, list = {}, wide = wide }
  local covered = zero
  for _, f in ipairs(def.fields) do
    local mask = ones(f.high, f.low, wide)
    covered = bor(covered, mask)
    p.field[f.name] = {
      name = f.name, mask = mask, low = f.low, bits = f.bits, max = f.bits < 53 and 2 ^ f.bits - 1 or 2 ^ 53,
      def = f, values = f.values, names = f.names, writable = f.writable, readable = f.readable,
    }
    table.insert(p.list, p.field[f.name])
    if keep[f.access] then p.keep = bor(p.keep, mask) end
    if as_one[f.access] then p.fixed = bor(p.fixed, mask) end
  end
  -- Bits that no field covers are kept where the register's own access keeps them.
  local bare = bnot(covered)
  if not wide and def.width < 32 then bare = band(bare, 2 ^ def.width - 1) end
  if keep[def.access] then p.keep = bor(p.keep, bare) end
  if as_one[def.access] then p.fixed = bor(p.fixed, bare) end
  -- Where a write starts from, and what an update puts into fields that can't be read.
  local reset = def.reset or 0
  reset = wide and ffi.cast(u64, reset) or bit.tobit(reset)
  for _, f in ipairs(def.fields) do
    local pf = p.field[f.name]
    if f.reset ~= nil then
      reset = bor(band(reset, bnot(pf.mask)), lshift(wide and ffi.cast(u64, f.reset) or f.reset, f.low))
    end
    if from_reset[f.access] then p.fixed = bor(p.fixed, band(reset, pf.mask)) end
    if not keep[f.access] and not from_reset[f.access] then reset = band(reset, bnot(pf.mask)) end
  end
  p.start = bor(band(reset, bnot(p.fixed)), p.fixed)
  def.prepared = p
  return p
end

--- The value that an update stores, computed from the value read: M.prepare's rules for any width, without
--- an access. The updates of the classes below are the same, made for speed.
---@param reg luio.Register
---@param old integer|ffi.cdata*|nil  nil: not read, the other bits come from the reset value, as in a write
---@param mask ffi.cdata*  uint64_t: the named bits
---@param value ffi.cdata* uint64_t: their new values
---@return integer|ffi.cdata*  as the register's verbs take it
function M.merged(reg, old, mask, value)
  local p, width = reg.prepared, reg.def.width
  local all = bits_of.mask(width - 1, 0)
  local function of(v) return band(bits_of.wide(v, width), all) end
  local base = old and bor(band(of(old), of(p.keep)), of(p.fixed)) or of(p.start)
  local merged = bor(band(base, bnot(mask)), value)
  return width < 64 and tonumber(merged) or merged
end

-- ---- Saying no -----------------------------------------------------------------------------------
-- `level` is the one that error() would take in the caller of each of these.

local function unknown_field(reg, name, level)
  if type(name) ~= "string" then
    error(("%s: a field has a name, not %s"):format(reg.path, tostring(name)), level + 1)
  end
  if not reg.def.fields[1] then error(("%s has no fields, so no %s"):format(reg.path, name), level + 1) end
  error(("%s has no field %s%s"):format(reg.path, name, near.hint(name, reg.def.field)), level + 1)
end

local function bad_value(reg, f, value, level)
  if type(value) == "string" then
    if not f.values then error(("%s.%s has no names for values; %s is not a number"):format(reg.path, f.name, value), level + 1) end
    error(("%s.%s has no value %s%s"):format(reg.path, f.name, value, near.hint(value, f.values)), level + 1)
  end
  error(("%s.%s: %s does not fit in %d bit%s"):format(reg.path, f.name, tostring(value), f.bits, f.bits > 1 and "s" or ""), level + 1)
end

local function refuse(reason)
  return function(reg) error(("%s %s"):format(reg.path, reason), 2) end
end

-- ---- Values --------------------------------------------------------------------------------------

-- A field's value as a number (or uint64_t), checked.
local function value_of(reg, f, value, level)
  if not f then return nil end
  if type(value) == "number" then
    if value >= 0 and value <= f.max and value % 1 == 0 then return value end
  elseif type(value) == "string" then
    local number = f.values and f.values[value]
    if number then return number end
  elseif type(value) == "boolean" then
    if f.bits == 1 then return value and 1 or 0 end
  elseif ffi.istype(u64, value) then
    if f.bits == 64 or rshift(value, f.bits) == 0ULL then return f.bits > 53 and value or tonumber(value) end
  end
  bad_value(reg, f, value, level + 1)
end

local function writable_field(reg, name, level)
  local f = reg.prepared.field[name]
  if not f then unknown_field(reg, name, level + 1) end
  if not f.writable then
    error(("%s.%s can't be written: its access is %s"):format(reg.path, name, f.def.access), level + 1)
  end
  return f
end

-- ---- Classes -------------------------------------------------------------------------------------

-- Arithmetic of up to 32 bits: numbers, bit operations on int32.
local narrow = {
  zero = 0,
  place = function(value, f) return lshift(value, f.low) end,
  take = function(v, f)
    local x = rshift(band(v, f.mask), f.low)
    return x < 0 and x + 0x100000000 or x
  end,
  unsigned = function(v, width) return v % 2 ^ width end,
}

-- Of 64 bits: uint64_t, which traces keep in registers.
local wide = {
  zero = 0ULL,
  place = function(value, f) return lshift(ffi.cast(u64, value), f.low) end,
  take = function(v, f)
    local x = rshift(band(v, f.mask), f.low)
    return f.bits > 53 and x or tonumber(x)
  end,
  unsigned = function(v) return v end,
}

-- Adds one field to the bits and the mask of an update or a write.
local function put(reg, ops, mask, bits, name, value, level)
  local f = reg.prepared.field[name]
  if not f or not f.writable then writable_field(reg, name, level) end
  return bor(mask, f.mask), bor(bits, ops.place(value_of(reg, f, value, level), f))
end

local function put_all(reg, ops, values)
  local mask, bits = ops.zero, ops.zero
  for name, value in pairs(values) do mask, bits = put(reg, ops, mask, bits, name, value, 4) end
  return mask, bits
end

-- Mask and bits that a wait compares with.
local function wanted_bits(reg, ops, wanted)
  local mask, bits = ops.zero, ops.zero
  for name, value in pairs(wanted) do
    local f = reg.prepared.field[name]
    if not f then unknown_field(reg, name, 3) end
    if not f.readable then error(("%s.%s can't be read: its access is %s"):format(reg.path, name, f.def.access), 3) end
    mask, bits = bor(mask, f.mask), bor(bits, ops.place(value_of(reg, f, value, 3), f))
  end
  return mask, bits
end

-- "BUSY is 1, not 0": why a wait has not ended. A field that has the wanted value is no reason.
local function differences(reg, ops, wanted, v)
  local parts = {}
  for name, value in pairs(wanted) do
    local f = reg.prepared.field[name]
    local is = ops.take(v, f)
    if band(v, f.mask) ~= ops.place(value_of(reg, f, value, 3), f) then
      table.insert(parts, ("%s is %s, not %s"):format(name, f.names and f.names[is] or tostring(is), tostring(value)))
    end
  end
  table.sort(parts)
  return table.concat(parts, ", ")
end

-- A name that a register object does not have. Lowercase is software's, and may be asked for; a field
-- in the place of a key is a slip that would be nil, and a write that would go nowhere.
local SLIP = {
  __index = function(_, key)
    if type(key) == "string" and key:find "^%u[%u%d_]*$" then
      error(("a register has no .%s: a field is read by :get %q, written by :update { %s = value }"):format(key, key, key), 2)
    end
  end,
}

-- The verbs over one way to load and to store.
local function verbs(load, store, width, can, many)
  local ops = width == 64 and wide or narrow
  local max = width == 64 and 2 ^ 53 or 2 ^ width - 1
  local min = width == 64 and 0 or -2 ^ (width - 1)
  local V = {}

  function V:read()
    return load(self)
  end

  local c_array = ffi.typeof(("uint%d_t *"):format(width))
  local read_many = many and many.read or function(reg, to, n)
    to = ffi.cast(c_array, to)
    for i = 0, n - 1 do to[i] = load(reg) end
  end
  local write_many = many and many.write or function(reg, from, n)
    from = ffi.cast(c_array, from)
    for i = 0, n - 1 do store(reg, from[i]) end
  end
  function V:read_many(to, n) read_many(self, to, n) end
  function V:write_many(from, n) write_many(self, from, n) end

  function V:encode(values)
    local mask, bits = put_all(self, ops, values)
    return ops.unsigned(bor(band(self.prepared.start, bnot(mask)), bits), width)
  end

  function V:write(value)
    if type(value) == "table" then
      local mask, bits = put_all(self, ops, value)
      value = bor(band(self.prepared.start, bnot(mask)), bits)
    elseif type(value) == "number" then
      if not (value >= min and value <= max) or value % 1 ~= 0 then
        error(("%s: %s is not a value of %d bits"):format(self.path, tostring(value), width), 2)
      end
    elseif not (width == 64 and (ffi.istype(u64, value) or ffi.istype("int64_t", value))) then
      error(("%s:write takes a value of %d bits or { FIELD = value }, not %s"):format(self.path, width, tostring(value)), 2)
    end
    store(self, value)
  end

  function V:decode(value)
    local fields = {}
    local list = self.prepared.list
    for i = 1, #list do
      local f = list[i]
      local x = ops.take(value, f)
      fields[f.name] = f.names and type(x) == "number" and f.names[x] or x
    end
    return fields
  end

  function V:get(name)
    local f = self.prepared.field[name]
    if not f then unknown_field(self, name, 2) end
    if not f.readable then error(("%s.%s can't be read: its access is %s"):format(self.path, name, f.def.access), 2) end
    local x = ops.take(load(self), f)
    if f.names then return x, f.names[x] end
    return x
  end

  function V:update(n1, v1, n2, v2, n3, v3, n4, v4, ...)
    local mask, bits
    if type(n1) == "table" then
      if v1 ~= nil then error(self.path .. ":update takes { FIELD = value, ... }, or names and values", 2) end
      mask, bits = put_all(self, ops, n1)
    else
      if select("#", ...) > 0 then error(self.path .. ":update takes at most four fields without a table", 2) end
      mask, bits = put(self, ops, ops.zero, ops.zero, n1, v1, 3)
      if n2 ~= nil then mask, bits = put(self, ops, mask, bits, n2, v2, 3) end
      if n3 ~= nil then mask, bits = put(self, ops, mask, bits, n3, v3, 3) end
      if n4 ~= nil then mask, bits = put(self, ops, mask, bits, n4, v4, 3) end
    end
    local p = self.prepared
    store(self, bor(band(bor(band(load(self), p.keep), p.fixed), bnot(mask)), bits))
  end

  function V:wait(wanted, seconds, options)
    if type(wanted) ~= "table" or next(wanted) == nil then error(self.path .. ":wait wants { FIELD = value }", 2) end
    if type(seconds) ~= "number" or not (seconds >= 0 and seconds < 1e9) then
      error(("%s:wait needs a number of seconds, not %s"):format(self.path, tostring(seconds)), 2)
    end
    local mask, bits = wanted_bits(self, ops, wanted)
    local spin, interval = options and options.spin, options and options.interval or 0.001
    local start = C.luio_now()
    local limit = start + ffi.cast(u64, seconds * 1e9)
    while true do
      local now = C.luio_now() -- before the load, so that the value read is no older than the deadline
      -- A load of a device that is gone raises, because a value has no room for nil, message; a wait
      -- has.
      local ok, v = pcall(load, self)
      if not ok then
        local device = self.root.device
        if device.gone then return device:gone_failure("wait for " .. self.path) end
        error(v, 0)
      end
      if band(v, mask) == bits then return v end
      if now >= limit then
        return nil, ("%s: %s after %g s"):format(self.path, differences(self, ops, wanted, v), seconds), "ETIMEDOUT"
      end
      -- The first 50 µs spin: most waits are short, and a task switch is longer.
      if not spin and now - start > 50000ULL then wait_slot.sleep(interval) end
    end
  end

  if not can.read then
    V.read_many = refuse "can't be read: it is write-only"
    V.read, V.get, V.wait = refuse "can't be read: it is write-only", refuse "can't be read: it is write-only",
      refuse "can't be waited for: it is write-only"
  end
  if not can.write then
    V.write_many = refuse "can't be written: it is read-only"
    V.write, V.update = refuse "can't be written: it is read-only", refuse "can't be updated: it is read-only"
  elseif not can.read then
    V.update = refuse "can't be updated: it is write-only, so the other fields are not known; use write"
  elseif can.update then
    V.update = function(self)
      error(("%s can't be updated: an update reads it, and %s; use write"):format(self.path, can.update), 2)
    end
  end
  return setmetatable(V, SLIP)
end

-- ---- Ways to reach a register -------------------------------------------------------------------

local function plain(width, swapped)
  local read, write = "read" .. width .. (swapped and "_swapped" or ""), "write" .. width .. (swapped and "_swapped" or "")
  return function(reg) return reg.region[read](reg.region, reg.offset) end,
    function(reg, value) reg.region[write](reg.region, reg.offset, value) end
end

-- Many accesses at once, where the region has them and there is no listener.
local function plain_many(width, swapped)
  if width == 64 or swapped then return nil end
  local read, write = ("read%d_many"):format(width), ("write%d_many"):format(width)
  return {
    read = function(reg, to, n) reg.region[read](reg.region, reg.offset, to, n) end,
    write = function(reg, from, n) reg.region[write](reg.region, reg.offset, from, n) end,
  }
end

-- 64 bits in two accesses of 32, the half that the map says first.
local function halves(first, swapped)
  local read, write = "read32" .. (swapped and "_swapped" or ""), "write32" .. (swapped and "_swapped" or "")
  local low_at, high_at = swapped and 4 or 0, swapped and 0 or 4
  local function load(reg)
    local region = reg.region
    local low, high
    if first == "low" then
      low = region[read](region, reg.offset + low_at)
      high = region[read](region, reg.offset + high_at)
    else
      high = region[read](region, reg.offset + high_at)
      low = region[read](region, reg.offset + low_at)
    end
    return high * 0x100000000ULL + low
  end
  local function store(reg, value)
    local region = reg.region
    local v = ffi.cast(u64, value)
    local low, high = tonumber(band(v, 0xffffffffULL)), tonumber(rshift(v, 32))
    if first == "low" then
      region[write](region, reg.offset + low_at, low)
      region[write](region, reg.offset + high_at, high)
    else
      region[write](region, reg.offset + high_at, high)
      region[write](region, reg.offset + low_at, low)
    end
  end
  return load, store
end

-- With those who listen to accesses (luio.registers.listeners).
local function traced(load, store)
  return function(reg)
    local value = load(reg)
    reg.root.listeners:after(reg, "read", value)
    return value
  end, function(reg, value)
    reg.root.listeners:before(reg, value)
    store(reg, value)
    reg.root.listeners:after(reg, "write", value)
  end
end

local classes = {}

--- The class for a definition in a region: plain, and traced.
---@param def luio.RegisterDef
---@param split boolean  64 bits by two accesses
---@param selects boolean  written values are noted: it has, or may have, a selector's bytes
---@return { plain: table, traced: table }
function M.class(def, split, selects)
  local can = { read = def.readable, write = def.writable, update = def.read_effect }
  local guarded = def.conditions ~= nil
  local key = ("%d %s %s %s %s %s %s %s"):format(def.width, def.endian, split and def.halves or "-", tostring(can.read),
    tostring(can.write), can.update or "-", tostring(guarded), tostring(selects))
  if not classes[key] then
    local swapped = def.endian == "big"
    local load, store
    if split then load, store = halves(def.halves, swapped)
    else load, store = plain(def.width, swapped and def.width > 8) end
    local many = not split and not selects and plain_many(def.width, swapped and def.width > 8) or nil
    if selects then load, store = selectors.selecting(load, store) end
    local traced_load, traced_store = traced(load, store)
    if guarded then
      load, store = selectors.guarded(load, store)
      traced_load, traced_store = selectors.guarded(traced_load, traced_store)
      many = selectors.guarded_many(many)
    end
    classes[key] = {
      plain = verbs(load, store, def.width, can, many),
      traced = verbs(traced_load, traced_store, def.width, can),
    }
  end
  return classes[key]
end

return M
