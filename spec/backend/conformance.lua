--- What a device is to its driver, whichever way leads to it: the same of a model, a UIO device, a BAR by sysfs, I/O ports
--- and /dev/mem.
---
---     require "spec.backend.conformance" {
---       address = "0000:00:04.0",                       -- for luio.open
---       regions = { [0] = { size = 0x100000, kind = "memory", id = { 0x00, 32, 0x010000ed } } },
---     }
---
--- states the least. Each of these is more of it:
---
---     name = "edu by UIO"      in the specs' names; else the address
---     aliases = { "uio0" }     other names of the same device
---     pci = { vendor, device } it has a config space and a bus master; else both are refused
---     private = true           each opening is another device (models); else a second owner is refused
---     open = function(options) instead of luio.open(address, options)
---     unchanged = function()   what opening and closing must not change: any plain data
---     accesses = function(dev) how many accesses the device has seen: what is refused must be none
---     interrupt = {            it has interrupts; else a wait says at once that there is none
---       setup = {},            the top half (irq:setup)
---       raise = function(dev)  makes one come
---       quiet = function(dev)  nothing comes from now on; the device is left so
---       many = 20,             how many are tried in a row
---       names = { "cause" },   what each event has captured, not 0
---     }
---     only = "life"            just one of the parts below: the way has been stated by another device
---     leave = function(dev)    takes the device away ...
---     back = function(dev)     ... and gives it back
---
--- and of a region:
---
---     name = "^map0$"          a pattern for region.name
---     id = { offset, width, value }           a register that never changes; reading it disturbs nothing
---     widths = { 32 }          those its kind has: unless said 8, 16, 32 and, but for ports, 64. Others are errors
---     last = 8                 width of the read that is tried at its very end; false: none is harmless
---     scratch = { { offset = 0x80, widths = { 32, 64 }, back = function(value, width) } }
---                              registers that give back what was written, or what `back` makes of it; left at 0
---     ram = { offset, bytes }  a span that is memory: any width, little-endian here, and no byte beside it
---
--- Each case opens the device anew, and closes it.

local busted = require "busted"
local assert = require "luassert"
local bit = require "bit"
local ffi = require "ffi"
local door = require "luio.ffi"
local look = require "luio.look"
local luio = require "luio"
local wait = require "spec.support.wait"

local it = busted.it
local C, err = door.C, door.err
local WIDTHS = { 8, 16, 32, 64 }
local PATTERNS = {
  [8] = { 0x00, 0x5a, 0xa5, 0xff }, [16] = { 0x0000, 0x5aa5, 0x8001, 0xffff },
  [32] = { 0x00000000, 0x5aa50ff0, 0x80000001, 0xffffffff },
  [64] = { 0ULL, 0x5aa50ff0c33c6996ULL, 0x8000000000000001ULL, 0xffffffffffffffffULL },
}

---@class luio.BackendRegion
---@field size integer
---@field kind "memory"|"port"|"sim"
---@field name string?
---@field id { [1]: integer, [2]: integer, [3]: integer }?
---@field widths integer[]?
---@field last integer|false|nil
---@field scratch { offset: integer, widths: integer[], back: (fun(value: any, width: integer): any)? }[]?
---@field ram integer[]?

---@class luio.BackendConformance
---@field address string
---@field name string?
---@field aliases string[]?
---@field regions table<integer, luio.BackendRegion>
---@field pci integer[]?
---@field private boolean?
---@field open (fun(options: luio.OpenOptions?): luio.Device?, string?, string?)?
---@field unchanged (fun(): any)?
---@field accesses (fun(dev: luio.Device): integer)?
---@field interrupt table?
---@field only string?
---@field leave fun(dev: luio.Device)?
---@field back fun(dev: luio.Device)?

local function refused(pattern, fn, ...)
  local ok, message = pcall(fn, ...)
  assert.is_false(ok, "it was not refused: " .. pattern)
  assert.matches(pattern, message)
end

-- The numbers of the regions, in order.
local function numbers(subject)
  local list = {}
  for i = 0, 5 do
    if subject.regions[i] then table.insert(list, i) end
  end
  return list
end

local function widths_of(region)
  local has = {}
  for _, width in ipairs(region.widths or WIDTHS) do has[width] = region.widths or region.kind ~= "port" or width < 64 end
  return has
end

-- An access by C's checked door, which every kind of region has: 0 or the error's name.
local function checked(r, verb, offset, width, value)
  local rc
  if verb == "read" then rc = C.luio_region_read(r.handle, offset, width, ffi.new "uint64_t[1]", err)
  else rc = C.luio_region_write(r.handle, offset, width, value, err) end
  return rc < 0 and door.errno_name(-rc) or 0
end

-- ---- The parts -----------------------------------------------------------------------------------

local function identity(subject)
  it("is the same device each time, under each of its names", function()
    local first
    for _, address in ipairs { subject.address, subject.address, unpack(subject.aliases or {}) } do
      local dev = assert(luio.open(address))
      first = first or dev.address
      assert.equal(first, dev.address)
      assert.equal(dev.address, dev.info.address)
      assert.is_truthy(tostring(dev):find(dev.address, 1, true), tostring(dev))
      assert(dev:close())
    end
    local info = assert(look.find(subject.address)) -- not opened
    assert.equal(first, info.address)
    for _, i in ipairs(numbers(subject)) do
      local part = info.bars[i] or info.maps[i] or info.ports[i]
      assert.is_true(part.size >= subject.regions[i].size, "what discovery says of region " .. i)
    end
  end)

  it("says what it is on its bus", function()
    local dev = subject.take()
    if subject.pci then
      assert.same(subject.pci, { dev.info.vendor, dev.info.device })
      assert.equal(subject.pci[1], assert(dev.config:read16(0)))
      assert.equal(subject.pci[2], assert(dev.config:read16(2)))
      assert.is_false(assert(dev.config:command()).bus_master)
      assert(dev:bus_master(true))
      assert.is_true(assert(dev.config:command()).bus_master)
      assert(dev:bus_master(false))
      assert.is_false(assert(dev.config:command()).bus_master)
    else
      for what, result in pairs { bus_master = { dev:bus_master(true) }, config = { dev.config:read16(0) } } do
        assert.is_nil(result[1], what)
        assert.matches(subject.pattern, result[2])
        assert.equal("ENOTSUP", result[3])
      end
    end
  end)

  it("is opened and closed without a trace", function()
    local before = subject.unchanged and subject.unchanged()
    local dev = subject.take()
    for _, i in ipairs(numbers(subject)) do assert.is_truthy(dev.regions[i]) end
    local between = subject.unchanged and subject.unchanged()
    local seen = subject.accesses and subject.accesses(dev)
    assert(dev:close())
    assert.same({ before, before, subject.accesses and 0 }, { between, subject.unchanged and subject.unchanged(), seen })
  end)
end

local function regions(subject)
  it("has the regions it has, and no others", function()
    local dev = subject.take()
    for i = 0, 6 do
      local expected = subject.regions[i]
      if expected then
        local r = assert(dev:region(i))
        assert.same({ i, expected.size, expected.kind, true }, { r.index, r.size, r.kind, r.writable })
        assert.matches(expected.name or "%S", r.name)
        assert.equal(r, dev.regions[i])
        assert.is_true(r.addr > 0)
        assert.is_truthy(tostring(r):find(dev.address, 1, true), tostring(r))
      else
        local none, message, code = dev:region(i)
        assert.is_nil(none)
        assert.equal("ENOENT", code)
        assert.matches("has no region " .. i .. "; it has:", message)
        refused("has no region " .. i, function() return dev.regions[i] end)
      end
    end
    for _, wrong in ipairs { -1, 0.5, "0" } do refused("numbered from 0", function() return dev:region(wrong) end) end
  end)

  it("reads a register that never changes, each time the same", function()
    local dev, any = subject.take(), false
    for _, i in ipairs(numbers(subject)) do
      local id = subject.regions[i].id
      local r = dev.regions[i]
      for _ = 1, id and 200 or 0 do assert.equal(id[3], tonumber(r["read" .. id[2]](r, id[1]))) end
      any = any or id
    end
    assert.is_truthy(any, "the spec names none")
  end)

  it("ends where it ends, at every width", function()
    local dev = subject.take()
    local seen = subject.accesses and subject.accesses(dev)
    for _, i in ipairs(numbers(subject)) do
      local r, has = dev.regions[i], widths_of(subject.regions[i])
      for _, width in ipairs(WIDTHS) do
        local bytes, name = width / 8, tostring(width)
        if has[width] then
          for _, offset in ipairs { r.size, r.size + bytes, r.size + 4096, 2 ^ 40, -bytes } do
            refused("is outside", r["read" .. name], r, offset)
            refused("is outside", r["write" .. name], r, offset, 0)
          end
          if bytes > 1 then
            local at = r.size - bytes + 1 -- its last byte is the first that is not there
            refused("is outside", r["read" .. name], r, at)
            for _, offset in ipairs { 1, bytes / 2, bytes - 1 } do
              if offset + bytes <= r.size then
                refused("is not aligned to " .. bytes .. " bytes", r["read" .. name], r, offset)
                refused("is not aligned to " .. bytes .. " bytes", r["write" .. name], r, offset, 0)
                assert.equal("EINVAL", checked(r, "read", offset, width))
                assert.equal("EINVAL", checked(r, "write", offset, width, 0))
              end
            end
          end
          assert.equal("ERANGE", checked(r, "read", r.size, width))
          assert.equal("ERANGE", checked(r, "write", r.size, width, 0))
          assert.equal("ERANGE", checked(r, "read", 0xffffffffffffffffULL - (bytes - 1), width))
        else
          refused(".", r["read" .. name], r, 0)
          refused(".", r["write" .. name], r, 0, 0)
          assert.equal("EINVAL", checked(r, "read", 0, width))
        end
      end
      for _, width in ipairs { 0, 1, 24, 128 } do assert.equal("EINVAL", checked(r, "read", 0, width)) end
      refused("not a whole offset", r.read8, r, 0.5)
      refused("offset is a number", r.read8, r, "x")
      refused("not a value of 8 bits", r.write8, r, 0, 256)
      refused("not a value of 32 bits", r.write32, r, 0, 2 ^ 32)
    end
    if seen then assert.equal(seen, subject.accesses(dev)) end -- none of this reached it
    for _, i in ipairs(numbers(subject)) do
      local region, r = subject.regions[i], dev.regions[i]
      local width = region.last == nil and (region.widths or WIDTHS)[1] or region.last
      if width then
        assert.equal(0, checked(r, "read", r.size - width / 8, width))
        r["read" .. width](r, r.size - width / 8)
      end
    end
  end)
end

local function values(subject)
  it("keeps what is written, at each width that a register has", function()
    local dev = subject.take()
    for _, i in ipairs(numbers(subject)) do
      local r = dev.regions[i]
      for _, s in ipairs(subject.regions[i].scratch or {}) do
        for _, width in ipairs(s.widths) do
          for _, value in ipairs(PATTERNS[width]) do
            local expected = s.back and s.back(value, width) or value
            r["write" .. width](r, s.offset, value)
            assert.equal(expected, r["read" .. width](r, s.offset))
            if width > 8 then
              assert.equal(expected, bit.bswap(ffi.cast("uint64_t", r[("read%d_swapped"):format(width)](r, s.offset))) / 2ULL ^ (64 - width))
            end
            local out = ffi.new "uint64_t[1]"
            assert.equal(0, C.luio_region_read(r.handle, s.offset, width, out, err))
            assert.equal(ffi.cast("uint64_t", expected), out[0])
          end
          r["write" .. width](r, s.offset, 0)
        end
      end
    end
  end)

  it("takes no byte more than it was told, where it is memory", function()
    local dev = subject.take()
    for _, i in ipairs(numbers(subject)) do
      local r, ram = dev.regions[i], subject.regions[i].ram
      local first = ram and ram[1]
      for _, width in ipairs(ram and WIDTHS or {}) do
        local bytes, value = width / 8, PATTERNS[width][2]
        for offset = first + 8, first + ram[2] - 16, bytes do
          for at = first, first + ram[2] - 1 do r:write8(at, 0xee) end
          r["write" .. width](r, offset, value)
          assert.equal(value, r["read" .. width](r, offset))
          local rest = ffi.cast("uint64_t", value)
          for at = first, first + ram[2] - 1 do
            local inside = at >= offset and at < offset + bytes
            assert.equal(inside and tonumber(rest % 256) or 0xee, r:read8(at))
            if inside then rest = rest / 256 end
          end
        end
      end
    end
  end)

  it("can be looked at read-only: every write is refused, before it is one", function()
    local dev = subject.take { read_only = true }
    assert.is_true(dev.read_only)
    local seen = subject.accesses and subject.accesses(dev)
    for _, i in ipairs(numbers(subject)) do
      local r, has = dev.regions[i], widths_of(subject.regions[i])
      assert.is_false(r.writable)
      assert.matches("read%-only", tostring(r))
      for _, width in ipairs(WIDTHS) do
        if has[width] then
          refused("read%-only", r["write" .. width], r, 0, 0)
          assert.equal("EACCES", checked(r, "write", 0, width, 0))
        end
      end
    end
    if seen then assert.equal(seen, subject.accesses(dev)) end
    for _, i in ipairs(numbers(subject)) do
      local r, id = dev.regions[i], subject.regions[i].id
      if id then assert.equal(id[3], tonumber(r["read" .. id[2]](r, id[1]))) end
    end
    local event, message, code = dev.irqs[0]:wait(5)
    assert.is_nil(event)
    assert.matches(subject.pattern, message)
    assert.is_true(code == "EACCES" or code == "ENOTSUP" and not subject.interrupt, code)
    assert.is_nil((dev.dma:alloc(64)))
    if subject.pci then assert.equal("EACCES", select(3, dev:bus_master(true))) end
  end)
end

local function interrupts(subject)
  local wanted = subject.interrupt
  if not wanted then
    it("says at once that it has no interrupt", function()
      local dev = subject.take()
      local start = luio.now()
      for _, result in ipairs { { dev.irqs[0]:wait(30) }, { dev.irqs[0]:poll() }, { dev.irqs[0]:start() } } do
        assert.is_nil(result[1])
        assert.matches(subject.pattern, result[2])
        assert.matches("interrupt", result[2])
        assert.equal("ENOTSUP", result[3])
      end
      assert.is_true(luio.now() - start < 10)
    end)
    return
  end

  local function taken(dev)
    return dev.irqs[0]:setup(wanted.setup or {})
  end
  local function quiet(dev)
    if wanted.quiet then wanted.quiet(dev) end
  end

  it("wakes who waits, once for each interrupt", function()
    local dev = subject.take()
    local irq, many = taken(dev), wanted.many or 20
    luio.run(function()
      for i = 1, many do
        local event, message
        local waiter = luio.spawn(function() event, message = irq:wait(10) end)
        if i % 2 == 0 then luio.sleep(0.001) end -- asleep, or not yet
        wanted.raise(dev)
        assert(waiter:join(10))
        assert(event, message)
        assert.is_true(event.count >= 1)
        for _, name in ipairs(wanted.names or {}) do assert.is_true(event[name] ~= 0, name) end
      end
    end)
    quiet(dev)
    local stats = irq:stats()
    assert.is_true(stats.interrupts >= many)
    assert.equal(stats.interrupts, stats.delivered + stats.overflow)
    assert.equal(0, stats.overflow)
  end)

  it("comes to nobody when nothing raises it, and to the next owner when it does", function()
    for _ = 1, 2 do
      local dev = subject.take()
      local irq = taken(dev)
      quiet(dev)
      while irq:wait(0.05) do end -- what was on its way
      local event, message, code = irq:wait(0.05)
      assert.is_nil(event)
      assert.equal("ETIMEDOUT", code)
      assert.matches(subject.pattern, message)
      wanted.raise(dev)
      assert(irq:wait(10))
      quiet(dev)
      assert(dev:close())
    end
  end)

  it("has the one vector", function()
    local dev = subject.take()
    local event, message, code = dev.irqs[1]:wait(5)
    assert.is_nil(event)
    assert.matches("no vector 1", message)
    assert.equal("ENOENT", code)
  end)
end

local function owners(subject)
  it("can be closed twice; what is left of it is an error", function()
    local dev = subject.take()
    local r, irq = dev.regions[numbers(subject)[1]], dev.irqs[0]
    assert.is_true(dev:close())
    assert.is_true(dev:close())
    assert.is_true(dev.closed)
    for _, width in ipairs(WIDTHS) do
      refused("the device is closed", r["read" .. width], r, 0)
      refused("the device is closed", r["write" .. width], r, 0, 0)
    end
    refused("the device is closed", function() return dev:region(0) end)
    refused("the device is closed", function() return dev:bus_master(true) end)
    refused("closed", function() return irq:wait(1) end)
    assert.matches("closed", tostring(dev))
    assert.matches("closed", tostring(r))
  end)

  it(subject.private and "is another device for each who opens it" or "has one owner; to look is free", function()
    local dev = subject.take()
    local i = numbers(subject)[1]
    local id = subject.regions[i].id
    local second, message, code = subject.opened()
    if subject.private then
      assert(second, message)
      assert.are_not.equal(dev.regions[i], second.regions[i])
      assert(second:close())
    else
      assert.is_nil(second)
      assert.equal("EBUSY", code)
      assert.matches(subject.pattern, message)
    end
    local beside = subject.take { read_only = true }
    if id then assert.equal(id[3], tonumber(beside.regions[i]["read" .. id[2]](beside.regions[i], id[1]))) end
    assert(beside:close())
    if id then assert.equal(id[3], tonumber(dev.regions[i]["read" .. id[2]](dev.regions[i], id[1]))) end -- undisturbed
    assert(dev:close())
    local third = subject.take() -- free again
    assert(third:close())
  end)
end

local function life(subject)
  if not subject.leave then return end
  it("goes away: errors, not stray accesses; and it can come back", function()
    local dev = subject.take()
    dev.on_warning = function() end
    dev:watch_presence()
    local i = numbers(subject)[1]
    local r, id = dev.regions[i], subject.regions[i].id
    local waited, message, code
    luio.run(function()
      local waiter
      if subject.interrupt then
        dev.irqs[0]:setup(subject.interrupt.setup or {})
        waiter = luio.spawn(function() waited, message, code = dev.irqs[0]:wait(60) end)
        luio.sleep(0.01)
      end
      subject.leave(dev)
      wait.till(20, "its going is noticed", function() return dev.gone end)
      if waiter then
        assert(waiter:join(10))
        assert.same({ nil, "ENODEV" }, { waited, code })
        assert.matches("^device gone", message)
      end
    end)
    for _, width in ipairs(WIDTHS) do
      refused("the device is gone", r["read" .. width], r, 0)
      refused("the device is gone", r["write" .. width], r, 0, 0)
    end
    assert.equal("ENODEV", select(3, dev:bus_master(true)))
    assert.equal("ENODEV", select(3, dev.config:read16(0)))
    assert.equal("ENODEV", select(3, dev.irqs[0]:wait(1)))
    assert.matches("gone", tostring(dev))
    subject.back(dev)
    wait.till(20, "it is back", function() return not dev.gone or dev:retake() end)
    assert.equal(r, dev.regions[i])
    if id then assert.equal(id[3], tonumber(r["read" .. id[2]](r, id[1]))) end
    assert(dev:close())
  end)
end

---@param subject luio.BackendConformance
return function(subject)
  local open = {}

  --- Opens it, or not.
  function subject.opened(options)
    if subject.open then return subject.open(options) end
    return luio.open(subject.address, options)
  end

  --- Opens it for this case.
  function subject.take(options)
    local dev = assert(subject.opened(options))
    table.insert(open, dev)
    subject.pattern = dev.address:gsub("%p", "%%%0") -- in messages
    return dev
  end

  busted.describe(("a device by its driver's eyes, %s:"):format(subject.name or subject.address), function()
    busted.before_each(function() open = {} end)
    busted.after_each(function()
      for _, dev in ipairs(open) do assert(dev:close()) end
    end)
    for _, part in ipairs {
      { "identity", identity }, { "regions", regions }, { "values", values }, { "interrupts", interrupts }, { "owners", owners },
      { "life", life },
    } do
      if subject.only == nil or subject.only == part[1] then part[2](subject) end
    end
  end)
end
