--- Named registers: the cost of a name, a field and an update over the bare accessor.
---
--- A map is bound to a region of plain memory (as in mmio), and its verbs run in compiled loops. The
--- peer is the same access by the bare FFI call, so the difference is the name's cost; for the
--- update the C twin is beside it: a load, #define masks, a store, by the same two functions. The
--- table form of update is there for orientation: it makes a table, and walks it.
---
--- The aims are absolute: at most 1 ns over the accessor, for an update at most 2 ns over its two
--- accesses. `garbage` is the garbage of a million of each.

local amount = require("tools").amount
local ffi = require "ffi"

local N = amount(4000000)
local ROUNDS = amount(15)
local OFFSET = 0x10
local NEVER = 0xffffffff

local M = { name = "registers", under = { "umockdev-run", "-d", "%BENCH/ram.umockdev", "--" } }

local function read_named(reg)
  for i = 1, N do
    if reg:read() == NEVER then return i end
  end
end

local function read_bare(C, p)
  for i = 1, N do
    if C.luio_read32(p) == NEVER then return i end
  end
end

local function write_named(reg)
  for i = 1, N do reg:write(i) end
end

local function write_bare(C, p)
  for i = 1, N do C.luio_write32(p, i) end
end

local function get_named(reg)
  for i = 1, N do
    if reg:get "MODE" == NEVER then return i end
  end
end

local function update_named(reg)
  for _ = 1, N do reg:update("EN", 1, "MODE", 3) end
end

local function update_bare(C, p)
  for _ = 1, N do C.luio_write32(p, C.luio_read32(p)) end
end

local function update_table(reg)
  for _ = 1, N / 40 do reg:update { EN = 1, MODE = 3 } end
end

function M.run(tools)
  local luio = require "luio"
  local C = require("luio.ffi").C
  local twin = tools.twin()
  local dev = assert(luio.open "uio0")
  local map = luio.registers {
    CTRL = { OFFSET, 32, "rw", EN = 0, MODE = { 7, 4 }, IE = { 8, access = "w1c" } }, PAGE = { OFFSET + 4, 32 },
    PAGED = { OFFSET + 8, 32, when = { PAGE = 1 } },
  }
  local regs = assert(luio.bind(map, dev))
  local reg, paged = regs.CTRL, regs.PAGED
  regs.PAGE:write(1)
  local p = ffi.cast("volatile uint8_t *", dev.regions[0].base) + OFFSET

  local aborts = 0
  jit.attach(function(what) if what == "abort" then aborts = aborts + 1 end end, "trace")
  local function timed(fn, n, a, b)
    return function()
      local from = C.luio_now()
      fn(a, b)
      return tonumber(C.luio_now() - from) / n
    end
  end
  local t = tools.take_turns(ROUNDS, {
    read = timed(read_named, N, reg), read_bare = timed(read_bare, N, C, p),
    write = timed(write_named, N, reg), write_bare = timed(write_bare, N, C, p),
    get = timed(get_named, N, reg),
    paged = timed(read_named, N, paged),
    update = timed(update_named, N, reg), update_bare = timed(update_bare, N, C, p),
    update_c = function() return tonumber(twin.twin_update_call(p, N)) / N end,
  })
  local steady = aborts
  local garbage = {}
  collectgarbage()
  for name, fn in pairs { read = read_named, write = write_named, update = update_named } do
    collectgarbage()
    local before = collectgarbage "count"
    fn(reg)
    table.insert(garbage, ("%s %.0f"):format(name, (collectgarbage "count" - before) * 1024))
  end
  table.sort(garbage)
  local tables = tools.take_turns(amount(5), { update = timed(update_table, N / 40, reg) })
  dev:close()

  return {
    { name = "register read", unit = "ns", luio = t.read, peer = t.read_bare, aim = "+1 ns",
      note = ("%d trace aborts in all samples; garbage in bytes after %d each: %s"):format(steady, N, table.concat(garbage, ", ")) },
    { name = "register write", unit = "ns", luio = t.write, peer = t.write_bare, aim = "+1 ns" },
    { name = "register get", unit = "ns", luio = t.get, peer = t.read_bare },
    { name = "register read, behind a selector", unit = "ns", luio = t.paged, peer = t.read,
      note = "the selector was written by the same process; peer: one that is always visible" },
    { name = "register update, 2 fields", unit = "ns", luio = t.update, peer = t.update_bare, aim = "+2 ns",
      note = "names and values; peer: the two accesses alone" },
    { name = "register update, C masks", unit = "ns", luio = t.update, peer = t.update_c, note = "peer: C with #define masks" },
    { name = "register update, table", unit = "ns", luio = tables.update, peer = t.update_bare, note = "for orientation" },
  }
end

return M
