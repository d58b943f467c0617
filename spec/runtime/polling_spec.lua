--- A polling loop in a compiled trace sees a store made by another process: the case that a raw
--- volatile pointer gets wrong, because LuaJIT hoists its load out of the loop.

local ffi = require "ffi"
local region = require "luio.region"
local uv = require "luv"

ffi.cdef [[
  int memfd_create(const char *name, unsigned flags);
  int ftruncate(int fd, long length);
  void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset);
  int munmap(void *addr, size_t length);
  int close(int fd);
]]

local PROT_READ_WRITE, MAP_SHARED = 3, 1

describe("polling in a compiled trace #jit", function()
  it("sees a store from another process", function()
    local fd = ffi.C.memfd_create("luio-spec", 1)
    assert(fd >= 0 and ffi.C.ftruncate(fd, 4096) == 0)
    local page = ffi.C.mmap(nil, 4096, PROT_READ_WRITE, MAP_SHARED, fd, 0)
    local regs = region.over(page, 4096, "shared page")
    local traces = 0
    local function on_trace(what)
      if what == "stop" then traces = traces + 1 end
    end
    jit.flush()
    jit.attach(on_trace, "trace")
    -- It writes only after the loop has long been compiled.
    local poke = "sleep 0.3; printf '\\001' | dd of=/proc/%d/fd/%d bs=1 seek=64 conv=notrunc 2>/dev/null"
    local child = uv.spawn("sh", { args = { "-c", poke:format(uv.os_getpid(), fd) } }, function() end)
    -- Nothing in the loop but the read: whatever else it called would itself keep the compiler from
    -- hoisting. Bounded, so that a load which was hoisted ends, too: unseen.
    local seen
    for i = 1, 1e9 do
      if regs:read32(64) ~= 0 then
        seen = i
        break
      end
    end
    jit.attach(on_trace)
    assert.is_truthy(seen)
    assert.is_true(seen > 1000)
    assert.equal(1, regs:read32(64))
    assert.is_true(traces > 0)
    uv.run() -- the child's end
    child:close()
    ffi.C.munmap(page, 4096)
    ffi.C.close(fd)
  end)
end)
