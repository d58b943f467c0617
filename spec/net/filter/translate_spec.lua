--- BPF programs in Lua against libpcap's interpreter of BPF: random programs of all instructions, on frames of all lengths that
--- lie at the end of a page. More of it: LUIO_FILTER_SEED=7 LUIO_FILTER_COUNT=20000 busted spec/net/filter/translate_spec.lua

local amount = require "spec.support.amount"
local bit = require "bit"
local ffi = require "ffi"
local frames = require "spec.net.frames"
local page = require "spec.support.page"
local pcap = require "luio.net.filter.pcap"
local translate = require "luio.net.filter.translate"

local SEED, COUNT = tonumber(os.getenv "LUIO_FILTER_SEED" or 1), tonumber(os.getenv "LUIO_FILTER_COUNT" or amount(4000, 4000))

assert(pcap.compile("tcp", 10)) -- now its types are declared

local function program(list)
  local insns = ffi.new("luio_pcap_insn[?]", #list)
  for i, insn in ipairs(list) do insns[i - 1] = insn end
  return { n = #list, insns = insns }
end

local function compiled(p)
  local source = assert(translate.source(p))
  return assert(loadstring(source, "=filter"))(bit, ffi, math.floor), source
end

local interpret = ffi.load("libpcap.so.0.8").luio_pcap_filter

-- pcap/bpf.h
local LOADS, BY_X = { 0x20, 0x28, 0x30 }, { 0x40, 0x48, 0x50 } -- ABS, IND
local OTHERS = { 0x00, 0x01, 0x60, 0x61, 0x80, 0x81, 0xb1, 0x02, 0x03, 0x07, 0x87 } -- IMM, MEM, LEN, MSH, ST, STX, TAX, TXA
local CALCULATIONS = { 0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90, 0xa0 }
local JUMPS = { 0x10, 0x20, 0x30, 0x40 }
local DIVISION, SHIFT = { [0x30] = true, [0x90] = true }, { [0x60] = true, [0x70] = true }

local function generator(seed)
  local random, one = frames.generator(seed)
  local function number()
    return one { 0, 1, 2, 3, 4, 5, 8, 14, 16, 31, 32, 60, 255, 0xffff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff, random(70) - 1, random(70) - 1,
      random(65536) * random(65536) - 1 }
  end
  local function instruction(left)
    local kind = random(10)
    if kind <= 2 then
      local load = { one(random(4) == 1 and BY_X or LOADS), 0, 0, random(20) - 1 }
      if random(30) == 1 then load[4] = number() end
      return load
    end
    if kind <= 5 then
      local code = one(OTHERS)
      if code == 0x60 or code == 0x61 or code == 0x02 or code == 0x03 then return { code, 0, 0, random(16) - 1 } end
      return { code, 0, 0, code == 0xb1 and random(30) - 1 or number() }
    end
    if kind <= 8 then
      local op, k = one(CALCULATIONS), number()
      if op == 0x80 then return { 0x84, 0, 0, 0 } end
      if DIVISION[op] and k == 0 then k = 3 end -- C's own arithmetic would end the process
      if SHIFT[op] then k = k % 32 end
      return { 0x04 + op + one { 0, 8 }, 0, 0, k }
    end
    if kind == 9 and random(3) == 1 then return { 0x05, 0, 0, random(math.min(left, 8)) - 1 } end
    return { 0x05 + one(JUMPS) + one { 0, 8 }, random(math.min(left, 8)) - 1, random(math.min(left, 8)) - 1, number() }
  end
  return function()
    local list, n = {}, 3 + random(25)
    for i = 0, 15 do -- libpcap's interpreter begins with M[] as its stack was
      table.insert(list, { 0x00, 0, 0, number() })
      table.insert(list, { 0x02, 0, 0, i })
    end
    table.insert(list, { one { 0x20, 0x28, 0x30 }, 0, 0, random(8) - 1 })
    table.insert(list, { 0x07, 0, 0, 0 }) -- X: of 8, 16 or 32 bits
    table.insert(list, { one { 0x20, 0x28, 0x30 }, 0, 0, random(8) - 1 })
    for i = 1, n do table.insert(list, instruction(n - i + 1)) end
    if random(3) > 1 then
      table.insert(list, { 0xac, 0, 0, 0 }) -- A ^ X ^ M[]
      table.insert(list, { 0x61, 0, 0, random(16) - 1 })
      table.insert(list, { 0xac, 0, 0, 0 })
    else -- what is only compared for equality stays in the packet's byte order
      table.insert(list, { one(LOADS), 0, 0, random(20) - 1 })
      if random(2) == 1 then table.insert(list, { 0x54, 0, 0, number() }) end
      if random(2) == 1 then table.insert(list, { 0x45, 0, random(2) - 1, number() }) end
      if random(2) == 1 then table.insert(list, { one { 0x54, 0x54, 0x44 }, 0, 0, number() }) end
    end
    return list
  end, random
end

describe("a BPF program in Lua", function()
  local memory, corpus
  setup(function()
    memory = page.new()
    corpus = frames.make(30, SEED)
    for _, frame in ipairs(frames.cut { corpus[1]:sub(1, 40) }) do table.insert(corpus, frame) end
  end)
  teardown(function() memory:close() end)

  it("decides as libpcap's interpreter does, whatever the instructions", function()
    local make, random = generator(SEED)
    local hits = 0
    for i = 1, COUNT do
      local list = make()
      -- Runs return A until one is not 0. The final program compares A with that value, so all bits count.
      list[#list + 1] = { 0x16, 0, 0, 0 }
      local value, computed = 0, program(list)
      for _ = 1, 20 do
        local frame = corpus[random(#corpus)]
        if value == 0 then value = interpret(computed.insns, memory:place(frame), #frame, #frame) end
      end
      list[#list] = { 0x15, 0, 1, value }
      table.insert(list, { 0x06, 0, 0, 262144 })
      table.insert(list, { 0x06, 0, 0, 0 })
      local p = program(list)
      local match, source = compiled(p)
      local theirs = pcap.interpreter(p)
      for _, frame in ipairs(corpus) do
        local at = memory:place(frame)
        local wanted = theirs(at, #frame)
        if match(at, #frame) ~= wanted then
          error(("program %d, %d bytes: %s was expected of\n%s"):format(i, #frame, tostring(wanted), source:match "\nm15 = a\n(.*)"))
        end
        if wanted then hits = hits + 1 end
      end
    end
    assert.is_true(hits > COUNT * #corpus / 20 and hits < COUNT * #corpus * 19 / 20, hits .. " hits")
  end)

  -- The places where what is known of A, X, M[] and the length decides how it is written.
  it("knows no more of numbers and lengths than holds on all ways to a place", function()
    local ALL, ONE = 0xffffffff, 1
    local function above(...) -- A > 5 behind those, 0 or 1
      local list = { ... }
      for _, insn in ipairs { { 0x25, 0, 1, 5 }, { 0x06, 0, 0, 1 }, { 0x06, 0, 0, 0 } } do table.insert(list, insn) end
      return list
    end
    local branch = { 0x30, 0, 0, 0 } -- A is the first byte
    local programs = {
      above(branch, { 0x15, 0, 1, 7 }, { 0x00, 0, 0, ALL }), -- one way A is large
      above(branch, { 0x15, 1, 0, 7 }, { 0x00, 0, 0, ALL }),
      above(branch, { 0x01, 0, 0, ONE }, { 0x15, 0, 1, 7 }, { 0x01, 0, 0, ALL }, { 0x87, 0, 0, 0 }), -- X
      above({ 0x02, 0, 0, 3 }, branch, { 0x15, 0, 2, 7 }, { 0x00, 0, 0, ALL }, { 0x02, 0, 0, 3 }, { 0x60, 0, 0, 3 }), -- M[3]
      above({ 0x01, 0, 0, ALL }, { 0x03, 0, 0, 3 }, branch, { 0x02, 0, 0, 3 }, { 0x60, 0, 0, 3 }),
      above(branch, { 0x84, 0, 0, 0 }), above({ 0x00, 0, 0, 255 }, { 0x64, 0, 0, 24 }), above({ 0x00, 0, 0, ONE }, { 0x14, 0, 0, 2 }),
      above({ 0x00, 0, 0, 0x7fffffff }, { 0x04, 0, 0, 2 }), above({ 0x00, 0, 0, ALL }, { 0x44, 0, 0, 0 }), above({ 0x00, 0, 0, ONE }, { 0xa4, 0, 0, ALL }),
      above({ 0x00, 0, 0, ALL }, { 0x54, 0, 0, 0x80000000 }), above({ 0x00, 0, 0, ALL }, { 0x34, 0, 0, 2 }), above({ 0x00, 0, 0, ALL }, { 0x94, 0, 0, 0xfffffff0 }),
      above({ 0x00, 0, 0, ALL }, { 0x74, 0, 0, 0 }), above({ 0x00, 0, 0, ALL }, { 0x74, 0, 0, 30 }),
      above({ 0x00, 0, 0, 64 }, { 0x01, 0, 0, 0xffffffe1 }, { 0x6c, 0, 0, 0 }), above({ 0x00, 0, 0, 64 }, { 0x01, 0, 0, 0xffffffe1 }, { 0x7c, 0, 0, 0 }),
      above({ 0x00, 0, 0, 64 }, { 0x81, 0, 0, 0 }, { 0x6c, 0, 0, 0 }), above({ 0x00, 0, 0, 64 }, { 0x81, 0, 0, 0 }, { 0x7c, 0, 0, 0 }),
      { branch, { 0x25, 0, 1, 0x80000000 }, { 0x06, 0, 0, 1 }, { 0x06, 0, 0, 0 } }, { branch, { 0x35, 0, 1, ALL }, { 0x06, 0, 0, 1 }, { 0x06, 0, 0, 0 } },
      { branch, { 0x15, 0, 1, 7 }, { 0x30, 0, 0, 30 }, { 0x30, 0, 0, 20 }, { 0x06, 0, 0, 1 } }, -- one way the packet has 31 bytes
      { branch, { 0x15, 1, 0, 7 }, { 0x30, 0, 0, 30 }, { 0x30, 0, 0, 20 }, { 0x06, 0, 0, 1 } },
      { branch, { 0x15, 0, 1, 7 }, { 0xb1, 0, 0, 30 }, { 0xb1, 0, 0, 20 }, { 0x06, 0, 0, 1 } },
      { { 0x01, 0, 0, 0xffffffe0 }, { 0x50, 0, 0, 32 }, { 0x06, 0, 0, 1 } }, { { 0x01, 0, 0, 4 }, { 0x40, 0, 0, 0xfffffffe }, { 0x06, 0, 0, 1 } },
    }
    -- A number of two bytes on one way, of four or one on the other.
    for _, other in ipairs { 0x20, 0x30 } do
      for _, last in ipairs { { 0x15, 0, 1, 0x0203 }, { 0x15, 0, 1, 0x02030405 }, { 0x15, 0, 1, 2 }, { 0x45, 0, 1, 0x01 }, { 0x45, 0, 1, 0x0200 } } do
        table.insert(programs, { branch, { 0x15, 0, 2, 7 }, { 0x28, 0, 0, 1 }, { 0x05, 0, 0, 1 }, { other, 0, 0, 1 }, last, { 0x06, 0, 0, 1 }, { 0x06, 0, 0, 0 } })
      end
    end
    for _, values in ipairs { { 0x0fffffff, 0x00ffffff }, { 0x7fffffff, 0x7fffffff }, { ALL, ALL }, { 0x12345678, 0x9abcdef1 }, { 0x80000000, 3 } } do
      local product = ffi.cast("uint64_t", values[1]) * ffi.cast("uint64_t", values[2]) % 2 ^ 32
      table.insert(programs, {
        { 0x00, 0, 0, values[1] }, { 0x01, 0, 0, values[2] }, { 0x2c, 0, 0, 0 }, { 0x15, 0, 1, tonumber(product) }, { 0x06, 0, 0, 1 }, { 0x06, 0, 0, 0 },
      })
    end
    local list = {}
    for _, first in ipairs { 0, 1, 7, 255 } do
      local bytes = { string.char(first) }
      for i = 2, 40 do bytes[i] = string.char(i) end
      for length = 0, 40 do table.insert(list, table.concat(bytes, "", 1, length)) end
    end
    for i, insns in ipairs(programs) do
      local p = program(insns)
      local match, source = compiled(p)
      local theirs = pcap.interpreter(p)
      for _, frame in ipairs(list) do
        local at = memory:place(frame)
        assert.equal(theirs(at, #frame), match(at, #frame), ("program %d, %d bytes:\n%s"):format(i, #frame, source:match "0\n(.*)"))
      end
    end
  end)

  it("is false where it divides by a constant 0, and 0 where it shifts by 32 or more", function()
    for _, op in ipairs { 0x34, 0x94 } do
      assert.is_false(compiled(program { { 0, 0, 0, 7 }, { op, 0, 0, 0 }, { 0x06, 0, 0, 1 } })(nil, 0))
    end
    for _, op in ipairs { 0x64, 0x74 } do
      for _, k in ipairs { 32, 63, 0x80000000, 0xffffffff } do
        local match = compiled(program { { 0, 0, 0, 0xffffffff }, { op, 0, 0, k }, { 0x15, 0, 1, 0 }, { 0x06, 0, 0, 1 }, { 0x06, 0, 0, 0 } })
        assert.is_true(match(nil, 0), k)
      end
    end
  end)

  it("is none for instructions that libpcap does not make", function()
    local none = { { 0x0e, 0 }, { 0x60, 16 }, { 0x02, 16 }, { 0xb4, 1 }, { 0xe0, 1 }, { 0x55, 1 }, { 0x29, 1 }, { 0x105, 0 } } -- codes and k
    for _, one in ipairs(none) do
      local insn = { one[1], 0, 0, one[2] }
      assert.is_true(translate.source(program { insn, { 0x06, 0, 0, 1 } }) == nil, insn[1])
    end
  end)
end)
