--- Conformance: which regions there are, and where they end.

local busted = require "busted"
local assert = require "luassert"
local support = require "spec.backend.conformance.support"

local it = busted.it
local refused, numbers, widths_of, checked, WIDTHS = support.refused, support.numbers, support.widths_of, support.checked, support.WIDTHS

---@param subject luio.BackendConformance
return function(subject)
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
