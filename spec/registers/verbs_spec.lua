--- The verbs of a register, against a device that logs its bus: the exact accesses, in order.

local ffi = require "ffi"
local luio = require "luio"
local buslog = require "spec.support.buslog"

local function message_of(fn, ...)
  local ok, message = pcall(fn, ...)
  assert.is_false(ok)
  return message
end

describe("a register", function()
  local bus
  setup(function() bus = buslog.open() end)
  teardown(function() bus:close() end)
  before_each(function()
    for offset = 0, 0x1c, 4 do bus:poke(offset, 32, 0) end
    bus:log()
  end)

  it("reads and writes with one access of its width", function()
    local regs = bus:bind { A = { 0, 8 }, B = { 2, 16 }, C = { 4, 32 }, D = { 8, 64 } }
    regs.A:write(0x12)
    regs.B:write(0x3456)
    regs.C:write(0x789abcde)
    regs.D:write(0xfedcba9876543210ULL)
    assert.same({ 0x12, 0x3456, 0x789abcde }, { regs.A:read(), regs.B:read(), regs.C:read() })
    assert.equal(0xfedcba9876543210ULL, regs.D:read())
    assert.same({
      "w8 0x0 0x12", "w16 0x2 0x3456", "w32 0x4 0x789abcde", "w64 0x8 0xfedcba9876543210",
      "r8 0x0 0x12", "r16 0x2 0x3456", "r32 0x4 0x789abcde", "r64 0x8 0xfedcba9876543210",
    }, bus:log())
  end)

  it("reads and writes one place many times, each an access of its width", function()
    local regs = bus:bind { A = { 0, 8 }, B = { 2, 16 }, RO = { 4, 32, "ro" }, WO = { 8, 32, "wo" } }
    regs.A:write_many(ffi.new("uint8_t[3]", 1, 2, 3), 3)
    local bytes, halves = ffi.new "uint8_t[4]", ffi.new("uint16_t[2]", 0xffff, 0xffff)
    regs.A:read_many(bytes + 1, 2)
    regs.B:read_many(halves, 1)
    regs.B:read_many(halves, 0)
    assert.same({ 0, 3, 3, 0, 0, 0xffff }, { bytes[0], bytes[1], bytes[2], bytes[3], halves[0], halves[1] })
    assert.same({ "w8 0x0 0x1", "w8 0x0 0x2", "w8 0x0 0x3", "r8 0x0 0x3", "r8 0x0 0x3", "r16 0x2 0x0" }, bus:log())
    assert.matches("RO can't be written: it is read%-only", message_of(regs.RO.write_many, regs.RO, halves, 1))
    assert.matches("WO can't be read: it is write%-only", message_of(regs.WO.read_many, regs.WO, halves, 1))
    assert.matches("is no number of accesses", message_of(regs.A.read_many, regs.A, bytes, -1))
    local seen = {}
    regs:on_access(function(access) table.insert(seen, ("%s %d"):format(access.direction, access.value)) end)
    regs.A:write_many(ffi.new("uint8_t[2]", 7, 8), 2)
    regs.A:read_many(bytes, 1)
    assert.same({ "write 7", "write 8", "read 8" }, seen)
    regs:on_access(nil)
  end)

  it("gets a field with one read, and its name", function()
    local regs = bus:bind { A = { 0, 32, LOW = { 3, 0 }, TOP = { 31, 28 }, MODE = { 9, 8, values = { OFF = 0, ON = 2 } } } }
    bus:poke(0, 32, 0xf0000205)
    assert.equal(5, (regs.A:get "LOW"))
    assert.equal(15, (regs.A:get "TOP"))
    assert.same({ 2, "ON" }, { regs.A:get "MODE" })
    assert.same({ "r32 0x0 0xf0000205", "r32 0x0 0xf0000205", "r32 0x0 0xf0000205" }, bus:log())
  end)

  it("writes named fields over the reset value, in one store and no load", function()
    local regs = bus:bind { A = { 0, 32, reset = 0x80000010, EN = 0, MODE = { 5, 4, values = { X = 1, Y = 2 } }, TOP = 31 } }
    regs.A:write { EN = 1, MODE = "Y" }
    regs.A:write { TOP = 0, EN = true }
    assert.same({ "w32 0x0 0x80000021", "w32 0x0 0x11" }, bus:log())
  end)

  it("is not written by an assignment, which says so", function()
    local regs = bus:bind { A = { 0, 32, EN = 0 }, LIST = { 8, 32, count = 2 }, BLOCK = { 16, block = { C = { 0, 32 } } } }
    for _, slip in ipairs {
      function() regs.A = 5 end, function() regs.NONE = 5 end, function() regs.A.EN = 1 end, function() regs.LIST[1] = 5 end,
      function() regs.BLOCK.C = 5 end,
    } do
      local ok, message = pcall(slip)
      assert.is_false(ok)
      assert.matches("verbs_spec.lua:%d+: %w+ can't be assigned to, which would write nothing", message)
    end
    regs.A.mine = 7 -- software's
    assert.equal(7, regs.A.mine)
    assert.same({}, bus:log())
  end)

  it("updates with one load and one store, and leaves what it was not given", function()
    local regs = bus:bind { A = { 0, 32, EN = 0, MODE = { 7, 4 }, TOP = 31 } }
    bus:poke(0, 32, 0x80cafe00)
    regs.A:update { EN = 1, MODE = 5 }
    regs.A:update("TOP", 0)
    regs.A:update("EN", 0, "MODE", 2)
    assert.same({
      "r32 0x0 0x80cafe00", "w32 0x0 0x80cafe51", "r32 0x0 0x80cafe51", "w32 0x0 0xcafe51", "r32 0x0 0xcafe51", "w32 0x0 0xcafe20",
    }, bus:log())
  end)

  -- kind of the sibling -> what is read, what an update of EN (bit 0) must write
  for access, case in pairs {
    rw = { 0xf0, 0xf1 }, ro = { 0xf0, 0xf1 }, preserve = { 0xf0, 0xf1 }, wonce = { 0xf0, 0xf1 },
    w1c = { 0xf0, 0x01 }, w1s = { 0xf0, 0x01 }, w1t = { 0xf0, 0x01 }, sc = { 0xf0, 0x01 }, zero = { 0xf0, 0x01 },
    w0c = { 0x30, 0xf1 }, w0s = { 0x30, 0xf1 }, w0t = { 0x30, 0xf1 }, one = { 0x30, 0xf1 },
  } do
    it(("writes neutral bits to a sibling that is %s"):format(access), function()
      local regs = bus:bind { A = { 0, 32, EN = 0, SIBLING = { 7, 4, access = access } } }
      bus:poke(0, 32, case[1])
      regs.A:update { EN = 1 }
      assert.same({ ("r32 0x0 0x%x"):format(case[1]), ("w32 0x0 0x%x"):format(case[2]) }, bus:log())
    end)
  end

  it("takes a write-only sibling from the reset value", function()
    local regs = bus:bind { A = { 0, 32, EN = 0, KEY = { 7, 4, access = "wo", reset = 0xa } } }
    bus:poke(0, 32, 0x10)
    regs.A:update { EN = 1 }
    assert.same({ "r32 0x0 0x10", "w32 0x0 0xa1" }, bus:log())
  end)

  it("clears the one write-1-to-clear bit that is named, and no other", function()
    local regs = bus:bind { ISR = { 0x104, 32, "w1c", RX = 0, TX = 1, ERR = 2 } }
    bus.dev.regions[0]:write32(0x104, 0)
    bus:poke(0x104, 32, 0)
    local bytes = bus:bind { RAW = { 0x104, 8 } } -- the model's memory, byte-wise, is the same register
    bytes.RAW:write(0)
    regs.ISR:write { TX = 1 }
    assert.same({ "w8 0x104 0x0", "w32 0x104 0x2" }, bus:log())
    regs.ISR:update { RX = 1 }
    assert.same({ "r32 0x104 0x0", "w32 0x104 0x1" }, bus:log())
  end)

  it("refuses an update that can't be done safely, with its reason, before any access", function()
    local regs = bus:bind {
      FIFO = { 0, 32, read_effect = "pops the FIFO", A = 0 },
      ISR = { 4, 32, "rc", A = 0 },
      CMD = { 8, 32, "wo", A = 0 },
      ID = { 12, 32, "ro", A = 0 },
      MIXED = { 16, 32, A = 0, ERR = { 1, access = "rc" } },
    }
    assert.matches("FIFO can't be updated: an update reads it, and pops the FIFO; use write", message_of(regs.FIFO.update, regs.FIFO, { A = 1 }))
    assert.matches("ISR can't be updated: it is read%-only", message_of(regs.ISR.update, regs.ISR, { A = 1 }))
    assert.matches("CMD can't be updated: it is write%-only", message_of(regs.CMD.update, regs.CMD, { A = 1 }))
    assert.matches("ID can't be updated: it is read%-only", message_of(regs.ID.update, regs.ID, { A = 1 }))
    assert.matches("MIXED can't be updated: an update reads it, and ERR: reading clears it", message_of(regs.MIXED.update, regs.MIXED, { A = 1 }))
    assert.same({}, bus:log())
  end)

  it("refuses what is not there, does not fit or is not allowed, before any access", function()
    local regs = bus:bind {
      STATUS = { 0, 32, "rw", BUSY = { 0, access = "ro" }, MODE = { 5, 4, values = { FAST = 1, SLOW = 2 } } }, ID = { 4, 32, "ro" }, CMD = { 8, 32, "wo", GO = 0 },
      WIDE = { 16, 64 },
    }
    for expected, fn in pairs {
      ["the map has no register STATS %(did you mean STATUS%?%)"] = function() return regs.STATS end,
      ["STATUS has no field BUSSY %(did you mean BUSY%?%)"] = function() regs.STATUS:get "BUSSY" end,
      ["STATUS has no field MODES %(did you mean MODE%?%)"] = function() regs.STATUS:update { MODES = 1 } end,
      ["STATUS.MODE: 4 does not fit in 2 bits"] = function() regs.STATUS:update { MODE = 4 } end,
      ["STATUS.MODE: %-1 does not fit"] = function() regs.STATUS:write { MODE = -1 } end,
      ["STATUS.MODE: 0.5 does not fit"] = function() regs.STATUS:update("MODE", 0.5) end,
      ["STATUS.MODE has no value FST %(did you mean FAST%?%)"] = function() regs.STATUS:update { MODE = "FST" } end,
      ["STATUS.MODE: nil does not fit"] = function() regs.STATUS:update "MODE" end,
      ["STATUS.BUSY can't be written: its access is ro"] = function() regs.STATUS:write { BUSY = 1 } end,
      ["STATUS: 4294967296 is not a value of 32 bits"] = function() regs.STATUS:write(2 ^ 32) end,
      ["STATUS:write takes a value of 32 bits or { FIELD = value }, not nil"] = function() regs.STATUS:write() end,
      ["ID can't be written: it is read%-only"] = function() regs.ID:write(1) end,
      ["ID has no fields, so no X"] = function() regs.ID:get "X" end,
      ["CMD can't be read: it is write%-only"] = function() regs.CMD:read() end,
      ["CMD can't be waited for"] = function() regs.CMD:wait({ GO = 0 }, 1) end,
      ["WIDE: %-1 is not a value of 64 bits"] = function() regs.WIDE:write(-1) end,
      ["a number of seconds, not nil"] = function() regs.STATUS:wait { BUSY = 0 } end,
    } do
      local message = message_of(fn)
      assert.matches(expected, message)
      assert.matches("^[^:]*verbs_spec.lua:%d+: ", message) -- the caller's line is to blame
    end
    assert.same({}, bus:log())
  end)

  it("keeps 64 bits exact, fields too", function()
    local regs = bus:bind { A = { 8, 64, LOW = { 31, 0 }, MID = { 52, 32 }, TOP = { 63, 53 } }, B = { 16, 64, ALL = { 63, 0 } } }
    regs.A:write { LOW = 0xffffffff, MID = 0x1fffff, TOP = 0x7ff }
    assert.equal(0xffffffffffffffffULL, regs.A:read())
    regs.A:update { MID = 1 }
    assert.equal(0xffe00001ffffffffULL, regs.A:read())
    assert.same({ 0xffffffff, 1, 0x7ff }, { (regs.A:get "LOW"), (regs.A:get "MID"), (regs.A:get "TOP") })
    regs.B:write(0x20000000000001ULL) -- 2^53 + 1: no double
    assert.equal(0x20000000000001ULL, (regs.B:get "ALL"))
    regs.B:update { ALL = 0x8000000000000001ULL }
    assert.equal(0x8000000000000001ULL, regs.B:read())
  end)

  it("makes 64 bits of two accesses where the bus takes 32, the half first that the map says", function()
    local regs = bus:bind { max_width = 32, LOW_FIRST = { 8, 64, halves = "low" }, HIGH_FIRST = { 16, 64, halves = "high" } }
    regs.LOW_FIRST:write(0x1122334455667788ULL)
    regs.HIGH_FIRST:write(0x1122334455667788ULL)
    assert.equal(0x1122334455667788ULL, regs.LOW_FIRST:read())
    assert.equal(0x1122334455667788ULL, regs.HIGH_FIRST:read())
    assert.same({
      "w32 0x8 0x55667788", "w32 0xc 0x11223344", "w32 0x14 0x11223344", "w32 0x10 0x55667788",
      "r32 0x8 0x55667788", "r32 0xc 0x11223344", "r32 0x14 0x11223344", "r32 0x10 0x55667788",
    }, bus:log())
  end)

  it("swaps for a big-endian device", function()
    local regs = bus:bind { endian = "big", A = { 0, 32, HIGH = { 31, 24 } }, B = { 4, 16 }, C = { 6, 8 }, D = { 8, 64 } }
    regs.A:write(0x11223344)
    regs.B:write(0x5566)
    regs.C:write(0x77)
    regs.D:write(0x0102030405060708ULL)
    assert.same({ "w32 0x0 0x44332211", "w16 0x4 0x6655", "w8 0x6 0x77", "w64 0x8 0x807060504030201" }, bus:log())
    assert.equal(0x11, (regs.A:get "HIGH"))
    assert.equal(0x0102030405060708ULL, regs.D:read())
  end)

  it("encodes and decodes without touching anything", function()
    local regs = bus:bind { A = { 0, 32, reset = 0x100, EN = 0, MODE = { 5, 4, values = { X = 1, Y = 2 } }, TOP = { 31, 28 } } }
    assert.equal(0xf0000121, regs.A:encode { EN = 1, MODE = "Y", TOP = 15 })
    assert.same({ EN = 1, MODE = "X", TOP = 15 }, regs.A:decode(0xf0000011))
    assert.same({ EN = 0, MODE = 3, TOP = 0 }, regs.A:decode(0x30))
    assert.same({}, bus:log())
  end)

  it("waits until a field is as wanted, or says what it was at the deadline", function()
    local regs = bus:bind { A = { 0, 32, BUSY = 0, STATE = { 5, 4, values = { IDLE = 0, READY = 2 } } } }
    bus:poke(0, 32, 0x21)
    assert.equal(0x21, regs.A:wait({ BUSY = 1, STATE = "READY" }, 0))
    local before = luio.now()
    local v, message, code = regs.A:wait({ BUSY = 0, STATE = "IDLE" }, 0.02)
    assert.is_nil(v)
    assert.equal("A: BUSY is 1, not 0, STATE is READY, not IDLE after 0.02 s", message)
    assert.equal("ETIMEDOUT", code)
    assert.is_true(luio.now() - before >= 0.02)
    -- The message names only fields that differ, whether a number or a name was wanted.
    assert.equal("A: STATE is READY, not IDLE after 0 s", (select(2, regs.A:wait({ BUSY = 1, STATE = "IDLE" }, 0))))
    assert.equal("A: BUSY is 1, not 0 after 0 s", (select(2, regs.A:wait({ BUSY = 0, STATE = 2 }, 0))))
    local done
    luio.run(function()
      luio.spawn(function() luio.sleep(0.01) regs.A:write(0) end)
      done = regs.A:wait({ BUSY = 0 }, 10) -- yields: else the other task could not write
    end)
    assert.equal(0, done)
  end)

  it("is reached by path, in arrays and blocks, counted from 0", function()
    local regs = bus:bind { T = { 0, 16, count = 4 }, CH = { 0x20, count = 2, stride = 0x10, block = { CTRL = { 4, 32 } } } }
    regs.T[3]:write(7)
    regs.CH[1].CTRL:write(9)
    assert.same({ "w16 0x6 0x7", "w32 0x34 0x9" }, bus:log())
    assert.equal(regs.CH[1].CTRL, regs:find "CH[1].CTRL")
    assert.matches("T has elements 0 to 3, not 4", message_of(function() return regs.T[4] end))
    assert.matches("T has elements 0 to 3, not %-1", message_of(function() return regs.T[-1] end))
    assert.matches("CH%[0%] has no register CTR %(did you mean CTRL%?%)", message_of(function() return regs.CH[0].CTR end))
    local none, message, code = regs:find "CH[7].CTRL"
    assert.is_nil(none)
    assert.equal("CH has elements 0 to 1, not 7", message)
    assert.equal("ENOENT", code)
  end)

  it("tells a hook of every access, and forgets it when told", function()
    local regs = bus:bind { A = { 0, 32, EN = 31 }, B = { 8, 64 } }
    regs.A:read()
    bus:log()
    local seen = {}
    regs:on_access(function(access) table.insert(seen, access) end)
    regs.A:update { EN = 1 }
    regs.B:write(5)
    regs:on_access(nil)
    regs.A:read()
    assert.equal(3, #seen)
    assert.same({ "A", "read", 0 }, { seen[1].register, seen[1].direction, seen[1].value })
    assert.same({ "A", "write", 0x80000000 }, { seen[2].register, seen[2].direction, seen[2].value })
    assert.same({ "B", "write" }, { seen[3].register, seen[3].direction })
    assert.matches("verbs_spec.lua:%d+$", seen[1].source)
    assert.is_true(seen[1].time <= seen[3].time and seen[3].time <= luio.now())
    assert.same({ "r32 0x0 0x0", "w32 0x0 0x80000000", "w64 0x8 0x5", "r32 0x0 0x80000000" }, bus:log())
  end)
end)

describe("properties, on random maps", function()
  local seed = 20
  local function random(n)
    seed = (seed * 1103515245 + 12345) % 2 ^ 31
    return math.floor(seed / 65536) % n
  end
  local kinds = { "rw", "ro", "w1c", "w0c", "w1s", "w1t", "w0s", "w0t", "sc", "wo", "wonce", "preserve", "zero", "one" }
  local function random_register(width)
    local spec, low = { 0, width }, 0
    while low < width do
      local bits = math.min(1 + random(width > 32 and 20 or 9), width - low)
      if random(4) > 0 then spec["F" .. low] = { low + bits - 1, low, access = kinds[random(#kinds) + 1] } end
      low = low + bits
    end
    return spec
  end
  local function fake(width)
    local region = { size = 8, kind = "memory", max_width = 64, value = width == 64 and 0ULL or 0 }
    region["read" .. width] = function(r) return r.value end
    region["write" .. width] = function(r, _, v)
      r.value = width == 64 and require("ffi").cast("uint64_t", v) or v % 2 ^ width
    end
    return { address = "fake", region = function() return region end, root_device = function(self) return self end }, region
  end
  local function random_value(f)
    return f.bits > 30 and random(2 ^ 15) or random(2 ^ f.bits)
  end

  it("encode and decode are each other's inverse", function()
    for _, width in ipairs { 8, 16, 32, 64 } do
      for _ = 1, 100 do
        local map = luio.registers { R = random_register(width) }
        local regs = assert(luio.bind(map, (fake(width))))
        local values = {}
        for name, f in pairs(map.R.field) do
          if f.writable then values[name] = random_value(f) end
        end
        local decoded = regs.R:decode(regs.R:encode(values))
        for name, value in pairs(values) do assert.equal(value, decoded[name]) end
      end
    end
  end)

  it("an update never changes a field that it was not given", function()
    for _, width in ipairs { 8, 16, 32, 64 } do
      for _ = 1, 100 do
        local map = luio.registers { R = random_register(width) }
        local device, region = fake(width)
        local regs = assert(luio.bind(map, device))
        local was = width == 64 and random(2 ^ 15) * 0x1000100010001ULL or random(2 ^ 15) * 0x10001 % 2 ^ width
        region.value = was
        local before = regs.R:decode(was)
        local given
        for name, f in pairs(map.R.field) do
          if f.access == "rw" and not given then
            given = name
            regs.R:update { [name] = random_value(f) }
          end
        end
        if given then
          local after = regs.R:decode(region.value)
          for name, f in pairs(map.R.field) do
            local neutral = ({ w1c = 0, w1s = 0, w1t = 0, sc = 0, zero = 0, wo = 0, w0c = 2 ^ f.bits - 1, w0s = 2 ^ f.bits - 1,
              w0t = 2 ^ f.bits - 1, one = 2 ^ f.bits - 1 })[f.access]
            if name ~= given then assert.equal(neutral or before[name], after[name], name .. " " .. f.access) end
          end
        end
      end
    end
  end)
end)
