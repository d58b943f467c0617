--- Conformance: what is written and read; what is not, read-only.

local busted = require "busted"
local assert = require "luassert"
local bit = require "bit"
local runtime = require "luio.ffi"
local ffi = require "ffi"
local support = require "spec.backend.conformance.support"

local it = busted.it
local refused, numbers, widths_of, checked, WIDTHS = support.refused, support.numbers, support.widths_of, support.checked, support.WIDTHS
local C, err = runtime.C, runtime.err

local PATTERNS = {
  [8] = { 0x00, 0x5a, 0xa5, 0xff }, [16] = { 0x0000, 0x5aa5, 0x8001, 0xffff },
  [32] = { 0x00000000, 0x5aa50ff0, 0x80000001, 0xffffffff },
  [64] = { 0ULL, 0x5aa50ff0c33c6996ULL, 0x8000000000000001ULL, 0xffffffffffffffffULL },
}

---@param subject luio.BackendConformance
return function(subject)
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
