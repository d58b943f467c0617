--- Register access: the cost of one checked 32-bit access of a memory region.
---
--- A region is opened the ordinary way, on a UIO device whose registers are a page of plain memory
--- (ram.umockdev). RAM answers at once, so the rest is luio's own cost: the check of the
--- offset and the call of the exact accessor. Loops of region:read32 and region:write32 are
--- compiled to traces and run against a C loop that calls the same two functions of libluio.so,
--- which is the peer that counts: both do one call per access. Beside it, for orientation: the
--- bare FFI call without the region, and a volatile access in C, which no caller of a shared
--- library can reach. A register of a real device takes hundreds of ns in any case.
---
--- In the luio program LuaJIT is a shared library and places its code near libluio.so, so a trace
--- calls the accessor directly. A `luajit` with LuaJIT linked in is too far away and calls through
--- a register, which may cost half a nanosecond more.
---
--- A loop that is not compiled would be thirty times slower and still look like a figure, so the
--- trace compiler is watched while the samples are taken; the note has its actions.

local amount = require("tools").amount
local ffi = require "ffi"
local jutil = require "jit.util"

local N = amount(4000000) -- accesses per sample: some 10 ms
local ROUNDS = amount(15)
local OFFSET = 0x10
local NEVER = 0xffffffff

local M = { name = "mmio", under = { "umockdev-run", "-d", "%BENCH/ram.umockdev", "--" } }

-- Each loop is a function of its own, so that each gets its own trace.
-- Reads are polls for a value that never comes: that is how registers are read in loops, and adding
-- the values up would time LuaJIT's conversion of each to a double as well.
local function read_region(region)
  for i = 1, N do
    if region:read32(OFFSET) == NEVER then return i end
  end
end

local function write_region(region)
  for i = 1, N do region:write32(OFFSET, i) end
end

local function read_bare(C, p)
  for i = 1, N do
    if C.luio_read32(p) == NEVER then return i end
  end
end

local function write_bare(C, p)
  for i = 1, N do C.luio_write32(p, i) end
end

-- Counts what the trace compiler does. A loop that runs compiled has a root trace that links to
-- itself, and once it has it, nothing more happens.
local function watch()
  local seen = { start = 0, stop = 0, abort = 0, flush = 0, looping = {} }
  jit.attach(function(what, trace, fn)
    seen[what] = (seen[what] or 0) + 1
    if what == "stop" then
      local info = jutil.traceinfo(trace)
      local name = fn and jutil.funcinfo(fn).linedefined
      if info.linktype == "loop" and name then seen.looping[name] = true end
    end
  end, "trace")
  return seen
end

function M.run(tools)
  local luio = require "luio"
  local C = require("luio.ffi").C
  local twin = tools.twin()
  local dev = assert(luio.open "uio0")
  local region = dev.regions[0]
  assert(region.kind == "memory", "ram.umockdev gave no memory region")
  local base = ffi.cast("volatile uint8_t *", region.base)
  local p = base + OFFSET

  local function timed(fn, a, b)
    return function()
      local from = C.luio_now()
      fn(a, b)
      return tonumber(C.luio_now() - from) / N
    end
  end
  local function twins(fn)
    return function() return tonumber(fn(p, N)) / N end
  end

  local seen = watch()
  local t = tools.take_turns(ROUNDS, {
    read = timed(read_region, region), write = timed(write_region, region),
    read_bare = timed(read_bare, C, p), write_bare = timed(write_bare, C, p),
    read_call = twins(twin.twin_read_call), write_call = twins(twin.twin_write_call),
    read_raw = twins(twin.twin_read_raw), write_raw = twins(twin.twin_write_raw),
  })

  local compiled, wanted = 0, { read_region, write_region, read_bare, write_bare }
  for _, fn in ipairs(wanted) do
    if seen.looping[jutil.funcinfo(fn).linedefined] then compiled = compiled + 1 end
  end
  -- Proof that the stores arrived, and in this memory.
  region:write32(OFFSET, 0xfeedbeef)
  assert(ffi.cast("uint32_t *", p)[0] == 0xfeedbeef, "write32 went elsewhere")
  dev:close()

  return {
    { name = "mmio read32, C call", unit = "ns", luio = t.read, peer = t.read_call, aim = "<= 1.3",
      note = ("%d of %d Lua loops run as looping traces; %d traces, %d aborts, %d flushes in all samples"):format(
        compiled, #wanted, seen.stop, seen.abort, seen.flush) },
    { name = "mmio write32, C call", unit = "ns", luio = t.write, peer = t.write_call, aim = "<= 1.3" },
    { name = "mmio read32, bare FFI call", unit = "ns", luio = t.read, peer = t.read_bare },
    { name = "mmio write32, bare FFI call", unit = "ns", luio = t.write, peer = t.write_bare },
    { name = "mmio read32, volatile in C", unit = "ns", luio = t.read, peer = t.read_raw, note = "for orientation" },
    { name = "mmio write32, volatile in C", unit = "ns", luio = t.write, peer = t.write_raw, note = "for orientation" },
  }
end

return M
