--- One `read32` is one 32-bit load, one `write32` one 32-bit store, in program order, interpreted
--- and compiled. Counted by a page that faults at every access (spec/support/faultpage.c), so the
--- count is of the CPU's accesses. To show that the count can differ, a mutant of the accessor, the
--- raw volatile pointer that LuaJIT optimises away, is counted beside it and must differ.

local ffi = require "ffi"
local bit = require "bit"
local region = require "luio.region"

ffi.cdef [[
  struct faultpage_access { uint32_t offset; uint8_t width, is_write; };
  void *faultpage_open(void);
  void faultpage_close(void);
  void faultpage_reset(void);
  uint64_t faultpage_count(void);
  const struct faultpage_access *faultpage_log(uint64_t i);
]]
local F = ffi.load "build/spec/libfaultpage.so"

-- Counts how many traces were compiled while fn ran: "compiled" must mean it.
local function traces_during(fn)
  local compiled = 0
  local function on_trace(what)
    if what == "stop" then compiled = compiled + 1 end
  end
  jit.attach(on_trace, "trace")
  local ok, err = pcall(fn)
  jit.attach(on_trace)
  if not ok then error(err, 0) end
  return compiled
end

local N = 1000

describe("exact access, x86-64 #jit", function()
  local page, regs
  before_each(function()
    page = F.faultpage_open()
    regs = region.over(page, 4096, "faulting page")
  end)
  after_each(function()
    F.faultpage_close()
    jit.on()
    jit.flush()
  end)

  -- Every access there was, checked; and how many.
  local function logged(width, is_write, offset_of)
    local n = tonumber(F.faultpage_count())
    for i = 0, n - 1 do
      local a = F.faultpage_log(i)
      assert.equal(width, a.width)
      assert.equal(is_write, a.is_write ~= 0)
      assert.equal(offset_of(i), a.offset)
    end
    return n
  end

  for _, mode in ipairs { "compiled", "interpreted" } do
    describe(mode, function()
      local function run(fn)
        if mode == "interpreted" then
          jit.off()
          jit.flush() -- traces that are there would still run, and grow
          assert.equal(0, traces_during(fn))
        else
          -- Room for traces near LuaJIT's own code is found by luck, so it may take another try.
          jit.on()
          local traces
          local tries = 0
          repeat
            jit.flush()
            F.faultpage_reset()
            traces, tries = traces_during(fn), tries + 1
          until traces > 0 or tries == 10
          assert.is_true(traces > 0)
        end
      end

      for _, width in ipairs { 8, 16, 32, 64 } do
        it(("makes %d read%ds of one register %d loads of %d bits"):format(N, width, N, width), function()
          local read = regs["read" .. width]
          run(function()
            local sum = width == 64 and 0ULL or 0
            for _ = 1, N do sum = sum + read(regs, 0x40) end
            return sum
          end)
          assert.equal(N, logged(width, false, function() return 0x40 end))
        end)

        it(("makes %d write%ds of one value %d stores of %d bits"):format(N, width, N, width), function()
          local write = regs["write" .. width]
          run(function()
            for _ = 1, N do write(regs, 0x48, 0x12) end
          end)
          assert.equal(N, logged(width, true, function() return 0x48 end))
        end)
      end

      it("keeps program order over registers and directions", function()
        run(function()
          for _ = 1, N / 4 do
            regs:write32(0x10, 1)
            regs:read32(0x20)
            regs:write32(0x10, 0)
            regs:read32(0x20) -- unused, and done all the same
          end
        end)
        assert.equal(N, tonumber(F.faultpage_count()))
        for i = 0, N - 1 do
          local a = F.faultpage_log(i)
          assert.equal(i % 2 == 0, a.is_write ~= 0)
          assert.equal(i % 2 == 0 and 0x10 or 0x20, a.offset)
          assert.equal(32, a.width)
        end
      end)

      it("swaps bytes without another access", function()
        regs:write32(0x10, 0x11223344)
        F.faultpage_reset()
        run(function()
          for _ = 1, N do assert(regs:read32_swapped(0x10) == 0x44332211) end
        end)
        assert.equal(N, logged(32, false, function() return 0x10 end))
      end)
    end)
  end

  it("is not what a raw volatile pointer gives: the mutant is caught", function()
    jit.on()
    jit.flush()
    local raw = ffi.cast("volatile uint32_t *", page)
    local compiled = traces_during(function()
      local sum = 0
      for _ = 1, N do sum = bit.bxor(sum, raw[16] + raw[16]) end
      return sum
    end)
    assert.is_true(compiled > 0)
    assert.is_true(tonumber(F.faultpage_count()) < 2 * N)
  end)

  it("touches nothing when it refuses", function()
    assert.has_error(function() regs:read32(4096) end)
    assert.has_error(function() regs:read32(-4) end)
    assert.has_error(function() regs:read32(2) end)
    assert.has_error(function() regs:write8(0, 256) end)
    assert.has_error(function() regs:write32(0, 0.5) end)
    assert.has_error(function() regs:write64(0, -1) end)
    assert.equal(0, tonumber(F.faultpage_count()))
  end)
end)
